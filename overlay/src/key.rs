// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keys as types: 32 bytes that cannot be mixed up, print as base64 and, where secret, neither print nor outlive their use.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, Zeroizing};

/// Characters of a key in base64 with padding.
const BASE64_LEN: usize = 44;

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a key is 32 bytes written as 44 base64 characters")]
pub struct KeyError;

/// An X25519 public key: the name of a peer.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Takes the 32 bytes as they are on the wire.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes as they are on the wire.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse(text).map(|bytes| Self(*bytes))
    }
}

/// An X25519 private key. Wiped when dropped; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct PrivateKey {
    bytes: Zeroizing<[u8; 32]>,
    /// Derived once: it is asked for much more often than keys are made.
    public: PublicKey,
}

impl PrivateKey {
    /// Makes a key of 32 random bytes by clamping them (RFC 7748 section 5).
    pub fn from_random(mut bytes: [u8; 32]) -> Self {
        bytes[0] &= 0b1111_1000;
        bytes[31] = bytes[31] & 0b0111_1111 | 0b0100_0000;
        let key = Self::from_bytes(bytes);
        bytes.zeroize();
        key
    }

    /// Takes a stored key. Unclamped bytes are accepted: X25519 clamps on use.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let secret = StaticSecret::from(bytes);
        Self {
            bytes: Zeroizing::new(bytes),
            public: PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes()),
        }
    }

    /// The 32 bytes, for storing them.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The key's public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The key in base64, for writing a configuration file.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&self.bytes[..]))
    }

    pub(crate) fn secret(&self) -> StaticSecret {
        StaticSecret::from(*self.bytes)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse(text).map(|bytes| Self::from_bytes(*bytes))
    }
}

/// A symmetric key mixed into the handshake beside the public keys. Wiped when dropped; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct PresharedKey(Zeroizing<[u8; 32]>);

impl PresharedKey {
    /// What the handshake uses for peers without a preshared key.
    pub(crate) fn absent() -> Self {
        Self::from_bytes([0; 32])
    }

    /// Takes 32 bytes; any value is a key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The 32 bytes, for storing them.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key in base64, for writing a configuration file.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&self.0[..]))
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}

impl FromStr for PresharedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse(text).map(Self)
    }
}

fn parse(text: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    if text.len() != BASE64_LEN {
        return Err(KeyError);
    }
    // decode_slice wants room for its own estimate of the length, one byte more than a key.
    let mut decoded = Zeroizing::new([0; 33]);
    let count = STANDARD
        .decode_slice(text, &mut decoded[..])
        .map_err(|_| KeyError)?;
    let mut bytes = Zeroizing::new([0; 32]);
    if count != bytes.len() {
        return Err(KeyError);
    }
    bytes.copy_from_slice(&decoded[..32]);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7748 section 6.1, Alice.
    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    #[test]
    fn parse_and_print() {
        let private: PrivateKey = PRIVATE.parse().unwrap();
        assert_eq!(private.public().to_string(), PUBLIC);
        assert_eq!(private.to_base64().as_str(), PRIVATE);
        assert_eq!(PUBLIC.parse::<PublicKey>().unwrap(), private.public());
        assert_eq!(
            PrivateKey::from_random(*private.as_bytes()).public(),
            private.public()
        );
    }

    #[test]
    fn what_is_not_a_key() {
        for text in [
            "",
            "hSDw",
            &PUBLIC[1..],
            &format!("{PUBLIC}="),
            &PUBLIC.replace('h', "*"),
            &PUBLIC.replace("o=", "=="),
            &"é".repeat(22),
        ] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError), "{text}");
        }
        // 32 bytes leave two bits of the last character unused: they must be zero, or one key would have four names.
        assert_eq!(
            PUBLIC.replace("mo=", "mp=").parse::<PublicKey>(),
            Err(KeyError)
        );
    }

    #[test]
    fn secrets_do_not_print() {
        let private: PrivateKey = PRIVATE.parse().unwrap();
        assert_eq!(format!("{private:?}"), "PrivateKey(..)");
        assert_eq!(
            format!("{:?}", PresharedKey::from_bytes([3; 32])),
            "PresharedKey(..)"
        );
    }
}

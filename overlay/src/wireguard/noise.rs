// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mathematics of Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as WireGuard uses it (WireGuard paper section 5.4).

use blake2::digest::{FixedOutput, KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest, digest::consts::U16};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use crate::aead::{Aead, Cipher, Forged, TAG_LEN};
use crate::key::{PresharedKey, PublicKey};

/// Hash of the construction's name: the first chaining key.
const CONSTRUCTION_HASH: [u8; 32] = [
    0x60, 0xe2, 0x6d, 0xae, 0xf3, 0x27, 0xef, 0xc0, 0x2e, 0xc3, 0x35, 0xe2, 0xa0, 0x25, 0xd2, 0xd0,
    0x16, 0xeb, 0x42, 0x06, 0xf8, 0x72, 0x77, 0xf5, 0x2d, 0x38, 0xd1, 0x98, 0x8b, 0x78, 0xcd, 0x36,
];
/// Hash of the above and the protocol's identifier: the first transcript hash.
const IDENTIFIER_HASH: [u8; 32] = [
    0x22, 0x11, 0xb3, 0x61, 0x08, 0x1a, 0xc5, 0x66, 0x69, 0x12, 0x43, 0xdb, 0x45, 0x8a, 0xd5, 0x32,
    0x2d, 0x9c, 0x6c, 0x66, 0x22, 0x93, 0xe8, 0xb7, 0x0e, 0xe1, 0x9c, 0x65, 0xba, 0x07, 0x9e, 0xf3,
];
/// Block size of BLAKE2s, which HMAC (RFC 2104) pads its key to.
const BLOCK: usize = 64;

/// BLAKE2s-256 of the concatenated parts.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Blake2s256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// Keyed BLAKE2s with 16 bytes of output over the concatenated parts.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    keyed(key, parts).finalize_fixed().into()
}

/// Whether `tag` is the [`mac`] of `data`, in constant time.
pub(crate) fn mac_matches(key: &[u8], data: &[u8], tag: &[u8; 16]) -> bool {
    keyed(key, &[data]).verify(tag.into()).is_ok()
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> Blake2sMac<U16> {
    let mut mac = Blake2sMac::<U16>::new_from_slice(key)
        .expect("keys have 16 or 32 bytes, BLAKE2s takes up to 32");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// HMAC (RFC 2104) over BLAKE2s-256.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut inner_key = Zeroizing::new([0x36; BLOCK]);
    let mut outer_key = Zeroizing::new([0x5c; BLOCK]);
    for (at, byte) in key.iter().enumerate() {
        inner_key[at] ^= byte;
        outer_key[at] ^= byte;
    }
    let mut inner = Blake2s256::new();
    inner.update(&inner_key[..]);
    for part in parts {
        inner.update(part);
    }
    let mut outer = Blake2s256::new();
    outer.update(&outer_key[..]);
    outer.update(inner.finalize());
    Zeroizing::new(outer.finalize().into())
}

/// The first `N` (at most 255) outputs of HKDF (RFC 5869) with the chaining key as salt.
fn kdf<const N: usize>(chaining_key: &[u8; 32], input: &[u8]) -> [Zeroizing<[u8; 32]>; N] {
    let extracted = hmac(chaining_key, &[input]);
    let mut previous: Option<Zeroizing<[u8; 32]>> = None;
    let mut number = 0u8;
    std::array::from_fn(|_| {
        number += 1;
        let output = match &previous {
            None => hmac(&extracted, &[&[number]]),
            Some(previous) => hmac(&extracted, &[&previous[..], &[number]]),
        };
        previous = Some(output.clone());
        output
    })
}

/// The shared secret is zero: the public key is one of the few of low order, and anybody could compute what follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LowOrder;

/// X25519 (RFC 7748), refusing an all-zero result (section 6.1).
pub(crate) fn shared_secret(
    private: &StaticSecret,
    public: &PublicKey,
) -> Result<Zeroizing<[u8; 32]>, LowOrder> {
    let secret = private.diffie_hellman(&(*public.as_bytes()).into());
    if secret.was_contributory() {
        Ok(Zeroizing::new(secret.to_bytes()))
    } else {
        Err(LowOrder)
    }
}

/// Keys of a finished handshake, from the initiator's view or the responder's.
pub(crate) struct TransportKeys {
    pub(crate) send: Zeroizing<[u8; 32]>,
    pub(crate) receive: Zeroizing<[u8; 32]>,
}

/// Chaining key and transcript hash: what both sides must agree on at every step.
#[derive(Clone)]
pub(crate) struct Symmetric {
    chaining_key: Zeroizing<[u8; 32]>,
    hash: [u8; 32],
}

impl Symmetric {
    /// The state before the first message to `responder`.
    pub(crate) fn new(responder: &PublicKey) -> Self {
        Self {
            chaining_key: Zeroizing::new(CONSTRUCTION_HASH),
            hash: hash(&[&IDENTIFIER_HASH, responder.as_bytes()]),
        }
    }

    /// An ephemeral public key, which handshakes with a preshared key mix into both values.
    pub(crate) fn mix_ephemeral(&mut self, public: &PublicKey) {
        self.mix_hash(public.as_bytes());
        self.mix_secret(public.as_bytes());
    }

    /// A shared secret after which nothing is encrypted.
    pub(crate) fn mix_secret(&mut self, secret: &[u8; 32]) {
        [self.chaining_key] = kdf(&self.chaining_key, secret);
    }

    /// A shared secret, giving the key for the next field.
    pub(crate) fn mix_key(&mut self, secret: &[u8; 32]) -> Cipher {
        let key;
        [self.chaining_key, key] = kdf(&self.chaining_key, secret);
        Cipher::new(&key)
    }

    /// The preshared key, giving the key for the next field.
    pub(crate) fn mix_preshared(&mut self, preshared: &PresharedKey) -> Cipher {
        let (hashed, key);
        [self.chaining_key, hashed, key] = kdf(&self.chaining_key, preshared.as_bytes());
        self.mix_hash(&hashed[..]);
        Cipher::new(&key)
    }

    /// Encrypts a field of the message. `sealed` is `plain` and a tag long.
    pub(crate) fn seal(&mut self, cipher: &Cipher, plain: &[u8], sealed: &mut [u8]) {
        let (data, tag) = sealed.split_at_mut(plain.len());
        data.copy_from_slice(plain);
        tag.copy_from_slice(&cipher.seal(0, &self.hash, data));
        self.mix_hash(sealed);
    }

    /// Decrypts a field of `N` bytes and a tag.
    pub(crate) fn open<const N: usize>(
        &mut self,
        cipher: &Cipher,
        sealed: &[u8],
    ) -> Result<[u8; N], Forged> {
        let (data, tag) = sealed.split_first_chunk::<N>().ok_or(Forged)?;
        let tag: &[u8; TAG_LEN] = tag.try_into().map_err(|_| Forged)?;
        let mut plain = *data;
        cipher.open(0, &self.hash, &mut plain, tag)?;
        self.mix_hash(sealed);
        Ok(plain)
    }

    /// Keys for the initiator's packets and the responder's packets, in this order.
    pub(crate) fn split(&self) -> [Zeroizing<[u8; 32]>; 2] {
        kdf(&self.chaining_key, &[])
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn published_hashes() {
        let construction = hash(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]);
        assert_eq!(construction, CONSTRUCTION_HASH);
        assert_eq!(
            hash(&[&construction, b"WireGuard v1 ", b"zx2c4 Jason@zx2c4.com"]),
            IDENTIFIER_HASH
        );
    }

    #[test]
    fn hmac_and_mac_against_python() {
        // hmac.new(bytes(range(32)), b"what do ya want for nothing?", "blake2s")
        assert_eq!(
            hex(&hmac(&KEY, &[b"what do ya want ", b"for nothing?"])[..]),
            HMAC
        );
        // hashlib.blake2s(b"abc", key=bytes(range(32)), digest_size=16)
        assert_eq!(hex(&mac(&KEY, &[b"a", b"bc"])), MAC);
        assert!(mac_matches(&KEY, b"abc", &mac(&KEY, &[b"abc"])));
        assert!(!mac_matches(&KEY, b"abd", &mac(&KEY, &[b"abc"])));
        assert!(mac_matches(&KEY[..16], b"abc", &mac(&KEY[..16], &[b"abc"])));
    }

    #[test]
    fn kdf_is_hkdf_with_each_output_prefixing_the_longer() {
        let [one] = kdf(&KEY, b"input");
        let [first, second, third] = kdf(&KEY, b"input");
        assert_eq!(one, first);
        let extracted = hmac(&KEY, &[b"input"]);
        assert_eq!(second, hmac(&extracted, &[&first[..], &[2]]));
        assert_eq!(third, hmac(&extracted, &[&second[..], &[3]]));
    }

    #[test]
    fn low_order_points_are_refused() {
        let private = StaticSecret::from([0x77; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        for point in [[0; 32], one] {
            assert_eq!(
                shared_secret(&private, &PublicKey::from_bytes(point)),
                Err(LowOrder)
            );
        }
    }

    const KEY: [u8; 32] = {
        let mut key = [0; 32];
        let mut at = 0u8;
        while at < 32 {
            key[at as usize] = at;
            at += 1;
        }
        key
    };
    const HMAC: &str = "14229dde9cdbd4dd31b1a703ac36832ecc9177e0ba0d4632568515aaec7e401f";
    const MAC: &str = "61ba5f165c194692e09d12520cc4c74a";
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files of wg-quick(8) and wg(8): one side's whole view of a network.
//!
//! [`File::parse`] reads what those tools accept, without acting on it: what would run commands or change the host's
//! routing is reported in [`File::ignored`]. [`File`] displays as a file that they accept. Names, which the format does not
//! have, are comments: `# NetworkName = demo` and `# Name = laptop`.

mod dump;
mod emit;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroize;

pub use dump::dump;
pub use parse::{
    LARGEST, LARGEST_MTU, MOST_PEERS, MOST_PREFIXES, ParseError, Problem, SMALLEST_MTU,
};

/// A wg-quick file.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// Name of the network, of a `# NetworkName =` comment.
    pub network_name: Option<String>,
    /// Whose file it is: `[Interface]`.
    pub interface: Interface,
    /// The others: `[Peer]`, in the order of the file.
    pub peers: Vec<Peer>,
    /// Lines that have no effect here, a sentence each. Commands are not written, the others are.
    pub ignored: Vec<String>,
}

/// The side whose file it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// What the others call it.
    pub name: Option<String>,
    /// Its private key.
    pub private_key: Key,
    /// Its addresses, with the length of their network.
    pub addresses: Vec<Prefix>,
    /// UDP port that it listens on.
    pub listen_port: Option<u16>,
    /// Largest IP packet, in bytes.
    pub mtu: Option<u16>,
    /// What has a meaning for wg-quick only: read, of no effect here, and written again.
    pub unused: Unused,
}

/// Settings of `[Interface]` that have no effect on a network of ours, in the form in which files have them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unused {
    /// Mark of the tunnel's own packets; none is off.
    pub fw_mark: Option<u32>,
    /// Routing table: `off`, `auto`, a number or a name.
    pub table: Option<String>,
    /// Name servers and search domains.
    pub dns: Vec<String>,
    /// Whether wg-quick writes the file anew when the interface ends.
    pub save_config: Option<bool>,
}

/// Another member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What people call it.
    pub name: Option<String>,
    /// Its public key.
    pub public_key: Key,
    /// Symmetric key mixed into the handshake.
    pub preshared_key: Option<Key>,
    /// Where it is: `host:port` or `[v6]:port`.
    pub endpoint: Option<String>,
    /// What it may use as source, and what is reached through it; host bits are zero.
    pub allowed_ips: Vec<Prefix>,
    /// Seconds between packets that keep a NAT's mapping alive; none is off.
    pub persistent_keepalive: Option<u16>,
}

/// A key of 32 bytes, public or secret; never shown by Debug, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

/// An address and a prefix length that fits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Interface {
    /// The first address of each family: what a network of ours can have.
    pub fn first_addresses(&self) -> impl Iterator<Item = Prefix> {
        let first = |four: bool| {
            let mut own = self.addresses.iter();
            own.find(|own| own.address().is_ipv4() == four).copied()
        };
        [first(true), first(false)].into_iter().flatten()
    }
}

impl Key {
    /// A key of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// In base64, as files have it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl FromStr for Key {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let mut bytes = [0; 33];
        match STANDARD.decode_slice(text, &mut bytes) {
            Ok(32) => {
                let mut key = [0; 32];
                key.copy_from_slice(&bytes[..32]);
                bytes.zeroize();
                Ok(Self(key))
            }
            Ok(_) | Err(_) => Err(Problem::Key),
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Prefix {
    /// A prefix; none if the length does not fit the family.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        (length <= most).then_some(Self { address, length })
    }

    /// The address, host bits included.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Length, in bits.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// The same with host bits zero.
    #[must_use]
    pub fn network(self) -> Self {
        let length = u32::from(self.length);
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        };
        Self { address, ..self }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = Problem;

    /// `address` or `address/length`; without a length it is a single address, as in wg(8).
    fn from_str(text: &str) -> Result<Self, Problem> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| Problem::Prefix)?;
        let length = match length {
            // `parse` would accept a plus sign.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| Problem::Prefix)?
            }
            Some(_) => return Err(Problem::Prefix),
            None if address.is_ipv4() => 32,
            None => 128,
        };
        Self::new(address, length).ok_or(Problem::Prefix)
    }
}

/// Whether a text can name a network or a peer: 1 to 32 of `A–Z a–z 0–9 - _`, beginning with a letter or digit.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Whether a text is `host:port`, `address:port` or `[v6]:port`.
#[must_use]
pub fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    // `parse` would accept a plus sign.
    let port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && matches!(port.parse::<u16>(), Ok(1..));
    let host = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        // With a zone it is not an address that means the same elsewhere, but it is one.
        Some(six) => format!("[{six}]:1")
            .parse::<std::net::SocketAddrV6>()
            .is_ok(),
        None => is_host_name(host),
    };
    port && host
}

/// Letters, digits, dots and hyphens (RFC 1123, section 2.1), and underscores, which people use.
fn is_host_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

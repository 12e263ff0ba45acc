// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A network as it is written to disk.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use netcon_api::wgquick::{Interface, Unused};
use netcon_overlay::{IpPrefix, PresharedKey, PrivateKey, PublicKey};
use serde::{Deserialize, Serialize};

use super::keys;

/// Largest IP packet of a network unless it says otherwise, in bytes: fits a path of 1500 with
/// IPv6 and UDP and WireGuard's 32 around it.
pub const DEFAULT_MTU: u16 = 1420;

/// Everything about one network. The file is this, as JSON; unknown fields are refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Form of the file.
    pub version: Version,
    /// Identity that outlives renaming: 16 hexadecimal digits.
    pub id: NetworkId,
    /// Name on this host; also the name of the file.
    pub name: NetworkName,
    /// Key of this host on this network.
    #[serde(with = "keys::private")]
    pub private_key: PrivateKey,
    /// Own addresses, each with the length of the network it lies in.
    pub addresses: Vec<InterfaceAddress>,
    /// Largest IP packet, in bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// Programs may open raw sockets of ICMP.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub raw_sockets: bool,
    /// What the imported file said to wg-quick only; none for a network made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wg_quick: Option<WgQuickSettings>,
    /// The others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerEntry>,
}

/// Settings of an imported file that have no effect here, and are written again when the network is exported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WgQuickSettings {
    /// UDP port of that network alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// Mark of the tunnel's own packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fw_mark: Option<u32>,
    /// Routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Name servers and search domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Whether wg-quick writes its file anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_config: Option<bool>,
}

impl WgQuickSettings {
    /// Those of a file.
    #[must_use]
    pub fn of(interface: &Interface) -> Self {
        let Unused {
            fw_mark,
            table,
            dns,
            save_config,
        } = interface.unused.clone();
        Self {
            listen_port: interface.listen_port,
            fw_mark,
            table,
            dns,
            save_config,
        }
    }

    /// As a file has them, but for the port.
    #[must_use]
    pub fn unused(&self) -> Unused {
        Unused {
            fw_mark: self.fw_mark,
            table: self.table.clone(),
            dns: self.dns.clone(),
            save_config: self.save_config,
        }
    }
}

/// One peer of a network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerEntry {
    /// What people call it; unique in the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who it is.
    #[serde(with = "keys::public")]
    pub public_key: PublicKey,
    /// Symmetric key mixed into the handshake.
    #[serde(
        default,
        with = "keys::preshared",
        skip_serializing_if = "Option::is_none"
    )]
    pub preshared_key: Option<PresharedKey>,
    /// Where it is: `host:port` or `[v6]:port`. Unknown until it calls, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Addresses that it may use, and that are reached through it.
    #[serde(with = "keys::prefixes")]
    pub allowed_ips: Vec<IpPrefix>,
    /// Seconds between packets that keep a NAT's mapping alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_keepalive: Option<u16>,
    /// The three reserved bytes of our messages to it, where they are not zero.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reserved: [u8; 3],
}

/// Form of a network file. A number that this program does not know is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum Version {
    /// The form in this file.
    One,
}

/// Identity of a network: 64 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkId(pub u64);

/// Name of a network: 1 to 32 of `A–Z a–z 0–9 - _`, not starting with `-` or `_`.
///
/// It is used as a file name, in URLs and in DNS names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name: use 1 to 32 letters, digits, '-' or '_', starting with a letter or digit"
)]
pub struct NameError(String);

/// An own address and the length of the network it lies in, as in `10.77.0.1/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceAddress {
    address: IpAddr,
    length: u8,
}

/// Why a text is not an own address with its prefix length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address with prefix length, such as 10.77.0.1/24")]
pub struct InterfaceAddressError(String);

impl NetworkConfig {
    /// The peer that a person means: by name, else by public key.
    #[must_use]
    pub fn peer(&self, name_or_key: &str) -> Option<&PeerEntry> {
        self.peers
            .iter()
            .find(|peer| peer.name.as_deref() == Some(name_or_key))
            .or_else(|| {
                let key = keys::parse_public(name_or_key).ok()?;
                self.peers.iter().find(|peer| peer.public_key == key)
            })
    }
}

impl NetworkName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for NetworkName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            // Bounded: the text may come from anywhere and ends in messages.
            Err(NameError(text.chars().take(64).collect()))
        }
    }
}

impl TryFrom<String> for NetworkName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<NetworkName> for String {
    fn from(name: NetworkName) -> Self {
        name.0
    }
}

impl InterfaceAddress {
    /// An address of a network with prefixes of `length`.
    ///
    /// # Errors
    /// When the length does not fit the family, or the address cannot be a host's own.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, InterfaceAddressError> {
        let usable = match address {
            IpAddr::V4(v4) => {
                length <= 32
                    && !(v4.is_unspecified()
                        || v4.is_loopback()
                        || v4.is_multicast()
                        || v4.is_broadcast())
            }
            IpAddr::V6(v6) => {
                length <= 128
                    && !(v6.is_unspecified()
                        || v6.is_loopback()
                        || v6.is_multicast()
                        || v6.to_ipv4_mapped().is_some())
            }
        };
        if usable {
            Ok(Self { address, length })
        } else {
            Err(InterfaceAddressError(format!("{address}/{length}")))
        }
    }

    /// The address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Length of the prefix, in bits.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// First address of the network it lies in.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(self.length))
                    .unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(self.length))
                    .unwrap_or(0);
                Ipv6Addr::from_bits(v6.to_bits() & mask).into()
            }
        }
    }

    /// Whether `other` lies in the same network.
    #[must_use]
    pub fn contains(self, other: IpAddr) -> bool {
        // The length belongs to our family: it may not be applied to the other.
        let other = Self {
            address: other,
            ..self
        };
        other.address.is_ipv4() == self.address.is_ipv4() && other.network() == self.network()
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for InterfaceAddress {
    type Err = InterfaceAddressError;

    fn from_str(text: &str) -> Result<Self, InterfaceAddressError> {
        let bad = || InterfaceAddressError(text.chars().take(64).collect());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length = match length {
            Some(length) => length.parse().map_err(|_| bad())?,
            None if address.is_ipv4() => 32,
            None => 128,
        };
        Self::new(address, length)
    }
}

impl TryFrom<String> for InterfaceAddress {
    type Error = InterfaceAddressError;

    fn try_from(text: String) -> Result<Self, InterfaceAddressError> {
        text.parse()
    }
}

impl From<InterfaceAddress> for String {
    fn from(address: InterfaceAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl TryFrom<String> for NetworkId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u64::from_str_radix(&text, 16) {
            Ok(id) if digits => Ok(Self(id)),
            Ok(_) | Err(_) => Err("an id has 16 hexadecimal digits".to_owned()),
        }
    }
}

impl From<NetworkId> for String {
    fn from(id: NetworkId) -> Self {
        id.to_string()
    }
}

impl TryFrom<u32> for Version {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match number {
            1 => Ok(Self::One),
            other => Err(format!(
                "it has form {other}, which this netcon-supervisor does not know"
            )),
        }
    }
}

impl From<Version> for u32 {
    fn from(version: Version) -> Self {
        match version {
            Version::One => 1,
        }
    }
}

/// Whether a text can name a network or a peer.
#[must_use]
pub(crate) fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=32).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_zero(reserved: &[u8; 3]) -> bool {
    *reserved == [0; 3]
}

/// What is on unless the file says otherwise.
const fn yes() -> bool {
    true
}

fn default_mtu() -> u16 {
    DEFAULT_MTU
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_directory() {
        for good in ["demo", "a", "A-1_b", "0", &"x".repeat(32)] {
            assert!(good.parse::<NetworkName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a.b",
            "-a",
            "_a",
            "ä",
            "a b",
            "a\0",
            &"x".repeat(33),
        ] {
            assert!(bad.parse::<NetworkName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn own_addresses() {
        let address: InterfaceAddress = "10.77.3.1/24".parse().unwrap();
        assert_eq!(address.network(), IpAddr::from([10, 77, 3, 0]));
        assert!(address.contains([10, 77, 3, 255].into()));
        assert!(!address.contains([10, 77, 4, 1].into()));
        assert!(!address.contains("::1".parse().unwrap()));
        assert_eq!(address.to_string(), "10.77.3.1/24");
        let six: InterfaceAddress = "fd00::1/64".parse().unwrap();
        assert!(six.contains("fd00::ffff:1".parse().unwrap()));
        assert!(!six.contains([10, 0, 0, 1].into()));
        assert!(!six.contains("fd00:0:0:1::1".parse().unwrap()));
        let all: InterfaceAddress = "10.0.0.1/0".parse().unwrap();
        assert!(all.contains([1, 2, 3, 4].into()));
        for bad in [
            "",
            "10.0.0.1/33",
            "10.0.0.1/x",
            "fd00::/129",
            "127.0.0.1/8",
            "::1/128",
            "0.0.0.0/0",
        ] {
            assert!(bad.parse::<InterfaceAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_and_versions() {
        assert!(NetworkId::try_from("00000000000000ff".to_owned()).is_ok());
        assert!(NetworkId::try_from("+0000000000000ff".to_owned()).is_err());
        assert!(NetworkId::try_from("ff".to_owned()).is_err());
        assert!(Version::try_from(2).is_err());
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Allowed IPs: which peer an address belongs to, by the longest prefix that holds it.
//!
//! One table answers both questions: where a packet goes (by its destination) and who may have sent it (by its source;
//! the owner must be exactly the peer that sealed it, or a peer with a wider prefix could speak for another).
//! Storage: one ordered map per prefix length in use, longest first. Real networks use two or three lengths, so a
//! lookup is two or three map searches, whatever the number of peers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Why something is not a prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a prefix is an address, optionally followed by / and a length of at most 32 (IPv4) or 128 (IPv6)"
)]
pub struct PrefixError;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`. Host bits are zero.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IpPrefix {
    addr: IpAddr,
    len: u8,
}

impl IpPrefix {
    /// Host bits of `addr` are cleared, as WireGuard's tools do.
    ///
    /// # Errors
    /// If `len` is more than the address has bits.
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, PrefixError> {
        if len > bits(addr) {
            return Err(PrefixError);
        }
        let addr = match addr {
            IpAddr::V4(addr) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits() & mask))
            }
            IpAddr::V6(addr) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() & mask))
            }
        };
        Ok(Self { addr, len })
    }

    /// The single address `addr`.
    pub fn host(addr: IpAddr) -> Self {
        Self {
            addr,
            len: bits(addr),
        }
    }

    /// The first address.
    pub const fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Bits all addresses share.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a prefix is never empty; this is its length in bits"
    )]
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// Whether `addr` is in the range.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.addr.is_ipv4() == addr.is_ipv4() && Self::new(addr, self.len) == Ok(*self)
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for IpPrefix {
    type Err = PrefixError;

    /// Without a length the prefix is the single address.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let Some((addr, len)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| PrefixError);
        };
        // u8 alone would accept "+8".
        if !len.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PrefixError);
        }
        Self::new(
            addr.parse().map_err(|_| PrefixError)?,
            len.parse().map_err(|_| PrefixError)?,
        )
    }
}

/// Prefixes and their owners.
#[derive(Debug)]
pub(crate) struct Routes<Owner> {
    v4: Table<u32, Owner>,
    v6: Table<u128, Owner>,
}

impl<Owner: Copy + Eq> Routes<Owner> {
    pub(crate) const fn new() -> Self {
        Self {
            v4: Table::new(),
            v6: Table::new(),
        }
    }

    /// Gives `prefix` to `owner`, taking it from whoever had it.
    pub(crate) fn insert(&mut self, prefix: IpPrefix, owner: Owner) {
        match prefix.addr {
            IpAddr::V4(addr) => self.v4.insert(addr.to_bits(), prefix.len, owner),
            IpAddr::V6(addr) => self.v6.insert(addr.to_bits(), prefix.len, owner),
        }
    }

    /// Removes `prefix` if `owner` has it.
    pub(crate) fn remove(&mut self, prefix: IpPrefix, owner: Owner) {
        match prefix.addr {
            IpAddr::V4(addr) => self.v4.remove(addr.to_bits(), prefix.len, owner),
            IpAddr::V6(addr) => self.v6.remove(addr.to_bits(), prefix.len, owner),
        }
    }

    /// Owner of exactly this prefix.
    pub(crate) fn owner(&self, prefix: IpPrefix) -> Option<Owner> {
        match prefix.addr {
            IpAddr::V4(addr) => self.v4.owner(addr.to_bits(), prefix.len),
            IpAddr::V6(addr) => self.v6.owner(addr.to_bits(), prefix.len),
        }
    }

    /// Owner of the longest prefix that contains `addr`.
    pub(crate) fn lookup(&self, addr: IpAddr) -> Option<Owner> {
        match addr {
            IpAddr::V4(addr) => self.v4.lookup(|len| {
                addr.to_bits() & u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
            }),
            IpAddr::V6(addr) => self.v6.lookup(|len| {
                addr.to_bits() & u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
            }),
        }
    }

    /// All prefixes: IPv4 first, longest first, then by address.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = (IpPrefix, Owner)> {
        let v4 = self
            .v4
            .entries()
            .map(|(addr, len, owner)| (Ipv4Addr::from_bits(addr).into(), len, owner));
        let v6 = self
            .v6
            .entries()
            .map(|(addr, len, owner)| (Ipv6Addr::from_bits(addr).into(), len, owner));
        v4.chain(v6)
            .map(|(addr, len, owner)| (IpPrefix { addr, len }, owner))
    }
}

/// One address family: `(length, prefixes of that length)`, longest first, no empty map.
#[derive(Debug)]
struct Table<Addr, Owner>(Vec<(u8, BTreeMap<Addr, Owner>)>);

impl<Addr: Copy + Ord, Owner: Copy + Eq> Table<Addr, Owner> {
    const fn new() -> Self {
        Self(Vec::new())
    }

    fn insert(&mut self, addr: Addr, len: u8, owner: Owner) {
        let at = match self.position(len) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (len, BTreeMap::new()));
                at
            }
        };
        self.0[at].1.insert(addr, owner);
    }

    fn remove(&mut self, addr: Addr, len: u8, owner: Owner) {
        let Ok(at) = self.position(len) else { return };
        let prefixes = &mut self.0[at].1;
        if prefixes.get(&addr) == Some(&owner) {
            prefixes.remove(&addr);
        }
        if prefixes.is_empty() {
            self.0.remove(at);
        }
    }

    fn owner(&self, addr: Addr, len: u8) -> Option<Owner> {
        let at = self.position(len).ok()?;
        self.0[at].1.get(&addr).copied()
    }

    fn lookup(&self, masked: impl Fn(u8) -> Addr) -> Option<Owner> {
        self.0
            .iter()
            .find_map(|(len, prefixes)| prefixes.get(&masked(*len)).copied())
    }

    fn entries(&self) -> impl Iterator<Item = (Addr, u8, Owner)> {
        self.0
            .iter()
            .flat_map(|(len, prefixes)| prefixes.iter().map(|(addr, owner)| (*addr, *len, *owner)))
    }

    /// Where `len` is, or would be.
    fn position(&self, len: u8) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| len.cmp(other))
    }
}

const fn bits(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn prefix(text: &str) -> IpPrefix {
        text.parse().unwrap()
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn texts() {
        for (text, printed) in [
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("1.2.3.4/0", "0.0.0.0/0"),
            ("fd00::1/64", "fd00::/64"),
            ("fd00::1", "fd00::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(prefix(text).to_string(), printed);
        }
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "::/256",
        ] {
            assert_eq!(text.parse::<IpPrefix>(), Err(PrefixError), "{text}");
        }
    }

    #[test]
    fn longest_prefix_wins_and_removal_uncovers() {
        let mut routes = Routes::new();
        routes.insert(prefix("0.0.0.0/0"), 0);
        routes.insert(prefix("10.0.0.0/8"), 1);
        routes.insert(prefix("10.1.0.0/16"), 2);
        routes.insert(prefix("10.1.2.3/32"), 3);
        routes.insert(prefix("fd00::/8"), 4);
        assert_eq!(routes.lookup(addr("10.1.2.3")), Some(3));
        assert_eq!(routes.lookup(addr("10.1.2.4")), Some(2));
        assert_eq!(routes.lookup(addr("10.2.0.0")), Some(1));
        assert_eq!(routes.lookup(addr("11.0.0.0")), Some(0));
        assert_eq!(routes.lookup(addr("fdff::1")), Some(4));
        assert_eq!(routes.lookup(addr("fe80::1")), None);
        routes.remove(prefix("10.1.2.3/32"), 9);
        assert_eq!(
            routes.lookup(addr("10.1.2.3")),
            Some(3),
            "only the owner can remove"
        );
        routes.remove(prefix("10.1.2.3/32"), 3);
        assert_eq!(routes.lookup(addr("10.1.2.3")), Some(2));
        routes.insert(prefix("10.1.0.0/16"), 7);
        assert_eq!(
            routes.lookup(addr("10.1.2.3")),
            Some(7),
            "a prefix moves to its last owner"
        );
        assert_eq!(routes.prefixes().count(), 4);
    }

    #[test]
    fn agrees_with_a_linear_search() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut routes = Routes::new();
        let mut list: Vec<(IpPrefix, u32)> = Vec::new();
        for owner in 0..400 {
            // Few distinct bits, so that prefixes nest and repeat.
            let addr = IpAddr::V4(Ipv4Addr::from_bits(random.random::<u32>() & 0xC100_0003));
            let prefix = IpPrefix::new(addr, random.random_range(0..=32)).unwrap();
            list.retain(|(other, _)| *other != prefix);
            list.push((prefix, owner));
            routes.insert(prefix, owner);
            if owner % 3 == 0 {
                let (prefix, owner) = list.swap_remove(random.random_range(0..list.len()));
                routes.remove(prefix, owner);
            }
            let addr = IpAddr::V4(Ipv4Addr::from_bits(random.random::<u32>() & 0xC100_0003));
            let expected = list
                .iter()
                .filter(|(prefix, _)| prefix.contains(addr))
                .max_by_key(|(prefix, _)| prefix.len());
            assert_eq!(routes.lookup(addr), expected.map(|(_, owner)| *owner));
        }
        assert_eq!(routes.prefixes().count(), list.len());
    }
}

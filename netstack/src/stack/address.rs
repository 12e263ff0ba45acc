// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Own addresses and the prefixes behind the overlay.
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Config;
use super::hash::TableKey;

/// Addresses of this host in the network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    /// The broadcast address of the own prefix.
    broadcast: Option<Ipv4Addr>,
}

impl Addresses {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            v4: config.v4.map(|(ip, _)| ip),
            v6: config.v6.map(|(ip, _)| ip),
            broadcast: config.v4.and_then(crate::interfaces::broadcast),
        }
    }

    /// An IPv4 address that stands for everyone on the overlay.
    pub(super) fn is_broadcast(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => ip.is_broadcast() || self.broadcast == Some(ip),
            IpAddr::V6(_) => false,
        }
    }

    /// An address peers know: not loopback.
    pub(super) fn is_own(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.v4 == Some(ip),
            IpAddr::V6(ip) => self.v6 == Some(ip),
        }
    }

    pub(super) fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.is_own(ip)
    }

    /// The own address of the family of `ip`.
    pub(super) fn source_for(&self, ip: IpAddr) -> Option<IpAddr> {
        match ip {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }

    /// A source that a packet from a peer may have. Own, loopback, multicast, broadcast, unspecified and v4-mapped ones are
    /// not (RFC 1122 §3.2.1.3, RFC 4291 §2.5.5.2).
    pub(super) fn is_foreign_unicast(&self, ip: IpAddr) -> bool {
        let unicast = match ip {
            IpAddr::V4(v4) => !self.is_broadcast(ip) && v4.octets()[0] != 0,
            IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none(),
        };
        unicast && !ip.is_unspecified() && !ip.is_multicast() && !self.is_local(ip)
    }
}

/// Prefixes by length, so that a lookup costs one probe per length in use.
#[derive(Debug)]
pub(super) struct Routes {
    key: TableKey,
    v4: BTreeMap<u8, HashSet<u32, TableKey>>,
    v6: BTreeMap<u8, HashSet<u128, TableKey>>,
    /// As they were given, for tables of routes.
    listed: Vec<(IpAddr, u8)>,
}

impl Routes {
    pub(super) fn new(key: TableKey) -> Self {
        Self {
            key,
            v4: BTreeMap::new(),
            v6: BTreeMap::new(),
            listed: Vec::new(),
        }
    }

    pub(super) fn listed(&self) -> &[(IpAddr, u8)] {
        &self.listed
    }

    pub(super) fn set(&mut self, prefixes: Vec<(IpAddr, u8)>) {
        self.v4.clear();
        self.v6.clear();
        let empty = || HashSet::with_hasher(self.key);
        for (ip, len) in &prefixes {
            match ip {
                IpAddr::V4(ip) => {
                    let len = (*len).min(32);
                    self.v4
                        .entry(len)
                        .or_insert_with(empty)
                        .insert(masked_v4(*ip, len));
                }
                IpAddr::V6(ip) => {
                    let len = (*len).min(128);
                    let prefixes = self
                        .v6
                        .entry(len)
                        .or_insert_with(|| HashSet::with_hasher(self.key));
                    prefixes.insert(masked_v6(*ip, len));
                }
            }
        }
        self.listed = prefixes;
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self
                .v4
                .iter()
                .any(|(len, prefixes)| prefixes.contains(&masked_v4(ip, *len))),
            IpAddr::V6(ip) => self
                .v6
                .iter()
                .any(|(len, prefixes)| prefixes.contains(&masked_v6(ip, *len))),
        }
    }
}

fn masked_v4(ip: Ipv4Addr, len: u8) -> u32 {
    let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
    ip.to_bits() & mask
}

fn masked_v6(ip: Ipv6Addr, len: u8) -> u128 {
    let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
    ip.to_bits() & mask
}

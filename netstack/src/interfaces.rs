// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interfaces a program sees on its network: `lo`, and `netcon0` towards the overlay. One picture, from which netlink
//! (rtnetlink(7)) and the ioctls of netdevice(7) are answered, so that both agree.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Index of `lo`.
pub const LOOPBACK_INDEX: u32 = 1;
/// Index of `netcon0`.
pub const OVERLAY_INDEX: u32 = 2;

/// Device flags (netdevice(7)): up, running, and with a carrier.
const IFF_UP: u32 = 0x1;
const IFF_BROADCAST: u32 = 0x2;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_RUNNING: u32 = 0x40;
const IFF_NOARP: u32 = 0x80;
const IFF_MULTICAST: u32 = 0x1000;
const IFF_LOWER_UP: u32 = 0x1_0000;
/// Hardware types (`linux/if_arp.h`).
const ARPHRD_LOOPBACK: u16 = 772;
const ARPHRD_NONE: u16 = 0xfffe;
/// MTU of Linux' `lo`, bytes.
const LOOPBACK_MTU: u32 = 65_536;

/// The picture: what exists on one network on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// A task on its network.
    Network(NetworkView),
    /// A task that has moved to a network namespace of its own, or whose network was removed: `lo` alone, which is down.
    Nothing,
}

/// A network as its programs see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkView {
    /// Largest packet of the overlay, bytes.
    pub mtu: u32,
    /// Own IPv4 address and the length of its prefix.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// Own IPv6 address and the length of its prefix.
    pub v6: Option<(Ipv6Addr, u8)>,
    /// Prefixes that peers answer for, host bits clear.
    pub routes: Vec<(IpAddr, u8)>,
    /// What went over the overlay.
    pub overlay: Traffic,
    /// What stayed on this host.
    pub local_packets: u64,
}

/// Packets and bytes of an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets that came in.
    pub packets_in: u64,
    /// Packets that went out.
    pub packets_out: u64,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes that went out.
    pub bytes_out: u64,
    /// Packets that came in and were dropped.
    pub dropped_in: u64,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: &'static str,
    /// Hardware type, ARPHRD_*.
    pub hardware: u16,
    /// IFF_*.
    pub flags: u32,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Length of the queue of packets to send (netdevice(7), SIOCGIFTXQLEN).
    pub queue: u32,
    /// Its addresses and the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// What it has carried.
    pub traffic: Traffic,
}

impl Interface {
    /// Hardware address and its broadcast address: `lo` has zeros, an interface without link layer none at all.
    #[must_use]
    pub const fn hardware_address(&self) -> Option<[u8; 6]> {
        if self.is_loopback() {
            Some([0; 6])
        } else {
            None
        }
    }

    /// `lo`.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.flags & IFF_LOOPBACK != 0
    }

    /// Up and with a carrier.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// The broadcast address beside its IPv4 address; `lo` shows none.
    #[must_use]
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        self.v4()
            .filter(|_| !self.is_loopback())
            .and_then(broadcast)
    }

    /// Its IPv4 address, if it has one.
    #[must_use]
    pub fn v4(&self) -> Option<(Ipv4Addr, u8)> {
        self.addresses.iter().find_map(|&(ip, len)| match ip {
            IpAddr::V4(ip) => Some((ip, len)),
            IpAddr::V6(_) => None,
        })
    }
}

impl View {
    /// All interfaces, in the order of their numbers.
    #[must_use]
    pub fn interfaces(&self) -> Vec<Interface> {
        match self {
            Self::Nothing => vec![Interface {
                flags: IFF_LOOPBACK,
                addresses: Vec::new(),
                ..loopback(Traffic::default())
            }],
            Self::Network(network) => {
                let local = Traffic {
                    packets_in: network.local_packets,
                    packets_out: network.local_packets,
                    ..Traffic::default()
                };
                let own = [
                    network.v4.map(|(ip, len)| (ip.into(), len)),
                    network.v6.map(|(ip, len)| (ip.into(), len)),
                ];
                let overlay = Interface {
                    index: OVERLAY_INDEX,
                    name: "netcon0",
                    hardware: ARPHRD_NONE,
                    flags: IFF_UP
                        | IFF_BROADCAST
                        | IFF_RUNNING
                        | IFF_NOARP
                        | IFF_MULTICAST
                        | IFF_LOWER_UP,
                    mtu: network.mtu,
                    queue: 1000,
                    addresses: own.into_iter().flatten().collect(),
                    traffic: network.overlay,
                };
                vec![loopback(local), overlay]
            }
        }
    }

    /// An interface by number.
    #[must_use]
    pub fn by_index(&self, index: u32) -> Option<Interface> {
        self.interfaces().into_iter().find(|i| i.index == index)
    }

    /// An interface by name, as a program gives it: up to the first NUL byte.
    #[must_use]
    pub fn by_name(&self, name: &[u8]) -> Option<Interface> {
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        self.interfaces()
            .into_iter()
            .find(|i| i.name.as_bytes() == name)
    }

    /// Names may not be set and nothing may be configured, but a task in a namespace of its own may bring up its `lo`.
    #[must_use]
    pub const fn is_own_namespace(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

fn loopback(traffic: Traffic) -> Interface {
    Interface {
        index: LOOPBACK_INDEX,
        name: "lo",
        hardware: ARPHRD_LOOPBACK,
        flags: IFF_UP | IFF_LOOPBACK | IFF_RUNNING | IFF_LOWER_UP,
        mtu: LOOPBACK_MTU,
        queue: 1000,
        addresses: vec![
            (Ipv4Addr::LOCALHOST.into(), 8),
            (Ipv6Addr::LOCALHOST.into(), 128),
        ],
        traffic,
    }
}

/// The address that stands for all hosts of an IPv4 prefix; one of 31 or 32 bits has none (RFC 3021).
#[must_use]
pub fn broadcast((ip, len): (Ipv4Addr, u8)) -> Option<Ipv4Addr> {
    (len < 31).then(|| Ipv4Addr::from_bits(ip.to_bits() | u32::MAX >> len))
}

/// `ip` with the bits behind the first `len` cleared.
#[must_use]
pub fn masked(ip: IpAddr, len: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(len.min(32)));
            Ipv4Addr::from_bits(ip.to_bits() & mask.unwrap_or(0)).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len.min(128)));
            Ipv6Addr::from_bits(ip.to_bits() & mask.unwrap_or(0)).into()
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The entries of rtnetlink(7): links, addresses, routes, rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{Body, Header, Writer};
use crate::interfaces::{
    Interface, LOOPBACK_INDEX, NetworkView, OVERLAY_INDEX, View, broadcast, masked,
};

/// Address families.
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;
/// Routing tables (`linux/rtnetlink.h`).
const TABLE_DEFAULT: u8 = 253;
pub(super) const TABLE_MAIN: u8 = 254;
pub(super) const TABLE_LOCAL: u8 = 255;
/// Who made a route.
const PROTO_KERNEL: u8 = 2;
const PROTO_STATIC: u8 = 4;
/// How far a destination is.
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
/// Types of routes.
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
const BROADCAST: u8 = 3;
const MULTICAST: u8 = 5;
/// Metric of IPv6 routes that the kernel makes.
const METRIC_V6: u32 = 256;
/// "For ever" in struct ifa_cacheinfo.
const FOREVER: u32 = u32::MAX;
const IFA_F_PERMANENT: u32 = 0x80;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWRULE: u16 = 32;

/// RTM_NEWLINK (rtnetlink(7)): struct ifinfomsg and IFLA_*.
pub(super) fn link(writer: &mut Writer, header: Header, interface: &Interface) {
    let header = Header {
        kind: RTM_NEWLINK,
        ..header
    };
    writer.message(header, |body| {
        let mut fixed = [0_u8; 16];
        fixed[2..4].copy_from_slice(&interface.hardware.to_ne_bytes());
        fixed[4..8].copy_from_slice(&interface.index.to_ne_bytes());
        fixed[8..12].copy_from_slice(&interface.flags.to_ne_bytes());
        // Linux shows an interface without states as "unknown"; one that is down as "down" (RFC 2863).
        let state = if interface.is_up() { 0 } else { 2 };
        body.raw(&fixed)
            .name(3, interface.name)
            .number(13, interface.queue)
            .attribute(16, &[state])
            .attribute(17, &[0])
            .number(4, interface.mtu)
            .number(27, 0)
            .number(30, 0)
            .number(31, 1)
            .number(32, 1)
            .attribute(33, &[u8::from(interface.is_up())])
            .name(6, "noqueue");
        if let Some(address) = interface.hardware_address() {
            body.attribute(1, &address).attribute(2, &address);
        }
        statistics(body, interface);
    });
}

/// IFLA_STATS64 and its shorter predecessor, struct rtnl_link_stats(64).
fn statistics(body: &mut Body<'_>, interface: &Interface) {
    const FIELDS: usize = 24;
    let traffic = &interface.traffic;
    let mut values = [0_u64; FIELDS];
    values[..4].copy_from_slice(&[
        traffic.packets_in,
        traffic.packets_out,
        traffic.bytes_in,
        traffic.bytes_out,
    ]);
    values[6] = traffic.dropped_in;
    let long: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    // The short form wraps around, as the kernel's does.
    let short: Vec<u8> = values
        .iter()
        .flat_map(|v| {
            u32::try_from(v & u64::from(u32::MAX))
                .unwrap_or(0)
                .to_ne_bytes()
        })
        .collect();
    body.attribute(23, &long).attribute(7, &short);
}

/// RTM_NEWADDR: struct ifaddrmsg and IFA_*.
pub(super) fn address(
    writer: &mut Writer,
    header: Header,
    interface: &Interface,
    (ip, len): (IpAddr, u8),
) {
    let header = Header {
        kind: RTM_NEWADDR,
        ..header
    };
    let scope = if interface.is_loopback() {
        SCOPE_HOST
    } else {
        SCOPE_UNIVERSE
    };
    let permanent = IFA_F_PERMANENT.to_ne_bytes()[0];
    writer.message(header, |body| {
        body.raw(&[family(ip), len, permanent, scope])
            .raw(&interface.index.to_ne_bytes());
        match ip {
            IpAddr::V4(ip) => {
                body.attribute(1, &ip.octets()).attribute(2, &ip.octets());
                if let Some(broadcast) = interface.broadcast() {
                    body.attribute(4, &broadcast.octets());
                }
                body.name(3, interface.name);
            }
            IpAddr::V6(ip) => {
                body.attribute(1, &ip.octets());
            }
        }
        let cache: Vec<u8> = [FOREVER, FOREVER, 0, 0]
            .iter()
            .flat_map(|v| v.to_ne_bytes())
            .collect();
        body.attribute(6, &cache).number(8, IFA_F_PERMANENT);
    });
}

/// All multicast groups.
const GROUPS_V4: (IpAddr, u8) = (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4);
const GROUPS_V6: (IpAddr, u8) = (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8);

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) destination: (IpAddr, u8),
    pub(super) table: u8,
    protocol: u8,
    scope: u8,
    kind: u8,
    pub(super) interface: u32,
    source: Option<IpAddr>,
    /// RTM_F_*.
    flags: u32,
}

/// Every route, in the order Linux lists tables for a family.
pub(super) fn routes(view: &View) -> Vec<Route> {
    let View::Network(network) = view else {
        return Vec::new();
    };
    let mut all = Vec::new();
    let own = own_addresses(network);
    for &(ip, len) in &own {
        let prefix = (masked(ip, len), len);
        if len < width(ip) {
            all.push(main(prefix, PROTO_KERNEL, ip.is_ipv4().then_some(ip)));
        }
    }
    let known: Vec<_> = all.iter().map(|route| route.destination).collect();
    for &(ip, len) in &network.routes {
        let prefix = (masked(ip, len), len);
        let reached = own.iter().any(|(own, _)| own.is_ipv4() == ip.is_ipv4());
        if reached && !known.contains(&prefix) {
            all.push(main(prefix, PROTO_STATIC, None));
        }
    }
    if network.v4.is_some() && !all.iter().any(|route| route.destination == GROUPS_V4) {
        all.push(main(GROUPS_V4, PROTO_STATIC, None));
    }
    for &(ip, _) in &own {
        all.push(local((ip, width(ip)), OVERLAY_INDEX, ip));
    }
    if let Some((ip, broadcast)) = network.v4.and_then(|v4| Some((v4.0, broadcast(v4)?))) {
        all.push(Route {
            kind: BROADCAST,
            scope: SCOPE_LINK,
            ..local((broadcast.into(), 32), OVERLAY_INDEX, ip.into())
        });
    }
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let broadcast = IpAddr::V4(Ipv4Addr::new(127, 255, 255, 255));
    all.push(local((masked(localhost, 8), 8), LOOPBACK_INDEX, localhost));
    all.push(local((localhost, 32), LOOPBACK_INDEX, localhost));
    all.push(Route {
        kind: BROADCAST,
        scope: SCOPE_LINK,
        ..local((broadcast, 32), LOOPBACK_INDEX, localhost)
    });
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    all.push(Route {
        interface: LOOPBACK_INDEX,
        ..main((v6, 128), PROTO_KERNEL, None)
    });
    all.push(local((v6, 128), LOOPBACK_INDEX, v6));
    if network.v6.is_some() {
        all.push(Route {
            kind: MULTICAST,
            table: TABLE_LOCAL,
            ..main(GROUPS_V6, PROTO_KERNEL, None)
        });
    }
    all
}

/// The route a packet to `to` takes.
pub(super) fn route_to(view: &View, to: IpAddr) -> Option<Route> {
    const CLONED: u32 = 0x200;
    let View::Network(network) = view else {
        return None;
    };
    let local_to = |interface, source| Route {
        flags: CLONED,
        ..local((to, width(to)), interface, source)
    };
    let own = own_addresses(network);
    if to.is_loopback() {
        let source = match to {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        return Some(local_to(LOOPBACK_INDEX, source));
    }
    if own.iter().any(|&(ip, _)| ip == to) {
        return Some(local_to(LOOPBACK_INDEX, to));
    }
    let &(source, _) = own.iter().find(|(ip, _)| ip.is_ipv4() == to.is_ipv4())?;
    let everyone = match to {
        IpAddr::V4(to) => to.is_broadcast() || network.v4.and_then(broadcast) == Some(to),
        IpAddr::V6(_) => false,
    };
    if to.is_multicast() || everyone {
        let kind = if everyone { BROADCAST } else { MULTICAST };
        return Some(Route {
            kind,
            scope: SCOPE_LINK,
            ..local_to(OVERLAY_INDEX, source)
        });
    }
    let reached = network
        .routes
        .iter()
        .any(|&(ip, len)| ip.is_ipv4() == to.is_ipv4() && masked(to, len) == masked(ip, len));
    reached.then(|| Route {
        flags: CLONED,
        scope: SCOPE_UNIVERSE,
        ..main((to, width(to)), 0, Some(source))
    })
}

/// RTM_NEWROUTE: struct rtmsg and RTA_*.
pub(super) fn route(writer: &mut Writer, header: Header, route: &Route) {
    let header = Header {
        kind: RTM_NEWROUTE,
        ..header
    };
    let (ip, len) = route.destination;
    writer.message(header, |body| {
        body.raw(&[
            family(ip),
            len,
            0,
            0,
            route.table,
            route.protocol,
            if ip.is_ipv6() {
                SCOPE_UNIVERSE
            } else {
                route.scope
            },
            route.kind,
        ])
        .raw(&route.flags.to_ne_bytes())
        .number(15, u32::from(route.table));
        if len > 0 {
            octets(body, 1, ip);
        }
        if let Some(source) = route
            .source
            .filter(|source| source.is_ipv4() || route.flags != 0)
        {
            octets(body, 7, source);
        }
        if ip.is_ipv6() {
            let metric = if route.kind == LOCAL { 0 } else { METRIC_V6 };
            body.number(6, metric).attribute(20, &[0]);
        }
        body.number(4, route.interface);
    });
}

/// RTM_NEWRULE: which tables are looked at, and when. `ip rule` shows the three of an untouched Linux.
pub(super) fn rules(writer: &mut Writer, header: Header, wanted: u8) {
    let header = Header {
        kind: RTM_NEWRULE,
        ..header
    };
    let all = [
        (AF_INET, TABLE_LOCAL, 0_u32),
        (AF_INET, TABLE_MAIN, 32_766),
        (AF_INET, TABLE_DEFAULT, 32_767),
        (AF_INET6, TABLE_LOCAL, 0),
        (AF_INET6, TABLE_MAIN, 32_766),
    ];
    for (family, table, priority) in all {
        if wanted != 0 && wanted != family {
            continue;
        }
        const TO_TABLE: u8 = 1;
        writer.message(header, |body| {
            body.raw(&[family, 0, 0, 0, table, 0, 0, TO_TABLE, 0, 0, 0, 0])
                .number(15, u32::from(table))
                .number(14, u32::MAX)
                .attribute(21, &[PROTO_KERNEL]);
            if priority > 0 {
                body.number(6, priority);
            }
        });
    }
}

/// AF_INET or AF_INET6.
pub(super) const fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

const fn width(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn own_addresses(network: &NetworkView) -> Vec<(IpAddr, u8)> {
    let v4 = network.v4.map(|(ip, len)| (IpAddr::V4(ip), len));
    let v6 = network.v6.map(|(ip, len)| (IpAddr::V6(ip), len));
    v4.into_iter().chain(v6).collect()
}

const fn main(destination: (IpAddr, u8), protocol: u8, source: Option<IpAddr>) -> Route {
    Route {
        destination,
        table: TABLE_MAIN,
        protocol,
        scope: SCOPE_LINK,
        kind: UNICAST,
        interface: OVERLAY_INDEX,
        source,
        flags: 0,
    }
}

const fn local(destination: (IpAddr, u8), interface: u32, source: IpAddr) -> Route {
    Route {
        destination,
        table: TABLE_LOCAL,
        protocol: PROTO_KERNEL,
        scope: SCOPE_HOST,
        kind: LOCAL,
        interface,
        source: Some(source),
        flags: 0,
    }
}

fn octets(body: &mut Body<'_>, kind: u16, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => body.attribute(kind, &ip.octets()),
        IpAddr::V6(ip) => body.attribute(kind, &ip.octets()),
    };
}

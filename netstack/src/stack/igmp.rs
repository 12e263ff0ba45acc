// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Messages about membership: IGMP of all versions (RFC 1112, RFC 2236, RFC 3376) and MLD (RFC 2710, RFC 3810).
//! Reading never panics on any bytes and never reads past the packet.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::wire::{self, IpPacket};

/// Protocol number of IGMP.
pub(super) const IGMP: u8 = 2;
/// Sources of one record; a longer list is not told (see [`Record::told`]) and not read.
const SOURCES_MAX: usize = 64;
/// Records that are read of one message.
const RECORDS_MAX: usize = 256;
/// Internetwork control (RFC 3376 §4); MLD has none.
const TRAFFIC_CLASS: u8 = 0xc0;
/// IPv4 header with the router alert option (RFC 2113); IPv6 header and hop-by-hop header with it (RFC 2711).
const V4_HEADER: usize = 24;
const V6_HEADER: usize = 48;
/// Interval between queries as they tell it, seconds, and how often reports are sent (RFC 3376 §8).
const QUERY_INTERVAL_CODE: u8 = 125;
pub(super) const ROBUSTNESS: u8 = 2;

/// Version of a querier, by what its queries look like; MLDv1 counts as 2, MLDv2 as 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    One,
    Two,
    Three,
}

/// What a record says (RFC 3376 §4.2.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    IsInclude,
    IsExclude,
    ToInclude,
    ToExclude,
    Allow,
    Block,
}

/// One group in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) group: IpAddr,
    pub(super) sources: Vec<IpAddr>,
}

impl Record {
    /// As it is told: a list that is too long becomes a wish for every source, and receivers choose themselves.
    pub(super) fn told(mut self) -> Self {
        if self.sources.len() <= SOURCES_MAX {
            return self;
        }
        self.kind = match self.kind {
            Kind::IsInclude | Kind::IsExclude => Kind::IsExclude,
            Kind::ToInclude | Kind::ToExclude | Kind::Allow | Kind::Block => Kind::ToExclude,
        };
        self.sources.clear();
        self
    }
}

/// A message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Query {
        version: Version,
        /// `None`: about all groups.
        group: Option<IpAddr>,
        /// Empty: about all sources.
        sources: Vec<IpAddr>,
        /// Within so much time.
        within: Duration,
    },
    /// Of any version.
    Report(Vec<Record>),
}

impl Message {
    /// `None`: it is none, or damaged, or has come over a router.
    pub(super) fn parse(ip: &IpPacket<'_>) -> Option<Self> {
        if ip.hop_limit != 1 {
            return None;
        }
        match ip.protocol {
            IGMP if ip.dst.is_ipv4() && wire::sum_is_zero(ip.payload) => parse_v4(ip.payload),
            wire::ICMPV6 if ip.dst.is_ipv6() && wire::icmpv6_sum_fits(ip) => parse_v6(ip.payload),
            _ => None,
        }
    }
}

/// Whether a packet may be a message of MLD; IGMP has a protocol number of its own.
pub(super) fn is_mld(ip: &IpPacket<'_>) -> bool {
    ip.protocol == wire::ICMPV6 && matches!(ip.payload.first(), Some(130..=132 | 143))
}

fn parse_v4(body: &[u8]) -> Option<Message> {
    let group = v4_at(body, 4)?;
    let about = |group: IpAddr| group.is_multicast().then_some(group);
    let report = |kind| {
        Some(Message::Report(vec![Record {
            kind,
            group: about(group)?,
            sources: Vec::new(),
        }]))
    };
    match body[0] {
        0x11 => {
            let any = group.is_unspecified();
            if !any && !group.is_multicast() {
                return None;
            }
            let (version, within, sources) = match (body.len(), body[1]) {
                (8, 0) => (Version::One, 100, Vec::new()),
                (8, code) => (Version::Two, u32::from(code), Vec::new()),
                (12.., code) => (
                    Version::Three,
                    decode(u32::from(code), 7, 4),
                    addresses(body, 10, 12, v4_at)?,
                ),
                _ => return None,
            };
            Some(Message::Query {
                version,
                group: about(group),
                sources,
                within: Duration::from_millis(u64::from(within) * 100),
            })
        }
        0x12 | 0x16 => report(Kind::IsExclude),
        0x17 => report(Kind::ToInclude),
        0x22 => records(body, v4_at, 4),
        _ => None,
    }
}

fn parse_v6(body: &[u8]) -> Option<Message> {
    let old = |kind| {
        let group = v6_at(body, 8)?;
        group.is_multicast().then(|| {
            Message::Report(vec![Record {
                kind,
                group,
                sources: Vec::new(),
            }])
        })
    };
    match body.first()? {
        130 => {
            let group = v6_at(body, 8)?;
            if !group.is_unspecified() && !group.is_multicast() {
                return None;
            }
            let code = u32::from(u16::from_be_bytes([*body.get(4)?, *body.get(5)?]));
            let (version, millis, sources) = match body.len() {
                24 => (Version::Two, code, Vec::new()),
                28.. => (
                    Version::Three,
                    decode(code, 15, 12),
                    addresses(body, 26, 28, v6_at)?,
                ),
                _ => return None,
            };
            Some(Message::Query {
                version,
                group: group.is_multicast().then_some(group),
                sources,
                within: Duration::from_millis(u64::from(millis)),
            })
        }
        131 => old(Kind::IsExclude),
        132 => old(Kind::ToInclude),
        143 => records(body, v6_at, 16),
        _ => None,
    }
}

/// The floating-point codes of RFC 3376 §4.1.1 and RFC 3810 §5.1.3: of `mantissa` bits, with the uppermost bit at `top`.
fn decode(code: u32, top: u32, mantissa: u32) -> u32 {
    if code < 1 << top {
        return code;
    }
    let exponent = code >> mantissa & 7;
    (code & ((1 << mantissa) - 1) | 1 << mantissa) << (exponent + 3)
}

type ReadAddress = fn(&[u8], usize) -> Option<IpAddr>;

/// A counted list of addresses.
fn addresses(body: &[u8], count: usize, at: usize, read: ReadAddress) -> Option<Vec<IpAddr>> {
    let number = usize::from(u16::from_be_bytes([
        *body.get(count)?,
        *body.get(count + 1)?,
    ]));
    if number > SOURCES_MAX {
        return None;
    }
    let width = if at == 12 { 4 } else { 16 };
    (0..number).map(|n| read(body, at + n * width)).collect()
}

/// The records of a report of the newest version; all of them, or it counts as damaged.
fn records(body: &[u8], read: ReadAddress, width: usize) -> Option<Message> {
    let number = usize::from(u16::from_be_bytes([*body.get(6)?, *body.get(7)?]));
    if number > RECORDS_MAX {
        return None;
    }
    let mut out = Vec::new();
    let mut at = 8;
    for _ in 0..number {
        let head = body.get(at..at + 4)?;
        let sources = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let group = read(body, at + 4)?;
        let first = at + 4 + width;
        let list = body.get(first..first + sources * width)?;
        at = first + sources * width + usize::from(head[1]) * 4;
        let kind = match head[0] {
            1 => Kind::IsInclude,
            2 => Kind::IsExclude,
            3 => Kind::ToInclude,
            4 => Kind::ToExclude,
            5 => Kind::Allow,
            6 => Kind::Block,
            // RFC 3376 §4.2.12: others are passed over.
            _ => continue,
        };
        if !group.is_multicast() {
            continue;
        }
        let sources = sources.min(SOURCES_MAX);
        out.push(Record {
            kind,
            group,
            sources: (0..sources).filter_map(|n| read(list, n * width)).collect(),
        });
    }
    Some(Message::Report(out))
}

fn v4_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}

fn v6_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets).into())
}

fn push_address(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
}

/// A question about one group, answered within a second.
pub(super) fn query(from: IpAddr, group: IpAddr) -> Vec<u8> {
    let mut body = if group.is_ipv4() {
        vec![0x11, 10, 0, 0]
    } else {
        vec![130, 0, 0, 0, 3, 232, 0, 0]
    };
    push_address(&mut body, group);
    body.extend_from_slice(&[ROBUSTNESS, QUERY_INTERVAL_CODE, 0, 0]);
    packet(from, group, &body)
}

/// Reports of the newest version, as many packets of at most `mtu` bytes as are needed.
pub(super) fn reports(from: IpAddr, records: &[Record], mtu: usize) -> Vec<Vec<u8>> {
    let (header, kind, to): (usize, u8, IpAddr) = if from.is_ipv4() {
        (V4_HEADER, 0x22, Ipv4Addr::new(224, 0, 0, 22).into())
    } else {
        let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
        (V6_HEADER, 143, routers.into())
    };
    let mut packets = Vec::new();
    let (mut body, mut count) = (vec![kind, 0, 0, 0, 0, 0, 0, 0], 0_u16);
    for record in records {
        let mut bytes = vec![
            match record.kind {
                Kind::IsInclude => 1,
                Kind::IsExclude => 2,
                Kind::ToInclude => 3,
                Kind::ToExclude => 4,
                Kind::Allow => 5,
                Kind::Block => 6,
            },
            0,
            0,
            u8::try_from(record.sources.len()).unwrap_or(0),
        ];
        push_address(&mut bytes, record.group);
        for source in &record.sources {
            push_address(&mut bytes, *source);
        }
        if count > 0 && header + body.len() + bytes.len() > mtu {
            body[6..8].copy_from_slice(&count.to_be_bytes());
            packets.push(packet(from, to, &body));
            body.truncate(8);
            count = 0;
        }
        body.extend_from_slice(&bytes);
        count += 1;
    }
    if count > 0 {
        body[6..8].copy_from_slice(&count.to_be_bytes());
        packets.push(packet(from, to, &body));
    }
    packets
}

/// A report for queriers of an older version; `None` where it had no such message.
pub(super) fn old_report(from: IpAddr, record: &Record, version: Version) -> Option<Vec<u8>> {
    let leaves = record.kind == Kind::ToInclude && record.sources.is_empty();
    // Sources cannot be told: to want some is to want the group.
    let group = record.group;
    let v4 = group.is_ipv4();
    let (kind, to) = match (v4, version, leaves) {
        (true, Version::One, true) => return None,
        (true, Version::One, false) => (0x12, group),
        (true, _, true) => (0x17, Ipv4Addr::new(224, 0, 0, 2).into()),
        (true, _, false) => (0x16, group),
        (false, _, true) => (132, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2).into()),
        (false, _, false) => (131, group),
    };
    let mut body = vec![kind; 1];
    body.resize(if v4 { 4 } else { 8 }, 0);
    push_address(&mut body, group);
    Some(packet(from, to, &body))
}

/// The packet around a message, with hop limit 1, router alert and checksum.
fn packet(from: IpAddr, to: IpAddr, body: &[u8]) -> Vec<u8> {
    let header = if from.is_ipv4() { V4_HEADER } else { V6_HEADER };
    let mut out = vec![0; header + body.len()];
    if from.is_ipv4() {
        wire::write_ip_with_alert(&mut out, from, to, IGMP).copy_from_slice(body);
        let sum = wire::sum_of(&out[header..]);
        out[header + 2..header + 4].copy_from_slice(&sum.to_be_bytes());
    } else {
        wire::write_ip_with_alert(&mut out, from, to, wire::ICMPV6).copy_from_slice(body);
        let sum = wire::transport_checksum(from, to, wire::ICMPV6, &out[header..]);
        out[header + 2..header + 4].copy_from_slice(&sum.to_be_bytes());
    }
    if from.is_ipv4() {
        wire::set_traffic_class(&mut out, TRAFFIC_CLASS);
        wire::set_header_sum(&mut out);
    }
    out
}

#[cfg(test)]
#[path = "igmp_tests.rs"]
mod tests;

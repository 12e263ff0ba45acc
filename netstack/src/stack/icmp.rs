// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ICMP and ICMPv6: echo replies, errors in (matched to what they quote), errors out (rate limited).
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::flow::Tuple;
use super::wire::{self, Icmp, IpPacket, Quoted};
use super::{Failure, IcmpError, Stack};

/// Errors out: this many at once, then one per interval (Linux: icmp_msgs_burst, icmp_msgs_per_sec).
const BURST: u32 = 50;
const INTERVAL: Duration = Duration::from_millis(1);
/// Quoted bytes: RFC 1812 §4.3.2.3 (576 in all), RFC 4443 §2.4 (the minimum MTU in all).
const V4_QUOTE: usize = 576 - 28;
const V6_QUOTE: usize = 1280 - 48;

/// Headers that a quoted UDP datagram begins with, bytes.
const V4_QUOTED_HEADERS: usize = 28;
const V6_QUOTED_HEADERS: usize = 48;

/// Payload of a datagram that an error has room for.
pub(super) const fn quoted_payload(v4: bool) -> usize {
    if v4 {
        V4_QUOTE - V4_QUOTED_HEADERS
    } else {
        V6_QUOTE - V6_QUOTED_HEADERS
    }
}

/// Type of service of an error about a packet of `class`: internetwork control, and its delay, throughput and reliability
/// bits (RFC 1812 section 4.3.2.5). ICMPv6 errors have none.
pub(super) const fn error_class(v4: bool, class: u8) -> u8 {
    if v4 { class & 0x1e | 0xc0 } else { 0 }
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct RateLimit {
    tokens: u32,
    filled: Instant,
}

impl RateLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            filled: now,
        }
    }

    fn admit(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).as_millis() / INTERVAL.as_millis();
        if gained > 0 {
            self.filled = now;
            self.tokens = u32::try_from(gained)
                .unwrap_or(BURST)
                .saturating_add(self.tokens)
                .min(BURST);
        }
        let admitted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        admitted
    }
}

impl Stack {
    pub(super) fn handle_icmp(&mut self, now: Instant, ip: &IpPacket<'_>) {
        let Some(message) = Icmp::parse(ip.payload) else {
            self.counters.malformed += 1;
            return;
        };
        let v4 = ip.dst.is_ipv4();
        if v4 != (ip.protocol == wire::ICMP) {
            return;
        }
        let echo = if v4 { 8 } else { 128 };
        if message.kind == echo {
            self.answer_echo(ip, message);
            return;
        }
        if message.kind == if v4 { 0 } else { 129 } {
            self.pings.reply(now, ip, message);
            return;
        }
        let (failure, mtu) = if v4 {
            failure_v4(message)
        } else {
            failure_v6(message)
        };
        let Some(failure) = failure else { return };
        let Some(quoted) = Quoted::parse(message.body) else {
            self.counters.malformed += 1;
            return;
        };
        // It must be about a packet of ours (RFC 5927).
        if !self.addresses.is_own(quoted.from.ip()) || quoted.from.is_ipv4() != v4 {
            return;
        }
        if failure == Failure::PacketTooBig {
            self.told_too_big(now, quoted, mtu.unwrap_or(0));
        }
        if let Some(protocol) = wire::datagrams_of(quoted.protocol) {
            let error = IcmpError {
                kind: message.kind,
                code: message.code,
                info: u32::try_from(mtu.unwrap_or(0)).unwrap_or(u32::MAX),
                from: ip.src,
                to: ip.dst,
                hop_limit: ip.hop_limit,
                traffic_class: ip.traffic_class,
                at: Some(now),
                payload: quoted.behind_udp(message.body).to_vec(),
            };
            self.datagram_failed(protocol, quoted.from, quoted.to, failure, error);
        } else if quoted.protocol == wire::TCP {
            self.flow_failed(now, quoted, failure);
        } else if quoted.protocol == ip.protocol {
            self.pings.failed(ip.src, quoted, failure);
        }
    }

    pub(super) fn send_port_unreachable(&mut self, now: Instant, ip: &IpPacket<'_>) {
        let (kind, code) = if ip.dst.is_ipv4() { (3, 3) } else { (1, 4) };
        self.send_icmp_error(now, ip, kind, code, 0);
    }

    pub(super) fn send_protocol_unreachable(&mut self, now: Instant, ip: &IpPacket<'_>) {
        if ip.dst.is_ipv4() {
            self.send_icmp_error(now, ip, 3, 2, 0);
        } else {
            // Parameter problem, unrecognized next header; the pointer names the field of the fixed header.
            self.send_icmp_error(now, ip, 4, 1, 6);
        }
    }

    fn send_icmp_error(&mut self, now: Instant, ip: &IpPacket<'_>, kind: u8, code: u8, word: u32) {
        if !self.icmp_limit.admit(now) {
            return;
        }
        let quote = if ip.dst.is_ipv4() { V4_QUOTE } else { V6_QUOTE };
        let body = &ip.bytes[..ip.bytes.len().min(quote)];
        self.push_icmp(
            ip.dst,
            ip.src,
            Icmp {
                kind,
                code,
                word,
                body,
            },
        );
    }

    fn answer_echo(&mut self, ip: &IpPacket<'_>, request: Icmp<'_>) {
        let kind = if ip.dst.is_ipv4() { 0 } else { 129 };
        let reply = Icmp {
            kind,
            code: 0,
            ..request
        };
        self.push_icmp(ip.dst, ip.src, reply);
    }

    fn push_icmp(&mut self, src: IpAddr, dst: IpAddr, message: Icmp<'_>) {
        let len = wire::icmp_packet_len(dst, message.body.len());
        // A reassembled or oversized request cannot be answered in one packet.
        if len <= self.config.mtu && self.egress.has_room() {
            wire::write_icmp(self.egress.push(len, None).0, src, dst, message);
        }
    }

    /// An ICMP error about a segment: it ends an attempt to connect, and is soft for an established connection
    /// (RFC 1122 §4.2.3.9). A smaller MTU is neither.
    fn flow_failed(&mut self, now: Instant, quoted: Quoted, failure: Failure) {
        let tuple = Tuple {
            local: quoted.from,
            remote: quoted.to,
        };
        let Some(id) = self.by_tuple.get(&tuple).copied() else {
            return;
        };
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        if failure == Failure::PacketTooBig {
            return;
        }
        // The quoted sequence number must be that of our SYN.
        if flow.is_connecting() && quoted.word.wrapping_add(1) == flow.sent.0 {
            self.fail_connect(now, id, failure);
        }
    }
}

/// RFC 792, RFC 1812 §5.2.7: what a type and code mean, and the MTU it tells.
fn failure_v4(message: Icmp<'_>) -> (Option<Failure>, Option<usize>) {
    let failure = match (message.kind, message.code) {
        (3, 0 | 5 | 6 | 11) => Failure::NetUnreachable,
        (3, 1 | 7 | 8 | 12) => Failure::HostUnreachable,
        (3, 2) => Failure::Refused,
        (3, 3) => Failure::PortUnreachable,
        (3, 4) => {
            let mtu = usize::try_from(message.word & 0xffff).ok();
            return (Some(Failure::PacketTooBig), mtu);
        }
        (3, 9 | 10 | 13..=15) => Failure::Prohibited,
        (11, _) => Failure::HostUnreachable,
        _ => return (None, None),
    };
    (Some(failure), None)
}

/// RFC 4443 §3.
fn failure_v6(message: Icmp<'_>) -> (Option<Failure>, Option<usize>) {
    let failure = match (message.kind, message.code) {
        (1, 0) => Failure::NetUnreachable,
        (1, 1 | 5 | 6) => Failure::Prohibited,
        (1, 4) => Failure::PortUnreachable,
        (1, _) | (3, _) => Failure::HostUnreachable,
        (2, _) => {
            return (
                Some(Failure::PacketTooBig),
                usize::try_from(message.word).ok(),
            );
        }
        (4, 1) => Failure::Refused,
        _ => return (None, None),
    };
    (Some(failure), None)
}

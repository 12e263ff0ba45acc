// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ICMP and ICMPv6: echo replies, errors in (matched to what they quote), errors out (rate limited).
use std::time::{Duration, Instant};

use super::flow::Tuple;
use super::wire::{self, Icmp, IpPacket, Piece, Quoted};
use super::{Failure, IcmpError, SendOptions, Stack};

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

/// By which way a message came; its answer goes the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Overlay,
    Loopback,
}

impl Stack {
    pub(super) fn handle_icmp(&mut self, now: Instant, ip: &IpPacket<'_>, way: Way) {
        let v4 = ip.dst.is_ipv4();
        if ip.protocol != wire::icmp_number(ip.dst) {
            return;
        }
        // The checksum is over the address in the header: a request to a group is answered from another.
        let written = IpPacket::parse(ip.bytes).map_or(ip.dst, |whole| whole.dst);
        let intact = wire::is_icmp_intact(ip.src, written, ip.payload);
        // raw(7): IPv4's checksum is left to the program.
        if intact || v4 {
            self.hear_raw(now, ip);
        }
        let Some(message) = Icmp::parse(ip.payload).filter(|_| intact) else {
            self.counters.malformed += 1;
            return;
        };
        if message.is_echo_request(v4) {
            self.answer_echo(now, ip, message, way);
            return;
        }
        if message.is_echo_reply(v4) {
            self.pings.reply(now, ip, message);
            self.hear_echo(now, ip, message);
            return;
        }
        if way == Way::Loopback {
            // The stack tells of its own errors without a packet; this is a program's invention.
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
        let error = |payload: &[u8]| IcmpError {
            kind: message.kind,
            code: message.code,
            info: u32::try_from(mtu.unwrap_or(0)).unwrap_or(u32::MAX),
            from: ip.src,
            to: ip.dst,
            hop_limit: ip.hop_limit,
            traffic_class: ip.traffic_class,
            at: Some(now),
            payload: payload.to_vec(),
        };
        if let Some(protocol) = wire::datagrams_of(quoted.protocol) {
            let error = error(quoted.behind_udp(message.body));
            self.datagram_failed(protocol, quoted.from, quoted.to, failure, error);
        } else if quoted.protocol == wire::TCP {
            self.flow_failed(now, quoted, failure);
        } else if quoted.protocol == ip.protocol {
            self.pings.failed(ip.src, quoted, failure);
            let error = error(quoted.behind_ip(message.body));
            self.icmp_failed(quoted, failure, &error);
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
        let message = Icmp {
            kind,
            code,
            word,
            body,
        };
        let len = wire::icmp_packet_len(ip.src, body.len());
        if self.egress.has_room() {
            let packet = self.egress.push(len, None).0;
            wire::write_icmp(packet, ip.dst, ip.src, message);
            wire::set_traffic_class(packet, error_class(ip.dst.is_ipv4(), ip.traffic_class));
        }
    }

    /// The reply has the request's type of service or traffic class, and a hop limit of its own.
    fn answer_echo(&mut self, now: Instant, ip: &IpPacket<'_>, request: Icmp<'_>, way: Way) {
        let kind = if ip.dst.is_ipv4() { 0 } else { 129 };
        let reply = Icmp {
            kind,
            code: 0,
            ..request
        };
        let (src, dst) = (ip.dst, ip.src);
        let len = wire::icmp_packet_len(dst, reply.body.len());
        let write = |packet: &mut [u8]| {
            wire::write_icmp(packet, src, dst, reply);
            wire::set_traffic_class(packet, ip.traffic_class);
        };
        if way == Way::Loopback {
            let mut packet = vec![0; len];
            write(&mut packet);
            self.loop_icmp(now, &packet);
            return;
        }
        if !self.egress.has_room() {
            return;
        }
        if len <= self.config.mtu {
            write(self.egress.push(len, None).0);
            return;
        }
        let mut transport = vec![0; len - wire::ip_header_len(dst)];
        wire::write_icmp_message(&mut transport, src, dst, reply);
        let options = SendOptions {
            traffic_class: ip.traffic_class,
            ..SendOptions::default()
        };
        let piece = Piece::first(src, dst, ip.protocol, options);
        // Without room it is lost, as on any way.
        let _ = self.send_fragments(None, piece, &transport, self.config.mtu, None);
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

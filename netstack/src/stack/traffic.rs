// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets in and packets out. In: validate, demultiplex, give to one flow. Out: replies and datagrams first, then the flows
//! that may have something to send, each for one quantum (deficit round robin, so that a bulk flow cannot starve others),
//! then the internal loopback.
use std::collections::VecDeque;
use std::time::Instant;

use super::device::{Out, Sent};
use super::flow::{Due, Flow, Tuple};
use super::icmp::Way;
use super::interface::Path;
use super::tombstone::Verdict;
use super::wire::{self, IpPacket, Segment, SynOptions};
use super::{FlowId, PacketSink, Stack};

/// Bytes a flow may send before it is the next flow's turn.
const QUANTUM: usize = 64 << 10;
/// Loopback packets of one call of `poll_transmit`.
const LOOPBACK_BATCH: usize = 256;
/// Ids of removed flows that are tolerated in a queue of turns.
const SLACK: usize = 64;

/// Flows that may have something to send, each at most once.
#[derive(Debug, Default)]
pub(super) struct Turns {
    overlay: VecDeque<FlowId>,
    local: VecDeque<FlowId>,
}

impl Turns {
    pub(super) fn add(&mut self, flow: &mut Flow) {
        if flow.marks.dirty || !flow.on_wire() {
            return;
        }
        flow.marks.dirty = true;
        match flow.path {
            Path::Overlay { .. } => self.overlay.push_back(flow.id),
            Path::Loopback => self.local.push_back(flow.id),
        }
    }

    /// Drops the ids of removed flows once they outnumber the `live` ones.
    pub(super) fn compact(&mut self, live: usize, mut exists: impl FnMut(FlowId) -> bool) {
        for queue in [&mut self.overlay, &mut self.local] {
            if queue.len() > 2 * live + SLACK {
                queue.retain(|id| exists(*id));
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.overlay.is_empty() && self.local.is_empty()
    }
}

/// How a flow's turn ended.
enum Turn {
    /// Nothing more to send now.
    Idle,
    /// The quantum is used up.
    Spent,
    /// No room for a packet.
    Blocked,
}

/// Where a flow's packets go.
enum Exit<'a> {
    Sink(&'a mut dyn PacketSink),
    Loopback,
}

impl Stack {
    /// Takes one IP packet from the overlay. Any bytes are safe; what is not for this host is dropped.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.counters.packets_in += 1;
        self.counters.bytes_in += packet.len() as u64;
        let Some(ip) = IpPacket::parse(packet) else {
            self.counters.malformed += 1;
            return;
        };
        let taken = self.addresses.is_own(ip.dst) || self.takes_cast(&ip);
        if !taken || !self.addresses.is_foreign_unicast(ip.src) {
            self.counters.misaddressed += 1;
            return;
        }
        match ip.fragment {
            None => self.handle_whole(now, &ip),
            Some(fragment) => {
                self.counters.fragments += 1;
                let whole = self.reassembly.add(now, &ip, fragment);
                if let Some(ip) = whole.as_deref().and_then(IpPacket::parse) {
                    self.handle_whole(now, &ip);
                }
            }
        }
    }

    fn handle_whole(&mut self, now: Instant, ip: &IpPacket<'_>) {
        if !self.addresses.is_own(ip.dst) {
            return self.handle_cast(now, ip);
        }
        if let Some(protocol) = wire::datagrams_of(ip.protocol) {
            return self.handle_datagram(now, protocol, ip);
        }
        match ip.protocol {
            wire::TCP => self.handle_tcp(now, ip, Path::Overlay { class: 0 }),
            wire::ICMP | wire::ICMPV6 => self.handle_icmp(now, ip, Way::Overlay),
            // RFC 8200 §4.7: nothing follows.
            59 => {}
            _ => self.send_protocol_unreachable(now, ip),
        }
    }

    /// Writes outgoing packets until nothing is left or the sink is full. True: more waits; call again when there is room.
    pub fn poll_transmit(&mut self, now: Instant, sink: &mut dyn PacketSink) -> bool {
        let mut local_budget = LOOPBACK_BATCH;
        loop {
            let mut progress = self.transmit_queued(sink);
            if sink.has_room()
                && let Some(id) = self.turns.overlay.pop_front()
            {
                progress = true;
                match self.serve(now, id, Exit::Sink(sink)) {
                    Turn::Idle => {}
                    Turn::Spent => self.turns.overlay.push_back(id),
                    Turn::Blocked => self.turns.overlay.push_front(id),
                }
            }
            if local_budget > 0
                && self.loopback.has_room()
                && let Some(id) = self.turns.local.pop_front()
            {
                progress = true;
                match self.serve(now, id, Exit::Loopback) {
                    Turn::Idle => {}
                    Turn::Spent => self.turns.local.push_back(id),
                    Turn::Blocked => self.turns.local.push_front(id),
                }
            }
            while local_budget > 0
                && let Some((packet, _)) = self.loopback.pop()
            {
                local_budget -= 1;
                progress = true;
                if let Some(tap) = &mut self.tap {
                    tap.note(packet.bytes());
                }
                self.handle_local(now, packet.bytes());
                self.loopback.recycle(packet);
            }
            if !progress {
                return !self.turns.is_empty()
                    || !self.egress.is_empty()
                    || !self.loopback.is_empty();
            }
        }
    }

    /// Replies and datagrams, for one quantum.
    fn transmit_queued(&mut self, sink: &mut dyn PacketSink) -> bool {
        let mut left = QUANTUM;
        while left > 0
            && sink.has_room()
            && let Some((packet, owner)) = self.egress.pop()
        {
            let bytes = packet.bytes();
            let memory = match packet.fanout() {
                Some(fanout) => sink.packet_for(bytes.len(), fanout),
                None => sink.packet(bytes.len()),
            };
            memory.copy_from_slice(bytes);
            self.counters.packets_out += 1;
            self.counters.bytes_out += bytes.len() as u64;
            left = left.saturating_sub(bytes.len());
            if let Some(owner) = owner {
                self.datagrams.note_sent(owner, bytes.len());
            }
            self.egress.recycle(packet);
        }
        left < QUANTUM
    }

    /// One flow's turn.
    fn serve(&mut self, now: Instant, id: FlowId, mut exit: Exit<'_>) -> Turn {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return Turn::Idle;
        };
        if !flow.on_wire() {
            flow.marks.dirty = false;
            return Turn::Idle;
        }
        match flow.check_deadlines(now) {
            Due::GiveUp { reset } => {
                flow.marks.dirty = false;
                self.give_up(now, id, reset);
                return Turn::Idle;
            }
            Due::Probe | Due::Nothing => {}
        }
        flow.follow_path(now, &self.paths, |ip, mtu| {
            self.interfaces.class_for(ip, mtu)
        });
        if flow.credit == 0 {
            flow.credit = QUANTUM;
        }
        let marks = flow.wire_marks();
        while let Some(endpoint) = flow.endpoint.as_mut() {
            let (room, out) = match &mut exit {
                Exit::Sink(sink) => (sink.has_room(), Out::Sink(&mut **sink)),
                Exit::Loopback => (self.loopback.has_room(), Out::Queue(&mut self.loopback)),
            };
            if !room {
                return Turn::Blocked;
            }
            self.counters.polls += 1;
            let Ok(sent) = self
                .interfaces
                .egress(now, flow.path, endpoint.set_mut(), marks, out)
            else {
                self.end_panicked(now, id);
                return Turn::Idle;
            };
            if sent.packets == 0 {
                break;
            }
            flow.note_sent(now, &sent);
            match exit {
                Exit::Sink(_) => {
                    self.counters.packets_out += sent.packets;
                    self.counters.bytes_out += sent.bytes as u64;
                }
                Exit::Loopback => self.counters.packets_local += sent.packets,
            }
            flow.credit = flow.credit.saturating_sub(sent.bytes);
            if flow.credit == 0 {
                return Turn::Spent;
            }
        }
        flow.marks.dirty = false;
        flow.credit = 0;
        self.arm(now, id);
        Turn::Idle
    }

    /// A packet from the internal loopback. The stack wrote it, but a flow's bytes are a program's.
    pub(super) fn handle_local(&mut self, now: Instant, packet: &[u8]) {
        let Some(ip) = IpPacket::parse(packet) else {
            return;
        };
        match ip.protocol {
            wire::TCP => self.handle_tcp(now, &ip, Path::Loopback),
            // Only a program that writes headers itself sends fragments here.
            wire::ICMP | wire::ICMPV6 if let Some(fragment) = ip.fragment => {
                let whole = self.reassembly.add(now, &ip, fragment);
                if let Some(ip) = whole.as_deref().and_then(IpPacket::parse) {
                    self.handle_icmp(now, &ip, Way::Loopback);
                }
            }
            wire::ICMP | wire::ICMPV6 => self.handle_icmp(now, &ip, Way::Loopback),
            _ => {}
        }
    }

    fn handle_tcp(&mut self, now: Instant, ip: &IpPacket<'_>, path: Path) {
        let Some(segment) = Segment::parse(ip.payload) else {
            self.counters.malformed += 1;
            return;
        };
        // smoltcp would not look behind extension headers.
        if ip.extended || segment.src_port == 0 || segment.dst_port == 0 {
            self.counters.malformed += 1;
            return;
        }
        let tuple = Tuple::new((ip.dst, segment.dst_port), (ip.src, segment.src_port));
        if let Some(id) = self.by_tuple.get(&tuple).copied() {
            let Some(flow) = self.flows.get_mut(id.0) else {
                return;
            };
            if ip.hop_limit < flow.options.least_hops {
                return;
            }
            let syn = segment.syn().then(|| SynOptions::parse(ip.payload));
            flow.figures.received(now, &segment, syn);
            if segment.urgent().is_some() || segment.syn() && flow.is_connecting() {
                flow.urgent.note(&segment, segment.urgent());
            }
            if let (Some(most), Some(_)) = (flow.options.segment, syn) {
                // smoltcp takes the size of its segments from here.
                let mut packet = ip.bytes.to_vec();
                wire::limit_mss(&mut packet, most, false);
                return self.give_segment(now, id, &packet);
            }
            return self.give_repaired(now, id, ip, &segment);
        }
        match self.tombstones.segment(now, &tuple, &segment) {
            Verdict::Unknown | Verdict::Reopen => {}
            Verdict::Ignore => return,
            Verdict::Acknowledge { seq, ack } => {
                let queue = match path {
                    Path::Overlay { .. } => &mut self.egress,
                    Path::Loopback => &mut self.loopback,
                };
                let len = wire::ack_packet_len(tuple.remote.ip());
                wire::write_ack(queue.push(len, None).0, tuple.local, tuple.remote, seq, ack);
                return;
            }
        }
        if segment.opens()
            && let Some(listener) = self.listeners.find(&self.secrets, &tuple)
        {
            return self.admit(now, listener, tuple, path, ip.bytes);
        }
        // smoltcp answers what no socket takes with RST, except a RST.
        let out = match path {
            Path::Overlay { .. } => Out::Queue(&mut self.egress),
            Path::Loopback => Out::Queue(&mut self.loopback),
        };
        if self
            .interfaces
            .ingress(now, path, &mut self.nobody, ip.bytes, out)
            .is_err()
        {
            self.counters.panics += 1;
        }
    }

    pub(super) fn give_segment(&mut self, now: Instant, id: FlowId, packet: &[u8]) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        flow.hear(now);
        let out = match flow.path {
            Path::Overlay { .. } => Out::Queue(&mut self.egress),
            Path::Loopback => Out::Queue(&mut self.loopback),
        };
        let Some(endpoint) = flow.endpoint.as_mut() else {
            return;
        };
        match self
            .interfaces
            .ingress(now, flow.path, endpoint.set_mut(), packet, out)
        {
            Ok(sent) => {
                flow.note_sent(now, &sent);
                self.settle(now, id);
            }
            Err(_) => self.end_panicked(now, id),
        }
    }
}

impl Flow {
    /// Remembers the numbers of the last packet.
    pub(super) fn note_sent(&mut self, now: Instant, sent: &Sent) {
        if let Some(segment) = sent.segment {
            self.figures.sent(now, &segment, sent.syn);
            let len = u32::try_from(segment.payload_len).unwrap_or(0)
                + u32::from(segment.syn())
                + u32::from(segment.fin());
            let next = segment.seq.wrapping_add(len);
            if segment.syn() {
                self.first_seq = Some(next);
            }
            self.sent = (next, segment.ack);
            // What is sent again ends before what was sent last.
            let is_newer = |last: u32| next.wrapping_sub(last).cast_signed() > 0;
            if self.next_seq.is_none_or(is_newer) {
                self.next_seq = Some(next);
            }
        }
    }
}

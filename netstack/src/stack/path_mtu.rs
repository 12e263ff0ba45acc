// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What paths carry less than the network's MTU: by destination, learned from ICMP errors or told by the caller, believed for
//! ten minutes (RFC 1191 section 6.3, RFC 8201 section 4).
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Stack;
use super::flow::Flow;
use super::hash::TableKey;
use super::interface::Path;
use super::wire::{self, Quoted};
use super::{Failure, FlowId, IcmpError, icmp};

/// Destinations remembered; another one takes the place of the one that would be forgotten first.
const LIMIT: usize = 1024;
/// How long a smaller MTU is believed in.
const LIFETIME: Duration = Duration::from_secs(600);

/// Smaller MTUs by destination.
#[derive(Debug)]
pub(super) struct PathMtus {
    table: HashMap<IpAddr, (usize, Instant), TableKey>,
    /// Changes with the table, so that flows know when to look.
    generation: u32,
}

impl PathMtus {
    pub(super) fn new(key: TableKey) -> Self {
        Self {
            table: HashMap::with_hasher(key),
            generation: 0,
        }
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// What is believed of a destination, and until when.
    pub(super) fn get(&self, now: Instant, ip: IpAddr) -> Option<(usize, Instant)> {
        self.table
            .get(&ip)
            .copied()
            .filter(|(_, until)| now < *until)
    }

    /// Notes a smaller MTU. A greater one than is believed in is not: paths grow by being forgotten.
    fn note(&mut self, now: Instant, ip: IpAddr, mtu: usize) {
        if self.get(now, ip).is_some_and(|(known, _)| known <= mtu) {
            return;
        }
        if self.table.len() >= LIMIT && !self.table.contains_key(&ip) {
            self.table.retain(|_, (_, until)| now < *until);
            if self.table.len() >= LIMIT
                && let Some(first) = self
                    .table
                    .iter()
                    .min_by_key(|(_, (_, until))| *until)
                    .map(|(ip, _)| *ip)
            {
                self.table.remove(&first);
            }
        }
        self.table.insert(ip, (mtu, now + LIFETIME));
        self.generation = self.generation.wrapping_add(1);
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

impl Stack {
    /// The largest IP packet to `ip`, bytes: the network's MTU, or less where the path is known to carry less.
    #[must_use]
    pub fn path_mtu(&self, now: Instant, ip: IpAddr) -> usize {
        let known = self.paths.get(now, ip);
        known.map_or(self.config.mtu, |(mtu, _)| mtu.min(self.config.mtu))
    }

    /// Tells that packets to `ip` may have at most `mtu` bytes for the next ten minutes. Connections adapt with their next
    /// packet. Never below the least MTU of the family: 576 (IPv4) or 1280 (IPv6).
    pub fn set_path_mtu(&mut self, now: Instant, ip: IpAddr, mtu: usize) {
        let floor = if ip.is_ipv4() { 576 } else { 1280 };
        let mtu = mtu.max(floor);
        if mtu < self.config.mtu {
            self.paths.note(now, ip, mtu);
        }
    }

    /// A packet of ours (its first 64 bytes suffice) did not leave because the path carries at most `mtu` bytes: what a router
    /// would say by ICMP "fragmentation needed" or "packet too big". A datagram's sender hears of it as EMSGSIZE.
    pub fn packet_too_big(&mut self, now: Instant, packet: &[u8], mtu: usize) {
        let Some(quoted) = Quoted::parse(packet) else {
            return;
        };
        self.set_path_mtu(now, quoted.to.ip(), mtu);
        if let Some(protocol) = wire::datagrams_of(quoted.protocol) {
            let payload = quoted.behind_udp(packet).to_vec();
            let error = Self::own_too_big(now, quoted, mtu, payload);
            let failure = Failure::PacketTooBig;
            self.datagram_failed(protocol, quoted.from, quoted.to, failure, error);
        } else if quoted.protocol == wire::icmp_number(quoted.from.ip()) {
            let payload = quoted.behind_ip(packet).to_vec();
            let error = Self::own_too_big(now, quoted, mtu, payload);
            self.icmp_failed(quoted, Failure::PacketTooBig, &error);
        }
    }

    /// The ICMP error that stands for it.
    fn own_too_big(now: Instant, quoted: Quoted, mtu: usize, payload: Vec<u8>) -> IcmpError {
        let v4 = quoted.to.is_ipv4();
        let (kind, code) = if v4 { (3, 4) } else { (2, 0) };
        IcmpError {
            kind,
            code,
            info: u32::try_from(mtu).unwrap_or(u32::MAX),
            from: quoted.from.ip(),
            to: quoted.from.ip(),
            hop_limit: 64,
            traffic_class: icmp::error_class(v4, 0),
            at: Some(now),
            payload,
        }
    }

    /// An ICMP error says that a packet we are said to have sent was too big. Nothing is believed that the sender of a segment
    /// now under way could not have provoked (RFC 5927 section 7).
    pub(super) fn told_too_big(&mut self, now: Instant, quoted: Quoted, mtu: usize) {
        let outstanding = match quoted.protocol {
            wire::TCP => self
                .flow_of(quoted)
                .and_then(|id| self.flows.get(id.0))
                .is_some_and(|flow| flow.is_outstanding(quoted.word)),
            other => wire::datagrams_of(other).map_or_else(
                || self.sends_icmp(quoted),
                |protocol| self.sends_datagrams(protocol, quoted.from, quoted.to),
            ),
        };
        if !outstanding {
            self.counters.errors_ignored += 1;
            return;
        }
        // Routers of before RFC 1191 tell no MTU: take the next smaller one.
        let mtu = if mtu == 0 {
            let now_used = self.path_mtu(now, quoted.to.ip());
            self.interfaces.below(now_used)
        } else {
            mtu
        };
        self.set_path_mtu(now, quoted.to.ip(), mtu);
    }

    fn flow_of(&self, quoted: Quoted) -> Option<FlowId> {
        let tuple = super::Tuple {
            local: quoted.from,
            remote: quoted.to,
        };
        self.by_tuple.get(&tuple).copied()
    }

    /// How many destinations have a smaller MTU, for tests and tables of the operator.
    pub(super) fn narrow_paths(&self) -> usize {
        self.paths.len()
    }
}

impl Flow {
    /// Sees to it that the flow uses the MTU its path has now.
    pub(super) fn follow_path(
        &mut self,
        now: Instant,
        paths: &PathMtus,
        class_for: impl Fn(IpAddr, usize) -> usize,
    ) {
        let changed = self.path_generation != Some(paths.generation())
            || self.path_until.is_some_and(|until| until <= now);
        let Path::Overlay { class } = &mut self.path else {
            return;
        };
        if changed {
            let ip = self.tuple.remote.ip();
            let known = paths.get(now, ip);
            *class = known.map_or(0, |(mtu, _)| class_for(ip, mtu));
            self.path_until = known.map(|(_, until)| until);
            self.path_generation = Some(paths.generation());
        }
    }

    /// Whether `seq` is the number of a byte that is sent and not acknowledged.
    fn is_outstanding(&self, seq: u32) -> bool {
        let (Some(first), Some(next)) = (self.first_seq, self.next_seq) else {
            return false;
        };
        let waiting = self.socket().map_or(0, |socket| socket.send_queue()) as u64;
        let acked = self.queued().saturating_sub(waiting) % (1 << 32);
        let oldest = first.wrapping_add(u32::try_from(acked).unwrap_or(0));
        seq.wrapping_sub(oldest) < next.wrapping_sub(oldest)
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fragments put together (RFC 791 §3.2, RFC 8200 §4.5). Bounded in number, bytes and time; the oldest is dropped first. A
//! datagram with overlapping fragments is dropped whole (RFC 5722), an exact repetition is not an overlap.
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::hash::TableKey;
use super::wire::{self, IpPacket};

/// Linux: ipfrag_time.
const LIFETIME: Duration = Duration::from_secs(30);
/// Incomplete datagrams, and bytes held by all of them.
const MAX_DATAGRAMS: usize = 256;
const MAX_BYTES: usize = 1 << 20;
/// Fragments of one datagram: 64 KiB at the IPv4 minimum MTU.
const MAX_PIECES: usize = 128;
/// Longest payload of a packet: 65,535 bytes less the header of IPv4, which counts there.
const MAX_PAYLOAD_V4: usize = 65_515;
const MAX_PAYLOAD_V6: usize = 65_535;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: u8,
}

#[derive(Debug)]
struct Partial {
    since: Instant,
    /// Offset and bytes, in order, without overlap.
    pieces: Vec<(usize, Vec<u8>)>,
    bytes: usize,
    /// Length of the whole, once the last fragment is here.
    total: Option<usize>,
    /// Of the first fragment, whose header is that of the whole (RFC 8200 §4.5).
    hop_limit: u8,
    traffic_class: u8,
}

#[derive(Debug)]
pub(super) struct Reassembly {
    table: HashMap<Key, Partial, TableKey>,
    /// In the order of `since`; an entry of another time than its table's is stale.
    order: VecDeque<(Instant, Key)>,
    bytes: usize,
}

impl Reassembly {
    pub(super) fn new(key: TableKey) -> Self {
        Self {
            table: HashMap::with_hasher(key),
            order: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Takes a fragment; gives the whole packet when it was the one that was missing.
    pub(super) fn add(
        &mut self,
        now: Instant,
        ip: &IpPacket<'_>,
        fragment: wire::Fragment,
    ) -> Option<Vec<u8>> {
        let key = Key {
            src: ip.src,
            dst: ip.dst,
            id: fragment.id,
            protocol: ip.protocol,
        };
        let end = fragment.offset + ip.payload.len();
        let odd = fragment.more && !ip.payload.len().is_multiple_of(8);
        let longest = if ip.dst.is_ipv4() {
            MAX_PAYLOAD_V4
        } else {
            MAX_PAYLOAD_V6
        };
        if ip.payload.is_empty() || odd || end > longest {
            return None;
        }
        self.expire(now);
        while self.bytes + ip.payload.len() > MAX_BYTES || self.order.len() >= MAX_DATAGRAMS {
            let (since, oldest) = self.order.pop_front()?;
            self.forget(since, &oldest);
        }
        let partial = self.table.entry(key).or_insert_with(|| {
            self.order.push_back((now, key));
            Partial {
                since: now,
                pieces: Vec::new(),
                bytes: 0,
                total: None,
                hop_limit: ip.hop_limit,
                traffic_class: ip.traffic_class,
            }
        });
        if fragment.offset == 0 {
            partial.hop_limit = ip.hop_limit;
            partial.traffic_class = ip.traffic_class;
        }
        match partial.insert(fragment.offset, ip.payload, fragment.more) {
            Inserted::Repeated => return None,
            Inserted::Kept => {}
            Inserted::Impossible => {
                let since = partial.since;
                self.forget(since, &key);
                return None;
            }
        }
        self.bytes += ip.payload.len();
        let complete = partial.total == Some(partial.bytes);
        if !complete {
            return None;
        }
        let partial = self.table.remove(&key)?;
        self.bytes -= partial.bytes;
        self.order.retain(|(_, other)| *other != key);
        let mut packet = vec![0; wire::ip_header_len(key.dst) + partial.bytes];
        let hop_limit = partial.hop_limit;
        let body = wire::write_ip(&mut packet, key.src, key.dst, key.protocol, hop_limit);
        for (offset, bytes) in &partial.pieces {
            body[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        wire::set_traffic_class(&mut packet, partial.traffic_class);
        Some(packet)
    }

    /// Drops what is too old. Called with every fragment and now and then.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((since, key)) = self.order.front().copied() {
            if now < since + LIFETIME {
                break;
            }
            self.order.pop_front();
            self.forget(since, &key);
        }
    }

    /// When [`Self::expire`] should be called.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.front().map(|(since, _)| *since + LIFETIME)
    }

    fn forget(&mut self, since: Instant, key: &Key) {
        if self
            .table
            .get(key)
            .is_some_and(|partial| partial.since == since)
            && let Some(partial) = self.table.remove(key)
        {
            self.bytes -= partial.bytes;
        }
    }
}

/// What became of a fragment.
enum Inserted {
    Kept,
    Repeated,
    /// It overlaps, or contradicts the length.
    Impossible,
}

impl Partial {
    fn insert(&mut self, offset: usize, payload: &[u8], more: bool) -> Inserted {
        let end = offset + payload.len();
        let at = self.pieces.partition_point(|(other, _)| *other < offset);
        if let Some((other, bytes)) = self.pieces.get(at) {
            if *other == offset && bytes == payload {
                return Inserted::Repeated;
            }
            if *other < end {
                return Inserted::Impossible;
            }
        }
        if let Some((other, bytes)) = at.checked_sub(1).and_then(|before| self.pieces.get(before))
            && other + bytes.len() > offset
        {
            return Inserted::Impossible;
        }
        if !more {
            let longer = self
                .pieces
                .last()
                .is_some_and(|(other, bytes)| other + bytes.len() > end);
            if self.total.is_some() || longer {
                return Inserted::Impossible;
            }
            self.total = Some(end);
        } else if self.total.is_some_and(|total| end > total) {
            return Inserted::Impossible;
        }
        if self.pieces.len() >= MAX_PIECES {
            return Inserted::Impossible;
        }
        self.bytes += payload.len();
        self.pieces.insert(at, (offset, payload.to_vec()));
        Inserted::Kept
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! TIME_WAIT without a socket (RFC 9293 §3.6.1): enough to acknowledge a repeated FIN and to tell old segments from a new
//! connection. Bounded: the oldest is forgotten first.
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::flow::Tuple;
use super::hash::TableKey;
use super::wire::Segment;

/// Linux: TCP_TIMEWAIT_LEN.
const TIME_WAIT: Duration = Duration::from_secs(60);
/// A local `connect` may take the 4-tuple after this (Linux: tcp_tw_reuse).
const REUSE_AFTER: Duration = Duration::from_secs(1);
/// At most one acknowledgement in this time (Linux: tcp_invalid_ratelimit).
const ACK_INTERVAL: Duration = Duration::from_millis(500);
const LIMIT: usize = 32_768;

#[derive(Debug, Clone, Copy)]
struct Tombstone {
    /// Next sequence number of ours, and the next one expected.
    seq: u32,
    ack: u32,
    since: Instant,
    answered: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Tombstones {
    table: HashMap<Tuple, Tombstone, TableKey>,
    /// In the order of `since`; an entry of another time than its table's is stale.
    order: VecDeque<(Instant, Tuple)>,
}

/// What to do with a segment for a tombstone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// None of ours.
    Unknown,
    /// A new connection: the tombstone is gone.
    Reopen,
    /// Acknowledge again.
    Acknowledge {
        /// Our sequence number.
        seq: u32,
        /// What we expect next.
        ack: u32,
    },
    /// Nothing.
    Ignore,
}

impl Tombstones {
    pub(super) fn new(key: TableKey) -> Self {
        Self {
            table: HashMap::with_hasher(key),
            order: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, now: Instant, tuple: Tuple, seq: u32, ack: u32) {
        self.expire(now);
        while self.order.len() >= LIMIT {
            let Some((since, oldest)) = self.order.pop_front() else {
                break;
            };
            self.forget(since, &oldest);
        }
        self.table.insert(
            tuple,
            Tombstone {
                seq,
                ack,
                since: now,
                answered: None,
            },
        );
        self.order.push_back((now, tuple));
    }

    pub(super) fn segment(&mut self, now: Instant, tuple: &Tuple, segment: &Segment) -> Verdict {
        let Some(tombstone) = self.table.get_mut(tuple) else {
            return Verdict::Unknown;
        };
        if now >= tombstone.since + TIME_WAIT {
            self.table.remove(tuple);
            return Verdict::Unknown;
        }
        if segment.rst() {
            // As Linux (tcp_rfc1337 off): an exact RST ends TIME_WAIT. It is how a peer that re-uses the 4-tuple answers our
            // acknowledgement of the old connection; its next SYN is then taken.
            if segment.seq == tombstone.ack {
                self.table.remove(tuple);
            }
            return Verdict::Ignore;
        }
        if segment.opens() && after(segment.seq, tombstone.ack) {
            self.table.remove(tuple);
            return Verdict::Reopen;
        }
        let asks = segment.syn() || segment.fin() || segment.payload_len > 0;
        if !asks || tombstone.answered.is_some_and(|at| now < at + ACK_INTERVAL) {
            return Verdict::Ignore;
        }
        tombstone.answered = Some(now);
        Verdict::Acknowledge {
            seq: tombstone.seq,
            ack: tombstone.ack,
        }
    }

    /// True if a local `connect` may not use the 4-tuple yet. An older tombstone gives way.
    pub(super) fn blocks(&mut self, now: Instant, tuple: &Tuple) -> bool {
        match self.table.get(tuple) {
            Some(tombstone) if now < tombstone.since + REUSE_AFTER => true,
            Some(_) => {
                self.table.remove(tuple);
                false
            }
            None => false,
        }
    }

    /// True if a SYN would be taken as a new connection.
    pub(super) fn admits(&self, tuple: &Tuple, segment: &Segment) -> bool {
        self.table
            .get(tuple)
            .is_none_or(|tombstone| after(segment.seq, tombstone.ack))
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((since, tuple)) = self.order.front().copied() {
            if now < since + TIME_WAIT {
                break;
            }
            self.order.pop_front();
            self.forget(since, &tuple);
        }
        // Thousands of connections a minute must not leave their memory behind.
        if self.order.capacity() > 1024 && self.order.len() * 8 < self.order.capacity() {
            self.order.shrink_to_fit();
            self.table.shrink_to_fit();
        }
    }

    /// When [`Self::expire`] should be called; rounded up so that many tombstones cost one wake-up a second.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order
            .front()
            .map(|(since, _)| *since + TIME_WAIT + Duration::from_secs(1))
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    fn forget(&mut self, since: Instant, tuple: &Tuple) {
        if self
            .table
            .get(tuple)
            .is_some_and(|tombstone| tombstone.since == since)
        {
            self.table.remove(tuple);
        }
    }
}

/// `a` is later than `b` in sequence space (RFC 1982).
fn after(a: u32, b: u32) -> bool {
    let distance = a.wrapping_sub(b);
    distance != 0 && distance < 1 << 31
}

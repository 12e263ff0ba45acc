// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Echo requests of the host's own, and what became of them.
//!
//! Their identifiers are [`PING_IDENTIFIERS`], each used by one request at a time; a program's ping sockets take others. A
//! reply belongs to a request when address, identifier, sequence number and all bytes are the same.
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::wire::{self, Icmp, IpPacket, Quoted};
use super::{Failure, Stack};

/// Identifiers of the host's own echo requests.
pub const PING_IDENTIFIERS: RangeInclusive<u16> = 0xff00..=0xffff;
/// Requests that may be outstanding; more: [`PingError::TooMany`].
const MOST: usize = 128;
/// Longest time a request is waited for.
const LONGEST: Duration = Duration::from_secs(3600);
/// Bytes at the start of a request's payload that tell it from others.
const NONCE: usize = 8;

/// One echo request. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PingId(pub u64);

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Destination.
    pub to: IpAddr,
    /// Sequence number in the message.
    pub sequence: u16,
    /// Bytes behind the ICMP header.
    pub size: usize,
    /// How long a reply is waited for; at most an hour.
    pub timeout: Duration,
}

/// Why nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// No route, or no own address of the family.
    #[error("no route")]
    NoRoute,
    /// 128 requests are outstanding.
    #[error("too many requests wait for an answer")]
    TooMany,
    /// The packet would be larger than the MTU; so many bytes fit.
    #[error("at most {0} bytes fit")]
    TooBig(usize),
    /// The egress queue is full.
    #[error("queue full")]
    QueueFull,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// The request.
    pub id: PingId,
    /// What became of it.
    pub outcome: PingOutcome,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingOutcome {
    /// Answered.
    Reply {
        /// Bytes of the ICMP message.
        bytes: usize,
        /// Hop limit it arrived with.
        hop_limit: u8,
        /// From request to reply.
        time: Duration,
    },
    /// Somebody on the way says that it does not arrive.
    Unreachable {
        /// Who.
        by: IpAddr,
        /// Why.
        failure: Failure,
    },
    /// No answer in time.
    TimedOut,
}

#[derive(Debug)]
struct Outstanding {
    id: PingId,
    to: IpAddr,
    sequence: u16,
    payload: Vec<u8>,
    sent: Instant,
    deadline: Instant,
}

/// Requests by identifier, and outcomes nobody has fetched: no more of them than requests that were made.
#[derive(Debug, Default)]
pub(super) struct Pings {
    outstanding: BTreeMap<u16, Outstanding>,
    outcomes: VecDeque<Pong>,
    last: u64,
    /// Identifier of the last request.
    identifier: u16,
}

impl Pings {
    /// When [`Self::expire`] should be called.
    pub(super) fn next(&self) -> Option<Instant> {
        self.outstanding.values().map(|ping| ping.deadline).min()
    }

    pub(super) fn expire(&mut self, now: Instant) {
        for (_, ping) in self
            .outstanding
            .extract_if(.., |_, ping| ping.deadline <= now)
        {
            self.outcomes.push_back(Pong {
                id: ping.id,
                outcome: PingOutcome::TimedOut,
            });
        }
    }

    /// An echo reply; of no interest unless it is the answer to one of ours.
    pub(super) fn reply(&mut self, now: Instant, ip: &IpPacket<'_>, message: Icmp<'_>) {
        let (identifier, sequence) = halves(message.word);
        let matches = |ping: &Outstanding| {
            ping.to == ip.src && ping.sequence == sequence && ping.payload == message.body
        };
        if !self.outstanding.get(&identifier).is_some_and(matches) {
            return;
        }
        let Some(ping) = self.outstanding.remove(&identifier) else {
            return;
        };
        let at = if ip.src.is_ipv4() { 8 } else { 7 };
        self.outcomes.push_back(Pong {
            id: ping.id,
            outcome: PingOutcome::Reply {
                bytes: ip.payload.len(),
                hop_limit: ip.bytes.get(at).copied().unwrap_or(0),
                time: now.saturating_duration_since(ping.sent),
            },
        });
    }

    /// An ICMP error of `by` quotes an ICMP message of ours.
    pub(super) fn failed(&mut self, by: IpAddr, quoted: Quoted, failure: Failure) {
        let (identifier, sequence) = halves(quoted.word);
        let matches = |ping: &Outstanding| ping.to == quoted.to.ip() && ping.sequence == sequence;
        if !self.outstanding.get(&identifier).is_some_and(matches) {
            return;
        }
        if let Some(ping) = self.outstanding.remove(&identifier) {
            self.outcomes.push_back(Pong {
                id: ping.id,
                outcome: PingOutcome::Unreachable { by, failure },
            });
        }
    }

    /// An identifier no outstanding request has.
    fn free_identifier(&self) -> Option<u16> {
        if self.outstanding.len() + self.outcomes.len() >= MOST {
            return None;
        }
        let after = *PING_IDENTIFIERS.start()..=self.identifier;
        let from = self
            .identifier
            .saturating_add(1)
            .max(*PING_IDENTIFIERS.start());
        (from..=*PING_IDENTIFIERS.end())
            .chain(after)
            .find(|identifier| !self.outstanding.contains_key(identifier))
    }
}

impl Stack {
    /// Sends an echo request; [`Self::poll_pong`] tells what became of it.
    ///
    /// # Errors
    /// [`PingError`]; nothing was sent then.
    pub fn ping(&mut self, now: Instant, ping: Ping) -> Result<PingId, PingError> {
        let to = ping.to;
        if to.is_unspecified() || to.is_multicast() {
            return Err(PingError::NoRoute);
        }
        let from = self.route(to).map_err(|_| PingError::NoRoute)?;
        let header = wire::icmp_packet_len(to, 0);
        if header + ping.size > self.config.mtu {
            return Err(PingError::TooBig(self.config.mtu - header));
        }
        let identifier = self.pings.free_identifier().ok_or(PingError::TooMany)?;
        let id = PingId(self.pings.last + 1);
        let payload = self.ping_payload(id, ping.size);
        let local = self.addresses.is_local(to);
        let queue = if local {
            &mut self.loopback
        } else {
            &mut self.egress
        };
        if !queue.has_room() {
            return Err(PingError::QueueFull);
        }
        let (packet, kept) = queue.push(header + payload.len(), None);
        let message = Icmp {
            kind: if to.is_ipv4() { 8 } else { 128 },
            code: 0,
            word: u32::from(identifier) << 16 | u32::from(ping.sequence),
            body: &payload,
        };
        wire::write_icmp(packet, from, to, message);
        if !kept {
            return Err(PingError::QueueFull);
        }
        self.pings.last = id.0;
        self.pings.identifier = identifier;
        self.pings.outstanding.insert(
            identifier,
            Outstanding {
                id,
                to,
                sequence: ping.sequence,
                payload,
                sent: now,
                deadline: now + ping.timeout.min(LONGEST),
            },
        );
        Ok(id)
    }

    /// The next request that has come to its end.
    pub fn poll_pong(&mut self) -> Option<Pong> {
        self.pings.outcomes.pop_front()
    }

    /// Eight bytes nobody else can know, then a pattern.
    fn ping_payload(&self, id: PingId, size: usize) -> Vec<u8> {
        let nonce = self.secrets.nonce(id.0).to_be_bytes();
        (0_u8..=u8::MAX)
            .cycle()
            .take(size)
            .enumerate()
            .map(|(at, pattern)| {
                nonce
                    .get(at)
                    .copied()
                    .filter(|_| at < NONCE)
                    .unwrap_or(pattern)
            })
            .collect()
    }
}

/// Identifier and sequence number.
fn halves(word: u32) -> (u16, u16) {
    let [a, b, c, d] = word.to_be_bytes();
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

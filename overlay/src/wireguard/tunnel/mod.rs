// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One tunnel to one peer: WireGuard's protocol as a state machine. To be read beside the WireGuard paper, sections 5 and 6.
//!
//! Storage: the peer's keys, at most one handshake of our own under way ([`Attempt`]), three [`Sessions`], five
//! [`Timers`], and packets that wait for a session.
//!
//! A tunnel never sends by itself. Inputs set what is wanted (an initiation, a response, a keepalive) and
//! [`Tunnel::poll`] makes the messages one by one; an initiation is therefore as fresh as its sending. What is wanted
//! is one of each kind, so nothing an attacker sends can pile up.
//!
//! Handshake: data without a session, an old session or an unanswered packet begins an attempt; its initiation is repeated every
//! five seconds until a response, until the peer's own handshake is confirmed, or until 90 seconds after the last packet that
//! wanted it. Our attempt and the peer's run beside each other: whichever completes last gives the session to send with, and
//! both decrypt.
//!
//! Endpoint: any authenticated message moves it to where it came from. A cookie reply does not, it authenticates nobody.

mod incoming;
mod outgoing;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Env;
use super::cookie::Signer;
use super::handshake::{Initiated, Remote, Timestamp};
use super::index::IndexTable;
use super::messages::{RESPONSE_LEN, Reserved};
use super::session::{Session, Sessions};
use super::timers::{REKEY_ATTEMPT_TIME, REKEY_TIMEOUT, Timer, Timers, WIPE_AFTER_TIME};
use crate::event::{DropReason, Drops};
use crate::key::PresharedKey;
use crate::peer::PeerId;

/// Why a packet was not sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NotSealed {
    NoEndpoint,
    /// The path carries this many bytes.
    TooLarge(usize),
    Staged,
}

/// A handshake of our own under way.
struct Attempt {
    /// When the last thing happened that wants it; it is given up [`REKEY_ATTEMPT_TIME`] later.
    since: Instant,
    /// An initiation is to be sent at the next poll.
    due: bool,
    /// The last initiation sent, which may be answered until the next replaces it.
    sent: Option<Box<Initiated>>,
}

/// See the module.
pub(crate) struct Tunnel {
    remote: Remote,
    signer: Signer,
    endpoint: Option<SocketAddr>,
    /// The endpoint is where the peer was heard from, not what the configuration says.
    endpoint_learned: bool,
    persistent_keepalive: Option<Duration>,
    attempt: Option<Attempt>,
    last_initiation_sent: Option<Instant>,
    last_timestamp_sent: Option<Timestamp>,
    last_initiation_received: Option<Instant>,
    last_timestamp_received: Option<Timestamp>,
    sessions: Sessions,
    timers: Timers,
    /// A response to send at the next poll.
    response: Option<Box<[u8; RESPONSE_LEN]>>,
    /// An empty packet is to be sent unless another goes first.
    keepalive: bool,
    staged: VecDeque<Vec<u8>>,
    /// Initiations sent since the peer was last heard.
    unanswered: u32,
    /// Bytes after the type of our messages; the peer's have these or zeros.
    reserved: Reserved,
    /// Bytes of the largest IP packet that the path to the peer carries, and until when that is believed.
    path: Option<(usize, Instant)>,
    last_handshake: Option<Duration>,
    /// Handshakes completed.
    handshakes: u64,
    rx_bytes: u64,
    tx_bytes: u64,
    /// Most peers never make us throw anything away.
    drops: Option<Box<Drops>>,
}

impl Tunnel {
    pub(crate) fn new(remote: Remote) -> Self {
        Self {
            signer: Signer::new(&remote.public),
            remote,
            endpoint: None,
            endpoint_learned: false,
            persistent_keepalive: None,
            attempt: None,
            last_initiation_sent: None,
            last_timestamp_sent: None,
            last_initiation_received: None,
            last_timestamp_received: None,
            sessions: Sessions::default(),
            timers: Timers::default(),
            response: None,
            keepalive: false,
            staged: VecDeque::new(),
            unanswered: 0,
            reserved: Reserved::default(),
            path: None,
            last_handshake: None,
            handshakes: 0,
            rx_bytes: 0,
            tx_bytes: 0,
            drops: None,
        }
    }

    // Configuration and status

    pub(crate) fn remote(&self) -> &Remote {
        &self.remote
    }

    pub(crate) fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
    }

    pub(crate) fn set_endpoint(&mut self, endpoint: SocketAddr) {
        if self.endpoint != Some(endpoint) {
            self.path = None;
        }
        self.endpoint = Some(endpoint);
        self.endpoint_learned = false;
    }

    /// Whether the endpoint is where the peer was heard from.
    pub(crate) fn endpoint_learned(&self) -> bool {
        self.endpoint_learned
    }

    pub(crate) fn set_reserved(&mut self, reserved: Reserved) {
        self.reserved = reserved;
    }

    /// Bytes the peer's messages may have after the type, beside zeros.
    pub(crate) fn reserved(&self) -> Reserved {
        self.reserved
    }

    /// The path carries IP packets of at most `limit` bytes until `until`.
    pub(crate) fn set_path(&mut self, limit: usize, until: Instant) {
        self.path = Some((limit, until));
    }

    /// The greatest timestamp among the peer's initiations.
    pub(crate) fn timestamp_received(&self) -> Option<Timestamp> {
        self.last_timestamp_received
    }

    /// The greatest timestamp that an earlier life has seen.
    pub(crate) fn restore_timestamp(&mut self, timestamp: Timestamp) {
        self.last_timestamp_received = self.last_timestamp_received.max(Some(timestamp));
    }

    /// Initiations that were not answered since the peer was last heard.
    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Packets that wait for a session.
    pub(crate) fn waiting(&self) -> usize {
        self.staged.len()
    }

    /// Notes that something from or for the peer was thrown away. The overlay counts it as well.
    pub(crate) fn count_drop(&mut self, reason: DropReason, count: usize) {
        if count > 0 {
            self.drops
                .get_or_insert_with(|| Box::new(Drops::new()))
                .add(reason, count);
        }
    }

    /// What was thrown away, by reason; only what was.
    pub(crate) fn drops(&self) -> Vec<(DropReason, u64)> {
        self.drops.as_ref().map_or_else(Vec::new, |drops| {
            drops.iter().filter(|(_, count)| *count > 0).collect()
        })
    }

    /// Takes effect with the next handshake.
    pub(crate) fn set_preshared(&mut self, preshared: PresharedKey) {
        self.remote.preshared = preshared;
    }

    pub(crate) fn persistent_keepalive(&self) -> Option<Duration> {
        self.persistent_keepalive
    }

    /// An interval begins with a keepalive, which makes a handshake if there is no session.
    pub(crate) fn set_persistent_keepalive(&mut self, now: Instant, interval: Option<Duration>) {
        self.persistent_keepalive = interval;
        self.timers.stop(Timer::PersistentKeepalive);
        if interval.is_some() {
            self.want_keepalive(now);
        }
    }

    /// There is a session to send with.
    pub(crate) fn can_send(&self, now: Instant) -> bool {
        self.sessions.can_send(now)
    }

    /// When the last handshake was completed, since 1970.
    pub(crate) fn last_handshake(&self) -> Option<Duration> {
        self.last_handshake
    }

    /// How many handshakes were completed.
    pub(crate) fn handshakes(&self) -> u64 {
        self.handshakes
    }

    /// Bytes of authenticated datagrams received and of datagrams sent.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.rx_bytes, self.tx_bytes)
    }

    /// Gives back all indices and forgets all keys.
    pub(crate) fn clear(&mut self, indices: &mut IndexTable<PeerId>) {
        self.end_attempt(indices);
        self.sessions.clear(indices);
    }

    // Time

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Handles the timers that are due; harmless if none is.
    pub(crate) fn handle_timeout(&mut self, env: &mut Env<'_>) {
        while let Some(timer) = self.timers.expired(env.now) {
            match timer {
                Timer::Retry => self.retry(env),
                Timer::PassiveKeepalive => self.want_keepalive(env.now),
                Timer::Unanswered => self.want_handshake(env.now, false),
                Timer::Wipe => self.sessions.clear(env.indices),
                Timer::PersistentKeepalive => self.want_keepalive(env.now),
            }
        }
    }

    fn retry(&mut self, env: &mut Env<'_>) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if env.now.saturating_duration_since(attempt.since) < REKEY_ATTEMPT_TIME {
            attempt.due = true;
            return;
        }
        self.end_attempt(env.indices);
        let lost = std::mem::take(&mut self.staged).len();
        env.drops.add(DropReason::HandshakeTimeout, lost);
        self.count_drop(DropReason::HandshakeTimeout, lost);
        self.keepalive = false;
        self.timers.stop(Timer::PassiveKeepalive);
        self.timers.start(Timer::Wipe, || env.now + WIPE_AFTER_TIME);
        if let Some(interval) = self.persistent_keepalive {
            self.timers
                .start(Timer::PersistentKeepalive, || env.now + interval);
        }
    }

    // Wishes

    /// `by_user`: a packet waits for it, so an attempt under way goes on for its full time from now.
    fn want_handshake(&mut self, now: Instant, by_user: bool) {
        match &mut self.attempt {
            Some(attempt) if by_user => attempt.since = now,
            Some(_) => {}
            None => {
                let earliest = self
                    .last_initiation_sent
                    .map(|last| last + REKEY_TIMEOUT)
                    .filter(|earliest| *earliest > now);
                self.attempt = Some(Attempt {
                    since: now,
                    due: earliest.is_none(),
                    sent: None,
                });
                if let Some(earliest) = earliest {
                    self.timers.set(Timer::Retry, earliest);
                }
            }
        }
    }

    fn want_keepalive(&mut self, now: Instant) {
        if self.endpoint.is_none() {
            return;
        }
        self.keepalive = true;
        if !self.sessions.can_send(now) {
            self.want_handshake(now, false);
        }
    }

    // Events all messages share

    fn sent(&mut self, now: Instant, len: usize) {
        self.tx_bytes += len as u64;
        self.keepalive = false;
        self.timers.stop(Timer::PassiveKeepalive);
        self.traversed(now);
    }

    fn received(&mut self, now: Instant, from: SocketAddr, len: usize) {
        self.rx_bytes += len as u64;
        self.unanswered = 0;
        if self.endpoint != Some(from) {
            self.endpoint = Some(from);
            self.endpoint_learned = true;
            self.path = None;
        }
        self.timers.stop(Timer::Unanswered);
        self.traversed(now);
    }

    fn traversed(&mut self, now: Instant) {
        if let Some(interval) = self.persistent_keepalive {
            self.timers.set(Timer::PersistentKeepalive, now + interval);
        }
    }

    fn establish(&mut self, env: &mut Env<'_>, session: Session) {
        self.sessions.insert(session, env.indices);
        self.timers.set(Timer::Wipe, env.now + WIPE_AFTER_TIME);
    }

    /// A session to send with is agreed: our own attempt, if any, is over.
    fn complete(&mut self, env: &mut Env<'_>) {
        self.end_attempt(env.indices);
        self.last_handshake = Some(env.unix);
        self.handshakes += 1;
    }

    fn end_attempt(&mut self, indices: &mut IndexTable<PeerId>) {
        self.timers.stop(Timer::Retry);
        if let Some(sent) = self.attempt.take().and_then(|attempt| attempt.sent) {
            indices.release(sent.local_index);
        }
    }
}

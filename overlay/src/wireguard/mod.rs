// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One tunnel to one peer: WireGuard's protocol as a state machine. To be read beside the WireGuard paper, sections 5 and 6.
//!
//! Storage: the peer's keys, at most one handshake of our own under way ([`Attempt`]), three [`session::Sessions`], five
//! [`timers::Timers`], and packets that wait for a session.
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

pub(crate) mod cookie;
pub(crate) mod handshake;
pub(crate) mod index;
pub(crate) mod messages;
pub(crate) mod noise;
pub(crate) mod replay;
pub(crate) mod session;
pub(crate) mod timers;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::aead::{Forged, TAG_LEN};
use crate::event::{DropReason, Drops};
use crate::key::PresharedKey;
use crate::peer::PeerId;
use crate::random::Random;
use cookie::Signer;
use handshake::{Identity, Initiated, OpenedInitiation, Remote, Timestamp};
use index::IndexTable;
use messages::{CookieReply, KEEPALIVE_LEN, RESPONSE_LEN, Response, TRANSPORT_HEADER};
use session::{Role, Session, Sessions};
use timers::{
    INITIATION_INTERVAL, JITTER_MS, KEEPALIVE_TIMEOUT, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT, Timer,
    Timers, UNANSWERED_TIMEOUT, WIPE_AFTER_TIME,
};

/// Packets that may wait for a session; the oldest gives way.
const STAGE_LIMIT: usize = 128;
/// Plaintext is padded to a multiple of this.
const PADDING: usize = 16;

/// What a tunnel borrows from the overlay for one step.
pub(crate) struct Env<'a> {
    pub(crate) now: Instant,
    /// Time since 1970.
    pub(crate) unix: Duration,
    pub(crate) random: &'a mut Random,
    pub(crate) indices: &'a mut IndexTable<PeerId>,
    pub(crate) drops: &'a mut Drops,
    /// The peer this tunnel belongs to, as owner of its indices.
    pub(crate) owner: PeerId,
}

/// Bytes of the transport message that carries `packet_len` bytes: padded to 16, but not past the MTU.
pub(crate) const fn sealed_len(packet_len: usize, mtu: usize) -> usize {
    let limit = if mtu > packet_len { mtu } else { packet_len };
    let padded = packet_len.next_multiple_of(PADDING);
    TRANSPORT_HEADER + if padded < limit { padded } else { limit } + TAG_LEN
}

/// Why a packet was not sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NotSealed {
    NoEndpoint,
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
    last_handshake: Option<Duration>,
    rx_bytes: u64,
    tx_bytes: u64,
}

impl Tunnel {
    pub(crate) fn new(remote: Remote) -> Self {
        Self {
            signer: Signer::new(&remote.public),
            remote,
            endpoint: None,
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
            last_handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
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
        self.endpoint = Some(endpoint);
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

    /// When the last handshake was completed, since 1970.
    pub(crate) fn last_handshake(&self) -> Option<Duration> {
        self.last_handshake
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

    // Packets out

    /// Seals the packet of `len` bytes that stands behind the header in `message`, or keeps a copy until it can be.
    /// `message` is exactly as long as the sealed packet.
    pub(crate) fn encapsulate(
        &mut self,
        env: &mut Env<'_>,
        message: &mut [u8],
        len: usize,
    ) -> Result<SocketAddr, NotSealed> {
        let endpoint = self.endpoint.ok_or(NotSealed::NoEndpoint)?;
        let end = message.len() - TAG_LEN;
        message[TRANSPORT_HEADER + len..end].fill(0);
        // While older packets wait, newer ones wait behind them.
        if self.staged.is_empty() && self.seal(env, message) {
            return Ok(endpoint);
        }
        self.stage(env, message[TRANSPORT_HEADER..end].to_vec());
        if !self.sessions.can_send(env.now) {
            self.want_handshake(env.now, true);
        }
        Err(NotSealed::Staged)
    }

    /// Whether [`Self::poll`] has a message.
    pub(crate) fn has_output(&self, now: Instant) -> bool {
        let attempt_due = self.attempt.as_ref().is_some_and(|attempt| attempt.due);
        // Without a session and an attempt at one, a poll begins the attempt.
        let packet_due =
            self.has_packets() && (self.attempt.is_none() || self.sessions.can_send(now));
        self.endpoint.is_some() && (self.response.is_some() || attempt_due || packet_due)
    }

    /// Writes the next message to `out` (which is cleared) and returns where it goes.
    pub(crate) fn poll(
        &mut self,
        env: &mut Env<'_>,
        identity: &Identity,
        out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        let endpoint = self.endpoint?;
        out.clear();
        if let Some(response) = self.response.take() {
            out.extend_from_slice(&response[..]);
            self.tx_bytes += out.len() as u64;
            return Some(endpoint);
        }
        if self.has_packets() && !self.sessions.can_send(env.now) {
            // The session ended while they waited to be polled.
            self.want_handshake(env.now, false);
        }
        if self.attempt.as_ref().is_some_and(|attempt| attempt.due)
            && self.initiate(env, identity, out)
        {
            return Some(endpoint);
        }
        if !self.sessions.can_send(env.now) {
            return None;
        }
        match self.staged.pop_front() {
            Some(packet) => {
                out.resize(TRANSPORT_HEADER, 0);
                out.extend_from_slice(&packet);
                out.resize(TRANSPORT_HEADER + packet.len() + TAG_LEN, 0);
            }
            None if self.keepalive => out.resize(KEEPALIVE_LEN, 0),
            None => return None,
        }
        self.seal(env, out).then_some(endpoint)
    }

    fn has_packets(&self) -> bool {
        self.keepalive || !self.staged.is_empty()
    }

    fn stage(&mut self, env: &mut Env<'_>, padded: Vec<u8>) {
        if self.staged.len() >= STAGE_LIMIT {
            self.staged.pop_front();
            env.drops.count(DropReason::StageFull);
        }
        self.staged.push_back(padded);
    }

    /// Seals with the current session, if it still may send.
    fn seal(&mut self, env: &mut Env<'_>, message: &mut [u8]) -> bool {
        if !self.sessions.seal(env.now, message) {
            return false;
        }
        self.sent(env.now, message.len());
        if message.len() > KEEPALIVE_LEN {
            let random = &mut *env.random;
            self.timers.start(Timer::Unanswered, || {
                env.now + UNANSWERED_TIMEOUT + random.jitter(JITTER_MS)
            });
        }
        if self.sessions.age_on_send(env.now) {
            self.want_handshake(env.now, false);
        }
        true
    }

    /// Begins a handshake; the one under way, if any, can no longer be answered.
    fn initiate(&mut self, env: &mut Env<'_>, identity: &Identity, out: &mut Vec<u8>) -> bool {
        let Some(attempt) = &mut self.attempt else {
            return false;
        };
        attempt.due = false;
        if let Some(superseded) = attempt.sent.take() {
            env.indices.release(superseded.local_index);
        }
        let timestamp = Timestamp::after(self.last_timestamp_sent, env.unix);
        let index = env.indices.allocate(env.random, env.owner);
        let Ok((initiated, mut message)) =
            Initiated::start(identity, &self.remote, index, timestamp, env.random)
        else {
            // The peer's key was checked for this when it was configured.
            env.indices.release(index);
            return false;
        };
        attempt.sent = Some(Box::new(initiated));
        self.signer.sign(env.now, &mut message);
        self.last_timestamp_sent = Some(timestamp);
        self.last_initiation_sent = Some(env.now);
        self.timers.set(
            Timer::Retry,
            env.now + REKEY_TIMEOUT + env.random.jitter(JITTER_MS),
        );
        out.extend_from_slice(&message);
        self.sent(env.now, message.len());
        true
    }

    // Messages in. Each has the length of its kind, and handshakes a fitting mac1.

    /// An initiation that claims to be from this peer.
    pub(crate) fn handle_initiation(
        &mut self,
        env: &mut Env<'_>,
        from: SocketAddr,
        opened: OpenedInitiation,
    ) -> Result<(), DropReason> {
        let verified = opened.verify(&self.remote)?;
        if self
            .last_timestamp_received
            .is_some_and(|last| verified.timestamp <= last)
        {
            return Err(DropReason::OldInitiation);
        }
        if self
            .last_initiation_received
            .is_some_and(|last| env.now.saturating_duration_since(last) < INITIATION_INTERVAL)
        {
            return Err(DropReason::InitiationFlood);
        }
        self.last_timestamp_received = Some(verified.timestamp);
        self.last_initiation_received = Some(env.now);
        let remote_index = verified.remote_index();
        let local_index = env.indices.allocate(env.random, env.owner);
        let (mut response, keys) = match verified.respond(&self.remote, local_index, env.random) {
            Ok(responded) => responded,
            Err(low_order) => {
                env.indices.release(local_index);
                return Err(low_order.into());
            }
        };
        self.signer.sign(env.now, &mut response);
        self.received(env.now, from, messages::INITIATION_LEN);
        self.response = Some(Box::new(response));
        self.establish(
            env,
            Session::new(env.now, Role::Responder, local_index, remote_index, &keys),
        );
        // The bytes are counted when the response leaves.
        self.sent(env.now, 0);
        Ok(())
    }

    /// A response that names an index of ours.
    pub(crate) fn handle_response(
        &mut self,
        env: &mut Env<'_>,
        from: SocketAddr,
        identity: &Identity,
        response: &Response,
    ) -> Result<(), DropReason> {
        let sent = self.attempt.as_mut().and_then(|attempt| {
            attempt
                .sent
                .take_if(|sent| sent.local_index == response.receiver)
        });
        let sent = sent.ok_or(DropReason::UnknownIndex)?;
        let keys = match sent.finish(identity, &self.remote, response) {
            Ok(keys) => keys,
            Err(reason) => {
                // Whoever forged this must not stop the true response from being read.
                if let Some(attempt) = &mut self.attempt {
                    attempt.sent = Some(sent);
                }
                return Err(reason);
            }
        };
        self.received(env.now, from, RESPONSE_LEN);
        // The index passes from the handshake to the session.
        self.establish(
            env,
            Session::new(
                env.now,
                Role::Initiator,
                sent.local_index,
                response.sender,
                &keys,
            ),
        );
        self.complete(env);
        // The peer may not send before it hears from us.
        self.keepalive = true;
        Ok(())
    }

    /// A cookie for our last handshake message. It is used from the next on; nothing is sent for it now.
    pub(crate) fn handle_cookie_reply(
        &mut self,
        now: Instant,
        reply: &CookieReply,
    ) -> Result<(), Forged> {
        self.signer.accept(now, reply)
    }

    /// A transport message that names an index of ours. An empty payload is a keepalive.
    pub(crate) fn handle_transport<'b>(
        &mut self,
        env: &mut Env<'_>,
        from: SocketAddr,
        local_index: u32,
        message: &'b mut [u8],
    ) -> Result<&'b mut [u8], DropReason> {
        let len = message.len();
        let opened = self
            .sessions
            .open(env.now, local_index, message, env.indices)?;
        if opened.confirmed {
            self.complete(env);
        }
        self.received(env.now, from, len);
        if !opened.payload.is_empty() {
            self.timers
                .start(Timer::PassiveKeepalive, || env.now + KEEPALIVE_TIMEOUT);
        }
        if self.sessions.age_on_receive(env.now) {
            self.want_handshake(env.now, false);
        }
        Ok(opened.payload)
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
        env.drops
            .add(DropReason::HandshakeTimeout, self.staged.len());
        self.staged.clear();
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
        self.endpoint = Some(from);
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
    }

    fn end_attempt(&mut self, indices: &mut IndexTable<PeerId>) {
        self.timers.stop(Timer::Retry);
        if let Some(sent) = self.attempt.take().and_then(|attempt| attempt.sent) {
            indices.release(sent.local_index);
        }
    }
}

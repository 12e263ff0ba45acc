// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets and messages from us to the peer.

use std::net::SocketAddr;
use std::time::Instant;

use super::{NotSealed, Tunnel};
use crate::aead::TAG_LEN;
use crate::ecn::Ecn;
use crate::event::{DropReason, Mark, Outgoing};
use crate::wireguard::Env;
use crate::wireguard::handshake::{Identity, Initiated, Timestamp};
use crate::wireguard::messages::{KEEPALIVE_LEN, TRANSPORT_HEADER};
use crate::wireguard::timers::{JITTER_MS, REKEY_TIMEOUT, Timer, UNANSWERED_TIMEOUT};

/// Packets that may wait for a session; the oldest gives way.
const STAGE_LIMIT: usize = 128;

impl Tunnel {
    /// Seals the packet of `len` bytes that stands behind the header in `message`, or keeps a copy until it can be.
    /// `message` is exactly as long as the sealed packet.
    pub(crate) fn encapsulate(
        &mut self,
        env: &mut Env<'_>,
        message: &mut [u8],
        len: usize,
    ) -> Result<SocketAddr, NotSealed> {
        let Some(endpoint) = self.endpoint else {
            env.drops.count(DropReason::NoEndpoint);
            self.count_drop(DropReason::NoEndpoint, 1);
            return Err(NotSealed::NoEndpoint);
        };
        if let Some((limit, until)) = self.path {
            if env.now >= until {
                self.path = None;
            } else if len > limit {
                env.drops.count(DropReason::PathTooNarrow);
                self.count_drop(DropReason::PathTooNarrow, 1);
                return Err(NotSealed::TooLarge(limit));
            }
        }
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
    ) -> Option<Outgoing> {
        let to = self.endpoint?;
        out.clear();
        if let Some(response) = self.response.take() {
            out.extend_from_slice(&response[..]);
            self.reserved.write(out);
            self.tx_bytes += out.len() as u64;
            return Some(Outgoing {
                to,
                mark: Mark::Handshake,
            });
        }
        if self.has_packets() && !self.sessions.can_send(env.now) {
            // The session ended while they waited to be polled.
            self.want_handshake(env.now, false);
        }
        if self.attempt.as_ref().is_some_and(|attempt| attempt.due)
            && self.initiate(env, identity, out)
        {
            return Some(Outgoing {
                to,
                mark: Mark::Handshake,
            });
        }
        if !self.sessions.can_send(env.now) {
            return None;
        }
        let mut ecn = Ecn::NotEct;
        match self.staged.pop_front() {
            Some(packet) => {
                ecn = Ecn::of(&packet);
                out.resize(TRANSPORT_HEADER, 0);
                out.extend_from_slice(&packet);
                out.resize(TRANSPORT_HEADER + packet.len() + TAG_LEN, 0);
            }
            None if self.keepalive => out.resize(KEEPALIVE_LEN, 0),
            None => return None,
        }
        self.seal(env, out).then_some(Outgoing {
            to,
            mark: Mark::Data(ecn),
        })
    }

    fn has_packets(&self) -> bool {
        self.keepalive || !self.staged.is_empty()
    }

    fn stage(&mut self, env: &mut Env<'_>, padded: Vec<u8>) {
        if self.staged.len() >= STAGE_LIMIT {
            self.staged.pop_front();
            env.drops.count(DropReason::StageFull);
            self.count_drop(DropReason::StageFull, 1);
        }
        self.staged.push_back(padded);
    }

    /// Seals with the current session, if it still may send.
    fn seal(&mut self, env: &mut Env<'_>, message: &mut [u8]) -> bool {
        if !self.sessions.seal(env.now, message) {
            return false;
        }
        self.reserved.write(message);
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
        let timestamp = Timestamp::after(self.last_timestamp_sent, env.unix.max(*env.own_time));
        *env.own_time = timestamp.unix();
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
        // After the MACs, which are made as if the bytes were zero.
        self.reserved.write(&mut message);
        self.unanswered = self.unanswered.saturating_add(1);
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
}

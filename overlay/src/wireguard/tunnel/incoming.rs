// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Messages from the peer to us. Each has the length of its kind, and handshakes a fitting mac1.

use std::net::SocketAddr;
use std::time::Instant;

use super::Tunnel;
use crate::aead::Forged;
use crate::event::DropReason;
use crate::wireguard::Env;
use crate::wireguard::handshake::{Identity, OpenedInitiation};
use crate::wireguard::messages::{CookieReply, INITIATION_LEN, RESPONSE_LEN, Response};
use crate::wireguard::session::{Role, Session};
use crate::wireguard::timers::{INITIATION_INTERVAL, KEEPALIVE_TIMEOUT, Timer};

impl Tunnel {
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
        *env.timestamps_changed = true;
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
        self.received(env.now, from, INITIATION_LEN);
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
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The gate before handshakes: under load their senders must show a cookie, and then keep to their share.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use crate::event::{DropReason, Drops};
use crate::load::Load;
use crate::random::Random;
use crate::wireguard::cookie::{Baker, MacKeys};
use crate::wireguard::messages::COOKIE_REPLY_LEN;

/// Cookie replies that may wait: one batch of datagrams.
const MAX_REPLIES: usize = 64;

/// Decides which handshake messages are worth their arithmetic.
pub(super) struct Gate {
    load: Load,
    baker: Baker,
    /// At most [`MAX_REPLIES`]; further ones are dropped, their sender tries again.
    replies: VecDeque<(SocketAddr, [u8; COOKIE_REPLY_LEN])>,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            load: Load::default(),
            baker: Baker::new(),
            replies: VecDeque::new(),
        }
    }

    pub(super) fn force_load(&mut self, loaded: bool) {
        self.load.force(loaded);
    }

    /// Whether a handshake message, whose mac1 fits `keys`, may be handled. If not, a cookie may be on its way to the sender.
    pub(super) fn pass(
        &mut self,
        now: Instant,
        random: &mut Random,
        drops: &mut Drops,
        from: SocketAddr,
        keys: &MacKeys,
        message: &[u8],
    ) -> Result<(), DropReason> {
        if !self.load.on_handshake(now) {
            return Ok(());
        }
        if self.baker.mac2_fits(now, from, message) {
            return if self.load.admit(now, from) {
                Ok(())
            } else {
                Err(DropReason::SourceRate)
            };
        }
        if self.replies.len() >= MAX_REPLIES {
            drops.count(DropReason::CookieReplyQueueFull);
        } else if let Some(reply) = self.baker.reply(now, random, keys, from, message) {
            self.replies.push_back((from, reply.emit()));
        }
        Err(DropReason::CookieDemanded)
    }

    /// The next cookie reply to send.
    pub(super) fn pop_reply(&mut self) -> Option<(SocketAddr, [u8; COOKIE_REPLY_LEN])> {
        self.replies.pop_front()
    }
}

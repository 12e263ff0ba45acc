// SPDX-License-Identifier: Apache-2.0 OR MIT
//! WireGuard's protocol: its messages, and the tunnel to one peer as a state machine.

pub(crate) mod cookie;
pub(crate) mod handshake;
pub(crate) mod index;
#[cfg(test)]
mod known_answers;
pub(crate) mod messages;
pub(crate) mod noise;
pub(crate) mod replay;
pub(crate) mod session;
pub(crate) mod timers;
mod tunnel;

use std::time::{Duration, Instant};

use crate::aead::TAG_LEN;
use crate::event::Drops;
use crate::peer::PeerId;
use crate::random::Random;
use index::IndexTable;
use messages::TRANSPORT_HEADER;

pub(crate) use tunnel::{NotSealed, Tunnel};

/// Plaintext is padded to a multiple of this.
pub(crate) const PADDING: usize = 16;

/// What all tunnels of an overlay share.
pub(crate) struct Common {
    pub(crate) random: Random,
    pub(crate) indices: IndexTable<PeerId>,
    pub(crate) drops: Drops,
    /// The greatest time in an initiation of ours, since 1970; or what an earlier life has left.
    pub(crate) own_time: Duration,
    /// A timestamp worth remembering over a restart was seen.
    pub(crate) timestamps_changed: bool,
}

impl Common {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        Self {
            random: Random::new(seed),
            indices: IndexTable::new(),
            drops: Drops::new(),
            own_time: Duration::ZERO,
            timestamps_changed: false,
        }
    }

    /// For one step of the tunnel of `owner`.
    pub(crate) fn env(&mut self, now: Instant, unix: Duration, owner: PeerId) -> Env<'_> {
        Env {
            now,
            unix,
            random: &mut self.random,
            indices: &mut self.indices,
            drops: &mut self.drops,
            own_time: &mut self.own_time,
            timestamps_changed: &mut self.timestamps_changed,
            owner,
        }
    }
}

/// What a tunnel borrows from the overlay for one step.
pub(crate) struct Env<'a> {
    pub(crate) now: Instant,
    /// Time since 1970.
    pub(crate) unix: Duration,
    pub(crate) random: &'a mut Random,
    pub(crate) indices: &'a mut IndexTable<PeerId>,
    pub(crate) drops: &'a mut Drops,
    pub(crate) own_time: &'a mut Duration,
    pub(crate) timestamps_changed: &'a mut bool,
    /// The peer this tunnel belongs to, as owner of its indices.
    pub(crate) owner: PeerId,
}

/// Bytes of the transport message that carries `packet_len` bytes: padded to 16, but not past the MTU.
pub(crate) const fn sealed_len(packet_len: usize, mtu: usize) -> usize {
    let limit = if mtu > packet_len { mtu } else { packet_len };
    let padded = packet_len.next_multiple_of(PADDING);
    TRANSPORT_HEADER + if padded < limit { padded } else { limit } + TAG_LEN
}

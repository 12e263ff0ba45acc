// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table of all peers of all networks.

use std::time::Instant;

use crate::overlay::NetworkIndex;
use crate::routes::IpPrefix;
use crate::wireguard::Tunnel;

/// Peers one overlay can have.
pub(crate) const MAX_PEERS: usize = 1 << 20;

/// Name of a peer for the lifetime of the overlay: a slot may be used again, its generation is not.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct PeerId {
    slot: u32,
    generation: u32,
}

/// One peer of one network.
pub(crate) struct Peer {
    pub(crate) network: NetworkIndex,
    pub(crate) tunnel: Tunnel,
    /// Prefixes given to it; another peer may have got them since.
    pub(crate) allowed_ips: Vec<IpPrefix>,
    /// It is in the agenda's queue of peers with something to send.
    pub(crate) is_ready: bool,
    /// It is in the overlay's queue of peers that go unanswered.
    pub(crate) is_missed: bool,
    /// Its entry in the agenda's heap of deadlines that counts; others are left-overs.
    pub(crate) scheduled: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(network: NetworkIndex, tunnel: Tunnel) -> Self {
        Self {
            network,
            tunnel,
            allowed_ips: Vec::new(),
            is_ready: false,
            is_missed: false,
            scheduled: None,
        }
    }
}

/// Peers by [`PeerId`].
#[derive(Default)]
pub(crate) struct Peers {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    peer: Option<Box<Peer>>,
}

impl Peers {
    /// `None` at the limit of peers.
    pub(crate) fn insert(&mut self, peer: Peer) -> Option<PeerId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < MAX_PEERS => {
                self.slots.push(Slot::default());
                u32::try_from(self.slots.len() - 1).ok()?
            }
            None => return None,
        };
        let place = &mut self.slots[slot as usize];
        place.peer = Some(Box::new(peer));
        Some(PeerId {
            slot,
            generation: place.generation,
        })
    }

    pub(crate) fn get(&self, id: PeerId) -> Option<&Peer> {
        self.slots
            .get(id.slot as usize)
            .filter(|slot| slot.generation == id.generation)?
            .peer
            .as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.slots
            .get_mut(id.slot as usize)
            .filter(|slot| slot.generation == id.generation)?
            .peer
            .as_deref_mut()
    }

    pub(crate) fn remove(&mut self, id: PeerId) -> Option<Box<Peer>> {
        let slot = self
            .slots
            .get_mut(id.slot as usize)
            .filter(|slot| slot.generation == id.generation)?;
        let peer = slot.peer.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(peer)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.slots
            .iter_mut()
            .filter_map(|slot| slot.peer.as_deref_mut())
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which peers have something to send, and which need attention when.
//!
//! Deadlines change with nearly every packet, mostly to later. The heap is therefore lazy: a peer has one entry that counts,
//! pushed only when its deadline becomes earlier than that; entries that fire too early are pushed again. The cost is
//! O(log n) for a deadline that fires and none for one that moves back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Instant;

use crate::peer::{Peer, PeerId, Peers};

/// Left-over entries per peer before the heap is built anew.
const LEFT_OVERS: usize = 4;

#[derive(Default)]
pub(crate) struct Agenda {
    /// Each peer at most once, marked by `is_ready`.
    ready: VecDeque<PeerId>,
    deadlines: BinaryHeap<Reverse<(Instant, PeerId)>>,
    /// Peers looked at so far.
    looked: u64,
}

impl Agenda {
    /// To be called whenever a peer's tunnel has done anything.
    pub(crate) fn settle(&mut self, now: Instant, id: PeerId, peer: &mut Peer) {
        self.looked += 1;
        if !peer.is_ready && peer.tunnel.has_output(now) {
            peer.is_ready = true;
            self.ready.push_back(id);
        }
        if let Some(deadline) = peer.tunnel.next_deadline()
            && peer.scheduled.is_none_or(|scheduled| deadline < scheduled)
        {
            peer.scheduled = Some(deadline);
            self.deadlines.push(Reverse((deadline, id)));
        }
    }

    /// Takes a peer that has, or had, something to send. It is to be settled again.
    pub(crate) fn pop_ready(&mut self, peers: &mut Peers) -> Option<PeerId> {
        loop {
            let id = self.ready.pop_front()?;
            self.looked += 1;
            // Peers may have been removed since.
            if let Some(peer) = peers.get_mut(id) {
                peer.is_ready = false;
                return Some(id);
            }
        }
    }

    /// Takes a peer whose deadline may have come. It is to be settled again.
    pub(crate) fn pop_due(&mut self, now: Instant, peers: &mut Peers) -> Option<PeerId> {
        self.compact(peers);
        loop {
            let Reverse((deadline, id)) = *self.deadlines.peek()?;
            if deadline > now {
                return None;
            }
            self.deadlines.pop();
            self.looked += 1;
            if let Some(peer) = peers.get_mut(id)
                && peer.scheduled == Some(deadline)
            {
                peer.scheduled = None;
                return Some(id);
            }
        }
    }

    /// When [`Self::pop_due`] may have something next: never too late, sometimes too early.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines
            .peek()
            .map(|Reverse((deadline, _))| *deadline)
    }

    pub(crate) fn looked(&self) -> u64 {
        self.looked
    }

    /// Keeps left-overs, of peers removed too, from piling up.
    fn compact(&mut self, peers: &Peers) {
        if self.deadlines.len() > LEFT_OVERS * (peers.len() + 16) {
            self.deadlines.retain(|Reverse((deadline, id))| {
                peers
                    .get(*id)
                    .is_some_and(|peer| peer.scheduled == Some(*deadline))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::key::{PresharedKey, PrivateKey};
    use crate::overlay::NetworkIndex;
    use crate::testing::origin;
    use crate::wireguard::Tunnel;
    use crate::wireguard::handshake::{Identity, Remote};

    fn peer() -> Peer {
        let identity = Identity::new(&PrivateKey::from_random([1; 32]));
        let other = PrivateKey::from_random([2; 32]).public();
        let remote = Remote::new(&identity, other, PresharedKey::absent()).unwrap();
        let mut tunnel = Tunnel::new(remote);
        tunnel.set_endpoint("192.0.2.1:1".parse().unwrap());
        Peer::new(NetworkIndex(0), tunnel)
    }

    #[test]
    fn a_peer_is_ready_once() {
        let now = origin();
        let (mut agenda, mut peers) = (Agenda::default(), Peers::default());
        let ids = [0, 1].map(|_| peers.insert(peer()).unwrap());
        for _ in 0..10 {
            for id in ids {
                let peer = peers.get_mut(id).unwrap();
                peer.tunnel
                    .set_persistent_keepalive(now, Some(Duration::from_secs(25)));
                agenda.settle(now, id, peer);
            }
        }
        peers.remove(ids[0]);
        assert_eq!(
            agenda.pop_ready(&mut peers),
            Some(ids[1]),
            "removed peers are skipped"
        );
        assert_eq!(agenda.pop_ready(&mut peers), None);
    }

    #[test]
    fn a_slot_used_again_is_another_peer() {
        let mut peers = Peers::default();
        let first = peers.insert(peer()).unwrap();
        assert!(peers.remove(first).is_some());
        let second = peers.insert(peer()).unwrap();
        assert_ne!(first, second);
        assert!(peers.get(first).is_none() && peers.remove(first).is_none());
        assert!(peers.get(second).is_some());
        assert_eq!(peers.len(), 1);
    }

    #[test]
    fn left_overs_do_not_pile_up() {
        let now = origin();
        let (mut agenda, mut peers) = (Agenda::default(), Peers::default());
        for round in 0..200u64 {
            let id = peers.insert(peer()).unwrap();
            agenda
                .deadlines
                .push(Reverse((now + Duration::from_secs(1000 + round), id)));
            peers.remove(id);
            assert_eq!(agenda.pop_due(now, &mut peers), None);
            assert!(agenda.deadlines.len() <= LEFT_OVERS * 17);
        }
    }
}

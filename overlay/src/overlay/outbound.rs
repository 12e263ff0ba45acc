// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets and messages on their way to the peers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{MISSED_AGAIN, MISSED_FIRST, NetworkIndex, Overlay};
use crate::ecn::Ecn;
use crate::event::{Mark, NotSent, Outgoing, Sealed};
use crate::ip::Header;
use crate::wireguard::{NotSealed, sealed_len};

impl Overlay {
    /// Seals an IP packet for the peer its destination belongs to, in place.
    ///
    /// The packet is `buf[HEADROOM..HEADROOM + len]`; `buf` has at least [`Self::sealed_len`] bytes. Only when the packet must wait
    /// for a handshake is it copied: a peer keeps up to 128 such packets, the oldest gives way. Call [`Self::poll_transmit`]
    /// afterwards.
    ///
    /// # Errors
    /// See [`NotSent`]; nothing is to be sent then.
    pub fn encapsulate(
        &mut self,
        now: Instant,
        unix: Duration,
        network: NetworkIndex,
        buf: &mut [u8],
        len: usize,
    ) -> Result<Sealed, NotSent> {
        let network = self.networks.get(&network).ok_or(NotSent::Invalid)?;
        if len > network.mtu {
            return Err(NotSent::Invalid);
        }
        let message = buf
            .get_mut(..sealed_len(len, network.mtu))
            .ok_or(NotSent::Invalid)?;
        let header = Header::parse(&message[Self::HEADROOM..Self::HEADROOM + len])
            .ok_or(NotSent::Invalid)?;
        // What followed the packet would reach the peer as padding that is not zero.
        if header.total_len != len {
            return Err(NotSent::Invalid);
        }
        let id = network
            .routes
            .lookup(header.destination)
            .ok_or(NotSent::NoRoute)?;
        let peer = self.peers.get_mut(id).expect("routes name live peers only");
        let ecn = Ecn::of(&message[Self::HEADROOM..]);
        let mut env = self.common.env(now, unix, id);
        let sealed = peer.tunnel.encapsulate(&mut env, message, len);
        self.agenda.settle(now, id, peer);
        match sealed {
            Ok(to) => Ok(Sealed {
                len: message.len(),
                to,
                ecn,
            }),
            Err(NotSealed::TooLarge(mtu)) => Err(NotSent::TooLarge { mtu }),
            Err(NotSealed::NoEndpoint) => Err(NotSent::NoEndpoint),
            Err(NotSealed::Staged) => Err(NotSent::Queued),
        }
    }

    /// [`Self::poll_datagram`] for a caller that marks nothing: where the datagram goes.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        unix: Duration,
        out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        self.poll_datagram(now, unix, out)
            .map(|outgoing| outgoing.to)
    }

    /// Writes the next datagram to send into `out` (replacing what is there) and returns where it goes and how it is marked:
    /// handshakes, keepalives and packets that waited. To be called until it returns `None`, after every call that may want to
    /// send.
    pub fn poll_datagram(
        &mut self,
        now: Instant,
        unix: Duration,
        out: &mut Vec<u8>,
    ) -> Option<Outgoing> {
        if let Some((to, reply)) = self.gate.pop_reply() {
            out.clear();
            out.extend_from_slice(&reply);
            return Some(Outgoing {
                to,
                mark: Mark::Handshake,
            });
        }
        while let Some(id) = self.agenda.pop_ready(&mut self.peers) {
            let Some(peer) = self.peers.get_mut(id) else {
                continue;
            };
            let Some(network) = self.networks.get(&peer.network) else {
                continue;
            };
            let mut env = self.common.env(now, unix, id);
            let before = peer.tunnel.unanswered();
            let sent = peer.tunnel.poll(&mut env, &network.identity, out);
            let count = peer.tunnel.unanswered();
            if count != before && count % MISSED_AGAIN == MISSED_FIRST && !peer.is_missed {
                peer.is_missed = true;
                self.missed.push_back(id);
            }
            // Behind the others again, so that one peer's waiting packets do not hold up another's handshake.
            self.agenda.settle(now, id, peer);
            if sent.is_some() {
                return sent;
            }
        }
        None
    }
}

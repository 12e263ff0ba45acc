// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Datagrams from the network: hostile until a MAC says otherwise, and treated with care after that.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Overlay;
use crate::ecn::{Ecn, carry_in};
use crate::event::{DropReason, Received};
use crate::ip::Header;
use crate::peer::PeerId;
use crate::wireguard::Tunnel;
use crate::wireguard::handshake::OpenedInitiation;
use crate::wireguard::messages::{
    COOKIE_REPLY_LEN, CookieReply, INITIATION_LEN, Initiation, Kind, RESPONSE_LEN, Reserved,
    Response, TRANSPORT_HEADER, TransportHeader,
};

impl Overlay {
    /// [`Self::handle_marked`] for a datagram that arrived without a congestion mark.
    pub fn handle_datagram<'b>(
        &mut self,
        now: Instant,
        unix: Duration,
        from: SocketAddr,
        buf: &'b mut [u8],
    ) -> Received<'b> {
        self.handle_marked(now, unix, from, Ecn::NotEct, buf)
    }

    /// Handles one UDP datagram, which is `buf`, and decrypts it in place. `ecn` is the mark of its IP header. Call
    /// [`Self::poll_datagram`] afterwards.
    pub fn handle_marked<'b>(
        &mut self,
        now: Instant,
        unix: Duration,
        from: SocketAddr,
        ecn: Ecn,
        buf: &'b mut [u8],
    ) -> Received<'b> {
        // Where no peer has agreed on reserved bytes, those that are not zero make it no message.
        let reserved = if self.reserving > 0 {
            Reserved::take(buf)
        } else {
            Reserved::default()
        };
        let kind = match Kind::of(buf) {
            Ok(kind) => kind,
            Err(reason) => return self.dropped(reason),
        };
        let handled = match kind {
            Kind::Transport => {
                return self.handle_transport(
                    now,
                    unix,
                    Arrival {
                        from,
                        ecn,
                        reserved,
                    },
                    buf,
                );
            }
            Kind::Initiation => self.handle_initiation(now, unix, from, reserved, buf),
            Kind::Response => self.handle_response(now, unix, from, reserved, buf),
            Kind::CookieReply => self.handle_cookie_reply(now, reserved, buf),
        };
        match handled {
            Ok(()) => Received::Handled,
            Err(reason) => self.dropped(reason),
        }
    }

    fn dropped<'b>(&mut self, reason: DropReason) -> Received<'b> {
        self.common.drops.count(reason);
        Received::Dropped(reason)
    }

    fn dropped_of<'b>(&mut self, id: PeerId, reason: DropReason) -> Received<'b> {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.tunnel.count_drop(reason, 1);
        }
        self.dropped(reason)
    }

    fn handle_initiation(
        &mut self,
        now: Instant,
        unix: Duration,
        from: SocketAddr,
        reserved: Reserved,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let bytes: &[u8; INITIATION_LEN] =
            datagram.try_into().map_err(|_| DropReason::WrongLength)?;
        let network = self
            .networks
            .values()
            .find(|network| network.identity.mac_keys.mac1_fits(bytes));
        let network = network.ok_or(DropReason::WrongMac1)?;
        self.gate.pass(
            now,
            &mut self.common.random,
            &mut self.common.drops,
            from,
            &network.identity.mac_keys,
            bytes,
        )?;
        let opened = OpenedInitiation::open(&network.identity, Initiation::parse(bytes))?;
        let id = *network
            .peers
            .get(&opened.claimed)
            .ok_or(DropReason::UnknownPeer)?;
        let peer = self
            .peers
            .get_mut(id)
            .expect("a network names live peers only");
        let mut env = self.common.env(now, unix, id);
        let tunnel = &mut peer.tunnel;
        let handled = agreed(tunnel, reserved)
            .and_then(|()| tunnel.handle_initiation(&mut env, from, opened));
        self.agenda.settle(now, id, peer);
        // Who sent it is a claim only, but the peer's person wants to know of it.
        handled.inspect_err(|reason| peer.tunnel.count_drop(*reason, 1))
    }

    fn handle_response(
        &mut self,
        now: Instant,
        unix: Duration,
        from: SocketAddr,
        reserved: Reserved,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let bytes: &[u8; RESPONSE_LEN] =
            datagram.try_into().map_err(|_| DropReason::WrongLength)?;
        let response = Response::parse(bytes);
        let id = self
            .common
            .indices
            .owner(response.receiver)
            .ok_or(DropReason::UnknownIndex)?;
        let peer = self.peers.get_mut(id).ok_or(DropReason::UnknownIndex)?;
        let network = self
            .networks
            .get(&peer.network)
            .ok_or(DropReason::UnknownIndex)?;
        if !network.identity.mac_keys.mac1_fits(bytes) {
            return Err(DropReason::WrongMac1);
        }
        self.gate.pass(
            now,
            &mut self.common.random,
            &mut self.common.drops,
            from,
            &network.identity.mac_keys,
            bytes,
        )?;
        let mut env = self.common.env(now, unix, id);
        let tunnel = &mut peer.tunnel;
        let handled = agreed(tunnel, reserved)
            .and_then(|()| tunnel.handle_response(&mut env, from, &network.identity, &response));
        self.agenda.settle(now, id, peer);
        handled.inspect_err(|reason| peer.tunnel.count_drop(*reason, 1))
    }

    fn handle_cookie_reply(
        &mut self,
        now: Instant,
        reserved: Reserved,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let bytes: &[u8; COOKIE_REPLY_LEN] =
            datagram.try_into().map_err(|_| DropReason::WrongLength)?;
        let reply = CookieReply::parse(bytes);
        let id = self
            .common
            .indices
            .owner(reply.receiver)
            .ok_or(DropReason::UnknownIndex)?;
        let peer = self.peers.get_mut(id).ok_or(DropReason::UnknownIndex)?;
        let tunnel = &mut peer.tunnel;
        agreed(tunnel, reserved)
            .and_then(|()| Ok(tunnel.handle_cookie_reply(now, &reply)?))
            .inspect_err(|reason| tunnel.count_drop(*reason, 1))
    }

    fn handle_transport<'b>(
        &mut self,
        now: Instant,
        unix: Duration,
        arrival: Arrival,
        message: &'b mut [u8],
    ) -> Received<'b> {
        let Some(header) = message.first_chunk::<TRANSPORT_HEADER>() else {
            return self.dropped(DropReason::WrongLength);
        };
        let receiver = TransportHeader::parse(header).receiver;
        let Some(id) = self.common.indices.owner(receiver) else {
            return self.dropped(DropReason::UnknownIndex);
        };
        let Some(peer) = self.peers.get_mut(id) else {
            return self.dropped(DropReason::UnknownIndex);
        };
        let mut env = self.common.env(now, unix, id);
        let tunnel = &mut peer.tunnel;
        let opened = agreed(tunnel, arrival.reserved)
            .and_then(|()| tunnel.handle_transport(&mut env, arrival.from, receiver, message));
        self.agenda.settle(now, id, peer);
        let (network, public_key) = (peer.network, peer.tunnel.remote().public);
        let payload = match opened {
            Ok([]) => return Received::Handled,
            Ok(payload) => payload,
            Err(reason) => return self.dropped_of(id, reason),
        };
        let Some(header) = Header::parse(payload) else {
            return self.dropped_of(id, DropReason::NotIp);
        };
        let owner = self
            .networks
            .get(&network)
            .and_then(|network| network.routes.lookup(header.source));
        if owner != Some(id) {
            return self.dropped_of(id, DropReason::ForbiddenSource);
        }
        let packet = &mut payload[..header.total_len];
        if let Err(reason) = carry_in(arrival.ecn, packet) {
            return self.dropped_of(id, reason);
        }
        Received::Packet {
            network,
            peer: public_key,
            packet,
        }
    }
}

/// How a datagram came.
#[derive(Clone, Copy)]
struct Arrival {
    from: SocketAddr,
    ecn: Ecn,
    reserved: Reserved,
}

/// Whether a peer may use these reserved bytes.
fn agreed(tunnel: &Tunnel, reserved: Reserved) -> Result<(), DropReason> {
    if reserved.is_zero() || reserved == tunnel.reserved() {
        Ok(())
    } else {
        Err(DropReason::ReservedBytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NetworkIndex, PeerConfig};
    use super::*;
    use crate::key::PrivateKey;
    use crate::testing::origin;

    const UNIX: Duration = Duration::from_secs(1_700_000_000);

    /// Two overlays with a session that side 0 may send with.
    fn connected(now: Instant, addr: SocketAddr) -> [Overlay; 2] {
        let keys = [1, 2].map(|byte| PrivateKey::from_random([byte; 32]));
        let mut sides = [Overlay::new([1; 32]), Overlay::new([2; 32])];
        for (here, there) in [(0, 1), (1, 0)] {
            sides[here]
                .add_network(NetworkIndex(0), keys[here].clone(), 1420)
                .unwrap();
            let config = PeerConfig {
                public_key: keys[there].public(),
                preshared_key: None,
                endpoint: Some(addr),
                allowed_ips: vec!["0.0.0.0/0".parse().unwrap()],
                persistent_keepalive: (here == 0).then_some(25),
                reserved: [0; 3],
            };
            sides[here].set_peer(now, NetworkIndex(0), config).unwrap();
        }
        let mut out = Vec::new();
        for (here, there) in [(0, 1), (1, 0), (0, 1)] {
            assert!(sides[here].poll_transmit(now, UNIX, &mut out).is_some());
            let received = sides[there].handle_datagram(now, UNIX, addr, &mut out);
            assert!(matches!(received, Received::Handled));
        }
        sides
    }

    /// Seals what `encapsulate` would refuse, without padding: a peer's software need not be ours.
    fn seal(side: &mut Overlay, now: Instant, plain: &[u8]) -> Vec<u8> {
        let mut message = vec![0; TRANSPORT_HEADER];
        message.extend_from_slice(plain);
        message.extend_from_slice(&[0; 16]);
        let id = *side.networks[&NetworkIndex(0)]
            .peers
            .values()
            .next()
            .unwrap();
        let peer = side.peers.get_mut(id).unwrap();
        let mut env = side.common.env(now, UNIX, id);
        assert!(
            peer.tunnel
                .encapsulate(&mut env, &mut message, plain.len())
                .is_ok()
        );
        message
    }

    #[test]
    fn case_12_what_is_sealed_is_one_ip_packet_padded_or_not() {
        let (now, addr) = (origin(), "192.0.2.1:1".parse().unwrap());
        let mut sides = connected(now, addr);
        let mut packet = [0; 40];
        packet[0] = 0x45;
        let with_len = |len: u8| {
            let mut packet = packet;
            packet[3] = len;
            packet
        };
        let whole = with_len(40);
        let cases: [(&[u8], Option<usize>); 9] = [
            (&[0], None),
            (&[0x45], None),
            (&[0x45; 19], None),
            (&with_len(0), None),
            (&with_len(19), None),
            (&with_len(41), None),
            (&[0x65; 39], None),
            (&with_len(20), Some(20)),
            (&whole, Some(40)),
        ];
        for (plain, expected) in cases {
            let mut message = seal(&mut sides[0], now, plain);
            let len = match sides[1].handle_datagram(now, UNIX, addr, &mut message) {
                Received::Packet { packet, .. } => Some(packet.len()),
                Received::Dropped(DropReason::NotIp) => None,
                other @ (Received::Handled | Received::Dropped(_)) => panic!("{other:?}"),
            };
            assert_eq!(len, expected);
        }
        // No allowed IP holds an IPv6 source.
        let mut message = seal(
            &mut sides[0],
            now,
            &[&[0x60, 0, 0, 0, 0, 0][..], &[0; 34]].concat(),
        );
        let received = sides[1].handle_datagram(now, UNIX, addr, &mut message);
        assert!(matches!(
            received,
            Received::Dropped(DropReason::ForbiddenSource)
        ));
    }

    #[test]
    fn the_largest_datagram_udp_can_carry_opens() {
        let (now, addr) = (origin(), "192.0.2.1:1".parse().unwrap());
        let mut sides = connected(now, addr);
        let mut plain = vec![0; 65_507 - 32];
        plain[..4].copy_from_slice(&[0x45, 0, 0xFF, 0xC3]);
        let mut message = seal(&mut sides[0], now, &plain);
        let received = sides[1].handle_datagram(now, UNIX, addr, &mut message);
        assert!(matches!(received, Received::Packet { packet, .. } if packet.len() == 65_475));
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Datagrams from the network: hostile until a MAC says otherwise, and treated with care after that.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Overlay;
use crate::event::{DropReason, Received};
use crate::ip::Header;
use crate::wireguard::Env;
use crate::wireguard::handshake::OpenedInitiation;
use crate::wireguard::messages::{
    COOKIE_REPLY_LEN, CookieReply, INITIATION_LEN, Initiation, Kind, RESPONSE_LEN, Response,
    TRANSPORT_HEADER, TransportHeader,
};

impl Overlay {
    /// Handles one UDP datagram, which is `buf`, and decrypts it in place. Call [`Self::poll_transmit`] afterwards.
    pub fn handle_datagram<'b>(
        &mut self,
        now: Instant,
        unix: Duration,
        from: SocketAddr,
        buf: &'b mut [u8],
    ) -> Received<'b> {
        let kind = match Kind::of(buf) {
            Ok(kind) => kind,
            Err(reason) => return self.dropped(reason),
        };
        let handled = match kind {
            Kind::Transport => return self.handle_transport(now, unix, from, buf),
            Kind::Initiation => self.handle_initiation(now, unix, from, buf),
            Kind::Response => self.handle_response(now, unix, from, buf),
            Kind::CookieReply => self.handle_cookie_reply(now, buf),
        };
        match handled {
            Ok(()) => Received::Handled,
            Err(reason) => self.dropped(reason),
        }
    }

    fn dropped<'b>(&mut self, reason: DropReason) -> Received<'b> {
        self.drops.count(reason);
        Received::Dropped(reason)
    }

    fn handle_initiation(
        &mut self,
        now: Instant,
        unix: Duration,
        from: SocketAddr,
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
            &mut self.random,
            &mut self.drops,
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
        let mut env = Env {
            now,
            unix,
            random: &mut self.random,
            indices: &mut self.indices,
            drops: &mut self.drops,
            owner: id,
        };
        let handled = peer.tunnel.handle_initiation(&mut env, from, opened);
        self.agenda.settle(now, id, peer);
        handled
    }

    fn handle_response(
        &mut self,
        now: Instant,
        unix: Duration,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let bytes: &[u8; RESPONSE_LEN] =
            datagram.try_into().map_err(|_| DropReason::WrongLength)?;
        let response = Response::parse(bytes);
        let id = self
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
            &mut self.random,
            &mut self.drops,
            from,
            &network.identity.mac_keys,
            bytes,
        )?;
        let mut env = Env {
            now,
            unix,
            random: &mut self.random,
            indices: &mut self.indices,
            drops: &mut self.drops,
            owner: id,
        };
        let handled = peer
            .tunnel
            .handle_response(&mut env, from, &network.identity, &response);
        self.agenda.settle(now, id, peer);
        handled
    }

    fn handle_cookie_reply(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
        let bytes: &[u8; COOKIE_REPLY_LEN] =
            datagram.try_into().map_err(|_| DropReason::WrongLength)?;
        let reply = CookieReply::parse(bytes);
        let id = self
            .indices
            .owner(reply.receiver)
            .ok_or(DropReason::UnknownIndex)?;
        let peer = self.peers.get_mut(id).ok_or(DropReason::UnknownIndex)?;
        peer.tunnel
            .handle_cookie_reply(now, &reply)
            .map_err(DropReason::from)
    }

    fn handle_transport<'b>(
        &mut self,
        now: Instant,
        unix: Duration,
        from: SocketAddr,
        message: &'b mut [u8],
    ) -> Received<'b> {
        let Some(header) = message.first_chunk::<TRANSPORT_HEADER>() else {
            return self.dropped(DropReason::WrongLength);
        };
        let receiver = TransportHeader::parse(header).receiver;
        let Some(id) = self.indices.owner(receiver) else {
            return self.dropped(DropReason::UnknownIndex);
        };
        let Some(peer) = self.peers.get_mut(id) else {
            return self.dropped(DropReason::UnknownIndex);
        };
        let mut env = Env {
            now,
            unix,
            random: &mut self.random,
            indices: &mut self.indices,
            drops: &mut self.drops,
            owner: id,
        };
        let opened = peer
            .tunnel
            .handle_transport(&mut env, from, receiver, message);
        self.agenda.settle(now, id, peer);
        let (network, public_key) = (peer.network, peer.tunnel.remote().public);
        let payload = match opened {
            Ok([]) => return Received::Handled,
            Ok(payload) => payload,
            Err(reason) => return self.dropped(reason),
        };
        let Some(header) = Header::parse(payload) else {
            return self.dropped(DropReason::NotIp);
        };
        let owner = self
            .networks
            .get(&network)
            .and_then(|network| network.routes.lookup(header.source));
        if owner != Some(id) {
            return self.dropped(DropReason::ForbiddenSource);
        }
        Received::Packet {
            network,
            peer: public_key,
            packet: &mut payload[..header.total_len],
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Endpoints of ICMP: echo requests of programs (icmp(7), ping sockets) and ICMP as it is (raw(7)).
//!
//! They are endpoints like those of UDP, with the same queues and bounds. What is different stands here: every raw endpoint
//! hears a message, a program may bring the IPv4 header, and between local addresses messages are delivered at once, and
//! answered by the stack itself.
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::address::Addresses;
use super::wire::{self, Icmp, IpPacket, Outgoing, Quoted};
use super::{
    Datagram, DatagramId, DatagramProtocol, Failure, IcmpError, IcmpFilter, Link, SendError, Stack,
};

/// Raw endpoints of a network: each hears every message.
pub const RAW_ENDPOINTS: usize = 256;
/// Header of IPv4 without options, bytes.
const IPV4_HEADER: usize = 20;
/// Largest packet of the internal loopback, bytes.
const LOOPBACK_MTU: usize = 65_535;

impl DatagramProtocol {
    /// Whether messages go from port to port.
    pub(super) const fn has_ports(self) -> bool {
        match self {
            Self::Udp | Self::UdpLite => true,
            Self::Echo | Self::Icmp => false,
        }
    }
}

impl Stack {
    /// Raw endpoints now; at [`RAW_ENDPOINTS`] the caller opens no more of them.
    #[must_use]
    pub fn raw_endpoints(&self) -> usize {
        self.datagrams.raws.len()
    }

    /// Changes what a raw endpoint hears from now on. What is queued stays.
    pub fn datagram_filter(&mut self, id: DatagramId, filter: IcmpFilter) {
        if let Some(endpoint) = self.datagrams.get_mut(id) {
            endpoint.filter = filter;
        }
    }

    /// Sends an IPv4 packet whose header the caller has written (raw(7), IP_HDRINCL): length and checksum are filled in, an
    /// identification and a source of 0 too.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent then. `Malformed` also for a destination that is not `to`.
    pub fn datagram_send_header(
        &mut self,
        now: Instant,
        id: DatagramId,
        from: IpAddr,
        to: IpAddr,
        packet: &[u8],
    ) -> Result<(), SendError> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else {
            return Err(SendError::NoRoute);
        };
        let local = self.addresses.is_local(to.into());
        let mtu = if local {
            LOOPBACK_MTU
        } else {
            self.path_mtu(now, to.into())
        };
        let header = packet.get(..IPV4_HEADER).ok_or(SendError::Malformed)?;
        let header_len = usize::from(header[0] & 15) * 4;
        if header_len < IPV4_HEADER || header_len > packet.len() || header[16..20] != to.octets() {
            return Err(SendError::Malformed);
        }
        if packet.len() > mtu {
            return Err(SendError::TooBig);
        }
        let source: [u8; 4] = header[12..16].try_into().unwrap_or_default();
        let source = if source == [0; 4] {
            from
        } else {
            source.into()
        };
        let own = if local {
            self.addresses.is_local(source.into())
        } else {
            self.addresses.is_own(source.into())
        };
        if !own || header[9] != wire::ICMP {
            return Err(SendError::Forbidden);
        }
        if !local && !self.routes.contains(to.into()) {
            return Err(SendError::NoRoute);
        }
        if header[0] >> 4 != 4 {
            // It would be thrown away by whom it reaches.
            return Ok(());
        }
        let number = self.datagrams.identification(&self.secrets);
        if local {
            let mut whole = packet.to_vec();
            wire::complete_header(&mut whole, header_len, source, number);
            self.loop_icmp(now, &whole);
            return Ok(());
        }
        let limit = self.config.limits.datagram_queue;
        if !self.datagrams.admits(id, packet.len(), limit) || !self.egress.has_room() {
            return Err(SendError::QueueFull);
        }
        let (out, kept) = self.egress.push(packet.len(), Some(id));
        out.copy_from_slice(packet);
        wire::complete_header(out, header_len, source, number);
        if !kept {
            return Err(SendError::QueueFull);
        }
        self.datagrams.note_queued(id, packet.len());
        Ok(())
    }

    /// An ICMP message between local addresses.
    pub(super) fn send_icmp_locally(&mut self, now: Instant, outgoing: Outgoing<'_>) {
        let mut packet = vec![0; outgoing.len()];
        outgoing.write(&mut packet);
        self.loop_icmp(now, &packet);
    }

    /// ICMP between local addresses is heard, and answered, before the call that sent it returns: as on Linux' loopback. A
    /// request leads to a reply and nothing further, so that this ends.
    pub(super) fn loop_icmp(&mut self, now: Instant, packet: &[u8]) {
        if let Some(tap) = &mut self.tap {
            tap.note(packet);
        }
        self.handle_local(now, packet);
    }

    /// Every raw endpoint that is meant hears the message. `ip` is whole.
    pub(super) fn hear_raw(&mut self, now: Instant, ip: &IpPacket<'_>) {
        let v4 = ip.dst.is_ipv4();
        let Some(&kind) = ip.payload.first() else {
            return;
        };
        if self.datagrams.raws.is_empty() || v4 && Icmp::parse(ip.payload).is_none() {
            return;
        }
        let hearers: Vec<DatagramId> = self
            .datagrams
            .raws_for(ip.dst, ip.src)
            .filter(|(_, endpoint)| endpoint.filter.passes(v4, kind))
            .map(|(id, _)| id)
            .collect();
        let payload = if v4 { ip.bytes } else { ip.payload };
        for id in hearers {
            // Before the message is copied.
            if !self.has_room(id, payload.len()) {
                continue;
            }
            let datagram = Datagram {
                from: SocketAddr::new(ip.src, 0),
                to: SocketAddr::new(ip.dst, 0),
                hop_limit: ip.hop_limit,
                traffic_class: ip.traffic_class,
                link: link_of(&self.addresses, ip.src),
                at: Some(now),
                dropped: 0,
                payload: payload.to_vec(),
            };
            self.deliver(id, datagram);
        }
    }

    /// An echo reply, for the endpoint with its identifier.
    pub(super) fn hear_echo(&mut self, now: Instant, ip: &IpPacket<'_>, reply: Icmp<'_>) {
        let to = SocketAddr::new(ip.dst, reply.identifier());
        let from = SocketAddr::new(ip.src, 0);
        let found = self
            .datagrams
            .find(&self.secrets, DatagramProtocol::Echo, to, from);
        if let Some(id) = found {
            let datagram = Datagram {
                from,
                to,
                hop_limit: ip.hop_limit,
                traffic_class: ip.traffic_class,
                link: link_of(&self.addresses, ip.src),
                at: Some(now),
                dropped: 0,
                payload: ip.payload.to_vec(),
            };
            self.deliver(id, datagram);
        }
    }

    /// Whether an endpoint may have sent the ICMP message that an error quotes.
    pub(super) fn sends_icmp(&self, quoted: Quoted) -> bool {
        let from = quoted.from.ip();
        quoted.protocol == wire::icmp_number(from)
            && (self
                .datagrams
                .raws_for(from, quoted.to.ip())
                .next()
                .is_some()
                || quoted.echo_identifier().is_some_and(|identifier| {
                    self.sends_datagrams(
                        DatagramProtocol::Echo,
                        SocketAddr::new(from, identifier),
                        SocketAddr::new(quoted.to.ip(), 0),
                    )
                }))
    }

    /// An ICMP error quotes an ICMP message of this host.
    pub(super) fn icmp_failed(&mut self, quoted: Quoted, failure: Failure, error: &IcmpError) {
        let (from, to) = (quoted.from.ip(), SocketAddr::new(quoted.to.ip(), 0));
        if let Some(identifier) = quoted.echo_identifier() {
            let local = SocketAddr::new(from, identifier);
            self.datagram_failed(DatagramProtocol::Echo, local, to, failure, error.clone());
        }
        let senders: Vec<DatagramId> = self
            .datagrams
            .raws_for(from, to.ip())
            .map(|(id, _)| id)
            .collect();
        for id in senders {
            self.tell_datagram_error(id, to, failure, error.clone());
        }
    }
}

/// The interface that a packet from `src` comes in by.
fn link_of(addresses: &Addresses, src: IpAddr) -> Link {
    if addresses.is_local(src) {
        Link::Loopback
    } else {
        Link::Overlay
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Datagrams for many: multicast and broadcast, of UDP and UDP-Lite. Which sockets of this host get one, and which peers.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use super::datagram::{MAX_PAYLOAD_V4, MAX_PAYLOAD_V6, without_scope};
use super::groups::is_node_local;
use super::icmp::Way;
use super::wire::{self, IpPacket, Outgoing};
use super::{
    Datagram, DatagramId, DatagramProtocol, Link, Membership, SendError, SendOptions, Stack, igmp,
};

/// The broadcast address of `lo`.
const LOOPBACK_BROADCAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 255);

/// How a datagram for many is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cast {
    /// Interface it leaves by.
    pub link: Link,
    /// Members on this host get it too (IP_MULTICAST_LOOP); on `lo` and by broadcast they always do.
    pub looped: bool,
}

/// Which datagrams for many an endpoint takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reception {
    /// Whose memberships count: the owner that [`Stack::set_memberships`] knows.
    pub owner: u64,
    /// Also those of groups that others on this host have joined: of IPv4, of IPv6 (IP_MULTICAST_ALL, IPV6_MULTICAST_ALL).
    pub all: [bool; 2],
    /// What comes by one interface only (SO_BINDTODEVICE).
    pub link: Option<Link>,
}

impl Stack {
    /// Which datagrams for many an endpoint takes; of a fresh one: broadcasts alone.
    pub fn datagram_reception(&mut self, id: DatagramId, reception: Reception) {
        self.datagrams.set_reception(id, reception);
    }

    /// Replaces the groups that `owner` has joined, each once per interface; peers are told of what it changes.
    pub fn set_memberships(&mut self, now: Instant, owner: u64, memberships: Vec<Membership>) {
        self.multicast.set(now, owner, memberships);
        self.report_memberships(now);
    }

    /// The interface an address for many is of: 255.255.255.255 and groups are of none alone.
    #[must_use]
    pub fn broadcast_link(&self, ip: IpAddr) -> Option<Link> {
        match ip {
            IpAddr::V4(v4) if v4 == LOOPBACK_BROADCAST => Some(Link::Loopback),
            IpAddr::V4(v4) if !v4.is_broadcast() && self.addresses.is_broadcast(ip) => {
                Some(Link::Overlay)
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    /// The address `netcon0` has of a family.
    #[must_use]
    pub fn own_address(&self, v6: bool) -> Option<IpAddr> {
        if v6 {
            self.config.v6.map(|(ip, _)| ip.into())
        } else {
            self.config.v4.map(|(ip, _)| ip.into())
        }
    }

    /// Sends one datagram from `from` and the endpoint's port to a group or a broadcast address.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent then.
    pub fn datagram_cast(
        &mut self,
        now: Instant,
        id: DatagramId,
        from: IpAddr,
        to: SocketAddr,
        payload: &[u8],
        (options, cast): (SendOptions, Cast),
    ) -> Result<(), SendError> {
        let to = without_scope(to);
        let (protocol, port) = self.datagrams.source_of(id).ok_or(SendError::NoRoute)?;
        if from.is_ipv4() != to.is_ipv4() || !self.addresses.is_local(from) {
            return Err(SendError::NoRoute);
        }
        let largest = if to.is_ipv4() {
            MAX_PAYLOAD_V4
        } else {
            MAX_PAYLOAD_V6
        };
        if payload.len() > largest {
            return Err(SendError::TooBig);
        }
        let outgoing = Outgoing {
            protocol,
            from: SocketAddr::new(from, port),
            to,
            payload,
            options,
        };
        let group = to.ip().is_multicast();
        if from.is_loopback() && cast.link == Link::Overlay {
            // No host would take it.
            return Ok(());
        }
        if !group || cast.looped || cast.link == Link::Loopback {
            if cast.link == Link::Loopback
                && let Some(tap) = &mut self.tap
                && let Some(copy) = tap.room(wire::udp_packet_len(to.ip(), payload.len()))
            {
                outgoing.write(copy);
            }
            let datagram = Datagram {
                from: outgoing.from,
                to,
                hop_limit: options.hop_limit,
                traffic_class: options.traffic_class,
                link: cast.link,
                at: Some(now),
                dropped: 0,
                payload: payload.to_vec(),
            };
            self.deliver_cast(protocol, &datagram);
        }
        let stays = cast.link == Link::Loopback
            || group && (options.hop_limit == 0 || is_node_local(to.ip()));
        if stays {
            return Ok(());
        }
        let fanout = self.fanout(now, to.ip());
        self.emit(id, outgoing, self.config.mtu, Some(fanout))
    }

    /// Whether what has come from a peer for many concerns this host.
    pub(super) fn takes_cast(&self, ip: &IpPacket<'_>) -> bool {
        if !ip.dst.is_multicast() {
            return self.addresses.is_broadcast(ip.dst);
        }
        let groups = &self.multicast.groups;
        ip.protocol == igmp::IGMP
            || igmp::is_mld(ip)
            || groups.admits(Link::Overlay, ip.dst, ip.src)
    }

    /// A whole packet for many that [`Self::takes_cast`]. Nothing is ever answered with an error (RFC 1122 §3.2.2).
    pub(super) fn handle_cast(&mut self, now: Instant, ip: &IpPacket<'_>) {
        if let Some(protocol) = wire::datagrams_of(ip.protocol) {
            return self.handle_cast_datagram(now, protocol, ip);
        }
        if ip.protocol == igmp::IGMP || igmp::is_mld(ip) {
            return self.handle_membership(now, ip);
        }
        // RFC 4443 §4.2: a request to a group is answered from an own address. IPv4's are not, as on Linux.
        let request = ip.protocol == wire::ICMPV6 && ip.payload.first() == Some(&128);
        match self.addresses.source_for(ip.dst).filter(|_| request) {
            Some(own) => self.handle_icmp(now, &IpPacket { dst: own, ..*ip }, Way::Overlay),
            None => self.counters.misaddressed += 1,
        }
    }

    fn handle_cast_datagram(
        &mut self,
        now: Instant,
        protocol: DatagramProtocol,
        ip: &IpPacket<'_>,
    ) {
        let parsed = wire::parse_udp(ip.payload, protocol);
        let Some((src_port @ 1.., dst_port @ 1.., payload)) = parsed else {
            self.counters.malformed += 1;
            return;
        };
        let datagram = Datagram {
            from: SocketAddr::new(ip.src, src_port),
            to: SocketAddr::new(ip.dst, dst_port),
            hop_limit: ip.hop_limit,
            traffic_class: ip.traffic_class,
            link: Link::Overlay,
            at: Some(now),
            dropped: 0,
            payload: payload.to_vec(),
        };
        self.deliver_cast(protocol, &datagram);
    }

    /// A copy to every endpoint that takes it.
    fn deliver_cast(&mut self, protocol: DatagramProtocol, datagram: &Datagram) {
        let (link, group, source) = (datagram.link, datagram.to.ip(), datagram.from.ip());
        let groups = &self.multicast.groups;
        let multicast = group.is_multicast();
        if multicast && !groups.admits(link, group, source) {
            return;
        }
        let takes = |reception: &Reception| {
            let all = reception.all[usize::from(group.is_ipv6())];
            reception.link.is_none_or(|only| only == link)
                && (!multicast || groups.socket_admits(reception.owner, all, link, group, source))
        };
        let ids = self
            .datagrams
            .all_at(protocol, datagram.to, datagram.from, takes);
        for id in ids {
            self.deliver(id, datagram.clone());
        }
    }
}

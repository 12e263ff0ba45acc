// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Datagrams to groups and broadcast addresses: by which interface and from which address they leave (ip(7), ipv6(7)).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use super::names::*;
use super::state::{Body, Socket};
use super::{SendControl, SocketId, Sockets};
use crate::errno::Errno;
use crate::stack::{Cast, Link, SendError};

impl Sockets {
    /// A multicast group or a broadcast address.
    pub(super) fn is_for_many(&self, ip: IpAddr) -> bool {
        let everywhere = match ip {
            IpAddr::V4(ip) => ip.is_broadcast(),
            IpAddr::V6(_) => false,
        };
        ip.is_multicast() || everywhere || self.stack.broadcast_link(ip).is_some()
    }

    /// Sends one datagram of a bound socket to many.
    pub(super) fn udp_cast(
        &mut self,
        now: Instant,
        id: SocketId,
        to: SocketAddr,
        payload: &[u8],
        control: &SendControl,
    ) -> Result<usize, Errno> {
        let socket = self.sockets.get(&id).ok_or(Errno::EBADF)?;
        let Body::Datagram(datagram) = &socket.body else {
            return Err(Errno::EOPNOTSUPP);
        };
        let endpoint = datagram.endpoint.ok_or(Errno::EAGAIN)?;
        let (link, from) = self.cast_route(socket, to, control)?;
        let v6 = to.is_ipv6();
        let mut options = socket.options.sending(v6, control);
        let (level, hops, looped) = if v6 {
            (SOL_IPV6, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP)
        } else {
            (SOL_IP, IP_MULTICAST_TTL, IP_MULTICAST_LOOP)
        };
        if to.ip().is_multicast() && control.hop_limit.is_none() {
            let own = socket.options.value(level, hops);
            options.hop_limit = u8::try_from(own).unwrap_or(1);
        }
        let cast = Cast {
            link,
            looped: socket.options.is_on(level, looped),
        };
        let recverr = socket.options.recverr(v6);
        let sent = self
            .stack
            .datagram_cast(now, endpoint, from, to, payload, (options, cast));
        match sent {
            Ok(()) => {
                if let Some(socket) = self.sockets.get_mut(&id) {
                    socket.traffic.sent += payload.len() as u64;
                }
                Ok(payload.len())
            }
            Err(SendError::QueueFull) if !recverr => Ok(payload.len()),
            Err(error) => Err(error.into()),
        }
    }

    /// Interface and source address towards many.
    pub(super) fn cast_route(
        &self,
        socket: &Socket,
        to: SocketAddr,
        control: &SendControl,
    ) -> Result<(Link, IpAddr), Errno> {
        let v6 = to.is_ipv6();
        let bound = socket.binding.ip.filter(|ip| !self.is_for_many(*ip));
        let source = control.source.or(bound).filter(|ip| ip.is_ipv6() == v6);
        let device = control.link.or_else(|| socket.options.link());
        if v6 {
            return self.cast_route_v6(socket, to, source, device);
        }
        let multicast = to.ip().is_multicast();
        let groups = &socket.groups;
        let device = device.or_else(|| groups.v4_link.filter(|_| multicast));
        let asked = groups.v4_address.map(IpAddr::V4);
        let source = source.or_else(|| asked.filter(|_| multicast));
        let of_address = |ip: IpAddr| {
            if ip.is_loopback() {
                Link::Loopback
            } else {
                Link::Overlay
            }
        };
        let link = device
            .or_else(|| self.stack.broadcast_link(to.ip()))
            .or_else(|| source.map(of_address))
            .unwrap_or(Link::Overlay);
        let own = self.stack.own_address(false);
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let from = match (source, link) {
            (Some(ip), _) if !self.stack.is_local(ip) => return Err(Errno::ENETUNREACH),
            // A packet with a loopback source never leaves the host.
            (Some(ip), Link::Overlay) if ip.is_loopback() => return Err(Errno::EINVAL),
            (Some(ip), _) => Some(ip),
            (None, Link::Loopback) if device.is_none() => Some(localhost),
            // The address of lo is of no use elsewhere, so another interface's comes first.
            (None, Link::Loopback) => own.or(Some(localhost)),
            (None, Link::Overlay) => own,
        };
        Ok((link, from.ok_or(Errno::ENETUNREACH)?))
    }

    /// IPv6 has no route for groups on `lo`.
    fn cast_route_v6(
        &self,
        socket: &Socket,
        to: SocketAddr,
        source: Option<IpAddr>,
        device: Option<Link>,
    ) -> Result<(Link, IpAddr), Errno> {
        let index = match to {
            SocketAddr::V6(to) if needs_scope(&to) => to.scope_id(),
            SocketAddr::V4(_) | SocketAddr::V6(_) => 0,
        };
        let index = match (index, device) {
            (0, Some(device)) => device.index(),
            (0, None) => {
                let own = socket.options.value(SOL_IPV6, IPV6_MULTICAST_IF);
                u32::try_from(own).unwrap_or(0)
            }
            (index, _) => index,
        };
        if index != 0 && Link::of_index(index) != Some(Link::Overlay) {
            return Err(Errno::ENETUNREACH);
        }
        let own = self.stack.own_address(true).ok_or(Errno::ENETUNREACH)?;
        Ok((Link::Overlay, source.unwrap_or(own)))
    }

    /// Whether connect(2) to this address lacks an interface.
    pub(super) fn lacks_scope(socket: &Socket, to: SocketAddr) -> bool {
        match to {
            SocketAddr::V6(v6) => {
                needs_scope(&v6)
                    && v6.scope_id() == 0
                    && socket.options.link().is_none()
                    && socket.options.value(SOL_IPV6, IPV6_MULTICAST_IF) == 0
            }
            SocketAddr::V4(_) => false,
        }
    }
}

/// A group of the link or narrower.
const fn needs_scope(to: &std::net::SocketAddrV6) -> bool {
    to.ip().is_multicast() && matches!(to.ip().octets()[1] & 15, 1 | 2)
}

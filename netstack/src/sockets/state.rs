// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One socket: its binding, its options, and what it is doing.

use std::net::{IpAddr, SocketAddr};

use super::address::{Family, canonical};
use super::datagram::DatagramState;
use super::errors::ErrorQueue;
use super::membership::Groups;
use super::names::*;
use super::options::Options;
use super::ports::{Claim, Transport};
use super::stream::Stream;
use super::{BindError, Kind};
use crate::errno::Errno;
use crate::stack::{DatagramId, DatagramProtocol, Families, FlowId, Stack};

/// The local side of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding {
    /// Exact address, or `None` for the wildcard of `families`.
    pub(crate) ip: Option<IpAddr>,
    /// Families the wildcard stands for; also what the socket can reach while it is not bound.
    pub(crate) families: Families,
    /// 0: none yet.
    pub(crate) port: u16,
    /// bind(2) named the address: it outlives a connection.
    pub(crate) ip_locked: bool,
    /// bind(2) named the port: it outlives a connection.
    pub(crate) port_locked: bool,
}

/// Payload a program has received and sent through a socket, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Given to the program's end.
    pub received: u64,
    /// Taken from the program's end.
    pub sent: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.sent += other.sent;
    }
}

/// What kind of socket, with its state.
#[derive(Debug)]
pub(crate) enum Body {
    Stream(Stream),
    Datagram(DatagramState),
}

/// A socket of a program.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) family: Family,
    pub(crate) options: Options,
    pub(crate) groups: Groups,
    pub(crate) binding: Binding,
    /// SO_ERROR.
    pub(crate) error: Option<Errno>,
    /// IP_RECVERR, IPV6_RECVERR.
    pub(crate) errors: ErrorQueue,
    pub(crate) traffic: Traffic,
    pub(crate) body: Body,
}

impl Socket {
    pub(crate) fn new(family: Family, options: Options) -> Self {
        let body = match options.kind() {
            Kind::Stream => Body::Stream(Stream::Idle),
            Kind::Datagram => Body::Datagram(DatagramState::default()),
        };
        let families = match family {
            Family::V4 => Families::V4,
            Family::V6 if options.is_on(SOL_IPV6, IPV6_V6ONLY) || !options.protocol().is_udp() => {
                Families::V6
            }
            Family::V6 => Families::Both,
        };
        // getsockname(2) of a raw socket shows its protocol as the port.
        let port = match options.protocol() {
            DatagramProtocol::Icmp if family == Family::V4 => 1,
            DatagramProtocol::Icmp => 58,
            DatagramProtocol::Udp | DatagramProtocol::UdpLite | DatagramProtocol::Echo => 0,
        };
        let binding = Binding {
            ip: None,
            families,
            port,
            ip_locked: false,
            port_locked: port != 0,
        };
        Self {
            family,
            options,
            groups: Groups::default(),
            binding,
            error: None,
            errors: ErrorQueue::default(),
            traffic: Traffic::default(),
            body,
        }
    }

    pub(crate) const fn kind(&self) -> Kind {
        match self.body {
            Body::Stream(_) => Kind::Stream,
            Body::Datagram(_) => Kind::Datagram,
        }
    }

    /// Whose ports it uses; `None` for a raw socket, which has none.
    pub(crate) const fn transport(&self) -> Option<Transport> {
        match self.body {
            Body::Stream(_) => Some(Transport::Tcp),
            Body::Datagram(_) => match self.options.protocol() {
                DatagramProtocol::Udp => Some(Transport::Udp),
                DatagramProtocol::UdpLite => Some(Transport::UdpLite),
                DatagramProtocol::Echo => Some(Transport::Echo),
                DatagramProtocol::Icmp => None,
            },
        }
    }

    /// The engine's endpoint of a datagram socket.
    pub(crate) const fn endpoint(&self) -> Option<DatagramId> {
        match &self.body {
            Body::Stream(_) => None,
            Body::Datagram(datagram) => datagram.endpoint,
        }
    }

    /// The claim this socket makes with `binding`.
    pub(crate) fn claim(&self, binding: &Binding) -> Claim {
        Claim {
            reuse: self.options.is_on(SOL_SOCKET, SO_REUSEADDR),
            reuseport: self.options.is_on(SOL_SOCKET, SO_REUSEPORT),
            listening: matches!(self.body, Body::Stream(Stream::Listening { .. })),
            by_connect: matches!(
                self.body,
                Body::Stream(
                    Stream::Connecting { chosen: true, .. }
                        | Stream::Connected { chosen: true, .. }
                )
            ),
            ..Claim::new(binding.ip, binding.families)
        }
    }

    /// Reads the address of bind(2).
    pub(crate) fn bindable(
        &self,
        address: SocketAddr,
        stack: &Stack,
    ) -> Result<(Option<IpAddr>, Families), BindError> {
        match (self.family, address) {
            (Family::V4, SocketAddr::V6(_)) => return Err(Errno::EAFNOSUPPORT.into()),
            // Shorter than struct sockaddr_in6, which Linux sees before the family.
            (Family::V6, SocketAddr::V4(_)) => return Err(Errno::EINVAL.into()),
            (Family::V4, SocketAddr::V4(_)) | (Family::V6, SocketAddr::V6(_)) => {}
        }
        self.check_icmp_address(address.ip())?;
        let ip = canonical(address).ip();
        if self.family == Family::V6 && ip.is_ipv4() && self.v6_only() {
            return Err(Errno::EINVAL.into());
        }
        let valid = match (ip, address) {
            (IpAddr::V4(v4), _) => {
                if v4.is_unspecified() {
                    return Ok((None, Families::V4));
                }
                v4.is_multicast() || v4.is_broadcast()
            }
            (IpAddr::V6(v6), SocketAddr::V6(full)) => {
                if v6.is_unspecified() {
                    return Ok((
                        None,
                        if self.v6_only() {
                            Families::V6
                        } else {
                            Families::Both
                        },
                    ));
                }
                let group = v6.is_multicast();
                let link_local_group = group && v6.octets()[1] & 0xf <= 2 && full.scope_id() == 0;
                if group && self.kind() == Kind::Stream
                    || link_local_group
                    || v6.is_unicast_link_local() && full.scope_id() == 0
                {
                    return Err(Errno::EINVAL.into());
                }
                group
            }
            (IpAddr::V6(_), SocketAddr::V4(_)) => false,
        };
        if valid
            || stack.is_local(ip)
            || stack.broadcast_link(ip).is_some()
            || self.options.freebind()
        {
            let families = if ip.is_ipv4() {
                Families::V4
            } else {
                Families::V6
            };
            Ok((Some(ip), families))
        } else {
            Err(Errno::EADDRNOTAVAIL.into())
        }
    }

    /// Not bound, not connected.
    pub(crate) const fn may_bind(&self) -> bool {
        let idle = match &self.body {
            Body::Stream(stream) => matches!(stream, Stream::Idle | Stream::Failed),
            Body::Datagram(datagram) => datagram.peer.is_none(),
        };
        idle && (self.binding.port == 0 || self.transport().is_none())
    }

    /// IP_BIND_ADDRESS_NO_PORT: bind(2) to port 0 leaves the port to connect(2).
    pub(crate) fn binds_without_port(&self) -> bool {
        self.options.is_on(SOL_IP, IP_BIND_ADDRESS_NO_PORT)
    }

    /// Options whose setting depends on what the socket is doing.
    pub(crate) fn may_set(&self, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
        let connected = matches!(
            self.body,
            Body::Stream(Stream::Connecting { .. } | Stream::Connected { live: true, .. })
        );
        let stream = matches!(self.body, Body::Stream(_));
        let listening = matches!(self.body, Body::Stream(Stream::Listening { .. }));
        let bound = self.held_port() != 0 || self.binding.ip_locked;
        let refused = match (level, name) {
            // ipv6(7): only before bind. tcp(7): only before connect; IP_BIND_ADDRESS_NO_PORT has no such rule.
            (SOL_IPV6, IPV6_V6ONLY) => bound && matches!(self.family, Family::V6),
            (SOL_TCP, TCP_FASTOPEN) => connected,
            (SOL_TCP, TCP_FASTOPEN_CONNECT) => connected || listening,
            (SOL_TCP, TCP_FASTOPEN_NO_COOKIE) => connected,
            (SOL_TCP, TCP_WINDOW_CLAMP) => {
                (connected || listening) && value.get(..4) == Some(&[0; 4])
            }
            // A sequence number of one that is closed may be set under repair.
            (SOL_TCP, TCP_QUEUE_SEQ) => stream && (value.len() < 4 || !connected && !listening),
            _ => false,
        };
        if refused { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// IPV6_ADDRFORM: a socket that is connected to a v4-mapped address becomes one of AF_INET (ipv6(7)).
    ///
    /// # Errors
    /// EINVAL: not to AF_INET. ENOTCONN: not connected. EADDRNOTAVAIL: to an IPv6 address, or IPV6_V6ONLY.
    pub(crate) fn become_v4(&mut self, value: &[u8]) -> Result<(), Errno> {
        const AF_INET: [u8; 4] = 2_i32.to_ne_bytes();
        if value.get(..4) != Some(&AF_INET) {
            return Err(Errno::EINVAL);
        }
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        if peer.is_ipv6() || self.v6_only() {
            return Err(Errno::EADDRNOTAVAIL);
        }
        self.family = Family::V4;
        self.options.become_v4();
        Ok(())
    }

    /// The flow the engine still has for this socket.
    pub(crate) const fn flow(&self) -> Option<FlowId> {
        match &self.body {
            Body::Stream(Stream::Connecting { flow, .. }) => Some(*flow),
            Body::Stream(Stream::Connected { flow, .. }) => *flow,
            Body::Stream(Stream::Idle | Stream::Failed | Stream::Listening { .. })
            | Body::Datagram(_) => None,
        }
    }

    /// The peer getpeername(2) shows, canonical.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match &self.body {
            Body::Stream(Stream::Connected {
                peer, live: true, ..
            }) => Some(*peer),
            Body::Stream(_) => None,
            // A UDP socket connected to port 0 has no peer to show.
            Body::Datagram(datagram) => datagram.peer.filter(|peer| peer.port() != 0),
        }
    }

    /// The peer of the last connection, canonical, though it may be over.
    pub(crate) fn last_peer(&self) -> Option<SocketAddr> {
        match &self.body {
            Body::Stream(Stream::Connected { peer, .. }) => Some(*peer),
            Body::Stream(_) | Body::Datagram(_) => self.peer(),
        }
    }

    /// The local port as far as it is held: with a connection that is over goes one that bind(2) did not name.
    pub(crate) const fn held_port(&self) -> u16 {
        match &self.body {
            Body::Stream(Stream::Connected { live: false, .. }) if !self.binding.port_locked => 0,
            Body::Stream(_) | Body::Datagram(_) => self.binding.port,
        }
    }

    /// Whether packets of this socket are IPv6, as far as it is decided.
    pub(crate) fn peer_is_v6(&self) -> bool {
        match (self.peer(), self.binding.ip) {
            (Some(peer), _) => peer.is_ipv6(),
            (None, Some(ip)) => ip.is_ipv6(),
            (None, None) => self.binding.families != Families::V4,
        }
    }

    /// A failed connect(2) has been answered.
    pub(crate) fn forget_failure(&mut self) {
        if let Body::Stream(stream @ Stream::Failed) = &mut self.body {
            *stream = Stream::Idle;
        }
    }

    /// What bind(2) asked for, without what connect(2) or listen(2) added.
    pub(crate) fn unwound_binding(&self) -> Binding {
        let families = match (self.family, self.binding.ip_locked, self.v6_only()) {
            (_, true, _) => self.binding.families,
            (Family::V4, false, _) => Families::V4,
            // A wildcard bound as ::ffff:0.0.0.0 stays IPv4.
            (Family::V6, false, _) if self.binding.port_locked && self.binding.ip.is_none() => {
                self.binding.families
            }
            (Family::V6, false, true) => Families::V6,
            (Family::V6, false, false) => Families::Both,
        };
        Binding {
            ip: self.binding.ip.filter(|_| self.binding.ip_locked),
            families,
            port: if self.binding.port_locked {
                self.binding.port
            } else {
                0
            },
            ..self.binding
        }
    }

    /// No IPv4 by mapped addresses: asked for, or a socket of ICMPv6.
    pub(crate) fn v6_only(&self) -> bool {
        self.options.is_on(SOL_IPV6, IPV6_V6ONLY) || !self.options.protocol().is_udp()
    }
}

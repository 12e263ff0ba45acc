// SPDX-License-Identifier: Apache-2.0 OR MIT
//! UDP sockets: connect(2), sending, receiving, ICMP errors (udp(7)); sockets of ICMP too, see `raw.rs`.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use super::address::{Destination, destination, present};
use super::names::{
    IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, SO_BROADCAST, SOL_IP, SOL_IPV6, SOL_SOCKET,
};
use super::raw::IDENTIFIERS;
use super::sending::Corked;
use super::state::{Binding, Body, Socket};
use super::stream::{Connect, family_of};
use super::{Family, SendControl, SocketId, Sockets, dns};
use crate::errno::Errno;
use crate::stack::{Datagram, DatagramId, DatagramProtocol, IcmpError, Link, SendError, Stack};

/// The port of name servers.
const DNS: u16 = 53;
/// Refused questions waiting in one socket; more: dropped, as an overloaded server would.
const REFUSALS_MAX: usize = 16;
/// Largest payload of IPv4 and IPv6, bytes: 65,535 less the headers.
pub(super) const PAYLOAD_MAX_V4: usize = 65_507;
pub(super) const PAYLOAD_MAX_V6: usize = 65_527;
/// More than this no datagram of IPv4 is looked at further.
const LENGTH_MAX: usize = 65_535;
/// MTU of the loopback interface, bytes.
pub(super) const LOOPBACK_MTU: usize = 65_536;
/// IP_MTU_DISCOVER and IPV6_MTU_DISCOVER: never.
const IP_PMTUDISC_DONT: i32 = 0;
/// Counted in an ICMP message, not in a UDP payload, bytes.
const UDP_HEADER: usize = 8;
/// Counted where a program brings it, bytes.
const IPV4_HEADER: usize = 20;

/// Where connect(2) goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectTo {
    /// A peer.
    Address(SocketAddr),
    /// AF_UNSPEC: dissolve the association.
    Unspecified,
    /// No address of the socket's family: what Linux says of it, once the state allows a connection at all.
    Unusable(Errno),
}

/// State of a UDP socket.
#[derive(Debug, Default)]
pub(crate) struct DatagramState {
    /// The engine's endpoint; exists while the socket has a port.
    pub(crate) endpoint: Option<DatagramId>,
    /// Set by connect(2); canonical.
    pub(crate) peer: Option<SocketAddr>,
    /// SHUT_WR.
    pub(crate) shut_write: bool,
    /// UDP_CORK, MSG_MORE: a datagram that is not whole yet.
    pub(super) corked: Option<Corked>,
    /// Answers to questions for which there is no route.
    refusals: VecDeque<Datagram>,
}

impl Sockets {
    /// Gives a UDP socket its port, as sending without bind(2) does.
    ///
    /// # Errors
    /// EAGAIN: no port is free. EOPNOTSUPP: not a datagram socket.
    pub fn udp_autobind(&mut self, id: SocketId) -> Result<(), Errno> {
        let socket = self.sockets.get(&id).ok_or(Errno::EBADF)?;
        if !matches!(socket.body, Body::Datagram(_)) {
            return Err(Errno::EOPNOTSUPP);
        }
        if socket.binding.port == 0
            && let Some(transport) = socket.transport()
        {
            let (claim, range) = (socket.claim(&socket.binding), socket.port_range());
            let binding = socket.binding;
            let port = self
                .ports
                .free(transport, &claim, range, &mut self.random)
                .ok_or(Errno::EAGAIN)?;
            self.rebind(id, Binding { port, ..binding });
        }
        self.open_datagram(id);
        Ok(())
    }

    /// Sends one datagram; the answer is its length. `to` `None`: to the peer of connect(2).
    ///
    /// A question to a name server that no route leads to is answered at once with REFUSED.
    ///
    /// # Errors
    /// The pending error first. EDESTADDRREQ, EMSGSIZE, EINVAL (port 0), EPIPE (SHUT_WR), EACCES (broadcast without SO_BROADCAST),
    /// ENETUNREACH, EAFNOSUPPORT, EAGAIN (no free port), ENOBUFS (queue full, and IP_RECVERR is on; otherwise the datagram is
    /// lost silently, as on Linux).
    pub fn udp_send(
        &mut self,
        now: Instant,
        id: SocketId,
        to: Option<SocketAddr>,
        payload: &[u8],
    ) -> Result<usize, Errno> {
        self.udp_send_with(now, id, to, payload, &SendControl::default())
    }

    /// Sends one datagram as it is.
    pub(super) fn send_one(
        &mut self,
        now: Instant,
        id: SocketId,
        to: Option<SocketAddr>,
        payload: &[u8],
        control: &SendControl,
    ) -> Result<usize, Errno> {
        self.udp_autobind(id)?;
        let socket = self.sockets.get_mut(&id).ok_or(Errno::EBADF)?;
        let Body::Datagram(datagram) = &socket.body else {
            return Err(Errno::EOPNOTSUPP);
        };
        let udp = socket.options.protocol().is_udp();
        socket.check_icmp(to, payload)?;
        let (endpoint, peer) = (datagram.endpoint, datagram.peer);
        let to = socket.destined(to, &self.stack)?;
        let v6 = to.is_ipv6();
        if !v6 && payload.len() > LENGTH_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let brings_header = socket.brings_header();
        let header = match (udp, brings_header) {
            (true, _) => 0,
            (false, false) => UDP_HEADER,
            (false, true) => UDP_HEADER + IPV4_HEADER,
        };
        let largest = if v6 { PAYLOAD_MAX_V6 } else { PAYLOAD_MAX_V4 };
        if payload.len() > largest + header {
            self.too_big(now, id, to);
            return Err(Errno::EMSGSIZE);
        }
        if let Some(errno) = socket.error.take() {
            return Err(errno);
        }
        if self.is_for_many(to.ip()) {
            if !udp {
                return Err(Errno::ENETUNREACH);
            }
            if control
                .source
                .is_some_and(|source| !self.stack.is_local(source))
            {
                return Err(Errno::EINVAL);
            }
            return self.udp_cast(now, id, to, payload, control);
        }
        let socket = self.sockets.get_mut(&id).ok_or(Errno::EBADF)?;
        let options = socket.options.sending(v6, control);
        let recverr = socket.options.recverr(v6);
        let binding = socket.binding;
        let endpoint = endpoint.ok_or(Errno::EAGAIN)?;
        let source = match control.source {
            Some(source) if !self.stack.is_local(source) => {
                return Err(if source.is_ipv4() {
                    Errno::ENETUNREACH
                } else {
                    Errno::EINVAL
                });
            }
            Some(source) if source.is_ipv6() == v6 => Ok(source),
            _ => self.source(&binding, to.ip()),
        };
        let sent = match source {
            Ok(from) if brings_header => self
                .send_header(now, id, from, to.ip(), payload)
                .map(|()| None),
            Ok(from) => self
                .stack
                .datagram_send(now, endpoint, from, to, payload, options),
            Err(errno) if !udp || errno != Errno::ENETUNREACH && !self.unrouted_dns(to) => {
                return Err(errno);
            }
            Err(_) => Err(SendError::NoRoute),
        };
        match sent {
            Ok(refused) => {
                if let Some(socket) = self.sockets.get_mut(&id) {
                    socket.traffic.sent += payload.len() as u64;
                }
                // The error is about these two addresses, which are not those of a socket that is connected elsewhere.
                let ours = peer.is_none_or(|peer| (peer.ip(), peer.port()) == (to.ip(), to.port()));
                if let Some(error) = refused.filter(|_| ours) {
                    self.undelivered(id, to, error);
                }
                Ok(payload.len())
            }
            Err(SendError::QueueFull) if !recverr => Ok(payload.len()),
            Err(SendError::NoRoute) if udp && to.port() == DNS => {
                self.refuse(now, id, to, payload);
                Ok(payload.len())
            }
            Err(SendError::TooBig) => {
                self.too_big(now, id, to);
                Err(Errno::EMSGSIZE)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A datagram that this host did not send because of its size: told in the error queue, with what the path carries.
    fn too_big(&mut self, now: Instant, id: SocketId, to: SocketAddr) {
        let local = self.stack.is_local(to.ip());
        let mtu = if local {
            LOOPBACK_MTU
        } else {
            self.stack.path_mtu(now, to.ip())
        };
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        let v6 = to.is_ipv6();
        if !socket.options.recverr(v6) {
            return;
        }
        let connected = matches!(&socket.body, Body::Datagram(datagram) if datagram.peer.is_some());
        // IPv4 tells the port of connect(2) only, and no more than fits a packet.
        let (to, most) = match to {
            SocketAddr::V4(v4) if !connected => (SocketAddr::new((*v4.ip()).into(), 0), LENGTH_MAX),
            SocketAddr::V4(_) => (to, LENGTH_MAX),
            SocketAddr::V6(_) => (to, usize::MAX),
        };
        let room = socket.options.receive_room();
        let mtu = u32::try_from(mtu.min(most)).unwrap_or(u32::MAX);
        socket.errors.push_too_big(room, to, mtu);
    }

    /// The next datagram, its source as the socket's family shows it; `None`: none waits.
    pub fn udp_recv(&mut self, id: SocketId) -> Option<Datagram> {
        let socket = self.sockets.get_mut(&id)?;
        let family = socket.family;
        let Body::Datagram(datagram) = &mut socket.body else {
            return None;
        };
        let received = match datagram.refusals.pop_front() {
            Some(refusal) => refusal,
            None => self.stack.datagram_recv(datagram.endpoint?)?,
        };
        socket.traffic.received += received.payload.len() as u64;
        let stamped = socket.wants_stamp();
        Some(Datagram {
            from: present(family, received.from),
            to: present(family, received.to),
            at: received.at.filter(|_| stamped),
            ..received
        })
    }

    /// Answers a datagram for a program that turned out to be gone: its sender hears that nobody listens.
    pub fn udp_refuse(&mut self, now: Instant, protocol: DatagramProtocol, datagram: &Datagram) {
        self.stack.datagram_refuse(now, protocol, datagram);
    }

    /// Protocol of a datagram socket.
    #[must_use]
    pub fn udp_protocol(&self, id: SocketId) -> DatagramProtocol {
        self.sockets
            .get(&id)
            .map_or_else(DatagramProtocol::default, |socket| {
                socket.options.protocol()
            })
    }

    /// SO_RCVBUF has changed.
    pub(super) fn apply_receive_room(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get(&id)
            && let Body::Datagram(datagram) = &socket.body
            && let Some(endpoint) = datagram.endpoint
        {
            let room = socket.options.receive_room();
            self.stack.datagram_set_room(endpoint, room);
        }
    }

    pub(super) fn connect_datagram(
        &mut self,
        id: SocketId,
        to: ConnectTo,
    ) -> Result<Connect, Errno> {
        let to = match to {
            ConnectTo::Unspecified => {
                self.dissolve_datagram(id);
                return Ok(Connect::Dissolved(None));
            }
            ConnectTo::Address(to) => to,
            ConnectTo::Unusable(errno) => return Err(errno),
        };
        let socket = self.sockets.get(&id).ok_or(Errno::EBADF)?;
        let destination = destination(socket.family, socket.binding.families, to)?;
        let peer = socket.permitted(destination.among(&self.stack))?;
        if Self::lacks_scope(socket, peer) {
            return Err(Errno::EINVAL);
        }
        let source = if self.is_for_many(peer.ip()) {
            let route = self.cast_route(socket, peer, &SendControl::default());
            route.map(|(_, source)| source)
        } else {
            self.source(&socket.binding, peer.ip())
        };
        let source = match source {
            Ok(source) => source,
            // Resolvers connect before they ask; the question is then refused.
            Err(_) if socket.options.protocol().is_udp() && self.unrouted_dns(peer) => {
                match peer.ip() {
                    IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                }
            }
            Err(errno) => return Err(errno),
        };
        self.udp_autobind(id)?;
        let binding = self.sockets.get(&id).ok_or(Errno::EBADF)?.binding;
        let binding = Binding {
            ip: Some(source),
            families: family_of(source),
            ..binding
        };
        self.rebind(id, binding);
        let Body::Datagram(datagram) = &mut self.sockets.get_mut(&id).ok_or(Errno::EBADF)?.body
        else {
            return Err(Errno::EOPNOTSUPP);
        };
        datagram.peer = Some(peer);
        if let Some(endpoint) = datagram.endpoint {
            self.stack.datagram_bind(endpoint, binding.at());
            self.stack.datagram_connect(endpoint, Some(peer));
        }
        Ok(Connect::Done)
    }

    /// Makes the engine's endpoint of a bound UDP socket, if it has none.
    pub(super) fn open_datagram(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        let Body::Datagram(datagram) = &mut socket.body else {
            return;
        };
        if datagram.endpoint.is_none() && socket.binding.port != 0 {
            let protocol = socket.options.protocol();
            let endpoint = self.stack.datagram_open(protocol, socket.binding.at());
            let room = socket.options.receive_room();
            self.stack.datagram_set_room(endpoint, room);
            datagram.endpoint = Some(endpoint);
            self.datagrams.insert(endpoint, id);
            self.tell_reception(id);
        }
    }

    /// Tells the engine's endpoint of a raw socket its new address.
    pub(super) fn move_datagram(&mut self, id: SocketId) {
        if let Some(socket) = self.sockets.get(&id)
            && let Some(endpoint) = socket.endpoint()
        {
            self.stack.datagram_bind(endpoint, socket.binding.at());
        }
    }

    /// An ICMP error about a datagram to `to`. The answer is the error that is pending now; `None`: the socket does not hear
    /// of it.
    pub(super) fn undelivered(
        &mut self,
        id: SocketId,
        to: SocketAddr,
        error: IcmpError,
    ) -> Option<Errno> {
        let socket = self.sockets.get_mut(&id)?;
        let Body::Datagram(datagram) = &socket.body else {
            return None;
        };
        let v6 = to.is_ipv6();
        let (errno, fatal) = Errno::of_icmp(v6, error.kind, error.code);
        let discover = if v6 {
            (SOL_IPV6, IPV6_MTU_DISCOVER)
        } else {
            (SOL_IP, IP_MTU_DISCOVER)
        };
        let too_big = errno == Errno::EMSGSIZE;
        let never = socket.options.value(discover.0, discover.1) == IP_PMTUDISC_DONT;
        if too_big && never && !v6 {
            return None;
        }
        let fatal = fatal && !(too_big && never);
        // udp(7): only a connected socket hears of errors, and only of fatal ones, unless IP_RECVERR is on.
        if socket.options.recverr(v6) {
            let room = socket.options.receive_room();
            let link = if self.stack.is_local(error.from) {
                Link::Loopback
            } else {
                Link::Overlay
            };
            socket.errors.push_icmp(room, (to, link), errno, error);
        } else if datagram.peer.is_none() || !fatal {
            return None;
        }
        socket.error = Some(errno);
        Some(errno)
    }

    /// connect(AF_UNSPEC): what bind(2) did not name is given back, the port included.
    fn dissolve_datagram(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        let binding = socket.unwound_binding();
        let Body::Datagram(datagram) = &mut socket.body else {
            return;
        };
        if datagram.peer.take().is_none() {
            return;
        }
        if let Some(endpoint) = datagram.endpoint {
            if binding.port == 0 {
                datagram.endpoint = None;
                self.datagrams.remove(&endpoint);
                self.stack.datagram_close(endpoint);
            } else {
                self.stack.datagram_connect(endpoint, None);
                self.stack.datagram_bind(endpoint, binding.at());
            }
        }
        self.rebind(id, binding);
    }

    fn unrouted_dns(&self, to: SocketAddr) -> bool {
        to.port() == DNS && self.stack.route(to.ip()).is_err()
    }

    fn refuse(&mut self, now: Instant, id: SocketId, server: SocketAddr, question: &[u8]) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        let to = SocketAddr::new(
            socket.binding.ip.unwrap_or_else(|| match server {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            }),
            socket.binding.port,
        );
        let Body::Datagram(datagram) = &mut socket.body else {
            return;
        };
        if datagram.refusals.len() >= REFUSALS_MAX
            || datagram.peer.is_some_and(|peer| peer != server)
        {
            return;
        }
        if let Some(payload) = dns::refusal(question) {
            datagram.refusals.push_back(Datagram {
                from: server,
                to,
                hop_limit: 64,
                traffic_class: 0,
                link: Link::Overlay,
                at: Some(now),
                dropped: 0,
                payload,
            });
            self.answered.insert(id);
        }
    }
}

impl Socket {
    /// Where its port is chosen from.
    pub(super) fn port_range(&self) -> (u16, u16) {
        match self.options.protocol() {
            DatagramProtocol::Echo => IDENTIFIERS,
            DatagramProtocol::Udp | DatagramProtocol::UdpLite | DatagramProtocol::Icmp => {
                self.options.ephemeral()
            }
        }
    }

    /// Where a datagram goes that is sent to `to`, or to the peer.
    pub(super) fn destined(
        &self,
        to: Option<SocketAddr>,
        stack: &Stack,
    ) -> Result<SocketAddr, Errno> {
        let Body::Datagram(datagram) = &self.body else {
            return Err(Errno::EOPNOTSUPP);
        };
        let ports = self.options.protocol().is_udp();
        let destination = match to {
            // udp(7): the family is looked at before the port.
            Some(to) if ports && to.port() == 0 && (to.is_ipv4() || self.family == Family::V6) => {
                return Err(Errno::EINVAL);
            }
            Some(to) => destination(self.family, self.binding.families, to)?.among(stack),
            // What connect(2) permitted stays permitted.
            None => Destination::Unicast(datagram.peer.ok_or(Errno::EDESTADDRREQ)?),
        };
        if datagram.shut_write {
            return Err(Errno::EPIPE);
        }
        self.permitted(destination)
    }

    /// A destination this socket may use, with SO_BROADCAST in mind.
    fn permitted(&self, destination: Destination) -> Result<SocketAddr, Errno> {
        match destination {
            Destination::Unicast(to) | Destination::Multicast(to) => Ok(to),
            Destination::Broadcast(to) if self.options.is_on(SOL_SOCKET, SO_BROADCAST) => Ok(to),
            Destination::Broadcast(_) => Err(Errno::EACCES),
        }
    }
}

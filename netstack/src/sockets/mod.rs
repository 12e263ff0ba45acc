// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The socket model: what Linux would answer.
//!
//! [`Sockets`] owns the engine of one network on one host and every Internet socket that programs opened on it. A call of a
//! program goes in as a method; the answer is what Linux returns, or what the driver has to do with the kernel object that
//! stands in for the socket. What happens later comes out of [`Sockets::poll_event`].
//!
//! The life of a socket: [`Sockets::socket`] (or [`SocketEvent::Incoming`]), any number of calls, [`Sockets::close`] when the
//! program's last reference is gone. An id that is not known (any more) is answered with EBADF; nothing here panics on it.
//!
//! Data is not the model's business: the driver moves it with [`Stack::send`] and [`Stack::recv`] through
//! [`Sockets::stack_mut`], and datagrams with [`Sockets::udp_send`] and [`Sockets::udp_recv`].
//!
//! Read first: `stream.rs` (states of a TCP socket), `ports.rs` (who may bind what), `options.rs`.

mod address;
mod cast;
mod control;
mod datagram;
mod dns;
mod errors;
mod info;
mod membership;
pub mod names;
mod option_bytes;
mod option_table;
mod option_value;
mod options;
mod ports;
mod raw;
mod sending;
mod state;
mod stream;
mod tcp_info;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use self::address::Family;
pub use self::control::{ControlMessage, SendControl};
pub use self::datagram::ConnectTo;
pub use self::errors::QueuedError;
pub use self::info::{Owners, SocketRow};
pub use self::option_value::OptionValue;
pub use self::state::Traffic;
pub use self::stream::{Connect, Listen, Shutdown};

use self::address::{AF_INET, AF_INET6, present_bound};
use self::names::{
    IP_MULTICAST_ALL, IP_RECVERR, IPV6_ADDRFORM, IPV6_MULTICAST_ALL, IPV6_RECVERR, IPV6_V6ONLY,
    SO_BINDTODEVICE, SO_RCVBUF, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF, SOL_IP, SOL_IPV6,
    SOL_SOCKET, SOL_TCP, SOL_UDP, TCP_INQ, TCP_MAXSEG, UDP_CORK,
};
use self::options::Options;
use self::ports::{Claim, Ports, Random, Transport};
use self::state::{Binding, Body, Socket};
use self::stream::Stream;
use crate::errno::Errno;
use crate::stack::{
    DatagramId, DatagramProtocol, Event, Families, FlowId, ListenerId, LocalAddr, Stack, TcpState,
};

/// Sockets of one network that programs may open; more: ENFILE. Incoming connections are bounded by the engine's flows.
const SOCKETS_MAX: usize = 1 << 18;

/// A socket of a program. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// Type of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// SOCK_STREAM: TCP.
    Stream,
    /// SOCK_DGRAM: UDP and ICMP echo; SOCK_RAW: ICMP.
    Datagram,
}

/// Why bind(2) or listen(2) failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindError {
    /// Others hold the port. The caller looks whether they still live, closes the dead, and tries once more; then it is
    /// EADDRINUSE. At most 64 are named. Empty: no port is free at all.
    InUse {
        /// The sockets in the way.
        holders: Vec<SocketId>,
    },
    /// The answer as it is.
    Errno(Errno),
}

impl BindError {
    /// The answer when nothing more can be done.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self {
            Self::InUse { .. } => Errno::EADDRINUSE,
            Self::Errno(errno) => *errno,
        }
    }
}

impl From<Errno> for BindError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// How a socket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseHow {
    /// close(2): what is queued and FIN go out in the background; with SO_LINGER on and 0 it is `Reset`.
    Graceful,
    /// RST: unread data was thrown away (RFC 2525 §2.17).
    Reset,
}

/// What happened. Sockets that were closed meanwhile are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SocketEvent {
    /// A connection attempt succeeded.
    Connected { socket: SocketId, flow: FlowId },
    /// A connection attempt failed; the error is pending on the socket until `take_error`, SO_ERROR or the next connect.
    ConnectFailed {
        socket: SocketId,
        flow: FlowId,
        errno: Errno,
    },
    /// A connection came in; `socket` is new and the driver's to accept or to close.
    Incoming {
        listener: SocketId,
        socket: SocketId,
        flow: FlowId,
    },
    /// Data or FIN to read.
    Readable { socket: SocketId, flow: FlowId },
    /// Room to send again.
    Writable { socket: SocketId, flow: FlowId },
    /// The connection broke; the error is pending on the socket. What was received can still be read.
    Reset {
        socket: SocketId,
        flow: FlowId,
        errno: Errno,
    },
    /// Both directions are finished; the flow is gone.
    Closed { socket: SocketId, flow: FlowId },
    /// A datagram waits.
    Datagram { socket: SocketId },
    /// An ICMP error is pending on a datagram socket.
    DatagramError { socket: SocketId, errno: Errno },
}

/// All sockets of one network on one host.
#[derive(Debug)]
pub struct Sockets {
    stack: Stack,
    sockets: BTreeMap<SocketId, Socket>,
    flows: BTreeMap<FlowId, SocketId>,
    listeners: BTreeMap<ListenerId, SocketId>,
    datagrams: BTreeMap<DatagramId, SocketId>,
    ports: Ports,
    random: Random,
    /// Connections made from a port that connect(2) chose.
    connections: u32,
    last_id: u64,
    /// Engine events taken while a listener closed; no more than the engine held then.
    deferred: VecDeque<Event>,
    /// Sockets with a datagram made by the model itself: each at most once.
    answered: BTreeSet<SocketId>,
    /// Programs may open raw sockets.
    raw: bool,
}

impl Sockets {
    /// No sockets yet, over `stack`. `seed` is secret: it chooses ephemeral ports.
    #[must_use]
    pub const fn new(stack: Stack, seed: u64) -> Self {
        Self {
            stack,
            sockets: BTreeMap::new(),
            flows: BTreeMap::new(),
            listeners: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            ports: Ports::new(),
            random: Random::new(seed),
            connections: 0,
            last_id: 0,
            deferred: VecDeque::new(),
            answered: BTreeSet::new(),
            raw: true,
        }
    }

    /// The engine.
    #[must_use]
    pub const fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The engine: packets, data of flows, timers. Listeners and datagram endpoints are ended by the model only; a flow that is
    /// over may be aborted here, its socket lives on until [`Sockets::close`].
    pub const fn stack_mut(&mut self) -> &mut Stack {
        &mut self.stack
    }

    /// socket(2). `ty` without SOCK_NONBLOCK and SOCK_CLOEXEC.
    ///
    /// # Errors
    /// EAFNOSUPPORT: not an Internet family. EINVAL: impossible type or protocol number. ESOCKTNOSUPPORT, EPROTONOSUPPORT:
    /// no such type or protocol here (MPTCP and SCTP among them). EPERM: SOCK_RAW of anything but the family's ICMP, and of that
    /// too where [`Sockets::set_raw`] forbids it (raw(7): CAP_NET_RAW). ENFILE: 262,144 sockets are open, or 256 raw ones.
    pub fn socket(&mut self, family: i32, ty: i32, protocol: i32) -> Result<SocketId, Errno> {
        let family = match family {
            AF_INET => Family::V4,
            AF_INET6 => Family::V6,
            _ => return Err(Errno::EAFNOSUPPORT),
        };
        let (kind, datagram) = kind_of(family, ty, protocol)?;
        if self.sockets.len() >= SOCKETS_MAX {
            return Err(Errno::ENFILE);
        }
        let raw = datagram == DatagramProtocol::Icmp;
        if raw {
            self.admit_raw()?;
        }
        let id = self.insert(Socket::new(family, Options::of(kind, family, datagram)));
        if raw {
            self.open_datagram(id);
        }
        Ok(id)
    }

    /// Type of a socket.
    #[must_use]
    pub fn kind(&self, id: SocketId) -> Option<Kind> {
        self.sockets.get(&id).map(Socket::kind)
    }

    /// Address family of a socket.
    #[must_use]
    pub fn family(&self, id: SocketId) -> Option<Family> {
        self.sockets.get(&id).map(|socket| socket.family)
    }

    /// bind(2).
    ///
    /// # Errors
    /// EAFNOSUPPORT: IPv6 address on an IPv4 socket. EINVAL: bound or connected already; IPv4 address on an IPv6 socket;
    /// v4-mapped address with IPV6_V6ONLY; multicast on a stream socket; link-local without scope. EADDRNOTAVAIL: not an
    /// address of this network here (unless IP_FREEBIND). `InUse`: EADDRINUSE.
    pub fn bind(&mut self, id: SocketId, address: SocketAddr) -> Result<(), BindError> {
        let socket = self.sockets.get(&id).ok_or(Errno::EBADF)?;
        // Linux looks at the state first with IPv6, and at the address first with IPv4.
        if socket.family == Family::V6 && !socket.may_bind() {
            return Err(Errno::EINVAL.into());
        }
        let (ip, families) = socket.bindable(address, &self.stack)?;
        if !socket.may_bind() {
            return Err(Errno::EINVAL.into());
        }
        let mut binding = Binding {
            ip,
            families,
            port: address.port(),
            ip_locked: ip.is_some(),
            port_locked: address.port() != 0,
        };
        let claim = socket.claim(&binding);
        let Some(transport) = socket.transport() else {
            // raw(7): there are no ports; the address may be changed.
            binding.port = socket.binding.port;
            binding.port_locked = true;
            if binding.ip.is_none() {
                binding.families = socket.binding.families;
            }
            self.rebind(id, binding);
            self.move_datagram(id);
            return Ok(());
        };
        if binding.port != 0 {
            self.ports
                .check(transport, binding.port, &claim, id)
                .map_err(|holders| BindError::InUse { holders })?;
        } else if !socket.binds_without_port() {
            let range = socket.port_range();
            let port = self.ports.free(transport, &claim, range, &mut self.random);
            binding.port = port.ok_or(BindError::InUse {
                holders: Vec::new(),
            })?;
        }
        let v6_only = matches!(ip, Some(std::net::IpAddr::V6(_)));
        self.rebind(id, binding);
        if v6_only && let Some(socket) = self.sockets.get_mut(&id) {
            // ipv6(7): an IPv6 address binds IPv6 only, and getsockopt shows it.
            socket
                .options
                .set(SOL_IPV6, IPV6_V6ONLY, &1_i32.to_ne_bytes())?;
        }
        self.open_datagram(id);
        Ok(())
    }

    /// getsockname(2): in the family of the socket, v4-mapped where IPv4 is used by an IPv6 socket.
    ///
    /// # Errors
    /// EBADF.
    pub fn local_address(&self, id: SocketId) -> Result<SocketAddr, Errno> {
        let socket = self.sockets.get(&id).ok_or(Errno::EBADF)?;
        let binding = &socket.binding;
        Ok(present_bound(
            socket.family,
            binding.ip,
            binding.families,
            binding.port,
        ))
    }

    /// getpeername(2).
    ///
    /// # Errors
    /// ENOTCONN: no peer: fresh, listening, still connecting, failed, or the connection is over.
    pub fn peer_address(&self, id: SocketId) -> Result<SocketAddr, Errno> {
        let socket = self.sockets.get(&id).ok_or(Errno::EBADF)?;
        let peer = socket
            .peer()
            .filter(|_| !self.is_over(socket))
            .ok_or(Errno::ENOTCONN)?;
        Ok(address::present(socket.family, peer))
    }

    /// setsockopt(2) except SO_RCVTIMEO and SO_SNDTIMEO, which belong to the kernel object.
    ///
    /// # Errors
    /// As Linux for a program without privileges.
    pub fn set_option(
        &mut self,
        now: Instant,
        id: SocketId,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        let socket = self.sockets.get_mut(&id).ok_or(Errno::EBADF)?;
        socket.may_set(level, name, value)?;
        if level == SOL_IPV6 && name == IPV6_ADDRFORM && socket.family == Family::V6 {
            return socket.become_v4(value);
        }
        if (level, name) == (SOL_TCP, TCP_MAXSEG) && socket.peer().is_some() {
            // It counts when a connection is made: one that exists keeps its size.
            return socket.options.clone().set(level, name, value);
        }
        if let Some(outcome) = self.set_group_option(now, id, (level, name), value) {
            return outcome;
        }
        let shares = level == SOL_SOCKET && (name == SO_REUSEADDR || name == SO_REUSEPORT);
        if shares {
            self.forget_claim(id);
        }
        let socket = self.sockets.get_mut(&id).ok_or(Errno::EBADF)?;
        let outcome = socket.options.set(level, name, value);
        let queues = matches!(
            (level, name),
            (SOL_IP, IP_RECVERR) | (SOL_IPV6, IPV6_RECVERR)
        );
        if outcome.is_ok() && queues && !socket.options.is_on(level, name) {
            socket.errors.clear();
        }
        if outcome.is_ok() && level == SOL_IPV6 && name == IPV6_V6ONLY {
            let only = socket.v6_only();
            socket.binding.families = if only { Families::V6 } else { Families::Both };
        }
        let told = socket.options.tcp(socket.peer_is_v6());
        if let Body::Stream(Stream::Listening {
            changed, listener, ..
        }) = &mut socket.body
        {
            *changed = Some(now);
            self.stack.set_listener_options(*listener, &told);
        }
        if let Some(flow) = socket.flow() {
            self.stack.set_options(now, flow, &told);
        }
        if shares {
            self.record_claim(id);
        }
        if matches!(
            (level, name),
            (SOL_IP, IP_MULTICAST_ALL)
                | (SOL_IPV6, IPV6_MULTICAST_ALL)
                | (SOL_SOCKET, SO_BINDTODEVICE)
        ) {
            self.tell_reception(id);
        }
        if (level, name) == (SOL_SOCKET, SO_RCVBUF) {
            self.apply_receive_room(id);
        }
        if outcome.is_ok()
            && (level, name) == (SOL_UDP, UDP_CORK)
            && value.iter().take(4).all(|byte| *byte == 0)
        {
            // What it comes to is not this call's to report.
            let _ = self.uncork(now, id);
        }
        self.apply_filter(id);
        outcome
    }

    /// False: setsockopt(2) answers ENOPROTOOPT whatever the value is.
    #[must_use]
    pub fn may_be_set(&self, id: SocketId, level: i32, name: i32) -> bool {
        self.sockets
            .get(&id)
            .is_some_and(|socket| socket.options.may_be_set(level, name))
    }

    /// Whether options of that level are this socket's.
    #[must_use]
    pub fn has_level(&self, id: SocketId, level: i32) -> bool {
        self.sockets
            .get(&id)
            .is_some_and(|socket| socket.options.has_level(level))
    }

    /// getsockopt(2); [`OptionValue::fit`] cuts it to the program's `optlen`. SO_ERROR takes the pending error away.
    ///
    /// # Errors
    /// ENOPROTOOPT, EOPNOTSUPP, ENOTCONN, EPERM … as Linux for that option.
    pub fn get_option(
        &mut self,
        now: Instant,
        id: SocketId,
        level: i32,
        name: i32,
    ) -> Result<OptionValue, Errno> {
        let stack = &self.stack;
        let socket = self.sockets.get_mut(&id).ok_or(Errno::EBADF)?;
        info::option_of_state(socket, id, level, name, stack, now)
            .unwrap_or_else(|| socket.options.get(level, name))
    }

    /// TCP_INQ: recvmsg(2) on this stream tells how much is left.
    #[must_use]
    pub fn tells_queue(&self, id: SocketId) -> bool {
        self.sockets
            .get(&id)
            .is_some_and(|socket| socket.options.is_on(SOL_TCP, TCP_INQ))
    }

    /// TCP_SAVED_SYN has been read: it is given once.
    pub fn forget_saved_syn(&mut self, id: SocketId) {
        if let Some(flow) = self.flow(id) {
            self.stack.forget_saved_syn(flow);
        }
    }

    /// Makes `errno` the pending error (SO_ERROR) of a socket.
    pub fn set_error(&mut self, id: SocketId, errno: Errno) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.error = Some(errno);
        }
    }

    /// Takes the pending error for a call that is being answered with it. A parked connect(2) is over by that: the next one
    /// starts anew. (SO_ERROR leaves a failed connect to be noticed by the next connect(2), which is then ECONNABORTED.)
    pub fn take_error(&mut self, id: SocketId) -> Option<Errno> {
        let socket = self.sockets.get_mut(&id)?;
        socket.forget_failure();
        socket.error.take()
    }

    /// SO_SNDBUF and SO_RCVBUF as getsockopt(2) shows them, each if it was set.
    #[must_use]
    pub fn buffers(&self, id: SocketId) -> (Option<usize>, Option<usize>) {
        self.sockets.get(&id).map_or((None, None), |socket| {
            let options = &socket.options;
            (options.set_buffer(SO_SNDBUF), options.set_buffer(SO_RCVBUF))
        })
    }

    /// SO_LINGER if it is on.
    #[must_use]
    pub fn linger(&self, id: SocketId) -> Option<Duration> {
        self.sockets
            .get(&id)
            .and_then(|socket| socket.options.linger())
    }

    /// The program's last reference is gone. The id is dead afterwards; what goes on in the engine is of no socket. Connections
    /// that came in through a listener and were announced are sockets of their own and stay; those not yet announced are reset.
    pub fn close(&mut self, now: Instant, id: SocketId, how: CloseHow) {
        self.forget_claim(id);
        self.answered.remove(&id);
        let Some(socket) = self.sockets.remove(&id) else {
            return;
        };
        if !socket.groups.is_empty() {
            self.stack.set_memberships(now, id.0, Vec::new());
        }
        let reset = match how {
            CloseHow::Reset => true,
            CloseHow::Graceful => socket.options.linger() == Some(Duration::ZERO),
        };
        match socket.body {
            Body::Stream(stream) => self.end_stream(now, stream, reset),
            Body::Datagram(datagram) => {
                if let Some(endpoint) = datagram.endpoint {
                    self.datagrams.remove(&endpoint);
                    self.stack.datagram_close(endpoint);
                }
            }
        }
    }

    /// The next thing that happened; `None`: nothing more now.
    pub fn poll_event(&mut self) -> Option<SocketEvent> {
        if let Some(socket) = self.answered.pop_first() {
            return Some(SocketEvent::Datagram { socket });
        }
        loop {
            let event = self
                .deferred
                .pop_front()
                .or_else(|| self.stack.poll_event())?;
            if let Some(event) = self.translate(event) {
                return Some(event);
            }
        }
    }

    fn translate(&mut self, event: Event) -> Option<SocketEvent> {
        match event {
            Event::Connected(flow) => self.flow_connected(flow),
            Event::ConnectFailed(flow, failure) => self.flow_failed(flow, failure.into()),
            Event::Accepted { listener, flow } => self.flow_accepted(listener, flow),
            Event::Readable(flow) => self
                .flows
                .get(&flow)
                .map(|&socket| SocketEvent::Readable { socket, flow }),
            Event::Writable(flow) => self
                .flows
                .get(&flow)
                .map(|&socket| SocketEvent::Writable { socket, flow }),
            Event::Reset(flow, failure) => self.flow_reset(flow, failure.into()),
            Event::Closed(flow) => self.flow_closed(flow),
            Event::Datagram(endpoint) => self
                .datagrams
                .get(&endpoint)
                .map(|&socket| SocketEvent::Datagram { socket }),
            Event::DatagramError {
                id,
                to,
                failure: _,
                error,
            } => {
                let socket = *self.datagrams.get(&id)?;
                let errno = self.undelivered(socket, to, *error)?;
                Some(SocketEvent::DatagramError { socket, errno })
            }
        }
    }

    fn insert(&mut self, socket: Socket) -> SocketId {
        self.last_id += 1;
        let id = SocketId(self.last_id);
        self.sockets.insert(id, socket);
        self.record_claim(id);
        id
    }

    /// Both directions of a connection are finished, whether or not the driver has read the FIN.
    fn is_over(&self, socket: &Socket) -> bool {
        socket.flow().is_some_and(|flow| {
            matches!(
                self.stack.state(flow),
                None | Some(TcpState::TimeWait | TcpState::Closed)
            )
        })
    }

    /// Replaces the binding of a socket, and with it its claim on a port.
    fn rebind(&mut self, id: SocketId, binding: Binding) {
        self.forget_claim(id);
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.binding = binding;
        }
        self.record_claim(id);
    }

    fn record_claim(&mut self, id: SocketId) {
        if let Some((transport, port, claim)) = self.claim_of(id) {
            self.ports.insert(transport, port, claim, id);
        }
    }

    fn forget_claim(&mut self, id: SocketId) {
        if let Some((transport, port, claim)) = self.claim_of(id) {
            self.ports.remove(transport, port, &claim, id);
        }
    }

    fn claim_of(&self, id: SocketId) -> Option<(Transport, u16, Claim)> {
        let socket = self.sockets.get(&id)?;
        let (transport, port) = (socket.transport()?, socket.binding.port);
        (port != 0).then(|| (transport, port, socket.claim(&socket.binding)))
    }
}

impl Binding {
    /// Where the engine listens for it.
    const fn at(&self) -> LocalAddr {
        LocalAddr {
            ip: self.ip,
            families: self.families,
            port: self.port,
        }
    }
}

/// The tables of socket types in the kernel (`inetsw`, `inetsw6`), without what an unprivileged program cannot have.
fn kind_of(family: Family, ty: i32, protocol: i32) -> Result<(Kind, DatagramProtocol), Errno> {
    const SOCK_STREAM: i32 = 1;
    const SOCK_DGRAM: i32 = 2;
    const SOCK_RAW: i32 = 3;
    const SOCK_PACKET: i32 = 10;
    const SOCK_MAX: i32 = 11;
    const IPPROTO_ICMP: i32 = 1;
    const IPPROTO_TCP: i32 = 6;
    const IPPROTO_UDP: i32 = 17;
    const IPPROTO_ICMPV6: i32 = 58;
    const IPPROTO_UDPLITE: i32 = 136;
    const IPPROTO_MAX: i32 = 263;
    if family == Family::V4 && ty == SOCK_PACKET {
        // Taken for AF_PACKET (socket(2)).
        return Err(Errno::EPERM);
    }
    if !(0..SOCK_MAX).contains(&ty) || !(0..IPPROTO_MAX).contains(&protocol) {
        return Err(Errno::EINVAL);
    }
    match (ty, protocol) {
        (SOCK_STREAM, 0 | IPPROTO_TCP) => Ok((Kind::Stream, DatagramProtocol::Udp)),
        (SOCK_DGRAM, 0 | IPPROTO_UDP) => Ok((Kind::Datagram, DatagramProtocol::Udp)),
        (SOCK_DGRAM, IPPROTO_UDPLITE) => Ok((Kind::Datagram, DatagramProtocol::UdpLite)),
        (SOCK_DGRAM, IPPROTO_ICMP) if family == Family::V4 => {
            Ok((Kind::Datagram, DatagramProtocol::Echo))
        }
        (SOCK_DGRAM, IPPROTO_ICMPV6) if family == Family::V6 => {
            Ok((Kind::Datagram, DatagramProtocol::Echo))
        }
        (SOCK_RAW, IPPROTO_ICMP) if family == Family::V4 => {
            Ok((Kind::Datagram, DatagramProtocol::Icmp))
        }
        (SOCK_RAW, IPPROTO_ICMPV6) if family == Family::V6 => {
            Ok((Kind::Datagram, DatagramProtocol::Icmp))
        }
        (SOCK_STREAM | SOCK_DGRAM, _) | (SOCK_RAW, 0) => Err(Errno::EPROTONOSUPPORT),
        (SOCK_RAW, _) => Err(Errno::EPERM),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! TCP sockets: connect(2), listen(2), shutdown(2) and what the network does to them.
//!
//! ```text
//!            listen                       established
//!   Listening <---- Idle ----> Connecting -----------> Connected
//!                    ^   connect   |  refused, time-out    |
//!                    |             v                       |
//!                    +---------- Failed                    |
//!                    +-------------------------------------+  connect(AF_UNSPEC)
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::address::{Destination, destination};
use super::datagram::ConnectTo;
use super::ports::{Transport, scan_for};
use super::state::{Binding, Body, Socket};
use super::{BindError, Family, SocketEvent, SocketId, Sockets};
use crate::errno::Errno;
use crate::stack::{ConnectError, Event, Families, FlowId, ListenerId};

/// Longest accept queue (net.core.somaxconn).
const BACKLOG_MAX: usize = 4_096;

/// State of a TCP socket.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Not connected; perhaps bound. May bind, connect, listen.
    Idle,
    /// A connection attempt is under way. Ends by `Connected`, `Failed`, connect(AF_UNSPEC), shutdown(2).
    Connecting {
        flow: FlowId,
        peer: SocketAddr,
        /// The local port was chosen by connect(2).
        chosen: bool,
    },
    /// An attempt failed and no connect(2) was answered with that yet.
    Failed,
    /// A connection, also one that is over: only connect(AF_UNSPEC) leads out.
    Connected {
        /// `None`: the engine has forgotten it.
        flow: Option<FlowId>,
        peer: SocketAddr,
        chosen: bool,
        /// A connect(2) has been answered with success.
        announced: bool,
        /// Neither reset nor finished in both directions.
        live: bool,
    },
    /// Waits for connections.
    Listening {
        listener: ListenerId,
        /// When an option was set after listen(2): half-open connections have the earlier ones.
        changed: Option<Instant>,
        /// What listen(2) asked for, at most net.core.somaxconn.
        backlog: usize,
    },
}

/// What connect(2) came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// TCP: an attempt has begun; the answer comes as an event. EINPROGRESS if the socket does not block.
    Started(FlowId),
    /// TCP: an attempt is under way already: EALREADY if the socket does not block, else wait for the same event.
    InProgress(FlowId),
    /// 0.
    Done,
    /// connect(AF_UNSPEC): 0; the connection is gone (that flow, if there was one, was aborted).
    Dissolved(Option<FlowId>),
}

/// What listen(2) came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// The socket listens now.
    Started(ListenerId),
    /// It did before; the backlog was changed.
    Updated(ListenerId),
}

/// What shutdown(2) came to: always 0 for the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// SHUT_RD: what arrives from now on is acknowledged and thrown away.
    Read,
    /// SHUT_WR: when the driver has handed over everything the program wrote, it calls [`Sockets::finish`].
    Write,
    /// SHUT_RDWR: both.
    Both,
    /// The listener has stopped; the socket is no longer listening.
    Listener(ListenerId),
    /// The connection attempt was given up; the socket is as before connect(2).
    Aborted(FlowId),
    /// Nothing to do (SHUT_WR on a listener).
    Ignored,
}

impl Sockets {
    /// listen(2). A socket without port gets one.
    ///
    /// # Errors
    /// EOPNOTSUPP: not a stream socket. EINVAL: connected or connecting. `InUse`: EADDRINUSE.
    pub fn listen(
        &mut self,
        _now: Instant,
        id: SocketId,
        backlog: i32,
    ) -> Result<Listen, BindError> {
        let socket = self.sockets.get(&id).ok_or(Errno::EBADF)?;
        let Body::Stream(stream) = &socket.body else {
            return Err(Errno::EOPNOTSUPP.into());
        };
        // Negative is a very large unsigned number; Linux accepts one connection more than the backlog.
        let asked = usize::try_from(backlog)
            .unwrap_or(BACKLOG_MAX)
            .min(BACKLOG_MAX);
        let backlog = asked + 1;
        match stream {
            Stream::Idle => {}
            Stream::Listening { listener, .. } => {
                let listener = *listener;
                self.stack.set_backlog(listener, backlog);
                if let Some(Body::Stream(Stream::Listening { backlog, .. })) =
                    self.sockets.get_mut(&id).map(|socket| &mut socket.body)
                {
                    *backlog = asked;
                }
                return Ok(Listen::Updated(listener));
            }
            Stream::Connecting { .. } | Stream::Failed | Stream::Connected { .. } => {
                return Err(Errno::EINVAL.into());
            }
        }
        let mut binding = socket.binding;
        let claim = socket.claim(&binding);
        if binding.port == 0 {
            let range = socket.options.ephemeral();
            let port = self
                .ports
                .free(Transport::Tcp, &claim, range, &mut self.random);
            binding.port = port.ok_or(BindError::InUse {
                holders: Vec::new(),
            })?;
        } else {
            // Two sockets may be bound to one port with SO_REUSEADDR, but only one of them listens.
            self.ports
                .check(Transport::Tcp, binding.port, &claim, id)
                .map_err(|holders| BindError::InUse { holders })?;
        }
        let options = socket.options.tcp(socket.peer_is_v6());
        let listener = self.stack.listen(binding.at(), backlog, &options);
        self.set_stream(
            id,
            Stream::Listening {
                listener,
                changed: None,
                backlog: asked,
            },
            binding,
        );
        self.listeners.insert(listener, id);
        Ok(Listen::Started(listener))
    }

    /// connect(2).
    ///
    /// # Errors
    /// EISCONN, ENETUNREACH (no route, broadcast, multicast), EADDRNOTAVAIL (no free port, or the bound one is connected to that
    /// peer), EAFNOSUPPORT, EINVAL (loopback source for an outside destination, IPv4 address on an IPv6 stream socket,
    /// link-local without scope), ECONNREFUSED (port 0), ENOBUFS (too many connections); the error of an earlier attempt that
    /// failed, or ECONNABORTED if it was read from SO_ERROR before. UDP: also EACCES (broadcast), EAGAIN (no free port).
    pub fn connect(&mut self, now: Instant, id: SocketId, to: ConnectTo) -> Result<Connect, Errno> {
        let socket = self.sockets.get_mut(&id).ok_or(Errno::EBADF)?;
        let Body::Stream(stream) = &mut socket.body else {
            return self.connect_datagram(id, to);
        };
        let to = match to {
            ConnectTo::Unspecified => return Ok(Connect::Dissolved(self.dissolve(now, id))),
            ConnectTo::Address(to) => Ok(to),
            ConnectTo::Unusable(errno) => Err(errno),
        };
        match stream {
            Stream::Idle => self.start_connect(now, id, to?),
            Stream::Connecting { flow, .. } => Ok(Connect::InProgress(*flow)),
            Stream::Failed => {
                socket.forget_failure();
                Err(socket.error.take().unwrap_or(Errno::ECONNABORTED))
            }
            Stream::Connected {
                announced, live, ..
            } => {
                if *announced {
                    return Err(Errno::EISCONN);
                }
                *announced = true;
                if *live {
                    Ok(Connect::Done)
                } else {
                    Err(socket.error.take().unwrap_or(Errno::ECONNABORTED))
                }
            }
            Stream::Listening { .. } => Err(Errno::EISCONN),
        }
    }

    /// What a parked (blocking) connect(2) is answered when its event has come. The next connect(2) is then EISCONN, or starts
    /// anew after a failure. A driver that does not call this answers as a non-blocking socket does: 0 once more.
    ///
    /// # Errors
    /// The error of the attempt. EINPROGRESS: it still goes on. ENOTCONN: there is none (it was dissolved meanwhile).
    pub fn connect_answer(&mut self, id: SocketId) -> Result<(), Errno> {
        let socket = self.sockets.get_mut(&id).ok_or(Errno::EBADF)?;
        match &mut socket.body {
            Body::Stream(Stream::Connected { announced, .. }) => {
                *announced = true;
                Ok(())
            }
            Body::Stream(Stream::Connecting { .. }) => Err(Errno::EINPROGRESS),
            Body::Stream(Stream::Failed) => {
                socket.forget_failure();
                Err(socket.error.take().unwrap_or(Errno::ECONNABORTED))
            }
            Body::Stream(Stream::Idle | Stream::Listening { .. }) | Body::Datagram(_) => {
                Err(Errno::ENOTCONN)
            }
        }
    }

    /// shutdown(2). `how`: SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2.
    ///
    /// # Errors
    /// EINVAL: no such `how`. ENOTCONN: not connected, or the connection is over (for UDP the flags are set all the same).
    pub fn shutdown(&mut self, now: Instant, id: SocketId, how: i32) -> Result<Shutdown, Errno> {
        let answer = match how {
            0 => Shutdown::Read,
            1 => Shutdown::Write,
            2 => Shutdown::Both,
            _ => return Err(Errno::EINVAL),
        };
        let over = self
            .sockets
            .get(&id)
            .is_some_and(|socket| self.is_over(socket));
        let socket = self.sockets.get_mut(&id).ok_or(Errno::EBADF)?;
        match &mut socket.body {
            Body::Stream(Stream::Connected { .. }) if over => Err(Errno::ENOTCONN),
            Body::Datagram(datagram) => {
                datagram.shut_write |= answer != Shutdown::Read;
                datagram.peer.map(|_| answer).ok_or(Errno::ENOTCONN)
            }
            Body::Stream(Stream::Connected {
                flow: Some(flow),
                live: true,
                announced,
                ..
            }) => {
                // The attempt is over: a further connect(2) is EISCONN, not its answer.
                *announced = true;
                if answer != Shutdown::Write {
                    self.stack.discard_received(now, *flow);
                }
                Ok(answer)
            }
            Body::Stream(Stream::Connecting { flow, .. }) => {
                let flow = *flow;
                self.dissolve(now, id);
                Ok(Shutdown::Aborted(flow))
            }
            Body::Stream(Stream::Listening { .. }) if answer == Shutdown::Write => {
                Ok(Shutdown::Ignored)
            }
            Body::Stream(Stream::Listening { listener, .. }) => {
                let listener = *listener;
                self.dissolve(now, id);
                Ok(Shutdown::Listener(listener))
            }
            Body::Stream(Stream::Idle | Stream::Failed | Stream::Connected { .. }) => {
                Err(Errno::ENOTCONN)
            }
        }
    }

    /// FIN after what is queued: the driver has handed over all that was written before SHUT_WR. Without a connection: nothing.
    pub fn finish(&mut self, now: Instant, id: SocketId) {
        if let Some(flow) = self.sockets.get(&id).and_then(Socket::flow) {
            self.stack.finish(now, flow);
        }
    }

    /// The flow of a connected or connecting TCP socket.
    #[must_use]
    pub fn flow(&self, id: SocketId) -> Option<FlowId> {
        self.sockets.get(&id).and_then(Socket::flow)
    }

    /// The socket of a flow; `None`: it was closed.
    #[must_use]
    pub fn socket_of(&self, flow: FlowId) -> Option<SocketId> {
        self.flows.get(&flow).copied()
    }

    /// The socket of a listener; `None`: it was closed.
    #[must_use]
    pub fn socket_of_listener(&self, listener: ListenerId) -> Option<SocketId> {
        self.listeners.get(&listener).copied()
    }

    fn start_connect(
        &mut self,
        now: Instant,
        id: SocketId,
        to: SocketAddr,
    ) -> Result<Connect, Errno> {
        let socket = self.sockets.get(&id).ok_or(Errno::EBADF)?;
        if socket.family == Family::V6 && to.is_ipv4() {
            // Shorter than struct sockaddr_in6, which Linux sees before the family.
            return Err(Errno::EINVAL);
        }
        let Destination::Unicast(peer) = destination(socket.family, socket.binding.families, to)?
        else {
            return Err(Errno::ENETUNREACH);
        };
        let source = self.source(&socket.binding, peer.ip())?;
        if peer.port() == 0 {
            // Nobody listens on port 0; Linux learns it from the RST.
            return Err(Errno::ECONNREFUSED);
        }
        let options = socket.options.tcp(peer.is_ipv6());
        let mut binding = Binding {
            ip: Some(source),
            families: family_of(source),
            ..socket.binding
        };
        let chosen = binding.port == 0;
        let flow = if chosen {
            let mut attempt = Err(Errno::EADDRNOTAVAIL);
            let ports = scan_for(
                socket.options.ephemeral(),
                &self.random,
                &peer,
                self.connections,
            );
            self.connections = self.connections.wrapping_add(1);
            for port in ports {
                if !self.ports.connectable(Transport::Tcp, port) {
                    continue;
                }
                match self
                    .stack
                    .connect(now, SocketAddr::new(source, port), peer, &options)
                {
                    Ok(flow) => {
                        binding.port = port;
                        attempt = Ok(flow);
                        break;
                    }
                    Err(ConnectError::InUse) => {}
                    Err(error @ (ConnectError::TooMany | ConnectError::Unaddressable)) => {
                        return Err(error.into());
                    }
                }
            }
            attempt?
        } else {
            self.stack
                .connect(now, SocketAddr::new(source, binding.port), peer, &options)?
        };
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.error = None;
        }
        self.set_stream(id, Stream::Connecting { flow, peer, chosen }, binding);
        self.flows.insert(flow, id);
        Ok(Connect::Started(flow))
    }

    /// The source address towards `to`: the bound one, else that of the route.
    pub(super) fn source(&self, binding: &Binding, to: IpAddr) -> Result<IpAddr, Errno> {
        let route = self.stack.route(to).map_err(Errno::from);
        match binding
            .ip
            .filter(|ip| ip.is_ipv4() == to.is_ipv4() && !self.is_for_many(*ip))
        {
            // A packet with a loopback source never leaves the host.
            Some(ip) if ip.is_loopback() && !self.stack.is_local(to) => {
                route.and(Err(Errno::EINVAL))
            }
            Some(ip) => route.map(|_| ip),
            None => route,
        }
    }

    /// Back to `Idle`: connect(AF_UNSPEC), shutdown of an attempt or of a listener. Returns the flow that was aborted.
    fn dissolve(&mut self, now: Instant, id: SocketId) -> Option<FlowId> {
        let socket = self.sockets.get_mut(&id)?;
        let Body::Stream(stream) = &mut socket.body else {
            return None;
        };
        socket.error = None;
        let flow = match stream {
            Stream::Idle => return None,
            Stream::Failed => {
                *stream = Stream::Idle;
                return None;
            }
            Stream::Connecting { flow, .. } => {
                // What tcp_disconnect of Linux leaves behind, until the next attempt.
                socket.error = Some(Errno::ECONNRESET);
                Some(*flow)
            }
            Stream::Connected { flow, .. } => *flow,
            Stream::Listening { .. } => None,
        };
        let binding = socket.unwound_binding();
        if let Some(old) = self.set_stream(id, Stream::Idle, binding) {
            self.end_stream(now, old, true);
        }
        flow
    }

    /// Ends what the engine has for a stream that no socket owns any more.
    pub(super) fn end_stream(&mut self, now: Instant, stream: Stream, reset: bool) {
        match stream {
            Stream::Idle | Stream::Failed | Stream::Connected { flow: None, .. } => {}
            Stream::Connecting { flow, .. } => {
                self.flows.remove(&flow);
                self.stack.abort(now, flow);
            }
            Stream::Connected {
                flow: Some(flow), ..
            } => {
                self.flows.remove(&flow);
                if reset {
                    self.stack.abort(now, flow);
                } else {
                    self.stack.release(now, flow);
                }
            }
            Stream::Listening { listener, .. } => {
                self.listeners.remove(&listener);
                self.stack.unlisten(now, listener);
                self.drop_unannounced(now, listener);
            }
        }
    }

    /// Resets connections of a closed listener that nobody was told of.
    fn drop_unannounced(&mut self, now: Instant, closed: ListenerId) {
        while let Some(event) = self.stack.poll_event() {
            self.deferred.push_back(event);
        }
        let mut orphans = Vec::new();
        self.deferred.retain(|event| {
            if let Event::Accepted { listener, flow } = event
                && *listener == closed
            {
                orphans.push(*flow);
                return false;
            }
            true
        });
        for flow in orphans {
            self.stack.abort(now, flow);
        }
    }

    /// Changes state, binding and claim together; returns the state before.
    fn set_stream(&mut self, id: SocketId, stream: Stream, binding: Binding) -> Option<Stream> {
        self.forget_claim(id);
        let socket = self.sockets.get_mut(&id)?;
        socket.binding = binding;
        let old = std::mem::replace(&mut socket.body, Body::Stream(stream));
        self.record_claim(id);
        match old {
            Body::Stream(stream) => Some(stream),
            Body::Datagram(_) => None,
        }
    }

    pub(super) fn flow_connected(&mut self, flow: FlowId) -> Option<SocketEvent> {
        let id = *self.flows.get(&flow)?;
        let Body::Stream(stream) = &mut self.sockets.get_mut(&id)?.body else {
            return None;
        };
        let Stream::Connecting { peer, chosen, .. } = *stream else {
            return None;
        };
        *stream = Stream::Connected {
            flow: Some(flow),
            peer,
            chosen,
            announced: false,
            live: true,
        };
        Some(SocketEvent::Connected { socket: id, flow })
    }

    pub(super) fn flow_failed(&mut self, flow: FlowId, errno: Errno) -> Option<SocketEvent> {
        let id = self.flows.remove(&flow)?;
        let socket = self.sockets.get_mut(&id)?;
        socket.error = Some(errno);
        let binding = socket.unwound_binding();
        self.set_stream(id, Stream::Failed, binding);
        Some(SocketEvent::ConnectFailed {
            socket: id,
            flow,
            errno,
        })
    }

    pub(super) fn flow_accepted(
        &mut self,
        listener: ListenerId,
        flow: FlowId,
    ) -> Option<SocketEvent> {
        let owner = *self.listeners.get(&listener)?;
        let parent = self.sockets.get(&owner)?;
        let (local, peer) = self.stack.addresses(flow)?;
        let mut child = Socket::new(parent.family, parent.options.inherited());
        child.body = Body::Stream(Stream::Connected {
            flow: Some(flow),
            peer,
            chosen: false,
            announced: true,
            live: true,
        });
        child.binding = Binding {
            ip: Some(local.ip()),
            families: family_of(local.ip()),
            port: local.port(),
            ip_locked: parent.binding.ip_locked,
            port_locked: parent.binding.port_locked,
        };
        if let Body::Stream(Stream::Listening {
            changed: Some(changed),
            ..
        }) = parent.body
        {
            // An instant of the past is as good: it is a lower bound of deadlines.
            self.stack
                .set_options(changed, flow, &child.options.tcp(peer.is_ipv6()));
        }
        let socket = self.insert(child);
        self.flows.insert(flow, socket);
        Some(SocketEvent::Incoming {
            listener: owner,
            socket,
            flow,
        })
    }

    pub(super) fn flow_reset(&mut self, flow: FlowId, errno: Errno) -> Option<SocketEvent> {
        let id = *self.flows.get(&flow)?;
        let socket = self.sockets.get_mut(&id)?;
        let Body::Stream(Stream::Connected { live, .. }) = &mut socket.body else {
            return None;
        };
        *live = false;
        socket.error = Some(errno);
        Some(SocketEvent::Reset {
            socket: id,
            flow,
            errno,
        })
    }

    pub(super) fn flow_closed(&mut self, flow: FlowId) -> Option<SocketEvent> {
        let id = self.flows.remove(&flow)?;
        let Body::Stream(Stream::Connected {
            flow: kept, live, ..
        }) = &mut self.sockets.get_mut(&id)?.body
        else {
            return None;
        };
        *kept = None;
        *live = false;
        Some(SocketEvent::Closed { socket: id, flow })
    }
}

/// The family of one address.
pub(super) const fn family_of(ip: IpAddr) -> Families {
    match ip {
        IpAddr::V4(_) => Families::V4,
        IpAddr::V6(_) => Families::V6,
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Between the engine's rings and the supervisor's ends of the programs' sockets. All under the network's lock, all
//! without blocking: S is ours.

use crate::clock;
use crate::network::{Carrier, Holder, Link, Network, Outgoing, Role, State, Token, unread};
use crate::node::Node;
use crate::parked::Message;
use crate::sys::ioctl as queue;
use crate::sys::unix;
use crate::trap;
use netcon_netstack::sockets::{CloseHow, SocketEvent, SocketId};
use netcon_netstack::stack::{FlowId, Recv, TcpState};
use nix::errno::Errno as Kernel;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes one flow moves per turn and direction, so that a bulk flow does not starve another.
const QUANTUM: usize = 256 * 1024;

/// How long a datagram socket is believed to exist after the kernel has said so.
const ALIVE_FOR: Duration = Duration::from_millis(50);

/// What a pump step needs besides the state.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The node.
    pub node: &'a Arc<Node>,
    /// The network whose lock is held.
    pub network: &'a Arc<Network>,
    /// Now.
    pub now: Instant,
}

/// How a direction of a link came to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Nothing more now; an event will tell.
    Idle,
    /// The quantum is used up.
    More,
    /// Everything before shutdown(SHUT_WR) has been read.
    End,
    /// The program's end is gone: its last reference was closed; with unread data or not.
    Gone { unread: bool },
}

impl State {
    /// Something happened on the S of a socket.
    pub fn end_ready(
        &mut self,
        cx: Context<'_>,
        socket: SocketId,
        events: EpollFlags,
        scratch: &mut [u8],
    ) {
        match self.carriers.get(&socket).map(|carrier| &carrier.role) {
            Some(Role::Linked(flow)) => {
                let flow = *flow;
                if let Some(link) = self.links.get_mut(&flow) {
                    link.readable |= events.intersects(
                        EpollFlags::EPOLLIN
                            | EpollFlags::EPOLLRDHUP
                            | EpollFlags::EPOLLHUP
                            | EpollFlags::EPOLLERR,
                    );
                    link.writable |= events.intersects(EpollFlags::EPOLLOUT | EpollFlags::EPOLLHUP);
                }
                self.pump(cx, flow);
            }
            // A program closed a socket whose connection is still being made.
            Some(Role::Connecting(connecting)) => {
                if let Some((s, _)) = &connecting.plugged
                    && unix::is_hung_up(s.as_fd())
                {
                    self.close(cx.now, &cx.node.registry, socket, CloseHow::Reset);
                }
            }
            Some(Role::Datagram(_)) => self.datagram_ready(socket, scratch),
            Some(Role::Idle | Role::Listening(_)) | None => {}
        }
    }

    /// Takes every event of the socket model; true if there was one.
    pub fn take_events(&mut self, cx: Context<'_>) -> bool {
        let mut any = false;
        while let Some(event) = self.sockets.poll_event() {
            any = true;
            match event {
                SocketEvent::Connected { socket, .. } => self.decided(cx, socket, Ok(())),
                SocketEvent::ConnectFailed { socket, errno, .. } => {
                    self.decided(cx, socket, Err(errno))
                }
                SocketEvent::Incoming {
                    listener,
                    socket,
                    flow,
                } => {
                    self.carriers.insert(
                        socket,
                        Carrier {
                            inode: None,
                            holder: Holder { tid: 0, fd: -1 },
                            container: self
                                .carriers
                                .get(&listener)
                                .map_or(0, |carrier| carrier.container),
                            since: clock::unix(),
                            program: None,
                            origin: Some(listener),
                            alive: None,
                            shut_read: false,
                            shut_write: false,
                            reset_shown: false,
                            role: Role::Linked(flow),
                        },
                    );
                    self.hand_over(cx.node, cx.network, listener, socket, flow);
                }
                SocketEvent::Readable { flow, .. } | SocketEvent::Writable { flow, .. } => {
                    self.pump(cx, flow)
                }
                SocketEvent::Reset { flow, .. } => {
                    if let Some(link) = self.links.get_mut(&flow) {
                        link.reset = true;
                    }
                    self.pump(cx, flow);
                }
                SocketEvent::Closed { socket, flow } => self.closed(socket, flow),
                SocketEvent::Datagram { socket } => self.datagram_arrived(cx, socket),
                // Recorded in the model. A shows it, and calls that wait report it.
                SocketEvent::DatagramError { socket, .. } => {
                    if let Some(Role::Datagram(end)) = self.carriers.get(&socket).map(|c| &c.role) {
                        let end = Arc::clone(end);
                        trap::push_datagrams(self, socket, &end);
                    }
                    let container = self.carriers.get(&socket).map(|carrier| carrier.container);
                    if let Some(container) = container.and_then(|id| cx.node.container(id)) {
                        container.room.post(Message::Retry);
                    }
                }
            }
        }
        any
    }

    /// A datagram waits for a socket. If its program has closed it, the sender hears that nobody listens.
    fn datagram_arrived(&mut self, cx: Context<'_>, socket: SocketId) {
        let Some(carrier) = self.carriers.get_mut(&socket) else {
            return;
        };
        let known = carrier
            .alive
            .is_some_and(|at| cx.now.saturating_duration_since(at) < ALIVE_FOR);
        if !known {
            if carrier
                .inode
                .is_some_and(|inode| !cx.node.diag.exists(inode))
            {
                let protocol = self.sockets.udp_protocol(socket);
                let mut refused = Vec::new();
                while let Some(datagram) = self.sockets.udp_recv(socket) {
                    refused.push(datagram);
                }
                self.close(cx.now, &cx.node.registry, socket, CloseHow::Graceful);
                for datagram in refused {
                    self.sockets.udp_refuse(cx.now, protocol, &datagram);
                }
                return;
            }
            carrier.alive = Some(cx.now);
        }
        if let Role::Datagram(end) = &carrier.role {
            let end = Arc::clone(end);
            trap::push_datagrams(self, socket, &end);
        }
    }

    /// The program may have sent datagrams, or taken one.
    fn datagram_ready(&mut self, socket: SocketId, scratch: &mut [u8]) {
        let Some(Carrier {
            role: Role::Datagram(end),
            ..
        }) = self.carriers.get(&socket)
        else {
            return;
        };
        let end = Arc::clone(end);
        if trap::take_sent_datagrams(self, socket, &end, scratch) {
            // S tells only of news: the rest is fetched in the next turn.
            self.ready_datagrams.push_back(socket);
        }
        trap::push_datagrams(self, socket, &end);
    }

    fn decided(
        &mut self,
        cx: Context<'_>,
        socket: SocketId,
        outcome: Result<(), netcon_netstack::errno::Errno>,
    ) {
        let Some(carrier) = self.carriers.get_mut(&socket) else {
            return;
        };
        let Role::Connecting(connecting) = &mut carrier.role else {
            return;
        };
        connecting.outcome = Some(outcome);
        if let Some(container) = cx.node.container(carrier.container) {
            container.room.post(Message::Outcome {
                network: Arc::clone(cx.network),
                socket,
            });
        } else {
            self.close(cx.now, &cx.node.registry, socket, CloseHow::Reset);
        }
    }

    /// Puts an established connection into its listener's queue.
    pub fn hand_over(
        &mut self,
        node: &Arc<Node>,
        network: &Arc<Network>,
        listener: SocketId,
        socket: SocketId,
        flow: FlowId,
    ) {
        match self.try_hand_over(node, network, listener, socket, flow) {
            Ok(()) => {}
            Err(Kernel::EAGAIN) => {
                if let Some(listening) = self.listening_mut(listener) {
                    listening.overflow.push_back((socket, flow));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "incoming connection given up");
                self.close(clock::now(), &node.registry, socket, CloseHow::Reset);
                if error == Kernel::ECONNREFUSED {
                    // Its program is gone.
                    self.close(clock::now(), &node.registry, listener, CloseHow::Graceful);
                }
            }
        }
        self.pause_if_full(listener);
    }

    /// EAGAIN: no place now.
    fn try_hand_over(
        &mut self,
        node: &Arc<Node>,
        network: &Arc<Network>,
        listener: SocketId,
        socket: SocketId,
        flow: FlowId,
    ) -> Result<(), Kernel> {
        let listening = self.listening_mut(listener).ok_or(Kernel::ECONNABORTED)?;
        if listening.queued >= listening.places {
            return Err(Kernel::EAGAIN);
        }
        // Not named yet: listen(2) is still at work and hands over itself.
        let name = listening.name.clone().ok_or(Kernel::EAGAIN)?;
        let s = unix::new(unix::End::Stream, true)?;
        unix::set_name(s.as_fd(), network.proof(flow), flow.0)?;
        name.connect(s.as_fd())?;
        node.data
            .watch(s.as_fd(), Token::End(network.index, socket))
            .map_err(|_| Kernel::ENOSPC)?;
        if let Some(listening) = self.listening_mut(listener) {
            listening.queued += 1;
        }
        self.link(flow, Link::new(s, socket));
        Ok(())
    }

    /// Gives a flow its S. What the engine has said of it before is looked up: nobody was there to hear it.
    pub fn link(&mut self, flow: FlowId, mut link: Link) {
        link.reset |= matches!(
            self.sockets.stack().state(flow),
            None | Some(TcpState::Closed)
        );
        if let Some(carrier) = self.carriers.get(&link.socket) {
            // The program may have been quicker than we.
            link.shut_read |= carrier.shut_read;
            if carrier.shut_write && link.outgoing == Outgoing::Open {
                link.outgoing = Outgoing::ShutdownCalled;
            }
        }
        if let (_, receive @ Some(_)) = self.sockets.buffers(link.socket) {
            unix::set_send_buffer(link.s.as_fd(), receive);
        }
        self.links.insert(flow, link);
        // Its first edge may be gone already.
        self.ready.push_back(flow);
    }

    /// Linux drops a SYN while no place is free.
    fn pause_if_full(&mut self, listener: SocketId) {
        if let Some(listening) = self.listening_mut(listener) {
            let full = listening.queued >= listening.places || !listening.overflow.is_empty();
            let id = listening.listener;
            self.sockets.stack_mut().set_paused(id, full);
        }
    }

    /// A connection was taken out of the listener's queue.
    pub fn dequeued(&mut self, listener: SocketId) {
        if let Some(listening) = self.listening_mut(listener) {
            listening.queued = listening.queued.saturating_sub(1);
        }
    }

    /// Hands over what waits for a place, as far as there are places.
    pub fn hand_over_waiting(
        &mut self,
        node: &Arc<Node>,
        network: &Arc<Network>,
        listener: SocketId,
    ) {
        let Some(listening) = self.listening_mut(listener) else {
            return;
        };
        let free = listening.places.saturating_sub(listening.queued);
        let now = free.min(listening.overflow.len());
        let waiting: Vec<_> = listening.overflow.drain(..now).collect();
        for (socket, flow) in waiting {
            self.hand_over(node, network, listener, socket, flow);
        }
        self.pause_if_full(listener);
        node.data.wake();
    }

    /// Puts a connection back that was taken out of the listener's queue but could not be given to the program, with the
    /// bytes that were already delivered to `end`. False if the listener cannot take it.
    pub fn requeue(
        &mut self,
        node: &Arc<Node>,
        network: &Arc<Network>,
        listener: SocketId,
        socket: SocketId,
        flow: FlowId,
        end: &OwnedFd,
    ) -> bool {
        let mut delivered = Vec::new();
        let mut part = vec![0; 65_536];
        while let Ok(n) = recv(end.as_raw_fd(), &mut part, MsgFlags::MSG_DONTWAIT) {
            if n == 0 {
                break;
            }
            delivered.extend_from_slice(&part[..n]);
        }
        // The old S goes before the new one takes its name.
        let old = self
            .links
            .remove(&flow)
            .map(|link| (link.fin_delivered, link.reset));
        self.dequeued(listener);
        if self
            .try_hand_over(node, network, listener, socket, flow)
            .is_err()
        {
            return false;
        }
        let Some(link) = self.links.get_mut(&flow) else {
            return false;
        };
        if let Some((fin_delivered, reset)) = old {
            link.fin_delivered = fin_delivered;
            link.reset |= reset;
        }
        // A fresh pair holds at least what the old one held.
        let sent = send(
            link.s.as_raw_fd(),
            &delivered,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        )
        .unwrap_or(0);
        if link.fin_delivered {
            let _ = shutdown(link.s.as_raw_fd(), Shutdown::Write);
        }
        sent == delivered.len()
    }

    /// Connections whose listener is gone before anybody accepted them.
    pub fn sweep_unaccepted(&mut self, registry: &crate::registry::Registry) {
        let orphans: Vec<SocketId> = self
            .carriers
            .iter()
            .filter(|(_, c)| {
                c.inode.is_none()
                    && c.origin
                        .is_some_and(|listener| !self.carriers.contains_key(&listener))
            })
            .map(|(&socket, _)| socket)
            .collect();
        for socket in orphans {
            self.close(clock::now(), registry, socket, CloseHow::Reset);
        }
    }

    /// Both directions are done: once everything is delivered S goes.
    fn closed(&mut self, socket: SocketId, flow: FlowId) {
        if let Some(mut link) = self.links.remove(&flow) {
            link.clean();
        }
        if let Some(carrier) = self.carriers.get_mut(&socket)
            && matches!(carrier.role, Role::Linked(f) if f == flow)
        {
            carrier.role = Role::Idle;
        }
    }

    /// True if [`State::pump_ready`] has something to do.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.ready_datagrams.is_empty()
    }

    /// Serves what had more than its share.
    pub fn pump_ready(&mut self, cx: Context<'_>, scratch: &mut [u8]) {
        for _ in 0..self.ready_datagrams.len() {
            if let Some(socket) = self.ready_datagrams.pop_front() {
                self.datagram_ready(socket, scratch);
            }
        }
        for _ in 0..self.ready.len() {
            if let Some(flow) = self.ready.pop_front() {
                self.pump(cx, flow);
            }
        }
    }

    /// Moves bytes of one flow both ways.
    pub fn pump(&mut self, cx: Context<'_>, flow: FlowId) {
        let Some(link) = self.links.get_mut(&flow) else {
            return;
        };
        let socket = link.socket;
        let stack = self.sockets.stack_mut();
        let mut received = 0;
        let incoming = deliver(link, |f| {
            let urgent = stack.urgent(flow);
            let taken = stack.recv(cx.now, flow, |data| f(data, urgent));
            if let Recv::Data(bytes) = taken {
                received += bytes as u64;
            }
            taken
        });
        if received > 0 {
            self.sockets.count_stream(socket, received, 0);
        }
        let stack = self.sockets.stack_mut();
        if link.reset && incoming == Rest::Idle && link.writable {
            self.finish_reset(cx, flow);
            return;
        }
        if link.shut_read && stack.recv_queue(flow) > 0 {
            stack.discard_received(cx.now, flow);
        }
        let mut moved = 0;
        let outgoing = collect(link, |f, urgent| {
            let sent = stack.send(cx.now, flow, f);
            if urgent && sent == Some(1) {
                stack.mark_urgent(flow);
            }
            moved += sent.unwrap_or(0) as u64;
            sent
        });
        if moved > 0 {
            self.sockets.count_stream(socket, 0, moved);
        }
        let stack = self.sockets.stack_mut();
        match outgoing {
            Rest::Gone { unread } => {
                let unread = unread || (!link.shut_read && stack.recv_queue(flow) > 0);
                self.close(
                    cx.now,
                    &cx.node.registry,
                    socket,
                    if unread {
                        CloseHow::Reset
                    } else {
                        CloseHow::Graceful
                    },
                );
                return;
            }
            Rest::End => {
                link.outgoing = Outgoing::Finished;
                stack.finish(cx.now, flow);
            }
            Rest::Idle | Rest::More => {}
        }
        if incoming == Rest::More || outgoing == Rest::More {
            self.ready.push_back(flow);
        }
    }

    /// The peer has reset, and everything that came before is with the program.
    fn finish_reset(&mut self, cx: Context<'_>, flow: FlowId) {
        let Some(link) = self.links.get(&flow) else {
            return;
        };
        let accepted = self
            .carriers
            .get(&link.socket)
            .is_some_and(|carrier| carrier.inode.is_some());
        self.sockets.stack_mut().abort(cx.now, flow);
        if !accepted {
            // It is still accepted, and fails then; accept ends it.
            return;
        }
        let Some(mut link) = self.links.remove(&flow) else {
            return;
        };
        let Some(carrier) = self.carriers.get_mut(&link.socket) else {
            return;
        };
        carrier.role = Role::Idle;
        // After FIN the program reads the end; a planted byte would make it ECONNRESET.
        if link.fin_delivered {
            link.clean();
            return;
        }
        carrier.reset_shown = true;
        if unread(&link.s) > 0 {
            return;
        }
        if let Some(container) = cx.node.container(carrier.container)
            && let Some(inode) = carrier.inode
        {
            container.room.post(Message::Plant {
                inode,
                holder: carrier.holder,
                s: link.s,
            });
        }
    }
}

/// Ring → S. Without link to the program's end nothing is lost: it stays in the ring, the window closes. The ring tells with
/// its bytes how many come before an urgent one.
fn deliver(
    link: &mut Link,
    mut ring: impl FnMut(&mut dyn FnMut(&[u8], Option<usize>) -> usize) -> Recv,
) -> Rest {
    let mut budget = QUANTUM;
    while link.writable && budget > 0 {
        let mut full = false;
        let mut broken = false;
        let result = ring(&mut |data, urgent| {
            let mut flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let most = match urgent {
                None => budget,
                Some(0) => {
                    flags |= MsgFlags::MSG_OOB;
                    1
                }
                Some(before) => before.min(budget),
            };
            let part = &data[..data.len().min(most)];
            if part.is_empty() {
                return 0;
            }
            match send(link.s.as_raw_fd(), part, flags) {
                Ok(n) => n,
                Err(Kernel::EINTR) => 0,
                Err(Kernel::EPIPE | Kernel::ECONNRESET) => {
                    broken = true;
                    0
                }
                Err(_) => {
                    full = true;
                    0
                }
            }
        });
        if full {
            link.writable = false;
            return Rest::Idle;
        }
        if broken {
            // The program has closed, or shut its reading side; `collect` finds out.
            link.readable = true;
            return Rest::Idle;
        }
        match result {
            Recv::Data(0) | Recv::Empty | Recv::Dead => return Rest::Idle,
            Recv::Data(n) => budget = budget.saturating_sub(n),
            Recv::Finished => {
                if !link.fin_delivered {
                    link.fin_delivered = true;
                    let _ = shutdown(link.s.as_raw_fd(), Shutdown::Write);
                }
                return Rest::Idle;
            }
        }
    }
    if budget == 0 { Rest::More } else { Rest::Idle }
}

/// S → ring, which is told whether the byte is urgent.
fn collect(
    link: &mut Link,
    mut ring: impl FnMut(&mut dyn FnMut(&mut [u8]) -> usize, bool) -> Option<usize>,
) -> Rest {
    if link.plug > 0 && link.readable {
        if link.outgoing == Outgoing::Open
            && unread(&link.s) <= link.plug
            && !unix::is_hung_up(link.s.as_fd())
        {
            link.readable = false;
            return Rest::Idle;
        }
        link.unplug();
    }
    while !link.stash.is_empty() {
        let stash = &link.stash;
        let mut taken = 0;
        let sent = ring(
            &mut |space| {
                taken = space.len().min(stash.len());
                space[..taken].copy_from_slice(&stash[..taken]);
                taken
            },
            false,
        );
        if sent.is_none() {
            taken = link.stash.len();
        }
        link.stash.drain(..taken);
        if taken == 0 {
            return Rest::Idle;
        }
    }
    let mut budget = QUANTUM;
    while link.readable && budget > 0 {
        // The mark stays.
        let most = if link.marked {
            unread(&link.s).saturating_sub(1)
        } else {
            usize::MAX
        };
        if most == 0 {
            return end_of(link);
        }
        // A read ends before an urgent byte; behind it, it would go on.
        let urgent = link.urgent && queue::is_at_mark(link.s.as_fd());
        let most = if urgent { 1 } else { most };
        let mut result: Result<usize, Kernel> = Ok(0);
        let mut full = false;
        let sent = ring(
            &mut |space| {
                if space.is_empty() {
                    full = true;
                    return 0;
                }
                let part = space.len().min(budget).min(most);
                result = recv(
                    link.s.as_raw_fd(),
                    &mut space[..part],
                    MsgFlags::MSG_DONTWAIT,
                );
                result.unwrap_or(0)
            },
            urgent,
        );
        if sent.is_none() {
            // Nothing can be sent any more: what the program writes is thrown away, its end is still noticed.
            let mut scratch = [0; 4096];
            let part = most.min(scratch.len());
            result = recv(
                link.s.as_raw_fd(),
                &mut scratch[..part],
                MsgFlags::MSG_DONTWAIT,
            );
        }
        if full {
            return Rest::Idle;
        }
        match result {
            Ok(0) => return end_of(link),
            Ok(n) => budget = budget.saturating_sub(n),
            Err(Kernel::EINTR) => {}
            Err(Kernel::EAGAIN) => {
                link.readable = false;
                return Rest::Idle;
            }
            Err(_) => return Rest::Gone { unread: true },
        }
    }
    if budget == 0 { Rest::More } else { Rest::Idle }
}

/// S has no more of the program's data, and never will.
fn end_of(link: &mut Link) -> Rest {
    link.readable = false;
    let both = link.fin_delivered || link.shut_read;
    match link.outgoing {
        // No shutdown was called: it has closed.
        Outgoing::Open => Rest::Gone { unread: false },
        // The other direction was open, and S has hung up: it has closed after all.
        Outgoing::ShutdownCalled | Outgoing::Finished
            if !both && unix::is_hung_up(link.s.as_fd()) =>
        {
            Rest::Gone {
                unread: unix::has_error(link.s.as_fd()),
            }
        }
        Outgoing::ShutdownCalled => Rest::End,
        // Both directions are shut, so closing changes nothing here; the sweep finds out.
        Outgoing::Finished => Rest::Idle,
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the caller does with TCP: connect, listen, send, receive, end.
use std::net::SocketAddr;
use std::time::Instant;

use smoltcp::socket::tcp::{self, RecvError};

use super::datagram::without_scope;
use super::flow::{Flow, Stage, Tuple};
use super::interface::Path;
use super::wire::{self, IpPacket, Segment};
use super::{
    ConnectError, Event, Figures, FlowId, ListenerId, LocalAddr, Recv, Stack, TcpOptions, TcpState,
};

impl Stack {
    /// Begins to connect from a local address and port that the caller chose. `Connected` or `ConnectFailed` follows.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was begun then.
    pub fn connect(
        &mut self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        options: &TcpOptions,
    ) -> Result<FlowId, ConnectError> {
        let tuple = Tuple {
            local: without_scope(local),
            remote: without_scope(remote),
        };
        let path = self.path_of(&tuple).ok_or(ConnectError::Unaddressable)?;
        if self.by_tuple.contains_key(&tuple) || self.tombstones.blocks(now, &tuple) {
            return Err(ConnectError::InUse);
        }
        if self.flows.len() >= self.config.limits.flows {
            return Err(ConnectError::TooMany);
        }
        let options = options.bounded();
        let mut endpoint = self.pool.take(&options);
        let isn = self.interfaces.isn(now, self.secrets.isn_offset(&tuple));
        let begun = self.interfaces.with_isn(path, isn, |interface| {
            endpoint
                .socket_mut()
                .connect(interface.context(), tuple.remote, tuple.local)
        });
        if begun.is_err() {
            self.pool.give(endpoint);
            return Err(ConnectError::Unaddressable);
        }
        let stage = Stage::Connecting {
            deadline: now + options.connect_timeout,
        };
        let id = self
            .flows
            .insert_with(|id| {
                Box::new(Flow::new(
                    FlowId(id),
                    tuple,
                    path,
                    stage,
                    endpoint,
                    options,
                    now,
                ))
            })
            .map(FlowId)
            .ok_or(ConnectError::TooMany)?;
        self.by_tuple.insert(tuple, id);
        if let Some(flow) = self.flows.get_mut(id.0) {
            flow.urgent.begin_out(isn);
        }
        self.settle(now, id);
        self.arm_deadline(id);
        Ok(id)
    }

    /// Listens at an address. Several listeners on one address share new connections by a hash of the 4-tuple; other
    /// conflicts are the caller's to decide.
    pub fn listen(&mut self, at: LocalAddr, backlog: usize, options: &TcpOptions) -> ListenerId {
        self.listeners.add(at, backlog, options.bounded())
    }

    /// Changes how many connections may be half-open; at least 16 always may.
    pub fn set_backlog(&mut self, id: ListenerId, backlog: usize) {
        self.listeners.set_backlog(id, backlog);
    }

    /// Changes what later connections of a listener start with.
    pub fn set_listener_options(&mut self, id: ListenerId, options: &TcpOptions) {
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.options = options.bounded();
        }
    }

    /// Drops new SYNs while paused, as Linux does while the accept queue is full.
    pub fn set_paused(&mut self, id: ListenerId, paused: bool) {
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.paused = paused;
        }
    }

    /// Stops listening; half-open connections are reset, accepted ones stay.
    pub fn unlisten(&mut self, now: Instant, id: ListenerId) {
        let Some(listener) = self.listeners.remove(id) else {
            return;
        };
        for flow in listener.into_half_open() {
            self.reset(now, flow);
        }
    }

    /// The listener that would take `packet`, if it is a SYN for one.
    #[must_use]
    pub fn listener_for(&self, packet: &[u8]) -> Option<ListenerId> {
        let ip = IpPacket::parse(packet)?;
        if ip.protocol != wire::TCP || ip.fragment.is_some() || !self.addresses.is_own(ip.dst) {
            return None;
        }
        let segment = Segment::parse(ip.payload)?;
        let tuple = Tuple::new((ip.dst, segment.dst_port), (ip.src, segment.src_port));
        if !segment.opens()
            || self.by_tuple.contains_key(&tuple)
            || !self.tombstones.admits(&tuple, &segment)
        {
            return None;
        }
        self.listeners.find(&self.secrets, &tuple)
    }

    /// The listener on this host that a connection to `to` would reach (one of several with SO_REUSEPORT).
    #[must_use]
    pub fn listener_at(&self, to: SocketAddr) -> Option<ListenerId> {
        if !self.is_local(to.ip()) {
            return None;
        }
        self.listeners.find(
            &self.secrets,
            &Tuple::new((to.ip(), to.port()), (to.ip(), 1)),
        )
    }

    /// The flow with these addresses, if it is on the wire.
    #[must_use]
    pub fn flow_at(&self, local: SocketAddr, remote: SocketAddr) -> Option<FlowId> {
        self.by_tuple.get(&Tuple { local, remote }).copied()
    }

    /// Lets `f` write into contiguous free memory of the send ring and say how much it wrote. The memory may be empty
    /// (`Writable` follows) and may be shorter than what is free: call again. `None`: the flow cannot send.
    pub fn send(
        &mut self,
        now: Instant,
        id: FlowId,
        f: impl FnOnce(&mut [u8]) -> usize,
    ) -> Option<usize> {
        let flow = self.flows.get_mut(id.0)?;
        match flow.stage {
            Stage::Open => {}
            Stage::Connecting { .. }
            | Stage::HalfOpen { .. }
            | Stage::Orphan { .. }
            | Stage::Ended { .. } => {
                return None;
            }
        }
        flow.marks.writable = false;
        let most = flow.send_room();
        let socket = flow.socket_mut()?;
        let written = socket
            .send(|room| {
                let part = room.len().min(most);
                let written = f(&mut room[..part]).min(part);
                (written, written)
            })
            .ok()?;
        flow.marks.wants_room = flow.send_room() == 0;
        if written > 0 {
            flow.note_queued(written);
            flow.note_progress(now);
            self.turns.add(flow);
        }
        Some(written)
    }

    /// Marks the byte that was queued last as urgent (send(2), MSG_OOB).
    pub fn mark_urgent(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id.0) {
            flow.mark_urgent();
        }
    }

    /// Bytes to be read before the one that the peer has marked as urgent; `None`: there is none.
    #[must_use]
    pub fn urgent(&self, id: FlowId) -> Option<usize> {
        self.flows.get(id.0).and_then(|flow| flow.urgent.ahead())
    }

    /// Lets `f` read contiguous received bytes and say how many it took. Call again until `Empty` or `Finished`, since the
    /// ring wraps.
    pub fn recv(&mut self, now: Instant, id: FlowId, f: impl FnOnce(&[u8]) -> usize) -> Recv {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return Recv::Dead;
        };
        match flow.stage {
            Stage::Open | Stage::Ended { .. } => {}
            Stage::Connecting { .. } | Stage::HalfOpen { .. } | Stage::Orphan { .. } => {
                return Recv::Dead;
            }
        }
        flow.marks.readable = false;
        let Some(socket) = flow.socket_mut() else {
            return self.recv_nothing(now, id);
        };
        if !socket.can_recv() && socket.may_recv() {
            return Recv::Empty;
        }
        let taken = socket.recv(|data| {
            let taken = f(data).min(data.len());
            (taken, taken)
        });
        match taken {
            Ok(taken) => {
                flow.urgent.read(taken);
                flow.unread = flow.recv_queue();
                if taken > 0 {
                    // The window may have to be announced.
                    self.turns.add(flow);
                }
                Recv::Data(taken)
            }
            Err(RecvError::Finished | RecvError::InvalidState) => self.recv_nothing(now, id),
        }
    }

    /// Bytes that are queued and not acknowledged.
    #[must_use]
    pub fn send_queue(&self, id: FlowId) -> usize {
        self.flows
            .get(id.0)
            .and_then(|flow| flow.socket())
            .map_or(0, tcp::Socket::send_queue)
    }

    /// Bytes that can be read.
    #[must_use]
    pub fn recv_queue(&self, id: FlowId) -> usize {
        self.flows.get(id.0).map_or(0, |flow| flow.recv_queue())
    }

    /// Sends FIN after what is queued (shutdown(2), SHUT_WR). An attempt to connect is given up without notice.
    pub fn finish(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        match flow.stage {
            Stage::Open => {
                flow.marks.wants_room = false;
                if let Some(socket) = flow.socket_mut() {
                    socket.close();
                }
                self.turns.add(flow);
                self.settle(now, id);
            }
            Stage::Connecting { .. } => self.remove(now, id),
            Stage::HalfOpen { .. } | Stage::Orphan { .. } | Stage::Ended { .. } => {}
        }
    }

    /// Sends what the peer's window takes of what is queued, then RST, and forgets the flow.
    pub fn abort(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get(id.0) else {
            return;
        };
        match flow.stage {
            Stage::Open => {
                self.send_rest(now, id);
                self.reset(now, id);
            }
            Stage::Connecting { .. } | Stage::Ended { .. } => self.remove(now, id),
            // Not the caller's.
            Stage::HalfOpen { .. } | Stage::Orphan { .. } => {}
        }
    }

    /// The owner is gone: what is queued and FIN are still sent. Data that waits unread or arrives later is answered with
    /// RST, as Linux does. The id is dead.
    pub fn release(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        match flow.stage {
            Stage::Open => {
                flow.stage = Stage::Orphan { waiting: None };
                if let Some(socket) = flow.socket_mut() {
                    socket.close();
                }
                self.turns.add(flow);
                self.settle(now, id);
            }
            Stage::Connecting { .. } | Stage::Ended { .. } => self.remove(now, id),
            Stage::HalfOpen { .. } | Stage::Orphan { .. } => {}
        }
    }

    /// What arrived and what arrives is acknowledged and thrown away (shutdown(2), SHUT_RD).
    pub fn discard_received(&mut self, now: Instant, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id.0)
            && matches!(flow.stage, Stage::Open | Stage::Ended { .. })
        {
            flow.marks.discard = true;
            self.settle(now, id);
        }
    }

    /// Changes the options of a live flow. A new `connect_timeout` or `receive_buffer` counts only for the next attempt.
    pub fn set_options(&mut self, now: Instant, id: FlowId, options: &TcpOptions) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        let options = options.bounded();
        flow.options = options.clone();
        if flow.marks.wants_room && !flow.marks.writable && flow.has_ample_room() {
            flow.marks.wants_room = false;
            flow.marks.writable = true;
            self.events.push_back(Event::Writable(id));
        }
        if let Some(socket) = flow.socket_mut() {
            socket.set_hop_limit(Some(options.hop_limit));
            if options.keepalive.is_none() {
                socket.set_keep_alive(None);
            }
        }
        self.arm(now, id);
    }

    /// Local and remote address.
    #[must_use]
    pub fn addresses(&self, id: FlowId) -> Option<(SocketAddr, SocketAddr)> {
        self.flows
            .get(id.0)
            .map(|flow| (flow.tuple.local, flow.tuple.remote))
    }

    /// What has been counted of a flow's packets; `None` once it is forgotten.
    pub(crate) fn figures(&self, id: FlowId) -> Option<&Figures> {
        self.flows.get(id.0).map(|flow| &flow.figures)
    }

    /// Keepalive probes that are not answered.
    pub(crate) fn probes(&self, id: FlowId) -> u32 {
        self.flows.get(id.0).map_or(0, |flow| flow.probes())
    }

    /// Numbers that were acknowledged, and that arrived in order.
    pub(crate) fn progress(&self, id: FlowId) -> (u64, u64) {
        self.flows.get(id.0).map_or((0, 0), |flow| flow.progress())
    }

    /// The headers of the SYN that opened a flow, if they were to be kept (TCP_SAVE_SYN).
    pub(crate) fn saved_syn(&self, id: FlowId) -> Option<&[u8]> {
        self.flows
            .get(id.0)
            .and_then(|flow| flow.saved_syn.as_deref())
    }

    /// They have been read.
    pub(crate) fn forget_saved_syn(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id.0) {
            flow.saved_syn = None;
        }
    }

    /// Largest window of a flow, bytes.
    pub(crate) fn receive_capacity(&self, id: FlowId) -> usize {
        self.flows
            .get(id.0)
            .and_then(|flow| flow.socket())
            .map_or(0, tcp::Socket::recv_capacity)
    }

    /// Bytes that are queued and were never sent.
    #[must_use]
    pub fn unsent(&self, id: FlowId) -> usize {
        self.flows.get(id.0).map_or(0, |flow| {
            let under_way = usize::try_from(flow.figures.under_way()).unwrap_or(usize::MAX);
            flow.socket()
                .map_or(0, |socket| socket.send_queue().saturating_sub(under_way))
        })
    }

    /// State for tables.
    #[must_use]
    pub fn state(&self, id: FlowId) -> Option<TcpState> {
        self.flows.get(id.0).map(|flow| flow.state())
    }

    /// Nothing can be read: why, and the end of a flow whose last byte was read.
    fn recv_nothing(&mut self, now: Instant, id: FlowId) -> Recv {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return Recv::Dead;
        };
        match flow.stage {
            Stage::Ended { failure: None } => {
                self.events.push_back(Event::Closed(id));
                self.remove(now, id);
                Recv::Finished
            }
            Stage::Ended { failure: Some(_) } => {
                self.recycle_endpoint(now, id);
                Recv::Dead
            }
            Stage::Open => {
                flow.marks.fin_read = true;
                Recv::Finished
            }
            Stage::Connecting { .. } | Stage::HalfOpen { .. } | Stage::Orphan { .. } => Recv::Dead,
        }
    }

    /// How packets of a connection travel; `None` if the addresses do not go together.
    fn path_of(&self, tuple: &Tuple) -> Option<Path> {
        let Tuple { local, remote } = tuple;
        let usable = local.is_ipv4() == remote.is_ipv4()
            && local.port() != 0
            && remote.port() != 0
            && self.addresses.is_local(local.ip());
        if !usable {
            return None;
        }
        if self.addresses.is_local(remote.ip()) {
            return Some(Path::Loopback);
        }
        let foreign = self.addresses.is_foreign_unicast(remote.ip()) && !local.ip().is_loopback();
        foreign.then_some(Path::Overlay { class: 0 })
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One TCP connection: smoltcp's socket, what the caller wants of it, and the deadlines smoltcp does not keep.
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

use super::device;
use super::figures::Figures;
use super::interface::Path;
use super::urgent::Urgent;
use super::{Failure, FlowId, ListenerId, TcpOptions, TcpState};

/// Unanswered data ends the connection after this (Linux: tcp_retries2 = 15, 924.6 s).
const DATA_TIMEOUT: Duration = Duration::from_secs(924);
/// The same without an owner (Linux: tcp_orphan_retries, about 8 tries).
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(100);
/// Longest duration of an option: more would overflow clocks.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// Smallest window, bytes: a segment of the smallest path fits (RFC 9293 §3.7.1).
const SMALLEST_WINDOW: usize = 1_152;
/// Smallest segment that may be asked for (Linux: TCP_MIN_MSS), bytes.
const SMALLEST_SEGMENT: u16 = 88;
/// smoltcp's acknowledgement delay.
const ACK_DELAY: Duration = Duration::from_millis(10);

impl TcpOptions {
    /// With durations that can be added to any time, and a hop limit that is not 0 (RFC 1122 §3.2.1.7).
    pub(super) fn bounded(&self) -> Self {
        Self {
            keepalive: self.keepalive.map(|(idle, interval, count)| {
                (
                    idle.min(LONGEST),
                    interval.clamp(Duration::from_secs(1), LONGEST),
                    count.max(1),
                )
            }),
            user_timeout: self.user_timeout.map(|limit| limit.min(LONGEST)),
            nodelay: self.nodelay,
            hop_limit: self.hop_limit.max(1),
            connect_timeout: self.connect_timeout.min(LONGEST),
            send_buffer: self.send_buffer.map(|bytes| bytes.max(1)),
            receive_buffer: self.receive_buffer.map(|bytes| bytes.max(SMALLEST_WINDOW)),
            segment: self.segment.map(|bytes| bytes.max(SMALLEST_SEGMENT)),
            least_hops: self.least_hops,
            defer: self.defer.map(|limit| limit.min(LONGEST)),
            save_syn: self.save_syn,
            fin_wait: self.fin_wait.min(LONGEST),
        }
    }
}

/// Addresses of a connection seen from this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tuple {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl Tuple {
    pub(super) fn new(local: (IpAddr, u16), remote: (IpAddr, u16)) -> Self {
        Self {
            local: local.into(),
            remote: remote.into(),
        }
    }
}

/// smoltcp's socket in a set of its own, so that no operation sees another socket. Reused with its rings.
#[derive(Debug)]
pub(super) struct Endpoint {
    set: SocketSet<'static>,
    handle: SocketHandle,
}

impl Endpoint {
    /// `receive`, `send`: bytes of the rings.
    pub(super) fn new(receive: usize, send: usize) -> Self {
        let socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; receive]),
            tcp::SocketBuffer::new(vec![0; send]),
        );
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Self { set, handle }
    }

    /// Forgets the last connection's options; its numbers are forgotten by smoltcp when the next one begins.
    pub(super) fn prepare(&mut self, options: &TcpOptions) {
        let socket = self.socket_mut();
        socket.abort();
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(ACK_DELAY.into()));
        socket.set_timeout(None);
        socket.set_keep_alive(None);
        socket.set_hop_limit(Some(options.hop_limit));
    }

    pub(super) fn socket(&self) -> &tcp::Socket<'static> {
        self.set.get(self.handle)
    }

    pub(super) fn socket_mut(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }

    pub(super) fn set(&self) -> &SocketSet<'static> {
        &self.set
    }

    pub(super) fn set_mut(&mut self) -> &mut SocketSet<'static> {
        &mut self.set
    }
}

/// Who has the flow and whether it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Made by `connect`, not yet established. Ends as `Open` or with `ConnectFailed`.
    Connecting {
        /// When the attempt fails.
        deadline: Instant,
    },
    /// Made by a SYN, not yet established. Ends as `Open` or without notice.
    HalfOpen {
        /// Whose backlog it counts against.
        listener: ListenerId,
        /// When it is forgotten; once the handshake is over, announced.
        deadline: Instant,
    },
    /// Established; the caller owns it.
    Open,
    /// Released by the caller; sends the rest and FIN.
    Orphan {
        /// Since when our FIN is acknowledged and the peer's is awaited.
        waiting: Option<Instant>,
    },
    /// Off the wire; the caller may still read what was received.
    Ended {
        /// Why, or `None` after both FINs.
        failure: Option<Failure>,
    },
}

/// What the caller has been told and still wants to know.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent marks, no state machine"
)]
pub(super) struct Marks {
    /// A `Readable` event is queued.
    pub(super) readable: bool,
    /// A `Writable` event is queued.
    pub(super) writable: bool,
    /// `send` found the ring full.
    pub(super) wants_room: bool,
    /// The peer's FIN was announced with `Readable`.
    pub(super) fin_told: bool,
    /// `recv` has returned `Finished`.
    pub(super) fin_read: bool,
    /// What arrives is thrown away.
    pub(super) discard: bool,
    /// It waits in a queue for egress.
    pub(super) dirty: bool,
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) id: FlowId,
    pub(super) tuple: Tuple,
    pub(super) path: Path,
    pub(super) stage: Stage,
    /// smoltcp's socket; `None` once nothing is left to read after the end.
    pub(super) endpoint: Option<Endpoint>,
    pub(super) options: TcpOptions,
    pub(super) marks: Marks,
    /// Bytes it may still send before the next flow's turn.
    pub(super) credit: usize,
    /// Earliest entry of this flow in the timer heap.
    pub(super) timer: Option<Instant>,
    /// Its state at the last settling, to tell a RST from a finished exchange.
    pub(super) last_state: tcp::State,
    /// Sequence number after the last packet sent, and its acknowledgement number.
    pub(super) sent: (u32, u32),
    /// Sequence numbers of the first byte, and after everything sent so far; `None` before the SYN.
    pub(super) first_seq: Option<u32>,
    pub(super) next_seq: Option<u32>,
    /// Until when its path is believed to be narrow, and which state of the table that was taken from.
    pub(super) path_until: Option<Instant>,
    pub(super) path_generation: Option<u32>,
    /// Acknowledgement number of the last segment that was trimmed.
    pub(super) trimmed: u32,
    /// Received bytes the caller knows of and has not read.
    pub(super) unread: usize,
    /// When the peer was last heard.
    heard: Instant,
    /// Keepalive probes since then.
    probes: u32,
    /// Bytes given to the ring so far, and how many of them were acknowledged at the last settling.
    queued: u64,
    acked: u64,
    /// Since when something has been unacknowledged without progress.
    stalled: Option<Instant>,
    /// Urgent data of both directions.
    pub(super) urgent: Urgent,
    /// What TCP_INFO tells.
    pub(super) figures: Figures,
    /// TCP_SAVE_SYN: IP and TCP header of the SYN that opened it.
    pub(super) saved_syn: Option<Box<[u8]>>,
}

/// What a flow's deadlines ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// A keepalive probe was set up; let smoltcp send.
    Probe,
    /// End the flow, quietly or with RST.
    GiveUp {
        /// Tell the peer.
        reset: bool,
    },
}

impl Flow {
    pub(super) fn new(
        id: FlowId,
        tuple: Tuple,
        path: Path,
        stage: Stage,
        endpoint: Endpoint,
        options: TcpOptions,
        now: Instant,
    ) -> Self {
        Self {
            id,
            tuple,
            path,
            stage,
            endpoint: Some(endpoint),
            options,
            marks: Marks::default(),
            credit: 0,
            timer: None,
            last_state: tcp::State::Closed,
            sent: (0, 0),
            first_seq: None,
            next_seq: None,
            path_until: None,
            path_generation: None,
            trimmed: 0,
            unread: 0,
            heard: now,
            probes: 0,
            queued: 0,
            acked: 0,
            stalled: None,
            urgent: Urgent::default(),
            figures: Figures::new(now),
            saved_syn: None,
        }
    }

    pub(super) fn socket(&self) -> Option<&tcp::Socket<'static>> {
        self.endpoint.as_ref().map(Endpoint::socket)
    }

    pub(super) fn socket_mut(&mut self) -> Option<&mut tcp::Socket<'static>> {
        self.endpoint.as_mut().map(Endpoint::socket_mut)
    }

    /// Bytes that can be read.
    pub(super) fn recv_queue(&self) -> usize {
        self.socket().map_or(0, tcp::Socket::recv_queue)
    }

    /// Enough room that waking the caller pays (Linux: a third; here a quarter of what may be queued).
    pub(super) fn has_ample_room(&self) -> bool {
        self.socket().is_some_and(|socket| {
            let most = self.send_limit(socket);
            socket.may_send() && most.saturating_sub(socket.send_queue()) * 4 >= most
        })
    }

    /// Bytes that may be queued and not acknowledged.
    fn send_limit(&self, socket: &tcp::Socket<'static>) -> usize {
        let capacity = socket.send_capacity();
        self.options
            .send_buffer
            .map_or(capacity, |limit| limit.min(capacity))
    }

    /// Bytes that may be queued now.
    pub(super) fn send_room(&self) -> usize {
        self.socket().map_or(0, |socket| {
            self.send_limit(socket).saturating_sub(socket.send_queue())
        })
    }

    /// Throws away what was received.
    pub(super) fn drop_received(&mut self) {
        if let Some(socket) = self.socket_mut() {
            // The ring may wrap once.
            for _ in 0..2 {
                if socket.can_recv() {
                    let _ = socket.recv(|data| (data.len(), ()));
                }
            }
        }
    }

    pub(super) fn is_connecting(&self) -> bool {
        matches!(self.stage, Stage::Connecting { .. })
    }

    /// Its packets and timers still matter.
    pub(super) fn on_wire(&self) -> bool {
        match self.stage {
            Stage::Connecting { .. }
            | Stage::HalfOpen { .. }
            | Stage::Open
            | Stage::Orphan { .. } => true,
            Stage::Ended { .. } => false,
        }
    }

    pub(super) fn state(&self) -> TcpState {
        if !self.on_wire() {
            return match self.stage {
                Stage::Ended { failure: None } => TcpState::TimeWait,
                Stage::Ended { failure: Some(_) }
                | Stage::Connecting { .. }
                | Stage::HalfOpen { .. }
                | Stage::Open
                | Stage::Orphan { .. } => TcpState::Closed,
            };
        }
        match self.socket().map(tcp::Socket::state) {
            Some(tcp::State::SynSent) => TcpState::SynSent,
            Some(tcp::State::SynReceived | tcp::State::Listen) => TcpState::SynReceived,
            Some(tcp::State::Established) => TcpState::Established,
            Some(tcp::State::FinWait1) => TcpState::FinWait1,
            Some(tcp::State::FinWait2) => TcpState::FinWait2,
            Some(tcp::State::CloseWait) => TcpState::CloseWait,
            Some(tcp::State::Closing) => TcpState::Closing,
            Some(tcp::State::LastAck) => TcpState::LastAck,
            Some(tcp::State::TimeWait) => TcpState::TimeWait,
            Some(tcp::State::Closed) | None => TcpState::Closed,
        }
    }

    /// The peer has spoken: the next keepalive is a whole idle time away.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = now;
        if self.probes > 0 {
            self.probes = 0;
            if let Some(socket) = self.socket_mut() {
                socket.set_keep_alive(None);
            }
        }
    }

    /// What smoltcp does not write into its segments.
    pub(super) fn wire_marks(&self) -> device::Marks {
        device::Marks {
            urgent: self.urgent.outgoing(),
            most: self.options.segment,
        }
    }

    /// Keepalive probes that are not answered.
    pub(super) fn probes(&self) -> u32 {
        self.probes
    }

    /// See [`Figures::progress`].
    pub(super) fn progress(&self) -> (u64, u64) {
        self.figures.progress()
    }

    /// Bytes given to the ring so far.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    /// The byte queued last is urgent.
    pub(super) fn mark_urgent(&mut self) {
        self.urgent.mark(self.queued);
    }

    pub(super) fn note_queued(&mut self, bytes: usize) {
        self.queued += bytes as u64;
    }

    /// Follows acknowledgements, for the deadlines.
    pub(super) fn note_progress(&mut self, now: Instant) {
        let Some(socket) = self.socket() else { return };
        let waiting = socket.send_queue() as u64;
        let fin = fin_outstanding(socket.state());
        let acked = self.queued.saturating_sub(waiting);
        if waiting == 0 && !fin {
            self.stalled = None;
        } else if acked > self.acked || self.stalled.is_none() {
            self.stalled = Some(now);
        }
        self.acked = acked;
    }

    /// The earliest deadline that smoltcp does not keep.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Connecting { deadline } | Stage::HalfOpen { deadline, .. } => Some(deadline),
            Stage::Open => earliest(self.give_up_at(), self.probe_at()),
            // Without an owner only progress counts: a peer must not hold the rings with a closed window.
            Stage::Orphan { waiting } => earliest(
                self.stalled.map(|since| since + ORPHAN_TIMEOUT),
                waiting.map(|since| since + self.options.fin_wait),
            ),
            Stage::Ended { .. } => None,
        }
    }

    /// Acts on the deadlines that have come.
    pub(super) fn check_deadlines(&mut self, now: Instant) -> Due {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Due::Nothing;
        }
        match self.stage {
            Stage::Connecting { .. } | Stage::HalfOpen { .. } => Due::GiveUp { reset: false },
            Stage::Open => {
                if self.give_up_at().is_some_and(|at| at <= now) {
                    return Due::GiveUp { reset: true };
                }
                self.probe(now)
            }
            Stage::Orphan { waiting } => Due::GiveUp {
                reset: waiting.is_none(),
            },
            Stage::Ended { .. } => Due::Nothing,
        }
    }

    fn probe(&mut self, now: Instant) -> Due {
        let Some((_, interval, count)) = self.options.keepalive else {
            return Due::Nothing;
        };
        let silent_for_user = self
            .options
            .user_timeout
            .is_some_and(|limit| now >= self.heard + limit);
        if self.probes >= count || (self.probes > 0 && silent_for_user) {
            return Due::GiveUp { reset: true };
        }
        self.probes += 1;
        if let Some(socket) = self.socket_mut() {
            socket.set_keep_alive(Some(interval.into()));
        }
        Due::Probe
    }

    fn give_up_at(&self) -> Option<Instant> {
        let since = self.stalled?;
        // A peer that answers window probes is alive: only TCP_USER_TIMEOUT counts then.
        let unheard = since.max(self.heard) + DATA_TIMEOUT;
        let user = self.options.user_timeout.map(|user| since + user);
        Some(user.map_or(unheard, |user| user.min(unheard)))
    }

    fn probe_at(&self) -> Option<Instant> {
        let (idle, interval, _) = self.options.keepalive?;
        if self.stalled.is_some() {
            return None;
        }
        Some(self.heard + idle + interval * self.probes)
    }
}

/// The peer's FIN has been received.
pub(super) fn fin_received(state: tcp::State) -> bool {
    match state {
        tcp::State::CloseWait
        | tcp::State::Closing
        | tcp::State::LastAck
        | tcp::State::TimeWait => true,
        tcp::State::Closed
        | tcp::State::Listen
        | tcp::State::SynSent
        | tcp::State::SynReceived
        | tcp::State::Established
        | tcp::State::FinWait1
        | tcp::State::FinWait2 => false,
    }
}

fn fin_outstanding(state: tcp::State) -> bool {
    match state {
        tcp::State::FinWait1 | tcp::State::Closing | tcp::State::LastAck => true,
        tcp::State::Closed
        | tcp::State::Listen
        | tcp::State::SynSent
        | tcp::State::SynReceived
        | tcp::State::Established
        | tcp::State::FinWait2
        | tcp::State::CloseWait
        | tcp::State::TimeWait => false,
    }
}

pub(super) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

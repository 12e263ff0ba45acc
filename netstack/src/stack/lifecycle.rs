// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How flows begin and end: after everything that may have changed smoltcp's socket, [`Stack::settle`] compares its state
//! with the flow's stage, tells the caller, and moves the flow on.
use std::time::{Duration, Instant};

use smoltcp::socket::tcp::State;

use super::device::{Marks, Out};
use super::flow::{Due, Endpoint, Flow, Stage, Tuple, fin_received};
use super::interface::Path;
use super::listener::Admission;
use super::wire::{self, IpPacket, Segment, SynOptions};
use super::{Event, Failure, FlowId, ListenerId, Stack};

/// How long a SYN|ACK is repeated (Linux: tcp_synack_retries = 5).
const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(63);
/// Far enough ahead that smoltcp does not delay the acknowledgement of the last FIN.
const PAST_ACK_DELAY: Duration = Duration::from_millis(20);
/// How often memory that is only kept for speed is reviewed.
pub(super) const TRIM_INTERVAL: Duration = Duration::from_secs(10);
/// Part of `Limits::flows` that peers cannot take from the programs' own connects.
const RESERVED_SHARE: usize = 8;

impl Stack {
    /// A SYN for a listener.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        listener_id: ListenerId,
        tuple: Tuple,
        path: Path,
        packet: &[u8],
    ) {
        let limit = self.config.limits.flows;
        let Some(listener) = self.listeners.get(listener_id) else {
            return;
        };
        let options = listener.options.clone();
        if IpPacket::parse(packet).is_none_or(|ip| ip.hop_limit < options.least_hops) {
            return;
        }
        let admission = listener.admission(now);
        if admission == Admission::Drop || self.flows.len() >= limit - limit / RESERVED_SHARE {
            self.counters.syns_dropped += 1;
            return;
        }
        if let Admission::Replace(stale) = admission {
            self.remove(now, stale);
        }
        let mut endpoint = self.pool.take(&options);
        let isn = self.interfaces.isn(now, self.secrets.isn_offset(&tuple));
        let out = match path {
            Path::Overlay { .. } => Out::Queue(&mut self.egress),
            Path::Loopback => Out::Queue(&mut self.loopback),
        };
        if endpoint.socket_mut().listen(tuple.local).is_err() {
            self.pool.give(endpoint);
            return;
        }
        let marks = Marks {
            urgent: None,
            most: options.segment,
        };
        let limited = options.segment.map(|most| {
            let mut limited = packet.to_vec();
            wire::limit_mss(&mut limited, most, false);
            limited
        });
        let given = limited.as_deref().unwrap_or(packet);
        let Ok(answer) =
            self.interfaces
                .ingress_syn(now, path, endpoint.set_mut(), given, isn, marks, out)
        else {
            self.counters.panics += 1;
            return;
        };
        if endpoint.socket().state() != State::SynReceived {
            self.pool.give(endpoint);
            return;
        }
        let stage = Stage::HalfOpen {
            listener: listener_id,
            deadline: now + HALF_OPEN_TIMEOUT,
        };
        let saved_syn = options
            .save_syn
            .then(|| packet.get(..wire::headers_len(packet)?).map(Box::from))
            .flatten();
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
            .map(FlowId);
        let Some(id) = id else { return };
        self.by_tuple.insert(tuple, id);
        if let Some(flow) = self.flows.get_mut(id.0) {
            flow.urgent.begin_out(isn);
            flow.saved_syn = saved_syn;
            if let Some(ip) = IpPacket::parse(packet)
                && let Some(segment) = Segment::parse(ip.payload)
            {
                flow.urgent.note(&segment, None);
                let syn = SynOptions::parse(ip.payload);
                flow.figures.received(now, &segment, Some(syn));
            }
            flow.note_sent(now, &answer);
        }
        if let Some(listener) = self.listeners.get_mut(listener_id) {
            listener.add_half_open(now, id);
        }
        self.settle(now, id);
        self.arm_deadline(id);
    }

    /// Brings a flow in line with its socket. Harmless at any time.
    pub(super) fn settle(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        flow.note_progress(now);
        let Some(state) = flow.socket().map(|socket| socket.state()) else {
            return self.settle_ended(now, id);
        };
        let before = std::mem::replace(&mut flow.last_state, state);
        self.turns.add(flow);
        match flow.stage {
            Stage::Connecting { .. } => match state {
                State::SynSent | State::SynReceived | State::Listen => {}
                State::Closed => self.fail_connect(now, id, Failure::Refused),
                State::Established
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait
                | State::Closing
                | State::LastAck
                | State::TimeWait => {
                    flow.stage = Stage::Open;
                    self.events.push_back(Event::Connected(id));
                    self.settle_open(now, id, before, state);
                }
            },
            Stage::HalfOpen { listener, .. } => match state {
                State::SynReceived => {}
                State::Listen | State::Closed | State::SynSent => self.remove(now, id),
                State::Established
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait
                | State::Closing
                | State::LastAck
                | State::TimeWait => {
                    if let Some(limit) = flow.options.defer
                        && state == State::Established
                        && flow.recv_queue() == 0
                    {
                        // TCP_DEFER_ACCEPT (tcp(7)): it stays half-open for its listener until data comes, or the time is over.
                        if before == State::SynReceived {
                            flow.stage = Stage::HalfOpen {
                                listener,
                                deadline: now + limit,
                            };
                            self.arm_deadline(id);
                        }
                        return;
                    }
                    self.announce(now, id, listener, before, state);
                }
            },
            Stage::Open => self.settle_open(now, id, before, state),
            Stage::Orphan { waiting } => {
                if flow.recv_queue() > 0 {
                    return self.reset(now, id);
                }
                match state {
                    State::TimeWait => {
                        self.bury(now, id);
                        self.remove(now, id);
                    }
                    State::Closed | State::Listen => self.remove(now, id),
                    State::FinWait2 => {
                        flow.stage = Stage::Orphan {
                            waiting: waiting.or(Some(now)),
                        };
                    }
                    State::SynSent
                    | State::SynReceived
                    | State::Established
                    | State::FinWait1
                    | State::CloseWait
                    | State::Closing
                    | State::LastAck => {}
                }
            }
            Stage::Ended { .. } => self.settle_ended(now, id),
        }
    }

    /// A connection is the listener's from now on.
    fn announce(
        &mut self,
        now: Instant,
        id: FlowId,
        listener: ListenerId,
        before: State,
        state: State,
    ) {
        if let Some(flow) = self.flows.get_mut(id.0) {
            flow.stage = Stage::Open;
        }
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.remove_half_open(id);
        }
        self.events
            .push_back(Event::Accepted { listener, flow: id });
        self.settle_open(now, id, before, state);
    }

    /// An attempt to connect failed; the id is dead.
    pub(super) fn fail_connect(&mut self, now: Instant, id: FlowId, failure: Failure) {
        let failure = match failure {
            Failure::PortUnreachable => Failure::Refused,
            Failure::Refused
            | Failure::Reset
            | Failure::TimedOut
            | Failure::HostUnreachable
            | Failure::NetUnreachable
            | Failure::PacketTooBig
            | Failure::Prohibited
            | Failure::Internal => failure,
        };
        self.events.push_back(Event::ConnectFailed(id, failure));
        self.remove(now, id);
    }

    /// A deadline of the flow has come.
    pub(super) fn give_up(&mut self, now: Instant, id: FlowId, reset: bool) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        match flow.stage {
            Stage::Connecting { .. } => self.fail_connect(now, id, Failure::TimedOut),
            Stage::Open => {
                self.send_reset(now, id);
                self.end(now, id, Some(Failure::TimedOut));
            }
            // Deferred for as long as was asked for.
            Stage::HalfOpen { listener, .. } if flow.last_state == State::Established => {
                self.announce(now, id, listener, State::Established, State::Established);
            }
            Stage::HalfOpen { .. } | Stage::Orphan { .. } | Stage::Ended { .. } => {
                if reset {
                    self.reset(now, id);
                } else {
                    self.remove(now, id);
                }
            }
        }
    }

    /// smoltcp panicked while it served this flow: the flow ends, its socket is not used again.
    pub(super) fn end_panicked(&mut self, now: Instant, id: FlowId) {
        self.counters.panics += 1;
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        flow.endpoint = None;
        match flow.stage {
            Stage::Connecting { .. } => self.fail_connect(now, id, Failure::Internal),
            Stage::Open => self.end(now, id, Some(Failure::Internal)),
            Stage::HalfOpen { .. } | Stage::Orphan { .. } | Stage::Ended { .. } => {
                self.remove(now, id)
            }
        }
    }

    /// RST, and the flow is forgotten.
    pub(super) fn reset(&mut self, now: Instant, id: FlowId) {
        self.send_reset(now, id);
        self.remove(now, id);
    }

    /// Ends every flow with a reset to its peer: the machine goes down, and nobody is left to answer.
    pub fn abort_all(&mut self, now: Instant) {
        let flows: Vec<FlowId> = self.by_tuple.values().copied().collect();
        for flow in flows {
            self.reset(now, flow);
        }
    }

    /// Forgets a flow without a word to anyone.
    pub(super) fn remove(&mut self, now: Instant, id: FlowId) {
        self.recycle_endpoint(now, id);
        let Some(flow) = self.flows.remove(id.0) else {
            return;
        };
        if self.by_tuple.get(&flow.tuple) == Some(&id) {
            self.by_tuple.remove(&flow.tuple);
        }
        if let Stage::HalfOpen { listener, .. } = flow.stage
            && let Some(listener) = self.listeners.get_mut(listener)
        {
            listener.remove_half_open(id);
        }
        self.compact();
    }

    /// Drops what removed flows and moved deadlines left in the queues.
    pub(super) fn compact(&mut self) {
        let flows = &self.flows;
        self.turns
            .compact(flows.len(), |id| flows.get(id.0).is_some());
        self.timers.compact(flows.len(), |id, at| {
            flows.get(id.0).is_some_and(|flow| flow.timer == Some(at))
        });
    }

    /// Gives the rings back once nothing is left in them that the caller may read.
    pub(super) fn recycle_endpoint(&mut self, now: Instant, id: FlowId) {
        if let Some(endpoint) = self
            .flows
            .get_mut(id.0)
            .and_then(|flow| flow.endpoint.take())
        {
            self.pool.give(endpoint);
            self.trim_at.get_or_insert(now + TRIM_INTERVAL);
        }
    }

    /// Arms the timer for the earlier of smoltcp's wish and the flow's deadlines.
    pub(super) fn arm(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        if !flow.on_wire() {
            return;
        }
        let wish = match flow.endpoint.as_ref().map(Endpoint::set) {
            Some(set) => self.interfaces.poll_at(now, flow.path, set),
            None => Ok(None),
        };
        let Ok(wish) = wish else {
            return self.end_panicked(now, id);
        };
        // smoltcp had its chance to send just now: a wish for "at once" is granted a little later.
        let wish = wish.map(|at| at.max(now + Duration::from_millis(1)));
        if let Some(at) = super::flow::earliest(wish, flow.deadline()) {
            self.timers.arm(id, &mut flow.timer, at);
            self.compact();
        }
    }

    /// Makes sure that the flow's deadlines are met even if nothing can be sent.
    pub(super) fn arm_deadline(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id.0)
            && let Some(at) = flow.deadline()
        {
            self.timers.arm(id, &mut flow.timer, at);
            self.compact();
        }
    }

    /// An entry of the timer heap is due.
    pub(super) fn timer_fired(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        match flow.check_deadlines(now) {
            Due::GiveUp { reset } => self.give_up(now, id, reset),
            Due::Probe | Due::Nothing => {
                self.turns.add(flow);
                self.arm_deadline(id);
            }
        }
    }

    fn settle_open(&mut self, now: Instant, id: FlowId, before: State, state: State) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        if flow.marks.discard {
            flow.drop_received();
        }
        let unread = flow.recv_queue();
        let fin = fin_received(state) && !flow.marks.fin_told;
        if (unread > flow.unread || fin) && !flow.marks.discard {
            flow.marks.fin_told |= fin;
            if !flow.marks.readable {
                flow.marks.readable = true;
                self.events.push_back(Event::Readable(id));
            }
        }
        flow.unread = unread;
        if flow.marks.wants_room && !flow.marks.writable && flow.has_ample_room() {
            flow.marks.wants_room = false;
            flow.marks.writable = true;
            self.events.push_back(Event::Writable(id));
        }
        match state {
            State::TimeWait => {
                self.bury(now, id);
                self.end(now, id, None);
            }
            State::Closed | State::Listen => {
                let finished = matches!(before, State::LastAck | State::Closing | State::TimeWait);
                self.end(now, id, (!finished).then_some(Failure::Reset));
            }
            State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => {}
        }
    }

    /// Takes the flow off the wire; the caller may still read what was received.
    fn end(&mut self, now: Instant, id: FlowId, failure: Option<Failure>) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        flow.stage = Stage::Ended { failure };
        let tuple = flow.tuple;
        if self.by_tuple.get(&tuple) == Some(&id) {
            self.by_tuple.remove(&tuple);
        }
        if let Some(failure) = failure {
            self.events.push_back(Event::Reset(id, failure));
        }
        self.settle_ended(now, id);
    }

    fn settle_ended(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        let Stage::Ended { failure } = flow.stage else {
            return;
        };
        if flow.recv_queue() == 0 || flow.marks.discard {
            let done = failure.is_none() && (flow.marks.fin_read || flow.marks.discard);
            self.recycle_endpoint(now, id);
            if done {
                self.events.push_back(Event::Closed(id));
                self.remove(now, id);
            }
        }
    }

    /// TIME_WAIT has begun: acknowledges the FIN at once and leaves a tombstone in place of the flow.
    fn bury(&mut self, now: Instant, id: FlowId) {
        self.emit_into_queue(now + PAST_ACK_DELAY, id);
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        let (seq, ack) = flow.sent;
        self.by_tuple.remove(&flow.tuple);
        self.tombstones.add(now, flow.tuple, seq, ack);
    }

    fn send_reset(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return;
        };
        let Some(socket) = flow.socket_mut() else {
            return;
        };
        socket.abort();
        self.emit_into_queue(now, id);
    }

    /// Sends what the peer's window takes of a flow that is about to be reset: what a program has written before is on its
    /// way then, as on Linux. Bounded by the queue.
    pub(super) fn send_rest(&mut self, now: Instant, id: FlowId) {
        loop {
            let room = match self.flows.get(id.0).map(|flow| flow.path) {
                Some(Path::Overlay { .. }) => self.egress.has_room(),
                Some(Path::Loopback) => self.loopback.has_room(),
                None => return,
            };
            if !room || !self.emit_into_queue(now, id) {
                return;
            }
        }
    }

    /// Lets smoltcp send one packet of a flow that is about to leave, behind what waits already. False: it had none.
    fn emit_into_queue(&mut self, now: Instant, id: FlowId) -> bool {
        let Some(flow) = self.flows.get_mut(id.0) else {
            return false;
        };
        let out = match flow.path {
            Path::Overlay { .. } => Out::Queue(&mut self.egress),
            Path::Loopback => Out::Queue(&mut self.loopback),
        };
        let marks = flow.wire_marks();
        let Some(endpoint) = flow.endpoint.as_mut() else {
            return false;
        };
        match self
            .interfaces
            .egress(now, flow.path, endpoint.set_mut(), marks, out)
        {
            Ok(sent) => {
                flow.note_sent(now, &sent);
                sent.packets > 0
            }
            Err(_) => {
                self.counters.panics += 1;
                flow.endpoint = None;
                false
            }
        }
    }
}

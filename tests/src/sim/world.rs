// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The run: one clock, what is due next, and the checks in between.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use netcon_overlay::{NotSent, Overlay, Received};

use super::apps::{Alarm, Apps, Scene};
use super::judge::{self, Judge, Memory, Outcome, Tally, violation};
use super::net::{Flying, Net};
use super::node::{BATCHES, Batch, Directory, Node, Written, index, inside, node_of};
use super::pcap::Capture;
use super::plan::{Demand, Fault, Plan};

/// Moments at one and the same time that mean a livelock.
const LIVELOCK: u32 = 20_000;
/// Turns of one node in a virtual second in which it neither receives nor sends anything.
const IDLE_TURNS: u32 = 400;
/// A run that should end and has not.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// How long hostile scenarios go on after their last fault.
const SAFETY_TIME: Duration = Duration::from_secs(400);
/// After all programs have ended, nodes may still speak for so long: an attempt at a handshake, a last keepalive.
const ECHO: Duration = Duration::from_secs(300);
/// And then all keys are wiped.
const WIPE: Duration = Duration::from_secs(900);
/// How often streams are looked at.
const WATCH: Duration = Duration::from_secs(20);
/// From when on sessions are renewed.
const RENEWED: Duration = Duration::from_secs(115);
/// Packets of one peer that may wait.
const MAX_WAITING: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Fault(usize),
    /// A fault's second half.
    Undo(usize),
    Alarm(Alarm, u32),
    Watch,
}

/// Nodes, network, programs and judge. See [`Plan`] for what can be in it.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    start: Instant,
    now: Duration,
    directory: Directory,
    nodes: Vec<Node>,
    net: Net,
    apps: Apps,
    judge: Judge,
    capture: Option<Capture>,
    due: BinaryHeap<Reverse<(Duration, u64, Due)>>,
    order: u64,
    /// When the last fault is over.
    calm: Duration,
    same_time: u32,
    idle_turns: Vec<(u64, u32)>,
    /// Datagrams sent since the programs ended.
    winding_down: bool,
    forgets: bool,
}

/// What a run was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Counts.
    pub tally: Tally,
    /// Agrees between runs of one seed.
    pub fingerprint: u64,
}

impl World {
    /// A world at time zero.
    #[must_use]
    pub fn new(plan: Plan, capture: Option<Capture>) -> Self {
        let directory = Directory::new(&plan);
        let net = Net::new(&plan);
        let start = epoch();
        let mut judge = Judge::default();
        let forgets = plan
            .faults
            .iter()
            .any(|(_, fault)| matches!(fault, Fault::Forget(..)));
        judge.memory = if plan.nets.len() > 1 || forgets {
            Memory::Short
        } else if plan.nodes.iter().all(|node| node.persists) {
            Memory::Lasting
        } else {
            Memory::Life
        };
        let mut world = Self {
            start,
            now: Duration::ZERO,
            nodes: Vec::new(),
            apps: Apps::new(&plan),
            idle_turns: vec![(0, 0); plan.nodes.len()],
            directory,
            net,
            judge,
            capture,
            due: BinaryHeap::new(),
            order: 0,
            calm: Duration::ZERO,
            same_time: 0,
            winding_down: false,
            forgets,
            plan,
        };
        for node in 0..world.plan.nodes.len() {
            let clock = world.plan.nodes[node].clock;
            let made = world.make_node((node, 0), clock, Written::default());
            world.nodes.push(made);
            world.open_programs(node);
        }
        for at in 0..world.plan.faults.len() {
            world.push(world.plan.faults[at].0, Due::Fault(at));
        }
        world.push(WATCH, Due::Watch);
        world
    }

    fn make_node(&self, life: (usize, u32), clock: i64, written: Written) -> Node {
        let net = &self.net;
        Node::new(
            &self.plan,
            &self.directory,
            self.start + self.now,
            life,
            clock,
            written,
            |peer| net.is_public(peer).then(|| net.outside[peer]),
        )
    }

    fn open_programs(&mut self, node: usize) {
        let instant = self.start + self.now;
        for iface in &mut self.nodes[node].ifaces {
            let mut scene = Scene {
                now: self.now,
                instant,
                place: (node, iface.net),
                stack: &mut iface.stack,
                judge: &mut self.judge,
            };
            self.apps.open(&mut scene);
            iface.due = true;
        }
    }

    fn push(&mut self, at: Duration, due: Due) {
        self.order += 1;
        self.due.push(Reverse((at, self.order, due)));
    }

    /// Lets the whole scenario happen.
    ///
    /// # Panics
    /// When something happened that must not; the message says when and what.
    pub fn run(mut self) -> Report {
        let last_fault = self.plan.faults.iter().map(|(at, _)| *at).max();
        let limit = match self.plan.demand {
            Demand::Progress => LONGEST,
            Demand::Safety => last_fault.unwrap_or_default() + SAFETY_TIME,
        };
        while !(self.apps.is_done() && self.faults_over()) && self.now < limit {
            self.step();
        }
        if self.plan.demand == Demand::Progress && !self.apps.is_done() {
            violation!(self.now, "the run does not end");
        }
        if self.plan.lossless()
            && self.plan.demand == Demand::Progress
            && self.plan.attack.rate == 0
        {
            let end = self.now + Duration::from_secs(20);
            self.run_to(end);
            // When both sides renew a session at once, what is on its way with the old one is lost: the protocol keeps three.
            let renewed = self.now >= RENEWED;
            let forgiven = if renewed {
                4 * self.judge.tally.sessions
            } else {
                0
            };
            let missing = self.apps.missing();
            if missing.len() as u64 > forgiven {
                violation!(self.now, "datagrams are missing: {missing:?}");
            }
        }
        self.wind_down();
        let mut tally = self.judge.tally;
        tally.seconds = self.now.as_secs();
        tally.faults = self.plan.faults.len() as u64;
        tally.turns += self.nodes.iter().map(|node| node.turns).sum::<u64>();
        Report {
            tally,
            fingerprint: self.judge.fingerprint,
        }
    }

    fn faults_over(&self) -> bool {
        self.due
            .iter()
            .all(|Reverse((_, _, due))| matches!(due, Due::Alarm(..) | Due::Watch))
    }

    /// Programs end; then there must be silence, and in the end nothing left.
    fn wind_down(&mut self) {
        self.net.end_attack();
        let instant = self.start + self.now;
        for node in 0..self.nodes.len() {
            for iface in &mut self.nodes[node].ifaces {
                let mut scene = Scene {
                    now: self.now,
                    instant,
                    place: (node, iface.net),
                    stack: &mut iface.stack,
                    judge: &mut self.judge,
                };
                self.apps.shut(&mut scene);
                iface.due = true;
            }
            self.nodes[node].overlay.set_under_load(false);
            self.plan.nodes[node].keepalive = None;
        }
        for net in 0..self.plan.nets.len() {
            for node in self.plan.nets[net].members.clone() {
                for peer in self.plan.nets[net].members.clone() {
                    if peer != node {
                        self.set_peer(net, node, peer);
                    }
                }
            }
        }
        self.winding_down = true;
        let end = self.now + ECHO;
        self.run_to(end);
        let before = self.judge.tally.datagrams;
        let end = self.now + WIPE;
        self.run_to(end);
        let spoken = self.judge.tally.datagrams - before;
        if spoken > 0 {
            violation!(self.now, "{spoken} datagrams after everyone had ended");
        }
        for node in &self.nodes {
            let left = judge::indices(&node.overlay);
            if left > 0 {
                violation!(self.now, "node {} still has {left} indices", node.life.0);
            }
            for iface in &node.ifaces {
                let sizes = iface.stack.sizes();
                if sizes.flows + sizes.time_wait + sizes.events > 0 {
                    violation!(self.now, "node {} still has {sizes:?}", node.life.0);
                }
                let panics = iface.stack.counters().panics;
                if panics > 0 {
                    violation!(
                        self.now,
                        "{panics} panics in the engine of node {}",
                        node.life.0
                    );
                }
            }
        }
    }

    fn run_to(&mut self, end: Duration) {
        while self.next().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = self.now.max(end);
    }

    fn next(&self) -> Option<Duration> {
        let nodes = self.nodes.iter().filter(|node| node.up).flat_map(|node| {
            let due = node.ifaces.iter().any(|iface| iface.due);
            [node.wake, due.then_some(self.now)]
        });
        let due = self.due.peek().map(|Reverse((at, _, _))| *at);
        nodes.chain([due, self.net.next_arrival()]).flatten().min()
    }

    /// Goes to the next thing that is due and does it.
    fn step(&mut self) {
        let Some(next) = self.next() else {
            violation!(self.now, "nothing is due, and not everyone is done");
        };
        if next > self.now {
            self.now = next;
            self.same_time = 0;
        }
        self.same_time += 1;
        if self.same_time > LIVELOCK {
            violation!(self.now, "livelock: {LIVELOCK} steps without time passing");
        }
        while let Some(Reverse((at, _, due))) = self.due.peek().copied() {
            if at > self.now {
                break;
            }
            self.due.pop();
            self.happen(due);
        }
        let mut heard = BTreeSet::new();
        while let Some(flying) = self.net.arrived(self.now) {
            if self.nodes[flying.node].up {
                heard.insert(flying.node);
                self.receive(flying);
            }
        }
        for node in 0..self.nodes.len() {
            let due = {
                let node = &self.nodes[node];
                node.up
                    && (node.wake.is_some_and(|at| at <= self.now)
                        || node.ifaces.iter().any(|iface| iface.due))
            };
            let heard = heard.contains(&node);
            if due || heard {
                self.turn(node, heard);
            }
        }
        for (at, alarm) in self.apps.take_alarms() {
            let life = self.nodes[self.apps.place(alarm).0].life.1;
            self.push(at.max(self.now), Due::Alarm(alarm, life));
        }
    }

    // What is due

    fn happen(&mut self, due: Due) {
        match due {
            Due::Fault(at) => self.fault(at),
            Due::Undo(at) => self.undo(at),
            Due::Alarm(alarm, life) => self.alarm(alarm, life),
            Due::Watch => self.watch(),
        }
    }

    fn alarm(&mut self, alarm: Alarm, life: u32) {
        if self.winding_down {
            return;
        }
        let (node, net) = self.apps.place(alarm);
        let instant = self.start + self.now;
        let state = &mut self.nodes[node];
        // Pauses end with the program; what has not begun yet begins in the next life.
        if state.life.1 != life && matches!(alarm, Alarm::Go(..)) {
            return;
        }
        if !state.up {
            let later = self.now + Duration::from_secs(1);
            self.push(later, Due::Alarm(alarm, life));
            return;
        }
        let Some(iface) = state.iface(net) else {
            return;
        };
        iface.due = true;
        let mut scene = Scene {
            now: self.now,
            instant,
            place: (node, net),
            stack: &mut iface.stack,
            judge: &mut self.judge,
        };
        self.apps.alarm(&mut scene, alarm);
    }

    fn watch(&mut self) {
        if self.winding_down {
            return;
        }
        let pending = if self.faults_over() {
            self.calm
        } else {
            self.now
        };
        if self.plan.demand == Demand::Progress
            && let Some(stalled) = self.apps.stalled(self.now, pending)
        {
            violation!(self.now, "{stalled}");
        }
        let instant = self.start + self.now;
        for ((node, net), stream, side, flow) in self.apps.stale(self.now, pending) {
            if let Some(iface) = self.nodes[node].iface(net) {
                iface.due = true;
                let mut scene = Scene {
                    now: self.now,
                    instant,
                    place: (node, net),
                    stack: &mut iface.stack,
                    judge: &mut self.judge,
                };
                self.apps.give_up(&mut scene, stream, side, flow);
            }
        }
        self.evil();
        let next = self.now + WATCH;
        self.push(next, Due::Watch);
    }

    fn fault(&mut self, at: usize) {
        let fault = self.plan.faults[at].1;
        self.calm = self.calm.max(self.now);
        let mut lasts = Duration::ZERO;
        match fault {
            Fault::Isolate(node, time) => {
                for other in 0..self.nodes.len() {
                    self.net.part(node, other, self.now + time);
                }
                lasts = time;
            }
            Fault::Part(a, b, time) => {
                self.net.part(a, b, self.now + time);
                lasts = time;
            }
            Fault::Restart(node, time) => {
                let written = self.nodes[node].write_down(&self.plan);
                let state = &mut self.nodes[node];
                state.written = written;
                state.up = false;
                for iface in &mut state.ifaces {
                    iface.due = false;
                }
                self.apps.node_ended(self.now, node);
                lasts = time;
            }
            Fault::Clock(node, by) => self.nodes[node].clock += by,
            Fault::Rebind(node) => self.net.rebind(node),
            Fault::Move(node) => self.net.move_node(node),
            Fault::Load(node, time) => {
                self.nodes[node].overlay.set_under_load(true);
                lasts = time;
            }
            Fault::Preshared(net, a, b) => {
                if self.are_members(net, a, b) {
                    self.directory.agree(net, a, b);
                    self.set_peer(net, a, b);
                    lasts = Duration::from_secs(2);
                }
            }
            Fault::Forget(net, node, peer, time) => {
                if self.are_members(net, node, peer) {
                    let key = self.directory.publics[net][peer];
                    let removed = self.nodes[node].overlay.remove_peer(index(net), &key);
                    if removed.is_err() && self.nodes[node].overlay.peer(index(net), &key).is_some()
                    {
                        violation!(self.now, "a peer cannot be removed: {removed:?}");
                    }
                    lasts = time;
                }
            }
        }
        self.calm = self.calm.max(self.now + lasts);
        let undo = self.now + lasts;
        self.push(undo, Due::Undo(at));
    }

    fn are_members(&self, net: usize, a: usize, b: usize) -> bool {
        let members = &self.plan.nets[net].members;
        members.contains(&a) && members.contains(&b)
    }

    fn undo(&mut self, at: usize) {
        match self.plan.faults[at].1 {
            Fault::Restart(node, _) => {
                let (id, life) = self.nodes[node].life;
                let (clock, turns) = (self.nodes[node].clock, self.nodes[node].turns);
                let written = std::mem::take(&mut self.nodes[node].written);
                let mut made = self.make_node((id, life + 1), clock, written);
                made.turns = turns;
                self.nodes[node] = made;
                self.open_programs(node);
            }
            Fault::Load(node, _) => self.nodes[node].overlay.set_under_load(false),
            Fault::Preshared(net, a, b) => {
                if self.are_members(net, a, b) {
                    self.directory.agree(net, b, a);
                    self.set_peer(net, b, a);
                }
            }
            Fault::Forget(net, node, peer, _) => {
                if self.are_members(net, node, peer) {
                    self.set_peer(net, node, peer);
                }
            }
            Fault::Isolate(..)
            | Fault::Part(..)
            | Fault::Clock(..)
            | Fault::Rebind(_)
            | Fault::Move(_) => {}
        }
    }

    /// Configures a peer anew: keys and keepalive as they are meant to be now; the endpoint only where nothing is known.
    fn set_peer(&mut self, net: usize, node: usize, peer: usize) {
        if !self.nodes[node].up {
            return;
        }
        let key = self.directory.publics[net][peer];
        let known = self.nodes[node].overlay.peer(index(net), &key).is_some();
        let endpoint = (!known && self.net.is_public(peer)).then(|| self.net.outside[peer]);
        let config = self.directory.peer(&self.plan, net, node, peer, endpoint);
        let now = self.start + self.now;
        let set = self.nodes[node].overlay.set_peer(now, index(net), config);
        if set.is_err() {
            violation!(self.now, "a peer cannot be configured: {set:?}");
        }
        if let Some(iface) = self.nodes[node].iface(net) {
            iface.due = true;
        }
    }

    /// Evil members send packets with addresses that are not theirs.
    fn evil(&mut self) {
        for node in 0..self.nodes.len() {
            if !self.plan.nodes[node].evil || !self.nodes[node].up {
                continue;
            }
            for net in 0..self.plan.nets.len() {
                let members = self.plan.nets[net].members.clone();
                for (at, &victim) in members.iter().enumerate() {
                    let other = members[(at + 1) % members.len()];
                    if !members.contains(&node) || victim == node || other == node {
                        continue;
                    }
                    let packet = spoofed(net, other, victim);
                    self.seal(node, net, packet);
                }
            }
            self.control(node);
        }
    }

    fn seal(&mut self, node: usize, net: usize, packet: Vec<u8>) {
        let mtu = self.plan.nets[net].mtu;
        let len = packet.len();
        let mut buffer = vec![0; Overlay::sealed_len(len, mtu)];
        buffer[Overlay::HEADROOM..Overlay::HEADROOM + len].copy_from_slice(&packet);
        let (instant, unix) = (self.start + self.now, self.nodes[node].unix(self.now));
        let overlay = &mut self.nodes[node].overlay;
        match overlay.encapsulate(instant, unix, index(net), &mut buffer, len) {
            Ok(sealed) => {
                buffer.truncate(sealed.len);
                self.launch(node, sealed.to, buffer);
            }
            Err(NotSent::Queued) => {
                let peer = judge::addresses(&packet).map(|(_, to)| node_of(to));
                let Some(key) = peer.and_then(|peer| self.directory.publics[net].get(peer)) else {
                    return;
                };
                let waiting = overlay.peer(index(net), key).map(|peer| peer.waiting);
                if waiting.is_some_and(|waiting| waiting > MAX_WAITING) {
                    violation!(self.now, "{waiting:?} packets wait for one peer");
                }
            }
            // What has no peer, no endpoint, or is too large now is lost, as on any network.
            Err(NotSent::NoRoute | NotSent::NoEndpoint | NotSent::TooLarge { .. }) => {}
            Err(NotSent::Invalid) => {
                violation!(self.now, "node {node} refuses its own engine's packet");
            }
        }
    }

    fn launch(&mut self, node: usize, to: std::net::SocketAddr, bytes: Vec<u8>) {
        let life = self.nodes[node].life;
        let shared = self.nodes[node].ifaces.len() + usize::from(self.forgets);
        let letter = self.judge.sent(self.now, life, to, shared, &bytes);
        self.net.send(
            self.now,
            node,
            to,
            bytes,
            letter,
            &mut self.capture,
            &mut self.judge,
        );
    }

    // A node's turn

    fn receive(&mut self, mut flying: Flying) {
        let node = flying.node;
        let now = self.now;
        if flying.hostile
            && let Some(capture) = &mut self.capture
        {
            capture.datagram(now, flying.from, self.net.outside[node], &flying.bytes);
        }
        let (instant, unix) = (self.start + now, self.nodes[node].unix(now));
        let mut head = [0; 16];
        let len = flying.bytes.len().min(16);
        head[..len].copy_from_slice(&flying.bytes[..len]);
        let before = flying.hostile.then(|| self.endpoints(node));
        let state = &mut self.nodes[node];
        let received = state
            .overlay
            .handle_datagram(instant, unix, flying.from, &mut flying.bytes);
        let mut packet_of = None;
        let outcome = match received {
            Received::Packet {
                network,
                peer,
                packet,
            } => {
                let net = usize::try_from(network.0).unwrap_or(usize::MAX);
                packet_of = Some((net, peer, packet.to_vec()));
                Outcome::Packet
            }
            Received::Handled => Outcome::Handled,
            Received::Dropped(reason) => Outcome::Dropped(reason),
        };
        let life = state.life;
        self.judge
            .received(now, life, flying.from, &head, flying.letter, outcome);
        let one_net = self.plan.nets.len() == 1 && !self.forgets;
        if one_net && head[0] == 4 && matches!(outcome, Outcome::Packet | Outcome::Handled) {
            self.judge.check_superseded(now, life, &head);
        }
        if let Some((net, peer, packet)) = packet_of {
            self.packet(node, net, peer, packet);
        }
        let moves = matches!(outcome, Outcome::Packet | Outcome::Handled) && head[0] != 3
            || matches!(
                outcome,
                Outcome::Dropped(
                    netcon_overlay::DropReason::ForbiddenSource
                        | netcon_overlay::DropReason::NotIp
                        | netcon_overlay::DropReason::CongestionLoss
                )
            );
        if let Some(before) = before
            && !moves
            && before != self.endpoints(node)
        {
            violation!(
                now,
                "node {node}: a message of type {} that was {outcome:?} moved an endpoint",
                head[0]
            );
        }
    }

    fn endpoints(&self, node: usize) -> Vec<Option<std::net::SocketAddr>> {
        let node = &self.nodes[node];
        node.ifaces
            .iter()
            .flat_map(|iface| node.overlay.peer_status(index(iface.net)))
            .map(|peer| peer.endpoint)
            .collect()
    }

    /// A packet that was handed up: from whom it says, and one that this peer sent.
    fn packet(
        &mut self,
        node: usize,
        net: usize,
        peer: netcon_overlay::PublicKey,
        packet: Vec<u8>,
    ) {
        let Some((from, to)) = judge::addresses(&packet) else {
            violation!(
                self.now,
                "node {node} is handed something that is no packet"
            );
        };
        let source = node_of(from);
        let owner = self
            .directory
            .publics
            .get(net)
            .and_then(|keys| keys.get(source));
        if owner != Some(&peer) || inside(net, source, from.is_ipv6()) != from {
            violation!(
                self.now,
                "node {node} is handed a packet from {from} by another peer"
            );
        }
        if let Some(capture) = &mut self.capture {
            capture.packet(self.now, &packet);
        }
        self.judge
            .packet_received(self.now, net, source, node_of(to), &packet);
        if let Some(iface) = self.nodes[node].iface(net) {
            iface.arrived.push(packet);
        }
    }

    /// As `Thread::run` after it has received.
    fn turn(&mut self, node: usize, heard: bool) {
        let sent_before = self.judge.tally.datagrams;
        self.nodes[node].turns += 1;
        if heard {
            self.control(node);
        }
        let instant = self.start + self.now;
        for at in 0..self.nodes[node].ifaces.len() {
            let iface = &self.nodes[node].ifaces[at];
            let due = iface.due || iface.timeout.is_some_and(|at| at <= instant);
            if due || !iface.arrived.is_empty() {
                self.serve(node, at);
            }
        }
        let unix = self.nodes[node].unix(self.now);
        self.nodes[node].overlay.handle_timeout(instant, unix);
        self.control(node);
        let (now, start) = (self.now, self.start);
        self.nodes[node].plan_wake(now, start);
        self.count_idle(node, heard || self.judge.tally.datagrams > sent_before);
    }

    fn count_idle(&mut self, node: usize, busy: bool) {
        let second = self.now.as_secs();
        let count = &mut self.idle_turns[node];
        if count.0 != second {
            *count = (second, 0);
        }
        if !busy {
            count.1 += 1;
        }
        if count.1 > IDLE_TURNS {
            violation!(
                self.now,
                "node {node} wakes up {} times a second for nothing",
                count.1
            );
        }
    }

    /// As `Thread::serve`.
    fn serve(&mut self, node: usize, at: usize) {
        let (now, instant) = (self.now, self.start + self.now);
        let net = self.nodes[node].ifaces[at].net;
        let mut first = true;
        let mut more = true;
        for _ in 0..BATCHES {
            let iface = &mut self.nodes[node].ifaces[at];
            let mut batch = Batch::new(iface.mtu);
            let mut scene = Scene {
                now,
                instant,
                place: (node, net),
                stack: &mut iface.stack,
                judge: &mut self.judge,
            };
            if first {
                first = false;
                scene.stack.handle_timeout(instant);
                for packet in std::mem::take(&mut iface.arrived) {
                    scene.stack.handle_packet(instant, &packet);
                }
            }
            take_events(&mut self.apps, &mut scene);
            let waits = scene.stack.poll_transmit(instant, &mut batch);
            more = take_events(&mut self.apps, &mut scene) || waits;
            if batch.packets.is_empty() && !more {
                break;
            }
            for (buffer, len) in batch.packets {
                let packet = &buffer[Overlay::HEADROOM..Overlay::HEADROOM + len];
                self.note_packet(node, net, packet);
                self.seal(node, net, packet.to_vec());
            }
            self.control(node);
            if !more {
                break;
            }
        }
        let iface = &mut self.nodes[node].ifaces[at];
        iface.due = false;
        iface.timeout = if more {
            Some(instant)
        } else {
            iface.stack.poll_timeout()
        };
    }

    fn note_packet(&mut self, node: usize, net: usize, packet: &[u8]) {
        if let Some(capture) = &mut self.capture {
            capture.packet(self.now, packet);
        }
        if let Some((from, to)) = judge::addresses(packet) {
            if inside(net, node, from.is_ipv6()) != from {
                violation!(self.now, "the engine of node {node} sends from {from}");
            }
            self.judge.packet_sent(net, node, node_of(to), packet);
        }
    }

    /// As `Thread::transmit_control`.
    fn control(&mut self, node: usize) {
        let mut out = Vec::new();
        loop {
            let (instant, unix) = (self.start + self.now, self.nodes[node].unix(self.now));
            let to = self.nodes[node]
                .overlay
                .poll_transmit(instant, unix, &mut out);
            let Some(to) = to else { return };
            self.launch(node, to, out.clone());
        }
    }
}

fn take_events(apps: &mut Apps, scene: &mut Scene<'_>) -> bool {
    let mut any = false;
    while let Some(event) = scene.stack.poll_event() {
        any = true;
        apps.event(scene, &event);
    }
    any
}

/// A UDP packet that says it is from `from`.
fn spoofed(net: usize, from: usize, to: usize) -> Vec<u8> {
    let mut packet = vec![0; 36];
    packet[0] = 0x45;
    packet[3] = 36;
    packet[8] = 64;
    packet[9] = 17;
    for (at, node) in [(12, from), (16, to)] {
        if let std::net::IpAddr::V4(ip) = inside(net, node, false) {
            packet[at..at + 4].copy_from_slice(&ip.octets());
        }
    }
    packet[25] = 16;
    packet
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had no other way; its value does not matter"
)]
fn epoch() -> Instant {
    Instant::now()
}

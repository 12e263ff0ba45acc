// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The programs: TCP streams and UDP flows whose every byte is known beforehand, and what may come of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netcon_netstack::stack::{
    DatagramId, DatagramProtocol, Event, Failure, Families, FlowId, ListenerId, LocalAddr, Recv,
    SendOptions, Stack, TcpOptions,
};

use super::dice::mix;
use super::judge::{Judge, violation};
use super::node::inside;
use super::plan::{Demand, Ending, FlowPlan, Pace, Plan, StreamPlan};

/// Time without a byte moved, once faults are over, that is too long.
pub(super) const STALL: Duration = Duration::from_secs(400);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);
const RETRY: Duration = Duration::from_secs(1);
const STREAM_PORT: u16 = 7000;
const FLOW_PORT: u16 = 6000;
const CLOSED_PORT: u16 = 5000;
const CLIENT_PORT: u16 = 20_000;
/// Ports of one stream's attempts.
const ATTEMPTS: u16 = 200;

/// Which side of a stream.
pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

/// What an application waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    Connect(usize),
    /// A side may write or read again.
    Go(usize, usize),
    Datagram(usize),
}

/// How a side of a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Running,
    /// Everything was sent and read, and both FINs.
    Clean,
    Reset,
    /// By its program, or with its node.
    Gone,
}

#[derive(Debug)]
struct Side {
    flow: Option<FlowId>,
    sent: u64,
    received: u64,
    fin_sent: bool,
    fin_read: bool,
    end: End,
    write_pause: Duration,
    read_pause: Duration,
}

#[derive(Debug)]
struct Stream {
    plan: StreamPlan,
    sides: [Side; 2],
    attempt: u16,
    connecting: bool,
    connected: bool,
    /// One side is gone: the other may be reset.
    doomed: Option<Duration>,
    progress: Duration,
    over: bool,
}

#[derive(Debug)]
struct Flow {
    plan: FlowPlan,
    sent: u32,
    /// By direction: what was sent, and what has arrived.
    out: [BTreeMap<u32, usize>; 2],
    seen: [BTreeSet<u32>; 2],
}

type Place = (usize, usize);

/// See the module.
#[derive(Debug)]
pub(super) struct Apps {
    demand: Demand,
    streams: Vec<Stream>,
    flows: Vec<Flow>,
    /// By node and network.
    by_flow: BTreeMap<(Place, FlowId), (usize, usize)>,
    by_listener: BTreeMap<(Place, ListenerId), usize>,
    by_datagram: BTreeMap<(Place, DatagramId), (usize, usize)>,
    alarms: Vec<(Duration, Alarm)>,
}

/// Where and when an application acts.
pub(super) struct Scene<'a> {
    pub(super) now: Duration,
    pub(super) instant: Instant,
    pub(super) place: Place,
    pub(super) stack: &'a mut Stack,
    pub(super) judge: &'a mut Judge,
}

fn options() -> TcpOptions {
    TcpOptions {
        keepalive: None,
        user_timeout: None,
        nodelay: true,
        hop_limit: 64,
        connect_timeout: CONNECT_TIMEOUT,
        send_buffer: None,
        receive_buffer: None,
        ..TcpOptions::default()
    }
}

/// Byte `at` of direction `salt`: no two places look alike.
fn fill(salt: u64, from: u64, buffer: &mut [u8]) {
    let mut word = mix(salt ^ (from / 8)).to_le_bytes();
    for (at, byte) in (from..).zip(buffer.iter_mut()) {
        if at % 8 == 0 {
            word = mix(salt ^ (at / 8)).to_le_bytes();
        }
        *byte = word[usize::try_from(at % 8).unwrap_or(0)];
    }
}

fn differs(salt: u64, from: u64, bytes: &[u8]) -> Option<usize> {
    let mut word = mix(salt ^ (from / 8)).to_le_bytes();
    for (at, (offset, byte)) in (from..).zip(bytes.iter().enumerate()) {
        if at % 8 == 0 {
            word = mix(salt ^ (at / 8)).to_le_bytes();
        }
        if *byte != word[usize::try_from(at % 8).unwrap_or(0)] {
            return Some(offset);
        }
    }
    None
}

fn salt(stream: usize, attempt: u16, side: usize) -> u64 {
    mix((stream as u64) << 32 | u64::from(attempt) << 8 | side as u64)
}

fn numbered(base: u16, number: usize) -> u16 {
    base + u16::try_from(number).unwrap_or(0)
}

impl Side {
    const fn new() -> Self {
        Self {
            flow: None,
            sent: 0,
            received: 0,
            fin_sent: false,
            fin_read: false,
            end: End::Running,
            write_pause: Duration::ZERO,
            read_pause: Duration::ZERO,
        }
    }
}

impl Stream {
    fn local(&self, side: usize, stream: usize) -> SocketAddr {
        let ip = inside(self.plan.net, self.plan.ends[side], self.plan.v6);
        let port = if side == SERVER {
            numbered(STREAM_PORT, stream)
        } else {
            numbered(CLIENT_PORT, stream) + self.attempt * 100
        };
        SocketAddr::new(ip, port)
    }

    const fn pace(&self, side: usize) -> &Pace {
        &self.plan.paces[side]
    }

    fn check_over(&mut self) {
        self.over = self.sides.iter().all(|side| side.end != End::Running);
    }
}

impl Apps {
    pub(super) fn new(plan: &Plan) -> Self {
        let streams = plan.streams.iter().map(|plan| Stream {
            plan: *plan,
            sides: [Side::new(), Side::new()],
            attempt: 0,
            connecting: false,
            connected: false,
            doomed: None,
            progress: plan.start,
            over: false,
        });
        let flows = plan.flows.iter().map(|plan| Flow {
            plan: *plan,
            sent: 0,
            out: [BTreeMap::new(), BTreeMap::new()],
            seen: [BTreeSet::new(), BTreeSet::new()],
        });
        let mut apps = Self {
            demand: plan.demand,
            streams: streams.collect(),
            flows: flows.collect(),
            by_flow: BTreeMap::new(),
            by_listener: BTreeMap::new(),
            by_datagram: BTreeMap::new(),
            alarms: Vec::new(),
        };
        for (at, stream) in plan.streams.iter().enumerate() {
            apps.alarms.push((stream.start, Alarm::Connect(at)));
        }
        for (at, flow) in plan.flows.iter().enumerate() {
            apps.alarms.push((flow.start, Alarm::Datagram(at)));
        }
        apps
    }

    pub(super) fn take_alarms(&mut self) -> Vec<(Duration, Alarm)> {
        std::mem::take(&mut self.alarms)
    }

    /// Where an alarm is to be heard.
    pub(super) fn place(&self, alarm: Alarm) -> Place {
        match alarm {
            Alarm::Connect(stream) => {
                let plan = &self.streams[stream].plan;
                (plan.ends[CLIENT], plan.net)
            }
            Alarm::Go(stream, side) => {
                let plan = &self.streams[stream].plan;
                (plan.ends[side], plan.net)
            }
            Alarm::Datagram(flow) => {
                let plan = &self.flows[flow].plan;
                (plan.ends[0], plan.net)
            }
        }
    }

    /// A node's programs begin: at the start, and again after a restart.
    pub(super) fn open(&mut self, scene: &mut Scene<'_>) {
        let place = scene.place;
        for (at, stream) in self.streams.iter().enumerate() {
            if (stream.plan.ends[SERVER], stream.plan.net) == place && !stream.over {
                let listen = LocalAddr {
                    ip: None,
                    families: Families::Both,
                    port: numbered(STREAM_PORT, at),
                };
                let id = scene.stack.listen(listen, 16, &options());
                self.by_listener.insert((place, id), at);
            }
        }
        for (at, flow) in self.flows.iter().enumerate() {
            for (end, node) in flow.plan.ends.into_iter().enumerate() {
                if (node, flow.plan.net) == place {
                    let id = scene.stack.datagram_open(
                        DatagramProtocol::Udp,
                        LocalAddr {
                            ip: None,
                            families: Families::Both,
                            port: numbered(FLOW_PORT, at),
                        },
                    );
                    self.by_datagram.insert((place, id), (at, end));
                }
            }
        }
    }

    /// A node ends with all it had.
    pub(super) fn node_ended(&mut self, now: Duration, node: usize) {
        self.by_flow.retain(|(place, _), _| place.0 != node);
        self.by_listener.retain(|(place, _), _| place.0 != node);
        self.by_datagram.retain(|(place, _), _| place.0 != node);
        for stream in &mut self.streams {
            for side in 0..2 {
                let begun = stream.connecting || stream.connected;
                if stream.plan.ends[side] != node || stream.over || !begun {
                    continue;
                }
                if side == SERVER && stream.sides[SERVER].flow.is_none() {
                    // The client's SYN will find the listener of the next life.
                    continue;
                }
                stream.sides[side].end = End::Gone;
                stream.sides[side].flow = None;
                if stream.sides[1 - side].flow.is_none() {
                    stream.sides[1 - side].end = End::Gone;
                }
                stream.doomed.get_or_insert(now);
                stream.check_over();
            }
        }
    }

    pub(super) fn alarm(&mut self, scene: &mut Scene<'_>, alarm: Alarm) {
        match alarm {
            Alarm::Connect(stream) => self.connect(scene, stream),
            Alarm::Go(stream, side) => {
                self.streams[stream].sides[side].write_pause = Duration::ZERO;
                self.streams[stream].sides[side].read_pause = Duration::ZERO;
                self.drive(scene, stream, side);
            }
            Alarm::Datagram(flow) => self.send_datagram(scene, flow),
        }
    }

    fn connect(&mut self, scene: &mut Scene<'_>, at: usize) {
        let stream = &mut self.streams[at];
        if stream.over || stream.connecting || stream.sides[CLIENT].flow.is_some() {
            return;
        }
        if stream.attempt >= ATTEMPTS {
            violation!(scene.now, "stream {at} cannot connect");
        }
        let (local, remote) = (stream.local(CLIENT, at), stream.local(SERVER, at));
        let connected = scene
            .stack
            .connect(scene.instant, local, remote, &options());
        let flow = match connected {
            Ok(flow) => flow,
            Err(error) => violation!(scene.now, "stream {at}: {error}"),
        };
        stream.connecting = true;
        stream.sides[CLIENT] = Side {
            flow: Some(flow),
            ..Side::new()
        };
        self.by_flow.insert((scene.place, flow), (at, CLIENT));
    }

    /// Something happened in an engine.
    pub(super) fn event(&mut self, scene: &mut Scene<'_>, event: &Event) {
        let place = scene.place;
        match *event {
            Event::Accepted { listener, flow } => {
                if let Some(at) = self.by_listener.get(&(place, listener)).copied() {
                    self.accepted(scene, at, flow);
                }
            }
            Event::Connected(flow) => {
                if let Some((at, side)) = self.by_flow.get(&(place, flow)).copied() {
                    let stream = &mut self.streams[at];
                    stream.connecting = false;
                    stream.connected = true;
                    stream.progress = scene.now;
                    self.drive(scene, at, side);
                }
            }
            Event::ConnectFailed(flow, failure) => {
                let Some((at, _)) = self.by_flow.remove(&(place, flow)) else {
                    return;
                };
                self.connect_failed(scene, at, failure);
            }
            Event::Readable(flow) | Event::Writable(flow) => {
                if let Some((at, side)) = self.by_flow.get(&(place, flow)).copied() {
                    self.drive(scene, at, side);
                }
            }
            Event::Reset(flow, failure) => {
                if let Some((at, side)) = self.by_flow.get(&(place, flow)).copied() {
                    self.was_reset(scene, at, side, flow, failure);
                }
            }
            Event::Closed(flow) => {
                if let Some((at, side)) = self.by_flow.remove(&(place, flow)) {
                    self.closed(scene, at, side);
                }
            }
            Event::Datagram(id) => {
                if let Some((flow, end)) = self.by_datagram.get(&(place, id)).copied() {
                    self.receive_datagrams(scene, flow, end, id);
                }
            }
            Event::DatagramError {
                id, to, failure, ..
            } => {
                let Some((flow, _)) = self.by_datagram.get(&(place, id)).copied() else {
                    return;
                };
                if failure == Failure::PortUnreachable && to.port() != CLOSED_PORT {
                    violation!(scene.now, "flow {flow} is told that nobody listens at {to}");
                }
            }
        }
    }

    fn connect_failed(&mut self, scene: &mut Scene<'_>, at: usize, failure: Failure) {
        let stream = &mut self.streams[at];
        // A listener is there whenever its node is.
        if failure != Failure::TimedOut {
            violation!(scene.now, "stream {at} cannot connect: {failure:?}");
        }
        stream.connecting = false;
        stream.sides[CLIENT].flow = None;
        // What the server may have accepted meanwhile is of an attempt that is over.
        if let Some(flow) = stream.sides[SERVER].flow.take() {
            let place = (stream.plan.ends[SERVER], stream.plan.net);
            self.by_flow.remove(&(place, flow));
        }
        stream.sides[SERVER] = Side::new();
        stream.attempt += 1;
        self.alarms.push((scene.now + RETRY, Alarm::Connect(at)));
    }

    fn accepted(&mut self, scene: &mut Scene<'_>, at: usize, flow: FlowId) {
        let stream = &mut self.streams[at];
        let remote = scene.stack.addresses(flow).map(|(_, remote)| remote);
        let current = remote == Some(stream.local(CLIENT, at));
        if !current || stream.sides[SERVER].flow.is_some() || stream.doomed.is_some() {
            // Of an attempt, or of a client's life, that is over.
            scene.stack.abort(scene.instant, flow);
            return;
        }
        stream.progress = scene.now;
        stream.connected = true;
        stream.sides[SERVER] = Side {
            flow: Some(flow),
            ..Side::new()
        };
        self.by_flow.insert((scene.place, flow), (at, SERVER));
        self.drive(scene, at, SERVER);
    }

    /// Lets a side write and read as much as its pace and the engine allow.
    fn drive(&mut self, scene: &mut Scene<'_>, at: usize, side: usize) {
        self.write(scene, at, side);
        self.read(scene, at, side);
        // What was read may end the wait for a FIN.
        self.write(scene, at, side);
    }

    fn write(&mut self, scene: &mut Scene<'_>, at: usize, side: usize) {
        let stream = &mut self.streams[at];
        let pace = *stream.pace(side);
        let ending = stream.plan.ending;
        let salt = salt(at, stream.attempt, side);
        let me = &mut stream.sides[side];
        let Some(flow) = me.flow else { return };
        if me.end != End::Running || me.fin_sent || me.write_pause > scene.now {
            return;
        }
        if side == CLIENT && !stream.connected {
            return;
        }
        let mut quota = if pace.write.0 == 0 {
            u64::MAX
        } else {
            pace.write.0
        };
        while me.sent < pace.total && quota > 0 {
            let want = (pace.total - me.sent).min(quota);
            let from = me.sent;
            let written = scene.stack.send(scene.instant, flow, |room| {
                let n = room.len().min(usize::try_from(want).unwrap_or(usize::MAX));
                fill(salt, from, &mut room[..n]);
                n
            });
            match written {
                Some(n) if n > 0 => {
                    me.sent += n as u64;
                    quota -= n as u64;
                }
                Some(_) | None => break,
            }
        }
        if quota == 0 && me.sent < pace.total {
            me.write_pause = scene.now + pace.write.1;
            self.alarms.push((me.write_pause, Alarm::Go(at, side)));
        }
        if let Ending::Abort { server, after } = ending
            && server == (side == SERVER)
            && me.sent >= after
        {
            me.end = End::Gone;
            me.flow = None;
            self.by_flow.remove(&(scene.place, flow));
            scene.stack.abort(scene.instant, flow);
            stream.doomed.get_or_insert(scene.now);
            if stream.sides[1 - side].flow.is_none() && side == CLIENT {
                stream.sides[SERVER].end = End::Gone;
            }
            stream.check_over();
            return;
        }
        let waits = matches!(ending, Ending::AfterReading { server } if server == (side == SERVER))
            && !me.fin_read;
        if me.sent == pace.total && !waits {
            me.fin_sent = true;
            scene.stack.finish(scene.instant, flow);
        }
    }

    fn read(&mut self, scene: &mut Scene<'_>, at: usize, side: usize) {
        let stream = &mut self.streams[at];
        let pace = *stream.pace(side);
        let salt = salt(at, stream.attempt, 1 - side);
        let [client, server] = &mut stream.sides;
        let (me, other) = if side == CLIENT {
            (client, server)
        } else {
            (server, client)
        };
        let Some(flow) = me.flow else { return };
        if me.end == End::Gone || me.fin_read || me.read_pause > scene.now {
            return;
        }
        let mut quota = if pace.read.0 == 0 {
            u64::MAX
        } else {
            pace.read.0
        };
        loop {
            if quota == 0 {
                me.read_pause = scene.now + pace.read.1;
                self.alarms.push((me.read_pause, Alarm::Go(at, side)));
                return;
            }
            let from = me.received;
            let mut wrong = None;
            let got = scene.stack.recv(scene.instant, flow, |bytes| {
                let n = bytes
                    .len()
                    .min(usize::try_from(quota).unwrap_or(usize::MAX));
                wrong = differs(salt, from, &bytes[..n]);
                n
            });
            if let Some(offset) = wrong {
                violation!(
                    scene.now,
                    "stream {at}: byte {} to {} is not what was sent",
                    from + offset as u64,
                    ["client", "server"][side]
                );
            }
            match got {
                Recv::Data(n) if n > 0 => {
                    me.received += n as u64;
                    quota -= n as u64;
                    stream.progress = scene.now;
                    scene.judge.tally.bytes += n as u64;
                    if me.received > other.sent {
                        violation!(scene.now, "stream {at}: more bytes read than written");
                    }
                }
                Recv::Finished => {
                    // A restarted program does not remember what it sent.
                    if !(other.fin_sent && me.received == other.sent) && other.end != End::Gone {
                        violation!(
                            scene.now,
                            "stream {at}: end after {} of {} bytes to {}",
                            me.received,
                            other.sent,
                            ["client", "server"][side]
                        );
                    }
                    me.fin_read = true;
                    stream.progress = scene.now;
                    return;
                }
                Recv::Data(_) | Recv::Empty | Recv::Dead => return,
            }
        }
    }

    fn was_reset(
        &mut self,
        scene: &mut Scene<'_>,
        at: usize,
        side: usize,
        flow: FlowId,
        failure: Failure,
    ) {
        // What arrived before is still right.
        self.streams[at].sides[side].read_pause = Duration::ZERO;
        self.read(scene, at, side);
        let stream = &mut self.streams[at];
        if side == CLIENT
            && failure == Failure::Reset
            && stream.sides[SERVER].flow.is_none()
            && stream.doomed.is_none()
        {
            // The server had given up its half of the handshake, as Linux does after a minute.
            scene.stack.abort(scene.instant, flow);
            self.by_flow.remove(&(scene.place, flow));
            stream.connected = false;
            return self.connect_failed(scene, at, Failure::TimedOut);
        }
        let expected = stream.doomed.is_some()
            || self.demand == Demand::Safety && failure == Failure::TimedOut;
        if !expected {
            violation!(
                scene.now,
                "stream {at}: {} is reset ({failure:?}) without a cause",
                ["client", "server"][side]
            );
        }
        scene.judge.tally.resets += 1;
        stream.sides[side].end = End::Reset;
        stream.sides[side].flow = None;
        stream.doomed.get_or_insert(scene.now);
        self.by_flow.remove(&(scene.place, flow));
        scene.stack.abort(scene.instant, flow);
        self.streams[at].check_over();
    }

    fn closed(&mut self, scene: &mut Scene<'_>, at: usize, side: usize) {
        let stream = &mut self.streams[at];
        let me = &mut stream.sides[side];
        me.flow = None;
        if me.end != End::Running {
            return;
        }
        if !(me.fin_sent && me.fin_read) {
            violation!(scene.now, "stream {at}: closed before both ends were read");
        }
        me.end = End::Clean;
        stream.progress = scene.now;
        stream.check_over();
        if stream.over && stream.sides.iter().all(|side| side.end == End::Clean) {
            scene.judge.tally.streams += 1;
        }
    }

    // UDP

    fn payload(flow: usize, direction: usize, number: u32, size: u64) -> Vec<u8> {
        let salt = mix((flow as u64) << 40 | (direction as u64) << 32 | u64::from(number));
        let len = 12 + usize::try_from(mix(salt) % (size + 1)).unwrap_or(0);
        let mut payload = vec![0; len];
        fill(salt, 0, &mut payload);
        payload[..4].copy_from_slice(&number.to_le_bytes());
        payload[4..8].copy_from_slice(&u32::try_from(direction).unwrap_or(0).to_le_bytes());
        payload[8..12].copy_from_slice(&u32::try_from(flow).unwrap_or(0).to_le_bytes());
        payload
    }

    fn endpoint(&self, place: Place, flow: usize, end: usize) -> Option<DatagramId> {
        self.by_datagram
            .iter()
            .find(|((at, _), what)| *at == place && **what == (flow, end))
            .map(|((_, id), _)| *id)
    }

    fn send_datagram(&mut self, scene: &mut Scene<'_>, at: usize) {
        let place = scene.place;
        let id = self.endpoint(place, at, 0);
        let flow = &mut self.flows[at];
        let plan = flow.plan;
        if let Some(id) = id {
            let number = flow.sent;
            let payload = Self::payload(at, 0, number, plan.size);
            let port = if plan.closed {
                CLOSED_PORT
            } else {
                numbered(FLOW_PORT, at)
            };
            let to = SocketAddr::new(inside(plan.net, plan.ends[1], plan.v6), port);
            let from = inside(plan.net, plan.ends[0], plan.v6);
            let sent = scene.stack.datagram_send(
                scene.instant,
                id,
                from,
                to,
                &payload,
                SendOptions::default(),
            );
            if sent.is_ok() && !plan.closed {
                flow.out[0].insert(number, payload.len());
            }
        }
        flow.sent += 1;
        if flow.sent < plan.count {
            self.alarms
                .push((scene.now + plan.interval, Alarm::Datagram(at)));
        }
    }

    fn receive_datagrams(&mut self, scene: &mut Scene<'_>, at: usize, end: usize, id: DatagramId) {
        let flow = &mut self.flows[at];
        let plan = flow.plan;
        let direction = 1 - end;
        let expected_from = SocketAddr::new(
            inside(plan.net, plan.ends[1 - end], plan.v6),
            numbered(FLOW_PORT, at),
        );
        while let Some(datagram) = scene.stack.datagram_recv(id) {
            let number = datagram
                .payload
                .get(..4)
                .and_then(|b| b.try_into().ok())
                .map(u32::from_le_bytes);
            let known = number.filter(|number| flow.out[direction].contains_key(number));
            let Some(number) = known else {
                violation!(scene.now, "flow {at}: a datagram that was never sent");
            };
            if datagram.payload != Self::payload(at, direction, number, plan.size)
                || datagram.from != expected_from
            {
                violation!(scene.now, "flow {at}: datagram {number} was changed");
            }
            if !flow.seen[direction].insert(number) {
                violation!(scene.now, "flow {at}: datagram {number} arrives twice");
            }
            scene.judge.tally.messages += 1;
            if plan.echo && end == 1 {
                let answer = Self::payload(at, 1, number, plan.size);
                let from = inside(plan.net, plan.ends[1], plan.v6);
                let sent = scene.stack.datagram_send(
                    scene.instant,
                    id,
                    from,
                    expected_from,
                    &answer,
                    SendOptions::default(),
                );
                if sent.is_ok() {
                    flow.out[1].insert(number, answer.len());
                }
            }
        }
    }

    // Watching

    /// Whether there is nothing more to wait for.
    pub(super) fn is_done(&self) -> bool {
        self.streams.iter().all(|stream| stream.over)
            && self.flows.iter().all(|flow| flow.sent >= flow.plan.count)
    }

    /// Sides whose other side is gone and who do not notice, since they have nothing to say: their programs give up. Who has
    /// something to say must have noticed by then.
    pub(super) fn stale(
        &self,
        now: Duration,
        calm: Duration,
    ) -> Vec<(Place, usize, usize, FlowId)> {
        let mut stale = Vec::new();
        for (at, stream) in self.streams.iter().enumerate() {
            let Some(doomed) = stream.doomed.filter(|_| !stream.over) else {
                continue;
            };
            if now <= doomed.max(calm) + STALL {
                continue;
            }
            for (side, state) in stream.sides.iter().enumerate() {
                if let Some(flow) = state.flow {
                    let place = (stream.plan.ends[side], stream.plan.net);
                    stale.push((place, at, side, flow));
                }
            }
        }
        stale
    }

    pub(super) fn give_up(&mut self, scene: &mut Scene<'_>, at: usize, side: usize, flow: FlowId) {
        let waiting = scene.stack.send_queue(flow);
        if waiting > 0 && self.demand == Demand::Progress {
            violation!(
                scene.now,
                "stream {at}: {waiting} bytes wait for a side that is gone, and nobody says so"
            );
        }
        let stream = &mut self.streams[at];
        stream.sides[side].end = End::Gone;
        stream.sides[side].flow = None;
        stream.check_over();
        self.by_flow.remove(&(scene.place, flow));
        scene.stack.abort(scene.instant, flow);
    }

    /// A stream that ought to move and does not, once everything has been calm for long enough.
    pub(super) fn stalled(&mut self, now: Duration, calm: Duration) -> Option<String> {
        self.streams
            .iter_mut()
            .enumerate()
            .find_map(|(at, stream)| {
                if stream.over || stream.doomed.is_some() || stream.plan.start > now {
                    return None;
                }
                let pause = |pace: &Pace| pace.write.1.max(pace.read.1);
                let patience = STALL + stream.plan.paces.iter().map(pause).sum::<Duration>();
                if now <= stream.progress.max(calm) + patience {
                    return None;
                }
                let [client, server] = &mut stream.sides;
                if stream.connected && server.flow.is_none() && client.sent == 0 && !client.fin_sent
                {
                    // The end of the handshake was lost, the server has given up, and the client has nothing to say.
                    server.end = End::Gone;
                    stream.doomed = Some(now);
                    return None;
                }
                let since = stream.progress;
                Some(format!(
                    "stream {at} has not moved since {since:?}: {stream:?}"
                ))
            })
    }

    /// UDP datagrams that did not arrive: flow, direction, number.
    pub(super) fn missing(&self) -> Vec<(usize, usize, u32)> {
        let mut missing = Vec::new();
        // More than can wait for a session: the oldest give way, whose flow they may be.
        let flood = |flow: &Flow| flow.plan.interval < Duration::from_millis(50);
        if self.flows.iter().any(flood) {
            return missing;
        }
        for (at, flow) in self.flows.iter().enumerate() {
            for direction in 0..2 {
                let lost = flow.out[direction]
                    .keys()
                    .filter(|n| !flow.seen[direction].contains(n));
                missing.extend(lost.map(|number| (at, direction, *number)));
            }
        }
        missing
    }

    /// All that is still open on a node ends.
    pub(super) fn shut(&mut self, scene: &mut Scene<'_>) {
        let place = scene.place;
        for ((at, flow), (stream, side)) in &self.by_flow {
            if *at == place {
                scene.stack.abort(scene.instant, *flow);
                let stream = &mut self.streams[*stream];
                stream.sides[*side].end = End::Gone;
                stream.sides[*side].flow = None;
                stream.doomed.get_or_insert(scene.now);
                stream.check_over();
            }
        }
        self.by_flow.retain(|(at, _), _| *at != place);
        for (at, listener) in self.by_listener.keys() {
            if *at == place {
                scene.stack.unlisten(scene.instant, *listener);
            }
        }
        self.by_listener.retain(|(at, _), _| *at != place);
        for (at, id) in self.by_datagram.keys() {
            if *at == place {
                scene.stack.datagram_close(*id);
            }
        }
        self.by_datagram.retain(|(at, _), _| *at != place);
    }
}

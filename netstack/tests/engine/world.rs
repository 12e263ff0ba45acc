// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two stacks on one virtual clock, joined by a link that loses, repeats, reorders and delays packets by a seed.
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use netcon_netstack::stack::{
    Config, Event, Families, FlowId, Limits, ListenerId, LocalAddr, PacketSink, Recv, Stack,
    TcpOptions,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
}

impl Link {
    pub(crate) const GOOD: Self = Self {
        delay: Duration::from_millis(5),
        jitter: Duration::ZERO,
        loss: 0.0,
        duplicate: 0.0,
    };
    pub(crate) const BAD: Self = Self {
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(8),
        loss: 0.02,
        duplicate: 0.02,
    };
}

#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) packets: Vec<Vec<u8>>,
    pub(crate) room: usize,
}

impl PacketSink for Sink {
    fn has_room(&self) -> bool {
        self.packets.len() < self.room
    }

    fn packet(&mut self, len: usize) -> &mut [u8] {
        assert!(self.has_room(), "packet() without room");
        self.packets.push(vec![0xaa; len]);
        self.packets.last_mut().unwrap()
    }
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) hosts: Vec<Stack>,
    pub(crate) events: Vec<Vec<Event>>,
    pub(crate) link: Link,
    pub(crate) mtu: usize,
    /// Every packet that was put on the link, in order: (sender, bytes).
    pub(crate) log: Vec<(usize, Vec<u8>)>,
    pub(crate) keep_log: bool,
    rng: SmallRng,
    flying: BinaryHeap<Reverse<(Instant, u64, usize, Vec<u8>)>>,
    serial: u64,
    /// Changes with every packet: two runs of one seed must agree.
    pub(crate) fingerprint: u64,
}

pub(crate) fn config(host: usize, seed: u64) -> Config {
    let last = u8::try_from(host + 1).unwrap();
    let mut key = [last; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    Config {
        mtu: 1420,
        v4: Some(([10, 0, 0, last].into(), 24)),
        v6: Some((format!("fd00::{last}").parse().unwrap(), 64)),
        seed: key,
        limits: Limits {
            tcp_buffer: 65_536,
            ..Limits::default()
        },
    }
}

pub(crate) fn options() -> TcpOptions {
    TcpOptions {
        keepalive: None,
        user_timeout: None,
        nodelay: false,
        hop_limit: 64,
        connect_timeout: Duration::from_secs(127),
        send_buffer: None,
        receive_buffer: None,
        ..TcpOptions::default()
    }
}

pub(crate) fn v4(host: usize) -> IpAddr {
    [10, 0, 0, u8::try_from(host + 1).unwrap()].into()
}

pub(crate) fn v6(host: usize) -> IpAddr {
    format!("fd00::{}", host + 1).parse().unwrap()
}

pub(crate) fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

pub(crate) fn any(port: u16) -> LocalAddr {
    LocalAddr {
        ip: None,
        families: Families::Both,
        port,
    }
}

#[expect(clippy::disallowed_methods, reason = "the origin of the virtual clock")]
pub(crate) fn origin() -> Instant {
    Instant::now()
}

impl World {
    pub(crate) fn new(seed: u64, link: Link) -> Self {
        Self::with_configs(seed, link, [config(A, seed), config(B, seed)])
    }

    pub(crate) fn with_configs(seed: u64, link: Link, configs: [Config; 2]) -> Self {
        let now = origin();
        let mtu = configs[0].mtu;
        let hosts = configs
            .into_iter()
            .map(|config| {
                let mut stack = Stack::new(config, now);
                stack.set_routes(vec![
                    ([10, 0, 0, 0].into(), 24),
                    ("fd00::".parse().unwrap(), 64),
                ]);
                stack
            })
            .collect();
        Self {
            now,
            start: now,
            hosts,
            events: vec![Vec::new(), Vec::new()],
            link,
            mtu,
            log: Vec::new(),
            keep_log: false,
            rng: SmallRng::seed_from_u64(seed),
            flying: BinaryHeap::new(),
            serial: 0,
            fingerprint: 0,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Moves all packets out of the hosts and all events into `events`.
    pub(crate) fn flush(&mut self) {
        for host in [A, B] {
            loop {
                while let Some(event) = self.hosts[host].poll_event() {
                    self.events[host].push(event);
                }
                let mut sink = Sink {
                    packets: Vec::new(),
                    room: 64,
                };
                let more = self.hosts[host].poll_transmit(self.now, &mut sink);
                for packet in sink.packets {
                    assert!(packet.len() <= self.mtu);
                    self.throw(host, packet);
                }
                if !more {
                    break;
                }
            }
            while let Some(event) = self.hosts[host].poll_event() {
                self.events[host].push(event);
            }
        }
    }

    fn throw(&mut self, from: usize, packet: Vec<u8>) {
        for byte in &packet {
            self.fingerprint = self.fingerprint.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte);
        }
        if self.keep_log {
            self.log.push((from, packet.clone()));
        }
        let copies = if self.rng.random_bool(self.link.loss) {
            0
        } else if self.rng.random_bool(self.link.duplicate) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let jitter = self.link.jitter.mul_f64(self.rng.random::<f64>());
            self.serial += 1;
            let due = self.now + self.link.delay + jitter;
            self.flying
                .push(Reverse((due, self.serial, 1 - from, packet.clone())));
        }
    }

    fn next(&mut self) -> Option<Instant> {
        self.flush();
        let arrival = self.flying.peek().map(|Reverse((at, ..))| *at);
        let timers = self.hosts.iter().filter_map(Stack::poll_timeout);
        timers.chain(arrival).min()
    }

    /// Jumps to the next thing that happens; false if nothing ever will.
    pub(crate) fn step(&mut self) -> bool {
        let Some(next) = self.next() else {
            return false;
        };
        self.now = self.now.max(next);
        while self
            .flying
            .peek()
            .is_some_and(|Reverse((at, ..))| *at <= self.now)
        {
            let Reverse((_, _, to, packet)) = self.flying.pop().unwrap();
            self.hosts[to].handle_packet(self.now, &packet);
        }
        for host in &mut self.hosts {
            host.handle_timeout(self.now);
        }
        self.flush();
        true
    }

    /// Steps until nothing happens any more or `limit` of virtual time is over.
    pub(crate) fn run_for(&mut self, limit: Duration) {
        let end = self.now + limit;
        while self.next().is_some_and(|next| next <= end) {
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// Steps until `done`; fails after `limit` of virtual time.
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        loop {
            self.flush();
            if done(self) {
                self.flush();
                return;
            }
            assert!(self.now < end, "not done after {limit:?}");
            assert!(self.step() || done(self), "nothing more happens");
        }
    }

    pub(crate) fn take(
        &mut self,
        host: usize,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Option<Event> {
        let index = self.events[host].iter().position(&mut wanted)?;
        Some(self.events[host].remove(index))
    }

    pub(crate) fn saw(&self, host: usize, event: &Event) -> bool {
        self.events[host].contains(event)
    }

    /// A connection from A to a fresh listener on B.
    pub(crate) fn connected(&mut self, port: u16) -> (FlowId, FlowId, ListenerId) {
        let listener = self.hosts[B].listen(any(port), 16, &options());
        let (a, b) = self.connect_to(40_000, at(v4(B), port));
        (a, b, listener)
    }

    pub(crate) fn connect_to(&mut self, from: u16, to: SocketAddr) -> (FlowId, FlowId) {
        let local = if to.is_ipv4() { v4(A) } else { v6(A) };
        let a = self.hosts[A]
            .connect(self.now, at(local, from), to, &options())
            .unwrap();
        let mut b = None;
        self.run_until(Duration::from_secs(60), |world| {
            if let Some(Event::Accepted { flow, .. }) =
                world.take(B, |e| matches!(e, Event::Accepted { .. }))
            {
                b = Some(flow);
            }
            b.is_some() && world.saw(A, &Event::Connected(a))
        });
        (a, b.unwrap())
    }

    pub(crate) fn write(&mut self, host: usize, flow: FlowId, mut data: &[u8]) -> usize {
        let total = data.len();
        while !data.is_empty() {
            let written = self.hosts[host].send(self.now, flow, |room| {
                let len = room.len().min(data.len());
                room[..len].copy_from_slice(&data[..len]);
                len
            });
            match written {
                None | Some(0) => break,
                Some(written) => data = &data[written..],
            }
        }
        total - data.len()
    }

    /// Reads all there is; the second value tells what ended it.
    pub(crate) fn read(&mut self, host: usize, flow: FlowId) -> (Vec<u8>, Recv) {
        let mut all = Vec::new();
        loop {
            let got = self.hosts[host].recv(self.now, flow, |data| {
                all.extend_from_slice(data);
                data.len()
            });
            match got {
                Recv::Data(_) => {}
                Recv::Empty | Recv::Finished | Recv::Dead => return (all, got),
            }
        }
    }
}

/// The ICMP packet with the checksum of its message written in.
pub(crate) fn summed(mut packet: Vec<u8>) -> Vec<u8> {
    let v4 = packet[0] >> 4 == 4;
    let at = if v4 { 20 } else { 40 };
    packet[at + 2..at + 4].fill(0);
    let mut sum = 0_u64;
    if !v4 {
        sum += 58 + (packet.len() - at) as u64;
    }
    let covered = if v4 { at } else { 8 };
    for pair in packet[covered..].chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap();
    packet[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
    packet
}

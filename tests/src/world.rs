// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The simulated world.

use netcon_netstack::stack::{self, Event, PacketSink, Stack};
use netcon_overlay::{IpPrefix, NetworkIndex, Overlay, PeerConfig, PrivateKey, Received};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// The only network of a simulated host.
const NETWORK: NetworkIndex = NetworkIndex(0);
/// Inner MTU.
const MTU: usize = 1420;
/// Steps without an end: a livelock.
const MAX_STEPS: u64 = 20_000_000;

/// How a link treats datagrams.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Up to this much is added at random: reordering.
    pub jitter: Duration,
    /// Lost, per thousand.
    pub loss: u32,
    /// Delivered twice, per thousand.
    pub duplicate: u32,
    /// One bit flipped, per thousand.
    pub corrupt: u32,
}

impl Link {
    /// 5 ms, nothing goes wrong.
    pub const CLEAN: Self = Self {
        delay: Duration::from_millis(5),
        jitter: Duration::ZERO,
        loss: 0,
        duplicate: 0,
        corrupt: 0,
    };
}

/// One host.
#[derive(Debug)]
pub struct Host {
    /// Its engine.
    pub stack: Stack,
    /// Its tunnel.
    pub overlay: Overlay,
    /// Where its datagrams come from.
    pub endpoint: SocketAddr,
    /// Addresses inside.
    pub v4: Ipv4Addr,
    /// Addresses inside.
    pub v6: Ipv6Addr,
    /// What the engine said, in order.
    pub events: VecDeque<Event>,
}

/// A datagram on its way; ordered by arrival.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: Instant,
    order: u64,
    to: usize,
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// Hosts and the datagrams between them.
#[derive(Debug)]
pub struct World {
    /// Virtual now.
    pub now: Instant,
    start: Instant,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The link between any two.
    pub link: Link,
    /// Datagrams that were put on the wire.
    pub sent: u64,
    /// True while no datagram passes.
    pub partitioned: bool,
    rng: StdRng,
    flying: BinaryHeap<Reverse<Flying>>,
    steps: u64,
}

impl World {
    /// `count` hosts that are all peers of each other.
    #[must_use]
    pub fn new(seed: u64, count: u8, link: Link) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let start = epoch();
        let keys: Vec<PrivateKey> = (0..count)
            .map(|_| PrivateKey::from_random(random(&mut rng)))
            .collect();
        let address = |i: u8| {
            (
                Ipv4Addr::new(10, 77, 0, i + 1),
                Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(i) + 1),
                SocketAddr::from(([192, 0, 2, i + 1], 9993)),
            )
        };
        let publics: Vec<_> = keys.iter().map(PrivateKey::public).collect();
        let hosts = (0..count)
            .zip(keys)
            .map(|(i, key)| {
                let (v4, v6, endpoint) = address(i);
                let mut overlay = Overlay::new(random(&mut rng));
                overlay
                    .add_network(NETWORK, key, MTU)
                    .expect("a fresh overlay takes a network");
                let mut routes = Vec::new();
                for (j, public) in (0..count).zip(&publics) {
                    if i == j {
                        continue;
                    }
                    let (v4, v6, endpoint) = address(j);
                    let allowed_ips = vec![
                        IpPrefix::host(IpAddr::V4(v4)),
                        IpPrefix::host(IpAddr::V6(v6)),
                    ];
                    routes.extend(allowed_ips.iter().map(|p| (p.addr(), p.len())));
                    let peer = PeerConfig {
                        public_key: *public,
                        preshared_key: None,
                        endpoint: Some(endpoint),
                        allowed_ips,
                        persistent_keepalive: None,
                        reserved: [0; 3],
                    };
                    overlay
                        .set_peer(start, NETWORK, peer)
                        .expect("a valid peer");
                }
                let config = stack::Config {
                    mtu: MTU,
                    v4: Some((v4, 24)),
                    v6: Some((v6, 64)),
                    seed: random(&mut rng),
                    limits: stack::Limits::default(),
                };
                let mut stack = Stack::new(config, start);
                stack.set_routes(routes);
                Host {
                    stack,
                    overlay,
                    endpoint,
                    v4,
                    v6,
                    events: VecDeque::new(),
                }
            })
            .collect();
        Self {
            now: start,
            start,
            hosts,
            link,
            sent: 0,
            partitioned: false,
            rng,
            flying: BinaryHeap::new(),
            steps: 0,
        }
    }

    /// Virtual time since the world began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Lets every host say what it has to say now.
    pub fn settle(&mut self) {
        for i in 0..self.hosts.len() {
            self.settle_host(i);
        }
    }

    /// Jumps to the next thing that is due and does it; false when nothing ever will be.
    ///
    /// # Panics
    /// On a livelock.
    pub fn step(&mut self) -> bool {
        self.steps += 1;
        assert!(self.steps < MAX_STEPS, "livelock at {:?}", self.elapsed());
        self.settle();
        let timers = self
            .hosts
            .iter()
            .flat_map(|host| [host.stack.poll_timeout(), host.overlay.poll_timeout()])
            .flatten()
            .min();
        let arrival = self.flying.peek().map(|Reverse(datagram)| datagram.at);
        let Some(next) = [timers, arrival].into_iter().flatten().min() else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(Reverse(datagram)) = self.flying.peek() {
            if datagram.at > self.now {
                break;
            }
            if let Some(Reverse(mut datagram)) = self.flying.pop() {
                self.deliver(datagram.to, datagram.from, &mut datagram.bytes);
            }
        }
        let unix = self.unix();
        for host in &mut self.hosts {
            host.stack.handle_timeout(self.now);
            host.overlay.handle_timeout(self.now, unix);
        }
        self.settle();
        true
    }

    /// Steps until `done` holds or `limit` of virtual time has passed; true if it holds.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            if self.now >= end || !self.step() {
                return done(self);
            }
        }
    }

    fn unix(&self) -> Duration {
        Duration::from_secs(1_700_000_000) + self.elapsed()
    }

    fn deliver(&mut self, to: usize, from: SocketAddr, bytes: &mut [u8]) {
        let unix = self.unix();
        let host = &mut self.hosts[to];
        match host.overlay.handle_datagram(self.now, unix, from, bytes) {
            Received::Packet { packet, .. } => host.stack.handle_packet(self.now, packet),
            Received::Handled | Received::Dropped(_) => {}
        }
    }

    fn settle_host(&mut self, i: usize) {
        let unix = self.unix();
        loop {
            let host = &mut self.hosts[i];
            let mut sink = Packets::default();
            let more = host.stack.poll_transmit(self.now, &mut sink);
            while let Some(event) = host.stack.poll_event() {
                host.events.push_back(event);
            }
            let mut out: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
            for packet in sink.0 {
                let len = packet.len();
                let mut buffer = vec![0; Overlay::sealed_len(len, MTU)];
                buffer[Overlay::HEADROOM..Overlay::HEADROOM + len].copy_from_slice(&packet);
                if let Ok(sealed) =
                    host.overlay
                        .encapsulate(self.now, unix, NETWORK, &mut buffer, len)
                {
                    buffer.truncate(sealed.len);
                    out.push((sealed.to, buffer));
                }
            }
            let mut control = Vec::new();
            while let Some(to) = host.overlay.poll_transmit(self.now, unix, &mut control) {
                out.push((to, control.clone()));
            }
            let from = host.endpoint;
            let quiet = out.is_empty();
            for (to, bytes) in out {
                self.launch(from, to, bytes);
            }
            if quiet && !more {
                return;
            }
        }
    }

    fn launch(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.sent += 1;
        let Some(target) = self.hosts.iter().position(|host| host.endpoint == to) else {
            return;
        };
        if self.partitioned || self.chance(self.link.loss) {
            return;
        }
        let copies = if self.chance(self.link.duplicate) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let mut bytes = bytes.clone();
            if self.chance(self.link.corrupt) {
                let at = self.rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << self.rng.random_range(0..8);
            }
            let jitter = self.link.jitter.as_micros().try_into().unwrap_or(u64::MAX);
            let extra = Duration::from_micros(self.rng.random_range(0..=jitter));
            // The random number only orders what arrives at the same time.
            let order = if jitter == 0 {
                self.sent
            } else {
                self.rng.next_u64()
            };
            let at = self.now + self.link.delay + extra;
            self.flying.push(Reverse(Flying {
                at,
                order,
                to: target,
                from,
                bytes,
            }));
        }
    }

    fn chance(&mut self, per_thousand: u32) -> bool {
        per_thousand > 0 && self.rng.random_range(0..1000) < per_thousand
    }
}

#[derive(Debug, Default)]
struct Packets(Vec<Vec<u8>>);

impl PacketSink for Packets {
    fn has_room(&self) -> bool {
        self.0.len() < 64
    }

    fn packet(&mut self, len: usize) -> &mut [u8] {
        self.0.push(vec![0; len]);
        self.0.last_mut().expect("just pushed")
    }
}

/// 32 seeded bytes.
pub fn random(rng: &mut StdRng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had no other way; its value does not matter"
)]
fn epoch() -> Instant {
    Instant::now()
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two hosts of one network, a wire between them, and a clock that only moves when told.

#![allow(unreachable_pub, reason = "a module shared by tests")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netcon_netstack::errno::Errno;
use netcon_netstack::sockets::{Connect, ConnectTo, SocketEvent, SocketId, Sockets};
use netcon_netstack::stack::{Config, Limits, PacketSink, Stack};

/// Types of sockets, as in socket(2).
pub const STREAM: i32 = 1;
pub const DGRAM: i32 = 2;

const MTU: usize = 1_420;

pub struct World {
    pub hosts: [Sockets; 2],
    pub now: Instant,
    events: [Vec<SocketEvent>; 2],
}

struct Wire(Vec<Vec<u8>>);

impl PacketSink for Wire {
    fn has_room(&self) -> bool {
        true
    }

    fn packet(&mut self, len: usize) -> &mut [u8] {
        self.0.push(vec![0; len]);
        self.0.last_mut().unwrap()
    }
}

impl World {
    /// Hosts 10.9.0.1, fd09::1 and 10.9.0.2, fd09::2.
    pub fn new() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant can be had from the clock only; it is moved by hand from here on"
        )]
        let now = Instant::now();
        let host = |number: u8| {
            let v4 = format!("10.9.0.{number}").parse().unwrap();
            let v6 = format!("fd09::{number}").parse().unwrap();
            let config = Config {
                mtu: MTU,
                v4: Some((v4, 24)),
                v6: Some((v6, 64)),
                seed: [number; 32],
                limits: Limits::default(),
            };
            let mut stack = Stack::new(config, now);
            stack.set_routes(vec![
                ("10.9.0.0".parse().unwrap(), 24),
                ("fd09::".parse().unwrap(), 64),
            ]);
            Sockets::new(stack, u64::from(number))
        };
        Self {
            hosts: [host(1), host(2)],
            now,
            events: [Vec::new(), Vec::new()],
        }
    }

    /// Moves packets until none is left, a little time with them.
    pub fn run(&mut self) {
        self.run_for(Duration::from_millis(200));
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.move_packets();
            self.collect();
            let due = self
                .hosts
                .iter()
                .filter_map(|host| host.stack().poll_timeout())
                .min();
            self.now = due
                .unwrap_or(end)
                .clamp(self.now + Duration::from_millis(1), end);
            for host in &mut self.hosts {
                host.stack_mut().handle_timeout(self.now);
            }
        }
        self.move_packets();
        self.collect();
    }

    /// As `run`, but nobody asks for events.
    pub fn run_without_events(&mut self) {
        for _ in 0..20 {
            self.move_packets();
            self.now += Duration::from_millis(10);
            for host in &mut self.hosts {
                host.stack_mut().handle_timeout(self.now);
            }
        }
    }

    fn move_packets(&mut self) {
        for _ in 0..1_000 {
            let mut moved = false;
            for at in 0..2 {
                let mut wire = Wire(Vec::new());
                while self.hosts[at]
                    .stack_mut()
                    .poll_transmit(self.now, &mut wire)
                {}
                for packet in wire.0 {
                    moved = true;
                    self.hosts[1 - at]
                        .stack_mut()
                        .handle_packet(self.now, &packet);
                }
            }
            if !moved {
                break;
            }
        }
    }

    /// Lets packets travel for `delay` each, round by round; `lost` says which of a host's do not arrive.
    pub fn run_slowly(
        &mut self,
        delay: Duration,
        rounds: usize,
        mut lost: impl FnMut(usize, &[u8]) -> bool,
    ) {
        for _ in 0..rounds {
            let mut flying = Vec::new();
            for at in 0..2 {
                let mut wire = Wire(Vec::new());
                while self.hosts[at]
                    .stack_mut()
                    .poll_transmit(self.now, &mut wire)
                {}
                flying.extend(wire.0.into_iter().map(|packet| (at, packet)));
            }
            self.now += delay;
            for (at, packet) in flying {
                if !lost(at, &packet) {
                    self.hosts[1 - at]
                        .stack_mut()
                        .handle_packet(self.now, &packet);
                }
            }
            for host in &mut self.hosts {
                host.stack_mut().handle_timeout(self.now);
            }
            self.collect();
        }
    }

    fn collect(&mut self) {
        for (host, events) in self.hosts.iter_mut().zip(&mut self.events) {
            events.extend(std::iter::from_fn(|| host.poll_event()));
        }
    }

    /// The events of one host since the last time.
    pub fn take(&mut self, at: usize) -> Vec<SocketEvent> {
        std::mem::take(&mut self.events[at])
    }

    pub fn connect(
        &mut self,
        at: usize,
        id: SocketId,
        destination: &str,
    ) -> Result<Connect, Errno> {
        self.hosts[at].connect(self.now, id, to(destination))
    }

    pub fn listener(&mut self, at: usize, family: i32, on: &str) -> SocketId {
        let id = self.hosts[at].socket(family, 1, 0).unwrap();
        self.hosts[at].bind(id, address(on)).unwrap();
        self.hosts[at].listen(self.now, id, 128).unwrap();
        id
    }

    /// A connection from `at` to a listener at `server`: both its sockets.
    pub fn connected(
        &mut self,
        at: usize,
        destination: &str,
        server: usize,
    ) -> (SocketId, SocketId) {
        let client = self.hosts[at].socket(2, 1, 0).unwrap();
        self.connect(at, client, destination).unwrap();
        self.run();
        let events = self.take(server);
        let accepted = events.iter().find_map(|event| {
            if let SocketEvent::Incoming { socket, .. } = event {
                Some(*socket)
            } else {
                None
            }
        });
        (client, accepted.expect("a connection comes in"))
    }
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn to(text: &str) -> ConnectTo {
    ConnectTo::Address(address(text))
}

pub fn set(
    host: &mut Sockets,
    now: Instant,
    id: SocketId,
    level: i32,
    name: i32,
    value: i32,
) -> Result<(), Errno> {
    host.set_option(now, id, level, name, &value.to_ne_bytes())
}

#[expect(
    clippy::disallowed_methods,
    reason = "only ages depend on it, which are no int options"
)]
pub fn int_option(host: &mut Sockets, id: SocketId, level: i32, name: i32) -> i32 {
    host.get_option(Instant::now(), id, level, name)
        .unwrap()
        .as_int()
        .unwrap()
}

/// Small deterministic random numbers (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }
}

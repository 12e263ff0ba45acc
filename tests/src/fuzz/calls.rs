// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The socket model: any calls in any order on two hosts of one network, with the packets between them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use netcon_netstack::interfaces::{NetworkView, View};
use netcon_netstack::netlink::{self, Netlink};
use netcon_netstack::sockets::{CloseHow, ConnectTo, SocketEvent, SocketId, Sockets};

use super::engine::{Out, stack};
use super::epoch;
use super::feed::Feed;

/// Sockets of one host; more are not opened.
const MAX_SOCKETS: usize = 24;

struct Two {
    now: Instant,
    hosts: [Sockets; 2],
    ids: [Vec<SocketId>; 2],
}

fn address(feed: &mut Feed<'_>) -> SocketAddr {
    let host = feed.byte();
    let port = match feed.byte() % 8 {
        0 => 0,
        number @ 1..=5 => 80 + u16::from(number),
        _ => feed.u16(),
    };
    let ip = match host % 16 {
        0 => Ipv4Addr::UNSPECIFIED.into(),
        1 => Ipv6Addr::UNSPECIFIED.into(),
        2 => Ipv4Addr::LOCALHOST.into(),
        3 => Ipv6Addr::LOCALHOST.into(),
        4..=6 => Ipv4Addr::new(10, 0, 0, 1 + (host & 1)).into(),
        7..=9 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1 + u16::from(host & 1)).into(),
        10 => Ipv4Addr::new(10, 0, 0, 2).to_ipv6_mapped().into(),
        11 => Ipv4Addr::BROADCAST.into(),
        12 => Ipv4Addr::new(224, 0, 0, 1).into(),
        _ => Ipv4Addr::from(feed.u32()).into(),
    };
    SocketAddr::new(ip, port)
}

impl Two {
    fn new() -> Self {
        let now = epoch();
        Self {
            now,
            hosts: [1, 2].map(|host| Sockets::new(stack(host, now), u64::from(host))),
            ids: [Vec::new(), Vec::new()],
        }
    }

    fn run(&mut self) {
        for _ in 0..6 {
            let mut moved = false;
            for at in 0..2 {
                self.collect(at);
                let mut out = Out::default();
                moved |= self.hosts[at].stack_mut().poll_transmit(self.now, &mut out);
                for packet in out.0 {
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
        for host in &self.hosts {
            assert_eq!(host.stack().counters().panics, 0, "the TCP engine panicked");
            assert!(host.rows().count() <= MAX_SOCKETS + 64, "sockets pile up");
        }
    }

    fn collect(&mut self, at: usize) {
        while let Some(event) = self.hosts[at].poll_event() {
            if let SocketEvent::Incoming { socket, .. } = event {
                if self.ids[at].len() < MAX_SOCKETS {
                    self.ids[at].push(socket);
                } else {
                    self.hosts[at].close(self.now, socket, CloseHow::Reset);
                }
            }
        }
    }

    fn call(&mut self, at: usize, what: u8, feed: &mut Feed<'_>) {
        let now = self.now;
        let host = &mut self.hosts[at];
        let chosen = usize::from(feed.byte()) % self.ids[at].len().max(1);
        let Some(id) = self.ids[at].get(chosen).copied() else {
            return;
        };
        match what {
            0..=2 => {
                let _ = host.bind(id, address(feed));
            }
            3..=5 => {
                let to = if feed.byte() == 0 {
                    ConnectTo::Unspecified
                } else {
                    ConnectTo::Address(address(feed))
                };
                let _ = host.connect(now, id, to);
            }
            6 | 7 => {
                let _ = host.listen(now, id, i32::from(feed.byte()) - 3);
            }
            8 => {
                let _ = host.shutdown(now, id, i32::from(feed.byte() % 5));
            }
            9 => host.finish(now, id),
            10..=12 => {
                let level = [0, 1, 6, 17, 41][usize::from(feed.byte() % 5)];
                let name = i32::from(feed.byte() % 90);
                let value = feed.take(usize::from(what - 8) * 2);
                let _ = host.set_option(now, id, level, name, value);
            }
            13 => {
                let level = [0, 1, 6, 17, 41][usize::from(feed.byte() % 5)];
                let name = i32::from(feed.byte() % 90);
                if let Ok(value) = host.get_option(now, id, level, name) {
                    let _ = value.fit(level, name, i32::from(feed.byte()) - 2);
                }
            }
            14 | 15 => {
                let to = (feed.byte() & 1 == 0).then(|| address(feed));
                let payload = feed.take(40);
                let _ = host.udp_send(now, id, to, payload);
            }
            16 => {
                let _ = host.udp_recv(id);
            }
            17 => {
                let _ = (host.local_address(id), host.peer_address(id));
                let _ = (
                    host.kind(id),
                    host.family(id),
                    host.linger(id),
                    host.flow(id),
                );
            }
            18 => {
                let _ = (host.connect_answer(id), host.take_error(id));
            }
            19 | 20 => {
                if let Some(flow) = host.flow(id) {
                    let count = usize::from(feed.byte()) * 16;
                    host.stack_mut()
                        .send(now, flow, |room| room.len().min(count));
                    host.stack_mut().recv(now, flow, |bytes| bytes.len());
                }
            }
            _ => {
                let how = if feed.byte() & 1 == 0 {
                    CloseHow::Graceful
                } else {
                    CloseHow::Reset
                };
                host.close(now, id, how);
                self.ids[at].remove(chosen);
            }
        }
    }
}

/// Calls chosen by the input.
pub fn socket_calls(input: &[u8]) {
    let mut feed = Feed::new(input);
    let mut two = Two::new();
    while !feed.is_empty() {
        let step = feed.byte();
        let at = usize::from(step & 1);
        match step >> 1 {
            what @ 0..=23 => two.call(at, what, &mut feed),
            24..=40 => {
                let family = if feed.byte() & 1 == 0 { 2 } else { 10 };
                let kind = 1 + i32::from(feed.byte() & 1);
                if two.ids[at].len() < MAX_SOCKETS {
                    two.ids[at].extend(two.hosts[at].socket(family, kind, 0));
                }
            }
            41..=44 => {
                let mut word = || i32::from(feed.byte() % 48);
                let (family, kind, protocol) = (word(), word(), word());
                if two.ids[at].len() < MAX_SOCKETS {
                    two.ids[at].extend(two.hosts[at].socket(family, kind, protocol));
                }
            }
            45..=60 => two.run(),
            _ => {
                two.now += Duration::from_millis(u64::from(feed.u16()));
                for host in &mut two.hosts {
                    host.stack_mut().handle_timeout(two.now);
                }
            }
        }
    }
    // All sockets close, and in the end nothing is left of them.
    for at in 0..2 {
        two.collect(at);
        for id in std::mem::take(&mut two.ids[at]) {
            two.hosts[at].close(two.now, id, CloseHow::Reset);
        }
    }
    two.run();
    for at in 0..2 {
        two.collect(at);
        for id in std::mem::take(&mut two.ids[at]) {
            two.hosts[at].close(two.now, id, CloseHow::Reset);
        }
    }
    assert!(two.hosts.iter().all(|host| host.rows().count() == 0));
}

/// Requests to the route sockets of a network, answered whole, part by part.
pub fn netlink_requests(input: &[u8]) {
    let view = View::Network(NetworkView {
        mtu: 1420,
        v4: Some((Ipv4Addr::new(10, 0, 0, 1), 24)),
        v6: Some((Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1), 64)),
        routes: vec![(Ipv4Addr::new(10, 0, 0, 2).into(), 32); 300],
        ..NetworkView::default()
    });
    let mut feed = Feed::new(input);
    let Ok(mut socket) = Netlink::new(3, 0) else {
        return;
    };
    while !feed.is_empty() {
        let step = feed.byte();
        match step & 7 {
            0 => {
                let _ = netlink::Address::decode(feed.take(12)).map(|address| {
                    let _ = (socket.bind(address), socket.may_send(address));
                    assert_eq!(netlink::Address::decode(&address.encode()), Ok(address));
                });
            }
            1 => {
                let (level, name) = (i32::from(feed.u16()), i32::from(feed.byte()));
                let _ = socket.set_option(level, name, feed.take(4));
                let _ = socket.get_option(level, name);
            }
            2 => {
                // A request with a right header.
                let len = usize::from(feed.byte());
                let body = feed.take(len);
                let mut request = Vec::new();
                let len = u32::try_from(16 + body.len()).unwrap_or(16);
                request.extend_from_slice(&len.to_ne_bytes());
                request.extend_from_slice(&(16 + u16::from(feed.byte() % 110)).to_ne_bytes());
                request.extend_from_slice(&(feed.u16() | 1).to_ne_bytes());
                request.extend_from_slice(&[0; 8]);
                request.extend_from_slice(body);
                socket.handle_request(&view, &request);
            }
            3..=5 => socket.handle_request(&view, feed.chunk()),
            _ => {
                let mut parts = 0;
                while let Some(reply) = socket.poll_reply() {
                    assert!(!reply.is_empty() && reply.len() < 65_536);
                    parts += 1;
                    assert!(parts < 10_000, "no end of answers");
                }
                let _ = socket.take_error();
            }
        }
    }
}

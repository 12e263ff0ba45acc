// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes arrive once, in order, both ways, over good and bad links.
use std::time::Duration;

use netcon_netstack::stack::{Event, Families, FlowId, LocalAddr, Recv, TcpState};

use crate::world::{A, B, Link, World, any, at, options, v4, v6};

/// Byte `index` of a stream: depends on the position, so that anything out of place shows.
fn byte(stream: u8, index: usize) -> u8 {
    let mixed = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8 ^ stream
}

/// Drives one direction of a transfer.
struct Half {
    from: (usize, FlowId),
    to: (usize, FlowId),
    stream: u8,
    total: usize,
    written: usize,
    read: usize,
    finished: bool,
}

impl Half {
    fn new(from: (usize, FlowId), to: (usize, FlowId), stream: u8, total: usize) -> Self {
        Self {
            from,
            to,
            stream,
            total,
            written: 0,
            read: 0,
            finished: false,
        }
    }

    fn pump(&mut self, world: &mut World) {
        while self.written < self.total {
            let end = self.total.min(self.written + 10_000);
            let data: Vec<u8> = (self.written..end)
                .map(|index| byte(self.stream, index))
                .collect();
            let taken = world.write(self.from.0, self.from.1, &data);
            self.written += taken;
            if self.written == self.total {
                world.hosts[self.from.0].finish(world.now, self.from.1);
            }
            if taken < data.len() {
                break;
            }
        }
        if !self.finished {
            let (data, end) = world.read(self.to.0, self.to.1);
            for (offset, got) in data.iter().enumerate() {
                assert_eq!(*got, byte(self.stream, self.read + offset));
            }
            self.read += data.len();
            assert_ne!(end, Recv::Dead);
            self.finished = end == Recv::Finished;
        }
    }
}

fn both_ways(seed: u64, link: Link, total: usize, six: bool) -> World {
    let mut world = World::new(seed, link);
    world.hosts[B].listen(any(80), 16, &options());
    let to = if six { at(v6(B), 80) } else { at(v4(B), 80) };
    let (a, b) = world.connect_to(40_000, to);
    let mut halves = [
        Half::new((A, a), (B, b), 1, total),
        Half::new((B, b), (A, a), 2, total / 2),
    ];
    world.run_until(Duration::from_secs(3600), |world| {
        for half in &mut halves {
            half.pump(world);
        }
        halves.iter().all(|half| half.finished)
    });
    assert_eq!(halves[0].read, total);
    assert_eq!(halves[1].read, total / 2);
    world.run_until(Duration::from_secs(120), |world| {
        world.saw(A, &Event::Closed(a)) && world.saw(B, &Event::Closed(b))
    });
    world.run_for(Duration::from_secs(62));
    for host in &world.hosts {
        let sizes = host.sizes();
        assert_eq!((sizes.flows, sizes.time_wait), (0, 0));
        assert_eq!(host.counters().panics, 0);
    }
    world
}

#[test]
fn bulk_over_a_good_link() {
    let world = both_ways(1, Link::GOOD, 3_000_000, false);
    assert!(world.elapsed() < Duration::from_secs(200));
}

#[test]
fn bulk_over_bad_links() {
    for seed in 0..6 {
        both_ways(seed, Link::BAD, 300_000, seed % 2 == 1);
    }
}

#[test]
fn one_seed_is_one_history() {
    let first = both_ways(77, Link::BAD, 200_000, false);
    let second = both_ways(77, Link::BAD, 200_000, false);
    assert_eq!(first.fingerprint, second.fingerprint);
    assert_eq!(first.elapsed(), second.elapsed());
}

#[test]
fn writable_follows_a_full_ring() {
    let mut world = World::new(3, Link::GOOD);
    let (a, b, _) = world.connected(80);
    let data = vec![7; 1_000_000];
    let taken = world.write(A, a, &data);
    assert!(taken < data.len());
    // The peer does not read: its window closes, nothing is writable.
    world.run_for(Duration::from_secs(5));
    let more = world.write(A, a, &data);
    assert!(more <= 65_536, "at most what the peer's ring took");
    world.run_for(Duration::from_secs(5));
    world.events[A].clear();
    assert_eq!(world.write(A, a, &data), 0);
    world.run_for(Duration::from_secs(5));
    assert!(!world.saw(A, &Event::Writable(a)));
    world.run_until(Duration::from_secs(120), |world| {
        world.read(B, b);
        world.saw(A, &Event::Writable(a))
    });
}

#[test]
fn readable_is_told_once_until_served() {
    let mut world = World::new(4, Link::GOOD);
    let (a, b, _) = world.connected(80);
    for _ in 0..5 {
        world.write(A, a, b"some");
        world.run_for(Duration::from_millis(50));
    }
    let told = world.events[B]
        .iter()
        .filter(|event| **event == Event::Readable(b))
        .count();
    assert_eq!(told, 1);
    assert_eq!(world.read(B, b).0.len(), 20);
    world.events[B].clear();
    world.write(A, a, b"more");
    world.run_for(Duration::from_millis(50));
    assert!(world.saw(B, &Event::Readable(b)));
}

#[test]
fn half_close_keeps_the_other_direction() {
    let mut world = World::new(5, Link::GOOD);
    let (a, b, _) = world.connected(80);
    world.write(A, a, b"question");
    world.hosts[A].finish(world.now, a);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.read(B, b), (b"question".to_vec(), Recv::Finished));
    assert_eq!(world.hosts[A].state(a), Some(TcpState::FinWait2));
    assert_eq!(world.hosts[B].state(b), Some(TcpState::CloseWait));
    // Long after the orphan time-out: it has an owner.
    world.run_for(Duration::from_secs(300));
    world.write(B, b, b"answer");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.read(A, a), (b"answer".to_vec(), Recv::Empty));
    world.hosts[B].finish(world.now, b);
    world.run_for(Duration::from_secs(1));
    assert!(world.saw(B, &Event::Closed(b)));
    assert!(
        !world.saw(A, &Event::Closed(a)),
        "not before the end was read"
    );
    assert_eq!(world.read(A, a), (Vec::new(), Recv::Finished));
    world.flush();
    assert!(world.saw(A, &Event::Closed(a)));
    assert_eq!(world.read(A, a).1, Recv::Dead);
}

#[test]
fn unread_data_outlives_time_wait() {
    let mut world = World::new(6, Link::GOOD);
    let (a, b, _) = world.connected(80);
    world.hosts[A].finish(world.now, a);
    world.run_for(Duration::from_secs(1));
    world.write(B, b, b"last words");
    world.hosts[B].finish(world.now, b);
    world.run_for(Duration::from_secs(300));
    assert_eq!(world.read(A, a), (b"last words".to_vec(), Recv::Finished));
}

#[test]
fn loopback_connects_to_itself() {
    let mut world = World::new(7, Link::GOOD);
    let loopback: std::net::IpAddr = [127, 0, 0, 1].into();
    let second: std::net::IpAddr = [127, 0, 0, 2].into();
    for (port, source, target) in [
        (80, loopback, loopback),
        (81, loopback, second),
        (82, v4(A), v4(A)),
        (83, v6(A), v6(A)),
        (84, "::1".parse().unwrap(), "::1".parse().unwrap()),
    ] {
        let listener = world.hosts[A].listen(
            LocalAddr {
                ip: Some(target),
                families: Families::Both,
                port,
            },
            8,
            &options(),
        );
        let a = world.hosts[A]
            .connect(world.now, at(source, 50_000), at(target, port), &options())
            .unwrap();
        world.flush();
        assert!(world.saw(A, &Event::Connected(a)));
        let accepted = world.take(A, |event| matches!(event, Event::Accepted { .. }));
        let Some(Event::Accepted {
            flow: b,
            listener: by,
        }) = accepted
        else {
            panic!("not accepted")
        };
        assert_eq!(by, listener);
        assert_eq!(
            world.hosts[A].addresses(b),
            Some((at(target, port), at(source, 50_000)))
        );
        let mut halves = [
            Half::new((A, a), (A, b), 3, 500_000),
            Half::new((A, b), (A, a), 4, 500_000),
        ];
        world.run_until(Duration::from_secs(60), |world| {
            for half in &mut halves {
                half.pump(world);
            }
            halves.iter().all(|half| half.finished)
        });
        world.run_for(Duration::from_secs(1));
        assert!(world.saw(A, &Event::Closed(a)) && world.saw(A, &Event::Closed(b)));
    }
    assert_eq!(
        world.hosts[A].counters().packets_out,
        0,
        "nothing of this leaves the host"
    );
    assert_eq!(world.hosts[A].sizes().flows, 0);
}

#[test]
fn self_connect_is_a_simultaneous_open() {
    let mut world = World::new(8, Link::GOOD);
    let own = at([127, 0, 0, 1].into(), 5000);
    let flow = world.hosts[A]
        .connect(world.now, own, own, &options())
        .unwrap();
    world.run_for(Duration::from_secs(5));
    assert!(world.saw(A, &Event::Connected(flow)));
    world.write(A, flow, b"echo");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.read(A, flow).0, b"echo");
    world.hosts[A].abort(world.now, flow);
    assert_eq!(world.hosts[A].sizes().flows, 0);
}

#[test]
fn two_sides_that_repeat_at_the_same_time_hear_each_other() {
    let mut world = World::new(1, Link::GOOD);
    let (a, b, _) = world.connected(80);
    let data = [7; 4000];
    assert_eq!(world.write(A, a, &data), data.len());
    assert_eq!(world.write(B, b, &data), data.len());
    // The data of both arrives, the acknowledgements of both are lost, and so is what they repeat.
    world.flush();
    world.link.loss = 1.0;
    world.run_for(Duration::from_millis(2500));
    world.link.loss = 0.0;
    world.run_until(Duration::from_secs(60), |world| {
        world.hosts[A].send_queue(a) + world.hosts[B].send_queue(b) == 0
    });
    assert_eq!(world.read(A, a).0, data);
    assert_eq!(world.read(B, b).0, data);
}

#[test]
fn a_fin_that_overtook_its_data_is_heard_when_it_is_repeated() {
    let mut world = World::new(1, Link::GOOD);
    let (a, b, _) = world.connected(80);
    // The first of two segments is lost, the second, which carries the FIN, arrives.
    world.link.loss = 1.0;
    assert_eq!(world.write(A, a, &[1; 1380]), 1380);
    world.flush();
    world.link.loss = 0.0;
    world.keep_log = true;
    assert_eq!(world.write(A, a, &[2; 100]), 100);
    world.hosts[A].finish(world.now, a);
    world.flush();
    let (_, last) = world.log.last().cloned().expect("a segment with the FIN");
    let mut got = Vec::new();
    world.run_until(Duration::from_secs(60), |world| {
        got.extend(world.read(B, b).0);
        got.len() == 1480
    });
    world.hosts[B].handle_packet(world.now, &last);
    assert_eq!(world.read(B, b).1, Recv::Finished);
}

#[test]
fn a_fin_outlives_repeated_acknowledgements() {
    let mut world = World::new(1, Link::GOOD);
    let (a, b, _) = world.connected(80);
    assert_eq!(world.write(A, a, &[1; 3000]), 3000);
    world.flush();
    world.keep_log = true;
    world.run_for(Duration::from_millis(50));
    // What B has said last, once more and again while only the FIN is on its way.
    let last = world.log.iter().rev().find(|(from, _)| *from == B);
    let (_, ack) = last.cloned().expect("the data was acknowledged");
    world.link.loss = 1.0;
    world.hosts[A].finish(world.now, a);
    world.flush();
    world.link.loss = 0.0;
    for _ in 0..8 {
        world.hosts[A].handle_packet(world.now, &ack);
    }
    world.run_until(Duration::from_secs(60), |world| {
        world.read(B, b).1 == Recv::Finished
    });
}

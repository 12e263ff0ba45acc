// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How connections begin and end.
use std::time::Duration;

use netcon_netstack::stack::{
    ConnectError, Event, Failure, Families, FlowId, LocalAddr, Recv, TcpOptions, TcpState,
};

use crate::world::{A, B, Link, World, any, at, options, summed, v4, v6};

fn failed(world: &mut World, flow: FlowId) -> Option<Failure> {
    match world.take(
        A,
        |event| matches!(event, Event::ConnectFailed(id, _) if *id == flow),
    ) {
        Some(Event::ConnectFailed(_, failure)) => Some(failure),
        Some(other) => panic!("{other:?}"),
        None => None,
    }
}

fn seq(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[24..28].try_into().unwrap())
}

#[test]
fn refused_without_a_listener() {
    let mut world = World::new(1, Link::GOOD);
    for to in [at(v4(B), 9), at(v6(B), 9), at([127, 0, 0, 1].into(), 9)] {
        let from = world.hosts[A].route(to.ip()).unwrap();
        let flow = world.hosts[A]
            .connect(world.now, at(from, 40_000), to, &options())
            .unwrap();
        world.run_for(Duration::from_secs(1));
        assert_eq!(failed(&mut world, flow), Some(Failure::Refused));
        assert_eq!(world.hosts[A].sizes().flows, 0);
        assert_eq!(
            world.hosts[A].recv(world.now, flow, <[u8]>::len),
            Recv::Dead
        );
    }
}

#[test]
fn a_silent_host_times_out() {
    let mut world = World::new(
        2,
        Link {
            loss: 1.0,
            ..Link::GOOD
        },
    );
    let short = TcpOptions {
        connect_timeout: Duration::from_secs(20),
        ..options()
    };
    let flow = world.hosts[A]
        .connect(world.now, at(v4(A), 40_000), at(v4(B), 80), &short)
        .unwrap();
    world.keep_log = true;
    world.run_for(Duration::from_secs(19));
    assert_eq!(failed(&mut world, flow), None);
    world.run_for(Duration::from_secs(2));
    assert_eq!(failed(&mut world, flow), Some(Failure::TimedOut));
    assert_eq!(world.log.len(), 5, "SYN at 0, 1, 3, 7 and 15 s");
    assert_eq!(world.hosts[A].sizes().flows, 0);
}

#[test]
fn an_icmp_error_ends_an_attempt_but_not_a_connection() {
    let mut world = World::new(
        3,
        Link {
            loss: 1.0,
            ..Link::GOOD
        },
    );
    world.keep_log = true;
    let flow = world.hosts[A]
        .connect(world.now, at(v4(A), 40_000), at(v4(B), 80), &options())
        .unwrap();
    world.flush();
    let syn = world.log.pop().unwrap().1;
    let error = |quoted: &[u8]| {
        let mut packet = vec![
            0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1,
        ];
        packet.extend_from_slice(&[3, 1, 0, 0, 0, 0, 0, 0]);
        packet.extend_from_slice(&quoted[..28]);
        let len = u16::try_from(packet.len()).unwrap();
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        summed(packet)
    };
    let mut wrong = syn.clone();
    wrong[27] ^= 1;
    world.hosts[A].handle_packet(world.now, &error(&wrong));
    world.flush();
    assert_eq!(failed(&mut world, flow), None, "not our sequence number");
    world.hosts[A].handle_packet(world.now, &error(&syn));
    world.flush();
    assert_eq!(failed(&mut world, flow), Some(Failure::HostUnreachable));

    world.link = Link::GOOD;
    let (a, _, _) = world.connected(81);
    world.write(A, a, b"x");
    world.flush();
    let data = world.log.last().unwrap().1.clone();
    world.hosts[A].handle_packet(world.now, &error(&data));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.hosts[A].state(a), Some(TcpState::Established));
}

#[test]
fn routes_choose_the_source_or_refuse() {
    let world = World::new(4, Link::GOOD);
    let stack = &world.hosts[A];
    assert_eq!(stack.route(v4(B)), Ok(v4(A)));
    assert_eq!(stack.route(v6(B)), Ok(v6(A)));
    assert_eq!(stack.route(v4(A)), Ok(v4(A)));
    assert_eq!(
        stack.route([127, 9, 9, 9].into()),
        Ok([127, 0, 0, 1].into())
    );
    assert_eq!(
        stack.route([192, 0, 2, 1].into()),
        Err(Failure::NetUnreachable)
    );
    assert_eq!(
        stack.route([224, 0, 0, 1].into()),
        Err(Failure::NetUnreachable)
    );
}

#[test]
fn a_live_tuple_is_in_use_and_a_fresh_tombstone_too() {
    let mut world = World::new(5, Link::GOOD);
    let (a, b, _) = world.connected(80);
    let again = |world: &mut World| {
        world.hosts[A].connect(world.now, at(v4(A), 40_000), at(v4(B), 80), &options())
    };
    assert_eq!(again(&mut world), Err(ConnectError::InUse));
    world.hosts[A].finish(world.now, a);
    world.run_for(Duration::from_millis(100));
    world.hosts[B].release(world.now, b);
    world.run_for(Duration::from_millis(100));
    world.read(A, a);
    world.flush();
    assert_eq!(world.hosts[A].sizes().time_wait, 1);
    assert_eq!(again(&mut world), Err(ConnectError::InUse));
    world.run_for(Duration::from_secs(1));
    let next = again(&mut world).unwrap();
    world.run_for(Duration::from_secs(1));
    assert!(world.saw(A, &Event::Connected(next)));
    assert_eq!(world.hosts[A].sizes().time_wait, 0);
}

#[test]
fn a_tombstone_acknowledges_a_repeated_fin_and_reopens() {
    let mut world = World::new(6, Link::GOOD);
    let (a, b, _) = world.connected(80);
    // B closes first, so that B keeps the tombstone and A may come again.
    world.hosts[B].finish(world.now, b);
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.read(A, a).1, Recv::Finished);
    world.keep_log = true;
    world.hosts[A].finish(world.now, a);
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.read(B, b).1, Recv::Finished);
    world.run_for(Duration::from_millis(100));
    assert!(world.saw(B, &Event::Closed(b)) && world.saw(A, &Event::Closed(a)));
    assert_eq!(world.hosts[B].sizes().time_wait, 1);
    let fin = world
        .log
        .iter()
        .find(|(from, packet)| *from == A && packet[33] & 1 != 0)
        .unwrap()
        .1
        .clone();
    let acknowledged = world
        .log
        .iter()
        .rfind(|(from, _)| *from == B)
        .unwrap()
        .1
        .clone();
    world.log.clear();
    world.run_for(Duration::from_secs(1));
    world.hosts[B].handle_packet(world.now, &fin);
    world.hosts[B].handle_packet(world.now, &fin);
    world.flush();
    assert_eq!(world.log.len(), 1, "one answer, rate limited");
    let answer = &world.log[0].1;
    assert_eq!(answer[33], 0x10);
    assert_eq!(answer[24..32], acknowledged[24..32]);
    // The sequence numbers of a later connection are higher: it is let in.
    world.connect_to(40_000, at(v4(B), 80));
    assert_eq!(world.hosts[B].sizes().time_wait, 0);
}

#[test]
fn initial_sequence_numbers_differ_and_depend_on_the_seed() {
    let mut numbers = Vec::new();
    for seed in [1, 1, 2] {
        let mut world = World::new(
            seed,
            Link {
                loss: 1.0,
                ..Link::GOOD
            },
        );
        world.keep_log = true;
        for _ in 0..2 {
            let flow = world.hosts[A]
                .connect(world.now, at(v4(A), 40_000), at(v4(B), 80), &options())
                .unwrap();
            world.flush();
            numbers.push(seq(&world.log.pop().unwrap().1));
            world.hosts[A].abort(world.now, flow);
            world.run_for(Duration::from_millis(10));
        }
        // Another tuple at the same time.
        world.hosts[A]
            .connect(world.now, at(v4(A), 40_001), at(v4(B), 80), &options())
            .unwrap();
        world.flush();
        numbers.push(seq(&world.log.pop().unwrap().1));
    }
    assert_eq!(
        numbers[1].wrapping_sub(numbers[0]),
        2500,
        "RFC 6528: one tick each 4 µs"
    );
    assert!(numbers[2].abs_diff(numbers[1]) > 10_000);
    assert_eq!(numbers[..3], numbers[3..6], "a seed is a history");
    assert_ne!(numbers[0], numbers[6]);
}

#[test]
fn reset_lets_received_data_be_read() {
    let mut world = World::new(7, Link::GOOD);
    let (a, b, _) = world.connected(80);
    world.write(B, b, b"before");
    world.run_for(Duration::from_millis(100));
    world.hosts[B].abort(world.now, b);
    world.run_for(Duration::from_millis(100));
    assert!(world.saw(A, &Event::Reset(a, Failure::Reset)));
    assert_eq!(world.hosts[A].send(world.now, a, |_| 0), None);
    assert_eq!(world.read(A, a), (b"before".to_vec(), Recv::Dead));
    world.hosts[A].release(world.now, a);
    assert_eq!(world.hosts[A].sizes().flows, 0);
    assert_eq!(world.hosts[B].sizes().flows, 0);
}

#[test]
fn reset_goes_behind_what_was_written_before() {
    let mut world = World::new(7, Link::GOOD);
    let (a, b, _) = world.connected(80);
    world.write(B, b, b"last words");
    world.hosts[B].abort(world.now, b);
    world.run_for(Duration::from_millis(100));
    assert!(world.saw(A, &Event::Reset(a, Failure::Reset)));
    assert_eq!(world.read(A, a), (b"last words".to_vec(), Recv::Dead));
}

#[test]
fn release_sends_the_rest_and_resets_what_comes_late() {
    let mut world = World::new(8, Link::GOOD);
    let (a, b, _) = world.connected(80);
    let data = vec![5; 60_000];
    assert_eq!(world.write(A, a, &data), data.len());
    world.hosts[A].release(world.now, a);
    let mut got = Vec::new();
    world.run_until(Duration::from_secs(30), |world| {
        let (part, end) = world.read(B, b);
        got.extend(part);
        end == Recv::Finished
    });
    assert_eq!(got, data);
    world.write(B, b, b"too late");
    world.run_for(Duration::from_secs(1));
    assert!(world.saw(B, &Event::Reset(b, Failure::Reset)));
    assert_eq!(world.hosts[A].sizes().flows, 0);
}

#[test]
fn release_with_unread_data_resets() {
    let mut world = World::new(9, Link::GOOD);
    let (a, b, _) = world.connected(80);
    world.write(B, b, b"unread");
    world.run_for(Duration::from_millis(100));
    world.hosts[A].release(world.now, a);
    world.run_for(Duration::from_millis(100));
    assert!(world.saw(B, &Event::Reset(b, Failure::Reset)));
}

#[test]
fn an_orphan_does_not_wait_for_ever() {
    let mut world = World::new(10, Link::GOOD);
    let (a, _, _) = world.connected(80);
    world.hosts[A].release(world.now, a);
    world.run_for(Duration::from_secs(55));
    assert_eq!(world.hosts[A].sizes().flows, 1);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.hosts[A].sizes().flows, 0);
}

#[test]
fn discarded_data_is_acknowledged() {
    let mut world = World::new(11, Link::GOOD);
    let (a, b, _) = world.connected(80);
    world.hosts[B].discard_received(world.now, b);
    let data = vec![1; 50_000];
    for _ in 0..5 {
        assert_eq!(world.write(A, a, &data), data.len());
        world.run_for(Duration::from_secs(5));
    }
    assert_eq!(world.hosts[A].send_queue(a), 0);
    assert_eq!(world.hosts[B].recv_queue(b), 0);
    assert!(!world.saw(B, &Event::Readable(b)));
}

#[test]
fn the_backlog_bounds_half_open_connections() {
    let mut world = World::new(12, Link::GOOD);
    let listener = world.hosts[B].listen(any(80), 1, &options());
    // SYNs of many peers that never answer.
    let mut capture = World::new(
        13,
        Link {
            loss: 1.0,
            ..Link::GOOD
        },
    );
    capture.keep_log = true;
    for port in 1000..1100 {
        capture.hosts[A]
            .connect(capture.now, at(v4(A), port), at(v4(B), 80), &options())
            .unwrap();
    }
    capture.flush();
    for (_, syn) in &capture.log {
        assert_eq!(world.hosts[B].listener_for(syn), Some(listener));
        world.hosts[B].handle_packet(world.now, syn);
    }
    assert_eq!(world.hosts[B].sizes().flows, 16);
    assert_eq!(world.hosts[B].counters().syns_dropped, 84);
    // The world's A knows nothing of them and resets; later ones find room again.
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.hosts[B].sizes().flows, 0);
    world.link.loss = 1.0;
    for (_, syn) in &capture.log {
        world.hosts[B].handle_packet(world.now, syn);
    }
    assert_eq!(world.hosts[B].sizes().flows, 16);
    world.run_for(Duration::from_secs(4));
    // Stale attempts give way to new ones.
    world.link = Link::GOOD;
    world.connect_to(40_000, at(v4(B), 80));
    world.hosts[B].unlisten(world.now, listener);
    assert_eq!(
        world.hosts[B].sizes().flows,
        1,
        "only the accepted one stays"
    );
}

#[test]
fn a_paused_listener_drops_new_connections() {
    let mut world = World::new(14, Link::GOOD);
    let listener = world.hosts[B].listen(any(80), 16, &options());
    world.hosts[B].set_paused(listener, true);
    let a = world.hosts[A]
        .connect(world.now, at(v4(A), 40_000), at(v4(B), 80), &options())
        .unwrap();
    world.run_for(Duration::from_millis(500));
    assert_eq!(world.hosts[A].state(a), Some(TcpState::SynSent));
    world.hosts[B].set_paused(listener, false);
    world.run_for(Duration::from_secs(2));
    assert!(world.saw(A, &Event::Connected(a)));
}

#[test]
fn the_exact_address_wins_and_equals_share() {
    let mut world = World::new(15, Link::GOOD);
    let wildcard = world.hosts[B].listen(any(80), 16, &options());
    let exact = LocalAddr {
        ip: Some(v4(B)),
        families: Families::Both,
        port: 80,
    };
    let first = world.hosts[B].listen(exact, 16, &options());
    let second = world.hosts[B].listen(exact, 16, &options());
    let mut counts = [0; 3];
    for port in 0..64 {
        let to = at(v4(B), 80);
        world.hosts[A]
            .connect(world.now, at(v4(A), 20_000 + port), to, &options())
            .unwrap();
        world.run_for(Duration::from_millis(50));
        let Some(Event::Accepted { listener, .. }) =
            world.take(B, |e| matches!(e, Event::Accepted { .. }))
        else {
            panic!("not accepted")
        };
        counts[[wildcard, first, second]
            .iter()
            .position(|id| *id == listener)
            .unwrap()] += 1;
    }
    assert_eq!(counts[0], 0);
    assert!(counts[1] > 10 && counts[2] > 10, "{counts:?}");
    world.connect_to(40_000, at(v6(B), 80));
}

#[test]
fn keepalive_finds_a_dead_peer() {
    let mut world = World::new(16, Link::GOOD);
    let (a, _, _) = world.connected(80);
    let keepalive = Some((Duration::from_secs(60), Duration::from_secs(10), 3));
    world.hosts[A].set_options(
        world.now,
        a,
        &TcpOptions {
            keepalive,
            ..options()
        },
    );
    world.run_for(Duration::from_secs(600));
    assert!(
        !world.saw(A, &Event::Reset(a, Failure::TimedOut)),
        "the peer answers"
    );
    world.link.loss = 1.0;
    // The peer was last heard 0 to 60 s ago.
    world.run_for(Duration::from_secs(25));
    assert_eq!(world.hosts[A].state(a), Some(TcpState::Established));
    world.run_for(Duration::from_secs(70));
    assert!(world.saw(A, &Event::Reset(a, Failure::TimedOut)));
}

#[test]
fn unanswered_data_times_out() {
    for (user_timeout, at_least, at_most) in
        [(Some(Duration::from_secs(30)), 29, 35), (None, 900, 1000)]
    {
        let mut world = World::new(17, Link::GOOD);
        let (a, _, _) = world.connected(80);
        world.hosts[A].set_options(
            world.now,
            a,
            &TcpOptions {
                user_timeout,
                ..options()
            },
        );
        // An idle connection lives.
        world.run_for(Duration::from_secs(3000));
        world.link.loss = 1.0;
        world.write(A, a, b"anyone?");
        world.run_for(Duration::from_secs(at_least));
        assert_eq!(world.hosts[A].state(a), Some(TcpState::Established));
        world.run_for(Duration::from_secs(at_most - at_least));
        assert!(world.saw(A, &Event::Reset(a, Failure::TimedOut)));
    }
}

#[test]
fn a_smaller_path_mtu_is_obeyed() {
    let mut world = World::new(18, Link::GOOD);
    let (a, b, _) = world.connected(80);
    world.keep_log = true;
    world.write(A, a, &[1; 5000]);
    world.flush();
    let big = world
        .log
        .iter()
        .find(|(_, packet)| packet.len() == 1420)
        .unwrap()
        .1
        .clone();
    let mut error = vec![
        0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1,
    ];
    error.extend_from_slice(&[3, 4, 0, 0, 0, 0, 0x05, 0x14]);
    error.extend_from_slice(&big[..28]);
    world.hosts[A].handle_packet(world.now, &summed(error));
    world.run_for(Duration::from_secs(5));
    world.read(B, b);
    world.log.clear();
    world.write(A, a, &[1; 50_000]);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.read(B, b).0.len(), 50_000);
    let largest = world
        .log
        .iter()
        .filter(|(from, _)| *from == A)
        .map(|(_, packet)| packet.len())
        .max();
    assert_eq!(largest, Some(1280), "the class below 1300");
}

#[test]
fn absurd_options_are_bounded() {
    let mut world = World::new(19, Link::GOOD);
    let absurd = TcpOptions {
        keepalive: Some((Duration::MAX, Duration::MAX, u32::MAX)),
        user_timeout: Some(Duration::MAX),
        nodelay: true,
        hop_limit: 0,
        connect_timeout: Duration::MAX,
        send_buffer: Some(0),
        receive_buffer: Some(0),
        segment: Some(0),
        least_hops: 0,
        defer: None,
        save_syn: true,
        fin_wait: Duration::MAX,
    };
    world.hosts[B].listen(any(80), usize::MAX, &absurd);
    let flow = world.hosts[A]
        .connect(world.now, at(v4(A), 1), at(v4(B), 80), &absurd)
        .unwrap();
    world.run_for(Duration::from_secs(1));
    assert!(world.saw(A, &Event::Connected(flow)));
    world.hosts[A].set_options(world.now, flow, &absurd);
    world.write(A, flow, b"x");
    world.run_for(Duration::from_secs(1));
}

#[test]
fn an_orphan_ends_although_its_peer_keeps_the_window_closed() {
    let mut world = World::new(20, Link::GOOD);
    let (a, b, _) = world.connected(80);
    // Fill the peer's ring and ours; the peer never reads and answers window probes.
    for _ in 0..3 {
        world.write(A, a, &[1; 70_000]);
        world.run_for(Duration::from_secs(5));
    }
    world.hosts[A].release(world.now, a);
    world.run_for(Duration::from_secs(200));
    assert_eq!(world.hosts[A].sizes().flows, 0);
    assert!(world.saw(B, &Event::Reset(b, Failure::Reset)));
}

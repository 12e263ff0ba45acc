// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many flows: no state stays behind, none slows another down.
use std::time::Duration;

use netcon_netstack::stack::{Event, FlowId, Recv};

use crate::world::{A, B, Link, Sink, World, any, at, config, options, v4};

#[test]
fn thousands_of_short_connections_leave_nothing() {
    let mut world = World::new(1, Link::BAD);
    world.hosts[B].listen(any(80), 128, &options());
    let mut done = 0;
    for round in 0..40u16 {
        let flows: Vec<FlowId> = (0..100u16)
            .map(|port| {
                let local = at(v4(A), 10_000 + round * 100 + port);
                world.hosts[A]
                    .connect(world.now, local, at(v4(B), 80), &options())
                    .unwrap()
            })
            .collect();
        let mut left = flows.len();
        world.run_until(Duration::from_secs(600), |world| {
            for event in std::mem::take(&mut world.events[A]) {
                match event {
                    Event::Connected(flow) => {
                        world.write(A, flow, b"ping");
                        world.hosts[A].finish(world.now, flow);
                    }
                    Event::Readable(flow) => {
                        world.read(A, flow);
                    }
                    Event::Closed(_) => {
                        left -= 1;
                        done += 1;
                    }
                    Event::Accepted { .. }
                    | Event::ConnectFailed(..)
                    | Event::Writable(_)
                    | Event::Reset(..)
                    | Event::Datagram(_)
                    | Event::DatagramError { .. } => panic!("{event:?}"),
                }
            }
            for event in std::mem::take(&mut world.events[B]) {
                if let Event::Readable(flow) = event {
                    let (_, end) = world.read(B, flow);
                    if end == Recv::Finished {
                        world.write(B, flow, b"pong");
                        world.hosts[B].release(world.now, flow);
                    }
                }
            }
            left == 0
        });
    }
    assert_eq!(done, 4000);
    world.run_for(Duration::from_secs(200));
    for host in &world.hosts {
        let sizes = host.sizes();
        assert_eq!((sizes.flows, sizes.time_wait, sizes.events), (0, 0, 0));
        assert!(sizes.timers <= 64, "{sizes:?}");
        assert_eq!(host.poll_timeout(), None, "nothing to wake up for");
    }
}

/// Polls and timer entries of moving 1 MB beside `idle` connections.
fn work_beside(idle: u16) -> (u64, u64) {
    let mut configs = [config(A, 1), config(B, 1)];
    for config in &mut configs {
        config.limits.tcp_buffer = 16_384;
    }
    let mut world = World::with_configs(1, Link::GOOD, configs);
    world.hosts[B].listen(any(80), 20_000, &options());
    for port in 0..idle {
        world.hosts[A]
            .connect(
                world.now,
                at(v4(A), 10_000 + port),
                at(v4(B), 80),
                &options(),
            )
            .unwrap();
    }
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.hosts[B].sizes().flows, usize::from(idle));
    world.events[B].clear();
    let (a, b) = world.connect_to(5000, at(v4(B), 80));
    world.run_for(Duration::from_secs(1));
    let before: u64 = world.hosts.iter().map(|host| host.counters().polls).sum();
    let mut moved = 0;
    world.run_until(Duration::from_secs(100), |world| {
        world.write(A, a, &[0; 10_000]);
        moved += world.read(B, b).0.len();
        moved > 1_000_000
    });
    let after: u64 = world.hosts.iter().map(|host| host.counters().polls).sum();
    let timers = world
        .hosts
        .iter()
        .map(|host| host.sizes().timers as u64)
        .sum();
    (after - before, timers)
}

#[test]
fn idle_flows_cost_an_active_one_nothing() {
    let (alone, _) = work_beside(0);
    let (beside, timers) = work_beside(10_000);
    assert!(
        beside < 2 * alone,
        "{beside} polls beside 10,000 flows, {alone} alone"
    );
    assert!(timers <= 2 * (2 * 10_001 + 64));
}

#[test]
fn the_timer_heap_stays_bounded() {
    let mut world = World::new(2, Link::GOOD);
    let (a, b, _) = world.connected(80);
    for _ in 0..2000 {
        world.write(A, a, b"tick");
        world.run_for(Duration::from_millis(15));
        world.read(B, b);
        world.write(B, b, b"tock");
        world.run_for(Duration::from_millis(15));
        world.read(A, a);
        for host in &world.hosts {
            assert!(host.sizes().timers <= 2 + 64 + 1);
        }
    }
}

#[test]
fn a_bulk_flow_does_not_starve_others() {
    let mut world = World::new(
        3,
        Link {
            delay: Duration::from_micros(100),
            ..Link::GOOD
        },
    );
    let (bulk, bulk_b, _) = world.connected(80);
    let flows: Vec<_> = (0..4)
        .map(|port| world.connect_to(41_000 + port, at(v4(B), 80)))
        .collect();
    // Open the windows.
    let mut moved = 0;
    world.run_until(Duration::from_secs(60), |world| {
        for (a, b) in flows.iter().chain([&(bulk, bulk_b)]) {
            world.write(A, *a, &[0; 10_000]);
            moved += world.read(B, *b).0.len();
        }
        moved > 2_000_000
    });
    world.run_for(Duration::from_secs(1));
    for (_, b) in flows.iter().chain([&(bulk, bulk_b)]) {
        world.read(B, *b);
    }
    world.run_for(Duration::from_secs(1));
    // All have data now; a sink with little room shows whose turn it is.
    world.write(A, bulk, &[0; 60_000]);
    for (a, _) in &flows {
        world.write(A, *a, b"short");
    }
    let mut order = Vec::new();
    loop {
        let mut sink = Sink {
            packets: Vec::new(),
            room: 3,
        };
        let more = world.hosts[A].poll_transmit(world.now, &mut sink);
        for packet in &sink.packets {
            order.push(u16::from_be_bytes(packet[20..22].try_into().unwrap()));
        }
        if !more {
            break;
        }
    }
    for port in 41_000..41_004 {
        let at = order
            .iter()
            .position(|source| *source == port)
            .expect("served");
        assert!(at <= 50, "after one quantum of 64 KiB: {at}");
    }
}

#[test]
fn the_flow_limit_refuses_and_recovers() {
    let mut configs = [config(A, 4), config(B, 4)];
    configs[0].limits.flows = 8;
    let mut world = World::with_configs(
        4,
        Link {
            loss: 1.0,
            ..Link::GOOD
        },
        configs,
    );
    let connect = |world: &mut World, port| {
        world.hosts[A].connect(world.now, at(v4(A), port), at(v4(B), 80), &options())
    };
    let flows: Vec<_> = (1..=8)
        .map(|port| connect(&mut world, port).unwrap())
        .collect();
    assert!(connect(&mut world, 9).is_err());
    world.hosts[A].abort(world.now, flows[0]);
    assert!(connect(&mut world, 9).is_ok());
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets that no honest peer sends.
use std::time::Duration;

use netcon_netstack::stack::{DatagramProtocol, Event, Families, LocalAddr, SendOptions};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::world::{A, B, Link, World, any, at, options, v4};

/// A world with a bit of everything open on B.
fn busy_world(seed: u64) -> World {
    let mut world = World::new(seed, Link::GOOD);
    world.hosts[B].datagram_open(DatagramProtocol::Udp, any(53));
    let (a, b, _) = world.connected(80);
    world.write(A, a, b"hello");
    world.write(B, b, b"hello");
    world.run_for(Duration::from_millis(100));
    world
}

#[test]
fn random_bytes_are_harmless() {
    let mut world = busy_world(1);
    let mut rng = SmallRng::seed_from_u64(1);
    for round in 0..20_000 {
        let mut packet = vec![0; rng.random_range(0..120)];
        rng.fill_bytes(&mut packet);
        if packet.len() > 20 && round % 2 == 0 {
            let len = u16::try_from(packet.len()).unwrap();
            packet[0] = 0x45 + rng.random_range(0..3);
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet[6..8].fill(0);
            packet[9] = [1, 6, 17, 58, 2][rng.random_range(0..5)];
            packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        } else if packet.len() > 40 {
            let len = u16::try_from(packet.len() - 40).unwrap();
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&len.to_be_bytes());
            packet[6] = [0, 6, 17, 43, 44, 58, 60][rng.random_range(0..7)];
            packet[8..40].fill(0);
            packet[8..10].copy_from_slice(&[0xfd, 0]);
            packet[24..26].copy_from_slice(&[0xfd, 0]);
            packet[23] = 1;
            packet[39] = 2;
        }
        world.hosts[B].handle_packet(world.now, &packet);
        let _ = world.hosts[B].listener_for(&packet);
        if round % 100 == 0 {
            world.flush();
        }
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.hosts[B].counters().panics, 0);
}

#[test]
fn flipped_bits_never_take_others_down() {
    let mut panics = 0;
    for seed in 0..30 {
        let mut world = World::new(seed, Link::GOOD);
        world.hosts[B].datagram_open(DatagramProtocol::Udp, any(53));
        world.keep_log = true;
        let (a, b, _) = world.connected(80);
        world.write(A, a, &[1; 5000]);
        world.run_for(Duration::from_millis(100));
        world.read(B, b);
        let (other_a, other_b) = world.connect_to(40_001, at(v4(B), 80));
        let datagram = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(54));
        world.hosts[A]
            .datagram_send(
                world.now,
                datagram,
                v4(A),
                at(v4(B), 53),
                b"data",
                SendOptions::default(),
            )
            .unwrap();
        world.flush();
        let victims: Vec<Vec<u8>> = world
            .log
            .iter()
            .filter(|(from, packet)| *from == A && !other_tuple(packet))
            .map(|(_, packet)| packet.clone())
            .collect();
        let mut rng = SmallRng::seed_from_u64(seed);
        for round in 0..3000 {
            let mut packet = victims[rng.random_range(0..victims.len())].clone();
            for _ in 0..rng.random_range(1..6) {
                // Mostly in the transport header, where the state is.
                let at = if rng.random_bool(0.8) {
                    rng.random_range(20..packet.len().min(60))
                } else {
                    rng.random_range(0..packet.len().min(60))
                };
                packet[at] ^= 1 << rng.random_range(0..8);
            }
            if rng.random_bool(0.1) {
                packet.truncate(rng.random_range(0..packet.len()));
            }
            if other_tuple(&packet) {
                continue;
            }
            world.hosts[B].handle_packet(world.now, &packet);
            if round % 7 == 0 {
                world.write(B, b, &[2; 100]);
                world.read(B, b);
                world.flush();
            }
        }
        world.run_for(Duration::from_secs(2));
        world.write(A, other_a, b"still here");
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.read(B, other_b).0, b"still here");
        panics += world.hosts[B].counters().panics;
    }
    // A panic would be contained, but none is known.
    assert_eq!(panics, 0);
}

fn other_tuple(packet: &[u8]) -> bool {
    packet.get(20..22) == Some(&40_001u16.to_be_bytes())
}

#[test]
fn a_land_attack_is_dropped() {
    let mut world = World::new(
        3,
        Link {
            loss: 1.0,
            ..Link::GOOD
        },
    );
    world.hosts[B].listen(any(80), 16, &options());
    world.keep_log = true;
    world.hosts[A]
        .connect(world.now, at(v4(A), 80), at(v4(B), 80), &options())
        .unwrap();
    world.flush();
    let syn = world.log.pop().unwrap().1;
    for source in [
        [10, 0, 0, 2],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255, 255, 255, 255],
        [0, 0, 0, 0],
    ] {
        let mut packet = syn.clone();
        packet[12..16].copy_from_slice(&source);
        world.hosts[B].handle_packet(world.now, &packet);
    }
    for target in [
        [127, 0, 0, 1],
        [10, 0, 0, 3],
        [10, 0, 0, 255],
        [224, 0, 0, 1],
    ] {
        let mut packet = syn.clone();
        packet[16..20].copy_from_slice(&target);
        world.hosts[B].handle_packet(world.now, &packet);
    }
    world.flush();
    assert!(world.log.is_empty());
    assert_eq!(world.hosts[B].sizes().flows, 0);
    assert_eq!(world.hosts[B].counters().misaddressed, 9);
}

#[test]
fn options_and_extension_headers_are_walked() {
    let mut world = World::new(
        4,
        Link {
            loss: 1.0,
            ..Link::GOOD
        },
    );
    let server = world.hosts[B].datagram_open(DatagramProtocol::Udp, any(53));
    // IPv4 with 4 bytes of options in front of UDP.
    let mut packet = vec![
        0x46, 0, 0, 34, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1,
    ];
    packet.extend_from_slice(&[0, 99, 0, 53, 0, 10, 0, 0, b'h', b'i']);
    world.hosts[B].handle_packet(world.now, &packet);
    assert_eq!(world.hosts[B].datagram_recv(server).unwrap().payload, b"hi");
    // IPv6 with destination options.
    let mut packet = vec![0x60, 0, 0, 0, 0, 18, 60, 64];
    packet.extend_from_slice(&"fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend_from_slice(&"fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.extend_from_slice(&[17, 0, 1, 4, 0, 0, 0, 0]);
    packet.extend_from_slice(&[0, 99, 0, 53, 0, 10, 0, 0, b'h', b'o']);
    world.hosts[B].handle_packet(world.now, &packet);
    assert_eq!(world.hosts[B].datagram_recv(server).unwrap().payload, b"ho");
}

#[test]
fn a_flood_leaves_bounded_state() {
    let mut world = World::new(
        5,
        Link {
            loss: 1.0,
            ..Link::GOOD
        },
    );
    world.hosts[B].listen(
        LocalAddr {
            ip: Some(v4(B)),
            families: Families::V4,
            port: 80,
        },
        128,
        &options(),
    );
    world.keep_log = true;
    world.hosts[A]
        .connect(world.now, at(v4(A), 1), at(v4(B), 80), &options())
        .unwrap();
    world.flush();
    let syn = world.log.pop().unwrap().1;
    world.keep_log = false;
    for source in 0..50_000u32 {
        let mut packet = syn.clone();
        packet[13..16].copy_from_slice(&(source + 300).to_be_bytes()[1..]);
        world.hosts[B].handle_packet(world.now, &packet);
        // To a port without a listener: a RST each, in a bounded queue that nobody empties.
        packet[23] = 81;
        world.hosts[B].handle_packet(world.now, &packet);
    }
    assert_eq!(world.hosts[B].sizes().flows, 128);
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.hosts[B].sizes().flows, 0);
    assert!(
        !world.events[B]
            .iter()
            .any(|event| matches!(event, Event::Accepted { .. }))
    );
}

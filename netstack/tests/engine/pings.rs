// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Echo requests of the host's own, and copies of local packets.
use std::net::IpAddr;
use std::time::Duration;

use netcon_netstack::stack::{
    DatagramProtocol, Failure, PING_IDENTIFIERS, PacketEnds, Ping, PingError, PingId, PingOutcome,
    Pong, SendOptions,
};

use crate::world::{A, B, Link, World, any, at, options, summed, v4, v6};

fn ping(to: IpAddr, sequence: u16) -> Ping {
    Ping {
        to,
        sequence,
        size: 56,
        timeout: Duration::from_secs(1),
    }
}

fn outcome(world: &mut World, id: PingId) -> Option<PingOutcome> {
    let pong = world.hosts[A].poll_pong()?;
    assert_eq!(pong.id, id);
    Some(pong.outcome)
}

#[test]
fn answered_over_the_overlay_and_at_home() {
    let mut world = World::new(1, Link::GOOD);
    for (to, delay) in [
        (v4(B), 10),
        (v6(B), 10),
        (v4(A), 0),
        (v6(A), 0),
        ([127, 0, 0, 1].into(), 0),
    ] {
        let id = world.hosts[A].ping(world.now, ping(to, 7)).unwrap();
        world.run_for(Duration::from_millis(20));
        let expected = PingOutcome::Reply {
            bytes: 64,
            hop_limit: 64,
            time: Duration::from_millis(delay),
        };
        assert_eq!(outcome(&mut world, id), Some(expected), "{to}");
        assert_eq!(world.hosts[A].poll_pong(), None);
    }
}

#[test]
fn what_cannot_be_asked() {
    let mut world = World::new(1, Link::GOOD);
    for (to, size, error) in [
        ("192.0.2.1", 56, PingError::NoRoute),
        ("0.0.0.0", 56, PingError::NoRoute),
        ("224.0.0.1", 56, PingError::NoRoute),
        ("ff02::1", 56, PingError::NoRoute),
        ("10.0.0.2", 1393, PingError::TooBig(1392)),
        ("fd00::2", 1373, PingError::TooBig(1372)),
    ] {
        let to: IpAddr = to.parse().unwrap();
        let asked = Ping {
            size,
            ..ping(to, 1)
        };
        assert_eq!(world.hosts[A].ping(world.now, asked), Err(error), "{to}");
    }
    for _ in 0..128 {
        world.hosts[A].ping(world.now, ping(v4(B), 1)).unwrap();
    }
    let one_more = world.hosts[A].ping(world.now, ping(v4(B), 1));
    assert_eq!(one_more, Err(PingError::TooMany));
    // Each has an identifier of its own, from the range that is ours.
    world.keep_log = true;
    world.run_for(Duration::from_millis(1));
    let mut identifiers: Vec<u16> = world
        .log
        .iter()
        .filter(|(from, _)| *from == A)
        .map(|(_, packet)| u16::from_be_bytes([packet[24], packet[25]]))
        .collect();
    identifiers.sort_unstable();
    identifiers.dedup();
    assert_eq!(identifiers.len(), 128);
    assert!(identifiers.iter().all(|id| PING_IDENTIFIERS.contains(id)));
    world.run_for(Duration::from_millis(20));
    while world.hosts[A].poll_pong().is_some() {}
    assert!(world.hosts[A].ping(world.now, ping(v4(B), 1)).is_ok());
}

#[test]
fn silence_ends_in_time() {
    let mut world = World::new(1, Link::GOOD);
    let id = world.hosts[A]
        .ping(world.now, ping([10, 0, 0, 9].into(), 1))
        .unwrap();
    let start = world.now;
    world.run_until(Duration::from_secs(5), |world| {
        match world.hosts[A].poll_pong() {
            None => false,
            Some(pong) => {
                let expected = Pong {
                    id,
                    outcome: PingOutcome::TimedOut,
                };
                assert_eq!(pong, expected);
                true
            }
        }
    });
    assert_eq!(world.now - start, Duration::from_secs(1));
    assert_eq!(world.hosts[A].poll_timeout(), None);
}

/// A reply of anybody else, to anything else, or with other bytes, is none.
#[test]
fn only_the_true_reply_counts() {
    for (change, at) in [
        ("source", 15),
        ("identifier", 25),
        ("sequence", 27),
        ("payload", 40),
        ("nothing", 0),
    ] {
        let mut world = World::new(1, Link::GOOD);
        let id = world.hosts[A].ping(world.now, ping(v4(B), 1)).unwrap();
        world.keep_log = true;
        world.run_for(Duration::from_millis(7));
        let (_, mut reply) = world
            .log
            .iter()
            .find(|(from, _)| *from == B)
            .unwrap()
            .clone();
        if at > 0 {
            reply[at] ^= 4;
        }
        world.hosts[A].handle_packet(world.now, &summed(reply));
        let answered = outcome(&mut world, id).is_some();
        assert_eq!(answered, change == "nothing", "{change}");
    }
}

#[test]
fn an_error_about_a_request_ends_it() {
    let mut world = World::new(1, Link::GOOD);
    let id = world.hosts[A]
        .ping(world.now, ping([10, 0, 0, 9].into(), 3))
        .unwrap();
    world.keep_log = true;
    world.run_for(Duration::from_millis(1));
    let (_, request) = world.log[0].clone();
    // Host unreachable (RFC 792), from B, quoting the request.
    let mut packet = vec![
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1,
    ];
    packet.extend_from_slice(&[3, 1, 0, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(&request[..28]);
    let len = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    let packet = summed(packet);
    world.hosts[A].handle_packet(world.now, &packet);
    let expected = PingOutcome::Unreachable {
        by: v4(B),
        failure: Failure::HostUnreachable,
    };
    assert_eq!(outcome(&mut world, id), Some(expected));
    world.hosts[A].handle_packet(world.now, &packet);
    assert_eq!(world.hosts[A].poll_pong(), None);
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Each local packet once, in order, whole, with the checksums that the loopback does without.
#[test]
fn local_packets_are_copied_while_somebody_listens() {
    let mut world = World::new(1, Link::GOOD);
    let host = &mut world.hosts[A];
    host.listen(any(80), 16, &options());
    host.connect(world.now, at(v4(A), 40_000), at(v4(A), 80), &options())
        .unwrap();
    world.run_for(Duration::from_millis(20));
    assert_eq!(world.hosts[A].poll_tap(), None, "nobody listens");

    world.hosts[A].set_tap(Some(1 << 20));
    world.hosts[A]
        .connect(world.now, at(v4(A), 40_001), at(v4(A), 80), &options())
        .unwrap();
    let receiver = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(53));
    world.hosts[A]
        .datagram_send(
            world.now,
            receiver,
            v6(A),
            at(v6(A), 53),
            b"question",
            SendOptions::default(),
        )
        .unwrap();
    world.run_for(Duration::from_millis(20));
    let copies: Vec<Vec<u8>> = std::iter::from_fn(|| world.hosts[A].poll_tap()).collect();
    let ends: Vec<_> = copies
        .iter()
        .map(|packet| {
            let ends = PacketEnds::of(packet).unwrap();
            (ends.stream, ends.from.port(), ends.to.port(), ends.opens)
        })
        .collect();
    assert_eq!(
        ends,
        [
            (false, 53, 53, false),
            (true, 40_001, 80, true),
            (true, 80, 40_001, false),
            (true, 40_001, 80, false),
        ]
    );
    assert!(copies[0].ends_with(b"question"));
    for packet in &copies[1..] {
        assert_eq!(checksum(&packet[..20]), 0xffff);
        let length = u16::try_from(packet.len() - 20).unwrap().to_be_bytes();
        let pseudo = [&packet[12..20], &[0, 6], &length[..], &packet[20..]].concat();
        assert_eq!(checksum(&pseudo), 0xffff);
    }
}

#[test]
fn copies_that_nobody_takes_are_lost_and_counted() {
    let mut world = World::new(1, Link::GOOD);
    world.hosts[A].set_tap(Some(100));
    let receiver = world.hosts[A].datagram_open(DatagramProtocol::Udp, any(53));
    for _ in 0..3 {
        world.hosts[A]
            .datagram_send(
                world.now,
                receiver,
                v4(A),
                at(v4(A), 53),
                &[0; 20],
                SendOptions::default(),
            )
            .unwrap();
    }
    assert_eq!(world.hosts[A].take_tap_lost(), 1);
    assert_eq!(world.hosts[A].take_tap_lost(), 0);
    assert_eq!(std::iter::from_fn(|| world.hosts[A].poll_tap()).count(), 2);
    world.hosts[A].set_tap(None);
    world.hosts[A]
        .datagram_send(
            world.now,
            receiver,
            v4(A),
            at(v4(A), 53),
            &[0; 20],
            SendOptions::default(),
        )
        .unwrap();
    assert_eq!(world.hosts[A].poll_tap(), None);
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What strangers and peers may send without harm: garbage, replays, mutations, other people's addresses, floods.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::net::SocketAddr;

use common::*;
use netcon_overlay::{DropReason, NotSent, Overlay, PrivateKey};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn stranger() -> SocketAddr {
    "203.0.113.66:6666".parse().unwrap()
}

/// The tunnel still works in both directions, and nobody's endpoint was moved.
fn assert_unharmed(pair: &mut Pair) {
    for side in 0..2 {
        pair.sides[1 - side].received.clear();
        pair.send(side, b"unharmed").unwrap();
        pair.run(millis(50));
        assert_eq!(pair.payloads(1 - side), [b"unharmed"]);
        assert_eq!(pair.status(side).endpoint, Some(pair.sides[1 - side].addr));
    }
}

#[test]
fn garbage_is_counted_and_answered_by_nothing() {
    let mut pair = Pair::new(1);
    pair.connect();
    pair.run(secs(20));
    let sent = pair.log.len();
    let mut random = StdRng::seed_from_u64(1);
    for round in 0..20_000 {
        let len = match round % 4 {
            0 => [148, 92, 64, 32][random.random_range(0..4)],
            1 => random.random_range(0..200),
            2 => random.random_range(0..2000),
            _ => random.random_range(0..80),
        };
        let mut bytes: Vec<u8> = (0..len).map(|_| random.random()).collect();
        if let Some(head) = bytes.first_chunk_mut::<4>()
            && round % 3 != 0
        {
            *head = [random.random_range(1..5), 0, 0, 0];
        }
        assert!(pair.inject(round % 2, stranger(), &bytes).is_some());
    }
    assert!(pair.inject(0, stranger(), &vec![4; 65_535]).is_some());
    let mut oversize = vec![0; 100_000];
    oversize[0] = 4;
    assert_eq!(
        pair.inject(0, stranger(), &oversize),
        Some(DropReason::UnknownIndex)
    );
    assert_eq!(pair.log.len(), sent);
    let counted: u64 = (0..2)
        .flat_map(|side| {
            pair.sides[side]
                .overlay
                .drops()
                .map(|(_, count)| count)
                .collect::<Vec<_>>()
        })
        .sum();
    assert_eq!(counted, 20_002);
    assert_unharmed(&mut pair);
}

#[test]
fn no_changed_byte_and_no_other_length_gets_through() {
    let mut pair = Pair::new(1);
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    // Stop before each message is delivered, and deliver it changed in every byte first.
    for (kind, side) in [(INITIATION, 1), (RESPONSE, 0), (TRANSPORT, 1)] {
        let original = pair
            .log
            .iter()
            .rfind(|datagram| datagram.kind() == kind && datagram.side != side)
            .unwrap()
            .clone();
        let before = pair.log.len();
        for at in 0..original.bytes.len() {
            for change in [1, 0x80, 0xFF] {
                let mut changed = original.bytes.clone();
                changed[at] ^= change;
                let is_mac2 = kind != TRANSPORT && at >= changed.len() - 16;
                // mac2 means nothing without load: such a copy would be accepted as the original.
                if !is_mac2 {
                    assert!(
                        pair.inject(side, stranger(), &changed).is_some(),
                        "type {kind} byte {at}"
                    );
                }
            }
        }
        for len in 0..original.bytes.len() {
            assert!(
                pair.inject(side, stranger(), &original.bytes[..len])
                    .is_some(),
                "type {kind} cut to {len}"
            );
        }
        let longer = [&original.bytes[..], &[0; 16]].concat();
        assert!(pair.inject(side, stranger(), &longer).is_some());
        assert_eq!(pair.log.len(), before, "nothing was answered");
        pair.run(millis(5));
    }
    assert_eq!(pair.payloads(1), [b"data"]);
    pair.run(millis(50));
    assert_unharmed(&mut pair);
}

#[test]
fn replays_do_nothing() {
    let mut pair = Pair::new(1);
    pair.connect();
    for _ in 0..50 {
        pair.send(0, b"data").unwrap();
        pair.send(1, b"data").unwrap();
        pair.run(millis(20));
    }
    pair.run(secs(12));
    let sent = pair.log.len();
    let received = [pair.sides[0].received.len(), pair.sides[1].received.len()];
    for datagram in pair.log.clone() {
        let reason = pair.inject(1 - datagram.side, stranger(), &datagram.bytes);
        let expected = match datagram.kind() {
            INITIATION => DropReason::OldInitiation,
            RESPONSE => DropReason::UnknownIndex,
            _ => DropReason::Replayed,
        };
        if datagram.kind() == RESPONSE {
            // Its index is a session's now.
            assert_eq!(reason, Some(expected));
        } else {
            assert_eq!(reason, Some(expected), "type {}", datagram.kind());
        }
        // Reflected to its sender.
        assert!(
            pair.inject(datagram.side, stranger(), &datagram.bytes)
                .is_some()
        );
    }
    assert_eq!(pair.log.len(), sent, "nothing was answered");
    assert_eq!(
        received,
        [pair.sides[0].received.len(), pair.sides[1].received.len()]
    );
    assert_unharmed(&mut pair);
}

#[test]
fn initiations_of_an_earlier_life_stay_old() {
    let mut pair = Pair::new(1);
    pair.connect();
    let first = pair.log[0].clone();
    pair.run(secs(700));
    assert_eq!(
        pair.inject(1, stranger(), &first.bytes),
        Some(DropReason::OldInitiation)
    );
    assert_eq!(pair.status(1).endpoint, Some(pair.sides[0].addr));
}

#[test]
fn a_flood_of_initiations_is_cut_short() {
    let mut pair = Pair::new(1);
    pair.link.loss = 100;
    let mut initiations = Vec::new();
    for _ in 0..3 {
        let _ = pair.send(0, b"data");
        initiations.push(pair.log.last().unwrap().bytes.clone());
        pair.restart(0);
        pair.now += secs(1);
    }
    let from = pair.sides[0].addr;
    assert_eq!(pair.inject(1, from, &initiations[0]), None);
    assert_eq!(
        pair.inject(1, from, &initiations[1]),
        Some(DropReason::InitiationFlood)
    );
    pair.now += millis(20);
    assert_eq!(pair.inject(1, from, &initiations[2]), None);
}

#[test]
fn a_peer_cannot_use_addresses_of_others() {
    let mut pair = Pair::new(1);
    pair.connect();
    // Side 1 has a third peer, whose address lies inside a wider prefix of side 0.
    let third = PrivateKey::from_random([3; 32]).public();
    let now = pair.now;
    let config = netcon_overlay::PeerConfig {
        allowed_ips: vec!["10.0.0.0/8".parse().unwrap()],
        ..pair.sides[1].peer.clone()
    };
    pair.sides[1]
        .overlay
        .set_peer(now, NETWORK, config)
        .unwrap();
    pair.sides[1]
        .overlay
        .set_peer(now, NETWORK, peer(third, None, &["10.9.9.9/32"]))
        .unwrap();
    let to = pair.sides[1].inner;
    for (source, arrives) in [
        ("10.0.0.1", true),
        ("10.7.7.7", true),
        ("10.9.9.9", false),
        ("11.0.0.1", false),
    ] {
        pair.sides[1].received.clear();
        pair.send_packet(0, &ipv4(source.parse().unwrap(), to, b"who am I"))
            .unwrap();
        pair.run(millis(50));
        assert_eq!(
            pair.sides[1].received.len(),
            usize::from(arrives),
            "{source}"
        );
    }
    assert_eq!(pair.dropped(1, DropReason::ForbiddenSource), 2);
    assert_eq!(
        pair.send_packet(1, &ipv4(to, "10.9.9.9".parse().unwrap(), b"")),
        Err(NotSent::NoEndpoint)
    );
}

#[test]
fn only_whole_ip_packets_are_sealed() {
    let mut pair = Pair::new(1);
    pair.connect();
    let (from, to) = (pair.sides[0].inner, pair.sides[1].inner);
    for len in 0..20 {
        assert_eq!(
            pair.send_packet(0, &ipv4(from, to, b"")[..len]),
            Err(NotSent::Invalid)
        );
    }
    let longer = [&ipv4(from, to, b"")[..], b"secret of another packet"].concat();
    assert_eq!(pair.send_packet(0, &longer), Err(NotSent::Invalid));
    let (now, unix) = (pair.now, pair.unix());
    for size in 0..Overlay::sealed_len(20, MTU) {
        let mut buf = vec![0x45; size];
        assert_eq!(
            pair.sides[0]
                .overlay
                .encapsulate(now, unix, NETWORK, &mut buf, 20),
            Err(NotSent::Invalid)
        );
    }
    let mut buf = vec![0x45; 100];
    assert_eq!(
        pair.sides[0]
            .overlay
            .encapsulate(now, unix, NETWORK, &mut buf, usize::MAX),
        Err(NotSent::Invalid)
    );
    assert_eq!(
        pair.sides[0].overlay.encapsulate(
            now,
            unix,
            netcon_overlay::NetworkIndex(99),
            &mut buf,
            20
        ),
        Err(NotSent::Invalid)
    );
}

#[test]
fn strangers_get_no_handshake() {
    // Side 0 does not know side 1.
    let mut pair = Pair::new(1);
    let key = pair.sides[1].key.public();
    pair.sides[0].overlay.remove_peer(NETWORK, &key).unwrap();
    assert_eq!(pair.send(1, b"data"), Err(NotSent::Queued));
    pair.run(secs(1));
    assert_eq!(pair.dropped(0, DropReason::UnknownPeer), 1);
    assert_eq!(pair.send(0, b"data"), Err(NotSent::NoRoute));
    assert!(pair.log.iter().all(|datagram| datagram.side == 1));
}

#[test]
fn a_loaded_side_demands_a_cookie() {
    let mut pair = Pair::new(1);
    pair.sides[1].overlay.set_under_load(true);
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    pair.run(secs(4));
    assert_eq!(pair.dropped(1, DropReason::CookieDemanded), 1);
    assert_eq!(
        pair.log
            .iter()
            .map(|datagram| datagram.kind())
            .collect::<Vec<_>>(),
        [INITIATION, COOKIE_REPLY]
    );
    pair.run(secs(2));
    assert_eq!(pair.payloads(1), [b"data"], "the second attempt carries it");
    // A cookie reply from elsewhere moved nothing, and a mutated one is not taken.
    assert_eq!(pair.status(0).endpoint, Some(pair.sides[1].addr));
}

#[test]
fn changed_cookie_replies_are_refused_and_move_no_endpoint() {
    let mut pair = Pair::new(1);
    pair.sides[1].overlay.set_under_load(true);
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    pair.run(millis(5));
    let reply = pair
        .log
        .iter()
        .find(|datagram| datagram.kind() == COOKIE_REPLY)
        .unwrap()
        .clone();
    for at in 0..reply.bytes.len() {
        let mut changed = reply.bytes.clone();
        changed[at] ^= 1;
        assert!(pair.inject(0, stranger(), &changed).is_some(), "byte {at}");
    }
    assert_eq!(pair.inject(0, stranger(), &reply.bytes), None);
    assert_eq!(pair.status(0).endpoint, Some(pair.sides[1].addr));
    assert_eq!(
        pair.inject(0, stranger(), &reply.bytes),
        Some(DropReason::Forged),
        "once"
    );
}

#[test]
fn a_flood_brings_cookies_by_itself_and_ends() {
    let mut pair = Pair::new(1);
    pair.link.loss = 100;
    let _ = pair.send(0, b"data");
    let initiation = pair.log[0].bytes.clone();
    pair.link.loss = 0;
    let replies = |pair: &Pair| pair.sent(1, COOKIE_REPLY, pair.start).len();
    for _ in 0..600 {
        let _ = pair.inject(1, stranger(), &initiation);
    }
    assert_eq!(replies(&pair), 100);
    pair.run(secs(10));
    assert_eq!(pair.payloads(1), [b"data"]);
    assert_eq!(replies(&pair), 100);
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A bad network: what the tunnel promises when datagrams are lost, repeated, delayed and reordered.

#![allow(clippy::cast_possible_truncation, reason = "small numbers of packets")]

mod common;

use std::collections::HashSet;

use common::*;

/// Sends both ways for `duration` and returns how many packets were sent and how many arrived, none twice.
fn exchange(pair: &mut Pair, seconds: u64) -> (usize, usize) {
    for number in 0..seconds * 20 {
        for side in 0..2 {
            let _ = pair.send(side, &number.to_be_bytes());
        }
        pair.run(millis(50));
    }
    pair.run(secs(30));
    let arrived = [0, 1].map(|side| {
        let payloads = pair.payloads(side);
        let different: HashSet<_> = payloads.iter().collect();
        assert_eq!(different.len(), payloads.len(), "a packet arrived twice");
        payloads.len()
    });
    ((seconds * 40) as usize, arrived.iter().sum())
}

#[test]
fn loss_costs_what_was_lost() {
    for seed in 0..3 {
        let mut pair = Pair::new(seed);
        pair.link = Link { loss: 20, ..GOOD };
        let (sent, arrived) = exchange(&mut pair, 400);
        assert!(
            arrived * 100 > sent * 74,
            "seed {seed}: {arrived} of {sent}"
        );
    }
}

#[test]
fn nothing_arrives_twice() {
    for seed in 0..3 {
        let mut pair = Pair::new(seed);
        pair.link = Link { repeat: 50, ..GOOD };
        let (sent, arrived) = exchange(&mut pair, 200);
        assert_eq!(arrived, sent);
    }
}

#[test]
fn reordering_costs_nothing() {
    for seed in 0..3 {
        let mut pair = Pair::new(seed);
        pair.link = Link {
            jitter: millis(300),
            ..GOOD
        };
        let (sent, arrived) = exchange(&mut pair, 400);
        // Packets that overtake the response or the confirmation of a handshake have no session yet, or none any more.
        assert!(
            arrived * 1000 > sent * 990,
            "seed {seed}: {arrived} of {sent}"
        );
    }
}

#[test]
fn everything_at_once() {
    for seed in 0..6 {
        let mut pair = Pair::with(seed, |_, peer| peer.persistent_keepalive = Some(20));
        pair.link = Link {
            delay: millis(80),
            jitter: millis(500),
            loss: 30,
            repeat: 20,
        };
        let (sent, arrived) = exchange(&mut pair, 300);
        assert!(
            arrived * 100 > sent * 55,
            "seed {seed}: {arrived} of {sent}"
        );
        // The network heals: so does the tunnel, at once or within a retry.
        pair.link = GOOD;
        pair.run(secs(30));
        for side in 0..2 {
            pair.sides[1 - side].received.clear();
            let _ = pair.send(side, b"healed");
            pair.run(secs(6));
            assert_eq!(
                pair.payloads(1 - side),
                [b"healed"],
                "seed {seed} side {side}"
            );
        }
    }
}

#[test]
fn an_outage_ends_when_it_ends() {
    for outage in [1, 14, 60, 119, 170, 181, 300, 1000] {
        let mut pair = Pair::new(outage);
        pair.connect();
        pair.link.loss = 100;
        for _ in 0..outage {
            let _ = pair.send(0, b"lost");
            pair.run(secs(1));
        }
        pair.link.loss = 0;
        pair.sides[1].received.clear();
        pair.run(secs(6));
        let _ = pair.send(0, b"arrives");
        pair.run(millis(50));
        assert_eq!(
            pair.payloads(1).last().copied(),
            Some(&b"arrives"[..]),
            "after {outage} s"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = || {
        let mut pair = Pair::new(5);
        pair.link = Link {
            delay: millis(20),
            jitter: millis(50),
            loss: 10,
            repeat: 10,
        };
        exchange(&mut pair, 130);
        pair.log
            .into_iter()
            .map(|datagram| (datagram.at - pair.start, datagram.bytes))
            .collect::<Vec<_>>()
    };
    assert!(run() == run());
}

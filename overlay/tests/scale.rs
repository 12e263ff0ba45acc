// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ten thousand peers: what happens to one costs what it costs with one. Work is counted, not timed.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use common::*;
use netcon_overlay::{NotSent, Overlay, PeerConfig, PrivateKey, Received};

const UNIX: Duration = Duration::from_secs(1_700_000_000);
const PEERS: u32 = 10_000;

fn key(number: u32) -> PrivateKey {
    let mut bytes = [0x55; 32];
    bytes[8..12].copy_from_slice(&number.to_be_bytes());
    PrivateKey::from_random(bytes)
}

fn inner(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0A00_0000 + number).into()
}

fn addr(number: u32) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], number as u16))
}

fn config(number: u32) -> PeerConfig {
    let mut config = peer(key(number).public(), Some(addr(number)), &[]);
    config.allowed_ips = vec![netcon_overlay::IpPrefix::host(inner(number))];
    config
}

/// A hub with so many peers, number 0 itself.
fn hub(now: Instant, peers: u32) -> Overlay {
    let mut hub = Overlay::new([1; 32]);
    hub.add_network(NETWORK, key(0), MTU).unwrap();
    for number in 1..=peers {
        hub.set_peer(now, NETWORK, config(number)).unwrap();
    }
    hub
}

/// The peer `number` of the hub.
fn spoke(now: Instant, number: u32) -> Overlay {
    let mut spoke = Overlay::new([2; 32]);
    spoke.add_network(NETWORK, key(number), MTU).unwrap();
    spoke.set_peer(now, NETWORK, config(0)).unwrap();
    spoke
}

/// A thousand seconds of traffic, handshakes and keepalives between the hub and one peer; what it cost the hub.
fn work_of_one(peers: u32, active: u32) -> u64 {
    let mut now = origin();
    let mut sides = [hub(now, peers), spoke(now, active)];
    let (start, before) = (now, sides[0].work());
    let numbers = [0, active];
    let (mut arrived, mut out) = (0, Vec::new());
    for second in 0..1000u64 {
        for from in 0..2 {
            let packet = ipv4(inner(numbers[from]), inner(numbers[1 - from]), b"data");
            let mut buf = vec![0; Overlay::sealed_len(packet.len(), MTU)];
            buf[16..16 + packet.len()].copy_from_slice(&packet);
            match sides[from].encapsulate(now, UNIX, NETWORK, &mut buf, packet.len()) {
                Ok(_) => {
                    let from = addr(numbers[from]);
                    let to = usize::from(from == addr(0));
                    let received = sides[to].handle_datagram(now, UNIX, from, &mut buf);
                    arrived += usize::from(matches!(received, Received::Packet { .. }));
                }
                Err(reason) => assert_eq!(reason, NotSent::Queued),
            }
        }
        let unix = UNIX + Duration::from_secs(second);
        loop {
            let mut silent = true;
            for from in 0..2 {
                sides[from].handle_timeout(now, unix);
                while sides[from].poll_transmit(now, unix, &mut out).is_some() {
                    silent = false;
                    let received =
                        sides[1 - from].handle_datagram(now, unix, addr(numbers[from]), &mut out);
                    arrived += usize::from(matches!(received, Received::Packet { .. }));
                }
            }
            if silent {
                break;
            }
        }
        now = start + Duration::from_secs(second + 1);
    }
    assert!(arrived > 1990, "{arrived}");
    sides[0].work() - before
}

#[test]
fn ten_thousand_peers_cost_an_active_one_nothing() {
    let alone = work_of_one(1, 1);
    let among = work_of_one(PEERS, PEERS / 2);
    // Lazy timers may be looked at a few times more or less.
    assert!(
        among <= alone + 20,
        "{among} with {PEERS} peers, {alone} with one"
    );
    assert!(among < 20_000, "{among} for 2000 packets");
}

#[test]
fn idle_peers_want_no_timer() {
    let now = origin();
    let mut hub = hub(now, PEERS);
    assert_eq!(hub.poll_timeout(), None);
    let before = hub.work();
    hub.handle_timeout(now + Duration::from_secs(1000), UNIX);
    assert!(hub.poll_transmit(now, UNIX, &mut Vec::new()).is_none());
    assert_eq!(hub.work(), before);
    // One peer's timers are all there is.
    let mut config = config(77);
    config.persistent_keepalive = Some(25);
    hub.set_peer(now, NETWORK, config).unwrap();
    assert!(hub.poll_transmit(now, UNIX, &mut Vec::new()).is_some());
    assert!(hub.work() - before < 10);
    // It goes, and so do they.
    hub.remove_peer(NETWORK, &key(77).public()).unwrap();
    hub.handle_timeout(now + Duration::from_secs(1000), UNIX);
    assert_eq!(hub.poll_timeout(), None);
}

#[test]
fn persistent_keepalives_of_all_cost_what_each_costs() {
    let now = origin();
    let peers = 1000;
    let mut hub = hub(now, 0);
    for number in 1..=peers {
        let mut config = config(number);
        config.persistent_keepalive = Some(25);
        hub.set_peer(now, NETWORK, config).unwrap();
    }
    let (before, mut sent, mut time) = (hub.work(), 0, now);
    let mut out = Vec::new();
    while time < now + Duration::from_secs(60) {
        while hub.poll_transmit(time, UNIX, &mut out).is_some() {
            sent += 1;
        }
        time = hub.poll_timeout().unwrap().max(time);
        hub.handle_timeout(time, UNIX);
    }
    assert!(sent >= u64::from(peers) * 11);
    assert!(
        hub.work() - before <= sent * 6,
        "{} for {sent}",
        hub.work() - before
    );
}

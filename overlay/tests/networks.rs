// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many networks and peers behind one port.

#![allow(
    clippy::cast_possible_truncation,
    reason = "sides are numbered 0 and 1"
)]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::*;
use netcon_overlay::{
    ConfigError, DropReason, NetworkIndex, NotSent, Overlay, PrivateKey, PublicKey, Received,
};

const UNIX: Duration = Duration::from_secs(1_700_000_000);

fn key(number: u32) -> PrivateKey {
    let mut bytes = [0x55; 32];
    bytes[8..12].copy_from_slice(&number.to_be_bytes());
    PrivateKey::from_random(bytes)
}

fn addr(number: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], number))
}

/// Exchanges datagrams until both are silent; packets that arrived, by side.
fn settle(now: Instant, sides: &mut [Overlay; 2]) -> [Vec<(NetworkIndex, PublicKey, Vec<u8>)>; 2] {
    let mut arrived = [Vec::new(), Vec::new()];
    let mut datagram = Vec::new();
    loop {
        let mut silent = true;
        for (here, there) in [(0, 1), (1, 0)] {
            while let Some(to) = sides[here].poll_transmit(now, UNIX, &mut datagram) {
                assert_eq!(to, addr(there as u16));
                silent = false;
                match sides[there].handle_datagram(now, UNIX, addr(here as u16), &mut datagram) {
                    Received::Packet {
                        network,
                        peer,
                        packet,
                    } => arrived[there].push((network, peer, packet.to_vec())),
                    Received::Handled => {}
                    Received::Dropped(reason) => panic!("{reason:?}"),
                }
            }
        }
        if silent {
            return arrived;
        }
    }
}

fn send(now: Instant, overlay: &mut Overlay, network: u32, packet: &[u8]) -> Result<(), NotSent> {
    let mut buf = vec![0; Overlay::sealed_len(packet.len(), MTU)];
    buf[16..16 + packet.len()].copy_from_slice(packet);
    overlay
        .encapsulate(now, UNIX, NetworkIndex(network), &mut buf, packet.len())
        .map(|_| ())
}

#[test]
fn networks_with_the_same_addresses_stay_apart() {
    let now = origin();
    let mut sides = [Overlay::new([1; 32]), Overlay::new([2; 32])];
    for network in 0..20 {
        let keys = [key(2 * network), key(2 * network + 1)];
        for (here, there) in [(0, 1), (1, 0)] {
            // Numbers of networks are local.
            let index = NetworkIndex(if here == 0 { network } else { 100 - network });
            sides[here]
                .add_network(index, keys[here].clone(), MTU)
                .unwrap();
            let config = peer(
                keys[there].public(),
                Some(addr(there as u16)),
                &[&format!("10.0.0.{there}")],
            );
            sides[here].set_peer(now, index, config).unwrap();
        }
    }
    let packet = |network: u32| {
        ipv4(
            [10, 0, 0, 0].into(),
            [10, 0, 0, 1].into(),
            &network.to_be_bytes(),
        )
    };
    for network in 0..20 {
        assert_eq!(
            send(now, &mut sides[0], network, &packet(network)),
            Err(NotSent::Queued)
        );
    }
    let [_, arrived] = settle(now, &mut sides);
    assert_eq!(arrived.len(), 20);
    for (index, peer, bytes) in arrived {
        let network = 100 - index.0;
        assert_eq!((peer, bytes), (key(2 * network).public(), packet(network)));
    }
    // One goes; the others do not notice.
    sides[1].remove_network(NetworkIndex(95)).unwrap();
    for network in [4, 6] {
        send(now, &mut sides[0], network, &packet(network)).unwrap();
    }
    assert_eq!(
        sides[1].remove_network(NetworkIndex(95)),
        Err(ConfigError::UnknownNetwork)
    );
    assert_eq!(sides[1].routes(NetworkIndex(95)), []);
    assert_eq!(sides[1].peer_status(NetworkIndex(95)), []);
}

#[test]
fn a_removed_network_leaves_nothing_behind() {
    let now = origin();
    let mut sides = [Overlay::new([1; 32]), Overlay::new([2; 32])];
    let keys = [key(1), key(2)];
    for round in 0..50 {
        for (here, there) in [(0, 1), (1, 0)] {
            sides[here]
                .add_network(NetworkIndex(round), keys[here].clone(), MTU)
                .unwrap();
            let config = peer(
                keys[there].public(),
                Some(addr(there as u16)),
                &[&format!("10.0.0.{there}")],
            );
            sides[here]
                .set_peer(now, NetworkIndex(round), config)
                .unwrap();
        }
        // Both overlays forget the other's timestamps with the peer, so the same clock reading is no replay.
        assert_eq!(
            send(
                now,
                &mut sides[0],
                round,
                &ipv4([10, 0, 0, 0].into(), [10, 0, 0, 1].into(), b"")
            ),
            Err(NotSent::Queued)
        );
        assert_eq!(settle(now, &mut sides)[1].len(), 1);
        sides[0].remove_network(NetworkIndex(round)).unwrap();
        sides[1]
            .remove_peer(NetworkIndex(round), &keys[0].public())
            .unwrap();
        sides[1].remove_network(NetworkIndex(round)).unwrap();
        for side in &mut sides {
            let state = format!("{side:?}");
            assert!(
                state.contains("networks: 0, peers: 0, indices: 0"),
                "{state}"
            );
            side.handle_timeout(now + secs(1000), UNIX);
            assert_eq!(side.poll_timeout(), None);
        }
    }
}

#[test]
fn a_removed_peer_is_a_stranger() {
    let mut pair = Pair::new(1);
    pair.connect();
    let key = pair.sides[0].key.public();
    pair.sides[1].overlay.remove_peer(NETWORK, &key).unwrap();
    assert_eq!(
        pair.sides[1].overlay.remove_peer(NETWORK, &key),
        Err(ConfigError::UnknownPeer)
    );
    pair.send(0, b"data").unwrap();
    pair.run(secs(1));
    assert_eq!(pair.dropped(1, DropReason::UnknownIndex), 1);
    assert_eq!(pair.send(1, b"data"), Err(NotSent::NoRoute));
    assert_eq!(pair.sides[1].overlay.routes(NETWORK), []);
}

#[test]
fn configuration_that_cannot_work_is_refused() {
    let now = origin();
    let mut overlay = Overlay::new([0; 32]);
    let network = NetworkIndex(1);
    let config = peer(key(2).public(), None, &["10.0.0.0/8"]);
    assert_eq!(
        overlay.set_peer(now, network, config),
        Err(ConfigError::UnknownNetwork)
    );
    assert_eq!(
        overlay.remove_peer(network, &key(2).public()),
        Err(ConfigError::UnknownNetwork)
    );
    for mtu in [0, 575, 65_456, usize::MAX] {
        assert_eq!(
            overlay.add_network(network, key(1), mtu),
            Err(ConfigError::InvalidMtu)
        );
    }
    overlay.add_network(network, key(1), 576).unwrap();
    assert_eq!(overlay.set_mtu(network, 1), Err(ConfigError::InvalidMtu));
    assert_eq!(overlay.set_mtu(network, 1280), Ok(()));
    assert_eq!(overlay.public_key(network), Some(key(1).public()));
    assert_eq!(
        overlay.add_network(network, key(3), MTU),
        Err(ConfigError::NetworkExists)
    );
    assert_eq!(
        overlay.add_network(NetworkIndex(2), key(1), MTU),
        Err(ConfigError::KeyInUse)
    );
    assert_eq!(
        overlay.set_peer(now, network, peer(key(1).public(), None, &[])),
        Err(ConfigError::OwnKey)
    );
    assert_eq!(
        overlay.set_peer(
            now,
            network,
            peer(PublicKey::from_bytes([0; 32]), None, &[])
        ),
        Err(ConfigError::WeakKey)
    );
    assert_eq!(overlay.peer_status(network), []);
    for index in 2..257 {
        overlay
            .add_network(NetworkIndex(index), key(index), MTU)
            .unwrap();
    }
    assert_eq!(
        overlay.add_network(NetworkIndex(257), key(257), MTU),
        Err(ConfigError::TooManyNetworks)
    );
}

#[test]
fn a_prefix_belongs_to_the_peer_that_got_it_last() {
    let now = origin();
    let mut overlay = Overlay::new([0; 32]);
    let network = NetworkIndex(0);
    overlay.add_network(network, key(0), MTU).unwrap();
    overlay
        .set_peer(
            now,
            network,
            peer(
                key(1).public(),
                Some(addr(1)),
                &["10.1.0.0/16", "10.2.0.0/16"],
            ),
        )
        .unwrap();
    overlay
        .set_peer(now, network, peer(key(2).public(), None, &["10.2.0.0/16"]))
        .unwrap();
    assert_eq!(
        overlay
            .routes(network)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["10.1.0.0/16", "10.2.0.0/16"]
    );
    let packet = |to: [u8; 4]| ipv4([10, 0, 0, 0].into(), to.into(), b"");
    assert_eq!(
        send(now, &mut overlay, 0, &packet([10, 1, 0, 0])),
        Err(NotSent::Queued)
    );
    assert_eq!(
        send(now, &mut overlay, 0, &packet([10, 2, 0, 0])),
        Err(NotSent::NoEndpoint)
    );
    // The first peer lost it; removing that peer, or its prefixes, does not take it from the second.
    overlay
        .set_peer(now, network, peer(key(1).public(), None, &[]))
        .unwrap();
    assert_eq!(
        overlay
            .routes(network)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["10.2.0.0/16"]
    );
    overlay.remove_peer(network, &key(1).public()).unwrap();
    assert_eq!(overlay.routes(network).len(), 1);
    overlay.remove_peer(network, &key(2).public()).unwrap();
    assert_eq!(overlay.routes(network), []);
}

#[test]
fn many_peers_with_timers() {
    let now = origin();
    let mut hub = Overlay::new([0; 32]);
    let network = NetworkIndex(0);
    hub.add_network(network, key(0), MTU).unwrap();
    let peers = 50u32;
    for number in 1..=peers {
        let [.., high, low] = number.to_be_bytes();
        let mut config = peer(
            key(number).public(),
            Some(addr(low.into())),
            &[&format!("10.0.{high}.{low}")],
        );
        config.persistent_keepalive = Some(25);
        hub.set_peer(now, network, config).unwrap();
    }
    // All are tried every five seconds, for ever, none more often.
    let (mut time, mut datagram, mut initiations) = (now, Vec::new(), 0);
    while time < now + secs(50) {
        while hub.poll_transmit(time, UNIX, &mut datagram).is_some() {
            assert_eq!(datagram.len(), 148);
            initiations += 1;
        }
        time = hub.poll_timeout().unwrap().max(time);
        hub.handle_timeout(time, UNIX);
    }
    let each = initiations as f64 / f64::from(peers);
    assert!((9.0..=11.0).contains(&each), "{each}");
}

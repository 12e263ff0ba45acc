// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Life of a tunnel between two well-meaning sides: handshakes, data, age, silence, restarts, roaming.

#![allow(
    clippy::cast_possible_truncation,
    reason = "sides are numbered 0 and 1"
)]

mod common;

use common::*;
use netcon_overlay::{DropReason, NotSent, PeerConfig};

#[test]
fn data_both_ways_of_every_length() {
    let mut pair = Pair::new(1);
    pair.connect();
    for len in (0..200).chain([1380, 1399, 1400]) {
        for side in 0..2 {
            let payload = vec![side as u8; len];
            pair.send(side, &payload).unwrap();
            pair.run(millis(10));
            assert_eq!(pair.payloads(1 - side), [payload]);
            pair.sides[1 - side].received.clear();
        }
    }
    assert_eq!(
        pair.send(0, &[0; 1401]),
        Err(NotSent::Invalid),
        "larger than the MTU"
    );
    for datagram in pair
        .log
        .iter()
        .filter(|datagram| datagram.kind() == TRANSPORT)
    {
        let plain = datagram.bytes.len() - KEEPALIVE;
        assert!(plain.is_multiple_of(16) || plain == MTU, "{plain}");
        assert!(plain <= MTU);
    }
    assert_eq!(pair.sent(0, INITIATION, pair.start).len(), 1);
    for side in 0..2 {
        assert!(
            pair.sides[side]
                .overlay
                .drops()
                .all(|(_, count)| count == 0)
        );
    }
}

#[test]
fn the_handshake_is_one_round_trip() {
    let mut pair = Pair::new(1);
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    assert_eq!(pair.status(0).last_handshake, None);
    assert_eq!(pair.status(0).handshakes, 0);
    pair.run(millis(20));
    let kinds: Vec<_> = pair
        .log
        .iter()
        .map(|datagram| (datagram.side, datagram.kind(), datagram.bytes.len()))
        .collect();
    assert_eq!(
        kinds,
        [(0, INITIATION, 148), (1, RESPONSE, 92), (0, TRANSPORT, 64)]
    );
    assert_eq!(pair.payloads(1), [b"data"]);
    let status = [pair.status(0), pair.status(1)];
    assert!(status.iter().all(|status| status.last_handshake.is_some()));
    assert!(status.iter().all(|status| status.handshakes == 1));
    assert_eq!((status[0].tx_bytes, status[0].rx_bytes), (148 + 64, 92));
    assert_eq!((status[1].tx_bytes, status[1].rx_bytes), (92, 148 + 64));
}

#[test]
fn both_address_families() {
    let mut pair = Pair::with(1, |side, peer| {
        peer.allowed_ips = vec![format!("fd00::{}/128", 2 - side).parse().unwrap()];
    });
    let packet = ipv6("fd00::1", "fd00::2", b"six");
    assert_eq!(pair.send_packet(0, &packet), Err(NotSent::Queued));
    pair.run(secs(1));
    assert_eq!(pair.sides[1].received[0].1, packet);
    assert_eq!(pair.send(0, b"four"), Err(NotSent::NoRoute));
}

#[test]
fn packets_wait_in_order_and_the_oldest_give_way() {
    let mut pair = Pair::new(1);
    for number in 0..200u8 {
        assert_eq!(pair.send(0, &[number]), Err(NotSent::Queued));
    }
    pair.run(secs(1));
    assert_eq!(
        pair.payloads(1),
        (72..200u8).map(|number| vec![number]).collect::<Vec<_>>()
    );
    assert_eq!(pair.dropped(0, DropReason::StageFull), 72);
}

#[test]
fn nothing_overtakes_packets_that_wait() {
    let mut pair = Pair::new(1);
    for number in 0..3 {
        assert_eq!(pair.send(0, &[number]), Err(NotSent::Queued));
    }
    let response_at = pair.now + millis(10);
    pair.run(millis(5));
    // The response is read but what waited has not been taken yet.
    let mut response = pair
        .log
        .iter()
        .find(|datagram| datagram.kind() == RESPONSE)
        .unwrap()
        .clone();
    pair.now = response_at;
    let (now, unix) = (pair.now, pair.unix());
    let _ = pair.sides[0]
        .overlay
        .handle_datagram(now, unix, response.from, &mut response.bytes);
    assert_eq!(pair.send(0, &[3]), Err(NotSent::Queued));
    pair.send(0, &[4]).unwrap();
    pair.run(secs(1));
    assert_eq!(pair.payloads(1), [[0], [1], [2], [3], [4]]);
}

#[test]
fn sessions_are_renewed_under_data_without_loss() {
    let mut pair = Pair::new(1);
    pair.connect();
    let start = pair.now;
    for number in 0..4000u32 {
        for side in 0..2 {
            pair.send(side, &number.to_be_bytes()).unwrap();
        }
        pair.run(millis(100));
    }
    for side in 0..2 {
        let expected: Vec<_> = (0..4000u32).map(u32::to_be_bytes).collect();
        assert_eq!(pair.payloads(side), expected);
    }
    // 400 s: three renewals, each by the first initiator, 120 s after the last.
    let times: Vec<_> = pair
        .sent(0, INITIATION, start)
        .iter()
        .map(|datagram| (datagram.at - start).as_secs())
        .collect();
    let expected = [120, 240, 360];
    assert!(
        times.len() == 3
            && times
                .iter()
                .zip(expected)
                .all(|(time, expected)| time.abs_diff(expected) <= 1),
        "{times:?}"
    );
    assert!(pair.sent(1, INITIATION, start).is_empty());
    // Nothing but data flows beside the handshakes: one keepalive confirms where no data did.
    assert!(pair.keepalives(0, start) + pair.keepalives(1, start) <= 3);
}

#[test]
fn receiving_renews_a_session_late_in_its_life() {
    let mut pair = Pair::new(1);
    pair.connect();
    let start = pair.start;
    // Only the responder sends; the initiator's keepalives keep it content, and are themselves sends of an old session.
    while pair.now < start + secs(179) {
        pair.send(1, b"data").unwrap();
        pair.run(secs(1));
    }
    assert_eq!(pair.sent(0, INITIATION, start + secs(1)).len(), 1);
    assert!(pair.sent(1, INITIATION, start).is_empty());
}

#[test]
fn an_idle_session_expires_and_data_begins_a_new_one() {
    let mut pair = Pair::new(1);
    pair.connect();
    let start = pair.now;
    pair.run(secs(179));
    assert!(
        pair.sent(0, INITIATION, start).is_empty() && pair.sent(1, INITIATION, start).is_empty()
    );
    pair.run(secs(10));
    assert_eq!(pair.send(1, b"late"), Err(NotSent::Queued));
    pair.run(secs(1));
    assert_eq!(pair.payloads(0), [b"late"]);
    assert_eq!(pair.sent(1, INITIATION, start).len(), 1);
    // All keys are gone in the end, and nothing happens any more.
    pair.run(secs(1200));
    let quiet = pair.now;
    pair.run(secs(100_000));
    assert!(pair.log.iter().all(|datagram| datagram.at < quiet));
    assert!(format!("{:?}", pair.sides[0].overlay).contains("indices: 0"));
    assert_eq!(pair.send(0, b"again"), Err(NotSent::Queued));
    pair.run(secs(1));
    assert_eq!(pair.payloads(1), [b"again"]);
}

#[test]
fn silence_after_data_is_broken_by_one_keepalive() {
    let mut pair = Pair::new(1);
    pair.connect();
    pair.run(secs(60));
    let start = pair.now;
    pair.send(0, b"one").unwrap();
    pair.run(secs(3));
    pair.send(0, b"two").unwrap();
    pair.run(millis(6_900));
    assert_eq!(pair.keepalives(1, start), 0);
    pair.run(millis(200));
    assert_eq!(
        pair.keepalives(1, start),
        1,
        "ten seconds after the first packet"
    );
    pair.run(secs(40));
    assert_eq!(pair.keepalives(1, start), 1, "keepalives are not answered");
    assert_eq!(pair.keepalives(0, start), 0);
    assert!(pair.sent(0, INITIATION, start).is_empty());
}

#[test]
fn a_restarted_peer_is_noticed() {
    for sender in 0..2 {
        let mut pair = Pair::new(1);
        pair.connect();
        let start = pair.now;
        pair.restart(1 - sender);
        for number in 0..20u8 {
            pair.send(sender, &[number]).unwrap_or(());
            pair.run(secs(1));
        }
        assert!(pair.dropped(1 - sender, DropReason::UnknownIndex) >= 15);
        assert_eq!(pair.payloads(1 - sender).last(), Some(&&[19][..]));
        let initiations = pair.sent(sender, INITIATION, start);
        assert_eq!(initiations.len(), 1);
        assert_eq!((initiations[0].at - start).as_secs(), 15);
    }
}

#[test]
fn a_restarted_side_that_speaks_first_is_heard_at_once() {
    let mut pair = Pair::new(1);
    pair.connect();
    pair.restart(0);
    assert_eq!(pair.send(0, b"back"), Err(NotSent::Queued));
    pair.run(millis(50));
    assert_eq!(pair.payloads(1), [b"back"]);
    pair.send(1, b"welcome").unwrap();
    pair.run(millis(50));
    assert_eq!(pair.payloads(0), [b"welcome"]);
}

#[test]
fn both_may_begin_at_once() {
    for delay in [0, 1, 5, 50, 400] {
        let mut pair = Pair::new(1);
        pair.link.delay = millis(delay);
        assert_eq!(pair.send(0, b"from 0"), Err(NotSent::Queued));
        assert_eq!(pair.send(1, b"from 1"), Err(NotSent::Queued));
        pair.run(secs(2));
        assert_eq!(pair.payloads(0), [b"from 1"], "{delay}");
        assert_eq!(pair.payloads(1), [b"from 0"], "{delay}");
        for number in 0..100 {
            for side in 0..2 {
                pair.send(side, &[number]).unwrap();
            }
            pair.run(millis(10));
        }
        pair.run(secs(1));
        assert_eq!((pair.payloads(0).len(), pair.payloads(1).len()), (101, 101));
        let initiations =
            pair.sent(0, INITIATION, pair.start).len() + pair.sent(1, INITIATION, pair.start).len();
        assert_eq!(initiations, 2, "no retry was needed");
    }
}

#[test]
fn an_unanswered_handshake_is_repeated_then_given_up() {
    let mut pair = Pair::new(1);
    pair.link.loss = 100;
    assert_eq!(pair.send(0, b"lost"), Err(NotSent::Queued));
    pair.run(secs(300));
    let initiations = pair.sent(0, INITIATION, pair.start);
    assert!(
        (16..=19).contains(&initiations.len()),
        "{}",
        initiations.len()
    );
    let gaps: Vec<_> = initiations
        .windows(2)
        .map(|two| two[1].at - two[0].at)
        .collect();
    assert!(
        gaps.iter()
            .all(|gap| (secs(5)..secs(5) + millis(334)).contains(gap))
    );
    assert!(gaps.windows(2).any(|two| two[0] != two[1]), "jitter");
    let mut senders: Vec<_> = initiations
        .iter()
        .map(|datagram| datagram.bytes[4..8].to_vec())
        .collect();
    senders.dedup();
    assert_eq!(senders.len(), initiations.len(), "each has its own index");
    assert_eq!(pair.dropped(0, DropReason::HandshakeTimeout), 1);
    assert!(format!("{:?}", pair.sides[0].overlay).contains("indices: 0"));
    // The next packet begins again, at once.
    pair.link.loss = 0;
    assert_eq!(pair.send(0, b"arrives"), Err(NotSent::Queued));
    pair.run(millis(50));
    assert_eq!(pair.payloads(1), [b"arrives"]);
}

#[test]
fn persistent_keepalives_hold_a_session_up_for_ever() {
    let mut pair = Pair::with(1, |side, peer| {
        peer.persistent_keepalive = (side == 0).then_some(25)
    });
    pair.run(secs(1));
    assert!(
        pair.status(1).last_handshake.is_some(),
        "it begins by itself"
    );
    let start = pair.now;
    pair.run(secs(1000));
    assert!(
        pair.keepalives(0, start) >= 32,
        "{}",
        pair.keepalives(0, start)
    );
    assert!(
        pair.keepalives(0, start) <= 50,
        "{}",
        pair.keepalives(0, start)
    );
    pair.send(1, b"reachable at any time").unwrap();
    // A dead peer is tried for ever.
    pair.link.loss = 100;
    pair.run(secs(1000));
    pair.link.loss = 0;
    pair.run(secs(35));
    pair.send(0, b"back").unwrap();
}

#[test]
fn the_persistent_interval_counts_from_the_last_message() {
    let mut pair = Pair::with(1, |side, peer| {
        peer.persistent_keepalive = (side == 0).then_some(25)
    });
    pair.run(secs(1));
    let start = pair.now;
    for _ in 0..50 {
        pair.send(0, b"busy").unwrap();
        pair.run(secs(2));
    }
    assert_eq!(pair.keepalives(0, start), 0);
}

#[test]
fn a_side_without_endpoint_learns_it() {
    let mut pair = Pair::with(1, |side, peer| {
        if side == 0 {
            peer.endpoint = None;
        }
    });
    assert_eq!(pair.send(0, b"whereto"), Err(NotSent::NoEndpoint));
    assert_eq!(pair.send(1, b"here"), Err(NotSent::Queued));
    pair.run(secs(1));
    assert_eq!(pair.status(0).endpoint, Some(pair.sides[1].addr));
    pair.send(0, b"there").unwrap();
    pair.run(secs(1));
    assert_eq!(pair.payloads(1), [b"there"]);
}

#[test]
fn a_peer_roams_by_being_heard() {
    let mut pair = Pair::new(1);
    pair.connect();
    let new = "198.51.100.7:1024".parse().unwrap();
    pair.sides[0].addr = new;
    pair.send(0, b"moved").unwrap();
    pair.run(millis(50));
    assert_eq!(pair.status(1).endpoint, Some(new));
    pair.send(1, b"found").unwrap();
    pair.run(millis(50));
    assert_eq!(pair.payloads(0), [b"found"]);
    // An update without endpoint keeps it, one with an endpoint sets it.
    let (now, config) = (pair.now, pair.sides[1].peer.clone());
    let kept = PeerConfig {
        endpoint: None,
        ..config.clone()
    };
    pair.sides[1].overlay.set_peer(now, NETWORK, kept).unwrap();
    assert_eq!(pair.status(1).endpoint, Some(new));
    pair.sides[1]
        .overlay
        .set_peer(now, NETWORK, config.clone())
        .unwrap();
    assert_eq!(pair.status(1).endpoint, config.endpoint);
    pair.send(1, b"session is kept").unwrap();
}

#[test]
fn preshared_keys_must_agree() {
    let mut pair = Pair::with(1, |side, peer| peer.preshared_key = preshared(side as u8));
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    pair.run(secs(4));
    assert_eq!(pair.dropped(0, DropReason::Forged), 1);
    assert_eq!(pair.status(0).last_handshake, None);
    assert_eq!(pair.status(1).last_handshake, None);
    // Corrected while the handshake is still tried.
    let (now, mut config) = (pair.now, pair.sides[0].peer.clone());
    config.preshared_key = preshared(1);
    pair.sides[0]
        .overlay
        .set_peer(now, NETWORK, config)
        .unwrap();
    pair.run(secs(4));
    assert_eq!(pair.payloads(1), [b"data"]);
}

#[test]
fn a_new_preshared_key_leaves_the_session_alone() {
    let mut pair = Pair::new(1);
    pair.connect();
    let now = pair.now;
    let config = PeerConfig {
        preshared_key: preshared(5),
        ..pair.sides[0].peer.clone()
    };
    pair.sides[0]
        .overlay
        .set_peer(now, NETWORK, config)
        .unwrap();
    pair.send(0, b"old session").unwrap();
    pair.run(secs(1));
    assert_eq!(pair.payloads(1), [b"old session"]);
}

#[test]
fn a_clock_that_goes_back_does_not_lock_us_out() {
    let mut pair = Pair::new(1);
    pair.connect();
    pair.restart(1);
    // Our own wall clock falls back by a day, which the virtual clock cannot show: hand the time over directly.
    pair.run(secs(200));
    let unix = pair.unix() - secs(86_400);
    let (now, mut out) = (pair.now, Vec::new());
    let mut buf = vec![0; netcon_overlay::Overlay::sealed_len(20, MTU)];
    buf[16..36].copy_from_slice(&ipv4(pair.sides[0].inner, pair.sides[1].inner, b""));
    assert_eq!(
        pair.sides[0]
            .overlay
            .encapsulate(now, unix, NETWORK, &mut buf, 20),
        Err(NotSent::Queued)
    );
    let to = pair.sides[0]
        .overlay
        .poll_transmit(now, unix, &mut out)
        .unwrap();
    pair.transmit(0, to, out);
    pair.run(secs(1));
    assert_eq!(pair.sides[1].received.len(), 1);
}

#[test]
fn packets_are_not_forgotten_by_a_caller_who_polls_late() {
    let mut pair = Pair::new(1);
    assert_eq!(pair.send(0, b"patience"), Err(NotSent::Queued));
    pair.run(millis(5));
    let mut response = pair
        .log
        .iter()
        .find(|datagram| datagram.kind() == RESPONSE)
        .unwrap()
        .clone();
    let (now, unix) = (pair.now, pair.unix());
    let side = &mut pair.sides[0].overlay;
    let _ = side.handle_datagram(now, unix, response.from, &mut response.bytes);
    pair.now += secs(181);
    pair.run(secs(1));
    assert_eq!(pair.payloads(1), [b"patience"]);
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The way between the sides: endpoints, keepalives, narrow paths, and what is counted for a peer.

use super::*;

#[test]
fn case_04_a_cookie_reply_moves_no_endpoint() {
    let mut pair = Pair::new(1);
    pair.sides[1].overlay.set_under_load(true);
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    pair.link.loss = 100;
    pair.run(millis(6));
    let reply = last(&pair, 1, COOKIE_REPLY).bytes;
    assert_eq!(pair.inject(0, stranger(), &reply), None, "it is taken");
    assert_eq!(pair.status(0).endpoint, Some(pair.sides[1].addr));
    assert!(!pair.status(0).endpoint_learned);
}

#[test]
fn case_04_every_authenticated_message_moves_the_endpoint() {
    let elsewhere: [SocketAddr; 4] =
        [1, 2, 3, 4].map(|port| SocketAddr::from(([198, 51, 100, 1], port)));
    let mut pair = Pair::new(1);
    pair.link.loss = 100;
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    let initiation = last(&pair, 0, INITIATION).bytes;
    assert_eq!(pair.inject(1, elsewhere[0], &initiation), None);
    assert_eq!(pair.status(1).endpoint, Some(elsewhere[0]));
    assert!(pair.status(1).endpoint_learned);
    let response = last(&pair, 1, RESPONSE);
    assert_eq!(response.to, elsewhere[0]);
    assert_eq!(pair.inject(0, elsewhere[1], &response.bytes), None);
    assert_eq!(pair.status(0).endpoint, Some(elsewhere[1]));
    let data = last(&pair, 0, TRANSPORT);
    assert_eq!(data.to, elsewhere[1]);
    assert_eq!(pair.inject(1, elsewhere[2], &data.bytes), None);
    assert_eq!(pair.status(1).endpoint, Some(elsewhere[2]));
    pair.run(secs(11));
    let keepalive = last(&pair, 1, TRANSPORT).bytes;
    assert_eq!(keepalive.len(), KEEPALIVE);
    assert_eq!(pair.inject(0, elsewhere[3], &keepalive), None);
    assert_eq!(pair.status(0).endpoint, Some(elsewhere[3]));
    // What does not prove its sender moves nothing.
    let mut forged = data.bytes;
    forged[20] ^= 1;
    assert!(pair.inject(1, stranger(), &forged).is_some());
    assert_eq!(pair.status(1).endpoint, Some(elsewhere[2]));
}

#[test]
fn case_09_keepalives_are_not_answered_by_keepalives() {
    let mut pair = Pair::new(1);
    pair.connect();
    pair.run(secs(30));
    let start = pair.now;
    pair.send(0, b"one").unwrap();
    pair.run(secs(4));
    pair.send(0, b"two").unwrap();
    pair.run(secs(100));
    let keepalives: Vec<_> = (0..2)
        .flat_map(|side| pair.sent(side, TRANSPORT, start))
        .filter(|datagram| datagram.bytes.len() == KEEPALIVE)
        .collect();
    assert_eq!(keepalives.len(), 1, "two idle peers are silent");
    let after = keepalives[0].at - start;
    assert_eq!((keepalives[0].side, after), (1, secs(10) + pair.link.delay));
}

#[test]
fn case_09_traffic_in_either_direction_postpones_the_persistent_keepalive() {
    for sender in 0..2 {
        let mut pair = Pair::with(1, |side, peer| {
            peer.persistent_keepalive = (side == 0).then_some(25);
        });
        pair.run(secs(1));
        let start = pair.now;
        for _ in 0..4 {
            pair.send(sender, b"busy").unwrap();
            pair.run(secs(20));
        }
        // Received data is answered after ten seconds; that is all.
        let expected = if sender == 0 { 0 } else { 4 };
        assert_eq!(pair.keepalives(0, start), expected);
        let quiet = pair.now;
        pair.run(secs(60));
        assert!(pair.keepalives(0, quiet) >= 2);
    }
}

#[test]
fn case_21_no_side_goes_deaf_while_data_flows_one_way() {
    for sender in 0..2 {
        let mut pair = Pair::new(1);
        pair.connect();
        let start = pair.now;
        for number in 0..6000u32 {
            pair.send(sender, &number.to_be_bytes()).unwrap();
            pair.run(millis(100));
        }
        // Ten minutes: nothing lost, nothing out of order, no keypair used past its time.
        let expected: Vec<_> = (0..6000u32).map(u32::to_be_bytes).collect();
        assert_eq!(pair.payloads(1 - sender), expected);
        // The silent side says every ten seconds that it hears.
        let spoken = pair.keepalives(1 - sender, start);
        assert!((50..=66).contains(&spoken), "{spoken}");
    }
}

#[test]
fn case_21_both_sides_may_move_again_and_again() {
    let mut pair = Pair::new(1);
    pair.connect();
    for round in 1..100u16 {
        let side = usize::from(round % 2);
        pair.sides[side].addr = SocketAddr::from(([198, 51, 100, 7], round));
        pair.send(side, b"moved").unwrap();
        pair.run(millis(20));
        pair.send(1 - side, b"found").unwrap();
        pair.run(millis(20));
        assert_eq!(pair.payloads(side).last(), Some(&&b"found"[..]), "{round}");
        assert_eq!(pair.status(1 - side).endpoint, Some(pair.sides[side].addr));
    }
}

#[test]
fn case_22_who_forwards_a_packet_first_steers_the_endpoint_until_the_next() {
    let mut pair = Pair::new(1);
    pair.connect();
    let data = held(&mut pair, 0, b"taken on the way");
    assert_eq!(pair.inject(1, stranger(), &data.bytes), None);
    assert_eq!(pair.status(1).endpoint, Some(stranger()));
    // A copy that comes second steers nothing, and the next true packet leads back.
    pair.send(0, b"next").unwrap();
    pair.run(millis(20));
    assert_eq!(pair.status(1).endpoint, Some(pair.sides[0].addr));
    assert_eq!(
        pair.inject(1, stranger(), &data.bytes),
        Some(DropReason::Replayed)
    );
    assert_eq!(pair.status(1).endpoint, Some(pair.sides[0].addr));
}

#[test]
fn a_narrow_path_is_told_and_believed_for_ten_minutes() {
    let mut pair = Pair::with(1, |side, peer| {
        peer.persistent_keepalive = (side == 0).then_some(25);
    });
    pair.connect();
    let (now, to) = (pair.now, pair.sides[1].addr);
    let of = |pair: &Pair, len: usize| {
        ipv4(pair.sides[0].inner, pair.sides[1].inner, &vec![0; len - 20])
    };
    // IPv6, UDP and WireGuard take 80 bytes of 1400; the rest in whole paddings.
    let side = &mut pair.sides[0].overlay;
    assert_eq!(side.set_path_mtu(now, stranger(), 1400), 1328);
    let whole = of(&pair, 1420);
    pair.send_packet(0, &whole).unwrap();
    let side = &mut pair.sides[0].overlay;
    assert_eq!(side.set_path_mtu(now, to, 1400), 1312);
    for (len, expected) in [
        (1420, Err(NotSent::TooLarge { mtu: 1312 })),
        (1313, Err(NotSent::TooLarge { mtu: 1312 })),
        (1312, Ok(())),
    ] {
        let packet = of(&pair, len);
        assert_eq!(pair.send_packet(0, &packet), expected, "{len}");
    }
    let largest = last(&pair, 0, TRANSPORT).bytes.len();
    assert!(largest + 48 <= 1400, "{largest}");
    assert_eq!(pair.dropped(0, DropReason::PathTooNarrow), 2);
    pair.run(secs(600));
    pair.send_packet(0, &whole).unwrap();
    // Whatever is claimed, the least MTU of IPv6 is kept.
    let (now, side) = (pair.now, &mut pair.sides[0].overlay);
    assert_eq!(side.set_path_mtu(now, to, 0), 1280);
    // Another endpoint is another path.
    pair.sides[1].addr = "198.51.100.7:7".parse().unwrap();
    pair.send(1, b"moved").unwrap();
    pair.run(millis(20));
    pair.send_packet(0, &whole).unwrap();
}

#[test]
fn drops_are_counted_for_the_peer_they_belong_to() {
    let mut pair = Pair::new(1);
    pair.connect();
    let key = PrivateKey::from_random([3; 32]).public();
    let now = pair.now;
    let side = &mut pair.sides[1].overlay;
    side.set_peer(now, NETWORK, peer(key, None, &["10.3.0.0/16"]))
        .unwrap();
    let to = ipv4(
        "10.0.0.2".parse().unwrap(),
        "10.3.0.1".parse().unwrap(),
        b"",
    );
    assert_eq!(pair.send_packet(1, &to), Err(NotSent::NoEndpoint));
    let data = held(&mut pair, 0, b"data");
    for _ in 0..3 {
        let _ = pair.inject(1, data.from, &data.bytes);
    }
    let side = &pair.sides[1].overlay;
    let of = |key: &PublicKey| side.peer(NETWORK, key).unwrap().drops;
    assert_eq!(of(&key), [(DropReason::NoEndpoint, 1)]);
    assert_eq!(of(&pair.sides[0].key.public()), [(DropReason::Replayed, 2)]);
    assert_eq!(side.peer(NetworkIndex(99), &key), None);
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Packets: replay, age, source, padding, reserved bytes, congestion marks.

use super::*;

#[test]
fn case_05_replay_is_checked_after_decryption() {
    let mut pair = Pair::new(1);
    pair.connect();
    let genuine = held(&mut pair, 0, b"genuine");
    let mut forged = genuine.bytes.clone();
    forged[8..16].copy_from_slice(&(1u64 << 50).to_le_bytes());
    assert_eq!(
        pair.inject(1, genuine.from, &forged),
        Some(DropReason::Forged)
    );
    // Nor has the genuine number been used up by a forgery of it.
    let mut forged = genuine.bytes.clone();
    forged[30] ^= 1;
    assert_eq!(
        pair.inject(1, genuine.from, &forged),
        Some(DropReason::Forged)
    );
    assert_eq!(pair.inject(1, genuine.from, &genuine.bytes), None);
    assert_eq!(
        pair.inject(1, genuine.from, &genuine.bytes),
        Some(DropReason::Replayed)
    );
    assert_eq!(pair.payloads(1), [b"genuine"]);
}

#[test]
fn case_05_the_window_holds_8128_counters() {
    let mut pair = Pair::new(1);
    pair.connect();
    let late = [
        held(&mut pair, 0, b"too late"),
        held(&mut pair, 0, b"just in time"),
    ];
    pair.link.delay = millis(0);
    for _ in 0..8127 {
        pair.send(0, b"").unwrap();
    }
    pair.run(millis(1));
    assert_eq!(
        pair.inject(1, late[0].from, &late[0].bytes),
        Some(DropReason::Replayed)
    );
    assert_eq!(pair.inject(1, late[1].from, &late[1].bytes), None);
    assert_eq!(pair.sides[1].received.len(), 8128);
}

#[test]
fn case_10_a_session_neither_sends_nor_receives_after_180_seconds() {
    let mut pair = Pair::new(1);
    pair.connect();
    // Only the responder sends, so that the initiator does not renew by sending; nothing of it arrives.
    pair.link.loss = 100;
    pair.run(secs(179));
    let late = [held(&mut pair, 1, b"late"), held(&mut pair, 1, b"too late")];
    pair.run(millis(700));
    assert_eq!(pair.inject(0, late[0].from, &late[0].bytes), None);
    pair.run(millis(200));
    assert_eq!(
        pair.inject(0, late[1].from, &late[1].bytes),
        Some(DropReason::SessionExpired)
    );
    pair.run(millis(200));
    for side in 0..2 {
        assert_eq!(
            pair.send(side, b"no session"),
            Err(NotSent::Queued),
            "{side}"
        );
    }
    assert_eq!(pair.payloads(0), [b"late"]);
}

#[test]
fn case_11_the_longest_prefix_of_the_source_must_be_the_senders() {
    let mut pair = Pair::new(1);
    pair.connect();
    let now = pair.now;
    let wide = PeerConfig {
        allowed_ips: vec!["0.0.0.0/0".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
        ..pair.sides[1].peer.clone()
    };
    let side = &mut pair.sides[1].overlay;
    side.set_peer(now, NETWORK, wide).unwrap();
    for (number, prefix) in [(3, "10.9.0.0/16"), (4, "10.9.9.9/32")] {
        let key = PrivateKey::from_random([number; 32]).public();
        side.set_peer(now, NETWORK, peer(key, None, &[prefix]))
            .unwrap();
    }
    let to = pair.sides[1].inner;
    for (source, arrives) in [
        ("10.0.0.1", true),
        ("8.8.8.8", true),
        ("10.9.0.1", false),
        ("10.9.9.9", false),
    ] {
        pair.sides[1].received.clear();
        pair.send_packet(0, &ipv4(source.parse().unwrap(), to, b""))
            .unwrap();
        pair.run(millis(10));
        assert_eq!(
            pair.sides[1].received.len(),
            usize::from(arrives),
            "{source}"
        );
    }
    let drops = pair.sides[1]
        .overlay
        .peer(NETWORK, &pair.sides[0].key.public());
    assert_eq!(drops.unwrap().drops, [(DropReason::ForbiddenSource, 2)]);
}

#[test]
fn case_12_padding_goes_to_sixteen_but_not_past_the_mtu_and_is_stripped() {
    let mut pair = Pair::new(1);
    pair.connect();
    pair.run(secs(30));
    for len in [20, 31, 32, 33, 1400, 1408, 1409, 1419, 1420] {
        let packet = ipv4(pair.sides[0].inner, pair.sides[1].inner, &vec![7; len - 20]);
        pair.sides[1].received.clear();
        pair.send_packet(0, &packet).unwrap();
        let padded = len.next_multiple_of(16).min(MTU);
        let sent = last(&pair, 0, TRANSPORT).bytes.len();
        assert_eq!(sent, padded + 32, "{len}");
        assert_eq!(Overlay::sealed_len(len, MTU), padded + 32);
        pair.run(millis(10));
        assert_eq!(pair.sides[1].received[0].1, packet);
    }
}

#[test]
fn case_18_reserved_bytes_are_zero_unless_agreed() {
    // Without the option: what we send is zero, what is not zero is no message.
    let mut pair = Pair::new(1);
    pair.connect();
    assert!(
        pair.log
            .iter()
            .all(|datagram| datagram.bytes[1..4] == [0; 3])
    );
    let mut data = held(&mut pair, 0, b"data");
    data.bytes[2] = 7;
    assert_eq!(
        pair.inject(1, data.from, &data.bytes),
        Some(DropReason::UnknownType)
    );

    // With it on both sides: in every message of ours, and the peer may use the same or zeros.
    let mut pair = Pair::with(1, |_, peer| peer.reserved = [1, 2, 255]);
    pair.sides[1].overlay.set_under_load(true);
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    pair.run(secs(6));
    assert_eq!(pair.payloads(1), [b"data"]);
    for datagram in &pair.log {
        let expected = if datagram.kind() == COOKIE_REPLY {
            [0; 3]
        } else {
            [1, 2, 255]
        };
        assert_eq!(datagram.bytes[1..4], expected, "{}", datagram.kind());
    }
    for (bytes, expected) in [
        ([0, 0, 0], None),
        ([1, 2, 254], Some(DropReason::ReservedBytes)),
    ] {
        let mut data = held(&mut pair, 0, b"data");
        data.bytes[1..4].copy_from_slice(&bytes);
        assert_eq!(pair.inject(1, data.from, &data.bytes), expected);
    }
    // On one side only: the other takes it for garbage.
    let mut pair = Pair::with(1, |side, peer| {
        peer.reserved = if side == 0 { [9; 3] } else { [0; 3] };
    });
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    pair.run(secs(1));
    assert_eq!(pair.dropped(1, DropReason::UnknownType), 1);
    // The option is gone with the peer that had it.
    let (now, key) = (pair.now, pair.sides[1].key.public());
    let plain = PeerConfig {
        reserved: [0; 3],
        ..pair.sides[0].peer.clone()
    };
    pair.sides[0].overlay.remove_peer(NETWORK, &key).unwrap();
    pair.sides[0].overlay.set_peer(now, NETWORK, plain).unwrap();
    assert_eq!(
        pair.inject(0, stranger(), &[&[4, 9, 9, 9][..], &[0; 40]].concat()),
        Some(DropReason::UnknownType)
    );
}

#[test]
fn case_20_congestion_marks_go_out_and_come_in_and_handshakes_are_marked() {
    let mut pair = Pair::new(1);
    let (now, unix) = (pair.now, pair.unix());
    let [from, to] = [0, 1].map(|side| pair.sides[side].addr);
    let packet = |ecn: u8| {
        let mut packet = ipv4(
            "10.0.0.1".parse().unwrap(),
            "10.0.0.2".parse().unwrap(),
            b"",
        );
        packet[1] = 0xB8 | ecn;
        packet
    };
    let seal = |pair: &mut Pair, ecn: u8| {
        let mut buf = vec![0; Overlay::sealed_len(20, MTU)];
        buf[16..36].copy_from_slice(&packet(ecn));
        let sealed = pair.sides[0]
            .overlay
            .encapsulate(now, unix, NETWORK, &mut buf, 20);
        (sealed, buf)
    };
    // The handshake is AF41, what waited for it has its own mark and no DSCP.
    assert_eq!(seal(&mut pair, 2).0, Err(NotSent::Queued));
    let mut out = Vec::new();
    let mut step = |pair: &mut Pair, side: usize| {
        let outgoing = pair.sides[side]
            .overlay
            .poll_datagram(now, unix, &mut out)
            .unwrap();
        let other = 1 - side;
        let _ = pair.sides[other]
            .overlay
            .handle_datagram(now, unix, [from, to][side], &mut out);
        outgoing.mark
    };
    assert_eq!(step(&mut pair, 0), Mark::Handshake);
    assert_eq!(step(&mut pair, 1), Mark::Handshake);
    assert_eq!(step(&mut pair, 0), Mark::Data(Ecn::Ect0));
    assert_eq!(Mark::Handshake.class(), 0x88);
    assert_eq!(Mark::Data(Ecn::Ect0).class(), 2);
    // Out: a copy of the inner mark. In: RFC 6040.
    for (inner, outer, expected) in [
        (0, Ecn::NotEct, Some(0)),
        (0, Ecn::Ce, None),
        (2, Ecn::Ce, Some(3)),
        (1, Ecn::Ce, Some(3)),
        (2, Ecn::Ect0, Some(2)),
        (3, Ecn::NotEct, Some(3)),
    ] {
        let (sealed, mut buf) = seal(&mut pair, inner);
        assert_eq!(sealed.unwrap().ecn.bits(), inner);
        let received = pair.sides[1]
            .overlay
            .handle_marked(now, unix, from, outer, &mut buf);
        let got = match received {
            Received::Packet { packet, .. } => Some(packet[1]),
            Received::Dropped(DropReason::CongestionLoss) => None,
            other @ (Received::Handled | Received::Dropped(_)) => panic!("{other:?}"),
        };
        assert_eq!(got, expected.map(|ecn| 0xB8 | ecn), "{inner} {outer:?}");
    }
}

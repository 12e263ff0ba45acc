// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What arrives from strangers: MACs, cookies, weak keys, odd lengths, floods.

use super::*;

#[test]
fn case_02_mac1_is_demanded_with_and_without_load_and_before_any_curve_arithmetic() {
    for loaded in [false, true] {
        let mut pair = Pair::new(1);
        let keys = [0, 1].map(|side| pair.sides[side].key.public());
        for side in &mut pair.sides {
            side.overlay.set_under_load(loaded);
        }
        assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
        let mut initiation = last(&pair, 0, INITIATION).bytes;
        initiation[116] ^= 1;
        assert_eq!(
            pair.inject(1, stranger(), &initiation),
            Some(DropReason::WrongMac1)
        );
        // With an ephemeral key of low order any arithmetic would have said so.
        initiation[8..40].fill(0);
        assert_eq!(
            pair.inject(1, stranger(), &initiation),
            Some(DropReason::WrongMac1)
        );
        // mac1 for another key is none.
        sign(&keys[0], &mut initiation);
        assert_eq!(
            pair.inject(1, stranger(), &initiation),
            Some(DropReason::WrongMac1)
        );
        let mut response = vec![0; 92];
        response[0] = RESPONSE;
        response[8..12].copy_from_slice(&initiation[4..8]);
        assert_eq!(
            pair.inject(0, stranger(), &response),
            Some(DropReason::WrongMac1)
        );
        assert!(pair.log.iter().all(|datagram| datagram.side == 0));
    }
}

#[test]
fn case_02_a_cookie_is_bound_to_address_and_port_and_its_secret_changes() {
    for moved in [
        "192.0.2.1:9993",
        "192.0.2.1:9994",
        "192.0.2.9:9993",
        "[2001:db8::9]:9993",
    ] {
        let mut pair = Pair::new(1);
        pair.sides[1].overlay.set_under_load(true);
        assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
        pair.run(secs(4));
        assert_eq!(pair.dropped(1, DropReason::CookieDemanded), 1);
        let unmoved = pair.sides[0].addr == moved.parse().unwrap();
        pair.sides[0].addr = moved.parse().unwrap();
        pair.run(millis(1_500));
        let demanded = pair.dropped(1, DropReason::CookieDemanded);
        assert_eq!(demanded, if unmoved { 1 } else { 2 }, "{moved}");
        assert_eq!(pair.payloads(1).len(), usize::from(unmoved), "{moved}");
    }

    // The secret is two minutes old when the cookie, half a minute old, is used.
    let mut pair = Pair::new(1);
    pair.sides[1].overlay.set_under_load(true);
    pair.link.loss = 100;
    let _ = pair.send(0, b"data");
    let first = last(&pair, 0, INITIATION).bytes;
    pair.inject(1, stranger(), &first);
    pair.run(secs(95));
    pair.link.loss = 0;
    let _ = pair.send(0, b"data");
    pair.run(secs(1));
    assert_eq!(pair.dropped(1, DropReason::CookieDemanded), 2);
    pair.link.loss = 100;
    pair.run(secs(26));
    pair.link.loss = 0;
    pair.run(millis(5_340));
    let used = last(&pair, 0, INITIATION);
    assert!(used.at - pair.start > secs(120) && used.bytes[132..] != [0; 16]);
    assert_eq!(pair.dropped(1, DropReason::CookieDemanded), 3);
    pair.run(secs(6));
    assert!(!pair.payloads(1).is_empty(), "the next cookie does it");
}

#[test]
fn case_02_a_cookie_reply_answers_the_mac1_it_was_made_for() {
    let mut pair = Pair::new(1);
    pair.sides[1].overlay.set_under_load(true);
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    pair.link.loss = 100;
    pair.run(millis(6));
    let reply = last(&pair, 1, COOKIE_REPLY).bytes;
    pair.run(secs(6));
    // Another initiation has been sent since, with another index and another mac1.
    let mut replayed = reply.clone();
    replayed[4..8].copy_from_slice(&last(&pair, 0, INITIATION).bytes[4..8]);
    assert_eq!(
        pair.inject(0, stranger(), &replayed),
        Some(DropReason::Forged)
    );
    assert_eq!(
        pair.inject(0, stranger(), &reply),
        Some(DropReason::UnknownIndex)
    );
}

#[test]
fn case_03_a_cookie_works_only_from_the_address_that_received_it() {
    let mut pair = Pair::new(1);
    pair.sides[1].overlay.set_under_load(true);
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    pair.run(secs(4));
    pair.link.loss = 100;
    pair.run(secs(2));
    let with_cookie = last(&pair, 0, INITIATION);
    assert_ne!(with_cookie.bytes[132..], [0; 16]);
    assert_eq!(
        pair.inject(1, stranger(), &with_cookie.bytes),
        Some(DropReason::CookieDemanded)
    );
    assert!(pair.sent(1, RESPONSE, pair.start).is_empty());
    assert_eq!(pair.inject(1, with_cookie.from, &with_cookie.bytes), None);
    assert_eq!(pair.sent(1, RESPONSE, pair.start).len(), 1);
}

#[test]
fn case_03_under_load_a_source_has_its_share_and_no_more() {
    // Many peers behind one address, all with a cookie: only the first five get a handshake at once.
    let now = origin();
    let unix = secs(1_700_000_000);
    let key = |number: u8| PrivateKey::from_random([number; 32]);
    let mut hub = Overlay::new([0; 32]);
    hub.add_network(NETWORK, key(200), MTU).unwrap();
    hub.set_under_load(true);
    let from: SocketAddr = "192.0.2.7:7".parse().unwrap();
    let to = "192.0.2.8:8".parse().unwrap();
    let (mut accepted, mut refused) = (0, 0);
    let mut out = Vec::new();
    for number in 1..=20 {
        hub.set_peer(now, NETWORK, peer(key(number).public(), None, &[]))
            .unwrap();
        let mut caller = Overlay::new([number; 32]);
        caller.add_network(NETWORK, key(number), MTU).unwrap();
        let mut config = peer(key(200).public(), Some(to), &[]);
        config.persistent_keepalive = Some(25);
        caller.set_peer(now, NETWORK, config).unwrap();
        caller.poll_transmit(now, unix, &mut out).unwrap();
        let _ = hub.handle_datagram(now, unix, from, &mut out);
        hub.poll_transmit(now, unix, &mut out).unwrap();
        assert!(matches!(
            caller.handle_datagram(now, unix, to, &mut out),
            Received::Handled
        ));
        let later = now + secs(6);
        caller.handle_timeout(later, unix);
        caller.poll_transmit(later, unix, &mut out).unwrap();
        match hub.handle_datagram(later, unix, from, &mut out) {
            Received::Handled => accepted += 1,
            Received::Dropped(DropReason::SourceRate) => refused += 1,
            other @ (Received::Packet { .. } | Received::Dropped(_)) => panic!("{other:?}"),
        }
        while hub.poll_transmit(later, unix, &mut out).is_some() {}
    }
    assert_eq!((accepted, refused), (5, 15));
}

#[test]
fn case_14_keys_of_low_order_are_refused_and_strangers_hear_nothing() {
    // The points of small order on the curve and its twist, and two of their other spellings.
    let low_order: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let mut pair = Pair::new(1);
    pair.link.loss = 100;
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    let keys = [0, 1].map(|side| pair.sides[side].key.public());
    let initiation = last(&pair, 0, INITIATION).bytes;
    for point in low_order {
        let point: Vec<u8> = (0..32)
            .map(|at| u8::from_str_radix(&point[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        let mut weak = initiation.clone();
        weak[8..40].copy_from_slice(&point);
        sign(&keys[1], &mut weak);
        assert_eq!(
            pair.inject(1, stranger(), &weak),
            Some(DropReason::LowOrderKey)
        );
        let mut response = vec![0; 92];
        response[0] = RESPONSE;
        response[8..12].copy_from_slice(&initiation[4..8]);
        response[12..44].copy_from_slice(&point);
        sign(&keys[0], &mut response);
        assert_eq!(
            pair.inject(0, stranger(), &response),
            Some(DropReason::LowOrderKey)
        );
        let now = pair.now;
        let weak = PublicKey::from_bytes(point.try_into().unwrap());
        let refused = pair.sides[0]
            .overlay
            .set_peer(now, NETWORK, peer(weak, None, &[]));
        assert_eq!(refused, Err(netcon_overlay::ConfigError::WeakKey));
    }
    // A key nobody knows: the right mac1, and not a word.
    let mut unknown = Overlay::new([9; 32]);
    unknown
        .add_network(NETWORK, PrivateKey::from_random([9; 32]), MTU)
        .unwrap();
    let mut config = peer(keys[1], Some(pair.sides[1].addr), &[]);
    config.persistent_keepalive = Some(25);
    unknown.set_peer(pair.now, NETWORK, config).unwrap();
    let mut out = Vec::new();
    unknown
        .poll_transmit(pair.now, pair.unix(), &mut out)
        .unwrap();
    let sent = pair.log.len();
    assert_eq!(
        pair.inject(1, stranger(), &out),
        Some(DropReason::UnknownPeer)
    );
    assert_eq!(pair.log.len(), sent);
    // The true handshake is not disturbed by any of it.
    let addr = pair.sides[0].addr;
    assert_eq!(pair.inject(1, addr, &initiation), None);
}

#[test]
fn case_15_datagrams_of_any_length_are_harmless() {
    let mut pair = Pair::new(1);
    pair.connect();
    let genuine = held(&mut pair, 0, b"genuine");
    let sent = pair.log.len();
    let lengths = (0..300).chain([1_500, 9_000, 65_507, 65_535, 65_536, 1 << 20]);
    for len in lengths {
        for kind in 0..6 {
            let mut bytes = genuine.bytes.clone();
            bytes.resize(len, 0xAA);
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if bytes != genuine.bytes {
                assert!(
                    pair.inject(1, genuine.from, &bytes).is_some(),
                    "{kind} {len}"
                );
            }
        }
    }
    assert_eq!(pair.log.len(), sent, "nothing was answered");
    assert_eq!(pair.inject(1, genuine.from, &genuine.bytes), None);
    assert_eq!(pair.payloads(1), [b"genuine"]);
}

#[test]
fn case_17_a_handshake_gets_through_while_data_floods_in_and_out() {
    let mut pair = Pair::new(1);
    pair.connect();
    let replayed = held(&mut pair, 0, b"flood");
    pair.restart(0);
    assert_eq!(pair.send(0, b"through"), Err(NotSent::Queued));
    // Before each step of the handshake a flood of data arrives, valid and not.
    for _ in 0..20 {
        for number in 0..500u64 {
            let mut bytes = replayed.bytes.clone();
            bytes[8..16].copy_from_slice(&number.to_le_bytes());
            let _ = pair.inject(1, stranger(), &bytes);
        }
        pair.run(millis(1));
    }
    assert_eq!(pair.payloads(1).last(), Some(&&b"through"[..]));
    assert_eq!(pair.sent(0, INITIATION, pair.start).len(), 2);

    // Out: one peer's waiting packets do not hold up the handshake of another.
    pair.now += secs(1);
    let now = pair.now;
    let unix = pair.unix();
    let other = PrivateKey::from_random([3; 32]).public();
    let side = &mut pair.sides[1].overlay;
    side.set_peer(
        now,
        NETWORK,
        peer(other, Some(stranger()), &["10.3.0.0/16"]),
    )
    .unwrap();
    pair.restart(0);
    for _ in 0..128 {
        let packet = ipv4(pair.sides[0].inner, pair.sides[1].inner, b"waits");
        let mut buf = vec![0; Overlay::sealed_len(packet.len(), MTU)];
        buf[16..16 + packet.len()].copy_from_slice(&packet);
        let overlay = &mut pair.sides[0].overlay;
        let _ = overlay.encapsulate(now, unix, NETWORK, &mut buf, packet.len());
    }
    let mut config = peer(other, Some(stranger()), &["10.3.0.0/16"]);
    config.persistent_keepalive = Some(25);
    let mut out = Vec::new();
    let overlay = &mut pair.sides[0].overlay;
    overlay.poll_transmit(now, unix, &mut out).unwrap();
    let _ = pair.sides[1].overlay.handle_datagram(
        now,
        unix,
        "192.0.2.1:9993".parse().unwrap(),
        &mut out,
    );
    pair.sides[1]
        .overlay
        .poll_transmit(now, unix, &mut out)
        .unwrap();
    let overlay = &mut pair.sides[0].overlay;
    let _ = overlay.handle_datagram(now, unix, "[2001:db8::2]:51820".parse().unwrap(), &mut out);
    overlay.set_peer(now, NETWORK, config).unwrap();
    let sent: Vec<_> = (0..2)
        .map(|_| {
            overlay.poll_transmit(now, unix, &mut out).unwrap();
            out[0]
        })
        .collect();
    assert!(sent.contains(&INITIATION), "{sent:?}");
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Handshakes: who may send when, timestamps, retries, two at once, indices, preshared keys.

use super::*;

#[test]
fn case_01_the_responder_sends_with_a_new_keypair_only_after_data_on_it() {
    let mut pair = Pair::new(1);
    assert_eq!(pair.send(0, b"first"), Err(NotSent::Queued));
    pair.run(millis(7));
    assert_eq!(pair.sent(1, RESPONSE, pair.start).len(), 1);
    assert_eq!(pair.send(1, b"too early"), Err(NotSent::Queued));
    assert!(pair.sent(1, TRANSPORT, pair.start).is_empty());
    pair.run(millis(10));
    assert_eq!(pair.payloads(1), [b"first"]);
    pair.run(millis(10));
    assert_eq!(pair.payloads(0), [b"too early"]);

    // During a renewal the responder goes on with the old keypair until then.
    let mut pair = Pair::new(1);
    pair.connect();
    let old = receiver(&last(&pair, 1, TRANSPORT));
    pair.run(secs(121));
    pair.send(0, b"renews").unwrap();
    pair.run(millis(7));
    assert_eq!(pair.sent(1, RESPONSE, pair.start).len(), 2);
    pair.send(1, b"still the old one").unwrap();
    assert_eq!(receiver(&last(&pair, 1, TRANSPORT)), old);
    pair.run(millis(20));
    pair.send(1, b"the new one").unwrap();
    assert_ne!(receiver(&last(&pair, 1, TRANSPORT)), old);
    pair.run(millis(10));
    assert_eq!(pair.payloads(0).len(), 2);
}

#[test]
fn case_01_the_initiator_confirms_at_once_with_a_keepalive_if_nothing_waits() {
    let mut pair = Pair::with(1, |side, peer| {
        peer.persistent_keepalive = (side == 0).then_some(25);
    });
    pair.run(millis(10));
    let response = last(&pair, 1, RESPONSE);
    let confirmation = last(&pair, 0, TRANSPORT);
    assert_eq!(confirmation.bytes.len(), KEEPALIVE);
    assert_eq!(confirmation.at, response.at + pair.link.delay);
    pair.run(millis(10));
    pair.send(1, b"may send now").unwrap();
}

#[test]
fn case_06_a_timestamp_must_be_greater_than_any_before_across_sessions() {
    let mut pair = Pair::new(1);
    pair.connect();
    let first = last(&pair, 0, INITIATION);
    pair.run(secs(700));
    assert_eq!(
        pair.inject(1, first.from, &first.bytes),
        Some(DropReason::OldInitiation)
    );
    // A peer that comes back with its clock behind is refused until the clock has caught up.
    pair.restart(0);
    pair.behind[0] = secs(760);
    let _ = pair.send(0, b"back");
    pair.run(secs(30));
    assert!(pair.dropped(1, DropReason::OldInitiation) > 3);
    assert!(pair.payloads(1).is_empty());
    pair.run(secs(40));
    assert_eq!(pair.payloads(1), [b"back"]);
}

#[test]
fn case_06_our_own_timestamps_go_back_neither_with_the_clock_nor_over_a_restart() {
    let mut pair = Pair::new(1);
    pair.connect();
    pair.run(secs(700));
    pair.behind[0] = secs(86_400);
    assert_eq!(pair.send(0, b"the clock went back"), Err(NotSent::Queued));
    pair.run(millis(50));
    assert_eq!(pair.payloads(1), [b"the clock went back"]);
    // The same over a restart, if the next life is told.
    let remembered = pair.sides[0].overlay.own_time();
    pair.restart(0);
    pair.sides[0].overlay.set_least_time(remembered + secs(1));
    let _ = pair.send(0, b"restarted");
    pair.run(millis(50));
    assert_eq!(pair.payloads(1).last(), Some(&&b"restarted"[..]));
}

#[test]
fn case_06_the_greatest_timestamp_seen_survives_a_restart() {
    let mut pair = Pair::new(1);
    assert!(!pair.sides[1].overlay.take_timestamps_changed());
    pair.connect();
    assert!(pair.sides[1].overlay.take_timestamps_changed());
    assert!(!pair.sides[1].overlay.take_timestamps_changed());
    let first = last(&pair, 0, INITIATION);
    let remembered = pair.sides[1].overlay.timestamps(NETWORK);
    assert_eq!(remembered.len(), 1);
    for told in [false, true] {
        pair.restart(1);
        if told {
            for (key, timestamp) in &remembered {
                pair.sides[1]
                    .overlay
                    .restore_timestamp(NETWORK, key, *timestamp);
            }
        }
        let expected = told.then_some(DropReason::OldInitiation);
        assert_eq!(pair.inject(1, stranger(), &first.bytes), expected);
    }
    assert_eq!(pair.status(1).endpoint, Some(pair.sides[0].addr));
}

#[test]
fn case_07_a_handshake_is_tried_every_five_seconds_for_ninety_and_begins_again() {
    let mut pair = Pair::new(1);
    pair.link.loss = 100;
    assert_eq!(pair.send(0, b"lost"), Err(NotSent::Queued));
    pair.run(secs(300));
    let tries = pair.sent(0, INITIATION, pair.start);
    assert!((17..=19).contains(&tries.len()), "{}", tries.len());
    assert!(tries[tries.len() - 1].at - pair.start <= secs(90));
    let gaps: HashSet<_> = tries.windows(2).map(|two| two[1].at - two[0].at).collect();
    let bounds = secs(5)..=secs(5) + millis(333);
    assert!(gaps.iter().all(|gap| bounds.contains(gap)), "{gaps:?}");
    assert!(gaps.len() > 5, "jitter");
    assert_eq!(pair.dropped(0, DropReason::HandshakeTimeout), 1);
    assert_eq!(pair.status(0).waiting, 0);
    pair.link.loss = 0;
    assert_eq!(pair.send(0, b"again"), Err(NotSent::Queued));
    pair.run(millis(50));
    assert_eq!(pair.payloads(1), [b"again"], "what was given up stays away");
}

#[test]
fn case_07_a_persistent_keepalive_begins_again_what_was_given_up() {
    let mut pair = Pair::with(1, |side, peer| {
        peer.persistent_keepalive = (side == 0).then_some(25);
    });
    pair.link.loss = 100;
    pair.run(secs(100));
    let given_up = pair.sent(0, INITIATION, pair.start).len();
    pair.run(secs(20));
    assert!(pair.sent(0, INITIATION, pair.start).len() > given_up);
    pair.link.loss = 0;
    pair.run(secs(6));
    assert!(pair.status(1).last_handshake.is_some());
}

#[test]
fn case_07_the_caller_hears_of_a_peer_that_does_not_answer() {
    let mut pair = Pair::new(1);
    let name = pair.sides[1].key.public();
    pair.link.loss = 100;
    let _ = pair.send(0, b"lost");
    pair.run(secs(9));
    assert_eq!(pair.sides[0].overlay.poll_unanswered(), None);
    pair.run(secs(4));
    assert_eq!(
        pair.sides[0].overlay.poll_unanswered(),
        Some((NETWORK, name))
    );
    assert_eq!(pair.sides[0].overlay.poll_unanswered(), None);
    pair.run(secs(25));
    assert_eq!(pair.sides[0].overlay.poll_unanswered(), None);
    pair.run(secs(8));
    assert_eq!(
        pair.sides[0].overlay.poll_unanswered(),
        Some((NETWORK, name))
    );
    assert!(pair.status(0).unanswered >= 9);
    pair.link.loss = 0;
    pair.run(secs(6));
    assert_eq!(pair.status(0).unanswered, 0);
    assert_eq!(pair.sides[0].overlay.poll_unanswered(), None);
}

#[test]
fn case_08_both_sides_may_begin_at_once_and_both_keypairs_decrypt() {
    for first in 0..2 {
        let mut pair = Pair::new(1);
        // Both initiations cross.
        assert_eq!(pair.send(0, b"from 0"), Err(NotSent::Queued));
        assert_eq!(pair.send(1, b"from 1"), Err(NotSent::Queued));
        pair.link.loss = 100;
        pair.run(millis(6));
        let responses = [0, 1].map(|side| last(&pair, side, RESPONSE));
        // The responses arrive one after the other, with data of the one's session before the other completes.
        let order = [first, 1 - first];
        for side in order {
            assert_eq!(
                pair.inject(side, responses[1 - side].from, &responses[1 - side].bytes),
                None
            );
        }
        let data = [0, 1].map(|side| last(&pair, side, TRANSPORT));
        assert_ne!(data[0].bytes[4..8], responses[0].bytes[4..8]);
        for side in 0..2 {
            let sent = &data[1 - side];
            assert_eq!(
                pair.inject(side, sent.from, &sent.bytes),
                None,
                "{first} {side}"
            );
        }
        assert_eq!(pair.payloads(0), [b"from 1"]);
        assert_eq!(pair.payloads(1), [b"from 0"]);
        pair.link.loss = 0;
        for side in 0..2 {
            pair.send(side, b"goes on").unwrap();
            pair.run(millis(50));
            assert_eq!(pair.payloads(1 - side).last(), Some(&&b"goes on"[..]));
        }
        assert_eq!(pair.sent(0, INITIATION, pair.start).len(), 1);
        assert_eq!(pair.sent(1, INITIATION, pair.start).len(), 1);
    }
}

#[test]
fn case_13_indices_are_random_unique_and_live_as_long_as_their_keypair() {
    let mut pair = Pair::new(1);
    pair.connect();
    let mut old = Vec::new();
    for _ in 0..3 {
        old.push(held(&mut pair, 0, b"old"));
        pair.send(1, b"heard").unwrap();
        pair.run(secs(121));
        pair.send(0, b"renews").unwrap();
        pair.run(secs(1));
        pair.send(1, b"answer").unwrap();
        pair.run(secs(1));
    }
    let mut indices = HashSet::new();
    for datagram in &pair.log {
        if datagram.kind() == INITIATION || datagram.kind() == RESPONSE {
            let index = u32::from_le_bytes(receiver(datagram));
            assert!(indices.insert(index), "an index is used again");
        }
    }
    assert_eq!(indices.len(), 8);
    // Random: neither small nor near each other.
    assert!(indices.iter().any(|index| *index > 1 << 31));
    assert!(indices.iter().any(|index| *index < 1 << 31));
    // The previous keypair still has its index, the one before has not.
    for (datagram, expected) in old.iter().zip([
        Some(DropReason::UnknownIndex),
        Some(DropReason::UnknownIndex),
        None,
    ]) {
        assert_eq!(pair.inject(1, datagram.from, &datagram.bytes), expected);
    }
    pair.run(secs(1000));
    for side in &pair.sides {
        assert!(format!("{:?}", side.overlay).contains("indices: 0"));
    }
}

#[test]
fn case_16_a_preshared_key_takes_effect_with_the_next_handshake() {
    let mut pair = Pair::new(1);
    pair.connect();
    let change = |pair: &mut Pair, side: usize, byte: Option<u8>| {
        let config = PeerConfig {
            preshared_key: byte.and_then(preshared),
            ..pair.sides[side].peer.clone()
        };
        let now = pair.now;
        pair.sides[side]
            .overlay
            .set_peer(now, NETWORK, config)
            .unwrap();
    };
    change(&mut pair, 0, Some(5));
    pair.send(0, b"the session lives").unwrap();
    pair.run(millis(50));
    assert_eq!(pair.payloads(1), [b"the session lives"]);
    // The next handshake fails until the other side has it as well; the session goes on meanwhile.
    pair.run(secs(121));
    pair.send(0, b"renews").unwrap();
    pair.run(secs(3));
    assert_eq!(pair.dropped(0, DropReason::Forged), 1);
    pair.send(0, b"meanwhile").unwrap();
    change(&mut pair, 1, Some(5));
    pair.run(secs(6));
    let renewed = pair.status(0).last_handshake.unwrap();
    assert!(renewed > secs(1_700_000_120));
    // Thirty-two zero bytes are the same as none.
    change(&mut pair, 0, Some(0));
    change(&mut pair, 1, None);
    pair.run(secs(121));
    pair.send(0, b"renews").unwrap();
    pair.run(secs(2));
    assert!(pair.status(0).last_handshake.unwrap() > renewed);
}

#[test]
fn case_19_a_late_response_is_dropped_and_the_handshake_goes_on() {
    let mut pair = Pair::new(1);
    assert_eq!(pair.send(0, b"data"), Err(NotSent::Queued));
    // The response dawdles; meanwhile the initiation is sent again, and with it another handshake begun.
    pair.run(millis(6));
    let late = last(&pair, 1, RESPONSE);
    let mut pair = {
        let mut again = Pair::new(1);
        again.link.loss = 100;
        let _ = again.send(0, b"data");
        let same = last(&again, 0, INITIATION).bytes == last(&pair, 0, INITIATION).bytes;
        assert!(same, "the same seed gives the same handshake");
        again
    };
    pair.run(secs(6));
    assert_eq!(pair.sent(0, INITIATION, pair.start).len(), 2);
    assert_eq!(
        pair.inject(0, late.from, &late.bytes),
        Some(DropReason::UnknownIndex)
    );
    assert!(pair.sent(0, TRANSPORT, pair.start).is_empty());
    pair.link.loss = 0;
    pair.run(secs(6));
    assert_eq!(pair.payloads(1), [b"data"]);
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recorded conversations with another implementation of the protocol: our messages must be the same bytes again, and
//! theirs must still open. vectors/generator records them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::{Duration, Instant};

use common::*;
use netcon_overlay::{DropReason, NotSent, Overlay, PrivateKey, Received};

const UNIX: Duration = Duration::from_secs(1_700_000_000);

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

/// Our side of a case: `<preshared key byte or none> <who begins>`.
fn begin(now: Instant, case: &str) -> Overlay {
    let (key, beginner) = case.split_once(' ').unwrap();
    let theirs = PrivateKey::from_bytes([2; 32]).public();
    let mut config = peer(
        theirs,
        Some("192.0.2.2:1".parse().unwrap()),
        &["10.0.0.2/32"],
    );
    config.preshared_key = preshared_byte(key).and_then(preshared);
    let mut overlay = Overlay::new([5; 32]);
    overlay
        .add_network(NETWORK, PrivateKey::from_random([1; 32]), MTU)
        .unwrap();
    overlay.set_peer(now, NETWORK, config).unwrap();
    if beginner == "ours" {
        let packet = ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), b"ours 1");
        let mut buf = vec![0; Overlay::sealed_len(packet.len(), MTU)];
        buf[16..16 + packet.len()].copy_from_slice(&packet);
        let sent = overlay.encapsulate(now, UNIX, NETWORK, &mut buf, packet.len());
        assert_eq!(sent, Err(NotSent::Queued));
    }
    overlay
}

fn preshared_byte(text: &str) -> Option<u8> {
    (text != "none").then(|| u8::from_str_radix(text, 16).unwrap())
}

#[test]
fn conversations_with_boringtun() {
    let mut now = origin();
    let from = "192.0.2.2:1".parse().unwrap();
    let mut overlay = Overlay::new([0; 32]);
    let (mut datagram, mut arrived, mut cases) = (Vec::new(), Vec::new(), 0);
    for line in include_str!("vectors/boringtun.txt").lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" | "#" => {}
            "case" => {
                overlay = begin(now, rest);
                cases += 1;
            }
            "ours" => {
                assert!(overlay.poll_transmit(now, UNIX, &mut datagram).is_some());
                assert_eq!(datagram, hex(rest));
            }
            "theirs" => {
                let mut bytes = hex(rest);
                arrived = match overlay.handle_datagram(now, UNIX, from, &mut bytes) {
                    Received::Packet { packet, .. } => packet[20..].to_vec(),
                    Received::Handled => Vec::new(),
                    Received::Dropped(reason) => panic!("{reason:?}: {line}"),
                };
            }
            "refused" => {
                let mut bytes = hex(rest);
                let received = overlay.handle_datagram(now, UNIX, from, &mut bytes);
                assert!(matches!(
                    received,
                    Received::Dropped(DropReason::CookieDemanded)
                ));
            }
            "packet" => assert_eq!(arrived, rest.as_bytes()),
            "loaded" => overlay.set_under_load(true),
            "after" => {
                now += secs(rest.parse().unwrap());
                overlay.handle_timeout(now, UNIX);
            }
            _ => panic!("{line}"),
        }
    }
    assert_eq!(cases, 6);
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two overlays: messages that nobody sent, and any order of messages, time and configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netcon_overlay::{
    IpPrefix, NetworkIndex, Overlay, PeerConfig, PresharedKey, PrivateKey, Received,
};

use super::epoch;
use super::feed::Feed;

const NET: NetworkIndex = NetworkIndex(1);
const MTU: usize = 1420;
/// Datagrams that wait to be delivered; the oldest gives way.
const MAX_FLYING: usize = 64;
const MAX_WAITING: usize = 128;

#[derive(Clone)]
struct Flying {
    to: usize,
    bytes: Vec<u8>,
    /// As it was sent.
    original: Vec<u8>,
}

impl Flying {
    /// Nobody has changed it, or only mac2, at which nobody looks without load.
    fn is_whole(&self) -> bool {
        let looked_at = match self.original.len() {
            len @ (148 | 92) => len - 16,
            len => len,
        };
        self.bytes.len() == self.original.len()
            && self.bytes[..looked_at] == self.original[..looked_at]
    }
}

struct Pair {
    now: Instant,
    unix: Duration,
    sides: [Overlay; 2],
    flying: Vec<Flying>,
    /// Inner packets of each side that may still arrive, by their number.
    sent: [BTreeMap<u32, u32>; 2],
    next: u32,
    restarts: u32,
}

fn key(side: usize) -> PrivateKey {
    PrivateKey::from_random([u8::try_from(side + 1).unwrap_or(0); 32])
}

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, u8::try_from(side + 1).unwrap_or(0)], 9993))
}

fn config(side: usize, preshared: u8, keepalive: u16) -> PeerConfig {
    let host = u8::try_from(2 - side).unwrap_or(0);
    PeerConfig {
        public_key: key(1 - side).public(),
        preshared_key: (preshared > 0).then(|| PresharedKey::from_bytes([preshared; 32])),
        endpoint: Some(address(1 - side)),
        allowed_ips: vec![IpPrefix::host([10, 0, 0, host].into())],
        persistent_keepalive: Some(keepalive),
        reserved: [0; 3],
    }
}

impl Pair {
    fn new() -> Self {
        let now = epoch();
        let sides = [0, 1].map(|side| {
            let mut overlay = Overlay::new([u8::try_from(side).unwrap_or(0) + 7; 32]);
            let added = overlay.add_network(NET, key(side), MTU);
            assert_eq!(added, Ok(()));
            assert_eq!(overlay.set_peer(now, NET, config(side, 0, 0)), Ok(()));
            overlay
        });
        Self {
            now,
            unix: Duration::from_secs(1_700_000_000),
            sides,
            flying: Vec::new(),
            sent: [BTreeMap::new(), BTreeMap::new()],
            next: 0,
            restarts: 0,
        }
    }

    /// An inner packet from `side`, with its number in it.
    fn send(&mut self, side: usize, len: usize, honest: bool) {
        let len = len.clamp(28, MTU);
        let mut buffer = vec![0; Overlay::sealed_len(len, MTU)];
        self.next += 1;
        let packet = &mut buffer[Overlay::HEADROOM..Overlay::HEADROOM + len];
        packet[0] = 0x45;
        let total = u16::try_from(len).unwrap_or(0);
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        let own = u8::try_from(side + 1).unwrap_or(0);
        packet[12..16].copy_from_slice(&[10, 0, 0, if honest { own } else { 3 - own }]);
        packet[16..20].copy_from_slice(&[10, 0, 0, 3 - own]);
        packet[20..24].copy_from_slice(&self.next.to_be_bytes());
        let sealed = self.sides[side].encapsulate(self.now, self.unix, NET, &mut buffer, len);
        if honest {
            self.sent[side].insert(self.next, 1);
        }
        if let Ok(sealed) = sealed {
            buffer.truncate(sealed.len);
            self.fly(1 - side, buffer);
        }
    }

    fn fly(&mut self, to: usize, bytes: Vec<u8>) {
        if self.flying.len() >= MAX_FLYING {
            self.flying.remove(0);
        }
        let original = bytes.clone();
        self.flying.push(Flying {
            to,
            bytes,
            original,
        });
    }

    fn flush(&mut self) {
        let mut out = Vec::new();
        for side in 0..2 {
            let mut count = 0;
            while self.sides[side]
                .poll_transmit(self.now, self.unix, &mut out)
                .is_some()
            {
                count += 1;
                assert!(count < 1000, "no end of messages");
                self.fly(1 - side, out.clone());
            }
            for peer in self.sides[side].peer_status(NET) {
                assert!(peer.waiting <= MAX_WAITING, "too many packets wait");
            }
        }
    }

    fn arrive(&mut self, flying: &Flying) {
        let from = address(1 - flying.to);
        self.deliver(flying.to, from, &flying.bytes, flying.is_whole());
    }

    fn deliver(&mut self, to: usize, from: SocketAddr, bytes: &[u8], whole: bool) {
        let mut bytes = bytes.to_vec();
        let received = self.sides[to].handle_datagram(self.now, self.unix, from, &mut bytes);
        if let Received::Packet { peer, packet, .. } = received {
            assert!(whole, "a changed message was accepted");
            assert_eq!(peer, key(1 - to).public());
            let number = packet.get(20..24).and_then(|b| b.try_into().ok());
            let number = number.map_or(0, u32::from_be_bytes);
            let count = self.sent[1 - to].get_mut(&number);
            assert!(
                count.is_some_and(|count| std::mem::take(count) == 1),
                "packet {number} was not sent, or has arrived before"
            );
        }
        self.flush();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.unix += time;
        for side in &mut self.sides {
            side.handle_timeout(self.now, self.unix);
        }
        self.flush();
    }

    /// Delivers everything, in order, until both are silent.
    fn settle(&mut self) {
        for _ in 0..20 {
            for flying in std::mem::take(&mut self.flying) {
                self.arrive(&flying);
            }
        }
    }
}

/// Datagrams made of the input, before, during and after a handshake. Nothing may come of them.
pub fn overlay_messages(input: &[u8]) {
    let mut feed = Feed::new(input);
    let mut pair = Pair::new();
    let how_far = feed.byte();
    if !how_far.is_multiple_of(4) {
        pair.send(0, 100, true);
        pair.flush();
    }
    if how_far % 4 > 1 {
        pair.settle();
    }
    pair.sides[1].set_under_load(how_far & 8 != 0);
    while !feed.is_empty() {
        let to = usize::from(feed.byte() & 1);
        let from = SocketAddr::from(([198, 51, 100, feed.byte()], feed.u16()));
        let like = feed.byte();
        let mut bytes = if like & 1 == 0 || pair.flying.is_empty() {
            feed.chunk().to_vec()
        } else {
            // A true message with other bytes in it.
            let at = usize::from(like >> 1) % pair.flying.len();
            let mut bytes = pair.flying[at].bytes.clone();
            let place = feed.below(bytes.len().max(1));
            for (old, new) in bytes[place..].iter_mut().zip(feed.take(4)) {
                *old = *new;
            }
            bytes
        };
        if like & 0x80 != 0
            && let Some(reserved) = bytes.get_mut(1..4)
        {
            reserved.fill(0);
        }
        let whole = pair.flying.iter().any(|flying| flying.bytes == bytes);
        pair.deliver(to, from, &bytes, whole);
    }
    // They still understand each other, unless a true message was used up meanwhile.
    pair.pass(Duration::from_secs(1));
}

/// Steps chosen by the input.
pub fn overlay_machine(input: &[u8]) {
    let mut feed = Feed::new(input);
    let mut pair = Pair::new();
    while !feed.is_empty() {
        let step = feed.byte();
        let side = usize::from(step >> 7);
        match step & 0x1f {
            0..=3 => pair.send(side, feed.below(MTU + 1), true),
            4 => pair.send(side, feed.below(MTU + 1), false),
            5..=9 => {
                if !pair.flying.is_empty() {
                    let at = feed.below(pair.flying.len());
                    let flying = pair.flying.remove(at);
                    pair.arrive(&flying);
                }
            }
            10 => {
                // Once now, once later.
                if !pair.flying.is_empty() {
                    let at = feed.below(pair.flying.len());
                    let flying = pair.flying[at].clone();
                    pair.arrive(&flying);
                }
            }
            11 => {
                if !pair.flying.is_empty() {
                    let at = feed.below(pair.flying.len());
                    pair.flying.remove(at);
                }
            }
            12 => {
                if !pair.flying.is_empty() {
                    let at = feed.below(pair.flying.len());
                    let flying = &mut pair.flying[at];
                    let place = feed.below(flying.bytes.len().max(1));
                    let flip = feed.byte();
                    if let Some(byte) = flying.bytes.get_mut(place) {
                        *byte ^= flip;
                    }
                }
            }
            13 => {
                // To who sent it.
                if !pair.flying.is_empty() {
                    let at = feed.below(pair.flying.len());
                    let Flying { to, bytes, .. } = pair.flying.remove(at);
                    pair.deliver(1 - to, address(to), &bytes, false);
                }
            }
            14..=16 => pair.pass(Duration::from_millis(u64::from(feed.u16()))),
            17 => pair.pass(Duration::from_secs(u64::from(feed.byte()))),
            18 => {
                // To exactly the next deadline.
                let next = pair.sides.iter().filter_map(Overlay::poll_timeout).min();
                let wait = next.map_or(Duration::ZERO, |at| at.saturating_duration_since(pair.now));
                pair.pass(wait);
            }
            19 => {
                let config = config(side, feed.byte() & 3, u16::from(feed.byte()));
                let set = pair.sides[side].set_peer(pair.now, NET, config);
                assert_eq!(set, Ok(()));
            }
            20 => {
                let _ = pair.sides[side].remove_peer(NET, &key(1 - side).public());
            }
            21 => pair.sides[side].set_under_load(feed.byte() & 1 != 0),
            22 => {
                let by = Duration::from_secs(u64::from(feed.u16()));
                pair.unix = if step & 0x40 == 0 {
                    pair.unix + by
                } else {
                    pair.unix.saturating_sub(by)
                };
            }
            23 => {
                let mtu = usize::from(feed.u16());
                pair.sides[side].set_path_mtu(pair.now, address(1 - side), mtu);
            }
            24 => {
                // A restart, with or without what was written down.
                pair.restarts += 1;
                let mut seed = [step; 32];
                // No seed is used twice, as no randomness of the system is: the same seed makes the same keys.
                seed[..4].copy_from_slice(&pair.restarts.to_be_bytes());
                let old = std::mem::replace(&mut pair.sides[side], Overlay::new(seed));
                let overlay = &mut pair.sides[side];
                let _ = overlay.add_network(NET, key(side), MTU);
                let _ = overlay.set_peer(pair.now, NET, config(side, 0, 0));
                if step & 0x40 != 0 {
                    overlay.set_least_time(old.own_time());
                    for (peer, timestamp) in old.timestamps(NET) {
                        overlay.restore_timestamp(NET, &peer, timestamp);
                    }
                }
            }
            25 => {
                let bytes = feed.chunk().to_vec();
                pair.deliver(side, address(1 - side), &bytes, false);
            }
            26 => pair.settle(),
            _ => pair.flush(),
        }
    }
    // Nothing is left to do for ever.
    pair.flying.clear();
    for side in 0..2 {
        let _ = pair.sides[side].remove_peer(NET, &key(1 - side).public());
    }
    pair.flush();
    assert!(
        pair.sides
            .iter()
            .all(|side| format!("{side:?}").contains("indices: 0"))
    );
}

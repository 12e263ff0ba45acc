// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two overlays on one virtual clock, joined by a network that delays, loses, repeats and reorders by a seed.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "helpers of tests, of which each file uses its part"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use netcon_overlay::{
    DropReason, IpPrefix, NetworkIndex, NotSent, Overlay, PeerConfig, PeerStatus, PresharedKey,
    PrivateKey, PublicKey, Received,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub const NETWORK: NetworkIndex = NetworkIndex(7);
pub const MTU: usize = 1420;
/// Events at one moment that mean a livelock.
const LIVELOCK: usize = 5_000;

/// Type byte of a datagram.
pub const INITIATION: u8 = 1;
pub const RESPONSE: u8 = 2;
pub const COOKIE_REPLY: u8 = 3;
pub const TRANSPORT: u8 = 4;
/// Bytes of an empty transport message.
pub const KEEPALIVE: usize = 32;

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Where a virtual clock starts.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other source; only differences to it are used"
)]
pub fn origin() -> Instant {
    Instant::now()
}

/// What the network between the sides does to a datagram.
#[derive(Clone, Copy)]
pub struct Link {
    pub delay: Duration,
    /// Up to this much is added, which reorders.
    pub jitter: Duration,
    /// Of 100.
    pub loss: u32,
    /// Of 100.
    pub repeat: u32,
}

pub const GOOD: Link = Link {
    delay: Duration::from_millis(5),
    jitter: Duration::ZERO,
    loss: 0,
    repeat: 0,
};

/// A datagram as it was sent.
#[derive(Clone)]
pub struct Datagram {
    pub at: Instant,
    pub side: usize,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Datagram {
    pub fn kind(&self) -> u8 {
        self.bytes[0]
    }
}

pub struct Side {
    pub overlay: Overlay,
    pub key: PrivateKey,
    pub addr: SocketAddr,
    /// Its address on the virtual network.
    pub inner: IpAddr,
    /// The other side as this one has it configured.
    pub peer: PeerConfig,
    /// Packets received, with the time.
    pub received: Vec<(Instant, Vec<u8>)>,
}

pub struct Pair {
    pub start: Instant,
    pub now: Instant,
    pub sides: [Side; 2],
    pub link: Link,
    /// How far each side's wall clock is behind.
    pub behind: [Duration; 2],
    /// Every datagram ever sent.
    pub log: Vec<Datagram>,
    random: StdRng,
    wire: BTreeMap<(Instant, u64), Datagram>,
    sequence: u64,
    seeds: u8,
}

impl Pair {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, |_, _| {})
    }

    /// `adjust` may change what side 0 and side 1 have configured of the other.
    pub fn with(seed: u64, adjust: impl Fn(usize, &mut PeerConfig)) -> Self {
        let now = origin();
        let keys = [1, 2].map(|byte| PrivateKey::from_random([byte; 32]));
        let addrs: [SocketAddr; 2] =
            ["192.0.2.1:9993", "[2001:db8::2]:51820"].map(|text| text.parse().unwrap());
        let inners: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let sides = [0, 1].map(|side: usize| {
            let other = 1 - side;
            let mut peer = peer(
                keys[other].public(),
                Some(addrs[other]),
                &[&inners[other].to_string(), "fd00::/64"],
            );
            adjust(side, &mut peer);
            let overlay = overlay(now, u8::try_from(side).unwrap(), &keys[side], &peer);
            Side {
                overlay,
                key: keys[side].clone(),
                addr: addrs[side],
                inner: inners[side],
                peer,
                received: Vec::new(),
            }
        });
        let random = StdRng::seed_from_u64(seed);
        Self {
            start: now,
            now,
            sides,
            link: GOOD,
            behind: [Duration::ZERO; 2],
            log: Vec::new(),
            random,
            wire: BTreeMap::new(),
            sequence: 0,
            seeds: 2,
        }
    }

    /// Time since 1970.
    pub fn unix(&self) -> Duration {
        secs(1_700_000_000) + (self.now - self.start)
    }

    /// The same by a side's own clock.
    pub fn unix_of(&self, side: usize) -> Duration {
        self.unix() - self.behind[side]
    }

    /// Sends an IPv4 packet with `payload` to the other side.
    pub fn send(&mut self, side: usize, payload: &[u8]) -> Result<(), NotSent> {
        let packet = ipv4(self.sides[side].inner, self.sides[1 - side].inner, payload);
        self.send_packet(side, &packet)
    }

    pub fn send_packet(&mut self, side: usize, packet: &[u8]) -> Result<(), NotSent> {
        let mut buf = vec![0xEE; Overlay::sealed_len(packet.len(), MTU)];
        buf[Overlay::HEADROOM..Overlay::HEADROOM + packet.len()].copy_from_slice(packet);
        let (now, unix) = (self.now, self.unix_of(side));
        let sealed =
            self.sides[side]
                .overlay
                .encapsulate(now, unix, NETWORK, &mut buf, packet.len());
        let sent = sealed.map(|sealed| {
            assert_eq!(sealed.len, buf.len());
            self.transmit(side, sealed.to, buf);
        });
        self.flush();
        sent
    }

    /// Puts a datagram of a side on the wire.
    pub fn transmit(&mut self, side: usize, to: SocketAddr, bytes: Vec<u8>) {
        let datagram = Datagram {
            at: self.now,
            side,
            from: self.sides[side].addr,
            to,
            bytes,
        };
        self.log.push(datagram.clone());
        if self.random.random_range(0..100) < self.link.loss {
            return;
        }
        let copies = if self.random.random_range(0..100) < self.link.repeat {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let jitter = self.link.jitter.mul_f64(self.random.random());
            self.sequence += 1;
            self.wire.insert(
                (self.now + self.link.delay + jitter, self.sequence),
                datagram.clone(),
            );
        }
    }

    /// Hands bytes to a side as if they came from `from`.
    pub fn inject(&mut self, side: usize, from: SocketAddr, bytes: &[u8]) -> Option<DropReason> {
        let mut bytes = bytes.to_vec();
        let (now, unix) = (self.now, self.unix_of(side));
        let side = &mut self.sides[side];
        let dropped = match side.overlay.handle_datagram(now, unix, from, &mut bytes) {
            Received::Packet {
                network,
                peer,
                packet,
            } => {
                assert_eq!((network, peer), (NETWORK, side.peer.public_key));
                side.received.push((now, packet.to_vec()));
                None
            }
            Received::Handled => None,
            Received::Dropped(reason) => Some(reason),
        };
        self.flush();
        dropped
    }

    /// Takes everything both overlays have to send.
    pub fn flush(&mut self) {
        for side in 0..2 {
            let mut out = Vec::new();
            for count in 0.. {
                assert!(count < LIVELOCK, "side {side} sends for ever");
                let (now, unix) = (self.now, self.unix_of(side));
                let Some(to) = self.sides[side].overlay.poll_transmit(now, unix, &mut out) else {
                    break;
                };
                self.transmit(side, to, out.clone());
            }
        }
    }

    /// Lets `duration` pass, event by event.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.flush();
        let (mut moment, mut events) = (self.now, 0);
        loop {
            let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
            let timers = self
                .sides
                .iter()
                .filter_map(|side| side.overlay.poll_timeout());
            let Some(next) = timers.chain(arrival).min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            events = if self.now == moment { events + 1 } else { 0 };
            moment = self.now;
            assert!(events < LIVELOCK, "nothing lets time pass");
            self.deliver();
            for side in 0..2 {
                let (now, unix) = (self.now, self.unix_of(side));
                self.sides[side].overlay.handle_timeout(now, unix);
            }
            self.flush();
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.wire.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let datagram = entry.remove();
            // Addresses nobody has any more swallow what is sent to them.
            if let Some(side) = self.sides.iter().position(|side| side.addr == datagram.to) {
                self.inject(side, datagram.from, &datagram.bytes);
            }
        }
    }

    /// One packet each way, so that a session is up and confirmed.
    pub fn connect(&mut self) {
        assert_eq!(self.send(0, b"hello"), Err(NotSent::Queued));
        self.run(millis(100));
        self.send(1, b"hello").unwrap();
        self.run(millis(100));
        assert_eq!(self.payloads(0), [b"hello"]);
        assert_eq!(self.payloads(1), [b"hello"]);
        self.sides.iter_mut().for_each(|side| side.received.clear());
    }

    /// A side forgets everything but its configuration.
    pub fn restart(&mut self, side: usize) {
        self.seeds += 1;
        let (now, seed) = (self.now, self.seeds);
        let side = &mut self.sides[side];
        side.overlay = overlay(now, seed, &side.key, &side.peer);
    }

    pub fn status(&self, side: usize) -> PeerStatus {
        self.sides[side].overlay.peer_status(NETWORK)[0].clone()
    }

    /// Payloads of the packets a side has received.
    pub fn payloads(&self, side: usize) -> Vec<&[u8]> {
        self.sides[side]
            .received
            .iter()
            .map(|(_, packet)| &packet[20..])
            .collect()
    }

    pub fn dropped(&self, side: usize, reason: DropReason) -> u64 {
        self.sides[side]
            .overlay
            .drops()
            .find(|(other, _)| *other == reason)
            .unwrap()
            .1
    }

    /// Datagrams of a kind a side has sent since `since`.
    pub fn sent(&self, side: usize, kind: u8, since: Instant) -> Vec<&Datagram> {
        self.log
            .iter()
            .filter(|datagram| {
                datagram.side == side && datagram.kind() == kind && datagram.at >= since
            })
            .collect()
    }

    /// Keepalives a side has sent since `since`.
    pub fn keepalives(&self, side: usize, since: Instant) -> usize {
        self.sent(side, TRANSPORT, since)
            .iter()
            .filter(|datagram| datagram.bytes.len() == KEEPALIVE)
            .count()
    }
}

fn overlay(now: Instant, seed: u8, key: &PrivateKey, peer: &PeerConfig) -> Overlay {
    let mut overlay = Overlay::new([seed; 32]);
    overlay.add_network(NETWORK, key.clone(), MTU).unwrap();
    overlay.set_peer(now, NETWORK, peer.clone()).unwrap();
    overlay
}

pub fn peer(
    public_key: PublicKey,
    endpoint: Option<SocketAddr>,
    allowed_ips: &[&str],
) -> PeerConfig {
    let allowed_ips = allowed_ips
        .iter()
        .map(|text| text.parse::<IpPrefix>().unwrap())
        .collect();
    PeerConfig {
        public_key,
        preshared_key: None,
        endpoint,
        allowed_ips,
        persistent_keepalive: None,
        reserved: [0; 3],
    }
}

pub fn preshared(byte: u8) -> Option<PresharedKey> {
    Some(PresharedKey::from_bytes([byte; 32]))
}

/// An IP packet with `payload` behind a bare header.
pub fn ipv4(source: IpAddr, destination: IpAddr, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) else {
        panic!("IPv4 only")
    };
    let len = u16::try_from(20 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.resize(12, 0);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

pub fn ipv6(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let [source, destination] =
        [source, destination].map(|text| text.parse::<std::net::Ipv6Addr>().unwrap());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([59, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

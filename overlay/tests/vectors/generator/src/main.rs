// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records conversations between this crate and boringtun for tests/vectors.rs:
//!
//!     cargo run --manifest-path overlay/tests/vectors/generator/Cargo.toml > overlay/tests/vectors/boringtun.txt
//!
//! boringtun takes its ephemeral keys from the system, so each run gives other bytes; it fails if the two do not understand
//! each other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use netcon_overlay::{NetworkIndex, Overlay, PeerConfig, PresharedKey, PrivateKey, Received};

const NETWORK: NetworkIndex = NetworkIndex(7);
const MTU: usize = 1420;
const UNIX: Duration = Duration::from_secs(1_700_000_000);
/// Handshakes a second that boringtun takes without a cookie.
const MANY: u64 = 1 << 20;

struct Scene {
    now: Instant,
    ours: Overlay,
    theirs: Tunn,
    from: SocketAddr,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn packet(from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, u8::try_from(20 + payload.len()).unwrap()];
    packet.resize(12, 0);
    packet.extend([10, 0, 0, from, 10, 0, 0, to]);
    packet.extend(payload);
    packet
}

impl Scene {
    fn new(preshared: Option<u8>, limit: u64) -> Self {
        let now = Instant::now();
        let ours = PrivateKey::from_random([1; 32]);
        let theirs = StaticSecret::from([2; 32]);
        let public = PublicKey::from(&theirs);
        let limiter = Arc::new(RateLimiter::new(&public, limit));
        let from: SocketAddr = "192.0.2.2:1".parse().unwrap();
        let mut overlay = Overlay::new([5; 32]);
        overlay.add_network(NETWORK, ours.clone(), MTU).unwrap();
        let config = PeerConfig {
            public_key: netcon_overlay::PublicKey::from_bytes(public.to_bytes()),
            preshared_key: preshared.map(|byte| PresharedKey::from_bytes([byte; 32])),
            endpoint: Some(from),
            allowed_ips: vec!["10.0.0.2/32".parse().unwrap()],
            persistent_keepalive: None,
            reserved: [0; 3],
        };
        overlay.set_peer(now, NETWORK, config).unwrap();
        let our_public = PublicKey::from(*ours.public().as_bytes());
        let psk = preshared.map(|byte| [byte; 32]);
        Self {
            now,
            ours: overlay,
            theirs: Tunn::new(theirs, our_public, psk, None, 333, Some(limiter)),
            from,
        }
    }

    fn begin(&mut self) {
        let packet = packet(1, 2, b"ours 1");
        let mut buf = vec![0; Overlay::sealed_len(packet.len(), MTU)];
        buf[16..16 + packet.len()].copy_from_slice(&packet);
        let sent = self
            .ours
            .encapsulate(self.now, UNIX, NETWORK, &mut buf, packet.len());
        assert!(sent.is_err());
    }

    /// Our next message.
    fn ours(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.ours
            .poll_transmit(self.now, UNIX, &mut out)
            .expect("something to send");
        println!("ours {}", hex(&out));
        out
    }

    /// Takes a message of theirs, and what arrives by it.
    fn theirs(&mut self, bytes: &[u8]) {
        println!("theirs {}", hex(bytes));
        let mut bytes = bytes.to_vec();
        let arrived = match self
            .ours
            .handle_datagram(self.now, UNIX, self.from, &mut bytes)
        {
            Received::Packet { packet, .. } => String::from_utf8(packet[20..].to_vec()).unwrap(),
            Received::Handled => String::new(),
            Received::Dropped(reason) => panic!("{reason:?}"),
        };
        println!("{}", format!("packet {arrived}").trim_end());
    }

    /// Gives boringtun a message; its answer, or the packet in it.
    fn give(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 2048];
        let from = Some(IpAddr::from([192, 0, 2, 1]));
        match self.theirs.decapsulate(from, bytes, &mut out) {
            TunnResult::WriteToNetwork(answer) => answer.to_vec(),
            TunnResult::WriteToTunnelV4(packet, _) => packet.to_vec(),
            TunnResult::Done => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    fn their_initiation(&mut self) -> Vec<u8> {
        let mut out = vec![0; 2048];
        match self.theirs.format_handshake_initiation(&mut out, true) {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn their_packet(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 2048];
        match self.theirs.encapsulate(&packet(2, 1, payload), &mut out) {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn after(&mut self, seconds: u64) {
        println!("after {seconds}");
        self.now += Duration::from_secs(seconds);
        self.ours.handle_timeout(self.now, UNIX);
    }

    /// Our data, and two packets of theirs.
    fn talk(&mut self) {
        let data = self.ours();
        assert_eq!(self.give(&data), packet(1, 2, b"ours 1"));
        self.listen();
    }

    fn listen(&mut self) {
        for _ in 0..2 {
            let message = self.their_packet(b"more of theirs");
            self.theirs(&message);
        }
    }
}

fn main() {
    println!("# Conversations with boringtun 0.7.1 (Cloudflare's WireGuard, which does not pad), recorded by generator/.");
    println!("# case: preshared key byte or none, then who begins. ours: what this crate must send, byte for byte. theirs: what the");
    println!("# other sent. packet: the payload this crate must then hand up, if any. loaded: this crate demands cookies from then on.");
    println!("# after: seconds that pass.");
    println!("# Keys: ours is 32 times 01 (clamped), theirs 32 times 02, our seed 32 times 05; time 1,700,000,000 s since 1970.");
    for preshared in [None, Some(7)] {
        let name = preshared.map_or("none".to_owned(), |byte| format!("{byte:02x}"));
        println!("\ncase {name} ours");
        let mut scene = Scene::new(preshared, MANY);
        scene.begin();
        let initiation = scene.ours();
        let response = scene.give(&initiation);
        scene.theirs(&response);
        scene.talk();

        println!("\ncase {name} theirs");
        let mut scene = Scene::new(preshared, MANY);
        let initiation = scene.their_initiation();
        scene.theirs(&initiation);
        let response = scene.ours();
        let confirmation = scene.give(&response);
        scene.theirs(&confirmation);
        scene.listen();
    }

    // They are loaded: their cookie makes our mac2, which they check.
    println!("\ncase none ours");
    let mut scene = Scene::new(None, 0);
    scene.begin();
    let initiation = scene.ours();
    let reply = scene.give(&initiation);
    assert_eq!(reply.len(), 64, "a cookie reply");
    scene.theirs(&reply);
    scene.after(6);
    let again = scene.ours();
    let response = scene.give(&again);
    assert_eq!(response.len(), 92, "a response");
    scene.theirs(&response);
    scene.talk();

    // We are loaded: they read our cookie, and we check their mac2.
    println!("\ncase none theirs");
    let mut scene = Scene::new(None, MANY);
    println!("loaded");
    scene.ours.set_under_load(true);
    let initiation = scene.their_initiation();
    println!("refused {}", hex(&initiation));
    let mut bytes = initiation;
    assert!(matches!(
        scene.ours.handle_datagram(scene.now, UNIX, scene.from, &mut bytes),
        Received::Dropped(_)
    ));
    let reply = scene.ours();
    assert_eq!(reply.len(), 64, "a cookie reply");
    assert!(scene.give(&reply).is_empty());
    let again = scene.their_initiation();
    scene.theirs(&again);
    let response = scene.ours();
    let confirmation = scene.give(&response);
    scene.theirs(&confirmation);
    scene.listen();
}

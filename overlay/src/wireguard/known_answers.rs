// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The handshake and the packets after it, compared byte for byte with what another implementation of Noise (the crate
//! `snow`) makes of the same keys. Cookies, and a whole conversation, are compared with boringtun in tests/vectors.rs.

use std::time::Duration;

use snow::{Builder, HandshakeState, StatelessTransportState};

use super::handshake::{Identity, Initiated, OpenedInitiation, Remote, Timestamp};
use super::messages::{Initiation, Response};
use super::noise::TransportKeys;
use crate::aead::{Aead, Cipher, TAG_LEN};
use crate::event::DropReason;
use crate::key::{PresharedKey, PrivateKey};
use crate::random::Random;

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// Keys of both sides; the ephemeral ones are what our generator makes of the seeds.
struct Scene {
    statics: [[u8; 32]; 2],
    seeds: [[u8; 32]; 2],
    preshared: [u8; 32],
}

impl Scene {
    fn new(number: u8, preshared: [u8; 32]) -> Self {
        Self {
            statics: [[number; 32], [number + 100; 32]],
            seeds: [[number + 1; 32], [number + 2; 32]],
            preshared,
        }
    }

    fn identity(&self, side: usize) -> Identity {
        Identity::new(&PrivateKey::from_bytes(self.statics[side]))
    }

    fn remote(&self, side: usize) -> Remote {
        let public = PrivateKey::from_bytes(self.statics[1 - side]).public();
        let preshared = PresharedKey::from_bytes(self.preshared);
        Remote::new(&self.identity(side), public, preshared).unwrap()
    }

    fn random(&self, side: usize) -> Random {
        Random::new(&self.seeds[side])
    }

    /// The other implementation in the place of a side.
    fn snow(&self, side: usize) -> HandshakeState {
        let ephemeral: [u8; 32] = self.random(side).bytes();
        let remote = PrivateKey::from_bytes(self.statics[1 - side]).public();
        let builder = Builder::new(PATTERN.parse().unwrap())
            .prologue(PROLOGUE)
            .unwrap()
            .local_private_key(&self.statics[side])
            .unwrap()
            .psk(2, &self.preshared)
            .unwrap()
            .fixed_ephemeral_key_for_testing_only(&ephemeral);
        if side == 0 {
            builder
                .remote_public_key(remote.as_bytes())
                .unwrap()
                .build_initiator()
                .unwrap()
        } else {
            builder.build_responder().unwrap()
        }
    }
}

fn timestamp() -> Timestamp {
    Timestamp::after(None, Duration::new(1_700_000_000, 500_000_000))
}

fn scenes() -> impl Iterator<Item = Scene> {
    (1..4).flat_map(|number| {
        [
            Scene::new(number, [0; 32]),
            Scene::new(number, [number; 32]),
        ]
    })
}

/// Both messages, and the transport states, as the other implementation makes them.
fn theirs(scene: &Scene) -> (Vec<u8>, Vec<u8>, [StatelessTransportState; 2]) {
    let (mut initiator, mut responder) = (scene.snow(0), scene.snow(1));
    let (mut first, mut second, mut payload) = ([0; 256], [0; 256], [0; 256]);
    let len = initiator
        .write_message(&timestamp().to_bytes(), &mut first)
        .unwrap();
    let first = first[..len].to_vec();
    let read = responder.read_message(&first, &mut payload).unwrap();
    assert_eq!(payload[..read], timestamp().to_bytes());
    let len = responder.write_message(&[], &mut second).unwrap();
    let second = second[..len].to_vec();
    assert_eq!(initiator.read_message(&second, &mut payload).unwrap(), 0);
    let states = [initiator, responder].map(|state| state.into_stateless_transport_mode().unwrap());
    (first, second, states)
}

fn ours(scene: &Scene) -> ([u8; 148], [u8; 92], [TransportKeys; 2]) {
    let [a, b] = [0, 1].map(|side| (scene.identity(side), scene.remote(side)));
    let (initiated, initiation) =
        Initiated::start(&a.0, &a.1, 11, timestamp(), &mut scene.random(0)).unwrap();
    let opened = OpenedInitiation::open(&b.0, Initiation::parse(&initiation)).unwrap();
    let verified = opened.verify(&b.1).unwrap();
    let (response, responder) = verified.respond(&b.1, 22, &mut scene.random(1)).unwrap();
    let initiator = initiated
        .finish(&a.0, &a.1, &Response::parse(&response))
        .unwrap();
    (initiation, response, [initiator, responder])
}

#[test]
fn both_messages_of_the_handshake_are_those_of_snow() {
    for scene in scenes() {
        let (first, second, _) = theirs(&scene);
        let (initiation, response, _) = ours(&scene);
        assert_eq!(initiation[8..116], first);
        assert_eq!(response[12..60], second);
    }
}

#[test]
fn packets_are_those_of_snow_in_both_directions() {
    for scene in scenes() {
        let (_, _, states) = theirs(&scene);
        let (_, _, keys) = ours(&scene);
        for side in 0..2 {
            let (send, receive) = (
                Cipher::new(&keys[side].send),
                Cipher::new(&keys[1 - side].receive),
            );
            for (counter, len) in [(0, 0), (1, 16), (2, 1420), (1 << 40, 33), (u64::MAX - 1, 1)] {
                let plain = vec![7; len];
                let mut expected = vec![0; len + TAG_LEN];
                let written = states[side]
                    .write_message(counter, &plain, &mut expected)
                    .unwrap();
                assert_eq!(written, expected.len());
                let mut data = plain.clone();
                let tag = send.seal(counter, &[], &mut data);
                assert_eq!([&data[..], &tag].concat(), expected, "{counter} {len}");
                assert_eq!(receive.open(counter, &[], &mut data, &tag), Ok(()));
                assert_eq!(data, plain);
            }
        }
    }
}

#[test]
fn case_14_an_initiation_by_our_own_key_is_a_strangers() {
    // Only another implementation can be made to call itself.
    let mut scene = Scene::new(1, [0; 32]);
    scene.statics[0] = scene.statics[1];
    let (first, _, _) = theirs(&scene);
    let mut initiation = [0; 148];
    initiation[0] = 1;
    initiation[8..116].copy_from_slice(&first);
    let opened = OpenedInitiation::open(&scene.identity(1), Initiation::parse(&initiation));
    // A network never has its own key among its peers (ConfigError::OwnKey), so nobody is found by it.
    assert_eq!(opened.unwrap().claimed, scene.identity(1).public);
}

#[test]
fn another_preshared_key_is_found_out_by_both() {
    let mut scene = Scene::new(1, [1; 32]);
    let (_, second, _) = theirs(&scene);
    scene.preshared = [2; 32];
    let (a, remote) = (scene.identity(0), scene.remote(0));
    let (initiated, _) =
        Initiated::start(&a, &remote, 11, timestamp(), &mut scene.random(0)).unwrap();
    let mut response = [0; 92];
    response[12..60].copy_from_slice(&second);
    let finished = initiated.finish(&a, &remote, &Response::parse(&response));
    assert_eq!(finished.err(), Some(DropReason::Forged));
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sessions: the keys one handshake gave, their counters and their age; and the three of them a tunnel holds.
//!
//! After a handshake the initiator may send at once. The responder may not until the initiator has proved, by a packet,
//! that it holds the keys: until then the responder's session waits as `next`. The replaced session stays as `previous`
//! for packets that are still on their way.

use std::time::Instant;

use super::index::IndexTable;
use super::messages::{TRANSPORT_HEADER, TransportHeader};
use super::noise::TransportKeys;
use super::replay::ReplayWindow;
use super::timers::{
    REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME,
    REKEY_AFTER_TIME_RECEIVING,
};
use crate::aead::{Aead, Cipher, TAG_LEN};
use crate::event::DropReason;

/// Which side began the handshake. Only the initiator renews a session by its age, so that not both do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

/// One handshake's keys.
pub(crate) struct Session {
    local_index: u32,
    remote_index: u32,
    role: Role,
    created: Instant,
    send: Cipher,
    /// Counter of the next packet.
    next_counter: u64,
    receive: Cipher,
    replay: ReplayWindow,
}

impl Session {
    pub(crate) fn new(
        now: Instant,
        role: Role,
        local_index: u32,
        remote_index: u32,
        keys: &TransportKeys,
    ) -> Self {
        Self {
            local_index,
            remote_index,
            role,
            created: now,
            send: Cipher::new(&keys.send),
            next_counter: 0,
            receive: Cipher::new(&keys.receive),
            replay: ReplayWindow::new(),
        }
    }

    /// Seals what lies between header and tag of `message`, and writes both. Call only while [`Self::can_send`].
    fn seal(&mut self, message: &mut [u8]) {
        let header = TransportHeader {
            receiver: self.remote_index,
            counter: self.next_counter,
        };
        self.next_counter += 1;
        let (head, rest) = message.split_at_mut(TRANSPORT_HEADER);
        let (data, tag) = rest.split_at_mut(rest.len() - TAG_LEN);
        head.copy_from_slice(&header.emit());
        tag.copy_from_slice(&self.send.seal(header.counter, &[], data));
    }

    /// Opens a transport message in place. A counter becomes known only by a packet that proves its sender.
    fn open<'b>(
        &mut self,
        now: Instant,
        message: &'b mut [u8],
    ) -> Result<&'b mut [u8], DropReason> {
        let (head, rest) = message
            .split_first_chunk_mut()
            .ok_or(DropReason::WrongLength)?;
        let (data, tag) = rest.split_last_chunk_mut().ok_or(DropReason::WrongLength)?;
        let counter = TransportHeader::parse(head).counter;
        if counter >= REJECT_AFTER_MESSAGES || self.is_expired(now) {
            return Err(DropReason::SessionExpired);
        }
        self.receive.open(counter, &[], data, tag)?;
        if self.replay.accept(counter) {
            Ok(data)
        } else {
            Err(DropReason::Replayed)
        }
    }

    fn can_send(&self, now: Instant) -> bool {
        self.next_counter < REJECT_AFTER_MESSAGES && !self.is_expired(now)
    }

    fn is_expired(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.created) >= REJECT_AFTER_TIME
    }

    /// Whether, having sent, it is time for a new session.
    fn ages_on_send(&self, now: Instant) -> bool {
        self.next_counter >= REKEY_AFTER_MESSAGES
            || self.role == Role::Initiator
                && now.saturating_duration_since(self.created) >= REKEY_AFTER_TIME
    }

    /// Whether, having received, it is time for a new session.
    fn ages_on_receive(&self, now: Instant) -> bool {
        self.role == Role::Initiator
            && now.saturating_duration_since(self.created) >= REKEY_AFTER_TIME_RECEIVING
    }
}

/// Place of a session that a packet was opened with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Previous,
    Current,
    Next,
}

/// What opening a packet meant.
#[derive(Debug)]
pub(crate) struct Opened<'b> {
    pub(crate) payload: &'b mut [u8],
    /// The packet was the proof a waiting session needed: the handshake is complete and we may send.
    pub(crate) confirmed: bool,
}

/// The sessions of one tunnel.
#[derive(Default)]
pub(crate) struct Sessions {
    previous: Option<Box<Session>>,
    current: Option<Box<Session>>,
    next: Option<Box<Session>>,
}

impl Sessions {
    /// Takes the session of a finished handshake; sessions that fall out give their index back.
    pub(crate) fn insert<Owner: Copy>(
        &mut self,
        session: Session,
        indices: &mut IndexTable<Owner>,
    ) {
        let session = Some(Box::new(session));
        match session.as_ref().map(|session| session.role) {
            Some(Role::Initiator) => {
                // An unproved session is newer than the current one: both sides have begun a handshake at once, and the
                // peer may use that one.
                let replaced = if self.next.is_some() {
                    self.next.take()
                } else {
                    self.current.take()
                };
                release(self.previous.take(), indices);
                release(self.current.take(), indices);
                self.previous = replaced;
                self.current = session;
            }
            Some(Role::Responder) | None => {
                release(self.previous.take(), indices);
                release(self.next.take(), indices);
                self.next = session;
            }
        }
    }

    /// Seals `message` (see [`super::messages::TransportHeader`]) with the current session. `false` if there is none to send with.
    pub(crate) fn seal(&mut self, now: Instant, message: &mut [u8]) -> bool {
        match &mut self.current {
            Some(current) if current.can_send(now) => {
                current.seal(message);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Opens `message` with the session it names.
    pub(crate) fn open<'b, Owner: Copy>(
        &mut self,
        now: Instant,
        local_index: u32,
        message: &'b mut [u8],
        indices: &mut IndexTable<Owner>,
    ) -> Result<Opened<'b>, DropReason> {
        let places = [
            (Place::Current, &mut self.current),
            (Place::Previous, &mut self.previous),
            (Place::Next, &mut self.next),
        ];
        let named = places.into_iter().find_map(|(place, session)| {
            session
                .as_mut()
                .filter(|session| session.local_index == local_index)
                .map(|session| (place, session))
        });
        let (place, session) = named.ok_or(DropReason::UnknownIndex)?;
        let payload = session.open(now, message)?;
        match place {
            Place::Previous | Place::Current => Ok(Opened {
                payload,
                confirmed: false,
            }),
            Place::Next => {
                release(self.previous.take(), indices);
                self.previous = self.current.take();
                self.current = self.next.take();
                Ok(Opened {
                    payload,
                    confirmed: true,
                })
            }
        }
    }

    pub(crate) fn can_send(&self, now: Instant) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| current.can_send(now))
    }

    /// Whether, having sent, it is time for a new session.
    pub(crate) fn age_on_send(&self, now: Instant) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| current.ages_on_send(now))
    }

    /// Whether, having received, it is time for a new session.
    pub(crate) fn age_on_receive(&self, now: Instant) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| current.ages_on_receive(now))
    }

    /// Forgets all keys.
    pub(crate) fn clear<Owner: Copy>(&mut self, indices: &mut IndexTable<Owner>) {
        for session in [self.previous.take(), self.current.take(), self.next.take()] {
            release(session, indices);
        }
    }
}

fn release<Owner: Copy>(session: Option<Box<Session>>, indices: &mut IndexTable<Owner>) {
    if let Some(session) = session {
        indices.release(session.local_index);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zeroize::Zeroizing;

    use super::*;
    use crate::random::Random;
    use crate::testing::origin;

    const DATA: &[u8] = b"sixteen bytes...";

    /// Two sides and what they share.
    struct Scene {
        now: Instant,
        random: Random,
        indices: IndexTable<u32>,
        sides: [Sessions; 2],
        handshakes: u8,
    }

    impl Scene {
        fn new() -> Self {
            let sides = [Sessions::default(), Sessions::default()];
            Self {
                now: origin(),
                random: Random::new(&[0; 32]),
                indices: IndexTable::new(),
                sides,
                handshakes: 0,
            }
        }

        /// A handshake begun by `initiator`; only the responder's half of it if the response is lost.
        fn handshake(&mut self, initiator: usize, response_arrives: bool) {
            self.handshakes += 1;
            let keys = [[self.handshakes; 32], [self.handshakes + 100; 32]].map(Zeroizing::new);
            let [send, receive] = keys;
            let theirs = TransportKeys {
                send: receive.clone(),
                receive: send.clone(),
            };
            let ours = TransportKeys { send, receive };
            let local = self.indices.allocate(&mut self.random, 0);
            let remote = self.indices.allocate(&mut self.random, 0);
            let responder = Session::new(self.now, Role::Responder, remote, local, &theirs);
            self.sides[1 - initiator].insert(responder, &mut self.indices);
            if response_arrives {
                let session = Session::new(self.now, Role::Initiator, local, remote, &ours);
                self.sides[initiator].insert(session, &mut self.indices);
            } else {
                self.indices.release(local);
            }
        }

        fn seal(&mut self, from: usize) -> Option<Vec<u8>> {
            let mut message = vec![0; TRANSPORT_HEADER];
            message.extend_from_slice(DATA);
            message.extend_from_slice(&[0; TAG_LEN]);
            self.sides[from]
                .seal(self.now, &mut message)
                .then_some(message)
        }

        fn open(&mut self, to: usize, mut message: Vec<u8>) -> Result<bool, DropReason> {
            let header = TransportHeader::parse(message.first_chunk().unwrap());
            let sessions = &mut self.sides[to];
            let opened =
                sessions.open(self.now, header.receiver, &mut message, &mut self.indices)?;
            assert_eq!(opened.payload, DATA);
            Ok(opened.confirmed)
        }
    }

    #[test]
    fn the_responder_waits_for_proof() {
        let mut scene = Scene::new();
        scene.handshake(0, true);
        assert!(scene.seal(1).is_none());
        let proof = scene.seal(0).unwrap();
        assert_eq!(scene.open(1, proof.clone()), Ok(true));
        assert_eq!(scene.open(1, proof), Err(DropReason::Replayed));
        let answer = scene.seal(1).unwrap();
        assert_eq!(scene.open(0, answer), Ok(false));
    }

    #[test]
    fn packets_on_their_way_survive_one_renewal() {
        let mut scene = Scene::new();
        scene.handshake(0, true);
        let first = [
            scene.seal(0).unwrap(),
            scene.seal(0).unwrap(),
            scene.seal(0).unwrap(),
        ];
        let [one, two, three] = first;
        assert_eq!(scene.open(1, one), Ok(true));
        scene.handshake(0, true);
        assert_eq!(
            scene.open(1, two),
            Ok(false),
            "unproved sessions replace nothing"
        );
        let proof = scene.seal(0).unwrap();
        assert_eq!(scene.open(1, proof), Ok(true));
        assert_eq!(scene.open(1, three), Ok(false));
        let old = scene.seal(1).unwrap();
        assert_eq!(scene.open(0, old), Ok(false));
    }

    #[test]
    fn both_sessions_of_simultaneous_handshakes_decrypt() {
        let mut scene = Scene::new();
        // Each side answers the other before it reads the answer to its own.
        for initiator in 0..2 {
            scene.handshake(initiator, true);
        }
        for from in 0..2 {
            let message = scene.seal(from).unwrap();
            assert!(scene.open(1 - from, message).is_ok(), "{from}");
        }
    }

    #[test]
    fn indices_live_as_long_as_their_sessions() {
        let mut scene = Scene::new();
        for round in 0..50 {
            scene.handshake(round % 2, round % 3 != 0);
            if let Some(message) = scene.seal(round % 2) {
                let _ = scene.open(1 - round % 2, message);
            }
            assert!(scene.indices.len() <= 6);
        }
        for side in &mut scene.sides {
            side.clear(&mut scene.indices);
        }
        assert_eq!(scene.indices.len(), 0);
    }

    #[test]
    fn age_ends_both_directions() {
        let mut scene = Scene::new();
        scene.handshake(0, true);
        let start = scene.now;
        let [early, late] = [scene.seal(0).unwrap(), scene.seal(0).unwrap()];
        scene.now = start + REJECT_AFTER_TIME - Duration::from_nanos(1);
        assert_eq!(scene.open(1, early), Ok(true));
        assert!(scene.seal(0).is_some() && scene.seal(1).is_some());
        scene.now = start + REJECT_AFTER_TIME;
        assert_eq!(scene.open(1, late), Err(DropReason::SessionExpired));
        assert!(scene.seal(0).is_none() && scene.seal(1).is_none());
    }

    #[test]
    fn age_asks_the_initiator_only() {
        let mut scene = Scene::new();
        scene.handshake(0, true);
        let proof = scene.seal(0).unwrap();
        assert_eq!(scene.open(1, proof), Ok(true));
        let start = scene.now;
        let ages = |scene: &Scene, age| {
            let [one, two] = &scene.sides;
            let now = start + age;
            assert!(!two.age_on_send(now) && !two.age_on_receive(now));
            (one.age_on_send(now), one.age_on_receive(now))
        };
        let moment = Duration::from_nanos(1);
        assert_eq!(ages(&scene, REKEY_AFTER_TIME - moment), (false, false));
        assert_eq!(ages(&scene, REKEY_AFTER_TIME), (true, false));
        assert_eq!(
            ages(&scene, REKEY_AFTER_TIME_RECEIVING - moment),
            (true, false)
        );
        assert_eq!(ages(&scene, REKEY_AFTER_TIME_RECEIVING), (true, true));
    }

    #[test]
    fn case_10_counters_end_both_directions() {
        let mut scene = Scene::new();
        scene.handshake(0, true);
        let counter = |scene: &mut Scene, number| {
            scene.sides[0].current.as_mut().unwrap().next_counter = number;
        };
        counter(&mut scene, REKEY_AFTER_MESSAGES - 1);
        assert!(!scene.sides[0].age_on_send(scene.now));
        assert!(scene.seal(0).is_some());
        assert!(scene.sides[0].age_on_send(scene.now));
        counter(&mut scene, REJECT_AFTER_MESSAGES - 1);
        let last = scene.seal(0).unwrap();
        assert_eq!(scene.open(1, last), Ok(true));
        assert!(scene.seal(0).is_none());
        // A sender that goes on regardless is not followed.
        let mut beyond = vec![0; 64];
        counter(&mut scene, REJECT_AFTER_MESSAGES);
        scene.sides[0].current.as_mut().unwrap().seal(&mut beyond);
        assert_eq!(scene.open(1, beyond), Err(DropReason::SessionExpired));
    }

    #[test]
    fn a_forged_packet_does_not_move_the_window() {
        let mut scene = Scene::new();
        scene.handshake(0, true);
        let genuine = scene.seal(0).unwrap();
        let mut forged = genuine.clone();
        forged[8..16].copy_from_slice(&(1u64 << 40).to_le_bytes());
        assert_eq!(scene.open(1, forged), Err(DropReason::Forged));
        assert_eq!(scene.open(1, genuine), Ok(true));
    }
}

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
mod tests;

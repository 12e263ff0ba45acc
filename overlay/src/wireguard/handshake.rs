// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The handshake's two messages (WireGuard paper sections 5.4.2 and 5.4.3).
//!
//! ```text
//! initiator                                  responder
//! Initiated::start  --- initiation --->      OpenedInitiation::open   (reveals who calls)
//!                                            OpenedInitiation::verify (that peer's keys; timestamp)
//! Initiated::finish <---- response ----      VerifiedInitiation::respond
//! ```
//!
//! A step that fails changes nothing: a forged message cannot end a handshake under way. The MACs around the messages are
//! [`super::cookie`]'s; they are checked before anything here runs.

use std::time::Duration;

use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::cookie::MacKeys;
use super::messages::{INITIATION_LEN, Initiation, RESPONSE_LEN, Response};
use super::noise::{LowOrder, Symmetric, TransportKeys, shared_secret};
use crate::aead::Forged;
use crate::event::DropReason;
use crate::key::{PresharedKey, PrivateKey, PublicKey};
use crate::random::Random;

/// Seconds from TAI64's origin to 1970, ten leap seconds included.
const TAI64_UNIX_EPOCH: u64 = 0x4000_0000_0000_000a;
/// Nanoseconds are rounded down to a multiple of this, so that timestamps do not reveal a fine clock.
const TIMESTAMP_GRAIN: u32 = 1 << 24;

impl From<Forged> for DropReason {
    fn from(_: Forged) -> Self {
        Self::Forged
    }
}

impl From<LowOrder> for DropReason {
    fn from(_: LowOrder) -> Self {
        Self::LowOrderKey
    }
}

/// Time of an initiation (TAI64N): big-endian seconds, then nanoseconds. Their order is the order of the bytes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Timestamp([u8; 12]);

impl Timestamp {
    /// The time `unix` since 1970, or the least time after `last` if the clock has not moved past it.
    pub(crate) fn after(last: Option<Self>, unix: Duration) -> Self {
        let now = Self::new(
            unix.as_secs().saturating_add(TAI64_UNIX_EPOCH),
            unix.subsec_nanos() & !(TIMESTAMP_GRAIN - 1),
        );
        match last {
            Some(last) if now <= last => last.successor(),
            Some(_) | None => now,
        }
    }

    /// As it is on the wire, and as it is remembered over a restart.
    pub(crate) const fn to_bytes(self) -> [u8; 12] {
        self.0
    }

    pub(crate) const fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// Time since 1970; nothing before that.
    pub(crate) fn unix(self) -> Duration {
        let (seconds, nanoseconds) = self.parts();
        Duration::new(
            seconds.saturating_sub(TAI64_UNIX_EPOCH),
            nanoseconds.min(999_999_999),
        )
    }

    fn new(seconds: u64, nanoseconds: u32) -> Self {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&nanoseconds.to_be_bytes());
        Self(bytes)
    }

    fn parts(self) -> (u64, u32) {
        let mut seconds = [0; 8];
        let mut nanoseconds = [0; 4];
        seconds.copy_from_slice(&self.0[..8]);
        nanoseconds.copy_from_slice(&self.0[8..]);
        (u64::from_be_bytes(seconds), u32::from_be_bytes(nanoseconds))
    }

    fn successor(self) -> Self {
        let (seconds, nanoseconds) = self.parts();
        let nanoseconds = nanoseconds.saturating_add(TIMESTAMP_GRAIN);
        if nanoseconds < 1_000_000_000 {
            Self::new(seconds, nanoseconds)
        } else {
            Self::new(seconds.saturating_add(1), 0)
        }
    }
}

/// Our side: one network's static key and what follows from it.
pub(crate) struct Identity {
    secret: StaticSecret,
    pub(crate) public: PublicKey,
    /// Keys of MACs addressed to us.
    pub(crate) mac_keys: MacKeys,
}

impl Identity {
    pub(crate) fn new(private: &PrivateKey) -> Self {
        let public = private.public();
        Self {
            secret: private.secret(),
            public,
            mac_keys: MacKeys::new(&public),
        }
    }
}

/// The other side: a peer's static key and what follows from it.
pub(crate) struct Remote {
    pub(crate) public: PublicKey,
    pub(crate) preshared: PresharedKey,
    /// Shared secret of the two static keys: it never changes, so it is computed once.
    static_static: Zeroizing<[u8; 32]>,
}

impl Remote {
    pub(crate) fn new(
        identity: &Identity,
        public: PublicKey,
        preshared: PresharedKey,
    ) -> Result<Self, LowOrder> {
        Ok(Self {
            public,
            preshared,
            static_static: shared_secret(&identity.secret, &public)?,
        })
    }
}

/// An initiation we have sent and whose response we wait for.
pub(crate) struct Initiated {
    /// The index by which the response will name this handshake.
    pub(crate) local_index: u32,
    ephemeral: StaticSecret,
    symmetric: Symmetric,
}

impl Initiated {
    /// Begins a handshake. The message lacks its MACs.
    ///
    /// # Errors
    /// Only for a peer key of low order, which configuration refuses.
    pub(crate) fn start(
        identity: &Identity,
        remote: &Remote,
        local_index: u32,
        timestamp: Timestamp,
        random: &mut Random,
    ) -> Result<(Self, [u8; INITIATION_LEN]), LowOrder> {
        let (ephemeral, ephemeral_public) = ephemeral(random);
        let mut symmetric = Symmetric::new(&remote.public);
        let mut message = Initiation {
            sender: local_index,
            ephemeral: *ephemeral_public.as_bytes(),
            sealed_static: [0; 48],
            sealed_timestamp: [0; 28],
        };
        symmetric.mix_ephemeral(&ephemeral_public);
        let cipher = symmetric.mix_key(&*shared_secret(&ephemeral, &remote.public)?);
        symmetric.seal(
            &cipher,
            identity.public.as_bytes(),
            &mut message.sealed_static,
        );
        let cipher = symmetric.mix_key(&remote.static_static);
        symmetric.seal(&cipher, &timestamp.0, &mut message.sealed_timestamp);
        Ok((
            Self {
                local_index,
                ephemeral,
                symmetric,
            },
            message.emit(),
        ))
    }

    /// Reads the response and derives the session's keys.
    pub(crate) fn finish(
        &self,
        identity: &Identity,
        remote: &Remote,
        response: &Response,
    ) -> Result<TransportKeys, DropReason> {
        let mut symmetric = self.symmetric.clone();
        let ephemeral = PublicKey::from_bytes(response.ephemeral);
        symmetric.mix_ephemeral(&ephemeral);
        symmetric.mix_secret(&*shared_secret(&self.ephemeral, &ephemeral)?);
        symmetric.mix_secret(&*shared_secret(&identity.secret, &ephemeral)?);
        let cipher = symmetric.mix_preshared(&remote.preshared);
        symmetric.open::<0>(&cipher, &response.sealed_nothing)?;
        let [send, receive] = symmetric.split();
        Ok(TransportKeys { send, receive })
    }
}

/// An initiation somebody sent us. Who sent it is only a claim until [`OpenedInitiation::verify`].
pub(crate) struct OpenedInitiation {
    /// The claimed sender.
    pub(crate) claimed: PublicKey,
    symmetric: Symmetric,
    message: Initiation,
}

impl OpenedInitiation {
    pub(crate) fn open(identity: &Identity, message: Initiation) -> Result<Self, DropReason> {
        let mut symmetric = Symmetric::new(&identity.public);
        let ephemeral = PublicKey::from_bytes(message.ephemeral);
        symmetric.mix_ephemeral(&ephemeral);
        let cipher = symmetric.mix_key(&*shared_secret(&identity.secret, &ephemeral)?);
        let claimed = PublicKey::from_bytes(symmetric.open(&cipher, &message.sealed_static)?);
        Ok(Self {
            claimed,
            symmetric,
            message,
        })
    }

    /// Proves that `remote`, the claimed sender, made the message.
    pub(crate) fn verify(mut self, remote: &Remote) -> Result<VerifiedInitiation, DropReason> {
        let cipher = self.symmetric.mix_key(&remote.static_static);
        let timestamp = Timestamp(
            self.symmetric
                .open(&cipher, &self.message.sealed_timestamp)?,
        );
        Ok(VerifiedInitiation {
            timestamp,
            symmetric: self.symmetric,
            message: self.message,
        })
    }
}

/// An initiation made by the peer it claims. It may still be a replay: see `timestamp`.
pub(crate) struct VerifiedInitiation {
    /// Must be greater than that of every earlier initiation by this peer.
    pub(crate) timestamp: Timestamp,
    symmetric: Symmetric,
    message: Initiation,
}

impl VerifiedInitiation {
    /// The index by which the peer names the session.
    pub(crate) fn remote_index(&self) -> u32 {
        self.message.sender
    }

    /// Makes the response and the session's keys. The message lacks its MACs.
    pub(crate) fn respond(
        mut self,
        remote: &Remote,
        local_index: u32,
        random: &mut Random,
    ) -> Result<([u8; RESPONSE_LEN], TransportKeys), LowOrder> {
        let (ephemeral, ephemeral_public) = ephemeral(random);
        let mut response = Response {
            sender: local_index,
            receiver: self.message.sender,
            ephemeral: *ephemeral_public.as_bytes(),
            sealed_nothing: [0; 16],
        };
        let symmetric = &mut self.symmetric;
        symmetric.mix_ephemeral(&ephemeral_public);
        symmetric.mix_secret(&*shared_secret(
            &ephemeral,
            &PublicKey::from_bytes(self.message.ephemeral),
        )?);
        symmetric.mix_secret(&*shared_secret(&ephemeral, &remote.public)?);
        let cipher = symmetric.mix_preshared(&remote.preshared);
        symmetric.seal(&cipher, &[], &mut response.sealed_nothing);
        let [receive, send] = symmetric.split();
        Ok((response.emit(), TransportKeys { send, receive }))
    }
}

fn ephemeral(random: &mut Random) -> (StaticSecret, PublicKey) {
    let bytes = Zeroizing::new(random.bytes());
    let secret = StaticSecret::from(*bytes);
    let public = x25519_dalek::PublicKey::from(&secret);
    (secret, PublicKey::from_bytes(public.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Side {
        identity: Identity,
        remote: Remote,
    }

    fn sides(preshared: [PresharedKey; 2]) -> [Side; 2] {
        let [one, two] = [1, 2].map(|byte| Identity::new(&PrivateKey::from_random([byte; 32])));
        let [psk_one, psk_two] = preshared;
        let (public_one, public_two) = (one.public, two.public);
        let remote_two = Remote::new(&one, public_two, psk_one).unwrap();
        let remote_one = Remote::new(&two, public_one, psk_two).unwrap();
        [
            Side {
                identity: one,
                remote: remote_two,
            },
            Side {
                identity: two,
                remote: remote_one,
            },
        ]
    }

    fn time(seconds: u64) -> Timestamp {
        Timestamp::after(None, Duration::from_secs(seconds))
    }

    fn start(side: &Side, random: &mut Random) -> (Initiated, Initiation) {
        let (initiated, message) =
            Initiated::start(&side.identity, &side.remote, 11, time(5), random).unwrap();
        (initiated, Initiation::parse(&message))
    }

    #[test]
    fn both_sides_derive_the_same_keys() {
        let mut random = Random::new(&[0; 32]);
        let [a, b] = sides([
            PresharedKey::from_bytes([7; 32]),
            PresharedKey::from_bytes([7; 32]),
        ]);
        let (initiated, message) = start(&a, &mut random);
        let opened = OpenedInitiation::open(&b.identity, message).unwrap();
        assert_eq!(opened.claimed, a.identity.public);
        let verified = opened.verify(&b.remote).unwrap();
        assert_eq!((verified.timestamp, verified.remote_index()), (time(5), 11));
        let (response, theirs) = verified.respond(&b.remote, 22, &mut random).unwrap();
        let response = Response::parse(&response);
        assert_eq!((response.receiver, response.sender), (11, 22));
        let ours = initiated.finish(&a.identity, &a.remote, &response).unwrap();
        assert_eq!((&ours.send, &ours.receive), (&theirs.receive, &theirs.send));
        assert_ne!(ours.send, ours.receive);
    }

    #[test]
    fn another_preshared_key_fails_and_spoils_nothing() {
        let mut random = Random::new(&[0; 32]);
        let [a, mut b] = sides([PresharedKey::from_bytes([7; 32]), PresharedKey::absent()]);
        let (initiated, message) = start(&a, &mut random);
        let respond = |b: &Side, random: &mut Random| {
            let verified = OpenedInitiation::open(&b.identity, message.clone())
                .unwrap()
                .verify(&b.remote)
                .unwrap();
            Response::parse(&verified.respond(&b.remote, 22, random).unwrap().0)
        };
        let response = respond(&b, &mut random);
        assert_eq!(
            initiated.finish(&a.identity, &a.remote, &response).err(),
            Some(DropReason::Forged)
        );
        b.remote.preshared = PresharedKey::from_bytes([7; 32]);
        let response = respond(&b, &mut random);
        assert!(initiated.finish(&a.identity, &a.remote, &response).is_ok());
    }

    #[test]
    fn low_order_ephemerals_are_refused() {
        let mut random = Random::new(&[0; 32]);
        let [a, b] = sides([PresharedKey::absent(), PresharedKey::absent()]);
        let (initiated, mut message) = start(&a, &mut random);
        message.ephemeral = [0; 32];
        assert_eq!(
            OpenedInitiation::open(&b.identity, message).err(),
            Some(DropReason::LowOrderKey)
        );
        let response = Response {
            sender: 1,
            receiver: 11,
            ephemeral: [0; 32],
            sealed_nothing: [0; 16],
        };
        assert_eq!(
            initiated.finish(&a.identity, &a.remote, &response).err(),
            Some(DropReason::LowOrderKey)
        );
        assert!(
            Remote::new(
                &a.identity,
                PublicKey::from_bytes([0; 32]),
                PresharedKey::absent()
            )
            .is_err()
        );
    }

    #[test]
    fn timestamps_never_go_back() {
        let first = Timestamp::after(None, Duration::new(1_000, 999_999_999));
        assert_eq!(first.0[..8], (TAI64_UNIX_EPOCH + 1_000).to_be_bytes());
        assert_eq!(
            u32::from_be_bytes(first.0[8..].try_into().unwrap()) % TIMESTAMP_GRAIN,
            0
        );
        let mut last = first;
        for _ in 0..200 {
            let next = Timestamp::after(Some(last), Duration::from_secs(10));
            assert!(next > last);
            last = next;
        }
        assert!(
            last < Timestamp::after(None, Duration::from_secs(1_005)),
            "advances little beyond the clock"
        );
        assert_eq!(
            Timestamp::after(Some(last), Duration::from_secs(5_000)),
            time(5_000)
        );
        let _ = Timestamp::after(Some(Timestamp::after(None, Duration::MAX)), Duration::MAX);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The MACs that end handshake messages, and cookies (WireGuard paper sections 5.3, 5.4.4 and 5.4.7).
//!
//! mac1 proves that the sender knows our public key; it is checked before any expensive step and before anything is
//! answered. Under load a responder answers with a cookie, a MAC of the sender's address and port; only a sender that
//! repeats the handshake with mac2 made of that cookie, and so does receive at its address, gets a handshake.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::messages::{CookieReply, MAC_LEN, Macs};
use super::noise::{hash, mac, mac_matches};
use crate::aead::{Forged, extended};
use crate::key::PublicKey;
use crate::random::Random;

/// A cookie's secret is used for this long.
const SECRET_TIME: Duration = Duration::from_secs(120);
/// A received cookie is used for this long: five seconds less, so that it does not end on its way.
const COOKIE_TIME: Duration = Duration::from_secs(115);

/// Keys of the MACs in messages to the holder of one public key. Anybody who knows that key can compute them.
pub(crate) struct MacKeys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl MacKeys {
    pub(crate) fn new(recipient: &PublicKey) -> Self {
        Self {
            mac1: hash(&[b"mac1----", recipient.as_bytes()]),
            cookie: hash(&[b"cookie--", recipient.as_bytes()]),
        }
    }

    /// Whether a handshake message is addressed to this key.
    pub(crate) fn mac1_fits(&self, message: &[u8]) -> bool {
        Macs::of(message).is_some_and(|macs| mac_matches(&self.mac1, macs.before_mac1, macs.mac1))
    }
}

/// Signs our handshake messages to one peer.
pub(crate) struct Signer {
    keys: MacKeys,
    /// mac1 of the last message: a cookie reply is bound to it.
    last_mac1: Option<[u8; MAC_LEN]>,
    /// The peer's cookie, and when it came.
    cookie: Option<(Zeroizing<[u8; 16]>, Instant)>,
}

impl Signer {
    pub(crate) fn new(peer: &PublicKey) -> Self {
        Self {
            keys: MacKeys::new(peer),
            last_mac1: None,
            cookie: None,
        }
    }

    /// Writes mac1, and mac2 if the peer has given us a cookie that is still fresh.
    pub(crate) fn sign(&mut self, now: Instant, message: &mut [u8]) {
        let Some((before, mac2)) = message.split_last_chunk_mut::<MAC_LEN>() else {
            return;
        };
        let Some((body, mac1)) = before.split_last_chunk_mut::<MAC_LEN>() else {
            return;
        };
        *mac1 = mac(&self.keys.mac1, &[body]);
        self.last_mac1 = Some(*mac1);
        if self
            .cookie
            .as_ref()
            .is_some_and(|(_, since)| now.saturating_duration_since(*since) >= COOKIE_TIME)
        {
            self.cookie = None;
        }
        *mac2 = match &self.cookie {
            Some((cookie, _)) => mac(&cookie[..], &[before]),
            None => [0; MAC_LEN],
        };
    }

    /// Takes the cookie out of a reply to our last message, for the next one.
    pub(crate) fn accept(&mut self, now: Instant, reply: &CookieReply) -> Result<(), Forged> {
        let last_mac1 = self.last_mac1.ok_or(Forged)?;
        let mut cookie = Zeroizing::new(reply.sealed_cookie);
        extended::open(
            &self.keys.cookie,
            &reply.nonce,
            &last_mac1,
            &mut cookie[..],
            &reply.tag,
        )?;
        // One reply to one message: a replayed reply must not prolong the cookie.
        self.last_mac1 = None;
        self.cookie = Some((cookie, now));
        Ok(())
    }
}

/// Makes and checks the cookies we demand of others.
pub(crate) struct Baker {
    secret: Zeroizing<[u8; 32]>,
    since: Option<Instant>,
}

impl Baker {
    pub(crate) fn new() -> Self {
        Self {
            secret: Zeroizing::new([0; 32]),
            since: None,
        }
    }

    /// The reply to a handshake message whose mac1 fits `keys`.
    pub(crate) fn reply(
        &mut self,
        now: Instant,
        random: &mut Random,
        keys: &MacKeys,
        from: SocketAddr,
        message: &[u8],
    ) -> Option<CookieReply> {
        if !self.is_fresh(now) {
            random.fill(&mut self.secret[..]);
            self.since = Some(now);
        }
        let mac1 = Macs::of(message)?.mac1;
        let mut sealed_cookie = self.cookie(from);
        let nonce = random.bytes();
        let tag = extended::seal(&keys.cookie, &nonce, mac1, &mut sealed_cookie);
        // Both handshake messages carry their sender's index behind the type.
        let receiver = u32::from_le_bytes(*message.get(4..)?.first_chunk()?);
        Some(CookieReply {
            receiver,
            nonce,
            sealed_cookie,
            tag,
        })
    }

    /// Whether the sender of a handshake message has a cookie of ours for the address it sends from.
    pub(crate) fn mac2_fits(&self, now: Instant, from: SocketAddr, message: &[u8]) -> bool {
        let cookie = Zeroizing::new(self.cookie(from));
        self.is_fresh(now)
            && Macs::of(message)
                .is_some_and(|macs| mac_matches(&cookie[..], macs.before_mac2, macs.mac2))
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.since
            .is_some_and(|since| now.saturating_duration_since(since) < SECRET_TIME)
    }

    fn cookie(&self, from: SocketAddr) -> [u8; 16] {
        let port = from.port().to_be_bytes();
        match from {
            SocketAddr::V4(from) => mac(&self.secret[..], &[&from.ip().octets(), &port]),
            SocketAddr::V6(from) => mac(&self.secret[..], &[&from.ip().octets(), &port]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;
    use crate::wireguard::messages::INITIATION_LEN;

    struct Scene {
        now: Instant,
        random: Random,
        keys: MacKeys,
        baker: Baker,
        signer: Signer,
        from: SocketAddr,
        message: [u8; INITIATION_LEN],
    }

    /// A message signed by a caller that has no cookie.
    fn scene() -> Scene {
        let responder = PublicKey::from_bytes([9; 32]);
        let mut message = [3; INITIATION_LEN];
        let mut signer = Signer::new(&responder);
        signer.sign(origin(), &mut message);
        Scene {
            now: origin(),
            random: Random::new(&[1; 32]),
            keys: MacKeys::new(&responder),
            baker: Baker::new(),
            signer,
            from: "192.0.2.1:51820".parse().unwrap(),
            message,
        }
    }

    impl Scene {
        fn reply(&mut self) -> CookieReply {
            self.baker
                .reply(
                    self.now,
                    &mut self.random,
                    &self.keys,
                    self.from,
                    &self.message,
                )
                .unwrap()
        }

        fn sign(&mut self) {
            self.signer.sign(self.now, &mut self.message);
        }
    }

    #[test]
    fn a_cookie_makes_mac2() {
        let mut scene = scene();
        assert!(scene.keys.mac1_fits(&scene.message));
        assert!(!MacKeys::new(&PublicKey::from_bytes([8; 32])).mac1_fits(&scene.message));
        assert_eq!(scene.message[132..], [0; 16]);
        assert!(!scene.baker.mac2_fits(scene.now, scene.from, &scene.message));
        let reply = scene.reply();
        assert_eq!(reply.receiver, 0x0303_0303);
        scene.signer.accept(scene.now, &reply).unwrap();
        scene.sign();
        assert!(scene.keys.mac1_fits(&scene.message));
        assert!(scene.baker.mac2_fits(scene.now, scene.from, &scene.message));
        for other in ["192.0.2.2:51820", "192.0.2.1:51821", "[::1]:51820"] {
            assert!(
                !scene
                    .baker
                    .mac2_fits(scene.now, other.parse().unwrap(), &scene.message),
                "{other}"
            );
        }
    }

    #[test]
    fn cookies_and_secrets_age() {
        let mut scene = scene();
        let reply = scene.reply();
        scene.signer.accept(scene.now, &reply).unwrap();
        scene.sign();
        let made = scene.now;
        assert!(scene.baker.mac2_fits(
            made + SECRET_TIME - Duration::from_nanos(1),
            scene.from,
            &scene.message
        ));
        assert!(
            !scene
                .baker
                .mac2_fits(made + SECRET_TIME, scene.from, &scene.message)
        );
        scene.now = made + COOKIE_TIME;
        scene.sign();
        assert_eq!(scene.message[132..], [0; 16]);
    }

    #[test]
    fn only_the_reply_to_the_last_message_counts_and_only_once() {
        let mut scene = scene();
        let mut forged = scene.reply();
        forged.sealed_cookie[0] ^= 1;
        assert_eq!(scene.signer.accept(scene.now, &forged), Err(Forged));
        let old = scene.reply();
        scene.message[10] ^= 1;
        scene.sign();
        assert_eq!(scene.signer.accept(scene.now, &old), Err(Forged));
        let reply = scene.reply();
        assert_eq!(scene.signer.accept(scene.now, &reply), Ok(()));
        assert_eq!(scene.signer.accept(scene.now, &reply), Err(Forged));
    }
}

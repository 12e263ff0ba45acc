// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ChaCha20-Poly1305 (RFC 8439) behind one small trait, so that the packet path can use the fastest implementation at hand.
//!
//! [`Cipher`] is ring's by default and the portable one without the `ring` feature; both give the same bytes, which the
//! tests check. Nonces are a 64-bit counter as WireGuard numbers its packets.

/// Bytes of an authentication tag.
pub(crate) const TAG_LEN: usize = 16;

/// The tag does not fit the data: not sealed by the holder of the key, or changed on its way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Forged;

/// A key ready for use with counters as nonces.
pub(crate) trait Aead {
    fn new(key: &[u8; 32]) -> Self;

    /// Encrypts `data` in place and returns the tag. A counter must not be used twice with one key.
    fn seal(&self, counter: u64, additional: &[u8], data: &mut [u8]) -> [u8; TAG_LEN];

    /// Decrypts `data` in place. After an error its content is arbitrary.
    fn open(
        &self,
        counter: u64,
        additional: &[u8],
        data: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged>;
}

/// Four zero bytes, then the counter in little endian.
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

#[cfg(feature = "ring")]
pub(crate) use fast::Ring as Cipher;
#[cfg(not(feature = "ring"))]
pub(crate) use portable::Portable as Cipher;

#[cfg(feature = "ring")]
mod fast {
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};

    use super::{Aead, Forged, TAG_LEN, nonce};

    /// ring's assembly. The expanded key is not wiped when dropped: ring keeps it out of reach.
    pub(crate) struct Ring(LessSafeKey);

    impl Aead for Ring {
        fn new(key: &[u8; 32]) -> Self {
            let key =
                UnboundKey::new(&CHACHA20_POLY1305, key).expect("the algorithm takes 32 bytes");
            Self(LessSafeKey::new(key))
        }

        fn seal(&self, counter: u64, additional: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
            let nonce = Nonce::assume_unique_for_key(nonce(counter));
            let tag = self
                .0
                .seal_in_place_separate_tag(nonce, Aad::from(additional), data);
            let tag = tag.expect("fails above 256 GiB only, and a packet has 64 KiB");
            let mut out = [0; TAG_LEN];
            out.copy_from_slice(tag.as_ref());
            out
        }

        fn open(
            &self,
            counter: u64,
            additional: &[u8],
            data: &mut [u8],
            tag: &[u8; TAG_LEN],
        ) -> Result<(), Forged> {
            let nonce = Nonce::assume_unique_for_key(nonce(counter));
            let tag = Tag::from(*tag);
            match self
                .0
                .open_in_place_separate_tag(nonce, Aad::from(additional), tag, data, 0..)
            {
                Ok(_) => Ok(()),
                Err(_) => Err(Forged),
            }
        }
    }
}

#[cfg(any(test, not(feature = "ring")))]
mod portable {
    use chacha20poly1305::aead::AeadInOut;
    use chacha20poly1305::{ChaCha20Poly1305, KeyInit};

    use super::{Aead, Forged, TAG_LEN, nonce};

    /// Pure Rust: builds everywhere, wipes its key.
    pub(crate) struct Portable(ChaCha20Poly1305);

    impl Aead for Portable {
        fn new(key: &[u8; 32]) -> Self {
            Self(ChaCha20Poly1305::new(key.into()))
        }

        fn seal(&self, counter: u64, additional: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
            let tag =
                self.0
                    .encrypt_inout_detached(&nonce(counter).into(), additional, data.into());
            tag.expect("fails above 256 GiB only, and a packet has 64 KiB")
                .into()
        }

        fn open(
            &self,
            counter: u64,
            additional: &[u8],
            data: &mut [u8],
            tag: &[u8; TAG_LEN],
        ) -> Result<(), Forged> {
            let opened = self.0.decrypt_inout_detached(
                &nonce(counter).into(),
                additional,
                data.into(),
                tag.into(),
            );
            opened.map_err(|_| Forged)
        }
    }
}

/// XChaCha20-Poly1305 with a random 24-byte nonce, for cookie replies only (too rare to need a fast backend).
pub(crate) mod extended {
    use chacha20poly1305::aead::AeadInOut;
    use chacha20poly1305::{KeyInit, XChaCha20Poly1305};

    use super::{Forged, TAG_LEN};

    /// Encrypts `data` in place and returns the tag.
    pub(crate) fn seal(
        key: &[u8; 32],
        nonce: &[u8; 24],
        additional: &[u8],
        data: &mut [u8],
    ) -> [u8; TAG_LEN] {
        let tag = XChaCha20Poly1305::new(key.into()).encrypt_inout_detached(
            nonce.into(),
            additional,
            data.into(),
        );
        tag.expect("fails above 256 GiB only, and a cookie has 16 bytes")
            .into()
    }

    /// Decrypts `data` in place.
    pub(crate) fn open(
        key: &[u8; 32],
        nonce: &[u8; 24],
        additional: &[u8],
        data: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged> {
        let cipher = XChaCha20Poly1305::new(key.into());
        let opened =
            cipher.decrypt_inout_detached(nonce.into(), additional, data.into(), tag.into());
        opened.map_err(|_| Forged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn backends_agree() {
        let mut random = Random::new(&[1; 32]);
        for len in (0..200).chain([255, 256, 257, 1420, 1421, 9000, 65_507]) {
            let key = random.bytes::<32>();
            let counter = u64::from_le_bytes(random.bytes());
            let mut plain = vec![0; len];
            random.fill(&mut plain);
            let additional = random.bytes::<32>();
            let additional = &additional[..len % 33];
            let (mut one, mut two) = (plain.clone(), plain.clone());
            let tag = Cipher::new(&key).seal(counter, additional, &mut one);
            assert_eq!(
                tag,
                portable::Portable::new(&key).seal(counter, additional, &mut two),
                "{len}"
            );
            assert_eq!(one, two, "{len}");
            assert_eq!(
                Cipher::new(&key).open(counter, additional, &mut two, &tag),
                Ok(())
            );
            assert_eq!(
                portable::Portable::new(&key).open(counter, additional, &mut one, &tag),
                Ok(())
            );
            assert_eq!((&one, &two), (&plain, &plain));
        }
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let cipher = Cipher::new(&[9; 32]);
        let mut sealed = *b"twenty bytes of text";
        let tag = cipher.seal(1, b"header", &mut sealed);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cipher.open(1, b"header", &mut changed, &tag), Err(Forged));
        }
        for bit in 0..TAG_LEN * 8 {
            let mut changed = tag;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                cipher.open(1, b"header", &mut sealed.clone(), &changed),
                Err(Forged)
            );
        }
        assert_eq!(
            cipher.open(2, b"header", &mut sealed.clone(), &tag),
            Err(Forged)
        );
        assert_eq!(
            cipher.open(1, b"Header", &mut sealed.clone(), &tag),
            Err(Forged)
        );
        assert_eq!(cipher.open(1, b"header", &mut sealed, &tag), Ok(()));
    }

    #[test]
    fn cookies_open_with_their_nonce_only() {
        let mut data = [5; 16];
        let tag = extended::seal(&[1; 32], &[2; 24], b"mac1", &mut data);
        let mut wrong = data;
        assert_eq!(
            extended::open(&[1; 32], &[3; 24], b"mac1", &mut wrong, &tag),
            Err(Forged)
        );
        assert_eq!(
            extended::open(&[1; 32], &[2; 24], b"mac1", &mut data, &tag),
            Ok(())
        );
        assert_eq!(data, [5; 16]);
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The overlay's only source of randomness: a ChaCha20 keystream grown from the caller's seed.
//!
//! Each refill spends the first 32 bytes of keystream on the next key ("fast key erasure") and bytes handed out are
//! wiped, so whoever reads the memory later learns nothing about ephemeral keys already used.

use std::time::Duration;

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use zeroize::{Zeroize, Zeroizing};

/// Bytes made by one refill, the next key included: four ChaCha20 blocks at a time keep the vector units full.
const REFILL: usize = 512;
const KEY: usize = 32;

/// Deterministic for a seed, unpredictable without it.
pub(crate) struct Random {
    /// The next key, then bytes not yet handed out from `used` on.
    pool: Zeroizing<[u8; REFILL]>,
    used: usize,
}

impl Random {
    /// `seed` must come from the operating system's generator (or a test).
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let mut pool = Zeroizing::new([0; REFILL]);
        pool[..KEY].copy_from_slice(seed);
        Self { pool, used: REFILL }
    }

    /// Fills `out`.
    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        let mut filled = 0;
        while filled < out.len() {
            if self.used == REFILL {
                self.refill();
            }
            let count = (out.len() - filled).min(REFILL - self.used);
            let from = &mut self.pool[self.used..self.used + count];
            out[filled..filled + count].copy_from_slice(from);
            from.zeroize();
            self.used += count;
            filled += count;
        }
    }

    /// `N` random bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// A random index.
    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    /// A duration of whole milliseconds below `limit_ms`, for spreading retries; the bias of the remainder is below 1e-7.
    pub(crate) fn jitter(&mut self, limit_ms: u32) -> Duration {
        Duration::from_millis(u64::from(self.u32() % limit_ms.max(1)))
    }

    fn refill(&mut self) {
        let mut key = Zeroizing::new([0; KEY]);
        key.copy_from_slice(&self.pool[..KEY]);
        self.pool.zeroize();
        // A key makes one stream and is replaced by it: the nonce never varies.
        let mut stream = ChaCha20::new((&*key).into(), &[0; 12].into());
        stream.apply_keystream(&mut self.pool[..]);
        self.used = KEY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_bytes_whatever_the_portions() {
        let mut whole = [0; 3000];
        Random::new(&[7; 32]).fill(&mut whole);
        let mut pieces = Random::new(&[7; 32]);
        let mut got = Vec::new();
        for size in (1..).scan(0, |sum, size| {
            (*sum < 3000).then(|| {
                *sum += size;
                size
            })
        }) {
            let mut piece = vec![0; size];
            pieces.fill(&mut piece);
            got.extend(piece);
        }
        assert_eq!(got[..3000], whole);
        let mut other = [0; 64];
        Random::new(&[8; 32]).fill(&mut other);
        assert_ne!(other, whole[..64]);
    }

    #[test]
    fn first_refill_is_rfc_8439_keystream() {
        // Keystream of the all-zero key and nonce, RFC 8439 A.1 test vector 1, from byte 32 on.
        let expected = [0xda, 0x41, 0x59, 0x7c, 0x51, 0x57, 0x48, 0x8d];
        assert_eq!(Random::new(&[0; 32]).bytes::<8>(), expected);
    }

    #[test]
    fn spent_bytes_are_wiped() {
        let mut random = Random::new(&[1; 32]);
        let _ = random.bytes::<64>();
        assert!(random.pool[KEY..KEY + 64].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn jitter_stays_below_its_limit() {
        let mut random = Random::new(&[1; 32]);
        for _ in 0..1000 {
            assert!(random.jitter(334) < Duration::from_millis(334));
        }
        assert_eq!(random.jitter(0), Duration::ZERO);
    }
}

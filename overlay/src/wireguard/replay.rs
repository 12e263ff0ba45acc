// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Anti-replay window after RFC 6479: a ring of 64-bit words, so that the window moves without shifting bits.

/// Bits kept. One word is always being refilled, so the usable window is [`WINDOW`] counters.
const BITS: u64 = 8192;
const WORD: u64 = 64;
const WORDS: usize = 128;
/// How far behind the newest counter one is still accepted.
const WINDOW: u64 = BITS - WORD;

/// Which counters were already seen. Ask only after the packet has been authenticated: an attacker could otherwise
/// push the window ahead of the true sender.
#[derive(Debug)]
pub(crate) struct ReplayWindow {
    /// The greatest counter seen.
    newest: u64,
    words: [u64; WORDS],
}

impl ReplayWindow {
    pub(crate) const fn new() -> Self {
        Self {
            newest: 0,
            words: [0; WORDS],
        }
    }

    /// Whether `counter` is new; it is not from then on.
    pub(crate) fn accept(&mut self, counter: u64) -> bool {
        let word = counter / WORD;
        if counter > self.newest {
            let current = self.newest / WORD;
            for stale in 1..=(word - current).min(BITS / WORD) {
                self.words[slot(current + stale)] = 0;
            }
            self.newest = counter;
        } else if self.newest - counter >= WINDOW {
            return false;
        }
        let bit = 1 << (counter % WORD);
        let seen = &mut self.words[slot(word)];
        let new = *seen & bit == 0;
        *seen |= bit;
        new
    }
}

/// Place of a word in the ring; the remainder fits any `usize`.
const fn slot(word: u64) -> usize {
    (word % (BITS / WORD)) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn each_counter_once() {
        let mut window = ReplayWindow::new();
        for counter in [0, 1, 9, 8, 7, 2, 63, 64, 65, 8192] {
            assert!(window.accept(counter), "{counter}");
            assert!(!window.accept(counter), "{counter} again");
        }
    }

    #[test]
    fn edge_of_the_window() {
        let mut window = ReplayWindow::new();
        assert!(window.accept(WINDOW + 10));
        assert!(window.accept(11));
        assert!(!window.accept(10));
        assert!(!window.accept(0));
    }

    #[test]
    fn a_jump_forgets_everything_older() {
        let mut window = ReplayWindow::new();
        assert!((0..BITS).all(|counter| window.accept(counter)));
        let far = 1 << 40;
        assert!(window.accept(far));
        assert!(!window.accept(BITS - 1));
        assert!((1..WINDOW).all(|back| window.accept(far - back)));
        assert!((0..WINDOW).all(|back| !window.accept(far - back)));
        assert!(window.accept(u64::MAX));
        assert!(window.accept(u64::MAX - 1));
        assert!(!window.accept(u64::MAX));
    }

    #[test]
    fn agrees_with_a_set() {
        let mut random = SmallRng::seed_from_u64(3);
        let (mut window, mut seen, mut newest) = (ReplayWindow::new(), HashSet::new(), 0u64);
        for _ in 0..200_000 {
            let spread = if random.random_ratio(1, 100) {
                20_000
            } else {
                100
            };
            let counter = (newest + random.random_range(0..spread))
                .saturating_sub(random.random_range(0..9000));
            let expected = counter + WINDOW > newest.max(counter) && seen.insert(counter);
            newest = newest.max(counter);
            assert_eq!(window.accept(counter), expected, "{counter} of {newest}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keyed hashing: peers choose addresses and ports, so every table and every sequence number depends on the secret seed.
use std::hash::{BuildHasher, Hash, Hasher};

use siphasher::sip::{SipHasher13, SipHasher24};

/// Builds the hashers of all tables of one stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableKey(u64, u64);

impl BuildHasher for TableKey {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

/// Keys derived from [`super::Config::seed`], one per purpose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Secrets {
    table: TableKey,
    isn: (u64, u64),
    spread: (u64, u64),
    nonce: (u64, u64),
}

impl Secrets {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        let derive = |label: u64| {
            let (key, rest) = seed.split_at(16);
            let mut hasher = SipHasher24::new_with_key(key.try_into().expect("split at 16"));
            hasher.write(rest);
            hasher.write_u64(label);
            hasher.finish()
        };
        Self {
            table: TableKey(derive(1), derive(2)),
            isn: (derive(3), derive(4)),
            spread: (derive(5), derive(6)),
            nonce: (derive(7), derive(8)),
        }
    }

    pub(super) fn table(&self) -> TableKey {
        self.table
    }

    /// The offset F(4-tuple) of RFC 6528 §3.
    pub(super) fn isn_offset(&self, tuple: &impl Hash) -> u32 {
        let mut hasher = SipHasher24::new_with_keys(self.isn.0, self.isn.1);
        tuple.hash(&mut hasher);
        let hash = hasher.finish();
        u32::try_from(hash >> 32).expect("32 bits")
    }

    /// A number that only this stack can make of `id`.
    pub(super) fn nonce(&self, id: u64) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.nonce.0, self.nonce.1);
        hasher.write_u64(id);
        hasher.finish()
    }

    /// Chooses one of `count` (not 0) receivers that share an address.
    pub(super) fn spread(&self, tuple: &impl Hash, count: usize) -> usize {
        let mut hasher = SipHasher13::new_with_keys(self.spread.0, self.spread.1);
        tuple.hash(&mut hasher);
        usize::try_from(hasher.finish() % (count as u64)).expect("less than count")
    }
}

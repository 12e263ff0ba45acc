// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Session indices: the 32-bit numbers by which a peer names the handshake or session a datagram belongs to.
//!
//! One table serves all networks, so the index alone finds the peer. An index lives exactly as long as the handshake or
//! session that owns it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::random::Random;

/// Live indices and their owners.
#[derive(Debug)]
pub(crate) struct IndexTable<Owner>(HashMap<u32, Owner, BuildHasherDefault<Spread>>);

impl<Owner: Copy> IndexTable<Owner> {
    pub(crate) fn new() -> Self {
        Self(HashMap::default())
    }

    /// A fresh random index for `owner`. Terminates: peers are bounded far below 2^32 and hold at most four each.
    pub(crate) fn allocate(&mut self, random: &mut Random, owner: Owner) -> u32 {
        loop {
            let index = random.u32();
            if let std::collections::hash_map::Entry::Vacant(vacant) = self.0.entry(index) {
                vacant.insert(owner);
                return index;
            }
        }
    }

    pub(crate) fn owner(&self, index: u32) -> Option<Owner> {
        self.0.get(&index).copied()
    }

    pub(crate) fn release(&mut self, index: u32) {
        self.0.remove(&index);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The stored keys are our own random numbers, which nobody outside chooses: one multiplication spreads them well enough.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocate_find_release() {
        let mut random = Random::new(&[0; 32]);
        let mut table = IndexTable::new();
        let indices: Vec<u32> = (0..1000)
            .map(|owner| table.allocate(&mut random, owner))
            .collect();
        for (owner, index) in (0..).zip(&indices) {
            assert_eq!(table.owner(*index), Some(owner));
        }
        for index in &indices {
            table.release(*index);
            table.release(*index);
            assert_eq!(table.owner(*index), None);
        }
        assert_eq!(table.len(), 0);
    }
}

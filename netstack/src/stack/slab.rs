// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Storage with ids that are never reused: the low 24 bits are a slot, the rest counts the uses of that slot.

const SLOT_BITS: u32 = 24;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// A table of `T` by id. Looking up costs one index and one comparison.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Slot<T> {
    uses: u64,
    value: Option<T>,
}

impl<T> Slab<T> {
    /// Most entries a slab can hold.
    pub(super) const CAPACITY: usize = 1 << SLOT_BITS;

    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds what `make` builds for its id. `None` at [`Self::CAPACITY`].
    pub(super) fn insert_with(&mut self, make: impl FnOnce(u64) -> T) -> Option<u64> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < Self::CAPACITY => {
                self.slots.push(Slot {
                    uses: 0,
                    value: None,
                });
                self.slots.len() - 1
            }
            None => return None,
        };
        let entry = &mut self.slots[slot];
        entry.uses += 1;
        let id = (entry.uses << SLOT_BITS) | slot as u64;
        entry.value = Some(make(id));
        Some(id)
    }

    pub(super) fn get(&self, id: u64) -> Option<&T> {
        let slot = self.slots.get(Self::slot(id))?;
        if slot.uses == id >> SLOT_BITS {
            slot.value.as_ref()
        } else {
            None
        }
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        let slot = self.slots.get_mut(Self::slot(id))?;
        if slot.uses == id >> SLOT_BITS {
            slot.value.as_mut()
        } else {
            None
        }
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let index = Self::slot(id);
        let slot = self.slots.get_mut(index)?;
        if slot.uses != id >> SLOT_BITS {
            return None;
        }
        let value = slot.value.take()?;
        self.free.push(index);
        Some(value)
    }

    fn slot(id: u64) -> usize {
        usize::try_from(id & SLOT_MASK).expect("24 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_not_reused() {
        let mut slab = Slab::new();
        let first = slab.insert_with(|_| 'a').unwrap();
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert_with(|_| 'b').unwrap();
        assert_ne!(first, second);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&'b'));
        assert_eq!(slab.len(), 1);
    }
}

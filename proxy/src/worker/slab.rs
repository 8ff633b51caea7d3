//! Slots with generations: how a completion finds its connection, and how one that belongs to an
//! earlier user of the slot is told apart.
//!
//! # Contract
//! - A slot is either free or holds exactly one value.
//! - Every use of a slot has its own generation; a [`SlotKey`] of an earlier use finds nothing.
//! - Slots grow on demand up to the bound given at the start and are used again last in, first
//!   out, so that a worker which has been busy once touches the same few cache lines later.

use crate::blocks::Blocks;
use crate::engine::Token;

/// Names one use of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey {
    /// Index in the slab.
    pub slot: u32,
    /// Which use of the slot.
    pub generation: u32,
}

impl SlotKey {
    /// The slot's use that an operation was submitted for.
    pub fn of(token: Token) -> SlotKey {
        SlotKey {
            slot: token.slot,
            generation: token.generation,
        }
    }

    /// The key as one number, e.g. for a table of another module.
    pub fn pack(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.slot)
    }

    /// The inverse of [`SlotKey::pack`].
    pub fn unpack(packed: u64) -> SlotKey {
        let [a, b, c, d, e, f, g, h] = packed.to_be_bytes();
        SlotKey {
            generation: u32::from_be_bytes([a, b, c, d]),
            slot: u32::from_be_bytes([e, f, g, h]),
        }
    }
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// A bounded table of slots.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Blocks<Entry<T>>,
    free: Vec<u32>,
    max: u32,
}

impl<T> Slab<T> {
    /// Bytes of one slot.
    #[cfg(test)]
    pub const ENTRY: usize = size_of::<Entry<T>>();

    /// A table of at most `max` slots; none is allocated yet.
    pub fn new(max: u32) -> Self {
        Slab {
            entries: Blocks::default(),
            free: Vec::new(),
            max,
        }
    }

    /// Puts a value into a free slot.
    ///
    /// # Errors
    /// Gives the value back when every slot is in use.
    pub fn insert(&mut self, value: T) -> Result<SlotKey, T> {
        let free = self.free.pop();
        if let Some((slot, entry)) =
            free.and_then(|slot| Some((slot, self.entries.get_mut(slot as usize)?)))
        {
            assert!(entry.value.is_none(), "a slot of the free list is in use");
            entry.value = Some(value);
            return Ok(SlotKey {
                slot,
                generation: entry.generation,
            });
        }
        let slot = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        if slot >= self.max {
            return Err(value);
        }
        self.entries.push(Entry {
            generation: 0,
            value: Some(value),
        });
        Ok(SlotKey {
            slot,
            generation: 0,
        })
    }

    /// The value of this use of the slot, if it is still that use.
    pub fn get(&self, key: SlotKey) -> Option<&T> {
        let entry = self.entries.get(key.slot as usize)?;
        if entry.generation == key.generation {
            entry.value.as_ref()
        } else {
            None
        }
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, key: SlotKey) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        if entry.generation == key.generation {
            entry.value.as_mut()
        } else {
            None
        }
    }

    /// The key of the slot's current use.
    pub fn key_of(&self, slot: u32) -> Option<SlotKey> {
        let entry = self.entries.get(slot as usize)?;
        entry.value.as_ref().map(|_| SlotKey {
            slot,
            generation: entry.generation,
        })
    }

    /// Takes the value out and frees the slot; its keys find nothing from now on.
    pub fn remove(&mut self, key: SlotKey) -> Option<T> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    /// How many slots are in use.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether no slot is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more values fit.
    pub fn room(&self) -> usize {
        self.max as usize - self.len()
    }

    /// All slots in use, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (SlotKey, &T)> {
        self.entries.iter().enumerate().filter_map(|(slot, entry)| {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            entry.value.as_ref().map(|v| {
                (
                    SlotKey {
                        slot,
                        generation: entry.generation,
                    },
                    v,
                )
            })
        })
    }

    /// Asserts that each slot is in exactly one state: in use, or once on the free list.
    pub fn check(&self) {
        let mut free = vec![false; self.entries.len()];
        for &slot in &self.free {
            let seen = &mut free[slot as usize];
            assert!(!*seen, "slot {slot} is on the free list twice");
            *seen = true;
        }
        for (slot, entry) in self.entries.iter().enumerate() {
            assert_eq!(
                entry.value.is_none(),
                free[slot],
                "slot {slot} is in two states"
            );
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_an_earlier_use_finds_nothing() {
        let mut slab = Slab::new(4);
        let first = slab.insert('a').unwrap();
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b').unwrap();
        assert_eq!(first.slot, second.slot);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&'b'));
        slab.check();
    }

    #[test]
    fn a_full_table_gives_the_value_back() {
        let mut slab = Slab::new(2);
        let a = slab.insert(1).unwrap();
        slab.insert(2).unwrap();
        assert_eq!(slab.insert(3), Err(3));
        assert_eq!(slab.room(), 0);
        slab.remove(a);
        assert!(slab.insert(3).is_ok());
        slab.check();
    }

    #[test]
    fn a_packed_key_is_the_same_key() {
        let key = SlotKey {
            slot: 7,
            generation: 0xffff_fffe,
        };
        assert_eq!(SlotKey::unpack(key.pack()), key);
    }
}

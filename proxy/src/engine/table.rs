//! Sockets by name: a slab whose names remember how often their place was used.
//!
//! ```text
//! SockRef   | generation 12 bits | place 20 bits |
//! ```
//! A name that outlived its socket finds nothing (until its place was reused 4,096 times).

use super::op::SockRef;
use crate::blocks::Blocks;
use crate::limits::SOCKETS_MAX;

const PLACE_BITS: u32 = SOCKETS_MAX.trailing_zeros();
const GENERATION_MASK: u32 = (1 << (32 - PLACE_BITS)) - 1;

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    entry: Option<T>,
}

/// The sockets of one engine.
#[derive(Debug)]
pub(super) struct Table<T> {
    places: Blocks<Place<T>>,
    free: Vec<u32>,
    max: u32,
}

impl<T> Table<T> {
    /// Bytes of one place.
    #[cfg(test)]
    pub(super) const PLACE: usize = size_of::<Place<T>>();

    /// An empty table for at most `max` sockets; memory follows the most that were in it at once.
    pub(super) fn new(max: u32) -> Table<T> {
        Table {
            places: Blocks::default(),
            free: Vec::new(),
            max: max.min(SOCKETS_MAX),
        }
    }

    /// Whether no further socket fits.
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.places.len() >= self.max as usize
    }

    /// Puts an entry in and names it; gives it back when the table is full.
    pub(super) fn insert(&mut self, entry: T) -> Result<SockRef, T> {
        let free = self.free.pop();
        if let Some((place, p)) =
            free.and_then(|place| Some((place, self.places.get_mut(place as usize)?)))
        {
            debug_assert!(p.entry.is_none());
            p.entry = Some(entry);
            return Ok(SockRef(p.generation << PLACE_BITS | place));
        }
        if self.is_full() {
            return Err(entry);
        }
        // Below `max` ≤ 2^20, so it fits.
        let place = u32::try_from(self.places.len()).unwrap_or(0);
        self.places.push(Place {
            generation: 0,
            entry: Some(entry),
        });
        Ok(SockRef(place))
    }

    fn split(name: SockRef) -> (usize, u32) {
        (
            (name.0 & ((1 << PLACE_BITS) - 1)) as usize,
            name.0 >> PLACE_BITS,
        )
    }

    /// The entry of that name, if it is still the one that was named.
    pub(super) fn get(&self, name: SockRef) -> Option<&T> {
        let (place, generation) = Self::split(name);
        let p = self.places.get(place)?;
        if p.generation == generation {
            p.entry.as_ref()
        } else {
            None
        }
    }

    /// As [`get`](Self::get), to change it.
    pub(super) fn get_mut(&mut self, name: SockRef) -> Option<&mut T> {
        let (place, generation) = Self::split(name);
        let p = self.places.get_mut(place)?;
        if p.generation == generation {
            p.entry.as_mut()
        } else {
            None
        }
    }

    /// Takes the entry out; its name is void from now on.
    pub(super) fn remove(&mut self, name: SockRef) -> Option<T> {
        let (place, generation) = Self::split(name);
        let p = self.places.get_mut(place)?;
        if p.generation != generation {
            return None;
        }
        let entry = p.entry.take()?;
        p.generation = (p.generation + 1) & GENERATION_MASK;
        self.free.push(u32::try_from(place).unwrap_or(0));
        Some(entry)
    }

    /// All entries with their names, by place.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SockRef, &mut T)> {
        self.places.iter_mut().enumerate().filter_map(|(i, p)| {
            let name = SockRef(p.generation << PLACE_BITS | u32::try_from(i).unwrap_or(0));
            p.entry.as_mut().map(|e| (name, e))
        })
    }

    /// How many sockets it holds.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_name_does_not_find_the_next_user_of_its_place() {
        let mut t = Table::new(1);
        let a = t.insert('a').unwrap();
        assert_eq!(t.insert('b'), Err('b'));
        assert_eq!(t.remove(a), Some('a'));
        let b = t.insert('b').unwrap();
        assert_ne!(a, b);
        assert_eq!((t.get(a), t.get(b)), (None, Some(&'b')));
        assert_eq!((t.remove(a), t.get_mut(a)), (None, None));
        assert_eq!(t.len(), 1);
    }

    #[test]
    fn generations_wrap_without_spilling_into_the_place() {
        let mut t = Table::new(2);
        let first = t.insert(0).unwrap();
        for i in 0..=GENERATION_MASK {
            let name = t.insert(i).unwrap();
            assert_eq!(t.remove(name), Some(i));
        }
        assert_eq!(t.get(first), Some(&0));
        assert!(!t.is_full());
    }
}

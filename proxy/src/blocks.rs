//! A growing array that never moves what it holds.
//!
//! ```text
//! blocks   [ * | * | * ]            a vector of blocks, 8 bytes each
//!            |   |   '--> [ … ]     as many items as fit into `BLOCK_BYTES`, the last one partly used
//!            |   '------> [ … ]
//!            '----------> [ … ]
//! ```
//! The tables of sockets and streams have one entry for each thing that was ever open at once. A
//! vector would copy all of them each time it doubles, in the middle of a turn, and leave the old
//! copy behind: at 5,000 streams that cost more memory than the entries themselves.

use crate::limits::BLOCK_BYTES;

/// The array. Indices are dense and stay valid.
#[derive(Debug)]
pub(crate) struct Blocks<T> {
    blocks: Vec<Vec<T>>,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Blocks { blocks: Vec::new() }
    }
}

impl<T> Blocks<T> {
    /// Items of one block, at least 1.
    const ITEMS: usize = {
        let size = if size_of::<T>() == 0 {
            1
        } else {
            size_of::<T>()
        };
        if size > BLOCK_BYTES {
            1
        } else {
            BLOCK_BYTES / size
        }
    };

    /// How many it holds.
    pub(crate) fn len(&self) -> usize {
        match self.blocks.last() {
            Some(last) => (self.blocks.len() - 1) * Self::ITEMS + last.len(),
            None => 0,
        }
    }

    /// The item at that index.
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.blocks.get(at / Self::ITEMS)?.get(at % Self::ITEMS)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let block = self.blocks.get_mut(at / Self::ITEMS)?;
        block.get_mut(at % Self::ITEMS)
    }

    /// Puts an item behind the last one.
    pub(crate) fn push(&mut self, item: T) {
        match self.blocks.last_mut() {
            Some(last) if last.len() < Self::ITEMS => last.push(item),
            Some(_) | None => {
                let mut block = Vec::with_capacity(Self::ITEMS);
                block.push(item);
                self.blocks.push(block);
            }
        }
    }

    /// Forgets all items and gives their memory back.
    pub(crate) fn clear(&mut self) {
        self.blocks = Vec::new();
    }

    /// All items by index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten()
    }

    /// The same, to change them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.blocks.iter_mut().flatten()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_index_and_their_place() {
        let mut blocks = Blocks::default();
        assert_eq!((blocks.len(), blocks.get(0)), (0, None));
        blocks.push([0_u64; 16]);
        let place: *const _ = blocks.get(0).unwrap();
        for n in 1..1000 {
            blocks.push([n; 16]);
            assert_eq!(blocks.len() as u64, n + 1);
        }
        assert!(std::ptr::eq(place, blocks.get(0).unwrap()));
        for (n, item) in (0..).zip(blocks.iter()) {
            assert_eq!(item, &[n; 16]);
        }
        for item in blocks.iter_mut() {
            item[0] += 1;
        }
        assert_eq!(blocks.get(999).unwrap()[0], 1000);
        assert_eq!(blocks.get_mut(1000), None);
        blocks.clear();
        assert_eq!(blocks.len(), 0);
    }

    #[test]
    fn an_item_larger_than_a_block_has_one_of_its_own() {
        let mut blocks = Blocks::default();
        blocks.push([1_u8; 2 * BLOCK_BYTES]);
        blocks.push([2_u8; 2 * BLOCK_BYTES]);
        assert_eq!(blocks.get(1).unwrap()[0], 2);
        assert_eq!(blocks.blocks.len(), 2);
    }
}

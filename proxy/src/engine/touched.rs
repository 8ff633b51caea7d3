//! Which buffers of a class have memory: those that were given out since it was last given back.

use std::ops::Range;

/// A set of a class's buffers.
#[derive(Debug)]
pub(super) struct Touched {
    bits: Vec<u64>,
    count: u32,
}

impl Touched {
    /// None of `made` buffers.
    pub(super) fn new(made: u32) -> Touched {
        Touched {
            bits: vec![0; (made as usize).div_ceil(64)],
            count: 0,
        }
    }

    /// How many have memory.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// A buffer is given out: it has memory from now on.
    pub(super) fn insert(&mut self, index: u32) {
        if let Some(word) = self.bits.get_mut(index as usize / 64) {
            let bit = 1 << (index % 64);
            self.count += u32::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Forgets a buffer; whether it had memory.
    fn remove(&mut self, index: u32) -> bool {
        let Some(word) = self.bits.get_mut(index as usize / 64) else {
            return false;
        };
        let bit = 1 << (index % 64);
        let had = *word & bit != 0;
        *word &= !bit;
        self.count -= u32::from(had);
        had
    }

    /// Forgets those of `indices` that have memory, and says which these were: as few ranges as
    /// possible, because each is a system call.
    pub(super) fn forget(&mut self, indices: &[u32]) -> Vec<Range<u32>> {
        let mut cold: Vec<u32> = indices
            .iter()
            .copied()
            .filter(|&index| self.remove(index))
            .collect();
        cold.sort_unstable();
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for index in cold {
            match ranges.last_mut() {
                Some(last) if last.end == index => last.end += 1,
                Some(_) | None => ranges.push(index..index + 1),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_range_and_the_untouched_are_none() {
        let mut touched = Touched::new(200);
        for index in [3, 4, 5, 63, 64, 199, 4] {
            touched.insert(index);
        }
        assert_eq!(touched.count(), 6);
        let ranges = touched.forget(&[64, 5, 100, 63, 3, 199]);
        assert_eq!(ranges, [3..4, 5..6, 63..65, 199..200]);
        assert_eq!(touched.count(), 1);
        assert_eq!(touched.forget(&[4, 4]), [Range { start: 4, end: 5 }]);
    }
}

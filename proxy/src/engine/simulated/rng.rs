//! The one source of chance of a simulation: SplitMix64 (Steele, Lea and Flood, "Fast splittable
//! pseudorandom number generators", OOPSLA 2014). Not for secrets.

use std::ops::Range;

/// A seeded generator. The same seed gives the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator with that seed; every seed is as good as any other.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 when `n` is 0. The bias is of no matter here.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.draw() % n }
    }

    /// A size within the range; its start when it is empty.
    pub fn within(&mut self, range: Range<usize>) -> usize {
        let span = range.end.saturating_sub(range.start) as u64;
        range.start + usize::try_from(self.below(span)).unwrap_or(0)
    }

    /// True in `permille` of a thousand cases.
    pub fn chance(&mut self, permille: u32) -> bool {
        // No draw where nothing is left to chance: turning a fault off does not shift the others.
        permille > 0 && self.below(1000) < u64::from(permille)
    }

    /// Puts the items into an order of chance (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.within(0..i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_paper() {
        // From the reference implementation with seed 1234567.
        let mut rng = Rng::new(1_234_567);
        let want = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!([rng.draw(), rng.draw(), rng.draw()], want);
    }

    #[test]
    fn numbers_keep_within_their_range() {
        let mut rng = Rng::new(1);
        assert!((0..1000).all(|_| (3..7).contains(&rng.within(3..7))));
        assert_eq!((rng.within(5..5), rng.below(0)), (5, 0));
        assert!((0..1000).all(|_| !rng.chance(0)) && (0..1000).all(|_| rng.chance(1000)));
    }
}

//! The sliding window of RFC 6479: which counters of a session were used, in constant memory.

use crate::limits::LEG_WINDOW;

/// Which counters of a session were used: one bit each, behind the highest seen (RFC 6479).
#[derive(Debug)]
pub(super) struct Window {
    /// One above the highest counter seen.
    next: u64,
    bits: Box<[u64; WORDS]>,
}

// One word more than the window: the word of `next` is cleared as it is entered, so that the window
// behind it stays whole.
const WORDS: usize = (LEG_WINDOW / 64) as usize + 1;
const _: () = assert!(LEG_WINDOW.is_multiple_of(64));

impl Window {
    /// Nothing was used.
    pub fn new() -> Window {
        Window {
            next: 0,
            bits: Box::new([0; WORDS]),
        }
    }

    fn place(counter: u64) -> (usize, u64) {
        let word = (counter / 64) % WORDS as u64;
        (word as usize, 1 << (counter % 64))
    }

    /// Whether the counter is neither used nor too old.
    pub fn is_fresh(&self, counter: u64) -> bool {
        if counter >= self.next {
            return counter < u64::MAX;
        }
        let (word, bit) = Window::place(counter);
        self.next - counter <= LEG_WINDOW && self.bits[word] & bit == 0
    }

    /// Marks a fresh counter as used.
    pub fn mark(&mut self, counter: u64) {
        if counter >= self.next {
            let (first, last) = (self.next.div_ceil(64), counter / 64);
            for word in first..=last.min(first.saturating_add(WORDS as u64)) {
                self.bits[(word % WORDS as u64) as usize] = 0;
            }
            self.next = counter + 1;
        }
        let (word, bit) = Window::place(counter);
        self.bits[word] |= bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_as_wide_as_designed_wherever_its_highest_counter_lies() {
        for highest in LEG_WINDOW..LEG_WINDOW + 200 {
            let mut window = Window::new();
            window.mark(highest);
            let oldest = highest + 1 - LEG_WINDOW;
            assert!(window.is_fresh(oldest), "{oldest} below {highest}");
            window.mark(oldest);
            assert!(!window.is_fresh(oldest));
            assert!(oldest == 0 || !window.is_fresh(oldest - 1), "too old");
        }
    }

    /// The window against a set that forgets nothing.
    #[test]
    fn no_counter_is_ever_fresh_twice() {
        let mut seed = 1_u64;
        let mut window = Window::new();
        let mut used = std::collections::BTreeSet::new();
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let jump = if seed >> 60 == 0 { 9000 } else { 300 };
            let counter =
                window.next.saturating_sub(LEG_WINDOW) + (seed >> 33) % (LEG_WINDOW + jump);
            if window.is_fresh(counter) {
                assert!(used.insert(counter), "{counter} twice");
                window.mark(counter);
            } else {
                assert!(
                    used.contains(&counter),
                    "{counter} is near and was not used"
                );
            }
        }
        assert!(!window.is_fresh(0), "too old");
    }
}

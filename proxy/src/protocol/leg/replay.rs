//! A sliding window over counters: each is taken once, in any order within the window
//! (the scheme of RFC 4303, section 3.4.3, on a ring of words as in RFC 6479).

use crate::limits::LEG_WINDOW;

const WORDS: usize = (LEG_WINDOW / 64) as usize;
const _: () = assert!(LEG_WINDOW.is_multiple_of(64));

/// Which of the last `limits::LEG_WINDOW` counters have been seen. 520 bytes.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// One above the highest counter seen.
    next: u64,
    /// Counter `c` has the bit `c mod LEG_WINDOW`.
    seen: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        ReplayWindow {
            next: 0,
            seen: [0; WORDS],
        }
    }
}

impl ReplayWindow {
    /// Takes `counter` if it was not taken before and is not too far behind the highest. Call it
    /// only for what has been authenticated: anybody could move the window otherwise.
    pub fn accept(&mut self, counter: u64) -> bool {
        if counter >= self.next {
            // The highest number would leave nothing above it.
            let Some(next) = counter.checked_add(1) else {
                return false;
            };
            self.advance(next);
        } else if self.next - counter > LEG_WINDOW {
            return false;
        }
        let (word, bit) = place(counter);
        let fresh = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        fresh
    }

    /// Makes room for the counters from the old `next` to the new one: their bits still tell of
    /// counters that lie a window behind.
    fn advance(&mut self, next: u64) {
        if next - self.next >= LEG_WINDOW {
            self.seen = [0; WORDS];
        } else {
            let mut at = self.next;
            while at < next {
                let (word, bit) = place(at);
                if bit == 1 && next - at >= 64 {
                    self.seen[word] = 0;
                    at += 64;
                } else {
                    self.seen[word] &= !bit;
                    at += 1;
                }
            }
        }
        self.next = next;
    }
}

fn place(counter: u64) -> (usize, u64) {
    let at = counter % LEG_WINDOW;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_counter_is_taken_once_in_any_order() {
        let mut window = ReplayWindow::default();
        for counter in [5, 0, 3, 4095, 1, 4, 2, 4094] {
            assert!(window.accept(counter), "{counter}");
            assert!(!window.accept(counter), "{counter} again");
        }
    }

    #[test]
    fn what_lies_behind_the_window_is_refused_even_if_new() {
        let mut window = ReplayWindow::default();
        assert!(window.accept(LEG_WINDOW));
        assert!(!window.accept(0));
        assert!(window.accept(1));
        assert!(window.accept(10 * LEG_WINDOW));
        assert!(!window.accept(9 * LEG_WINDOW));
        assert!(window.accept(9 * LEG_WINDOW + 1));
    }

    #[test]
    fn the_last_counters_there_are_end_it() {
        let mut window = ReplayWindow::default();
        assert!(window.accept(u64::MAX - 1));
        assert!(!window.accept(u64::MAX));
        assert!(window.accept(u64::MAX - 2));
    }

    proptest! {
        #[test]
        fn it_does_what_a_set_of_all_counters_would_do(
            steps in proptest::collection::vec((0..4u8, 0..6000u64), 1..400),
        ) {
            let mut window = ReplayWindow::default();
            let mut taken = BTreeSet::new();
            let mut highest = 0;
            for (kind, by) in steps {
                let counter = match kind {
                    0 => highest + by,
                    1 => highest + by % 70,
                    _ => u64::saturating_sub(highest, by),
                };
                let in_window = taken.is_empty() || counter + LEG_WINDOW > highest;
                let fresh = in_window && !taken.contains(&counter);
                prop_assert_eq!(window.accept(counter), fresh, "{} of {}", counter, highest);
                if fresh {
                    taken.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }
    }
}

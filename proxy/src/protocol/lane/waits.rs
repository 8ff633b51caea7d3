//! Streams that wait for an answer, in the order in which their time runs out.
//!
//! One end has one kind of wait (an inlet for OPENED, an outlet for its target), and all waits of
//! a kind are equally long: the first to begin is the first to end. So a doubly linked list by
//! number does it, in O(1) and without a stale entry.

use crate::time::Instant;

/// No stream has this number, so it ends the list.
const NONE: u16 = 0;

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    at: Instant,
    before: u16,
    after: u16,
    waits: bool,
}

/// The list. Number `n` has its link at index `n`; index 0 holds both ends.
#[derive(Debug)]
pub(super) struct Waits {
    links: Vec<Link>,
}

#[cfg(test)]
impl Waits {
    /// Bytes of one stream's place.
    pub(super) const LINK: usize = size_of::<Link>();
}

impl Default for Waits {
    fn default() -> Self {
        Waits {
            links: vec![Link::default()],
        }
    }
}

impl Waits {
    fn link(&mut self, n: u16) -> &mut Link {
        &mut self.links[usize::from(n)]
    }

    /// `n` waits until `at`, not before any other's time.
    pub(super) fn push(&mut self, n: u16, at: Instant) {
        if self.links.len() <= usize::from(n) {
            self.links.resize(usize::from(n) + 1, Link::default());
        }
        let last = self.link(NONE).before;
        debug_assert!(
            n != NONE && !self.link(n).waits,
            "a stream waits for one thing"
        );
        debug_assert!(
            last == NONE || self.link(last).at <= at,
            "waits begin in order"
        );
        *self.link(n) = Link {
            at,
            before: last,
            after: NONE,
            waits: true,
        };
        self.link(last).after = n;
        self.link(NONE).before = n;
    }

    /// `n` waits no more.
    pub(super) fn remove(&mut self, n: u16) {
        let Some(&Link {
            before,
            after,
            waits: true,
            ..
        }) = self.links.get(usize::from(n))
        else {
            return;
        };
        self.link(before).after = after;
        self.link(after).before = before;
        *self.link(n) = Link::default();
    }

    /// The one whose time runs out first.
    pub(super) fn first(&self) -> Option<(u16, Instant)> {
        let n = self.links[0].after;
        (n != NONE).then(|| (n, self.links[usize::from(n)].at))
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Waits::default();
    }

    pub(super) fn contains(&self, n: u16) -> bool {
        self.links
            .get(usize::from(n))
            .is_some_and(|link| link.waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_begin_is_the_first_to_end_wherever_others_leave() {
        let at = Instant::from_nanos;
        let mut waits = Waits::default();
        assert_eq!(waits.first(), None);
        for (n, t) in [(3, 10), (1, 20), (2, 20), (9, 30)] {
            waits.push(n, at(t));
        }
        assert_eq!(waits.first(), Some((3, at(10))));
        waits.remove(1);
        waits.remove(3);
        waits.remove(3);
        waits.remove(400);
        assert_eq!(waits.first(), Some((2, at(20))));
        assert!(waits.contains(9) && !waits.contains(1));
        waits.push(1, at(40));
        waits.remove(9);
        waits.remove(2);
        assert_eq!(waits.first(), Some((1, at(40))));
        waits.clear();
        assert_eq!(waits.first(), None);
    }
}

//! What all lanes of one worker share: the budget for credit, and the authority's time.

use std::cell::Cell;
use std::rc::Rc;

use crate::time::Instant;

/// Shared by the lanes of one worker; a clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct LaneShared(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Bytes of credit that may still be granted beyond the initial grants.
    credit: Cell<usize>,
    /// The authority's time in milliseconds since 1970, and when it was that.
    authority: Cell<Option<(u64, Instant)>>,
}

impl LaneShared {
    /// With `credit` bytes to grant beyond the initial grants (`limits::CREDIT_BUDGET`). The
    /// authority's time is unknown; an outlet refuses every OPEN until it is set.
    pub fn new(credit: usize) -> LaneShared {
        LaneShared(Rc::new(Inner {
            credit: Cell::new(credit),
            authority: Cell::new(None),
        }))
    }

    /// The authority's time was `unix_millis` at `at`.
    pub fn set_authority_time(&self, unix_millis: u64, at: Instant) {
        self.0.authority.set(Some((unix_millis, at)));
    }

    /// The authority's time now, in milliseconds since 1970.
    pub fn authority_millis(&self, now: Instant) -> Option<u64> {
        let (millis, at) = self.0.authority.get()?;
        let passed = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
        Some(millis.saturating_add(passed))
    }

    /// Bytes of credit that are left to grant.
    pub fn credit_left(&self) -> usize {
        self.0.credit.get()
    }
}

/// One lane's part of the budget, given back when the lane is dropped.
#[derive(Debug)]
pub(super) struct Grants {
    shared: LaneShared,
    taken: usize,
}

impl Grants {
    pub(super) fn new(shared: &LaneShared) -> Grants {
        Grants {
            shared: shared.clone(),
            taken: 0,
        }
    }

    /// Takes `bytes` if all of them are left.
    pub(super) fn take(&mut self, bytes: u32) -> bool {
        let Some(left) = self.shared.credit_left().checked_sub(bytes as usize) else {
            return false;
        };
        self.shared.0.credit.set(left);
        self.taken += bytes as usize;
        true
    }

    pub(super) fn give_back(&mut self, bytes: u32) {
        let bytes = bytes as usize;
        assert!(
            bytes <= self.taken,
            "a lane gives back more credit than it took"
        );
        self.taken -= bytes;
        self.shared.0.credit.set(self.shared.credit_left() + bytes);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }
}

impl Drop for Grants {
    fn drop(&mut self) {
        self.shared
            .0
            .credit
            .set(self.shared.credit_left() + self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn the_budget_is_shared_and_comes_back_with_the_lane() {
        let shared = LaneShared::new(100);
        let (mut one, mut two) = (Grants::new(&shared), Grants::new(&shared));
        assert!(one.take(60) && !two.take(50) && two.take(40));
        assert_eq!(shared.credit_left(), 0);
        one.give_back(10);
        assert_eq!((shared.credit_left(), one.taken()), (10, 50));
        drop(one);
        drop(two);
        assert_eq!(shared.credit_left(), 100);
    }

    #[test]
    fn authority_time_goes_on_from_where_it_was_set() {
        let shared = LaneShared::new(0);
        let at = Instant::from_nanos(5_000_000);
        assert_eq!(shared.authority_millis(at), None);
        shared.set_authority_time(1_000, at);
        assert_eq!(
            shared.authority_millis(at + Duration::from_millis(250)),
            Some(1_250)
        );
    }
}

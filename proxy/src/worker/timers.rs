//! Deadlines of slots: one per slot, kept in a binary heap whose stale entries are thrown away
//! when they surface.
//!
//! # Contract
//! - A slot stores its own deadline; the heap only promises to wake the worker *no later* than
//!   the earliest of them. Moving a deadline to later therefore costs nothing: the old entry
//!   surfaces, finds the deadline in the future, and is queued again.
//! - [`Timers::pop`] may return a slot whose deadline has moved or which is gone; the caller
//!   compares with what the slot says.
//!
//! A heap and not a wheel: deadlines here move almost only to later, so the heap is touched about
//! once per connection and deadline, not once per record.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::slab::SlotKey;
use crate::time::Instant;

/// The heap.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, SlotKey)>>,
}

impl Timers {
    /// An empty heap.
    pub fn new() -> Self {
        Timers::default()
    }

    /// Wakes the worker for this slot no later than `at`. `queued` is the slot's own note of its
    /// earliest entry in the heap; only an earlier deadline makes a new entry.
    pub fn set(&mut self, key: SlotKey, at: Instant, queued: &mut Instant) {
        if at < *queued {
            *queued = at;
            self.heap.push(Reverse((at, key)));
        }
    }

    /// When the worker must look again.
    pub fn next(&self) -> Instant {
        self.heap
            .peek()
            .map_or(Instant::FAR_FUTURE, |Reverse((at, _))| *at)
    }

    /// The next entry that is due at `now`, with the instant it was queued for.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, SlotKey)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Entries, stale ones included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Throws away the entries that `keep` doesn't recognise. Called when stale entries (left by
    /// slots that were freed early) outnumber the live ones, so the heap stays proportional to the
    /// slots in use.
    pub fn retain(&mut self, mut keep: impl FnMut(Instant, SlotKey) -> bool) {
        self.heap.retain(|Reverse((at, key))| keep(*at, *key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> SlotKey {
        SlotKey {
            slot,
            generation: 0,
        }
    }

    #[test]
    fn a_later_deadline_makes_no_second_entry() {
        let mut timers = Timers::new();
        let mut queued = Instant::FAR_FUTURE;
        timers.set(key(1), Instant::from_nanos(10), &mut queued);
        timers.set(key(1), Instant::from_nanos(20), &mut queued);
        assert_eq!(timers.len(), 1);
        assert_eq!(timers.next(), Instant::from_nanos(10));
    }

    #[test]
    fn entries_come_out_in_order_and_only_when_due() {
        let mut timers = Timers::new();
        for nanos in [30, 10, 20] {
            let mut queued = Instant::FAR_FUTURE;
            timers.set(
                key(nanos),
                Instant::from_nanos(u64::from(nanos)),
                &mut queued,
            );
        }
        let now = Instant::from_nanos(20);
        assert_eq!(timers.pop(now), Some((Instant::from_nanos(10), key(10))));
        assert_eq!(timers.pop(now), Some((Instant::from_nanos(20), key(20))));
        assert_eq!(timers.pop(now), None);
        assert_eq!(timers.next(), Instant::from_nanos(30));
    }
}

//! Provided buffers: a group per class from which the kernel takes a buffer when bytes have come,
//! so that an idle socket holds none.
//!
//! ```text
//! ring memory  | address, length, number | … |        written here, read by the kernel
//!                ^ taken by the kernel     ^ tail, published after the entries
//! entry        pool buffer i: address = start + at, length = size - at, number = i
//! ```
//! A receive limits its own length, so receives that leave different room behind the bytes share
//! a group; room before them is part of the address, so the first one of a class decides it.
//!
//! # Invariants
//! - `lent` = entries published − buffers that came back with a completion; the pool counts them
//!   as free but lent. It never exceeds the ring, so no entry is overwritten before it was taken.
//! - Never more than half of what is free is lent: the rest is for `alloc`. A group that proves too
//!   small doubles its target until [`PROVIDED_MAX`]; quiet times reset it.

#![expect(
    unsafe_code,
    reason = "writes the ring of buffers that the kernel reads"
)]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use rustix::mm;

use super::super::buf::{Buf, Class, Pool};
use crate::limits::{PAGE, PROVIDED_LARGE_START, PROVIDED_MAX, PROVIDED_START};

/// How many buffers lie in the kernel to begin with; none of Bulk, which is received into own
/// buffers (measured cheaper).
fn start_of(class: Class) -> Option<u16> {
    match class {
        Class::Small | Class::Medium => Some(PROVIDED_START),
        Class::Large => Some(PROVIDED_LARGE_START),
        Class::Bulk => None,
    }
}

/// The buffers of one class that lie in the kernel.
#[derive(Debug)]
pub(super) struct Group {
    class: Class,
    memory: NonNull<BufRingEntry>,
    /// A power of two.
    entries: u16,
    tail: u16,
    lent: u16,
    start: u16,
    target: u16,
    /// Room before the bytes, decided by the first receive.
    at: Option<usize>,
}

impl Group {
    /// A group for the class, empty; `None` where the pool is too small to keep buffers for both
    /// the kernel and `alloc`.
    ///
    /// # Errors
    /// What mmap says.
    pub(super) fn new(class: Class, made: u32) -> io::Result<Option<Group>> {
        let half = u16::try_from(made / 2).unwrap_or(u16::MAX);
        let Some(start) = start_of(class).filter(|&start| start <= half) else {
            return Ok(None);
        };
        let entries = half.min(PROVIDED_MAX);
        let entries = if entries.is_power_of_two() {
            entries
        } else {
            entries.next_power_of_two() / 2
        };
        let len = memory_len(entries);
        let prot = mm::ProtFlags::READ | mm::ProtFlags::WRITE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice overlaps nothing.
        let memory =
            unsafe { mm::mmap_anonymous(std::ptr::null_mut(), len, prot, mm::MapFlags::PRIVATE)? };
        let memory = NonNull::new(memory.cast::<BufRingEntry>())
            .ok_or_else(|| io::Error::other("mmap gave address zero"))?;
        Ok(Some(Group {
            class,
            memory,
            entries,
            tail: 0,
            lent: 0,
            start,
            target: start,
            at: None,
        }))
    }

    /// The group's number in the kernel.
    pub(super) fn id(&self) -> u16 {
        // Four classes.
        u16::try_from(self.class.index()).unwrap_or(0)
    }

    /// Makes the group known to a ring.
    ///
    /// # Errors
    /// What io_uring_register says.
    pub(super) fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.memory.as_ptr() as u64;
        // SAFETY: page-aligned memory for `entries` entries, zeroed, which lives as long as this
        // value; the engine drops its ring before its groups.
        unsafe { submitter.register_buf_ring_with_flags(address, self.entries, self.id(), 0) }
    }

    /// Whether a receive that wants `at` bytes of room before its bytes can use the group.
    pub(super) fn suits(&mut self, at: usize) -> bool {
        *self.at.get_or_insert(at) == at
    }

    /// How many buffers lie in the kernel.
    pub(super) fn lent(&self) -> u16 {
        self.lent
    }

    /// A receive found no buffer: keep more in the kernel from now on.
    pub(super) fn grow(&mut self) {
        self.target = self.target.saturating_mul(2).min(self.entries);
    }

    /// Forgets growth that is not needed when at most `peak` buffers were in use at once.
    pub(super) fn shrink_to(&mut self, peak: u32) {
        if peak < u32::from(self.start) {
            self.target = self.start;
        }
    }

    /// Lends buffers of the pool up to the target. Costs nothing when the group is full.
    pub(super) fn refill(&mut self, pool: &Pool) {
        let Some(at) = self.at else {
            return;
        };
        let before = self.tail;
        while self.lent < self.target && pool.available(self.class) > usize::from(self.lent) {
            let Some((index, start)) = pool.lend(self.class) else {
                break;
            };
            let place = usize::from(self.tail & (self.entries - 1));
            // SAFETY: `place` is within the ring, and the kernel has taken what lay there: at most
            // `target` ≤ `entries` entries are lent. The kernel reads it only once the tail says so.
            let entry = unsafe { self.memory.add(place).as_mut() };
            entry.set_addr(start.as_ptr() as u64 + at as u64);
            // Below 2^32 and 2^16: a buffer's size, and a class has at most 65,536.
            entry.set_len(u32::try_from(self.class.size() - at).unwrap_or(0));
            entry.set_bid(u16::try_from(index).unwrap_or(0));
            self.tail = self.tail.wrapping_add(1);
            self.lent += 1;
        }
        if self.tail != before {
            // SAFETY: the tail lies in the reserved part of the first entry of this ring, aligned
            // for u16, written by nobody else and read by the kernel.
            let tail = unsafe {
                let tail = BufRingEntry::tail(self.memory.as_ptr());
                AtomicU16::from_ptr(tail.cast_mut())
            };
            tail.store(self.tail, Ordering::Release);
        }
    }

    /// The buffer that a completion says the kernel took.
    pub(super) fn taken(&mut self, number: u16, pool: &Pool) -> Buf {
        assert!(self.lent > 0, "a buffer that was not lent");
        self.lent -= 1;
        pool.receive_lent(self.class, u32::from(number))
    }

    /// Keeps the memory for ever, for an engine that can't make sure that the kernel is done.
    pub(super) fn leak(self) {
        std::mem::forget(self);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; nobody else refers to it, and the ring it was
        // registered with is gone or done with it (the engine drops its ring first, and the kernel
        // has its own hold on the pages).
        let gone = unsafe { mm::munmap(self.memory.as_ptr().cast(), memory_len(self.entries)) };
        debug_assert!(gone.is_ok());
    }
}

fn memory_len(entries: u16) -> usize {
    (usize::from(entries) * size_of::<BufRingEntry>()).next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn entry(g: &Group, place: usize) -> (u64, u32, u16) {
        // SAFETY: within the ring's memory, which no kernel writes.
        let e = unsafe { g.memory.add(place).as_ref() };
        (e.addr(), e.len(), e.bid())
    }

    #[test]
    fn entries_point_behind_the_room_that_was_asked_for() {
        let mut pool = Pool::open([256, 0, 0, 0]).unwrap();
        let mut g = Group::new(Class::Small, 256).unwrap().unwrap();
        g.refill(&pool);
        assert_eq!(g.lent(), 0, "nobody has asked yet");
        assert!(g.suits(24) && g.suits(24) && !g.suits(0));
        g.refill(&pool);
        assert_eq!(g.lent(), PROVIDED_START);
        let (addr, len, number) = entry(&g, 0);
        let buf = g.taken(number, &pool);
        assert_eq!(addr, buf.start().as_ptr() as u64 + 24);
        assert_eq!(len as usize, Class::Small.size() - 24);
        pool.free(buf);
        assert!(pool.stats().balanced());
    }

    #[test]
    fn a_group_takes_no_more_than_half_of_what_is_free() {
        let mut pool = Pool::open([128, 0, 0, 0]).unwrap();
        let mut g = Group::new(Class::Small, 128).unwrap().unwrap();
        assert!(g.suits(0));
        let held: Vec<Buf> = (0..108)
            .map(|_| pool.alloc(Class::Small).unwrap())
            .collect();
        g.refill(&pool);
        assert_eq!(g.lent(), 10);
        assert_eq!(pool.available(Class::Small), 10);
        held.into_iter().for_each(|b| pool.free(b));
        g.refill(&pool);
        assert_eq!(g.lent(), PROVIDED_START);
    }

    #[test]
    fn a_group_grows_to_its_bound_and_shrinks_again() {
        let mut pool = Pool::open([4096, 0, 0, 0]).unwrap();
        let mut g = Group::new(Class::Small, 4096).unwrap().unwrap();
        assert!(g.suits(0));
        for _ in 0..10 {
            g.grow();
            g.refill(&pool);
        }
        assert_eq!(g.lent(), PROVIDED_MAX);
        g.shrink_to(64);
        assert_eq!(g.target, PROVIDED_MAX);
        g.shrink_to(63);
        for place in 0..usize::from(PROVIDED_MAX) {
            let buf = g.taken(entry(&g, place).2, &pool);
            pool.free(buf);
            g.refill(&pool);
            assert!(g.lent() >= PROVIDED_START);
        }
        assert_eq!(g.lent(), PROVIDED_START);
        assert!(pool.stats().balanced());
    }

    #[test]
    fn a_small_pool_and_the_bulk_class_have_no_group() {
        assert!(Group::new(Class::Small, 127).unwrap().is_none());
        assert!(Group::new(Class::Small, 128).unwrap().is_some());
        assert!(Group::new(Class::Large, 31).unwrap().is_none());
        assert!(Group::new(Class::Bulk, 65_536).unwrap().is_none());
    }
}

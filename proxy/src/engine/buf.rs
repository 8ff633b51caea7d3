//! The buffer pool: four classes in one mapping of its own.
//!
//! ```text
//! mapping  | Small × n | Medium × n | Large × n | Bulk × n |      private, anonymous, NORESERVE
//! free     [ … 7 3 ]   a stack of indices per class: the last one freed is the warmest
//! ```
//!
//! Pages are touched on demand, so memory follows what was in use at once, and
//! [`trim`](Pool::trim) gives the pages of buffers back that were not needed of late. `alloc` and
//! `free` are O(1) and allocate nothing.
//!
//! # Invariants
//! - `out + free = made` per class, always ([`PoolStats::balanced`]). A buffer that waits in the
//!   kernel for bytes to come (io_uring's provided buffers) counts as free; `lent` says how many.
//! - An index is in the free stack, or in exactly one [`Buf`], or lent. A `Buf` is the only owner
//!   of its slice of the mapping, so its `&mut [u8]` is unique.
//! - The mapping lives as long as any `Buf` of it: each holds a count.

#![expect(
    unsafe_code,
    reason = "hands out slices of a mapping; the invariants are above"
)]

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use rustix::mm;

use super::leak;
use super::touched::Touched;
use crate::limits::{
    BUFFERS_PER_CLASS_MAX, BULK_BUF, LARGE_BUF, MEDIUM_BUF, PAGE, POOL_SLACK, SMALL_BUF,
};

/// What a buffer is for; its size follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// 4 KiB: the receive of a stream that sends small messages.
    Small,
    /// 16 KiB and 64 bytes: the receive of a busier stream; holds one full lane record with its
    /// overhead.
    Medium,
    /// 64 KiB: a lane's receive and a lane's batch; a relay's receive.
    Large,
    /// 256 KiB: bulk directions.
    Bulk,
}

impl Class {
    /// All of them, in the order of [`EngineConfig::buffers`](super::EngineConfig::buffers).
    pub const ALL: [Class; 4] = [Class::Small, Class::Medium, Class::Large, Class::Bulk];

    /// Capacity of its buffers in bytes.
    pub const fn size(self) -> usize {
        match self {
            Class::Small => SMALL_BUF,
            Class::Medium => MEDIUM_BUF,
            Class::Large => LARGE_BUF,
            Class::Bulk => BULK_BUF,
        }
    }

    /// Its place in [`Class::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Buffers of one class: how many there are and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Made when the pool was opened.
    pub made: u32,
    /// Owned by the worker or by an operation in flight.
    pub out: u32,
    /// Free, the lent ones included.
    pub free: u32,
    /// Of the free ones: waiting in the kernel for bytes to come, so `alloc` can't give them out.
    pub lent: u32,
}

/// Counters of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// By class, in the order of [`Class::ALL`].
    pub classes: [ClassStats; 4],
    /// Buffers that were given to `free` of another engine than their own. A bug; they went home.
    pub foreign: u64,
    /// Pipes that are out.
    pub pipes: u32,
}

impl PoolStats {
    /// Buffers out + buffers free = buffers made, in every class.
    pub fn balanced(&self) -> bool {
        self.classes
            .iter()
            .all(|c| c.out.checked_add(c.free) == Some(c.made) && c.lent <= c.free)
    }

    /// Buffers out, all classes together: 0 when everything came home.
    pub fn out(&self) -> u32 {
        self.classes.iter().map(|c| c.out).sum()
    }
}

/// A buffer of the engine's pool, its whole capacity addressable; what it holds when it is
/// allocated is whatever was there before. Owned and not `Clone`; give it back with
/// [`Engine::free`](super::Engine::free). Dropping one is a bug that debug builds report (see
/// [`leaks`](super::leaks)); it goes back to its pool all the same.
pub struct Buf {
    pool: Rc<Mapping>,
    start: NonNull<u8>,
    index: u32,
    class: Class,
    freed: bool,
}

impl Buf {
    /// Its class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Where it starts, for the kernel: it may write there while the engine holds this `Buf`.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is the beginning of this buffer's slice of the mapping, `size` bytes
        // long, which `pool` keeps mapped and which mmap made of zeroes; nobody else refers to
        // it (module invariants), and the engine hands out no `Buf` that the kernel still writes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.class.size()) }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.class.size()) }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if !self.freed {
            leak::report("buffer");
        }
        self.pool.classes[self.class.index()].put(self.index);
    }
}

impl std::fmt::Debug for Buf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buf({:?} {})", self.class, self.index)
    }
}

/// The free buffers of one class.
#[derive(Debug)]
struct Shelf {
    /// Offset of the class's first buffer in the mapping.
    offset: usize,
    made: u32,
    out: Cell<u32>,
    lent: Cell<u32>,
    /// Most that were out at once since the last trim.
    peak: Cell<u32>,
    touched: RefCell<Touched>,
    /// Indices that can be given out; its capacity is `made`, so pushing never allocates.
    free: RefCell<Vec<u32>>,
}

impl Shelf {
    fn take_out(&self, index: u32) {
        self.out.set(self.out.get() + 1);
        self.peak.set(self.peak.get().max(self.out.get()));
        self.touched.borrow_mut().insert(index);
    }

    /// Free buffers that have memory.
    fn warm(&self) -> usize {
        let owned = self.out.get() + self.lent.get();
        self.touched.borrow().count().saturating_sub(owned) as usize
    }

    fn put(&self, index: u32) {
        self.out.set(self.out.get().saturating_sub(1));
        self.free.borrow_mut().push(index);
    }
}

/// The mapping and its bookkeeping, shared by the pool and every buffer of it.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
    classes: [Shelf; 4],
}

impl Mapping {
    fn start_of(&self, class: Class, index: u32) -> NonNull<u8> {
        let shelf = &self.classes[class.index()];
        assert!(index < shelf.made, "a buffer of this pool");
        let offset = shelf.offset + index as usize * class.size();
        // SAFETY: `Pool::open` laid `made` buffers of that size out from `shelf.offset`, all
        // within the mapping.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `Pool::open` with this length, and no `Buf` refers to
        // it any more: each would hold a count of this value.
        let unmapped = unsafe { mm::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

/// The pool of one engine.
#[derive(Debug)]
pub(super) struct Pool {
    mapping: Rc<Mapping>,
    foreign: u64,
}

impl Pool {
    /// Maps `counts[i]` buffers of `Class::ALL[i]`.
    ///
    /// # Errors
    /// `InvalidInput` past [`BUFFERS_PER_CLASS_MAX`]; what mmap says.
    pub(super) fn open(counts: [u32; 4]) -> io::Result<Pool> {
        let mut len = 0_usize;
        let mut offsets = [0_usize; 4];
        for (class, (count, offset)) in Class::ALL.iter().zip(counts.iter().zip(&mut offsets)) {
            if *count > BUFFERS_PER_CLASS_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("{count} {class:?} buffers, at most {BUFFERS_PER_CLASS_MAX}"),
                ));
            }
            *offset = len;
            len += (*count as usize * class.size()).next_multiple_of(PAGE);
        }
        let len = len.max(PAGE);
        let prot = mm::ProtFlags::READ | mm::ProtFlags::WRITE;
        let flags = mm::MapFlags::PRIVATE | mm::MapFlags::NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), len, prot, flags)? };
        // A huge page would be touched whole for one buffer, and given back in pieces.
        // SAFETY: the mapping was just made, with this length; its contents do not change. It fails
        // only where there are no huge pages.
        let _ = unsafe { mm::madvise(base, len, mm::Advice::LinuxNoHugepage) };
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| io::Error::other("mmap gave address zero"))?;
        let shelf = |i: usize| Shelf {
            offset: offsets[i],
            made: counts[i],
            out: Cell::new(0),
            lent: Cell::new(0),
            peak: Cell::new(0),
            touched: RefCell::new(Touched::new(counts[i])),
            free: RefCell::new((0..counts[i]).rev().collect()),
        };
        let classes = [shelf(0), shelf(1), shelf(2), shelf(3)];
        Ok(Pool {
            mapping: Rc::new(Mapping { base, len, classes }),
            foreign: 0,
        })
    }

    /// A buffer, or `None` when all of the class are out or lent.
    pub(super) fn alloc(&self, class: Class) -> Option<Buf> {
        let index = self.mapping.classes[class.index()]
            .free
            .borrow_mut()
            .pop()?;
        Some(self.hand_out(class, index))
    }

    /// Takes a buffer back.
    pub(super) fn free(&mut self, mut buf: Buf) {
        if !Rc::ptr_eq(&self.mapping, &buf.pool) {
            self.foreign += 1;
        }
        buf.freed = true;
    }

    /// Takes a free buffer out to lie in the kernel: its index and address. It comes back with
    /// [`receive_lent`](Self::receive_lent) or [`return_lent`](Self::return_lent).
    pub(super) fn lend(&self, class: Class) -> Option<(u32, NonNull<u8>)> {
        let shelf = &self.mapping.classes[class.index()];
        let index = shelf.free.borrow_mut().pop()?;
        shelf.lent.set(shelf.lent.get() + 1);
        shelf.touched.borrow_mut().insert(index);
        Some((index, self.mapping.start_of(class, index)))
    }

    /// A lent buffer that the kernel has filled: now it is out. The caller vouches that the
    /// kernel is done with exactly this index.
    pub(super) fn receive_lent(&self, class: Class, index: u32) -> Buf {
        let shelf = &self.mapping.classes[class.index()];
        assert!(
            shelf.lent.get() > 0,
            "a buffer came back that was never lent"
        );
        shelf.lent.set(shelf.lent.get() - 1);
        self.hand_out(class, index)
    }

    fn hand_out(&self, class: Class, index: u32) -> Buf {
        let shelf = &self.mapping.classes[class.index()];
        shelf.take_out(index);
        let start = self.mapping.start_of(class, index);
        Buf {
            pool: Rc::clone(&self.mapping),
            start,
            index,
            class,
            freed: false,
        }
    }

    /// How many of the class `alloc` could give out now.
    pub(super) fn available(&self, class: Class) -> usize {
        self.mapping.classes[class.index()].free.borrow().len()
    }

    /// How many of the class there are.
    pub(super) fn made(&self, class: Class) -> u32 {
        self.mapping.classes[class.index()].made
    }

    /// The counters.
    pub(super) fn stats(&self) -> PoolStats {
        let of = |s: &Shelf| ClassStats {
            made: s.made,
            out: s.out.get(),
            free: u32::try_from(s.free.borrow().len()).unwrap_or(u32::MAX) + s.lent.get(),
            lent: s.lent.get(),
        };
        let [small, medium, large, bulk] = &self.mapping.classes;
        PoolStats {
            classes: [of(small), of(medium), of(large), of(bulk)],
            foreign: self.foreign,
            pipes: 0,
        }
    }

    /// Whether free buffers have so much memory that giving some back is worth it.
    pub(super) fn has_slack(&self) -> bool {
        let warm = |class: Class| self.mapping.classes[class.index()].warm() * class.size();
        Class::ALL.into_iter().map(warm).sum::<usize>() > POOL_SLACK
    }

    /// Most buffers of the class that were out at once since the last trim.
    pub(super) fn peak(&self, class: Class) -> u32 {
        self.mapping.classes[class.index()].peak.get()
    }

    /// Gives memory of free buffers back to the system; their next use finds zeroes. Of each class
    /// as many are kept as were out at once since the last trim, those that were freed last: two
    /// trims without use in between give back everything.
    pub(super) fn trim(&self) {
        for class in Class::ALL {
            let shelf = &self.mapping.classes[class.index()];
            let free = shelf.free.borrow();
            let kept = shelf.peak.replace(shelf.out.get()) - shelf.out.get();
            let cold = free.len().saturating_sub(kept as usize);
            let ranges = shelf.touched.borrow_mut().forget(&free[..cold]);
            for range in ranges {
                self.give_back(class, range);
            }
        }
    }

    /// Gives the pages of free buffers back that are theirs alone: Medium ones are no multiple of a
    /// page.
    fn give_back(&self, class: Class, free: std::ops::Range<u32>) {
        let shelf = &self.mapping.classes[class.index()];
        let start = shelf.offset + free.start as usize * class.size();
        let end = shelf.offset + free.end as usize * class.size();
        let (first, last) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
        if first >= last {
            return;
        }
        let advice = mm::Advice::LinuxDontNeed;
        // SAFETY: the range lies within the mapping, and within free buffers of it that nobody
        // refers to; all that happens to them is that they read as zero.
        let gone = unsafe {
            let first_page = self.mapping.base.as_ptr().add(first);
            mm::madvise(first_page.cast(), last - first, advice)
        };
        debug_assert!(gone.is_ok());
    }

    /// Keeps the mapping alive for ever: for an engine that can't make sure that the kernel is
    /// done with its buffers.
    pub(super) fn leak(&self) {
        std::mem::forget(Rc::clone(&self.mapping));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn pool() -> Pool {
        Pool::open([4, 3, 2, 1]).unwrap()
    }

    #[test]
    fn a_class_gives_out_exactly_what_was_made() {
        let mut pool = pool();
        for (class, made) in Class::ALL.into_iter().zip([4, 3, 2, 1]) {
            let bufs: Vec<Buf> = std::iter::from_fn(|| pool.alloc(class)).collect();
            assert_eq!(bufs.len(), made);
            assert!(pool.stats().balanced());
            bufs.into_iter().for_each(|b| pool.free(b));
        }
        assert_eq!(pool.stats().out(), 0);
        assert!(pool.stats().balanced());
    }

    #[test]
    fn buffers_do_not_overlap() {
        let mut pool = pool();
        let mut all = Vec::new();
        for class in Class::ALL {
            while let Some(mut buf) = pool.alloc(class) {
                assert_eq!(buf.len(), class.size());
                let mark = u8::try_from(all.len() + 1).unwrap();
                buf.fill(mark);
                all.push(buf);
            }
        }
        for (i, buf) in all.iter().enumerate() {
            assert!(buf.iter().all(|&b| usize::from(b) == i + 1), "{buf:?}");
        }
        all.into_iter().for_each(|b| pool.free(b));
    }

    #[test]
    fn a_dropped_buffer_is_reported_and_goes_home() {
        let pool = pool();
        let before = leak::leaks();
        drop(pool.alloc(Class::Bulk).unwrap());
        assert_eq!(leak::leaks(), before + u64::from(cfg!(debug_assertions)));
        assert_eq!(pool.stats().out(), 0);
        assert!(pool.stats().balanced());
    }

    #[test]
    fn a_foreign_buffer_is_counted_and_goes_home() {
        let (mut one, two) = (pool(), pool());
        one.free(two.alloc(Class::Small).unwrap());
        assert_eq!(one.stats().foreign, 1);
        assert!(one.stats().balanced() && two.stats().balanced());
        assert_eq!(two.stats().out(), 0);
    }

    #[test]
    fn a_buffer_outlives_its_pool() {
        let pool = pool();
        let mut buf = pool.alloc(Class::Medium).unwrap();
        drop(pool);
        buf.fill(7);
        assert_eq!(buf.last(), Some(&7));
        buf.freed = true;
    }

    #[test]
    fn lent_buffers_count_as_free_and_can_not_be_allocated() {
        let mut pool = pool();
        let (index, _) = pool.lend(Class::Bulk).unwrap();
        assert!(pool.alloc(Class::Bulk).is_none());
        assert_eq!(
            pool.stats().classes[3],
            ClassStats {
                made: 1,
                out: 0,
                free: 1,
                lent: 1
            }
        );
        let buf = pool.receive_lent(Class::Bulk, index);
        assert_eq!(
            pool.stats().classes[3],
            ClassStats {
                made: 1,
                out: 1,
                free: 0,
                lent: 0
            }
        );
        pool.free(buf);
        assert!(pool.stats().balanced());
    }

    #[test]
    fn trimmed_memory_reads_as_zero_and_is_usable_again() {
        let mut pool = pool();
        let mut buf = pool.alloc(Class::Large).unwrap();
        buf.fill(9);
        let start = buf.start();
        pool.free(buf);
        pool.trim();
        let buf = pool.alloc(Class::Large).unwrap();
        assert_eq!((buf.start(), buf[0]), (start, 9), "in use a moment ago");
        pool.free(buf);
        pool.trim();
        pool.trim();
        let mut buf = pool.alloc(Class::Large).unwrap();
        assert_eq!(buf.start(), start);
        assert!(buf.iter().all(|&b| b == 0));
        buf.fill(1);
        pool.free(buf);
    }

    #[test]
    fn a_trim_leaves_buffers_alone_that_are_out_or_lent() {
        let mut pool = Pool::open([0, 64, 0, 0]).unwrap();
        let mut held: Vec<Buf> = (0..60)
            .map(|_| pool.alloc(Class::Medium).unwrap())
            .collect();
        for buf in &mut held {
            buf.fill(7);
        }
        // Every other one goes home.
        let mut kept = Vec::new();
        for (n, buf) in held.into_iter().enumerate() {
            if n % 2 == 0 {
                kept.push(buf);
            } else {
                pool.free(buf);
            }
        }
        let (lent, address) = pool.lend(Class::Medium).unwrap();
        // SAFETY: the first byte of a lent buffer, which no kernel writes in this test.
        unsafe { address.write(5) };
        assert!(pool.has_slack());
        pool.trim();
        pool.trim();
        assert!(!pool.has_slack());
        for buf in &kept {
            assert!(buf.iter().all(|&b| b == 7));
        }
        let lent = pool.receive_lent(Class::Medium, lent);
        assert_eq!(lent[0], 5);
        pool.free(lent);
        kept.into_iter().for_each(|buf| pool.free(buf));
    }

    #[test]
    fn too_many_buffers_are_refused() {
        assert!(Pool::open([BUFFERS_PER_CLASS_MAX + 1, 0, 0, 0]).is_err());
    }
}

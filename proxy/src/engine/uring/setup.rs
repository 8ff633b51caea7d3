//! Opening a ring: flags, probe, restrictions.

#![expect(unsafe_code, reason = "registers a buffer ring whose memory it owns")]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::register::{Probe, Restriction};
use io_uring::types::BufRingEntry;
use io_uring::{IoUring, opcode, squeue};
use rustix::mm;

use super::super::buf::{Class, Pool};
use super::super::config::OpenError;
use crate::limits::{PAGE, URING_CQ_MAX, URING_CQ_MIN, URING_GROUP_MAX, URING_GROUP_MIN, URING_SQ};

/// Every operation that the engine uses: the probe demands them, the restrictions allow no others.
const OPCODES: [u8; 6] = [
    opcode::Recv::CODE,
    opcode::Send::CODE,
    opcode::AcceptMulti::CODE,
    opcode::Connect::CODE,
    opcode::PollAdd::CODE,
    opcode::AsyncCancel2::CODE,
];

/// `IORING_REGISTER_PBUF_RING` and `IORING_UNREGISTER_PBUF_RING`: groups are made when the first
/// receive of their kind comes.
const REGISTER_OPS: [u8; 2] = [22, 23];

fn unavailable(why: String) -> OpenError {
    OpenError::Unavailable {
        engine: "io_uring",
        why,
    }
}

fn failed(source: io::Error) -> OpenError {
    OpenError::Failed {
        engine: "io_uring",
        source,
    }
}

/// What an error of io_uring_setup or io_uring_register means: not to be had here, or broken.
fn classify(step: &str, e: io::Error) -> OpenError {
    use rustix::io::Errno;
    let Some(errno) = Errno::from_io_error(&e) else {
        return failed(e);
    };
    let cause = if errno == Errno::PERM {
        "a seccomp profile or the sysctl kernel.io_uring_disabled forbids it"
    } else if errno == Errno::ACCESS {
        "a security module forbids it"
    } else if errno == Errno::NOSYS {
        "the kernel or the sandbox does not have it"
    } else if errno == Errno::INVAL {
        "the kernel is older than Linux 6.1"
    } else {
        return failed(e);
    };
    unavailable(format!("{step}: {e}; {cause}"))
}

/// A ring for the calling thread, which alone may use it: restricted to the operations of this
/// engine, and enabled.
pub(super) fn open_ring(sockets: u32) -> Result<IoUring, OpenError> {
    let cq = sockets
        .saturating_mul(2)
        .next_power_of_two()
        .clamp(URING_CQ_MIN, URING_CQ_MAX);
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_r_disabled()
        .setup_cqsize(cq);
    let ring = builder
        .build(URING_SQ)
        .map_err(|e| classify("io_uring_setup", e))?;
    let params = ring.params();
    for (has, name) in [
        (params.is_feature_nodrop(), "NODROP"),
        (params.is_feature_ext_arg(), "EXT_ARG"),
        (params.is_feature_fast_poll(), "FAST_POLL"),
    ] {
        if !has {
            return Err(unavailable(format!(
                "the kernel lacks io_uring's feature {name}"
            )));
        }
    }
    let submitter = ring.submitter();
    let mut probe = Probe::new();
    submitter
        .register_probe(&mut probe)
        .map_err(|e| classify("IORING_REGISTER_PROBE", e))?;
    if let Some(code) = OPCODES.iter().find(|&&code| !probe.is_supported(code)) {
        return Err(unavailable(format!(
            "the kernel lacks io_uring's operation {code}"
        )));
    }
    let mut allowed: Vec<Restriction> = OPCODES.map(Restriction::sqe_op).into();
    allowed.extend(REGISTER_OPS.map(Restriction::register_op));
    allowed.push(Restriction::sqe_flags_allowed(
        squeue::Flags::BUFFER_SELECT.bits(),
    ));
    submitter
        .register_restrictions(&mut allowed)
        .map_err(|e| classify("IORING_REGISTER_RESTRICTIONS", e))?;
    submitter
        .register_enable_rings()
        .map_err(|e| classify("IORING_REGISTER_ENABLE_RINGS", e))?;
    Ok(ring)
}

/// A group of provided buffers: the kernel picks one of them when bytes have come.
///
/// ```text
/// each buffer   | at .... | registered with the kernel | .... tail |
/// ```
/// # Invariants
/// - Every entry between the kernel's head and `produced` names a buffer that the pool counts as
///   lent; at most `len` are.
/// - `entries` is a mapping of `len` entries, and it is dropped after the ring.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) class: Class,
    pub(super) at: usize,
    pub(super) tail: usize,
    entries: NonNull<BufRingEntry>,
    /// Entries of the ring, a power of two.
    len: u16,
    /// Entries produced so far; wraps.
    produced: u16,
    /// Buffers of it that the kernel has.
    lent: u16,
}

impl Group {
    /// How many buffers the `nth` group of a class may have in the kernel: each has half of what
    /// those before it left. `None` when that is not worth a group: then receives wait for
    /// readiness and take a buffer of their own.
    pub(super) fn size(pool: &Pool, class: Class, nth: u32) -> Option<u16> {
        let share = pool.made(class) >> (nth + 1).min(31);
        if share < URING_GROUP_MIN {
            return None;
        }
        let len = share.min(URING_GROUP_MAX);
        // Rounded down to a power of two.
        u16::try_from(1_u32 << len.ilog2()).ok()
    }

    /// Registers a group with the ring under that number.
    ///
    /// # Errors
    /// ENOMEM, and what else io_uring_register says: the engine then does without.
    pub(super) fn register(
        ring: &IoUring,
        number: u16,
        len: u16,
        (class, at, tail): (Class, usize, usize),
    ) -> io::Result<Group> {
        let bytes = Self::bytes(len);
        let prot = mm::ProtFlags::READ | mm::ProtFlags::WRITE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            mm::mmap_anonymous(std::ptr::null_mut(), bytes, prot, mm::MapFlags::PRIVATE)?
        };
        let entries = NonNull::new(base.cast::<BufRingEntry>())
            .ok_or_else(|| io::Error::other("mmap gave address zero"))?;
        let group = Group {
            class,
            at,
            tail,
            entries,
            len,
            produced: 0,
            lent: 0,
        };
        let address = entries.as_ptr() as u64;
        // SAFETY: the address is a page-aligned mapping of `len` entries that lives until the
        // group is dropped, which is after the ring (field order of the engine).
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, len, number, 0)?
        };
        Ok(group)
    }

    fn bytes(len: u16) -> usize {
        (usize::from(len) * size_of::<BufRingEntry>()).next_multiple_of(PAGE)
    }

    /// Whether the kernel has buffers of it left, as far as completions have told.
    pub(super) fn has_buffers(&self) -> bool {
        self.lent > 0
    }

    /// The kernel took one of its buffers.
    pub(super) fn taken(&mut self) {
        debug_assert!(self.lent > 0);
        self.lent = self.lent.saturating_sub(1);
    }

    /// Lends the kernel what it may have and the pool can spare.
    pub(super) fn refill(&mut self, pool: &Pool) {
        if self.lent == self.len {
            return;
        }
        let before = self.produced;
        while self.lent < self.len {
            let Some((index, start)) = pool.lend(self.class) else {
                break;
            };
            let room = self.class.size() - self.at - self.tail;
            let place = usize::from(self.produced & (self.len - 1));
            // SAFETY: `place` is below `len`, so within the mapping; the kernel reads only entries
            // before the tail that is published below, and writes none.
            let entry = unsafe { &mut *self.entries.as_ptr().add(place) };
            entry.set_addr(start.as_ptr() as u64 + self.at as u64);
            // At most 256 KiB, and below 2^16 buffers of a class (`BUFFERS_PER_CLASS_MAX`).
            entry.set_len(u32::try_from(room).unwrap_or(0));
            entry.set_bid(u16::try_from(index).unwrap_or(u16::MAX));
            self.produced = self.produced.wrapping_add(1);
            self.lent += 1;
        }
        if self.produced != before {
            // SAFETY: `entries` is the ring's base, its first entry is initialized (the mapping is
            // zeroed), and the tail lies in it, aligned to 2; the kernel only reads the tail.
            let tail = unsafe {
                AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut())
            };
            tail.store(self.produced, Ordering::Release);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: the mapping is this group's own, of this length; the kernel holds its pages by
        // itself until the ring, which was dropped before, is gone.
        let unmapped = unsafe { mm::munmap(self.entries.as_ptr().cast(), Self::bytes(self.len)) };
        debug_assert!(unmapped.is_ok());
    }
}

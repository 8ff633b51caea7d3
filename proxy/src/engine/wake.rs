//! Waking a worker that sleeps in the kernel: an eventfd that is written only when it sleeps.
//!
//! ```text
//!            begin_sleep              wake (writes the eventfd)
//!   AWAKE ----------------> ASLEEP ------------------------------+
//!     ^ |                     | end_sleep                        |
//!     | +-- wake ---------+   v                                  v
//!     |                   +--> NOTIFIED <------------------------+
//!     +------ end_sleep, or begin_sleep (which then does not sleep)
//! ```
//! The eventfd is never read: it is watched edge-triggered (epoll) or by a multishot poll
//! (io_uring), and each write is an edge. Its counter can't overflow in the life of a process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use super::Wake;

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const NOTIFIED: u8 = 2;

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    event: OwnedFd,
}

/// Wakes a kernel engine.
#[derive(Clone, Debug)]
pub struct EventWaker(Arc<Shared>);

impl EventWaker {
    /// # Errors
    /// What eventfd2 says (EMFILE, ENOMEM).
    pub(super) fn new() -> io::Result<EventWaker> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(EventWaker(Arc::new(Shared {
            state: AtomicU8::new(AWAKE),
            event,
        })))
    }

    /// The descriptor to watch while asleep.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }

    /// The engine is about to block. False: somebody woke it since its last turn, so it must not.
    pub(super) fn begin_sleep(&self) -> bool {
        self.0
            .state
            .compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The engine is back. True: it was woken, now or before it could sleep.
    pub(super) fn end_sleep(&self) -> bool {
        self.0.state.swap(AWAKE, Ordering::AcqRel) == NOTIFIED
    }
}

impl Wake for EventWaker {
    fn wake(&self) {
        // What the waker wrote before (a mailbox) is visible to the worker that sees NOTIFIED.
        if self.0.state.swap(NOTIFIED, Ordering::AcqRel) == ASLEEP {
            // It fails only when the counter is full, and then the edge is there already.
            let _ = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
        }
    }
}

//! The only place where control and a worker meet: two bounded queues and a way to wake each side.
//!
//! Control pushes [`ToWorker`] and wakes the worker's engine; the worker pushes [`Event`]s and
//! wakes control. Neither side ever waits for the other: a full queue is an answer, and the
//! caller keeps what it wanted to say until it is woken because there is room again. Locks are
//! held for a push or a swap only and never on the path of a byte: an idle mailbox costs a worker
//! one relaxed load a turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::PortalNo;
use crate::limits::MAILBOX_MAX;
use crate::protocol::command::{Command, Event};

/// From control to a worker: a command, or a socket to take over.
#[derive(Debug)]
pub enum ToWorker<C> {
    /// A decision.
    Command(Command),
    /// A share of the listening socket of an inlet, or (`None`) of the relay's and authority's
    /// public address.
    Listen {
        /// The inlet's portal.
        portal: Option<PortalNo>,
        /// The socket.
        socket: C,
    },
}

/// A bounded queue of one direction.
#[derive(Debug)]
struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    /// Same as `items.len()`, readable without the lock.
    len: AtomicUsize,
    /// A push was refused since the last drain: the pusher waits for room.
    refused: AtomicBool,
}

/// What a drain left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Drained {
    /// Items are left; the drainer comes again by itself.
    more: bool,
    /// The pusher waits for room and must be woken.
    awaited: bool,
}

impl<T> Queue<T> {
    fn new() -> Self {
        Queue {
            items: Mutex::new(VecDeque::new()),
            len: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
        }
    }

    /// A thread that panicked ended the process; if it is a test that goes on, a queue is still
    /// whole after any of the operations below.
    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when the queue was empty: the drainer may sleep.
    fn push(&self, item: T) -> Result<bool, T> {
        let mut items = self.lock();
        if items.len() >= MAILBOX_MAX {
            self.refused.store(true, Ordering::Release);
            return Err(item);
        }
        items.push_back(item);
        self.len.store(items.len(), Ordering::Release);
        Ok(items.len() == 1)
    }

    fn drain(&self, out: &mut Vec<T>, max: usize) -> Drained {
        if self.len.load(Ordering::Acquire) == 0 {
            return Drained {
                more: false,
                awaited: false,
            };
        }
        let mut items = self.lock();
        let n = items.len().min(max);
        out.extend(items.drain(..n));
        self.len.store(items.len(), Ordering::Release);
        let awaited = n > 0 && self.refused.swap(false, Ordering::AcqRel);
        Drained {
            more: !items.is_empty(),
            awaited,
        }
    }
}

/// Control's end of one worker's mailbox. `wake` wakes that worker.
#[derive(Debug)]
pub struct ControlEnd<C, W> {
    to_worker: Arc<Queue<ToWorker<C>>>,
    to_control: Arc<Queue<Event>>,
    wake: W,
}

/// The worker's end of its mailbox. `wake` wakes control.
pub struct WorkerEnd<C> {
    to_worker: Arc<Queue<ToWorker<C>>>,
    to_control: Arc<Queue<Event>>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// Makes a mailbox from the two wake-ups.
pub fn mailbox<C, W: crate::engine::Wake>(
    wake_worker: W,
    wake_control: Arc<dyn Fn() + Send + Sync>,
) -> (ControlEnd<C, W>, WorkerEnd<C>) {
    let to_worker = Arc::new(Queue::new());
    let to_control = Arc::new(Queue::new());
    let control = ControlEnd {
        to_worker: Arc::clone(&to_worker),
        to_control: Arc::clone(&to_control),
        wake: wake_worker,
    };
    (
        control,
        WorkerEnd {
            to_worker,
            to_control,
            wake: wake_control,
        },
    )
}

impl<C, W: crate::engine::Wake> ControlEnd<C, W> {
    /// Queues one message for the worker and wakes it.
    ///
    /// # Errors
    /// Gives the message back when the queue is full; control is woken when there is room.
    pub fn send(&self, message: ToWorker<C>) -> Result<(), ToWorker<C>> {
        if self.to_worker.push(message)? {
            self.wake.wake();
        }
        Ok(())
    }

    /// Moves at most `max` events to `out`; true when more are left (nothing wakes control for
    /// those).
    pub fn receive(&self, out: &mut Vec<Event>, max: usize) -> bool {
        let Drained { more, awaited } = self.to_control.drain(out, max);
        if awaited {
            self.wake.wake();
        }
        more
    }
}

impl<C> WorkerEnd<C> {
    /// Queues one event for control and wakes it.
    ///
    /// # Errors
    /// Gives the event back when the queue is full; the worker is woken when there is room.
    pub fn send(&self, event: Event) -> Result<(), Event> {
        if self.to_control.push(event)? {
            (self.wake)();
        }
        Ok(())
    }

    /// Moves at most `max` messages to `out`; true when more are left (nothing wakes the worker
    /// for those).
    pub fn receive(&self, out: &mut Vec<ToWorker<C>>, max: usize) -> bool {
        let Drained { more, awaited } = self.to_worker.drain(out, max);
        if awaited {
            (self.wake)();
        }
        more
    }
}

impl<C> std::fmt::Debug for WorkerEnd<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerEnd").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::SeqCst;

    #[derive(Clone, Default)]
    struct Bell(Arc<AtomicUsize>);

    impl crate::engine::Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn pair() -> (ControlEnd<(), Bell>, WorkerEnd<()>, Bell, Bell) {
        let (worker, control) = (Bell::default(), Bell::default());
        let ring = control.clone();
        let (c, w) = mailbox(
            worker.clone(),
            Arc::new(move || crate::engine::Wake::wake(&ring)),
        );
        (c, w, worker, control)
    }

    #[test]
    fn only_the_first_message_of_a_batch_wakes() {
        let (control, worker, bell, _) = pair();
        for _ in 0..3 {
            control.send(ToWorker::Command(Command::Stop)).unwrap();
        }
        assert_eq!(bell.0.load(SeqCst), 1);
        let mut out = Vec::new();
        assert!(worker.receive(&mut out, 2), "one is left");
        assert!(!worker.receive(&mut out, 2));
        assert_eq!(out.len(), 3);
    }

    #[test]
    fn a_refused_pusher_is_woken_when_there_is_room() {
        let (control, worker, bell, _) = pair();
        for _ in 0..MAILBOX_MAX {
            worker.send(Event::Drained).unwrap();
        }
        assert!(worker.send(Event::Drained).is_err());
        let mut out = Vec::new();
        control.receive(&mut out, 1);
        assert_eq!(bell.0.load(SeqCst), 1, "the worker hears of the room");
        worker.send(Event::Drained).unwrap();
        control.receive(&mut out, 1);
        assert_eq!(bell.0.load(SeqCst), 1, "nobody waits any more");
    }
}

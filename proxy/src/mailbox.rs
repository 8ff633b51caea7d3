//! The only place where control and a worker meet: two bounded queues and a way to wake each side.
//!
//! Control pushes [`ToWorker`] and wakes the worker's engine; the worker pushes [`Event`]s and
//! wakes control. Neither side ever waits for the other: a full queue is an answer, and the
//! caller keeps what it wanted to say (a worker parks the event in the connection's slot, control
//! keeps a list). Locks are held for a push or a swap only and never on the path of a byte: an
//! idle mailbox costs a worker one relaxed load a turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
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
}

impl<T> Queue<T> {
    fn new() -> Self {
        Queue {
            items: Mutex::new(VecDeque::new()),
            len: AtomicUsize::new(0),
        }
    }

    /// A thread that panicked ended the process; if it is a test that goes on, a queue is still
    /// whole after any of the operations below.
    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, item: T) -> Result<bool, T> {
        let mut items = self.lock();
        if items.len() >= MAILBOX_MAX {
            return Err(item);
        }
        items.push_back(item);
        self.len.store(items.len(), Ordering::Release);
        Ok(items.len() == 1)
    }

    fn drain(&self, out: &mut Vec<T>, max: usize) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut items = self.lock();
        let n = items.len().min(max);
        out.extend(items.drain(..n));
        self.len.store(items.len(), Ordering::Release);
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
    /// Gives the message back when the queue is full; try again after the next event.
    pub fn send(&self, message: ToWorker<C>) -> Result<(), ToWorker<C>> {
        if self.to_worker.push(message)? {
            self.wake.wake();
        }
        Ok(())
    }

    /// Moves at most `max` events to `out`.
    pub fn receive(&self, out: &mut Vec<Event>, max: usize) {
        self.to_control.drain(out, max);
    }
}

impl<C> WorkerEnd<C> {
    /// Queues one event for control and wakes it.
    ///
    /// # Errors
    /// Gives the event back when the queue is full; the caller parks it.
    pub fn send(&self, event: Event) -> Result<(), Event> {
        if self.to_control.push(event)? {
            (self.wake)();
        }
        Ok(())
    }

    /// Moves at most `max` messages to `out`.
    pub fn receive(&self, out: &mut Vec<ToWorker<C>>, max: usize) {
        self.to_worker.drain(out, max);
    }
}

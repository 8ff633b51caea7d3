//! The only place where control and a worker meet, or two workers: two bounded queues and a way to
//! wake each side.
//!
//! Control pushes [`ToWorker`] and wakes the worker's engine; the worker pushes [`Event`]s and
//! wakes control. Another worker of the process pushes what it hands over ([`Handed`]). None ever
//! waits for another: a full queue is an answer, and the caller keeps what it wanted to say; control
//! and the worker are woken when there is room again, other workers try again later. Locks are held
//! for a push or a swap only and never on the path of a byte: an idle mailbox costs a worker one
//! relaxed load a turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::{PortalNo, WorkerId};
use crate::limits::MAILBOX_MAX;
use crate::protocol::command::{Command, Event};

mod handed;

pub use handed::{Handed, HandedLeg, LegNote};

/// From control to a worker: a command, or a socket to take over; or from another worker.
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
    /// Another worker hands it over.
    Handed(Handed<C>),
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

    /// True when the queue was empty: the drainer may sleep. A pusher that does not `wait` for
    /// room is not woken.
    fn push(&self, item: T, wait: bool) -> Result<bool, T> {
        let mut items = self.lock();
        if items.len() >= MAILBOX_MAX {
            if wait {
                self.refused.store(true, Ordering::Release);
            }
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

/// Wakes somebody.
type Bell = Arc<dyn Fn() + Send + Sync>;

/// The worker's end of its mailbox. `wake` wakes control.
pub struct WorkerEnd<C> {
    to_worker: Arc<Queue<ToWorker<C>>>,
    to_control: Arc<Queue<Event>>,
    wake: Bell,
    /// Every worker's queue, and what wakes it, by their ids; empty where there is one.
    team: Arc<[Seat<C>]>,
}

/// Where a worker is found by the others.
struct Seat<C> {
    to_worker: Arc<Queue<ToWorker<C>>>,
    wake: Bell,
}

/// Makes a mailbox from the two wake-ups.
pub fn mailbox<C, W: crate::engine::Wake>(
    wake_worker: W,
    wake_control: Bell,
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
            team: Arc::new([]),
        },
    )
}

/// The mailboxes of a process's workers, in the order of their ids: of each, control's end and its
/// own, by which it reaches the others too.
pub fn mailboxes<C: Send + 'static, W: crate::engine::Wake>(
    wake_workers: Vec<W>,
    wake_control: &Bell,
) -> Vec<(ControlEnd<C, W>, WorkerEnd<C>)> {
    let boxes = wake_workers.into_iter();
    let mut boxes: Vec<_> = boxes
        .map(|waker| mailbox(waker, Arc::clone(wake_control)))
        .collect();
    if boxes.len() > 1 {
        let seats = boxes.iter().map(|(control, worker)| {
            let waker = control.wake.clone();
            Seat {
                to_worker: Arc::clone(&worker.to_worker),
                wake: Arc::new(move || waker.wake()),
            }
        });
        let team: Arc<[Seat<C>]> = seats.collect();
        for (_, worker) in &mut boxes {
            worker.team = Arc::clone(&team);
        }
    }
    boxes
}

impl<C, W: crate::engine::Wake> ControlEnd<C, W> {
    /// Queues one message for the worker and wakes it.
    ///
    /// # Errors
    /// Gives the message back when the queue is full; control is woken when there is room.
    pub fn send(&self, message: ToWorker<C>) -> Result<(), ToWorker<C>> {
        if self.to_worker.push(message, true)? {
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
        if self.to_control.push(event, true)? {
            (self.wake)();
        }
        Ok(())
    }

    /// Queues something for another worker and wakes it.
    ///
    /// # Errors
    /// Gives it back when that one's queue is full, or there is no such worker. Nobody is woken
    /// when there is room.
    pub fn hand(&self, to: WorkerId, handed: Handed<C>) -> Result<(), Handed<C>> {
        let Some(seat) = self.team.get(to.index()) else {
            return Err(handed);
        };
        match seat.to_worker.push(ToWorker::Handed(handed), false) {
            Ok(true) => (seat.wake)(),
            Ok(false) => {}
            Err(ToWorker::Handed(handed)) => return Err(handed),
            Err(ToWorker::Command(_) | ToWorker::Listen { .. }) => {}
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
    fn a_worker_reaches_the_others_and_is_given_back_what_finds_no_room() {
        let bells = vec![Bell::default(), Bell::default()];
        let ring: Arc<dyn Fn() + Send + Sync> = Arc::new(|| {});
        let boxes: Vec<(ControlEnd<(), Bell>, WorkerEnd<()>)> = mailboxes(bells.clone(), &ring);
        let note = || Handed::Note {
            from: WorkerId(0),
            leg: crate::protocol::pairing::LegHandle(1),
            what: LegNote::Gone,
        };
        let [(_, first), (_, second)] = &boxes[..] else {
            unreachable!("two workers");
        };
        for _ in 0..MAILBOX_MAX {
            first.hand(WorkerId(1), note()).unwrap();
        }
        assert_eq!((bells[0].0.load(SeqCst), bells[1].0.load(SeqCst)), (0, 1));
        assert!(first.hand(WorkerId(1), note()).is_err(), "it is full");
        assert!(first.hand(WorkerId(2), note()).is_err(), "there is none");
        let mut out = Vec::new();
        second.receive(&mut out, 1);
        assert!(matches!(out[..], [ToWorker::Handed(Handed::Note { .. })]));
        first.hand(WorkerId(1), note()).unwrap();
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

//! A worker on its thread, and control's end of its mailbox.
//!
//! The engine is opened on the worker's own thread (a ring belongs to the thread that made it).
//! A worker that panics ends the process: half a proxy is worse than a restart.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::failure::{Exit, Failure, codes};
use crate::engine::{self, Caps, Engine, EngineConfig, EventWaker, Kind, OpenError};
use crate::ids::PortalNo;
use crate::limits::{
    ENGINE_BUFFERS, NOFILE_RESERVED, PIPES_MAX, PIPES_PER_NOFILE, SLOTS_MIN, WORKER_SLOTS_MAX,
};
use crate::mailbox::{ControlEnd, ToWorker, WorkerEnd, mailbox};
use crate::worker::{Worker, WorkerConfig, counters::Counters};

/// Called from a worker's thread when there is something for control.
pub type WakeControl = Arc<dyn Fn() + Send + Sync>;

/// Which engine, and why not the other.
#[derive(Clone, Debug)]
pub struct EngineDecision {
    /// The one to open.
    pub kind: Kind,
    /// Where io_uring was wanted and can't be had: why.
    pub why_not_uring: Option<String>,
    /// A relay sends bulk through pipes.
    pub splice: bool,
}

impl EngineDecision {
    /// Probes the machine.
    ///
    /// # Errors
    /// The engine that was asked for can't be had, or a limit is used up.
    pub fn make(choice: engine::Choice) -> Result<EngineDecision, Failure> {
        let (kind, why_not_uring) =
            engine::decide(choice).map_err(|error| engine_failure(&error))?;
        Ok(EngineDecision {
            kind,
            why_not_uring,
            splice: true,
        })
    }
}

fn engine_failure(error: &OpenError) -> Failure {
    let failure = Failure::new(codes::ENGINE, Exit::Runtime, "can't open the engine", error);
    match error {
        OpenError::Unavailable { .. } => {
            failure.fix("use --engine auto, which falls back on epoll")
        }
        OpenError::Failed { .. } => failure,
    }
}

/// A running worker.
pub struct WorkerThread {
    mailbox: ControlEnd<OwnedFd, EventWaker>,
    caps: Caps,
    counters: Arc<Counters>,
    slots: u32,
    /// Set before control is woken by the end.
    ended: Arc<AtomicBool>,
}

impl WorkerThread {
    /// Starts a worker and returns when its engine is open. One that splices has descriptors set
    /// aside for pipes.
    ///
    /// # Errors
    /// The process may have too few descriptors, or the engine or the thread can't be had.
    pub fn start(
        kind: Kind,
        splices: bool,
        wake_control: WakeControl,
    ) -> Result<WorkerThread, Failure> {
        let limit = raise_descriptor_limit();
        let Descriptors { slots, pipes } = Descriptors::share(limit, splices);
        if slots < SLOTS_MIN {
            return Err(too_few_descriptors(limit));
        }
        let counters = Arc::new(Counters::default());
        let (opened_tx, opened) = sync_channel(1);
        let (mailbox_tx, mailbox_rx) = sync_channel(1);
        let worker_counters = Arc::clone(&counters);
        let ended = Arc::new(AtomicBool::new(false));
        let guard = EndGuard(Arc::clone(&wake_control), Arc::clone(&ended));
        thread::Builder::new()
            .name("adit-worker".into())
            .spawn(move || {
                let _guard = guard;
                let setup = Setup {
                    opened: opened_tx,
                    mailbox: mailbox_rx,
                    slots,
                    pipes,
                    counters: worker_counters,
                };
                match kind {
                    Kind::Uring => setup.run(engine::Uring::open),
                    Kind::Epoll | Kind::Simulated => setup.run(engine::Epoll::open),
                }
            })
            .map_err(|error| thread_failure(&error))?;
        let (waker, caps) = match opened.recv() {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(engine_failure(&error)),
            Err(_) => return Err(thread_failure(&"it ended while it was starting")),
        };
        let (control_end, worker_end) = mailbox(waker, wake_control);
        // The thread waits for exactly this; if it is gone, its mailbox says so soon enough.
        let _ = mailbox_tx.send(worker_end);
        Ok(WorkerThread {
            mailbox: control_end,
            caps,
            counters,
            slots,
            ended,
        })
    }

    /// Control's end of its mailbox.
    pub fn mailbox(&self) -> &ControlEnd<OwnedFd, EventWaker> {
        &self.mailbox
    }

    /// What its engine is and can do.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// What it counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Most sockets it holds at once.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// Wakes control when the worker ends; ends the process when it panicked.
struct EndGuard(WakeControl, Arc<AtomicBool>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
        self.1.store(true, Ordering::Release);
        (self.0)();
    }
}

struct Setup {
    opened: SyncSender<Result<(EventWaker, Caps), OpenError>>,
    mailbox: Receiver<WorkerEnd<OwnedFd>>,
    slots: u32,
    pipes: u32,
    counters: Arc<Counters>,
}

impl Setup {
    fn run<E: Engine<Carry = OwnedFd, Waker = EventWaker>>(
        self,
        open: impl FnOnce(&EngineConfig) -> Result<E, OpenError>,
    ) {
        let config = EngineConfig {
            sockets: self.slots,
            buffers: ENGINE_BUFFERS,
            pipes: self.pipes,
        };
        let engine = match open(&config) {
            Ok(engine) => engine,
            Err(error) => {
                let _ = self.opened.send(Err(error));
                return;
            }
        };
        if self
            .opened
            .send(Ok((engine.waker(), engine.caps())))
            .is_err()
        {
            return;
        }
        let Ok(mailbox) = self.mailbox.recv() else {
            return;
        };
        let config = WorkerConfig {
            place: 0,
            slots: self.slots,
        };
        Worker::new(engine, mailbox, &config, self.counters).run();
    }
}

fn too_few_descriptors(limit: u64) -> Failure {
    let least = NOFILE_RESERVED + u64::from(SLOTS_MIN);
    Failure::new(
        codes::DESCRIPTORS,
        Exit::Runtime,
        "too few file descriptors",
        format!("this process may have {limit} of them and needs at least {least}"),
    )
    .fix("ulimit -n 65536   # systemd: LimitNOFILE=65536")
}

fn thread_failure(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        codes::THREAD,
        Exit::Runtime,
        "can't start the worker",
        error,
    )
}

/// Raises the soft limit of descriptors to the hard one, and returns it.
pub fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Fails in a sandbox that forbids it; the soft limit is then what there is.
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What a worker may have of the process's descriptors: reserve + slots + 2 · pipes ≤ limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Descriptors {
    slots: u32,
    pipes: u32,
}

impl Descriptors {
    fn share(limit: u64, splices: bool) -> Descriptors {
        let pipes = if splices {
            (limit / PIPES_PER_NOFILE).min(u64::from(PIPES_MAX))
        } else {
            0
        };
        let slots = limit
            .saturating_sub(NOFILE_RESERVED)
            .saturating_sub(2 * pipes)
            .min(u64::from(WORKER_SLOTS_MAX));
        Descriptors {
            slots: u32::try_from(slots).unwrap_or(WORKER_SLOTS_MAX),
            pipes: u32::try_from(pipes).unwrap_or(PIPES_MAX),
        }
    }
}

/// A listening socket, bound before anything else is started so that its errors are clear.
#[derive(Debug)]
pub struct Listener {
    /// The inlet it belongs to, or none for the public address of a server.
    pub portal: Option<PortalNo>,
    /// Where it listens; the port is never 0.
    pub address: SocketAddr,
    socket: OwnedFd,
}

impl Listener {
    /// Binds it. Port 0 asks the kernel for one.
    ///
    /// # Errors
    /// The address is in use, needs a privilege, or is not this machine's.
    pub fn bind(portal: Option<PortalNo>, address: SocketAddr) -> Result<Listener, Failure> {
        match engine::listener(address) {
            Ok((socket, address)) => Ok(Listener {
                portal,
                address,
                socket,
            }),
            Err(error) => {
                let failure = Failure::new(
                    codes::LISTEN,
                    Exit::Runtime,
                    format!("can't listen on {address}"),
                    &error,
                );
                Err(if error.kind() == io::ErrorKind::AddrInUse {
                    failure.fix(format!(
                        "ss -ltnp 'sport = :{}'   # who listens there",
                        address.port()
                    ))
                } else {
                    failure
                })
            }
        }
    }

    /// What hands it to a worker.
    pub fn into_message(self) -> ToWorker<OwnedFd> {
        ToWorker::Listen {
            portal: self.portal,
            socket: self.socket,
        }
    }
}

/// Turns transparent huge pages off for this process, or on again (PR_SET_THP_DISABLE, prctl(2)).
/// A process of adit needs a few hundred KiB here and there; with huge pages it held 8 MiB for
/// them, and they made nothing faster. Children inherit the setting, so it is on while one starts.
pub fn use_huge_pages(on: bool) {
    // It fails only where there are none.
    let _ = rustix::thread::disable_transparent_huge_pages(!on);
}

/// No core dumps, and no reading of this process's memory by others of the same user: it holds
/// keys (PR_SET_DUMPABLE, prctl(2)).
pub fn protect_memory() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // It can't fail with this argument; a kernel that refuses it leaves things as they were.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_pipes_share_the_descriptors() {
        let without = Descriptors::share(20_000, false);
        assert_eq!((without.slots, without.pipes), (20_000 - 64, 0));
        let with = Descriptors::share(20_000, true);
        assert_eq!((with.slots, with.pipes), (20_000 - 64 - 512, 256));
        let few = Descriptors::share(1024, true);
        assert_eq!((few.slots, few.pipes), (1024 - 64 - 128, 64));
        let unlimited = Descriptors::share(u64::MAX, true);
        assert_eq!((unlimited.slots, unlimited.pipes), (WORKER_SLOTS_MAX, 256));
        assert_eq!(Descriptors::share(0, true).slots, 0);
    }
}

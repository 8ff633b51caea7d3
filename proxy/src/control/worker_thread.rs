//! Workers on their threads, and control's ends of their mailboxes.
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

use serde_json::{Value, json};

use super::failure::{Exit, Failure, codes};
use crate::engine::{self, Caps, Engine, EngineConfig, EventWaker, Kind, OpenError};
use crate::ids::{PortalNo, WorkerId};
use crate::limits::{
    ENGINE_BUFFERS, ENGINE_BUFFERS_MIN, NOFILE_RESERVED, PIPES_MAX, PIPES_PER_NOFILE, SLOTS_MIN,
    WORKER_SLOTS_MAX,
};
use crate::mailbox::{ControlEnd, ToWorker, WorkerEnd, mailboxes};
use crate::time::Duration;
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
    /// How many workers open one.
    pub workers: u8,
    /// How long each looks for completions before it sleeps.
    pub spin: Duration,
}

impl EngineDecision {
    /// Probes the machine.
    ///
    /// # Errors
    /// The engine that was asked for can't be had, or a limit is used up.
    pub fn make(
        choice: engine::Choice,
        workers: u8,
        spin: Duration,
    ) -> Result<EngineDecision, Failure> {
        let (kind, why_not_uring) =
            engine::decide(choice).map_err(|error| engine_failure(&error))?;
        Ok(EngineDecision {
            kind,
            why_not_uring,
            splice: true,
            workers,
            spin,
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
    /// Starts the workers of a process and returns when their engines are open. What the process
    /// may have is shared among them. Those that splice have descriptors set aside for pipes.
    ///
    /// # Errors
    /// The process may have too few descriptors, or an engine or a thread can't be had.
    pub fn start_all(
        engine: &EngineDecision,
        splices: bool,
        wake_control: &WakeControl,
    ) -> Result<Vec<WorkerThread>, Failure> {
        let limit = raise_descriptor_limit();
        let workers = engine.workers.max(1);
        let share = Descriptors::share(limit, splices, workers);
        if share.slots < SLOTS_MIN {
            return Err(too_few_descriptors(limit, workers));
        }
        let counters = WorkerId::all(workers).map(|_| Arc::new(Counters::default()));
        let team: Vec<Arc<Counters>> = counters.collect();
        let mut threads = Vec::new();
        for worker in WorkerId::all(workers) {
            threads.push(Starting::spawn(
                worker,
                (engine.kind, engine.spin),
                share,
                &team,
                wake_control,
            )?);
        }
        let (mut wakers, mut opened) = (Vec::new(), Vec::new());
        for starting in threads {
            let (waker, caps) = match starting.opened.recv() {
                Ok(Ok(opened)) => opened,
                Ok(Err(error)) => return Err(engine_failure(&error)),
                Err(_) => return Err(thread_failure(&"it ended while it was starting")),
            };
            wakers.push(waker);
            opened.push((caps, starting.mailbox, starting.ended));
        }
        let boxes = mailboxes(wakers, wake_control).into_iter();
        let threads = boxes.zip(opened).zip(team);
        let started = threads.map(|(((mailbox, end), (caps, give, ended)), counters)| {
            // The thread waits for exactly this; if it is gone, its mailbox says so soon enough.
            let _ = give.send(end);
            WorkerThread {
                mailbox,
                caps,
                counters,
                slots: share.slots,
                ended,
            }
        });
        Ok(started.collect())
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

/// A thread that opens its engine.
struct Starting {
    opened: Receiver<Result<(EventWaker, Caps), OpenError>>,
    mailbox: SyncSender<WorkerEnd<OwnedFd>>,
    ended: Arc<AtomicBool>,
}

impl Starting {
    fn spawn(
        worker: WorkerId,
        (kind, spin): (Kind, Duration),
        share: Descriptors,
        team: &[Arc<Counters>],
        wake_control: &WakeControl,
    ) -> Result<Starting, Failure> {
        let (opened_tx, opened) = sync_channel(1);
        let (mailbox, mailbox_rx) = sync_channel(1);
        let ended = Arc::new(AtomicBool::new(false));
        let guard = EndGuard(Arc::clone(wake_control), Arc::clone(&ended));
        let counters = team.get(worker.index()).map(Arc::clone).unwrap_or_default();
        let setup = Setup {
            opened: opened_tx,
            mailbox: mailbox_rx,
            pipes: share.pipes,
            config: WorkerConfig {
                place: worker,
                slots: share.slots,
                team: team.to_vec(),
                spin,
            },
            counters,
        };
        thread::Builder::new()
            .name(format!("adit-worker-{}", worker.0))
            .spawn(move || {
                let _guard = guard;
                match kind {
                    Kind::Uring => setup.run(engine::Uring::open),
                    Kind::Epoll | Kind::Simulated => setup.run(engine::Epoll::open),
                }
            })
            .map_err(|error| thread_failure(&error))?;
        Ok(Starting {
            opened,
            mailbox,
            ended,
        })
    }
}

struct Setup {
    opened: SyncSender<Result<(EventWaker, Caps), OpenError>>,
    mailbox: Receiver<WorkerEnd<OwnedFd>>,
    pipes: u32,
    config: WorkerConfig,
    counters: Arc<Counters>,
}

/// One worker's share of the process's buffers.
fn buffers(workers: usize) -> [u32; 4] {
    let share = |class: usize| {
        let all = ENGINE_BUFFERS[class];
        let share = all / u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        share.max(ENGINE_BUFFERS_MIN[class])
    };
    std::array::from_fn(share)
}

impl Setup {
    fn run<E: Engine<Carry = OwnedFd, Waker = EventWaker>>(
        self,
        open: impl FnOnce(&EngineConfig) -> Result<E, OpenError>,
    ) {
        let config = EngineConfig {
            sockets: self.config.slots,
            buffers: buffers(self.config.team.len()),
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
        Worker::new(engine, mailbox, &self.config, self.counters).run();
    }
}

fn too_few_descriptors(limit: u64, workers: u8) -> Failure {
    let least = NOFILE_RESERVED + u64::from(SLOTS_MIN) * u64::from(workers);
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

/// What a worker may have of the process's descriptors:
/// reserve + workers · (slots + 2 · pipes) ≤ limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Descriptors {
    slots: u32,
    pipes: u32,
}

impl Descriptors {
    fn share(limit: u64, splices: bool, workers: u8) -> Descriptors {
        let workers = u64::from(workers.max(1));
        let pipes = if splices {
            (limit / PIPES_PER_NOFILE).min(u64::from(PIPES_MAX))
        } else {
            0
        };
        let slots = limit
            .saturating_sub(NOFILE_RESERVED)
            .saturating_sub(2 * pipes)
            .div_euclid(workers)
            .min(u64::from(WORKER_SLOTS_MAX));
        let pipes = pipes / workers;
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
            Err(error) => Err(cant_listen(address, &error)),
        }
    }

    /// What `status` says of it.
    pub fn fact(&self) -> Value {
        json!({
            "portal": self.portal.map(|portal| portal.0),
            "address": self.address.to_string(),
        })
    }

    /// What gives a worker its share of it.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn message(&self) -> io::Result<ToWorker<OwnedFd>> {
        Ok(ToWorker::Listen {
            portal: self.portal,
            socket: self.socket.try_clone()?,
        })
    }
}

/// Why nothing listens on an address.
pub fn cant_listen(address: SocketAddr, error: &io::Error) -> Failure {
    let what = format!("can't listen on {address}");
    let failure = Failure::new(codes::LISTEN, Exit::Runtime, what, error);
    if error.kind() != io::ErrorKind::AddrInUse {
        return failure;
    }
    failure.fix(format!(
        "ss -ltnp 'sport = :{}'   # who listens there",
        address.port()
    ))
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
        let without = Descriptors::share(20_000, false, 1);
        assert_eq!((without.slots, without.pipes), (20_000 - 64, 0));
        let with = Descriptors::share(20_000, true, 1);
        assert_eq!((with.slots, with.pipes), (20_000 - 64 - 512, 256));
        let few = Descriptors::share(1024, true, 1);
        assert_eq!((few.slots, few.pipes), (1024 - 64 - 128, 64));
        let two = Descriptors::share(20_000, true, 2);
        assert_eq!((two.slots, two.pipes), ((20_000 - 64 - 512) / 2, 128));
        let unlimited = Descriptors::share(u64::MAX, true, 1);
        assert_eq!((unlimited.slots, unlimited.pipes), (WORKER_SLOTS_MAX, 256));
        assert_eq!(Descriptors::share(0, true, 1).slots, 0);
    }
}

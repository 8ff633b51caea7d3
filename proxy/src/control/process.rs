//! A core with everything around it: worker, helpers, socket, driver. What `serve`, `inlet`,
//! `outlet`, `run`, `enroll` and `demo` have in common.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::admin::server::{self, AdminSocket};
use super::driver::{Driver, Parts, Progress, Stop};
use super::failure::{Exit, Failure, codes};
use super::files::StateDir;
use super::inbox::{Answer, Inbox};
use super::log;
use super::metrics::http::MetricsListener;
use super::portals::PortalChanges;
use super::resolver::Resolver;
use super::store::StoreThread;
use super::ticket_file::TicketFile;
use super::worker_thread::{EngineDecision, Listener, WakeControl, WorkerThread};
use crate::engine::Kind;
use crate::ids::PortalNo;
use crate::limits::STOP_QUEUE_MAX;
use crate::mailbox::ToWorker;
use crate::protocol::command::Command;
use crate::protocol::core::{Core, Level, LogRecord};
use crate::protocol::portal_limits::PortalLimits;
use crate::protocol::store::Store;

/// What a process is made of besides its core.
pub struct Launch {
    /// What it is, in a word: `serve`, `inlet` …
    pub what: &'static str,
    /// Which engine.
    pub engine: EngineDecision,
    /// Write files on the runtime's ring.
    pub on_ring: bool,
    /// Bound already.
    pub listeners: Vec<Listener>,
    /// Where a monitoring system asks, if one may.
    pub metrics: Option<MetricsListener>,
    /// The portals of a node, with their limits.
    pub limits: Vec<(PortalNo, Arc<PortalLimits>)>,
    /// Its directory, locked.
    pub state: StateDir,
    /// The authority's store.
    pub store: Option<Box<dyn Store>>,
    /// The ticket's file, to be looked at again.
    pub ticket: Option<TicketFile>,
    /// End when the node can't become a member.
    pub exit_if_not_enrolled: bool,
}

/// A process that runs, on local tasks of the present runtime.
pub struct Running {
    /// What it has reached.
    pub progress: watch::Receiver<Progress>,
    /// Where it listens, in the order of its portals.
    pub listening: Vec<SocketAddr>,
    stop: mpsc::Sender<Stop>,
    changes: mpsc::Sender<PortalChanges>,
    driver: JoinHandle<Result<(), Failure>>,
    socket: JoinHandle<()>,
    metrics: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts everything. Must be called on a local task set of a Tokio runtime.
    ///
    /// # Errors
    /// The engine, a thread or the socket can't be had.
    pub fn start<C: Core + 'static>(launch: Launch, core: C) -> Result<Running, Failure> {
        let Launch {
            what,
            engine,
            on_ring,
            listeners,
            metrics,
            limits,
            state,
            store,
            ticket,
            ..
        } = launch;
        let inbox = Arc::new(Inbox::new());
        let wake = Arc::clone(&inbox);
        // Only a server's worker relays.
        let serves = listeners.iter().any(|listener| listener.portal.is_none());
        let splices = serves && engine.splice;
        let wake: WakeControl = Arc::new(move || wake.wake());
        let workers = WorkerThread::start_all(&engine, splices, &wake)?;
        log_engine(&workers, &engine);
        let facts = facts(what, &workers, &engine, &listeners, metrics.as_ref());
        let listening = listeners.iter().map(|listener| listener.address).collect();
        // Each worker accepts on the same sockets.
        for worker in &workers {
            for listener in &listeners {
                let message = listener.message().map_err(|error| thread(&error))?;
                let room = worker.mailbox().send(message);
                debug_assert!(room.is_ok(), "a new mailbox has room for every listener");
            }
        }
        drop(listeners);
        for (portal, limits) in limits.iter().cloned() {
            Command::Limits { portal, limits }.deliver(engine.workers, |worker, command| {
                let worker = workers.get(worker.index());
                let sent = worker.map(|it| it.mailbox().send(ToWorker::Command(command)));
                debug_assert!(matches!(sent, Some(Ok(()))), "a new mailbox has room");
            });
        }
        let resolver = start_resolver(&inbox)?;
        let store = store.map(|store| start_store(store, &inbox)).transpose()?;
        let socket = AdminSocket::bind(state.path())?;
        let (calls_tx, calls) = server::queue();
        let metrics = metrics.map(|metrics| {
            log_metrics(metrics.address);
            tokio::task::spawn_local(metrics.serve(calls_tx.clone()))
        });
        let socket = tokio::task::spawn_local(socket.serve(calls_tx));
        let (stop, stop_rx) = mpsc::channel(STOP_QUEUE_MAX);
        let (changes, changes_rx) = mpsc::channel(STOP_QUEUE_MAX);
        let (driver, progress) = Driver::new(
            core,
            Parts {
                workers,
                inbox,
                resolver,
                store,
                state,
                on_ring,
                calls,
                stop: stop_rx,
                changes: changes_rx,
                ticket,
                exit_if_not_enrolled: launch.exit_if_not_enrolled,
                facts,
                what,
                portals: limits,
            },
        );
        let driver = tokio::task::spawn_local(driver.run());
        Ok(Running {
            progress,
            listening,
            stop,
            changes,
            driver,
            socket,
            metrics,
        })
    }

    /// A handle by which it is asked to stop.
    pub fn stopper(&self) -> mpsc::Sender<Stop> {
        self.stop.clone()
    }

    /// A handle by which its portals change.
    pub fn changes(&self) -> mpsc::Sender<PortalChanges> {
        self.changes.clone()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// What made it end by itself.
    pub async fn ended(&mut self) -> Result<(), Failure> {
        let result = (&mut self.driver).await;
        self.socket.abort();
        if let Some(metrics) = &self.metrics {
            metrics.abort();
        }
        // The socket's file goes with its task; wait for that, so that a caller may remove the
        // directory.
        let _ = (&mut self.socket).await;
        result.unwrap_or_else(|error| {
            Err(Failure::new(
                codes::THREAD,
                Exit::Runtime,
                "the driver ended",
                error,
            ))
        })
    }

    /// Waits until `reached` holds.
    ///
    /// # Errors
    /// The process ended before that, with its failure if it had one.
    pub async fn until(&mut self, reached: impl Fn(&Progress) -> bool) -> Result<(), Failure> {
        if self
            .progress
            .wait_for(|progress| reached(progress))
            .await
            .is_ok()
        {
            return Ok(());
        }
        self.ended().await?;
        Err(Failure::new(
            codes::NOT_READY,
            Exit::Runtime,
            "it was stopped",
            "before it was ready",
        ))
    }
}

fn start_resolver(
    inbox: &Arc<Inbox>,
) -> Result<Resolver<crate::protocol::core::ResolveNo>, Failure> {
    let inbox = Arc::clone(inbox);
    Resolver::start(move |answer| {
        inbox.put(Answer::Resolved {
            no: answer.mark,
            answer: answer.result,
        });
    })
    .map_err(|error| thread(&error))
}

fn start_store(store: Box<dyn Store>, inbox: &Arc<Inbox>) -> Result<StoreThread, Failure> {
    let inbox = Arc::clone(inbox);
    StoreThread::start(store, move |no, answer| {
        inbox.put(Answer::Stored { no, answer })
    })
    .map_err(|error| thread(&error))
}

fn thread(error: &std::io::Error) -> Failure {
    Failure::new(codes::THREAD, Exit::Runtime, "can't start a thread", error)
}

/// The word for an engine.
pub const fn engine_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Uring => "uring",
        Kind::Epoll => "epoll",
        Kind::Simulated => "simulated",
    }
}

fn log_engine(workers: &[WorkerThread], engine: &EngineDecision) {
    let Some(worker) = workers.first() else {
        return;
    };
    let mut record = LogRecord::new(Level::Info, "engine open")
        .with("engine", engine_word(worker.caps().kind))
        .with("features", worker.caps().features.join(","))
        .with("workers", workers.len())
        .with("sockets", sockets(workers));
    if let Some(why) = &engine.why_not_uring {
        record = record.with("why_not_uring", why);
    }
    log::emit(&record);
}

fn log_metrics(address: SocketAddr) {
    let record = LogRecord::new(Level::Info, "metrics are served");
    log::emit(&record.with("url", format_args!("http://{address}/metrics")));
}

/// Most sockets that they hold at once, together.
fn sockets(workers: &[WorkerThread]) -> u32 {
    workers.iter().map(WorkerThread::slots).sum()
}

fn facts(
    what: &str,
    workers: &[WorkerThread],
    engine: &EngineDecision,
    listeners: &[Listener],
    metrics: Option<&MetricsListener>,
) -> Value {
    let listening: Value = listeners.iter().map(Listener::fact).collect();
    json!({
        "what": what,
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "engine": {
            "kind": engine_word(engine.kind),
            "features": workers.first().map(|worker| &worker.caps().features),
            "why_not_uring": engine.why_not_uring,
            "workers": workers.len(),
            "sockets_max": sockets(workers),
        },
        "listening": listening,
        "metrics": metrics.map(|listener| listener.address.to_string()),
    })
}

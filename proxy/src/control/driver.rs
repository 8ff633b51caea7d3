//! The driver: one loop around a core. Whatever comes is told to the core, whatever the core says
//! is carried out, then it sleeps.
//!
//! ```text
//! worker ── events ──┐                      ┌── commands ──> worker
//! resolver ─ answers ┤                      ├── questions ─> resolver
//! store ──── answers ┼─> core.handle() ─> core.poll_output()
//! socket ─── calls ──┤                      ├── requests ──> store
//! timer, signals ────┘                      ├── replies ───> socket
//!                                           └── files, log
//! ```
//! Nothing here decides anything about the protocol.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::admin::server::Asked;
use super::admin::{show, wire};
use super::failure::{Exit, Failure, codes};
use super::files::{self, StateDir};
use super::inbox::{Answer, Inbox};
use super::keys::{self, IDENTITY_FILE};
use super::metrics::page::{self, Snapshot};
use super::portals::PortalChanges;
use super::report::{self, Counted};
use super::resolver::{Question, Resolver, literal};
use super::store::StoreThread;
use super::ticket_file::TicketFile;
use super::worker_thread::{Listener, WorkerThread};
use super::{clock, log};
use crate::engine::Kind;
use crate::error::CloseReason;
use crate::ids::PortalNo;
use crate::limits::{
    DRAIN_DEADLINE, DRAIN_IDLE, EVENTS_PER_LOOK, MAILBOX_RETRY, SLEEP_MAX, TICKET_FILE_INTERVAL,
};
use crate::mailbox::ToWorker;
use crate::protocol::command::{Command, Event};
use crate::protocol::core::{
    AdminNo, Core, Input, Level, LogRecord, MembershipStatus, Output, ResolveNo, StateFile,
};
use crate::protocol::portal_limits::PortalLimits;
use crate::protocol::store::StoreError;
use crate::time::{Duration, Instant};

/// The file in which a node keeps its membership.
pub const MEMBERSHIP_FILE: &str = "membership";
/// What a node knows of revocations, in its state directory.
pub const REVOCATIONS_FILE: &str = "revocations";

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Go on until nothing new came for a while, let streams finish, then end (SIGTERM).
    Drain,
    /// Take nothing new, let streams finish, then end (SIGINT).
    Finish,
    /// End now.
    Now,
}

/// What a driver needs besides its core.
pub struct Parts {
    /// The workers by their ids, their listeners already handed over.
    pub workers: Vec<WorkerThread>,
    /// Where threads leave what they have for this driver.
    pub inbox: Arc<Inbox>,
    /// Looks names up.
    pub resolver: Resolver<ResolveNo>,
    /// The authority's store.
    pub store: Option<StoreThread>,
    /// Where [`Output::Persist`] goes; the driver has its lock.
    pub state: StateDir,
    /// Write files on the ring of the runtime.
    pub on_ring: bool,
    /// Calls from the administrator's socket.
    pub calls: mpsc::Receiver<Asked>,
    /// How this process is asked to stop.
    pub stop: mpsc::Receiver<Stop>,
    /// What configurations that were read again change.
    pub changes: mpsc::Receiver<PortalChanges>,
    /// The file of the ticket, while the node is not enrolled.
    pub ticket: Option<TicketFile>,
    /// End when the node can't become a member.
    pub exit_if_not_enrolled: bool,
    /// Added to `status`: the engine, addresses, the process.
    pub facts: Value,
    /// The command that runs, in a word.
    pub what: &'static str,
    /// The portals of a node, with what is counted of their streams.
    pub portals: Vec<(PortalNo, Arc<PortalLimits>)>,
}

/// What changed, for who waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Every portal can carry a connection, or the server serves.
    pub ready: bool,
    /// The node is a member.
    pub enrolled: bool,
}

/// See the module.
pub struct Driver<C: Core> {
    core: C,
    parts: Parts,
    progress: watch::Sender<Progress>,
    /// What did not fit into each worker's mailbox.
    unsent: Vec<VecDeque<ToWorker<OwnedFd>>>,
    /// Workers that have closed their doors, and those that have drained.
    doors_closed: usize,
    drained: usize,
    /// Who waits for the core's answer.
    asked: BTreeMap<AdminNo, oneshot::Sender<Result<Value, Failure>>>,
    next_admin: u64,
    stopping: Stopping,
    /// Why the loop ends before it was asked to.
    failed: Option<Failure>,
    events: Vec<Event>,
    /// When the ticket's file is looked at again.
    ticket_due: Instant,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    /// The worker drains.
    Draining,
    /// The worker closes everything.
    Closing,
}

impl<C: Core> Driver<C> {
    /// A driver that has not begun. The second value tells what has been reached.
    pub fn new(core: C, parts: Parts) -> (Driver<C>, watch::Receiver<Progress>) {
        let (progress, watched) = watch::channel(Progress {
            ready: false,
            enrolled: false,
        });
        let driver = Driver {
            core,
            progress,
            unsent: parts.workers.iter().map(|_| VecDeque::new()).collect(),
            doors_closed: 0,
            drained: 0,
            asked: BTreeMap::new(),
            next_admin: 0,
            stopping: Stopping::No,
            failed: None,
            events: Vec::new(),
            ticket_due: clock::mono() + TICKET_FILE_INTERVAL,
            parts,
        };
        (driver, watched)
    }

    /// Runs until it was asked to stop and the workers have ended.
    ///
    /// # Errors
    /// What made it end by itself.
    pub async fn run(mut self) -> Result<(), Failure> {
        self.report_progress();
        loop {
            self.take_in();
            self.carry_out().await;
            let mut workers = self.parts.workers.iter();
            // Any of them that ends by itself ends the process; a stop ends all.
            let over = match self.stopping {
                Stopping::Closing => workers.all(WorkerThread::has_ended),
                Stopping::No | Stopping::Draining => workers.any(WorkerThread::has_ended),
            };
            if over {
                return self.ended();
            }
            tokio::select! {
                () = self.parts.inbox.wait() => {}
                () = tokio::time::sleep(self.how_long()) => {}
                Some(asked) = self.parts.calls.recv() => self.call(asked),
                Some(stop) = self.parts.stop.recv() => self.stop(stop),
                Some(changes) = self.parts.changes.recv() => self.reconfigure(changes),
            }
        }
    }

    fn ended(self) -> Result<(), Failure> {
        match self.failed {
            Some(failure) => Err(failure),
            None if self.stopping == Stopping::No => {
                let why = "this is a bug of adit";
                Err(Failure::new(
                    codes::THREAD,
                    Exit::Runtime,
                    "a worker ended by itself",
                    why,
                ))
            }
            None => Ok(()),
        }
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(clock::now(), input);
    }

    /// Tells the core what has come, in bounded amounts: what is left comes in the next round.
    fn take_in(&mut self) {
        self.send_unsent();
        let mut events = std::mem::take(&mut self.events);
        let mut more = false;
        for worker in &self.parts.workers {
            more |= worker.mailbox().receive(&mut events, EVENTS_PER_LOOK);
        }
        for event in events.drain(..) {
            if matches!(event, Event::DoorsClosed) {
                self.on_doors_closed();
            } else if matches!(event, Event::Drained) {
                self.drained += 1;
                if self.drained == self.parts.workers.len() {
                    self.close();
                }
            } else {
                self.handle(Input::Event(event));
            }
        }
        self.events = events;
        for answer in self.parts.inbox.take() {
            match answer {
                Answer::Resolved { no, answer } => self.handle(Input::Resolved { no, answer }),
                Answer::Stored { no, answer } => self.handle(Input::Store { no, answer }),
            }
        }
        if more {
            self.parts.inbox.wake();
        }
        let now = clock::mono();
        if self.parts.ticket.is_some() && self.ticket_due <= now {
            self.ticket_due = now + TICKET_FILE_INTERVAL;
            self.look_at_ticket();
        }
        if self.core.next_timer() <= now {
            self.handle(Input::Timer);
        }
    }

    async fn carry_out(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Command(command) => self.send(command),
                Output::Resolve { no, name } => self.resolve(no, name.host(), name.port()),
                Output::Store { no, request } => {
                    let asked = match &self.parts.store {
                        Some(store) => store.ask(no, request),
                        None => Err(StoreError::Unavailable("this process has no store".into())),
                    };
                    if let Err(error) = asked {
                        self.handle(Input::Store {
                            no,
                            answer: Err(error),
                        });
                    }
                }
                Output::Admin { no, reply } => {
                    if let Some(asked) = self.asked.remove(&no) {
                        let now_s = clock::now().wall().0;
                        let _ = asked.send(wire::answer(*reply, now_s));
                    }
                }
                Output::Persist { file, bytes } => self.persist(file, &bytes).await,
                Output::TicketSpent => self.parts.ticket = None,
                Output::Log(record) => log::emit(&record),
                Output::StatusChanged => self.report_progress(),
            }
        }
    }

    /// Until the core wants to be called, the ticket's file be looked at, or the worker's full
    /// mailbox tried again.
    fn how_long(&self) -> Duration {
        let mut next = self.core.next_timer();
        if self.parts.ticket.is_some() {
            next = next.min(self.ticket_due);
        }
        // Tokio's clock does not count suspend and ours does: a deadline that passed meanwhile is
        // noticed at the latest then.
        let wait = next.since(clock::mono()).min(SLEEP_MAX);
        if self.unsent.iter().all(VecDeque::is_empty) {
            wait
        } else {
            wait.min(MAILBOX_RETRY)
        }
    }

    fn send(&mut self, command: Command) {
        let workers = u8::try_from(self.parts.workers.len()).unwrap_or(u8::MAX);
        command.deliver(workers, |worker, command| {
            let at = worker.index();
            let (Some(worker), Some(unsent)) =
                (self.parts.workers.get(at), self.unsent.get_mut(at))
            else {
                return;
            };
            unsent.push_back(ToWorker::Command(command));
            send_all(worker, unsent);
        });
    }

    /// Carries out what a configuration that was read again changes.
    fn reconfigure(&mut self, changes: PortalChanges) {
        if self.is_stopping() {
            return;
        }
        if let Some(Value::Array(listening)) = self.parts.facts.get_mut("listening") {
            let closed = |fact: &Value| {
                let portal = fact["portal"].as_u64();
                portal.is_some_and(|no| {
                    let mut closed = changes.core.closed.iter();
                    closed.any(|portal| u64::from(portal.0) == no)
                })
            };
            listening.retain(|fact| !closed(fact));
            listening.extend(changes.listeners.iter().map(Listener::fact));
        }
        let closed = &changes.core.closed;
        self.parts.portals.retain(|(no, _)| !closed.contains(no));
        for (portal, limits) in changes.limits {
            self.parts.portals.push((portal, Arc::clone(&limits)));
            self.send(Command::Limits { portal, limits });
        }
        for listener in &changes.listeners {
            self.listen(listener);
        }
        self.handle(Input::Reconfigured(Box::new(changes.core)));
    }

    /// Each worker accepts on it.
    fn listen(&mut self, listener: &Listener) {
        for (worker, unsent) in self.parts.workers.iter().zip(&mut self.unsent) {
            match listener.message() {
                Ok(message) => {
                    unsent.push_back(message);
                    send_all(worker, unsent);
                }
                Err(error) => {
                    let what = format!("can't listen on {}", listener.address);
                    let record = LogRecord::new(Level::Error, what).code(codes::LISTEN);
                    log::emit(&record.with("why", error));
                }
            }
        }
    }

    fn send_unsent(&mut self) {
        for (worker, unsent) in self.parts.workers.iter().zip(&mut self.unsent) {
            send_all(worker, unsent);
        }
    }

    /// A worker found that nothing new came to any of them for a while: the others need not wait
    /// any longer. Once all their doors are closed, the core goes off the air.
    fn on_doors_closed(&mut self) {
        self.doors_closed += 1;
        if self.doors_closed == 1 && self.parts.workers.len() > 1 {
            let (idle, deadline) = (Duration::ZERO, clock::mono() + DRAIN_DEADLINE);
            self.send(Command::Drain { idle, deadline });
        }
        if self.doors_closed == self.parts.workers.len() {
            self.handle(Input::Stop);
        }
    }

    fn resolve(&mut self, no: ResolveNo, host: &str, port: u16) {
        // Literal addresses must not wait behind a name server that does not answer.
        if let Some(address) = literal(host, port) {
            self.handle(Input::Resolved {
                no,
                answer: Ok(vec![address]),
            });
        } else if !self.parts.resolver.ask(Question {
            mark: no,
            host: host.into(),
            port,
        }) {
            let answer = Err("too many names are being looked up".into());
            self.handle(Input::Resolved { no, answer });
        }
    }

    async fn persist(&mut self, file: StateFile, bytes: &[u8]) {
        let name = match file {
            StateFile::Membership => MEMBERSHIP_FILE,
            StateFile::Revocations => REVOCATIONS_FILE,
        };
        let dir = self.parts.state.path();
        let written = if self.parts.on_ring {
            files::replace_on_ring(dir, name, bytes.to_vec()).await
        } else {
            files::replace(dir, name, bytes)
        };
        if let Err(error) = written {
            // It lives on in memory; after a restart the ticket may be repeated, and the authority's
            // next word on revocations is waited for.
            let failure = files::unusable(&dir.join(name), &error);
            let record = LogRecord::new(Level::Error, failure.what).code(failure.code);
            log::emit(&record.with("why", failure.why));
        }
    }

    fn look_at_ticket(&mut self) {
        let Some(file) = &mut self.parts.ticket else {
            return;
        };
        match file.changed() {
            Ok(None) => {}
            Ok(Some(ticket)) => self.handle(Input::Ticket(Box::new(ticket))),
            Err(failure) => {
                let record = LogRecord::new(Level::Warn, failure.what).code(failure.code);
                log::emit(&record.with("why", failure.why));
            }
        }
    }

    fn report_progress(&mut self) {
        let status = self.core.status(clock::now());
        let enrolled = matches!(status.membership, MembershipStatus::Enrolled { .. });
        let ready = status.ready() && !self.is_stopping();
        let before = self.progress.send_replace(Progress { ready, enrolled });
        if ready != before.ready && !self.is_stopping() {
            log::emit(&match (ready, report::why_not(&status)) {
                (true, _) => LogRecord::new(Level::Info, "ready"),
                (false, None) => LogRecord::new(Level::Info, "not ready"),
                (false, Some(why)) => LogRecord::new(Level::Info, "not ready").with("why", why),
            });
        }
        if let MembershipStatus::NotEnrolled { code, why } = status.membership
            && self.parts.exit_if_not_enrolled
            && self.failed.is_none()
        {
            let what = "this node is not a member";
            self.failed = Some(Failure::of_core(code, Exit::Denied, what, &why));
            self.close();
        }
    }

    fn call(&mut self, asked: Asked) {
        match asked.call.checked() {
            Err(failure) => drop(asked.reply.send(Err(failure))),
            Ok(Some(call)) => {
                let no = AdminNo(self.next_admin);
                self.next_admin += 1;
                self.asked.insert(no, asked.reply);
                self.handle(Input::Admin { no, call });
            }
            Ok(None) if asked.call == wire::Call::RotateIdentity => {
                let rotated = self.rotate_identity();
                drop(asked.reply.send(rotated));
            }
            Ok(None) => drop(asked.reply.send(self.answer(&asked.call))),
        }
    }

    /// The answer to a call that is no core's business.
    fn answer(&self, call: &wire::Call) -> Result<Value, Failure> {
        match call {
            wire::Call::Health => Ok(self.health()),
            wire::Call::Metrics => Ok(Value::String(self.metrics())),
            wire::Call::LogLevel { level } => log::change_level(level.as_deref()),
            // The others are a core's, or were answered already.
            wire::Call::Status
            | wire::Call::RotateIdentity
            | wire::Call::CreateTicket(_)
            | wire::Call::Tickets { .. }
            | wire::Call::Members { .. }
            | wire::Call::RevokeMember { .. }
            | wire::Call::RevokeTicket { .. }
            | wire::Call::Audit { .. }
            | wire::Call::SetPolicy(_)
            | wire::Call::Why { .. } => Ok(self.status()),
        }
    }

    fn counted(&self) -> Counted {
        let workers = self.parts.workers.iter();
        let portals = self.parts.portals.iter();
        let ended = CloseReason::ALL.iter().map(|&why| {
            let workers = self.parts.workers.iter();
            (why, workers.map(|it| it.counters().ended(why)).sum())
        });
        Counted {
            workers: workers.map(|worker| worker.counters().all()).collect(),
            ended: ended.collect(),
            streams: portals.map(|(no, it)| (*no, it.streams())).collect(),
        }
    }

    /// The new key is on disk before anybody hears of it.
    fn rotate_identity(&mut self) -> Result<Value, Failure> {
        let state = &self.parts.state;
        let identity = keys::rotate(state, IDENTITY_FILE)?;
        let identity = identity.ok_or_else(|| keys::no_identity(state))?;
        let shown = show::identity(identity.identity());
        self.handle(Input::Identity(Box::new(identity)));
        Ok(shown)
    }

    fn status(&self) -> Value {
        let status = self.core.status(clock::now());
        let facts = &self.parts.facts;
        report::status(facts, &status, &self.counted(), self.is_stopping())
    }

    fn metrics(&self) -> String {
        let slots = self.parts.workers.iter().map(WorkerThread::slots);
        let engine = self.parts.workers.first();
        page::text(&Snapshot {
            command: self.parts.what,
            engine: engine.map_or(Kind::Epoll, |worker| worker.caps().kind),
            sockets_max: slots.sum(),
            stopping: self.is_stopping(),
            status: &self.core.status(clock::now()),
            counted: &self.counted(),
        })
    }

    fn health(&self) -> Value {
        report::health(&self.core.status(clock::now()), self.is_stopping())
    }

    fn is_stopping(&self) -> bool {
        self.stopping != Stopping::No
    }

    /// Does what a signal asks; a second signal of any kind ends at once.
    fn stop(&mut self, how: Stop) {
        let idle = match how {
            Stop::Drain => DRAIN_IDLE,
            Stop::Finish => Duration::ZERO,
            Stop::Now => return self.close(),
        };
        if self.is_stopping() {
            return self.close();
        }
        self.stopping = Stopping::Draining;
        log::emit(&LogRecord::new(
            Level::Info,
            "stopping: waiting for streams to end",
        ));
        // The core goes on until the worker has closed its doors.
        let deadline = clock::mono() + DRAIN_DEADLINE;
        self.send(Command::Drain { idle, deadline });
        self.report_progress();
    }

    fn close(&mut self) {
        if self.stopping != Stopping::Closing {
            self.stopping = Stopping::Closing;
            // It may not have heard yet, and must not take closing links for lost ones.
            self.handle(Input::Stop);
            self.send(Command::Stop);
        }
    }
}

/// What fits into its mailbox.
fn send_all(worker: &WorkerThread, unsent: &mut VecDeque<ToWorker<OwnedFd>>) {
    while let Some(message) = unsent.pop_front() {
        if let Err(message) = worker.mailbox().send(message) {
            return unsent.push_front(message);
        }
    }
}

//! A process: a core, its driver, and what it has written, said and been asked.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crypto::Random;
use crypto::identity::IdentitySecret;
use crypto::ticket::Ticket;
use zeroize::Zeroizing;

use super::Plan;
use super::legs::RelayWorker;
use crate::error::Code;
use crate::ids::{LinkId, PortalNo, WorkerSet};
use crate::limits::{CREDENTIAL_LIFE, KEY_EXCHANGE_EVERY, REVOCATION_MAX_AGE};
use crate::protocol::command::{Gate, KnownTarget};
use crate::protocol::core::*;
use crate::protocol::store::{ProjectRow, Store};
use crate::time::{Duration, Instant};

/// A host, by its place in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostNo(pub usize);

/// What outlives a process.
pub enum Seat {
    /// `adit serve`.
    Server {
        host: String,
        authority: Zeroizing<Vec<u8>>,
        relay: Zeroizing<Vec<u8>>,
        project: ProjectRow,
        store: Box<dyn Store>,
    },
    /// A node.
    Node {
        name: String,
        identity: Zeroizing<Vec<u8>>,
        membership: Option<Zeroizing<Vec<u8>>>,
        ticket: Option<Zeroizing<String>>,
        plan: Vec<Plan>,
    },
}

/// See the module.
pub struct Host {
    /// Its `host:port`, or a node's name.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
    /// What it keeps.
    pub seat: Seat,
    core: Option<Box<dyn Core>>,
    /// What its core has not been told yet.
    pub inputs: VecDeque<Input>,
    /// All it has logged.
    pub logs: Vec<LogRecord>,
    /// Answers to the administrator.
    pub replies: Vec<AdminReply>,
    /// By how much its wall clock is wrong.
    pub clock_error_secs: i64,
    /// The ticket was redeemed.
    pub ticket_spent: bool,
    /// The gates of its inlets.
    pub gates: BTreeMap<PortalNo, Gate>,
    /// Portals whose ports its worker was told to close.
    pub closed: Vec<PortalNo>,
    /// Workers of its process, as its core is told.
    pub workers: u8,
    /// Lanes at each worker of its inlets.
    pub lanes: u8,
    /// The workers that have lanes of its inlets.
    pub serving: BTreeMap<PortalNo, WorkerSet>,
    /// What the outlet's targets mean.
    pub targets: Vec<KnownTarget>,
    /// What the worker was told of the authority's time.
    pub authority_time: Option<(u64, Instant)>,
    /// Its worker's part in relaying.
    pub relay_worker: RelayWorker,
    /// What it wrote of revocations.
    pub revocations: Option<Zeroizing<Vec<u8>>>,
    /// `--revocation-max-age`, from the next start on.
    pub max_age: Duration,
    /// Within what time keys are made anew, from the next start on.
    pub key_exchange_every: Duration,
    /// `--credential-ttl`, from the next start on.
    pub credential_life: Duration,
    /// Store requests fail.
    pub store_broken: bool,
    /// The next name of an accepted link.
    pub next_accepted: u64,
    /// Seconds of the last turn, for traces.
    clock: f64,
}

impl Host {
    pub fn new(no: HostNo, seat: Seat) -> Host {
        let name = match &seat {
            Seat::Server { host, .. } => host.clone(),
            Seat::Node { name, .. } => name.clone(),
        };
        Host {
            name,
            address: SocketAddr::from(([10, 0, no.0 as u8, 1], 7348)),
            seat,
            core: None,
            inputs: VecDeque::new(),
            logs: Vec::new(),
            replies: Vec::new(),
            clock_error_secs: 0,
            ticket_spent: false,
            gates: BTreeMap::new(),
            closed: Vec::new(),
            workers: 1,
            lanes: 1,
            serving: BTreeMap::new(),
            targets: Vec::new(),
            authority_time: None,
            relay_worker: RelayWorker::default(),
            revocations: None,
            max_age: REVOCATION_MAX_AGE,
            key_exchange_every: KEY_EXCHANGE_EVERY,
            credential_life: CREDENTIAL_LIFE,
            store_broken: false,
            next_accepted: 1,
            clock: 0.0,
        }
    }

    pub fn now(&self, mono: Instant) -> Now {
        let right = super::EPOCH.0 * 1000 + mono.as_nanos() / 1_000_000;
        let wall_millis = right.saturating_add_signed(self.clock_error_secs * 1000);
        Now { mono, wall_millis }
    }

    /// Starts the process.
    pub fn start(&mut self, random: Box<dyn Random + Send>, mono: Instant) {
        let now = self.now(mono);
        self.relay_worker = RelayWorker::default();
        self.gates.clear();
        self.serving.clear();
        let core: Box<dyn Core> = match &self.seat {
            Seat::Server {
                authority,
                relay,
                project,
                ..
            } => {
                let authority = AuthorityConfig {
                    identity: IdentitySecret::from_bytes(authority).unwrap(),
                    project: project.clone(),
                    credential_life: self.credential_life,
                };
                let relay = RelayConfig {
                    identity: IdentitySecret::from_bytes(relay).unwrap(),
                    name: "relay".parse().unwrap(),
                    leg_address: None,
                    membership: None,
                    revocations: None,
                    ticket: None,
                };
                let config = ServerConfig {
                    authority: Some(authority),
                    relay: Some(relay),
                };
                Box::new(ServerCore::new(config, random, now))
            }
            Seat::Node {
                identity,
                membership,
                ticket,
                plan,
                ..
            } => {
                let identity = IdentitySecret::from_bytes(identity).unwrap();
                let id = identity.id();
                let read = |bytes: &Zeroizing<Vec<u8>>| Membership::decode(bytes, &id).unwrap();
                let (inlets, outlets) = Plan::configs(plan, 0, self.lanes);
                let membership = membership.as_ref().map(read);
                let held = |bytes: &Zeroizing<Vec<u8>>| {
                    let authority = &membership.as_ref()?.authority;
                    Some(HeldRevocations::decode(bytes, authority).unwrap())
                };
                let config = MemberConfig {
                    revocations: self.revocations.as_ref().and_then(held),
                    revocation_max_age: self.max_age,
                    key_exchange_every: self.key_exchange_every,
                    membership,
                    identity,
                    ticket: ticket.as_ref().map(|text| Ticket::from_text(text).unwrap()),
                    wish: None,
                    suites: crypto::suite::SuiteMask(0b11),
                    inlets,
                    outlets,
                    workers: self.workers,
                };
                Box::new(MemberCore::new(config, random, now))
            }
        };
        self.core = Some(core);
    }

    /// Ends the process without a word.
    pub fn kill(&mut self) {
        self.core = None;
        self.inputs.clear();
        self.relay_worker = RelayWorker::default();
    }

    /// Whether it runs.
    pub fn alive(&self) -> bool {
        self.core.is_some()
    }

    /// Tells the core what is there.
    pub fn turn(&mut self, mono: Instant) -> bool {
        let now = self.now(mono);
        self.clock = mono.as_nanos() as f64 / 1e9;
        let Some(core) = &mut self.core else {
            self.inputs.clear();
            return false;
        };
        let moved = !self.inputs.is_empty();
        for input in self.inputs.drain(..) {
            core.handle(now, input);
        }
        moved
    }

    /// Runs the core's timer if it is due.
    pub fn fire_timer(&mut self, mono: Instant) {
        let now = self.now(mono);
        if let Some(core) = self.core.as_mut().filter(|core| core.next_timer() <= mono) {
            core.handle(now, Input::Timer);
        }
    }

    pub fn next_timer(&self) -> Instant {
        let core = self
            .core
            .as_ref()
            .map_or(Instant::FAR_FUTURE, |core| core.next_timer());
        core.min(self.relay_worker.next_timer())
    }

    pub fn take_outputs(&mut self) -> Vec<Output> {
        let core = self.core.as_mut();
        core.map(|core| std::iter::from_fn(|| core.poll_output()).collect())
            .unwrap_or_default()
    }

    pub fn status(&self, mono: Instant) -> Status {
        self.core.as_ref().unwrap().status(self.now(mono))
    }

    /// Whether its core knows of a link.
    pub fn owns(&self, link: LinkId) -> bool {
        self.core.as_ref().is_some_and(|core| core.owns(link))
    }

    /// What needs no network.
    pub fn carry_out(&mut self, output: Output) {
        match output {
            Output::Store { no, request } => {
                let answer = match &mut self.seat {
                    _ if self.store_broken => Err(crate::protocol::store::StoreError::Unavailable(
                        "disk full".into(),
                    )),
                    Seat::Server { store, .. } => store.serve(&request),
                    Seat::Node { .. } => panic!("a node asks the store"),
                };
                self.inputs.push_back(Input::Store { no, answer });
            }
            Output::Admin { reply, .. } => self.replies.push(*reply),
            Output::Persist {
                file: StateFile::Membership,
                bytes,
            } => match &mut self.seat {
                Seat::Node { membership, .. } => *membership = Some(bytes),
                Seat::Server { .. } => panic!("a server persists a membership"),
            },
            Output::Persist {
                file: StateFile::Revocations,
                bytes,
            } => self.revocations = Some(bytes),
            Output::TicketSpent => self.ticket_spent = true,
            Output::Log(record) => {
                if std::env::var_os("ADIT_WORLD_TRACE").is_some() {
                    println!(
                        "{:>12.3} {}: {} {:?}",
                        self.clock, self.name, record.what, record.fields
                    );
                }
                self.logs.push(record);
            }
            Output::StatusChanged => {}
            Output::Command(_) | Output::Resolve { .. } => unreachable!("the world's"),
        }
    }

    /// How often a code was logged.
    pub fn logged(&self, code: Code) -> usize {
        self.logs
            .iter()
            .filter(|record| record.code == Some(code))
            .count()
    }

    /// How often a text was logged.
    pub fn said(&self, what: &str) -> usize {
        self.logs
            .iter()
            .filter(|record| record.what.contains(what))
            .count()
    }
}

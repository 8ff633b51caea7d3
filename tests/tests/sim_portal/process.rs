//! A process of the world: a production core and production workers that talk through the
//! production mailboxes. The driver between them does what control's does, on the simulated clock.
//!
//! What outlives a process is its [`Seat`]: keys, what it persisted, the authority's store. So one
//! can be killed and started again.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crypto::SeededRandom;
use crypto::UnixTime;
use crypto::identity::IdentitySecret;
use crypto::ticket::Ticket;
use proxy::engine::simulated::{EngineId, Rng, SimCarry, SimEngine, SimWaker, World};
use proxy::engine::{Engine, EngineConfig, tear_down};
use proxy::error::CloseReason;
use proxy::ids::{PortalNo, WorkerId};
use proxy::limits::{CREDENTIAL_LIFE, EVENTS_PER_LOOK, KEY_EXCHANGE_EVERY, REVOCATION_MAX_AGE};
use proxy::mailbox::{ControlEnd, ToWorker, mailboxes};
use proxy::protocol::command::{Command, Event, LegEntry, StreamReport};
use proxy::protocol::core::{
    AdminCall, AdminNo, AdminReply, AuthorityConfig, Core, HeldRevocations, InletConfig, Input,
    LogRecord, MemberConfig, MemberCore, Membership, Now, OutletConfig, Output, RelayConfig,
    ServerConfig, ServerCore, StateFile, Status, TargetConfig,
};
use proxy::protocol::policy::Policy;
use proxy::protocol::store::{MemberKey, MemoryStore, ProjectRow, Revoke, Store, StoreError};
use proxy::protocol::stream::Visits;
use proxy::time::{Duration, Instant};
use proxy::worker::counters::Counters;
use proxy::worker::{Worker, WorkerConfig};
use zeroize::Zeroizing;

/// When every world begins, by a right clock, in seconds since 1970.
pub const EPOCH: u64 = 1_800_000_000;

/// Sockets of one worker.
const SOCKETS: u32 = 2048;

/// Rounds of one control turn, past which it is a busy loop.
const ROUNDS: usize = 10_000;

/// A portal of a node.
#[derive(Clone, Debug)]
pub enum Plan {
    /// An inlet.
    Inlet {
        /// The relay address.
        via: &'static str,
        /// Its rule.
        allow: String,
        /// Where apps connect.
        door: SocketAddr,
    },
    /// An outlet to a target of the same name.
    Outlet {
        /// The relay address.
        at: &'static str,
        /// Its rule.
        allow: String,
        /// The target, as the resolver knows it.
        to: &'static str,
    },
}

/// What outlives a process.
pub enum Seat {
    /// `adit serve`.
    Server {
        /// The authority's key.
        authority: Zeroizing<Vec<u8>>,
        /// The relay's key, if it is a relay as well.
        relay: Option<Zeroizing<Vec<u8>>>,
        /// The project.
        project: ProjectRow,
        /// The store.
        store: Box<MemoryStore>,
    },
    /// `adit serve --role relay`.
    Relay {
        /// Its key.
        identity: Zeroizing<Vec<u8>>,
        /// What it persisted.
        membership: Option<Zeroizing<Vec<u8>>>,
        /// Its ticket, until it was spent.
        ticket: Option<Zeroizing<String>>,
    },
    /// A node.
    Node {
        /// Its key.
        identity: Zeroizing<Vec<u8>>,
        /// What it persisted.
        membership: Option<Zeroizing<Vec<u8>>>,
        /// Its ticket, until it was spent.
        ticket: Option<Zeroizing<String>>,
        /// Its portals.
        plans: Vec<Plan>,
    },
}

/// Every leg key that a relay's control has published: what a hostile relay knows.
pub type LegKeys = Rc<RefCell<Vec<LegEntry>>>;

/// A worker of a process.
struct Hand {
    /// `None` once it has stopped.
    worker: Option<Worker<SimEngine>>,
    engine: EngineId,
    control: ControlEnd<SimCarry, SimWaker>,
    unsent: VecDeque<Command>,
}

/// What the workers of a process count, together.
#[derive(Clone, Default)]
pub struct Counted(Vec<Arc<Counters>>);

impl Counted {
    /// Each counter with its name.
    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for (name, value) in self.0.iter().flat_map(|counters| counters.all()) {
            *sums.entry(name).or_default() += value;
        }
        sums
    }

    /// One of them.
    pub fn get(&self, name: &str) -> u64 {
        self.all().get(name).copied().unwrap_or(0)
    }

    /// The same of each worker.
    pub fn each(&self, name: &str) -> Vec<u64> {
        let all = self.0.iter().flat_map(|counters| counters.all());
        let of = |(own, value): (&str, u64)| (own == name).then_some(value);
        all.filter_map(of).collect()
    }

    /// Streams that ended for this reason.
    pub fn ended(&self, why: CloseReason) -> u64 {
        self.0.iter().map(|counters| counters.ended(why)).sum()
    }
}

/// A process while it runs.
struct Life {
    core: Box<dyn Core>,
    hands: Vec<Hand>,
    counted: Counted,
    doors_closed: usize,
    drained: usize,
    inputs: VecDeque<Input>,
    events: Vec<Event>,
    rang: Arc<AtomicBool>,
    /// Control has something to do and does it then.
    look_at: Option<Instant>,
    /// The last alarm that was set for its timer.
    alarm: Instant,
    replies: Vec<AdminReply>,
}

/// See the module.
pub struct Process {
    /// For messages.
    pub name: &'static str,
    /// Its host.
    pub ip: IpAddr,
    /// What it keeps.
    pub seat: Seat,
    /// Where it listens besides its inlets.
    public: Option<SocketAddr>,
    life: Option<Life>,
    /// All it has logged, in all its lives.
    pub logs: Vec<(Instant, LogRecord)>,
    /// Its reports of ended streams.
    pub reports: Vec<StreamReport>,
    /// Its control does nothing until then.
    pub held_until: Instant,
    /// How long its control takes at most to notice something.
    pub lag: Duration,
    /// Its engines' buffers, of each.
    pub buffers: [u32; 4],
    /// Its workers.
    pub workers: u8,
    /// Lanes of its inlets at each of them.
    pub lanes: u8,
    /// Its inlets are started with `--dedicated`.
    pub dedicated: bool,
    /// By how much its wall clock is wrong.
    pub clock_error_s: i64,
    /// Its store answers everything with an error.
    pub store_fails: bool,
    /// What it wrote of revocations.
    pub revocations: Option<Zeroizing<Vec<u8>>>,
    /// `--revocation-max-age`, from the next start on.
    pub max_age: Duration,
    /// `--key-exchange-every`, from the next start on.
    pub key_exchange_every: Duration,
    /// What its control told the worker about legs.
    pub leg_keys: LegKeys,
    left: (u32, usize),
    /// Cells of the stream table that lanes of former lives visited.
    visits: Visits,
    rng: Rng,
}

impl Process {
    /// A process that was never started.
    pub fn new(name: &'static str, ip: IpAddr, public: Option<SocketAddr>, seat: Seat) -> Process {
        Process {
            name,
            ip,
            seat,
            public,
            life: None,
            logs: Vec::new(),
            reports: Vec::new(),
            held_until: Instant::ZERO,
            lag: Duration::ZERO,
            buffers: [512, 128, 128, 32],
            workers: 1,
            lanes: 1,
            dedicated: false,
            clock_error_s: 0,
            store_fails: false,
            revocations: None,
            max_age: REVOCATION_MAX_AGE,
            key_exchange_every: KEY_EXCHANGE_EVERY,
            leg_keys: LegKeys::default(),
            left: (0, 0),
            visits: Visits::default(),
            rng: Rng::new(0),
        }
    }

    fn now(&self, mono: Instant) -> Now {
        let right = EPOCH * 1000 + mono.as_nanos() / 1_000_000;
        Now {
            mono,
            wall_millis: right.saturating_add_signed(self.clock_error_s * 1000),
        }
    }

    /// Starts it with what it has kept. `seed` is its randomness.
    pub fn start(&mut self, world: &World, seed: u64) {
        assert!(self.life.is_none(), "{} runs already", self.name);
        // Listening sockets of a former life are closed by now.
        world.census();
        self.rng = Rng::new(seed ^ 0x5eed);
        let config = EngineConfig {
            sockets: SOCKETS,
            buffers: self.buffers,
            pipes: 8,
        };
        let ids = || WorkerId::all(self.workers);
        let engines: Vec<SimEngine> = ids()
            .map(|_| world.engine(self.ip, &config).unwrap())
            .collect();
        let rang = Arc::new(AtomicBool::new(true));
        let bell = Arc::clone(&rang);
        let ring: Arc<dyn Fn() + Send + Sync> =
            Arc::new(move || bell.store(true, Ordering::Release));
        let wakers = engines.iter().map(Engine::waker).collect();
        let boxes = mailboxes(wakers, &ring);
        let counted = Counted(ids().map(|_| Arc::default()).collect());
        let mut hands = Vec::new();
        for ((place, engine), (control, end)) in ids().zip(engines).zip(boxes) {
            let id = engine.id();
            let team = if self.workers > 1 {
                counted.0.clone()
            } else {
                Vec::new()
            };
            let config = WorkerConfig {
                spin: Duration::ZERO,
                place,
                slots: SOCKETS,
                team,
            };
            let counters = Arc::clone(&counted.0[place.index()]);
            hands.push(Hand {
                worker: Some(Worker::new(engine, end, &config, counters)),
                engine: id,
                control,
                unsent: VecDeque::new(),
            });
        }
        let random = Box::new(SeededRandom::new(seed));
        let core = self.core(random, self.now(world.now()));
        for (portal, at) in self.doors() {
            let (socket, _) = world.listen(at).unwrap();
            for hand in hands.iter().skip(1) {
                let socket = world.share(&socket);
                let listen = ToWorker::Listen { portal, socket };
                assert!(hand.control.send(listen).is_ok());
            }
            let listen = ToWorker::Listen { portal, socket };
            assert!(hands[0].control.send(listen).is_ok());
        }
        self.life = Some(Life {
            core,
            hands,
            counted,
            doors_closed: 0,
            drained: 0,
            inputs: VecDeque::new(),
            events: Vec::new(),
            rang,
            look_at: None,
            alarm: Instant::ZERO,
            replies: Vec::new(),
        });
    }

    fn doors(&self) -> Vec<(Option<PortalNo>, SocketAddr)> {
        let mut doors: Vec<_> = self.public.into_iter().map(|at| (None, at)).collect();
        if let Seat::Node { plans, .. } = &self.seat {
            for (no, plan) in (0..).zip(plans) {
                if let Plan::Inlet { door, .. } = plan {
                    doors.push((Some(PortalNo(no)), *door));
                }
            }
        }
        doors
    }

    fn core(&self, random: Box<SeededRandom>, now: Now) -> Box<dyn Core> {
        match &self.seat {
            Seat::Server {
                authority,
                relay,
                project,
                ..
            } => {
                let config = ServerConfig {
                    authority: Some(AuthorityConfig {
                        identity: IdentitySecret::from_bytes(authority).unwrap(),
                        project: project.clone(),
                        credential_life: CREDENTIAL_LIFE,
                    }),
                    relay: relay.as_ref().map(|key| relay_config(key, None, None)),
                };
                Box::new(ServerCore::new(config, random, now))
            }
            Seat::Relay {
                identity,
                membership,
                ticket,
            } => {
                let mut relay = relay_config(identity, membership.as_ref(), ticket.as_ref());
                relay.revocations = held(self.revocations.as_ref(), relay.membership.as_ref());
                let config = ServerConfig {
                    authority: None,
                    relay: Some(relay),
                };
                Box::new(ServerCore::new(config, random, now))
            }
            Seat::Node {
                identity,
                membership,
                ticket,
                plans,
            } => {
                let identity = IdentitySecret::from_bytes(identity).unwrap();
                let id = identity.id();
                let read = |bytes: &Zeroizing<Vec<u8>>| Membership::decode(bytes, &id).unwrap();
                let membership = membership.as_ref().map(read);
                let (inlets, outlets) = configs(plans, self.lanes, self.dedicated);
                let config = MemberConfig {
                    revocations: held(self.revocations.as_ref(), membership.as_ref()),
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
        }
    }

    /// Ends it as SIGKILL does: its kernel closes what it had open.
    pub fn kill(&mut self) {
        if let Some(life) = self.life.take() {
            for worker in life.hands.iter().filter_map(|hand| hand.worker.as_ref()) {
                self.visits.add(worker.visited());
            }
            tear_down(|| drop(life));
        }
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.life.is_some()
    }

    /// A turn of its worker, if that is the engine that has something to do.
    ///
    /// # Panics
    /// When an invariant of the worker does not hold.
    pub fn turn(&mut self, engine: EngineId) {
        let Some(life) = &mut self.life else { return };
        let mut hands = life.hands.iter_mut();
        let Some(hand) = hands.find(|hand| hand.engine == engine) else {
            return;
        };
        let Some(worker) = &mut hand.worker else {
            return;
        };
        let runs = worker.one_turn();
        worker.check();
        if !runs {
            let (buffers, slots) = self.left;
            self.left = (
                buffers + worker.buffers_out(),
                slots + worker.slots_in_use(),
            );
            self.visits.add(worker.visited());
            hand.worker = None;
            if life.hands.iter().all(|hand| hand.worker.is_none()) {
                self.life = None;
            }
        }
    }

    /// Control's turn, if it has something to do and is not held. Sets alarms for the next.
    pub fn control(&mut self, world: &World, names: &BTreeMap<String, Vec<SocketAddr>>) {
        let now = world.now();
        let (held, lag) = (self.held_until, self.lag);
        let Some(life) = &mut self.life else {
            return;
        };
        let wants = life.rang.load(Ordering::Acquire)
            || !life.inputs.is_empty()
            || life.core.next_timer() <= now;
        if wants && life.look_at.is_none() {
            let late = self.rng.below(lag.as_nanos() as u64 + 1);
            let at = held.max(now + Duration::from_nanos(late));
            life.look_at = Some(at);
            if at > now {
                world.alarm(at);
            }
        }
        if life.look_at.is_some_and(|at| at.max(held) <= now) {
            life.look_at = None;
            self.look(now, names);
        }
        let Some(life) = &mut self.life else { return };
        let timer = life.core.next_timer().max(now);
        if timer < Instant::FAR_FUTURE && timer != life.alarm {
            life.alarm = timer;
            world.alarm(timer);
        }
    }

    fn look(&mut self, now: Instant, names: &BTreeMap<String, Vec<SocketAddr>>) {
        for _ in 0..ROUNDS {
            let moved = self.take_in(now);
            // A new core has outputs before it was told anything.
            self.carry_out(now, names);
            if !moved {
                return;
            }
        }
        panic!("{} at {now:?}: control spins", self.name);
    }

    /// Tells the core what there is; false when there was nothing.
    fn take_in(&mut self, now: Instant) -> bool {
        let at = self.now(now);
        let Some(life) = &mut self.life else {
            return false;
        };
        life.send();
        life.rang.store(false, Ordering::Release);
        let mut events = std::mem::take(&mut life.events);
        for hand in &life.hands {
            hand.control.receive(&mut events, EVENTS_PER_LOOK);
        }
        let mut moved = !events.is_empty();
        for event in events.drain(..) {
            match event {
                Event::DoorsClosed => {
                    life.doors_closed += 1;
                    if life.doors_closed == 1 && life.hands.len() > 1 {
                        let (idle, deadline) = (Duration::ZERO, Instant::FAR_FUTURE);
                        life.tell(Command::Drain { idle, deadline });
                    }
                    if life.doors_closed == life.hands.len() {
                        life.core.handle(at, Input::Stop);
                    }
                }
                Event::Drained => {
                    life.drained += 1;
                    if life.drained == life.hands.len() {
                        life.tell(Command::Stop);
                    }
                }
                Event::Stream(report) => {
                    self.reports.push((*report).clone());
                    life.core.handle(at, Input::Event(Event::Stream(report)));
                }
                event => life.core.handle(at, Input::Event(event)),
            }
        }
        life.events = events;
        for input in std::mem::take(&mut life.inputs) {
            moved = true;
            life.core.handle(at, input);
        }
        if life.core.next_timer() <= now {
            moved = true;
            life.core.handle(at, Input::Timer);
        }
        moved | !life.all_sent()
    }

    fn carry_out(&mut self, now: Instant, names: &BTreeMap<String, Vec<SocketAddr>>) {
        let Some(life) = &mut self.life else { return };
        while let Some(output) = life.core.poll_output() {
            match output {
                Output::Command(command) => {
                    if let Command::LegKey(entry) = &command {
                        self.leg_keys.borrow_mut().push((**entry).clone());
                    }
                    life.tell(command);
                }
                Output::Resolve { no, name } => {
                    let answer = names.get(name.as_str()).cloned();
                    let answer = answer.ok_or_else(|| "no such name".to_owned());
                    life.inputs.push_back(Input::Resolved { no, answer });
                }
                Output::Store { no, request } => {
                    if let Seat::Server { store, .. } = &mut self.seat {
                        let answer = if self.store_fails {
                            Err(StoreError::Unavailable("no space left on device".into()))
                        } else {
                            store.serve(&request)
                        };
                        life.inputs.push_back(Input::Store { no, answer });
                    }
                }
                Output::Admin { reply, .. } => life.replies.push(*reply),
                Output::Persist {
                    file: StateFile::Membership,
                    bytes,
                } => {
                    if let Seat::Node { membership, .. } | Seat::Relay { membership, .. } =
                        &mut self.seat
                    {
                        *membership = Some(bytes);
                    }
                }
                Output::Persist {
                    file: StateFile::Revocations,
                    bytes,
                } => self.revocations = Some(bytes),
                Output::TicketSpent => {
                    if let Seat::Node { ticket, .. } | Seat::Relay { ticket, .. } = &mut self.seat {
                        *ticket = None;
                    }
                }
                Output::Log(record) => self.logs.push((now, record)),
                Output::StatusChanged => {}
            }
        }
        life.send();
    }

    /// Gives its core an input.
    pub fn input(&mut self, input: Input) {
        if let Some(life) = &mut self.life {
            life.inputs.push_back(input);
        }
    }

    /// Gives its workers a command.
    pub fn command(&mut self, command: Command) {
        if let Some(life) = &mut self.life {
            life.tell(command);
            life.rang.store(true, Ordering::Release);
        }
    }

    /// A call of the administrator, answered at once.
    ///
    /// # Panics
    /// When it is not.
    pub fn call(&mut self, now: Instant, call: AdminCall) -> AdminReply {
        self.input(Input::Admin {
            no: AdminNo(1),
            call,
        });
        self.look(now, &BTreeMap::new());
        let life = self.life.as_mut().unwrap();
        life.replies.pop().unwrap()
    }

    /// Revokes a member in the authority's store, as another process of the authority does.
    ///
    /// # Panics
    /// When it is no authority.
    pub fn revoke_in_store(&mut self, now: UnixTime, name: &str) {
        let Seat::Server { store, project, .. } = &mut self.seat else {
            panic!("not the authority");
        };
        let revoke = Revoke {
            member: MemberKey::Name(name.parse().unwrap()),
            actor: project.id,
            reason: String::new(),
            now,
        };
        store.revoke(&revoke).unwrap();
    }

    /// What `adit status` would show; `None` while it is dead.
    pub fn status(&self, mono: Instant) -> Option<Status> {
        let life = self.life.as_ref()?;
        Some(life.core.status(self.now(mono)))
    }

    /// Its first worker's engine, while it runs.
    pub fn engine(&self) -> Option<EngineId> {
        let hands = self.life.as_ref().map(|life| &life.hands);
        hands.and_then(|hands| hands.first().map(|hand| hand.engine))
    }

    /// Its workers' counters.
    pub fn counters(&self) -> Option<&Counted> {
        self.life.as_ref().map(|life| &life.counted)
    }

    /// Buffers that were out and slots that were in use when its workers stopped.
    pub fn left(&self) -> (u32, usize) {
        self.left
    }

    /// Cells of the stream table that its lanes visited, in all its lives.
    pub fn visits(&self) -> Visits {
        let mut visits = self.visits;
        if let Some(life) = &self.life {
            for worker in life.hands.iter().filter_map(|hand| hand.worker.as_ref()) {
                visits.add(worker.visited());
            }
        }
        visits
    }
}

impl Life {
    /// A command for those workers that it is for.
    fn tell(&mut self, command: Command) {
        let workers = self.hands.len() as u8;
        command.deliver(workers, |worker, command| {
            self.hands[worker.index()].unsent.push_back(command);
        });
    }

    fn all_sent(&self) -> bool {
        self.hands.iter().all(|hand| hand.unsent.is_empty())
    }

    /// What fits into the mailboxes.
    fn send(&mut self) {
        for Hand {
            control, unsent, ..
        } in &mut self.hands
        {
            while let Some(command) = unsent.pop_front() {
                if let Err(ToWorker::Command(command)) = control.send(ToWorker::Command(command)) {
                    unsent.push_front(command);
                    break;
                }
            }
        }
    }
}

fn held(
    bytes: Option<&Zeroizing<Vec<u8>>>,
    membership: Option<&Membership>,
) -> Option<HeldRevocations> {
    let (bytes, membership) = bytes.zip(membership)?;
    Some(HeldRevocations::decode(bytes, &membership.authority).unwrap())
}

fn relay_config(
    identity: &[u8],
    membership: Option<&Zeroizing<Vec<u8>>>,
    ticket: Option<&Zeroizing<String>>,
) -> RelayConfig {
    let identity = IdentitySecret::from_bytes(identity).unwrap();
    let id = identity.id();
    RelayConfig {
        identity,
        name: "relay".parse().unwrap(),
        leg_address: None,
        membership: membership.map(|bytes| Membership::decode(bytes, &id).unwrap()),
        revocations: None,
        ticket: ticket.map(|text| Ticket::from_text(text).unwrap()),
    }
}

fn configs(plans: &[Plan], lanes: u8, dedicated: bool) -> (Vec<InletConfig>, Vec<OutletConfig>) {
    let (mut inlets, mut outlets) = (Vec::new(), Vec::new());
    for (no, plan) in (0..).zip(plans) {
        let portal = PortalNo(no);
        match plan {
            Plan::Inlet { via, allow, .. } => inlets.push(InletConfig {
                portal,
                via: via.parse().unwrap(),
                target: None,
                allow: Policy::parse(std::slice::from_ref(allow)).unwrap(),
                lanes,
                dedicated,
            }),
            Plan::Outlet { at, allow, to } => outlets.push(OutletConfig {
                portal,
                at: at.parse().unwrap(),
                targets: vec![TargetConfig {
                    name: at.parse().unwrap(),
                    to: vec![to.parse().unwrap()],
                    proxy_header: false,
                }],
                allow: Policy::parse(std::slice::from_ref(allow)).unwrap(),
            }),
        }
    }
    (inlets, outlets)
}

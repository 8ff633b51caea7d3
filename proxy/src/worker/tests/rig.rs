//! A portal in a simulated world: an inlet's and an outlet's worker, and the relay's between them
//! or a direct connection. The test plays control: keys are made directly, without handshakes.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crypto::Id;
use crypto::leg::LegKey;
use crypto::record::{ChainSecret, Opener, Sealer};
use crypto::suite::{Suite, SuiteMask};

use super::app::App;
use crate::engine::simulated::{
    EngineId, Faults, SimCarry, SimEngine, SimListener, SimWaker, Step, World,
};
use crate::engine::{Engine, EngineConfig};
use crate::error::CloseReason;
use crate::ids::{AddressHash, BundleId, CircuitNo, LinkId, PortalNo, SessionId, WorkerId};
use crate::mailbox::{ControlEnd, ToWorker, mailbox};
use crate::protocol::command::{
    Adopt, Becomes, CircuitEvent, Command, ConnectSet, Event, Expect, KnownTarget, LaneEvent,
    LegEntry, Permit, Role, StreamReport,
};
use crate::protocol::leg::{self, Answer, Request};
use crate::protocol::preface::{Kind, Preface};
use crate::time::{Duration, Instant};
use crate::worker::counters::Counters;
use crate::worker::{Worker, WorkerConfig};

pub(super) const INLET: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(super) const RELAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
pub(super) const OUTLET: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));
pub(super) const PORTAL: PortalNo = PortalNo(1);
pub(super) const TARGET: &str = "echo";

/// One worker and the control that the test plays for it.
pub(super) struct Node {
    pub host: IpAddr,
    pub engine: EngineId,
    pub worker: Worker<SimEngine>,
    pub control: ControlEnd<SimCarry, SimWaker>,
    pub counters: Arc<Counters>,
    /// Everything it told control.
    pub events: Vec<Event>,
    /// Whether control takes events at all.
    pub listening: bool,
    pub alive: bool,
}

impl Node {
    pub fn new(world: &World, host: IpAddr, buffers: [u32; 4]) -> Node {
        Node::of(world, host, buffers, &WorkerConfig::alone(4096))
    }

    /// The second of two workers, the first of which takes nothing: every hand-over fails.
    pub fn shunned(world: &World, host: IpAddr, buffers: [u32; 4]) -> Node {
        let config = WorkerConfig {
            place: WorkerId(1),
            slots: 4096,
            team: vec![Arc::default(), Arc::default()],
            spin: Duration::ZERO,
        };
        Node::of(world, host, buffers, &config)
    }

    fn of(world: &World, host: IpAddr, buffers: [u32; 4], config: &WorkerConfig) -> Node {
        let own = config;
        let config = EngineConfig {
            sockets: 4096,
            buffers,
            pipes: 8,
        };
        let engine = world.engine(host, &config).unwrap();
        let id = engine.id();
        let (control, end) = mailbox(engine.waker(), Arc::new(|| {}));
        let counters = own.team.get(own.place.index()).cloned();
        let counters = counters.unwrap_or_default();
        let worker = Worker::new(engine, end, own, Arc::clone(&counters));
        Node {
            host,
            engine: id,
            worker,
            control,
            counters,
            events: Vec::new(),
            listening: true,
            alive: true,
        }
    }

    pub fn tell(&self, command: Command) {
        assert!(
            self.control.send(ToWorker::Command(command)).is_ok(),
            "the mailbox has room"
        );
    }

    pub fn reports(&self) -> Vec<&StreamReport> {
        self.events
            .iter()
            .filter_map(|event| {
                if let Event::Stream(report) = event {
                    Some(&**report)
                } else {
                    None
                }
            })
            .collect()
    }

    pub fn has(&self, which: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(which)
    }
}

/// Buffers that are enough for everything.
pub(super) const PLENTY: [u32; 4] = [1024, 256, 64, 0];
/// The same with Bulk buffers, without which nothing leaves its lane.
pub(super) const BULK: [u32; 4] = [1024, 256, 64, 32];

/// How inlet and outlet reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// The inlet dials the outlet's public listener.
    Direct,
    /// Both dial the relay, which pairs their legs.
    Relay,
}

impl Via {
    pub const ALL: [Via; 2] = [Via::Direct, Via::Relay];
}

/// The relay session of an end, as its leg prefaces name it; its key.
fn session(of: Role) -> (SessionId, LegKey) {
    let byte = if of == Role::Inlet { 1 } else { 2 };
    (SessionId([byte; 16]), LegKey::from_secret(&[byte; 32]))
}

/// The preface of a leg of that end.
fn hello(role: Role, counter: u64, bulk: bool) -> Vec<u8> {
    let (session, key) = session(role);
    let request = Request {
        role,
        suites: SuiteMask(1),
        address: ADDRESS,
        bulk,
    };
    leg::preface(&key, session, counter, &request).to_vec()
}

/// Odd: of two workers, the second is its home.
const ADDRESS: AddressHash = AddressHash([5; 32]);
/// What the inlet sends last before the first record.
const MESSAGE_3: &[u8] = b"message 3";

/// The whole world of a test.
pub(super) struct Rig {
    pub world: World,
    pub inlet: Node,
    pub outlet: Node,
    pub relay: Option<Node>,
    /// Where apps connect.
    pub door: SocketAddr,
    pub service: Option<SimListener>,
    /// What serves a new connection at the service.
    pub serve: fn(crate::engine::simulated::SimSocket) -> App,
    pub apps: Vec<App>,
    pub served: Vec<App>,
    /// Checked after every step.
    pub steps: u64,
    pub permit_ends: Instant,
    /// Lanes that are made from now on are of an inlet with `--dedicated`.
    pub dedicated: bool,
    bundles: u8,
    /// What each link becomes: the bundle, and the circuit's number (0: the lane itself).
    roads: BTreeMap<LinkId, (u8, u16)>,
    /// The same for the outlet's accepted links, in their order.
    accepted: VecDeque<(u8, u16)>,
    circuits: u16,
    /// Whether connections become lanes by themselves.
    pub adopts: bool,
}

/// What the one target of the rig means.
pub(super) fn target(to: Vec<SocketAddr>) -> KnownTarget {
    KnownTarget {
        name: TARGET.into(),
        to,
        proxy_header: false,
    }
}

impl Rig {
    /// A portal with its lane up, on a network with these faults.
    pub fn up(seed: u64, via: Via, faults: Faults, buffers: [u32; 4]) -> Rig {
        let mut rig = Rig::new(seed, via, faults, buffers);
        rig.connect_lane();
        assert!(
            rig.until(|rig| rig.is_ready()),
            "seed {seed}: no lane came up"
        );
        rig
    }

    /// The same, without a lane.
    pub fn new(seed: u64, via: Via, faults: Faults, buffers: [u32; 4]) -> Rig {
        Rig::of(seed, via, faults, buffers, Node::new)
    }

    /// The same of nodes that are made so.
    pub fn of(
        seed: u64,
        via: Via,
        faults: Faults,
        buffers: [u32; 4],
        node: fn(&World, IpAddr, [u32; 4]) -> Node,
    ) -> Rig {
        let world = World::new(seed);
        world.set_faults(faults);
        let inlet = node(&world, INLET, buffers);
        let outlet = node(&world, OUTLET, buffers);
        let (carry, door) = world.listen(SocketAddr::new(INLET, 15432)).unwrap();
        let heard = inlet.control.send(ToWorker::Listen {
            portal: Some(PORTAL),
            socket: carry,
        });
        assert!(heard.is_ok());
        let service = world.app_listen(SocketAddr::new(OUTLET, 5432)).unwrap();
        let to = vec![SocketAddr::new(OUTLET, 5432)];
        outlet.tell(Command::Targets {
            portal: PORTAL,
            targets: vec![target(to)],
        });
        for node in [&inlet, &outlet] {
            node.tell(Command::AuthorityTime {
                unix_millis: 1_000_000,
                at: Instant::ZERO,
            });
        }
        let relay = (via == Via::Relay).then(|| node(&world, RELAY, buffers));
        let public = relay.as_ref().unwrap_or(&outlet);
        let (socket, _) = world.listen(SocketAddr::new(public.host, 7348)).unwrap();
        let heard = public.control.send(ToWorker::Listen {
            portal: None,
            socket,
        });
        assert!(heard.is_ok());
        if let Some(relay) = &relay {
            for role in [Role::Inlet, Role::Outlet] {
                let (session, key) = session(role);
                relay.tell(Command::LegKey(Box::new(LegEntry {
                    session,
                    key,
                    member: Id([session.0[0]; 32]),
                    serve: if role == Role::Outlet {
                        vec![ADDRESS]
                    } else {
                        vec![]
                    },
                    connect: ConnectSet::All,
                    not_after: Instant::FAR_FUTURE,
                })));
            }
        }
        Rig {
            world,
            inlet,
            outlet,
            relay,
            door,
            service: Some(service),
            serve: App::echo,
            apps: Vec::new(),
            served: Vec::new(),
            steps: 0,
            permit_ends: Instant::FAR_FUTURE,
            dedicated: false,
            bundles: 0,
            roads: BTreeMap::new(),
            accepted: VecDeque::new(),
            circuits: 0,
            adopts: true,
        }
    }

    /// Begins to connect a lane; the first of a rig has link 2, the next 4 and so on.
    pub fn connect_lane(&mut self) -> LinkId {
        self.bundles += 1;
        let link = LinkId(u64::from(self.bundles) * 2);
        self.connect(link, (self.bundles, 0));
        link
    }

    /// A circuit of the newest lane, from its dial until both ends may use it.
    pub fn add_circuit(&mut self) -> LinkId {
        let seed = self.world.seed();
        self.circuits += 1;
        let link = LinkId(1000 + u64::from(self.circuits) * 2);
        self.connect(link, (self.bundles, self.circuits));
        let ready = |event: &Event| {
            matches!(
                event,
                Event::Circuit {
                    what: CircuitEvent::Ready,
                    ..
                }
            )
        };
        let circuits = usize::from(self.circuits);
        let all = |node: &Node| node.events.iter().filter(|e| ready(e)).count() == circuits;
        assert!(
            self.until(|rig| all(&rig.inlet) && all(&rig.outlet)),
            "seed {seed}: no circuit came up"
        );
        link
    }

    fn connect(&mut self, link: LinkId, road: (u8, u16)) {
        self.roads.insert(link, road);
        if self.relay.is_some() {
            self.dial_leg(Role::Outlet, link);
            self.dial_leg(Role::Inlet, link);
        } else {
            self.accepted.push_back(road);
            let hello = Preface::bytes(Kind::RelaySession).to_vec();
            self.dial(Role::Inlet, link, OUTLET, hello, Expect::Nothing);
        }
    }

    fn dial(&self, role: Role, link: LinkId, to: IpAddr, hello: Vec<u8>, expect: Expect) {
        let node = if role == Role::Inlet {
            &self.inlet
        } else {
            &self.outlet
        };
        let to = vec![SocketAddr::new(to, 7348)];
        let deadline = self.world.now() + Duration::from_secs(10);
        node.tell(Command::Dial {
            link,
            to,
            hello,
            expect,
            deadline,
        });
    }

    /// Dials the relay with a leg of that end.
    pub fn dial_leg(&self, role: Role, link: LinkId) {
        let is_circuit = self.roads.get(&link).is_some_and(|road| road.1 > 0);
        let hello = hello(role, link.0, is_circuit && role == Role::Inlet);
        self.dial(role, link, RELAY, hello, Expect::Exact(48));
    }

    /// A leg of that end that the test plays itself: what it gets begins with the relay's answer.
    pub fn bare_leg(&mut self, role: Role, counter: u64) -> usize {
        let host = if role == Role::Inlet { INLET } else { OUTLET };
        let to = SocketAddr::new(RELAY, 7348);
        let mut app = App::new(self.world.app_connect(host, to));
        app.say(&hello(role, counter, false));
        self.apps.push(app);
        self.apps.len() - 1
    }

    pub fn is_ready(&self) -> bool {
        let ready = |event: &Event| {
            matches!(
                event,
                Event::Lane {
                    what: LaneEvent::Ready,
                    ..
                }
            )
        };
        self.inlet.has(ready)
    }

    pub fn adopt(&self, role: Role, link: LinkId, road: (u8, u16), last: Vec<u8>) -> Command {
        let (bundle, circuit) = road;
        let secret = |of: u8| {
            let mut bytes = [of.wrapping_add(bundle); 32];
            bytes[..2].copy_from_slice(&circuit.to_be_bytes());
            ChainSecret::from_bytes(&bytes)
        };
        let (send, receive) = match role {
            Role::Inlet => (100, 200),
            Role::Outlet => (200, 100),
        };
        Command::Adopt(Box::new(Adopt {
            link,
            becomes: match circuit {
                0 => Becomes::Lane,
                no => Becomes::Circuit(CircuitNo(no)),
            },
            last,
            role,
            portal: PORTAL,
            bundle: BundleId([bundle; 16]),
            fresh_until: Instant::FAR_FUTURE,
            sealer: Sealer::new(Suite::AesGcm, secret(send)),
            opener: Opener::new(Suite::AesGcm, secret(receive)),
            permit: Permit {
                peer: Id([7; 32]),
                peer_name: "peer".into(),
                serial: 1,
                targets: Arc::from([TARGET.to_string()]),
                policy_version: 1,
                list_number: 1,
                not_after: self.permit_ends,
            },
            dedicated: self.dedicated && role == Role::Inlet,
        }))
    }

    /// What control does by itself: lanes are adopted as soon as their connections are up.
    fn play_control(&mut self) {
        for of in [Role::Inlet, Role::Outlet] {
            let node = if of == Role::Inlet {
                &mut self.inlet
            } else {
                &mut self.outlet
            };
            if !node.listening {
                continue;
            }
            let mut new = Vec::new();
            node.control.receive(&mut new, 4096);
            for event in &new {
                if self.adopts {
                    self.play_handshake(of, event);
                }
            }
            let node = if of == Role::Inlet {
                &mut self.inlet
            } else {
                &mut self.outlet
            };
            node.events.extend(new);
        }
        if let Some(relay) = &mut self.relay {
            relay.control.receive(&mut relay.events, 4096);
        }
    }

    /// What control would do with a new connection: the lane's keys are known at both ends.
    fn play_handshake(&mut self, of: Role, event: &Event) {
        let relayed = self.relay.is_some();
        match (of, event) {
            (Role::Inlet, Event::Connected { link, .. }) if !relayed => {
                self.inlet
                    .tell(self.adopt(of, *link, self.roads[link], Vec::new()));
            }
            (Role::Outlet, Event::Accepted { link, .. }) => {
                let road = self.accepted.pop_front().unwrap();
                self.outlet.tell(self.adopt(of, *link, road, Vec::new()));
            }
            (Role::Inlet, Event::Frame { link, .. }) if self.answer_is_paired(of, *link, event) => {
                let last = MESSAGE_3.to_vec();
                self.inlet
                    .tell(self.adopt(of, *link, self.roads[link], last));
            }
            (Role::Outlet, Event::Frame { link, bytes }) if bytes == MESSAGE_3 => {
                self.outlet
                    .tell(self.adopt(of, *link, self.roads[link], Vec::new()));
            }
            (Role::Outlet, Event::Frame { link, .. })
                if self.answer_is_paired(of, *link, event) =>
            {
                let then = Expect::Frame;
                self.outlet.tell(Command::Send {
                    link: *link,
                    bytes: vec![],
                    framed: true,
                    then,
                });
            }
            _ => {}
        }
    }

    fn answer_is_paired(&self, of: Role, link: LinkId, event: &Event) -> bool {
        let Event::Frame { bytes, .. } = event else {
            return false;
        };
        let answer = leg::read_answer(&session(of).1, link.0, bytes);
        matches!(answer, Ok(Answer::Paired { .. }))
    }

    /// One step of the world; false when nothing will ever happen by itself, or not before `limit`.
    pub fn step(&mut self, limit: Instant) -> bool {
        self.steps += 1;
        let Step::Run(engines) = self.world.advance(limit) else {
            return false;
        };
        for engine in engines {
            let nodes = [
                Some(&mut self.inlet),
                Some(&mut self.outlet),
                self.relay.as_mut(),
            ];
            for node in nodes
                .into_iter()
                .flatten()
                .filter(|node| node.engine == engine)
            {
                if node.alive {
                    node.alive = node.worker.one_turn();
                    node.worker.check();
                }
            }
        }
        self.play_control();
        if let Some(service) = &mut self.service {
            while let Some((sock, _)) = service.accept() {
                self.served.push((self.serve)(sock));
            }
        }
        self.pump_apps();
        true
    }

    /// Lets every app and service do what it can; whether that was anything.
    pub fn pump_apps(&mut self) -> bool {
        self.apps
            .iter_mut()
            .chain(&mut self.served)
            .fold(false, |any, app| app.pump() | any)
    }

    /// Runs until that holds; false if it does not within a minute of simulated time.
    pub fn until(&mut self, holds: impl FnMut(&mut Rig) -> bool) -> bool {
        self.within(Duration::from_secs(60), holds)
    }

    /// The same within `span`.
    pub fn within(&mut self, span: Duration, mut holds: impl FnMut(&mut Rig) -> bool) -> bool {
        let limit = self.world.now() + span;
        loop {
            if holds(self) {
                return true;
            }
            let apps = self.pump_apps();
            if !self.step(limit) && !apps {
                return holds(self);
            }
        }
    }

    /// Lets the world run for so long.
    pub fn pass(&mut self, span: Duration) {
        self.world.alarm(self.world.now() + span);
        let _ = self.within(span, |_| false);
    }

    /// A new app that says this.
    pub fn app(&mut self, says: &[u8]) -> usize {
        let mut app = App::new(self.world.app_connect(INLET, self.door));
        app.say(says);
        self.apps.push(app);
        self.apps.len() - 1
    }

    /// The newest lane's link at that end.
    pub fn link_of(&self, end: IpAddr) -> LinkId {
        let node = if end == INLET {
            &self.inlet
        } else {
            &self.outlet
        };
        let found = node.events.iter().rev().find_map(|event| match event {
            Event::Lane {
                link,
                what: LaneEvent::Ready,
            } => Some(*link),
            _ => None,
        });
        found.unwrap()
    }

    /// Resets the tunnel's connections.
    pub fn cut_tunnel(&self) {
        self.world.reset_between(INLET, OUTLET);
        self.world.reset_between(INLET, RELAY);
    }

    /// Every stream has ended at both ends.
    pub fn is_idle(&self) -> bool {
        [&self.inlet, &self.outlet]
            .iter()
            .all(|node| node.counters.streams_open.get() == 0)
    }

    /// Stops everything and asserts that nothing is left.
    pub fn close(mut self) {
        let seed = self.world.seed();
        self.apps.clear();
        self.served.clear();
        self.service = None;
        for node in [Some(&self.inlet), Some(&self.outlet), self.relay.as_ref()]
            .into_iter()
            .flatten()
        {
            node.tell(Command::Stop);
        }
        let stopped = |rig: &mut Rig| {
            !rig.inlet.alive
                && !rig.outlet.alive
                && rig.relay.as_ref().is_none_or(|relay| !relay.alive)
        };
        assert!(self.until(stopped), "seed {seed}: a worker did not stop");
        for node in [Some(&self.inlet), Some(&self.outlet), self.relay.as_ref()]
            .into_iter()
            .flatten()
        {
            assert_eq!(node.worker.buffers_out(), 0, "seed {seed}: buffers are out");
            assert_eq!(
                node.worker.slots_in_use(),
                0,
                "seed {seed}: slots are in use"
            );
            assert_eq!(node.counters.streams_open.get(), 0, "seed {seed}");
            assert_eq!(node.counters.lanes_open.get(), 0, "seed {seed}");
            assert_eq!(node.counters.circuits_open.get(), 0, "seed {seed}");
        }
        assert_eq!(self.world.violations(), Vec::<String>::new(), "seed {seed}");
        assert_eq!(
            self.world.census().sockets,
            0,
            "seed {seed}: sockets are open"
        );
    }

    /// How many streams ended for this reason at the inlet.
    pub fn ended(&self, why: CloseReason) -> u64 {
        self.inlet.counters.ended(why)
    }
}

/// Bytes that repeat after a long while only.
pub(super) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

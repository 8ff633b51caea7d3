//! A world for tests: whole cores wired back to back, with connections, a relay worker, a store,
//! a resolver and clocks that are emulated. No engine and no thread; time is virtual.
//!
//! The emulated worker does what `command.rs` promises and nothing more: it cuts bytes into the
//! pieces that control expects, keeps deadlines, checks and pairs legs, and carries the control
//! records of lanes and circuits, sealed and opened with the keys that the cores hand over.

mod circuits;
mod conn;
mod host;
mod lanes;
mod legs;

pub use host::{Host, HostNo, Seat};
pub use lanes::ExchangeFault;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crypto::credential::Connect;
use crypto::identity::IdentitySecret;
use crypto::suite::SuiteMask;
use crypto::ticket::Ticket;
use crypto::{Random, SeededRandom, UnixTime};

use self::conn::Conn;
use super::admin::{AdminCall, AdminReply, TicketSpec};
use super::*;
use crate::ids::PortalNo;
use crate::protocol::command::Adopt;
use crate::protocol::policy::Policy;
use crate::protocol::store::{MemoryStore, ProjectRow, Store};
use crate::time::{Duration, Instant};

/// When every world begins, by a right clock.
pub const EPOCH: UnixTime = UnixTime(1_800_000_000);

/// Most rounds in which nothing but timers at the same instant run: more is a busy loop.
const ROUNDS_MAX: usize = 2_000;

/// See the module.
pub struct World {
    now: Instant,
    random: SeededRandom,
    hosts: Vec<Host>,
    conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    /// What names mean; missing ones don't resolve.
    pub names: BTreeMap<String, Vec<SocketAddr>>,
    /// The relay joins any inlet leg with any parked leg.
    pub mispair: bool,
    /// The mask that the relay passes on to inlets in place of the outlet's.
    pub forged_mask: Option<SuiteMask>,
    /// Pairs of hosts between which nothing can be dialed.
    pub walls: Vec<(HostNo, HostNo)>,
    /// Nodes whose bytes to and from the authority are held back.
    withheld: BTreeSet<HostNo>,
    /// Dials so far, by host.
    pub dials: BTreeMap<HostNo, usize>,
    /// Whatever is told to retire still carries something, until [`World::end_retired`].
    pub busy: bool,
    /// Links that are handed over stay on the way, until [`World::hand_on`].
    pub slow: bool,
    on_the_way: Vec<(HostNo, Box<Adopt>)>,
    /// What happens to the messages of key exchanges within lanes.
    pub exchange_fault: Option<ExchangeFault>,
    /// Whether [`World::check`] is run at every moment.
    pub checked: bool,
}

/// What a world with a server, an outlet and an inlet consists of.
pub struct Portal {
    /// The world.
    pub world: World,
    /// Authority and relay.
    pub server: HostNo,
    /// The outlet.
    pub outlet: HostNo,
    /// The inlet.
    pub inlet: HostNo,
}

pub fn addresses(texts: &[&str]) -> Vec<crypto::names::RelayAddress> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

impl World {
    /// An empty world.
    pub fn new(seed: u64) -> World {
        println!("world seed {seed}");
        World {
            now: Instant::from_nanos(1_000_000_000),
            random: SeededRandom::new(seed),
            hosts: Vec::new(),
            conns: BTreeMap::new(),
            next_conn: 1,
            names: BTreeMap::new(),
            mispair: false,
            forged_mask: None,
            walls: Vec::new(),
            withheld: BTreeSet::new(),
            dials: BTreeMap::new(),
            busy: false,
            slow: false,
            on_the_way: Vec::new(),
            exchange_fault: None,
            checked: false,
        }
    }

    fn fork(&mut self) -> Box<dyn Random + Send> {
        let mut seed = [0; 8];
        self.random.fill(&mut seed);
        Box::new(SeededRandom::new(u64::from_be_bytes(seed)))
    }

    /// An identity.
    pub fn identity(&mut self) -> IdentitySecret {
        IdentitySecret::create(&mut self.random)
    }

    /// The time of a host with a right clock.
    pub fn time(&self) -> UnixTime {
        UnixTime(EPOCH.0 + self.now.as_nanos() / 1_000_000_000)
    }

    /// A host; `make` makes its core, and again after each restart.
    pub fn add(&mut self, seat: Seat) -> HostNo {
        let no = HostNo(self.hosts.len());
        let random = self.fork();
        let mut host = Host::new(no, seat);
        host.start(random, self.now);
        self.names.insert(host.name.clone(), vec![host.address]);
        self.hosts.push(host);
        no
    }

    /// A server that is authority and relay of a new project `name`.
    pub fn add_server(&mut self, name: &str) -> HostNo {
        let authority = self.identity();
        let relay = self.identity();
        let host = format!("{name}.example:7348");
        let project = ProjectRow {
            id: authority.id(),
            name: name.parse().unwrap(),
            addresses: vec![host.parse().unwrap()],
            note_number: 1,
            created: self.time(),
        };
        let mut store = MemoryStore::new();
        store.create_project(&project).unwrap();
        let (authority, relay) = (authority.to_bytes(), relay.to_bytes());
        self.add(Seat::Server {
            host,
            authority,
            relay,
            project,
            store: Box::new(store),
        })
    }

    /// A server that says it is the authority and relay of another's project, with keys of its
    /// own.
    pub fn add_impostor(&mut self, of: HostNo) -> HostNo {
        let Seat::Server { project, .. } = &self.host(of).seat else {
            panic!("not a server");
        };
        let project = project.clone();
        let (authority, relay) = (self.identity().to_bytes(), self.identity().to_bytes());
        let mut store = MemoryStore::new();
        store.create_project(&project).unwrap();
        let host = "impostor.example:7348".into();
        self.add(Seat::Server {
            host,
            authority,
            relay,
            project,
            store: Box::new(store),
        })
    }

    /// A node with portals.
    pub fn add_node(&mut self, name: &str, ticket: Option<Ticket>, plan: Vec<Plan>) -> HostNo {
        let identity = self.identity().to_bytes();
        let ticket = ticket.map(|ticket| ticket.to_text());
        self.add(Seat::Node {
            name: name.into(),
            identity,
            membership: None,
            ticket,
            plan,
        })
    }

    /// A ticket from the server's desk.
    pub fn ticket(&mut self, server: HostNo, spec: TicketSpec) -> Ticket {
        match self.call(server, AdminCall::CreateTicket(Box::new(spec))) {
            AdminReply::Ticket(text) => Ticket::from_text(&text).unwrap(),
            other => panic!("no ticket: {other:?}"),
        }
    }

    /// A call of the administrator.
    pub fn call(&mut self, host: HostNo, call: AdminCall) -> AdminReply {
        let no = AdminNo(99);
        self.input(host, Input::Admin { no, call });
        self.settle();
        self.host_mut(host).replies.pop().unwrap()
    }

    /// An outlet's and an inlet's ticket spec.
    pub fn spec(name: &str, attribute: &str, may_serve: &[&str]) -> TicketSpec {
        let mut spec = TicketSpec::member(Some(name.parse().unwrap()));
        if !attribute.is_empty() {
            let attribute = attribute.parse().unwrap();
            spec.attributes
                .insert(attribute, "true".parse().unwrap())
                .unwrap();
        }
        spec.may_serve = addresses(may_serve);
        spec
    }

    /// The mission's portal: a server, Bank's outlet and Analysis' inlet, run until it is open.
    pub fn portal(seed: u64) -> Portal {
        let mut portal = World::portal_at_start(seed);
        let (outlet, inlet) = (portal.outlet, portal.inlet);
        portal.world.run_until(Duration::from_secs(10), |world| {
            world.status(outlet).ready() && world.status(inlet).ready()
        });
        portal
    }

    /// The same, not run yet.
    pub fn portal_at_start(seed: u64) -> Portal {
        let mut world = World::new(seed);
        let server = world.add_server("acme");
        let outlet_ticket = World::spec("bank-outlet", "postgres-outlet", &["postgres"]);
        let outlet_ticket = world.ticket(server, outlet_ticket);
        let inlet_ticket = World::spec("analysis-inlet", "postgres-inlet", &[]);
        let inlet_ticket = world.ticket(server, inlet_ticket);
        let outlet = world.add_node(
            "bank",
            Some(outlet_ticket),
            vec![Plan::outlet("postgres", "postgres-inlet=true")],
        );
        let inlet = world.add_node(
            "analysis",
            Some(inlet_ticket),
            vec![Plan::inlet("postgres", "postgres-outlet=true")],
        );
        world.names.insert(
            "localhost:5432".into(),
            vec!["127.0.0.1:5432".parse().unwrap()],
        );
        Portal {
            world,
            server,
            outlet,
            inlet,
        }
    }

    /// The host.
    pub fn host(&self, no: HostNo) -> &Host {
        &self.hosts[no.0]
    }

    /// The host.
    pub fn host_mut(&mut self, no: HostNo) -> &mut Host {
        &mut self.hosts[no.0]
    }

    /// Its status.
    pub fn status(&self, no: HostNo) -> Status {
        self.host(no).status(self.now)
    }

    /// Gives a host an input.
    pub fn input(&mut self, no: HostNo, input: Input) {
        self.hosts[no.0].inputs.push_back(input);
    }

    /// Now.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Lets everything happen that can happen without time passing.
    pub fn settle(&mut self) {
        let over = (0..ROUNDS_MAX).any(|_| !self.round());
        assert!(over, "a busy loop at {:?}", self.now);
        if self.checked {
            self.check();
        }
    }

    /// Every host looks once at what is there for it, and all bytes arrive. Returns whether anything
    /// happened.
    fn round(&mut self) -> bool {
        let mut moved = false;
        for n in 0..self.hosts.len() {
            moved |= self.turn(HostNo(n));
        }
        self.move_bytes() || moved
    }

    /// So many rounds and no more, with the timers that are due: what the cores are doing is left in
    /// the middle.
    pub fn run_rounds(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for host in &mut self.hosts {
                host.fire_timer(self.now);
            }
            self.round();
        }
    }

    /// One turn of a host's driver.
    fn turn(&mut self, no: HostNo) -> bool {
        let now = self.now;
        let host = &mut self.hosts[no.0];
        let mut moved = host.turn(now);
        let outputs = host.take_outputs();
        moved |= !outputs.is_empty();
        for output in outputs {
            self.carry_out(no, output);
        }
        moved
    }

    fn carry_out(&mut self, no: HostNo, output: Output) {
        match output {
            Output::Command(command) => self.command(no, command),
            Output::Resolve { no: question, name } => {
                let found = self.names.get(name.as_str()).cloned();
                let answer = found.ok_or_else(|| "no such name".to_owned());
                self.input(
                    no,
                    Input::Resolved {
                        no: question,
                        answer,
                    },
                );
            }
            other => self.hosts[no.0].carry_out(other),
        }
    }

    /// When the next thing happens by itself.
    fn next_moment(&self) -> Instant {
        let hosts = self.hosts.iter().map(Host::next_timer);
        let conns = self.conns.values().map(Conn::next_timer);
        hosts.chain(conns).min().unwrap_or(Instant::FAR_FUTURE)
    }

    /// Runs for a while.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut rounds = 0;
        loop {
            self.settle();
            let next = self.next_moment().max(self.now);
            if next > end {
                break;
            }
            rounds = if next == self.now { rounds + 1 } else { 0 };
            assert!(
                rounds < ROUNDS_MAX,
                "a busy loop of timers at {:?}",
                self.now
            );
            self.now = next;
            self.fire_deadlines();
            for n in 0..self.hosts.len() {
                self.fire_relay(HostNo(n));
            }
            for host in &mut self.hosts {
                host.fire_timer(next);
            }
        }
        self.now = end;
        self.settle();
    }

    /// Runs until something holds, and panics if it does not in time. Returns how long it took.
    pub fn run_until(&mut self, time: Duration, holds: impl Fn(&World) -> bool) -> Duration {
        let start = self.now;
        let step = Duration::from_millis(5);
        self.settle();
        while !holds(self) {
            if self.now.since(start) >= time {
                for host in &self.hosts {
                    println!("== {}: {:#?}", host.name, host.logs);
                    println!("{:#?}", host.status(self.now));
                }
                panic!("it does not hold after {time:?}");
            }
            self.run(step);
        }
        self.now.since(start)
    }

    /// From now on nothing passes between a node and the authority; its sessions with relays go on.
    pub fn withhold(&mut self, no: HostNo) {
        self.withheld.insert(no);
    }

    /// It passes again, what was held back too.
    pub fn deliver_to(&mut self, no: HostNo) {
        self.withheld.remove(&no);
    }

    /// Kills a host's process: everything it has is gone, its connections break.
    pub fn kill(&mut self, no: HostNo) {
        self.hosts[no.0].kill();
        self.on_the_way.retain(|(host, _)| *host != no);
        let broken: Vec<u64> = self.conns_of(no);
        for conn in broken {
            self.break_conn(conn, Some(no));
        }
    }

    /// Starts a killed host again, with the state that it wrote.
    pub fn restart(&mut self, no: HostNo) {
        let random = self.fork();
        let now = self.now;
        self.hosts[no.0].start(random, now);
    }
}

/// A portal of a node.
#[derive(Clone)]
pub enum Plan {
    /// Address and rule.
    Inlet(String, Vec<String>),
    /// Address and rule.
    Outlet(String, Vec<String>),
}

impl Plan {
    /// An inlet.
    pub fn inlet(via: &str, rule: &str) -> Plan {
        Plan::Inlet(via.into(), rules(rule))
    }

    /// An outlet to `localhost:5432`.
    pub fn outlet(at: &str, rule: &str) -> Plan {
        Plan::Outlet(at.into(), rules(rule))
    }

    /// Configurations of these, numbered from there on, with so many lanes at each worker.
    pub fn configs(plans: &[Plan], first: u16, lanes: u8) -> (Vec<InletConfig>, Vec<OutletConfig>) {
        let (mut inlets, mut outlets) = (Vec::new(), Vec::new());
        for (portal, plan) in (first..).map(PortalNo).zip(plans) {
            match plan {
                Plan::Inlet(via, rules) => inlets.push(InletConfig {
                    portal,
                    via: via.parse().unwrap(),
                    target: None,
                    allow: Policy::parse(rules).unwrap(),
                    lanes,
                    dedicated: false,
                }),
                Plan::Outlet(at, rules) => outlets.push(OutletConfig {
                    portal,
                    at: at.parse().unwrap(),
                    targets: vec![TargetConfig {
                        name: at.parse().unwrap(),
                        to: vec!["localhost:5432".parse().unwrap()],
                        proxy_header: false,
                    }],
                    allow: Policy::parse(rules).unwrap(),
                }),
            }
        }
        (inlets, outlets)
    }
}

fn rules(rule: &str) -> Vec<String> {
    if rule.is_empty() {
        Vec::new()
    } else {
        vec![rule.to_owned()]
    }
}

/// A spec that may connect to these addresses only.
pub fn connecting(mut spec: TicketSpec, only: &[&str]) -> TicketSpec {
    spec.may_connect = Some(Connect::Only(addresses(only)));
    spec
}

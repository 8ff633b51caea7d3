//! The world of one portal: `serve` (authority and relay), an outlet and an inlet, each on a host
//! of its own; apps and a service on two more.
//!
//! ```text
//! 10.0.1.1 apps ── 10.0.0.1 inlet ── 10.0.0.2 serve ── 10.0.0.3 outlet ── 10.0.1.3 service
//! ```
//!
//! # Checked after each step
//! Every worker's invariants; every byte that an app or service reads; an end of data only behind
//! the last byte that the other end wrote before its own end; a service serves each app once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crypto::identity::IdentitySecret;
use crypto::{Random, SeededRandom, UnixTime};
use proxy::engine::simulated::{Faults, Rng, SimListener, Step, World};
use proxy::error::CloseReason;
use proxy::protocol::command::Command;
use proxy::protocol::core::{AdminCall, AdminReply, Input, TicketSpec};
use proxy::protocol::store::{MemoryStore, ProjectRow, Store};
use proxy::protocol::stream::Visits;
use proxy::time::{Duration, Instant};
use zeroize::Zeroizing;

use super::endpoint::{Ending, Endpoint, NAME};
use super::process::{EPOCH, Plan, Process, Seat};
use super::script::Script;

const fn host(net: u8, no: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, net, no))
}

/// The inlet's host.
pub const INLET: IpAddr = host(0, 1);
/// The server's host.
pub const SERVER: IpAddr = host(0, 2);
/// The outlet's host.
pub const OUTLET: IpAddr = host(0, 3);
/// The apps' host.
pub const APPS: IpAddr = host(1, 1);
/// The services' host.
pub const SERVICES: IpAddr = host(1, 3);

/// Steps of one run, past which something spins.
const STEPS: u64 = 500_000;

/// Where the server is reached, and by which name.
pub const PUBLIC: (&str, u16) = ("relay.example:7348", 7348);

/// A relay address with everything that belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The relay address.
    pub address: &'static str,
    /// The port of the inlet's door.
    pub door: u16,
    /// The service, as the resolver knows it.
    pub target: &'static str,
    /// The service's port.
    pub port: u16,
}

/// The route of every portal.
pub const POSTGRES: Route = Route {
    address: "postgres",
    door: 15432,
    target: "db.example:5432",
    port: 5432,
};

/// A second one, for portals with two.
pub const STAGING: Route = Route {
    address: "staging",
    door: 15433,
    target: "staging.example:5433",
    port: 5433,
};

/// A process of the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Authority and relay.
    Server,
    /// The outlet.
    Outlet,
    /// The inlet.
    Inlet,
}

/// All of them.
pub const ALL: [Who; 3] = [Who::Server, Who::Outlet, Who::Inlet];

/// What a portal is made like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The network while it comes up.
    pub faults: Faults,
    /// Its routes.
    pub routes: Vec<Route>,
    /// Buffers of each engine.
    pub buffers: [u32; 4],
    /// How late a control thread may be.
    pub lag: Duration,
    /// The attribute that the authority gives the inlet; the outlet wants `postgres-inlet`.
    pub inlet_is: &'static str,
    /// The attribute that the authority gives the outlet; the inlet wants `postgres-outlet`.
    pub outlet_is: &'static str,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            faults: Faults::none(),
            routes: vec![POSTGRES],
            buffers: [512, 128, 128, 32],
            lag: Duration::ZERO,
            inlet_is: "postgres-inlet",
            outlet_is: "postgres-outlet",
        }
    }
}

/// A service's end and whom it serves.
#[derive(Debug)]
pub struct Served {
    /// Its end.
    pub end: Endpoint,
    /// The app, once it has said its name.
    pub app: Option<usize>,
    /// Where it was called.
    pub route: usize,
    judged: bool,
}

/// An app.
#[derive(Debug)]
pub struct App {
    /// What it and its service do.
    pub script: Script,
    /// Its end.
    pub end: Endpoint,
    /// Its service, by its place in [`Portal::served`].
    pub served: Option<usize>,
    /// Whose door it knocked at.
    pub route: usize,
    /// When it connected.
    pub born: Instant,
    judged: bool,
}

/// What a run came to: the same for the same seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Cells of the stream table that were visited.
    pub visits: Visits,
    /// Steps of the world.
    pub steps: u64,
    /// When everything had ended.
    pub ended_at: Instant,
}

/// See the module.
pub struct Portal {
    /// The network and the clock.
    pub world: World,
    /// For decisions that follow the seed.
    pub rng: Rng,
    /// Its processes, in the order of [`ALL`].
    pub processes: [Process; 3],
    /// What names mean.
    pub names: BTreeMap<String, Vec<SocketAddr>>,
    /// Its routes.
    pub routes: Vec<Route>,
    listeners: Vec<Option<SimListener>>,
    /// All apps so far; an app's number is its place.
    pub apps: Vec<App>,
    /// All connections to services so far.
    pub served: Vec<Served>,
    alarm: Instant,
    steps: u64,
    scratch: Vec<u8>,
}

impl Portal {
    /// A portal whose processes have just started.
    pub fn new(seed: u64, shape: &Shape) -> Portal {
        let world = World::new(seed);
        world.set_faults(shape.faults.clone());
        let mut rng = Rng::new(seed ^ 0x706f_7274_616c);
        let mut random = SeededRandom::new(seed);
        let mut names = BTreeMap::new();
        names.insert(PUBLIC.0.to_owned(), vec![SocketAddr::new(SERVER, PUBLIC.1)]);
        for route in &shape.routes {
            let at = SocketAddr::new(SERVICES, route.port);
            names.insert(route.target.to_owned(), vec![at]);
        }
        let mut server = Process::new(
            "server",
            SERVER,
            Some(SocketAddr::new(SERVER, PUBLIC.1)),
            project(&mut random),
        );
        set(&mut server, shape);
        server.start(&world, rng.draw());
        let outlet_plans = shape.routes.iter().map(|route| Plan::Outlet {
            at: route.address,
            allow: "postgres-inlet=true".into(),
            to: route.target,
        });
        let inlet_plans = shape.routes.iter().map(|route| Plan::Inlet {
            via: route.address,
            allow: "postgres-outlet=true".into(),
            door: SocketAddr::new(INLET, route.door),
        });
        let addresses: Vec<&str> = shape.routes.iter().map(|route| route.address).collect();
        let spec = spec("bank-outlet", shape.outlet_is, &addresses);
        let ticket = ticket(&mut server, world.now(), spec);
        let seat = node(&mut random, ticket, outlet_plans.collect());
        let mut outlet = Process::new("outlet", OUTLET, None, seat);
        let spec = self::spec("analysis-inlet", shape.inlet_is, &[]);
        let ticket = self::ticket(&mut server, world.now(), spec);
        let seat = node(&mut random, ticket, inlet_plans.collect());
        let mut inlet = Process::new("inlet", INLET, None, seat);
        for process in [&mut outlet, &mut inlet] {
            set(process, shape);
            process.start(&world, rng.draw());
        }
        let mut portal = Portal {
            world,
            rng,
            processes: [server, outlet, inlet],
            names,
            routes: shape.routes.clone(),
            listeners: shape.routes.iter().map(|_| None).collect(),
            apps: Vec::new(),
            served: Vec::new(),
            alarm: Instant::ZERO,
            steps: 0,
            scratch: vec![0; 16 * 1024],
        };
        portal.services(true);
        portal
    }

    /// A portal that is ready.
    ///
    /// # Panics
    /// When it is not within 30 s.
    pub fn up(seed: u64, shape: &Shape) -> Portal {
        let mut portal = Portal::new(seed, shape);
        let ready = portal.within(Duration::from_secs(30), |portal| portal.is_ready());
        assert!(ready, "the portal never came up: {}", portal.story());
        portal
    }

    /// A process.
    pub fn of(&mut self, who: Who) -> &mut Process {
        &mut self.processes[who as usize]
    }

    /// A process.
    pub fn see(&self, who: Who) -> &Process {
        &self.processes[who as usize]
    }

    /// Starts a process again.
    pub fn restart(&mut self, who: Who) {
        let seed = self.rng.draw();
        let world = self.world.clone();
        self.of(who).start(&world, seed);
    }

    /// Every portal can carry a connection, as far as its processes know.
    pub fn is_ready(&self) -> bool {
        let now = self.world.now();
        [Who::Outlet, Who::Inlet]
            .into_iter()
            .all(|who| self.see(who).status(now).is_some_and(|s| s.ready()))
    }

    /// Opens or closes the services' doors.
    pub fn services(&mut self, open: bool) {
        for (listener, route) in self.listeners.iter_mut().zip(&self.routes) {
            if open && listener.is_none() {
                let at = SocketAddr::new(SERVICES, route.port);
                *listener = Some(self.world.app_listen(at).unwrap());
            } else if !open {
                *listener = None;
            }
        }
    }

    /// A new app at a route's door; returns its number.
    pub fn app(&mut self, route: usize, script: Script) -> usize {
        let no = self.apps.len();
        let door = SocketAddr::new(INLET, self.routes[route].door);
        let sock = self.world.app_connect(APPS, door);
        self.apps.push(App {
            script,
            end: Endpoint::app(sock, no as u32, script.app),
            served: None,
            route,
            born: self.world.now(),
            judged: false,
        });
        no
    }

    /// An app's two ends, for looking at; the service's is `None` if it was never contacted.
    pub fn ends(&self, app: usize) -> (&Endpoint, Option<&Endpoint>) {
        let app = &self.apps[app];
        (&app.end, app.served.map(|place| &self.served[place].end))
    }

    /// Whether both ends of an app saw both directions end in order.
    pub fn is_clean(&self, app: usize) -> bool {
        let (app, served) = self.ends(app);
        app.ending == Ending::Clean && served.is_some_and(|end| end.ending == Ending::Clean)
    }

    // ---- time -------------------------------------------------------------------------------

    /// One step of the world; false when nothing happens before `limit`.
    pub fn step(&mut self, limit: Instant) -> bool {
        let Step::Run(engines) = self.world.advance(limit) else {
            return false;
        };
        self.steps += 1;
        assert!(self.steps < STEPS, "no end in sight: {}", self.story());
        for engine in engines {
            for process in &mut self.processes {
                process.turn(engine);
            }
        }
        self.act();
        true
    }

    /// What is not an engine's: control, apps, services.
    fn act(&mut self) {
        for process in &mut self.processes {
            process.control(&self.world, &self.names);
        }
        let now = self.world.now();
        for (route, listener) in self.listeners.iter_mut().enumerate() {
            while let Some((sock, _)) = listener.as_mut().and_then(SimListener::accept) {
                self.served.push(Served {
                    end: Endpoint::service(sock),
                    app: None,
                    route,
                    judged: false,
                });
            }
        }
        let mut next = Instant::FAR_FUTURE;
        for app in &mut self.apps {
            next = next.min(app.end.pump(now, &mut self.scratch).unwrap_or(next));
        }
        for (place, served) in self.served.iter_mut().enumerate() {
            next = next.min(served.end.pump(now, &mut self.scratch).unwrap_or(next));
            if let Some(no) = served.end.caller() {
                let app = self.apps.get_mut(no as usize);
                let app = app.unwrap_or_else(|| panic!("a service was called by no app: {no}"));
                assert!(app.served.is_none(), "app {no} reached its service twice");
                assert_eq!(
                    app.route, served.route,
                    "app {no} reached another's service"
                );
                app.served = Some(place);
                served.app = Some(no as usize);
                served.end.serve(no, app.script.service);
                next = next.min(served.end.pump(now, &mut self.scratch).unwrap_or(next));
            }
        }
        if next < Instant::FAR_FUTURE && next != self.alarm {
            self.alarm = next;
            self.world.alarm(next);
        }
        self.judge();
    }

    /// The byte promises.
    fn judge(&mut self) {
        for (no, app) in self.apps.iter_mut().enumerate() {
            let other = app.served.map(|place| &self.served[place].end);
            let written = other.map_or(0, |end| end.sent);
            assert!(app.end.got <= written, "app {no} read what nobody wrote");
            if app.end.eof && !app.judged {
                app.judged = true;
                let ended = other.is_some_and(|end| end.ended);
                assert!(ended, "app {no} saw an end that its service did not send");
                assert_eq!(app.end.got, written, "app {no} saw an end too early");
            }
        }
        for served in &mut self.served {
            let Some(no) = served.app else {
                if served.end.eof && !served.judged {
                    served.judged = true;
                    assert_eq!(served.end.got, 0, "an end in the middle of a name");
                    let silent = |app: &App| app.script.app.bytes < NAME && app.end.ended;
                    assert!(
                        self.apps.iter().any(silent),
                        "a service saw an end that no app sent"
                    );
                }
                continue;
            };
            let other = &self.apps[no].end;
            assert!(served.end.got <= other.sent, "service of {no}: too much");
            if served.end.eof && !served.judged {
                served.judged = true;
                assert!(other.ended, "service of {no} saw an end that was not sent");
                assert_eq!(served.end.got, other.sent, "service of {no}: end too early");
            }
        }
    }

    /// Runs until that holds; false if it does not within `span`.
    pub fn within(&mut self, span: Duration, mut holds: impl FnMut(&mut Portal) -> bool) -> bool {
        let limit = self.world.now() + span;
        self.world.alarm(limit);
        loop {
            self.act();
            if holds(self) {
                return true;
            }
            if !self.step(limit) || self.world.now() >= limit {
                self.act();
                return holds(self);
            }
        }
    }

    /// Runs for so long.
    pub fn pass(&mut self, span: Duration) {
        self.within(span, |_| false);
    }

    /// All that apps and services do is done.
    pub fn apps_are_over(&self) -> bool {
        self.apps.iter().all(|app| app.end.is_over())
            && self.served.iter().all(|served| served.end.is_over())
    }

    /// Streams at both ends, apps that wait, strangers at the server: all gone.
    pub fn is_idle(&self) -> bool {
        self.processes.iter().all(|process| {
            process.counters().is_none_or(|c| {
                [&c.streams_open, &c.apps_waiting, &c.strangers_open]
                    .iter()
                    .all(|gauge| gauge.get() == 0)
            })
        })
    }

    /// How many streams ended for that reason at that process, in its present life.
    pub fn ended(&self, who: Who, why: CloseReason) -> u64 {
        self.see(who).counters().map_or(0, |c| c.ended(why))
    }

    /// Cells of the stream table that were visited.
    pub fn visits(&self) -> Visits {
        let mut visits = Visits::default();
        for process in &self.processes {
            visits.add(process.visits());
        }
        visits
    }

    /// Ends everything in order and asserts that nothing is left.
    ///
    /// # Panics
    /// When something is.
    pub fn close(mut self, drain: bool) -> Ran {
        self.services(false);
        self.apps.clear();
        self.served.clear();
        let deadline = self.world.now() + Duration::from_secs(5);
        for who in ALL {
            if drain {
                self.of(who).input(Input::Stop);
                let idle = Duration::from_millis(100);
                self.of(who).command(Command::Drain { idle, deadline });
            } else {
                self.of(who).command(Command::Stop);
            }
        }
        let ended = self.within(Duration::from_secs(30), |portal| {
            portal.processes.iter().all(|process| !process.runs())
        });
        assert!(ended, "a worker does not stop: {}", self.story());
        for process in &self.processes {
            assert_eq!(process.left(), (0, 0), "{}: buffers, slots", process.name);
        }
        assert_eq!(self.world.violations(), Vec::<String>::new());
        let visits = self.visits();
        assert_eq!(self.world.census().sockets, 0, "sockets are open");
        Ran {
            visits,
            steps: self.steps,
            ended_at: self.world.now(),
        }
    }

    /// What happened, for a message.
    pub fn story(&self) -> String {
        use std::fmt::Write;
        let mut text = format!("at {:.6} s\n", self.world.now().as_nanos() as f64 / 1e9);
        for process in &self.processes {
            for (at, record) in &process.logs {
                let at = at.as_nanos() as f64 / 1e9;
                let _ = writeln!(
                    text,
                    "{at:>11.6} {:<6} {:?} {} {:?}",
                    process.name, record.code, record.what, record.fields
                );
            }
            if let Some(counters) = process.counters() {
                let all = counters.all().into_iter().filter(|(_, n)| *n > 0);
                let _ = writeln!(text, "{} {:?}", process.name, all.collect::<Vec<_>>());
            }
        }
        let open = |app: &&App| !app.end.is_over();
        for app in self.apps.iter().filter(open).take(10) {
            let service = app.served.map(|place| &self.served[place].end);
            let _ = writeln!(
                text,
                "app born {:?} {:?}\n  service {service:?}",
                app.born, app
            );
        }
        text
    }
}

fn set(process: &mut Process, shape: &Shape) {
    process.buffers = shape.buffers;
    process.lag = shape.lag;
}

fn project(random: &mut dyn Random) -> Seat {
    let authority = IdentitySecret::create(random);
    let relay = IdentitySecret::create(random);
    let project = ProjectRow {
        id: authority.id(),
        name: "acme".parse().unwrap(),
        addresses: vec![PUBLIC.0.parse().unwrap()],
        note_number: 1,
        created: UnixTime(EPOCH),
    };
    let mut store = Box::new(MemoryStore::new());
    store.create_project(&project).unwrap();
    Seat::Server {
        authority: authority.to_bytes(),
        relay: relay.to_bytes(),
        project,
        store,
    }
}

/// A node that has a ticket.
pub fn node(random: &mut dyn Random, ticket: Zeroizing<String>, plans: Vec<Plan>) -> Seat {
    Seat::Node {
        identity: IdentitySecret::create(random).to_bytes(),
        membership: None,
        ticket: Some(ticket),
        plans,
    }
}

fn spec(name: &str, attribute: &str, may_serve: &[&str]) -> TicketSpec {
    let mut spec = TicketSpec::member(Some(name.parse().unwrap()));
    let attribute = attribute.parse().unwrap();
    let value = "true".parse().unwrap();
    spec.attributes.insert(attribute, value).unwrap();
    spec.may_serve = may_serve.iter().map(|at| at.parse().unwrap()).collect();
    spec
}

fn ticket(server: &mut Process, now: Instant, spec: TicketSpec) -> Zeroizing<String> {
    match server.call(now, AdminCall::CreateTicket(Box::new(spec))) {
        AdminReply::Ticket(text) => text,
        other => panic!("no ticket: {other:?}"),
    }
}

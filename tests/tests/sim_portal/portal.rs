//! The world of one portal: `serve` (authority and relay), an outlet and an inlet, each on a host
//! of its own; apps and a service on two more. By its [`Shape`], the relay has a host of its own,
//! or there is a second inlet.
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

use crypto::SeededRandom;
use proxy::engine::simulated::{Rng, SimListener, Step, World};
use proxy::error::CloseReason;
use proxy::protocol::command::Command;
use proxy::protocol::stream::Visits;
use proxy::time::{Duration, Instant};

use super::cast::{self, APART, APPS, PUBLIC, RELAY, Route, SERVER, SERVICES, Shape, Who};
use super::endpoint::{Ending, Endpoint, NAME};
use super::process::Process;
use super::script::Script;

/// Steps of one run, past which something spins.
const STEPS: u64 = 500_000;

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
    /// Whose door it knocked at …
    pub route: usize,
    /// … at which inlet.
    pub at: Who,
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
    /// Its processes; those that every portal has come first.
    pub processes: Vec<(Who, Process)>,
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
        names.insert(APART.0.to_owned(), vec![SocketAddr::new(RELAY, APART.1)]);
        for route in &shape.routes {
            let at = SocketAddr::new(SERVICES, route.port);
            names.insert(route.target.to_owned(), vec![at]);
        }
        let processes = cast::start(shape, &world, &mut rng, &mut random);
        let mut portal = Portal {
            world,
            rng,
            processes,
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
    ///
    /// # Panics
    /// When this portal has none of that kind.
    pub fn of(&mut self, who: Who) -> &mut Process {
        let mut all = self.processes.iter_mut();
        let found = all.find_map(|(own, process)| (*own == who).then_some(process));
        found.unwrap()
    }

    /// A process.
    ///
    /// # Panics
    /// When this portal has none of that kind.
    pub fn see(&self, who: Who) -> &Process {
        let mut all = self.processes.iter();
        let found = all.find_map(|(own, process)| (*own == who).then_some(process));
        found.unwrap()
    }

    /// Who there is.
    pub fn cast(&self) -> Vec<Who> {
        self.processes.iter().map(|(who, _)| *who).collect()
    }

    /// The inlets.
    pub fn inlets(&self) -> Vec<Who> {
        let cast = self.cast().into_iter();
        cast.filter(|who| who.is_inlet()).collect()
    }

    /// Which process is the relay.
    pub fn relay(&self) -> Who {
        let apart = self.cast().contains(&Who::Relay);
        if apart { Who::Relay } else { Who::Server }
    }

    /// The relay's host.
    pub fn relay_ip(&self) -> IpAddr {
        self.see(self.relay()).ip
    }

    /// Starts a process again.
    pub fn restart(&mut self, who: Who) {
        let seed = self.rng.draw();
        let world = self.world.clone();
        self.of(who).start(&world, seed);
    }

    /// The outlet's host is gone: nothing it had open says so to the server. The next outlet
    /// starts on another.
    pub fn lose_outlet(&mut self) {
        let lost = self.see(Who::Outlet).ip;
        self.world.partition(self.relay_ip(), lost);
        self.of(Who::Outlet).kill();
        let IpAddr::V4(lost) = lost else { return };
        let next = Ipv4Addr::from_bits(lost.to_bits() + 16);
        self.of(Who::Outlet).ip = IpAddr::V4(next);
    }

    /// Every portal can carry a connection, as far as its processes know.
    pub fn is_ready(&self) -> bool {
        let now = self.world.now();
        let nodes = self.processes.iter();
        let mut nodes = nodes.filter(|(who, _)| who.is_inlet() || *who == Who::Outlet);
        nodes.all(|(_, process)| process.status(now).is_some_and(|s| s.ready()))
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
        self.app_at(Who::Inlet, route, script)
    }

    /// The same at that inlet.
    pub fn app_at(&mut self, at: Who, route: usize, script: Script) -> usize {
        let no = self.apps.len();
        let door = SocketAddr::new(self.see(at).ip, self.routes[route].door);
        let sock = self.world.app_connect(APPS, door);
        self.apps.push(App {
            script,
            end: Endpoint::app(sock, no as u32, script.app),
            served: None,
            route,
            at,
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
            for (_, process) in &mut self.processes {
                process.turn(engine);
            }
        }
        self.act();
        true
    }

    /// What is not an engine's: control, apps, services.
    fn act(&mut self) {
        for (_, process) in &mut self.processes {
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
        self.processes.iter().all(|(_, process)| {
            process.counters().is_none_or(|c| {
                ["streams_open", "apps_waiting", "strangers_open"]
                    .iter()
                    .all(|gauge| c.get(gauge) == 0)
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
        for (_, process) in &self.processes {
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
        for who in self.cast() {
            if drain {
                let idle = Duration::from_millis(100);
                self.of(who).command(Command::Drain { idle, deadline });
            } else {
                self.of(who).command(Command::Stop);
            }
        }
        let ended = self.within(Duration::from_secs(30), |portal| {
            portal.processes.iter().all(|(_, process)| !process.runs())
        });
        assert!(ended, "a worker does not stop: {}", self.story());
        for (_, process) in &self.processes {
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
        for (_, process) in &self.processes {
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

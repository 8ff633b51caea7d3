//! A whole run from one number: a network, apps, faults at random times; then quiet, in which
//! everything has to come back and every count returns to its start.
//!
//! 1. *Up.* The portal enrolls and opens, on whatever network the seed gives.
//! 2. *Busy.* Apps come and go while faults strike. Where no fault may end a connection, every
//!    app must finish as its script says.
//! 3. *Quiet.* Faults end, dead processes are started. All apps end; a new one works within two
//!    seconds of the last missing piece (promise 6); later by what is left of the 15 s in which a
//!    network that fell silent has to be found out, or by the 15 s which that takes for a lane
//!    whose bytes were meddled with so that it waits for more of them. Gauges are 0.
//! 4. *End.* Workers stop or drain; nothing is left of buffers, slots and sockets.

use std::net::IpAddr;

use proxy::engine::Errno;
use proxy::engine::simulated::{Faults, OpKind, Rng};
use proxy::limits::{DEDICATED_WAIT, LANE_QUIET, LANE_SILENT, SESSION_DEAD};
use proxy::time::{Duration, Instant};

use super::cast::{POSTGRES, SERVICES, STAGING, Shape, Who};
use super::endpoint::Ending;
use super::portal::{Portal, Ran};
use super::relay::{Harm, Meddler};
use super::script::{KINDS, Script};

/// Something that goes wrong, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The process is killed and started again.
    Kill(Who),
    /// Every connection between the server and that node is reset.
    Cut(Who),
    /// Nothing passes between the server and that node.
    Partition(Who),
    /// The services' doors are closed.
    NoService,
    /// The services' host does not answer dials.
    DeadService,
    /// The process's control thread does nothing.
    Hold(Who),
    /// The authority's store answers everything with an error.
    NoStore,
    /// The node's wall clock jumps: it is wrong by so many seconds from then on.
    Jump(Who, i64),
    /// Bytes between nodes and server are meddled with.
    Meddle(Harm),
    /// The outlet's host is lost for good, and with it what its kernel had to say; the outlet is
    /// started on another one.
    Move,
    /// The next call of that kind on some engine fails.
    Call(Who, OpKind),
}

/// What a fault may do at worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    /// Nothing that an app may notice.
    None,
    /// Apps may be reset.
    Resets,
    /// Connections may be dead for a while before anybody knows.
    Silence,
    /// A lane may wait for the rest of a record that never comes, while its connection lives.
    Deceit,
}

impl Fault {
    fn draw(rng: &mut Rng, cast: &[Who]) -> Fault {
        let who = cast[rng.below(cast.len() as u64) as usize];
        let is_node = |who: &&Who| who.is_inlet() || **who == Who::Outlet;
        let nodes: Vec<Who> = cast.iter().filter(is_node).copied().collect();
        let node = nodes[rng.below(nodes.len() as u64) as usize];
        match rng.below(16) {
            0..3 => Fault::Kill(who),
            3 | 4 => Fault::Cut(node),
            5 | 6 => Fault::Partition(node),
            7 => Fault::NoService,
            8 => Fault::DeadService,
            9 => Fault::Hold(who),
            11 => Fault::Move,
            12 => Fault::NoStore,
            13 => Fault::Jump(node, [-7200, -60, 60, 7200][rng.below(4) as usize]),
            10 => {
                let kinds = [
                    OpKind::Receive,
                    OpKind::Send,
                    OpKind::Accept,
                    OpKind::Connect,
                    OpKind::Socket,
                ];
                Fault::Call(who, kinds[rng.below(5) as usize])
            }
            _ => Fault::Meddle(Harm::draw(rng)),
        }
    }

    fn damage(self) -> Damage {
        match self {
            Fault::Hold(_) | Fault::NoStore | Fault::Jump(..) => Damage::None,
            Fault::Kill(_) | Fault::Cut(_) | Fault::NoService => Damage::Resets,
            Fault::DeadService | Fault::Call(..) => Damage::Resets,
            Fault::Partition(_) | Fault::Move => Damage::Silence,
            Fault::Meddle(_) => Damage::Deceit,
        }
    }

    /// The inlet whose apps alone it may disturb.
    fn confined(self) -> Option<Who> {
        match self {
            Fault::Kill(who) | Fault::Cut(who) | Fault::Partition(who) | Fault::Call(who, _) => {
                Some(who).filter(|who| who.is_inlet())
            }
            Fault::Hold(_)
            | Fault::Move
            | Fault::NoService
            | Fault::DeadService
            | Fault::NoStore
            | Fault::Jump(..)
            | Fault::Meddle(_) => None,
        }
    }

    /// How long it lasts.
    fn span(self, rng: &mut Rng) -> Duration {
        let short = Duration::from_micros(1 + rng.below(2_000_000));
        match self {
            Fault::Hold(_) => Duration::from_secs(10),
            Fault::NoStore => Duration::from_secs(rng.below(10)),
            Fault::Partition(_) | Fault::DeadService if rng.chance(300) => {
                Duration::from_secs(1 + rng.below(30))
            }
            Fault::Kill(_)
            | Fault::Cut(_)
            | Fault::Partition(_)
            | Fault::Move
            | Fault::NoService
            | Fault::DeadService
            | Fault::Meddle(_)
            | Fault::Jump(..)
            | Fault::Call(..) => short,
        }
    }
}

/// What happens at a time.
#[derive(Clone, Copy, Debug)]
enum Act {
    App(Who, usize),
    Begin(Fault),
    End(Fault),
}

/// A run. See the module.
pub struct Scenario {
    portal: Portal,
    acts: Vec<(Instant, Act)>,
    meddler: Meddler,
    damage: Damage,
    /// Inlets whose apps may have been disturbed; `None` when all may.
    disturbed: Option<Vec<Who>>,
    /// When the last partition began.
    silent_since: Option<Instant>,
    /// Nodes that the server can't be reached from.
    cut_off: Vec<(Who, IpAddr)>,
    /// The network moves one byte at a time.
    tiny: bool,
    /// The longest way of a byte from one host to the next.
    round: Duration,
}

/// How a network is.
fn network(rng: &mut Rng) -> (Faults, Damage) {
    match rng.below(100) {
        0..50 => (Faults::none(), Damage::None),
        50..80 => (Faults::rough(), Damage::None),
        80..82 => {
            let tiny = Faults {
                one_byte: true,
                latency: Duration::from_micros(50)..Duration::from_micros(500),
                ..Faults::rough()
            };
            (tiny, Damage::None)
        }
        82..91 => {
            let slow = Faults {
                latency: Duration::from_millis(20)..Duration::from_millis(80),
                ..Faults::none()
            };
            (slow, Damage::None)
        }
        _ => (Faults::hostile(), Damage::Resets),
    }
}

fn shape(rng: &mut Rng) -> (Shape, Faults, Damage, bool) {
    let (faults, damage) = network(rng);
    let mut shape = Shape {
        // What resets connections, or takes long, begins when the portal is open: enrolling has
        // its own tests.
        faults: if damage == Damage::None && !faults.one_byte {
            faults.clone()
        } else {
            Faults::rough()
        },
        ..Shape::default()
    };
    if rng.chance(150) {
        shape.routes = vec![POSTGRES, STAGING];
    }
    if rng.chance(100) {
        shape.buffers = [6, 3, 4, 0];
    }
    if rng.chance(300) {
        shape.lag = Duration::from_micros(rng.below(20_000));
    }
    shape.crowd = rng.chance(120);
    shape.apart = rng.chance(120);
    if rng.chance(120) {
        let who = [Who::Outlet, Who::Inlet][rng.below(2) as usize];
        let by = [-7200, -600, 600, 7200][rng.below(4) as usize];
        shape.wrong_clock = Some((who, by));
    }
    if rng.chance(250) {
        let many = Who::ALL.into_iter().filter(|_| rng.chance(600));
        let many: Vec<Who> = many.collect();
        let draw = |who| (who, 2 + rng.below(2) as u8);
        shape.workers = many.into_iter().map(draw).collect();
    }
    let welcome = !rng.chance(40);
    // Drawn from another sequence, so that the others stay what they were.
    let mut keys = Rng::new(rng.draw() ^ 0x6b65_7973);
    if keys.chance(300) {
        let most = [2, 30, 500][keys.below(3) as usize];
        shape.key_exchange_every = Duration::from_millis(1 + keys.below(most));
    }
    if !welcome {
        if rng.chance(500) {
            shape.inlet_is = "other";
        } else {
            shape.outlet_is = "other";
        }
    }
    (shape, faults, damage, welcome)
}

/// Runs the scenario of that seed.
///
/// # Panics
/// When a promise is broken.
pub fn run(seed: u64) -> Ran {
    let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9) ^ 0x7363_656e);
    let (mut shape, faults, damage, welcome) = shape(&mut rng);
    // Drawn apart, so that the rest of a seed is what it was before there were several.
    let mut ways = Rng::new(seed ^ 0x6c61_6e65);
    if ways.chance(250) {
        shape.lanes = 2 + ways.below(2) as u8;
    }
    shape.dedicated = ways.chance(200);
    if !welcome {
        return unwelcome(seed, &shape);
    }
    let portal = Portal::up(seed, &shape);
    let (round, tiny) = (faults.latency.end, faults.one_byte);
    portal.world.set_faults(faults);
    let mut scenario = Scenario {
        meddler: Meddler::new(&portal.world, rng.draw()),
        portal,
        acts: Vec::new(),
        damage,
        disturbed: (damage == Damage::None).then(Vec::new),
        silent_since: None,
        cut_off: Vec::new(),
        round,
        tiny,
    };
    scenario.plan(&mut rng);
    scenario.busy(&mut rng);
    scenario.quiet();
    scenario.portal.close(rng.chance(300))
}

/// An inlet that the outlet's policy does not name, or the other way round: not a byte reaches a
/// service.
fn unwelcome(seed: u64, shape: &Shape) -> Ran {
    let mut portal = Portal::new(seed, shape);
    portal.pass(Duration::from_millis(500));
    let script = Script::echo(100, 50);
    let app = portal.app(0, script);
    let over = portal.within(Duration::from_secs(8), |portal| portal.apps_are_over());
    assert!(over, "an app hangs: {}", portal.story());
    let (end, _) = portal.ends(app);
    assert!(
        matches!(end.ending, Ending::Failed(_)),
        "an app of a member that is not allowed: {:?}",
        end.ending
    );
    assert!(
        portal.served.is_empty(),
        "a service was contacted for a member that is not allowed"
    );
    portal.close(true)
}

impl Scenario {
    fn plan(&mut self, rng: &mut Rng) {
        let now = self.portal.world.now();
        let routes = self.portal.routes.len() as u64;
        let span = [50_000, 400_000, 3_000_000][rng.below(3) as usize];
        let at = |rng: &mut Rng| now + Duration::from_micros(rng.below(span));
        let (cast, inlets) = (self.portal.cast(), self.portal.inlets());
        for _ in 0..1 + rng.below(6) {
            let route = rng.below(routes) as usize;
            let inlet = inlets[rng.below(inlets.len() as u64) as usize];
            self.acts.push((at(rng), Act::App(inlet, route)));
        }
        // Many at once now and then: batching, fairness, credit.
        if !self.tiny && rng.chance(60) {
            let when = at(rng);
            for _ in 0..20 + rng.below(60) {
                self.acts.push((when, Act::App(Who::Inlet, 0)));
            }
        }
        for _ in 0..[0, 1, 1, 2][rng.below(4) as usize] {
            let fault = Fault::draw(rng, &cast);
            self.damage = self.damage.max(fault.damage());
            if fault.damage() > Damage::None {
                match (fault.confined(), &mut self.disturbed) {
                    (Some(who), Some(disturbed)) => disturbed.push(who),
                    _ => self.disturbed = None,
                }
            }
            let begin = at(rng);
            self.acts.push((begin, Act::Begin(fault)));
            self.acts.push((begin + fault.span(rng), Act::End(fault)));
        }
        self.acts.sort_by_key(|(at, _)| *at);
        if super::sweep::seed_asked_for().is_some() {
            println!("{:?} {:#?}", self.damage, self.acts);
        }
    }

    fn busy(&mut self, rng: &mut Rng) {
        for (at, act) in std::mem::take(&mut self.acts) {
            let now = self.portal.world.now();
            self.portal.pass(at.since(now));
            match act {
                Act::App(inlet, route) => {
                    let kind = KINDS[rng.below(KINDS.len() as u64) as usize];
                    let script = Script::draw(kind, rng);
                    let script = self.small_if_tiny(script);
                    self.portal.app_at(inlet, route, script);
                }
                Act::Begin(fault) => self.begin(fault),
                Act::End(fault) => self.end(fault),
            }
        }
    }

    /// Where bytes move one at a time, each may make a record of 25 that moves so as well.
    fn small_if_tiny(&self, script: Script) -> Script {
        if self.tiny {
            Script::echo(40, 20)
        } else {
            script
        }
    }

    fn begin(&mut self, fault: Fault) {
        let portal = &mut self.portal;
        match fault {
            Fault::Kill(who) => portal.of(who).kill(),
            Fault::Cut(who) => {
                let (relay, ip) = (portal.relay_ip(), portal.see(who).ip);
                portal.world.reset_between(relay, ip);
            }
            Fault::NoStore => portal.of(Who::Server).store_fails = true,
            Fault::Jump(who, by) => portal.of(who).clock_error_s = by,
            Fault::Partition(who) => {
                self.silent_since = Some(portal.world.now());
                let ip = portal.see(who).ip;
                self.cut_off.push((who, ip));
                portal.world.partition(portal.relay_ip(), ip);
            }
            Fault::Move => {
                self.silent_since = Some(portal.world.now());
                portal.lose_outlet();
            }
            Fault::NoService => portal.services(false),
            Fault::DeadService => portal.world.blackhole(SERVICES, true),
            Fault::Hold(who) => {
                let until = portal.world.now() + Duration::from_secs(10);
                portal.of(who).held_until = until;
            }
            Fault::Meddle(harm) => self.meddler.begin(harm),
            Fault::Call(who, kind) => {
                if let Some(engine) = portal.see(who).engine() {
                    let errno = match kind {
                        OpKind::Accept | OpKind::Socket => Errno::MFILE,
                        _ => Errno::CONNRESET,
                    };
                    portal.world.fail_next(engine, kind, errno);
                }
            }
        }
    }

    fn end(&mut self, fault: Fault) {
        let portal = &mut self.portal;
        match fault {
            Fault::Kill(who) => {
                if !portal.see(who).runs() {
                    portal.restart(who);
                }
            }
            Fault::Move => {
                if !portal.see(Who::Outlet).runs() {
                    portal.restart(Who::Outlet);
                }
            }
            Fault::Partition(who) => {
                // Who has moved meanwhile was cut off at another address.
                for (_, ip) in self.cut_off.extract_if(.., |(cut, _)| *cut == who) {
                    portal.world.heal(portal.relay_ip(), ip);
                }
            }
            Fault::NoService => portal.services(true),
            Fault::DeadService => portal.world.blackhole(SERVICES, false),
            Fault::Meddle(_) => self.meddler.end(),
            Fault::NoStore => portal.of(Who::Server).store_fails = false,
            Fault::Cut(_) | Fault::Hold(_) | Fault::Jump(..) | Fault::Call(..) => {}
        }
    }

    fn quiet(&mut self) {
        let exchange = self.small_if_tiny(Script::echo(300, 100));
        let portal = &mut self.portal;
        if self.damage > Damage::None {
            portal.world.set_faults(Faults::none());
        }
        let held = portal.processes.iter().map(|(_, p)| p.held_until);
        let now = portal.world.now();
        let held = held.max().unwrap_or(now).since(now);
        portal.pass(held);
        // Promise 6, with what the network takes for a new connection and an exchange on top.
        let since = portal.world.now();
        let mut recovery = Duration::from_secs(2);
        if portal.see(Who::Inlet).dedicated {
            // The lane is back by then, and its circuits need not be.
            recovery += DEDICATED_WAIT;
        }
        let patience = match self.damage {
            Damage::None | Damage::Resets => recovery,
            // Whatever a partition has silenced is noticed within 15 s of its beginning: a session
            // by SESSION_DEAD, data in flight by TUNNEL_USER_TIMEOUT, a lane by
            // LANE_QUIET + LANE_SILENT.
            Damage::Silence => {
                let silent = self
                    .silent_since
                    .map_or(Duration::ZERO, |at| since.since(at));
                SESSION_DEAD.saturating_sub(silent) + recovery
            }
            // A lane that waits for bytes which never come says so only to who asks: LANE_QUIET
            // after its first stream, and LANE_SILENT for the answer, 15 s.
            Damage::Deceit => LANE_QUIET + LANE_SILENT + recovery,
        };
        let way = if self.tiny {
            // The bytes go one by one.
            self.round * 20
        } else {
            self.round
        };
        let inlets = portal.inlets();
        let doors = (portal.routes.len() * inlets.len()) as u32;
        let slack = way * 30 * doors;
        let mut tries = 0;
        let routes = 0..portal.routes.len();
        let doors = routes.flat_map(|route| inlets.iter().map(move |at| (route, *at)));
        for (route, at) in doors {
            loop {
                tries += 1;
                let probe = portal.app_at(at, route, exchange);
                let left = patience + slack;
                let left = left.saturating_sub(portal.world.now().since(since));
                let over = portal.within(left, |portal| portal.apps[probe].end.is_over());
                assert!(
                    over,
                    "no exchange {patience:?} after the last fault, in {tries} tries: {}",
                    portal.story()
                );
                if portal.apps[probe].end.ending == Ending::Clean {
                    break;
                }
                portal.pass(Duration::from_millis(20));
            }
        }
        let over = portal.within(Duration::from_secs(120), |portal| {
            portal.apps_are_over() && portal.is_idle()
        });
        assert!(over, "something hangs: {}", portal.story());
        // A fault that concerns one inlet is none of the other's.
        if let Some(disturbed) = &self.disturbed {
            for no in 0..portal.apps.len() {
                let app = &portal.apps[no];
                if disturbed.contains(&app.at) {
                    continue;
                }
                let well = app.script.ends_well();
                assert!(
                    !well || portal.is_clean(no),
                    "app {no} failed although nothing was wrong: {}",
                    portal.story()
                );
            }
        }
        self.counts();
    }

    /// What must be the same in every quiet portal.
    fn counts(&mut self) {
        let portal = &mut self.portal;
        let routes = portal.routes.len() as u64;
        let inlets = portal.inlets();
        let relay = portal.relay();
        // Keepalive finds a connection that only one end has given up: 60 s, and the probes.
        let settled = portal.within(Duration::from_secs(90), |portal| {
            let gauge = |who: Who, name: &str| {
                let counters = portal.see(who).counters();
                counters.map_or(0, |c| c.get(name))
            };
            let lanes_of = |who: &Who| {
                let process = portal.see(*who);
                routes * u64::from(process.workers) * u64::from(process.lanes)
            };
            let lanes: u64 = inlets.iter().map(lanes_of).sum();
            let each = |who: &Who| gauge(*who, "lanes_open") == lanes_of(who);
            let circuits: u64 = inlets.iter().map(|who| gauge(*who, "circuits_open")).sum();
            inlets.iter().all(each)
                && gauge(Who::Outlet, "lanes_open") == lanes
                && gauge(Who::Outlet, "circuits_open") == circuits
                && gauge(relay, "legs_paired") == 2 * (lanes + circuits)
                && gauge(relay, "strangers_open") == 0
        });
        assert!(
            settled,
            "lanes, circuits or legs are left over: {}",
            portal.story()
        );
        for who in portal.cast() {
            if let Some(counters) = portal.see(who).counters() {
                let reasons = proxy::error::CloseReason::ALL;
                let ended: u64 = reasons.iter().map(|&why| counters.ended(why)).sum();
                assert_eq!(
                    ended,
                    counters.get("streams_total"),
                    "{who:?}: every closed stream has one reason"
                );
            }
        }
    }
}

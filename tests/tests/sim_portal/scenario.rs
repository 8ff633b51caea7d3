//! A whole run from one number: a network, apps, faults at random times; then quiet, in which
//! everything has to come back and every count returns to its start.
//!
//! 1. *Up.* The portal enrolls and opens, on whatever network the seed gives.
//! 2. *Busy.* Apps come and go while faults strike. Where no fault may end a connection, every
//!    app must finish as its script says.
//! 3. *Quiet.* Faults end, dead processes are started. All apps end; a new one works within two
//!    seconds of the last missing piece (promise 6); later where a silent network has to be found
//!    out first (15 s), or a lane whose bytes were meddled with so that it waits for more of them
//!    (30 s). Gauges are 0.
//! 4. *End.* Workers stop or drain; nothing is left of buffers, slots and sockets.

use proxy::engine::Errno;
use proxy::engine::simulated::{Faults, OpKind, Rng};
use proxy::limits::{LANE_QUIET, LANE_SILENT};
use proxy::time::{Duration, Instant};

use super::endpoint::Ending;
use super::portal::{ALL, Portal, Ran, SERVICES, Shape, Who};
use super::portal::{INLET, OUTLET, POSTGRES, SERVER, STAGING};
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
    /// Bytes between nodes and server are meddled with.
    Meddle(Harm),
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
    fn draw(rng: &mut Rng) -> Fault {
        let who = ALL[rng.below(3) as usize];
        let node = [Who::Outlet, Who::Inlet][rng.below(2) as usize];
        match rng.below(13) {
            0..3 => Fault::Kill(who),
            3 | 4 => Fault::Cut(node),
            5 | 6 => Fault::Partition(node),
            7 => Fault::NoService,
            8 => Fault::DeadService,
            9 => Fault::Hold(who),
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
            Fault::Hold(_) => Damage::None,
            Fault::Kill(_) | Fault::Cut(_) | Fault::NoService => Damage::Resets,
            Fault::DeadService | Fault::Call(..) => Damage::Resets,
            Fault::Partition(_) => Damage::Silence,
            Fault::Meddle(_) => Damage::Deceit,
        }
    }

    /// How long it lasts.
    fn span(self, rng: &mut Rng) -> Duration {
        let short = Duration::from_micros(1 + rng.below(2_000_000));
        match self {
            Fault::Hold(_) => Duration::from_secs(10),
            Fault::Partition(_) | Fault::DeadService if rng.chance(300) => {
                Duration::from_secs(1 + rng.below(30))
            }
            Fault::Kill(_)
            | Fault::Cut(_)
            | Fault::Partition(_)
            | Fault::NoService
            | Fault::DeadService
            | Fault::Meddle(_)
            | Fault::Call(..) => short,
        }
    }
}

/// What happens at a time.
#[derive(Clone, Copy, Debug)]
enum Act {
    App(usize),
    Begin(Fault),
    End(Fault),
}

/// A run. See the module.
pub struct Scenario {
    portal: Portal,
    acts: Vec<(Instant, Act)>,
    meddler: Meddler,
    damage: Damage,
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
    let welcome = !rng.chance(40);
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
    let (shape, faults, damage, welcome) = shape(&mut rng);
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
        for _ in 0..1 + rng.below(6) {
            let route = rng.below(routes) as usize;
            self.acts.push((at(rng), Act::App(route)));
        }
        // Many at once now and then: batching, fairness, credit.
        if !self.tiny && rng.chance(60) {
            let when = at(rng);
            for _ in 0..20 + rng.below(60) {
                self.acts.push((when, Act::App(0)));
            }
        }
        for _ in 0..[0, 1, 1, 2][rng.below(4) as usize] {
            let fault = Fault::draw(rng);
            self.damage = self.damage.max(fault.damage());
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
                Act::App(route) => {
                    let kind = KINDS[rng.below(KINDS.len() as u64) as usize];
                    let script = Script::draw(kind, rng);
                    self.portal.app(route, self.small_if_tiny(script));
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

    fn ip(who: Who) -> std::net::IpAddr {
        match who {
            Who::Server => SERVER,
            Who::Outlet => OUTLET,
            Who::Inlet => INLET,
        }
    }

    fn begin(&mut self, fault: Fault) {
        let portal = &mut self.portal;
        match fault {
            Fault::Kill(who) => portal.of(who).kill(),
            Fault::Cut(who) => portal.world.reset_between(SERVER, Self::ip(who)),
            Fault::Partition(who) => portal.world.partition(SERVER, Self::ip(who)),
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
            Fault::Partition(who) => portal.world.heal(SERVER, Self::ip(who)),
            Fault::NoService => portal.services(true),
            Fault::DeadService => portal.world.blackhole(SERVICES, false),
            Fault::Meddle(_) => self.meddler.end(),
            Fault::Cut(_) | Fault::Hold(_) | Fault::Call(..) => {}
        }
    }

    fn quiet(&mut self) {
        let exchange = self.small_if_tiny(Script::echo(300, 100));
        let portal = &mut self.portal;
        if self.damage > Damage::None {
            portal.world.set_faults(Faults::none());
        }
        let patience = match self.damage {
            Damage::None | Damage::Resets => Duration::from_secs(2),
            Damage::Silence => Duration::from_secs(15 + 2),
            Damage::Deceit => LANE_QUIET + LANE_SILENT + Duration::from_secs(2),
        };
        let held = ALL.map(|who| portal.see(who).held_until);
        let now = portal.world.now();
        let held = held.into_iter().max().unwrap_or(now).since(now);
        portal.pass(held);
        // Promise 6, with what the network takes for a new connection and an exchange on top.
        let since = portal.world.now();
        let way = if self.tiny {
            // The bytes go one by one.
            self.round * 20
        } else {
            self.round
        };
        let slack = way * 30 * portal.routes.len() as u32;
        let mut tries = 0;
        for route in 0..portal.routes.len() {
            loop {
                tries += 1;
                let probe = portal.app(route, exchange);
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
        if self.damage == Damage::None {
            for no in 0..portal.apps.len() {
                let well = portal.apps[no].script.ends_well();
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
        // Keepalive finds a connection that only one end has given up: 60 s, and the probes.
        let settled = portal.within(Duration::from_secs(90), |portal| {
            let gauge = |who: Who, name: &str| {
                let counters = portal.see(who).counters().map(|c| c.all());
                let of = |(own, value): (&str, u64)| (own == name).then_some(value);
                counters.into_iter().flatten().find_map(of).unwrap_or(0)
            };
            let circuits = gauge(Who::Inlet, "circuits_open");
            gauge(Who::Inlet, "lanes_open") == routes
                && gauge(Who::Outlet, "lanes_open") == routes
                && gauge(Who::Outlet, "circuits_open") == circuits
                && gauge(Who::Server, "legs_paired") == 2 * (routes + circuits)
                && gauge(Who::Server, "strangers_open") == 0
        });
        assert!(
            settled,
            "lanes, circuits or legs are left over: {}",
            portal.story()
        );
        for who in ALL {
            if let Some(counters) = portal.see(who).counters() {
                let reasons = proxy::error::CloseReason::ALL;
                let ended: u64 = reasons.iter().map(|&why| counters.ended(why)).sum();
                assert_eq!(
                    ended,
                    counters.streams_total.get(),
                    "{who:?}: every closed stream has one reason"
                );
            }
        }
    }
}

//! `adit run`, and what it shares with `inlet` and `outlet`: running a node.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crypto::names::{HostPort, RelayAddress};

use super::args::{GlobalArgs, MetricsArgs, NodeArgs, RunArgs};
use super::config_file::{ConfigFile, PROCESS};
use super::log;
use super::settings::{self, Settings};
use crate::control::failure::{Exit, Failure, codes};
use crate::control::node::{Node, NodePlan};
use crate::control::portals::{Inlet, Portal, PortalChanges};
use crate::control::process::Running;
use crate::control::runtime::Runtime;
use crate::control::signals::{self, Reload, StopSignals};
use crate::control::worker_thread::EngineDecision;
use crate::ids::PortalNo;
use crate::limits::INLET_LANES_MAX;
use crate::protocol::core::{Level, LogRecord};
use crate::protocol::portal_limits::PortalLimits;

/// The directory of a node whose portals are in a file.
const DEFAULT_NODE: &str = "node";

pub(super) fn run(global: &GlobalArgs, args: RunArgs) -> Result<u8, Failure> {
    let path = args.file.config;
    let file = ConfigFile::read(&path)?;
    let settings = Settings::from_args(&over(global, &file.global))?;
    has_portals(&file, &path)?;
    let mut started = Started::of(&file, settings.workers);
    // A ticket in the environment beats the file's.
    let ticket = match settings::ticket_source(&args.node, settings::ticket_text())? {
        Some(source) => Some(source),
        None => settings::ticket_source(&file.node, None)?,
    };
    let plan = NodePlan {
        what: "run",
        home: settings.home.clone(),
        project: settings.project.clone(),
        node: match args.node.node.as_ref().or(file.node.node.as_ref()) {
            Some(name) => name.clone(),
            None => settings::parsed(DEFAULT_NODE)?,
        },
        ticket,
        exit_if_not_enrolled: exit_if_not_enrolled(&args.node, &file.node),
        revocation_max_age: settings::max_age(
            (args.node.revocation_max_age).or(file.node.revocation_max_age),
        ),
        metrics: args.metrics.metrics.or(file.metrics.metrics),
        key_exchange_every: settings::key_exchange_every(
            (args.node.key_exchange_every).or(file.node.key_exchange_every),
        ),
        portals: file.portals,
    };
    let reload: Reload = Box::new(move || started.again(&path));
    start(&settings, plan, true, async |running, signals| {
        signals::run_reloading(running, signals, reload)
            .await
            .map(|()| 0)
    })
}

/// A configuration without portals is a mistake.
pub(super) fn has_portals(file: &ConfigFile, path: &Path) -> Result<(), Failure> {
    if file.portals.is_empty() {
        let what = format!("nothing to run in {}", path.display());
        return Err(
            Failure::new(codes::CONFIG_VALUE, Exit::Usage, what, "it has no portal")
                .fix("add an [[inlet]] or an [[outlet]]"),
        );
    }
    Ok(())
}

/// An inlet has a bounded number of lanes, at all its workers together.
pub(super) fn lanes_fit(portals: &[Portal], workers: u8) -> Result<(), Failure> {
    for portal in portals {
        if let Portal::Inlet(Inlet { via, lanes, .. }) = portal
            && u32::from(*lanes) * u32::from(workers) > INLET_LANES_MAX.into()
        {
            let what = format!("can't have that many lanes at the inlet for {via}");
            let why =
                format!("{lanes} at each of {workers} workers are more than {INLET_LANES_MAX}");
            let fix = "say fewer with --lanes N or with --workers N";
            return Err(Failure::usage(what, why).fix(fix));
        }
    }
    Ok(())
}

/// A portal by what makes it another one if it changes.
#[derive(Clone, PartialEq)]
enum Which {
    Inlet(RelayAddress, SocketAddr),
    Outlet(RelayAddress, Vec<HostPort>, bool),
}

impl Which {
    fn of(portal: &Portal) -> Which {
        match portal {
            Portal::Inlet(it) => Which::Inlet(it.via.clone(), it.from),
            Portal::Outlet(it) => Which::Outlet(it.at.clone(), it.to.clone(), it.proxy_header),
        }
    }
}

/// A portal that runs.
#[derive(Clone)]
struct RunningPortal {
    no: PortalNo,
    which: Which,
    limits: Arc<PortalLimits>,
    /// An inlet's: they stay what they were when it began.
    lanes: Option<(u8, bool)>,
}

impl RunningPortal {
    fn new(no: PortalNo, portal: &Portal) -> RunningPortal {
        RunningPortal {
            no,
            which: Which::of(portal),
            limits: Arc::clone(portal.limits()),
            lanes: lanes_of(portal),
        }
    }
}

fn lanes_of(portal: &Portal) -> Option<(u8, bool)> {
    match portal {
        Portal::Inlet(inlet) => Some((inlet.lanes, inlet.dedicated)),
        Portal::Outlet(_) => None,
    }
}

/// What the process was started with of its file, and the portals that it has now.
struct Started {
    global: GlobalArgs,
    node: NodeArgs,
    metrics: MetricsArgs,
    workers: u8,
    portals: Vec<RunningPortal>,
    /// How many portals it has had. No number is used twice: the last streams of a portal that was taken
    /// away may still be up.
    numbers: u16,
}

impl Started {
    fn of(file: &ConfigFile, workers: u8) -> Started {
        let numbered = (0..).map(PortalNo).zip(&file.portals);
        let portals: Vec<RunningPortal> = numbered
            .map(|(no, portal)| RunningPortal::new(no, portal))
            .collect();
        Started {
            global: file.global.clone(),
            node: file.node.clone(),
            metrics: file.metrics.clone(),
            workers,
            numbers: u16::try_from(portals.len()).unwrap_or(u16::MAX),
            portals,
        }
    }

    /// Reads the file again. A portal that is in it as before keeps its number, and its streams.
    fn again(&mut self, path: &Path) -> Result<PortalChanges, Failure> {
        let file = ConfigFile::read(path)?;
        has_portals(&file, path)?;
        lanes_fit(&file.portals, self.workers)?;
        let mut changes = PortalChanges::default();
        let mut numbers = self.numbers;
        let mut gone = self.portals.clone();
        let (mut portals, mut new, mut limits) = (Vec::new(), Vec::new(), Vec::new());
        let mut restarts = Vec::new();
        for portal in file.portals {
            let which = Which::of(&portal);
            if let Some(at) = gone.iter().position(|it| it.which == which) {
                let same = gone.remove(at);
                if lanes_of(&portal) != same.lanes {
                    let what = "the lanes of a running inlet have changed in the file";
                    restarts.push((what, portal.address().to_string()));
                }
                limits.push((Arc::clone(&same.limits), portal.limits().limits()));
                changes.core.policies.push((same.no, portal.into_policy()));
                portals.push(same);
            } else {
                let no = PortalNo(numbers);
                numbers = numbers.checked_add(1).ok_or_else(too_many_portals)?;
                portals.push(RunningPortal::new(no, &portal));
                new.push((no, portal));
            }
        }
        for (no, portal) in new {
            port_is_free(&portal, &gone)?;
            changes.add(no, portal)?;
        }
        // Nothing can fail any more.
        changes.core.closed = gone.iter().map(|it| it.no).collect();
        for (running, now) in limits {
            running.set(now);
        }
        (self.portals, self.numbers) = (portals, numbers);
        if file.global != self.global || file.node != self.node || file.metrics != self.metrics {
            let known: Vec<&str> = PROCESS.iter().map(|(key, _)| *key).collect();
            let what = "a setting of the whole process has changed in the file";
            restarts.push((what, format!("one of {}", known.join(", "))));
        }
        for (what, which) in restarts {
            needs_restart(what, &which);
        }
        Ok(changes)
    }
}

fn too_many_portals() -> Failure {
    let why = format!("this process has had {} of them", u16::MAX);
    Failure::new(codes::CONFIG_VALUE, Exit::Usage, "can't add a portal", why).fix("restart it")
}

/// The port of a portal that is taken away is closed a little later, so no other can have it yet.
fn port_is_free(portal: &Portal, gone: &[RunningPortal]) -> Result<(), Failure> {
    let Portal::Inlet(inlet) = portal else {
        return Ok(());
    };
    let has_it =
        |it: &&RunningPortal| matches!(&it.which, Which::Inlet(_, at) if *at == inlet.from);
    match gone.iter().find(has_it) {
        // Port 0 is another one each time.
        Some(_) if inlet.from.port() != 0 => {
            let (via, from) = (&inlet.via, inlet.from);
            let what = format!("can't have {from} lead to {via} instead, while this process runs");
            let why = "the portal that listens there is taken away by the same change";
            Err(Failure::new(codes::CONFIG_VALUE, Exit::Usage, what, why)
                .fix("take that one away, reload, add the new one, reload; or restart"))
        }
        Some(_) | None => Ok(()),
    }
}

fn needs_restart(what: &str, which: &str) {
    let record = LogRecord::new(Level::Warn, what).with("which", which);
    crate::control::log::emit(&record.with("mend", "it needs a restart of this process"));
}

fn exit_if_not_enrolled(typed: &NodeArgs, file: &NodeArgs) -> bool {
    typed.exit_if_not_enrolled || file.exit_if_not_enrolled
}

/// Flags and environment over the file.
pub(super) fn over(typed: &GlobalArgs, file: &GlobalArgs) -> GlobalArgs {
    GlobalArgs {
        home: typed.home.clone().or_else(|| file.home.clone()),
        project: typed.project.clone().or_else(|| file.project.clone()),
        engine: typed.engine.or(file.engine),
        workers: typed.workers.or(file.workers),
        spin: typed.spin.or(file.spin),
        log_format: typed.log_format.or(file.log_format),
        log_level: typed.log_level.or(file.log_level),
        json: typed.json || file.json,
    }
}

/// Runs a node until it was asked to end, or until its command has ended.
pub(super) fn run_node(
    settings: &Settings,
    plan: NodePlan,
    command: &[OsString],
) -> Result<u8, Failure> {
    start(settings, plan, false, async |running, signals| {
        if command.is_empty() {
            signals::run(running, signals).await.map(|()| 0)
        } else {
            signals::run_with_child(running, signals, command).await
        }
    })
}

/// Starts a node, and lets `go_on` run it. SIGHUP is taken over before anything can be reached.
fn start(
    settings: &Settings,
    plan: NodePlan,
    reloads: bool,
    go_on: impl AsyncFnOnce(Running, StopSignals) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    log::start(settings);
    lanes_fit(&plan.portals, settings.workers)?;
    let node = Node::open(plan)?;
    let engine = EngineDecision::make(settings.engine, settings.workers, settings.spin)?;
    let runtime = Runtime::for_control(engine.kind)?;
    runtime.block_on(async {
        let mut signals = StopSignals::new()?;
        if reloads {
            signals = signals.with_hangup()?;
        }
        let running = node.start(engine, runtime.has_ring())?;
        go_on(running, signals).await
    })
}

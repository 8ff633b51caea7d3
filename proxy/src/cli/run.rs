//! `adit run`, and what it shares with `inlet` and `outlet`: running a node.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crypto::names::{HostPort, RelayAddress};

use super::args::{GlobalArgs, MetricsArgs, NodeArgs, RunArgs};
use super::config_file::{ConfigFile, PROCESS};
use super::log;
use super::settings::{self, Settings};
use crate::control::driver::Policies;
use crate::control::failure::{Exit, Failure, codes};
use crate::control::node::{Node, NodePlan};
use crate::control::process::Running;
use crate::control::runtime::Runtime;
use crate::control::signals::{self, Reload, StopSignals};
use crate::control::worker_thread::EngineDecision;
use crate::ids::PortalNo;
use crate::protocol::core::{Level, LogRecord};
use crate::protocol::policy::Policy;
use crate::protocol::portal_limits::PortalLimits;

/// The directory of a node whose portals are in a file.
const DEFAULT_NODE: &str = "node";

pub(super) fn run(global: &GlobalArgs, args: RunArgs) -> Result<u8, Failure> {
    let path = args.file.config;
    let file = ConfigFile::read(&path)?;
    let settings = Settings::from_args(&over(global, &file.global))?;
    has_portals(&file, &path)?;
    let started = Started::of(&file);
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
        inlets: file.inlets,
        outlets: file.outlets,
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
    if file.inlets.is_empty() && file.outlets.is_empty() {
        let what = format!("nothing to run in {}", path.display());
        return Err(
            Failure::new(codes::CONFIG_VALUE, Exit::Usage, what, "it has no portal")
                .fix("add an [[inlet]] or an [[outlet]]"),
        );
    }
    Ok(())
}

/// A portal by what it takes a restart to change.
#[derive(PartialEq)]
enum Portal {
    Inlet(RelayAddress, SocketAddr),
    Outlet(RelayAddress, Vec<HostPort>, bool),
}

impl fmt::Display for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Portal::Inlet(via, from) => write!(f, "inlet {via} from {from}"),
            Portal::Outlet(at, to, _) => {
                let to: Vec<String> = to.iter().map(HostPort::to_string).collect();
                write!(f, "outlet {at} to {}", to.join(", "))
            }
        }
    }
}

/// The portals of a file in the order of their numbers, inlets first, with what changes while they run.
fn portals(file: &ConfigFile) -> Vec<(Portal, &Arc<PortalLimits>, &Policy)> {
    let inlets = file.inlets.iter().map(|it| {
        let portal = Portal::Inlet(it.via.clone(), it.from);
        (portal, &it.limits, &it.allow)
    });
    let outlets = file.outlets.iter().map(|it| {
        let portal = Portal::Outlet(it.at.clone(), it.to.clone(), it.proxy_header);
        (portal, &it.limits, &it.allow)
    });
    inlets.chain(outlets).collect()
}

/// What the process was started with of its file, policies aside: it takes a restart to change.
struct Started {
    global: GlobalArgs,
    node: NodeArgs,
    metrics: MetricsArgs,
    portals: Vec<(Portal, Arc<PortalLimits>)>,
}

impl Started {
    fn of(file: &ConfigFile) -> Started {
        let portals = portals(file).into_iter();
        Started {
            global: file.global.clone(),
            node: file.node.clone(),
            metrics: file.metrics.clone(),
            portals: portals
                .map(|(portal, limits, _)| (portal, Arc::clone(limits)))
                .collect(),
        }
    }

    /// Reads the file again. Portals keep the numbers that they were started with.
    fn again(&self, path: &Path) -> Result<Policies, Failure> {
        let file = ConfigFile::read(path)?;
        has_portals(&file, path)?;
        let mut policies = Policies::new();
        let mut new = portals(&file);
        for (no, (portal, limits)) in (0..).map(PortalNo).zip(&self.portals) {
            match new.iter().position(|(it, ..)| it == portal) {
                Some(at) => {
                    let (_, now, policy) = new.remove(at);
                    limits.set(now.limits());
                    policies.push((no, policy.clone()));
                }
                None => needs_restart(
                    "a portal that is not in the file any more runs on",
                    &portal.to_string(),
                ),
            }
        }
        for (portal, ..) in &new {
            let what = "a portal that is new in the file does not run yet";
            needs_restart(what, &portal.to_string());
        }
        if file.global != self.global || file.node != self.node || file.metrics != self.metrics {
            let known: Vec<&str> = PROCESS.iter().map(|(key, _)| *key).collect();
            let what = "a setting of the whole process has changed in the file";
            needs_restart(what, &format!("one of {}", known.join(", ")));
        }
        Ok(policies)
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
    let node = Node::open(plan)?;
    let engine = EngineDecision::make(settings.engine, settings.workers)?;
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

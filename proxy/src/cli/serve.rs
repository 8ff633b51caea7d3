//! `adit serve`

use super::args::{ServeArgs, ServeRole, Switch};
use super::settings::{self, Settings};
use super::{log, reach};
use crate::control::failure::Failure;
use crate::control::metrics::http::MetricsListener;
use crate::control::node::{Node, NodePlan};
use crate::control::project::Project;
use crate::control::runtime::Runtime;
use crate::control::serve::{self, Roles};
use crate::control::signals::{self, StopSignals};
use crate::control::worker_thread::{EngineDecision, Listener};
use crate::limits::CREDENTIAL_LIFE;

/// The directory of a relay whose authority is elsewhere.
const RELAY_NODE: &str = "relay";

pub(super) fn run(settings: &Settings, args: &ServeArgs) -> Result<u8, Failure> {
    log::start(settings);
    let roles = match args.role {
        None => Roles {
            authority: true,
            relay: true,
        },
        Some(ServeRole::Authority) => Roles {
            authority: true,
            relay: false,
        },
        Some(ServeRole::Relay) => return run_relay(settings, args),
    };
    let name = reach::authority_project(settings)?;
    let place = settings::store_place(&args.store)?;
    let project = Project::open(&settings.home, &name, "serve", &place)?;
    let listen = args
        .listen
        .unwrap_or_else(|| serve::default_listen(&project));
    let listener = Listener::bind(None, listen)?;
    let metrics = args
        .metrics
        .metrics
        .map(MetricsListener::bind)
        .transpose()?;
    let engine = engine(settings, args)?;
    let runtime = Runtime::for_control(engine.kind)?;
    runtime.block_on(async {
        let signals = StopSignals::new()?;
        let life = args.credential_ttl.map_or(CREDENTIAL_LIFE, |ttl| ttl.0);
        let on_ring = runtime.has_ring();
        let running = serve::start(project, roles, life, listener, metrics, engine, on_ring)?;
        signals::run(running, signals).await
    })?;
    Ok(0)
}

fn engine(settings: &Settings, args: &ServeArgs) -> Result<EngineDecision, Failure> {
    Ok(EngineDecision {
        splice: args.relay_splice != Some(Switch::Off),
        ..EngineDecision::make(settings.engine, settings.workers, settings.spin)?
    })
}

/// A relay is a node of its own: it enrolls with a ticket of role `relay`.
fn run_relay(settings: &Settings, args: &ServeArgs) -> Result<u8, Failure> {
    let listen = args.listen.ok_or_else(|| {
        let why = "its project's address is the authority's";
        Failure::usage("can't tell where the relay listens", why).fix("say --listen IP:PORT")
    })?;
    let plan = NodePlan {
        what: "serve",
        home: settings.home.clone(),
        project: settings.project.clone(),
        node: match &args.node.node {
            Some(name) => name.clone(),
            None => settings::parsed(RELAY_NODE)?,
        },
        ticket: settings::ticket_source(&args.node, settings::ticket_text())?,
        exit_if_not_enrolled: args.node.exit_if_not_enrolled,
        revocation_max_age: settings::max_age(args.node.revocation_max_age),
        metrics: args.metrics.metrics,
        key_exchange_every: settings::key_exchange_every(args.node.key_exchange_every),
        portals: Vec::new(),
    };
    let node = Node::open(plan)?;
    let listener = Listener::bind(None, listen)?;
    let engine = engine(settings, args)?;
    let runtime = Runtime::for_control(engine.kind)?;
    runtime.block_on(async {
        let signals = StopSignals::new()?;
        let running = node.start_relay(listener, engine, runtime.has_ring())?;
        signals::run(running, signals).await
    })?;
    Ok(0)
}

//! `adit enroll`: redeem a ticket and end.

use serde_json::json;

use super::args::EnrollArgs;
use super::settings::{self, Settings};
use super::{log, output};
use crate::control::driver::Stop;
use crate::control::failure::Failure;
use crate::control::node::{Node, NodePlan};
use crate::control::runtime::Runtime;
use crate::control::worker_thread::EngineDecision;

/// The directory of a node that is enrolled before it has a portal.
const DEFAULT_NODE: &str = "node";

pub(super) fn run(settings: &Settings, args: EnrollArgs) -> Result<u8, Failure> {
    log::start(settings);
    let node = match &args.node.node {
        Some(name) => name.clone(),
        None => settings::parsed(DEFAULT_NODE)?,
    };
    let plan = NodePlan {
        what: "enroll",
        home: settings.home.clone(),
        project: settings.project.clone(),
        node: node.clone(),
        ticket: settings::ticket_source(&args.node, settings::ticket_text())?,
        exit_if_not_enrolled: true,
        revocation_max_age: settings::max_age(args.node.revocation_max_age),
        metrics: None,
        key_exchange_every: settings::key_exchange_every(args.node.key_exchange_every),
        portals: Vec::new(),
    };
    let node_state = Node::open(plan)?;
    let id = node_state.id();
    if node_state.membership().is_none() {
        let engine = EngineDecision::make(settings.engine, 1, settings.spin)?;
        let runtime = Runtime::for_control(engine.kind)?;
        runtime.block_on(async {
            let mut running = node_state.start(engine, runtime.has_ring())?;
            running.until(|progress| progress.enrolled).await?;
            let _ = running.stopper().send(Stop::Now).await;
            running.ended().await
        })?;
    } else {
        output::say("note: this node is a member already; the ticket was not used");
    }
    if settings.json {
        output::json(&json!({ "node": node.as_str(), "id": id.to_string(), "enrolled": true }))?;
    } else {
        output::line(&format!("enrolled {id}"))?;
        output::say(&format!(
            "next: adit inlet --node {node} … or adit outlet --node {node} …"
        ));
    }
    Ok(0)
}

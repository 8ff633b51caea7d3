//! `adit inlet`

use super::args::InletArgs;
use super::run::run_node;
use super::settings::{self, Settings};
use crate::control::failure::Failure;
use crate::control::node::NodePlan;
use crate::control::portals::{Inlet, Portal};

pub(super) fn run(settings: &Settings, args: InletArgs) -> Result<u8, Failure> {
    let plan = NodePlan {
        what: "inlet",
        home: settings.home.clone(),
        project: settings.project.clone(),
        node: settings::node_name(args.node.node.as_ref(), "inlet", args.via.as_str())?,
        ticket: settings::ticket_source(&args.node, settings::ticket_text())?,
        exit_if_not_enrolled: args.node.exit_if_not_enrolled,
        revocation_max_age: settings::max_age(args.node.revocation_max_age),
        metrics: args.metrics.metrics,
        key_exchange_every: settings::key_exchange_every(args.node.key_exchange_every),
        portals: vec![Portal::Inlet(Inlet {
            via: args.via,
            from: args.from,
            allow: settings::policy(&args.allow)?,
            limits: args.limits.shared(),
            lanes: args.lanes.unwrap_or(settings::DEFAULT_LANES),
            dedicated: args.dedicated,
        })],
    };
    run_node(settings, plan, &args.command)
}

//! `adit inlet`

use super::args::InletArgs;
use super::run::run_node;
use super::settings::{self, Settings};
use crate::control::failure::Failure;
use crate::control::node::{Inlet, NodePlan};

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
        inlets: vec![Inlet {
            via: args.via,
            from: args.from,
            allow: settings::policy(&args.allow)?,
            limits: args.limits.shared(),
        }],
        outlets: Vec::new(),
    };
    run_node(settings, plan, &args.command)
}

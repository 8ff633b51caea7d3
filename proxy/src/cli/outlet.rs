//! `adit outlet`

use super::args::OutletArgs;
use super::run::run_node;
use super::settings::{self, Settings};
use crate::control::failure::Failure;
use crate::control::node::NodePlan;
use crate::control::portals::{Outlet, Portal};

pub(super) fn run(settings: &Settings, args: OutletArgs) -> Result<u8, Failure> {
    settings::places(&args.to)?;
    let plan = NodePlan {
        what: "outlet",
        home: settings.home.clone(),
        project: settings.project.clone(),
        node: settings::node_name(args.node.node.as_ref(), "outlet", args.at.as_str())?,
        ticket: settings::ticket_source(&args.node, settings::ticket_text())?,
        exit_if_not_enrolled: args.node.exit_if_not_enrolled,
        revocation_max_age: settings::max_age(args.node.revocation_max_age),
        metrics: args.metrics.metrics,
        key_exchange_every: settings::key_exchange_every(args.node.key_exchange_every),
        portals: vec![Portal::Outlet(Outlet {
            at: args.at,
            to: args.to,
            proxy_header: args.send_proxy_v2,
            allow: settings::policy(&args.allow)?,
            limits: args.limits.shared(),
        })],
    };
    run_node(settings, plan, &[])
}

//! `adit run`, and what it shares with `inlet` and `outlet`: running a node.

use std::ffi::OsString;

use super::args::{GlobalArgs, NodeArgs, RunArgs};
use super::config_file::ConfigFile;
use super::log;
use super::settings::{self, Settings};
use crate::control::failure::{Exit, Failure, codes};
use crate::control::node::{Node, NodePlan};
use crate::control::runtime::Runtime;
use crate::control::signals::{self, StopSignals};
use crate::control::worker_thread::EngineDecision;

/// The directory of a node whose portals are in a file.
const DEFAULT_NODE: &str = "node";

pub(super) fn run(global: &GlobalArgs, args: RunArgs) -> Result<u8, Failure> {
    let file = ConfigFile::read(&args.config)?;
    let settings = Settings::from_args(&over(global, &file.global))?;
    if file.inlets.is_empty() && file.outlets.is_empty() {
        let what = format!("nothing to run in {}", args.config.display());
        return Err(
            Failure::new(codes::CONFIG_VALUE, Exit::Usage, what, "it has no portal")
                .fix("add an [[inlet]] or an [[outlet]]"),
        );
    }
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
        revocation_max_age: settings::max_age(&NodeArgs {
            revocation_max_age: args
                .node
                .revocation_max_age
                .or(file.node.revocation_max_age),
            ..NodeArgs::default()
        }),
        inlets: file.inlets,
        outlets: file.outlets,
    };
    run_node(&settings, plan, &[])
}

fn exit_if_not_enrolled(typed: &NodeArgs, file: &NodeArgs) -> bool {
    typed.exit_if_not_enrolled || file.exit_if_not_enrolled
}

/// Flags and environment over the file.
fn over(typed: &GlobalArgs, file: &GlobalArgs) -> GlobalArgs {
    GlobalArgs {
        home: typed.home.clone().or_else(|| file.home.clone()),
        project: typed.project.clone().or_else(|| file.project.clone()),
        engine: typed.engine.or(file.engine),
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
    log::start(settings);
    let node = Node::open(plan)?;
    let engine = EngineDecision::make(settings.engine)?;
    let runtime = Runtime::for_control(engine.kind)?;
    runtime.block_on(async {
        let signals = StopSignals::new()?;
        let running = node.start(engine, runtime.has_ring())?;
        if command.is_empty() {
            signals::run(running, signals).await.map(|()| 0)
        } else {
            signals::run_with_child(running, signals, command).await
        }
    })
}

//! `adit bench`: what a portal costs, next to the same workloads without it.
//!
//! 1. [`portal`] starts a project, `serve`, an outlet and an inlet, each a process of its own, in front
//!    of the built-in [`service`]; with `--to` an inlet that runs already is measured instead.
//! 2. [`plan`] lists the workloads and the ways. Every round runs each workload over each way in turn,
//!    so that what disturbs the machine disturbs all of them.
//! 3. [`fleet`] opens a workload's connections and runs them; [`bulk`], [`turns`] and [`open_loop`] are
//!    the workloads. Each knows how many bytes must come back, and fails if others do.
//! 4. [`figures`] makes medians and spreads of it, [`report`] the table and the JSON.
//!
//! Load is made by threads of this process and served by as many: their CPU is not the portal's, but
//! they share the machine with it.

mod bulk;
mod endpoint;
mod figures;
mod fleet;
mod machine;
mod open_loop;
mod plan;
mod portal;
mod progress;
mod report;
mod service;
mod turns;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;

use crypto::names::HostPort;

use super::args::BenchArgs;
use super::log;
use super::output;
use super::settings::Settings;
use crate::control::failure::{Exit, Failure, codes};
use crate::control::runtime::Runtime;
use crate::control::signals::StopSignals;
use crate::control::worker_thread::raise_descriptor_limit;
use crate::engine::Kind;
use endpoint::Endpoint;
use figures::{Figures, Measured};
use plan::{Cell, Options, Way};
use portal::OwnPortal;
use progress::Progress;
use report::Report;

pub(super) fn run(settings: &Settings, args: &BenchArgs) -> Result<u8, Failure> {
    log::start(settings);
    raise_descriptor_limit();
    let runtime = Runtime::for_control(Kind::Epoll)?;
    // Taken over before there is anything that an interrupted run would leave behind.
    let signals = runtime.block_on(async { StopSignals::new() })?;
    let (ways, portal) = ways(settings, args)?;
    let options = Options::from_args(args);
    let (engine, own) = match &portal {
        Some(portal) => (portal.engine.clone(), true),
        None => ("unknown".to_string(), false),
    };
    let machine = machine::Machine::look();
    let measured = runtime.block_on(until_interrupted(signals, options, ways))?;
    let report = Report {
        machine,
        engine,
        own,
        options,
        measured,
    };
    if settings.json {
        output::json(&report.json())?;
    } else {
        output::line(&report.text())?;
    }
    Ok(0)
}

/// What leads to the service: through the portal and, if there is such a way, directly.
fn ways(settings: &Settings, args: &BenchArgs) -> Result<(Vec<Way>, Option<OwnPortal>), Failure> {
    let Some(to) = &args.to else {
        let service = service::start().map_err(|error| failed("starting the service", &error))?;
        let portal = OwnPortal::start(settings, service)?;
        let through = Way::portal(Endpoint::own(portal.entry), portal.processes());
        let ways = vec![Way::direct(Endpoint::own(service)), through];
        return Ok((ways, Some(portal)));
    };
    let mut ways = Vec::new();
    if let Some(direct) = &args.direct {
        ways.push(Way::direct(Endpoint::echo(resolve(direct)?)));
    }
    ways.push(Way::portal(Endpoint::echo(resolve(to)?), Vec::new()));
    Ok((ways, None))
}

fn resolve(name: &HostPort) -> Result<SocketAddr, Failure> {
    let found = name.to_string().to_socket_addrs();
    let found = found.and_then(|mut addresses| {
        let none = || io::Error::new(io::ErrorKind::NotFound, "it has no address");
        addresses.next().ok_or_else(none)
    });
    found.map_err(|error| Failure::usage(format!("can't resolve {name}"), error))
}

/// Measures on a thread of its own, and gives up at the first signal: who owns the portal then ends
/// it.
async fn until_interrupted(
    mut signals: StopSignals,
    options: Options,
    ways: Vec<Way>,
) -> Result<Vec<Measured>, Failure> {
    let (done, result) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        // Nobody listens any more where the command was interrupted.
        let _ = done.send(measure(&options, &ways));
    });
    let interrupted = |why| {
        let what = "the benchmark was not finished";
        Failure::new(codes::BENCH, Exit::Runtime, what, why)
    };
    tokio::select! {
        result = result => result.unwrap_or_else(|_| Err(interrupted("its thread ended early"))),
        _ = signals.next() => {
            progress::break_line();
            Err(interrupted("it was interrupted"))
        }
    }
}

/// Runs every cell over every way, round after round.
fn measure(options: &Options, ways: &[Way]) -> Result<Vec<Measured>, Failure> {
    let cells = options.cells(ways);
    let mut measured: Vec<Measured> = cells
        .iter()
        .flat_map(|&cell| ways.iter().map(move |way| Measured::new(cell, way.kind)))
        .collect();
    let mut progress = Progress::new(options.rounds as usize * measured.len());
    for round in 0..options.rounds {
        for (number, &cell) in cells.iter().enumerate() {
            // Each way is the first in its turn.
            for turn in 0..ways.len() {
                let at = (turn + round as usize) % ways.len();
                let way = &ways[at];
                progress.begin(round + 1, cell, way.kind);
                let figures = run_cell(options, cell, way)?;
                progress.done(&figures, cell);
                measured[number * ways.len() + at].rounds.push(figures);
            }
        }
    }
    Ok(measured)
}

fn run_cell(options: &Options, cell: Cell, way: &Way) -> Result<Figures, Failure> {
    let before = way.processes.iter().map(machine::cpu_time).collect();
    let sample = plan::run(options, cell, &way.endpoint)
        .map_err(|error| failed(&format!("{cell} {}", way.kind.words()), &error))?;
    let after = way.processes.iter().map(machine::cpu_time).collect();
    Ok(figures::of(
        cell.work,
        &sample,
        &way.processes,
        before,
        after,
    ))
}

fn failed(what: &str, error: &io::Error) -> Failure {
    let what = format!("the benchmark failed: {what}");
    Failure::new(codes::BENCH, Exit::Runtime, what, error)
}

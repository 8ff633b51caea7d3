//! What is measured: the workloads, how many connections each has, and the ways to the service.

use std::fmt;
use std::io;
use std::time::Duration;

use super::bulk::{Download, Echo, Upload};
use super::endpoint::Endpoint;
use super::figures::{Sample, Times};
use super::fleet;
use super::open_loop;
use super::turns::{Connects, RoundTrips};
use crate::cli::args::BenchArgs;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Connections of the workloads with several.
    pub(super) streams: usize,
    /// Bytes of a message.
    pub(super) size: usize,
    /// Messages a second of the latency workload.
    pub(super) rate: u32,
    /// How long a workload runs.
    pub(super) time: Duration,
    pub(super) rounds: u32,
}

impl Options {
    pub(super) fn from_args(args: &BenchArgs) -> Options {
        Options {
            streams: args.streams as usize,
            size: args.size as usize,
            rate: args.rate,
            time: args.secs.0,
            rounds: args.rounds,
        }
    }

    /// The workloads, in the order of the report. A foreign service can only echo.
    pub(super) fn cells(&self, ways: &[Way]) -> Vec<Cell> {
        let own = ways.iter().all(|way| way.endpoint.is_own());
        let bulk: &[Work] = if own {
            &[Work::Upload, Work::Download]
        } else {
            &[Work::Echo]
        };
        let mut cells = Vec::new();
        let mut add = |work, streams| {
            let cell = Cell { work, streams };
            if !cells.contains(&cell) {
                cells.push(cell);
            }
        };
        for &work in bulk {
            add(work, 1);
            add(work, self.streams);
        }
        add(Work::Latency, self.streams);
        add(Work::RoundTrips, 1);
        add(Work::RoundTrips, self.streams);
        add(Work::Connects, self.streams);
        cells
    }
}

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// As many bytes as possible to the service.
    Upload,
    /// As many from it.
    Download,
    /// Both at once, of a service that sends back what it gets.
    Echo,
    /// Messages at fixed times, whatever became of those before.
    Latency,
    /// The next message when the last came back.
    RoundTrips,
    /// A connection, one byte there and back, the next connection.
    Connects,
}

impl Work {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Work::Upload => "upload",
            Work::Download => "download",
            Work::Echo => "echo",
            Work::Latency => "latency",
            Work::RoundTrips => "round-trips",
            Work::Connects => "connects",
        }
    }

    /// Whether bytes count, and not messages or connections.
    pub(super) const fn is_bulk(self) -> bool {
        match self {
            Work::Upload | Work::Download | Work::Echo => true,
            Work::Latency | Work::RoundTrips | Work::Connects => false,
        }
    }

    /// The figure by which ways are compared.
    pub(super) const fn figure(self) -> &'static str {
        match self {
            Work::Upload | Work::Download | Work::Echo => "gbit_per_s",
            Work::Latency => "p50_us",
            Work::RoundTrips | Work::Connects => "per_s",
        }
    }
}

/// A workload over so many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) work: Work,
    pub(super) streams: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ×{}", self.work.name(), self.streams)
    }
}

/// Which way leads to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WayKind {
    Direct,
    Portal,
}

impl WayKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            WayKind::Direct => "direct",
            WayKind::Portal => "portal",
        }
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            WayKind::Direct => "directly",
            WayKind::Portal => "through the portal",
        }
    }
}

/// A process of the portal whose CPU time is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// `serve`, `outlet`, `inlet`.
    pub(super) role: &'static str,
    /// Its process id.
    pub(super) id: u32,
}

/// A way to the service.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) kind: WayKind,
    pub(super) endpoint: Endpoint,
    /// The portal's processes; empty where they are unknown, and for the direct way.
    pub(super) processes: Vec<Counted>,
}

impl Way {
    pub(super) fn direct(endpoint: Endpoint) -> Way {
        Way {
            kind: WayKind::Direct,
            endpoint,
            processes: Vec::new(),
        }
    }

    pub(super) fn portal(endpoint: Endpoint, processes: Vec<Counted>) -> Way {
        Way {
            kind: WayKind::Portal,
            endpoint,
            processes,
        }
    }
}

/// Runs a workload once. Returns when all that was sent has come back.
///
/// # Errors
/// A connection broke, or other bytes came back than were sent.
pub(super) fn run(options: &Options, cell: Cell, to: &Endpoint) -> io::Result<Sample> {
    let (streams, time, to) = (cell.streams, options.time, *to);
    match cell.work {
        Work::Upload => fleet::run(&Upload { to }, streams, time).map(Sample::untimed),
        Work::Download => fleet::run(&Download { to }, streams, time).map(Sample::untimed),
        Work::Echo => fleet::run(&Echo { to }, streams, time).map(Sample::untimed),
        Work::RoundTrips => {
            let times = Times::new()?;
            let load = RoundTrips {
                to,
                size: options.size,
                times: times.clone(),
            };
            let ran = fleet::run(&load, streams, time)?;
            Ok(Sample::untimed(ran).with_times(times))
        }
        Work::Connects => {
            let times = Times::new()?;
            let load = Connects {
                to,
                times: times.clone(),
            };
            let ran = fleet::run(&load, streams, time)?;
            Ok(Sample::untimed(ran).with_times(times))
        }
        Work::Latency => open_loop::run(to, streams, options.size, options.rate, time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(streams: usize) -> Options {
        Options {
            streams,
            size: 64,
            rate: 1000,
            time: Duration::from_secs(1),
            rounds: 1,
        }
    }

    fn names(streams: usize, endpoint: fn(std::net::SocketAddr) -> Endpoint) -> Vec<String> {
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let ways = [Way::portal(endpoint(nowhere), Vec::new())];
        let cells = options(streams).cells(&ways);
        cells.iter().map(Cell::to_string).collect()
    }

    #[test]
    fn a_foreign_service_is_asked_for_nothing_but_its_echo() {
        assert_eq!(
            names(4, Endpoint::echo),
            [
                "echo ×1",
                "echo ×4",
                "latency ×4",
                "round-trips ×1",
                "round-trips ×4",
                "connects ×4"
            ]
        );
    }

    #[test]
    fn no_workload_runs_twice_over_one_connection() {
        assert_eq!(
            names(1, Endpoint::own),
            [
                "upload ×1",
                "download ×1",
                "latency ×1",
                "round-trips ×1",
                "connects ×1"
            ]
        );
    }
}

//! The result: a table for people, JSON for programs.

use serde_json::{Value, json};

use super::figures::{Figures, Measured};
use super::machine::Machine;
use super::plan::{Options, WayKind, Work};
use crate::cli::output;

/// All that was measured, and on what.
pub(super) struct Report {
    pub(super) machine: Machine,
    /// The engine of the portal's processes.
    pub(super) engine: String,
    /// Whether the portal is the benchmark's own.
    pub(super) own: bool,
    pub(super) options: Options,
    pub(super) measured: Vec<Measured>,
}

impl Report {
    /// For programs: every round, and medians, spreads and ratios of them.
    pub(super) fn json(&self) -> Value {
        let Options {
            streams,
            size,
            rate,
            time,
            rounds,
        } = self.options;
        let cells: Vec<Value> = self.measured.iter().map(|cell| self.cell(cell)).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": self.machine.json(),
            "engine": self.engine,
            "portal": if self.own { "own" } else { "existing" },
            "options": {
                "streams": streams,
                "size_bytes": size,
                "rate_per_s": rate,
                "secs": time.as_secs_f64(),
                "rounds": rounds,
            },
            "cells": cells,
        })
    }

    fn cell(&self, measured: &Measured) -> Value {
        let mut cell = json!({
            "workload": measured.cell.work.name(),
            "streams": measured.cell.streams,
            "way": measured.way.name(),
            "rounds": measured.rounds,
            "median": measured.medians(),
            "spread": measured.spreads(),
        });
        if let Some(ratio) = self.of_direct(measured) {
            let compared = measured.cell.work.figure();
            cell["of_direct"] = json!({ "figure": compared, "ratio": ratio });
        }
        cell
    }

    /// The portal's figure in relation to that of the direct way.
    fn of_direct(&self, measured: &Measured) -> Option<f64> {
        if measured.way == WayKind::Direct {
            return None;
        }
        let direct = self
            .measured
            .iter()
            .find(|other| other.cell == measured.cell && other.way == WayKind::Direct)?;
        let figure = measured.cell.work.figure();
        let direct = *direct.medians().get(figure)?;
        (direct > 0.0).then_some(*measured.medians().get(figure)? / direct)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let Options {
            streams: _,
            size,
            rate,
            time,
            rounds,
        } = self.options;
        let head = [
            "WORKLOAD",
            "WAY",
            "AMOUNT",
            "P50 µs",
            "P99 µs",
            "P99.9 µs",
            "MAX µs",
            "PORTAL CPU",
            "SPREAD",
            "OF DIRECT",
        ];
        let rows: Vec<Vec<String>> = self.measured.iter().map(|cell| self.row(cell)).collect();
        let mut lines = vec![
            format!(
                "adit {}, engine {}; {}",
                env!("CARGO_PKG_VERSION"),
                self.engine,
                self.machine.text()
            ),
            format!(
                "messages of {size} bytes, latency at {rate}/s; medians of {rounds} rounds of {} s",
                time.as_secs_f64()
            ),
            String::new(),
            output::table(&head, &rows),
        ];
        lines.extend(self.warnings());
        lines.join("\n")
    }

    fn row(&self, measured: &Measured) -> Vec<String> {
        let work = measured.cell.work;
        let (medians, spreads) = (measured.medians(), measured.spreads());
        let shown = |name: &str| medians.get(name).map_or(String::new(), |&us| short(us));
        let cpu = match (measured.way, work.is_bulk()) {
            (WayKind::Direct, _) => String::new(),
            (WayKind::Portal, true) => with_unit(&medians, "cpu_s_per_gib", "s/GiB"),
            (WayKind::Portal, false) => with_unit(&medians, "cpu_us_each", "µs each"),
        };
        let spread = spreads.get(work.figure()).copied().unwrap_or_default();
        vec![
            measured.cell.to_string(),
            measured.way.name().to_string(),
            amount(work, &medians),
            shown("p50_us"),
            shown("p99_us"),
            shown("p999_us"),
            shown("max_us"),
            cpu,
            format!("{:.0} %", spread * 100.0),
            self.of_direct(measured)
                .map_or(String::new(), |ratio| format!("{ratio:.2}")),
        ]
    }

    /// What makes figures worth less than they look.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for measured in &self.measured {
            let medians = measured.medians();
            let (cell, way) = (measured.cell, measured.way.name());
            let figure = |name: &str| medians.get(name).copied().unwrap_or_default();
            if figure("failed") > 0.0 {
                let failed = figure("failed");
                warnings.push(format!("{cell} {way}: {failed:.0} connections failed"));
            }
            let late = figure("sender_late_p99_us");
            if late > figure("p99_us") / 2.0 {
                let late = short(late);
                warnings.push(format!(
                    "{cell} {way}: the sender itself was late (p99 {late} µs); the machine is too \
                     busy for these delays to be the way's alone"
                ));
            }
        }
        if !warnings.is_empty() {
            warnings.insert(0, String::new());
        }
        warnings
    }
}

fn with_unit(figures: &Figures, name: &str, unit: &str) -> String {
    match figures.get(name) {
        Some(&value) => format!("{} {unit}", short(value)),
        None => "unknown".into(),
    }
}

/// How much was done in which time.
pub(super) fn amount(work: Work, figures: &Figures) -> String {
    if work.is_bulk() {
        with_unit(figures, "gbit_per_s", "Gbit/s")
    } else {
        with_unit(figures, "per_s", "/s")
    }
}

/// Three significant digits, or all before the point.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        small if small < 10.0 => 2,
        middle if middle < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::plan::Cell;
    use super::*;

    fn report() -> Report {
        let cell = Cell {
            work: Work::Upload,
            streams: 4,
        };
        let measured = [(WayKind::Direct, 20.0), (WayKind::Portal, 5.0)].map(|(way, speed)| {
            let mut measured = Measured::new(cell, way);
            measured.rounds.push([("gbit_per_s".into(), speed)].into());
            measured
        });
        Report {
            machine: Machine::look(),
            engine: "epoll".into(),
            own: false,
            options: Options {
                streams: 4,
                size: 64,
                rate: 1000,
                time: Duration::from_secs(1),
                rounds: 1,
            },
            measured: measured.into(),
        }
    }

    #[test]
    fn the_portal_stands_next_to_the_direct_way() {
        let json = report().json();
        assert_eq!(json["cells"][0]["of_direct"], Value::Null);
        assert_eq!(json["cells"][1]["of_direct"]["ratio"], 0.25);
        assert_eq!(json["cells"][1]["median"]["gbit_per_s"], 5.0);
        assert_eq!(json["portal"], "existing");
    }

    #[test]
    fn a_person_reads_amounts_with_their_units() {
        let text = report().text();
        for part in ["upload ×4", "20.0 Gbit/s", "5.00 Gbit/s", "unknown", "0.25"] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.123, 12.34, 123.4, 12345.6].map(short),
            ["0.12", "12.3", "123", "12346"]
        );
    }
}

//! What one run of a workload gave, and what several runs say together.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::fleet::Tally;
use super::plan::{Cell, Counted, WayKind, Work};
use crate::limits::BENCH_DELAY_MAX;

/// Delays, in a histogram with three significant digits that all connections share.
#[derive(Clone)]
pub(super) struct Times(Arc<Mutex<Histogram<u64>>>);

impl Times {
    /// Without any.
    ///
    /// # Errors
    /// The bounds are no bounds of a histogram.
    pub(super) fn new() -> io::Result<Times> {
        let longest = u64::try_from(BENCH_DELAY_MAX.as_nanos()).unwrap_or(u64::MAX);
        let histogram = Histogram::new_with_bounds(100, longest, 3).map_err(io::Error::other)?;
        Ok(Times(Arc::new(Mutex::new(histogram))))
    }

    /// Adds one; longer ones than [`BENCH_DELAY_MAX`] count as that.
    pub(super) fn record(&self, delay: Duration) {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        self.histogram().saturating_record(nanos);
    }

    fn histogram(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A quantile (0 to 1) in microseconds; 0 if there are none.
    fn quantile_us(&self, quantile: f64) -> f64 {
        self.histogram().value_at_quantile(quantile) as f64 / 1e3
    }
}

/// One run.
pub(super) struct Sample {
    elapsed: Duration,
    tally: Tally,
    times: Option<Times>,
    late: Option<Times>,
}

impl Sample {
    /// What was done, and how long that took.
    pub(super) fn untimed((tally, elapsed): (Tally, Duration)) -> Sample {
        Sample {
            elapsed,
            tally,
            times: None,
            late: None,
        }
    }

    /// With the delays of its messages or connections.
    #[must_use]
    pub(super) fn with_times(self, times: Times) -> Sample {
        Sample {
            times: Some(times),
            ..self
        }
    }

    /// With the delays of the sender itself.
    #[must_use]
    pub(super) fn with_late(self, late: Times) -> Sample {
        Sample {
            late: Some(late),
            ..self
        }
    }
}

/// Numbers by their names, which end with the unit.
pub(super) type Figures = BTreeMap<String, f64>;

/// The figures of a run. `before` and `after` are the CPU times of the portal's processes, where they
/// are known.
pub(super) fn of(
    work: Work,
    sample: &Sample,
    processes: &[Counted],
    before: Vec<Option<Duration>>,
    after: Vec<Option<Duration>>,
) -> Figures {
    let mut figures = Figures::new();
    let mut put = |name: &str, value: f64| {
        figures.insert(name.into(), value);
    };
    let seconds = sample.elapsed.as_secs_f64();
    let Tally {
        sent,
        arrived,
        count,
        failed,
    } = sample.tally;
    put("seconds", seconds);
    put("bytes_sent", sent as f64);
    put("bytes_arrived", arrived as f64);
    // What a unit of work is, and how its CPU time is given.
    let (done, per_unit, unit) = if work.is_bulk() {
        put("gbit_per_s", arrived as f64 * 8.0 / 1e9 / seconds);
        (arrived as f64 / f64::from(1 << 30), 1.0, "cpu_s_per_gib")
    } else {
        put("count", count as f64);
        put("failed", failed as f64);
        put("per_s", count as f64 / seconds);
        (count as f64, 1e6, "cpu_us_each")
    };
    if let Some(times) = &sample.times {
        for (name, quantile) in [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)] {
            put(name, times.quantile_us(quantile));
        }
        put("max_us", times.quantile_us(1.0));
    }
    if let Some(late) = &sample.late {
        put("sender_late_p99_us", late.quantile_us(0.99));
    }
    let used: Option<Vec<Duration>> = before
        .into_iter()
        .zip(after)
        .map(|(before, after)| Some(after?.saturating_sub(before?)))
        .collect();
    if let Some(used) = used.filter(|used| !used.is_empty() && done > 0.0) {
        let each = |time: Duration| time.as_secs_f64() * per_unit / done;
        put(unit, each(used.iter().sum()));
        for (process, time) in processes.iter().zip(used) {
            put(&format!("{}_{unit}", process.role), each(time));
        }
    }
    figures
}

/// All rounds of one workload over one way.
pub(super) struct Measured {
    pub(super) cell: Cell,
    pub(super) way: WayKind,
    pub(super) rounds: Vec<Figures>,
}

impl Measured {
    /// Without any round yet.
    pub(super) fn new(cell: Cell, way: WayKind) -> Measured {
        Measured {
            cell,
            way,
            rounds: Vec::new(),
        }
    }

    /// The median of each figure.
    pub(super) fn medians(&self) -> Figures {
        self.each(|sorted| {
            let half = sorted.len() / 2;
            match sorted.len() % 2 {
                1 => sorted[half],
                _ => (sorted[half - 1] + sorted[half]) / 2.0,
            }
        })
    }

    /// How far the rounds of each figure are apart, as a part of their median: 0 for equal ones.
    pub(super) fn spreads(&self) -> Figures {
        let medians = self.medians();
        let mut spreads = self.each(|sorted| {
            let first = sorted.first().copied().unwrap_or_default();
            sorted.last().copied().unwrap_or_default() - first
        });
        for (name, spread) in &mut spreads {
            let median = medians.get(name).copied().unwrap_or_default();
            *spread = if median == 0.0 { 0.0 } else { *spread / median };
        }
        spreads
    }

    /// Something of the sorted values of each figure that every round has.
    fn each(&self, of: impl Fn(&[f64]) -> f64) -> Figures {
        let Some(first) = self.rounds.first() else {
            return Figures::new();
        };
        let values = |name: &String| {
            let values: Option<Vec<f64>> = self
                .rounds
                .iter()
                .map(|round| round.get(name).copied())
                .collect();
            let mut values = values?;
            values.sort_by(f64::total_cmp);
            Some(values)
        };
        first
            .keys()
            .filter_map(|name| Some((name.clone(), of(&values(name)?))))
            .collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const CELL: Cell = Cell {
        work: Work::RoundTrips,
        streams: 1,
    };

    #[test]
    fn a_run_is_told_per_second_and_per_message() {
        let times = Times::new().unwrap();
        times.record(Duration::from_micros(100));
        times.record(Duration::from_micros(300));
        let tally = Tally {
            sent: 128,
            arrived: 128,
            count: 2,
            failed: 0,
        };
        let sample = Sample::untimed((tally, Duration::from_millis(500))).with_times(times);
        let inlet = Counted {
            role: "inlet",
            id: 1,
        };
        let (before, after) = (Duration::from_secs(1), Duration::from_micros(1_000_050));
        let figures = of(
            Work::RoundTrips,
            &sample,
            &[inlet],
            vec![Some(before)],
            vec![Some(after)],
        );
        assert_eq!(figures["per_s"], 4.0);
        assert!((figures["cpu_us_each"] - 25.0).abs() < 1e-6, "{figures:?}");
        assert_eq!(figures["cpu_us_each"], figures["inlet_cpu_us_each"]);
        assert!((figures["p50_us"] - 100.0).abs() < 1.0, "{figures:?}");
        assert!((figures["max_us"] - 300.0).abs() < 1.0, "{figures:?}");
    }

    #[test]
    fn bulk_is_told_per_gibibyte_and_unknown_cpu_is_left_out() {
        let tally = Tally::transfer(1 << 30, 1 << 30).unwrap();
        let sample = Sample::untimed((tally, Duration::from_secs(8)));
        let figures = of(Work::Upload, &sample, &[], Vec::new(), Vec::new());
        assert!((figures["gbit_per_s"] - 1.073_741_824).abs() < 1e-9);
        assert!(!figures.contains_key("cpu_s_per_gib"));
        assert!(!figures.contains_key("p50_us"));
    }

    #[test]
    fn rounds_have_a_median_and_a_spread() {
        let mut measured = Measured::new(CELL, WayKind::Portal);
        assert!(measured.medians().is_empty());
        for value in [4.0, 1.0, 2.0] {
            measured.rounds.push([("per_s".into(), value)].into());
        }
        assert_eq!(measured.medians()["per_s"], 2.0);
        assert_eq!(measured.spreads()["per_s"], 1.5);
        measured.rounds.push([("per_s".into(), 4.0)].into());
        assert_eq!(measured.medians()["per_s"], 3.0);
    }
}

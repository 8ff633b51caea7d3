//! How many pairings came in one second at most, lately.

use crate::limits::PARK_PEAK_SPAN;
use crate::time::Instant;

/// The peak over the current and the last `limits::PARK_PEAK_SPAN`, by whole seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peak {
    second: u64,
    in_second: usize,
    span: u64,
    in_span: usize,
    in_last_span: usize,
}

impl Peak {
    /// One pairing.
    pub(super) fn note(&mut self, now: Instant) {
        self.turn(now);
        let second = now.since(Instant::ZERO).as_secs();
        if second != self.second {
            (self.second, self.in_second) = (second, 0);
        }
        self.in_second += 1;
        self.in_span = self.in_span.max(self.in_second);
    }

    /// The peak, in pairings per second.
    pub(super) fn get(&mut self, now: Instant) -> usize {
        self.turn(now);
        self.in_span.max(self.in_last_span)
    }

    fn turn(&mut self, now: Instant) {
        let span = now.since(Instant::ZERO).as_secs() / PARK_PEAK_SPAN.as_secs();
        if span != self.span {
            self.in_last_span = if span == self.span + 1 {
                self.in_span
            } else {
                0
            };
            (self.span, self.in_span) = (span, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn a_burst_counts_for_one_to_two_spans() {
        let at = |seconds: f64| Instant::ZERO + Duration::from_secs_f64(seconds);
        let mut peak = Peak::default();
        for (t, n) in [(1.0, 1), (1.5, 2), (2.1, 2), (29.9, 2)] {
            peak.note(at(t));
            assert_eq!(peak.get(at(t)), n);
        }
        assert_eq!(peak.get(at(59.9)), 2);
        assert_eq!(peak.get(at(60.0)), 0);
        peak.note(at(200.0));
        assert_eq!(peak.get(at(200.0)), 1);
    }
}

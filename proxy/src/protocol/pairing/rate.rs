//! How many parked legs an outlet should have, by how fast its legs were used lately.

use crate::limits::{LEGS_PARKED_MAX, PARK_PEAK_SPAN, PARK_WANT_MIN};
use crate::time::{Duration, Instant};

/// Peak pairings in any one second of the current and the last `PARK_PEAK_SPAN`.
#[derive(Debug, Default)]
pub(super) struct Rate {
    second: Instant,
    count: usize,
    span: Instant,
    peak: usize,
    last_peak: usize,
}

impl Rate {
    /// A leg was paired.
    pub fn note(&mut self, now: Instant) {
        if now.since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.count = 0;
        }
        let spans = now.since(self.span);
        if spans >= PARK_PEAK_SPAN {
            self.last_peak = if spans >= PARK_PEAK_SPAN * 2 {
                0
            } else {
                self.peak
            };
            self.peak = 0;
            self.span = now;
        }
        self.count += 1;
        self.peak = self.peak.max(self.count);
    }

    /// How many legs should be parked.
    pub fn target(&self) -> usize {
        let peak = self.peak.max(self.last_peak);
        (2 * peak + PARK_WANT_MIN).clamp(PARK_WANT_MIN, LEGS_PARKED_MAX)
    }
}

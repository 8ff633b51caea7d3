//! Authority time: what the authority's clock says, as far as this node can know.
//!
//! The last answer to TIME plus what the injected monotonic clock has counted since (CLOCK_BOOTTIME: it counts suspend).
//! Before the first answer: the wall clock. After it, stepping the wall clock changes nothing.

use crypto::UnixTime;

use super::io::Now;
use crate::limits::TIME_ROUND_TRIP_MAX;
use crate::time::{Duration, Instant};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthorityClock {
    /// It was `millis` at the instant.
    known: Option<(Instant, u64)>,
}

impl AuthorityClock {
    /// Takes an answer to TIME that was asked at `asked`. The authority read its clock after
    /// that, so this node's idea of its time is never behind, and ahead by at most the round
    /// trip: what has expired at the authority is never valid here. Returns whether it was taken;
    /// an answer that took too long says too little.
    pub fn learn(&mut self, now: Instant, asked: Instant, unix_millis: u64) -> bool {
        let taken = now.since(asked) <= TIME_ROUND_TRIP_MAX;
        if taken {
            self.known = Some((asked, unix_millis));
        }
        taken
    }

    /// Authority time in milliseconds.
    pub fn millis(&self, now: Now) -> u64 {
        match self.known {
            None => now.wall_millis,
            Some((at, millis)) => {
                let elapsed = now.mono.since(at).as_millis();
                millis.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
            }
        }
    }

    /// Authority time in seconds.
    pub fn now(&self, now: Now) -> UnixTime {
        UnixTime(self.millis(now) / 1000)
    }

    /// When it will be (or was) `time`, on the monotonic clock.
    pub fn instant_of(&self, now: Now, time: UnixTime) -> Instant {
        let millis = self.millis(now);
        let then = time.0.saturating_mul(1000);
        if then >= millis {
            now.mono + Duration::from_millis(then - millis)
        } else {
            now.mono - Duration::from_millis(millis - then)
        }
    }

    /// By how much the wall clock is ahead, in milliseconds.
    pub fn wall_ahead(&self, now: Now) -> Option<i64> {
        self.known?;
        let ahead = i128::from(now.wall_millis) - i128::from(self.millis(now));
        Some(i64::try_from(ahead).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64, wall_secs: u64) -> Now {
        Now {
            mono: Instant::from_nanos(secs * 1_000_000_000),
            wall_millis: wall_secs * 1000,
        }
    }

    #[test]
    fn the_wall_clock_counts_only_before_the_first_answer() {
        let mut clock = AuthorityClock::default();
        assert_eq!(clock.now(at(10, 5000)), UnixTime(5000));
        assert!(clock.learn(at(10, 0).mono, at(9, 0).mono, 1_000_000));
        assert_eq!(clock.now(at(10, 5000)), UnixTime(1001));
        assert_eq!(clock.now(at(20, 0)), UnixTime(1011));
        assert_eq!(clock.wall_ahead(at(20, 5000)), Some((5000 - 1011) * 1000));
    }

    #[test]
    fn an_answer_that_took_too_long_is_not_taken() {
        let mut clock = AuthorityClock::default();
        assert!(!clock.learn(at(10, 0).mono, at(6, 0).mono, 1_000_000));
        assert_eq!(clock.wall_ahead(at(10, 5000)), None);
    }

    #[test]
    fn instants_and_times_agree() {
        let mut clock = AuthorityClock::default();
        clock.learn(at(10, 0).mono, at(10, 0).mono, 1_000_000);
        assert_eq!(clock.instant_of(at(15, 0), UnixTime(1060)), at(70, 0).mono);
        assert_eq!(clock.instant_of(at(15, 0), UnixTime(1002)), at(12, 0).mono);
    }
}

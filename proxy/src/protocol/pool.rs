//! How many lanes, circuits and parked legs there should be, and when to try again: pure functions
//! of (now, events, randomness). The portals own the connections; a pool only counts them.
//!
//! The rules (architecture.md, "Pools"; promise 6 of reliability.md): one lane per inlet portal,
//! made when the portal starts and replaced before it is an hour old; four parked legs per served
//! address, more when the relay asks; 50 ms … 1.5 s between dials of something that is wanted,
//! about 10 s after a refusal; every wait is drawn, so that a thousand nodes which lost the same
//! relay don't come back at the same instant.

mod circuits;

pub use circuits::CircuitPool;

use crypto::Random;

use crate::limits::{
    BACKOFF_FIRST, BACKOFF_FORGET, BACKOFF_MAX, BACKOFF_REFUSED, LANE_LIFE, LEGS_DIALING_MAX,
    PARKED_FIRST, PARKED_KEPT, PARKED_MAX,
};
use crate::time::{Duration, Instant};

/// Draws a time from half of `most` to `most`.
pub fn jitter(most: Duration, random: &mut dyn Random) -> Duration {
    let mut draw = [0; 4];
    random.fill(&mut draw);
    let half = most / 2;
    half + half.mul_f64(f64::from(u32::from_be_bytes(draw)) / f64::from(u32::MAX))
}

/// What kind of failure a wait follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody was there, or the connection broke: it may work any moment.
    Lost,
    /// Somebody said no: asking again at once would get the same answer.
    Refused,
}

/// When to try again: 50 ms doubling to 1.5 s, or about 10 s after a refusal.
///
/// Success does not shorten the next wait, time does: a peer that accepts and drops us at once,
/// again and again, must not make us dial twenty times a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    not_before: Instant,
}

impl Backoff {
    /// An attempt failed. Failures while a wait is on (the other legs of a relay that went away)
    /// count as the same one, except that a refusal makes the wait long.
    pub fn failed(&mut self, now: Instant, failure: Failure, random: &mut dyn Random) {
        if now < self.not_before && failure == Failure::Lost {
            return;
        }
        if now.since(self.not_before) > BACKOFF_FORGET {
            self.failures = 0;
        }
        let most = match failure {
            Failure::Refused => BACKOFF_REFUSED,
            Failure::Lost => {
                let doubled = BACKOFF_FIRST.saturating_mul(1 << self.failures.min(10));
                doubled.min(BACKOFF_MAX)
            }
        };
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + jitter(most, random);
    }

    /// There is news that may make an attempt succeed: don't wait.
    pub fn reset(&mut self) {
        *self = Backoff::default();
    }

    /// Not before then.
    pub fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// The lane of an inlet portal: at most one that takes streams and one that is being made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LanePool {
    building: bool,
    /// When the ready lane should be replaced.
    ready: Option<Instant>,
    backoff: Backoff,
}

impl LanePool {
    /// Whether to begin a lane now; it counts as begun if so.
    pub fn begin(&mut self, now: Instant) -> bool {
        let begin = self.next_timer() <= now;
        self.building |= begin;
        begin
    }

    /// The lane that was being made is ready. The one before, if any, should retire.
    pub fn on_ready(&mut self, now: Instant, random: &mut dyn Random) {
        self.building = false;
        // Half of the hour at the latest, so that the replacement has the other half to succeed
        // in while the relay or the authority is away.
        self.ready = Some(now + LANE_LIFE / 2 + jitter(LANE_LIFE / 4, random));
    }

    /// The lane that was being made failed.
    pub fn on_failed(&mut self, now: Instant, failure: Failure, random: &mut dyn Random) {
        self.building = false;
        self.backoff.failed(now, failure, random);
    }

    /// The ready lane is gone.
    pub fn on_lost(&mut self, now: Instant, failure: Failure, random: &mut dyn Random) {
        self.ready = None;
        if !self.building {
            self.backoff.failed(now, failure, random);
        }
    }

    /// The ready lane takes no new streams soon: replace it now.
    pub fn replace(&mut self, now: Instant) {
        if self.ready.is_some() {
            self.ready = Some(now);
        }
    }

    /// Something changed that may make an attempt succeed: don't wait.
    pub fn wake(&mut self) {
        self.backoff.reset();
    }

    /// When [`LanePool::begin`] will say yes.
    pub fn next_timer(&self) -> Instant {
        match (self.building, self.ready) {
            (true, _) => Instant::FAR_FUTURE,
            (false, Some(replace_at)) => replace_at.max(self.backoff.not_before()),
            (false, None) => self.backoff.not_before(),
        }
    }
}

/// The parked legs of one served address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkPool {
    target: usize,
    /// The relay asked for so many last.
    raised: Instant,
    dialing: usize,
    parked: usize,
    backoff: Backoff,
}

impl Default for ParkPool {
    fn default() -> Self {
        ParkPool {
            target: PARKED_FIRST,
            raised: Instant::ZERO,
            dialing: 0,
            parked: 0,
            backoff: Backoff::default(),
        }
    }
}

impl ParkPool {
    /// How many legs to dial now; they count as dialing.
    pub fn begin(&mut self, now: Instant) -> usize {
        if now < self.backoff.not_before() {
            return 0;
        }
        // Legs that are too many then are not closed, which could cross their pairing: they are
        // used up, and no others take their places.
        if now.since(self.raised) >= PARKED_KEPT {
            self.target = PARKED_FIRST;
        }
        let missing = self.missing();
        self.dialing += missing;
        missing
    }

    fn missing(&self) -> usize {
        let have = self.dialing + self.parked;
        // While nothing is parked after a failure, one leg tries for all of them.
        let alone = self.parked == 0 && self.backoff.failures() > 0;
        let at_once = if alone { 1 } else { LEGS_DIALING_MAX };
        self.target
            .saturating_sub(have)
            .min(at_once.saturating_sub(self.dialing))
    }

    /// A dialing leg is connected, and parked as far as this end knows.
    pub fn on_parked(&mut self) {
        self.dialing = self.dialing.saturating_sub(1);
        self.parked += 1;
    }

    /// A dialing leg failed.
    pub fn on_failed(&mut self, now: Instant, failure: Failure, random: &mut dyn Random) {
        self.dialing = self.dialing.saturating_sub(1);
        self.backoff.failed(now, failure, random);
    }

    /// A parked leg was paired: it is a handshake's now.
    pub fn on_paired(&mut self) {
        self.parked = self.parked.saturating_sub(1);
    }

    /// A parked leg was lost or refused.
    pub fn on_lost(&mut self, now: Instant, failure: Failure, random: &mut dyn Random) {
        self.parked = self.parked.saturating_sub(1);
        self.backoff.failed(now, failure, random);
    }

    /// The relay wants `more` legs than are parked with it.
    pub fn raise(&mut self, now: Instant, more: usize) {
        self.raised = now;
        self.target = self
            .target
            .max(self.parked.saturating_add(more))
            .min(PARKED_MAX);
    }

    /// Something changed that may make an attempt succeed: don't wait.
    pub fn wake(&mut self) {
        self.backoff.reset();
    }

    /// Legs are parked under another session from now on: the ones that are there end by
    /// themselves, and count no more.
    pub fn start_over(&mut self) {
        self.dialing = 0;
        self.parked = 0;
        self.backoff.reset();
    }

    /// Legs that are parked.
    pub fn parked(&self) -> usize {
        self.parked
    }

    /// When [`ParkPool::begin`] will give more than zero.
    pub fn next_timer(&self) -> Instant {
        if self.missing() == 0 {
            Instant::FAR_FUTURE
        } else {
            self.backoff.not_before()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::SeededRandom;

    const fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn wait(backoff: &Backoff, now: Instant) -> Duration {
        backoff.not_before().since(now)
    }

    #[test]
    fn waits_double_up_to_a_second_and_a_half_and_are_drawn() {
        let mut random = SeededRandom::new(1);
        let mut backoff = Backoff::default();
        let mut now = at(0);
        for most in [50, 100, 200, 400, 800, 1500, 1500, 1500] {
            backoff.failed(now, Failure::Lost, &mut random);
            let drawn = wait(&backoff, now);
            let most = Duration::from_millis(most);
            assert!(drawn >= most / 2 && drawn <= most, "{drawn:?} of {most:?}");
            now = backoff.not_before();
        }
        backoff.failed(now, Failure::Refused, &mut random);
        assert!(wait(&backoff, now) >= Duration::from_secs(5));
        assert!(wait(&backoff, now) <= BACKOFF_REFUSED);
    }

    #[test]
    fn a_burst_counts_once_and_a_quiet_time_is_forgiven() {
        let mut random = SeededRandom::new(2);
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            backoff.failed(at(0), Failure::Lost, &mut random);
        }
        assert_eq!(backoff.failures(), 1);
        let later = backoff.not_before() + BACKOFF_FORGET + Duration::from_millis(1);
        backoff.failed(later, Failure::Lost, &mut random);
        assert!(wait(&backoff, later) <= BACKOFF_FIRST);
        backoff.reset();
        assert_eq!(backoff.not_before(), Instant::ZERO);
    }

    #[test]
    fn a_peer_that_lets_us_in_and_drops_us_is_not_dialed_in_a_loop() {
        let mut random = SeededRandom::new(3);
        let mut pool = ParkPool::default();
        let (mut now, mut dials) = (at(0), 0);
        while now < at(60_000) {
            for _ in 0..pool.begin(now) {
                dials += 1;
                pool.on_parked();
                pool.on_lost(now, Failure::Lost, &mut random);
            }
            now = pool.next_timer().max(now + Duration::from_millis(1));
        }
        assert!((40..=120).contains(&dials), "{dials} dials in a minute");
    }

    #[test]
    fn one_lane_is_built_at_a_time_and_replaced_before_its_hour() {
        let mut random = SeededRandom::new(4);
        let mut pool = LanePool::default();
        assert!(pool.begin(at(0)));
        assert!(!pool.begin(at(0)));
        assert_eq!(pool.next_timer(), Instant::FAR_FUTURE);
        pool.on_ready(at(10), &mut random);
        let replace = pool.next_timer().since(at(10));
        assert!(
            replace >= LANE_LIFE / 2 && replace <= LANE_LIFE * 3 / 4,
            "{replace:?}"
        );
        assert!(!pool.begin(at(20)));
        assert!(pool.begin(pool.next_timer()));
        pool.on_failed(at(5_000_000), Failure::Lost, &mut random);
        assert!(pool.next_timer() > at(5_000_000));
        pool.on_ready(at(6_000_000), &mut random);
        pool.replace(at(6_000_001));
        assert!(pool.begin(at(6_000_001)));
    }

    #[test]
    fn parked_legs_are_four_and_as_many_as_asked_up_to_the_limit() {
        let mut pool = ParkPool::default();
        assert_eq!(pool.begin(at(0)), PARKED_FIRST);
        assert_eq!(pool.begin(at(0)), 0);
        for _ in 0..PARKED_FIRST {
            pool.on_parked();
        }
        assert_eq!((pool.parked(), pool.next_timer()), (4, Instant::FAR_FUTURE));
        pool.on_paired();
        assert_eq!(pool.begin(at(1)), 1);
        pool.on_parked();
        pool.raise(at(2), 6);
        assert_eq!(pool.begin(at(2)), 6);
        (0..6).for_each(|_| pool.on_parked());
        pool.raise(at(3), usize::MAX);
        let mut total = pool.parked();
        while let more @ 1.. = pool.begin(at(3)) {
            assert!(more <= LEGS_DIALING_MAX);
            (0..more).for_each(|_| pool.on_parked());
            total += more;
        }
        assert_eq!(total, PARKED_MAX);
        // A minute later they are used up without others taking their places.
        for _ in 0..(PARKED_MAX - PARKED_FIRST) {
            pool.on_paired();
            assert_eq!(pool.begin(at(60_003)), 0);
        }
        pool.on_paired();
        assert_eq!(pool.begin(at(60_003)), 1);
        pool.start_over();
        assert_eq!(pool.parked(), 0);
    }
}

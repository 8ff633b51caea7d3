//! How many circuits a bundle keeps ready, and when one is made or retired.
//!
//! A direction that proves to be bulk needs a circuit now, and making one takes a leg, a pairing
//! and a handshake: some are ready beforehand, made off the path of any byte.
//!
//! # How many
//! ```text
//! target = 2                                     while no direction was bulk in the last minute
//!          clamp(most in use at once + 2, 4, 64) since one was
//! ```
//! A warm circuit costs four sockets in three processes, and a handshake every few minutes. Most
//! portals carry queries, and never use one; so a bundle begins with two, not with four: one for
//! the first transfer and one for when that is lost or being replaced. The first use says what kind
//! of portal it is, and four and more are there some milliseconds later. A direction that finds none
//! meanwhile goes on on the lane, and moves when there is one: it is never refused.
//!
//! What is *wanted* counts like what is in use. The most of the last minute is remembered, so what
//! the pool has beyond its target has been idle for all of that minute: one of them, the oldest, is
//! retired every five seconds. Growing is fast and shrinking slow.
//!
//! # How fast
//! At most eight at once; after a failure one tries for all of them, 50 ms … 1.5 s apart.

use crypto::Random;

use super::{Backoff, Failure, jitter};
use crate::limits::{
    CIRCUIT_LIFE, CIRCUIT_PEAK_SPAN, CIRCUIT_SHRINK, CIRCUITS_BUILDING_MAX, CIRCUITS_FIRST,
    CIRCUITS_HELD_BACK, CIRCUITS_MIN, CIRCUITS_READY_MAX, CIRCUITS_SPARE,
};
use crate::time::Instant;

/// Parts of the span over which the peak is taken.
const PARTS: usize = 6;

/// The largest number that was noted in the last `CIRCUIT_PEAK_SPAN`, exact to a sixth of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Peak {
    /// One for each part of the span, and one for the part that has begun.
    parts: [u16; PARTS + 1],
    newest: u64,
}

impl Peak {
    fn part(now: Instant) -> u64 {
        let part = CIRCUIT_PEAK_SPAN / PARTS as u32;
        u64::try_from(now.as_nanos() as u128 / part.as_nanos()).unwrap_or(u64::MAX)
    }

    fn note(&mut self, now: Instant, value: u16) {
        let part = Peak::part(now);
        let len = self.parts.len() as u64;
        for gone in (self.newest + 1..=part).rev().take(self.parts.len()) {
            self.parts[(gone % len) as usize] = 0;
        }
        self.newest = self.newest.max(part);
        let place = &mut self.parts[(part % len) as usize];
        *place = value.max(*place);
    }

    fn get(&mut self, now: Instant) -> usize {
        self.note(now, 0);
        usize::from(self.parts.iter().copied().max().unwrap_or(0))
    }
}

/// The circuits of one bundle, counted. The portal owns them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitPool {
    peak: Peak,
    /// By the peak when it was last looked at; later it can only be less.
    target: usize,
    building: usize,
    ready: usize,
    backoff: Backoff,
    /// A bound of the process held it back until then.
    held_back: Instant,
    shrink_at: Instant,
}

impl Default for CircuitPool {
    fn default() -> Self {
        CircuitPool {
            peak: Peak::default(),
            target: CIRCUITS_FIRST,
            building: 0,
            ready: 0,
            backoff: Backoff::default(),
            held_back: Instant::ZERO,
            shrink_at: Instant::ZERO,
        }
    }
}

impl CircuitPool {
    /// The pool of the bundle that takes over from this one's: nothing is made yet, and what was
    /// in use lately counts.
    #[must_use]
    pub fn heir(&self) -> CircuitPool {
        CircuitPool {
            peak: self.peak,
            target: self.target,
            ..CircuitPool::default()
        }
    }

    /// When a circuit that is ready now begins no more directions: at half of its life at the
    /// earliest, so that those that were made together are not replaced together.
    pub fn retire_at(now: Instant, random: &mut dyn Random) -> Instant {
        now + jitter(CIRCUIT_LIFE, random)
    }

    /// So many were in use at once, and so many more were wanted.
    pub fn on_demand(&mut self, now: Instant, peak: u16, wanted: u16) {
        self.peak.note(now, peak.saturating_add(wanted));
        self.look(now);
    }

    fn look(&mut self, now: Instant) {
        self.target = match self.peak.get(now) {
            0 => CIRCUITS_FIRST,
            peak => (peak + CIRCUITS_SPARE).clamp(CIRCUITS_MIN, CIRCUITS_READY_MAX),
        };
    }

    /// How many circuits are due now. None of them is counted before [`began`](Self::began).
    pub fn due(&mut self, now: Instant) -> usize {
        if now < self.not_before() {
            return 0;
        }
        self.look(now);
        self.missing()
    }

    fn missing(&self) -> usize {
        // While nothing is ready after a failure, one tries for all of them.
        let alone = self.ready == 0 && self.backoff.failures() > 0;
        let at_once = if alone { 1 } else { CIRCUITS_BUILDING_MAX };
        self.target
            .saturating_sub(self.building + self.ready)
            .min(at_once.saturating_sub(self.building))
    }

    fn not_before(&self) -> Instant {
        self.backoff.not_before().max(self.held_back)
    }

    /// A circuit was begun.
    pub fn began(&mut self) {
        self.building += 1;
    }

    /// Something else than this pool allows none now, although they are due.
    pub fn hold_back(&mut self, now: Instant) {
        self.held_back = now + CIRCUITS_HELD_BACK;
    }

    /// A circuit that was being made is ready.
    pub fn on_ready(&mut self) {
        self.building = self.building.saturating_sub(1);
        self.ready += 1;
    }

    /// A circuit that was being made failed.
    pub fn on_failed(&mut self, now: Instant, failure: Failure, random: &mut dyn Random) {
        self.building = self.building.saturating_sub(1);
        self.backoff.failed(now, failure, random);
    }

    /// A ready circuit was lost.
    pub fn on_lost(&mut self, now: Instant, random: &mut dyn Random) {
        self.ready = self.ready.saturating_sub(1);
        self.backoff.failed(now, Failure::Lost, random);
    }

    /// A ready circuit was retired: it counts no more.
    pub fn on_retired(&mut self) {
        self.ready = self.ready.saturating_sub(1);
    }

    /// Whether one circuit should be retired because there are too many; asked again five seconds
    /// later at the earliest if so.
    pub fn is_over(&mut self, now: Instant) -> bool {
        if self.ready <= CIRCUITS_FIRST || now < self.shrink_at {
            return false;
        }
        self.shrink_at = now + CIRCUIT_SHRINK;
        self.look(now);
        self.ready > self.target
    }

    /// What was being made was given up.
    pub fn gave_up(&mut self) {
        self.building = 0;
    }

    /// Whether an attempt failed, and none was forgiven since.
    pub fn is_failing(&self) -> bool {
        self.backoff.failures() > 0
    }

    /// Something changed that may make an attempt succeed: don't wait.
    pub fn wake(&mut self) {
        self.backoff.reset();
        self.held_back = Instant::ZERO;
    }

    /// Circuits that are being made.
    pub fn building(&self) -> usize {
        self.building
    }

    /// Circuits that are ready and not retired.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// The most that were in use or wanted at once lately.
    pub fn peak(&self) -> usize {
        usize::from(self.peak.parts.iter().copied().max().unwrap_or(0))
    }

    /// When [`due`](Self::due) will give more than zero; early rather than late.
    pub fn next_due(&self) -> Instant {
        if self.missing() == 0 {
            Instant::FAR_FUTURE
        } else {
            self.not_before()
        }
    }

    /// When to ask [`is_over`](Self::is_over).
    pub fn next_shrink(&self) -> Instant {
        if self.ready > CIRCUITS_FIRST {
            self.shrink_at
        } else {
            Instant::FAR_FUTURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BACKOFF_REFUSED;
    use crate::time::Duration;
    use crypto::SeededRandom;
    use proptest::prelude::*;

    const fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// Makes what is due at once, without failure.
    fn fill(pool: &mut CircuitPool, now: Instant) {
        while let due @ 1.. = pool.due(now) {
            assert!(due <= CIRCUITS_BUILDING_MAX);
            (0..due).for_each(|_| pool.began());
            (0..due).for_each(|_| pool.on_ready());
        }
    }

    #[test]
    fn a_portal_of_queries_keeps_two_and_its_first_transfer_makes_it_four() {
        let mut pool = CircuitPool::default();
        fill(&mut pool, at(0));
        assert_eq!((pool.ready(), pool.next_due()), (2, Instant::FAR_FUTURE));
        assert_eq!(pool.next_shrink(), Instant::FAR_FUTURE);
        pool.on_demand(at(10), 1, 0);
        assert_eq!(pool.due(at(10)), 2);
        fill(&mut pool, at(10));
        assert_eq!(pool.ready(), CIRCUITS_MIN);
    }

    #[test]
    fn what_is_wanted_counts_like_what_is_in_use_up_to_the_limit() {
        let mut pool = CircuitPool::default();
        fill(&mut pool, at(0));
        pool.on_demand(at(10), 2, 7);
        fill(&mut pool, at(10));
        assert_eq!(pool.ready(), 2 + 7 + CIRCUITS_SPARE);
        pool.on_demand(at(20), u16::MAX, u16::MAX);
        fill(&mut pool, at(20));
        assert_eq!(pool.ready(), CIRCUITS_READY_MAX);
    }

    #[test]
    fn it_shrinks_by_one_in_five_seconds_after_a_minute_of_less() {
        let mut pool = CircuitPool::default();
        pool.on_demand(at(0), 10, 0);
        fill(&mut pool, at(0));
        assert_eq!(pool.ready(), 12);
        let (mut now, mut shrunk) = (at(0), Vec::new());
        while pool.ready() > CIRCUITS_FIRST {
            now = pool.next_shrink().max(now);
            assert!(now < at(300_000), "it shrinks to the end");
            if pool.is_over(now) {
                pool.on_retired();
                shrunk.push(now);
            }
            assert_eq!(pool.due(now), 0, "nothing is made that would be retired");
        }
        assert!(shrunk[0] >= at(60_000) && shrunk[0] <= at(75_000));
        assert!(
            shrunk
                .windows(2)
                .all(|two| two[1].since(two[0]) >= CIRCUIT_SHRINK)
        );
        assert_eq!(shrunk.len(), 10);
    }

    #[test]
    fn a_use_that_is_said_again_keeps_the_pool() {
        let mut pool = CircuitPool::default();
        for second in 0..600 {
            let now = at(second * 1000);
            if second % 10 == 0 {
                pool.on_demand(now, 5, 0);
            }
            fill(&mut pool, now);
            assert!(!pool.is_over(now));
            assert_eq!(pool.ready(), 7);
        }
    }

    #[test]
    fn the_bundle_that_takes_over_begins_with_what_was_in_use() {
        let mut pool = CircuitPool::default();
        pool.on_demand(at(0), 9, 0);
        fill(&mut pool, at(0));
        let mut heir = pool.heir();
        assert_eq!((heir.ready(), heir.building()), (0, 0));
        fill(&mut heir, at(5));
        assert_eq!(heir.ready(), 11);
    }

    #[test]
    fn a_pool_that_is_held_back_asks_again_and_news_wake_it() {
        let mut pool = CircuitPool::default();
        pool.hold_back(at(0));
        assert_eq!((pool.due(at(1)), pool.next_due()), (0, at(250)));
        assert_eq!(pool.due(at(250)), 2);
        let mut random = SeededRandom::new(1);
        pool.began();
        pool.on_failed(at(250), Failure::Refused, &mut random);
        assert!(pool.next_due() >= at(5_250));
        pool.wake();
        assert_eq!(pool.due(at(251)), 2);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Demand(u16, u16),
        Dial,
        Ready,
        Fail(bool),
        Lose,
        Shrink,
        Wake,
        HoldBack,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (1u64..20_000).prop_map(Step::Wait),
            1 => (0u16..100, 0u16..100).prop_map(|(peak, wanted)| Step::Demand(peak, wanted)),
            4 => Just(Step::Dial),
            6 => Just(Step::Ready),
            2 => any::<bool>().prop_map(Step::Fail),
            2 => Just(Step::Lose),
            2 => Just(Step::Shrink),
            1 => Just(Step::Wake),
            1 => Just(Step::HoldBack),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// Whatever happens: never past the bounds, no attempt before its time, no timer that is
        /// due and brings nothing, and full again as soon as attempts succeed.
        #[test]
        fn it_keeps_its_bounds_and_fills_again(seed: u64, steps in steps()) {
            let mut random = SeededRandom::new(seed);
            let mut pool = CircuitPool::default();
            let mut now = at(0);
            for step in steps {
                match step {
                    Step::Wait(millis) => now = now + Duration::from_millis(millis),
                    Step::Demand(peak, wanted) => pool.on_demand(now, peak, wanted),
                    Step::Dial => {
                        let expected = pool.next_due();
                        let due = pool.due(now);
                        prop_assert!(due == 0 || expected <= now);
                        (0..due).for_each(|_| pool.began());
                        prop_assert!(pool.next_due() > now, "a timer that brings nothing");
                    }
                    Step::Ready if pool.building() > 0 => pool.on_ready(),
                    Step::Fail(refused) if pool.building() > 0 => {
                        let failure = if refused { Failure::Refused } else { Failure::Lost };
                        pool.on_failed(now, failure, &mut random);
                    }
                    Step::Lose if pool.ready() > 0 => pool.on_lost(now, &mut random),
                    Step::Shrink => {
                        if pool.is_over(now) {
                            pool.on_retired();
                        }
                        prop_assert!(pool.next_shrink() > now, "a timer that brings nothing");
                    }
                    Step::Wake => pool.wake(),
                    Step::HoldBack => pool.hold_back(now),
                    Step::Ready | Step::Fail(_) | Step::Lose => {}
                }
                prop_assert!(pool.building() <= CIRCUITS_BUILDING_MAX);
                prop_assert!(pool.building() + pool.ready() <= CIRCUITS_READY_MAX);
            }
            // From here on nothing fails: full after one last wait.
            (0..pool.building()).for_each(|_| pool.on_ready());
            let due = pool.next_due();
            if due < Instant::FAR_FUTURE {
                prop_assert!(due <= now + BACKOFF_REFUSED);
                fill(&mut pool, due.max(now));
            }
            prop_assert_eq!(pool.next_due(), Instant::FAR_FUTURE);
            prop_assert!(pool.ready() >= CIRCUITS_FIRST);
        }
    }
}

//! What is remembered of members that made trouble: outlets that failed, inlets that were denied.
//! Both fade by themselves, and neither grows past its bound: then the entry that would fade first
//! makes room.

use std::collections::BTreeMap;

use crypto::Id;

use crate::ids::{AddressHash, SessionId};
use crate::limits::{
    DENIED_FORGET, DENIED_MAX, DENIED_WAIT_FIRST, DENIED_WAIT_MAX, OUTLET_FAILED,
    OUTLETS_FAILED_MAX,
};
use crate::time::{Duration, Instant};

type Place = (AddressHash, Id);

/// Drops what has faded, then what fades first, until there is room for one more.
fn make_room<V>(
    marks: &mut BTreeMap<Place, V>,
    max: usize,
    now: Instant,
    fades: impl Fn(&V) -> Instant,
) {
    if marks.len() < max {
        return;
    }
    marks.retain(|_, mark| fades(mark) > now);
    while marks.len() >= max {
        let first = marks.iter().min_by_key(|(_, mark)| fades(mark));
        let Some(place) = first.map(|(place, _)| *place) else {
            return;
        };
        marks.remove(&place);
    }
}

/// Outlets that did not answer a pairing, by address and member.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<Place, (Instant, SessionId)>);

impl Failures {
    /// It failed now; `session` is the one that its leg belonged to.
    pub fn note(&mut self, now: Instant, address: AddressHash, outlet: Id, session: SessionId) {
        make_room(&mut self.0, OUTLETS_FAILED_MAX, now, |(at, _)| {
            *at + OUTLET_FAILED
        });
        self.0.insert((address, outlet), (now, session));
    }

    /// A leg came under that session: under another one than failed, the outlet was started anew.
    pub fn on_leg(&mut self, address: AddressHash, outlet: Id, session: SessionId) {
        let place = (address, outlet);
        if self
            .0
            .get(&place)
            .is_some_and(|(_, failed)| *failed != session)
        {
            self.0.remove(&place);
        }
    }

    /// Whether it failed lately.
    pub fn has_failed(&self, now: Instant, address: &AddressHash, outlet: &Id) -> bool {
        let mark = self.0.get(&(*address, *outlet));
        mark.is_some_and(|(at, _)| now.since(*at) < OUTLET_FAILED)
    }
}

#[derive(Debug)]
struct Denied {
    until: Instant,
    wait: Duration,
}

/// Inlets that an outlet's policy denied, by address and member.
#[derive(Debug, Default)]
pub(super) struct Denials(BTreeMap<Place, Denied>);

impl Denials {
    /// It was denied: it waits twice as long as the last time. Denials while it waits are those of
    /// legs that were under way, and count as the same one.
    pub fn note(&mut self, now: Instant, address: AddressHash, inlet: Id) {
        let fades = |denied: &Denied| denied.until + DENIED_FORGET;
        let place = (address, inlet);
        let wait = match self.0.get(&place) {
            Some(before) if now < before.until => return,
            Some(before) if now < fades(before) => (before.wait * 2).min(DENIED_WAIT_MAX),
            Some(_) | None => DENIED_WAIT_FIRST,
        };
        make_room(&mut self.0, DENIED_MAX, now, fades);
        let until = now + wait;
        self.0.insert(place, Denied { until, wait });
    }

    /// How long it has to wait still.
    pub fn wait(&self, now: Instant, address: &AddressHash, inlet: &Id) -> Option<Duration> {
        let denied = self.0.get(&(*address, *inlet))?;
        (now < denied.until).then(|| denied.until.since(now))
    }

    /// An outlet serves the address anew, maybe by another policy: everyone may ask it.
    pub fn forget(&mut self, address: &AddressHash) {
        self.0.retain(|(at, _), _| at != address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: AddressHash = AddressHash([1; 32]);
    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

    fn member(no: usize) -> Id {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(no as u64).to_be_bytes());
        Id(id)
    }

    #[test]
    fn waits_double_from_a_second_to_a_minute_and_are_forgotten() {
        let (mut denials, inlet) = (Denials::default(), member(1));
        let mut now = NOW;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            denials.note(now, ADDRESS, inlet);
            let wait = Duration::from_secs(seconds);
            assert_eq!(denials.wait(now, &ADDRESS, &inlet), Some(wait));
            denials.note(now, ADDRESS, inlet);
            assert_eq!(
                denials.wait(now, &ADDRESS, &inlet),
                Some(wait),
                "the same denial"
            );
            now = now + wait;
            assert_eq!(denials.wait(now, &ADDRESS, &inlet), None);
        }
        now = now + DENIED_FORGET;
        denials.note(now, ADDRESS, inlet);
        assert_eq!(denials.wait(now, &ADDRESS, &inlet), Some(DENIED_WAIT_FIRST));
        denials.forget(&ADDRESS);
        assert_eq!(denials.wait(now, &ADDRESS, &inlet), None);
    }

    #[test]
    fn marks_are_bounded_and_the_oldest_makes_room() {
        let (mut denials, mut failures) = (Denials::default(), Failures::default());
        for no in 0..DENIED_MAX + 10 {
            let now = NOW + Duration::from_micros(no as u64);
            denials.note(now, ADDRESS, member(no));
            failures.note(now, ADDRESS, member(no), SessionId([1; 16]));
        }
        assert_eq!(
            (denials.0.len(), failures.0.len()),
            (DENIED_MAX, OUTLETS_FAILED_MAX)
        );
        assert_eq!(denials.wait(NOW, &ADDRESS, &member(9)), None);
        assert!(denials.wait(NOW, &ADDRESS, &member(10)).is_some());
    }

    #[test]
    fn a_failure_is_over_after_its_time_or_with_a_new_session() {
        let (mut failures, outlet) = (Failures::default(), member(1));
        let [old, new] = [SessionId([1; 16]), SessionId([2; 16])];
        failures.note(NOW, ADDRESS, outlet, old);
        failures.on_leg(ADDRESS, outlet, old);
        assert!(failures.has_failed(NOW, &ADDRESS, &outlet));
        assert!(!failures.has_failed(NOW + OUTLET_FAILED, &ADDRESS, &outlet));
        failures.on_leg(ADDRESS, outlet, new);
        assert!(!failures.has_failed(NOW, &ADDRESS, &outlet));
    }
}

//! What must hold between two calls, for simulations and debug builds.

use std::collections::BTreeSet;

use super::{Pairing, Serving, State};
use crate::time::Instant;

impl Pairing {
    /// Checks it.
    ///
    /// # Panics
    /// When it doesn't hold.
    pub fn check(&self, now: Instant, serving: &impl Serving) {
        assert!(self.pairs.is_empty(), "pairs were not taken");
        let mut booked = 0;
        for (handle, leg) in &self.legs {
            if let State::Paired {
                with: Some(with), ..
            } = leg.state
            {
                let other = self.legs.get(&with).expect("a leg's counterpart is there");
                assert_ne!(leg.role, other.role, "an inlet is paired with an outlet");
                assert_eq!(leg.address, other.address, "pairs share their address");
                let back =
                    matches!(other.state, State::Paired { with, .. } if with == Some(*handle));
                assert!(back, "a leg is paired once");
            }
            assert!(
                leg.state != State::Waiting || leg.due.is_some(),
                "nobody waits without an end"
            );
        }
        let due = self.legs.iter();
        let due: BTreeSet<_> = due.filter_map(|(h, leg)| Some((leg.due?, *h))).collect();
        assert_eq!(due, self.due, "who has something due is in line");
        for (address, place) in &self.addresses {
            let served = serving.serving(address);
            let failed = |outlet: &_| self.failures.has_failed(now, address, outlet);
            assert_eq!(
                place.next_turn(now, &served, failed),
                None,
                "nobody waits for a leg that is parked for him"
            );
            booked += place
                .outlets
                .values()
                .map(|o| o.parked.len())
                .sum::<usize>();
            booked += place
                .inlets
                .values()
                .map(|i| i.waiting.len())
                .sum::<usize>();
            booked += place.outlets.values().map(|o| o.circuits).sum::<usize>();
            booked += place.inlets.values().map(|i| i.circuits).sum::<usize>();
            let waits = place.inlets.values().filter(|i| !i.waiting.is_empty());
            assert_eq!(waits.count(), place.turns.len(), "who waits has one turn");
        }
        assert_eq!(booked, self.legs.len(), "each leg in exactly one place");
    }
}

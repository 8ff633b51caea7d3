//! What must hold after every step. Simulations and tests call it; it walks all legs.

use super::{LegState, Pairing, Timer};
use crate::protocol::command::Role;

impl Pairing {
    /// Asserts what must hold after every step: each leg is in exactly the place that its state
    /// names, and the counts are those of the legs.
    pub fn check(&self) {
        for (&handle, leg) in &self.legs {
            let address = self.addresses.get(&leg.address);
            let inlet = address.and_then(|a| a.inlets.get(&leg.member));
            let outlet = address.and_then(|a| a.outlets.get(&leg.member));
            let waits = inlet.is_some_and(|inlet| inlet.waiting.contains(&handle));
            let parked = outlet.is_some_and(|o| o.parked.iter().any(|&(_, leg)| leg == handle));
            assert_eq!(
                waits,
                matches!(leg.state, LegState::Waiting(_)),
                "{handle:?}"
            );
            assert_eq!(parked, leg.state == LegState::Parked, "{handle:?}");
            if let LegState::Waiting(until) = leg.state {
                assert!(self.timers.contains(&(until, Timer::Wait(handle))));
            }
        }
        for (at, address) in &self.addresses {
            address.check();
            for (member, inlet) in &address.inlets {
                let circuits = self.legs.values().filter(|leg| {
                    let LegState::Paired { with, .. } = leg.state else {
                        return false;
                    };
                    let whole = self.legs.contains_key(&with);
                    whole && leg.role == Role::Inlet && (&leg.address, &leg.member) == (at, member)
                });
                assert_eq!(inlet.paired, circuits.count(), "circuits of an inlet");
            }
        }
    }
}

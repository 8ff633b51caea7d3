//! The policy of an inlet, changed or asked again while lanes are up.

use super::Inlet;
use super::place::{Building, Bundle, Place};
use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::protocol::command::Gate;
use crate::protocol::core::io::Now;
use crate::protocol::core::node::Node;
use crate::protocol::policy::Policy;
use crate::protocol::pool::Failure;

impl Inlet {
    /// Its policy.
    pub fn policy(&self) -> &Policy {
        &self.terms.config.allow
    }

    /// The policy is this one from now on: outlets that it does not allow are cut. Returns how many
    /// lanes were, or `None` if the policy is what it was.
    pub fn set_policy(&mut self, node: &mut Node, now: Now, policy: Policy) -> Option<usize> {
        if !self.terms.set_policy(policy) {
            return None;
        }
        // Who was denied may be allowed now: ask without the wait that follows a denial.
        self.trouble = None;
        self.set_gate(node, Gate::Wait);
        self.wake();
        let cut = self.review(node, now);
        node.out.status_changed();
        Some(cut)
    }

    /// Asks the policy again about every outlet that has a lane here. Returns how many were cut.
    pub fn review(&mut self, node: &mut Node, now: Now) -> usize {
        let judge = self.terms.judge();
        let mut cut = 0;
        let mut gone: Vec<Bundle> = Vec::new();
        for place in &mut self.places {
            if let Some(Building::Waiting(link, lane, _)) = &place.building
                && !lane.review(node, now, *link, &judge)
            {
                place.building = None;
                place
                    .pool
                    .on_failed(now.mono, Failure::Refused, node.out.random());
                cut += 1;
            }
            let mut denied: Vec<LinkId> = Vec::new();
            for (link, bundle) in &place.bundles {
                if !bundle.lane.review(node, now, *link, &judge) {
                    denied.push(*link);
                }
            }
            let mut live = false;
            for bundle in denied.iter().filter_map(|link| place.bundles.remove(link)) {
                live |= !bundle.lane.retiring;
                gone.push(bundle);
            }
            if live {
                place
                    .pool
                    .on_lost(now.mono, Failure::Refused, node.out.random());
            }
        }
        cut += gone.len();
        let why = CloseReason::NotAuthorized;
        for Bundle { circuits, .. } in gone {
            circuits.end(node, why);
        }
        // Others may go on: there is one outlet on an address as a rule, but its successor may be up.
        if cut > 0 && !self.places.iter().any(Place::is_ready) {
            self.trouble = Some((why.code(), "the policy does not allow the outlet".into()));
            self.set_gate(node, Gate::Reset(why));
        }
        self.tell_hosts(node);
        node.out.status_changed();
        cut
    }
}

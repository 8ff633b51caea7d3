//! The policy of an inlet, changed or asked again while lanes are up.

use super::{Building, Bundle, Inlet};
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
        if let Some(Building::Waiting(link, lane, _)) = &self.building
            && !lane.review(node, now, *link, &judge)
        {
            self.building = None;
            cut += 1;
        }
        let mut denied: Vec<LinkId> = Vec::new();
        for (link, bundle) in &self.bundles {
            if !bundle.lane.review(node, now, *link, &judge) {
                denied.push(*link);
            }
        }
        let gone = denied.iter().filter_map(|link| self.bundles.remove(link));
        let gone: Vec<Bundle> = gone.collect();
        cut += gone.len();
        let why = CloseReason::NotAuthorized;
        for Bundle { circuits, .. } in gone {
            circuits.end(node, why);
        }
        // Others may go on: there is one outlet on an address as a rule, but its successor may be up.
        if cut > 0 && self.bundles.values().all(|bundle| bundle.lane.retiring) {
            self.trouble = Some((why.code(), "the policy does not allow the outlet".into()));
            self.set_gate(node, Gate::Reset(why));
            self.pool
                .on_lost(now.mono, Failure::Refused, node.out.random());
        }
        node.out.status_changed();
        cut
    }
}

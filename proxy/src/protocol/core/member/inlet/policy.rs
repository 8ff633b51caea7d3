//! The policy of an inlet, changed or asked again while lanes are up.

use super::Inlet;
use crate::error::CloseReason;
use crate::protocol::command::Gate;
use crate::protocol::core::io::Now;
use crate::protocol::core::node::Node;
use crate::protocol::policy::Policy;

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
        let words = "the policy does not allow the outlet".into();
        let why = (CloseReason::NotAuthorized, words);
        self.take_out(node, now, why, |terms, node, link, lane| {
            !lane.review(node, now, link, &terms.judge())
        })
    }
}

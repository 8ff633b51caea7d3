//! The policy of an outlet, changed or asked again while lanes are up.

use super::Outlet;
use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::protocol::core::io::Now;
use crate::protocol::core::node::Node;
use crate::protocol::policy::Policy;

impl Outlet {
    /// Its policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The policy is this one from now on: inlets that it does not allow are cut. Returns how many
    /// lanes were, or `None` if the policy is what it was.
    pub fn set_policy(&mut self, node: &mut Node, now: Now, policy: Policy) -> Option<usize> {
        if self.policy == policy {
            return None;
        }
        self.policy = policy;
        self.policy_version += 1;
        let cut = self.review(node, now);
        node.out.status_changed();
        Some(cut)
    }

    /// Asks the policy again about every inlet that has a lane here. Returns how many were cut.
    pub fn review(&mut self, node: &mut Node, now: Now) -> usize {
        let judge = self.judge();
        let mut denied: Vec<LinkId> = Vec::new();
        for (link, lane) in self.lanes() {
            if !lane.review(node, now, link, &judge) {
                denied.push(link);
                // As after a denial at the door: the relay makes it wait.
                node.denied.push((self.address.clone(), lane.peer));
            }
        }
        self.take_out(node, &denied, CloseReason::NotAuthorized)
    }
}

//! A node's policies, changed while it runs, and asked again where they read the clock.

use super::MemberCore;
use super::{Inlet, Outlet};
use crate::error::Problem;
use crate::ids::PortalNo;
use crate::limits::POLICY_REVIEW;
use crate::protocol::command::Role;
use crate::protocol::core::admin::{AdminReply, PolicyChange};
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::policy::Policy;
use crate::time::Instant;

impl MemberCore {
    /// An administrator's change, which lasts until this process ends or reads its configuration again.
    pub(super) fn change_policy(&mut self, now: Now, change: &PolicyChange) -> AdminReply {
        let wanted = |role| change.role.is_none_or(|wanted| wanted == role);
        let inlets = self.inlets.iter().filter(|_| wanted(Role::Inlet));
        let inlets = inlets.filter(|it| it.is_wanted() && *it.via() == change.address);
        let outlets = self.outlets.iter().filter(|_| wanted(Role::Outlet));
        let outlets = outlets.filter(|it| it.is_wanted() && *it.address() == change.address);
        let portals = inlets.map(|it| (it.portal(), Role::Inlet));
        let portals: Vec<_> = portals
            .chain(outlets.map(|it| (it.portal(), Role::Outlet)))
            .collect();
        if portals.is_empty() {
            return AdminReply::refused(Problem::NoSuchPortal, &change.address);
        }
        let mut changed = Vec::new();
        for (portal, role) in portals {
            let cut = self.set_policy(now, portal, change.policy.clone());
            changed.push((role, cut));
        }
        AdminReply::PolicySet(changed)
    }

    /// Returns how many lanes were cut; `None` if there is no such portal or its policy is what it
    /// was.
    pub(super) fn set_policy(
        &mut self,
        now: Now,
        portal: PortalNo,
        policy: Policy,
    ) -> Option<usize> {
        let open = policy.allows_somebody();
        let rules = policy.rules().len();
        let node = &mut self.node;
        let inlet = self.inlets.iter_mut().find(|it| it.portal() == portal);
        let outlet = self.outlets.iter_mut().find(|it| it.portal() == portal);
        // What rules in audit mode said of peers is news under another policy.
        node.audited.clear();
        let (role, address, cut) = match (inlet, outlet) {
            (Some(inlet), _) => {
                let cut = inlet.set_policy(node, now, policy)?;
                (Role::Inlet, inlet.via().clone(), cut)
            }
            (None, Some(outlet)) => {
                let cut = outlet.set_policy(node, now, policy)?;
                (Role::Outlet, outlet.address().clone(), cut)
            }
            (None, None) => return None,
        };
        let level = if open { Level::Info } else { Level::Warn };
        let record = LogRecord::new(level, "the policy was changed")
            .with("portal", role.word())
            .with("address", address)
            .with("rules", rules)
            .with("lanes_cut", cut);
        node.out.log(if open {
            record
        } else {
            record.with("why", "no rule allows anybody, so nobody is allowed")
        });
        self.plan_review(now);
        Some(cut)
    }

    fn reads_now(&self) -> bool {
        let inlets = self.inlets.iter().map(Inlet::policy);
        let mut policies = inlets.chain(self.outlets.iter().map(Outlet::policy));
        policies.any(Policy::reads_now)
    }

    /// When policies that read the clock are asked next.
    pub(super) fn plan_review(&mut self, now: Now) {
        self.review_due = if self.reads_now() {
            now.mono + POLICY_REVIEW
        } else {
            Instant::FAR_FUTURE
        };
    }

    /// Asks policies that read the clock again, if that is due.
    pub(super) fn review_policies(&mut self, now: Now) {
        if self.review_due > now.mono {
            return;
        }
        let node = &mut self.node;
        let inlets = self.inlets.iter_mut();
        for inlet in inlets.filter(|inlet| inlet.policy().reads_now()) {
            inlet.review(node, now);
        }
        let outlets = self.outlets.iter_mut();
        for outlet in outlets.filter(|outlet| outlet.policy().reads_now()) {
            outlet.review(node, now);
        }
        self.plan_review(now);
    }
}

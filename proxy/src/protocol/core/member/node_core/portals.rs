//! Portals that come and go while a node runs, because its configuration was read again.
//!
//! A portal that ends takes nothing new: its port is closed, its legs leave the relay, its lanes
//! retire. Streams that are up go on, and so does all that watches over them (revocation, renewal of
//! credentials); when the last one has ended, the portal is forgotten.

use crypto::names::RelayAddress;

use super::{Inlet, MemberCore, Outlet};
use crate::error::CloseReason;
use crate::ids::PortalNo;
use crate::limits::SERVED_MAX;
use crate::protocol::command::{Command, Role};
use crate::protocol::core::config::Reconfigured;
use crate::protocol::core::io::{Level, LogRecord, Now};

/// The relay addresses that these serve, each once, and no more than a relay lets a session have.
pub(super) fn served_by(outlets: &[Outlet]) -> Vec<RelayAddress> {
    let mut addresses = Vec::new();
    for outlet in outlets.iter().filter(|outlet| outlet.is_wanted()) {
        if !addresses.contains(outlet.address()) {
            addresses.push(outlet.address().clone());
        }
    }
    addresses.truncate(SERVED_MAX);
    addresses
}

impl MemberCore {
    /// What the configuration says now.
    pub(super) fn reconfigure(&mut self, now: Now, changes: Reconfigured) {
        if self.stopping {
            return;
        }
        for (portal, policy) in changes.policies {
            self.set_policy(now, portal, policy);
        }
        for portal in changes.closed {
            self.close_portal(now, portal);
        }
        for config in changes.inlets {
            self.say(Role::Inlet, &config.via, "a portal was added");
            let mut inlet = Inlet::new(config, self.suites, self.workers);
            let gate = self.gate();
            inlet.set_gate(&mut self.node, gate);
            self.inlets.push(inlet);
        }
        for config in changes.outlets {
            self.say(Role::Outlet, &config.at, "a portal was added");
            let mut outlet = Outlet::new(config, self.suites, self.workers);
            outlet.on_served(&mut self.node, &self.relay);
            self.outlets.push(outlet);
        }
        let addresses = served_by(&self.outlets);
        self.relay.serve(addresses);
        self.plan_review(now);
        self.node.out.status_changed();
    }

    fn close_portal(&mut self, now: Now, portal: PortalNo) {
        let node = &mut self.node;
        let inlet = self.inlets.iter_mut().find(|it| it.portal() == portal);
        let outlet = self.outlets.iter_mut().find(|it| it.portal() == portal);
        let (role, address) = match (inlet, outlet) {
            (Some(inlet), _) => {
                inlet.close(node, now);
                (Role::Inlet, inlet.via().clone())
            }
            (None, Some(outlet)) => {
                outlet.close(node);
                (Role::Outlet, outlet.address().clone())
            }
            (None, None) => return,
        };
        let why = CloseReason::PortalClosed;
        node.out.command(Command::ClosePortal { portal, why });
        self.say(role, &address, "a portal was taken away");
    }

    fn say(&mut self, role: Role, address: &RelayAddress, what: &str) {
        let record = LogRecord::new(Level::Info, what.to_owned());
        let record = record.with("portal", role.word()).with("address", address);
        self.node.out.log(record);
    }

    /// Drops portals that have ended.
    pub(super) fn forget_closed_portals(&mut self) {
        self.inlets.retain(|inlet| !inlet.has_ended());
        self.outlets.retain(|outlet| !outlet.has_ended());
    }
}

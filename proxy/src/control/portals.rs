//! Portals that are to be opened, changed or closed: all of them when a node starts, some when its
//! configuration is read again.
//!
//! Whatever can fail does so while this is put together (an address that is in use, a name that can't
//! be served): what has been put together is carried out as a whole.

use std::net::SocketAddr;
use std::sync::Arc;

use crypto::names::{HostPort, Name, RelayAddress};

use super::admin::show;
use super::failure::Failure;
use super::log;
use super::worker_thread::Listener;
use crate::ids::PortalNo;
use crate::protocol::command::Role;
use crate::protocol::core::{
    InletConfig, Level, LogRecord, OutletConfig, Reconfigured, TargetConfig,
};
use crate::protocol::policy::Policy;
use crate::protocol::portal_limits::PortalLimits;

/// An inlet, as configured.
#[derive(Clone, Debug)]
pub struct Inlet {
    /// The relay address it goes to.
    pub via: RelayAddress,
    /// Where apps connect to. Port 0 asks the kernel for one.
    pub from: SocketAddr,
    /// Which outlets it talks to.
    pub allow: Policy,
    /// How many connections it has, and how long one may be idle.
    pub limits: Arc<PortalLimits>,
    /// Lanes at each worker, at least 1.
    pub lanes: u8,
    /// Each stream gets circuits of its own from its first byte on.
    pub dedicated: bool,
}

/// An outlet, as configured.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// The relay address it serves.
    pub at: RelayAddress,
    /// What it connects to: the first that answers, in this order.
    pub to: Vec<HostPort>,
    /// Whether that is told whom each connection is for.
    pub proxy_header: bool,
    /// Which inlets may.
    pub allow: Policy,
    /// How many connections it has, and how long one may be idle.
    pub limits: Arc<PortalLimits>,
}

/// A portal, as configured.
#[derive(Clone, Debug)]
pub enum Portal {
    /// Apps connect to it.
    Inlet(Inlet),
    /// It connects to a target.
    Outlet(Outlet),
}

impl Portal {
    /// Which end it is.
    pub fn role(&self) -> Role {
        match self {
            Portal::Inlet(_) => Role::Inlet,
            Portal::Outlet(_) => Role::Outlet,
        }
    }

    /// The relay address it goes to or serves.
    pub fn address(&self) -> &RelayAddress {
        match self {
            Portal::Inlet(inlet) => &inlet.via,
            Portal::Outlet(outlet) => &outlet.at,
        }
    }

    /// How many connections it has, and how long one may be idle.
    pub fn limits(&self) -> &Arc<PortalLimits> {
        match self {
            Portal::Inlet(inlet) => &inlet.limits,
            Portal::Outlet(outlet) => &outlet.limits,
        }
    }

    /// Whom it lets in.
    pub fn policy(&self) -> &Policy {
        match self {
            Portal::Inlet(inlet) => &inlet.allow,
            Portal::Outlet(outlet) => &outlet.allow,
        }
    }

    /// The same, taken out.
    pub fn into_policy(self) -> Policy {
        match self {
            Portal::Inlet(inlet) => inlet.allow,
            Portal::Outlet(outlet) => outlet.allow,
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct PortalChanges {
    /// What the core decides about.
    pub core: Reconfigured,
    /// The ports of new inlets.
    pub listeners: Vec<Listener>,
    /// Of new portals.
    pub limits: Vec<(PortalNo, Arc<PortalLimits>)>,
}

impl PortalChanges {
    /// A new portal. An inlet's port is bound now.
    ///
    /// # Errors
    /// The port can't be had, or the relay address can't be served.
    pub fn add(&mut self, no: PortalNo, portal: Portal) -> Result<(), Failure> {
        match portal {
            Portal::Inlet(inlet) => {
                self.listeners.push(Listener::bind(Some(no), inlet.from)?);
                warn_without_rules(Role::Inlet, &inlet.via, &inlet.allow);
                self.limits.push((no, inlet.limits));
                self.core.inlets.push(InletConfig {
                    portal: no,
                    via: inlet.via,
                    target: None,
                    allow: inlet.allow,
                    lanes: inlet.lanes,
                    dedicated: inlet.dedicated,
                });
            }
            Portal::Outlet(outlet) => {
                let name = target_name(&outlet.at)?;
                warn_without_rules(Role::Outlet, &outlet.at, &outlet.allow);
                self.limits.push((no, outlet.limits));
                self.core.outlets.push(OutletConfig {
                    portal: no,
                    at: outlet.at,
                    targets: vec![TargetConfig {
                        name,
                        to: outlet.to,
                        proxy_header: outlet.proxy_header,
                    }],
                    allow: outlet.allow,
                });
            }
        }
        Ok(())
    }
}

/// No rule allows nobody: better said at the start than found out by a denial.
fn warn_without_rules(role: Role, address: &RelayAddress, allow: &Policy) {
    if !allow.allows_somebody() {
        let what = "no rule is set, so nobody is allowed";
        let record = LogRecord::new(Level::Warn, what).with("portal", show::role(role));
        log::emit(&record.with("address", address).with("mend", "--allow RULE"));
    }
}

/// The target's name in OPEN: the relay address's. Every relay address but a reserved one is a
/// name.
fn target_name(at: &RelayAddress) -> Result<Name, Failure> {
    at.as_str()
        .parse()
        .map_err(|error| Failure::usage(format!("can't serve the relay address {at}"), error))
}

//! A node: what `inlet`, `outlet`, `run` and `enroll` start.

use std::net::SocketAddr;

use crypto::SystemRandom;
use crypto::identity::IdentitySecret;
use crypto::names::Name;
use crypto::suite::local_mask;
use crypto::ticket::Ticket;

use super::failure::{Exit, Failure, codes};
use super::files::{DirKind, Home, StateDir, corrupt};
use super::keys::{self, IDENTITY_FILE};
use super::metrics::http::MetricsListener;
use super::portals::{Portal, PortalChanges};
use super::process::{Launch, Running};
use super::ticket_file::{TicketFile, TicketSource};
use super::worker_thread::{EngineDecision, Listener};
use super::{clock, driver, log};
use crate::error::Problem;
use crate::ids::PortalNo;
use crate::protocol::core::{
    HeldRevocations, Level, LogRecord, MemberConfig, MemberCore, Membership, Reconfigured,
    RelayConfig, ServerConfig, ServerCore,
};
use crate::time::Duration;

/// A node, as configured.
pub struct NodePlan {
    /// What it is, in a word.
    pub what: &'static str,
    /// Where state is kept.
    pub home: Home,
    /// Its project, where that was said.
    pub project: Option<Name>,
    /// The name of its directory.
    pub node: Name,
    /// Where its ticket is.
    pub ticket: Option<TicketSource>,
    /// End when it can't become a member.
    pub exit_if_not_enrolled: bool,
    /// How old the authority's word on revocations may be while streams go on.
    pub revocation_max_age: Duration,
    /// Where a monitoring system may ask.
    pub metrics: Option<SocketAddr>,
    /// Within what time the keys of lanes in use are made anew.
    pub key_exchange_every: Duration,
    /// Its portals, in the order of their numbers.
    pub portals: Vec<Portal>,
}

/// A node that was opened and has not begun.
pub struct Node {
    plan: NodePlan,
    state: StateDir,
    identity: IdentitySecret,
    membership: Option<Membership>,
    revocations: Option<HeldRevocations>,
    ticket: Option<Ticket>,
}

impl Node {
    /// Opens the node's directory (or makes it, with a new identity), and reads its ticket if it
    /// is not a member yet. An unreadable ticket of a member is not looked at.
    ///
    /// # Errors
    /// The directory can't be used, the project is not known, or the ticket of a node that needs
    /// one is malformed.
    pub fn open(plan: NodePlan) -> Result<Node, Failure> {
        let ticket = plan.ticket.as_ref().map(TicketSource::read);
        let project = which_project(&plan, ticket.as_ref())?;
        let path = plan.home.node(&project, &plan.node);
        let state = StateDir::open(&path, DirKind::Node, plan.what)?;
        let identity = keys::load_or_create(&state, IDENTITY_FILE)?;
        let membership = load_membership(&state, &identity)?;
        let revocations = load_revocations(&state, membership.as_ref())?;
        let ticket = match (ticket, &membership) {
            (Some(Ok(ticket)), _) => Some(ticket),
            (Some(Err(failure)), None) => return Err(failure),
            (Some(Err(_)), Some(_)) | (None, _) => None,
        };
        if let (Some(ticket), Some(membership)) = (&ticket, &membership)
            && ticket.project != membership.project()
        {
            let what = format!("can't use the ticket: it is for another project named {project}");
            let why = format!("{} belongs to {}", path.display(), membership.project());
            return Err(Failure::new(codes::OTHER_PROJECT, Exit::Usage, what, why)
                .fix("choose another home with --home DIR, or another --node NAME"));
        }
        if ticket.is_none() && membership.is_none() && plan.exit_if_not_enrolled {
            let what = "this node is not a member";
            return Err(Failure::new(
                Problem::NoTicket.code(),
                Exit::Denied,
                what,
                "it has no ticket",
            )
            .fix("adit ticket create …, on the administrator's machine; then --ticket FILE"));
        }
        Ok(Node {
            plan,
            state,
            identity,
            membership,
            revocations,
            ticket,
        })
    }

    /// Its identity's id.
    pub fn id(&self) -> crypto::Id {
        self.identity.id()
    }

    /// Its membership, if it has one.
    pub fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// Binds its inlets and starts it. Must be called on a local task set of a Tokio runtime.
    ///
    /// # Errors
    /// An inlet can't listen, or something can't be started.
    pub fn start(self, engine: EngineDecision, on_ring: bool) -> Result<Running, Failure> {
        self.log_state();
        let ticket_file = self.ticket_file();
        let Node {
            plan,
            state,
            identity,
            membership,
            revocations,
            ticket,
        } = self;
        let metrics = plan.metrics.map(MetricsListener::bind).transpose()?;
        let mut portals = PortalChanges::default();
        for (no, portal) in (0..).map(PortalNo).zip(plan.portals) {
            portals.add(no, portal)?;
        }
        let PortalChanges {
            core: Reconfigured {
                inlets, outlets, ..
            },
            listeners,
            limits,
        } = portals;
        let config = MemberConfig {
            identity,
            membership,
            revocations,
            revocation_max_age: plan.revocation_max_age,
            key_exchange_every: plan.key_exchange_every,
            ticket,
            wish: Some(plan.node),
            suites: local_mask(),
            inlets,
            outlets,
            workers: engine.workers,
        };
        let core = MemberCore::new(config, Box::new(SystemRandom::new()), clock::now());
        let launch = Launch {
            what: plan.what,
            engine,
            on_ring,
            listeners,
            metrics,
            limits,
            state,
            store: None,
            ticket: ticket_file,
            exit_if_not_enrolled: plan.exit_if_not_enrolled,
        };
        Running::start(launch, core)
    }

    /// Starts it as a relay whose authority is elsewhere. Must be called on a local task set of a
    /// Tokio runtime.
    ///
    /// # Errors
    /// Something can't be started.
    pub fn start_relay(
        self,
        listener: Listener,
        engine: EngineDecision,
        on_ring: bool,
    ) -> Result<Running, Failure> {
        self.log_state();
        let ticket_file = self.ticket_file();
        let Node {
            plan,
            state,
            identity,
            membership,
            revocations,
            ticket,
        } = self;
        let metrics = plan.metrics.map(MetricsListener::bind).transpose()?;
        let name = plan.node;
        let relay = RelayConfig {
            identity,
            name,
            leg_address: None,
            membership,
            revocations,
            ticket,
        };
        let config = ServerConfig {
            authority: None,
            relay: Some(relay),
        };
        let core = ServerCore::new(config, Box::new(SystemRandom::new()), clock::now());
        let launch = Launch {
            what: plan.what,
            engine,
            on_ring,
            listeners: vec![listener],
            metrics,
            limits: Vec::new(),
            state,
            store: None,
            ticket: ticket_file,
            exit_if_not_enrolled: plan.exit_if_not_enrolled,
        };
        Running::start(launch, core)
    }

    fn log_state(&self) {
        let path = self.state.path().display();
        log::emit(&LogRecord::new(Level::Info, "state directory").with("path", path));
    }

    /// The ticket's file, where a new ticket in it would help.
    fn ticket_file(&self) -> Option<TicketFile> {
        match (&self.membership, &self.plan.ticket) {
            (None, Some(source)) => source.file().map(TicketFile::new),
            _ => None,
        }
    }
}

/// Reads the membership of a node's directory.
///
/// # Errors
/// The file is damaged, newer, or another identity's; it is left as it is.
pub fn load_membership(
    state: &StateDir,
    identity: &IdentitySecret,
) -> Result<Option<Membership>, Failure> {
    let Some(bytes) = state
        .read(driver::MEMBERSHIP_FILE)?
        .map(zeroize::Zeroizing::new)
    else {
        return Ok(None);
    };
    match Membership::decode(&bytes, &identity.id()) {
        Ok(membership) => Ok(Some(membership)),
        Err(error) => Err(corrupt(
            &state.path().join(driver::MEMBERSHIP_FILE),
            &error.to_string(),
        )),
    }
}

/// Reads what a node's directory holds of revocations. Without a membership nothing can be told of it.
///
/// # Errors
/// The file is damaged or newer; it is left as it is.
fn load_revocations(
    state: &StateDir,
    membership: Option<&Membership>,
) -> Result<Option<HeldRevocations>, Failure> {
    let Some(membership) = membership else {
        return Ok(None);
    };
    let Some(bytes) = state.read(driver::REVOCATIONS_FILE)? else {
        return Ok(None);
    };
    HeldRevocations::decode(&bytes, &membership.authority)
        .map(Some)
        .map_err(|why| corrupt(&state.path().join(driver::REVOCATIONS_FILE), &why))
}

/// The project that was named, else the ticket's, else the only one that knows this node.
fn which_project(
    plan: &NodePlan,
    ticket: Option<&Result<Ticket, Failure>>,
) -> Result<Name, Failure> {
    if let Some(name) = &plan.project {
        return match ticket {
            Some(Ok(ticket)) if ticket.project_name != *name => {
                let what = format!("can't use the ticket for the project {name}");
                let why = format!("it is for the project {}", ticket.project_name);
                Err(
                    Failure::new(codes::OTHER_PROJECT, Exit::Usage, what, why).fix(format!(
                        "leave --project out, or say --project {}",
                        ticket.project_name
                    )),
                )
            }
            _ => Ok(name.clone()),
        };
    }
    if let Some(Ok(ticket)) = ticket {
        return Ok(ticket.project_name.clone());
    }
    let known: Vec<Name> = plan
        .home
        .projects()?
        .into_iter()
        .filter(|project| StateDir::exists(&plan.home.node(project, &plan.node)))
        .collect();
    match (known.as_slice(), ticket) {
        ([only], _) => Ok(only.clone()),
        (_, Some(Err(failure))) => Err(failure.clone()),
        ([], _) => {
            let what = format!("there is no node {} yet", plan.node);
            let why = format!(
                "{} does not hold it, and there is no ticket",
                plan.home.path().display()
            );
            Err(
                Failure::new(Problem::NoTicket.code(), Exit::Denied, what, why).fix(
                    "adit ticket create …, on the administrator's machine; then --ticket FILE",
                ),
            )
        }
        (several, _) => {
            let names: Vec<&str> = several.iter().map(Name::as_str).collect();
            let what = format!("can't tell the project of the node {}", plan.node);
            Err(
                Failure::new(codes::WHICH_PROJECT, Exit::Usage, what, names.join(", "))
                    .fix("say which with --project NAME"),
            )
        }
    }
}

//! The authority and the relay in one process: what `serve` starts.

use std::net::{Ipv4Addr, SocketAddr};

use crypto::SystemRandom;
use crypto::names::Name;

use super::clock;
use super::failure::{Exit, Failure, codes};
use super::keys::{self, RELAY_FILE};
use super::log;
use super::metrics::http::MetricsListener;
use super::process::{Launch, Running};
use super::project::Project;
use super::worker_thread::{EngineDecision, Listener};
use crate::protocol::core::{
    AuthorityConfig, Level, LogRecord, RelayConfig, ServerConfig, ServerCore,
};
use crate::time::Duration;

/// The name of the relay that runs next to the authority.
const RELAY_NAME: &str = "relay";

/// What to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// The authority.
    pub authority: bool,
    /// A relay.
    pub relay: bool,
}

/// Where a project's server listens if nothing else was said: every IPv4 address, and the port
/// under which nodes look for it.
pub fn default_listen(project: &Project) -> SocketAddr {
    let port = project
        .row
        .addresses
        .first()
        .map_or(0, crypto::names::HostPort::port);
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

/// Starts it on a listener that was bound before. Must be called on a local task set of a Tokio
/// runtime.
///
/// # Errors
/// The state can't be read, or something can't be started.
pub fn start(
    project: Project,
    roles: Roles,
    credential_life: Duration,
    listener: Listener,
    metrics: Option<MetricsListener>,
    engine: EngineDecision,
    on_ring: bool,
) -> Result<Running, Failure> {
    let Project {
        state,
        authority,
        store,
        row,
    } = project;
    let path = state.path().display();
    log::emit(&LogRecord::new(Level::Info, "state directory").with("path", path));
    let relay = if roles.relay {
        let name: Name = RELAY_NAME.parse().map_err(|error| {
            Failure::new(codes::THREAD, Exit::Runtime, "can't name the relay", error)
        })?;
        let identity = keys::load_or_create(&state, RELAY_FILE)?;
        Some(RelayConfig {
            identity,
            name,
            leg_address: None,
            membership: None,
            revocations: None,
            ticket: None,
        })
    } else {
        None
    };
    let authority = roles.authority.then_some(AuthorityConfig {
        identity: authority,
        project: row,
        credential_life,
    });
    log::emit(&LogRecord::new(Level::Info, "listening").with("address", listener.address));
    let config = ServerConfig { authority, relay };
    let core = ServerCore::new(config, Box::new(SystemRandom::new()), clock::now());
    let launch = Launch {
        what: "serve",
        engine,
        on_ring,
        listeners: vec![listener],
        metrics,
        limits: Vec::new(),
        state,
        store: Some(store),
        ticket: None,
        exit_if_not_enrolled: false,
    };
    Running::start(launch, core)
}

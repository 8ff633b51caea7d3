//! What the cores are started with. All of it was checked before; a core can't fail to start.

use std::net::SocketAddr;

use crypto::identity::IdentitySecret;
use crypto::names::{HostPort, Name, RelayAddress};
use crypto::suite::SuiteMask;
use crypto::ticket::Ticket;

use super::membership::Membership;
use super::revocations::HeldRevocations;
use crate::ids::PortalNo;
use crate::protocol::policy::Policy;
use crate::protocol::store::ProjectRow;
use crate::time::Duration;

/// A node.
pub struct MemberConfig {
    /// Its identity. The private key never leaves the process.
    pub identity: IdentitySecret,
    /// What it persisted (`StateFile::Membership`, decoded by [`Membership::decode`]).
    pub membership: Option<Membership>,
    /// A ticket, for a node that is not a member yet.
    pub ticket: Option<Ticket>,
    /// The name it asks for where the ticket names none.
    pub wish: Option<Name>,
    /// What it persisted of revocations (`StateFile::Revocations`, decoded by
    /// [`HeldRevocations::decode`]).
    pub revocations: Option<HeldRevocations>,
    /// How old the authority's word on revocations may be while streams go on.
    pub revocation_max_age: Duration,
    /// Within what time the keys of a lane that is in use are made anew, and directions leave a
    /// circuit.
    pub key_exchange_every: Duration,
    /// Suites it offers: `crypto::suite::local_mask()`.
    pub suites: SuiteMask,
    /// Its inlets.
    pub inlets: Vec<InletConfig>,
    /// Its outlets.
    pub outlets: Vec<OutletConfig>,
    /// Workers of the process, at least 1 and at most `limits::WORKERS_MAX`: a portal has lanes at
    /// each of them.
    pub workers: u8,
}

/// An inlet. Its listening socket is the driver's business.
pub struct InletConfig {
    /// Its number.
    pub portal: PortalNo,
    /// The relay address it goes to.
    pub via: RelayAddress,
    /// The target's name in OPEN; the relay address's name if none is said.
    pub target: Option<Name>,
    /// Which outlets it talks to.
    pub allow: Policy,
    /// Lanes at each worker, at least 1; at all of them at most `limits::INLET_LANES_MAX`.
    pub lanes: u8,
    /// Each stream gets circuits of its own from its first byte on, if there are any in time.
    pub dedicated: bool,
}

/// An outlet.
pub struct OutletConfig {
    /// Its number.
    pub portal: PortalNo,
    /// The relay address it serves.
    pub at: RelayAddress,
    /// What may be opened through it.
    pub targets: Vec<TargetConfig>,
    /// Which inlets may.
    pub allow: Policy,
}

/// A target of an outlet.
pub struct TargetConfig {
    /// Its name in OPEN: the relay address's name, unless there are several.
    pub name: Name,
    /// Where it is: the first that answers, in this order. At least one and at most
    /// `limits::TARGET_PLACES_MAX`.
    pub to: Vec<HostPort>,
    /// Whether it wants a header of the PROXY protocol.
    pub proxy_header: bool,
}

/// What a configuration that was read again changes. A portal that it does not name notices nothing.
#[derive(Default)]
pub struct Reconfigured {
    /// The policies of portals that stay. Peers that are no longer allowed are cut; where the policy is
    /// what it was, nothing happens.
    pub policies: Vec<(PortalNo, Policy)>,
    /// Portals that end: they take nothing new, and go when their last stream has ended.
    pub closed: Vec<PortalNo>,
    /// New inlets, whose numbers no portal had before.
    pub inlets: Vec<InletConfig>,
    /// New outlets, likewise.
    pub outlets: Vec<OutletConfig>,
}

/// `adit serve`: at least one of the two.
pub struct ServerConfig {
    /// To be the authority.
    pub authority: Option<AuthorityConfig>,
    /// To be a relay.
    pub relay: Option<RelayConfig>,
}

/// The authority.
pub struct AuthorityConfig {
    /// Its identity: the project's key.
    pub identity: IdentitySecret,
    /// The project's row in the store.
    pub project: ProjectRow,
    /// Life of the credentials that it issues, at most an hour.
    pub credential_life: Duration,
}

/// A relay.
pub struct RelayConfig {
    /// Its identity, another than the authority's.
    pub identity: IdentitySecret,
    /// Its name, where this process is the authority too; else its ticket says it.
    pub name: Name,
    /// Where legs reach this very process, if not where sessions do.
    pub leg_address: Option<SocketAddr>,
    /// What it persisted. Only where the authority is another process.
    pub membership: Option<Membership>,
    /// What it persisted of revocations. Only where the authority is another process.
    pub revocations: Option<HeldRevocations>,
    /// A ticket of role `relay`. Only where the authority is another process.
    pub ticket: Option<Ticket>,
}

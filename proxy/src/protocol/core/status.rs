//! What `adit status` shows: a snapshot, made when asked for.

use std::net::SocketAddr;

use crypto::names::{Attributes, HostPort, Name, RelayAddress};
use crypto::{Id, UnixTime};

use super::io::LogRecord;
use super::tally::Tally;
use crate::error::Code;
use crate::ids::PortalNo;
use crate::protocol::command::Role;
use crate::time::Duration;

/// The state of a core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node's identity (a server's: the authority's, or else the relay's).
    pub id: Id,
    /// The project, once known.
    pub project: Option<(Name, Id)>,
    /// Whether this node is a member.
    pub membership: MembershipStatus,
    /// The authority session.
    pub authority: Reach,
    /// The relay session.
    pub relay: Reach,
    /// By how much the wall clock is ahead of the authority's time (negative: behind), in
    /// milliseconds; `None` before the first contact.
    pub clock_ahead_millis: Option<i64>,
    /// What a member knows of revocations.
    pub revocations: Option<RevocationsStatus>,
    /// The portals, in the order of their numbers.
    pub portals: Vec<PortalStatus>,
    /// The last denial, given or received, as it was logged.
    pub last_denial: Option<LogRecord>,
    /// What it has counted.
    pub tally: Tally,
    /// What a server adds.
    pub server: Option<ServerStatus>,
}

impl Status {
    /// Whether every portal can carry a connection now (and there is one), or the server serves.
    pub fn ready(&self) -> bool {
        match &self.server {
            Some(server) => server.ready,
            None => {
                let mut wanted = self.portals.iter().filter(|portal| !portal.closing);
                wanted.clone().next().is_some() && wanted.all(|portal| portal.ready)
            }
        }
    }
}

/// What a member knows of revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationsStatus {
    /// The number of the list that it holds; 0 for none.
    pub list: u64,
    /// How long ago the newest beacon was heard.
    pub heard: Option<Duration>,
    /// How long that may be while streams go on.
    pub max_age: Duration,
}

/// Whether a node is a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipStatus {
    /// A server's own authority: membership means nothing to it.
    Authority,
    /// Not a member, and this is why.
    NotEnrolled {
        /// Stable code of the reason.
        code: Code,
        /// The reason, and the command that mends it.
        why: String,
    },
    /// A ticket is being redeemed.
    Enrolling {
        /// For how long now.
        since: Duration,
    },
    /// A member.
    Enrolled {
        /// Its name.
        name: Name,
        /// Its attributes.
        attributes: Attributes,
        /// Serial of its credential.
        serial: u64,
        /// The credential's end.
        not_after: UnixTime,
        /// The end as seen from now, by authority time; zero when it is over.
        expires_in: Duration,
    },
}

/// Whether somebody is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing needs it.
    NotNeeded,
    /// Not now.
    Trying {
        /// For how long now.
        since: Duration,
        /// Failed attempts in a row.
        failures: u32,
        /// Why the last one failed.
        why: Option<String>,
    },
    /// A session is open.
    Reached {
        /// Where.
        at: SocketAddr,
        /// For how long now.
        since: Duration,
    },
}

/// The state of a portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalStatus {
    /// Its number.
    pub portal: PortalNo,
    /// Which end.
    pub role: Role,
    /// Its relay address.
    pub address: RelayAddress,
    /// It can carry a connection now: an inlet has a lane, an outlet has parked legs.
    pub ready: bool,
    /// It was taken out of the configuration, and goes when its last stream has ended.
    pub closing: bool,
    /// Lanes that are ready.
    pub lanes: usize,
    /// Legs that are parked (outlet).
    pub parked: usize,
    /// The circuits of its lanes.
    pub circuits: CircuitsStatus,
    /// What an outlet connects to.
    pub targets: Vec<HostPort>,
    /// The peers of its lanes: id and name.
    pub peers: Vec<(Id, String)>,
    /// Its policy pins the peer's id in every rule, so even the authority can't put another in
    /// its place.
    pub pinned: bool,
    /// The rules of its policy, a line each.
    pub rules: Vec<String>,
    /// Why it is not ready.
    pub why: Option<String>,
}

/// The circuits of a portal's bundles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CircuitsStatus {
    /// Those that take directions.
    pub ready: usize,
    /// Those that are being made; an outlet's are ready or not there.
    pub building: usize,
    /// Those that only end what they carry (inlet).
    pub retiring: usize,
    /// The most that were in use or wanted at once in the last minute (inlet).
    pub peak: usize,
}

impl std::ops::AddAssign for CircuitsStatus {
    fn add_assign(&mut self, other: CircuitsStatus) {
        self.ready += other.ready;
        self.building += other.building;
        self.retiring += other.retiring;
        self.peak += other.peak;
    }
}

/// What a server adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerStatus {
    /// It does what it was started for.
    pub ready: bool,
    /// Open authority sessions.
    pub authority_sessions: usize,
    /// Open relay sessions.
    pub relay_sessions: usize,
    /// Connections that have not shown who they are.
    pub strangers: usize,
    /// Relay addresses that are served now, with the members that serve them.
    pub served: Vec<(RelayAddress, Vec<Id>)>,
}

//! At a node: enrollment, inlets and outlets, and the node's identity.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args as ClapArgs, Subcommand, value_parser};
use crypto::names::{HostPort, Name, RelayAddress};

use crate::cli::values::{KeyExchangeEvery, Life, MaxAge};
use crate::limits::INLET_LANES_MAX;
use crate::protocol::portal_limits::{Limits, PortalLimits};

/// `adit enroll`
#[derive(Debug, ClapArgs)]
pub struct EnrollArgs {
    /// The node's state and ticket.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Flags of every command that runs a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
pub struct NodeArgs {
    /// The file with the enrollment ticket, or - for stdin (ADIT_TICKET holds the text itself)
    #[arg(long, env = "ADIT_TICKET_FILE", value_name = "FILE")]
    pub ticket: Option<PathBuf>,
    /// The name of this node's state directory [default: by its inlet or outlet]
    #[arg(long, env = "ADIT_NODE", value_name = "NAME")]
    pub node: Option<Name>,
    /// End when the ticket can't be redeemed, instead of waiting for a new one
    #[arg(long, env = "ADIT_EXIT_IF_NOT_ENROLLED")]
    pub exit_if_not_enrolled: bool,
    /// Cut streams when the authority has not spoken of revocations for so long, 5s to 1h [default: 5m]
    #[arg(long, env = "ADIT_REVOCATION_MAX_AGE", value_name = "TIME")]
    pub revocation_max_age: Option<MaxAge>,
    /// Make the keys of lanes in use anew within this time, 1s to 1h [default: 1h]
    #[arg(long, env = "ADIT_KEY_EXCHANGE_EVERY", value_name = "TIME")]
    pub key_exchange_every: Option<KeyExchangeEvery>,
}

/// Where a process tells its numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
pub struct MetricsArgs {
    /// Where to answer /metrics, /livez and /readyz over HTTP, such as 127.0.0.1:9464 [default: nowhere]
    #[arg(long, env = "ADIT_METRICS", value_name = "IP:PORT")]
    pub metrics: Option<SocketAddr>,
}

/// The limits of a portal.
#[derive(Clone, Copy, Debug, Default, ClapArgs)]
pub struct LimitArgs {
    /// Most connections at once; more are reset [default: what the process can carry]
    #[arg(long, env = "ADIT_MAX_STREAMS", value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub max_streams: Option<u32>,
    /// Reset a connection on which nothing moves for so long, such as 30s, 10m, 12h [default: never]
    #[arg(long, env = "ADIT_IDLE_TIMEOUT", value_name = "TIME")]
    pub idle_timeout: Option<Life>,
}

impl LimitArgs {
    /// What they mean.
    pub fn limits(&self) -> Limits {
        Limits {
            streams_max: self.max_streams,
            idle: self.idle_timeout.map(|life| life.0),
        }
    }

    /// The same, for the workers of a process.
    pub fn shared(&self) -> Arc<PortalLimits> {
        PortalLimits::new(self.limits())
    }
}

/// `adit inlet`
#[derive(Debug, ClapArgs)]
pub struct InletArgs {
    /// The node's state and ticket.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Its numbers.
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// The relay address that the outlet serves
    #[arg(long, env = "ADIT_VIA", value_name = "ADDRESS")]
    pub via: RelayAddress,
    /// Where apps connect to
    #[arg(long, env = "ADIT_FROM", value_name = "IP:PORT")]
    pub from: SocketAddr,
    /// Which outlets are trusted, such as postgres-outlet=true; repeat for alternatives
    #[arg(
        long = "allow",
        env = "ADIT_ALLOW",
        value_name = "RULE",
        value_delimiter = '\n'
    )]
    pub allow: Vec<String>,
    /// Its limits.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Connections to the outlet that streams share, at each worker: several lose less to a network that
    /// loses packets [default: 1]
    #[arg(long, env = "ADIT_LANES", value_name = "N", value_parser = value_parser!(u8).range(1..=i64::from(INLET_LANES_MAX)))]
    pub lanes: Option<u8>,
    /// Give each connection a tunnel of its own instead of a share of one: for networks that lose packets.
    /// Experimental: a stream was seen to hang
    #[arg(long, env = "ADIT_DEDICATED")]
    pub dedicated: bool,
    /// A command to start when the portal is ready, and to end with
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `adit outlet`
#[derive(Debug, ClapArgs)]
pub struct OutletArgs {
    /// The node's state and ticket.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Its numbers.
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// The relay address to serve
    #[arg(long, env = "ADIT_AT", value_name = "ADDRESS")]
    pub at: RelayAddress,
    /// The service that inlets reach; repeat for places to try in order, when one does not answer
    #[arg(
        long,
        env = "ADIT_TO",
        value_name = "HOST:PORT",
        required = true,
        value_delimiter = '\n'
    )]
    pub to: Vec<HostPort>,
    /// Tell the service the app's address and the inlet's id first (PROXY protocol, version 2)
    #[arg(long, env = "ADIT_SEND_PROXY_V2")]
    pub send_proxy_v2: bool,
    /// Which inlets may connect, such as postgres-inlet=true; repeat for alternatives
    #[arg(
        long = "allow",
        env = "ADIT_ALLOW",
        value_name = "RULE",
        value_delimiter = '\n'
    )]
    pub allow: Vec<String>,
    /// Its limits.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// The configuration that a command reads.
#[derive(Debug, ClapArgs)]
pub struct FileArgs {
    /// The configuration file
    #[arg(
        long,
        env = "ADIT_CONFIG",
        value_name = "FILE",
        default_value = "adit.toml"
    )]
    pub config: PathBuf,
}

/// `adit run`
#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// The configuration.
    #[command(flatten)]
    pub file: FileArgs,
    /// The node's state and ticket.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Its numbers.
    #[command(flatten)]
    pub metrics: MetricsArgs,
}

/// `adit identity …`
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Show the id (made if there is none yet), for `ticket create --for`
    Show(IdentityShowArgs),
    /// Change the key; the id, the membership and live connections stay
    Rotate(IdentityRotateArgs),
}

/// `adit identity rotate`
#[derive(Debug, ClapArgs)]
pub struct IdentityRotateArgs {
    /// The node
    #[arg(long, env = "ADIT_NODE", value_name = "NAME")]
    pub node: Option<Name>,
}

/// `adit identity show`
#[derive(Debug, ClapArgs)]
pub struct IdentityShowArgs {
    /// The node
    #[arg(long, env = "ADIT_NODE", value_name = "NAME")]
    pub node: Option<Name>,
}

//! Where the authority is: projects, `serve`, tickets, members and the audit.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum, value_parser};
use crypto::Id;
use crypto::names::{HostPort, Name, RelayAddress};

use super::{MetricsArgs, NodeArgs};
use crate::cli::values::{Attribute, CredentialTtl, Life, Noted};
use crate::limits::AUDIT_TAIL_MAX;

/// `adit project …`
#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// Create a project: its authority's key and the administrator's membership
    Create(ProjectCreateArgs),
}

/// `adit project create`
#[derive(Debug, ClapArgs)]
pub struct ProjectCreateArgs {
    /// Its name
    pub name: Name,
    /// Where nodes will reach the authority and relay
    #[arg(long, env = "ADIT_ADDRESS", value_name = "HOST:PORT")]
    pub address: HostPort,
    /// Where its store is.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Where the authority's store is.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct StoreArgs {
    /// A PostgreSQL database as the authority's store, postgres://USER@HOST:PORT/DATABASE; with a
    /// password only as ADIT_STORE [default: a file in the state directory]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// The file with that database's password (ADIT_STORE_PASSWORD_FILE)
    #[arg(long, value_name = "FILE")]
    pub store_password_file: Option<PathBuf>,
}

/// `adit serve`
#[derive(Debug, ClapArgs)]
pub struct ServeArgs {
    /// Only one of the two [default: both]
    #[arg(long, env = "ADIT_ROLE", value_enum)]
    pub role: Option<ServeRole>,
    /// Where to listen [default: 0.0.0.0 and the port of the project's address]
    #[arg(long, env = "ADIT_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Whether a relay passes bulk on in the kernel (splice), without copying it [default: on]
    #[arg(long, env = "ADIT_RELAY_SPLICE", value_enum, value_name = "ON|OFF")]
    pub relay_splice: Option<Switch>,
    /// How long credentials are valid, 10s to 1h [default: 1h]
    #[arg(long, env = "ADIT_CREDENTIAL_TTL", value_name = "TIME")]
    pub credential_ttl: Option<CredentialTtl>,
    /// Where the authority's store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// State and ticket of a relay whose authority is elsewhere.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Its numbers.
    #[command(flatten)]
    pub metrics: MetricsArgs,
}

/// A flag that can be turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Do it
    On,
    /// Don't
    Off,
}

/// `serve --role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServeRole {
    /// Carry ciphertext between members
    Relay,
    /// Enroll members and issue credentials
    Authority,
}

/// `adit ticket …`
#[derive(Debug, Subcommand)]
pub enum TicketCommand {
    /// Make a ticket and print it on stdout
    Create(Box<TicketCreateArgs>),
    /// List tickets (never their secrets)
    List,
    /// Take a ticket back: nobody redeems it any more
    Revoke(TicketRevokeArgs),
}

/// `adit ticket revoke`
#[derive(Debug, ClapArgs)]
pub struct TicketRevokeArgs {
    /// Its id, or the first 8 digits or more, as `ticket list` shows them; or the name that it gives
    #[arg(value_name = "ID|NAME")]
    pub ticket: String,
}

/// `adit ticket create`
#[derive(Debug, ClapArgs)]
pub struct TicketCreateArgs {
    /// The redeemer's name
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// What the redeemer is [default: member]
    #[arg(long, value_enum)]
    pub role: Option<TicketRole>,
    /// An attribute the redeemer gets; repeat for more
    #[arg(long = "attribute", value_name = "NAME=VALUE")]
    pub attributes: Vec<Attribute>,
    /// A relay address the redeemer may serve; repeat for more
    #[arg(long, value_name = "ADDRESS")]
    pub may_serve: Vec<RelayAddress>,
    /// A relay address the redeemer may connect to [default: all, or none with --may-serve]
    #[arg(long, value_name = "ADDRESS")]
    pub may_connect: Vec<RelayAddress>,
    /// How long it can be redeemed, such as 90s, 10m, 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub expires_in: Life,
    /// How many identities may redeem it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub uses: u32,
    /// The only identity that may redeem it (see `adit identity show`)
    #[arg(long = "for", value_name = "ID")]
    pub bound_to: Option<Id>,
    /// The member whose name the redeemer takes over; its membership ends then
    #[arg(long, value_name = "NAME")]
    pub replaces: Option<Name>,
}

/// `ticket create --role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TicketRole {
    /// An end of portals
    Member,
    /// A relay (`adit serve --role relay`), and nothing else
    Relay,
}

/// `adit member …`
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// List members with their attributes
    List,
    /// End a membership for good: its streams are cut now, wherever they are
    Revoke(MemberRevokeArgs),
}

/// `adit member revoke`
#[derive(Debug, ClapArgs)]
pub struct MemberRevokeArgs {
    /// The member's name or id, as `member list` shows them
    #[arg(value_name = "NAME|ID")]
    pub member: String,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `adit audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Print the last rows
    Tail(AuditTailArgs),
    /// Print all rows as JSON, one a line
    Export(AuditExportArgs),
    /// Check that no row was changed, taken out or moved
    Verify(AuditVerifyArgs),
}

/// `adit audit tail`
#[derive(Debug, ClapArgs)]
pub struct AuditTailArgs {
    /// How many rows
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = value_parser!(u64).range(0..=AUDIT_TAIL_MAX))]
    pub lines: u64,
    /// Go on with new rows, while the authority runs
    #[arg(long, short = 'f')]
    pub follow: bool,
}

/// `adit audit export`
#[derive(Debug, ClapArgs)]
pub struct AuditExportArgs {
    /// Only those behind the row of this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub behind: u64,
}

/// `adit audit verify`
#[derive(Debug, ClapArgs)]
pub struct AuditVerifyArgs {
    /// Rows that were exported from the first on, instead of the authority's [-: standard input]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A row's number and hash as they were noted earlier (verify and export print them): it must be
    /// there
    #[arg(long, value_name = "NUMBER:HASH")]
    pub head: Option<Noted>,
}

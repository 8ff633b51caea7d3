//! What was typed: flags and the environment, checked for form only. What it means is in
//! [`settings`](super::settings).
//!
//! Every flag `--some-flag` is also `ADIT_SOME_FLAG` in the environment and `some-flag` in the
//! configuration file of `run`; flags beat the environment, which beats the file. A list in the
//! environment has one entry a line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum, value_parser};
use crypto::Id;
use crypto::names::{HostPort, Name, RelayAddress};

use super::values::{
    Attribute, CredentialTtl, KeyExchangeEvery, Life, MaxAge, Moment, Noted, Seconds, Workers,
};
use crate::limits::{
    AUDIT_TAIL_MAX, BENCH_RATE_MAX, BENCH_ROUNDS_MAX, BENCH_SIZE_MAX, BENCH_STREAMS_MAX,
    INLET_LANES_MAX, SPIN_MAX,
};
use crate::protocol::portal_limits::{Limits, PortalLimits};

/// `--spin` at most, as clap wants it.
const SPIN_MAX_MICROS: i64 = SPIN_MAX.as_micros() as i64;

/// An end-to-end encrypted, mutually authorized portal for TCP.
#[derive(Debug, Parser)]
#[command(name = "adit", version, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub struct Args {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed while running, 2 wrong usage or configuration, 3 denied or not \
enrolled,
4 state directory missing, unsafe or in use, 5 not ready (health); `inlet … -- COMMAND` ends with \
the command's.

See it work in five seconds: adit demo";

/// Flags that every command takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
#[command(next_help_heading = "Everywhere")]
pub struct GlobalArgs {
    /// Where state is kept [default: ~/.adit]
    #[arg(long, global = true, env = "ADIT_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// The project, where the home holds several
    #[arg(long, global = true, env = "ADIT_PROJECT", value_name = "NAME")]
    pub project: Option<Name>,
    /// How bytes are moved [default: auto]
    #[arg(long, global = true, env = "ADIT_ENGINE", value_enum)]
    pub engine: Option<EngineArg>,
    /// Threads that move bytes, or auto: one for each core [default: 1]
    #[arg(long, global = true, env = "ADIT_WORKERS", value_name = "N|auto")]
    pub workers: Option<Workers>,
    /// Microseconds that a worker looks for work before it sleeps: answers come a little sooner, and cost
    /// more of the processor [default: 0]
    #[arg(long, global = true, env = "ADIT_SPIN", value_name = "MICROSECONDS", value_parser = value_parser!(u32).range(0..=SPIN_MAX_MICROS))]
    pub spin: Option<u32>,
    /// How the log on stderr looks [default: text]
    #[arg(long, global = true, env = "ADIT_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// How much is logged [default: info]
    #[arg(long, global = true, env = "ADIT_LOG_LEVEL", value_enum)]
    pub log_level: Option<LogLevel>,
    /// Print results and errors as JSON
    #[arg(long, global = true, env = "ADIT_JSON")]
    pub json: bool,
}

/// `--engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineArg {
    /// io_uring where the kernel and the sandbox allow it, else epoll
    Auto,
    /// io_uring or an error
    Uring,
    /// epoll
    Epoll,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line a fact, for people
    Text,
    /// One JSON object a line
    Json,
}

/// `--log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What failed
    Error,
    /// And what may fail soon
    Warn,
    /// And changes of state
    Info,
    /// And what led to them
    Debug,
}

impl LogLevel {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a project
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Run the project's authority and relay
    Serve(ServeArgs),
    /// Make, list and take back enrollment tickets
    #[command(subcommand)]
    Ticket(TicketCommand),
    /// Redeem a ticket: this node becomes a member
    Enroll(EnrollArgs),
    /// Open a local port that leads to an outlet
    Inlet(InletArgs),
    /// Serve a relay address with a local TCP service
    Outlet(OutletArgs),
    /// Run the inlets and outlets of a configuration file
    Run(RunArgs),
    /// What is connected, and why not
    Status(StatusArgs),
    /// What stands in the way of this machine's portals, and what mends it
    Doctor(DoctorArgs),
    /// Would a connection from here be allowed, and by which rule?
    Why(WhyArgs),
    /// The portals of this home, live
    Top(TopArgs),
    /// How much a running process logs
    #[command(subcommand)]
    Log(LogCommand),
    /// For probes: exit code 0 if the process is alive
    Health(HealthArgs),
    /// Check and explain policies, and change one in a running process
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Check a configuration file, and show what holds
    #[command(subcommand)]
    Config(ConfigCommand),
    /// List the project's members, and end memberships
    #[command(subcommand)]
    Member(MemberCommand),
    /// Read the authority's audit trail, and check that it is whole
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show this node's identity
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Everything in one process with an echo service
    Demo,
    /// Measure a portal, next to a direct run
    Bench(BenchArgs),
    /// Print a script that completes commands and flags in a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all commands
    Man(ManArgs),
}

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

/// Which process of this home is asked.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct StatusArgs {
    /// The node to ask [default: the only one, or the authority]
    #[arg(long, env = "ADIT_NODE", value_name = "NAME")]
    pub node: Option<Name>,
}

/// `adit doctor`
#[derive(Clone, Debug, ClapArgs)]
pub struct DoctorArgs {
    /// Also whether this configuration file can be run here
    #[arg(long, env = "ADIT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The node to look at [default: everything in this home]
    #[arg(long, env = "ADIT_NODE", value_name = "NAME")]
    pub node: Option<Name>,
}

/// `adit why`
#[derive(Clone, Debug, ClapArgs)]
pub struct WhyArgs {
    /// The relay address of the portal
    pub address: RelayAddress,
    /// The node to ask [default: every one that has such a portal]
    #[arg(long, env = "ADIT_NODE", value_name = "NAME")]
    pub node: Option<Name>,
}

/// `adit top`
#[derive(Clone, Debug, ClapArgs)]
pub struct TopArgs {
    /// How often it looks, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    pub interval: Seconds,
    /// End after so many looks [default: never]
    #[arg(long, value_name = "N")]
    pub count: Option<u32>,
    /// The node to look at [default: every process of this home]
    #[arg(long, env = "ADIT_NODE", value_name = "NAME")]
    pub node: Option<Name>,
}

/// `adit log …`
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Show the level of a running process, or change it
    Level(LogLevelArgs),
}

/// `adit log level`
#[derive(Clone, Debug, ClapArgs)]
pub struct LogLevelArgs {
    /// From now on, until the process ends [default: only show it]
    #[arg(value_enum)]
    pub level: Option<LogLevel>,
    /// The node to tell [default: every process of this home]
    #[arg(long, env = "ADIT_NODE", value_name = "NAME")]
    pub node: Option<Name>,
}

/// `adit health`
#[derive(Clone, Debug, ClapArgs)]
pub struct HealthArgs {
    /// Also require that the portal can carry a connection now
    #[arg(long)]
    pub ready: bool,
    /// The node to ask [default: the only one, or the authority]
    #[arg(long, env = "ADIT_NODE", value_name = "NAME")]
    pub node: Option<Name>,
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

/// `adit policy …`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Validate rules and print what each one says
    Check(PolicyCheckArgs),
    /// Say which rule decides about a member; nobody is asked
    Explain(Box<PolicyExplainArgs>),
    /// Give a portal of a running process other rules, until it ends or reads its configuration again
    Set(PolicySetArgs),
}

/// `adit policy check`
#[derive(Debug, ClapArgs)]
pub struct PolicyCheckArgs {
    /// Where the rules are.
    #[command(flatten)]
    pub rules: RulesArgs,
}

/// Where rules are that a command looks at.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct RulesArgs {
    /// A file with `allow`, `deny` and tables `rule`, and nothing else
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A configuration file: the rules of its portals [default: adit.toml]
    #[arg(long, env = "ADIT_CONFIG", value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// A rule instead of a file, such as postgres-inlet=true; repeat for alternatives
    #[arg(long = "allow", value_name = "RULE", conflicts_with = "file")]
    pub allow: Vec<String>,
}

/// `adit policy explain`
#[derive(Debug, ClapArgs)]
pub struct PolicyExplainArgs {
    /// Where the rules are.
    #[command(flatten)]
    pub rules: RulesArgs,
    /// The member's attributes, with commas between
    #[arg(long, value_name = "NAME=VALUE,…", value_delimiter = ',')]
    pub member_attributes: Vec<Attribute>,
    /// The relay address
    #[arg(long, value_name = "ADDRESS")]
    pub target: RelayAddress,
    /// The member's id [default: one that nobody has]
    #[arg(long, value_name = "ID")]
    pub member_id: Option<Id>,
    /// The member's name [default: somebody]
    #[arg(long, value_name = "NAME")]
    pub member_name: Option<Name>,
    /// The time, such as 2026-12-31T23:59:59Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<Moment>,
}

/// `adit policy set`
#[derive(Debug, ClapArgs)]
pub struct PolicySetArgs {
    /// The relay address of the portal
    #[arg(value_name = "ADDRESS")]
    pub address: RelayAddress,
    /// A file with `allow`, `deny` and tables `rule`, and nothing else
    #[arg(value_name = "FILE", required_unless_present = "allow")]
    pub file: Option<PathBuf>,
    /// A rule instead of a file, such as postgres-inlet=true; repeat for alternatives
    #[arg(long = "allow", value_name = "RULE", conflicts_with = "file")]
    pub allow: Vec<String>,
    /// Only this end, where the process has both
    #[arg(long, value_enum)]
    pub end: Option<End>,
    /// The node whose process it is [default: every one that has such a portal]
    #[arg(long, env = "ADIT_NODE", value_name = "NAME")]
    pub node: Option<Name>,
}

/// An end of a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum End {
    /// Where apps connect
    Inlet,
    /// What connects to the service
    Outlet,
}

/// `adit config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Validate a configuration file as adit run would
    Check(ConfigCheckArgs),
    /// Print what holds: the file's settings under flags and environment
    Show(ConfigShowArgs),
}

/// `adit config check`
#[derive(Debug, ClapArgs)]
pub struct ConfigCheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub file: FileArgs,
}

/// `adit config show`
#[derive(Debug, ClapArgs)]
pub struct ConfigShowArgs {
    /// What `adit run` takes.
    #[command(flatten)]
    pub run: RunArgs,
    /// Also where each value comes from: flag, environment, the file's line, or default
    #[arg(long)]
    pub origin: bool,
}

/// `adit bench`
#[derive(Clone, Debug, ClapArgs)]
pub struct BenchArgs {
    /// An inlet whose service sends back what it gets [default: a portal and a service of its own]
    #[arg(long, value_name = "HOST:PORT")]
    pub to: Option<HostPort>,
    /// The same service without the portal, to compare with
    #[arg(long, value_name = "HOST:PORT", requires = "to")]
    pub direct: Option<HostPort>,
    /// How many connections the workloads with several have
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u32).range(1..=BENCH_STREAMS_MAX))]
    pub streams: u32,
    /// Bytes of one message
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = value_parser!(u32).range(1..=BENCH_SIZE_MAX))]
    pub size: u32,
    /// Messages a second, over all connections, of the latency workload
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u32).range(1..=BENCH_RATE_MAX))]
    pub rate: u32,
    /// How long each workload runs, in seconds, such as 3 or 0.5
    #[arg(long, value_name = "SECONDS", default_value = "3")]
    pub secs: Seconds,
    /// How often each workload runs; the ways take turns
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u32).range(1..=BENCH_ROUNDS_MAX))]
    pub rounds: u32,
}

/// `adit completions`
#[derive(Clone, Debug, ClapArgs)]
pub struct CompletionsArgs {
    /// Whose script
    #[arg(value_enum)]
    pub shell: ShellArg,
}

/// The shells whose scripts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShellArg {
    /// adit completions bash > /etc/bash_completion.d/adit
    Bash,
    /// adit completions zsh > _adit, in a directory of fpath
    Zsh,
    /// adit completions fish > ~/.config/fish/completions/adit.fish
    Fish,
}

impl ShellArg {
    /// What makes its script.
    pub const fn generator(self) -> clap_complete::Shell {
        match self {
            ShellArg::Bash => clap_complete::Shell::Bash,
            ShellArg::Zsh => clap_complete::Shell::Zsh,
            ShellArg::Fish => clap_complete::Shell::Fish,
        }
    }
}

/// `adit man`
#[derive(Clone, Debug, ClapArgs)]
pub struct ManArgs {
    /// Write a page for each command there, such as /usr/local/share/man/man1
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_consistent() {
        Args::command().debug_assert();
    }
}

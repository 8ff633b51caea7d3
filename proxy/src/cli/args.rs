//! What was typed: flags and the environment, checked for form only. What it means is in
//! [`settings`](super::settings).
//!
//! Every flag `--some-flag` is also `ADIT_SOME_FLAG` in the environment and `some-flag` in the
//! configuration file of `run`; flags beat the environment, which beats the file. A list in the
//! environment has one entry a line.

mod authority;
mod look;
mod node;
mod policy;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum, value_parser};
use crypto::names::Name;

use super::values::Workers;
use crate::limits::SPIN_MAX;

pub use authority::{
    AuditCommand, AuditExportArgs, AuditTailArgs, AuditVerifyArgs, MemberCommand, MemberRevokeArgs,
    ProjectCommand, ProjectCreateArgs, ServeArgs, ServeRole, StoreArgs, Switch, TicketCommand,
    TicketCreateArgs, TicketRevokeArgs, TicketRole,
};
pub use look::{
    BenchArgs, CompletionsArgs, DoctorArgs, HealthArgs, LogCommand, LogLevelArgs, ManArgs,
    ShellArg, StatusArgs, TopArgs, WhyArgs,
};
pub use node::{
    EnrollArgs, FileArgs, IdentityCommand, IdentityRotateArgs, IdentityShowArgs, InletArgs,
    LimitArgs, MetricsArgs, NodeArgs, OutletArgs, RunArgs,
};
pub use policy::{
    ConfigCheckArgs, ConfigCommand, ConfigShowArgs, End, PolicyCheckArgs, PolicyCommand,
    PolicyExplainArgs, PolicySetArgs, RulesArgs,
};

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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_consistent() {
        Args::command().debug_assert();
    }
}

//! Policies and configurations: checked, explained, shown and set.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use crypto::Id;
use crypto::names::{Name, RelayAddress};

use super::{FileArgs, RunArgs};
use crate::cli::values::{Attribute, Moment};

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

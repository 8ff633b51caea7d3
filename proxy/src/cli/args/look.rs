//! To look at a process and to measure one: `status`, `health`, `doctor`, `why`, `top`, `log`, `bench`; and what
//! is made of this grammar, `completions` and `man`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum, value_parser};
use crypto::names::{HostPort, Name, RelayAddress};

use super::LogLevel;
use crate::cli::values::Seconds;
use crate::limits::{BENCH_RATE_MAX, BENCH_ROUNDS_MAX, BENCH_SIZE_MAX, BENCH_STREAMS_MAX};

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

//! Floor 4: the command line. [`args`] is what was typed, [`settings`] what it means; one
//! subcommand a file. Results go to stdout, everything else to stderr.

pub mod args;
mod audit;
mod bench;
mod checks;
mod config;
mod config_file;
mod demo;
mod doctor;
mod enroll;
mod health;
mod identity;
mod inlet;
mod log;
mod log_level;
mod manual;
mod member;
mod outlet;
mod output;
mod policy;
mod project;
mod reach;
mod rules;
mod run;
mod scratch;
mod serve;
mod settings;
mod status;
mod ticket;
mod top;
mod usage;
mod values;
mod why;

#[cfg(test)]
mod catalogue;
#[cfg(test)]
mod pages;

use std::process::ExitCode;

use clap::Parser;

use crate::control::failure::Failure;
use crate::control::worker_thread::{protect_memory, use_huge_pages};
use args::{
    Args, AuditCommand, Command, ConfigCommand, IdentityCommand, LogCommand, LogFormat,
    MemberCommand, PolicyCommand, ProjectCommand, TicketCommand,
};
use settings::Settings;

/// Runs the command that was typed and returns the process's exit code.
pub fn main() -> ExitCode {
    use_huge_pages(false);
    protect_memory();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            let typed: Vec<_> = std::env::args_os().skip(1).collect();
            let failure = usage::failure(&error, &typed);
            return ended(
                &failure,
                usage::wants_json(&typed, std::env::var_os("ADIT_JSON")),
            );
        }
        // Help and version are results.
        Err(help) => {
            return match output::text_as_is(&help.render().to_string()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => ended(&failure, false),
            };
        }
    };
    let json_errors = args.global.json || args.global.log_format == Some(LogFormat::Json);
    match dispatch(args) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => ended(&failure, json_errors),
    }
}

/// Whether a text is a configuration file, for tests that try many texts.
///
/// # Errors
/// What is wrong with it.
pub fn check_config(text: &str) -> Result<(), Failure> {
    config_file::ConfigFile::parse(text, "adit.toml").map(|_| ())
}

/// Says why the command failed, and ends it.
fn ended(failure: &Failure, json: bool) -> ExitCode {
    if json {
        output::say(&serde_json::json!({ "error": failure.to_json() }).to_string());
    } else {
        output::say(&failure.to_string());
    }
    ExitCode::from(failure.exit.number())
}

fn dispatch(args: Args) -> Result<u8, Failure> {
    let global = args.global;
    let settings = Settings::from_args(&global)?;
    match args.command {
        Command::Project(ProjectCommand::Create(args)) => project::create(&settings, &args),
        Command::Serve(args) => serve::run(&settings, &args),
        Command::Ticket(TicketCommand::Create(args)) => ticket::create(&settings, &args),
        Command::Ticket(TicketCommand::List) => ticket::list(&settings),
        Command::Ticket(TicketCommand::Revoke(args)) => ticket::revoke(&settings, &args),
        Command::Enroll(args) => enroll::run(&settings, args),
        Command::Inlet(args) => inlet::run(&settings, args),
        Command::Outlet(args) => outlet::run(&settings, args),
        Command::Run(args) => run::run(&global, args),
        Command::Status(args) => status::run(&settings, &args),
        Command::Health(args) => health::run(&settings, &args),
        Command::Doctor(args) => doctor::run(&settings, &args),
        Command::Why(args) => why::run(&settings, &args),
        Command::Top(args) => top::run(&settings, &args),
        Command::Log(LogCommand::Level(args)) => log_level::run(&settings, &args),
        Command::Policy(PolicyCommand::Check(args)) => policy::check(&settings, &args),
        Command::Policy(PolicyCommand::Explain(args)) => policy::explain(&settings, &args),
        Command::Policy(PolicyCommand::Set(args)) => policy::set(&settings, &args),
        Command::Config(ConfigCommand::Check(args)) => config::check(&settings, &args),
        Command::Config(ConfigCommand::Show(args)) => config::show(&global, &args),
        Command::Member(MemberCommand::List) => member::list(&settings),
        Command::Member(MemberCommand::Revoke(args)) => member::revoke(&settings, &args),
        Command::Audit(AuditCommand::Tail(args)) => audit::tail(&settings, &args),
        Command::Audit(AuditCommand::Export(args)) => audit::export(&settings, &args),
        Command::Audit(AuditCommand::Verify(args)) => audit::verify(&settings, &args),
        Command::Identity(IdentityCommand::Show(args)) => identity::show(&settings, &args),
        Command::Identity(IdentityCommand::Rotate(args)) => identity::rotate(&settings, &args),
        Command::Demo => demo::run(&settings),
        Command::Bench(args) => bench::run(&settings, &args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    }
}

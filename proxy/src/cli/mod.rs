//! Floor 4: the command line. [`args`] is what was typed, [`settings`] what it means; one
//! subcommand a file. Results go to stdout, everything else to stderr.

pub mod args;
mod config_file;
mod demo;
mod enroll;
mod health;
mod identity;
mod inlet;
mod log;
mod member;
mod outlet;
mod output;
mod project;
mod reach;
mod run;
mod serve;
mod settings;
mod status;
mod ticket;
mod values;

use std::process::ExitCode;

use clap::Parser;

use crate::control::failure::{Exit, Failure, codes};
use crate::control::worker_thread::{protect_memory, use_huge_pages};
use args::{
    Args, Command, IdentityCommand, LogFormat, MemberCommand, ProjectCommand, TicketCommand,
};
use settings::Settings;

/// Runs the command that was typed and returns the process's exit code.
pub fn main() -> ExitCode {
    use_huge_pages(false);
    protect_memory();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let json_errors = args.global.json || args.global.log_format == Some(LogFormat::Json);
    match dispatch(args) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if json_errors {
                eprintln!("{}", serde_json::json!({ "error": failure.to_json() }));
            } else {
                eprintln!("{failure}");
            }
            ExitCode::from(failure.exit.number())
        }
    }
}

/// Help and version on stdout; everything else is an error with our code in clap's words, which
/// suggest the near match.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        print!("{}", error.render());
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    eprint!("error[{}]: {text}", codes::USAGE);
    ExitCode::from(Exit::Usage.number())
}

fn dispatch(args: Args) -> Result<u8, Failure> {
    let global = args.global;
    let settings = Settings::from_args(&global)?;
    match args.command {
        Command::Project(ProjectCommand::Create(args)) => project::create(&settings, &args),
        Command::Serve(args) => serve::run(&settings, &args),
        Command::Ticket(TicketCommand::Create(args)) => ticket::create(&settings, &args),
        Command::Ticket(TicketCommand::List) => ticket::list(&settings),
        Command::Enroll(args) => enroll::run(&settings, args),
        Command::Inlet(args) => inlet::run(&settings, args),
        Command::Outlet(args) => outlet::run(&settings, args),
        Command::Run(args) => run::run(&global, args),
        Command::Status(args) => status::run(&settings, &args),
        Command::Health(args) => health::run(&settings, &args),
        Command::Member(MemberCommand::List) => member::list(&settings),
        Command::Identity(IdentityCommand::Show(args)) => identity::show(&settings, &args),
        Command::Demo => demo::run(&settings),
    }
}

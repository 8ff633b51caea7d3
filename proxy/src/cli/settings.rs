//! What the flags, the environment and the configuration file mean together.

use std::path::{Path, PathBuf};

use crypto::names::{HostPort, Name};
use zeroize::Zeroizing;

use super::args::{EngineArg, GlobalArgs, LogFormat, LogLevel, NodeArgs, StoreArgs};
use super::values::{KeyExchangeEvery, MaxAge, Workers};
use crate::control::failure::{Exit, Failure, codes};
use crate::control::files::Home;
use crate::control::store_place::{PostgresUrl, StorePlace};
use crate::control::ticket_file::TicketSource;
use crate::engine::Choice;
use crate::limits::{KEY_EXCHANGE_EVERY, REVOCATION_MAX_AGE, TARGET_PLACES_MAX};
use crate::protocol::policy::{Effect, Policy, RuleSpec};
use crate::time::Duration;

/// Workers where nothing was said. One for each core would carry more where cores are idle, and costs
/// each of a few busy connections a quarter more of the processor (BENCHMARKING.md): a sidecar has few.
const DEFAULT_WORKERS: Workers = Workers::Count(1);

/// Lanes at each worker of an inlet where nothing was said: one batches best (BENCHMARKING.md).
pub(super) const DEFAULT_LANES: u8 = 1;

/// What holds for every command.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) home: Home,
    /// The project, if it was named.
    pub(super) project: Option<Name>,
    pub(super) engine: Choice,
    /// Workers of a process, at least 1.
    pub(super) workers: u8,
    /// How long a worker looks for completions before it sleeps.
    pub(super) spin: Duration,
    pub(super) log_format: LogFormat,
    pub(super) log_level: LogLevel,
    pub(super) json: bool,
}

impl Settings {
    /// From flags and environment.
    ///
    /// # Errors
    /// There is no home directory.
    pub(super) fn from_args(args: &GlobalArgs) -> Result<Settings, Failure> {
        Ok(Settings {
            home: Home::at(home(args.home.as_deref())?),
            project: args.project.clone(),
            engine: choice(args.engine.unwrap_or(EngineArg::Auto)),
            workers: args.workers.unwrap_or(DEFAULT_WORKERS).count(),
            spin: Duration::from_micros(args.spin.unwrap_or(0).into()),
            log_format: args.log_format.unwrap_or(LogFormat::Text),
            log_level: args.log_level.unwrap_or(LogLevel::Info),
            json: args.json,
        })
    }
}

/// The engine that a flag names.
pub(super) const fn choice(arg: EngineArg) -> Choice {
    match arg {
        EngineArg::Auto => Choice::Auto,
        EngineArg::Uring => Choice::Uring,
        EngineArg::Epoll => Choice::Epoll,
    }
}

fn home(said: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = said.filter(|path| !path.as_os_str().is_empty()) {
        return Ok(path.into());
    }
    match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(Path::new(&home).join(".adit")),
        None => Err(
            Failure::usage("can't tell where state is kept", "HOME is not set")
                .fix("say where with --home DIR or ADIT_HOME"),
        ),
    }
}

/// Where the ticket comes from: the flag or `ADIT_TICKET_FILE`, else the text in `ADIT_TICKET`.
///
/// # Errors
/// What was given as a file's name is a ticket itself.
pub(super) fn ticket_source(
    args: &NodeArgs,
    text: Option<String>,
) -> Result<Option<TicketSource>, Failure> {
    let path = args
        .ticket
        .as_deref()
        .filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = path {
        if path.to_string_lossy().starts_with("adit-ticket-") {
            let what = "a ticket is not taken from the command line";
            let why = "every user of this machine can read it there";
            return Err(Failure::usage(what, why).fix("put it into a file and say --ticket FILE"));
        }
        if path == Path::new("-") {
            return Ok(Some(TicketSource::Stdin));
        }
        return Ok(Some(TicketSource::File(path.into())));
    }
    let text = text.filter(|text| !text.trim().is_empty());
    Ok(text.map(|text| TicketSource::Text(Zeroizing::new(text))))
}

/// Where the authority's store is: the flags, else `ADIT_STORE` and `ADIT_STORE_PASSWORD_FILE`, which are
/// all that commands without those flags heed; else a file.
///
/// # Errors
/// It is no URL, a password is on the command line, or its file can't be read. No failure repeats one.
pub(super) fn store_place(args: &StoreArgs) -> Result<StorePlace, Failure> {
    let typed = args.store.clone().map(Zeroizing::new);
    let is_typed = typed.is_some();
    let said = typed.or_else(|| std::env::var("ADIT_STORE").ok().map(Zeroizing::new));
    let Some(text) = said.filter(|text| !text.is_empty()) else {
        return Ok(StorePlace::File);
    };
    let url = PostgresUrl::new(text)?;
    if is_typed && url.holds_password() {
        let what = "a database's password is not taken from the command line";
        let why = "every user of this machine can read it there";
        return Err(Failure::usage(what, why)
            .fix("say --store-password-file FILE, or put the URL into ADIT_STORE"));
    }
    let file = args.store_password_file.clone();
    let file = file.or_else(|| std::env::var_os("ADIT_STORE_PASSWORD_FILE").map(PathBuf::from));
    let Some(path) = file.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(StorePlace::Postgres(url));
    };
    let text = std::fs::read_to_string(&path).map(Zeroizing::new);
    let text = text.map_err(|error| {
        let what = format!("can't read the password in {}", path.display());
        Failure::usage(what, error).fix("name a file that this user may read")
    })?;
    let password = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    Ok(StorePlace::Postgres(url.with_password(password)))
}

/// How old the authority's word on revocations may be.
pub(super) fn max_age(said: Option<MaxAge>) -> Duration {
    said.map_or(REVOCATION_MAX_AGE, |age| age.0)
}

/// Within what time keys are made anew.
pub(super) fn key_exchange_every(said: Option<KeyExchangeEvery>) -> Duration {
    said.map_or(KEY_EXCHANGE_EVERY, |every| every.0)
}

/// `ADIT_TICKET`.
pub(super) fn ticket_text() -> Option<String> {
    std::env::var("ADIT_TICKET").ok()
}

/// The rules of `--allow`. White space around a rule is not part of it, and empty lines (in the
/// environment) are no rules.
///
/// # Errors
/// A rule is malformed: where, and what was expected there.
pub(super) fn policy(rules: &[String]) -> Result<Policy, Failure> {
    Policy::read(&specs(rules)).map_err(|error| {
        Failure::new(codes::USAGE, Exit::Usage, "can't read the policy", error)
            .fix("a rule is NAME=VALUE terms with commas between, such as postgres-inlet=true")
    })
}

/// The places of a target, in the order in which they are tried.
///
/// # Errors
/// There is none, or too many.
pub(super) fn places(to: &[HostPort]) -> Result<(), Failure> {
    let why = match to.len() {
        0 => String::from("it is missing"),
        1..=TARGET_PLACES_MAX => return Ok(()),
        _ => format!("a target has at most {TARGET_PLACES_MAX} places"),
    };
    Err(Failure::usage("can't use what --to says", why)
        .fix("say --to HOST:PORT, and again for each place to try when that does not answer"))
}

/// The same rules as they were written.
pub(super) fn specs(rules: &[String]) -> Vec<RuleSpec> {
    let rules = rules.iter().map(|rule| rule.trim());
    let rules = rules.filter(|rule| !rule.is_empty());
    rules
        .map(|rule| RuleSpec::short(Effect::Allow, rule))
        .collect()
}

/// A literal as one of our names.
pub(super) fn parsed(literal: &str) -> Result<Name, Failure> {
    literal
        .parse()
        .map_err(|error| Failure::usage(format!("{literal} is no name"), error))
}

/// A node's directory where none was named: by its portal.
pub(super) fn node_name(said: Option<&Name>, what: &str, address: &str) -> Result<Name, Failure> {
    match said {
        Some(name) => Ok(name.clone()),
        None => format!("{what}-{address}").parse().map_err(|error| {
            Failure::usage(
                format!("can't name the node of the {what} for {address}"),
                error,
            )
            .fix("say --node NAME")
        }),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn with_ticket(path: &str) -> NodeArgs {
        NodeArgs {
            ticket: Some(path.into()),
            ..NodeArgs::default()
        }
    }

    #[test]
    fn a_ticket_in_place_of_its_file_is_refused_and_not_repeated() {
        let Err(failure) = ticket_source(&with_ticket("adit-ticket-1:AAAA"), None) else {
            unreachable!("it must be refused");
        };
        assert_eq!(failure.exit, Exit::Usage);
        assert!(!failure.to_string().contains("AAAA"));
    }

    #[test]
    fn the_file_beats_the_text_and_empty_is_nothing() {
        let source = ticket_source(&with_ticket("a"), Some("b".into())).unwrap();
        assert!(matches!(source, Some(TicketSource::File(_))));
        let source = ticket_source(&with_ticket(""), Some("b".into())).unwrap();
        assert!(matches!(source, Some(TicketSource::Text(_))));
        let source = ticket_source(&with_ticket("-"), None).unwrap();
        assert!(matches!(source, Some(TicketSource::Stdin)));
        assert!(
            ticket_source(&NodeArgs::default(), Some(" \n".into()))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_malformed_rule_says_where() {
        let failure = policy(&["postgres-inlet".into()]).unwrap_err();
        assert!(failure.why.contains("character 15"), "{failure}");
        assert!(policy(&[" a=b ".into(), String::new()]).is_ok());
    }
}

//! The configuration file of `run`: TOML with the flags' names as keys.
//!
//! ```toml
//! ticket = "/run/secrets/adit/ticket"
//!
//! [[inlet]]
//! via = "postgres"
//! from = "0.0.0.0:15432"
//! allow = ["postgres-outlet=true"]
//!
//! [[inlet.rule]]
//! name = "no-test-outlets"
//! deny-cel = 'member.attributes.env != "production"'
//!
//! [[outlet]]
//! at = "reports"
//! to = "localhost:8080"
//! allow = "reports-inlet=true"
//! ```
//! An unknown key is an error that suggests the near match: a misspelt `allow` must not become a
//! portal that denies everybody, or a misspelt `deny` one that doesn't.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use crypto::names::HostPort;
use toml::{Table, Value};

use super::args::{EngineArg, GlobalArgs, LimitArgs, LogFormat, LogLevel, MetricsArgs, NodeArgs};
use super::rules;
use super::settings::DEFAULT_LANES;
use super::values::{Workers, near_match};
use crate::control::failure::{Exit, Failure, codes};
use crate::control::portals::{Inlet, Outlet, Portal};
use crate::limits::{CONFIG_FILE_MAX, INLET_LANES_MAX, PORTALS_MAX, SERVED_MAX, SPIN_MAX};

/// Settings of the process, and what holds if nothing is said: the one list of them, for reading and
/// for showing.
pub(super) const PROCESS: [(&str, &str); 14] = [
    ("home", "~/.adit"),
    ("project", "the only one"),
    ("engine", "auto"),
    ("workers", "1"),
    ("spin", "0"),
    ("log-format", "text"),
    ("log-level", "info"),
    ("json", "false"),
    ("ticket", "none"),
    ("node", "node"),
    ("exit-if-not-enrolled", "false"),
    ("revocation-max-age", "5m"),
    ("metrics", "none"),
    ("key-exchange-every", "1h"),
];
const INLET: &[&str] = &[
    "via",
    "from",
    "allow",
    "deny",
    "rule",
    "max-streams",
    "idle-timeout",
    "lanes",
    "dedicated",
];
const OUTLET: &[&str] = &[
    "at",
    "to",
    "send-proxy-v2",
    "allow",
    "deny",
    "rule",
    "max-streams",
    "idle-timeout",
];

/// A configuration file, read and checked.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    /// Flags of every command.
    pub(super) global: GlobalArgs,
    /// Flags of a node.
    pub(super) node: NodeArgs,
    /// Where it tells its numbers.
    pub(super) metrics: MetricsArgs,
    /// Its portals in the order of the file, inlets first.
    pub(super) portals: Vec<Portal>,
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, is no TOML, or a key or value is not what it should be.
    pub(super) fn read(path: &Path) -> Result<ConfigFile, Failure> {
        ConfigFile::parse(&text_of(path)?, &path.display().to_string())
    }

    /// Reads the text of a file; `name` is what errors call it.
    pub(super) fn parse(text: &str, name: &str) -> Result<ConfigFile, Failure> {
        let table = table_of(text, name)?;
        let top = Section::top(name, &table);
        let known = PROCESS.iter().map(|(key, _)| *key);
        top.refuse_unknown(&known.chain(["inlet", "outlet"]).collect::<Vec<_>>())?;
        let inlets = top.sections("inlet")?;
        let outlets = top.sections("outlet")?;
        if inlets.len() + outlets.len() > PORTALS_MAX {
            let why = format!("at most {PORTALS_MAX} inlets and outlets fit in one process");
            return Err(top.bad("inlet", &why));
        }
        let mut served: Vec<&str> = outlets
            .iter()
            .filter_map(|it| it.text("at").ok()?)
            .collect();
        served.sort_unstable();
        served.dedup();
        if served.len() > SERVED_MAX {
            let why = format!("one process serves at most {SERVED_MAX} relay addresses");
            return Err(top.bad("outlet", &why));
        }
        Ok(ConfigFile {
            global: GlobalArgs {
                home: top.text("home")?.map(PathBuf::from),
                project: top.parsed("project")?,
                engine: top.choice::<EngineArg>("engine")?,
                workers: top.workers("workers")?,
                spin: spin(&top)?,
                log_format: top.choice::<LogFormat>("log-format")?,
                log_level: top.choice::<LogLevel>("log-level")?,
                json: top.flag("json")?,
            },
            node: NodeArgs {
                ticket: top.text("ticket")?.map(PathBuf::from),
                node: top.parsed("node")?,
                exit_if_not_enrolled: top.flag("exit-if-not-enrolled")?,
                revocation_max_age: top.parsed("revocation-max-age")?,
                key_exchange_every: top.parsed("key-exchange-every")?,
            },
            metrics: MetricsArgs {
                metrics: top.parsed("metrics")?,
            },
            portals: inlets
                .iter()
                .map(inlet)
                .chain(outlets.iter().map(outlet))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The text of a configuration or of a file of rules.
///
/// # Errors
/// It can't be read, or is too large.
pub(super) fn text_of(path: &Path) -> Result<String, Failure> {
    let unreadable = |why: &dyn std::fmt::Display| {
        let what = format!("can't read the configuration {}", path.display());
        Failure::new(codes::CONFIG_UNREADABLE, Exit::Usage, what, why)
    };
    // What a file says of its size is no bound: devices and pipes say 0.
    let mut text = String::new();
    let mut file = File::open(path)
        .map_err(|error| unreadable(&error))?
        .take(CONFIG_FILE_MAX + 1);
    let read = file.read_to_string(&mut text);
    if text.len() as u64 > CONFIG_FILE_MAX || file.limit() == 0 {
        return Err(unreadable(&format!(
            "it is larger than {CONFIG_FILE_MAX} bytes"
        )));
    }
    read.map_err(|error| unreadable(&error))?;
    Ok(text)
}

/// What a text says as TOML; `name` is what errors call it.
///
/// # Errors
/// It is no TOML.
pub(super) fn table_of(text: &str, name: &str) -> Result<Table, Failure> {
    text.parse().map_err(|error: toml::de::Error| {
        let what = format!("can't read the configuration {name}");
        // It shows the line as it is, whatever is in it.
        let shown = |c: &char| !c.is_control() || *c == '\n';
        let why: String = error.to_string().chars().filter(shown).collect();
        Failure::new(codes::CONFIG_UNREADABLE, Exit::Usage, what, why.trim_end())
    })
}

fn inlet(section: &Section<'_>) -> Result<Portal, Failure> {
    section.refuse_unknown(INLET)?;
    Ok(Portal::Inlet(Inlet {
        via: section.required("via")?,
        from: section.required("from")?,
        allow: rules::policy(section)?,
        limits: limits(section)?.shared(),
        lanes: lanes(section)?,
        dedicated: section.flag("dedicated")?,
    }))
}

/// Microseconds.
fn spin(top: &Section<'_>) -> Result<Option<u32>, Failure> {
    let Some(value) = top.table.get("spin") else {
        return Ok(None);
    };
    let most = SPIN_MAX.as_micros();
    let micros = value.as_integer().and_then(|n| u32::try_from(n).ok());
    match micros.filter(|micros| u128::from(*micros) <= most) {
        Some(micros) => Ok(Some(micros)),
        None => Err(top.bad("spin", &format!("expected a number from 0 to {most}"))),
    }
}

fn lanes(section: &Section<'_>) -> Result<u8, Failure> {
    let Some(lanes) = section.count("lanes")? else {
        return Ok(DEFAULT_LANES);
    };
    let lanes = u8::try_from(lanes).ok();
    lanes
        .filter(|lanes| *lanes <= INLET_LANES_MAX)
        .ok_or_else(|| section.bad("lanes", &format!("expected at most {INLET_LANES_MAX}")))
}

fn outlet(section: &Section<'_>) -> Result<Portal, Failure> {
    section.refuse_unknown(OUTLET)?;
    Ok(Portal::Outlet(Outlet {
        at: section.required("at")?,
        to: section.places("to")?,
        proxy_header: section.flag("send-proxy-v2")?,
        allow: rules::policy(section)?,
        limits: limits(section)?.shared(),
    }))
}

fn limits(section: &Section<'_>) -> Result<LimitArgs, Failure> {
    Ok(LimitArgs {
        max_streams: section.count("max-streams")?,
        idle_timeout: section.parsed("idle-timeout")?,
    })
}

/// A table of the file, with its name for errors.
pub(super) struct Section<'a> {
    file: &'a str,
    /// Empty for the top, else ` of [[inlet]] 2`.
    place: String,
    /// What tables in it are called: empty for the top, else `inlet.`.
    path: String,
    table: &'a Table,
}

impl<'a> Section<'a> {
    /// A whole file.
    pub(super) fn top(file: &'a str, table: &'a Table) -> Section<'a> {
        Section {
            file,
            place: String::new(),
            path: String::new(),
            table,
        }
    }

    /// Whether it says anything about a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn refuse_unknown(&self, known: &[&str]) -> Result<(), Failure> {
        let Some(key) = self.table.keys().find(|key| !known.contains(&key.as_str())) else {
            return Ok(());
        };
        let shown: String = key.chars().filter(|c| !c.is_control()).take(64).collect();
        let what = format!("unknown key {shown:?}{} in {}", self.place, self.file);
        let why = match near_match(key, known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("known are {}", known.join(", ")),
        };
        Err(Failure::new(codes::CONFIG_KEY, Exit::Usage, what, why))
    }

    pub(super) fn bad(&self, key: &str, why: &dyn std::fmt::Display) -> Failure {
        let what = format!("can't use {key:?}{} in {}", self.place, self.file);
        Failure::new(codes::CONFIG_VALUE, Exit::Usage, what, why)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        match self.table.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.bad(key, &"expected a text in quotes")),
        }
    }

    fn flag(&self, key: &str) -> Result<bool, Failure> {
        match self.table.get(key) {
            None => Ok(false),
            Some(Value::Boolean(flag)) => Ok(*flag),
            Some(_) => Err(self.bad(key, &"expected true or false")),
        }
    }

    /// A number, or a text.
    fn workers(&self, key: &str) -> Result<Option<Workers>, Failure> {
        match self.table.get(key) {
            Some(Value::Integer(number)) => {
                let workers = number.to_string().parse();
                workers.map(Some).map_err(|error| self.bad(key, &error))
            }
            Some(_) | None => self.parsed(key),
        }
    }

    /// A number from 1 on.
    fn count(&self, key: &str) -> Result<Option<u32>, Failure> {
        let Some(value) = self.table.get(key) else {
            return Ok(None);
        };
        let number = value.as_integer().and_then(|n| u32::try_from(n).ok());
        match number.filter(|number| *number > 0) {
            Some(number) => Ok(Some(number)),
            None => Err(self.bad(key, &"expected a number from 1 on")),
        }
    }

    /// One text, or a list of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, Failure> {
        let expected = || self.bad(key, &"expected a text in quotes, or a list of them");
        match self.table.get(key) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_string).ok_or_else(expected))
                .collect(),
            Some(_) => Err(expected()),
        }
    }

    /// The places of a target.
    fn places(&self, key: &str) -> Result<Vec<HostPort>, Failure> {
        let places = self.texts(key)?;
        let places = places
            .iter()
            .map(|text| text.parse().map_err(|error| self.bad(key, &error)));
        let places: Vec<HostPort> = places.collect::<Result<_, _>>()?;
        super::settings::places(&places).map_err(|failure| self.bad(key, &failure.why))?;
        Ok(places)
    }

    pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &self,
        key: &str,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|error| self.bad(key, &error))
    }

    fn required<T: FromStr<Err: std::fmt::Display>>(&self, key: &str) -> Result<T, Failure> {
        self.parsed(key)?
            .ok_or_else(|| self.bad(key, &"it is missing"))
    }

    fn choice<T: ValueEnum>(&self, key: &str) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let values = T::value_variants();
        let names: Vec<String> = values
            .iter()
            .filter_map(|value| value.to_possible_value().map(|v| v.get_name().to_string()))
            .collect();
        match names
            .iter()
            .position(|name| name == text)
            .and_then(|at| values.get(at))
        {
            Some(value) => Ok(Some(value.clone())),
            None => Err(self.bad(key, &format!("expected one of {}", names.join(", ")))),
        }
    }

    /// The tables of a list.
    pub(super) fn sections(&self, key: &str) -> Result<Vec<Section<'a>>, Failure> {
        let path = format!("{}{key}", self.path);
        let expected = || self.bad(key, &format!("expected [[{path}]] tables"));
        let items = match self.table.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(expected()),
        };
        let section = |(at, item): (usize, &'a Value)| {
            let table = item.as_table().ok_or_else(expected)?;
            Ok(Section {
                file: self.file,
                place: format!(" of [[{path}]] {}{}", at + 1, self.place),
                path: format!("{path}."),
                table,
            })
        };
        items.iter().enumerate().map(section).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn failure(text: &str) -> Failure {
        ConfigFile::parse(text, "adit.toml").unwrap_err()
    }

    #[test]
    fn a_file_without_an_end_is_too_large_and_is_not_read_on() {
        let endless = ConfigFile::read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(endless.code, codes::CONFIG_UNREADABLE);
        assert!(endless.why.contains("larger than"), "{endless}");
    }

    #[test]
    fn workers_are_a_number_or_auto() {
        let config = ConfigFile::parse("workers = \"auto\"", "adit.toml").unwrap();
        assert_eq!(config.global.workers, Some(Workers::Auto));
        for wrong in ["0", "99", "-1", "2.5", "true", "\"many\""] {
            let failure = failure(&format!("workers = {wrong}"));
            assert_eq!(failure.code, codes::CONFIG_VALUE, "{wrong}");
        }
    }

    #[test]
    fn a_whole_file_is_read() {
        let text = r#"
            project = "acme"
            engine = "epoll"
            workers = 2
            ticket = "/run/ticket"
            exit-if-not-enrolled = true
            revocation-max-age = "90s"
            key-exchange-every = "30m"
            [[inlet]]
            via = "postgres"
            from = "127.0.0.1:0"
            allow = ["a=1", "b=2"]
            [[outlet]]
            at = "reports"
            to = "localhost:80"
            allow = "c=3"
        "#;
        let config = ConfigFile::parse(text, "adit.toml").unwrap();
        assert_eq!(config.global.engine, Some(EngineArg::Epoll));
        assert_eq!(config.global.workers, Some(Workers::Count(2)));
        assert_eq!(config.global.project.unwrap().as_str(), "acme");
        assert!(config.node.exit_if_not_enrolled);
        let max_age = config.node.revocation_max_age.unwrap().0;
        assert_eq!(max_age.as_secs(), 90);
        let every = config.node.key_exchange_every.unwrap().0;
        assert_eq!(every.as_secs(), 1800);
        let [Portal::Inlet(inlet), Portal::Outlet(outlet)] = &config.portals[..] else {
            unreachable!("inlets come first")
        };
        assert_eq!(inlet.allow.rules().len(), 2);
        assert_eq!((outlet.to.len(), outlet.to[0].port()), (1, 80));
        assert!(!outlet.proxy_header);
    }

    #[test]
    fn no_more_addresses_are_served_than_a_relay_lets_one_session_have() {
        let outlets = |distinct: usize, all: usize| {
            let outlet =
                |n: usize| format!("[[outlet]]\nat = \"a{}\"\nto = \"b:1\"\n", n % distinct);
            (0..all).map(outlet).collect::<String>()
        };
        let most = ConfigFile::parse(&outlets(SERVED_MAX, SERVED_MAX + 4), "adit.toml");
        assert_eq!(most.unwrap().portals.len(), SERVED_MAX + 4);
        let many = failure(&outlets(SERVED_MAX + 1, SERVED_MAX + 1));
        assert!(many.why.contains("at most 16 relay addresses"), "{many}");
    }

    #[test]
    fn an_unknown_key_suggests_the_near_match() {
        let unknown = failure("tiket = \"x\"");
        assert_eq!(unknown.code, codes::CONFIG_KEY);
        assert_eq!(unknown.why, "did you mean \"ticket\"?");
        let inner = failure("[[inlet]]\nvia = \"a\"\nform = \"b\"");
        assert!(inner.what.contains("[[inlet]] 1"), "{inner}");
        assert_eq!(inner.why, "did you mean \"from\"?");
        assert!(failure("bogus-setting = 1").why.starts_with("known are"));
    }

    #[test]
    fn a_wrong_value_says_what_was_expected() {
        for (text, expected) in [
            ("engine = \"fast\"", "auto, uring, epoll"),
            ("engine = 1", "a text in quotes"),
            ("json = \"yes\"", "true or false"),
            ("revocation-max-age = \"2s\"", "between 5s and 1h"),
            ("key-exchange-every = \"2h\"", "between 1s and 1h"),
            ("inlet = 1", "[[inlet]] tables"),
            ("[[outlet]]\nat = \"a\"\nallow = \"a=b\"", "it is missing"),
            (
                "[[outlet]]\nat = \"a\"\nto = [\"db:1\", \"db\"]\nallow = \"a=b\"",
                "HOST:PORT",
            ),
            (
                "[[outlet]]\nat = \"a\"\nto = [\"a:1\", \"b:1\", \"c:1\", \"d:1\", \"e:1\", \"f:1\", \"g:1\", \"h:1\", \"i:1\"]",
                "at most 8 places",
            ),
            ("[[inlet]]\nvia = \"a\"", "it is missing"),
            (
                "[[inlet]]\nvia = \"A\"\nfrom = \"127.0.0.1:1\"",
                "a relay address has",
            ),
            (
                "[[inlet]]\nvia = \"a\"\nfrom = \"127.0.0.1:1\"\nallow = [1]",
                "a list of them",
            ),
            (
                "[[inlet]]\nvia = \"a\"\nfrom = \"127.0.0.1:1\"\nallow = \"x\"",
                "expected '='",
            ),
            ("[[inlet]]\nvia = \"a\"\nrule = 1", "it is missing"),
            (
                "[[inlet]]\nvia = \"a\"\nfrom = \"127.0.0.1:1\"\nmax-streams = 0",
                "a number from 1",
            ),
            (
                "[[inlet]]\nvia = \"a\"\nfrom = \"127.0.0.1:1\"\nidle-timeout = \"5\"",
                "a number and a unit",
            ),
        ] {
            let failure = failure(text);
            assert!(failure.why.contains(expected), "{text}: {failure}");
        }
        let broken = failure("en\u{4}gine = 1");
        assert_eq!(broken.code, codes::CONFIG_UNREADABLE);
        assert!(!broken.why.contains('\u{4}'), "{broken}");
    }
}

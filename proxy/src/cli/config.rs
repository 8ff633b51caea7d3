//! `adit config check` and `adit config show`.

use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};
use serde_json::{Value as Json, json};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::args::{Args, ConfigCheckArgs, ConfigShowArgs, GlobalArgs};
use super::config_file::{ConfigFile, PROCESS, table_of, text_of};
use super::output;
use super::run::{self, over};
use super::settings::{self, Settings};
use super::values::Workers;
use crate::control::failure::Failure;
use crate::control::portals::Portal;
use crate::protocol::command::Role;

pub(super) fn check(settings: &Settings, args: &ConfigCheckArgs) -> Result<u8, Failure> {
    let file = ConfigFile::read(&args.file.config)?;
    run::has_portals(&file, &args.file.config)?;
    let workers = file.global.workers.map(Workers::count);
    run::lanes_fit(&file.portals, workers.unwrap_or(settings.workers))?;
    settings::ticket_source(&file.node, None)?;
    let policies = file.portals.iter().map(Portal::policy);
    let closed = policies.filter(|policy| !policy.allows_somebody()).count();
    let of_role = |role| {
        file.portals
            .iter()
            .filter(|portal| portal.role() == role)
            .count()
    };
    let (inlets, outlets) = (of_role(Role::Inlet), of_role(Role::Outlet));
    if settings.json {
        let said = json!({ "inlets": inlets, "outlets": outlets, "portals_without_rules": closed });
        output::json(&said)?;
        return Ok(0);
    }
    let path = args.file.config.display();
    output::line(&format!(
        "{path}: no mistake; inlets: {inlets}, outlets: {outlets}"
    ))?;
    if closed > 0 {
        output::say(&format!("note: portals whose rules allow nobody: {closed}"));
    }
    Ok(0)
}

/// One value, and where it comes from.
struct Setting {
    /// Empty for the process, else `[[inlet]] 1`.
    place: String,
    key: String,
    value: String,
    origin: String,
}

pub(super) fn show(global: &GlobalArgs, args: &ConfigShowArgs) -> Result<u8, Failure> {
    let path = &args.run.file.config;
    let name = path.display().to_string();
    let text = text_of(path)?;
    // Whatever is wrong is said as adit run says it.
    let file = ConfigFile::parse(&text, &name)?;
    let settings = Settings::from_args(&over(global, &file.global))?;
    let table = table_of(&text, &name)?;
    let source = Source { path, text: &text };
    let mut shown = source.of_process(&settings, &table);
    shown.extend(source.of_portals(&table));
    if settings.json {
        let lines = shown.iter().map(|setting| {
            let mut line = json!({ "key": setting.key, "value": setting.value });
            if !setting.place.is_empty() {
                line["place"] = setting.place.clone().into();
            }
            if args.origin {
                line["origin"] = setting.origin.clone().into();
            }
            line
        });
        output::json(&lines.collect::<Json>())?;
        return Ok(0);
    }
    let mut place = "";
    for setting in &shown {
        if setting.place != place {
            place = &setting.place;
            output::line(place)?;
        }
        let line = format!("{} = {}", setting.key, setting.value);
        output::line(&match args.origin {
            true => format!("{line:<47} # {}", setting.origin),
            false => line,
        })?;
    }
    Ok(0)
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn of_process(&self, settings: &Settings, table: &Table) -> Vec<Setting> {
        let typed = Args::command().try_get_matches().ok();
        let spans = DeTable::parse(self.text).ok();
        let setting = |(key, default): (&str, &str)| {
            // What clap calls the flag.
            let id = key.replace('-', "_");
            let said = typed.as_ref().and_then(|typed| said_outside(typed, &id));
            let in_file = spans.as_ref().and_then(|spans| {
                let keys = spans.get_ref().iter();
                let mut keys = keys.filter(|(name, _)| name.get_ref().as_ref() == key);
                Some(self.at(keys.next()?.0.span().start))
            });
            let ticket = key == "ticket" && settings::ticket_text().is_some_and(|t| !t.is_empty());
            let (value, origin) = match (said, table.get(key).zip(in_file)) {
                (Some((value, origin)), _) => (value, origin),
                (None, _) if ticket => ("(a text)".into(), "environment ADIT_TICKET".into()),
                (None, Some((value, origin))) => (value.to_string(), origin),
                (None, None) if key == "home" => {
                    let home = settings.home.path().display().to_string();
                    (Value::from(home).to_string(), "default".into())
                }
                (None, None) => (default.into(), "default".into()),
            };
            Setting {
                place: String::new(),
                key: key.into(),
                value,
                origin,
            }
        };
        PROCESS.into_iter().map(setting).collect()
    }

    fn of_portals(&self, table: &Table) -> Vec<Setting> {
        let Ok(spans) = DeTable::parse(self.text) else {
            return Vec::new();
        };
        let mut shown = Vec::new();
        for kind in ["inlet", "outlet"] {
            let lists = spans.get_ref().iter();
            let mut lists = lists.filter(|(name, _)| name.get_ref().as_ref() == kind);
            let spans = lists.next().map(|(_, list)| list.get_ref());
            let values = table.get(kind).and_then(Value::as_array);
            if let (Some(DeValue::Array(spans)), Some(values)) = (spans, values) {
                for (at, (spans, value)) in spans.iter().zip(values).enumerate() {
                    let place = format!("[[{kind}]] {}", at + 1);
                    self.of_table(&place, spans.get_ref(), value, &mut shown);
                }
            }
        }
        shown
    }

    /// The keys of a table in the order of the file, and those of the rules in it.
    fn of_table(&self, place: &str, spans: &DeValue<'_>, value: &Value, shown: &mut Vec<Setting>) {
        let (DeValue::Table(spans), Value::Table(table)) = (spans, value) else {
            return;
        };
        let mut keys: Vec<_> = spans.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let mut rules = Vec::new();
        for (key, of_key) in keys {
            let name = key.get_ref().as_ref();
            let Some(value) = table.get(name) else {
                continue;
            };
            if let (DeValue::Array(spans), Value::Array(values), "rule") =
                (of_key.get_ref(), value, name)
            {
                rules.extend(spans.iter().zip(values));
                continue;
            }
            shown.push(Setting {
                place: place.into(),
                key: name.into(),
                value: value.to_string(),
                origin: self.at(key.span().start),
            });
        }
        for (at, (spans, value)) in rules.into_iter().enumerate() {
            let place = format!("{place} [[rule]] {}", at + 1);
            self.of_table(&place, spans.get_ref(), value, shown);
        }
    }

    /// The file and line of a byte of it.
    fn at(&self, byte: usize) -> String {
        let before = self.text.as_bytes().iter().take(byte);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        format!("{}:{line}", self.path.display())
    }
}

/// What a flag or the environment says, and which.
fn said_outside(typed: &ArgMatches, id: &str) -> Option<(String, String)> {
    let (mut command, mut typed) = (Args::command(), typed);
    command.build();
    while let Some((name, inner)) = typed.subcommand() {
        command = command.find_subcommand(name)?.clone();
        typed = inner;
    }
    let arg = command.get_arguments().find(|arg| arg.get_id() == id)?;
    let source = typed.value_source(id)?;
    let origin = if source == ValueSource::CommandLine {
        format!("flag --{}", arg.get_long()?)
    } else if source == ValueSource::EnvVariable {
        format!("environment {}", arg.get_env()?.to_string_lossy())
    } else {
        return None;
    };
    let raw = typed.get_raw(id).and_then(|mut raw| raw.next());
    let value = raw.map_or("true".into(), |raw| raw.to_string_lossy().into_owned());
    // Flags without a value have the text true or false in the environment.
    let literal = match value.as_str() {
        "true" | "false" => value,
        text => Value::from(text).to_string(),
    };
    Some((literal, origin))
}

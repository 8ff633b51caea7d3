//! `adit doctor`: what stands in the way of this machine's portals, and the command that mends it.
//!
//! It looks at the machine, at each state directory of the home, at the processes that use them (by their
//! socket), and, where `--config` says what is to run, at that. It connects to relays and targets as the
//! processes would, and changes nothing.
//!
//! | module | what it looks at |
//! |---|---|
//! | [`machine`] | engine, descriptors, locked memory |
//! | [`running`] | a process that answers |
//! | [`at_rest`] | a state directory that no process uses |
//! | [`planned`] | a configuration file |
//! | [`dial`] | whether something listens at an address |

mod at_rest;
mod dial;
mod machine;
mod planned;
mod running;

use std::path::Path;

use crypto::names::Name;

use super::args::DoctorArgs;
use super::checks::{self, Check, Section};
use super::settings::Settings;
use crate::control::admin::client::AdminClient;
use crate::control::admin::wire::Call;
use crate::control::failure::{Exit, Failure};
use crate::control::files::{DirKind, StateDir, inspect};

pub(super) fn run(settings: &Settings, args: &DoctorArgs) -> Result<u8, Failure> {
    let mut sections = vec![machine::section(settings)];
    let projects = match &settings.project {
        Some(name) => vec![name.clone()],
        None => settings.home.projects()?,
    };
    let mut places = 0;
    for project in &projects {
        let path = settings.home.project(project);
        if args.node.is_none() && StateDir::exists(&path) {
            places += 1;
            sections.push(place(format!("project {project}"), &path, DirKind::Project));
        }
        for node in nodes(settings, project, args)? {
            let path = settings.home.node(project, &node);
            if StateDir::exists(&path) {
                places += 1;
                sections.push(place(format!("node {node}"), &path, DirKind::Node));
            }
        }
    }
    if places == 0 {
        let home = settings.home.path().display();
        let what = format!("nothing of adit is in {home} yet");
        let fix = "adit project create NAME --address HOST:PORT, or adit inlet … or adit outlet … \
                   with --ticket FILE; another home: --home DIR";
        sections.push(Section {
            about: "state".into(),
            checks: vec![Check::unknown("home", what, fix)],
        });
    }
    if let Some(config) = &args.config {
        sections.push(planned::section(config));
    }
    checks::print(&sections, settings.json)?;
    let bad = sections.iter().any(Section::has_bad);
    Ok(if bad { Exit::Runtime.number() } else { 0 })
}

fn nodes(settings: &Settings, project: &Name, args: &DoctorArgs) -> Result<Vec<Name>, Failure> {
    match &args.node {
        Some(node) => Ok(vec![node.clone()]),
        None => settings.home.nodes(project),
    }
}

/// A state directory, and the process that uses it or does not.
fn place(about: String, path: &Path, kind: DirKind) -> Section {
    let mut checks = Vec::new();
    match inspect(path) {
        Ok(()) => checks.push(Check::good("state", path.display().to_string())),
        Err(failure) => {
            checks.push(Check::failed("state", &failure));
            return Section { about, checks };
        }
    }
    let asked = AdminClient::connect(path);
    match asked.and_then(|client| client.map(|mut it| it.call(&Call::Status)).transpose()) {
        Ok(Some(status)) => checks.extend(running::checks(&status)),
        Ok(None) if kind == DirKind::Node => checks.extend(at_rest::node(path)),
        Ok(None) => checks.push(Check::unknown("process", "none runs", "adit serve")),
        Err(failure) => checks.push(Check::failed("process", &failure)),
    }
    Section { about, checks }
}

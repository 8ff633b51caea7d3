//! Which process a command talks to: a running one by its socket, or none.

use std::path::PathBuf;

use crypto::names::Name;
use serde_json::Value;

use super::args::StoreArgs;
use super::settings::{self, Settings};
use crate::control::admin::client::AdminClient;
use crate::control::admin::wire::{self, Call};
use crate::control::clock;
use crate::control::failure::{Exit, Failure, codes};
use crate::control::files::StateDir;
use crate::control::keys::AUTHORITY_FILE;
use crate::control::project::Project;

/// The project whose authority is here: the one that was named, else the only one.
///
/// # Errors
/// There is none, or several.
pub(super) fn authority_project(settings: &Settings) -> Result<Name, Failure> {
    let has_authority =
        |project: &Name| settings.home.project(project).join(AUTHORITY_FILE).exists();
    if let Some(name) = &settings.project {
        return Ok(name.clone());
    }
    let found: Vec<Name> = settings
        .home
        .projects()?
        .into_iter()
        .filter(has_authority)
        .collect();
    let home = settings.home.path().display();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            let what = "there is no project here";
            let why = format!("no authority's key is in {home}");
            Err(Failure::new(codes::WHICH_PROJECT, Exit::State, what, why)
                .fix("adit project create NAME --address HOST:PORT"))
        }
        several => {
            let names: Vec<&str> = several.iter().map(Name::as_str).collect();
            let what = format!("several projects are in {home}");
            Err(
                Failure::new(codes::WHICH_PROJECT, Exit::Usage, what, names.join(", "))
                    .fix("say which with --project NAME"),
            )
        }
    }
}

/// Makes an administrator's call: by the socket of the process that serves the project, or, where
/// none does, on the project's store itself.
///
/// # Errors
/// There is no such project here, or the authority refused.
pub(super) fn authority_call(settings: &Settings, call: &Call) -> Result<Value, Failure> {
    let project = authority_project(settings)?;
    if let Some(mut client) = AdminClient::connect(&settings.home.project(&project))? {
        return client.call(call);
    }
    let Some(core_call) = call.checked()? else {
        return Err(not_running("no process serves the project", "adit serve"));
    };
    let place = settings::store_place(&StoreArgs::default())?;
    let opened = Project::open(&settings.home, &project, "administration", &place)?;
    let reply = opened.call(core_call)?;
    wire::answer(reply, clock::now().wall().0)
}

/// The process that serves the project, for calls one after the other.
///
/// # Errors
/// There is no such project here, or nothing serves it.
pub(super) fn running_authority(settings: &Settings) -> Result<AdminClient, Failure> {
    let project = authority_project(settings)?;
    AdminClient::connect(&settings.home.project(&project))?
        .ok_or_else(|| not_running("no process serves the project", "adit serve"))
}

/// All rows of a list, page after page; `page` makes the call for what lies behind an id.
///
/// # Errors
/// As [`authority_call`].
pub(super) fn authority_rows(
    settings: &Settings,
    page: impl Fn(Option<String>) -> Call,
) -> Result<Vec<Value>, Failure> {
    let mut rows: Vec<Value> = Vec::new();
    loop {
        let last = rows
            .last()
            .and_then(|row| row["id"].as_str())
            .map(str::to_string);
        let answer = authority_call(settings, &page(last))?;
        let page = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend_from_slice(page);
    }
}

/// A process of this home that answers.
pub(super) struct Process {
    /// `node bank` or `project acme`.
    pub(super) name: String,
    /// Its socket.
    pub(super) client: AdminClient,
}

/// The processes that were meant and answer: those of the named node, or all of the project, or
/// all of the home.
///
/// # Errors
/// None answers.
pub(super) fn processes(settings: &Settings, node: Option<&Name>) -> Result<Vec<Process>, Failure> {
    let projects = match &settings.project {
        Some(name) => vec![name.clone()],
        None => settings.home.projects()?,
    };
    let mut places: Vec<(String, PathBuf)> = Vec::new();
    for project in &projects {
        if node.is_none() {
            places.push((format!("project {project}"), settings.home.project(project)));
        }
        let nodes = match node {
            Some(node) => vec![node.clone()],
            None => settings.home.nodes(project)?,
        };
        for node in nodes {
            places.push((format!("node {node}"), settings.home.node(project, &node)));
        }
    }
    let mut found = Vec::new();
    for (name, path) in places
        .into_iter()
        .filter(|(_, path)| StateDir::exists(path))
    {
        if let Some(client) = AdminClient::connect(&path)? {
            found.push(Process { name, client });
        }
    }
    if found.is_empty() {
        let what = match node {
            Some(node) => format!("the node {node} does not run"),
            None => format!(
                "no process runs that uses {}",
                settings.home.path().display()
            ),
        };
        return Err(not_running(
            &what,
            "adit serve, adit inlet … or adit outlet …",
        ));
    }
    Ok(found)
}

fn not_running(what: &str, fix: &str) -> Failure {
    Failure::new(
        codes::NOT_RUNNING,
        Exit::Runtime,
        what,
        "nothing answers on its socket",
    )
    .fix(fix)
}

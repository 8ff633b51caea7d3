//! `adit identity show`

use crypto::names::Name;
use serde_json::json;

use super::args::IdentityShowArgs;
use super::output;
use super::settings::{self, Settings};
use crate::control::admin::client::AdminClient;
use crate::control::admin::wire::Call;
use crate::control::failure::{Exit, Failure, codes};
use crate::control::files::{DirKind, StateDir};
use crate::control::keys::{self, IDENTITY_FILE};

pub(super) fn show(settings: &Settings, args: &IdentityShowArgs) -> Result<u8, Failure> {
    let project = which_project(settings)?;
    let node = match &args.node {
        Some(name) => name.clone(),
        None => which_node(settings, &project)?,
    };
    let path = settings.home.node(&project, &node);
    let running = AdminClient::connect(&path)?;
    let id = match running {
        Some(mut client) => output::text(&client.call(&Call::Status)?, "id").to_string(),
        None => {
            let state = StateDir::open(&path, DirKind::Node, "identity show")?;
            keys::load_or_create(&state, IDENTITY_FILE)?
                .id()
                .to_string()
        }
    };
    if settings.json {
        output::json(&json!({ "project": project.as_str(), "node": node.as_str(), "id": id }))?;
    } else {
        output::line(&id)?;
    }
    Ok(0)
}

fn which_project(settings: &Settings) -> Result<Name, Failure> {
    if let Some(project) = &settings.project {
        return Ok(project.clone());
    }
    match settings.home.projects()?.as_slice() {
        [only] => Ok(only.clone()),
        found => {
            let what = "can't tell which project is meant";
            let why = format!("{} are in {}", found.len(), settings.home.path().display());
            Err(Failure::new(codes::WHICH_PROJECT, Exit::Usage, what, why)
                .fix("say which with --project NAME"))
        }
    }
}

fn which_node(settings: &Settings, project: &Name) -> Result<Name, Failure> {
    match settings.home.nodes(project)?.as_slice() {
        [only] => Ok(only.clone()),
        [] => settings::parsed("node"),
        several => {
            let names: Vec<&str> = several.iter().map(Name::as_str).collect();
            let what = "can't tell which node is meant";
            Err(
                Failure::new(codes::USAGE, Exit::Usage, what, names.join(", "))
                    .fix("say which with --node NAME"),
            )
        }
    }
}

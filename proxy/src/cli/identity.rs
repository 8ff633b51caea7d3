//! `adit identity show` and `adit identity rotate`
//!
//! A running process is asked to change its key itself: it has the directory, and goes on with its
//! streams.

use crypto::names::Name;
use serde_json::json;

use super::args::{IdentityRotateArgs, IdentityShowArgs};
use super::output;
use super::settings::{self, Settings};
use crate::control::admin::client::AdminClient;
use crate::control::admin::show;
use crate::control::admin::wire::Call;
use crate::control::failure::{Exit, Failure, codes};
use crate::control::files::{DirKind, StateDir};
use crate::control::keys::{self, IDENTITY_FILE};

pub(super) fn show(settings: &Settings, args: &IdentityShowArgs) -> Result<u8, Failure> {
    let (project, node) = which(settings, args.node.as_ref())?;
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

pub(super) fn rotate(settings: &Settings, args: &IdentityRotateArgs) -> Result<u8, Failure> {
    let (project, node) = which(settings, args.node.as_ref())?;
    let path = settings.home.node(&project, &node);
    let running = AdminClient::connect(&path)?;
    let is_running = running.is_some();
    let changed = match running {
        Some(mut client) => client.call(&Call::RotateIdentity)?,
        None if StateDir::exists(&path) => {
            let state = StateDir::open(&path, DirKind::Node, "identity rotate")?;
            let identity = keys::rotate(&state, IDENTITY_FILE)?;
            show::identity(
                identity
                    .ok_or_else(|| keys::no_identity(&state))?
                    .identity(),
            )
        }
        None => {
            let why = format!("there is no node in {}", path.display());
            return Err(Failure::new(
                codes::STATE_IO,
                Exit::State,
                keys::CANT_CHANGE,
                why,
            ));
        }
    };
    if settings.json {
        output::json(&changed)?;
    } else {
        let (id, changes) = (output::text(&changed, "id"), &changed["changes"]);
        output::line(&format!("rotated: {id} has another key (change {changes})"))?;
        let when = if is_running {
            "as soon as it is reached; don't restart the node before, or no peer accepts it until then"
        } else {
            "when the node is started; until it has reached it, no peer accepts the node"
        };
        output::line(&format!("the authority hears of it {when}"))?;
    }
    Ok(0)
}

fn which(settings: &Settings, node: Option<&Name>) -> Result<(Name, Name), Failure> {
    let project = which_project(settings)?;
    let node = match node {
        Some(name) => name.clone(),
        None => which_node(settings, &project)?,
    };
    Ok((project, node))
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

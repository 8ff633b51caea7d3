//! `adit serve`

use super::args::{ServeArgs, ServeRole};
use super::settings::Settings;
use super::{log, reach};
use crate::control::failure::Failure;
use crate::control::project::Project;
use crate::control::runtime::Runtime;
use crate::control::serve::{self, Roles};
use crate::control::signals::{self, StopSignals};
use crate::control::worker_thread::{EngineDecision, Listener, protect_memory};

pub(super) fn run(settings: &Settings, args: &ServeArgs) -> Result<u8, Failure> {
    protect_memory();
    log::start(settings);
    let roles = match args.role {
        None => Roles { authority: true, relay: true },
        Some(ServeRole::Authority) => Roles { authority: true, relay: false },
        Some(ServeRole::Relay) => {
            let what = "can't run a relay apart from its authority yet";
            return Err(Failure::usage(what, "a relay of its own can't enroll in this version")
                .fix("adit serve"));
        }
    };
    let name = reach::authority_project(settings)?;
    let project = Project::open(&settings.home, &name, "serve")?;
    let listen = args.listen.unwrap_or_else(|| serve::default_listen(&project));
    let listener = Listener::bind(None, listen)?;
    let engine = EngineDecision::make(settings.engine)?;
    let runtime = Runtime::for_control(engine.kind)?;
    runtime.block_on(async {
        let signals = StopSignals::new()?;
        let running = serve::start(project, roles, listener, engine, runtime.has_ring())?;
        signals::run(running, signals).await
    })?;
    Ok(0)
}

//! `adit log level`: how much a running process logs, without a restart.
//!
//! By the administrator's socket and not by a signal: it says which level, answers what it was, reaches a
//! process in a container by `exec` without a shell or a process id, and whoever may not call it is refused.

use serde_json::json;

use super::args::LogLevelArgs;
use super::output::{self, text};
use super::reach;
use super::settings::Settings;
use crate::control::admin::show::merged;
use crate::control::admin::wire::Call;
use crate::control::failure::Failure;

pub(super) fn run(settings: &Settings, args: &LogLevelArgs) -> Result<u8, Failure> {
    let level = args.level.map(|level| level.word().to_owned());
    for mut process in reach::processes(settings, args.node.as_ref())? {
        let call = Call::LogLevel {
            level: level.clone(),
        };
        let said = process.client.call(&call)?;
        if settings.json {
            output::json(&merged(json!({ "process": process.name }), said))?;
            continue;
        }
        let (name, level, was) = (&process.name, text(&said, "level"), text(&said, "was"));
        output::line(&if level == was {
            format!("{name}: {level}")
        } else {
            format!("{name}: {level} (was {was})")
        })?;
    }
    Ok(0)
}

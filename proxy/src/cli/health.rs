//! `adit health`: an exit code for probes. Needs no shell and no listener.

use super::args::HealthArgs;
use super::output;
use super::reach;
use super::settings::Settings;
use crate::control::admin::wire::Call;
use crate::control::failure::{Exit, Failure, codes};

pub(super) fn run(settings: &Settings, args: &HealthArgs) -> Result<u8, Failure> {
    for mut process in reach::processes(settings, args.node.as_ref())? {
        let health = process.client.call(&Call::Health)?;
        let ready = health["ready"].as_bool() == Some(true);
        if args.ready && !ready {
            let why = match output::text(&health, "why") {
                "" => "it has not said why",
                why => why,
            };
            let what = format!("{} is not ready", process.name);
            return Err(
                Failure::new(codes::NOT_READY, Exit::NotReady, what, why).fix("adit status")
            );
        }
        if settings.json {
            output::json(&health)?;
        } else {
            output::line(&format!(
                "{}: {}",
                process.name,
                if ready { "ready" } else { "alive" }
            ))?;
        }
    }
    Ok(0)
}

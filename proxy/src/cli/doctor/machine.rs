//! The machine: what every process on it needs.

use rustix::process::{Resource, getrlimit};

use crate::cli::checks::{Check, Section};
use crate::cli::settings::Settings;
use crate::control::process::engine_word;
use crate::control::worker_thread::{EngineDecision, raise_descriptor_limit};
use crate::limits::{NOFILE_RESERVED, SLOTS_MIN};

pub(super) fn section(settings: &Settings) -> Section {
    Section {
        about: "this machine".into(),
        checks: vec![engine(settings), descriptors(), locked_memory()],
    }
}

fn engine(settings: &Settings) -> Check {
    match EngineDecision::make(settings.engine, settings.workers, settings.spin) {
        Err(failure) => Check::failed("engine", &failure),
        Ok(decision) => {
            let kind = engine_word(decision.kind);
            let said = match &decision.why_not_uring {
                Some(why) => format!("{kind}; no io_uring: {why}"),
                None => kind.to_owned(),
            };
            Check::good("engine", said)
        }
    }
}

/// Each connection takes one, and none of a few tens of the process's own.
fn descriptors() -> Check {
    let limit = raise_descriptor_limit();
    let room = limit.saturating_sub(NOFILE_RESERVED);
    let said = format!("{limit} open files: {room} sockets at once");
    if room < u64::from(SLOTS_MIN) {
        let fix = "ulimit -n 65536   # systemd: LimitNOFILE=65536";
        return Check::bad("descriptors", said, fix);
    }
    Check::good("descriptors", said)
}

/// Whether a ring opens is what `engine` tried; this is what it had.
fn locked_memory() -> Check {
    let said = match getrlimit(Resource::Memlock).current {
        Some(bytes) => format!(
            "{} KiB; a ring counts against it before Linux 5.12 only",
            bytes / 1024
        ),
        None => "unlimited".to_owned(),
    };
    Check::good("memlock", said)
}

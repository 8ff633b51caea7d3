//! A configuration file: whether it can be run here. An inlet's port that is taken may be its own process's.

use std::net::TcpListener;
use std::path::Path;

use super::dial;
use crate::cli::checks::{Check, Section};
use crate::cli::config_file::ConfigFile;
use crate::control::portals::Portal;
use crate::control::worker_thread::cant_listen;
use crate::protocol::policy::Policy;

pub(super) fn section(path: &Path) -> Section {
    let shown = path.display();
    let about = format!("configuration {shown}");
    let file = match ConfigFile::read(path) {
        Ok(file) => file,
        Err(failure) => {
            return Section {
                about,
                checks: vec![Check::failed("file", &failure)],
            };
        }
    };
    let mut checks = vec![Check::good("file", "no mistake")];
    for portal in &file.portals {
        let name = format!("{} {}", portal.role().word(), portal.address());
        checks.extend(rules(&name, portal.policy()));
        match portal {
            Portal::Inlet(inlet) => checks.push(match TcpListener::bind(inlet.from) {
                Ok(_) => Check::good("port", format!("{} is free", inlet.from)),
                Err(error) => Check::failed("port", &cant_listen(inlet.from, &error)),
            }),
            Portal::Outlet(outlet) => checks.extend(outlet.to.iter().map(dial::target)),
        }
    }
    Section { about, checks }
}

fn rules(portal: &str, allow: &Policy) -> Option<Check> {
    (!allow.allows_somebody()).then(|| {
        let said = format!("{portal}: no rule allows anybody");
        Check::bad("rules", said, "add a rule: allow = \"NAME=VALUE\"")
    })
}

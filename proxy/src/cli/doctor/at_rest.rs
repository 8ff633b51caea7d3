//! A node's directory that no process uses: what its files say, and whether its relay answers.

use std::path::Path;
use std::time::Duration;

use super::dial;
use crate::cli::checks::Check;
use crate::cli::values::duration_text;
use crate::control::clock;
use crate::control::failure::Failure;
use crate::control::files::{DirKind, StateDir};
use crate::control::keys::{self, IDENTITY_FILE};
use crate::control::node::load_membership;
use crate::error::Problem;
use crate::protocol::core::Membership;

pub(super) fn node(path: &Path) -> Vec<Check> {
    let start = "adit inlet …, adit outlet … or adit run";
    let mut checks = vec![Check::unknown("process", "none runs", start)];
    match membership(path) {
        Err(failure) => checks.push(Check::failed("member", &failure)),
        Ok(None) => {
            let problem = Problem::NoTicket;
            checks.push(Check::bad("member", problem.to_string(), problem.mend()));
        }
        Ok(Some(membership)) => {
            let body = membership.credential.body();
            let name = format!("{} of {}", body.name, membership.project_name());
            checks.push(Check::good("member", name));
            checks.push(credential(body.serial, body.not_after.0));
            let places = &membership.note.body().relays;
            checks.extend(places.iter().map(|place| match dial::reach(place) {
                Ok(_) => Check::good("relay", format!("{place} answers")),
                Err(why) => {
                    let said = format!("{place} does not answer: {why}");
                    Check::bad("relay", said, Problem::RelayUnreachable.mend())
                }
            }));
        }
    }
    checks
}

fn membership(path: &Path) -> Result<Option<Membership>, Failure> {
    let state = StateDir::look(path, DirKind::Node)?;
    match keys::load(&state, IDENTITY_FILE)? {
        Some(identity) => load_membership(&state, &identity),
        None => Ok(None),
    }
}

/// A node that was away for longer than its credential lives renews it when it starts.
fn credential(serial: u64, not_after: u64) -> Check {
    let now = clock::now().wall().0;
    match not_after.checked_sub(now) {
        Some(left) if left > 0 => {
            let left = duration_text(Duration::from_secs(left));
            Check::good("credential", format!("number {serial} is good for {left}"))
        }
        Some(_) | None => Check::unknown(
            "credential",
            format!("number {serial} is over; it is renewed when the node starts"),
            "start the node where it reaches the authority",
        ),
    }
}

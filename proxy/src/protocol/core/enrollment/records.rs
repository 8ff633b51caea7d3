//! What enrollment says to log and worker, and reads from the authority.

use crypto::Id;
use crypto::credential::{Credential, Pass};

use crate::error::Problem;
use crate::protocol::command::Command;
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::node::Node;
use crate::protocol::core::text::utc;

/// Tells the worker what time to write into OPEN.
pub(super) fn announce_time(node: &mut Node, now: Now) {
    let unix_millis = node.clock.millis(now);
    node.out.command(Command::AuthorityTime {
        unix_millis,
        at: now.mono,
    });
}

/// Reads a credential and its pass, if both are this node's.
pub(super) fn read_grant(
    node: &Node,
    project: &Id,
    credential: &[u8],
    pass: &[u8],
) -> Option<(Credential, Pass)> {
    let credential = Credential::decode(credential).ok()?;
    let pass = Pass::decode(pass).ok()?;
    let id = node.keyring.id();
    let (body, part) = (credential.body(), pass.body());
    let ours = body.project == *project && body.subject == id && body.to_pass() == *part;
    ours.then_some((credential, pass))
}

pub(super) fn log_membership(node: &mut Node, what: &str) {
    if let Some(membership) = &node.membership {
        let body = membership.credential.body();
        let attributes: Vec<String> = body
            .attributes
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let record = LogRecord::new(Level::Info, what)
            .with("project", membership.project_name())
            .with("name", &body.name)
            .with("attributes", attributes.join(","))
            .with("credential_until", utc(body.not_after));
        node.out.log(record);
    }
}

pub(super) fn refusal_record(problem: Problem, detail: &str) -> LogRecord {
    let record = LogRecord::new(Level::Error, problem.to_string()).code(problem.code());
    let record = if detail.is_empty() {
        record
    } else {
        record.with("detail", detail)
    };
    record.with("mend", problem.mend())
}

pub(super) fn with_mend(problem: Problem, facts: &str) -> String {
    format!("{problem}{facts}; to mend it: {}", problem.mend())
}

//! What a process says of itself: `status` and `health`.

use serde_json::{Value, json};

use super::admin::show;
use crate::protocol::core::{MembershipStatus, Reach, Status};

/// The answer to `health`.
pub fn health(status: &Status, stopping: bool) -> Value {
    let ready = status.ready() && !stopping;
    let why = if ready {
        None
    } else if stopping {
        Some("the process is stopping".into())
    } else {
        why_not(status)
    };
    json!({ "alive": true, "ready": ready, "why": why })
}

/// The answer to `status`: what does not change (`facts`), what the core says, what is counted.
pub fn status(
    facts: &Value,
    status: &Status,
    counters: Vec<(&'static str, u64)>,
    stopping: bool,
) -> Value {
    let counters: serde_json::Map<String, Value> = counters
        .into_iter()
        .map(|(name, value)| (name.to_string(), value.into()))
        .collect();
    let own = json!({
        "ready": status.ready() && !stopping,
        "stopping": stopping,
        "counters": counters,
    });
    show::merged(show::merged(facts.clone(), show::status(status)), own)
}

/// What stands between a core and its being ready: the first thing that is missing.
pub fn why_not(status: &Status) -> Option<String> {
    match &status.membership {
        MembershipStatus::NotEnrolled { code, why } => return Some(format!("{code} {why}")),
        MembershipStatus::Enrolling { .. } => {
            return Some(unreached("authority", &status.authority));
        }
        MembershipStatus::Enrolled { .. } | MembershipStatus::Authority => {}
    }
    if let Reach::Trying { .. } = status.relay {
        return Some(unreached("relay", &status.relay));
    }
    let waiting = status.portals.iter().find(|portal| !portal.ready)?;
    let why = waiting.why.as_deref().unwrap_or("it is being connected");
    Some(format!(
        "{} {}: {why}",
        show::role(waiting.role),
        waiting.address
    ))
}

fn unreached(whom: &str, reach: &Reach) -> String {
    match reach {
        Reach::Trying {
            since,
            why: Some(why),
            ..
        } => {
            format!("the {whom} is not reached for {} s: {why}", since.as_secs())
        }
        Reach::Trying {
            since, why: None, ..
        } => {
            format!("connecting to the {whom} for {} s", since.as_secs())
        }
        Reach::Reached { .. } | Reach::NotNeeded => format!("waiting for the {whom}"),
    }
}

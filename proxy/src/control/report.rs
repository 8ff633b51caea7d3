//! What a process says of itself: `status` and `health`.

use std::collections::BTreeMap;

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

/// What is shown of each worker, besides the sums of them all: how even their load is.
const EACH: [&str; 10] = [
    "streams_open",
    "streams_total",
    "apps_handed",
    "lanes_open",
    "circuits_open",
    "links_handed",
    "legs_paired",
    "pairs_total",
    "bytes_relayed",
    "turns",
];

/// The answer to `status`: what does not change (`facts`), what the core says, what is counted.
pub fn status(
    facts: &Value,
    status: &Status,
    workers: &[Vec<(&'static str, u64)>],
    stopping: bool,
) -> Value {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, value) in workers.iter().flatten() {
        let sum = sums.entry(name).or_default();
        *sum = sum.saturating_add(*value);
    }
    let each = workers.iter().map(|counters| {
        let shown = counters.iter().filter(|(name, _)| EACH.contains(name));
        let shown = shown.map(|(name, value)| ((*name).to_string(), (*value).into()));
        Value::Object(shown.collect())
    });
    let each: Vec<Value> = each.collect();
    let own = json!({
        "ready": status.ready() && !stopping,
        "stopping": stopping,
        "counters": sums,
        "workers": each,
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
    let mut portals = status.portals.iter();
    let waiting = portals.find(|portal| !portal.ready && !portal.closing)?;
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

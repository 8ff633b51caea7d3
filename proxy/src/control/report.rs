//! What a process says of itself: `status` and `health`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::admin::show;
use crate::error::CloseReason;
use crate::ids::PortalNo;
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

/// What a process has counted.
pub struct Counted {
    /// The counters of each worker, by name.
    pub workers: Vec<Vec<(&'static str, u64)>>,
    /// Streams of all workers by why they ended.
    pub ended: Vec<(CloseReason, u64)>,
    /// Streams of each portal: those that have not ended, and all that began.
    pub streams: Vec<(PortalNo, (u64, u64))>,
}

impl Counted {
    /// Streams of a portal: those that have not ended, and all that began.
    pub fn streams_of(&self, portal: PortalNo) -> (u64, u64) {
        let mut streams = self.streams.iter();
        let found = streams.find(|(no, _)| *no == portal);
        found.map_or((0, 0), |(_, streams)| *streams)
    }
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
pub fn status(facts: &Value, status: &Status, counted: &Counted, stopping: bool) -> Value {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, value) in counted.workers.iter().flatten() {
        let sum = sums.entry(name).or_default();
        *sum = sum.saturating_add(*value);
    }
    let each = counted.workers.iter().map(|counters| {
        let shown = counters.iter().filter(|(name, _)| EACH.contains(name));
        let shown = shown.map(|(name, value)| ((*name).to_string(), (*value).into()));
        Value::Object(shown.collect())
    });
    let each: Vec<Value> = each.collect();
    let ended = counted.ended.iter().filter(|(_, count)| *count > 0);
    let ended = ended.map(|(why, count)| (why.code().to_string(), Value::from(*count)));
    let own = json!({
        "ready": status.ready() && !stopping,
        "stopping": stopping,
        "counters": sums,
        "workers": each,
        "ended": ended.collect::<serde_json::Map<_, _>>(),
    });
    let mut shown = show::status(status);
    let portals = shown["portals"].as_array_mut().into_iter().flatten();
    for (shown, portal) in portals.zip(&status.portals) {
        let (open, total) = counted.streams_of(portal.portal);
        shown["streams_open"] = open.into();
        shown["streams_total"] = total.into();
    }
    show::merged(show::merged(facts.clone(), shown), own)
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

//! `adit status`: what is connected, and why not. JSON is one object a line, one line a process.

use serde_json::{Value, json};
use std::time::Duration;

use super::args::StatusArgs;
use super::output::{self, list, pairs, short_id, text};
use super::reach;
use super::settings::Settings;
use super::values::duration_text;
use crate::control::admin::show::merged;
use crate::control::admin::wire::Call;
use crate::control::failure::Failure;

pub(super) fn run(settings: &Settings, args: &StatusArgs) -> Result<u8, Failure> {
    for mut process in reach::processes(settings, args.node.as_ref())? {
        let status = process.client.call(&Call::Status)?;
        if settings.json {
            output::json(&merged(json!({ "process": process.name }), status))?;
        } else {
            output::line(&describe(&process.name, &status))?;
        }
    }
    Ok(0)
}

/// The text form.
fn describe(name: &str, status: &Value) -> String {
    let mut lines = vec![format!(
        "{name}: {} (adit {} {}, process {})",
        if status["ready"] == true {
            "ready"
        } else {
            "not ready"
        },
        text(status, "what"),
        text(status, "version"),
        status["pid"],
    )];
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("  {name:<11} {value}"));
        }
    };
    fact("identity", text(status, "id").into());
    fact("project", project(&status["project"]));
    fact("member", membership(&status["membership"]));
    fact("authority", reached(&status["authority"]));
    fact("relay", reached(&status["relay"]));
    fact("engine", engine(&status["engine"]));
    fact("clock", clock(&status["clock_ahead_ms"]));
    fact("listening", listening(&status["listening"]));
    fact("metrics", metrics(&status["metrics"]));
    fact("server", server(&status["server"]));
    for served in status["server"]["served"].as_array().into_iter().flatten() {
        fact("serves", served_text(served));
    }
    fact("revocations", revocations(&status["revocations"]));
    for portal in status["portals"].as_array().into_iter().flatten() {
        fact(text(portal, "role"), portal_text(portal));
        fact("  rules", rules(&portal["rules"]));
    }
    fact("traffic", traffic(&status["counters"]));
    fact("last denial", denial(&status["last_denial"]));
    lines.join("\n")
}

/// The rules of a portal, on one line.
fn rules(value: &Value) -> String {
    let rules = value.as_array().into_iter().flatten();
    let rules = rules.filter_map(Value::as_str);
    rules.collect::<Vec<_>>().join("; ")
}

fn seconds(value: &Value) -> String {
    duration_text(Duration::from_secs(value.as_u64().unwrap_or(0)))
}

fn project(value: &Value) -> String {
    if value.is_null() {
        return String::new();
    }
    format!("{} {}", text(value, "name"), text(value, "id"))
}

fn membership(value: &Value) -> String {
    match text(value, "state") {
        "enrolled" => format!(
            "{}  {}  (credential {} ends in {})",
            text(value, "name"),
            pairs(&value["attributes"]),
            value["serial"],
            seconds(&value["expires_in_s"]),
        ),
        "not-enrolled" => format!("no: {} {}", text(value, "code"), text(value, "why")),
        "enrolling" => format!("enrolling for {}", seconds(&value["for_s"])),
        _ => String::new(),
    }
}

fn reached(value: &Value) -> String {
    match text(value, "state") {
        "reached" => format!("{} for {}", text(value, "at"), seconds(&value["for_s"])),
        "trying" => {
            let why = match text(value, "why") {
                "" => String::new(),
                why => format!(": {why}"),
            };
            let tried = format!("{} failures", value["failures"]);
            format!("not reached for {}, {tried}{why}", seconds(&value["for_s"]))
        }
        _ => String::new(),
    }
}

fn engine(value: &Value) -> String {
    let mut line = text(value, "kind").to_string();
    let features = list(&value["features"]);
    if !features.is_empty() {
        line.push_str(&format!(" ({features})"));
    }
    if let Some(workers @ 2..) = value["workers"].as_u64() {
        line.push_str(&format!(", {workers} workers"));
    }
    if let Some(why) = value["why_not_uring"].as_str() {
        line.push_str(&format!("; no io_uring: {why}"));
    }
    line
}

fn revocations(value: &Value) -> String {
    if value.is_null() {
        return String::new();
    }
    let ends = seconds(&value["max_age_s"]);
    match value["heard_s"].as_u64() {
        Some(0..=9) => format!("list {}, up to date", value["list"]),
        Some(_) => format!(
            "list {}, no word from the authority for {}; streams end at {ends}",
            value["list"],
            seconds(&value["heard_s"])
        ),
        None => "no word from the authority yet; no stream opens before it".into(),
    }
}

fn clock(ahead_ms: &Value) -> String {
    match ahead_ms.as_i64() {
        Some(ms) if ms.abs() >= 1000 => {
            let by = duration_text(Duration::from_millis(ms.unsigned_abs()));
            format!(
                "{by} {} the authority's",
                if ms > 0 { "ahead of" } else { "behind" }
            )
        }
        _ => String::new(),
    }
}

fn listening(value: &Value) -> String {
    let sockets = value.as_array().into_iter().flatten();
    sockets
        .map(|socket| text(socket, "address"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn metrics(value: &Value) -> String {
    let address = value.as_str();
    address.map_or_else(String::new, |it| format!("http://{it}/metrics"))
}

fn server(value: &Value) -> String {
    if value.is_null() {
        return String::new();
    }
    format!(
        "{} authority sessions, {} relay sessions, {} strangers",
        value["authority_sessions"], value["relay_sessions"], value["strangers"],
    )
}

fn served_text(value: &Value) -> String {
    let members = value["by"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let members: Vec<String> = members.map(short_id).collect();
    format!("{} by {}", text(value, "address"), members.join(", "))
}

fn portal_text(portal: &Value) -> String {
    let ready = if portal["ready"] == true {
        "ready".to_string()
    } else if portal["closing"] == true {
        "closing with its last connection".to_string()
    } else {
        match text(portal, "why") {
            "" => "not ready".to_string(),
            why => format!("not ready: {why}"),
        }
    };
    let peers = portal["peers"].as_array().into_iter().flatten();
    let peers: Vec<String> = peers
        .map(|peer| format!("{} {}", text(peer, "name"), short_id(text(peer, "id"))))
        .collect();
    let lanes = match portal["lanes"].as_u64() {
        Some(1) => "1 lane".to_string(),
        lanes => format!("{} lanes", lanes.unwrap_or(0)),
    };
    let parked = match portal["parked"].as_u64() {
        Some(parked) if parked > 0 => format!(", {parked} legs parked"),
        _ => String::new(),
    };
    let to = if peers.is_empty() {
        String::new()
    } else {
        format!(" with {}", peers.join(", "))
    };
    let trust = if portal["pinned"] == true {
        "peer's id pinned"
    } else {
        "trusts the authority"
    };
    format!(
        "{}  {ready}, {lanes}{to}{circuits}{parked}; {trust}",
        text(portal, "address"),
        circuits = circuits(&portal["circuits"]),
    )
}

/// Ready ones always; of the others those that there are.
fn circuits(value: &Value) -> String {
    let count = |name: &str| value[name].as_u64().unwrap_or(0);
    let (ready, building) = (count("ready"), count("building"));
    if ready + building == 0 {
        return String::new();
    }
    let mut line = format!(", {ready} circuits ready");
    for (name, what) in [
        ("building", "being made"),
        ("retiring", "retiring"),
        ("peak", "in use at most lately"),
    ] {
        if count(name) > 0 {
            line.push_str(&format!(", {} {what}", count(name)));
        }
    }
    line
}

fn traffic(counters: &Value) -> String {
    let count = |name: &str| counters[name].as_u64();
    match (count("streams_open"), count("streams_total")) {
        (Some(open), Some(total)) if total > 0 => format!(
            "{open} streams open, {total} begun, {} bytes sent, {} received",
            count("bytes_sent").unwrap_or(0),
            count("bytes_received").unwrap_or(0),
        ),
        _ => String::new(),
    }
}

fn denial(value: &Value) -> String {
    let Some(object) = value.as_object() else {
        return String::new();
    };
    let details = object
        .iter()
        .filter(|(key, _)| *key != "what" && *key != "code");
    let details: Vec<String> = details
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    format!(
        "{} {}  {}",
        text(value, "code"),
        text(value, "what"),
        details.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_described_by_one_line_a_fact() {
        let status = json!({
            "what": "inlet", "version": "0.1.0", "pid": 7, "ready": false, "id": "Iabc",
            "project": { "name": "acme", "id": "Idef" },
            "membership": { "state": "enrolled", "name": "a", "attributes": { "x": "1" },
                            "serial": 3, "expires_in_s": 3540 },
            "authority": { "state": "not-needed" },
            "relay": { "state": "trying", "for_s": 61, "failures": 2, "why": "refused" },
            "engine": { "kind": "epoll", "features": [], "workers": 2, "why_not_uring": "denied" },
            "clock_ahead_ms": -2000,
            "portals": [{ "role": "inlet", "address": "postgres", "ready": false, "lanes": 0,
                          "parked": 0, "peers": [], "pinned": true, "why": "no relay" },
                        { "role": "inlet", "address": "files", "ready": true, "lanes": 1,
                          "circuits": { "ready": 4, "building": 1, "retiring": 0, "peak": 3 },
                          "parked": 0, "peers": [{ "name": "bank", "id": "Ixyz" }],
                          "pinned": false }],
        });
        let expected = "\
node n: not ready (adit inlet 0.1.0, process 7)
  identity    Iabc
  project     acme Idef
  member      a  x=1  (credential 3 ends in 59m)
  relay       not reached for 1m 1s, 2 failures: refused
  engine      epoll, 2 workers; no io_uring: denied
  clock       2s behind the authority's
  inlet       postgres  not ready: no relay, 0 lanes; peer's id pinned
  inlet       files  ready, 1 lane with bank Ixyz…, 4 circuits ready, 1 being made, \
3 in use at most lately; trusts the authority";
        assert_eq!(describe("node n", &status), expected);
    }
}

//! `adit top`: the portals of this home, live: plain text that is drawn anew each interval on a terminal, a
//! table each interval elsewhere, and a line of JSON each interval with `--json`.

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::TopArgs;
use super::output::{self, table, text};
use super::reach;
use super::settings::Settings;
use crate::control::admin::show;
use crate::control::admin::wire::Call;
use crate::control::clock;
use crate::control::failure::Failure;
use crate::time::Instant;

/// Cursor to the top left, and everything behind it erased: nothing flickers, and what was scrolled
/// away stays.
const REDRAW: &str = "\x1b[H\x1b[J";
/// A screen of its own at the beginning.
const CLEAR: &str = "\x1b[2J";

/// What each process said, and when.
struct Look {
    at: Instant,
    said: Vec<(String, Value)>,
}

impl Look {
    fn take(settings: &Settings, args: &TopArgs) -> Result<Look, Failure> {
        let mut said = Vec::new();
        for mut process in reach::processes(settings, args.node.as_ref())? {
            said.push((process.name, process.client.call(&Call::Status)?));
        }
        let at = clock::mono();
        Ok(Look { at, said })
    }
}

pub(super) fn run(settings: &Settings, args: &TopArgs) -> Result<u8, Failure> {
    let terminal = std::io::stdout().is_terminal() && !settings.json;
    let mut before = Look::take(settings, args)?;
    if terminal {
        output::text_as_is(CLEAR)?;
    }
    let mut left = args.count;
    while left != Some(0) {
        std::thread::sleep(args.interval.0);
        let now = Look::take(settings, args)?;
        let rates = compared(&before, &now);
        if settings.json {
            output::json(&rates)?;
        } else {
            let head = if terminal { REDRAW } else { "" };
            output::text_as_is(&format!("{head}{}\n", drawn(&rates)))?;
        }
        before = now;
        left = left.map(|left| left - 1);
    }
    Ok(0)
}

/// What happened between two looks, a second.
fn compared(before: &Look, now: &Look) -> Value {
    let elapsed = now.at.since(before.at);
    let processes = now.said.iter().map(|(name, status)| {
        let old = before.said.iter().find(|(old, it)| {
            // A process that was started anew counts from 0.
            old == name && it["pid"] == status["pid"]
        });
        let old = old.map_or(&Value::Null, |(_, status)| status);
        process(name, old, status, elapsed)
    });
    let processes: Value = processes.collect();
    json!({
        "time": show::time(clock::now().wall()),
        "interval_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        "processes": processes,
    })
}

fn process(name: &str, old: &Value, status: &Value, elapsed: Duration) -> Value {
    let counters = &status["counters"];
    let counter = |name: &str| counters[name].as_u64().unwrap_or(0);
    let rate = |name: &str| a_second(&old["counters"][name], &counters[name], elapsed);
    let denials = |status: &Value| -> u64 {
        let denials = status["denials"].as_object().into_iter().flatten();
        denials.filter_map(|(_, count)| count.as_u64()).sum()
    };
    let olds = old["portals"].as_array();
    let portals = status["portals"].as_array().into_iter().flatten();
    let portals = portals.enumerate().map(|(at, portal)| {
        let old = olds.and_then(|olds| olds.get(at)).unwrap_or(&Value::Null);
        let begun = "streams_total";
        json!({
            "role": portal["role"],
            "address": portal["address"],
            "ready": portal["ready"],
            "lanes": portal["lanes"],
            "circuits": portal["circuits"]["ready"],
            "streams_open": portal["streams_open"],
            "streams_per_s": a_second(&old[begun], &portal[begun], elapsed),
        })
    });
    json!({
        "process": name,
        "ready": status["ready"],
        "streams_open": counter("streams_open"),
        "pairs_open": counter("legs_paired") / 2,
        "sent_bytes_per_s": rate("bytes_sent"),
        "received_bytes_per_s": rate("bytes_received"),
        "relayed_bytes_per_s": rate("bytes_relayed"),
        "denials": denials(status),
        "denials_new": denials(status).saturating_sub(denials(old)),
        "portals": portals.collect::<Value>(),
    })
}

/// What a count grew by, a second; whole numbers are enough for all that is shown.
fn a_second(old: &Value, new: &Value, elapsed: Duration) -> u64 {
    let (Some(old), Some(new)) = (old.as_u64(), new.as_u64()) else {
        return 0;
    };
    let millis = elapsed.as_millis().max(1);
    let grown = u128::from(new.saturating_sub(old)) * 1000 / millis;
    u64::try_from(grown).unwrap_or(u64::MAX)
}

fn drawn(rates: &Value) -> String {
    let head = [
        "",
        "READY",
        "STREAMS",
        "NEW/S",
        "SENT/S",
        "RECEIVED/S",
        "RELAYED/S",
        "LANES",
        "DENIALS",
    ];
    let mut rows = Vec::new();
    for process in rates["processes"].as_array().into_iter().flatten() {
        let portals = process["portals"].as_array();
        let portals = portals.map(Vec::as_slice).unwrap_or_default();
        let sum = |key: &str| {
            portals
                .iter()
                .filter_map(|it| it[key].as_u64())
                .sum::<u64>()
        };
        let bytes = |key: &str| size(process[key].as_u64().unwrap_or(0));
        rows.push(vec![
            text(process, "process").into(),
            yes(&process["ready"]),
            process["streams_open"].to_string(),
            sum("streams_per_s").to_string(),
            bytes("sent_bytes_per_s"),
            bytes("received_bytes_per_s"),
            bytes("relayed_bytes_per_s"),
            sum("lanes").to_string(),
            process["denials"].to_string(),
        ]);
        rows.extend(portals.iter().map(|portal| {
            vec![
                format!("  {} {}", text(portal, "role"), text(portal, "address")),
                yes(&portal["ready"]),
                portal["streams_open"].to_string(),
                portal["streams_per_s"].to_string(),
                String::new(),
                String::new(),
                String::new(),
                portal["lanes"].to_string(),
            ]
        }));
    }
    let time = text(rates, "time");
    format!("adit top  {time}  (Ctrl-C ends)\n{}", table(&head, &rows))
}

fn yes(ready: &Value) -> String {
    if ready == true { "yes" } else { "no" }.into()
}

/// Bytes in the largest unit of which there is one at least.
fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, word) in units {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return format!("{}.{} {word}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(millis: u64, pid: u64, bytes: u64, begun: u64) -> Look {
        let status = json!({
            "pid": pid, "ready": true, "denials": { "ADIT-3260": begun },
            "counters": { "streams_open": 2, "bytes_sent": bytes },
            "portals": [{ "role": "inlet", "address": "db", "ready": true, "lanes": 1,
                          "streams_open": 2, "streams_total": begun }],
        });
        Look {
            at: Instant::ZERO + Duration::from_millis(millis),
            said: vec![("node n".into(), status)],
        }
    }

    #[test]
    fn rates_are_a_second_and_begin_anew_with_the_process() {
        let rates = compared(&look(0, 1, 1000, 10), &look(500, 1, 3000, 14));
        let process = &rates["processes"][0];
        assert_eq!(process["sent_bytes_per_s"], 4000);
        assert_eq!(process["portals"][0]["streams_per_s"], 8);
        assert_eq!(
            (&process["denials"], &process["denials_new"]),
            (&14.into(), &4.into())
        );
        let other = compared(&look(0, 1, 1000, 10), &look(500, 2, 3000, 14));
        assert_eq!(other["processes"][0]["sent_bytes_per_s"], 0);
        let shown = drawn(&rates);
        assert!(
            shown.contains("  inlet db") && shown.contains("3.9 KiB"),
            "{shown}"
        );
    }

    #[test]
    fn sizes_are_in_the_largest_unit() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (3 << 30, "3.0 GiB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}

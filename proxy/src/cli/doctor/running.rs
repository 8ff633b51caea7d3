//! A process that answers: what it says of itself, and whether what it connects to is there.

use std::time::Duration;

use serde_json::Value;

use super::dial;
use crate::cli::checks::Check;
use crate::cli::output::text;
use crate::cli::values::duration_text;
use crate::error::{self, Code, Problem};
use crate::limits::CLOCK_SKEW_WARN;

/// Of `status`, in the order in which one thing needs the other.
pub(super) fn checks(status: &Value) -> Vec<Check> {
    let process = format!("{} runs as {}", text(status, "what"), status["pid"]);
    let mut checks = vec![Check::good("process", process)];
    checks.extend(member(&status["membership"]));
    checks.extend(clock(&status["clock_ahead_ms"]));
    checks.extend(reached("authority", &status["authority"]));
    checks.extend(reached("relay", &status["relay"]));
    checks.extend(revocations(&status["revocations"]));
    for listener in status["listening"].as_array().into_iter().flatten() {
        checks.push(Check::good(
            "port",
            format!("{} listens", text(listener, "address")),
        ));
    }
    for portal in status["portals"].as_array().into_iter().flatten() {
        checks.push(ready(portal));
        let targets = portal["targets"].as_array().into_iter().flatten();
        let targets = targets.filter_map(|it| it.as_str()?.parse().ok());
        checks.extend(targets.map(|place| dial::target(&place)));
    }
    if status["server"]["ready"] == false {
        let fix = "look at its log";
        checks.push(Check::bad("server", "it does not serve yet", fix));
    }
    checks
}

fn seconds(value: &Value) -> String {
    duration_text(Duration::from_secs(value.as_u64().unwrap_or(0)))
}

fn member(membership: &Value) -> Vec<Check> {
    match text(membership, "state") {
        "not-enrolled" => {
            let said = format!("{} {}", text(membership, "code"), text(membership, "why"));
            let code = text(membership, "code").strip_prefix("ADIT-");
            let code = code.and_then(|digits| digits.parse().ok()).map(Code);
            let mend = code.and_then(error::mend);
            let fix = mend.unwrap_or(Problem::NoTicket.mend());
            vec![Check::bad("member", said, fix)]
        }
        "enrolling" => {
            let said = format!(
                "its ticket is being redeemed for {}",
                seconds(&membership["for_s"])
            );
            let fix = Problem::AuthorityUnreachable.mend();
            vec![Check::unknown("member", said, fix)]
        }
        "enrolled" => {
            let left = &membership["expires_in_s"];
            let serial = &membership["serial"];
            let credential = if left.as_u64().unwrap_or(0) == 0 {
                let said = format!("number {serial} is over and was not renewed");
                Check::bad("credential", said, Problem::CredentialExpired.mend())
            } else {
                let said = format!("number {serial} is good for {}", seconds(left));
                Check::good("credential", said)
            };
            vec![Check::good("member", text(membership, "name")), credential]
        }
        _ => Vec::new(),
    }
}

fn clock(ahead: &Value) -> Option<Check> {
    let ahead_ms = ahead.as_i64()?;
    let by = Duration::from_millis(ahead_ms.unsigned_abs());
    let side = if ahead_ms < 0 { "behind" } else { "ahead of" };
    let said = format!("{} ms {side} the authority's", by.as_millis());
    Some(if by > CLOCK_SKEW_WARN {
        Check::bad("clock", said, Problem::ClockSkew.mend())
    } else {
        Check::good("clock", said)
    })
}

fn reached(whom: &'static str, reach: &Value) -> Option<Check> {
    match text(reach, "state") {
        "reached" => {
            let said = format!("{} for {}", text(reach, "at"), seconds(&reach["for_s"]));
            Some(Check::good(whom, said))
        }
        "trying" => {
            let why = match text(reach, "why") {
                "" => "no answer yet",
                why => why,
            };
            let said = format!("not reached for {}: {why}", seconds(&reach["for_s"]));
            let problem = match whom {
                "relay" => Problem::RelayUnreachable,
                _ => Problem::AuthorityUnreachable,
            };
            Some(Check::bad(whom, said, problem.mend()))
        }
        _ => None,
    }
}

fn revocations(value: &Value) -> Option<Check> {
    let max = value["max_age_s"].as_u64()?;
    Some(match value["heard_s"].as_u64() {
        Some(age) if age < max => Check::good("revocations", format!("heard {age}s ago")),
        Some(age) => {
            let said = format!("no word from the authority for {age}s: streams are cut");
            Check::bad("revocations", said, Problem::RevocationsLate.mend())
        }
        None => {
            let said = "no word from the authority yet: no stream opens";
            Check::bad("revocations", said, Problem::RevocationsLate.mend())
        }
    })
}

fn ready(portal: &Value) -> Check {
    let (role, address) = (text(portal, "role"), text(portal, "address"));
    if portal["ready"] == true {
        return Check::good("portal", format!("{role} {address} is ready"));
    }
    let why = match text(portal, "why") {
        "" => "it is being connected",
        why => why,
    };
    let said = format!("{role} {address} is not ready: {why}");
    Check::bad("portal", said, format!("adit why {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::checks::Outcome;
    use serde_json::json;

    fn outcomes(status: &Value) -> Vec<Outcome> {
        checks(status).iter().map(|check| check.outcome).collect()
    }

    #[test]
    fn what_a_node_lacks_is_a_cross() {
        let good = json!({
            "what": "inlet", "pid": 1, "clock_ahead_ms": -20,
            "membership": { "state": "enrolled", "name": "a", "serial": 3, "expires_in_s": 60 },
            "relay": { "state": "reached", "at": "relay", "for_s": 3 },
            "revocations": { "list": 0, "heard_s": 1, "max_age_s": 300 },
            "portals": [{ "role": "inlet", "address": "db", "ready": true }],
        });
        assert!(outcomes(&good).iter().all(|it| *it == Outcome::Good));
        for (key, bad) in [
            ("clock_ahead_ms", json!(31_000)),
            (
                "membership",
                json!({ "state": "not-enrolled", "code": "ADIT-2003", "why": "used" }),
            ),
            (
                "membership",
                json!({ "state": "enrolled", "name": "a", "serial": 3, "expires_in_s": 0 }),
            ),
            (
                "relay",
                json!({ "state": "trying", "for_s": 3, "failures": 2, "why": "refused" }),
            ),
            (
                "revocations",
                json!({ "list": 0, "heard_s": 300, "max_age_s": 300 }),
            ),
            (
                "revocations",
                json!({ "list": 0, "heard_s": null, "max_age_s": 300 }),
            ),
            (
                "portals",
                json!([{ "role": "inlet", "address": "db", "ready": false }]),
            ),
            ("server", json!({ "ready": false })),
        ] {
            let mut status = good.clone();
            status[key] = bad;
            let bad = outcomes(&status)
                .iter()
                .filter(|it| **it == Outcome::Bad)
                .count();
            assert_eq!(bad, 1, "{key}");
        }
    }
}

//! `adit why ADDRESS`: whether a connection from here would be allowed, step by step.
//!
//! It tells what this end knows: its membership, its permission, the path, and its own policy's word on
//! who is at the other end. The other end's policy is not told to peers, by design: what this end knows of
//! it is that it let this node in, or said "not authorized". The rule is in `adit why` and the log there.

use std::time::Duration;

use serde_json::Value;

use super::args::WhyArgs;
use super::checks::{self, Check, Outcome, Section};
use super::output::{list, short_id, text};
use super::reach;
use super::settings::Settings;
use super::values::duration_text;
use crate::control::admin::wire::Call;
use crate::control::failure::{Exit, Failure};
use crate::error::{CloseReason, Problem};

pub(super) fn run(settings: &Settings, args: &WhyArgs) -> Result<u8, Failure> {
    let address = args.address.to_string();
    let mut sections = Vec::new();
    let mut refused = None;
    for mut process in reach::processes(settings, args.node.as_ref())? {
        let call = Call::Why {
            address: address.clone(),
        };
        let said = match process.client.call(&call) {
            Ok(said) => said,
            // Another process may have the portal.
            Err(failure) if failure.code == Problem::NoSuchPortal.code() => {
                refused = Some(failure);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let status = process.client.call(&Call::Status)?;
        for portal in said.as_array().into_iter().flatten() {
            sections.push(section(&process.name, &address, portal, &status));
        }
    }
    if sections.is_empty()
        && let Some(failure) = refused
    {
        return Err(failure.fix(Problem::NoSuchPortal.mend()));
    }
    checks::print(&sections, settings.json)?;
    let allowed = !sections.iter().any(Section::has_bad);
    Ok(if allowed { 0 } else { Exit::Denied.number() })
}

fn section(process: &str, address: &str, portal: &Value, status: &Value) -> Section {
    let role = text(portal, "role");
    let shown = status["portals"].as_array().into_iter().flatten();
    let mut shown = shown.filter(|it| text(it, "role") == role && text(it, "address") == address);
    let shown = shown.next().unwrap_or(&Value::Null);
    let denial = &status["last_denial"];
    let denial = (text(denial, "address") == address).then_some(denial);
    let mut checks = vec![
        member(&status["membership"]),
        permission(role, address, portal),
    ];
    checks.push(revocations(&status["revocations"]));
    checks.push(relay(&status["relay"]));
    checks.push(path(role, shown));
    checks.extend(rules(role, portal, shown, denial));
    checks.push(other_end(role, address, portal, shown));
    let bad = checks.iter().any(|check| check.outcome == Outcome::Bad);
    let word = match (role, bad) {
        ("outlet", false) => "connections from inlets are allowed",
        ("outlet", true) => "no connection would come through",
        (_, false) => "a connection would be allowed",
        (_, true) => "a connection would be refused",
    };
    Section {
        about: format!("{role} {address} ({process}): {word}"),
        checks,
    }
}

fn seconds(value: &Value) -> String {
    duration_text(Duration::from_secs(value.as_u64().unwrap_or(0)))
}

fn member(membership: &Value) -> Check {
    if text(membership, "state") != "enrolled" {
        let why = match text(membership, "why") {
            "" => "this node is no member yet",
            why => why,
        };
        return Check::bad("member", why, "adit doctor");
    }
    let (name, left) = (text(membership, "name"), &membership["expires_in_s"]);
    if left.as_u64().unwrap_or(0) == 0 {
        let said = format!("{name}: the credential is over");
        return Check::bad("member", said, Problem::CredentialExpired.mend());
    }
    Check::good(
        "member",
        format!("{name}, credential good for {}", seconds(left)),
    )
}

fn permission(role: &str, address: &str, portal: &Value) -> Check {
    let may = if role == "outlet" {
        "serve"
    } else {
        "connect to"
    };
    match portal["permitted"].as_bool() {
        Some(true) => Check::good("permission", format!("this node may {may} {address}")),
        Some(false) => {
            let fix = format!(
                "adit ticket create --may-{} {address} …, and enroll with it",
                if role == "outlet" { "serve" } else { "connect" }
            );
            Check::bad(
                "permission",
                format!("this node may not {may} {address}"),
                fix,
            )
        }
        None => Check::unknown(
            "permission",
            "not known without a membership",
            "adit doctor",
        ),
    }
}

fn revocations(value: &Value) -> Check {
    let max = value["max_age_s"].as_u64().unwrap_or(0);
    match value["heard_s"].as_u64() {
        Some(age) if age < max => {
            let said = format!("the authority's word is {age}s old");
            Check::good("revocations", said)
        }
        Some(_) | None => {
            let said = "no word from the authority: no stream opens";
            Check::bad("revocations", said, Problem::RevocationsLate.mend())
        }
    }
}

/// Lanes that are open need it no more.
fn relay(reach: &Value) -> Check {
    match text(reach, "state") {
        "reached" => Check::good("relay", text(reach, "at")),
        _ => {
            let why = match text(reach, "why") {
                "" => "not reached",
                why => why,
            };
            Check::unknown("relay", why, Problem::RelayUnreachable.mend())
        }
    }
}

fn path(role: &str, shown: &Value) -> Check {
    let (lanes, parked) = (&shown["lanes"], &shown["parked"]);
    if shown["ready"] == true {
        return Check::good(
            "path",
            match role {
                "outlet" => format!("{parked} legs parked at the relay, lanes: {lanes}"),
                _ => format!("lanes to the outlet: {lanes}"),
            },
        );
    }
    let why = match text(shown, "why") {
        "" => "it is being connected",
        why => why,
    };
    let fix = match role {
        "outlet" => "adit status says what the portal waits for",
        _ => CloseReason::NoOutlet.mend(),
    };
    Check::bad("path", why, fix)
}

/// This end's policy: the rule for each peer, else the last one that it denied.
fn rules(role: &str, portal: &Value, shown: &Value, denial: Option<&Value>) -> Vec<Check> {
    let other = if role == "outlet" { "inlet" } else { "outlet" };
    let mut checks = Vec::new();
    for peer in portal["peers"].as_array().into_iter().flatten() {
        let who = format!(
            "{other} {} {}",
            text(peer, "name"),
            short_id(text(peer, "id"))
        );
        checks.push(if peer["allowed"] == true {
            Check::good("rule here", format!("{} allows {who}", text(peer, "rule")))
        } else {
            let said = format!("{} denies {who}: {}", text(peer, "rule"), text(peer, "why"));
            Check::bad(
                "rule here",
                said,
                "adit policy explain says which rule decides",
            )
        });
    }
    if let Some(denial) = denial.filter(|denial| !text(denial, "rule").is_empty()) {
        let peer = short_id(text(denial, "peer"));
        let (rule, why) = (text(denial, "rule"), text(denial, "why"));
        let said = format!("the last denial: {rule} did not allow {other} {peer}: {why}");
        let fix = "change the rule here, or give the peer the attribute: adit ticket create --attribute NAME=VALUE …";
        checks.push(match checks.is_empty() && role == "inlet" {
            true => Check::bad("rule here", said, fix),
            // Somebody else is let in.
            false => Check::unknown("rule here", said, fix),
        });
    }
    if checks.is_empty() {
        let rules = list(&shown["rules"]);
        checks.push(if rules.is_empty() {
            Check::bad(
                "rule here",
                "there is none, so nobody is allowed",
                "--allow RULE",
            )
        } else {
            let said = format!("{rules}; no {other} was there to ask it about");
            Check::unknown("rule here", said, format!("start the {other}"))
        });
    }
    checks
}

/// What this end knows of the other one's policy.
fn other_end(role: &str, address: &str, portal: &Value, shown: &Value) -> Check {
    let ask = format!("adit why {address}, at the other end");
    let has_peer = portal["peers"]
        .as_array()
        .is_some_and(|peers| !peers.is_empty());
    if has_peer {
        return Check::good(
            "other end",
            "let this node in; by which rule it does not say",
        );
    }
    if text(shown, "why").contains(&CloseReason::NotAuthorized.to_string()) {
        let said = "said \"not authorized\"; by which rule it does not say";
        return Check::bad("other end", said, ask);
    }
    let other = if role == "outlet" { "inlet" } else { "outlet" };
    Check::unknown("other end", format!("no {other} has said yet"), ask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Value {
        json!({
            "membership": { "state": "enrolled", "name": "a", "expires_in_s": 60 },
            "relay": { "state": "reached", "at": "relay" },
            "revocations": { "heard_s": 1, "max_age_s": 300 },
            "last_denial": null,
            "portals": [{ "role": "inlet", "address": "db", "ready": true, "lanes": 1,
                          "rules": ["allow x=1"] }],
        })
    }

    fn inlet(permitted: bool, allowed: bool) -> Value {
        json!({ "role": "inlet", "permitted": permitted, "peers": [
            { "id": "Ibank", "name": "bank", "allowed": allowed, "rule": "x=1", "why": "x is missing" },
        ]})
    }

    #[test]
    fn each_step_that_says_no_refuses_the_connection() {
        let good = section("node n", "db", &inlet(true, true), &status());
        assert!(!good.has_bad() && good.about.ends_with("a connection would be allowed"));
        assert!(
            good.text().contains("x=1 allows outlet bank"),
            "{}",
            good.text()
        );
        assert!(section("node n", "db", &inlet(false, true), &status()).has_bad());
        let denied = section("node n", "db", &inlet(true, false), &status());
        assert!(denied.text().contains("x=1 denies outlet bank"));
        for (key, value) in [
            (
                "membership",
                json!({ "state": "not-enrolled", "why": "no ticket" }),
            ),
            ("revocations", json!({ "heard_s": null, "max_age_s": 300 })),
            (
                "portals",
                json!([{ "role": "inlet", "address": "db", "ready": false }]),
            ),
        ] {
            let mut status = status();
            status[key] = value;
            assert!(
                section("node n", "db", &inlet(true, true), &status).has_bad(),
                "{key}"
            );
        }
    }

    #[test]
    fn what_the_other_end_said_is_told_and_no_rule_of_it() {
        let mut status = status();
        status["portals"][0]["ready"] = false.into();
        status["portals"][0]["why"] = "the outlet denied this node: not authorized".into();
        let portal = json!({ "role": "inlet", "permitted": true, "peers": [] });
        let text = section("node n", "db", &portal, &status).text();
        assert!(text.contains("✗ other end"), "{text}");
        assert!(text.contains("by which rule it does not say"), "{text}");
    }
}

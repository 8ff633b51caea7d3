//! The audit trail as an administrator sees it: what it tells, that it is whole, and that a row that was
//! changed, taken out or moved is named.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

use serde_json::Value;
use tests::portal::{self, Engine, Project, SHORTLY};
use tests::process::Process;

/// A project with an inlet that has enrolled, and one that came too late.
fn project() -> Project {
    let project = Project::start(Engine::Epoll).unwrap();
    let ticket = project.inlet_ticket("inlet").unwrap();
    let ticket = ticket.to_str().unwrap();
    for (name, code) in [("first", 0), ("second", 3)] {
        let home = project.home(name).unwrap();
        let enrolled = portal::run(&home, &["enroll", "--ticket", ticket]).unwrap();
        assert_eq!(enrolled.code(), Some(code), "{enrolled}");
    }
    project
}

/// The rows that a command prints, one a line.
fn rows(project: &Project, args: &[&str]) -> Vec<Value> {
    let printed = project.admin(args).unwrap().success().unwrap().text();
    let rows = printed.lines();
    rows.map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn it_tells_who_was_let_in_and_who_was_refused_with_and_without_a_running_authority() {
    let mut project = project();
    let revoke = ["member", "revoke", "inlet", "--reason", "contract ended"];
    project.admin(&revoke).unwrap().success().unwrap();
    let told = rows(&project, &["audit", "export"]);
    let actions: Vec<&str> = told
        .iter()
        .filter_map(|row| row["action"].as_str())
        .collect();
    let inlet = [
        "ticket.created",
        "ticket.redeemed",
        "credential.issued",
        "ticket.reused",
        "member.revoked",
    ];
    assert_eq!(actions[0], "project.created");
    assert!(actions.ends_with(&inlet), "{actions:?}");
    let last = told.last().unwrap();
    assert_eq!(last["details"]["name"], "inlet");
    assert_eq!(last["details"]["reason"], "contract ended");
    let newest = rows(&project, &["audit", "tail", "--json", "-n", "2"]);
    assert_eq!(newest, told[told.len() - 2..]);
    project.serve.kill();
    assert_eq!(rows(&project, &["audit", "export"]), told);
    let whole = project.admin(&["audit", "verify", "--json"]).unwrap();
    let whole = whole.json().unwrap();
    assert_eq!(whole["rows"], told.len());
    assert_eq!(whole["head"]["hash"], last["hash"]);
    // What was noted is asked for again.
    let noted = format!("{}:{}", last["number"], last["hash"].as_str().unwrap());
    let again = project
        .admin(&["audit", "verify", "--head", &noted])
        .unwrap();
    again.success().unwrap();
    let other = format!("{}:{}", last["number"], "0".repeat(64));
    let refused = project
        .admin(&["audit", "verify", "--head", &other])
        .unwrap();
    refused.failure(1, "another hash").unwrap();
}

#[test]
fn an_export_with_a_row_that_was_changed_taken_out_or_moved_is_refused_and_names_it() {
    let project = project();
    let exported = project.admin(&["audit", "export"]).unwrap();
    let exported = exported.success().unwrap().text();
    let lines: Vec<&str> = exported.lines().collect();
    let file = project.ticket_file("export");
    let verify = |lines: &[&str]| {
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        let args = ["audit", "verify", file.to_str().unwrap()];
        project.admin(&args).unwrap()
    };
    let fits = verify(&lines).success().unwrap().text();
    let noted = fits.lines().find_map(|line| line.strip_prefix("head: "));
    let noted = noted.unwrap().to_owned();
    // One that was cut off fits as well: nothing in it tells where the trail ended.
    let cut = &lines[..lines.len() - 1];
    let fits = verify(cut).success().unwrap().text();
    let said = format!(
        "fits: rows 1 to {}; what may be missing behind them",
        cut.len()
    );
    assert!(fits.starts_with(&said), "{fits}");
    let args = ["audit", "verify", file.to_str().unwrap(), "--head", &noted];
    let missed = project.admin(&args).unwrap();
    missed.failure(1, "which was noted, is missing").unwrap();
    let mut changed = lines.clone();
    let forged = changed[2].replacen("\"at\":\"2", "\"at\":\"3", 1);
    assert_ne!(forged, changed[2]);
    changed[2] = &forged;
    verify(&changed).failure(1, "row 3 does not fit").unwrap();
    let mut short = lines.clone();
    short.remove(2);
    verify(&short).failure(1, "row 3 is missing").unwrap();
    let mut moved = lines.clone();
    moved.swap(2, 3);
    verify(&moved).failure(1, "row 3 is missing").unwrap();
    let mut broken = lines.clone();
    broken[3] = "{}";
    verify(&broken).failure(1, "line 4 is no row").unwrap();
}

#[test]
fn who_follows_it_sees_a_revocation_when_it_happens() {
    let project = project();
    // Standard output has no waits of its own here.
    let mut follow = Command::new("sh");
    follow
        .args(["-c", "exec \"$0\" audit tail --follow -n 1 >&2"])
        .arg(portal::adit().unwrap())
        .env("ADIT_HOME", project.serve.home());
    let following = Process::spawn("audit tail", follow).unwrap();
    following
        .wait_for_line(&["ticket.reused"], SHORTLY)
        .unwrap();
    let revoke = ["member", "revoke", "inlet", "--reason", "contract ended"];
    project.admin(&revoke).unwrap().success().unwrap();
    let said = following
        .wait_for_line(&["member.revoked"], SHORTLY)
        .unwrap();
    assert!(said.ends_with("reason=contract ended"), "{said}");
}

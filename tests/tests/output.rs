//! What commands print, and what becomes of it where it can't be written or is not to be read by a
//! person; and what the log does not say.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tests::portal::{self, Engine, Part, Portal, Project, SHORTLY};
use tests::process::{Ended, Process};
use tests::tcp::{self, Service};

/// Runs `adit` in this project's home with standard output on a disk without room.
fn to_a_full_disk(project: &Project, args: &[&str]) -> Ended {
    let adit = portal::command(project.serve.home(), args).unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec \"$0\" \"$@\" > /dev/full"])
        .arg(adit.get_program())
        .args(adit.get_args());
    for (name, value) in adit.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    Process::run("adit to a full disk", shell, SHORTLY).unwrap()
}

/// The error that standard error holds as JSON.
fn json_error(ended: &Ended) -> Value {
    let lines = ended.stderr.lines();
    let found: Vec<Value> = lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(found.len(), 1, "{ended}");
    let error = found[0]["error"].clone();
    for key in ["code", "what", "fix"] {
        assert_ne!(
            error[key].as_str().unwrap_or_default(),
            "",
            "{key}: {ended}"
        );
    }
    error
}

#[test]
fn a_result_that_can_not_be_written_is_an_error() {
    let project = Project::start(Engine::Epoll).unwrap();
    for typed in [
        &["ticket", "create", "--name", "lost"][..],
        &["ticket", "create", "--name", "lost", "--json"],
        &["ticket", "list"],
        &["member", "list"],
        &["status"],
        &["health", "--json"],
        &["--help"],
        &["ticket", "create", "--help"],
        &["--version"],
    ] {
        let ended = to_a_full_disk(&project, typed);
        ended.failure(1, "ADIT-1502").unwrap();
    }
    let lost = to_a_full_disk(&project, &["ticket", "create", "--name", "lost"]);
    assert!(lost.stderr.contains("the ticket was made"), "{lost}");
    assert!(!lost.stderr.contains("next:"), "{lost}");
}

#[test]
fn errors_are_json_where_that_is_wanted_and_say_what_to_do() {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let run = |args: &[&str]| portal::run(home.path(), args).unwrap();
    for (typed, fix) in [
        (&["--json", "bogus"][..], "adit --help"),
        (
            &["ticket", "create", "--bogus", "--json"],
            "adit ticket create --help",
        ),
        (&["--log-format", "json", "member"], "adit member --help"),
    ] {
        let ended = run(typed);
        assert_eq!(ended.code(), Some(2), "{ended}");
        let error = json_error(&ended);
        assert_eq!(
            (&error["code"], &error["fix"]),
            (&"ADIT-1001".into(), &fix.into())
        );
    }
    let ended = run(&["inlat"]);
    let text = ended.failure(2, "fix: adit --help").unwrap().stderr;
    assert!(!text.contains("For more information"), "{text}");
}

#[test]
fn the_demo_is_one_object_where_json_is_wanted() {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let demo = portal::run(home.path(), &["demo", "--json", "--engine", "epoll"]).unwrap();
    assert!(!demo.stderr.contains("lane was lost"), "{demo}");
    let told = demo.json().unwrap();
    assert_eq!(told["demo"], "done");
    assert!(told["steps"].as_array().unwrap().len() >= 5, "{told}");
}

#[test]
fn a_configuration_without_an_end_is_refused_at_once() {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let ended = portal::run(home.path(), &["run", "--config", "/dev/zero"]).unwrap();
    let ended = ended.failure(2, "ADIT-1101").unwrap();
    assert!(ended.stderr.contains("fix: "), "{ended}");
}

#[test]
fn refusals_of_the_authority_say_what_to_do() {
    let project = Project::start(Engine::Epoll).unwrap();
    let taken = project
        .admin(&["ticket", "create", "--name", "admin", "--json"])
        .unwrap();
    assert_eq!(taken.code(), Some(1), "{taken}");
    assert_eq!(json_error(&taken)["code"], "ADIT-2007");
    let address = project.public().to_string();
    let again = ["project", "create", "acme", "--address", &address];
    let again = project
        .admin(&again)
        .unwrap()
        .failure(4, "ADIT-1152")
        .unwrap();
    assert!(
        again.stderr.contains("fix: adit status --project acme"),
        "{again}"
    );
}

#[test]
fn a_thousand_apps_that_reset_their_connections_are_no_news() {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    for _ in 0..1000 {
        let app = tcp::connect(portal.entry()).unwrap();
        tcp::reset(app).unwrap();
    }
    tcp::ping(&tcp::connect(portal.entry()).unwrap(), b"still there").unwrap();
    for part in [Part::Inlet, Part::Outlet] {
        let lines = portal.node(part).process().lines();
        assert!(lines < 50, "{part:?} logged {lines} lines");
    }
}

#[test]
fn a_bundle_is_logged_by_its_number_alone() {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    let opened = portal.node(Part::Inlet).process();
    let opened = opened
        .wait_for_line(&["portal open", "bundle="], Duration::from_secs(5))
        .unwrap();
    assert!(!opened.contains("BundleId"), "{opened}");
}

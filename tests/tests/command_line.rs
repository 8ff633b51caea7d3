//! What a person who mistypes, or whose state is not as it should be, gets to read; and the forms in
//! which programs get it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;
use tests::portal::{self, ADDRESS, Engine, PROJECT, Project, SHORTLY, START};
use tests::process::Ended;
use tests::tcp;

/// Runs `adit` in a new home.
fn adit(args: &[&str]) -> Ended {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    portal::run(home.path(), args).unwrap()
}

#[test]
fn a_mistake_says_what_was_expected() {
    for (typed, expected) in [
        (&["inlet", "--form", "127.0.0.1:0"][..], "--from"),
        (&["inlat"], "inlet"),
        (
            &["inlet", "--via", "UPPER", "--from", "127.0.0.1:0"],
            "a relay address has 1 to 63 characters",
        ),
        (
            &["ticket", "create", "--expires-in", "10"],
            "a number and a unit",
        ),
        (&["ticket", "create", "--attribute", "x"], "NAME=VALUE"),
        (&["run", "--config", "/nonexistent"], "ADIT-1101"),
    ] {
        adit(typed).failure(2, expected).unwrap();
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let help = adit(&["--help"]).success().unwrap();
    assert!(help.text().contains("adit demo"), "{help}");
    let version = adit(&["--version"]).success().unwrap();
    assert!(version.text().starts_with("adit "), "{version}");
}

#[test]
fn commands_without_their_project_or_process_say_what_to_do() {
    let inlet = ["inlet", "--via", ADDRESS, "--from", "127.0.0.1:0"];
    for (typed, code, expected) in [
        (&["serve"][..], 4, "adit project create"),
        (&["ticket", "list"], 4, "adit project create"),
        (&["status"], 1, "ADIT-1401"),
        (&inlet, 3, "there is no ticket"),
    ] {
        adit(typed).failure(code, expected).unwrap();
    }
}

#[test]
fn a_second_process_on_a_state_directory_is_told_of_the_first() {
    let mut project = Project::start(Engine::Epoll).unwrap();
    let other = tcp::own_address().unwrap().to_string();
    let second = project.admin(&["serve", "--listen", &other]).unwrap();
    let holder = format!(
        "process {} (adit serve) uses it",
        project.serve.process().id()
    );
    second.failure(4, &holder).unwrap();
}

/// A project whose authority has ended, and the file with its key.
fn at_rest() -> (Project, PathBuf) {
    let mut project = Project::start(Engine::Epoll).unwrap();
    project.serve.kill();
    let key = project.serve.home().join(PROJECT).join("authority.key");
    (project, key)
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_chmod() {
    let (project, key) = at_rest();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let fix = format!("fix: chmod 600 {}", key.display());
    project.admin(&["serve"]).unwrap().failure(4, &fix).unwrap();
}

#[test]
fn a_damaged_key_is_named_and_left_alone() {
    let (project, key) = at_rest();
    fs::write(&key, b"garbage").unwrap();
    let refused = project.admin(&["serve"]).unwrap();
    refused.failure(4, "ADIT-1205").unwrap();
    assert_eq!(fs::read(&key).unwrap(), b"garbage");
}

#[test]
fn an_error_is_json_where_that_was_asked_for() {
    let error = adit(&["status", "--json"]).failure(1, "").unwrap();
    let error: Value = serde_json::from_str(error.stderr.trim()).unwrap();
    assert_eq!(error["error"]["code"], "ADIT-1401");
}

#[test]
fn a_log_is_json_where_that_was_asked_for() {
    let mut project = Project::start(Engine::Epoll).unwrap();
    project
        .serve
        .restart_with(&["--log-format", "json"])
        .unwrap();
    let serve = project.serve.process();
    serve.wait_for_line(&["\"what\":\"ready\""], START).unwrap();
    serve.signal(rustix::process::Signal::TERM);
    serve.wait(SHORTLY).unwrap();
    for line in serve.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string(), "{line}");
    }
}

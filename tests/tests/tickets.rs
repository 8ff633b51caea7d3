//! Enrollment by hand (`adit enroll`): tickets that are used, expired, malformed, bound. How a node
//! that runs takes a bad ticket is in `denials`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use tests::portal::{self, Engine, PROJECT, Project, SHORTLY};
use tests::process::{Ended, Failure, Process, eventually};
use tests::tcp::PATIENCE;

fn project() -> Project {
    Project::start(Engine::Epoll).unwrap()
}

/// Redeems a ticket in a home of this name.
fn enroll(project: &Project, home: &str, ticket: &Path) -> Ended {
    let home = project.home(home).unwrap();
    let args = ["enroll", "--json", "--ticket", ticket.to_str().unwrap()];
    portal::run(&home, &args).unwrap()
}

/// What a list of the administrator's shows.
fn list(project: &Project, of: &str) -> Value {
    let listed = project.admin(&[of, "list", "--json"]).unwrap();
    listed.json().unwrap()
}

#[test]
fn a_used_ticket_is_refused_and_says_by_whom() {
    let project = project();
    let ticket = project.inlet_ticket("inlet").unwrap();
    let first = enroll(&project, "first", &ticket).json().unwrap();
    let winner = first["id"].as_str().unwrap();
    let second = enroll(&project, "second", &ticket);
    assert!(second.stderr.contains("ADIT-2003"), "{second}");
    second.failure(3, &winner[..8]).unwrap();
    // The same node may ask again: it is a member, and the ticket is not used.
    enroll(&project, "first", &ticket).success().unwrap();
    let tickets = list(&project, "ticket");
    assert_eq!(tickets[0]["state"], "used");
    assert_eq!(tickets[0]["redeemed"][0]["by"], winner);
    let members = list(&project, "member");
    let names: Vec<&str> = members
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"inlet") && names.contains(&"admin"),
        "{names:?}"
    );
}

#[test]
fn an_expired_ticket_is_refused() {
    let project = project();
    let ticket = project.ticket("short", &["--expires-in", "1s"]).unwrap();
    eventually("the ticket expires", PATIENCE, || {
        match &list(&project, "ticket")[0]["state"] {
            state if state == "expired" => Ok(()),
            state => Err(Failure(format!("it is {state}"))),
        }
    })
    .unwrap();
    let late = enroll(&project, "late", &ticket);
    late.failure(3, "expired").unwrap();
}

#[test]
fn a_ticket_comes_by_file_stdin_or_environment_and_never_by_argument() {
    let project = project();
    let text = |name: &str| fs::read_to_string(project.ticket(name, &[]).unwrap()).unwrap();
    let command = |name: &str, args: &[&str]| {
        let home = project.home(name).unwrap();
        portal::command(&home, &[&["enroll"], args].concat()).unwrap()
    };
    let by_stdin = command("stdin", &["--ticket", "-"]);
    let by_stdin = Process::spawn_fed("enroll", by_stdin, text("a").into_bytes()).unwrap();
    let mut by_text = command("text", &[]);
    by_text.env("ADIT_TICKET", text("b"));
    let by_text = Process::spawn("enroll", by_text).unwrap();
    let mut by_file = command("file", &[]);
    by_file.env("ADIT_TICKET_FILE", project.ticket("c", &[]).unwrap());
    let by_file = Process::spawn("enroll", by_file).unwrap();
    for enrolling in [by_stdin, by_text, by_file] {
        enrolling.finish(SHORTLY).unwrap().success().unwrap();
    }
    let argument = text("d");
    let refused = command("argument", &["--ticket", argument.trim()]);
    let refused = Process::run("enroll", refused, SHORTLY).unwrap();
    assert!(!refused.stderr.contains(&argument[20..60]), "{refused}");
    let why = "not taken from the command line";
    refused.failure(2, why).unwrap();
}

#[test]
fn a_malformed_ticket_says_what_is_wrong_and_is_not_repeated() {
    let project = project();
    let whole = fs::read_to_string(project.inlet_ticket("inlet").unwrap()).unwrap();
    let cut = &whole.trim()[..whole.trim().len() - 10];
    for (text, expected) in [
        (cut, "cut short"),
        ("", "empty"),
        ("hello", "begins with adit-ticket-1:"),
        ("adit-ticket-1:äöü", "character"),
    ] {
        let home = project.home("node").unwrap();
        let command = portal::command(&home, &["enroll", "--ticket", "-"]).unwrap();
        let enrolling = Process::spawn_fed("enroll", command, text.into()).unwrap();
        let ended = enrolling.finish(SHORTLY).unwrap();
        assert!(!ended.stderr.contains(&cut[20..60]), "{ended}");
        ended.failure(2, expected).unwrap();
    }
}

#[test]
fn a_bound_ticket_fits_the_identity_that_was_shown() {
    let project = project();
    let home = project.home("bound").unwrap();
    let show = || {
        let args = ["identity", "show", "--project", PROJECT, "--node", "node"];
        let shown = portal::run(&home, &args).unwrap().success().unwrap();
        shown.text().trim().to_owned()
    };
    let id = show();
    let ticket = project.ticket("bound", &["--for", &id]).unwrap();
    let other = enroll(&project, "other", &ticket);
    other.failure(3, "ADIT-2").unwrap();
    enroll(&project, "bound", &ticket).success().unwrap();
    assert_eq!(show(), id);
}

#[test]
fn tickets_are_made_with_and_without_a_running_authority() {
    let mut project = project();
    project.ticket("online", &[]).unwrap();
    project.serve.kill();
    let made = project.admin(&["ticket", "create", "--name", "offline"]);
    let made = made.unwrap().success().unwrap();
    assert!(made.text().starts_with("adit-ticket-1:"), "{made}");
    assert!(made.stderr.contains("next: adit "), "{made}");
    assert_eq!(list(&project, "ticket").as_array().unwrap().len(), 2);
}

//! Enrollment with real processes: tickets that are used, expired, malformed, replaced.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Instant;

use tests::cli::DEADLINE;
use tests::cli::net;
use tests::cli::process;
use tests::cli::world::{Project, World};

#[test]
fn a_used_ticket_is_refused_and_says_by_whom() {
    let project = Project::serve(World::new());
    let ticket = project.inlet_ticket();
    let first = project
        .world
        .run_at("first", &["enroll", "--ticket", &ticket, "--json"])
        .success();
    let winner = first.json()["id"].as_str().unwrap().to_string();
    let second = project
        .world
        .run_at("second", &["enroll", "--ticket", &ticket]);
    assert!(second.stderr.contains(&winner[..8]), "{second:#?}");
    second.failure(3, "error[ADIT-2");
    // The same node may ask again: it is a member, and the ticket is not used.
    project
        .world
        .run_at("first", &["enroll", "--ticket", &ticket])
        .success();
    let rows = project
        .world
        .run(&["ticket", "list", "--json"])
        .success()
        .json();
    assert_eq!(rows[0]["state"], "used");
    assert_eq!(rows[0]["redeemed"][0]["by"], winner.as_str());
    let members = project
        .world
        .run(&["member", "list", "--json"])
        .success()
        .json();
    let names: Vec<&str> = members
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"analysis-inlet") && names.contains(&"admin"),
        "{names:?}"
    );
}

#[test]
fn an_expired_ticket_is_refused() {
    let project = Project::serve(World::new());
    let ticket = project
        .world
        .ticket("short.ticket", &["--expires-in", "1s"]);
    let until = Instant::now() + DEADLINE;
    loop {
        let rows = project
            .world
            .run(&["ticket", "list", "--json"])
            .success()
            .json();
        if rows[0]["state"] == "expired" {
            break;
        }
        assert!(Instant::now() < until, "{rows}");
    }
    let late = project
        .world
        .run_at("late", &["enroll", "--ticket", &ticket]);
    late.failure(3, "expired");
}

#[test]
fn a_node_that_cannot_enroll_waits_for_another_ticket_in_its_file() {
    let project = Project::serve(World::new());
    let used = project.inlet_ticket();
    project
        .world
        .run_at("first", &["enroll", "--ticket", &used])
        .success();
    let outlet = project.outlet(net::echo(), &["--ticket", &project.outlet_ticket()]);
    outlet.wait_ready();
    let inlet = project.inlet("127.0.0.1:0", &["--ticket", &used]);
    let line = inlet.wait_for(&["ADIT-2"]);
    assert!(
        line.contains("ticket create"),
        "the mending command is missing: {line}"
    );
    project.world.run_at("analysis", &["health"]).success();
    project
        .world
        .run_at("analysis", &["health", "--ready"])
        .failure(5, "ADIT-1403");
    let args = ["--attribute", "postgres-inlet=true", "--name", "second"];
    let fresh = project.world.ticket("fresh.ticket", &args);
    std::fs::rename(fresh, used).unwrap();
    inlet.wait_ready();
    assert_eq!(net::exchange(project.door(), b"late").unwrap(), b"late");
}

#[test]
fn a_node_may_be_told_to_end_instead() {
    let project = Project::serve(World::new());
    let used = project.inlet_ticket();
    project
        .world
        .run_at("first", &["enroll", "--ticket", &used])
        .success();
    let mut inlet = project.inlet(
        "127.0.0.1:0",
        &["--ticket", &used, "--exit-if-not-enrolled"],
    );
    assert_eq!(inlet.wait().0.code(), Some(3), "{}", inlet.log());
    assert!(inlet.log().contains("error[ADIT-2"), "{}", inlet.log());
}

#[test]
fn a_ticket_comes_by_file_stdin_or_environment_and_never_by_argument() {
    let project = Project::serve(World::new());
    let read = |file: &str| std::fs::read_to_string(file).unwrap();
    let by_stdin = read(&project.inlet_ticket());
    let mut command = project
        .world
        .command_at("stdin", &["enroll", "--ticket", "-"]);
    process::run(&mut command, &by_stdin).success();
    let by_text = read(&project.world.ticket("b", &[]));
    let mut command = project.world.command_at("text", &["enroll"]);
    process::run(command.env("ADIT_TICKET", by_text), "").success();
    let by_file = project.world.ticket("c", &[]);
    let mut command = project.world.command_at("file", &["enroll"]);
    process::run(command.env("ADIT_TICKET_FILE", by_file), "").success();
    let argument = read(&project.world.ticket("d", &[]));
    let refused = project
        .world
        .run_at("arg", &["enroll", "--ticket", argument.trim()]);
    assert!(
        !refused.stderr.contains(&argument.trim()[20..60]),
        "{refused:#?}"
    );
    refused.failure(2, "not taken from the command line");
}

#[test]
fn a_malformed_ticket_says_what_is_wrong_and_is_not_repeated() {
    let project = Project::serve(World::new());
    let whole = std::fs::read_to_string(project.inlet_ticket()).unwrap();
    let cut = &whole.trim()[..whole.trim().len() - 10];
    for (text, expected) in [
        (cut, "cut short"),
        ("", "empty"),
        ("hello", "begins with adit-ticket-1:"),
        ("adit-ticket-1:äöü", "character"),
    ] {
        let mut command = project
            .world
            .command_at("node", &["enroll", "--ticket", "-"]);
        let output = process::run(&mut command, text);
        assert!(!output.stderr.contains(&cut[20..60]), "{output:#?}");
        output.failure(2, expected);
    }
}

#[test]
fn a_bound_ticket_fits_the_identity_that_was_shown() {
    let project = Project::serve(World::new());
    let show = ["identity", "show", "--project", "acme", "--node", "node"];
    let id = project.world.run_at("bound", &show).success().stdout;
    let ticket = project.world.ticket("bound.ticket", &["--for", id.trim()]);
    project
        .world
        .run_at("other", &["enroll", "--ticket", &ticket])
        .failure(3, "ADIT-2");
    project
        .world
        .run_at("bound", &["enroll", "--ticket", &ticket])
        .success();
    let again = project.world.run_at("bound", &show).success().stdout;
    assert_eq!(again, id);
}

#[test]
fn tickets_are_made_with_and_without_a_running_authority() {
    let mut project = Project::serve(World::new());
    project
        .world
        .run(&["ticket", "create", "--name", "online"])
        .success();
    project.server.kill();
    let made = project
        .world
        .run(&["ticket", "create", "--name", "offline"])
        .success();
    assert!(made.stdout.starts_with("adit-ticket-1:"), "{made:#?}");
    assert!(made.stderr.contains("next: adit "), "{made:#?}");
    let rows = project
        .world
        .run(&["ticket", "list", "--json"])
        .success()
        .json();
    assert_eq!(rows.as_array().unwrap().len(), 2);
}

#[test]
fn one_of_many_racing_nodes_wins_a_ticket() {
    let project = Project::serve(World::new());
    let ticket = project.inlet_ticket();
    let homes: Vec<String> = (0..12).map(|n| format!("racer{n}")).collect();
    let codes: Vec<Option<i32>> = std::thread::scope(|scope| {
        let run = |home| {
            project
                .world
                .run_at(home, &["enroll", "--ticket", &ticket])
                .code
        };
        let racers: Vec<_> = homes
            .iter()
            .map(|home| scope.spawn(move || run(home)))
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    });
    assert_eq!(
        codes.iter().filter(|code| **code == Some(0)).count(),
        1,
        "{codes:?}"
    );
    assert_eq!(
        codes.iter().filter(|code| **code == Some(3)).count(),
        11,
        "{codes:?}"
    );
}

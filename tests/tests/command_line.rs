//! What a person who mistypes, or whose state is not as it should be, gets to read.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::cli::net;
use tests::cli::world::{Project, World, open_to_all};

#[test]
fn an_unknown_flag_suggests_the_near_match() {
    let world = World::new();
    world
        .run(&["inlet", "--form", "127.0.0.1:1"])
        .failure(2, "--from");
    world.run(&["inlat"]).failure(2, "inlet");
    let output = world.run(&["inlet", "--via", "UPPER", "--from", "127.0.0.1:1"]);
    output.failure(2, "a relay address has 1 to 63 characters");
    world
        .run(&["ticket", "create", "--expires-in", "10"])
        .failure(2, "a number and a unit");
    world
        .run(&["ticket", "create", "--attribute", "x"])
        .failure(2, "NAME=VALUE");
}

#[test]
fn help_and_version_are_no_errors() {
    let world = World::new();
    assert!(
        world
            .run(&["--help"])
            .success()
            .stdout
            .contains("adit demo")
    );
    assert!(
        world
            .run(&["--version"])
            .success()
            .stdout
            .starts_with("adit ")
    );
}

#[test]
fn an_unknown_config_key_suggests_the_near_match() {
    let world = World::new();
    let config = world.path("adit.toml");
    let text = "[[inlet]]\nvia = \"postgres\"\nform = \"127.0.0.1:1\"\n";
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    world
        .run(&["run", "--config", &config])
        .failure(2, "did you mean \"from\"?");
    world
        .run(&["run", "--config", "/nonexistent"])
        .failure(2, "ADIT-1101");
}

#[test]
fn a_second_process_on_a_state_directory_is_told_of_the_first() {
    let project = Project::serve(World::new());
    let other = net::free_address().to_string();
    let second = project.world.run(&["serve", "--listen", &other]);
    let holder = format!("process {} (adit serve) uses it", project.server.pid());
    second.failure(4, &holder);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_chmod() {
    let mut project = Project::serve(World::new());
    project.server.kill();
    let key = project.world.path("authority/acme/authority.key");
    open_to_all(&key);
    let fix = format!("fix: chmod 600 {}", key.display());
    project.world.run(&["serve"]).failure(4, &fix);
}

#[test]
fn a_damaged_key_is_named_and_left_alone() {
    let mut project = Project::serve(World::new());
    project.server.kill();
    let key = project.world.path("authority/acme/authority.key");
    std::fs::write(&key, b"garbage").unwrap();
    project.world.run(&["serve"]).failure(4, "ADIT-1205");
    assert_eq!(std::fs::read(&key).unwrap(), b"garbage");
}

#[test]
fn a_project_is_created_once() {
    let world = World::new();
    let create = [
        "project",
        "create",
        "acme",
        "--address",
        "relay.example.com:7348",
    ];
    let made = world.run(&create).success();
    assert!(made.stderr.contains("next: adit serve"), "{made:#?}");
    world.run(&create).failure(4, "ADIT-1152");
}

#[test]
fn commands_without_their_project_or_process_say_what_to_do() {
    let world = World::new();
    world.run(&["serve"]).failure(4, "adit project create");
    world
        .run(&["ticket", "list"])
        .failure(4, "adit project create");
    world.run(&["status"]).failure(1, "ADIT-1401");
    let inlet = ["inlet", "--via", "postgres", "--from", "127.0.0.1:0"];
    world.run(&inlet).failure(3, "there is no ticket");
}

#[test]
fn a_port_in_use_is_an_error_at_the_start() {
    let project = Project::serve(World::new());
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let from = taken.local_addr().unwrap().to_string();
    let mut inlet = project.inlet(&from, &["--ticket", &project.inlet_ticket()]);
    assert_eq!(inlet.wait().0.code(), Some(1));
    assert!(inlet.log().contains("ADIT-6101"), "{}", inlet.log());
}

#[test]
#[ignore = "the port it asked the kernel for may be taken again before it is used"]
fn errors_and_logs_are_json_where_that_was_asked_for() {
    let world = World::new();
    let output = world.run(&["status", "--json"]);
    let error: serde_json::Value = serde_json::from_str(output.stderr.trim()).unwrap();
    assert_eq!(error["error"]["code"], "ADIT-1401");
    let mut project = Project::serve(world);
    project.server.kill();
    project.serve_again(&["--log-format", "json"]);
    let line = project.server.wait_for(&["\"what\":\"ready\""]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "info");
}

#[test]
fn status_shows_what_the_server_serves() {
    let project = Project::serve(World::new());
    let (_outlet, _inlet) = project.portal(net::echo());
    let status = project.status("authority");
    assert_eq!(status["server"]["served"][0]["address"], "postgres");
    let text = project
        .world
        .run_at("analysis", &["status"])
        .success()
        .stdout;
    for fact in ["identity", "analysis-inlet", "engine", "postgres  ready"] {
        assert!(text.contains(fact), "{fact:?} is not in {text}");
    }
}

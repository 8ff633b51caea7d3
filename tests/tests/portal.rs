//! Whole portals of real processes over loopback: project, tickets, serve, outlet, inlet, app.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rustix::process::Signal;
use tests::cli::net::{self, exchange, expect_reset, pattern};
use tests::cli::world::{Project, World};

/// What must hold on either engine.
fn bytes_arrive_both_ways(engine: &str) {
    let project = Project::serve(World::with_engine(engine));
    let (_outlet, _inlet) = project.portal(net::echo());
    let status = project.status("analysis");
    assert_eq!(status["engine"]["kind"], engine);
    assert_eq!(status["portals"][0]["ready"], true);
    assert_eq!(status["membership"]["name"], "analysis-inlet");
    let sent = pattern(3 * 1024 * 1024 + 7);
    assert!(
        exchange(project.door(), &sent).unwrap() == sent,
        "the echo differs"
    );
    assert_eq!(exchange(project.door(), b"").unwrap(), b"");
}

#[test]
fn bytes_arrive_both_ways_on_epoll() {
    bytes_arrive_both_ways("epoll");
}

#[test]
fn bytes_arrive_both_ways_on_uring() {
    if !tests::cli::has_uring() {
        println!("SKIPPED: io_uring is not available here");
        return;
    }
    bytes_arrive_both_ways("uring");
}

#[test]
fn a_reply_that_begins_after_the_requests_end_arrives_whole() {
    static REPLY: [u8; 1024 * 1024] = [0x5a; 1024 * 1024];
    let project = Project::serve(World::new());
    let (_outlet, _inlet) = project.portal(net::answer_after_end(&REPLY));
    assert!(
        exchange(project.door(), b"all of it, please").unwrap() == REPLY,
        "the reply differs"
    );
}

#[test]
fn many_apps_share_a_portal() {
    let project = Project::serve(World::new());
    let (_outlet, _inlet) = project.portal(net::echo());
    let door = project.door();
    std::thread::scope(|scope| {
        for n in 0..50 {
            scope.spawn(move || {
                let sent = pattern(1000 + n * 997);
                assert!(
                    exchange(door, &sent).unwrap() == sent,
                    "app {n} got other bytes"
                );
            });
        }
    });
}

#[test]
fn an_inlet_without_the_attribute_is_denied_and_its_app_reset() {
    let project = Project::serve(World::new());
    let outlet = project.outlet(net::echo(), &["--ticket", &project.outlet_ticket()]);
    outlet.wait_ready();
    let other = project
        .world
        .ticket("other.ticket", &["--attribute", "reports-inlet=true"]);
    let inlet = project.inlet("127.0.0.1:0", &["--ticket", &other]);
    outlet.wait_for(&["ADIT-3", "postgres-inlet"]);
    inlet.wait_for(&["ADIT-3001"]);
    expect_reset(project.door());
    let denial = project.status("bank")["last_denial"].to_string();
    assert!(denial.contains("postgres-inlet"), "{denial}");
    let health = project.world.run_at("analysis", &["health", "--ready"]);
    health.failure(5, "ADIT-1403");
    project.world.run_at("analysis", &["health"]).success();
}

#[test]
fn an_outlet_without_the_attribute_is_denied_by_the_inlet() {
    let project = Project::serve(World::new());
    let args = ["--attribute", "other=true", "--may-serve", "postgres"];
    let other = project.world.ticket("other.ticket", &args);
    let outlet = project.outlet(net::echo(), &["--ticket", &other]);
    outlet.wait_ready();
    let inlet = project.inlet("127.0.0.1:0", &["--ticket", &project.inlet_ticket()]);
    inlet.wait_for(&["ADIT-3", "postgres-outlet"]);
    expect_reset(project.door());
}

#[test]
fn an_outlet_without_permission_for_its_address_is_refused() {
    let project = Project::serve(World::new());
    let args = [
        "--attribute",
        "postgres-outlet=true",
        "--may-serve",
        "reports",
    ];
    let other = project.world.ticket("other.ticket", &args);
    let outlet = project.outlet(net::echo(), &["--ticket", &other]);
    let line = outlet.wait_for(&["ADIT-", "postgres"]);
    assert!(line.contains("error") || line.contains("warn"), "{line}");
    project
        .world
        .run_at("bank", &["health", "--ready"])
        .failure(5, "ADIT-1403");
}

#[test]
fn a_target_that_refuses_resets_the_app() {
    let project = Project::serve(World::new());
    let nobody = net::free_address();
    let (_outlet, _inlet) = project.portal(nobody);
    expect_reset(project.door());
}

#[test]
fn every_process_may_be_killed_and_started_again_without_a_ticket() {
    let mut project = Project::serve(World::new());
    let service = net::echo();
    let (mut outlet, mut inlet) = project.portal(service);
    let door = project.door();
    let from = door.to_string();
    let works = || assert_eq!(exchange(door, b"again").unwrap(), b"again");
    works();

    outlet.kill();
    inlet.wait_for(&["info  not ready"]);
    let seen = inlet.lines();
    let outlet = project.outlet(service, &[]);
    inlet.wait_for_after(seen, &["info  ready"]);
    works();

    inlet.kill();
    let inlet = project.inlet(&from, &[]);
    inlet.wait_ready();
    works();

    let seen = (outlet.lines(), inlet.lines());
    project.server.kill();
    outlet.wait_for_after(seen.0, &["info  not ready"]);
    inlet.wait_for_after(seen.1, &["info  not ready"]);
    let seen = (outlet.lines(), inlet.lines());
    project.serve_again(&[]);
    outlet.wait_for_after(seen.0, &["info  ready"]);
    inlet.wait_for_after(seen.1, &["info  ready"]);
    works();
}

#[test]
fn sigterm_drains_and_ends_with_0() {
    let mut project = Project::serve(World::new());
    let (mut outlet, mut inlet) = project.portal(net::echo());
    let app = net::connect(project.door());
    let mut sent = std::io::Write::write_all(&mut &app, b"first");
    sent.unwrap();
    let mut first = [0; 5];
    std::io::Read::read_exact(&mut &app, &mut first).unwrap();
    inlet.signal(Signal::TERM);
    inlet.wait_for(&["stopping"]);
    project
        .world
        .run_at("analysis", &["health", "--ready"])
        .failure(5, "stopping");
    // The stream that is open goes on, to its own end.
    sent = std::io::Write::write_all(&mut &app, b"last!");
    sent.unwrap();
    app.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut &app, &mut rest).unwrap();
    assert_eq!((&first, &rest[..]), (b"first", &b"last!"[..]));
    assert_eq!(inlet.wait().0.code(), Some(0), "{}", inlet.log());
    outlet.signal(Signal::TERM);
    assert_eq!(outlet.wait().0.code(), Some(0), "{}", outlet.log());
    project.server.signal(Signal::TERM);
    assert_eq!(
        project.server.wait().0.code(),
        Some(0),
        "{}",
        project.server.log()
    );
}

#[test]
fn a_command_starts_when_the_portal_is_ready_and_gives_its_exit_code() {
    let project = Project::serve(World::new());
    let outlet = project.outlet(net::echo(), &["--ticket", &project.outlet_ticket()]);
    outlet.wait_ready();
    let ticket = std::fs::read_to_string(project.inlet_ticket()).unwrap();
    let script = "env | grep ADIT_; echo started; exit 7";
    let args = [
        "inlet",
        "--via",
        "postgres",
        "--from",
        "127.0.0.1:0",
        "--allow",
    ];
    let args = [
        &args[..],
        &["postgres-outlet=true", "--", "sh", "-c", script],
    ]
    .concat();
    let mut command = project.world.command_at("analysis", &args);
    command.env("ADIT_TICKET", ticket);
    let mut inlet = tests::cli::process::Running::start("inlet", &mut command);
    let (status, stdout) = inlet.wait();
    assert_eq!(status.code(), Some(7), "{}", inlet.log());
    assert_eq!(stdout, "started\n");
}

#[test]
fn a_signal_reaches_the_command_and_ends_the_portal_after_it() {
    let project = Project::serve(World::new());
    let outlet = project.outlet(net::echo(), &["--ticket", &project.outlet_ticket()]);
    outlet.wait_ready();
    let script = "trap 'exit 9' TERM; echo waiting >&2; while :; do read -r line <&3; done";
    let script = format!(
        "mkfifo {0}; exec 3<>{0}; {script}",
        project.world.path("pipe").display()
    );
    let more = [
        "--ticket",
        &project.inlet_ticket(),
        "--",
        "sh",
        "-c",
        &script,
    ];
    let mut inlet = project.inlet("127.0.0.1:0", &more);
    inlet.wait_for(&["waiting"]);
    inlet.signal(Signal::TERM);
    assert_eq!(inlet.wait().0.code(), Some(9), "{}", inlet.log());
}

#[test]
fn one_process_runs_the_portals_of_a_file() {
    let project = Project::serve(World::new());
    let args = [
        "--attribute",
        "both=true",
        "--may-serve",
        "postgres",
        "--may-connect",
        "postgres",
    ];
    let ticket = project.world.ticket("both.ticket", &args);
    let config = project.world.path("adit.toml");
    let text = format!(
        "ticket = {ticket:?}\n\
         [[outlet]]\nat = \"postgres\"\nto = \"{}\"\nallow = \"both=true\"\n\
         [[inlet]]\nvia = \"postgres\"\nfrom = \"127.0.0.1:0\"\nallow = [\"both=true\"]\n",
        net::echo(),
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let node = project
        .world
        .start_at("analysis", &["run", "--config", &config]);
    node.wait_ready();
    assert_eq!(exchange(project.door(), b"round").unwrap(), b"round");
}

#[test]
fn the_demo_shows_an_exchange() {
    let output = World::new().run(&["demo"]).success();
    assert!(
        output.stdout.contains("hello through the mountain"),
        "{output:#?}"
    );
}

#[test]
fn no_ticket_reaches_a_log() {
    let project = Project::serve(World::new());
    let (outlet, inlet) = project.portal(net::echo());
    for ticket in ["outlet.ticket", "inlet.ticket"] {
        let text = std::fs::read_to_string(project.world.path(ticket)).unwrap();
        let secret = text.trim().trim_start_matches("adit-ticket-1:");
        for log in [outlet.log(), inlet.log(), project.server.log()] {
            assert!(
                !log.contains(secret) && !log.contains(&secret[..40]),
                "{log}"
            );
        }
    }
}

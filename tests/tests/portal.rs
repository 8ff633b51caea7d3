//! What a whole portal of real processes is to its users: what `status` says, what is logged, how it
//! is started by a command, a file or the demo. What it carries is in `transfer`, what it survives
//! in `faults`, whom it denies in `denials`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;
use tests::portal::{self, ADDRESS, Engine, OUTLET_RULE, Part, Portal, Project, START};
use tests::process::Process;
use tests::tcp::{self, PATIENCE, Service};

tests::on_both_engines!(
    status_names_engine_portals_and_membership,
    every_process_comes_back_without_a_ticket,
);

fn echoes(entry: SocketAddr) {
    tcp::ping(&tcp::connect(entry).unwrap(), b"there and back").unwrap();
}

fn status_names_engine_portals_and_membership(engine: Engine) {
    let service = Service::echo().unwrap();
    let portal = Portal::start(engine, service.address()).unwrap();
    let status = portal.inlet.status().unwrap();
    assert_eq!(status["engine"]["kind"], engine.name());
    assert_eq!(status["portals"][0]["ready"], true);
    assert_eq!(status["membership"]["name"], "inlet");
    assert_eq!(
        status["listening"][0]["address"],
        portal.entry().to_string()
    );
    let serve = portal.project.serve.status().unwrap();
    assert_eq!(serve["server"]["served"][0]["address"], ADDRESS);
    let text = portal::run(portal.inlet.home(), &["status"]).unwrap();
    let text = text.success().unwrap().text();
    for fact in ["identity", "inlet", "engine", "db  ready"] {
        assert!(text.contains(fact), "{fact:?} is not in {text}");
    }
}

/// A member's state is all it needs; the log says when it is not ready, and when it is again.
fn every_process_comes_back_without_a_ticket(engine: Engine) {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(engine, service.address()).unwrap();
    echoes(portal.entry());
    let ends = [Part::Inlet, Part::Outlet];
    for part in ends {
        portal.node(part).forget_ticket();
    }

    portal.outlet.kill();
    let inlet = portal.inlet.process();
    inlet.wait_for_line(&["info  not ready"], START).unwrap();
    let seen = inlet.lines();
    portal.outlet.restart().unwrap();
    let inlet = portal.inlet.process();
    inlet
        .wait_for_line_after(seen, &["info  ready"], START)
        .unwrap();
    echoes(portal.entry());

    portal.inlet.restart().unwrap();
    let inlet = portal.inlet.process();
    inlet.wait_for_line(&["info  ready"], START).unwrap();
    echoes(portal.entry());

    let mut seen = ends.map(|part| portal.node(part).process().lines());
    portal.project.serve.kill();
    for (part, seen) in ends.into_iter().zip(&mut seen) {
        let process = portal.node(part).process();
        process
            .wait_for_line_after(*seen, &["info  not ready"], START)
            .unwrap();
        *seen = process.lines();
    }
    portal.project.serve.restart().unwrap();
    for (part, seen) in ends.into_iter().zip(seen) {
        let process = portal.node(part).process();
        process
            .wait_for_line_after(seen, &["info  ready"], START)
            .unwrap();
    }
    echoes(portal.entry());
}

#[test]
fn a_ticket_in_the_environment_enrolls_and_its_command_does_not_see_it() {
    let service = Service::echo().unwrap();
    let portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    let ticket = portal.project.inlet_ticket("by-environment").unwrap();
    let home = portal.project.home("by-environment").unwrap();
    let script = "env | grep ADIT_; echo started; exit 7";
    let inlet = [
        "inlet",
        "--via",
        ADDRESS,
        "--from",
        "127.0.0.1:0",
        "--allow",
        OUTLET_RULE,
        "--",
        "sh",
        "-c",
        script,
    ];
    let mut command = portal::command(&home, &inlet).unwrap();
    command.env("ADIT_TICKET", fs::read_to_string(ticket).unwrap());
    let ended = Process::run("inlet", command, PATIENCE).unwrap();
    assert_eq!(ended.code(), Some(7), "{ended}");
    assert_eq!(ended.text(), "started\n");
}

#[test]
fn one_process_runs_the_portals_of_a_file() {
    let service = Service::echo().unwrap();
    let project = Project::start(Engine::Epoll).unwrap();
    let grants = ["--attribute", "both=true", "--may-serve", ADDRESS];
    let grants = [&grants[..], &["--may-connect", ADDRESS]].concat();
    let ticket = project.ticket("both", &grants).unwrap();
    let entry = tcp::own_address().unwrap();
    let config = project.home("both").unwrap().join("adit.toml");
    let text = format!(
        "ticket = {ticket:?}\n\
         [[outlet]]\nat = \"{ADDRESS}\"\nto = \"{}\"\nallow = \"both=true\"\n\
         [[inlet]]\nvia = \"{ADDRESS}\"\nfrom = \"{entry}\"\nallow = [\"both=true\"]\n",
        service.address(),
    );
    fs::write(&config, text).unwrap();
    let home = config.parent().unwrap();
    let args = ["run", "--config", config.to_str().unwrap()].map(Into::into);
    let mut node = portal::Node::start("run", home, args.into()).unwrap();
    node.wait_ready(START).unwrap();
    echoes(entry);
}

#[test]
fn the_demo_shows_an_exchange() {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let command = portal::command(home.path(), &["demo"]).unwrap();
    let said = Process::run("demo", command, PATIENCE).unwrap();
    let said = said.success().unwrap().text();
    assert!(said.contains("hello through the mountain"), "{said}");
}

#[test]
fn no_ticket_reaches_a_log() {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    let logs = Part::ALL.map(|part| portal.node(part).process().log());
    for name in ["outlet", "inlet"] {
        let ticket = fs::read_to_string(portal.project.ticket_file(name)).unwrap();
        let secret = ticket.trim().trim_start_matches("adit-ticket-1:");
        assert!(secret.len() > 40);
        for log in &logs {
            assert!(!log.contains(&secret[..40]), "{log}");
        }
    }
}

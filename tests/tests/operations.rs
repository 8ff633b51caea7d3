//! What an operator asks real processes: doctor, why, top, the level of the log, streams in the logs of both
//! ends; and what a shell and man(1) are given.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tempfile::TempDir;
use tests::portal::{
    self, ADDRESS, Engine, INLET_RULE, OUTLET_RULE, Part, Portal, Project, SHORTLY, START,
};
use tests::process::eventually;
use tests::tcp::{self, Service};

/// The checks of a section of `doctor --json` or `why --json`: name and outcome.
fn checks(said: &Value, about: &str) -> Vec<(String, String)> {
    let mut sections = said["sections"].as_array().unwrap().iter();
    let section = sections.find(|it| it["about"].as_str().unwrap().starts_with(about));
    let section = section.unwrap_or_else(|| unreachable!("no {about} in {said}"));
    let text = |it: &Value, key: &str| it[key].as_str().unwrap().to_owned();
    let checks = section["checks"].as_array().unwrap().iter();
    checks
        .map(|it| (text(it, "check"), text(it, "outcome")))
        .collect()
}

fn outcome(said: &Value, about: &str, check: &str) -> String {
    let mut checks = checks(said, about).into_iter();
    let found = checks.find(|(name, _)| name == check);
    found
        .unwrap_or_else(|| unreachable!("no {check} in {said}"))
        .1
}

#[test]
fn doctor_finds_nothing_wrong_with_a_portal_that_works() {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    for (part, about, expected) in [
        (
            Part::Serve,
            "project acme",
            &["state", "process", "port"][..],
        ),
        (
            Part::Outlet,
            "node outlet-db",
            &["member", "credential", "clock", "relay", "portal", "target"],
        ),
        (
            Part::Inlet,
            "node inlet-db",
            &["member", "credential", "clock", "relay", "portal", "port"],
        ),
    ] {
        let ended = portal::run(portal.node(part).home(), &["doctor", "--json"]).unwrap();
        let said = ended.json().unwrap();
        assert_eq!(said["good"], true, "{said}");
        let found = checks(&said, about);
        for check in expected {
            assert!(
                found.contains(&((*check).into(), "good".into())),
                "{check}: {said}"
            );
        }
        let machine = checks(&said, "this machine");
        let names: Vec<&str> = machine.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["engine", "descriptors", "memlock"]);
    }
}

#[test]
fn doctor_names_what_mends_a_directory_that_others_can_read() {
    let service = Service::echo().unwrap();
    let portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    let key = portal.inlet.state_file("identity.key").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let ended = portal::run(portal.inlet.home(), &["doctor"]).unwrap();
    assert_eq!(ended.code(), Some(1), "{ended}");
    let fix = format!("fix: chmod 600 {}", key.display());
    assert!(ended.text().contains(&fix), "{ended}");
}

#[test]
fn doctor_looks_at_what_does_not_run_yet() {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let empty = portal::run(home.path(), &["doctor"])
        .unwrap()
        .success()
        .unwrap();
    assert!(empty.text().contains("nothing of adit is in"), "{empty}");
    let taken = std::net::TcpListener::bind(tcp::own_address().unwrap()).unwrap();
    let config = home.path().join("adit.toml");
    let text = format!(
        "[[inlet]]\nvia = \"db\"\nfrom = \"{}\"\n[[outlet]]\nat = \"a\"\nto = \"{}\"\nallow = \"a=b\"\n",
        taken.local_addr().unwrap(),
        tcp::own_address().unwrap()
    );
    fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let ended = portal::run(home.path(), &["doctor", "--config", &config, "--json"]).unwrap();
    assert_eq!(ended.code(), Some(1), "{ended}");
    let said: Value = serde_json::from_str(ended.text().trim()).unwrap();
    for check in ["rules", "port", "target"] {
        assert_eq!(outcome(&said, "configuration", check), "bad", "{said}");
    }
}

#[test]
fn doctor_of_a_node_at_rest_reads_its_membership_and_dials_its_relay() {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    portal.inlet.kill();
    let doctor = |portal: &Portal| {
        let ended = portal::run(portal.inlet.home(), &["doctor", "--json"]).unwrap();
        serde_json::from_str::<Value>(ended.text().trim()).unwrap()
    };
    let said = doctor(&portal);
    for check in ["member", "credential", "relay"] {
        assert_eq!(outcome(&said, "node inlet-db", check), "good", "{said}");
    }
    portal.project.serve.kill();
    assert_eq!(outcome(&doctor(&portal), "node inlet-db", "relay"), "bad");
}

#[test]
fn why_says_which_rule_of_this_end_allows_whom() {
    let service = Service::echo().unwrap();
    let portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    for (node, rule, peer) in [
        (&portal.inlet, OUTLET_RULE, "outlet outlet"),
        (&portal.outlet, INLET_RULE, "inlet inlet"),
    ] {
        let ended = portal::run(node.home(), &["why", ADDRESS]).unwrap();
        let said = ended.success().unwrap();
        let line = format!("{rule} allows {peer}");
        assert!(said.text().contains(&line), "{said}");
        assert!(said.text().contains("let this node in"), "{said}");
    }
    let other = portal::run(portal.inlet.home(), &["why", "reports"]).unwrap();
    other.failure(1, "ADIT-3106").unwrap();
}

#[test]
fn why_names_the_rule_of_this_end_that_denied() {
    let service = Service::echo().unwrap();
    let project = Project::start(Engine::Epoll).unwrap();
    let ticket = project.outlet_ticket("outlet").unwrap();
    let mut outlet = project
        .outlet("outlet", &ticket, service.address(), INLET_RULE)
        .unwrap();
    outlet.wait_ready(START).unwrap();
    let ticket = project.inlet_ticket("inlet").unwrap();
    let entry = tcp::own_address().unwrap();
    let mut inlet = project
        .inlet("inlet", &ticket, entry, "color=green")
        .unwrap();
    inlet
        .process()
        .wait_for_line(&["ADIT-3260"], START)
        .unwrap();
    let ended = portal::run(inlet.home(), &["why", ADDRESS, "--json"]).unwrap();
    assert_eq!(ended.code(), Some(3), "{ended}");
    let said: Value = serde_json::from_str(ended.text().trim()).unwrap();
    assert_eq!(outcome(&said, "inlet db", "rule here"), "bad", "{said}");
    assert!(ended.text().contains("color=green"), "{ended}");
}

#[test]
fn why_says_that_the_address_is_not_permitted() {
    let project = Project::start(Engine::Epoll).unwrap();
    let ticket = project
        .ticket(
            "inlet",
            &["--attribute", INLET_RULE, "--may-connect", "other"],
        )
        .unwrap();
    let entry = tcp::own_address().unwrap();
    let mut inlet = project.inlet("inlet", &ticket, entry, OUTLET_RULE).unwrap();
    inlet.process().wait_for_line(&["enrolled"], START).unwrap();
    let ended = portal::run(inlet.home(), &["why", ADDRESS, "--json"]).unwrap();
    assert_eq!(ended.code(), Some(3), "{ended}");
    let said: Value = serde_json::from_str(ended.text().trim()).unwrap();
    assert_eq!(outcome(&said, "inlet db", "permission"), "bad", "{said}");
}

#[test]
fn top_has_a_line_of_json_each_interval() {
    let service = Service::echo().unwrap();
    let portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    let app = tcp::connect(portal.entry()).unwrap();
    tcp::ping(&app, b"open").unwrap();
    let top = ["top", "--json", "--interval", "0.1", "--count", "2"];
    let ended = portal::run(portal.inlet.home(), &top)
        .unwrap()
        .success()
        .unwrap();
    let lines: Vec<Value> = ended
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{ended}");
    for line in lines {
        let process = &line["processes"][0];
        assert_eq!(process["process"], "node inlet-db");
        assert_eq!(process["portals"][0]["streams_open"], 1, "{line}");
    }
    let top = ["top", "--interval", "0.1", "--count", "1"];
    let table = portal::run(portal.inlet.home(), &top)
        .unwrap()
        .success()
        .unwrap();
    assert!(
        table.text().contains("inlet db") && !table.text().contains('\u{1b}'),
        "{table}"
    );
}

#[test]
fn the_level_of_the_log_changes_while_a_process_runs() {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    let home = portal.inlet.home().to_owned();
    let level = |level: &[&str]| {
        let args = [&["log", "level"], level].concat();
        portal::run(&home, &args)
            .unwrap()
            .success()
            .unwrap()
            .text()
            .trim()
            .to_owned()
    };
    assert_eq!(level(&[]), "node inlet-db: info");
    tcp::ping(&tcp::connect(portal.entry()).unwrap(), b"quiet").unwrap();
    let told = portal.inlet.process().lines_with(&[" debug "]);
    assert_eq!(told, Vec::<String>::new());
    assert_eq!(level(&["debug"]), "node inlet-db: debug (was info)");
    tcp::ping(&tcp::connect(portal.entry()).unwrap(), b"told").unwrap();
    let inlet = portal.inlet.process();
    let parts = ["debug", "a stream ended", "bytes_sent=4"];
    inlet.wait_for_line(&parts, SHORTLY).unwrap();
    assert_eq!(level(&["error"]), "node inlet-db: error (was debug)");
    let lines = portal.inlet.process().lines();
    tcp::ping(&tcp::connect(portal.entry()).unwrap(), b"quiet again").unwrap();
    portal.inlet.terminate();
    portal.inlet.process().wait(START * 2).unwrap();
    assert_eq!(portal.inlet.process().lines(), lines);
}

#[test]
fn a_stream_has_the_same_name_in_the_logs_of_both_ends() {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    for part in [Part::Inlet, Part::Outlet] {
        let more = ["--log-level", "debug", "--log-format", "json"];
        portal.node(part).restart_with(&more).unwrap();
    }
    portal.outlet.wait_ready(START).unwrap();
    portal.inlet.wait_ready(START).unwrap();
    for bytes in [1, 22, 333] {
        tcp::ping(&tcp::connect(portal.entry()).unwrap(), &vec![7; bytes]).unwrap();
    }
    let ended = |portal: &mut Portal, part| {
        let streams = eventually("three streams ended", SHORTLY, || {
            let lines = portal.node(part).process().lines_with(&["a stream ended"]);
            let lines = lines
                .iter()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
            let names = lines.map(|it| {
                (
                    text(&it, "bundle"),
                    text(&it, "stream"),
                    text(&it, "bytes_sent"),
                )
            });
            let names: BTreeSet<_> = names.collect();
            match names.len() {
                3 => Ok(names),
                _ => Err(format!("{names:?}").into()),
            }
        });
        streams.unwrap().0
    };
    let at_inlet = ended(&mut portal, Part::Inlet);
    assert_eq!(at_inlet, ended(&mut portal, Part::Outlet));
}

#[test]
fn shells_and_man_get_what_there_is() {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let run = |args: &[&str]| portal::run(home.path(), args).unwrap().success().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        for word in ["outlet", "doctor", "revocation-max-age"] {
            assert!(
                script.text().contains(word),
                "{shell} does not complete {word}"
            );
        }
    }
    let page = run(&["man"]);
    assert!(page.text().contains(".TH adit 1"), "{page}");
    let dir = home.path().join("man1");
    let written = run(&["man", "--dir", &dir.display().to_string()]);
    for name in [
        "adit.1",
        "adit-inlet.1",
        "adit-ticket-create.1",
        "adit-log-level.1",
    ] {
        let page = fs::read_to_string(dir.join(name)).unwrap();
        let title = format!(".TH {} 1", name.trim_end_matches(".1"));
        assert!(page.contains(&title), "{name}: {page}");
        assert!(written.text().contains(name));
    }
}

#[test]
fn bash_takes_the_script_of_its_completions() {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let script = portal::run(home.path(), &["completions", "bash"])
        .unwrap()
        .success()
        .unwrap();
    let file = home.path().join("adit.bash");
    fs::write(&file, script.text()).unwrap();
    let mut bash = std::process::Command::new("bash");
    let ask = "source \"$1\"; COMP_WORDS=(adit tick); COMP_CWORD=1; _adit adit tick adit; echo \"${COMPREPLY[@]}\"";
    bash.args(["--noprofile", "--norc", "-c", ask, "bash"])
        .arg(&file);
    let ended = tests::process::Process::run("bash", bash, SHORTLY).unwrap();
    let ended = ended.success().unwrap();
    assert_eq!(ended.text().trim(), "ticket");
}

//! What a monitoring system gets from real processes: numbers in the text format, each of them documented,
//! and whether a process lives and can do its work.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;

use tests::portal::{
    ADDRESS, Engine, INLET_RULE, Node, OUTLET_RULE, Project, SHORTLY, START, workspace,
};
use tests::process::eventually;
use tests::tcp::{self, Service};

/// One request; the answer's status and body.
fn ask(to: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = tcp::connect(to).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = format!("Content-Length: {}", body.len());
    assert!(body.is_empty() || head.contains(&length), "{answer}");
    (status, body.to_owned())
}

fn get(to: SocketAddr, path: &str) -> (u16, String) {
    ask(to, &format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n"))
}

/// The samples of a page: name with labels, and number; checks the form on the way.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let (mut family, mut heads) = ("", BTreeSet::new());
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap();
            assert!(heads.insert(family), "{family} comes twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let kind = kind.strip_prefix(family).unwrap().trim();
            assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
        } else {
            let (sample, number) = line.rsplit_once(' ').unwrap();
            assert_eq!(sample.split('{').next(), Some(family), "{line}");
            let before = samples.insert(sample.to_owned(), number.parse().unwrap());
            assert_eq!(before, None, "{line}");
        }
    }
    samples
}

/// The names and label lists of docs/metrics.md.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string(workspace().join("docs/metrics.md")).unwrap();
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `adit_"));
    let row = |row: &str| {
        let mut cells = row.split('|').map(str::trim);
        let name = format!("adit_{}", cells.next().unwrap().trim_end_matches('`'));
        let labels = cells.nth(1).unwrap();
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        (name, labels.map(str::to_owned).collect())
    };
    rows.map(row).collect()
}

/// A portal whose three processes tell their numbers.
struct World {
    project: Project,
    outlet: Node,
    inlet: Node,
    entry: SocketAddr,
    metrics: [SocketAddr; 3],
}

impl World {
    fn start(target: SocketAddr) -> World {
        let metrics = [(); 3].map(|()| tcp::own_address().unwrap());
        let said = metrics.map(|address| address.to_string());
        let mut project = Project::start(Engine::Epoll).unwrap();
        project
            .serve
            .restart_with(&["--metrics", &said[0]])
            .unwrap();
        project.serve.wait_ready(START).unwrap();
        let node = |kind: &str, ticket, args: &[&str]| {
            let mut node = project.node(kind, kind, ticket, args).unwrap();
            node.wait_ready(START).unwrap();
            node
        };
        let target = target.to_string();
        let ticket = project.outlet_ticket("outlet").unwrap();
        let to = ["--at", ADDRESS, "--to", &target, "--allow", INLET_RULE];
        let outlet = node(
            "outlet",
            &ticket,
            &[&to[..], &["--metrics", &said[1]]].concat(),
        );
        let entry = tcp::own_address().unwrap();
        let ticket = project.inlet_ticket("inlet").unwrap();
        let from = entry.to_string();
        let from = ["--via", ADDRESS, "--from", &from, "--allow", OUTLET_RULE];
        let inlet = node(
            "inlet",
            &ticket,
            &[&from[..], &["--metrics", &said[2]]].concat(),
        );
        World {
            project,
            outlet,
            inlet,
            entry,
            metrics,
        }
    }

    fn numbers(&self, which: usize) -> BTreeMap<String, f64> {
        let (status, page) = get(self.metrics[which], "/metrics");
        assert_eq!(status, 200, "{page}");
        samples(&page)
    }
}

#[test]
fn every_number_is_documented_and_every_documented_one_is_told() {
    let service = Service::echo().unwrap();
    let world = World::start(service.address());
    {
        let app = tcp::connect(world.entry).unwrap();
        tcp::ping(&app, b"counted").unwrap();
        let open = "adit_portal_streams_open{portal=\"0\",role=\"inlet\",address=\"db\"}";
        assert_eq!(world.numbers(2)[open], 1.0);
    }
    // An inlet that the outlet denies, so that there are denials.
    let ticket = world.project.ticket("stranger", &[]).unwrap();
    let other = tcp::own_address().unwrap();
    let _denied = world
        .project
        .inlet("stranger", &ticket, other, OUTLET_RULE)
        .unwrap();
    let documented = documented();
    let told = eventually("a stream ended and a denial was counted", START, || {
        let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for which in 0..3 {
            for sample in world.numbers(which).keys() {
                let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
                let labels = labels.split(['{', ',']).filter_map(|it| it.split_once('='));
                let labels = labels.map(|(label, _)| label.to_owned()).collect();
                told.insert(name.to_owned(), labels);
            }
        }
        if told == documented {
            return Ok(());
        }
        let missing: Vec<_> = documented
            .iter()
            .filter(|(name, labels)| told.get(*name) != Some(labels))
            .collect();
        let unknown: Vec<_> = told
            .keys()
            .filter(|name| !documented.contains_key(*name))
            .collect();
        Err(format!("not told: {missing:?}; not documented: {unknown:?}").into())
    });
    told.unwrap();
}

#[test]
fn numbers_are_those_of_what_happened() {
    let service = Service::echo().unwrap();
    let world = World::start(service.address());
    for _ in 0..3 {
        tcp::ping(&tcp::connect(world.entry).unwrap(), &[7; 1000]).unwrap();
    }
    let ended = eventually("three streams have ended at both ends", SHORTLY, || {
        for (which, role) in [(1, "outlet"), (2, "inlet")] {
            let numbers = world.numbers(which);
            let of_portal = |name: &str| {
                numbers[&format!("{name}{{portal=\"0\",role=\"{role}\",address=\"db\"}}")]
            };
            let (open, total) = (
                of_portal("adit_portal_streams_open"),
                of_portal("adit_portal_streams_total"),
            );
            if (open, total) != (0.0, 3.0) {
                return Err(format!("{role}: {open} open of {total}").into());
            }
            assert_eq!(of_portal("adit_portal_ready"), 1.0);
            let worker = |name: &str| numbers[&format!("{name}{{worker=\"0\"}}")];
            assert_eq!(worker("adit_sent_bytes_total"), 3000.0);
            assert_eq!(worker("adit_received_bytes_total"), 3000.0);
            assert_eq!(numbers["adit_session_up{with=\"relay\"}"], 1.0);
            assert!(numbers["adit_credential_remaining_seconds"] > 60.0);
            assert!(numbers["adit_handshakes_total{result=\"finished\"}"] >= 1.0);
        }
        Ok(())
    });
    ended.unwrap();
    let relay = world.numbers(0);
    assert!(relay["adit_relayed_bytes_total{worker=\"0\"}"] > 6000.0);
    assert_eq!(relay["adit_relay_addresses_served"], 1.0);
}

#[test]
fn a_process_lives_while_it_is_not_ready_and_says_why() {
    let service = Service::echo().unwrap();
    let mut world = World::start(service.address());
    for address in world.metrics {
        assert_eq!(get(address, "/livez"), (200, "alive\n".into()));
        assert_eq!(get(address, "/readyz"), (200, "ready\n".into()));
    }
    world.outlet.kill();
    let inlet = world.metrics[2];
    let waits = eventually("the inlet is not ready", SHORTLY, || {
        match get(inlet, "/readyz") {
            (503, why) if why.starts_with("not ready: inlet db: ") => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    });
    waits.unwrap();
    assert_eq!(get(inlet, "/livez").0, 200);
    assert_eq!(world.numbers(2)["adit_ready"], 0.0);
    // Who drains is not ready at once, and alive to the end.
    let relay = world.metrics[0];
    let held = tcp::connect(world.project.public()).unwrap();
    world.project.serve.terminate();
    let drains = eventually("the relay drains", SHORTLY, || {
        match get(relay, "/readyz") {
            (503, why) if why.contains("stopping") => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    });
    drains.unwrap();
    drop(held);
    drop(world.inlet);
}

#[test]
fn what_is_no_request_is_refused_and_harms_nothing() {
    let project_metrics = tcp::own_address().unwrap();
    let mut project = Project::start(Engine::Epoll).unwrap();
    let said = project_metrics.to_string();
    project.serve.restart_with(&["--metrics", &said]).unwrap();
    project.serve.wait_ready(START).unwrap();
    let ask = |text: &str| ask(project_metrics, text).0;
    assert_eq!(ask("GET / HTTP/1.1\r\n\r\n"), 404);
    assert_eq!(ask("DELETE /metrics HTTP/1.1\r\n\r\n"), 405);
    assert_eq!(ask("EHLO mail\r\n\r\n"), 400);
    let long = "a".repeat(8 * 1024);
    assert_eq!(ask(&format!("GET /{}", &long[..8 * 1024 - 5])), 400);
    let (status, body) = head(project_metrics);
    assert_eq!((status, body.as_str()), (200, ""));
    // More callers than it answers at once, who say nothing: they are let go, and the next one is served.
    let silent: Vec<_> = (0..12)
        .map(|_| tcp::connect(project_metrics).unwrap())
        .collect();
    assert_eq!(get(project_metrics, "/livez").0, 200);
    drop(silent);
    assert!(project.serve.process().runs());
}

fn head(to: SocketAddr) -> (u16, String) {
    ask(to, "HEAD /livez HTTP/1.1\r\n\r\n")
}

#[test]
fn an_address_that_is_taken_is_named_before_anything_starts() {
    let project = Project::start(Engine::Epoll).unwrap();
    let taken = std::net::TcpListener::bind(tcp::own_address().unwrap()).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ticket = project.inlet_ticket("inlet").unwrap();
    let entry = tcp::own_address().unwrap().to_string();
    let from = [
        "--via",
        ADDRESS,
        "--from",
        &entry,
        "--allow",
        OUTLET_RULE,
        "--metrics",
        &address,
    ];
    let mut inlet = project.node("inlet", "inlet", &ticket, &from).unwrap();
    inlet
        .process()
        .wait_for_line(&["ADIT-6101", &address], START)
        .unwrap();
    assert_eq!(inlet.process().wait(SHORTLY).unwrap().code(), Some(1));
}

#[test]
fn nothing_listens_unless_it_was_asked_for_and_the_file_can_ask() {
    let service = Service::echo().unwrap();
    let project = Project::start(Engine::Epoll).unwrap();
    assert_eq!(
        project.serve.status().unwrap()["metrics"],
        serde_json::Value::Null
    );
    let ticket = project.outlet_ticket("outlet").unwrap();
    let home = project.home("file").unwrap();
    let metrics = tcp::own_address().unwrap();
    let file = home.join("adit.toml");
    let text = format!(
        "ticket = {:?}\nengine = \"epoll\"\nmetrics = \"{metrics}\"\n\
         [[outlet]]\nat = \"{ADDRESS}\"\nto = \"{}\"\nallow = \"{INLET_RULE}\"\n",
        ticket.display().to_string(),
        service.address()
    );
    fs::write(&file, text).unwrap();
    let mut node = Node::start("file", &home, vec!["run".into()]).unwrap();
    node.wait_ready(START).unwrap();
    assert_eq!(get(metrics, "/readyz").0, 200);
    assert_eq!(node.status().unwrap()["metrics"], metrics.to_string());
}

//! What arrives from outside and makes no sense is refused: strangers at the public port, flags,
//! configuration, tickets, state directories. Each refusal says what was expected and disturbs
//! nobody.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tests::portal::{self, ADDRESS, Engine, Node, OUTLET_RULE, Portal, Project, SHORTLY, START};
use tests::process::{Ended, long};
use tests::tcp::{self, Pattern, Service};

tests::on_both_engines!(
    strangers_with_garbage_are_cut_off,
    an_http_client_gets_a_hint_in_the_log,
    a_tls_client_gets_a_hint_in_the_log,
    another_version_of_the_protocol_is_named,
    a_frame_that_claims_too_much_is_cut_off,
    slow_strangers_are_cut_off_and_hold_up_nobody,
);

/// Strangers have 5 s to finish a handshake; this is how long it may take to be cut off.
const CUT_OFF: Duration = Duration::from_secs(10);

/// An authority session's clear preface: magic, version 1, kind 1, two zeros.
const PREFACE: [u8; 8] = *b"ADIT\x01\x01\0\0";

// ---- strangers --------------------------------------------------------------------------------

/// A portal next to which strangers do their worst.
struct World {
    portal: Portal,
    _target: Service,
}

impl World {
    fn new(engine: Engine) -> World {
        let target = Service::echo().unwrap();
        World {
            portal: Portal::start(engine, target.address()).unwrap(),
            _target: target,
        }
    }

    fn public(&self) -> SocketAddr {
        self.portal.project.public()
    }

    /// Everything is as before: the processes, and the way through.
    fn is_unharmed(&mut self) {
        assert!(
            self.portal.project.serve.process().runs(),
            "the relay ended"
        );
        tcp::ping(&tcp::connect(self.portal.entry()).unwrap(), b"still here").unwrap();
    }

    /// Sends this and expects the connection's end, whichever kind, and nothing to read before.
    fn is_cut_off(&self, first: &[u8]) {
        let mut stranger = tcp::connect(self.public()).unwrap();
        // It may be cut off before all of it is sent.
        let _ = stranger.write_all(first);
        let mut answer = Vec::new();
        stranger.set_read_timeout(Some(CUT_OFF)).unwrap();
        let _ = (&stranger).take(64).read_to_end(&mut answer);
        assert!(answer.is_empty(), "a stranger got an answer: {answer:?}");
        tcp::ending(&stranger, CUT_OFF).unwrap();
    }
}

fn strangers_with_garbage_are_cut_off(engine: Engine) {
    let mut world = World::new(engine);
    for (seed, len) in [(1, 8), (2, 96), (3, 1000), (4, 100_000)] {
        let mut garbage = vec![0; len];
        Pattern::new(seed).fill(&mut garbage);
        world.is_cut_off(&garbage);
    }
    world.is_unharmed();
}

fn an_http_client_gets_a_hint_in_the_log(engine: Engine) {
    let mut world = World::new(engine);
    world.is_cut_off(b"GET / HTTP/1.1\r\nHost: relay.example.com\r\n\r\n");
    let serve = world.portal.project.serve.process();
    serve
        .wait_for_line(&["ADIT-4321", "HTTP"], SHORTLY)
        .unwrap();
    world.is_unharmed();
}

fn a_tls_client_gets_a_hint_in_the_log(engine: Engine) {
    let mut world = World::new(engine);
    // The first bytes of a ClientHello: handshake record, TLS 1.0 for old middleboxes, 508 bytes.
    let mut hello = vec![0x16, 3, 1, 1, 0xfc, 1, 0, 1, 0xf8, 3, 3];
    hello.resize(513, 7);
    world.is_cut_off(&hello);
    let serve = world.portal.project.serve.process();
    serve.wait_for_line(&["ADIT-4322", "TLS"], SHORTLY).unwrap();
    world.is_unharmed();
}

fn another_version_of_the_protocol_is_named(engine: Engine) {
    let mut world = World::new(engine);
    let mut preface = PREFACE;
    preface[4] = 9;
    world.is_cut_off(&preface);
    world
        .portal
        .project
        .serve
        .process()
        .wait_for_line(&["ADIT-4302"], SHORTLY)
        .unwrap();
    world.is_unharmed();
}

fn a_frame_that_claims_too_much_is_cut_off(engine: Engine) {
    let mut world = World::new(engine);
    world.is_cut_off(&[&PREFACE[..], &[0xff, 0xff], &[1; 100]].concat());
    // And one of a good length that holds no handshake.
    world.is_cut_off(&[&PREFACE[..], &[0, 100], &[1; 100]].concat());
    world.is_unharmed();
}

fn slow_strangers_are_cut_off_and_hold_up_nobody(engine: Engine) {
    let mut world = World::new(engine);
    let strangers: Vec<TcpStream> = (0..if long() { 2000 } else { 100 })
        .map(|number| {
            let mut stranger = tcp::connect(world.public()).unwrap();
            // Some send nothing, some a part of a preface, some a preface and a part of a frame.
            let first = [&PREFACE[..], &[0, 200, 1]].concat();
            let _ = stranger.write_all(&first[..number % (first.len() + 1)]);
            stranger
        })
        .collect();
    world.is_unharmed();
    for stranger in &strangers {
        tcp::ending(stranger, CUT_OFF).unwrap();
    }
    world.is_unharmed();
}

// ---- what is typed ----------------------------------------------------------------------------

/// Runs `adit` in a new home.
fn adit(args: &[&str]) -> Ended {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    adit_in(home.path(), args)
}

fn adit_in(home: &Path, args: &[&str]) -> Ended {
    portal::run(home, args).unwrap()
}

/// It ended with that exit code and an error that holds all of `parts`.
fn expect_error(ended: &Ended, exit: i32, parts: &[&str]) {
    assert_eq!(ended.code(), Some(exit), "{ended}");
    for part in parts {
        assert!(
            ended.stderr.contains(part),
            "no {part:?} in the error: {ended}"
        );
    }
}

#[test]
fn an_unknown_flag_suggests_the_near_match() {
    let ended = adit(&["inlet", "--fron", "127.0.0.1:0", "--via", ADDRESS]);
    expect_error(&ended, 2, &["--fron", "--from"]);
}

#[test]
fn an_unknown_command_suggests_the_near_match() {
    expect_error(&adit(&["outlett"]), 2, &["outlett", "outlet"]);
}

#[test]
fn a_missing_flag_is_named() {
    expect_error(&adit(&["outlet", "--at", ADDRESS]), 2, &["--to"]);
}

#[test]
fn a_value_out_of_its_form_says_what_was_expected() {
    let target = [
        "outlet", "--at", ADDRESS, "--to", "no port", "--allow", "a=b",
    ];
    expect_error(&adit(&target), 2, &["--to", "no port"]);
    expect_error(
        &adit(&["inlet", "--via", ADDRESS, "--from", "localhost"]),
        2,
        &["--from"],
    );
    expect_error(
        &adit(&["ticket", "create", "--expires-in", "soon"]),
        2,
        &["--expires-in", "soon"],
    );
    expect_error(
        &adit(&["ticket", "create", "--attribute", "no value"]),
        2,
        &["--attribute"],
    );
    expect_error(
        &adit(&["status", "--engine", "kqueue"]),
        2,
        &["kqueue", "epoll"],
    );
}

#[test]
fn a_rule_out_of_its_form_is_refused_before_anything_starts() {
    let rule = [
        "outlet",
        "--at",
        ADDRESS,
        "--to",
        "db.example.com:5432",
        "--allow",
        "no such form",
    ];
    expect_error(&adit(&rule), 2, &["no such form"]);
}

#[test]
fn an_unknown_configuration_key_suggests_the_near_match() {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let file = home.path().join("adit.toml");
    fs::write(
        &file,
        "[[inlet]]\nvia = \"db\"\nform = \"127.0.0.1:0\"\nallow = [\"a=b\"]\n",
    )
    .unwrap();
    let ended = adit_in(home.path(), &["run", "--config", file.to_str().unwrap()]);
    expect_error(&ended, 2, &["ADIT-1102", "form", "did you mean \"from\"?"]);
}

#[test]
fn a_wrong_rule_or_limit_in_a_configuration_is_named_with_its_place() {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let file = home.path().join("adit.toml");
    let deep = format!("allow-cel = '{}1{} == 1'", "(".repeat(33), ")".repeat(33));
    let long = format!("deny-cel = 'target == \"{}\"'", "a".repeat(4096));
    for (rule, parts) in [
        (
            "allow = 'a'",
            ["\"allow\" of [[outlet.rule]] 1", "expected '='"],
        ),
        (
            "deny-cel = 'membr.id == \"\"'",
            ["\"deny-cel\" of", "membr is unknown"],
        ),
        (
            "deny-cel = 'target.matches(\"a\")'",
            ["\"deny-cel\" of", "regular expressions"],
        ),
        (
            "deny-cel = '[1].all(x, true)'",
            ["\"deny-cel\" of", "comprehensions"],
        ),
        (
            "deny-cel = 'member.name'",
            ["\"deny-cel\" of", "true or false"],
        ),
        (&deep, ["\"allow-cel\" of", "32 levels"]),
        (&long, ["\"deny-cel\" of", "4096 bytes"]),
        (
            "allow = 'a=1'\nmode = 'log'",
            ["\"mode\" of", "enforce or audit"],
        ),
        ("mode = 'audit'", ["\"allow\" of", "it is missing"]),
    ] {
        let text =
            format!("[[outlet]]\nat = 'db'\nto = 'db.example.com:5432'\n[[outlet.rule]]\n{rule}\n");
        fs::write(&file, text).unwrap();
        let ended = adit_in(home.path(), &["run", "--config", file.to_str().unwrap()]);
        expect_error(
            &ended,
            2,
            &[&["ADIT-1103", "[[outlet]] 1"], &parts[..]].concat(),
        );
    }
    for (limit, expected) in [
        ("max-streams = 0", "from 1"),
        ("idle-timeout = '5'", "unit"),
    ] {
        let text = format!("[[outlet]]\nat = 'db'\nto = 'db.example.com:5432'\n{limit}\n");
        fs::write(&file, text).unwrap();
        let ended = adit_in(home.path(), &["run", "--config", file.to_str().unwrap()]);
        expect_error(&ended, 2, &["ADIT-1103", expected]);
    }
    fs::write(&file, "spin = 1001\n").unwrap();
    let ended = adit_in(home.path(), &["run", "--config", file.to_str().unwrap()]);
    expect_error(&ended, 2, &["ADIT-1103", "from 0 to 1000"]);
    for (lanes, code, expected) in [
        ("17", "ADIT-1103", "at most 16"),
        ("9", "ADIT-1001", "9 at each of 2"),
    ] {
        let text =
            format!("workers = 2\n[[inlet]]\nvia = 'db'\nfrom = '127.0.0.1:0'\nlanes = {lanes}\n");
        fs::write(&file, text).unwrap();
        for command in [&["run"][..], &["config", "check"]] {
            let args = [command, &["--config", file.to_str().unwrap()]].concat();
            expect_error(&adit_in(home.path(), &args), 2, &[code, expected]);
        }
    }
}

#[test]
fn a_configuration_file_that_is_no_toml_names_the_line() {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let file = home.path().join("adit.toml");
    fs::write(&file, "[[inlet]]\nvia = \"db\nfrom = 1\n").unwrap();
    let ended = adit_in(home.path(), &["run", "--config", file.to_str().unwrap()]);
    expect_error(&ended, 2, &["ADIT-1101", "adit.toml", "2"]);
}

#[test]
fn a_second_project_of_a_name_is_refused_and_the_first_stays() {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let create = [
        "project",
        "create",
        "acme",
        "--address",
        "relay.example.com:7348",
    ];
    let first = adit_in(home.path(), &create);
    assert_eq!(first.code(), Some(0), "{first}");
    assert!(first.stderr.contains("next: adit serve"), "{first}");
    expect_error(&adit_in(home.path(), &create), 4, &["ADIT-1152", "acme"]);
    let ticket = adit_in(home.path(), &["ticket", "create", "--name", "a"]);
    assert_eq!(ticket.code(), Some(0), "{ticket}");
}

// ---- tickets ----------------------------------------------------------------------------------

/// Redeems a file with this text; it must be refused before anything is dialed.
fn expect_unreadable_ticket(text: &str, parts: &[&str]) {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let file = home.path().join("node.ticket");
    fs::write(&file, text).unwrap();
    let ended = adit_in(home.path(), &["enroll", "--ticket", file.to_str().unwrap()]);
    expect_error(&ended, 2, &[&["ADIT-1301"], parts].concat());
}

/// A ticket that would be good, were its authority running.
fn ticket() -> String {
    let home = TempDir::with_prefix("adit-test-").unwrap();
    let address = "relay.example.com:7348";
    let created = adit_in(
        home.path(),
        &["project", "create", "acme", "--address", address],
    );
    assert_eq!(created.code(), Some(0), "{created}");
    let made = adit_in(home.path(), &["ticket", "create", "--name", "node"]);
    assert_eq!(made.code(), Some(0), "{made}");
    made.text().trim().to_owned()
}

#[test]
fn a_truncated_ticket_says_so() {
    let ticket = ticket();
    for cut in [1, 6, ticket.len() / 2] {
        expect_unreadable_ticket(&ticket[..ticket.len() - cut], &[]);
    }
}

#[test]
fn a_ticket_with_a_changed_letter_is_refused() {
    let ticket = ticket();
    let at = ticket.len() / 2;
    let other = if &ticket[at..=at] == "A" { "B" } else { "A" };
    expect_unreadable_ticket(
        &format!("{}{other}{}", &ticket[..at], &ticket[at + 1..]),
        &[],
    );
}

#[test]
fn what_is_no_ticket_is_refused_with_what_was_expected() {
    for text in [
        "",
        "\n",
        "hello",
        "adit-ticket-9:AAAA",
        "adit-ticket-1:",
        "adit-ticket-1:!!!",
    ] {
        expect_unreadable_ticket(text, &[]);
    }
    expect_unreadable_ticket(&"A".repeat(1024 * 1024), &[]);
}

#[test]
fn a_ticket_file_that_is_missing_is_named() {
    let ended = adit(&["enroll", "--ticket", "no-such.ticket"]);
    expect_error(&ended, 2, &["ADIT-1301", "no-such.ticket"]);
}

/// Other users see a command line, so its text is no place for a ticket; nor is an error.
#[test]
fn a_ticket_on_the_command_line_is_refused_and_not_repeated() {
    let ticket = ticket();
    let ended = adit(&["enroll", "--ticket", &ticket]);
    expect_error(&ended, 2, &["ADIT-1001"]);
    let secret = &ticket["adit-ticket-1:".len()..];
    assert!(!ended.stderr.contains(secret), "the ticket is in the error");
}

// ---- state directories and ports --------------------------------------------------------------

/// A node that enrolled and was ended, so that its state directory is free.
struct Enrolled {
    _project: Project,
    node: Node,
}

fn enrolled() -> Enrolled {
    let project = Project::start(Engine::Epoll).unwrap();
    let ticket = project.inlet_ticket("inlet").unwrap();
    let entry = tcp::own_address().unwrap();
    let mut node = project.inlet("inlet", &ticket, entry, OUTLET_RULE).unwrap();
    node.process().wait_for_line(&["enrolled"], START).unwrap();
    Enrolled {
        _project: project,
        node,
    }
}

/// What a node keeps: its key, and its membership.
const STATE_FILES: [&str; 2] = ["identity.key", "membership"];

impl Enrolled {
    fn state_file(&self, name: &str) -> PathBuf {
        self.node.state_file(name).unwrap()
    }

    /// Starts it again; it must end with this exit code and an error that holds all of `parts`.
    fn is_refused(&mut self, exit: i32, parts: &[&str]) {
        self.node.restart().unwrap();
        self.node.process().wait_for_line(parts, START).unwrap();
        assert_eq!(
            self.node.process().wait(SHORTLY).unwrap().code(),
            Some(exit)
        );
    }
}

#[test]
fn keys_are_kept_from_others() {
    let enrolled = enrolled();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for name in STATE_FILES {
        let file = enrolled.state_file(name);
        assert_eq!(mode(&file), 0o600, "{name}");
        assert_eq!(mode(file.parent().unwrap()), 0o700);
    }
}

#[test]
fn a_state_file_that_others_can_read_is_refused() {
    let mut enrolled = enrolled();
    enrolled.node.kill();
    for name in STATE_FILES {
        let file = enrolled.state_file(name);
        let shown = file.to_str().unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        enrolled.is_refused(4, &["ADIT-1202", shown]);
        let fix = enrolled.node.process().lines_with(&["chmod", shown]);
        assert_eq!(fix.len(), 1, "the error names the command that mends it");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn a_damaged_state_file_is_refused_and_left_alone() {
    let mut enrolled = enrolled();
    enrolled.node.kill();
    for name in STATE_FILES {
        let file = enrolled.state_file(name);
        let whole = fs::read(&file).unwrap();
        let damaged = &whole[..whole.len() / 2];
        fs::write(&file, damaged).unwrap();
        enrolled.is_refused(4, &["ADIT-1205", file.to_str().unwrap()]);
        assert_eq!(
            fs::read(&file).unwrap(),
            damaged,
            "the file was overwritten"
        );
        fs::write(&file, whole).unwrap();
    }
}

#[test]
fn a_node_that_is_a_member_ignores_a_ticket_and_says_so() {
    let mut enrolled = enrolled();
    enrolled.node.restart().unwrap();
    enrolled
        .node
        .process()
        .wait_for_line(&["ticket", "ignored"], START)
        .unwrap();
}

#[test]
fn a_state_directory_in_use_says_by_which_process() {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    let holder = portal.inlet.process().id().to_string();
    let from = tcp::own_address().unwrap().to_string();
    let second = [
        "inlet",
        "--via",
        ADDRESS,
        "--from",
        &from,
        "--allow",
        OUTLET_RULE,
    ];
    let ended = adit_in(portal.inlet.home(), &second);
    expect_error(&ended, 4, &["ADIT-1203", &holder]);
    tcp::ping(&tcp::connect(portal.entry()).unwrap(), b"unharmed").unwrap();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let project = Project::start(Engine::Epoll).unwrap();
    let entry = tcp::own_address().unwrap();
    let _holder = TcpListener::bind(entry).unwrap();
    let ticket = project.inlet_ticket("inlet").unwrap();
    let mut inlet = project.inlet("inlet", &ticket, entry, OUTLET_RULE).unwrap();
    inlet
        .process()
        .wait_for_line(&["ADIT-6101", &entry.to_string()], START)
        .unwrap();
    assert_eq!(inlet.process().wait(SHORTLY).unwrap().code(), Some(1));
}

#[test]
fn a_second_relay_on_the_same_port_is_refused() {
    let mut project = Project::start(Engine::Epoll).unwrap();
    let home = project.home("second").unwrap();
    let address = project.public().to_string();
    let created = adit_in(
        &home,
        &["project", "create", "other", "--address", &address],
    );
    assert_eq!(created.code(), Some(0), "{created}");
    let ended = adit_in(&home, &["serve", "--listen", &address]);
    expect_error(&ended, 1, &["ADIT-6101", &address]);
    assert!(project.serve.process().runs());
}

/// What listens nowhere can't be asked, and says so instead of waiting.
#[test]
fn status_and_health_of_nothing_end_at_once() {
    for command in ["status", "health"] {
        let ended = adit(&[command]);
        assert_ne!(ended.code(), Some(0), "{ended}");
        assert!(ended.stderr.contains("error[ADIT-"), "{ended}");
    }
}

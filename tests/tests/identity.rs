//! `adit identity rotate`: the id stays, live streams stay, the old key is of no use, and a crash at any
//! moment leaves one of the two.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crypto::identity::IdentitySecret;
use tests::portal::{self, ADDRESS, Engine, Node, OUTLET_RULE, Part, Portal, START};
use tests::process::{Failure, Process, eventually};
use tests::tcp::{self, PATIENCE, Service};

tests::on_both_engines!(a_key_is_changed_under_a_live_stream,);

fn id(home: &Path) -> String {
    let shown = portal::run(home, &["identity", "show"]).unwrap();
    shown.success().unwrap().text().trim().to_owned()
}

fn serial(node: &Node) -> u64 {
    let status = node.status().unwrap();
    status["membership"]["serial"].as_u64().unwrap()
}

/// How often the identity on disk has changed its key.
fn changes(node: &Node) -> u16 {
    let key = fs::read(node.state_file("identity.key").unwrap()).unwrap();
    IdentitySecret::from_bytes(&key).unwrap().identity().len()
}

/// Changes the key of a running node, and waits for the credential that names the new one.
fn rotate(node: &Node) {
    let before = serial(node);
    let rotated = portal::run(node.home(), &["identity", "rotate"]).unwrap();
    let text = rotated.success().unwrap().text();
    assert!(text.contains("has another key"), "{text}");
    assert!(text.contains("as soon as it is reached"), "{text}");
    eventually("a credential for the new key", PATIENCE, || {
        match serial(node) {
            serial if serial > before => Ok(()),
            serial => Err(Failure(format!("serial {serial}"))),
        }
    })
    .unwrap();
}

fn a_key_is_changed_under_a_live_stream(engine: Engine) {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(engine, service.address()).unwrap();
    let app = tcp::connect(portal.entry()).unwrap();
    tcp::ping(&app, b"before").unwrap();
    for part in [Part::Outlet, Part::Inlet] {
        let node = portal.node(part);
        let before = id(node.home());
        rotate(node);
        rotate(node);
        assert_eq!(id(node.home()), before, "{part:?}");
        tcp::ping(&app, b"after").unwrap();
        let other = tcp::connect(portal.entry()).unwrap();
        tcp::ping(&other, b"another").unwrap();
    }
    // What is on disk works, without a ticket.
    for part in [Part::Outlet, Part::Inlet] {
        portal.node(part).forget_ticket();
        portal.node(part).restart().unwrap();
    }
    let entry = portal.entry();
    eventually("the portal works again", START, || {
        tcp::ping(&tcp::connect(entry)?, b"again")
    })
    .unwrap();
}

/// A copy of a node's directory, as a thief would have it.
fn stolen(from: &Node, home: PathBuf) -> PathBuf {
    let source = from.state_file("identity.key").unwrap();
    let source = source.parent().unwrap();
    let nodes = home.join(portal::PROJECT).join("nodes");
    let to = nodes.join(source.file_name().unwrap());
    let mut made = fs::DirBuilder::new();
    made.recursive(true).mode(0o700).create(&to).unwrap();
    for file in ["format", "identity.key", "membership", "revocations"] {
        let Ok(bytes) = fs::read(source.join(file)) else {
            continue;
        };
        fs::write(to.join(file), bytes).unwrap();
        fs::set_permissions(to.join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    home
}

#[test]
fn a_stolen_key_is_refused_after_the_owner_has_changed_it_and_so_is_one_forked_off_it() {
    let service = Service::echo().unwrap();
    let portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    let thefts = [("thief", false), ("forger", true)];
    let homes = thefts.map(|(name, _)| {
        let home = portal.project.home(name).unwrap();
        stolen(&portal.inlet, home)
    });
    rotate(&portal.inlet);
    for ((name, forks), home) in thefts.into_iter().zip(homes) {
        if forks {
            let forked = portal::run(&home, &["identity", "rotate"]).unwrap();
            forked.success().unwrap();
        }
        let entry = tcp::own_address().unwrap().to_string();
        let args = [
            "inlet",
            "--via",
            ADDRESS,
            "--from",
            &entry,
            "--allow",
            OUTLET_RULE,
        ];
        let command = portal::command(&home, &args).unwrap();
        let mut thief = Process::spawn(name, command).unwrap();
        thief.wait_for_line(&["ADIT-2009"], PATIENCE).unwrap();
        // The credential that was stolen with it is the last one.
        thief.kill();
    }
    let app = tcp::connect(portal.entry()).unwrap();
    tcp::ping(&app, b"the owner's works").unwrap();
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_key_or_the_new_one() {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    let home = portal.inlet.home().to_owned();
    let before = id(&home);
    portal.inlet.kill();
    let began = Instant::now();
    let whole = portal::run(&home, &["identity", "rotate"]).unwrap();
    whole.success().unwrap();
    let took = began.elapsed();
    let mut at = changes(&portal.inlet);
    assert_eq!(at, 1);
    // From the very beginning to a little behind the end.
    let kills: u32 = 24;
    for n in 0..kills {
        let command = portal::command(&home, &["identity", "rotate"]).unwrap();
        let mut rotating = Process::spawn("rotate", command).unwrap();
        let until = Instant::now() + took * n / (kills - 4);
        while Instant::now() < until && rotating.runs() {
            std::hint::spin_loop();
        }
        rotating.kill();
        assert_eq!(id(&home), before, "kill {n}");
        let now = changes(&portal.inlet);
        assert!(now == at || now == at + 1, "kill {n}: {at} to {now}");
        at = now;
    }
    portal.inlet.forget_ticket();
    portal.inlet.restart().unwrap();
    let entry = portal.entry();
    eventually("the node works with the key it has", START, || {
        tcp::ping(&tcp::connect(entry)?, b"again")
    })
    .unwrap();
}

//! Two authority processes, each with a directory of its own, on one PostgreSQL database.
//!
//! The first is the authority and relay at the project's address; the second is an authority elsewhere.
//! Where PostgreSQL is not installed, a test says so and ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crypto::ticket::Ticket;
use tempfile::TempDir;
use tests::portal::{self, ADDRESS, INLET_RULE, Node, OUTLET_RULE, PROJECT, START};
use tests::postgres::{Database, Postgres};
use tests::process::{Ended, Process, eventually, long};
use tests::tcp::{self, Ending, PATIENCE, Service};

/// A project with two authorities.
struct World {
    one: Node,
    two: Node,
    at_one: SocketAddr,
    at_two: SocketAddr,
    folder: TempDir,
    _database: Database,
    _server: Arc<Postgres>,
}

fn home(folder: &TempDir, name: &str) -> PathBuf {
    let home = folder.path().join(name);
    fs::create_dir_all(&home).unwrap();
    home
}

/// The files of a project's directory, as an operator would copy them to another machine.
fn copy_project(from: &Path, to: &Path) {
    let (from, to) = (from.join(PROJECT), to.join(PROJECT));
    DirBuilder::new().mode(0o700).create(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn serve(name: &str, home: &Path, at: SocketAddr, url: &str, more: &[&str]) -> Node {
    let at = at.to_string();
    let args = [
        "serve", "--listen", &at, "--engine", "epoll", "--store", url,
    ];
    let args: Vec<OsString> = args.iter().chain(more).map(OsString::from).collect();
    Node::start(name, home, args).unwrap()
}

fn world(test: &str) -> Option<World> {
    let server = Postgres::shared(test).unwrap()?;
    let database = server.database().unwrap();
    let url = database.url();
    let folder = TempDir::with_prefix("adit-test-").unwrap();
    let (first, second) = (home(&folder, "one"), home(&folder, "two"));
    let (at_one, at_two) = (tcp::own_address().unwrap(), tcp::own_address().unwrap());
    let address = at_one.to_string();
    let create = [
        "project",
        "create",
        PROJECT,
        "--address",
        &address,
        "--store",
        &url,
    ];
    portal::run(&first, &create).unwrap().success().unwrap();
    copy_project(&first, &second);
    let mut one = serve("one", &first, at_one, &url, &[]);
    let mut two = serve("two", &second, at_two, &url, &["--role", "authority"]);
    one.wait_ready(START).unwrap();
    two.wait_ready(START).unwrap();
    Some(World {
        one,
        two,
        at_one,
        at_two,
        folder,
        _database: database,
        _server: server,
    })
}

/// A ticket that `authority` makes, as text.
fn ticket(authority: &Node, name: &str, more: &[&str]) -> String {
    let args = [&["ticket", "create", "--name", name], more].concat();
    let made = portal::run(authority.home(), &args).unwrap();
    made.success().unwrap().text().trim().to_owned()
}

impl World {
    /// Starts a node with this ticket; doesn't wait for it.
    fn node(&self, name: &str, kind: &str, ticket: &str, more: &[&str]) -> Node {
        let file = self.folder.path().join(format!("{name}.ticket"));
        fs::write(&file, ticket).unwrap();
        let mut args: Vec<OsString> = vec![kind.into(), "--ticket".into(), file.into()];
        args.extend(["--engine", "epoll"].map(OsString::from));
        args.extend(more.iter().map(OsString::from));
        Node::start(name, &home(&self.folder, name), args).unwrap()
    }

    /// Redeems a ticket at the authority that listens there.
    fn enroll(&self, name: &str, ticket: &str, at: SocketAddr) -> Ended {
        let mut ticket = Ticket::from_text(ticket).unwrap();
        ticket.addresses = vec![at.to_string().parse().unwrap()];
        let args = ["enroll", "--ticket", "-", "--exit-if-not-enrolled"];
        let command = portal::command(&home(&self.folder, name), &args).unwrap();
        let text = ticket.to_text().as_bytes().to_vec();
        let enrolling = Process::spawn_fed(name, command, text).unwrap();
        enrolling.finish(PATIENCE).unwrap()
    }
}

#[test]
fn a_ticket_is_redeemed_once_across_both() {
    let Some(world) = world("a_ticket_is_redeemed_once_across_both") else {
        return;
    };
    let racers: usize = if long() { 100 } else { 8 };
    let made = ticket(&world.two, "racer", &[]);
    let codes: Vec<Option<i32>> = thread::scope(|scope| {
        let start = |number: usize| {
            let (world, made) = (&world, &made);
            let at = [world.at_one, world.at_two][number % 2];
            scope.spawn(move || world.enroll(&format!("racer{number}"), made, at).code())
        };
        let running: Vec<_> = (0..racers).map(start).collect();
        running.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let won = codes.iter().filter(|code| **code == Some(0)).count();
    let lost = codes.iter().filter(|code| **code == Some(3)).count();
    assert_eq!((won, lost), (1, racers - 1), "{codes:?}");
    // The winner may ask again, and at the other one too.
    let winner = codes.iter().position(|code| *code == Some(0)).unwrap();
    let other = [world.at_two, world.at_one][winner % 2];
    let again = world.enroll(&format!("racer{winner}"), &made, other);
    again.success().unwrap();
    // Both see one member and one trail, which is whole.
    let listed = |node: &Node| {
        let listed = portal::run(node.home(), &["member", "list", "--json"]);
        listed.unwrap().json().unwrap()
    };
    assert_eq!(listed(&world.one), listed(&world.two));
    for node in [&world.one, &world.two] {
        let whole = portal::run(node.home(), &["audit", "verify"]).unwrap();
        whole.success().unwrap();
    }
}

#[test]
fn a_revocation_at_one_is_enforced_by_nodes_of_the_other() {
    let Some(world) = world("a_revocation_at_one_is_enforced_by_nodes_of_the_other") else {
        return;
    };
    let service = Service::echo().unwrap();
    let (target, entry) = (service.address().to_string(), tcp::own_address().unwrap());
    let serving = ["--attribute", OUTLET_RULE, "--may-serve", ADDRESS];
    let serving = ticket(&world.two, "outlet", &serving);
    let using = ticket(&world.one, "inlet", &["--attribute", INLET_RULE]);
    let to = ["--at", ADDRESS, "--to", &target, "--allow", INLET_RULE];
    let mut outlet = world.node("outlet", "outlet", &serving, &to);
    outlet.wait_ready(START).unwrap();
    let from = entry.to_string();
    let via = ["--via", ADDRESS, "--from", &from, "--allow", OUTLET_RULE];
    let mut inlet = world.node("inlet", "inlet", &using, &via);
    inlet.wait_ready(START).unwrap();
    let stream = tcp::connect(entry).unwrap();
    tcp::ping(&stream, b"before").unwrap();

    // The nodes' sessions are with the first authority; the second one revokes.
    let began = Instant::now();
    let revoke = ["member", "revoke", "inlet", "--reason", "contract ended"];
    let revoked = portal::run(world.two.home(), &revoke).unwrap();
    revoked.success().unwrap();
    let within = Duration::from_secs(if long() { 2 } else { 10 });
    let (ending, _) = tcp::ending(&stream, within).unwrap();
    assert_eq!(ending, Ending::Reset);
    println!("cut {:?} after the command was given", began.elapsed());
    let tail = ["audit", "tail", "--json", "-n", "1"];
    let (last, _) = eventually("the row is there", PATIENCE, || {
        portal::run(world.one.home(), &tail)?.json()
    })
    .unwrap();
    assert_eq!(last["action"], "member.revoked");
    assert_eq!(last["details"]["reason"], "contract ended");
}

#[test]
fn a_password_of_the_database_is_never_on_the_command_line() {
    let folder = TempDir::with_prefix("adit-test-").unwrap();
    let home = home(&folder, "one");
    // Nobody listens there.
    let nowhere = tcp::own_address().unwrap().to_string();
    let typed = format!("postgres://adit:swordfish@{nowhere}/adit");
    let create = ["project", "create", PROJECT, "--address", &nowhere];
    let refused = portal::run(&home, &[create.as_slice(), &["--store", &typed]].concat()).unwrap();
    assert!(!refused.stderr.contains("swordfish"), "{refused}");
    refused.failure(2, "--store-password-file").unwrap();
    // From the environment it is taken, and still not shown.
    let mut command = portal::command(&home, &create).unwrap();
    command.env("ADIT_STORE", &typed);
    let unreached = Process::run("project create", command, PATIENCE).unwrap();
    assert!(!unreached.stderr.contains("swordfish"), "{unreached}");
    unreached.failure(4, &format!("{nowhere}/adit")).unwrap();
}

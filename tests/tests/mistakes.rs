//! Mistakes that people make, and what adit says: each ends in a text that names what mends it. The texts
//! are kept in docs/mistakes.md, which `UPDATE_DOCS=1 cargo test --test mistakes` writes anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;
use tests::portal::{
    self, ADDRESS, Engine, INLET_RULE, Node, OUTLET_RULE, Project, SHORTLY, START, workspace,
};
use tests::process::{Ended, eventually};
use tests::tcp::{self, Service};

/// The port that the page has instead of the kernel's choice.
const PORT: &str = "15432";
/// How many there are, numbered from 1.
const ALL: usize = 26;

const HEAD: &str = "\
# Mistakes, and what adit says

Each of these was made on purpose. What adit says has a code ([errors.md](errors.md)), the reason, and what
mends it. In a process that runs on, it is in the log and in `adit status`, and `adit doctor` looks for it.

This page is made by a test that makes the mistakes (`UPDATE_DOCS=1 cargo test --test mistakes`).
";

/// A text without what differs from run to run: `names` first, then ids and times.
fn plain(text: &str, names: &[(&str, &str)]) -> String {
    let named = names
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    let word = |word: &str| {
        let bare = word.trim_matches(['"', '(', ')', ',', ';', '…', '.']);
        let id = bare.len() > 40 && bare.starts_with('I');
        let time = bare.len() >= 20 && bare.ends_with('Z') && bare.contains('T');
        match (id, time) {
            (true, _) => word.replace(bare, "I…"),
            (_, true) => word.replace(bare, "TIME"),
            _ => word.to_owned(),
        }
    };
    let lines = named.lines().map(|line| {
        let words: Vec<String> = line.split(' ').map(word).collect();
        words.join(" ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The sections of the page by number.
fn sections(page: &str) -> BTreeMap<usize, String> {
    let parts = page.split("\n## ").skip(1);
    let numbered = parts.map(|part| {
        let number = part.split('.').next().unwrap().parse().unwrap();
        (number, format!("\n## {}\n", part.trim_end()))
    });
    numbered.collect()
}

/// This mistake, made so, was answered so: as the page has it.
fn told(number: usize, title: &str, made: &str, text: &str) {
    static PAGE: Mutex<()> = Mutex::new(());
    let path = workspace().join("docs/mistakes.md");
    let section =
        format!("\n## {number}. {title}\n\n```console\n{made}\n```\n```text\n{text}\n```\n");
    assert!(
        text.contains("fix: ") || text.contains("mend="),
        "no fix: {text}"
    );
    let _one_at_a_time = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let page = fs::read_to_string(&path).unwrap_or_default();
    let mut stand = sections(&page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        stand.insert(number, section);
        let all: String = stand.into_values().collect();
        return fs::write(&path, format!("{HEAD}{all}")).unwrap();
    }
    assert_eq!(
        stand.get(&number),
        Some(&section),
        "UPDATE_DOCS=1 cargo test --test mistakes"
    );
}

#[test]
fn the_page_has_every_mistake_once() {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return;
    }
    let page = fs::read_to_string(workspace().join("docs/mistakes.md")).unwrap();
    assert!(page.starts_with(HEAD));
    let numbers: Vec<usize> = sections(&page).into_keys().collect();
    assert_eq!(numbers, (1..=ALL).collect::<Vec<_>>());
}

/// A home of its own.
fn home() -> TempDir {
    TempDir::with_prefix("adit-test-").unwrap()
}

fn run(home: &Path, line: &str) -> Ended {
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    portal::run(home, &words).unwrap()
}

/// A command that is refused whatever is there.
fn refused(number: usize, title: &str, line: &str, exit: i32) {
    let home = home();
    refused_in(home.path(), number, title, line, exit);
}

fn refused_in(home: &Path, number: usize, title: &str, line: &str, exit: i32) {
    let ended = run(home, line);
    assert_eq!(ended.code(), Some(exit), "{ended}");
    let shown = home.display().to_string();
    told(
        number,
        title,
        line,
        &plain(&ended.stderr, &[(&shown, "~/.adit")]),
    );
}

#[test]
fn a_misspelt_command() {
    refused(1, "A misspelt command", "adit outlett --at db", 2);
}

#[test]
fn a_misspelt_flag() {
    let line = "adit inlet --via db --fron 127.0.0.1:0 --allow db-outlet=true";
    refused(2, "A misspelt flag", line, 2);
}

#[test]
fn a_target_without_its_port() {
    let line = "adit outlet --at db --to localhost --allow db-inlet=true";
    refused(3, "A target without its port", line, 2);
}

#[test]
fn a_rule_without_a_value() {
    let line = "adit outlet --at db --to db.example.com:5432 --allow db-inlet";
    refused(4, "A rule without a value", line, 2);
}

/// Runs a configuration with this text.
fn configured(number: usize, title: &str, text: &str) {
    let home = home();
    fs::write(home.path().join("adit.toml"), text).unwrap();
    let ended = run(home.path(), "adit run --config adit.toml");
    assert_eq!(ended.code(), Some(2), "{ended}");
    let made = format!(
        "adit run --config adit.toml    # {}",
        text.lines().last().unwrap()
    );
    told(number, title, &made, &plain(&ended.stderr, &[]));
}

#[test]
fn a_misspelt_key() {
    let text = "[[inlet]]\nvia = \"db\"\nallow = \"db-outlet=true\"\nform = \"127.0.0.1:0\"\n";
    configured(5, "A misspelt key in the configuration", text);
}

#[test]
fn a_misspelt_name_in_an_expression() {
    let text = "[[outlet]]\nat = \"db\"\nto = \"db.example.com:5432\"\n[[outlet.rule]]\n\
                allow-cel = 'membr.attributes.team == \"payments\"'\n";
    configured(6, "A misspelt name in a policy's expression", text);
}

#[test]
fn an_administrators_command_elsewhere() {
    let title = "An administrator's command where the project is not";
    refused(7, title, "adit ticket create --name bank", 4);
}

#[test]
fn a_project_that_is_there_already() {
    let home = home();
    let line = "adit project create acme --address relay.example.com:7348";
    run(home.path(), line).success().unwrap();
    refused_in(home.path(), 8, "A project that is there already", line, 4);
}

#[test]
fn no_ticket() {
    let line = "adit inlet --via db --from 127.0.0.1:0 --allow db-outlet=true";
    refused(9, "A node without a ticket", line, 3);
}

#[test]
fn a_ticket_file_that_is_not_there() {
    let line = "adit enroll --ticket bank.ticket";
    refused(10, "A ticket's file that is not there", line, 2);
}

/// A project that nobody serves, and a ticket of it.
fn made_ticket() -> (TempDir, String) {
    let home = home();
    let create = "adit project create acme --address relay.example.com:7348";
    run(home.path(), create).success().unwrap();
    let ticket = run(home.path(), "adit ticket create --name bank");
    let text = ticket.success().unwrap().text().trim().to_owned();
    (home, text)
}

#[test]
fn a_ticket_that_was_cut_off() {
    let (_project, ticket) = made_ticket();
    let home = home();
    let half = &ticket[..ticket.len() / 2];
    fs::write(home.path().join("bank.ticket"), half).unwrap();
    let line = "adit enroll --ticket bank.ticket";
    refused_in(
        home.path(),
        11,
        "A ticket of which a part is missing",
        line,
        2,
    );
}

#[test]
fn a_ticket_on_the_command_line() {
    let (_project, ticket) = made_ticket();
    let home = home();
    let ended = run(home.path(), &format!("adit enroll --ticket {ticket}"));
    assert_eq!(ended.code(), Some(2), "{ended}");
    assert!(!ended.stderr.contains(&ticket[20..]), "{ended}");
    let made = "adit enroll --ticket adit-ticket-1:…";
    let title = "A ticket on the command line, where others can read it";
    told(12, title, made, &plain(&ended.stderr, &[]));
}

/// Redeems a ticket's file in a new home.
fn redeem(number: usize, title: &str, project: &Project, ticket: &Path) {
    let home = project.home("late").unwrap();
    let line = format!("adit enroll --ticket {}", ticket.display());
    let ended = run(&home, &line);
    assert_eq!(ended.code(), Some(3), "{ended}");
    let errors = ended
        .stderr
        .lines()
        .skip_while(|line| !line.starts_with("error["));
    let text = errors.collect::<Vec<_>>().join("\n");
    told(
        number,
        title,
        "adit enroll --ticket bank.ticket",
        &plain(&text, &[]),
    );
}

#[test]
fn a_used_ticket() {
    let project = Project::start(Engine::Epoll).unwrap();
    let ticket = project.ticket("bank", &[]).unwrap();
    let first = project.home("first").unwrap();
    let line = format!("adit enroll --ticket {}", ticket.display());
    run(&first, &line).success().unwrap();
    redeem(13, "A ticket that was used already", &project, &ticket);
}

#[test]
fn an_expired_ticket() {
    let project = Project::start(Engine::Epoll).unwrap();
    let ticket = project.ticket("bank", &["--expires-in", "1s"]).unwrap();
    let expired = eventually("the ticket has expired", SHORTLY, || {
        let list = project.admin(&["ticket", "list", "--json"])?.success()?;
        match list.text().contains("\"expired\"") {
            true => Ok(()),
            false => Err(list.text().to_owned().into()),
        }
    });
    expired.unwrap();
    redeem(14, "A ticket that has expired", &project, &ticket);
}

#[test]
fn a_revoked_ticket() {
    let project = Project::start(Engine::Epoll).unwrap();
    let ticket = project.ticket("bank", &[]).unwrap();
    let revoked = project.admin(&["ticket", "revoke", "bank"]).unwrap();
    revoked.success().unwrap();
    redeem(15, "A ticket that was taken back", &project, &ticket);
}

#[test]
fn a_ticket_of_another_project_of_that_name() {
    let node = Enrolled::new();
    let (_other, ticket) = made_ticket();
    let file = node.project.ticket_file("other");
    fs::write(&file, ticket).unwrap();
    let line = format!("adit enroll --node inlet-db --ticket {}", file.display());
    let ended = run(node.node.home(), &line);
    assert_eq!(ended.code(), Some(2), "{ended}");
    let made = "adit enroll --node inlet-db --ticket other.ticket";
    let home = node.node.home().display().to_string();
    let title = "A ticket of another project with the same name";
    told(
        16,
        title,
        made,
        &plain(&ended.stderr, &[(&home, "~/.adit")]),
    );
}

#[test]
fn a_port_that_is_taken() {
    let project = Project::start(Engine::Epoll).unwrap();
    let holder = TcpListener::bind(tcp::own_address().unwrap()).unwrap();
    let entry = holder.local_addr().unwrap();
    let ticket = project.inlet_ticket("inlet").unwrap();
    let mut inlet = project.inlet("inlet", &ticket, entry, OUTLET_RULE).unwrap();
    assert_eq!(inlet.process().wait(SHORTLY).unwrap().code(), Some(1));
    let process = inlet.process();
    process.wait_for_line(&["fix: "], SHORTLY).unwrap();
    let log = process.log();
    let errors = log.lines().skip_while(|line| !line.starts_with("error["));
    let text = errors.collect::<Vec<_>>().join("\n");
    let (address, port) = (entry.to_string(), format!(":{}", entry.port()));
    let shown = format!("127.0.0.1:{PORT}");
    let line = format!("adit inlet --via db --from {shown} --allow db-outlet=true");
    let names = [(&*address, &*shown), (&port, ":15432")];
    let text = plain(&text, &names);
    told(17, "A port that another program has", &line, &text);
}

/// A node that enrolled and was ended.
struct Enrolled {
    project: Project,
    node: Node,
}

impl Enrolled {
    fn new() -> Enrolled {
        let project = Project::start(Engine::Epoll).unwrap();
        let ticket = project.inlet_ticket("inlet").unwrap();
        let entry = tcp::own_address().unwrap();
        let mut node = project.inlet("inlet", &ticket, entry, OUTLET_RULE).unwrap();
        node.process().wait_for_line(&["enrolled"], START).unwrap();
        node.kill();
        Enrolled { project, node }
    }

    /// Starts it again, which must be refused.
    fn is_refused(&self, number: usize, title: &str) {
        let line = "adit inlet --via db --from 127.0.0.1:0 --allow db-outlet=true";
        refused_in(self.node.home(), number, title, line, 4);
    }
}

#[test]
fn a_key_that_others_can_read() {
    let node = Enrolled::new();
    let key = node.node.state_file("identity.key").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    node.is_refused(18, "A key that others can read");
}

#[test]
fn state_of_a_newer_release() {
    let node = Enrolled::new();
    let format = node.node.state_file("format").unwrap();
    fs::write(&format, "adit node 2\n").unwrap();
    node.is_refused(19, "State that a newer release has written");
}

#[test]
fn damaged_state() {
    let node = Enrolled::new();
    let file = node.node.state_file("membership").unwrap();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    node.is_refused(20, "A file of the state that is damaged");
}

#[test]
fn the_same_node_twice() {
    let mut node = Enrolled::new();
    node.node.restart().unwrap();
    let id = node.node.process().id().to_string();
    node.node
        .process()
        .wait_for_line(&["ignored"], START)
        .unwrap();
    let line = "adit inlet --via db --from 127.0.0.1:0 --allow db-outlet=true";
    let ended = run(node.node.home(), line);
    assert_eq!(ended.code(), Some(4), "{ended}");
    let home = node.node.home().display().to_string();
    let text = plain(&ended.stderr, &[(&home, "~/.adit"), (&id, "4711")]);
    told(21, "The same node a second time", line, &text);
}

#[test]
fn an_http_client_at_the_relay() {
    let mut project = Project::start(Engine::Epoll).unwrap();
    let mut client = tcp::connect(project.public()).unwrap();
    let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: relay.example.com\r\n\r\n");
    let serve = project.serve.process();
    let line = serve.wait_for_line(&["ADIT-4321"], SHORTLY).unwrap();
    let from = client.local_addr().unwrap().to_string();
    let made = "curl http://relay.example.com:7348/     # the log of adit serve:";
    let title = "An HTTP client at the relay's port";
    told(
        22,
        title,
        made,
        &plain(&line, &[(&from, "192.0.2.7:50000")]),
    );
}

/// What `adit doctor` says of one thing, and what mends it.
fn doctor(node: &Node, check: &str) -> String {
    let ended = portal::run(node.home(), &["doctor"]).unwrap();
    assert_eq!(ended.code(), Some(1), "{ended}");
    let text = ended.text();
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with(&format!("  ✗ {check}")));
    lines.take(2).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_target_that_is_down() {
    let project = Project::start(Engine::Epoll).unwrap();
    let nobody = tcp::own_address().unwrap();
    let ticket = project.outlet_ticket("outlet").unwrap();
    let mut outlet = project
        .outlet("outlet", &ticket, nobody, INLET_RULE)
        .unwrap();
    outlet.wait_ready(START).unwrap();
    let names = [(&*nobody.to_string(), "db.bank.example:5432")];
    let text = plain(&doctor(&outlet, "target"), &names);
    told(
        23,
        "A target that is down",
        "adit doctor     # at the outlet",
        &text,
    );
}

#[test]
fn a_relay_that_nobody_runs() {
    let mut node = Enrolled::new();
    let public: SocketAddr = node.project.public();
    node.project.serve.kill();
    node.node.restart().unwrap();
    node.node
        .process()
        .wait_for_line(&["identity"], START)
        .unwrap();
    let names = [(&*public.to_string(), "192.0.2.1:7348")];
    let tried = eventually("the relay was tried", START, || {
        let text = plain(&doctor(&node.node, "relay"), &names);
        match text.contains("not reached for") && !text.contains("no answer yet") {
            true => Ok(text),
            false => Err(text.into()),
        }
    });
    let (text, _) = tried.unwrap();
    let (_, why) = text.split_once(": ").unwrap();
    // For how long is another thing each time.
    let text = format!("  ✗ relay        not reached for 12s: {why}");
    told(
        24,
        "A relay that does not run, or a wrong address",
        "adit doctor",
        &text,
    );
}

#[test]
fn an_inlet_without_the_attribute() {
    let project = Project::start(Engine::Epoll).unwrap();
    let service = Service::echo().unwrap();
    let ticket = project.outlet_ticket("outlet").unwrap();
    let mut outlet = project
        .outlet("outlet", &ticket, service.address(), INLET_RULE)
        .unwrap();
    outlet.wait_ready(START).unwrap();
    let ticket = project.ticket("inlet", &[]).unwrap();
    let entry = tcp::own_address().unwrap();
    let mut inlet = project.inlet("inlet", &ticket, entry, OUTLET_RULE).unwrap();
    inlet
        .process()
        .wait_for_line(&["ADIT-3001"], START)
        .unwrap();
    let ended = portal::run(inlet.home(), &["why", ADDRESS]).unwrap();
    assert_eq!(ended.code(), Some(3), "{ended}");
    // The other end's rule is not told here.
    assert!(!ended.text().contains("db-inlet"), "{ended}");
    let text = ended.text();
    let lines = text.lines().skip_while(|line| !line.contains("other end"));
    let text = lines.collect::<Vec<_>>().join("\n");
    told(
        25,
        "An inlet that the outlet's rule does not allow",
        "adit why db     # at the inlet",
        &plain(&text, &[]),
    );
}

#[test]
fn a_name_that_is_taken() {
    let project = Project::start(Engine::Epoll).unwrap();
    let ended = project
        .admin(&["ticket", "create", "--name", "admin"])
        .unwrap();
    assert_eq!(ended.code(), Some(1), "{ended}");
    told(
        26,
        "A ticket for a name that a member has",
        "adit ticket create --name admin",
        &plain(&ended.stderr, &[]),
    );
}

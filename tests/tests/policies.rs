//! Rules as users write them: checked and explained without a process, and changed in a running one
//! while bytes flow.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;
use tests::portal::{
    self, ADDRESS, Engine, INLET_RULE, Node, OUTLET_RULE, Project, SHORTLY, START,
};
use tests::process::{Ended, eventually};
use tests::tcp::{self, Ending, PATIENCE, Service};

tests::on_both_engines!(
    a_new_policy_in_the_file_cuts_whom_it_denies_and_nobody_else,
    a_new_configuration_that_is_wrong_is_refused_and_the_old_one_stays,
    a_new_limit_in_the_file_holds_for_new_connections,
    an_administrator_sets_the_policy_of_a_running_inlet,
);

/// The second relay address of these tests.
const OTHER: &str = "www";

/// An outlet of two addresses that runs from a file, and an inlet for each.
struct World {
    project: Project,
    outlet: Node,
    file: PathBuf,
    target: Service,
    inlets: [(Node, SocketAddr); 2],
}

impl World {
    fn new(engine: Engine) -> World {
        let project = Project::start(engine).unwrap();
        let target = Service::echo().unwrap();
        let file = project.home("outlet").unwrap().join("adit.toml");
        let serve = ["--may-serve", ADDRESS, "--may-serve", OTHER];
        let serve = [&["--attribute", OUTLET_RULE][..], &serve].concat();
        let ticket = project.ticket("outlet", &serve).unwrap();
        write(&file, &target, "");
        let config = ["--config", file.to_str().unwrap()];
        let mut outlet = project.node("outlet", "run", &ticket, &config).unwrap();
        outlet.wait_ready(START).unwrap();
        let inlets = [("one", ADDRESS), ("two", OTHER)].map(|(name, address)| {
            let entry = tcp::own_address().unwrap();
            let ticket = project.inlet_ticket(name).unwrap();
            let from = entry.to_string();
            let via = ["--via", address, "--from", &from, "--allow", OUTLET_RULE];
            let mut inlet = project.node(name, "inlet", &ticket, &via).unwrap();
            inlet.wait_ready(START).unwrap();
            (inlet, entry)
        });
        World {
            project,
            outlet,
            file,
            target,
            inlets,
        }
    }

    /// The first portal has this rule besides, from now on.
    fn reload(&mut self, rule: &str) {
        write(&self.file, &self.target, rule);
        self.outlet.process().signal(Signal::HUP);
    }

    fn app(&self, inlet: usize) -> TcpStream {
        let app = tcp::connect(self.inlets[inlet].1).unwrap();
        tcp::ping(&app, b"hello").unwrap();
        app
    }
}

/// The file of the outlet: two portals, and one more rule in the first.
fn write(file: &PathBuf, target: &Service, rule: &str) {
    let to = target.address();
    let text = format!(
        "[[outlet]]\nat = \"{ADDRESS}\"\nto = \"{to}\"\nallow = \"{INLET_RULE}\"\n{rule}\n\
         [[outlet]]\nat = \"{OTHER}\"\nto = \"{to}\"\nallow = \"{INLET_RULE}\"\n"
    );
    fs::write(file, text).unwrap();
}

fn a_new_policy_in_the_file_cuts_whom_it_denies_and_nobody_else(engine: Engine) {
    let mut world = World::new(engine);
    let (first, second) = (world.app(0), world.app(1));
    let rule = "[[outlet.rule]]\nname = \"gold-only\"\n\
                deny-cel = 'member.attributes.tier != \"gold\"'\n";
    world.reload(rule);
    let (ending, took) = tcp::ending(&first, PATIENCE).unwrap();
    assert_eq!(ending, Ending::Reset);
    println!("cut after {took:?}");
    let outlet = world.outlet.process();
    let cut = ["ADIT-3260", "a lane was cut", "gold-only"];
    outlet.wait_for_line(&cut, SHORTLY).unwrap();
    outlet
        .wait_for_line(&["the policy was changed", ADDRESS], SHORTLY)
        .unwrap();
    let inlet = world.inlets[0].0.process();
    inlet.wait_for_line(&["ADIT-3001"], START).unwrap();
    assert!(
        inlet.lines_with(&["gold"]).is_empty(),
        "it learned the rule"
    );
    // The other portal noticed nothing: its connection goes on, and it takes new ones.
    tcp::ping(&second, b"still here").unwrap();
    drop(world.app(1));
    let status = world.outlet.status().unwrap();
    let rules = status["portals"][0]["rules"].to_string();
    assert!(rules.contains("gold-only"), "{rules}");
    // A rule in audit mode cuts nobody, and is logged.
    world.reload(&format!("{rule}mode = \"audit\"\n"));
    let entry = world.inlets[0].1;
    let app = eventually("it is let in again", START * 2, || {
        let app = tcp::connect(entry)?;
        tcp::ping(&app, b"again").map(|()| app)
    });
    let audited = ["would have denied", "gold-only"];
    let outlet = world.outlet.process();
    outlet.wait_for_line(&audited, SHORTLY).unwrap();
    let (app, _) = app.unwrap();
    tcp::ping(&app, b"and again").unwrap();
}

fn a_new_configuration_that_is_wrong_is_refused_and_the_old_one_stays(engine: Engine) {
    let mut world = World::new(engine);
    let apps = [world.app(0), world.app(1)];
    for (rule, code, why) in [
        ("[[outlet", "ADIT-1101", "can't read the configuration"),
        ("alow = \"a=1\"", "ADIT-1102", "did you mean"),
        ("deny = \"a\"", "ADIT-1103", "expected '='"),
        (
            "[[outlet.rule]]\ndeny-cel = \"member.attributes.exists(a, true)\"",
            "ADIT-1103",
            "not allowed",
        ),
    ] {
        world.reload(rule);
        let line = ["the one before stays in force", code, why];
        world
            .outlet
            .process()
            .wait_for_line(&line, SHORTLY)
            .unwrap();
        for app in &apps {
            tcp::ping(app, b"still here").unwrap();
        }
    }
    assert!(
        world
            .outlet
            .process()
            .lines_with(&["a lane was cut"])
            .is_empty()
    );
}

fn a_new_limit_in_the_file_holds_for_new_connections(engine: Engine) {
    let mut world = World::new(engine);
    let before = world.app(0);
    world.reload("max-streams = 1");
    let again = ["the configuration was read again"];
    let outlet = world.outlet.process();
    outlet.wait_for_line(&again, SHORTLY).unwrap();
    // The one from before is not counted, and stays.
    let first = world.app(0);
    // The reset may come before the connection is of any use.
    if let Ok(second) = tcp::connect(world.inlets[0].1) {
        assert_eq!(tcp::ending(&second, PATIENCE).unwrap().0, Ending::Reset);
    }
    let outlet = world.outlet.process();
    outlet.wait_for_line(&["ADIT-6002"], SHORTLY).unwrap();
    for app in [before, first] {
        tcp::ping(&app, b"still here").unwrap();
    }
}

fn an_administrator_sets_the_policy_of_a_running_inlet(engine: Engine) {
    let world = World::new(engine);
    let app = world.app(0);
    let home = world.inlets[0].0.home().to_owned();
    let set = |args: &[&str]| portal::run(&home, &[&["policy", "set"], args].concat()).unwrap();
    let same = set(&[ADDRESS, "--allow", OUTLET_RULE]).success().unwrap();
    assert!(same.text().contains("as it was"), "{same}");
    tcp::ping(&app, b"still here").unwrap();
    let gold = set(&[ADDRESS, "--allow", "gold=true"]).success().unwrap();
    assert!(gold.text().contains("lanes cut: 1"), "{gold}");
    assert_eq!(tcp::ending(&app, PATIENCE).unwrap().0, Ending::Reset);
    set(&["other", "--allow", "gold=true"])
        .failure(1, "ADIT-3106")
        .unwrap();
    set(&[ADDRESS, "--allow", "gold"])
        .failure(2, "expected '='")
        .unwrap();
    set(&[ADDRESS, "--allow", OUTLET_RULE]).success().unwrap();
    eventually("the portal is open again", START, || {
        tcp::ping(&tcp::connect(world.inlets[0].1)?, b"again")
    })
    .unwrap();
    drop(world.project);
}

// ---- without a process ------------------------------------------------------------------------

struct Desk(TempDir);

impl Desk {
    fn new() -> Desk {
        let desk = Desk(TempDir::with_prefix("adit-test-").unwrap());
        let config = r#"engine = "epoll"

[[inlet]]
via = "db"
from = "127.0.0.1:0"
allow = "db-outlet=true"

[[outlet]]
at = "www"
to = "www.example.com:80"
allow = ["www-inlet=true", "team=blue"]
deny = "blocked=true"

[[outlet.rule]]
name = "office-hours"
deny-cel = "now.getHours() < 6 || now.getHours() >= 20"
mode = "audit"
"#;
        fs::write(desk.path("adit.toml"), config).unwrap();
        desk
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, args: &[&str]) -> Ended {
        portal::run(self.0.path(), args).unwrap()
    }
}

#[test]
fn a_check_says_what_each_rule_means() {
    let desk = Desk::new();
    let config = desk.path("adit.toml");
    let checked = desk
        .run(&["policy", "check", "--config", &config])
        .success()
        .unwrap();
    for line in [
        "inlet db:",
        "  allow: db-outlet=true",
        "    lets in every member with attribute db-outlet = true, unless a rule denies it",
        "  deny: blocked=true",
        "    keeps out every member with attribute blocked = true, whatever else allows it",
        "  deny office-hours (audit): now.getHours() < 6 || now.getHours() >= 20",
    ] {
        assert!(checked.text().contains(line), "{line:?} in {checked}");
    }
    let rules = desk.path("rules.toml");
    fs::write(&rules, "deny = \"a=1\"\n").unwrap();
    let closed = desk.run(&["policy", "check", &rules]).success().unwrap();
    assert!(closed.text().contains("nobody is allowed"), "{closed}");
    for (text, why) in [
        ("allow = \"a\"", "character 2: expected '='"),
        (
            "[[rule]]\nallow-cel = \"membr.id == 'a'\"",
            "membr is unknown",
        ),
        (
            "[[rule]]\nallow-cel = \"target.matches('a')\"",
            "regular expressions",
        ),
        ("[[rule]]\nalow = \"a=1\"", "did you mean"),
    ] {
        fs::write(&rules, text).unwrap();
        let ended = desk.run(&["policy", "check", &rules]);
        ended.failure(2, why).unwrap();
    }
}

#[test]
fn an_explanation_names_the_rule_that_decides() {
    let desk = Desk::new();
    let config = desk.path("adit.toml");
    let explain = |more: &[&str]| {
        let base = ["policy", "explain", "--config", &config, "--target", "www"];
        desk.run(&[&base[..], more].concat())
    };
    let allowed = explain(&["--member-attributes", "team=blue,x=1"])
        .success()
        .unwrap();
    assert!(
        allowed.text().contains("outlet www: allowed by team=blue"),
        "{allowed}"
    );
    let blocked = "team=blue,blocked=true";
    explain(&["--member-attributes", blocked])
        .failure(3, "")
        .unwrap();
    let denied = explain(&["--member-attributes", blocked, "--json"]).stdout;
    let denied: serde_json::Value = serde_json::from_slice(&denied).unwrap();
    assert_eq!(denied[0]["rule"], "deny blocked=true");
    assert_eq!(denied[0]["allowed"], false);
    let nobody = explain(&[]);
    assert!(
        nobody.text().contains("attribute www-inlet is missing"),
        "{nobody}"
    );
    let night = [
        "--member-attributes",
        "team=blue",
        "--at",
        "2026-11-25T23:00:00Z",
    ];
    let night = explain(&night).success().unwrap();
    assert!(
        night.text().contains("holds     deny office-hours (audit)"),
        "{night}"
    );
    let args = [
        "policy", "explain", "--config", &config, "--target", "other",
    ];
    desk.run(&args).failure(2, "outlet www").unwrap();
}

#[test]
fn a_configuration_is_checked_and_shown_with_where_each_value_comes_from() {
    let desk = Desk::new();
    let config = desk.path("adit.toml");
    let checked = desk
        .run(&["config", "check", "--config", &config])
        .success()
        .unwrap();
    assert!(
        checked.text().contains("inlets: 1, outlets: 1"),
        "{checked}"
    );
    let args = [
        "config",
        "show",
        "--origin",
        "--config",
        &config,
        "--log-level",
        "debug",
    ];
    let shown = desk.run(&args).success().unwrap();
    let at = |line: usize| format!("# {config}:{line}");
    for (setting, origin) in [
        ("engine = \"epoll\"", at(1)),
        ("log-level = \"debug\"", "# flag --log-level".into()),
        ("home = ", "# environment ADIT_HOME".into()),
        ("log-format = text", "# default".into()),
        ("workers = 1", "# default".into()),
        ("revocation-max-age = 5m", "# default".into()),
        ("via = \"db\"", at(4)),
        ("allow = [\"www-inlet=true\", \"team=blue\"]", at(11)),
        ("mode = \"audit\"", at(17)),
    ] {
        let line = shown
            .text()
            .lines()
            .find(|line| line.starts_with(setting))
            .map(str::to_owned);
        assert!(
            line.is_some_and(|line| line.ends_with(&origin)),
            "{setting} {origin} in {shown}"
        );
    }
    fs::write(&config, "engine = \"fast\"").unwrap();
    let check = ["config", "check", "--config", &config];
    desk.run(&check).failure(2, "auto, uring, epoll").unwrap();
    fs::write(&config, "engine = \"epoll\"").unwrap();
    desk.run(&check).failure(2, "it has no portal").unwrap();
}

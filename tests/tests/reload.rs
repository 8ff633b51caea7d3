//! Portals that come and go by SIGHUP, in a process whose other portals have connections.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use rustix::process::Signal;
use tests::portal::{ADDRESS, Engine, INLET_RULE, Node, OUTLET_RULE, Project, SHORTLY, START};
use tests::process::{Failure, eventually};
use tests::tcp::{self, Ending, PATIENCE, Service};

tests::on_both_engines!(
    portals_come_and_go_while_others_carry_on,
    a_port_that_cannot_be_had_changes_nothing,
);

/// The second relay address of these tests.
const OTHER: &str = "www";

/// Both ends of two portals, each running from a file that names the first only.
struct World {
    _project: Project,
    outlet: (Node, PathBuf),
    inlet: (Node, PathBuf),
    targets: [Service; 2],
    entries: [SocketAddr; 2],
}

impl World {
    fn new(engine: Engine) -> World {
        let project = Project::start(engine).unwrap();
        let targets = [(); 2].map(|()| Service::echo().unwrap());
        let entries = [(); 2].map(|()| tcp::own_address().unwrap());
        let serve = ["--may-serve", ADDRESS, "--may-serve", OTHER];
        let serve = [&["--attribute", OUTLET_RULE][..], &serve].concat();
        let ticket = project.ticket("outlet", &serve).unwrap();
        let start = |name: &str, ticket, text: String| {
            let file = project.home(name).unwrap().join("adit.toml");
            fs::write(&file, text).unwrap();
            let config = ["--config", file.to_str().unwrap()];
            let mut node = project.node(name, "run", ticket, &config).unwrap();
            node.wait_ready(START).unwrap();
            (node, file)
        };
        let outlet = start("outlet", &ticket, outlet(ADDRESS, &targets[0]));
        let ticket = project.inlet_ticket("inlet").unwrap();
        let inlet = start("inlet", &ticket, inlet(ADDRESS, entries[0]));
        World {
            outlet,
            inlet,
            targets,
            entries,
            _project: project,
        }
    }

    /// The outlet's portals, then the inlet's, are those that are named, from now on.
    fn reload(&mut self, outlets: &[usize], inlets: &[usize]) {
        let name = |at: usize| [ADDRESS, OTHER][at];
        let texts = outlets
            .iter()
            .map(|at| outlet(name(*at), &self.targets[*at]));
        hang_up(&mut self.outlet, texts.collect());
        let texts = inlets.iter().map(|at| inlet(name(*at), self.entries[*at]));
        hang_up(&mut self.inlet, texts.collect());
    }

    fn app(&self, portal: usize) -> TcpStream {
        let entry = self.entries[portal];
        let app = eventually("an app is served", START, || {
            let app = tcp::connect(entry)?;
            tcp::ping(&app, b"hello").map(|()| app)
        });
        app.unwrap().0
    }
}

fn outlet(at: &str, target: &Service) -> String {
    let to = target.address();
    format!("[[outlet]]\nat = \"{at}\"\nto = \"{to}\"\nallow = \"{INLET_RULE}\"\n")
}

fn inlet(via: &str, from: SocketAddr) -> String {
    format!("[[inlet]]\nvia = \"{via}\"\nfrom = \"{from}\"\nallow = \"{OUTLET_RULE}\"\n")
}

fn hang_up((node, file): &mut (Node, PathBuf), text: String) {
    fs::write(file, text).unwrap();
    let seen = node.process().lines();
    node.process().signal(Signal::HUP);
    let read = ["the configuration was read again"];
    let process = node.process();
    process.wait_for_line_after(seen, &read, SHORTLY).unwrap();
}

fn portals_come_and_go_while_others_carry_on(engine: Engine) {
    let mut world = World::new(engine);
    let first = world.app(0);
    // A second portal, in a process that has one.
    world.reload(&[0, 1], &[0, 1]);
    let mut second = world.app(1);
    tcp::ping(&first, b"undisturbed").unwrap();
    let status = world.inlet.0.status().unwrap();
    let listening = status["listening"].as_array().unwrap();
    assert_eq!(listening.len(), 2, "{status}");

    // The second goes: its port closes, its connection stays and ends in order.
    world.reload(&[0], &[0]);
    eventually("its port is closed", SHORTLY, || {
        match TcpStream::connect(world.entries[1]) {
            Err(_) => Ok(()),
            Ok(_) => Err(Failure("somebody listens".into())),
        }
    })
    .unwrap();
    tcp::ping(&second, b"still here").unwrap();
    second.write_all(b"the end").unwrap();
    second.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    second.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"the end");
    assert_eq!(world.targets[1].report(PATIENCE).unwrap(), Ending::Fin);
    eventually("it is gone", SHORTLY, || {
        let status = world.inlet.0.status()?;
        match status["portals"].as_array().map(Vec::len) {
            Some(1) => Ok(()),
            _ => Err(Failure(status.to_string())),
        }
    })
    .unwrap();

    // And comes back, under the same address and port.
    world.reload(&[0, 1], &[0, 1]);
    drop(world.app(1));
    tcp::ping(&first, b"undisturbed").unwrap();
    for node in [&mut world.outlet.0, &mut world.inlet.0] {
        node.wait_ready(START).unwrap();
    }
}

fn a_port_that_cannot_be_had_changes_nothing(engine: Engine) {
    let mut world = World::new(engine);
    let app = world.app(0);
    let taken = world.targets[0].address();
    let text = [inlet(ADDRESS, world.entries[0]), inlet(OTHER, taken)].concat();
    let elsewhere = inlet(OTHER, world.entries[0]);
    for (text, code) in [(text, "ADIT-6101"), (elsewhere, "ADIT-1103")] {
        let (node, file) = &mut world.inlet;
        fs::write(file, text).unwrap();
        let seen = node.process().lines();
        node.process().signal(Signal::HUP);
        let refused = ["the new configuration is refused", code];
        let process = node.process();
        process
            .wait_for_line_after(seen, &refused, SHORTLY)
            .unwrap();
    }
    // What takes a restart says so, and changes nothing.
    let setting = inlet(ADDRESS, world.entries[0]);
    hang_up(&mut world.inlet, format!("engine = \"auto\"\n{setting}"));
    let restart = ["a setting of the whole process", "restart"];
    let process = world.inlet.0.process();
    process.wait_for_line(&restart, SHORTLY).unwrap();
    hang_up(&mut world.inlet, format!("{setting}lanes = 2\n"));
    let restart = ["the lanes of a running inlet", "restart"];
    let process = world.inlet.0.process();
    process.wait_for_line(&restart, SHORTLY).unwrap();
    tcp::ping(&app, b"undisturbed").unwrap();
    drop(world.app(0));
}

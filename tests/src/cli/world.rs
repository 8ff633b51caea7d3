//! A project with its homes: the authority's, and one for each node as if it were elsewhere.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::net;
use crate::cli::process::{self, Output, Running};

/// A directory of homes; gone when it is dropped.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    engine: Option<String>,
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

impl World {
    /// An empty one.
    pub fn new() -> World {
        World {
            dir: TempDir::new().unwrap(),
            engine: None,
        }
    }

    /// One whose processes use this engine.
    pub fn with_engine(engine: &str) -> World {
        World {
            engine: Some(engine.into()),
            ..World::new()
        }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command that uses the home of this name.
    pub fn command_at(&self, home: &str, args: &[&str]) -> Command {
        let mut command = process::command(crate::cli::binary());
        command.env("ADIT_HOME", self.path(home)).args(args);
        if let Some(engine) = &self.engine {
            command.env("ADIT_ENGINE", engine);
        }
        command
    }

    /// Runs a command at the authority's home.
    pub fn run(&self, args: &[&str]) -> Output {
        self.run_at("authority", args)
    }

    /// Runs a command at a home.
    pub fn run_at(&self, home: &str, args: &[&str]) -> Output {
        process::run(&mut self.command_at(home, args), "")
    }

    /// Starts a command at a home.
    pub fn start_at(&self, home: &str, args: &[&str]) -> Running {
        Running::start(home, &mut self.command_at(home, args))
    }

    /// Writes a ticket to a file and returns its path.
    #[track_caller]
    pub fn ticket(&self, file: &str, args: &[&str]) -> String {
        let made = self.run(&[&["ticket", "create"], args].concat()).success();
        let path = self.path(file);
        std::fs::write(&path, made.stdout).unwrap();
        path.display().to_string()
    }
}

/// A project that is served, with tickets for an outlet and an inlet of `postgres`.
#[derive(Debug)]
pub struct Project {
    /// Its homes.
    pub world: World,
    /// Where the server listens.
    pub address: String,
    /// The server.
    pub server: Running,
}

impl Project {
    /// Creates and serves it.
    #[track_caller]
    pub fn serve(world: World) -> Project {
        let address = net::free_address().to_string();
        world
            .run(&["project", "create", "acme", "--address", &address])
            .success();
        let server = world.start_at("authority", &["serve", "--listen", &address]);
        server.wait_ready();
        Project {
            world,
            address,
            server,
        }
    }

    /// Starts the server again after it was killed, with these further flags.
    pub fn serve_again(&mut self, more: &[&str]) {
        let args = [&["serve", "--listen", &self.address], more].concat();
        self.server = self.world.start_at("authority", &args);
    }

    /// A ticket that may serve `postgres` and has `postgres-outlet=true`.
    #[track_caller]
    pub fn outlet_ticket(&self) -> String {
        let args = [
            "--name",
            "bank-outlet",
            "--attribute",
            "postgres-outlet=true",
        ];
        self.world.ticket(
            "outlet.ticket",
            &[&args[..], &["--may-serve", "postgres"]].concat(),
        )
    }

    /// A ticket that may connect everywhere and has `postgres-inlet=true`.
    #[track_caller]
    pub fn inlet_ticket(&self) -> String {
        let args = [
            "--name",
            "analysis-inlet",
            "--attribute",
            "postgres-inlet=true",
        ];
        self.world.ticket("inlet.ticket", &args)
    }

    /// Starts an outlet at the home `bank`, with these further flags.
    pub fn outlet(&self, to: SocketAddr, more: &[&str]) -> Running {
        let to = to.to_string();
        let args = [
            "outlet",
            "--at",
            "postgres",
            "--to",
            &to,
            "--allow",
            "postgres-inlet=true",
        ];
        self.world.start_at("bank", &[&args[..], more].concat())
    }

    /// Starts an inlet at the home `analysis`, with these further flags.
    pub fn inlet(&self, from: &str, more: &[&str]) -> Running {
        let args = [
            "inlet",
            "--via",
            "postgres",
            "--from",
            from,
            "--allow",
            "postgres-outlet=true",
        ];
        self.world.start_at("analysis", &[&args[..], more].concat())
    }

    /// The status of the only process of a home.
    #[track_caller]
    pub fn status(&self, home: &str) -> Value {
        self.world
            .run_at(home, &["status", "--json"])
            .success()
            .json()
    }

    /// Where the inlet of the home `analysis` listens.
    #[track_caller]
    pub fn door(&self) -> SocketAddr {
        let status = self.status("analysis");
        status["listening"][0]["address"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// The state directory of the only node of a home.
    pub fn node_dir(&self, home: &str) -> PathBuf {
        let nodes = self.world.path(home).join("acme/nodes");
        let mut entries = std::fs::read_dir(&nodes).unwrap();
        entries.next().unwrap().unwrap().path()
    }

    /// An outlet and an inlet, both ready.
    #[track_caller]
    pub fn portal(&self, service: SocketAddr) -> (Running, Running) {
        let outlet = self.outlet(service, &["--ticket", &self.outlet_ticket()]);
        outlet.wait_ready();
        let inlet = self.inlet("127.0.0.1:0", &["--ticket", &self.inlet_ticket()]);
        inlet.wait_ready();
        (outlet, inlet)
    }
}

/// Makes a file readable by everybody.
pub fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
}

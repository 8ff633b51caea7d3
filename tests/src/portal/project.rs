//! A project with its authority and relay, and what an administrator does there.
//!
//! `TEST_WORKERS=N` runs the processes of every test with so many workers.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{ADDRESS, Engine, INLET_RULE, Node, OUTLET_RULE, PROJECT, START, run};
use crate::process::{Ended, Failure, Outcome};
use crate::tcp;

/// A project whose authority and relay run in one process (`adit serve`).
pub struct Project {
    /// Authority and relay.
    pub serve: Node,
    engine: Engine,
    workers: Option<String>,
    public: SocketAddr,
    folder: TempDir,
}

impl Project {
    /// Creates a project in a new folder and waits until its relay is ready.
    pub fn start(engine: Engine) -> Outcome<Project> {
        Project::start_at(engine, tcp::own_address()?)
    }

    /// The same at a given public address.
    pub fn start_at(engine: Engine, public: SocketAddr) -> Outcome<Project> {
        Project::start_with(engine, std::env::var("TEST_WORKERS").ok(), public)
    }

    /// The same with so many workers in each process, if it says how many.
    pub fn start_with(
        engine: Engine,
        workers: Option<String>,
        public: SocketAddr,
    ) -> Outcome<Project> {
        let folder = TempDir::with_prefix("adit-test-");
        let folder = folder.map_err(|error| Failure(format!("making a folder: {error}")))?;
        let home = new_home(&folder, "authority")?;
        let create = [
            "project",
            "create",
            PROJECT,
            "--address",
            &public.to_string(),
        ];
        run(&home, &create)?.success()?;
        let args = [
            "serve",
            "--listen",
            &public.to_string(),
            "--engine",
            engine.name(),
        ];
        let mut args = args.map(OsString::from).to_vec();
        args.extend(workers_flag(workers.as_deref()));
        let serve = Node::start("serve", &home, args)?;
        let mut project = Project {
            serve,
            engine,
            workers,
            public,
            folder,
        };
        project.serve.wait_ready(START)?;
        Ok(project)
    }

    /// The one public address: members, strangers, everybody comes here.
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// Runs an administrator's command where the authority lives.
    pub fn admin(&self, args: &[&str]) -> Outcome<Ended> {
        run(self.serve.home(), args)
    }

    /// Makes a ticket (`adit ticket create --name NAME …`) and returns the file that holds it.
    pub fn ticket(&self, name: &str, more: &[&str]) -> Outcome<PathBuf> {
        let mut args = vec!["ticket", "create", "--name", name];
        args.extend(more);
        let ticket = self.admin(&args)?.success()?;
        let file = self.ticket_file(name);
        fs::write(&file, &ticket.stdout)
            .map_err(|error| Failure(format!("writing {}: {error}", file.display())))?;
        Ok(file)
    }

    /// Where [`Project::ticket`] wrote the ticket of that name.
    pub fn ticket_file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.ticket"))
    }

    /// The state directory of that name, made if there is none, on this project's "machine".
    pub fn home(&self, name: &str) -> Outcome<PathBuf> {
        new_home(&self.folder, name)
    }

    /// Starts an outlet that serves [`ADDRESS`] and leads to `target`; doesn't wait for it.
    pub fn outlet(
        &self,
        name: &str,
        ticket: &Path,
        target: SocketAddr,
        allow: &str,
    ) -> Outcome<Node> {
        let target = target.to_string();
        let to = ["--at", ADDRESS, "--to", &target, "--allow", allow];
        self.node(name, "outlet", ticket, &to)
    }

    /// Starts an inlet that listens on `entry` and leads to [`ADDRESS`]; doesn't wait for it.
    pub fn inlet(
        &self,
        name: &str,
        ticket: &Path,
        entry: SocketAddr,
        allow: &str,
    ) -> Outcome<Node> {
        let entry = entry.to_string();
        let from = ["--via", ADDRESS, "--from", &entry, "--allow", allow];
        self.node(name, "inlet", ticket, &from)
    }

    /// Starts `adit KIND --ticket … --engine …` with more arguments in a state directory of its own.
    pub fn node(&self, name: &str, kind: &str, ticket: &Path, more: &[&str]) -> Outcome<Node> {
        let mut args: Vec<OsString> = vec![kind.into(), "--ticket".into(), ticket.into()];
        args.extend(["--engine", self.engine.name()].map(OsString::from));
        args.extend(workers_flag(self.workers.as_deref()));
        args.extend(more.iter().map(OsString::from));
        Node::start(name, &self.home(name)?, args)
    }

    /// A ticket that lets its redeemer be the outlet of the good case.
    pub fn outlet_ticket(&self, name: &str) -> Outcome<PathBuf> {
        self.ticket(name, &["--attribute", OUTLET_RULE, "--may-serve", ADDRESS])
    }

    /// A ticket that lets its redeemer be the inlet of the good case.
    pub fn inlet_ticket(&self, name: &str) -> Outcome<PathBuf> {
        self.ticket(name, &["--attribute", INLET_RULE])
    }
}

fn workers_flag(workers: Option<&str>) -> Vec<OsString> {
    let flag = workers.map(|workers| ["--workers", workers].map(OsString::from));
    flag.map_or(Vec::new(), |flag| flag.to_vec())
}

fn new_home(folder: &TempDir, name: &str) -> Outcome<PathBuf> {
    let home = folder.path().join(name);
    fs::create_dir_all(&home)
        .map_err(|error| Failure(format!("making {}: {error}", home.display())))?;
    Ok(home)
}

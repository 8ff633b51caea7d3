//! A project with its relay, an outlet and an inlet, each a process of its own, as users run them.
//!
//! Every process has its own `ADIT_HOME`: the three sides share nothing but the ticket files that
//! the administrator hands out. A [`Project`] starts authority and relay only and lets a test do
//! the rest by hand; a [`Portal`] is the good case, ready for apps. [`Way`] lets the same test run
//! with no portal between, which shows that a failure is not the fixture's own.

mod node;
mod project;

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use crate::process::{Outcome, skipped};
use crate::tcp;

pub use node::{Node, adit, command, run, workspace};
pub use project::Project;

/// A command that prints and ends must have ended by then.
pub const SHORTLY: Duration = Duration::from_secs(10);
/// A process that was just started must be ready by then.
pub const START: Duration = Duration::from_secs(15);
/// The project that the fixtures make.
pub const PROJECT: &str = "acme";
/// The relay address that portals of the fixtures use.
pub const ADDRESS: &str = "db";
/// What an outlet demands of an inlet in the good case.
pub const INLET_RULE: &str = "db-inlet=true";
/// What an inlet demands of an outlet in the good case.
pub const OUTLET_RULE: &str = "db-outlet=true";

/// Which engine the processes of a portal use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// io_uring, and no fallback.
    Uring,
    /// epoll.
    Epoll,
}

impl Engine {
    /// The value of `--engine`.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Uring => "uring",
            Engine::Epoll => "epoll",
        }
    }

    /// Can it run on this machine? Says so with a `SKIPPED` line where it can't.
    pub fn is_possible(self, test: &str) -> bool {
        let switch = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        if self == Engine::Uring && switch.trim() == "2" {
            skipped(
                test,
                "io_uring is switched off here (sysctl kernel.io_uring_disabled)",
            );
            return false;
        }
        true
    }
}

/// A whole portal, ready for apps.
pub struct Portal {
    /// The app's side.
    pub inlet: Node,
    /// The target's side.
    pub outlet: Node,
    /// Authority and relay, between and apart from the two.
    pub project: Project,
    entry: SocketAddr,
}

impl Portal {
    /// Starts everything and waits until the inlet says that it can carry a connection.
    pub fn start(engine: Engine, target: SocketAddr) -> Outcome<Portal> {
        Portal::with_flags(engine, target, &[], &[])
    }

    /// The same with more flags for the outlet and for the inlet.
    pub fn with_flags(
        engine: Engine,
        target: SocketAddr,
        outlet: &[&str],
        inlet: &[&str],
    ) -> Outcome<Portal> {
        Portal::of(Project::start(engine)?, target, outlet, inlet)
    }

    /// The same with so many workers in each process.
    pub fn with_workers(engine: Engine, workers: u8, target: SocketAddr) -> Outcome<Portal> {
        let (workers, public) = (Some(workers.to_string()), tcp::own_address()?);
        let project = Project::start_with(engine, workers, public)?;
        Portal::of(project, target, &[], &[])
    }

    fn of(
        project: Project,
        target: SocketAddr,
        outlet_flags: &[&str],
        inlet_flags: &[&str],
    ) -> Outcome<Portal> {
        let entry = tcp::own_address()?;
        let (serving, using) = (
            project.outlet_ticket("outlet")?,
            project.inlet_ticket("inlet")?,
        );
        let (to, from) = (target.to_string(), entry.to_string());
        let serve = ["--at", ADDRESS, "--to", &to, "--allow", INLET_RULE];
        let serve = [&serve[..], outlet_flags].concat();
        let mut outlet = project.node("outlet", "outlet", &serving, &serve)?;
        outlet.wait_ready(START)?;
        let connect = ["--via", ADDRESS, "--from", &from, "--allow", OUTLET_RULE];
        let connect = [&connect[..], inlet_flags].concat();
        let mut inlet = project.node("inlet", "inlet", &using, &connect)?;
        inlet.wait_ready(START)?;
        Ok(Portal {
            inlet,
            outlet,
            project,
            entry,
        })
    }

    /// Where apps connect to.
    pub fn entry(&self) -> SocketAddr {
        self.entry
    }

    /// One of the three processes.
    pub fn node(&mut self, part: Part) -> &mut Node {
        match part {
            Part::Inlet => &mut self.inlet,
            Part::Serve => &mut self.project.serve,
            Part::Outlet => &mut self.outlet,
        }
    }
}

/// The processes of a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The app's side.
    Inlet,
    /// Authority and relay.
    Serve,
    /// The target's side.
    Outlet,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 3] = [Part::Inlet, Part::Serve, Part::Outlet];
}

/// How a test's client reaches its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With nothing between: whether the test itself is right.
    Direct,
    /// Through a portal.
    Through(Engine),
}

impl Way {
    /// Opens it. `None` where it can't be on this machine; a `SKIPPED` line says why.
    pub fn open(self, target: SocketAddr) -> Outcome<Option<Route>> {
        match self {
            Way::Direct => Ok(Some(Route {
                entry: target,
                portal: None,
            })),
            Way::Through(engine) if engine.is_possible("a way through a portal") => {
                let portal = Portal::start(engine, target)?;
                Ok(Some(Route {
                    entry: portal.entry(),
                    portal: Some(portal),
                }))
            }
            Way::Through(_) => Ok(None),
        }
    }
}

/// An open [`Way`].
pub struct Route {
    /// Where the client connects to.
    pub entry: SocketAddr,
    /// The portal on the way, if there is one.
    pub portal: Option<Portal>,
}

/// Makes tests of functions that take a [`Way`]: one directly, one through each engine.
#[macro_export]
macro_rules! on_every_way {
    ($($name:ident),* $(,)?) => {
        mod direct {
            $(#[test] fn $name() { super::$name($crate::portal::Way::Direct); })*
        }
        mod uring {
            use $crate::portal::{Engine, Way};
            $(#[test] fn $name() { super::$name(Way::Through(Engine::Uring)); })*
        }
        mod epoll {
            use $crate::portal::{Engine, Way};
            $(#[test] fn $name() { super::$name(Way::Through(Engine::Epoll)); })*
        }
    };
}

/// Makes tests of functions that take an [`Engine`]: one for each that is possible here.
#[macro_export]
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod uring {
            use $crate::portal::Engine;
            $(#[test] fn $name() {
                if Engine::Uring.is_possible(stringify!($name)) {
                    super::$name(Engine::Uring);
                }
            })*
        }
        mod epoll {
            $(#[test] fn $name() { super::$name($crate::portal::Engine::Epoll); })*
        }
    };
}

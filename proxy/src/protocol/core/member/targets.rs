//! The targets of an outlet: looked up at the start, every now and then, and when one could not
//! be reached.

use std::net::SocketAddr;

use crypto::names::HostPort;

use crate::error::Problem;
use crate::ids::PortalNo;
use crate::limits::{DIAL_ADDRESSES_MAX, TARGET_REFRESH};
use crate::protocol::command::Command;
use crate::protocol::core::config::TargetConfig;
use crate::protocol::core::io::{Level, LogRecord, Now, ResolveNo};
use crate::protocol::core::node::Node;
use crate::protocol::core::text::clean;
use crate::protocol::pool::{Backoff, Failure, jitter};
use crate::time::Instant;

struct Target {
    config: TargetConfig,
    /// What the name means, as far as is known.
    addresses: Vec<SocketAddr>,
    asked: Option<ResolveNo>,
    due: Instant,
    backoff: Backoff,
    failing: bool,
}

/// See the module.
pub struct Targets {
    portal: PortalNo,
    targets: Vec<Target>,
}

impl Targets {
    /// None is known yet; all are due.
    pub fn new(portal: PortalNo, configs: Vec<TargetConfig>) -> Targets {
        let unknown = |config| Target {
            config,
            addresses: Vec::new(),
            asked: None,
            due: Instant::ZERO,
            backoff: Backoff::default(),
            failing: false,
        };
        Targets {
            portal,
            targets: configs.into_iter().map(unknown).collect(),
        }
    }

    /// The names that inlets may ask for.
    pub fn names(&self) -> Vec<String> {
        self.targets
            .iter()
            .map(|target| target.config.name.to_string())
            .collect()
    }

    /// What is connected to, as it was configured.
    pub fn places(&self) -> Vec<HostPort> {
        let targets = self.targets.iter();
        targets.map(|target| target.config.to.clone()).collect()
    }

    /// Looks up what is due.
    pub fn on_timer(&mut self, node: &mut Node, now: Now) {
        for target in &mut self.targets {
            if target.asked.is_none() && target.due.max(target.backoff.not_before()) <= now.mono {
                target.asked = Some(node.out.resolve(target.config.to.clone()));
            }
        }
    }

    /// When [`on_timer`](Self::on_timer) has something to do.
    pub fn next_timer(&self) -> Instant {
        let idle = self.targets.iter().filter(|target| target.asked.is_none());
        idle.map(|target| target.due.max(target.backoff.not_before()))
            .min()
            .unwrap_or(Instant::FAR_FUTURE)
    }

    /// A target could not be reached: perhaps its name means something else by now.
    pub fn on_failed(&mut self, now: Now, name: &str) {
        for target in &mut self.targets {
            if target.config.name.as_str() == name {
                target.due = now.mono;
            }
        }
    }

    /// The resolver's answer; says whether the question was asked here.
    pub fn on_resolved(
        &mut self,
        node: &mut Node,
        now: Now,
        no: ResolveNo,
        answer: &Result<Vec<SocketAddr>, String>,
    ) -> bool {
        let Some(target) = self
            .targets
            .iter_mut()
            .find(|target| target.asked == Some(no))
        else {
            return false;
        };
        target.asked = None;
        // A target that fails again and again is not worth a look-up each time.
        target
            .backoff
            .failed(now.mono, Failure::Lost, node.out.random());
        target.due = now.mono + jitter(TARGET_REFRESH, node.out.random());
        let why = match answer {
            Ok(found) if !found.is_empty() => {
                target.failing = false;
                let mut found = found.clone();
                found.truncate(DIAL_ADDRESSES_MAX);
                if found != target.addresses {
                    target.addresses = found;
                    self.tell(node);
                }
                return true;
            }
            Ok(_) => String::from("no addresses"),
            Err(why) => clean(why),
        };
        // The addresses of before stay: a resolver that is down takes no target away.
        target.due = now.mono;
        if !target.failing {
            target.failing = true;
            let problem = Problem::NameUnresolved;
            let record = LogRecord::new(Level::Warn, problem.to_string())
                .code(problem.code())
                .with("target", &target.config.name)
                .with("name", &target.config.to)
                .with("why", why);
            node.out.log(record);
        }
        true
    }

    fn tell(&self, node: &mut Node) {
        let known = self.targets.iter();
        let targets = known
            .map(|target| (target.config.name.to_string(), target.addresses.clone()))
            .collect();
        node.out.command(Command::Targets {
            portal: self.portal,
            targets,
        });
    }
}

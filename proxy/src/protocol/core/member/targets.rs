//! The targets of an outlet: looked up at the start, every now and then, and when one could not
//! be reached.
//!
//! A target may be in several places. Each is looked up by itself; the worker gets the addresses of
//! all of them, in the order in which they are configured.

use std::net::SocketAddr;

use crypto::names::HostPort;

use crate::error::Problem;
use crate::ids::PortalNo;
use crate::limits::{DIAL_ADDRESSES_MAX, TARGET_ADDRESSES_MAX, TARGET_PLACES_MAX, TARGET_REFRESH};
use crate::protocol::command::{Command, KnownTarget};
use crate::protocol::core::config::TargetConfig;
use crate::protocol::core::io::{Level, LogRecord, Now, ResolveNo};
use crate::protocol::core::node::Node;
use crate::protocol::core::text::clean;
use crate::protocol::pool::{Backoff, Failure, jitter};
use crate::time::Instant;

/// One place of a target.
struct Place {
    to: HostPort,
    /// What the name means, as far as is known.
    addresses: Vec<SocketAddr>,
    asked: Option<ResolveNo>,
    due: Instant,
    backoff: Backoff,
    failing: bool,
}

impl Place {
    fn unknown(to: HostPort) -> Place {
        Place {
            to,
            addresses: Vec::new(),
            asked: None,
            due: Instant::ZERO,
            backoff: Backoff::default(),
            failing: false,
        }
    }

    fn next(&self) -> Instant {
        self.due.max(self.backoff.not_before())
    }

    /// The answer for this name; says whether it means something else now.
    fn answered(
        &mut self,
        node: &mut Node,
        now: Now,
        target: &str,
        answer: &Result<Vec<SocketAddr>, String>,
    ) -> bool {
        self.asked = None;
        // A name that fails again and again is not worth a look-up each time.
        self.backoff
            .failed(now.mono, Failure::Lost, node.out.random());
        self.due = now.mono + jitter(TARGET_REFRESH, node.out.random());
        let why = match answer {
            Ok(found) if !found.is_empty() => {
                self.failing = false;
                let mut found = found.clone();
                found.truncate(DIAL_ADDRESSES_MAX);
                let changed = found != self.addresses;
                self.addresses = found;
                return changed;
            }
            Ok(_) => String::from("no addresses"),
            Err(why) => clean(why),
        };
        // The addresses of before stay: a resolver that is down takes no target away.
        self.due = now.mono;
        if !self.failing {
            self.failing = true;
            let problem = Problem::NameUnresolved;
            let record = LogRecord::new(Level::Warn, problem.to_string())
                .code(problem.code())
                .with("target", target)
                .with("name", &self.to)
                .with("why", why);
            node.out.log(record);
        }
        false
    }
}

struct Target {
    name: String,
    proxy_header: bool,
    places: Vec<Place>,
}

impl Target {
    fn new(config: TargetConfig) -> Target {
        let places = config.to.into_iter().take(TARGET_PLACES_MAX);
        Target {
            name: config.name.to_string(),
            proxy_header: config.proxy_header,
            places: places.map(Place::unknown).collect(),
        }
    }

    /// What the worker is told. Where there are too many addresses, each place keeps its share: the
    /// last place is there for when the first ones fail.
    fn known(&self) -> KnownTarget {
        let share = TARGET_ADDRESSES_MAX / self.places.len().max(1);
        let all = self.places.iter();
        let to = all.flat_map(|place| place.addresses.iter().copied().take(share.max(1)));
        KnownTarget {
            name: self.name.clone(),
            to: to.collect(),
            proxy_header: self.proxy_header,
        }
    }
}

/// See the module.
pub struct Targets {
    portal: PortalNo,
    targets: Vec<Target>,
}

impl Targets {
    /// None is known yet; all are due.
    pub fn new(portal: PortalNo, configs: Vec<TargetConfig>) -> Targets {
        Targets {
            portal,
            targets: configs.into_iter().map(Target::new).collect(),
        }
    }

    /// The names that inlets may ask for.
    pub fn names(&self) -> Vec<String> {
        let names = self.targets.iter().map(|target| target.name.clone());
        names.collect()
    }

    /// Nobody needs them any more.
    pub fn forget(&mut self) {
        self.targets.clear();
    }

    fn places(&mut self) -> impl Iterator<Item = &mut Place> {
        self.targets
            .iter_mut()
            .flat_map(|target| target.places.iter_mut())
    }

    /// What is connected to, as it was configured.
    pub fn configured(&self) -> Vec<HostPort> {
        let places = self.targets.iter().flat_map(|target| &target.places);
        places.map(|place| place.to.clone()).collect()
    }

    /// Looks up what is due.
    pub fn on_timer(&mut self, node: &mut Node, now: Now) {
        for place in self.places() {
            if place.asked.is_none() && place.next() <= now.mono {
                place.asked = Some(node.out.resolve(place.to.clone()));
            }
        }
    }

    /// When [`on_timer`](Self::on_timer) has something to do.
    pub fn next_timer(&self) -> Instant {
        let places = self.targets.iter().flat_map(|target| &target.places);
        let idle = places.filter(|place| place.asked.is_none());
        idle.map(Place::next).min().unwrap_or(Instant::FAR_FUTURE)
    }

    /// A target could not be reached: perhaps its names mean something else by now.
    pub fn on_failed(&mut self, now: Now, name: &str) {
        let targets = self.targets.iter_mut();
        for target in targets.filter(|target| target.name == name) {
            for place in &mut target.places {
                place.due = now.mono;
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
        for target in &mut self.targets {
            let mut places = target.places.iter_mut();
            if let Some(place) = places.find(|place| place.asked == Some(no)) {
                if place.answered(node, now, &target.name, answer) {
                    self.tell(node);
                }
                return true;
            }
        }
        false
    }

    fn tell(&self, node: &mut Node) {
        node.out.command(Command::Targets {
            portal: self.portal,
            targets: self.targets.iter().map(Target::known).collect(),
        });
    }
}

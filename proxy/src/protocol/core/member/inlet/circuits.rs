//! The circuits of one bundle, at its inlet: made, kept in number, retired, and ended with the lane.
//!
//! A circuit is built like a lane: leg dialed → paired by the relay → handshake, which asks for a
//! circuit of this bundle → adopted by the worker → READY. The peer passes the whole check each
//! time and must be the member at the lane's other end; what the circuit may do, and until when, is
//! the lane's permit, so that a renewed credential is shown on the lane alone.
//!
//! Numbers go up and come round after 65,535. One that is in use is left out, and one that was just
//! given up is not used again soon: a SWITCH that is still on its way, or an outlet that has not
//! noticed yet that a connection is gone, can't mistake the next circuit for that one.

mod events;

use std::collections::BTreeMap;

use crypto::Id;

use super::super::legs::{Leg, LegAsk};
use super::super::relay_link::RelayLink;
use super::terms::Terms;
use crate::error::{CloseReason, Code};
use crate::ids::{AddressHash, BundleId, CircuitNo, LinkId, WorkerId};
use crate::limits::{CIRCUIT_SHRINK, CIRCUITS_RETIRING_MAX};
use crate::protocol::command::{CircuitCommand, Command, Role};
use crate::protocol::core::io::Now;
use crate::protocol::core::node::Node;
use crate::protocol::core::status::CircuitsStatus;
use crate::protocol::pool::{CircuitPool, Failure};
use crate::protocol::shake::InletShake;
use crate::time::Instant;

enum Stage {
    Leg(Leg),
    Shaking(Box<InletShake>),
    /// Adopted; the outlet's READY or DENIED is due by then.
    Waiting(Instant),
    /// It begins no more directions from then on.
    Ready(Instant),
    /// It ends what it carries.
    Retiring,
}

struct Circuit {
    no: CircuitNo,
    stage: Stage,
    /// The relay counts it as unfinished until then.
    unproven: Instant,
}

/// See the module.
pub struct Circuits {
    /// Where the lane is.
    worker: WorkerId,
    bundle: BundleId,
    /// The member at the other end of the lane.
    peer: Id,
    pool: CircuitPool,
    links: BTreeMap<LinkId, Circuit>,
    /// The number that was given out last.
    last: u16,
    /// The outlet or this end's check said no, and that was logged.
    denied: Option<Code>,
    /// That none can be made was logged.
    lack_logged: bool,
}

impl Circuits {
    /// Of a bundle whose lane to `peer` is ready at that worker; `pool` is the one of the bundle
    /// before.
    pub fn new((worker, bundle): (WorkerId, BundleId), peer: Id, pool: &CircuitPool) -> Circuits {
        Circuits {
            worker,
            bundle,
            peer,
            pool: pool.heir(),
            links: BTreeMap::new(),
            last: 0,
            denied: None,
            lack_logged: false,
        }
    }

    /// Whether this link is one of them.
    pub fn owns(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    /// How many there are and should be.
    pub fn pool(&self) -> &CircuitPool {
        &self.pool
    }

    /// How many of them the relay counts as unfinished.
    pub fn unproven(&self, now: Instant) -> usize {
        let unproven = |circuit: &&Circuit| circuit.unproven > now;
        self.links.values().filter(unproven).count()
    }

    /// The worker said how they are used.
    pub fn on_demand(&mut self, now: Instant, peak: u16, wanted: u16) {
        self.pool.on_demand(now, peak, wanted);
    }

    /// There is news that may make an attempt succeed: don't wait.
    pub fn wake(&mut self) {
        self.pool.wake();
    }

    /// How many should be dialed now.
    pub fn due(&mut self, now: Instant) -> usize {
        self.pool.due(now)
    }

    /// Dials those that are due, `at_most` so many. Returns how many were.
    pub fn dial(
        &mut self,
        node: &mut Node,
        now: Now,
        relay: &mut RelayLink,
        terms: &Terms,
        (address, at_most): (AddressHash, usize),
    ) -> usize {
        let due = self.pool.due(now.mono);
        for n in 0..due {
            let grant = if n < at_most { relay.grant_leg() } else { None };
            let Some(grant) = grant else {
                self.pool.hold_back(now.mono);
                return n;
            };
            let ask = LegAsk {
                worker: self.worker,
                role: Role::Inlet,
                suites: node.suites(terms.suites),
                address,
                bulk: true,
            };
            let (link, leg) = Leg::dial(&mut node.out, now.mono, grant, ask);
            let circuit = Circuit {
                no: self.next_no(),
                stage: Stage::Leg(leg),
                unproven: Instant::FAR_FUTURE,
            };
            self.links.insert(link, circuit);
            self.pool.began();
        }
        due
    }

    fn next_no(&mut self) -> CircuitNo {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            let no = CircuitNo(self.last);
            if self.links.values().all(|circuit| circuit.no != no) {
                return no;
            }
        }
    }

    /// Retires those that are old or too many, and gives up what the outlet does not answer.
    pub fn on_timer(&mut self, node: &mut Node, now: Now, terms: &Terms) {
        debug_assert!(self.is_counted(), "the pool counts what is there");
        if self.next_deadline() <= now.mono {
            self.on_deadlines(node, now, terms);
        }
        if self.pool.is_over(now.mono) {
            let ready = self
                .links
                .iter()
                .filter_map(|(link, circuit)| match circuit.stage {
                    Stage::Ready(retire_at) => Some((retire_at, *link)),
                    Stage::Leg(_) | Stage::Shaking(_) | Stage::Waiting(_) | Stage::Retiring => None,
                });
            if let Some((_, oldest)) = ready.min() {
                self.retire(node, now, oldest);
            }
        }
    }

    /// Whether the pool's numbers are those of the links.
    fn is_counted(&self) -> bool {
        let (mut building, mut ready) = (0, 0);
        for circuit in self.links.values() {
            match circuit.stage {
                Stage::Leg(_) | Stage::Shaking(_) | Stage::Waiting(_) => building += 1,
                Stage::Ready(_) => ready += 1,
                Stage::Retiring => {}
            }
        }
        (building, ready) == (self.pool.building(), self.pool.ready())
    }

    fn on_deadlines(&mut self, node: &mut Node, now: Now, terms: &Terms) {
        let (mut unanswered, mut old) = (Vec::new(), Vec::new());
        for (link, circuit) in &self.links {
            match circuit.stage {
                Stage::Waiting(until) if until <= now.mono => unanswered.push(*link),
                Stage::Ready(retire_at) if retire_at <= now.mono => old.push(*link),
                Stage::Leg(_)
                | Stage::Shaking(_)
                | Stage::Waiting(_)
                | Stage::Ready(_)
                | Stage::Retiring => {}
            }
        }
        for link in unanswered {
            let why = CloseReason::ShakeTimeout;
            self.cut(node, link, why);
            self.fail(node, now, terms, why, Failure::Lost);
        }
        for link in old {
            self.retire(node, now, link);
        }
    }

    /// A ready circuit begins no more directions. Where too many are that old and still in use, it
    /// does so later.
    fn retire(&mut self, node: &mut Node, now: Now, link: LinkId) {
        let retiring = |circuit: &&Circuit| matches!(circuit.stage, Stage::Retiring);
        let retiring = self.links.values().filter(retiring).count();
        let Some(circuit) = self.links.get_mut(&link) else {
            return;
        };
        if retiring >= CIRCUITS_RETIRING_MAX {
            circuit.stage = Stage::Ready(now.mono + CIRCUIT_SHRINK);
            return;
        }
        circuit.stage = Stage::Retiring;
        self.pool.on_retired();
        let what = CircuitCommand::Retire;
        node.out.command(Command::Circuit { link, what });
    }

    fn cut(&mut self, node: &mut Node, link: LinkId, why: CloseReason) {
        if let Some(circuit) = self.links.remove(&link) {
            circuit.end(node, link, why);
        }
    }

    /// The lane takes no more streams: what is being made is given up. What is there serves its
    /// last streams, and ends with it.
    pub fn give_up_building(&mut self, node: &mut Node, why: CloseReason) {
        let building = |circuit: &Circuit| match circuit.stage {
            Stage::Leg(_) | Stage::Shaking(_) | Stage::Waiting(_) => true,
            Stage::Ready(_) | Stage::Retiring => false,
        };
        let given_up = self.links.extract_if(.., |_, circuit| building(circuit));
        for (link, circuit) in given_up {
            circuit.end(node, link, why);
        }
        self.pool.gave_up();
    }

    /// The lane is gone, and they with it. Returns the pool for the bundle after this one.
    pub fn end(self, node: &mut Node, why: CloseReason) -> CircuitPool {
        for (link, circuit) in self.links {
            circuit.end(node, link, why);
        }
        self.pool.heir()
    }

    fn next_deadline(&self) -> Instant {
        let deadlines = self.links.values().map(|circuit| match circuit.stage {
            Stage::Waiting(at) | Stage::Ready(at) => at,
            Stage::Leg(_) | Stage::Shaking(_) | Stage::Retiring => Instant::FAR_FUTURE,
        });
        deadlines.min().unwrap_or(Instant::FAR_FUTURE)
    }

    /// When [`on_timer`](Self::on_timer) has something to do.
    pub fn next_timer(&self) -> Instant {
        self.next_deadline().min(self.pool.next_shrink())
    }

    /// What `status` shows.
    pub fn status(&self) -> CircuitsStatus {
        let retiring = |circuit: &&Circuit| matches!(circuit.stage, Stage::Retiring);
        CircuitsStatus {
            ready: self.pool.ready(),
            building: self.pool.building(),
            retiring: self.links.values().filter(retiring).count(),
            peak: self.pool.peak(),
        }
    }
}

impl Circuit {
    fn end(self, node: &mut Node, link: LinkId, why: CloseReason) {
        match self.stage {
            Stage::Leg(_) | Stage::Shaking(_) => node.out.close(link, false, why),
            Stage::Waiting(_) | Stage::Ready(_) | Stage::Retiring => {
                let what = CircuitCommand::Cut(why);
                node.out.command(Command::Circuit { link, what });
            }
        }
    }
}

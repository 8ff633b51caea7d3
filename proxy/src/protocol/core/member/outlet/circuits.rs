//! The circuits of an outlet's bundles: taken where the lane is, counted, and ended with it.
//!
//! The inlet decides how many there are and when one retires. This end holds it to the bounds, per
//! bundle, per member and in all, and to its own bundles: a circuit is taken only beside a lane with
//! the same member, after the whole check.

use crypto::Id;
use crypto::check::VerifiedMember;

use super::{Outlet, Stage};
use crate::error::CloseReason;
use crate::ids::{CircuitNo, LinkId};
use crate::limits::{CIRCUITS_MAX, OUTLET_CIRCUITS_MAX, OUTLET_CIRCUITS_PER_MEMBER_MAX};
use crate::protocol::command::{Becomes, CircuitCommand, CircuitEvent, Command};
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::node::Node;
use crate::protocol::core::status::CircuitsStatus;
use crate::protocol::shake::Proposal;

/// One that was given to the worker.
pub(super) struct Circuit {
    /// The link of its lane.
    lane: LinkId,
    peer: Id,
    no: CircuitNo,
    /// READY was sent.
    ready: bool,
}

impl Outlet {
    /// An inlet that has passed the whole check wants a circuit.
    pub(super) fn decide_circuit(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        proposal: Proposal,
        peer: VerifiedMember,
    ) {
        let (bundle, id) = (proposal.bundle, peer.id());
        let mut lanes = self.lanes();
        let lane = lanes.find(|(_, lane)| lane.bundle == bundle && lane.peer == id);
        let Some((lane, _)) = lane else {
            drop(lanes);
            return self.deny(node, link, proposal, CloseReason::NoBundle);
        };
        drop(lanes);
        let circuit = Circuit {
            lane,
            peer: id,
            no: proposal.circuit,
            ready: false,
        };
        if let Err(why) = self.has_room_for(&circuit) {
            let record = LogRecord::new(Level::Warn, "a circuit of an inlet was turned away")
                .code(why.code())
                .with("why", why)
                .with("address", &self.address)
                .with("peer", id);
            node.out.log(record);
            return self.deny(node, link, proposal, why);
        }
        let becomes = Becomes::Circuit(circuit.no);
        let link = self.adopt(node, now, (link, lane.worker()), proposal, peer, becomes);
        self.stages.insert(link, Stage::Circuit(circuit));
    }

    fn circuits(&self) -> impl Iterator<Item = &Circuit> {
        self.stages.values().filter_map(|stage| match stage {
            Stage::Circuit(circuit) => Some(circuit),
            Stage::Dialing(_)
            | Stage::Parked(_)
            | Stage::Paired
            | Stage::Shaking(_)
            | Stage::Cut(_)
            | Stage::Lane(_) => None,
        })
    }

    fn has_room_for(&self, new: &Circuit) -> Result<(), CloseReason> {
        let (mut of_bundle, mut of_member, mut all) = (0, 0, 0);
        for circuit in self.circuits() {
            all += 1;
            of_member += usize::from(circuit.peer == new.peer);
            if circuit.lane == new.lane {
                of_bundle += 1;
                // An inlet uses a number again only once that circuit is long gone.
                if circuit.no == new.no {
                    return Err(CloseReason::Violation);
                }
            }
        }
        let full = of_bundle >= CIRCUITS_MAX
            || of_member >= OUTLET_CIRCUITS_PER_MEMBER_MAX
            || all >= OUTLET_CIRCUITS_MAX;
        if full {
            Err(CloseReason::Overloaded)
        } else {
            Ok(())
        }
    }

    /// Something happened to a circuit.
    pub(super) fn on_circuit(&mut self, node: &mut Node, link: LinkId, what: CircuitEvent) {
        let Some(Stage::Circuit(circuit)) = self.stages.get_mut(&link) else {
            return;
        };
        match what {
            CircuitEvent::Ready => circuit.ready = true,
            CircuitEvent::Denied(_) | CircuitEvent::Closed(_) => drop(self.stages.remove(&link)),
        }
        node.out.status_changed();
    }

    /// A lane is gone, and its circuits with it.
    pub(super) fn end_circuits(&mut self, node: &mut Node, lane: LinkId, why: CloseReason) {
        let of_lane =
            |stage: &Stage| matches!(stage, Stage::Circuit(circuit) if circuit.lane == lane);
        let ended = self.stages.extract_if(.., |_, stage| of_lane(stage));
        for (link, _) in ended {
            let what = CircuitCommand::Cut(why);
            node.out.command(Command::Circuit { link, what });
        }
    }

    pub(super) fn circuits_status(&self) -> CircuitsStatus {
        let mut status = CircuitsStatus::default();
        for circuit in self.circuits() {
            status.ready += usize::from(circuit.ready);
            status.building += usize::from(!circuit.ready);
        }
        status
    }
}

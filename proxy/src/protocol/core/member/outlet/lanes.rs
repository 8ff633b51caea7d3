//! The lanes of an outlet: what happens to one after it was given to the worker.

use crypto::check::Direction;

use super::{CutLane, Outlet, Stage};
use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::protocol::command::{Command, LaneCommand, LaneEvent};
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::member::peer::{Lane, Unheard};
use crate::protocol::core::node::Node;

impl Outlet {
    /// The lanes, by their links.
    pub(super) fn lanes(&self) -> impl Iterator<Item = (LinkId, &Lane)> {
        self.stages.iter().filter_map(|(link, stage)| match stage {
            Stage::Lane(lane) => Some((*link, lane)),
            Stage::Dialing(_)
            | Stage::Parked(_)
            | Stage::Paired
            | Stage::Shaking(_)
            | Stage::Cut(_)
            | Stage::Circuit(_) => None,
        })
    }

    fn has_lane(&self, peer: &crypto::Id) -> bool {
        self.lanes().any(|(_, lane)| lane.peer == *peer)
    }

    /// Cuts the lanes that `is_out` names. Returns how many.
    pub fn cut(
        &mut self,
        node: &mut Node,
        why: CloseReason,
        is_out: impl Fn(&Lane) -> bool,
    ) -> usize {
        let out = self.lanes().filter(|(_, lane)| is_out(lane));
        let out = out.map(|(link, lane)| {
            lane.cut(node, link, &self.address, why);
            link
        });
        let out: Vec<LinkId> = out.collect();
        self.take_out(node, &out, why)
    }

    /// Forgets lanes that were told that they are cut, with their circuits. Returns how many. One that is
    /// not ready may be on its way from one worker to another, where the command found nothing: it is
    /// cut again when it is heard of.
    pub(super) fn take_out(&mut self, node: &mut Node, out: &[LinkId], why: CloseReason) -> usize {
        for link in out {
            if let Some(Stage::Lane(lane)) = self.stages.remove(link) {
                self.end_circuits(node, *link, why);
                if !lane.ready {
                    let (peer, bundle) = (lane.peer, lane.bundle);
                    let cut = CutLane { peer, bundle, why };
                    self.stages.insert(*link, Stage::Cut(cut));
                }
            }
        }
        if !out.is_empty() {
            node.out.status_changed();
        }
        out.len()
    }

    pub(super) fn cut_lanes(&self) -> impl Iterator<Item = &CutLane> {
        self.stages.values().filter_map(|stage| match stage {
            Stage::Cut(cut) => Some(cut),
            Stage::Dialing(_)
            | Stage::Parked(_)
            | Stage::Paired
            | Stage::Shaking(_)
            | Stage::Lane(_)
            | Stage::Circuit(_) => None,
        })
    }

    /// A lane that was cut is heard of: it is there now, or gone.
    fn on_cut_lane(&mut self, node: &mut Node, link: LinkId, cut: CutLane, what: &LaneEvent) {
        match what {
            LaneEvent::Ready
            | LaneEvent::Credential(_)
            | LaneEvent::Exchange { .. }
            | LaneEvent::Mixed { .. }
            | LaneEvent::Retiring
            | LaneEvent::Circuits { .. } => {
                let what = LaneCommand::Cut(cut.why);
                node.out.command(Command::Lane { link, what });
                self.stages.insert(link, Stage::Cut(cut));
            }
            LaneEvent::Denied(_) | LaneEvent::Closed(_) => {}
        }
    }

    /// Says again what a lane may not have heard, now that it is there.
    fn say_again(node: &mut Node, now: Now, link: LinkId, unheard: Unheard) {
        if unheard.renewed
            && let Some(evidence) = node.circuit_evidence(now)
        {
            let what = LaneCommand::Credential(evidence.encode());
            node.out.command(Command::Lane { link, what });
        }
        if unheard.retire {
            let what = LaneCommand::Retire;
            node.out.command(Command::Lane { link, what });
        }
    }

    pub(super) fn on_lane_gone(
        &mut self,
        node: &mut Node,
        link: LinkId,
        lane: &Lane,
        why: CloseReason,
    ) {
        self.end_circuits(node, link, why);
        let expected = lane.retiring || why == CloseReason::Retired;
        let level = if expected { Level::Debug } else { Level::Info };
        let record = LogRecord::new(level, "a lane ended")
            .code(why.code())
            .with("why", why)
            .with("address", &self.address)
            .with("peer", lane.peer)
            .with("peer_name", &lane.name)
            .with("bundle", format_args!("{:?}", lane.bundle));
        node.out.log(record);
        node.out.status_changed();
    }

    pub(super) fn on_lane(&mut self, node: &mut Node, now: Now, link: LinkId, what: LaneEvent) {
        let mut lane = match self.stages.remove(&link) {
            Some(Stage::Lane(lane)) => lane,
            Some(Stage::Cut(cut)) => return self.on_cut_lane(node, link, cut, &what),
            Some(
                Stage::Dialing(_)
                | Stage::Parked(_)
                | Stage::Paired
                | Stage::Shaking(_)
                | Stage::Circuit(_),
            )
            | None => return,
        };
        let keep = match what {
            LaneEvent::Ready => {
                lane.ready = true;
                Self::say_again(node, now, link, std::mem::take(&mut lane.unheard));
                // A replacement of a lane that still works is no news.
                let level = if self.has_lane(&lane.peer) {
                    Level::Debug
                } else {
                    Level::Info
                };
                let record = LogRecord::new(level, "an inlet has a lane")
                    .with("address", &self.address)
                    .with("peer", lane.peer)
                    .with("peer_name", &lane.name)
                    .with("bundle", format_args!("{:?}", lane.bundle));
                node.out.log(record);
                node.out.status_changed();
                true
            }
            LaneEvent::Credential(bytes) => {
                let shown = lane.on_credential(node, now, link, &self.judge(), &bytes);
                if let Err(cut) = &shown {
                    self.end_circuits(node, link, cut.why);
                }
                shown.is_ok()
            }
            LaneEvent::Exchange { number, message } => {
                let of = (link, number);
                let shown = lane.on_exchange(node, now, of, &self.judge(), &message);
                if let Err(cut) = &shown {
                    self.end_circuits(node, link, cut.why);
                }
                shown.is_ok()
            }
            LaneEvent::Mixed { .. } => {
                lane.on_mixed(node, now, Direction::Connect);
                true
            }
            LaneEvent::Retiring => {
                lane.retiring = true;
                true
            }
            LaneEvent::Circuits { .. } => true,
            LaneEvent::Denied(why) | LaneEvent::Closed(why) => {
                self.on_lane_gone(node, link, &lane, why);
                false
            }
        };
        if keep {
            self.stages.insert(link, Stage::Lane(lane));
        }
    }
}

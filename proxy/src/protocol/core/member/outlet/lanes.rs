//! The lanes of an outlet: what happens to one after it was given to the worker.

use super::{Outlet, Stage};
use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::protocol::command::LaneEvent;
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::member::peer::Lane;
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
        let out: Vec<LinkId> = self
            .lanes()
            .filter(|(_, lane)| is_out(lane))
            .map(|(link, _)| link)
            .collect();
        for link in &out {
            if let Some(Stage::Lane(lane)) = self.stages.remove(link) {
                lane.cut(node, *link, &self.address, why);
                self.end_circuits(node, *link, why);
            }
        }
        if !out.is_empty() {
            node.out.status_changed();
        }
        out.len()
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
        let Some(Stage::Lane(mut lane)) = self.stages.remove(&link) else {
            return;
        };
        let keep = match what {
            LaneEvent::Ready => {
                lane.ready = true;
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
                let keep = lane.on_credential(node, now, link, &self.judge(), &bytes);
                if !keep {
                    self.end_circuits(node, link, CloseReason::NotAuthorized);
                }
                keep
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

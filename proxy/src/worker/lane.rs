//! Lanes: links that became the shared road of many streams. This file holds their table, their
//! beginning and end, and the reactions of the lane's state machine; `lane_send.rs` and
//! `lane_recv.rs` are the two directions.
//!
//! # Life of a lane
//! 1. *Adopt*: the handshake is done. Message 3, if this end still owes it, leaves before the
//!    first record; what came behind the last frame is the first records.
//! 2. The outlet says READY. The inlet may open streams from then on.
//! 3. It ends by `Cut`, by its permit's expiry, by a violation or a lost tunnel. All its streams
//!    end with it, at once: apps see a reset.

use std::sync::Arc;

use super::Worker;
use super::conn::Conn;
use super::lane_recv::LaneRx;
use super::lane_send::LaneTx;
use super::net::code;
use super::slab::SlotKey;
use crate::engine::{Close, Engine, Outcome};
use crate::error::CloseReason;
use crate::ids::{BundleId, LinkId, PortalNo};
use crate::limits::LANES_MAX;
use crate::protocol::command::{Adopt, Event, LaneCommand, LaneEvent, Permit, Role};
use crate::protocol::lane::{Lane, Reaction, StreamKey};
use crate::time::Instant;

/// A lane's place in the worker's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneIx(u32);

/// One lane.
#[derive(Debug)]
pub(super) struct LaneConn {
    /// The slot of its socket.
    pub key: SlotKey,
    pub link: LinkId,
    pub role: Role,
    pub portal: PortalNo,
    pub bundle: BundleId,
    pub permit: Permit,
    pub proto: Lane,
    pub tx: LaneTx,
    pub rx: LaneRx,
    /// In the worker's list of lanes with something to do this turn.
    pub dirty: bool,
    /// Streams with a number here.
    pub streams: usize,
    /// Takes new streams.
    pub ready: bool,
    /// Set once it ends.
    pub end: Option<CloseReason>,
}

/// The worker's lanes. Apart from the slots, so that a lane and its streams can be changed at the
/// same time.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    table: Vec<Option<Box<LaneConn>>>,
}

impl Lanes {
    pub fn get(&self, ix: LaneIx) -> Option<&LaneConn> {
        self.table.get(ix.0 as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, ix: LaneIx) -> Option<&mut LaneConn> {
        self.table.get_mut(ix.0 as usize)?.as_deref_mut()
    }

    fn insert(&mut self, lane: Box<LaneConn>) -> LaneIx {
        let free = self.table.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.table.push(None);
            self.table.len() - 1
        });
        self.table[place] = Some(lane);
        LaneIx(u32::try_from(place).unwrap_or(u32::MAX))
    }

    fn remove(&mut self, ix: LaneIx) -> Option<Box<LaneConn>> {
        self.table.get_mut(ix.0 as usize)?.take()
    }

    /// All lanes, lowest place first.
    pub fn iter(&self) -> impl Iterator<Item = (LaneIx, &LaneConn)> {
        self.table.iter().enumerate().filter_map(|(place, lane)| {
            let ix = LaneIx(u32::try_from(place).unwrap_or(u32::MAX));
            lane.as_deref().map(|lane| (ix, lane))
        })
    }

    pub fn len(&self) -> usize {
        self.table.iter().flatten().count()
    }
}

impl<E: Engine> Worker<E> {
    /// `Command::Adopt`.
    pub(super) fn adopt(&mut self, adopt: Adopt) {
        let Some(key) = self.links.get(&adopt.link).copied() else { return };
        let full = self.lanes.len() >= LANES_MAX;
        let Some(slot) = self.net.slots.get_mut(key) else { return };
        let Conn::Link(link) = &mut slot.conn else { return };
        if !link.is_open() {
            return;
        }
        if full {
            return self.link_end(key, Some(CloseReason::Overloaded));
        }
        let rest = std::mem::take(&mut link.rx);
        let mut head = std::mem::take(&mut link.tx);
        if !adopt.last.is_empty() {
            super::link::put_frame(&mut head, &adopt.last);
        }
        let now = self.now;
        let ix = self.lanes.insert(Box::new(LaneConn {
            key,
            link: adopt.link,
            role: adopt.role,
            portal: adopt.portal,
            bundle: adopt.bundle,
            permit: adopt.permit,
            proto: Lane::new(adopt.role, now),
            tx: LaneTx::new(adopt.sealer, head, now),
            rx: LaneRx::new(adopt.opener, rest),
            dirty: false,
            streams: 0,
            ready: false,
            end: None,
        }));
        slot.conn = Conn::Lane(ix);
        self.counters.links_open.sub(1);
        self.counters.lanes_open.add(1);
        self.counters.lanes_total.add(1);
        self.lane_react(ix);
        self.lane_dirty(ix);
        self.lane_set_deadline(ix);
        self.lane_take_rest(ix);
    }

    /// `Command::Lane`.
    pub(super) fn lane_command(&mut self, link: LinkId, what: LaneCommand) {
        let now = self.now;
        let Some(ix) = self.lane_of(link) else { return };
        let Some(lane) = self.lanes.get_mut(ix) else { return };
        match what {
            LaneCommand::Extend { serial, not_after } => {
                lane.permit.serial = serial;
                lane.permit.not_after = not_after;
                self.lane_set_deadline(ix);
            }
            LaneCommand::Credential(bytes) => {
                lane.proto.credential(now, bytes);
                self.lane_react(ix);
            }
            LaneCommand::Retire => {
                lane.proto.retire(now);
                self.lane_react(ix);
            }
            LaneCommand::Cut(why) => self.lane_cut(ix, why),
        }
    }

    fn lane_of(&self, link: LinkId) -> Option<LaneIx> {
        let key = self.links.get(&link)?;
        match &self.net.slots.get(*key)?.conn {
            Conn::Lane(ix) => Some(*ix),
            Conn::Listener(_) | Conn::Stranger(_) | Conn::Link(_) | Conn::Leg(_)
            | Conn::Stream(_) => None,
        }
    }

    /// Puts the lane on this turn's list.
    pub(super) fn lane_dirty(&mut self, ix: LaneIx) {
        if let Some(lane) = self.lanes.get_mut(ix)
            && !lane.dirty
        {
            lane.dirty = true;
            self.dirty.push(ix);
        }
    }
}

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

use crypto::record::MixSecret;

use super::Worker;
use super::batch::LaneTx;
use super::circuit::CircuitIx;
use super::conn::Conn;
use super::lane_recv::LaneRx;
use super::net::code;
use super::promote::Wishes;
use super::slab::SlotKey;
use crate::engine::{Class, Close, Engine, Outcome};
use crate::error::CloseReason;
use crate::ids::{BundleId, CircuitNo, LinkId, PortalNo};
use crate::limits::{LANE_QUIET, LANE_SILENT, LANES_MAX, SHAKE_TIMEOUT};
use crate::protocol::command::{
    Adopt, Becomes, CircuitEvent, Event, LaneCommand, LaneEvent, Permit, Role,
};
use crate::protocol::frame;
use crate::protocol::lane::{Lane, Reaction, StreamKey};
use crate::protocol::stream::Visits;
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
    /// Inlet: the target that its streams ask for.
    pub target: Arc<str>,
    /// Inlet: its streams should have circuits of their own.
    pub dedicated: bool,
    pub proto: Lane,
    pub tx: LaneTx,
    pub rx: LaneRx,
    /// The secret of the fresh key exchange that is under way.
    pub mix: Option<MixSecret>,
    /// The circuits of its bundle.
    pub circuits: Vec<(CircuitNo, CircuitIx)>,
    pub wishes: Wishes,
    /// In the worker's list of lanes with something to do this turn.
    pub dirty: bool,
    /// Streams with a number here.
    pub streams: usize,
    /// When it was adopted, or the last record came, or its first stream.
    heard: Instant,
    /// When the peer was asked for a sign of life that has not come yet.
    pinged: Option<Instant>,
    /// READY was read or sent.
    ready: bool,
    /// Set once it ends.
    pub end: Option<CloseReason>,
}

impl LaneConn {
    /// A record came.
    pub fn hears(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
    }

    /// A stream got a number here.
    pub fn gains_stream(&mut self, now: Instant) {
        if self.streams == 0 && self.role == Role::Outlet {
            self.heard = self.heard.max(now);
        }
        self.streams += 1;
    }

    /// Asks the peer for a sign of life, unless one is awaited already.
    fn wants_sign(&mut self, now: Instant) {
        if self.pinged.is_none() && self.end.is_none() {
            self.pinged = Some(now);
            self.proto.ping(now);
        }
    }

    /// When the peer has been silent for too long.
    fn silent_at(&self) -> Instant {
        match self.pinged {
            _ if !self.ready => self.heard + SHAKE_TIMEOUT,
            Some(at) => at + LANE_SILENT,
            // An inlet's next app relies on the lane, even while nobody uses it.
            None if self.streams > 0 || self.role == Role::Inlet => self.heard + LANE_QUIET,
            None => Instant::FAR_FUTURE,
        }
    }
}

/// The worker's lanes. Apart from the slots, so that a lane and its streams can be changed at the
/// same time.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    table: Vec<Option<Box<LaneConn>>>,
    /// What the lanes that are gone have visited of the stream table, for simulations.
    pub visited: Visits,
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
        let Some(key) = self.links.get(&adopt.link).copied() else {
            return;
        };
        let full = self.lanes.len() >= LANES_MAX;
        let Some(slot) = self.net.slots.get_mut(key) else {
            return;
        };
        let Conn::Link(link) = &mut slot.conn else {
            return;
        };
        if !link.is_open() {
            return;
        }
        if let Becomes::Circuit(no) = adopt.becomes {
            return self.circuit_adopt(key, no, adopt);
        }
        if full {
            return self.link_end(key, Some(CloseReason::Overloaded));
        }
        let rest = std::mem::take(&mut link.rx);
        let mut head = std::mem::take(&mut link.tx);
        if !adopt.last.is_empty() {
            let put = frame::put(&adopt.last, &mut head);
            debug_assert!(put.is_ok(), "control made a message that is too long");
        }
        let now = self.now;
        let ix = self.lanes.insert(Box::new(LaneConn {
            key,
            link: adopt.link,
            role: adopt.role,
            portal: adopt.portal,
            bundle: adopt.bundle,
            target: adopt
                .permit
                .targets
                .first()
                .map_or("", String::as_str)
                .into(),
            permit: adopt.permit,
            dedicated: adopt.dedicated,
            proto: Lane::new(adopt.role, &self.shared),
            tx: LaneTx::new(adopt.sealer, head, now),
            rx: LaneRx::new(adopt.opener, rest),
            mix: None,
            circuits: Vec::new(),
            wishes: Wishes::default(),
            dirty: false,
            streams: 0,
            heard: now,
            pinged: None,
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
        let Some(ix) = self.lane_of(link) else { return };
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        match what {
            LaneCommand::Extend { serial, not_after } => {
                lane.permit.serial = serial;
                lane.permit.not_after = not_after;
                self.lane_set_deadline(ix);
            }
            LaneCommand::Credential(bytes) => {
                lane.proto.credential(bytes);
                self.lane_react(ix);
            }
            LaneCommand::Exchange { number, message } => {
                lane.proto.exchange(number, message);
                self.lane_react(ix);
            }
            LaneCommand::Mix {
                number,
                secret,
                message,
            } => {
                if lane.proto.mix(number, message) {
                    lane.mix = Some(secret);
                }
                self.lane_react(ix);
            }
            LaneCommand::Retire => self.lane_retire(ix),
            LaneCommand::Cut(why) => self.lane_cut(ix, why),
        }
    }

    fn lane_of(&self, link: LinkId) -> Option<LaneIx> {
        let key = self.links.get(&link)?;
        match &self.net.slots.get(*key)?.conn {
            Conn::Lane(ix) => Some(*ix),
            Conn::Listener(_)
            | Conn::Stranger(_)
            | Conn::Link(_)
            | Conn::Leg(_)
            | Conn::Circuit(_)
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

    /// Puts the lane on the next turn's list.
    pub(super) fn lane_later(&mut self, ix: LaneIx) {
        if !self.dirty_later.contains(&ix) {
            self.dirty_later.push(ix);
        }
    }

    /// The lane's own deadlines, its permit's end, or when its peer is silent for too long.
    pub(super) fn lane_set_deadline(&mut self, ix: LaneIx) {
        let Some(lane) = self.lanes.get(ix) else {
            return;
        };
        let at = lane
            .proto
            .next_deadline()
            .min(lane.permit.not_after)
            .min(lane.silent_at())
            .min(lane.wishes.say_at);
        self.net.set_deadline(lane.key, at);
    }

    /// A deadline of the lane has come.
    pub(super) fn lane_due(&mut self, ix: LaneIx) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        if lane.permit.not_after <= now {
            return self.lane_cut(ix, CloseReason::PermitExpired);
        }
        if lane.silent_at() <= now {
            let why = match lane.pinged {
                _ if !lane.ready => Some(CloseReason::ShakeTimeout),
                Some(_) => Some(CloseReason::TunnelLost),
                None => None,
            };
            if let Some(why) = why {
                return self.lane_cut(ix, why);
            }
            lane.wants_sign(now);
        }
        if lane.wishes.say_at <= now {
            lane.wishes.say_at = Instant::FAR_FUTURE;
            lane.wishes.news = true;
        }
        lane.proto.on_timer(now);
        self.lane_react(ix);
        self.lane_set_deadline(ix);
    }

    /// A completion of the lane's socket.
    pub(super) fn lane_done(&mut self, ix: LaneIx, code: u8, what: Outcome) {
        match (code, what) {
            (code::RECV, Outcome::Received { buf, at, len, .. }) => {
                self.lane_received(ix, buf, at, len);
            }
            (code::SEND, Outcome::Sent { buf }) => self.lane_sent(ix, buf),
            (_, what) => {
                self.net.reclaim(what);
                // An outlet waits for the inlet to close a lane that is spent.
                let spent = self.lanes.get(ix).is_some_and(|lane| lane.proto.is_spent());
                let why = if spent {
                    CloseReason::Retired
                } else {
                    CloseReason::TunnelLost
                };
                self.lane_cut(ix, why);
            }
        }
    }

    /// Gets its turn after waiting for a buffer.
    pub(super) fn lane_resume(&mut self, ix: LaneIx) {
        let Some(lane) = self.lanes.get(ix) else {
            return;
        };
        let key = lane.key;
        if lane.rx.is_stalled() {
            self.lane_unstall(ix);
        } else if !self.net.is_flying(key, code::RECV) {
            self.net.recv_any(key, Class::Large);
        }
        self.lane_dirty(ix);
    }

    /// No more streams here; live ones go on.
    pub(super) fn lane_retire(&mut self, ix: LaneIx) {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        let (role, portal) = (lane.role, lane.portal);
        lane.proto.retire();
        self.lane_react(ix);
        if role == Role::Inlet {
            self.inlet_lane_gone(portal, ix);
        }
    }

    /// Ends the lane now, and with it all its streams: their apps see a reset.
    pub(super) fn lane_cut(&mut self, ix: LaneIx, why: CloseReason) {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        if lane.end.is_some() {
            return;
        }
        lane.end = Some(why);
        if matches!(
            why,
            CloseReason::Violation | CloseReason::BadTag | CloseReason::Malformed
        ) {
            self.counters.lane_violations.add(1);
        }
        let (key, link, role, portal) = (lane.key, lane.link, lane.role, lane.portal);
        for buf in lane.tx.take_buffers() {
            self.net.free(buf);
        }
        if let Some(shared) = lane.rx.take_stalled() {
            self.net.release_shared(shared);
        }
        lane.proto.on_lost(why);
        let circuits = std::mem::take(&mut lane.circuits);
        self.lane_react(ix);
        for (_, circuit) in circuits {
            self.circuit_cut(circuit, why);
        }
        if role == Role::Inlet {
            self.inlet_lane_gone(portal, ix);
        }
        // A reset would overtake the RETIRE by which the peer knows that nothing is lost.
        let how = if why == CloseReason::Retired {
            Close::Fin
        } else {
            Close::Reset
        };
        self.net.terminate(key, how);
        self.tell(Event::Lane {
            link,
            what: LaneEvent::Closed(why),
        });
    }

    /// The lane's socket is closed.
    pub(super) fn lane_closed(&mut self, ix: LaneIx) {
        let Some(lane) = self.lanes.remove(ix) else {
            return;
        };
        assert_eq!(lane.streams, 0, "a lane is freed with streams on it");
        self.lanes.visited.add(lane.proto.visited());
        self.net.remove(lane.key);
        self.links.remove(&lane.link);
        self.counters.lanes_open.sub(1);
    }

    /// Carries out what the lane's state machine has decided.
    pub(super) fn lane_react(&mut self, ix: LaneIx) {
        while let Some(reaction) = self
            .lanes
            .get_mut(ix)
            .and_then(|lane| lane.proto.poll_reaction())
        {
            let data = self.lane_reaction(ix, reaction);
            debug_assert!(data.is_none(), "only a record delivers data");
        }
        self.lane_dirty(ix);
    }

    /// Carries out one reaction. For DATA: the stream whose it is; the caller has the bytes.
    pub(super) fn lane_reaction(&mut self, ix: LaneIx, reaction: Reaction) -> Option<SlotKey> {
        match reaction {
            Reaction::Deliver { key, .. } | Reaction::Hold { key, .. } => {
                return self.net.slots.key_of(key.0);
            }
            Reaction::Connect { n, open } => {
                self.note_arrival();
                self.target_open(ix, n, &open);
            }
            Reaction::Refused { n, why, open } => self.report_refused(ix, n, &open, why),
            Reaction::Behind { key, .. } => {
                let key = self.net.slots.key_of(key.0)?;
                self.stream_mut(key)?.tx.held_back = true;
                return Some(key);
            }
            Reaction::Merge { key, .. } => self.with_stream(key, |worker, key| {
                if let Some(stream) = worker.stream_mut(key) {
                    stream.tx.held_back = false;
                    worker.touched.push(key);
                }
            }),
            Reaction::Moved { key, circuit, .. } => {
                let circuit = self.circuit_of(ix, circuit)?;
                self.with_stream(key, |worker, key| worker.stream_moved(key, circuit));
            }
            Reaction::CircuitReady { circuit } => {
                let circuit = self.circuit_of(ix, circuit)?;
                self.circuit_ready(circuit);
                self.lane_grant_wishes(ix);
            }
            Reaction::CircuitDenied { circuit, why } => {
                let circuit = self.circuit_of(ix, circuit)?;
                let link = self.circuits.get(circuit)?.link;
                let what = CircuitEvent::Denied(why);
                self.tell(Event::Circuit { link, what });
                self.circuit_cut(circuit, why);
            }
            Reaction::CircuitRead { circuit } => {
                let circuit = self.circuit_of(ix, circuit)?;
                self.circuit_read(circuit);
            }
            Reaction::CircuitIdle { .. } => self.lane_grant_wishes(ix),
            Reaction::CircuitDead { circuit } => {
                let circuit = self.circuit_of(ix, circuit)?;
                self.circuit_cut(circuit, CloseReason::Violation);
            }
            Reaction::Want(directions) => {
                let wishes = &mut self.lanes.get_mut(ix)?.wishes;
                wishes.peers = directions;
                wishes.news = true;
            }
            Reaction::Opened { key, .. } => self.with_stream(key, Self::stream_opened),
            Reaction::Retry { key, .. } => self.with_stream(key, Self::stream_retry),
            Reaction::Pong { .. } => {}
            Reaction::Resume { key, .. } => self.with_stream(key, Self::stream_credited),
            Reaction::FinToApp { key, .. } => self.with_stream(key, Self::stream_finish),
            Reaction::ResetApp { key, .. } => {
                let how = Close::Reset;
                #[cfg(feature = "planted")]
                let how = if crypto::planted::is(crypto::planted::Bug::FinForCut) {
                    Close::Fin
                } else {
                    how
                };
                self.with_stream(key, |worker, key| worker.stream_stop(key, how));
            }
            Reaction::Freed {
                key,
                why,
                sent,
                received,
                ..
            } => {
                self.with_stream(key, |worker, key| {
                    worker.stream_freed(key, why, sent, received)
                });
                if why == CloseReason::OpenTimeout {
                    // An outlet answers sooner than that, whatever its target does. Streams that
                    // come one after the other must not hide that the lane is dead.
                    let now = self.now;
                    self.lanes.get_mut(ix)?.wants_sign(now);
                }
            }
            Reaction::Ready => {
                let lane = self.lanes.get_mut(ix)?;
                lane.ready = true;
                let (link, role, portal) = (lane.link, lane.role, lane.portal);
                if role == Role::Inlet {
                    self.inlet_lane_ready(portal, ix);
                }
                self.tell(Event::Lane {
                    link,
                    what: LaneEvent::Ready,
                });
            }
            Reaction::Denied(why) => {
                let link = self.lanes.get(ix)?.link;
                self.tell(Event::Lane {
                    link,
                    what: LaneEvent::Denied(why),
                });
                self.lane_cut(ix, why);
            }
            Reaction::Retiring => {
                let lane = self.lanes.get(ix)?;
                let (link, role, portal) = (lane.link, lane.role, lane.portal);
                if role == Role::Inlet {
                    self.inlet_lane_gone(portal, ix);
                }
                self.tell(Event::Lane {
                    link,
                    what: LaneEvent::Retiring,
                });
            }
            Reaction::KeyUpdate { mix } => {
                let lane = self.lanes.get_mut(ix)?;
                let secret = lane.mix.as_ref().filter(|_| mix.is_some());
                debug_assert_eq!(secret.is_some(), mix.is_some(), "the secret is held first");
                lane.rx.update_key(secret);
            }
            Reaction::Exchange { number, message } => {
                let link = self.lanes.get(ix)?.link;
                let what = LaneEvent::Exchange { number, message };
                self.tell(Event::Lane { link, what });
            }
            Reaction::Mixed { number } => {
                let lane = self.lanes.get_mut(ix)?;
                lane.mix = None;
                let link = lane.link;
                self.counters.key_exchanges.add(1);
                let what = LaneEvent::Mixed { number };
                self.tell(Event::Lane { link, what });
            }
            Reaction::Credential(bytes) => {
                let link = self.lanes.get(ix)?.link;
                self.tell(Event::Lane {
                    link,
                    what: LaneEvent::Credential(bytes),
                });
            }
        }
        None
    }

    fn with_stream(&mut self, key: StreamKey, act: impl FnOnce(&mut Self, SlotKey)) {
        if let Some(key) = self.net.slots.key_of(key.0) {
            act(self, key);
        }
    }
}

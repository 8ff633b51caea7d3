//! Circuits: links that became a road of their own for one direction of a stream at a time, each
//! way. This file holds their table, their beginning and end; `circuit_send.rs` and
//! `circuit_recv.rs` are the two directions, `promote.rs` decides who goes there.
//!
//! # Life of a circuit
//! 1. *Adopt*: the handshake is done; the lane of the same bundle is here. Message 3, if this end
//!    still owes it, leaves before the first record.
//! 2. The outlet says READY; runs of streams follow, one after the other in each direction.
//! 3. It ends by `Cut`, with its lane, or by a lost tunnel, and with it the streams that use it. It
//!    ends in order when both ends have said RETIRE: the inlet closes it then.

use super::Worker;
use super::circuit_recv::CircuitRx;
use super::circuit_send::CircuitTx;
use super::conn::Conn;
use super::lane::LaneIx;
use super::net::code;
use super::slab::SlotKey;
use crate::engine::{Class, Close, Engine, Outcome};
use crate::error::CloseReason;
use crate::ids::{CircuitNo, LinkId};
use crate::limits::{CIRCUIT_QUIET, SHAKE_TIMEOUT};
use crate::protocol::command::{Adopt, CircuitCommand, CircuitEvent, Event, Role};
use crate::protocol::frame;
use crate::time::Instant;

/// A circuit's place in the worker's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CircuitIx(u32);

/// One circuit.
#[derive(Debug)]
pub(super) struct CircuitConn {
    /// The slot of its socket.
    pub key: SlotKey,
    pub link: LinkId,
    pub no: CircuitNo,
    /// The lane of its bundle. It lives at least as long as a circuit that has not ended.
    pub lane: LaneIx,
    role: Role,
    pub tx: CircuitTx,
    pub rx: CircuitRx,
    /// Our direction stays on it no longer.
    fresh_until: Instant,
    /// Inlet: READY must be read by then.
    ready_by: Instant,
    /// Set once it ends.
    pub end: Option<CloseReason>,
}

/// The worker's circuits. Apart from the slots, as lanes are.
#[derive(Debug, Default)]
pub(super) struct CircuitTable {
    table: Vec<Option<Box<CircuitConn>>>,
}

impl CircuitTable {
    pub fn get(&self, ix: CircuitIx) -> Option<&CircuitConn> {
        self.table.get(ix.0 as usize)?.as_deref()
    }

    pub fn get_mut(&mut self, ix: CircuitIx) -> Option<&mut CircuitConn> {
        self.table.get_mut(ix.0 as usize)?.as_deref_mut()
    }

    /// One that has not ended.
    pub fn live_mut(&mut self, ix: CircuitIx) -> Option<&mut CircuitConn> {
        self.get_mut(ix).filter(|circuit| circuit.end.is_none())
    }

    fn insert(&mut self, circuit: Box<CircuitConn>) -> CircuitIx {
        let free = self.table.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.table.push(None);
            self.table.len() - 1
        });
        self.table[place] = Some(circuit);
        CircuitIx(u32::try_from(place).unwrap_or(u32::MAX))
    }

    fn remove(&mut self, ix: CircuitIx) -> Option<Box<CircuitConn>> {
        self.table.get_mut(ix.0 as usize)?.take()
    }

    pub fn len(&self) -> usize {
        self.table.iter().flatten().count()
    }
}

impl<E: Engine> Worker<E> {
    /// `Command::Adopt` of a circuit; its link is open.
    pub(super) fn circuit_adopt(&mut self, key: SlotKey, no: CircuitNo, adopt: Adopt) {
        let bundle = (adopt.bundle, adopt.role, adopt.portal);
        let lane = self.lanes.iter().find(|(_, lane)| {
            lane.end.is_none() && (lane.bundle, lane.role, lane.portal) == bundle
        });
        let Some((lane_ix, _)) = lane else {
            return self.link_end(key, Some(CloseReason::NoBundle));
        };
        let added = self
            .lanes
            .get_mut(lane_ix)
            .is_some_and(|lane| lane.proto.add_circuit(no));
        if !added {
            return self.link_end(key, Some(CloseReason::Overloaded));
        }
        let Some(slot) = self.net.slots.get_mut(key) else {
            return;
        };
        let Conn::Link(link) = &mut slot.conn else {
            return;
        };
        let rest = std::mem::take(&mut link.rx);
        let mut head = std::mem::take(&mut link.tx);
        if !adopt.last.is_empty() {
            let put = frame::put(&adopt.last, &mut head);
            debug_assert!(put.is_ok(), "control made a message that is too long");
        }
        let ready_by = match adopt.role {
            Role::Inlet => self.now + SHAKE_TIMEOUT,
            Role::Outlet => Instant::FAR_FUTURE,
        };
        let ix = self.circuits.insert(Box::new(CircuitConn {
            key,
            link: adopt.link,
            no,
            lane: lane_ix,
            role: adopt.role,
            tx: CircuitTx::new(adopt.sealer, head, self.now),
            rx: CircuitRx::new(adopt.opener, rest),
            fresh_until: adopt.fresh_until,
            ready_by,
            end: None,
        }));
        slot.conn = Conn::Circuit(ix);
        self.net.set_deadline(key, ready_by);
        if let Some(lane) = self.lanes.get_mut(lane_ix) {
            lane.circuits.push((no, ix));
        }
        self.counters.links_open.sub(1);
        self.counters.circuits_open.add(1);
        self.counters.circuits_total.add(1);
        // It is not read while an app takes nothing, and must notice its loss all the same.
        self.net.watch(key);
        self.net.tune_patient(key);
        self.lane_react(lane_ix);
        self.circuit_flush(ix);
        self.circuit_next(ix);
    }

    /// `Command::Circuit`.
    pub(super) fn circuit_command(&mut self, link: LinkId, what: CircuitCommand) {
        let slot = self
            .links
            .get(&link)
            .and_then(|&key| self.net.slots.get(key));
        let Some(&Conn::Circuit(ix)) = slot.map(|slot| &slot.conn) else {
            return;
        };
        match what {
            CircuitCommand::Retire => {
                if let Some(circuit) = self.circuits.live_mut(ix)
                    && let Some(lane) = self.lanes.get_mut(circuit.lane)
                {
                    lane.proto.retire_circuit(circuit.no);
                    self.circuit_flush(ix);
                }
            }
            CircuitCommand::Cut(why) => self.circuit_cut(ix, why),
        }
    }

    /// The circuit of that number on a lane.
    pub(super) fn circuit_of(&self, lane: LaneIx, no: CircuitNo) -> Option<CircuitIx> {
        let circuits = &self.lanes.get(lane)?.circuits;
        circuits.iter().find(|of| of.0 == no).map(|of| of.1)
    }

    /// A completion of the circuit's socket.
    pub(super) fn circuit_done(&mut self, ix: CircuitIx, code: u8, what: Outcome) {
        match (code, what) {
            (code::RECV, Outcome::Received { buf, at, len, .. }) => {
                self.circuit_received(ix, buf, at, len);
            }
            (code::SEND, Outcome::Sent { buf }) => self.circuit_sent(ix, buf),
            (code::RECV, Outcome::Eof { buf }) => {
                if let Some(buf) = buf {
                    self.net.free(buf);
                }
                let why = if self.circuit_is_spent(ix) {
                    CloseReason::Replaced
                } else {
                    CloseReason::TunnelLost
                };
                self.circuit_cut(ix, why);
            }
            (_, what) => {
                self.net.reclaim(what);
                self.circuit_cut(ix, CloseReason::TunnelLost);
            }
        }
    }

    fn circuit_is_spent(&self, ix: CircuitIx) -> bool {
        let circuit = self.circuits.get(ix);
        circuit.is_some_and(|circuit| {
            let lane = self.lanes.get(circuit.lane);
            lane.is_some_and(|lane| lane.proto.is_circuit_spent(circuit.no))
        })
    }

    /// Inlet: closes a circuit that both ends are done with.
    pub(super) fn circuit_close_if_spent(&mut self, ix: CircuitIx) {
        let idle = self.circuits.get(ix).is_some_and(|circuit| {
            circuit.role == Role::Inlet && circuit.end.is_none() && circuit.tx.is_empty()
        });
        if idle && self.circuit_is_spent(ix) {
            self.circuit_end(ix, CloseReason::Replaced, Close::Fin);
        }
    }

    /// Whether a direction of ours has been on it for long enough: it goes on on another one. Nothing
    /// begins here any more then.
    pub(super) fn circuit_is_stale(&mut self, ix: CircuitIx) -> bool {
        let now = self.now;
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return false;
        };
        let stale = circuit.fresh_until <= now;
        if stale && let Some(lane) = self.lanes.get_mut(circuit.lane) {
            lane.proto.retire_circuit(circuit.no);
        }
        stale
    }

    /// Gets its turn after waiting for a buffer.
    pub(super) fn circuit_resume(&mut self, ix: CircuitIx) {
        self.circuit_flush(ix);
        self.circuit_next(ix);
    }

    /// READY was read or is queued.
    pub(super) fn circuit_ready(&mut self, ix: CircuitIx) {
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        circuit.ready_by = Instant::FAR_FUTURE;
        let link = circuit.link;
        let what = CircuitEvent::Ready;
        self.tell(Event::Circuit { link, what });
    }

    /// The circuit's deadline: no READY, or the run on it was quiet.
    pub(super) fn circuit_due(&mut self, ix: CircuitIx) {
        let now = self.now;
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        if circuit.ready_by <= now {
            return self.circuit_cut(ix, CloseReason::ShakeTimeout);
        }
        let (key, ready_by, user) = (circuit.key, circuit.ready_by, circuit.tx.user);
        let (last_data, is_empty) = (circuit.tx.last_data, circuit.tx.is_empty());
        let keeps = |user| {
            let stream = self.stream(user);
            stream.is_some_and(|stream| stream.rx.own.is_dedicated())
        };
        let user = user.filter(|user| !keeps(*user));
        let quiet_at = match user {
            Some(user) => {
                let quiet_at = last_data + CIRCUIT_QUIET;
                if quiet_at <= now && is_empty && self.stream_goes_back(user) {
                    Instant::FAR_FUTURE
                } else {
                    quiet_at.max(now + CIRCUIT_QUIET / 4)
                }
            }
            None => Instant::FAR_FUTURE,
        };
        self.net.set_deadline(key, quiet_at.min(ready_by));
    }

    /// Ends the circuit now, and the streams that use it.
    pub(super) fn circuit_cut(&mut self, ix: CircuitIx, why: CloseReason) {
        self.circuit_end(ix, why, Close::Reset);
    }

    fn circuit_end(&mut self, ix: CircuitIx, why: CloseReason, how: Close) {
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        circuit.end = Some(why);
        let (key, link, no, lane_ix) = (circuit.key, circuit.link, circuit.no, circuit.lane);
        for buf in circuit.tx.take_buffers() {
            self.net.free(buf);
        }
        for buf in circuit.rx.take_buffers() {
            self.net.free(buf);
        }
        if let Some(user) = circuit.tx.user.take()
            && let Some(stream) = self.stream_mut(user)
        {
            stream.rx.on = None;
        }
        if let Some(circuit) = self.circuits.get_mut(ix)
            && let Some((user, _)) = circuit.rx.user.take()
            && let Some(stream) = self.stream_mut(user)
        {
            stream.tx.from = None;
        }
        if let Some(lane) = self.lanes.get_mut(lane_ix) {
            lane.circuits.retain(|of| of.1 != ix);
            lane.proto.on_circuit_lost(no, why);
            self.lane_react(lane_ix);
        }
        self.net.terminate(key, how);
        let what = CircuitEvent::Closed(why);
        self.tell(Event::Circuit { link, what });
    }

    /// The circuit's socket is closed.
    pub(super) fn circuit_closed(&mut self, ix: CircuitIx) {
        let Some(circuit) = self.circuits.remove(ix) else {
            return;
        };
        self.net.remove(circuit.key);
        self.links.remove(&circuit.link);
        self.counters.circuits_open.sub(1);
    }

    /// Reads the circuit, unless a receive is armed.
    pub(super) fn circuit_arm(&mut self, ix: CircuitIx) {
        if let Some(circuit) = self.circuits.live_mut(ix) {
            let key = circuit.key;
            self.net.recv_any(key, Class::Bulk);
        }
    }
}

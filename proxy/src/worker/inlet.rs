//! Inlets: an app connects, gets a place on a lane, and its OPEN leaves.
//!
//! 1. Accepted with a lane ready: the stream is *fresh*, on the lane with the fewest. A receive is armed at once and OPEN waits
//!    for the end of the *next* turn, so that it leaves together with the first bytes if these are
//!    there already. It never waits for bytes that are not.
//! 2. Accepted without a lane: it waits, at most `limits::LANE_WAIT`, in a bounded queue, unless
//!    the portal's gate says that waiting is pointless.
//! 3. Past a bound nothing is accepted: connections wait in the kernel's backlog.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Worker;
use super::conn::Conn;
use super::dedicated::Own;
use super::lane::LaneIx;
use super::net::code;
use super::slab::SlotKey;
use super::stream::{Phase, Stream};
use crate::engine::{Close, Engine, Sock};
use crate::error::CloseReason;
use crate::ids::{PortalNo, WorkerSet};
use crate::limits::{APPS_WAITING_MAX, LANE_WAIT};
use crate::protocol::command::{Event, Gate, Role};
use crate::protocol::lane::StreamKey;
use crate::protocol::record::Open;
use crate::time::Instant;

/// One inlet portal.
#[derive(Debug)]
pub(super) struct Inlet {
    /// Apps without a lane, longest first.
    waiting: VecDeque<SlotKey>,
    gate: Gate,
    /// Lanes that take streams, the newest last.
    lanes: Vec<LaneIx>,
    /// The workers that have such a lane, as control knows it.
    pub hosts: WorkerSet,
}

impl Inlet {
    /// Whether a lane takes streams here.
    pub fn has_lane(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// An app goes on waiting.
    pub fn waits_on(&mut self, key: SlotKey) {
        self.waiting.push_back(key);
    }

    /// Takes the apps that wait.
    pub fn take_waiting(&mut self) -> VecDeque<SlotKey> {
        std::mem::take(&mut self.waiting)
    }
}

impl Default for Inlet {
    fn default() -> Self {
        Inlet {
            waiting: VecDeque::new(),
            gate: Gate::Wait,
            lanes: Vec::new(),
            hosts: WorkerSet::NONE,
        }
    }
}

impl<E: Engine> Worker<E> {
    /// `Command::Gate`.
    pub(super) fn set_gate(&mut self, portal: PortalNo, gate: Gate) {
        let inlet = self.inlets.entry(portal).or_default();
        inlet.gate = gate;
        if let Gate::Reset(why) = gate {
            for key in std::mem::take(&mut inlet.waiting) {
                self.app_give_up(key, why);
            }
        }
    }

    /// An app is here to stay.
    pub(super) fn app_arrived(&mut self, portal: PortalNo, sock: Sock, peer: SocketAddr) {
        self.note_arrival();
        let now = self.now;
        self.inlets.entry(portal).or_default();
        let target = Arc::from("");
        let phase = Phase::Waiting;
        let admitted = self.admit(portal);
        let mut stream = Stream::new(portal, Role::Inlet, peer, target, now, phase);
        let refused = match admitted {
            Ok(limited) => {
                stream.limited = limited;
                None
            }
            Err(why) => Some(why),
        };
        self.counters.streams_total.add(1);
        let Ok(key) = self.net.insert(Some(sock), Conn::Stream(stream)) else {
            return self.count_ended(portal, CloseReason::Overloaded);
        };
        self.counters.streams_open.add(1);
        self.counters.apps_waiting.add(1);
        match refused {
            Some(why) => self.app_give_up(key, why),
            None => self.app_place(key),
        }
        self.listeners_pause();
    }

    /// Gives a waiting app a lane, or a place in the queue, or up if there is nothing to wait for.
    pub(super) fn app_place(&mut self, key: SlotKey) {
        let now = self.now;
        let Some(stream) = self.stream(key) else {
            return;
        };
        let portal = stream.portal;
        let Some(inlet) = self.inlets.get_mut(&portal) else {
            return;
        };
        // By streams, those whose OPEN has not left yet among them; the newest of several.
        let streams = |ix: &LaneIx| self.lanes.get(*ix).map(|l| l.streams + l.tx.fresh.len());
        let lanes = inlet.lanes.iter().rev().copied();
        let lane = lanes.min_by_key(|ix| streams(ix).unwrap_or(usize::MAX));
        match (lane, inlet.gate) {
            (Some(ix), _) => self.app_assign(key, ix),
            (None, Gate::Reset(why)) => self.app_give_up(key, why),
            (None, Gate::Wait) => {
                let first = inlet.waiting.is_empty();
                inlet.waiting.push_back(key);
                self.net.set_deadline(key, now + LANE_WAIT);
                self.net.watch(key);
                if first {
                    self.hint(Event::LaneWanted { portal });
                }
            }
        }
    }

    /// The stream gets its lane; OPEN follows in the next turn.
    fn app_assign(&mut self, key: SlotKey, ix: LaneIx) {
        let turn = self.turn;
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        let (target, dedicated) = (lane.target.clone(), lane.dedicated);
        lane.tx.fresh.push_back((key, turn));
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        stream.target = target;
        stream.rx.own = Own::new(dedicated && !stream.rx.ended);
        stream.lane = Some(ix);
        stream.phase = Phase::Fresh;
        self.counters.apps_waiting.sub(1);
        self.net.set_deadline(key, Instant::FAR_FUTURE);
        self.stream_arm(key);
        self.lane_later(ix);
    }

    /// Opens the streams that came in earlier turns.
    pub(super) fn lane_open_fresh(&mut self, ix: LaneIx) {
        let (now, turn) = (self.now, self.turn);
        // Before the authority's time is known the outlet refuses what is opened.
        let authority_millis = self.shared.authority_millis(now).unwrap_or(0);
        loop {
            let Some(lane) = self.lanes.get_mut(ix) else {
                return;
            };
            let Some(&(key, came)) = lane.tx.fresh.front() else {
                return;
            };
            if came == turn {
                return self.lane_later(ix);
            }
            lane.tx.fresh.pop_front();
            let Some(Conn::Stream(stream)) = self.net.slots.get_mut(key).map(|s| &mut s.conn)
            else {
                continue;
            };
            if !matches!(stream.phase, Phase::Fresh) {
                continue;
            }
            let open = Open {
                target: stream.target.to_string(),
                authority_millis,
                app: Some(stream.peer),
                dedicated: lane.dedicated,
            };
            match lane.proto.open(now, StreamKey(key.slot), &open) {
                Ok(n) => {
                    lane.gains_stream(now);
                    stream.n = Some(n);
                    stream.phase = Phase::Up;
                    let ended = stream.rx.ended;
                    self.stream_watch_quiet(key);
                    self.lane_react(ix);
                    self.stream_queue(key);
                    if ended {
                        self.stream_tell_end(key);
                    }
                }
                Err(_) => self.app_give_up(key, CloseReason::Overloaded),
            }
        }
    }

    /// A lane takes streams from now on: apps that wait go there.
    pub(super) fn inlet_lane_ready(&mut self, portal: PortalNo, ix: LaneIx) {
        let inlet = self.inlets.entry(portal).or_default();
        inlet.lanes.push(ix);
        for key in std::mem::take(&mut inlet.waiting) {
            if self
                .stream(key)
                .is_some_and(|s| matches!(s.phase, Phase::Waiting))
            {
                self.app_assign(key, ix);
            }
        }
        self.inlets_resume();
    }

    /// A lane takes no more streams; those whose OPEN has not left yet look for another.
    pub(super) fn inlet_lane_gone(&mut self, portal: PortalNo, ix: LaneIx) {
        if let Some(inlet) = self.inlets.get_mut(&portal) {
            inlet.lanes.retain(|&lane| lane != ix);
        }
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        for (key, _) in std::mem::take(&mut lane.tx.fresh) {
            let Some(stream) = self.stream_mut(key) else {
                continue;
            };
            if matches!(stream.phase, Phase::Fresh) {
                stream.lane = None;
                stream.phase = Phase::Waiting;
                self.counters.apps_waiting.add(1);
                self.app_place(key);
            }
        }
    }

    /// Resets an app that never got a lane.
    pub(super) fn app_give_up(&mut self, key: SlotKey, why: CloseReason) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        match stream.phase {
            Phase::Waiting | Phase::Fresh => {}
            Phase::Moving | Phase::Connecting(_) | Phase::Up | Phase::Over { .. } => return,
        }
        let (portal, app) = (stream.portal, stream.peer);
        self.stream_refuse(key, why);
        self.hint(Event::AppRefused { portal, app, why });
    }

    /// The deadline of a stream's socket: it waited long enough for a lane, or for a target.
    pub(super) fn stream_due(&mut self, key: SlotKey) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        match stream.phase {
            Phase::Waiting => {
                let portal = stream.portal;
                if let Some(inlet) = self.inlets.get_mut(&portal) {
                    inlet.waiting.retain(|&waiting| waiting != key);
                }
                self.app_give_up(key, CloseReason::NoLane);
            }
            Phase::Connecting(_) => self.target_due(key),
            Phase::Up => {
                if !self.stream_dedicated_due(key) {
                    self.stream_quiet_due(key);
                }
            }
            Phase::Moving | Phase::Fresh | Phase::Over { .. } => {}
        }
    }

    /// Whether a listener may accept now.
    pub(super) fn is_accepting(&self, portal: Option<PortalNo>) -> bool {
        let waiting = portal
            .and_then(|p| self.inlets.get(&p))
            .map_or(0, |i| i.waiting.len());
        self.drain.is_accepting()
            && !self.is_congested()
            && self.net.slots.room() > self.reserve()
            && waiting < APPS_WAITING_MAX
    }

    /// Stops accepting where a bound is reached.
    fn listeners_pause(&mut self) {
        for at in 0..self.listeners.len() {
            let key = self.listeners[at];
            if self.net.is_flying(key, code::ACCEPT) && !self.is_accepting(self.portal_of(key)) {
                self.accept_paused = true;
                self.net.cancel(key);
            }
        }
    }

    /// Accepts again where there is room.
    pub(super) fn inlets_resume(&mut self) {
        if !std::mem::take(&mut self.accept_paused) {
            return;
        }
        for at in 0..self.listeners.len() {
            let key = self.listeners[at];
            if self.net.is_flying(key, code::ACCEPT) {
                // A pause may still be on its way; the listener asks again when it is over.
                continue;
            }
            if self.is_accepting(self.portal_of(key)) {
                self.net.accept(key);
            } else {
                self.accept_paused = true;
            }
        }
    }

    fn portal_of(&self, key: SlotKey) -> Option<PortalNo> {
        match self.net.slots.get(key).map(|slot| &slot.conn) {
            Some(Conn::Listener(listener)) => listener.portal,
            Some(
                Conn::Stranger(_)
                | Conn::Link(_)
                | Conn::Leg(_)
                | Conn::Lane(_)
                | Conn::Circuit(_)
                | Conn::Stream(_),
            )
            | None => None,
        }
    }

    /// Closes an app's connection whatever it is doing.
    pub(super) fn stream_cut(&mut self, key: SlotKey, why: CloseReason) {
        let placed = self.stream(key).and_then(Stream::place).is_some();
        if placed {
            self.stream_stop(key, Close::Reset);
        } else {
            self.stream_refuse(key, why);
        }
    }
}

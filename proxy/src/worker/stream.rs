//! The sockets of apps and targets: what an app sends goes to the lane's queue, what the lane
//! delivers goes to the app.
//!
//! ```text
//! app ──recv──▶ held ──(its turn: sealed into the lane's batch)──▶ lane      `stream.rs`
//! app ◀─SendNow── slice of the lane's buffer ◀── lane                        `stream_out.rs`
//!      ◀─Send──── spill (what SendNow did not take)
//! ```
//!
//! # Rules
//! - At most one receive and one send are in flight. A receive is armed only while nothing is
//!   held, the peer gave credit and the lane is not full, so a slow peer costs one buffer.
//! - An app that is not being read is watched for a hang-up.
//! - FIN of the app becomes END, behind all its data; a reset becomes ABORT at once. The app sees
//!   FIN only for an END that was delivered in full; everything else is a reset.
//! - A slot stays until its socket is closed *and* its number is free on the lane, so the lane's
//!   key for a stream never means another one.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use super::Worker;
use super::circuit::CircuitIx;
use super::circuit_send::ROOM;
use super::conn::Conn;
use super::dedicated::Own;
use super::lane::LaneIx;
use super::net::{Slot, code};
use super::outlet::Connecting;
use super::portal_limits::Limited;
use super::promote::Pace;
use super::slab::SlotKey;
use super::stream_out::{Fin, Tx};
use crate::engine::{Buf, Class, Close, Engine, Outcome};
use crate::error::CloseReason;
use crate::ids::{PortalNo, StreamNo};
use crate::limits::{LANE_PENDING_MAX, RECORD_TAG};
use crate::protocol::command::{Role, StreamReport};
use crate::time::Instant;

/// How far a stream's socket is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Inlet: no lane yet.
    Waiting,
    /// Inlet: no lane here, and on its way to a worker that has one.
    Moving,
    /// Inlet: has a lane; its OPEN leaves in the next turn, with the first bytes if they came.
    Fresh,
    /// Outlet: the target is being dialed.
    Connecting(Box<Connecting>),
    /// Bytes flow.
    Up,
    /// The socket is closed or being closed; `clean` after both FINs, with everything delivered.
    Over { clean: bool },
}

/// From the app towards the lane.
#[derive(Debug)]
pub(super) struct Rx {
    /// Received and not yet sealed.
    pub held: Option<(Buf, Range<usize>)>,
    /// Where the bytes in `held` began when they came.
    start: usize,
    /// Inlet, before OPENED: the first bytes, sealed and kept, because a lane that retires may
    /// refuse the stream before anybody was contacted.
    first: Option<(Buf, Range<usize>)>,
    /// The app sent FIN, and the lane was told unless the stream is not open yet.
    pub ended: bool,
    /// In the lane's queue.
    pub queued: bool,
    /// Waits for the lane to drain.
    pub paused: bool,
    /// The circuit that its bytes leave on.
    pub on: Option<CircuitIx>,
    /// Waits for an idle circuit.
    pub wishes: bool,
    /// Whether it should have a circuit from the first byte on.
    pub own: Own,
    pub pace: Pace,
    /// Both directions of the socket ended and bytes are left to read: a watch would fire again
    /// at once, for as long as the peer grants no credit.
    drained_by_credit: bool,
    /// Class of the next receive: grows when one is filled, shrinks when they stay small.
    class: Class,
    /// Small receives in a row.
    small: u8,
}

/// One application connection at this end.
#[derive(Debug)]
pub(super) struct Stream {
    pub portal: PortalNo,
    pub role: Role,
    /// The lane; `None` before it has one and after it left.
    pub lane: Option<LaneIx>,
    /// Its number there, once the lane knows it.
    pub n: Option<StreamNo>,
    /// The app's or target's address.
    pub peer: SocketAddr,
    /// The target's name.
    pub target: Arc<str>,
    pub began: Instant,
    pub phase: Phase,
    /// The target is connected.
    opened: bool,
    pub rx: Rx,
    pub tx: Tx,
    /// Why the worker itself ended it before the lane knew it.
    pub why: Option<CloseReason>,
    /// Its place among the streams of a portal with limits.
    pub limited: Option<Box<Limited>>,
}

/// After so many receives that would have fitted a Small buffer, a Small one is used again.
const SMALL_IN_A_ROW: u8 = 8;

impl Rx {
    fn new() -> Self {
        Rx {
            held: None,
            start: 0,
            first: None,
            ended: false,
            queued: false,
            paused: false,
            on: None,
            wishes: false,
            own: Own::Shared,
            pace: Pace::default(),
            drained_by_credit: false,
            class: Class::Small,
            small: 0,
        }
    }

    /// Small again, after a stay on a circuit.
    pub fn settle(&mut self) {
        self.pace = Pace::default();
        self.class = Class::Small;
        self.small = 0;
    }

    /// Chooses the class of the next receive from the size of this one.
    fn learn(&mut self, len: usize) {
        if len == self.class.size() {
            self.class = Class::Medium;
            self.small = 0;
        } else if len < Class::Small.size() && self.class != Class::Small {
            self.small += 1;
            if self.small == SMALL_IN_A_ROW {
                self.class = Class::Small;
                self.small = 0;
            }
        }
    }
}

impl Stream {
    pub fn new(
        portal: PortalNo,
        role: Role,
        peer: SocketAddr,
        target: Arc<str>,
        now: Instant,
        phase: Phase,
    ) -> Self {
        Stream {
            portal,
            role,
            lane: None,
            n: None,
            peer,
            target,
            began: now,
            phase,
            opened: role == Role::Outlet,
            rx: Rx::new(),
            tx: Tx::new(),
            why: None,
            limited: None,
        }
    }

    /// Whether the target is connected and nothing sent has to be kept for another lane.
    pub fn is_opened(&self) -> bool {
        self.opened && self.rx.first.is_none()
    }

    /// Its place on its lane, while it has one.
    pub fn place(&self) -> Option<(LaneIx, StreamNo)> {
        self.lane.zip(self.n)
    }
}

impl<E: Engine> Worker<E> {
    pub(super) fn stream(&self, key: SlotKey) -> Option<&Stream> {
        match &self.net.slots.get(key)?.conn {
            Conn::Stream(stream) => Some(stream),
            Conn::Listener(_)
            | Conn::Stranger(_)
            | Conn::Link(_)
            | Conn::Leg(_)
            | Conn::Lane(_)
            | Conn::Circuit(_) => None,
        }
    }

    pub(super) fn stream_mut(&mut self, key: SlotKey) -> Option<&mut Stream> {
        match &mut self.net.slots.get_mut(key)?.conn {
            Conn::Stream(stream) => Some(stream),
            Conn::Listener(_)
            | Conn::Stranger(_)
            | Conn::Link(_)
            | Conn::Leg(_)
            | Conn::Lane(_)
            | Conn::Circuit(_) => None,
        }
    }

    /// A completion of an app's or target's socket.
    pub(super) fn stream_done(&mut self, key: SlotKey, code: u8, what: Outcome) {
        match (code, what) {
            (code::RECV, Outcome::Received { buf, at, len, .. }) => {
                let now = self.now;
                let Some(stream) = self.stream_mut(key) else {
                    return self.net.free(buf);
                };
                if stream.rx.on.is_some() {
                    stream.rx.held = Some((buf, at..at + len));
                    return self.circuit_take(key);
                }
                let bulk = stream.rx.pace.note(len, buf.class(), now);
                if !bulk && !stream.rx.own.is_dedicated() {
                    stream.rx.wishes = false;
                }
                stream.rx.learn(len);
                debug_assert!(
                    stream.rx.held.is_none(),
                    "a receive was armed while one was held"
                );
                stream.rx.held = Some((buf, at..at + len));
                stream.rx.start = at;
                if bulk {
                    self.stream_promote(key);
                }
                self.stream_queue(key);
            }
            (code::RECV, Outcome::Eof { buf }) => {
                if let Some(buf) = buf {
                    self.net.free(buf);
                }
                self.stream_ended(key);
            }
            (code::SEND, Outcome::SentNow { part, moved }) => {
                self.stream_sent_now(key, &part, moved);
                self.net.release(part);
            }
            (code::SEND, Outcome::Sent { buf }) => {
                self.net.free(buf);
                match self.stream(key).map(|stream| &stream.phase) {
                    Some(Phase::Connecting(_)) => self.target_up(key),
                    Some(_) | None => self.stream_sent(key),
                }
            }
            (code::READY, Outcome::Ready(_)) => {
                if !self.app_moves(key) {
                    self.stream_hung_up(key);
                }
            }
            (code::CONNECT, Outcome::Connected) => self.target_connected(key),
            (code::CONNECT, Outcome::Failed { errno, .. }) => self.target_failed(key, errno),
            (code, what) => {
                let unsent = if let Outcome::Failed { errno, .. } = &what
                    && code == code::SEND
                {
                    Some(*errno)
                } else {
                    None
                };
                self.net.reclaim(what);
                let phase = self.stream(key).map(|stream| &stream.phase);
                if let (Some(errno), Some(Phase::Connecting(_))) = (unsent, phase) {
                    // It took no header.
                    self.target_failed(key, errno);
                } else if !self.app_moves(key) {
                    self.stream_app_reset(key);
                }
            }
        }
    }

    /// Watches a socket that is not being read for a hang-up, while one can still come.
    pub(super) fn stream_watch(&mut self, key: SlotKey) {
        if self.stream(key).is_some_and(|s| !s.rx.drained_by_credit) {
            self.net.watch(key);
        }
    }

    /// Puts the stream in line for its lane's batch, if it has something and may send.
    pub(super) fn stream_queue(&mut self, key: SlotKey) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        let Some((ix, n)) = stream.place() else {
            return;
        };
        if stream.rx.held.is_none() || stream.rx.queued {
            return;
        }
        if stream.rx.own.is_held() {
            return self.stream_watch(key);
        }
        let pressed = stream.rx.pace.is_pressed();
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        if lane.proto.sendable(n) == 0 {
            if pressed {
                self.stream_promote(key);
            }
            return self.stream_watch(key);
        }
        lane.tx.turn.push_back(key);
        self.lane_dirty(ix);
        if let Some(stream) = self.stream_mut(key) {
            stream.rx.queued = true;
        }
    }

    /// Credit came: the stream goes on where it stopped.
    pub(super) fn stream_credited(&mut self, key: SlotKey) {
        self.stream_seek_again(key);
        self.stream_queue(key);
        self.stream_arm(key);
    }

    /// Receives from the app, if there is room for what comes.
    pub(super) fn stream_arm(&mut self, key: SlotKey) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        let rx = &stream.rx;
        if rx.first.is_some() {
            // Nothing more is taken before the target answers: what was sent can be sent again.
            return self.stream_watch(key);
        }
        if rx.held.is_some() || rx.ended {
            return;
        }
        if let Some(ix) = rx.on {
            if matches!(stream.phase, Phase::Up) && self.circuit_takes(ix) {
                let class = self.bulk_class();
                self.net.recv_roomy(key, class, ROOM, RECORD_TAG);
            } else {
                self.stream_watch(key);
            }
            return;
        }
        if rx.paused {
            return;
        }
        match stream.phase {
            Phase::Fresh | Phase::Up => {}
            Phase::Waiting | Phase::Moving | Phase::Connecting(_) | Phase::Over { .. } => return,
        }
        let class = rx.class;
        if let Some((ix, n)) = stream.place() {
            let Some(lane) = self.lanes.get_mut(ix) else {
                return;
            };
            if lane.proto.sendable(n) == 0 {
                return self.stream_watch(key);
            }
            if lane.tx.pending >= LANE_PENDING_MAX {
                lane.tx.paused.push_back(key);
                if let Some(stream) = self.stream_mut(key) {
                    stream.rx.paused = true;
                }
                return self.stream_watch(key);
            }
        }
        self.net.recv_any(key, class);
    }

    /// Everything that was held is sealed: the app is read again, or its FIN passed on.
    pub(super) fn stream_sealed(&mut self, key: SlotKey) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        let ended = stream.rx.ended;
        match stream.rx.held.take() {
            Some((buf, _)) if stream.opened => self.net.free(buf),
            Some((buf, range)) => stream.rx.first = Some((buf, stream.rx.start..range.end)),
            None => {}
        }
        if ended {
            self.stream_tell_end(key);
        } else {
            self.stream_arm(key);
        }
    }

    /// Inlet: the target is connected. The first bytes won't be needed again.
    pub(super) fn stream_opened(&mut self, key: SlotKey) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        stream.opened = true;
        if let Some((buf, _)) = stream.rx.first.take() {
            self.net.free(buf);
        }
        self.stream_dedicate(key);
        self.stream_arm(key);
    }

    /// Inlet: the lane was retiring and nobody was contacted: the stream looks for another lane,
    /// with all it has sent.
    pub(super) fn stream_retry(&mut self, key: SlotKey) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        let Some((ix, _)) = stream.place() else {
            return;
        };
        stream.lane = None;
        stream.n = None;
        stream.rx.queued = false;
        let start = stream.rx.start;
        if let Some(first) = stream.rx.first.take() {
            stream.rx.held = Some(first);
        } else if let Some((_, range)) = &mut stream.rx.held {
            range.start = start;
        }
        stream.phase = Phase::Waiting;
        self.counters.apps_waiting.add(1);
        if let Some(lane) = self.lanes.get_mut(ix) {
            lane.streams -= 1;
        }
        self.app_place(key);
    }

    /// The app sent FIN: END follows its data, and from now on it is watched for a hang-up.
    fn stream_ended(&mut self, key: SlotKey) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        stream.rx.ended = true;
        self.stream_hurry(key);
        self.stream_watch(key);
        self.stream_tell_end(key);
    }

    /// Tells the lane of the FIN, once the lane knows the stream and nothing is held.
    pub(super) fn stream_tell_end(&mut self, key: SlotKey) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        let Some((ix, n)) = stream.place() else {
            return;
        };
        if stream.rx.held.is_some() {
            return;
        }
        self.circuit_release(key);
        if let Some(lane) = self.lanes.get_mut(ix) {
            lane.proto.on_app_fin(n);
            self.lane_react(ix);
        }
        self.stream_pump(key);
    }

    /// The watch fired: a reset, or an end of both directions that the receive reports as well.
    fn stream_hung_up(&mut self, key: SlotKey) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        match (stream.tx.fin, stream.rx.ended) {
            (Fin::Sent, true) => {}
            (Fin::Sent, false) => {
                if let Some(stream) = self.stream_mut(key) {
                    stream.rx.drained_by_credit = true;
                }
                self.stream_arm(key);
            }
            (Fin::No | Fin::Wanted, _) => self.stream_app_reset(key),
        }
    }

    /// The app or target reset its connection, or it is unusable.
    pub(super) fn stream_app_reset(&mut self, key: SlotKey) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        if matches!(stream.phase, Phase::Over { .. }) {
            return;
        }
        match stream.place() {
            Some((ix, n)) => {
                self.stream_stop(key, Close::Reset);
                if let Some(lane) = self.lanes.get_mut(ix) {
                    lane.proto.on_app_reset(n, CloseReason::AppReset);
                    self.lane_react(ix);
                }
            }
            None => self.stream_refuse(key, CloseReason::AppReset),
        }
    }

    /// Resets an app that has no number on a lane yet.
    pub(super) fn stream_refuse(&mut self, key: SlotKey, why: CloseReason) {
        if let Some(stream) = self.stream_mut(key) {
            stream.why.get_or_insert(why);
            stream.lane = None;
        }
        self.stream_stop(key, Close::Reset);
    }

    /// First step of closing the socket. What is held or spilled is dropped: the caller has
    /// delivered it, or resets.
    pub(super) fn stream_stop(&mut self, key: SlotKey, how: Close) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        if matches!(stream.phase, Phase::Waiting) {
            self.counters.apps_waiting.sub(1);
        }
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        stream.phase = Phase::Over {
            clean: how == Close::Fin,
        };
        stream.tx.forget();
        let from = stream.tx.from.take();
        for (buf, _) in stream
            .rx
            .held
            .take()
            .into_iter()
            .chain(stream.rx.first.take())
        {
            self.net.free(buf);
        }
        if let Some(ix) = from {
            self.circuit_unrun(ix);
        }
        self.circuit_release(key);
        self.net.terminate(key, how);
    }

    /// The socket is closed: the slot is free once the lane has no use for it.
    pub(super) fn stream_closed(&mut self, key: SlotKey) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        if let Phase::Connecting(_) = stream.phase {
            return self.target_next(key);
        }
        if let Some((ix, n)) = stream.place() {
            if matches!(stream.phase, Phase::Over { clean: true })
                && stream.role == Role::Outlet
                && let Some(lane) = self.lanes.get_mut(ix)
            {
                lane.proto.on_app_closed(n);
                self.lane_react(ix);
            }
            return;
        }
        self.stream_gone(key);
    }

    /// The lane has freed the number: one reason, one report.
    pub(super) fn stream_freed(
        &mut self,
        key: SlotKey,
        why: CloseReason,
        sent: u64,
        received: u64,
    ) {
        let now = self.now;
        let Some(stream) = self.stream_mut(key) else {
            debug_assert!(false, "a lane freed a stream that is gone");
            return;
        };
        let Some((ix, n)) = stream.place() else {
            return;
        };
        stream.lane = None;
        stream.n = None;
        stream.why = Some(why);
        let (portal, role) = (stream.portal, stream.role);
        let target = stream.target.to_string();
        let duration = now.since(stream.began);
        if let Some(lane) = self.lanes.get_mut(ix) {
            lane.streams -= 1;
            let report = StreamReport {
                portal,
                role,
                peer: lane.permit.peer,
                bundle: lane.bundle,
                stream: n.0,
                target,
                bytes_sent: sent,
                bytes_received: received,
                duration,
                why,
            };
            self.tell(crate::protocol::command::Event::Stream(Box::new(report)));
        }
        let over = self
            .stream(key)
            .is_some_and(|s| matches!(s.phase, Phase::Over { .. }));
        if !over && why == CloseReason::Finished {
            // CLOSED came with the last bytes: the app's FIN is still owed.
            self.touched.push(key);
        } else if !over {
            self.stream_stop(key, Close::Reset);
        } else if self.net.slots.get(key).is_some_and(Slot::is_closed) {
            self.stream_gone(key);
        }
    }

    /// Frees the slot.
    fn stream_gone(&mut self, key: SlotKey) {
        if let Some(Conn::Stream(stream)) = self.net.remove(key) {
            let why = stream.why.unwrap_or(CloseReason::Finished);
            self.counters.streams_open.sub(1);
            self.count_ended(stream.portal, why);
            self.inlets_resume();
        }
    }

    /// Gets its turn after waiting for a buffer.
    pub(super) fn stream_resume(&mut self, key: SlotKey) {
        self.stream_pump(key);
        if self
            .stream(key)
            .is_some_and(|s| s.rx.on.is_some() && s.rx.held.is_some())
        {
            return self.circuit_take(key);
        }
        self.stream_arm(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receive_that_fills_its_buffer_is_followed_by_a_larger_one() {
        let mut rx = Rx::new();
        rx.learn(Class::Small.size());
        assert_eq!(rx.class, Class::Medium);
        for _ in 1..SMALL_IN_A_ROW {
            rx.learn(100);
            assert_eq!(rx.class, Class::Medium);
        }
        rx.learn(100);
        assert_eq!(rx.class, Class::Small);
    }
}

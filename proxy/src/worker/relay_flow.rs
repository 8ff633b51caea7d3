//! Forwarding between two paired legs: two independent directions.
//!
//! ```text
//! leg A ──recv──▶ held? ──send──▶ leg B        flow of A
//! leg A ◀──send── held? ◀──recv── leg B        flow of B
//! ```
//!
//! In a direction one receive and one send are in flight; the next receive runs while the last
//! send does, and is not armed while a received buffer still waits for that send. So a slow
//! reader holds two buffers, and a turn moves at most one receive (`Class::Large`, below
//! `limits::TURN_BYTES_MAX`) per direction.
//!
//! A direction that proves to be bulk has a pipe instead, see [`relay_splice`](super::relay_splice):
//! `recv` is then a wait for bytes and `send` one for room, on the same two places.
//!
//! Half-close is forwarded as FIN behind the last byte, a reset or any error as a reset.

use std::ops::Range;

use super::Worker;
use super::net::code;
use super::relay::State;
use super::slab::SlotKey;
use crate::engine::{Buf, Class, Close, Engine, Outcome, Pipe};
use crate::limits::{SPLICE_AFTER_FULL, TURN_BYTES_MAX};

const _: () = assert!(Class::Large.size() <= TURN_BYTES_MAX);

/// One direction, kept with the leg it reads from.
#[derive(Debug)]
pub(super) struct Flow {
    /// Received and waiting for the send in flight.
    held: Option<(Buf, Range<usize>)>,
    /// Bytes that came behind the preface: they go first.
    first: Vec<u8>,
    /// FIN was read.
    ended: bool,
    /// FIN was passed on.
    finished: bool,
    class: Class,
    /// Receives in a row that would have fitted the next smaller class; with a pipe, small moves.
    pub small: u8,
    /// Receives in a row that filled their buffer, or a Medium one.
    pub full: u8,
    /// What it goes through while it is bulk.
    pub pipe: Option<Box<Pipe>>,
}

/// A receive that leaves no more room than this filled its buffer: the engine may keep a little.
const NEARLY: usize = 64;
/// After so many small receives the next smaller class is used.
const SMALL_IN_A_ROW: u8 = 16;

impl Flow {
    pub fn new(first: Vec<u8>) -> Self {
        Flow {
            held: None,
            first,
            ended: false,
            finished: false,
            class: Class::Small,
            small: 0,
            full: 0,
            pipe: None,
        }
    }

    /// The class of the next receive: up when one was filled, down after many small ones.
    fn learn(&mut self, len: usize) {
        let smaller = match self.class {
            Class::Small | Class::Medium => Class::Small,
            Class::Large | Class::Bulk => Class::Medium,
        };
        let filled = len + NEARLY >= self.class.size();
        self.full = if filled || len + NEARLY >= Class::Medium.size() {
            self.full.saturating_add(1)
        } else {
            0
        };
        if filled {
            self.small = 0;
            self.class = if self.class == Class::Small {
                Class::Medium
            } else {
                Class::Large
            };
        } else if len < smaller.size() && smaller != self.class {
            self.small += 1;
            if self.small == SMALL_IN_A_ROW {
                self.small = 0;
                self.class = smaller;
            }
        } else {
            self.small = 0;
        }
    }

    /// Keeps bytes that came before the leg was paired: at most one receive of them.
    pub fn early(&mut self, bytes: &[u8]) {
        self.first.extend_from_slice(bytes);
    }

    /// Takes the early bytes.
    pub fn take_first(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.first)
    }

    /// It has proved to be bulk.
    fn is_bulk(&self) -> bool {
        self.full >= SPLICE_AFTER_FULL
    }

    /// It goes through a pipe.
    pub fn is_spliced(&self) -> bool {
        self.pipe.is_some()
    }

    /// Takes the pipe, to give it back.
    pub fn take_pipe(&mut self) -> Option<Box<Pipe>> {
        self.pipe.take()
    }

    /// Begins again as a direction of which nothing is known.
    pub fn forget(&mut self) {
        self.class = Class::Small;
        self.small = 0;
        self.full = 0;
    }

    /// Takes what is held, to free it.
    pub fn take_held(&mut self) -> Option<Buf> {
        self.held.take().map(|(buf, _)| buf)
    }
}

impl<E: Engine> Worker<E> {
    /// Both legs have their answers on the way: bytes flow from now on.
    pub(super) fn flow_start(&mut self, key: SlotKey) {
        let Some(leg) = self.leg_mut(key) else { return };
        if leg.flow.first.is_empty() {
            return self.flow_arm(key);
        }
        let class = if leg.flow.first.len() <= Class::Small.size() {
            Class::Small
        } else {
            Class::Medium
        };
        let Some(mut buf) = self.net.engine.alloc(class) else {
            self.counters.starved.add(1);
            return self.net.starve(key);
        };
        let Some(leg) = self.leg_mut(key) else {
            return self.net.free(buf);
        };
        let first = std::mem::take(&mut leg.flow.first);
        let len = first.len().min(buf.len());
        debug_assert_eq!(len, first.len(), "more early bytes than one receive holds");
        buf[..len].copy_from_slice(&first[..len]);
        self.flow_received(key, buf, 0..len);
    }

    /// Receives from the leg while nothing is held. A direction that has proved to be bulk waits
    /// for bytes instead, if there is a pipe for it.
    pub(super) fn flow_arm(&mut self, key: SlotKey) {
        let Some(leg) = self.leg_mut(key) else { return };
        if leg.flow.held.is_some() || leg.flow.ended {
            return;
        }
        let class = leg.flow.class;
        if leg.flow.is_spliced() || leg.flow.is_bulk() && self.splice_begin(key) {
            self.net.wait_bytes(key);
        } else {
            self.net.recv_any(key, class);
        }
    }

    /// Bytes came in on a paired leg.
    pub(super) fn flow_received(&mut self, key: SlotKey, buf: Buf, range: Range<usize>) {
        let Some(leg) = self.leg_mut(key) else {
            return self.net.free(buf);
        };
        leg.flow.learn(range.len());
        debug_assert!(
            leg.flow.held.is_none(),
            "a receive was armed while one was held"
        );
        leg.flow.held = Some((buf, range));
        self.flow_pump(key);
    }

    /// FIN came in on a paired leg: it is watched for a hang-up from now on.
    pub(super) fn flow_ended(&mut self, key: SlotKey) {
        let Some(leg) = self.leg_mut(key) else { return };
        leg.flow.ended = true;
        self.net.watch(key);
        self.flow_pump(key);
    }

    /// Moves what the leg received on to its counterpart, then the FIN.
    pub(super) fn flow_pump(&mut self, key: SlotKey) {
        let Some(leg) = self.leg_mut(key) else { return };
        let State::Paired(to) = leg.state else { return };
        if self.net.is_flying(to, code::SEND) {
            return;
        }
        if self.leg_mut(to).is_some_and(|other| other.answer.is_some()) {
            return;
        }
        let Some(leg) = self.leg_mut(key) else { return };
        if let Some((buf, range)) = leg.flow.held.take() {
            self.counters.bytes_relayed.add(range.len() as u64);
            self.net.send(to, buf, range);
            return self.flow_arm(key);
        }
        if leg.flow.is_spliced() {
            // While it waits for bytes, its pipe is empty.
            if !self.net.is_flying(key, code::RECV) {
                self.splice(key, to);
            }
            return;
        }
        if leg.flow.ended && !leg.flow.finished {
            leg.flow.finished = true;
            let finished = self.net.finish(to);
            let both = self.leg_mut(to).is_some_and(|other| other.flow.finished);
            match (finished, both) {
                (false, _) => self.pair_close(key, Close::Reset),
                (true, true) => self.pair_close(key, Close::Fin),
                (true, false) => {}
            }
        }
    }

    /// A completion of a paired leg.
    pub(super) fn flow_done(&mut self, key: SlotKey, to: SlotKey, code: u8, what: Outcome) {
        match (code, what) {
            (code::RECV, Outcome::Received { buf, at, len, .. }) => {
                self.flow_received(key, buf, at..at + len);
            }
            (code::RECV, Outcome::Eof { buf }) => {
                if let Some(buf) = buf {
                    self.net.free(buf);
                }
                self.flow_ended(key);
            }
            (code::SEND, Outcome::Sent { buf }) => {
                self.net.free(buf);
                // What was sent here came from the counterpart: its next bytes may follow.
                self.flow_pump(to);
            }
            (code::RECV, Outcome::Ready(_)) => {
                let spliced = self.leg_mut(key).is_some_and(|leg| leg.flow.is_spliced());
                if spliced {
                    self.flow_pump(key);
                } else {
                    // It gave its pipe back while it waited.
                    self.flow_arm(key);
                }
            }
            (code::SEND, Outcome::Ready(_)) => self.flow_pump(to),
            // Both directions ended: closing is on its way, or the other one's bytes still are.
            (code::READY, Outcome::Ready(_)) if self.flow_is_over(key) => {}
            (_, what) => {
                self.net.reclaim(what);
                self.pair_close(key, Close::Reset);
            }
        }
    }

    /// Whether FIN went both ways on this leg, so that its hang-up says nothing new.
    fn flow_is_over(&mut self, key: SlotKey) -> bool {
        let Some(leg) = self.leg_mut(key) else {
            return true;
        };
        let (ended, state) = (leg.flow.ended, leg.state);
        let State::Paired(to) = state else {
            return true;
        };
        ended && self.leg_mut(to).is_some_and(|other| other.flow.finished)
    }

    /// Closes both legs of a pair.
    pub(super) fn pair_close(&mut self, key: SlotKey, how: Close) {
        let Some(leg) = self.leg_mut(key) else { return };
        let (State::Paired(to) | State::Leaving(to, _)) = leg.state else {
            return;
        };
        self.leg_stop(key, how);
        self.leg_stop(to, how);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receive_grows_with_the_flow_and_shrinks_when_it_stays_small() {
        let mut flow = Flow::new(Vec::new());
        for class in [Class::Small, Class::Medium, Class::Large] {
            assert_eq!(flow.class, class);
            flow.learn(class.size());
        }
        assert_eq!(flow.class, Class::Large);
        for _ in 0..SMALL_IN_A_ROW {
            flow.learn(100);
        }
        assert_eq!(flow.class, Class::Medium);
        for _ in 0..SMALL_IN_A_ROW {
            flow.learn(100);
        }
        assert_eq!(flow.class, Class::Small);
    }
}

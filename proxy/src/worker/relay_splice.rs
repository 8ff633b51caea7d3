//! Forwarding in bulk: a direction's bytes go through a pipe and never come to user space.
//!
//! ```text
//! leg A ──splice──▶ pipe ──splice──▶ leg B
//!   wait for bytes        wait for room
//!   while it is empty     while it is not
//! ```
//!
//! A direction whose last `limits::SPLICE_AFTER_FULL` receives were full gets a pipe, if one is to be
//! had; what user space still holds is sent first, because a pipe is used only when no
//! send is in flight. From then on each turn moves at most what the pipe holds and at most
//! `limits::TURN_BYTES_MAX`: once in, once out. What the other leg does not take stays in the pipe,
//! and nothing more is read before it has left, so a slow reader holds one pipe, as full as it was.
//!
//! The pipe is given back, and the direction receives and sends again, when nothing moved for
//! `limits::SPLICE_QUIET`, when `limits::SPLICE_UNTIL_SMALL` moves in a row were small (two system
//! calls and a wait cost more than copying little), and at the end of the direction. A blocked
//! direction is not quiet: it keeps its pipe until the other leg reads or is closed.

use std::io::ErrorKind;

use super::Worker;
use super::slab::SlotKey;
use crate::engine::{Class, Close, Engine, Pipe};
use crate::limits::{SPLICE_QUIET, SPLICE_UNTIL_SMALL, TURN_BYTES_MAX};

impl<E: Engine> Worker<E> {
    /// Gives a bulk direction a pipe. False when there is none: it must prove itself anew before
    /// it asks again.
    pub(super) fn splice_begin(&mut self, key: SlotKey) -> bool {
        let pipe = self.net.engine.pipe();
        let Some(leg) = self.leg_mut(key) else {
            if let Some(pipe) = pipe {
                self.net.engine.recycle(pipe);
            }
            return false;
        };
        leg.flow.full = 0;
        leg.flow.small = 0;
        let begun = pipe.is_some();
        leg.flow.pipe = pipe.map(Box::new);
        if begun {
            self.counters.pipes_in_use.add(1);
            self.net.set_deadline(key, self.now + SPLICE_QUIET);
        } else {
            self.counters.pipes_refused.add(1);
        }
        begun
    }

    /// One turn of a spliced direction: no send is in flight on `to`.
    pub(super) fn splice(&mut self, key: SlotKey, to: SlotKey) {
        let Some(mut pipe) = self.leg_mut(key).and_then(|leg| leg.flow.take_pipe()) else {
            return;
        };
        let step = self.splice_step(key, to, &mut pipe);
        let is_empty = pipe.held() == 0;
        let Some(leg) = self.leg_mut(key) else {
            return self.pipe_back(*pipe);
        };
        match step {
            Step::Moved { small } => {
                leg.flow.small = if small { leg.flow.small + 1 } else { 0 };
                if is_empty && leg.flow.small == SPLICE_UNTIL_SMALL {
                    leg.flow.forget();
                    self.pipe_back(*pipe);
                    return self.flow_arm(key);
                }
                leg.flow.small = leg.flow.small.min(SPLICE_UNTIL_SMALL - 1);
                leg.flow.pipe = Some(pipe);
                self.net.set_deadline(key, self.now + SPLICE_QUIET);
            }
            Step::Waits => leg.flow.pipe = Some(pipe),
            Step::Ended => {
                self.pipe_back(*pipe);
                return self.flow_ended(key);
            }
            Step::Broken => {
                self.pipe_back(*pipe);
                return self.pair_close(key, Close::Reset);
            }
            Step::NotHere => self.pipe_back(*pipe),
        }
        if is_empty {
            self.flow_arm(key);
        } else {
            self.net.wait_room(to);
        }
    }

    /// Once in, once out.
    fn splice_step(&mut self, key: SlotKey, to: SlotKey, pipe: &mut Pipe) -> Step {
        let mut step = Step::Waits;
        if pipe.held() == 0 {
            match self.net.splice_in(key, pipe, TURN_BYTES_MAX) {
                Ok(0) => return Step::Ended,
                Ok(moved) => {
                    self.counters.splices.add(1);
                    let small = moved < Class::Medium.size();
                    step = Step::Moved { small };
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Waits,
                // Nothing was moved: the direction goes on without pipes.
                Err(error) if error.kind() == ErrorKind::Unsupported => return Step::NotHere,
                Err(_) => return Step::Broken,
            }
        }
        match self.net.splice_out(pipe, to) {
            Ok(moved) => {
                self.counters.bytes_spliced.add(moved as u64);
                self.counters.bytes_relayed.add(moved as u64);
                if step == Step::Waits {
                    step = Step::Moved { small: false };
                }
                step
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => step,
            Err(_) => Step::Broken,
        }
    }

    /// Nothing moved on a direction for `limits::SPLICE_QUIET`. What it waits for it goes on
    /// waiting for.
    pub(super) fn splice_quiet(&mut self, key: SlotKey) {
        let Some(leg) = self.leg_mut(key) else { return };
        if leg.flow.pipe.as_ref().is_some_and(|pipe| pipe.held() > 0) {
            return;
        }
        if let Some(pipe) = leg.flow.take_pipe() {
            leg.flow.forget();
            self.pipe_back(*pipe);
        }
    }

    /// Gives a pipe back.
    pub(super) fn pipe_back(&mut self, pipe: Pipe) {
        self.counters.pipes_in_use.sub(1);
        self.net.engine.recycle(pipe);
    }
}

/// What a turn of a spliced direction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Bytes moved, few of them from the leg if `small`.
    Moved { small: bool },
    /// Nothing was there, or nothing was taken.
    Waits,
    /// FIN, and the pipe is empty.
    Ended,
    /// The connection is lost.
    Broken,
    /// Splicing does not work here, and nothing was moved.
    NotHere,
}

//! One end of a lane: many streams on one sealed connection, as a state machine without I/O.
//!
//! No bytes of apps are in here, only lengths and states. The owner of the sockets (the worker)
//! seals, opens, reads and writes; the lane says what may be sent, what a record means, and what
//! control records have to leave.
//!
//! # Contract
//! 1. *Receiving.* Every opened record goes to [`Lane::on_record`], in order. `Err` ends the
//!    lane: call [`Lane::on_lost`] and close.
//! 2. *Reactions.* After each call of any method, [`Lane::poll_reaction`] until it is empty. A
//!    [`Reaction::Deliver`] or [`Reaction::Hold`] is about the payload of the record just given.
//! 3. *Sending.* Whenever something may leave, first drain [`Lane::next_control`], then seal DATA,
//!    at most [`Lane::sendable`] bytes of each stream, and say so ([`Lane::on_app_data`]). So OPEN
//!    precedes its DATA. Call [`Lane::on_app_fin`] only when all bytes before the FIN are sealed,
//!    so DATA precedes END.
//! 4. *Outlet.* On [`Reaction::Connect`] call [`Lane::bind`] or [`Lane::on_connect_failed`] before
//!    the next record, later [`Lane::on_connected`] or `on_connect_failed`. Check the target's
//!    name against the permit; the lane has checked its form and age.
//! 5. *App gone.* [`Reaction::Freed`] is the last word about a key, and every key that was opened
//!    or bound gets one, except after [`Reaction::Retry`], which is a last word too. After it, say
//!    nothing more about that stream: its number may serve another. A reset of the app, by either
//!    side, is followed by Freed at once; the number stays taken until the other end has answered.
//! 6. *Circuits.* [`Lane::add_circuit`], [`Lane::on_circuit_record`] and
//!    [`Lane::on_circuit_lost`] are to a circuit what `new`, `on_record` and `on_lost` are to the
//!    lane. A violation on a circuit ends the lane. [`Lane::promote`] moves a sending direction
//!    there; after [`Reaction::Moved`] its DATA leaves on the circuit, behind what
//!    [`Lane::next_circuit_control`] gives. What circuits have to say by themselves is found by
//!    [`Lane::next_circuit_due`].
//! 7. *Fresh keys.* [`Reaction::Exchange`] goes to control; what it makes of it comes back by
//!    [`Lane::exchange`] and, with the secret, [`Lane::mix`]. Behind the control records, seal a
//!    KEY_UPDATE that mixes it in when [`Lane::mix_due`] names it, and say so ([`Lane::on_mixed`]).
//!    After [`Reaction::Mixed`] the secret is of no more use.
//! 8. *Time.* Call [`Lane::on_timer`] when [`Lane::next_deadline`] has come.
//!
//! # How streams and numbers end
//! ```text
//! END both ways, all written   outlet: on_app_closed → CLOSED leaves → number free
//!                              inlet:  CLOSED read, all delivered    → number free
//! ABORT each way               the one that answers waits until its ABORT has left
//! REFUSED                      is the outlet's ABORT
//! ```
//! A number is never given to a new stream while a record of the old one can still leave: what is
//! queued for a number is emitted before it is free.
//!
//! # Bounds
//! Numbers are dense (an OPEN may exceed the highest number so far by one), so memory follows the
//! streams that were open at once, at most `limits::LANE_STREAMS_MAX`. Control records are queued
//! one per kind and stream. Credit beyond the initial grants comes from [`LaneShared`]'s budget.

mod app;
mod check;
mod circuit_receive;
mod circuit_send;
mod circuits;
mod control;
mod exchange;
mod path;
mod reaction;
mod receive;
mod shared;
mod slot;
mod violation;
mod waits;
mod window;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::command::Role;
use super::stream::{Action, Input, State, Visits, step};
use crate::blocks::Blocks;
use crate::error::CloseReason;
use crate::ids::StreamNo;
use crate::limits::LANE_STREAMS_MAX;

pub use self::circuit_receive::Took;
pub use self::circuit_send::Stays;
pub use self::reaction::{Reaction, StreamKey};
pub use self::shared::LaneShared;
pub use self::violation::{OpenRefused, Violation};

use self::circuits::Circuits;
use self::control::LaneControl;
use self::exchange::Exchange;
use self::shared::Grants;
use self::slot::Slot;
use self::waits::Waits;

/// How far the lane itself is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// READY was neither read (inlet) nor given out (outlet).
    Starting,
    /// Streams may live.
    Up,
    /// Denied or lost.
    Gone,
}

/// One end of a lane. See the module's contract.
#[derive(Debug)]
pub struct Lane {
    role: Role,
    phase: Phase,
    /// Stream `n` is at index `n − 1`.
    slots: Blocks<Slot>,
    /// Inlet: numbers within `slots` that are free.
    free: BinaryHeap<Reverse<u16>>,
    /// Slots that are not free.
    live: usize,
    /// Streams with something queued, each once.
    queue: VecDeque<u16>,
    control: LaneControl,
    exchange: Exchange,
    circuits: Circuits,
    waits: Waits,
    grants: Grants,
    reactions: VecDeque<Reaction>,
    visits: Visits,
    /// We sent (or queued) RETIRE.
    retiring: bool,
    /// The peer did.
    peer_retiring: bool,
    shared: LaneShared,
}

impl Lane {
    /// Bytes of memory that a number in use costs.
    #[cfg(test)]
    pub(crate) const STREAM: usize = size_of::<Slot>() + Waits::LINK;

    /// A lane whose handshake is done. The outlet's READY is queued.
    pub fn new(role: Role, shared: &LaneShared) -> Lane {
        let ready = (role == Role::Outlet).then_some(Reaction::Ready);
        Lane {
            role,
            phase: Phase::Starting,
            slots: Blocks::default(),
            free: BinaryHeap::new(),
            live: 0,
            queue: VecDeque::new(),
            control: LaneControl::new(role),
            exchange: Exchange::default(),
            circuits: Circuits::default(),
            waits: Waits::default(),
            grants: Grants::new(shared),
            reactions: ready.into_iter().collect(),
            visits: Visits::default(),
            retiring: false,
            peer_retiring: false,
            shared: shared.clone(),
        }
    }

    /// The next thing to do. Poll until `None` after every other call.
    pub fn poll_reaction(&mut self) -> Option<Reaction> {
        self.reactions.pop_front()
    }

    /// Streams whose number is in use.
    pub fn streams(&self) -> usize {
        self.live
    }

    /// Inlet: whether streams may be opened.
    pub fn takes_streams(&self) -> bool {
        self.phase == Phase::Up && !self.retiring && !self.peer_retiring
    }

    /// Whether the lane retires, nothing is left on it and everything queued was given out. The
    /// inlet may close it then; an outlet waits for that, since OPENs may still be under way.
    pub fn is_spent(&self) -> bool {
        (self.retiring || self.peer_retiring) && self.live == 0 && !self.has_control()
    }

    /// Which cells of the stream table were visited. For tests that must visit them all.
    pub fn visited(&self) -> Visits {
        self.visits
    }

    /// The slot of a number that is or was in use.
    fn slot_mut(&mut self, n: StreamNo) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(n.0).checked_sub(1)?)
    }

    fn slot(&self, n: StreamNo) -> Option<&Slot> {
        self.slots.get(usize::from(n.0).checked_sub(1)?)
    }

    /// Moves stream `n` by the table. `Err` is an empty cell and the state it is in.
    fn advance(&mut self, n: StreamNo, input: Input) -> Result<Action, State> {
        let role = self.role;
        let Some(slot) = self.slot_mut(n) else {
            return Err(State::Free);
        };
        let state = slot.state;
        let (next, action) = step(role, state, input).ok_or(state)?;
        slot.state = next;
        self.visits.note(state, input);
        let waits = |state| matches!(state, State::Opening { .. } | State::Connecting { .. });
        if waits(state) && !waits(next) {
            self.waits.remove(n.0);
        }
        Ok(action)
    }

    /// A lowest free number, taken. Inlet.
    fn take_number(&mut self) -> Result<StreamNo, OpenRefused> {
        if let Some(Reverse(n)) = self.free.pop() {
            return Ok(StreamNo(n));
        }
        let next = self.slots.len() + 1;
        let n = u16::try_from(next)
            .ok()
            .filter(|_| next <= LANE_STREAMS_MAX);
        let n = n.ok_or(OpenRefused::Full)?;
        self.slots.push(Slot::default());
        Ok(StreamNo(n))
    }

    /// Tells the owner that the stream is over and forgets its key.
    fn release_key(&mut self, n: StreamNo, why: CloseReason) {
        let Some(slot) = self.slot_mut(n) else { return };
        let Some(key) = slot.key.take() else { return };
        let (sent, received) = (slot.sent, slot.delivered());
        let grown = slot.window.shrink();
        self.grants.give_back(grown);
        self.reactions.push_back(Reaction::Freed {
            n,
            key,
            why,
            sent,
            received,
        });
    }

    /// Frees the number if nothing is left of its stream: call after anything that may have been
    /// the last.
    fn settle(&mut self, n: StreamNo) {
        let Some(slot) = self.slot_mut(n) else { return };
        match slot.state {
            State::Closing { closed: true } if slot.is_delivered() => {
                slot.state = State::Free;
                self.release_key(n, CloseReason::Finished);
            }
            State::Draining(draining) if draining.answered && slot.queued.is_empty() => {
                slot.state = State::Free;
            }
            State::Free => {}
            State::Opening { .. }
            | State::Connecting { .. }
            | State::Flowing
            | State::LocalDone
            | State::PeerDone
            | State::Closing { .. }
            | State::Draining(_) => return,
        }
        let Some(slot) = self.slot_mut(n) else { return };
        if slot.queued.is_empty() && slot.taken {
            debug_assert!(slot.key.is_none(), "a number is freed with an app on it");
            self.leave_unread(n);
            let Some(slot) = self.slot_mut(n) else { return };
            *slot = Slot::default();
            self.live -= 1;
            if self.role == Role::Inlet {
                self.free.push(Reverse(n.0));
                #[cfg(feature = "planted")]
                if crypto::planted::is(crypto::planted::Bug::DoubleFree) {
                    self.free.push(Reverse(n.0));
                }
            }
        }
    }
}

//! Our directions on circuits: leaving the lane, ending a run, coming back.

use super::circuits::{Ending, Retire, Run, Sending};
use super::path::{Inward, Outward};
use super::slot::Queued;
use super::{Lane, Phase, Reaction};
use crate::error::CloseReason;
use crate::ids::{CircuitNo, StreamNo};
use crate::limits::{CIRCUIT_PAYLOAD_MAX, CIRCUITS_MAX, WANT_AGAIN};
use crate::protocol::command::Role;
use crate::protocol::record::{Body, Header, Switch};
use crate::protocol::stream::{Action, Input};
use crate::time::Instant;

/// Why a direction stays on the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stays {
    /// No circuit's direction is idle.
    #[error("no circuit is idle")]
    NoCircuit,
    /// The direction is over, on its way, or its last run was not read to its end.
    #[error("the direction can't leave the lane now")]
    NotNow,
}

impl Lane {
    /// The bundle has a circuit of this number now, its handshake done. The outlet's READY is
    /// queued; [`Reaction::CircuitReady`] follows there at once, at an inlet when READY was read.
    /// False, and nothing has changed, when there are `limits::CIRCUITS_MAX` or one of that number.
    pub fn add_circuit(&mut self, no: CircuitNo) -> bool {
        let room = self.circuits.table.len() < CIRCUITS_MAX;
        if no == CircuitNo(0) || !room || self.circuits.get(no).is_some() {
            return false;
        }
        if self.phase == Phase::Gone {
            return false;
        }
        self.circuits.add(no, self.role);
        if self.role == Role::Outlet {
            self.reactions
                .push_back(Reaction::CircuitReady { circuit: no });
        }
        true
    }

    /// Whether [`Lane::promote`] would find a circuit.
    pub fn has_idle_circuit(&self) -> bool {
        self.circuits.idle().is_some()
    }

    /// How many circuits this end sends on.
    pub fn circuits_sending(&self) -> usize {
        self.circuits.sending()
    }

    /// Begins to move the sending direction of a stream to an idle circuit: SWITCH is queued, and
    /// nothing more may be sent on the lane. [`Reaction::Moved`] says when the circuit may be used.
    ///
    /// # Errors
    /// [`Stays`]; nothing has changed then.
    pub fn promote(&mut self, n: StreamNo) -> Result<CircuitNo, Stays> {
        let slot = self.slot(n).ok_or(Stays::NotNow)?;
        if self.phase != Phase::Up || !slot.state.may_send() || slot.outward() != Outward::Lane {
            return Err(Stays::NotNow);
        }
        let no = self.circuits.idle().ok_or(Stays::NoCircuit)?;
        if let Some(circuit) = self.circuits.get_mut(no) {
            circuit.out = Sending::Leaving(n);
        }
        if let Some(slot) = self.slot_mut(n) {
            slot.path_mut().out = Outward::Leaving(no);
        }
        self.enqueue(n, Queued::Switch);
        self.circuits.note_use();
        Ok(no)
    }

    /// SWITCH has left: the run begins.
    pub(super) fn switch_left(&mut self, n: StreamNo) {
        let Some(slot) = self.slot_mut(n) else { return };
        let Outward::Leaving(no) = slot.outward() else {
            return;
        };
        slot.path_mut().out = Outward::On(no);
        let (at, key) = (slot.sent, slot.key);
        if let Some(circuit) = self.circuits.get_mut(no) {
            circuit.out = Sending::Running(Run {
                n,
                live: true,
                continue_at: Some(at),
                ending: None,
            });
        }
        self.circuits.note_due(no);
        if let Some(key) = key {
            let circuit = no;
            self.reactions
                .push_back(Reaction::Moved { n, key, circuit });
        }
    }

    /// What the queued SWITCH says.
    pub(super) fn switch_body(&self, n: StreamNo) -> Option<Body<'static>> {
        let slot = self.slot(n)?;
        let Outward::Leaving(circuit) = slot.outward() else {
            return None;
        };
        let bytes = slot.sent;
        Some(Body::Switch(Switch { circuit, bytes }))
    }

    /// The circuit that this stream's bytes leave on, if they do: any number of them, after what
    /// [`Lane::next_circuit_control`] gives.
    pub fn sends_on(&self, n: StreamNo) -> Option<CircuitNo> {
        let slot = self.slot(n)?;
        match slot.outward() {
            Outward::On(no) if slot.state.may_send() => Some(no),
            Outward::On(_) | Outward::Lane | Outward::Leaving(_) | Outward::Unread(_) => None,
        }
    }

    /// A DATA record of `len` bytes was sealed for this stream on its circuit.
    pub fn on_circuit_data(&mut self, n: StreamNo, len: usize) {
        assert!(
            len > 0 && len <= CIRCUIT_PAYLOAD_MAX,
            "a DATA record of {len} bytes on a circuit"
        );
        let no = self.sends_on(n);
        assert!(no.is_some(), "DATA on a circuit without a run");
        let queued = no.is_some_and(|no| self.has_circuit_control(no));
        assert!(!queued, "DATA overtakes its CONTINUE");
        if let Some(slot) = self.slot_mut(n) {
            slot.sent += len as u64;
        }
    }

    /// The direction was quiet: it comes back to the lane, where it may go on at once. Everything
    /// read from the app is sealed. Whether it does: not when it is over or not on a circuit.
    pub fn go_back(&mut self, n: StreamNo) -> bool {
        let Some(no) = self.sends_on(n) else {
            return false;
        };
        let Some(slot) = self.slot_mut(n) else {
            return false;
        };
        let sent = slot.sent;
        slot.path_mut().out = Outward::Unread(no);
        self.end_run(no, Ending::Back(sent));
        self.enqueue(n, Queued::Continue);
        true
    }

    /// The app's END is queued: on the circuit if its bytes are there. Whether it was.
    pub(super) fn end_on_circuit(&mut self, n: StreamNo) -> bool {
        let Some(slot) = self.slot_mut(n) else {
            return false;
        };
        match slot.outward() {
            Outward::On(no) => {
                let sent = slot.sent;
                slot.path_mut().out = Outward::Unread(no);
                self.end_run(no, Ending::End(sent));
                true
            }
            Outward::Leaving(no) => {
                self.stay(n, no);
                false
            }
            Outward::Lane | Outward::Unread(_) => false,
        }
    }

    fn end_run(&mut self, no: CircuitNo, ending: Ending) {
        if let Some(circuit) = self.circuits.get_mut(no)
            && let Sending::Running(run) = &mut circuit.out
        {
            debug_assert!(run.ending.is_none(), "a run ends once");
            run.ending = Some(ending);
        }
        self.circuits.note_due(no);
    }

    /// SWITCH has not left, and doesn't.
    fn stay(&mut self, n: StreamNo, no: CircuitNo) {
        self.unqueue(n, Queued::Switch);
        if let Some(slot) = self.slot_mut(n) {
            slot.path_mut().out = Outward::Lane;
        }
        if let Some(circuit) = self.circuits.get_mut(no) {
            circuit.out = Sending::Idle;
        }
        self.circuits.note_due(no);
    }

    /// The stream was reset: its run is cut, the other end's is discarded from now on.
    pub(super) fn leave_runs(&mut self, n: StreamNo) {
        let Some(slot) = self.slot(n).filter(|slot| slot.path.is_some()) else {
            return;
        };
        let (out, into) = (slot.outward(), slot.inward());
        match out {
            Outward::Leaving(no) => self.stay(n, no),
            Outward::On(no) => {
                self.end_run(no, Ending::Cut);
                self.forget_out(no);
                if let Some(slot) = self.slot_mut(n) {
                    slot.path_mut().out = Outward::Lane;
                }
            }
            Outward::Unread(no) => {
                self.forget_out(no);
                if let Some(slot) = self.slot_mut(n) {
                    slot.path_mut().out = Outward::Lane;
                }
            }
            Outward::Lane => {}
        }
        match into {
            Inward::Circuit(no) => self.forget_into(no),
            Inward::Returning(returning) => self.forget_into(returning.circuit),
            Inward::Lane | Inward::Landing | Inward::Cut => {}
        }
    }

    /// The stream is over in order and leaves a run that was not acknowledged.
    pub(super) fn leave_unread(&mut self, n: StreamNo) {
        if let Some(Outward::Unread(no)) = self.slot(n).map(super::slot::Slot::outward) {
            self.forget_out(no);
        }
    }

    fn forget_out(&mut self, no: CircuitNo) {
        match self.circuits.get_mut(no).map(|circuit| &mut circuit.out) {
            Some(Sending::Running(run)) => run.live = false,
            Some(Sending::Unread { live, .. }) => *live = false,
            Some(Sending::Idle | Sending::Leaving(_)) | None => {}
        }
    }

    /// Whether a record of the circuit's own is queued: it precedes DATA.
    pub fn has_circuit_control(&self, no: CircuitNo) -> bool {
        self.circuits.get(no).is_some_and(|c| c.next().is_some())
    }

    /// The next circuit for which something was queued since it was last given.
    pub fn next_circuit_due(&mut self) -> Option<CircuitNo> {
        self.circuits.next_due()
    }

    /// Writes the payload of the next queued record of a circuit to the front of `payload`; its
    /// header and length. `None` when nothing is queued, or `payload` is shorter than 16 bytes.
    pub fn next_circuit_control(
        &mut self,
        no: CircuitNo,
        payload: &mut [u8],
    ) -> Option<(Header, usize)> {
        let (header, body) = self.circuits.next(no)?;
        let len = body.encode(payload).ok()?;
        self.circuits.get_mut(no)?.left();
        Some((header, len))
    }

    /// Begin no new run on the circuit; RETIRE leaves once our direction is idle.
    pub fn retire_circuit(&mut self, no: CircuitNo) {
        if let Some(circuit) = self.circuits.get_mut(no)
            && circuit.retire == Retire::No
        {
            circuit.retire = Retire::Wanted;
        }
        self.circuits.note_due(no);
    }

    /// Whether RETIRE went each way: the inlet closes the circuit.
    pub fn is_circuit_spent(&self, no: CircuitNo) -> bool {
        self.circuits
            .get(no)
            .is_some_and(super::circuits::Circuit::is_spent)
    }

    /// The circuit is gone: each stream that uses either of its directions is reset.
    pub fn on_circuit_lost(&mut self, no: CircuitNo, why: CloseReason) {
        let Some(circuit) = self.circuits.table.remove(&no) else {
            return;
        };
        self.circuits.acks.retain(|&acked| acked != no);
        self.circuits.reset_deadline();
        match circuit.out {
            Sending::Leaving(n) => {
                self.stay(n, no);
                if let Some(key) = self.key(n) {
                    self.reactions.push_back(Reaction::Resume { n, key });
                }
            }
            Sending::Running(Run { n, live: true, .. }) | Sending::Unread { n, live: true } => {
                if let Some(slot) = self.slot_mut(n) {
                    slot.path_mut().out = Outward::Lane;
                }
                self.lose(n, why);
            }
            Sending::Idle | Sending::Running(_) | Sending::Unread { .. } => {}
        }
        self.lose_receiver(circuit.into, why);
    }

    /// Resets a stream that can't go on: its app is told, and the other end.
    pub(super) fn lose(&mut self, n: StreamNo, why: CloseReason) {
        let Ok(action) = self.advance(n, Input::AppReset) else {
            return;
        };
        if let Some(key) = self.key(n) {
            self.reactions.push_back(Reaction::ResetApp { n, key, why });
        }
        if action == Action::Forget {
            self.release_key(n, why);
            return self.settle(n);
        }
        let record = if action == Action::SendRefused {
            Queued::Refused
        } else {
            Queued::Abort
        };
        self.end_app(n, record, why);
    }

    /// Outlet: `directions` would move to a circuit if there were one. WANT is queued, at most
    /// once in `limits::WANT_AGAIN`; whether it was.
    pub fn want(&mut self, now: Instant, directions: u16) -> bool {
        let asked = self.control.wanted_at;
        let early = asked.is_some_and(|at| now < at + WANT_AGAIN);
        if self.role != Role::Outlet || self.phase != Phase::Up || directions == 0 || early {
            return false;
        }
        self.control.wanted_at = Some(now);
        self.control.want = Some(directions);
        true
    }

    /// Most circuits that were in use at once, in either direction, since
    /// [`Lane::reset_circuits_peak`].
    pub fn circuits_peak(&self) -> u16 {
        self.circuits.peak()
    }

    /// The peak begins anew with what is in use now.
    pub fn reset_circuits_peak(&mut self) {
        self.circuits.reset_peak();
    }

    /// ACK was read: the run was read to its end, and the direction is idle again.
    pub(super) fn acked(&mut self, no: CircuitNo) -> Result<(), super::Violation> {
        // One of a circuit that was lost here may have been under way.
        let Some(circuit) = self.circuits.get_mut(no) else {
            return Ok(());
        };
        let Sending::Unread { n, live } = circuit.out else {
            return Err(super::Violation::Untimely(
                crate::protocol::record::Kind::Ack,
            ));
        };
        circuit.out = Sending::Idle;
        self.circuits.note_due(no);
        if live && let Some(slot) = self.slot_mut(n) {
            slot.path_mut().out = Outward::Lane;
        }
        self.reactions
            .push_back(Reaction::CircuitIdle { circuit: no });
        Ok(())
    }
}

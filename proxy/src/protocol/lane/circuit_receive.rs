//! What the other end's directions bring on circuits, and how they are bound to streams.
//!
//! Only SWITCH, on the lane, binds. A CONTINUE that comes first waits, and its circuit with it.

use super::app::peers_reason;
use super::circuits::Receiving;
use super::path::{Inward, Returning};
use super::{Lane, Phase, Reaction, StreamKey, Violation};
use crate::error::CloseReason;
use crate::ids::{CircuitNo, StreamNo};
use crate::limits::{CONTINUE_WAIT, SWITCH_WAIT};
use crate::protocol::codec::CodecError;
use crate::protocol::command::Role;
use crate::protocol::record::{Body, Header, Kind, Switch};
use crate::protocol::stream::{Action, Input, step};
use crate::time::Instant;

/// What to do with a record of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// Nothing more.
    Nothing,
    /// The payload is for this app: write it, and say so ([`Lane::on_circuit_delivered`]), before
    /// a record that is not DATA is given to the lane.
    Deliver {
        /// The stream.
        n: StreamNo,
        /// Its app.
        key: StreamKey,
    },
    /// Give the lane nothing more of this circuit until [`Reaction::CircuitRead`].
    Wait,
    /// What follows is sealed under the next key.
    KeyUpdate,
}

impl Lane {
    /// Takes in one opened record of a circuit, in order. A DATA record before it is written.
    ///
    /// # Errors
    /// [`Violation`]: the whole bundle has to end.
    pub fn on_circuit_record(
        &mut self,
        now: Instant,
        no: CircuitNo,
        header: Header,
        payload: &[u8],
    ) -> Result<Took, Violation> {
        let Header {
            kind, stream: n, ..
        } = header;
        let Some(circuit) = self.circuits.get_mut(no) else {
            return Ok(Took::Nothing);
        };
        if !circuit.up {
            return self.first_of_circuit(no, kind, payload);
        }
        if circuit.peer_retired || self.phase != Phase::Up {
            return Err(Violation::Untimely(kind));
        }
        if kind == Kind::Data {
            return self.circuit_data(no, n, payload.len());
        }
        match Body::parse(kind, payload).map_err(|error| Violation::Malformed { kind, error })? {
            Body::Continue(at) => self.run_begins(now, no, n, at),
            Body::End(said) => {
                if self.run_ends(no, kind, n)? {
                    self.set_into(n, Inward::Lane);
                    self.end_read(n, said)?;
                } else {
                    self.discarded_end(no, n);
                }
                Ok(Took::Nothing)
            }
            Body::Cut => {
                if self.run_ends(no, kind, n)? {
                    self.set_into(n, Inward::Cut);
                }
                Ok(Took::Nothing)
            }
            Body::Switch(Switch {
                circuit: CircuitNo(0),
                bytes,
            }) => {
                if self.run_ends(no, kind, n)? {
                    self.run_returns(n, bytes)?;
                }
                Ok(Took::Nothing)
            }
            Body::Retire => self.circuit_retired(no),
            Body::KeyUpdate(None) => Ok(Took::KeyUpdate),
            Body::Data(_)
            | Body::Ready
            | Body::Denied(_)
            | Body::Open(_)
            | Body::Opened
            | Body::Refused(_)
            | Body::Credit(_)
            | Body::Switch(_)
            | Body::Closed
            | Body::Abort(_)
            | Body::Want(_)
            | Body::KeyUpdate(Some(_))
            | Body::KeyExchange(..)
            | Body::KeyReady(_)
            | Body::Credential(_)
            | Body::Ping(_)
            | Body::Pong(_)
            | Body::Ack(_) => Err(Violation::Untimely(kind)),
        }
    }

    /// An inlet's first record is READY or DENIED; an outlet gets none before its own has left.
    fn first_of_circuit(
        &mut self,
        no: CircuitNo,
        kind: Kind,
        payload: &[u8],
    ) -> Result<Took, Violation> {
        if self.role == Role::Outlet || !matches!(kind, Kind::Ready | Kind::Denied) {
            return Err(Violation::Untimely(kind));
        }
        let body = Body::parse(kind, payload);
        let body = body.map_err(|error| Violation::Malformed { kind, error })?;
        let circuit = no;
        if let Body::Denied(code) = body {
            let why = peers_reason(code, CloseReason::NotAuthorized);
            self.reactions
                .push_back(Reaction::CircuitDenied { circuit, why });
        } else {
            if let Some(circuit) = self.circuits.get_mut(no) {
                circuit.up = true;
            }
            self.reactions.push_back(Reaction::CircuitReady { circuit });
        }
        Ok(Took::Nothing)
    }

    /// The hot one.
    fn circuit_data(&mut self, no: CircuitNo, n: StreamNo, len: usize) -> Result<Took, Violation> {
        let kind = Kind::Data;
        if len == 0 {
            let error = CodecError::Value("an empty DATA");
            return Err(Violation::Malformed { kind, error });
        }
        let into = self.circuits.get(no).map(|circuit| circuit.into);
        let Some(Receiving::Running { n: running, live }) = into else {
            return Err(Violation::Elsewhere(kind));
        };
        if running != n {
            return Err(Violation::Elsewhere(kind));
        }
        if !live {
            return Ok(Took::Nothing);
        }
        let (role, input) = (self.role, Input::Data);
        let Some(slot) = self.slot_mut(n) else {
            return Ok(Took::Nothing);
        };
        let state = slot.state;
        step(role, state, input).ok_or(Violation::OutOfTurn { input, state })?;
        slot.window.receive_aside(len);
        let path = slot.path_mut();
        path.aside = path
            .aside
            .saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        let key = slot.key;
        self.visits.note(state, input);
        Ok(key.map_or(Took::Nothing, |key| Took::Deliver { n, key }))
    }

    /// `len` bytes that [`Took::Deliver`] was about are written to the app.
    pub fn on_circuit_delivered(&mut self, n: StreamNo, len: usize) {
        let Some(slot) = self.slot_mut(n).filter(|slot| slot.state.has_app()) else {
            debug_assert!(false, "bytes of a stream without an app were delivered");
            return;
        };
        let path = slot.path_mut();
        let left = u32::try_from(len)
            .ok()
            .and_then(|len| path.aside.checked_sub(len));
        assert!(left.is_some(), "more bytes were delivered than received");
        path.aside = left.unwrap_or(0);
        self.settle(n);
    }

    fn run_begins(
        &mut self,
        now: Instant,
        no: CircuitNo,
        n: StreamNo,
        at: u64,
    ) -> Result<Took, Violation> {
        let Some(circuit) = self.circuits.get_mut(no) else {
            return Ok(Took::Nothing);
        };
        let took = match circuit.into {
            Receiving::Idle => {
                circuit.into = Receiving::Early { n, at };
                circuit.until = now + SWITCH_WAIT;
                Took::Wait
            }
            Receiving::Awaited {
                n: bound,
                at: said,
                live,
            } if (bound, said) == (n, at) => {
                circuit.into = Receiving::Running { n, live };
                circuit.until = Instant::FAR_FUTURE;
                Took::Nothing
            }
            Receiving::Early { .. } | Receiving::Awaited { .. } | Receiving::Running { .. } => {
                return Err(Violation::Elsewhere(Kind::Continue));
            }
        };
        self.circuits.note_use();
        self.circuits.reset_deadline();
        Ok(took)
    }

    /// The last record of a run; whether its stream still wants it. ACK is queued.
    fn run_ends(&mut self, no: CircuitNo, kind: Kind, n: StreamNo) -> Result<bool, Violation> {
        let Some(circuit) = self.circuits.get_mut(no) else {
            return Ok(false);
        };
        match circuit.into {
            Receiving::Running { n: running, live } if running == n => {
                circuit.into = Receiving::Idle;
                self.circuits.acks.push_back(no);
                Ok(live)
            }
            Receiving::Idle
            | Receiving::Early { .. }
            | Receiving::Awaited { .. }
            | Receiving::Running { .. } => Err(Violation::Elsewhere(kind)),
        }
    }

    /// SWITCH{0}: the direction goes on on the lane, where it may be already.
    fn run_returns(&mut self, n: StreamNo, said: u64) -> Result<(), Violation> {
        let Some(slot) = self.slot_mut(n) else {
            return Ok(());
        };
        let total = slot.window.total();
        let Inward::Returning(returning) = slot.inward() else {
            slot.path_mut().into = Inward::Landing;
            let counted = total;
            return if said == counted {
                Ok(())
            } else {
                Err(Violation::Count { said, counted })
            };
        };
        let counted = total - returning.behind;
        if said != counted || returning.at != counted {
            return Err(Violation::Count { said, counted });
        }
        let key = slot.key;
        slot.path_mut().into = Inward::Lane;
        if let Some(key) = key {
            self.reactions.push_back(Reaction::Merge { n, key });
        }
        match returning.ended {
            Some(said) => self.end_read(n, said),
            None => Ok(()),
        }
    }

    /// END of a run that is discarded: nothing else of a reset stream may come there.
    fn discarded_end(&mut self, no: CircuitNo, n: StreamNo) {
        if let Some(slot) = self.slot_mut(n)
            && slot.inward() == Inward::Circuit(no)
        {
            // A stream that took the number meanwhile has not been on this circuit.
            slot.path_mut().into = Inward::Lane;
            let _ = self.advance(n, Input::End);
        }
    }

    fn circuit_retired(&mut self, no: CircuitNo) -> Result<Took, Violation> {
        if let Some(circuit) = self.circuits.get_mut(no) {
            if circuit.into != Receiving::Idle {
                return Err(Violation::Elsewhere(Kind::Retire));
            }
            circuit.peer_retired = true;
        }
        self.retire_circuit(no);
        Ok(Took::Nothing)
    }

    fn set_into(&mut self, n: StreamNo, into: Inward) {
        if let Some(slot) = self.slot_mut(n) {
            slot.path_mut().into = into;
        }
    }

    /// SWITCH was read on the lane.
    pub(super) fn switched(
        &mut self,
        now: Instant,
        n: StreamNo,
        switch: Switch,
    ) -> Result<(), Violation> {
        let Switch { circuit: no, bytes } = switch;
        let kind = Kind::Switch;
        let live = match self.advance(n, Input::Switch) {
            Ok(action) => action == Action::Bind,
            Err(state) => {
                let input = Input::Switch;
                return Err(Violation::OutOfTurn { input, state });
            }
        };
        let Some(slot) = self.slot_mut(n) else {
            return Ok(());
        };
        if no == CircuitNo(0) || slot.inward() != Inward::Lane {
            return Err(Violation::Elsewhere(kind));
        }
        let counted = slot.window.total();
        if bytes != counted {
            let said = bytes;
            return Err(Violation::Count { said, counted });
        }
        slot.path_mut().into = Inward::Circuit(no);
        let Some(circuit) = self.circuits.get_mut(no) else {
            // It was lost here, and its other end has not heard of it.
            if live {
                self.lose(n, CloseReason::TunnelLost);
            }
            return Ok(());
        };
        if circuit.peer_retired {
            return Err(Violation::Elsewhere(kind));
        }
        match circuit.into {
            Receiving::Idle => {
                circuit.into = Receiving::Awaited { n, at: bytes, live };
                circuit.until = now + CONTINUE_WAIT;
            }
            Receiving::Early { n: early, at } if (early, at) == (n, bytes) => {
                circuit.into = Receiving::Running { n, live };
                circuit.until = Instant::FAR_FUTURE;
                self.reactions
                    .push_back(Reaction::CircuitRead { circuit: no });
            }
            Receiving::Early { .. } | Receiving::Awaited { .. } | Receiving::Running { .. } => {
                return Err(Violation::Elsewhere(kind));
            }
        }
        self.circuits.note_use();
        self.circuits.reset_deadline();
        Ok(())
    }

    /// CONTINUE was read on the lane: a direction comes back.
    pub(super) fn continues(&mut self, n: StreamNo, at: u64) -> Result<(), Violation> {
        let (role, input, kind) = (self.role, Input::Data, Kind::Continue);
        let Some(slot) = self.slot_mut(n) else {
            return Err(Violation::Elsewhere(kind));
        };
        let state = slot.state;
        step(role, state, input).ok_or(Violation::OutOfTurn { input, state })?;
        let counted = slot.window.total();
        let next = match slot.inward() {
            Inward::Circuit(circuit) => Inward::Returning(Returning {
                circuit,
                at,
                behind: 0,
                ended: None,
            }),
            Inward::Landing if at == counted => Inward::Lane,
            Inward::Landing => {
                let said = at;
                return Err(Violation::Count { said, counted });
            }
            Inward::Lane | Inward::Returning(_) | Inward::Cut => {
                return Err(Violation::Elsewhere(kind));
            }
        };
        slot.path_mut().into = next;
        Ok(())
    }

    /// The stream of a run that we receive is reset: what comes is discarded.
    pub(super) fn forget_into(&mut self, no: CircuitNo) {
        match self.circuits.get_mut(no).map(|circuit| &mut circuit.into) {
            Some(Receiving::Awaited { live, .. } | Receiving::Running { live, .. }) => {
                *live = false;
            }
            Some(Receiving::Idle | Receiving::Early { .. }) | None => {}
        }
    }

    /// The circuit of a run that we receive is gone.
    pub(super) fn lose_receiver(&mut self, into: Receiving, why: CloseReason) {
        match into {
            Receiving::Awaited { n, live: true, .. } | Receiving::Running { n, live: true } => {
                self.lose(n, why);
            }
            Receiving::Idle
            | Receiving::Early { .. }
            | Receiving::Awaited { .. }
            | Receiving::Running { .. } => {}
        }
    }

    /// What has been awaited for too long.
    pub(super) fn circuits_due(&mut self, now: Instant) {
        while self.circuits.deadline.is_some_and(|at| at <= now) {
            let due = self.circuits.table.iter_mut().find(|(_, c)| c.until <= now);
            if let Some((&no, circuit)) = due {
                circuit.until = Instant::FAR_FUTURE;
                let into = circuit.into;
                if let Receiving::Early { .. } = into {
                    self.reactions
                        .push_back(Reaction::CircuitDead { circuit: no });
                } else {
                    self.lose_receiver(into, CloseReason::TunnelLost);
                }
            }
            self.circuits.reset_deadline();
        }
    }
}

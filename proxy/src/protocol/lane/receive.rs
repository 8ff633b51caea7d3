//! What records of the peer mean. Everything that comes has been authenticated; nothing of it is
//! believed to be in turn.

use super::app::peers_reason;
use super::path::{Inward, Returning};
use super::slot::{Queued, Slot};
use super::{Lane, Phase, Reaction, Violation};
use crate::error::{CloseReason, Code};
use crate::ids::StreamNo;
use crate::limits::{CONNECTING_TIMEOUT, CREDIT_MAX, LANE_STREAMS_MAX, OPEN_AGE_MAX};
use crate::protocol::codec::CodecError;
use crate::protocol::command::Role;
use crate::protocol::record::{Body, FLAG_DEDICATED, Header, Kind, Open};
use crate::protocol::stream::{Action, Input, State, step};
use crate::time::Instant;

impl Lane {
    /// Takes in one opened record, in the order in which they were sealed.
    ///
    /// # Errors
    /// [`Violation`]: the lane has to end.
    pub fn on_record(
        &mut self,
        now: Instant,
        header: Header,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let Header {
            kind,
            flags,
            stream: n,
        } = header;
        if self.phase != Phase::Up {
            return self.first_record(kind, payload);
        }
        if kind == Kind::Data {
            return self.data(n, payload.len());
        }
        if kind.sender() == Some(self.role) {
            return Err(Violation::WrongEnd(kind));
        }
        match Body::parse(kind, payload).map_err(|error| Violation::Malformed { kind, error })? {
            Body::Open(open) => {
                let dedicated = flags & FLAG_DEDICATED != 0;
                self.opens(now, n, Open { dedicated, ..open })
            }
            Body::Opened => self.opened(n),
            Body::Refused(code) => self.refused(n, code),
            Body::Data(bytes) => self.data(n, bytes.len()),
            Body::Credit(bytes) => self.credit(n, bytes),
            Body::End(bytes) => self.end(n, bytes),
            Body::Closed => self.closed(n),
            Body::Abort(code) => self.abort(n, code),
            Body::Retire => self.retired(),
            Body::KeyUpdate(None) => {
                self.reactions.push_back(Reaction::KeyUpdate { mix: None });
                Ok(())
            }
            Body::KeyUpdate(Some(number)) => self.mix_read(number),
            Body::KeyExchange(number, message) => self.exchange_read(now, number, message),
            Body::KeyReady(number) => self.exchange_ready(number),
            Body::Credential(bytes) => {
                let taken = self.control.take_credential(now, bytes);
                self.reactions.extend(taken.map(Reaction::Credential));
                Ok(())
            }
            Body::Ping(number) => self.pinged(number),
            Body::Pong(number) => self.ponged(now, number),
            Body::Switch(switch) => self.switched(now, n, switch),
            Body::Continue(at) => self.continues(n, at),
            Body::Ack(circuit) => self.acked(circuit),
            Body::Want(directions) => {
                self.reactions.push_back(Reaction::Want(directions));
                Ok(())
            }
            Body::Ready | Body::Denied(_) | Body::Cut => Err(Violation::Untimely(kind)),
        }
    }

    /// An inlet's first record is READY or DENIED. An outlet gets none before its own has left.
    fn first_record(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Violation> {
        if self.phase == Phase::Gone || self.role == Role::Outlet {
            return Err(Violation::Untimely(kind));
        }
        if !matches!(kind, Kind::Ready | Kind::Denied) {
            return Err(Violation::Untimely(kind));
        }
        let body = Body::parse(kind, payload);
        let body = body.map_err(|error| Violation::Malformed { kind, error })?;
        if let Body::Denied(code) = body {
            self.phase = Phase::Gone;
            let why = peers_reason(code, CloseReason::NotAuthorized);
            self.reactions.push_back(Reaction::Denied(why));
        } else {
            self.phase = Phase::Up;
            self.reactions.push_back(Reaction::Ready);
        }
        Ok(())
    }

    /// The hot one: no payload to read, no change of state, one lookup.
    fn data(&mut self, n: StreamNo, len: usize) -> Result<(), Violation> {
        if len == 0 {
            let error = CodecError::Value("an empty DATA");
            return Err(Violation::Malformed {
                kind: Kind::Data,
                error,
            });
        }
        let (role, input) = (self.role, Input::Data);
        let Some(slot) = self.slot_mut(n) else {
            return Err(Violation::OutOfTurn {
                input,
                state: State::Free,
            });
        };
        let state = slot.state;
        let (_, action) = step(role, state, input).ok_or(Violation::OutOfTurn { input, state })?;
        slot.window
            .receive(len)
            .map_err(|granted| Violation::Overrun { got: len, granted })?;
        let behind = slot.path.is_some() && behind(slot, len)?;
        let reaction = match (action, slot.key) {
            (Action::Deliver | Action::Hold, Some(key)) if behind => {
                Some(Reaction::Behind { n, key })
            }
            (Action::Deliver, Some(key)) => Some(Reaction::Deliver { n, key }),
            (Action::Hold, Some(key)) => Some(Reaction::Hold { n, key }),
            _ => {
                debug_assert!(
                    action == Action::Discard,
                    "DATA for a stream that was not bound"
                );
                slot.window.discard();
                None
            }
        };
        self.reactions.extend(reaction);
        self.visits.note(state, input);
        Ok(())
    }

    /// A record of the peer moves a stream.
    fn peer(&mut self, n: StreamNo, input: Input) -> Result<Action, Violation> {
        self.advance(n, input)
            .map_err(|state| Violation::OutOfTurn { input, state })
    }

    fn opens(&mut self, now: Instant, n: StreamNo, open: Open) -> Result<(), Violation> {
        if self.peer_retiring {
            return Err(Violation::Untimely(Kind::Open));
        }
        let next = self.slots.len() + 1;
        if usize::from(n.0) > next.min(LANE_STREAMS_MAX) {
            return Err(Violation::Number(n.0));
        }
        if usize::from(n.0) == next {
            self.slots.push(Slot::default());
        }
        let Some(slot) = self.slot_mut(n) else {
            return Err(Violation::Number(n.0));
        };
        if slot.taken {
            return Err(Violation::OutOfTurn {
                input: Input::Open,
                state: slot.state,
            });
        }
        slot.taken = true;
        self.live += 1;
        self.peer(n, Input::Open)?;
        let open = Box::new(open);
        let Some(why) = self.refusal(now, &open) else {
            self.waits.push(n.0, now + CONNECTING_TIMEOUT);
            self.reactions.push_back(Reaction::Connect { n, open });
            return Ok(());
        };
        self.peer(n, Input::ConnectFailed)?;
        self.end_app(n, Queued::Refused, why);
        self.reactions.push_back(Reaction::Refused { n, why, open });
        Ok(())
    }

    /// Why an OPEN is refused before anybody is contacted.
    fn refusal(&self, now: Instant, open: &Open) -> Option<CloseReason> {
        if self.retiring {
            return Some(CloseReason::LaneRetiring);
        }
        // A claim from the future could be held back just as long as it lies ahead, so the bound
        // holds in both directions.
        let max = OPEN_AGE_MAX.as_millis();
        let fresh = self
            .shared
            .authority_millis(now)
            .is_some_and(|authority| u128::from(authority.abs_diff(open.authority_millis)) <= max);
        (!fresh).then_some(CloseReason::OpenTooOld)
    }

    fn opened(&mut self, n: StreamNo) -> Result<(), Violation> {
        if self.peer(n, Input::Opened)? == Action::Opened
            && let Some(key) = self.key(n)
        {
            self.reactions.push_back(Reaction::Opened { n, key });
        }
        Ok(())
    }

    fn refused(&mut self, n: StreamNo, code: Code) -> Result<(), Violation> {
        let why = peers_reason(code, CloseReason::TargetUnreachable);
        let retry = why == CloseReason::LaneRetiring;
        if retry && !self.peer_retiring {
            return Err(Violation::Untimely(Kind::Refused));
        }
        if self.peer(n, Input::Refused)? != Action::RefusedAndAnswer {
            self.settle(n);
            return Ok(());
        }
        if retry && let Some(key) = self.slot_mut(n).and_then(|slot| slot.key.take()) {
            self.reactions.push_back(Reaction::Retry { n, key });
            self.end_app(n, Queued::Abort, why);
        } else {
            self.reset_and_answer(n, why);
        }
        Ok(())
    }

    fn credit(&mut self, n: StreamNo, bytes: u32) -> Result<(), Violation> {
        if self.peer(n, Input::Credit)? != Action::Grant {
            return Ok(());
        }
        let Some(slot) = self.slot_mut(n) else {
            return Ok(());
        };
        let credit = slot
            .credit
            .checked_add(bytes)
            .filter(|&credit| credit <= CREDIT_MAX);
        let was_empty = slot.credit == 0;
        slot.credit = credit.ok_or(Violation::TooMuchCredit)?;
        if was_empty && let Some(key) = slot.key {
            self.reactions.push_back(Reaction::Resume { n, key });
        }
        Ok(())
    }

    /// END was read on the lane.
    fn end(&mut self, n: StreamNo, said: u64) -> Result<(), Violation> {
        let (role, input) = (self.role, Input::End);
        match self.slot(n).map(Slot::inward) {
            None | Some(Inward::Lane) => self.end_read(n, said),
            Some(Inward::Returning(returning)) if returning.ended.is_none() => {
                let Some(slot) = self.slot_mut(n) else {
                    return Ok(());
                };
                let state = slot.state;
                step(role, state, input).ok_or(Violation::OutOfTurn { input, state })?;
                let ended = Some(said);
                slot.path_mut().into = Inward::Returning(Returning { ended, ..returning });
                self.unqueue(n, Queued::Credit);
                Ok(())
            }
            Some(Inward::Circuit(_) | Inward::Landing | Inward::Returning(_) | Inward::Cut) => {
                Err(Violation::Elsewhere(Kind::End))
            }
        }
    }

    /// The direction is complete: END was read where the direction is.
    pub(super) fn end_read(&mut self, n: StreamNo, said: u64) -> Result<(), Violation> {
        let action = self.peer(n, Input::End)?;
        // Nobody needs it any more, and it must not take from the budget.
        self.unqueue(n, Queued::Credit);
        let Some(slot) = self.slot(n) else {
            return Ok(());
        };
        let counted = slot.window.total();
        if said != counted {
            return Err(Violation::Count { said, counted });
        }
        if action == Action::FinToApp
            && let Some(key) = slot.key
        {
            self.reactions.push_back(Reaction::FinToApp { n, key });
        }
        let overtaken = self.slot_mut(n).and_then(|slot| slot.path.as_mut());
        if overtaken.is_some_and(|path| std::mem::take(&mut path.closed)) {
            return self.closed(n);
        }
        Ok(())
    }

    fn closed(&mut self, n: StreamNo) -> Result<(), Violation> {
        if let Some(slot) = self.slot_mut(n)
            && slot.may_be_overtaken()
        {
            // It has overtaken the END that is still on a circuit.
            match slot.state {
                State::LocalDone => {
                    let first = !std::mem::replace(&mut slot.path_mut().closed, true);
                    return first.then_some(()).ok_or(Violation::Untimely(Kind::Closed));
                }
                State::Draining(d) if d.sent_end && !d.read_end && !d.answered => {
                    self.answered(n);
                    self.settle(n);
                    return Ok(());
                }
                State::Free
                | State::Opening { .. }
                | State::Connecting { .. }
                | State::Flowing
                | State::PeerDone
                | State::Closing { .. }
                | State::Draining(_) => {}
            }
        }
        self.peer(n, Input::Closed)?;
        self.settle(n);
        Ok(())
    }

    fn abort(&mut self, n: StreamNo, code: Code) -> Result<(), Violation> {
        let path = self.slot(n).and_then(|slot| slot.path.as_ref());
        if path.is_some_and(|path| path.closed) {
            return Err(Violation::Untimely(Kind::Abort));
        }
        if self.peer(n, Input::Abort)? == Action::ResetAndAnswer {
            self.reset_and_answer(n, peers_reason(code, CloseReason::PeerReset));
        } else {
            self.settle(n);
        }
        Ok(())
    }

    fn reset_and_answer(&mut self, n: StreamNo, why: CloseReason) {
        if let Some(key) = self.key(n) {
            self.reactions.push_back(Reaction::ResetApp { n, key, why });
        }
        self.end_app(n, Queued::Abort, why);
    }

    fn retired(&mut self) -> Result<(), Violation> {
        if self.peer_retiring {
            return Err(Violation::Untimely(Kind::Retire));
        }
        self.peer_retiring = true;
        self.reactions.push_back(Reaction::Retiring);
        Ok(())
    }

    /// One PING may be unanswered, so one number is all there is to remember.
    fn pinged(&mut self, number: u64) -> Result<(), Violation> {
        if self.control.pong.is_some() {
            return Err(Violation::Untimely(Kind::Ping));
        }
        self.control.pong = Some(number);
        Ok(())
    }

    fn ponged(&mut self, now: Instant, number: u64) -> Result<(), Violation> {
        let rtt = self
            .control
            .answered(now, number)
            .ok_or(Violation::Untimely(Kind::Pong))?;
        self.reactions.push_back(Reaction::Pong { rtt });
        Ok(())
    }
}

/// Whether DATA of a stream that has left its lane belongs behind what its circuit still brings.
/// A reset stream's bytes are counted and forgotten like all others.
fn behind(slot: &mut Slot, len: usize) -> Result<bool, Violation> {
    match slot.inward() {
        Inward::Lane => Ok(false),
        Inward::Returning(returning) if returning.ended.is_none() => {
            let behind = returning.behind + len as u64;
            slot.path_mut().into = Inward::Returning(Returning {
                behind,
                ..returning
            });
            Ok(true)
        }
        Inward::Circuit(_) | Inward::Landing | Inward::Returning(_) | Inward::Cut => {
            Err(Violation::Elsewhere(Kind::Data))
        }
    }
}

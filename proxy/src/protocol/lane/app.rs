//! What apps and targets do, and what the lane's owner asks for.
//!
//! A call that a stream's state has no cell for is a bug of the caller: debug builds stop there,
//! and a release build lets the stream be.

use super::circuits::Circuits;
use super::path::Outward;
use super::slot::{Queued, Slot};
use super::{Lane, OpenRefused, Phase, Reaction, StreamKey};
use crate::error::{CloseReason, Code};
use crate::ids::StreamNo;
use crate::limits::{LANE_CREDENTIAL_MAX, LANE_PAYLOAD_MAX, OPENING_TIMEOUT};
use crate::protocol::command::Role;
use crate::protocol::record::Open;
use crate::protocol::stream::{Action, Input, State};
use crate::time::Instant;

impl Lane {
    /// Inlet: a new stream with the lowest free number; its OPEN is queued. DATA may follow at
    /// once, behind it.
    ///
    /// # Errors
    /// [`OpenRefused`]; nothing has changed then.
    pub fn open(
        &mut self,
        now: Instant,
        key: StreamKey,
        open: &Open,
    ) -> Result<StreamNo, OpenRefused> {
        debug_assert_eq!(self.role, Role::Inlet, "only an inlet opens streams");
        if self.phase != Phase::Up || self.role != Role::Inlet {
            return Err(OpenRefused::NotReady);
        }
        if self.retiring || self.peer_retiring {
            return Err(OpenRefused::Retiring);
        }
        if crypto::names::Name::try_from(open.target.as_str()).is_err() {
            return Err(OpenRefused::BadTarget);
        }
        let n = self.take_number()?;
        if let Some(slot) = self.slot_mut(n) {
            *slot = Slot {
                state: State::Opening { ended: false },
                taken: true,
                key: Some(key),
                open: Some(Box::new(open.clone())),
                ..Slot::default()
            };
        }
        self.live += 1;
        self.waits.push(n.0, now + OPENING_TIMEOUT);
        self.enqueue(n, Queued::Open);
        Ok(n)
    }

    /// Outlet: the name of what is behind the stream that [`Reaction::Connect`] announced.
    pub fn bind(&mut self, n: StreamNo, key: StreamKey) {
        let slot = self.slot_mut(n);
        debug_assert!(
            slot.as_ref()
                .is_some_and(|slot| slot.key.is_none() && slot.state.has_app()),
            "only a new stream of an outlet is bound"
        );
        if let Some(slot) = slot {
            slot.key = Some(key);
        }
    }

    /// Outlet: the target is connected. OPENED is queued.
    pub fn on_connected(&mut self, n: StreamNo) {
        match self.local(n, Input::Connected) {
            Some(Action::SendOpenedThenFin) => {
                self.enqueue(n, Queued::Opened);
                if let Some(key) = self.key(n) {
                    self.reactions.push_back(Reaction::FinToApp { n, key });
                }
            }
            Some(_) => self.enqueue(n, Queued::Opened),
            None => {}
        }
    }

    /// Outlet: the target can't be connected, and why. REFUSED is queued; `Freed` follows if the
    /// stream was bound.
    pub fn on_connect_failed(&mut self, n: StreamNo, why: CloseReason) {
        if self.local(n, Input::ConnectFailed).is_some() {
            self.end_app(n, Queued::Refused, why);
        }
    }

    /// How many bytes of this app may be sealed now. 0: stop reading the app; `Resume` comes.
    pub fn sendable(&self, n: StreamNo) -> usize {
        match self.slot(n) {
            Some(slot) if slot.state.may_send() => match slot.outward() {
                Outward::Lane | Outward::Unread(_) => slot.credit as usize,
                Outward::Leaving(_) | Outward::On(_) => 0,
            },
            Some(_) | None => 0,
        }
    }

    /// Bytes that have moved on this stream, both ways: sent, and delivered to the app.
    pub fn moved(&self, n: StreamNo) -> u64 {
        self.slot(n).map_or(0, |slot| slot.sent + slot.delivered())
    }

    /// A DATA record of `len` bytes was sealed for this stream.
    pub fn on_app_data(&mut self, n: StreamNo, len: usize) {
        assert!(
            len > 0 && len <= LANE_PAYLOAD_MAX,
            "a DATA record of {len} bytes"
        );
        assert!(
            len <= self.sendable(n),
            "more bytes were sent than the peer has granted"
        );
        let Some(slot) = self.slot_mut(n) else { return };
        let first = [Queued::Open, Queued::Opened, Queued::Continue];
        let overtaken = first.iter().any(|&record| slot.queued.has(record));
        assert!(!overtaken, "DATA overtakes its OPEN or CONTINUE");
        slot.credit -= u32::try_from(len).unwrap_or(u32::MAX);
        slot.sent += len as u64;
    }

    /// The app ended its direction, and all its bytes are sealed. END is queued.
    pub fn on_app_fin(&mut self, n: StreamNo) {
        if self.local(n, Input::AppFin).is_some() && !self.end_on_circuit(n) {
            self.enqueue(n, Queued::End);
        }
    }

    /// The app's connection is gone, or has to go (`why`). ABORT is queued (REFUSED while an
    /// outlet connects); `Freed` follows.
    pub fn on_app_reset(&mut self, n: StreamNo, why: CloseReason) {
        match self.local(n, Input::AppReset) {
            Some(Action::SendRefused) => self.end_app(n, Queued::Refused, why),
            Some(Action::Forget) => {
                self.release_key(n, why);
                self.settle(n);
            }
            Some(_) => self.end_app(n, Queued::Abort, why),
            None => {}
        }
    }

    /// `len` bytes that were delivered or held are written to the app. Credit is granted anew
    /// once half is used.
    pub fn on_delivered(&mut self, n: StreamNo, len: usize) {
        let Some(slot) = self.slot_mut(n).filter(|slot| slot.state.has_app()) else {
            debug_assert!(false, "bytes of a stream without an app were delivered");
            return;
        };
        let due = slot.window.deliver(len);
        if due && slot.state.may_receive() {
            self.enqueue(n, Queued::Credit);
        }
        if matches!(
            self.slot(n).map(|slot| slot.state),
            Some(State::Closing { closed: true })
        ) {
            self.settle(n);
        }
    }

    /// Outlet: both directions have ended, every byte is written and the target's connection is
    /// closed. CLOSED is queued; `Freed` follows.
    pub fn on_app_closed(&mut self, n: StreamNo) {
        if self.local(n, Input::AppClosed).is_some() {
            if let Some(slot) = self.slot(n) {
                assert!(slot.is_delivered(), "CLOSED before every byte is written");
            }
            self.enqueue(n, Queued::Closed);
            self.release_key(n, CloseReason::Finished);
        }
    }

    /// Opens (inlet) or takes (outlet) no more streams. RETIRE is queued; live streams go on.
    pub fn retire(&mut self) {
        if self.phase != Phase::Gone && !self.retiring {
            self.retiring = true;
            self.control.retire = true;
        }
    }

    /// Queues our renewed credential; one that has not left yet is replaced.
    pub fn credential(&mut self, bytes: Vec<u8>) {
        let fits = (1..=LANE_CREDENTIAL_MAX).contains(&bytes.len());
        debug_assert!(fits, "a credential of {} bytes", bytes.len());
        if fits && self.phase != Phase::Gone {
            self.control.credential = Some(bytes);
        }
    }

    /// Asks for a PONG. Whether it does: not before the last PING was answered.
    pub fn ping(&mut self, now: Instant) -> bool {
        let free = self.control.pinged.is_none() && self.phase != Phase::Gone;
        if free {
            self.control.ping(now);
        }
        free
    }

    /// When [`Lane::on_timer`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        let wait = self.waits.first().map_or(Instant::FAR_FUTURE, |(_, at)| at);
        let circuit = self.circuits.deadline.unwrap_or(Instant::FAR_FUTURE);
        wait.min(circuit)
            .min(self.control.credential_due_at())
            .min(self.exchange.due_at())
    }

    /// Gives up what has waited long enough: RST at the app, and the other end is told.
    pub fn on_timer(&mut self, now: Instant) {
        let credential = self.control.due_credential(now);
        self.reactions.extend(credential.map(Reaction::Credential));
        self.exchange_due(now);
        while let Some((n, _)) = self.waits.first().filter(|&(_, at)| at <= now) {
            let n = StreamNo(n);
            let (record, why) = match self.local(n, Input::Expired) {
                Some(Action::ResetAndRefuse) => (Queued::Refused, CloseReason::TargetTimeout),
                Some(_) => (Queued::Abort, CloseReason::OpenTimeout),
                None => return self.waits.remove(n.0),
            };
            if let Some(key) = self.key(n) {
                self.reactions.push_back(Reaction::ResetApp { n, key, why });
            }
            self.end_app(n, record, why);
        }
        self.circuits_due(now);
    }

    /// The lane is gone: every app is reset, every stream freed. Nothing else happens on it.
    pub fn on_lost(&mut self, why: CloseReason) {
        for n in 1..=u16::try_from(self.slots.len()).unwrap_or(u16::MAX) {
            let n = StreamNo(n);
            if self.slot(n).is_none_or(|slot| slot.state == State::Free) {
                continue;
            }
            if self.local(n, Input::LaneLost) == Some(Action::Reset)
                && let Some(key) = self.key(n)
            {
                self.reactions.push_back(Reaction::ResetApp { n, key, why });
            }
            self.release_key(n, why);
        }
        self.phase = Phase::Gone;
        self.slots.clear();
        self.circuits = Circuits::default();
        self.free.clear();
        self.queue.clear();
        self.waits.clear();
        self.control.clear();
        self.exchange = super::exchange::Exchange::default();
        self.live = 0;
    }

    /// An input from this side.
    fn local(&mut self, n: StreamNo, input: Input) -> Option<Action> {
        let action = self.advance(n, input);
        debug_assert!(
            action.is_ok(),
            "{input:?} of stream {} in state {action:?}",
            n.0
        );
        action.ok()
    }

    pub(super) fn key(&self, n: StreamNo) -> Option<StreamKey> {
        self.slot(n)?.key
    }

    /// The app's part is over by a reset: tells the peer with `record`, and the owner with
    /// `Freed`.
    pub(super) fn end_app(&mut self, n: StreamNo, record: Queued, why: CloseReason) {
        self.leave_runs(n);
        let overtaken = self.slot_mut(n).and_then(|slot| slot.path.as_mut());
        if overtaken.is_some_and(|path| std::mem::take(&mut path.closed)) {
            // The outlet has forgotten the number, and answers nothing.
            self.answered(n);
        }
        if let Some(slot) = self.slot_mut(n) {
            slot.why = why;
            slot.queued.remove(Queued::Credit);
            if slot.queued.has(Queued::Opened) {
                // The inlet has heard nothing of the stream yet; ABORT alone says it all.
                slot.queued.remove(Queued::Opened);
                slot.queued.remove(Queued::End);
            }
        }
        self.enqueue(n, record);
        self.release_key(n, why);
        if let Some(slot) = self.slot_mut(n) {
            slot.discard();
        }
    }

    /// Nothing more of a stream that was reset comes on the lane.
    pub(super) fn answered(&mut self, n: StreamNo) {
        if let Some(slot) = self.slot_mut(n)
            && let State::Draining(draining) = &mut slot.state
        {
            draining.answered = true;
        }
    }
}

/// What a code from the peer means here. It can't make a reset look like a clean end, and its app
/// is our peer.
pub(super) fn peers_reason(code: Code, or: CloseReason) -> CloseReason {
    match CloseReason::from_code(code.0) {
        Some(CloseReason::AppReset | CloseReason::Finished) | None => or,
        Some(why) => why,
    }
}

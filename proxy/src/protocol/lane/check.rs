//! What must hold after every step. Simulations and tests call it; it walks all streams.

use std::collections::BTreeSet;

use super::circuits::{Receiving, Run, Sending};
use super::path::{Inward, Outward};
use super::slot::Slot;
use super::{Lane, Phase};
use crate::ids::{CircuitNo, StreamNo};
use crate::limits::{CREDIT_MAX, LANE_STREAMS_MAX};
use crate::protocol::command::Role;
use crate::protocol::stream::State;

impl Lane {
    /// Asserts this end's invariants: each number is free or taken, queued exactly when something
    /// is queued for it, waits exactly in the states with a deadline; credit granted = used + left.
    pub fn check(&self) {
        assert!(self.slots.len() <= LANE_STREAMS_MAX);
        let queue: BTreeSet<u16> = self.queue.iter().copied().collect();
        assert_eq!(queue.len(), self.queue.len(), "a stream is queued twice");
        let free: BTreeSet<u16> = self.free.iter().map(|n| n.0).collect();
        assert_eq!(free.len(), self.free.len(), "a number is free twice");
        let (mut taken, mut grown) = (0, 0);
        for (n, slot) in (1..).map(StreamNo).zip(self.slots.iter()) {
            self.check_slot(n, slot);
            assert_eq!(
                slot.in_queue,
                queue.contains(&n.0),
                "stream {} and the queue",
                n.0
            );
            let is_free = self.role == Role::Inlet && !slot.taken;
            assert_eq!(
                is_free,
                free.contains(&n.0),
                "stream {} and the free numbers",
                n.0
            );
            taken += usize::from(slot.taken);
            grown += slot.window.grown() as usize;
        }
        self.check_circuits();
        self.exchange.check(self.role);
        assert_eq!(taken, self.live, "streams whose number is in use");
        assert_eq!(grown, self.grants.taken(), "credit taken from the budget");
        assert!(
            self.phase != Phase::Gone || self.live == 0,
            "a lane that is gone has streams"
        );
    }

    /// A live run and its stream name each other, in both directions.
    fn check_circuits(&self) {
        for (&no, circuit) in &self.circuits.table {
            match circuit.out {
                Sending::Leaving(n) => self.check_out(n, Outward::Leaving(no)),
                Sending::Running(Run {
                    n,
                    live: true,
                    ending: None,
                    ..
                }) => self.check_out(n, Outward::On(no)),
                Sending::Running(Run { n, live: true, .. }) | Sending::Unread { n, live: true } => {
                    self.check_out(n, Outward::Unread(no))
                }
                Sending::Idle | Sending::Running(_) | Sending::Unread { .. } => {}
            }
            match circuit.into {
                Receiving::Awaited { n, live: true, .. } | Receiving::Running { n, live: true } => {
                    let inward = self.slot(n).map(Slot::inward);
                    let bound = match inward {
                        Some(Inward::Circuit(at)) => at == no,
                        Some(Inward::Returning(returning)) => returning.circuit == no,
                        Some(Inward::Lane | Inward::Landing | Inward::Cut) | None => false,
                    };
                    assert!(
                        bound,
                        "circuit {no:?} brings stream {n:?}, which is {inward:?}"
                    );
                }
                Receiving::Idle
                | Receiving::Early { .. }
                | Receiving::Awaited { .. }
                | Receiving::Running { .. } => {}
            }
        }
        for (n, slot) in (1..).map(StreamNo).zip(self.slots.iter()) {
            self.check_path(n, slot);
        }
    }

    fn check_out(&self, n: StreamNo, expected: Outward) {
        let found = self.slot(n).map(Slot::outward);
        assert_eq!(found, Some(expected), "where stream {n:?} sends");
    }

    fn check_path(&self, n: StreamNo, slot: &Slot) {
        let sends = |no: CircuitNo| self.circuits.get(no).map(|circuit| circuit.out);
        match slot.outward() {
            Outward::Lane => {}
            Outward::Leaving(no) => assert_eq!(sends(no), Some(Sending::Leaving(n))),
            Outward::On(no) => {
                let running = matches!(sends(no), Some(Sending::Running(run))
                    if run.n == n && run.live && run.ending.is_none());
                assert!(running, "stream {n:?} is not on circuit {no:?}");
            }
            Outward::Unread(no) => {
                let unread = match sends(no) {
                    Some(Sending::Running(run)) => run.n == n && run.ending.is_some(),
                    Some(Sending::Unread { n: left, live }) => left == n && live,
                    Some(Sending::Idle | Sending::Leaving(_)) | None => false,
                };
                assert!(unread, "stream {n:?} has left nothing on circuit {no:?}");
            }
        }
        if !slot.taken {
            assert!(slot.path.is_none(), "a free number has a path");
        }
    }

    /// Whether no direction of any circuit is in use at this end.
    pub fn circuits_are_idle(&self) -> bool {
        self.circuits.acks.is_empty()
            && self
                .circuits
                .table
                .values()
                .all(|circuit| circuit.out == Sending::Idle && circuit.into == Receiving::Idle)
    }

    /// Asserts that no direction of any circuit is in use at this end.
    pub fn check_circuits_idle(&self) {
        for (no, circuit) in &self.circuits.table {
            assert_eq!(circuit.out, Sending::Idle, "our direction of {no:?}");
            assert_eq!(
                circuit.into,
                Receiving::Idle,
                "the other direction of {no:?}"
            );
        }
        assert!(self.circuits.acks.is_empty());
    }

    fn check_slot(&self, n: StreamNo, slot: &Slot) {
        assert_eq!(
            slot.in_queue,
            !slot.queued.is_empty(),
            "what is queued is in the queue"
        );
        assert!(slot.credit <= CREDIT_MAX);
        let waits = matches!(slot.state, State::Opening { .. } | State::Connecting { .. });
        assert_eq!(
            self.waits.contains(n.0),
            waits,
            "stream {} in {:?}",
            n.0,
            slot.state
        );
        if !slot.taken {
            assert_eq!(slot.state, State::Free, "a free number has a stream");
            assert!(slot.queued.is_empty() && slot.open.is_none());
        }
        assert!(
            slot.key.is_none() || slot.state.has_app(),
            "a key outlives its stream"
        );
        if slot.state.has_app() {
            assert!(
                slot.window.is_balanced(),
                "credit granted is not used + left"
            );
        } else {
            assert_eq!(
                slot.window.grown(),
                0,
                "a stream without an app holds credit"
            );
        }
    }

    /// Asserts what must hold between two ends while nothing is on its way between them and
    /// nothing is queued: they agree on each stream's state, bytes and credit.
    pub fn check_against(&self, peer: &Lane) {
        assert!(
            !self.has_control() && !peer.has_control(),
            "something is still queued"
        );
        let free = Slot::default();
        for at in 0..self.slots.len().max(peer.slots.len()) {
            let (mine, theirs) = (self.slots.get(at), peer.slots.get(at));
            let (mine, theirs) = (mine.unwrap_or(&free), theirs.unwrap_or(&free));
            agree(mine, theirs);
            agree(theirs, mine);
        }
    }
}

/// One direction: what `from` sent and may send, as `to` sees it.
fn agree(from: &Slot, to: &Slot) {
    if from.state.has_app() && to.state.has_app() {
        assert_eq!(from.sent, to.window.total(), "bytes sent and received");
        assert_eq!(
            from.state.may_send(),
            to.state.may_receive(),
            "whether a direction is open"
        );
        if from.state.may_send() {
            assert_eq!(from.credit, to.window.left(), "credit at both ends");
        }
    } else {
        let open = |slot: &Slot| slot.state.may_send() || slot.state.may_receive();
        assert!(
            !open(from) && !open(to),
            "{:?} against {:?}",
            from.state,
            to.state
        );
    }
}

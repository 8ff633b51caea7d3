//! Streams whose directions get circuits of their own from the first byte on (`--dedicated`): on a
//! network that loses packets, streams of one lane wait for each other's losses.
//!
//! OPEN says so, by a flag. Each end does the same with the direction that it sends:
//!
//! ```text
//! Shared                          of a portal without the flag: see `promote.rs`
//! Due ──OPENED──▶ Waits ──SWITCH at offset 0──▶ Settled
//!  │                └──no circuit in `limits::DEDICATED_WAIT`, or none can come──▶ Settled
//!  └──FIN and nothing to send──▶ Settled
//! ```
//! Nothing leaves before Settled. A direction that is settled on its circuit stays there however
//! quiet it is. One that found none goes on on the lane, and moves as soon as a circuit is idle: a
//! slow stream is better than none.

use super::Worker;
use super::lane::LaneIx;
use super::slab::SlotKey;
use crate::engine::Engine;
use crate::limits::{CIRCUITS_FOR_ALL, CIRCUITS_READY_MAX, DEDICATED_WAIT};
use crate::time::Instant;

/// Where a direction of a dedicated stream is. See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Own {
    /// The stream is no such one.
    #[default]
    Shared,
    /// The target is not connected yet.
    Due,
    /// For an idle circuit, until then.
    Waits(Instant),
    /// On its circuit; or on the lane, because there was none in time.
    Settled,
}

impl Own {
    /// Of a stream that is just being opened.
    pub fn new(dedicated: bool) -> Own {
        if dedicated { Own::Due } else { Own::Shared }
    }

    /// Whether nothing may leave yet.
    pub fn is_held(self) -> bool {
        matches!(self, Own::Due | Own::Waits(_))
    }

    /// Whether it stays on its circuit while it is quiet.
    pub fn is_dedicated(self) -> bool {
        self != Own::Shared
    }

    /// With so many of a bundle's sending directions in use, it gets none.
    pub fn circuits_max(self) -> usize {
        if self.is_dedicated() {
            CIRCUITS_READY_MAX
        } else {
            CIRCUITS_FOR_ALL
        }
    }
}

impl<E: Engine> Worker<E> {
    /// The target is connected: the direction looks for its circuit.
    pub(super) fn stream_dedicate(&mut self, key: SlotKey) {
        let until = self.now + DEDICATED_WAIT;
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        if stream.rx.own == Own::Due {
            stream.rx.own = Own::Waits(until);
            self.stream_seek(key);
        }
    }

    /// Takes an idle circuit, waits for one that can come, or goes on on the lane.
    fn stream_seek(&mut self, key: SlotKey) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        let (Own::Waits(until), Some((ix, n))) = (stream.rx.own, stream.place()) else {
            return;
        };
        self.lane_prune_wishes(ix);
        let may_come = self.lanes.get(ix).is_some_and(|lane| {
            let ahead = lane.proto.circuits_sending() + lane.wishes.waiting.len();
            ahead < Own::Settled.circuits_max()
        });
        if may_come {
            self.stream_promote(key);
        }
        // A direction that is leaving may send nothing.
        let lane = self.lanes.get(ix);
        let leaves = lane.is_some_and(|lane| lane.proto.sendable(n) == 0);
        if self.stream(key).is_some_and(|stream| stream.rx.wishes) {
            self.net.set_deadline(key, until);
        } else if !leaves {
            self.stream_settle(key);
        }
    }

    /// Forgets streams that wait for a circuit no more, once they are many: so the list is bounded,
    /// and nobody stands behind them.
    fn lane_prune_wishes(&mut self, ix: LaneIx) {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        if lane.wishes.waiting.len() < CIRCUITS_READY_MAX / 2 {
            return;
        }
        let mut waiting = std::mem::take(&mut lane.wishes.waiting);
        waiting.retain(|key| self.stream(*key).is_some_and(|stream| stream.rx.wishes));
        if let Some(lane) = self.lanes.get_mut(ix) {
            lane.wishes.waiting = waiting;
        }
    }

    /// The direction waits no longer: what is held leaves where the direction is.
    pub(super) fn stream_settle(&mut self, key: SlotKey) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        match std::mem::replace(&mut stream.rx.own, Own::Settled) {
            Own::Waits(_) => {
                // How long it is quiet counts from here on.
                self.net.set_deadline(key, Instant::FAR_FUTURE);
                self.stream_watch_quiet(key);
            }
            Own::Due | Own::Settled => {}
            Own::Shared => stream.rx.own = Own::Shared,
        }
        self.stream_queue(key);
    }

    /// The app sent FIN, and nothing before it that has not left: an END needs no circuit.
    pub(super) fn stream_hurry(&mut self, key: SlotKey) {
        if self.stream(key).is_some_and(|s| s.rx.own.is_held()) {
            self.stream_settle(key);
        }
    }

    /// The circuit that it was about to take is gone.
    pub(super) fn stream_seek_again(&mut self, key: SlotKey) {
        let waits = self
            .stream(key)
            .is_some_and(|s| matches!(s.rx.own, Own::Waits(_)) && !s.rx.wishes);
        if waits {
            self.stream_seek(key);
        }
    }

    /// The deadline of a stream that is up; whether it was one of these.
    pub(super) fn stream_dedicated_due(&mut self, key: SlotKey) -> bool {
        let Some(Own::Waits(until)) = self.stream(key).map(|stream| stream.rx.own) else {
            return false;
        };
        if until <= self.now {
            self.counters.dedicated_late.add(1);
            self.stream_settle(key);
        } else {
            self.net.set_deadline(key, until);
        }
        true
    }
}

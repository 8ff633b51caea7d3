//! Where the two directions of a stream are that has left its lane at least once. A stream that
//! never did has no [`Path`]: both its directions are on the lane.
//!
//! ```text
//! ours    Lane ─SWITCH queued─▶ Leaving ─SWITCH left─▶ On ─END, CUT or SWITCH{0}─▶ Unread ─ACK─▶ Lane
//! theirs  Lane ─SWITCH─▶ Circuit ─END─▶ Lane (over)
//!                        Circuit ─SWITCH{0}─▶ Landing ─CONTINUE─▶ Lane
//!                        Circuit ─CONTINUE─▶ Returning ─SWITCH{0}─▶ Lane
//!                        Circuit ─CUT─▶ Cut (ABORT comes)
//! ```
//! SWITCH{0} comes on the circuit and CONTINUE on the lane, so either may be first. A direction
//! of ours leaves again only from Lane: at the other end at most one return is ever pending.

use super::slot::Slot;
use crate::ids::CircuitNo;

/// Where our sending direction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Outward {
    /// On the lane.
    #[default]
    Lane,
    /// SWITCH is queued: nothing more is sent on the lane.
    Leaving(CircuitNo),
    /// On the circuit.
    On(CircuitNo),
    /// Back on the lane or over; the circuit was not read to its end yet.
    Unread(CircuitNo),
}

/// Where the direction is that we receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Inward {
    /// On the lane.
    #[default]
    Lane,
    /// On the circuit.
    Circuit(CircuitNo),
    /// Its SWITCH{0} was read; CONTINUE on the lane was not.
    Landing,
    /// CONTINUE on the lane was read and SWITCH{0} was not: what the lane brings is held.
    Returning(Returning),
    /// CUT was read: ABORT follows on the lane.
    Cut,
}

/// The part of a returning direction that overtook the end of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Returning {
    /// The circuit whose run is not read to its end.
    pub(super) circuit: CircuitNo,
    /// Bytes of the direction before the lane's part, as CONTINUE says.
    pub(super) at: u64,
    /// Bytes that came on the lane since.
    pub(super) behind: u64,
    /// What END, read on the lane, says.
    pub(super) ended: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Path {
    pub(super) out: Outward,
    pub(super) into: Inward,
    /// Bytes from circuits that were handed over and are not written to the app.
    pub(super) aside: u32,
    /// Inlet: CLOSED was read before the END on the circuit.
    pub(super) closed: bool,
}

impl Slot {
    pub(super) fn outward(&self) -> Outward {
        self.path.as_ref().map_or(Outward::Lane, |path| path.out)
    }

    pub(super) fn inward(&self) -> Inward {
        self.path.as_ref().map_or(Inward::Lane, |path| path.into)
    }

    pub(super) fn path_mut(&mut self) -> &mut Path {
        self.path.get_or_insert_default()
    }

    /// Whether the end of the received direction may lie on a circuit, so that CLOSED can
    /// overtake it.
    pub(super) fn may_be_overtaken(&self) -> bool {
        match self.inward() {
            Inward::Circuit(_) => true,
            Inward::Returning(returning) => returning.ended.is_some(),
            Inward::Lane | Inward::Landing | Inward::Cut => false,
        }
    }

    fn aside(&self) -> u32 {
        self.path.as_ref().map_or(0, |path| path.aside)
    }

    /// Whether the app has everything that was received.
    pub(super) fn is_delivered(&self) -> bool {
        self.window.is_delivered() && self.aside() == 0
    }

    /// Bytes written to the app.
    pub(super) fn delivered(&self) -> u64 {
        self.window.delivered() - u64::from(self.aside())
    }

    /// Forgets bytes that nobody will take any more.
    pub(super) fn discard(&mut self) {
        self.window.discard();
        if let Some(path) = &mut self.path {
            path.aside = 0;
        }
    }
}

//! What a lane keeps of one stream.

use super::StreamKey;
use super::path::Path;
use super::window::Window;
use crate::error::CloseReason;
use crate::limits::CREDIT_INITIAL;
use crate::protocol::record::Open;
use crate::protocol::stream::State;

/// Records queued for one stream, one of each kind, in the order in which they leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Queued {
    Open = 0,
    Opened = 1,
    Refused = 2,
    Credit = 3,
    Continue = 4,
    Switch = 5,
    End = 6,
    Abort = 7,
    Closed = 8,
}

impl Queued {
    const ALL: [Queued; 9] = [
        Queued::Open,
        Queued::Opened,
        Queued::Refused,
        Queued::Credit,
        Queued::Continue,
        Queued::Switch,
        Queued::End,
        Queued::Abort,
        Queued::Closed,
    ];
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct QueuedSet(u16);

impl QueuedSet {
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn insert(&mut self, record: Queued) {
        self.0 |= 1 << record as u8;
    }

    pub(super) fn remove(&mut self, record: Queued) {
        self.0 &= !(1 << record as u8);
    }

    pub(super) fn has(self, record: Queued) -> bool {
        self.0 & 1 << record as u8 != 0
    }

    /// The one that leaves first.
    pub(super) fn first(self) -> Option<Queued> {
        Queued::ALL.get(self.0.trailing_zeros() as usize).copied()
    }
}

/// One stream. `Default` is a free number.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    /// The number is in use, or something of its last stream is still queued.
    pub(super) taken: bool,
    /// In the lane's queue.
    pub(super) in_queue: bool,
    pub(super) queued: QueuedSet,
    /// The app's, until it is freed; an outlet's new stream has none until it is bound.
    pub(super) key: Option<StreamKey>,
    /// Bytes that we may still send.
    pub(super) credit: u32,
    /// Bytes sent.
    pub(super) sent: u64,
    pub(super) window: Window,
    /// Where its directions are, once one of them has left the lane.
    pub(super) path: Option<Box<Path>>,
    /// What the queued OPEN says.
    pub(super) open: Option<Box<Open>>,
    /// What the queued REFUSED or ABORT says.
    pub(super) why: CloseReason,
}

impl Default for Slot {
    fn default() -> Self {
        Slot {
            state: State::Free,
            taken: false,
            in_queue: false,
            queued: QueuedSet::default(),
            key: None,
            credit: CREDIT_INITIAL,
            sent: 0,
            window: Window::default(),
            path: None,
            open: None,
            why: CloseReason::Finished,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queued_records_leave_in_their_order_and_once() {
        let mut set = QueuedSet::default();
        assert_eq!(set.first(), None);
        for record in [Queued::Abort, Queued::Open, Queued::End, Queued::End] {
            set.insert(record);
        }
        let mut order = Vec::new();
        while let Some(record) = set.first() {
            assert!(set.has(record));
            set.remove(record);
            order.push(record);
        }
        assert_eq!(order, [Queued::Open, Queued::End, Queued::Abort]);
        assert!(set.is_empty());
    }

    #[test]
    fn an_idle_stream_costs_little() {
        assert!(size_of::<Slot>() <= 96, "{} bytes", size_of::<Slot>());
    }
}

//! What a lane refuses: of its own side, and of the peer.

use crate::error::CloseReason;
use crate::protocol::codec::CodecError;
use crate::protocol::record::Kind;
use crate::protocol::stream::{Input, State};

/// Why a stream could not be opened on this lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenRefused {
    /// READY has not come yet.
    #[error("the lane is not ready")]
    NotReady,
    /// The lane takes no new streams.
    #[error("the lane is retiring")]
    Retiring,
    /// All numbers are in use.
    #[error("the lane is full")]
    Full,
    /// The target's name is none.
    #[error("the target's name is not valid")]
    BadTarget,
}

/// What the peer did that it may not do. The lane ends by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A payload that is none.
    #[error("malformed {kind:?}: {error}")]
    Malformed {
        /// The record.
        kind: Kind,
        /// What is wrong.
        error: CodecError,
    },
    /// A record that the state of its stream has no cell for.
    #[error("{input:?} in state {state:?}")]
    OutOfTurn {
        /// What came.
        input: Input,
        /// The stream's state.
        state: State,
    },
    /// A record that only the other end sends.
    #[error("{0:?} came from the wrong end")]
    WrongEnd(Kind),
    /// A record at a time when the lane doesn't take it.
    #[error("{0:?} is out of turn on this lane")]
    Untimely(Kind),
    /// A record of a direction that is not there: on the lane while it is on a circuit, on a
    /// circuit that is not its own, or for a circuit that is another's.
    #[error("{0:?} of a direction that is elsewhere")]
    Elsewhere(Kind),
    /// A record that this version doesn't use yet.
    #[error("{0:?} is not in use in this version")]
    NotInUse(Kind),
    /// A stream number that is out of bounds or leaves a gap.
    #[error("stream number {0} is out of bounds")]
    Number(u16),
    /// More bytes than were granted.
    #[error("{got} bytes came where {granted} were granted")]
    Overrun {
        /// Bytes of the record.
        got: usize,
        /// What was left.
        granted: u32,
    },
    /// More credit than a stream may have.
    #[error("credit above the bound")]
    TooMuchCredit,
    /// END counts other bytes than came.
    #[error("END says {said} bytes and {counted} came")]
    Count {
        /// What END says.
        said: u64,
        /// What came.
        counted: u64,
    },
}

impl Violation {
    /// The reason under which the lane ends.
    pub fn reason(self) -> CloseReason {
        match self {
            Violation::Malformed { .. } => CloseReason::Malformed,
            Violation::OutOfTurn { .. }
            | Violation::WrongEnd(_)
            | Violation::Untimely(_)
            | Violation::Elsewhere(_)
            | Violation::NotInUse(_)
            | Violation::Number(_)
            | Violation::Overrun { .. }
            | Violation::TooMuchCredit
            | Violation::Count { .. } => CloseReason::Violation,
        }
    }
}

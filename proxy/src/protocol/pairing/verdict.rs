//! What is decided about legs.

use crypto::Id;
use crypto::suite::SuiteMask;

use crate::error::CloseReason;
use crate::ids::{AddressHash, SessionId};
use crate::protocol::leg::Answer;

/// The owner's name for a leg. Never two at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegHandle(pub u64);

/// Two legs that are a circuit from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The inlet's leg; its answer is PAIRED(`outlet_suites`).
    pub inlet: LegHandle,
    /// The outlet's leg; its answer is PAIRED(`inlet_suites`).
    pub outlet: LegHandle,
    /// What the inlet's preface offered.
    pub inlet_suites: SuiteMask,
    /// What the outlet's did.
    pub outlet_suites: SuiteMask,
}

/// What becomes of a new leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is parked, or waits for an outlet. Watch it for hang-up.
    Waits,
    /// It is paired.
    Paired(Pair),
    /// Answer this, then close. It is not known here any more.
    Refused(Answer),
}

/// What else was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Two waiting legs are paired.
    Paired(Pair),
    /// A waiting leg is answered this, then closed.
    Refused {
        /// The leg.
        leg: LegHandle,
        /// The answer.
        answer: Answer,
    },
    /// A leg ends without an answer; with it, if it is paired, its circuit.
    Ended {
        /// The leg.
        leg: LegHandle,
        /// Why.
        why: CloseReason,
    },
    /// Ask the member, over this session, to park so many legs more.
    ParkLow {
        /// The session.
        session: SessionId,
        /// The address.
        address: AddressHash,
        /// At least one.
        want: u16,
    },
    /// All legs of this member have ended: [`LegTable::forget`](crate::protocol::leg::LegTable::forget) it.
    MemberEnded(Id),
}

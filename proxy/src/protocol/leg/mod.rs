//! The first bytes of a leg, the relay's answer, and the relay's table of who may send them.
//!
//! ```text
//! preface, 96 B   | magic 4 | version 1 | kind 3 | 0 0 | session 16 | counter u64 |   clear, authenticated
//!                 | role u8 | flags u8 | suite mask u16 | address hash 32 | 0 × 12 | sealed; then tag 16
//! answer, 48 B    | answer u8 | 0 | suite mask u16 | retry ms u32 | 0 × 24 |           sealed; then tag 16
//! ```
//!
//! Both are sealed with keys of the session ([`LegKey`](crypto::leg::LegKey)), nonce = counter. A
//! node uses a counter once; the relay accepts it once, in any order within `limits::LEG_WINDOW`.
//! Checking costs one AEAD and a look-up: no public-key work, no allocation.
//!
//! `wire` seals and opens the two pieces, `window` knows which counters were used, and `table` the
//! sessions by which legs are checked, and how long legs may stay.

mod table;
mod window;
mod wire;

use crypto::Id;

use crate::error::CloseReason;
use crate::ids::SessionId;

pub use self::table::LegTable;
pub use self::wire::{Answer, Request, preface, read_answer, seal_answer};

/// A leg whose preface was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegInfo {
    /// The session whose key it showed.
    pub session: SessionId,
    /// Its counter, for the answer.
    pub counter: u64,
    /// Whose it is.
    pub member: Id,
    /// What it asks for.
    pub request: Request,
    /// The member's pass allows that, and (outlet) its session said that it serves it.
    pub permitted: bool,
}

/// Why a preface is not answered at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LegRefusal {
    /// Not the clear part of a leg's preface.
    #[error("not a leg preface")]
    Malformed,
    /// No such session here, now.
    #[error("the leg's session is not known here")]
    UnknownSession,
    /// The counter was used before, or is too old to tell.
    #[error("the leg's preface was used before")]
    Replayed,
    /// It does not authenticate.
    #[error("the leg's preface does not authenticate")]
    Forged,
    /// The member's pass has ended.
    #[error("the member's pass has ended")]
    Expired,
}

impl LegRefusal {
    /// The reason under which it is closed and counted.
    pub fn reason(self) -> CloseReason {
        match self {
            LegRefusal::Malformed => CloseReason::Malformed,
            LegRefusal::UnknownSession | LegRefusal::Replayed | LegRefusal::Forged => {
                CloseReason::BadLeg
            }
            LegRefusal::Expired => CloseReason::LegExpired,
        }
    }
}

//! Bugs that a test plants, to show that the simulation would find such a one. Compiled with the
//! feature `planted` only, which nothing that is shipped has; asleep until a test wakes one, and
//! only on the thread that did.

use std::cell::Cell;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Step (f) of the check lets everybody in.
    SkippedCheck,
    /// Every eighth record is sealed under the nonce of the one before.
    WrongNonce,
    /// An END that is queued behind another record of its stream never leaves.
    LostEnd,
    /// A stream's number becomes free twice.
    DoubleFree,
    /// An app whose stream is cut sees the end of its data.
    FinForCut,
    /// An inlet goes over to the mixed key before the outlet has said KEY_READY.
    EarlyMix,
}

/// All of them.
pub const BUGS: [Bug; 6] = [
    Bug::SkippedCheck,
    Bug::WrongNonce,
    Bug::LostEnd,
    Bug::DoubleFree,
    Bug::FinForCut,
    Bug::EarlyMix,
];

thread_local! {
    static AWAKE: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Wakes a bug on this thread, or puts the one that is awake to sleep.
pub fn plant(bug: Option<Bug>) {
    AWAKE.set(bug);
}

/// Whether that bug is awake on this thread.
pub fn is(bug: Bug) -> bool {
    AWAKE.get() == Some(bug)
}

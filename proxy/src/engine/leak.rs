//! Counts buffers and sockets that were dropped instead of given back.
//!
//! Dropping one is a bug of its owner, but a harmless one for memory: a dropped buffer goes back
//! to its pool and a dropped socket is closed with its engine. So debug builds count and say so
//! once per thread, tests assert on the count, and release builds do nothing.

use std::cell::Cell;

thread_local! {
    static LEAKS: Cell<u64> = const { Cell::new(0) };
}

/// How many buffers and sockets this thread has dropped so far. Always 0 in release builds. A
/// test that tears down a live worker on purpose compares before and after instead of with 0.
pub fn leaks() -> u64 {
    LEAKS.with(Cell::get)
}

/// Runs `f`, in which dropped buffers and sockets are no leaks: the end of a simulated process, whose
/// kernel takes everything back.
pub fn tear_down<T>(f: impl FnOnce() -> T) -> T {
    let before = LEAKS.with(|n| n.replace(u64::MAX / 2));
    let result = f();
    LEAKS.with(|n| n.set(before));
    result
}

/// Notes that a `what` was dropped; silent while a panic unwinds, because then everything is.
pub(super) fn report(what: &str) {
    if !cfg!(debug_assertions) || std::thread::panicking() {
        return;
    }
    LEAKS.with(|n| {
        if n.get() == 0 {
            eprintln!("engine: a {what} was dropped instead of given back");
        }
        n.set(n.get() + 1);
    });
}

//! Floor 1: the protocol without I/O. Pure functions and state machines of (now, event).

pub mod command;

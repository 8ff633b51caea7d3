//! Floor 1: the protocol without I/O. Pure functions and state machines of (now, event).

pub mod canonical;
pub mod command;
pub mod core;
pub mod keyring;
pub mod policy;
pub mod pool;
pub mod session;
pub mod shake;
pub mod store;

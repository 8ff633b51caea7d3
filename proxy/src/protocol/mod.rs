//! Floor 1: the protocol without I/O. Pure functions and state machines of (now, event).

pub mod codec;
pub mod command;
pub mod frame;
pub mod preface;
pub mod record;
pub mod stream;

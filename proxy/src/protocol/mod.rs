//! Floor 1: the protocol without I/O. Pure functions and state machines of (now, event).

pub mod audit;
pub mod canonical;
pub mod codec;
pub mod command;
pub mod core;
pub mod frame;
pub mod keyring;
pub mod lane;
pub mod leg;
pub mod pairing;
pub mod policy;
pub mod pool;
pub mod portal_limits;
pub mod preface;
pub mod proxy_header;
pub mod record;
pub mod session;
pub mod shake;
pub mod store;
pub mod strangers;
pub mod stream;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod testkit;

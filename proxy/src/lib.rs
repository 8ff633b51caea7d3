//! adit: an end-to-end encrypted, mutually authenticated and authorized portal for TCP.
//!
//! The crate is built in floors; a floor may use those below it and never one above
//! (`tests/tests/tidy.rs` fails when one reaches up). ARCHITECTURE.md is the map.
//!
//! | floor | modules | what it is |
//! |---|---|---|
//! | 4 | `cli` | what was typed, what it means, one subcommand a file |
//! | 3 | `control`, `worker`, `mailbox` | the slow path that decides, the hot path that moves bytes, and the only place where they meet |
//! | 2 | [`engine`] | io_uring, epoll and the simulator behind one trait; the only `unsafe` |
//! | 1 | [`protocol`] | sans-IO: bytes, states and decisions as pure functions of (now, event) |
//! | 0 | [`ids`], [`time`], [`limits`], [`error`], `blocks` | newtypes, the injected clock, every bound, every close reason, an array |

mod blocks;
pub mod error;
pub mod ids;
pub mod limits;
pub mod time;

pub mod protocol;

#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod mailbox;
#[cfg(feature = "engine")]
pub mod worker;

#[cfg(feature = "control")]
pub mod control;

#[cfg(feature = "cli")]
pub mod cli;

//! The decisions of control, without I/O: two state machines and what they are told and say.
//!
//! | core | who runs it | decides |
//! |---|---|---|
//! | [`MemberCore`] | a node with inlets and outlets | enrollment, sessions, legs, lanes, permits, renewals |
//! | [`ServerCore`] | `adit serve` | as the authority (`authority`): redemption, renewal, time, what is signed; as a relay (`relay`): who has a session, which addresses it serves, leg keys |
//!
//! # How a driver runs one
//! 1. [`Core::handle`] with every event, answer and request that is there, in any order;
//! 2. [`Core::handle`] with [`Input::Timer`] when [`Core::next_timer`] has passed (work that was
//!    put off, such as the handshakes of strangers, asks for a timer that has passed already);
//! 3. [`Core::poll_output`] until it is `None`, and carry out each in order;
//! 4. sleep until something comes or [`Core::next_timer`].
//!
//! A core never blocks, never asks for the time, and is deterministic: the same inputs with the
//! same randomness give the same outputs. The simulator is just another driver.

pub mod admin;
mod authority;
mod by_peer;
mod clock;
pub mod config;
mod enrollment;
pub mod io;
mod link_event;
pub mod member;
pub mod membership;
mod node;
mod outbox;
mod relay;
mod revocations;
pub mod server;
pub mod status;
mod tally;
pub(in crate::protocol) mod text;
mod uplink;

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]
mod tests;
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]
mod world;

pub use admin::{
    AdminCall, AdminDesk, AdminReply, NodeHolds, PeerWhy, PolicyChange, PortalWhy, Revoked,
    TicketSpec, credential_body,
};
pub use config::{
    AuthorityConfig, InletConfig, MemberConfig, OutletConfig, Reconfigured, RelayConfig,
    ServerConfig, TargetConfig,
};
pub use io::{AdminNo, Core, Input, Level, LogRecord, Now, Output, ResolveNo, StateFile, StoreNo};
pub use member::MemberCore;
pub use membership::{Membership, MembershipError};
pub use revocations::HeldRevocations;
pub use server::ServerCore;
pub use status::{
    CircuitsStatus, MembershipStatus, PortalStatus, Reach, RevocationsStatus, ServerStatus, Status,
};
pub use tally::Tally;

//! A node with inlets and outlets.
//!
//! | module | what it holds |
//! |---|---|
//! | [`node_core`] | [`MemberCore`]: routes inputs to the parts, and what changed in one to the others |
//! | [`relay_link`] | the relay session, remade hourly, and the legs that it lets this node make |
//! | [`inlet`] | an inlet portal: one lane, its replacement, and what apps are told meanwhile |
//! | [`outlet`] | an outlet portal: parked legs, handshakes, lanes, targets |
//! | [`peer`] | the check of the other end, at the handshake and at each renewal |
//! | [`legs`] | a leg from its dial to its pairing |

mod exchange;
mod inlet;
mod legs;
mod node_core;
mod outlet;
mod peer;
mod relay_link;
mod stream_log;
mod targets;

pub use node_core::MemberCore;

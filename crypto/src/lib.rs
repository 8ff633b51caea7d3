//! Everything of adit that holds a key or checks a signature.
//!
//! No I/O, no clock and no threads: the time is an argument ([`UnixTime`]), randomness is a
//! [`Random`] that the caller passes in, and the same inputs give the same outputs. Everything
//! that comes from outside goes through a strict decoder with a bound ([`limits`]) before it is
//! kept.
//!
//! | module | what it holds |
//! |---|---|
//! | [`names`] | names, attributes, relay addresses, host:port |
//! | [`identity`] | an Ed25519 key with its signed change history; its id survives rotation |
//! | [`statics`], [`attestation`] | Noise static keys, and an identity's word for them |
//! | [`credential`] | what the authority says of a member, and the part relays are shown |
//! | [`project`], [`ticket`] | how a node learns of a project and joins it |
//! | [`revocation`] | the signed list of who is no member any more, and the beacon |
//! | [`check`] | the one place where a peer is believed: steps (a) to (f) |
//! | [`suite`], [`noise`] | cipher suites and the handshake, as type states |
//! | [`record`], [`leg`] | sealing records, session frames and leg prefaces |
//! | [`chain`] | the hash chain of an audit trail |
//! | [`sign`] | domain separation of every signature |
//!
//! # What is wiped and what can't be
//! Every secret that this crate owns is wiped when it is dropped or replaced. Two things are out
//! of its reach without `unsafe`: the chaining key inside snow's handshake state, and copies that
//! ring leaves on the stack while it derives a key. Both are short-lived.

#![forbid(unsafe_code)]

mod address;
mod aead;
pub mod attestation;
mod cbor;
pub mod chain;
pub mod check;
pub mod credential;
#[cfg(test)]
mod golden;
pub mod id;
pub mod identity;
mod kdf;
pub mod leg;
pub mod limits;
pub mod names;
pub mod noise;
#[cfg(feature = "planted")]
pub mod planted;
pub mod project;
pub mod random;
pub mod record;
pub mod revocation;
#[cfg(test)]
mod secrets;
pub mod sign;
pub mod statics;
pub mod suite;
pub mod ticket;
mod time;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod wycheproof;

pub use address::address_hash;
pub use cbor::DecodeError;
pub use id::Id;
#[cfg(any(test, feature = "sim"))]
pub use random::SeededRandom;
pub use random::{Random, SystemRandom};
pub use time::UnixTime;

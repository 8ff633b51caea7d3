//! The handshake of a circuit, end to end through the relay, both ends.
//!
//! ```text
//! inlet                                                        outlet
//! PAIRED(outlet's mask): picks the suite              PAIRED(inlet's mask)
//! frame 1 [suite ‖ Noise message 1]  ──▸
//!                      ◂──  frame 2 [Noise message 2: versions, suites, evidence]
//! checks it, and only then:
//! frame 3 [Noise message 3: the same, lane or circuit, bundle, number]  ──▸  checks it
//!                      ◂──  records: READY, or DENIED and the end
//! ```
//!
//! Each end puts the relay address that it asked for *itself* into the prologue: a relay that
//! joins the inlet of one address with the outlet of another gets a handshake that fails at
//! message 2. The masks that the relay passed on are a hint; both are repeated inside messages 2
//! and 3, and each end recomputes the choice.

mod exchange;
mod hello;
mod inlet;
mod outlet;

pub use exchange::{Binding, Exchanged, InletExchange, OutletExchange};
pub use hello::{CircuitHello, CircuitKind};
pub use inlet::{InletShake, Shaken};
pub use outlet::{OutletShake, Proposal};

use crypto::Id;
use crypto::check::Evidence;
use crypto::names::RelayAddress;
use crypto::noise::Part;
use crypto::statics::StaticKeypair;
use crypto::suite::{Suite, SuiteMask};

use crate::limits::PREFACE;
use crate::protocol::preface::{Kind, Preface, VERSION};

/// The preface's bytes with the kind `circuit`: never sent, only in the prologue.
const CIRCUIT_PREFACE: [u8; PREFACE] = Preface::bytes(Kind::Circuit);

/// What one end brings into a handshake.
pub struct Side<'a> {
    /// The project.
    pub project: &'a Id,
    /// The relay address of this end's own request.
    pub address: &'a RelayAddress,
    /// Suites it offers, after local policy.
    pub suites: SuiteMask,
    /// Its static key for circuits.
    pub pair: &'a StaticKeypair,
    /// What it shows.
    pub evidence: &'a Evidence,
}

impl Side<'_> {
    fn prologue(&self, suite: Suite) -> Vec<u8> {
        crypto::noise::prologue(
            &CIRCUIT_PREFACE,
            suite,
            VERSION,
            self.project,
            Some(self.address),
            Part::Inlet,
            Part::Outlet,
        )
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]
mod tests;

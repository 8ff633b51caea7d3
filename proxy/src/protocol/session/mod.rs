//! The sans-IO session of a node with the authority or a relay.
//!
//! ```text
//! dialer   preface ‖ frame 1 [suite ‖ Noise message 1]  ──▸  acceptor
//!          ◂── frame 2 [Noise message 2: what the acceptor shows]
//!          checks it, and only then:
//!          frame 3 [Noise message 3: what the dialer shows] ──▸  checks it
//!          sealed frames, each one message with a request id, both ways
//! ```
//!
//! Kinds are never mixed: the preface's kind is in the prologue, each kind has a static key of
//! its own, and a message of the other kind is a violation.
//!
//! The suite of a session is [`SESSION_SUITES`]' one member, which every build has: the dialer
//! speaks first and knows nothing of the acceptor, so there is nothing to negotiate and nothing
//! that an attacker could strip. Both masks are in the encrypted payloads all the same, and each
//! end recomputes the choice, so that more suites can come.

mod accept;
mod dial;
mod hello;
mod message;
mod sealed;

pub use accept::{Accepted, Accepting};
pub use dial::Dialing;
pub use hello::Hello;
pub use message::{Message, Refusal, RequestNo};
pub use sealed::Sealed;

use crypto::attestation::Purpose;
use crypto::check::{Denial, EvidenceError};
use crypto::noise::{NoiseError, Part};
use crypto::suite::SuiteMask;

use crate::error::{CloseReason, Code};
use crate::limits::PREFACE;
use crate::protocol::preface::{self, Preface, VERSION};

/// What sessions offer.
pub const SESSION_SUITES: SuiteMask = SuiteMask::NONE.with(crypto::suite::Suite::ChaChaPoly);

/// The two kinds of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// With the authority: redeem, renew, time, project note.
    Authority,
    /// With a relay: serve, park, pair.
    Relay,
}

impl Kind {
    /// The kind's clear preface.
    pub const fn preface(self) -> [u8; PREFACE] {
        match self {
            Kind::Authority => Preface::bytes(preface::Kind::AuthoritySession),
            Kind::Relay => Preface::bytes(preface::Kind::RelaySession),
        }
    }

    /// The session kind that a preface announces; another kind or other bytes are `None`.
    pub fn of_preface(preface: &[u8; PREFACE]) -> Option<Kind> {
        [Kind::Authority, Kind::Relay]
            .into_iter()
            .find(|kind| kind.preface() == *preface)
    }

    /// What the static keys of both ends are attested for.
    pub const fn purpose(self) -> Purpose {
        match self {
            Kind::Authority => Purpose::AuthoritySession,
            Kind::Relay => Purpose::RelaySession,
        }
    }

    const fn acceptor(self) -> Part {
        match self {
            Kind::Authority => Part::Authority,
            Kind::Relay => Part::Relay,
        }
    }

    fn prologue(self, suite: crypto::suite::Suite, project: &crypto::Id) -> Vec<u8> {
        let (node, acceptor) = (Part::Node, self.acceptor());
        crypto::noise::prologue(
            &self.preface(),
            suite,
            VERSION,
            project,
            None,
            node,
            acceptor,
        )
    }
}

/// Why a handshake or session ended. For the local log; the peer hears at most "not authorized".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A frame is not what it should be.
    #[error("a malformed frame arrived")]
    Malformed,
    /// The suite is not offered here, or not the one that both masks give.
    #[error("the cipher suite is not the one that both ends prefer")]
    Suite,
    /// No common protocol version.
    #[error("no common protocol version: the peer speaks {0} to {1}, this end speaks 1")]
    Version(u8, u8),
    /// Noise refused a message: altered, or made for another project, kind, role or address.
    #[error(
        "the handshake failed: the other end means another project or address, or a message was altered"
    )]
    Noise(#[from] NoiseError),
    /// What the peer shows can't be read.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// What the peer shows is not believed.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// A frame does not authenticate.
    #[error("a frame failed authentication")]
    BadTag,
    /// A message came that has no place here.
    #[error("a message came out of turn")]
    Violation,
    /// A session has lived too long or a message is too long.
    #[error("a limit of the session is reached")]
    Limit,
}

impl SessionError {
    /// Why the link is closed.
    pub fn close_reason(&self) -> CloseReason {
        match self {
            SessionError::Malformed => CloseReason::Malformed,
            SessionError::Suite | SessionError::Noise(_) => CloseReason::ShakeFailed,
            SessionError::Version(..) => CloseReason::BadVersion,
            SessionError::Evidence(_) | SessionError::Denied(_) => CloseReason::NotAuthorized,
            SessionError::BadTag => CloseReason::BadTag,
            SessionError::Violation => CloseReason::Violation,
            SessionError::Limit => CloseReason::Overloaded,
        }
    }

    /// The stable code for the log.
    pub fn code(&self) -> Code {
        match self {
            SessionError::Denied(denial) => Code(denial.code()),
            SessionError::Evidence(error) => Code(error.code()),
            SessionError::Malformed
            | SessionError::Suite
            | SessionError::Version(..)
            | SessionError::Noise(_)
            | SessionError::BadTag
            | SessionError::Violation
            | SessionError::Limit => self.close_reason().code(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

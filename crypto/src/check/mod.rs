//! The check: the one place where a peer of a handshake is believed.
//!
//! | step | what must hold | function |
//! |---|---|---|
//! | a | the history hashes to the id, follows what the verifier holds, and its head is the credential's | all |
//! | b | the last key attested: this project, this purpose, now | all |
//! | c | the attested key *equals* the static key that Noise used | all |
//! | d | an accepted key of the authority signed: this project, this subject, now, this role | member, pass |
//! | e | the address is permitted in this direction; the serial is not revoked and the list fresh | member (a pass: revocation only) |
//! | f | policy allows it | member |
//!
//! Steps run in this order and the first failure is the answer, a [`Denial`]: for the local log;
//! the other end hears "not authorized". Leaving out any one of them is an attack.
//!
//! The three functions fix the purpose themselves, so that no result can come from a handshake of
//! another kind: [`verify_identity`] authority sessions, [`verify_pass`] relay sessions,
//! [`verify_member`] circuits. Their results have private fields: nothing else makes one.

mod authority;
mod denial;
mod evidence;
mod steps;
mod verified;

pub use authority::TrustedAuthority;
pub use denial::{Denial, Reason, Step};
pub use evidence::{Evidence, EvidenceError, Grant};
pub use steps::{
    Direction, IdentityQuestion, MemberQuestion, PassQuestion, SessionPart, verify_identity,
    verify_member, verify_pass,
};
pub use verified::{VerifiedIdentity, VerifiedMember};

use crate::credential::Roles;
use crate::id::Id;
use crate::identity::HistoryMark;
use crate::names::{Attributes, Name, RelayAddress};
use crate::time::UnixTime;

/// What the verifier remembers of other identities: the longest history seen of each.
pub trait Histories {
    /// The mark held of `id`, if any.
    fn held(&self, id: &Id) -> Option<HistoryMark>;
}

/// Remembers nobody.
pub struct NoHistories;

impl Histories for NoHistories {
    fn held(&self, _id: &Id) -> Option<HistoryMark> {
        None
    }
}

/// What the revocation list says of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not revoked, by a list that is fresh enough.
    Good,
    /// Revoked.
    Revoked,
    /// The list is too old to say: this many seconds.
    Stale {
        /// Age of the newest word from the authority, in seconds.
        age_s: u64,
    },
}

/// The revocation list as step (e) sees it.
pub trait Revocation {
    /// The standing of credential `serial` of `id` at `now`.
    fn standing(&self, id: &Id, serial: u64, now: UnixTime) -> Standing;
}

/// What a policy decides about. Everything in it has passed steps (a) to (e).
#[derive(Clone, Copy, Debug)]
pub struct MemberView<'a> {
    /// The member's id.
    pub id: &'a Id,
    /// Its name.
    pub name: &'a Name,
    /// Its attributes.
    pub attributes: &'a Attributes,
    /// Its roles.
    pub roles: Roles,
    /// The relay address of this circuit.
    pub address: &'a RelayAddress,
    /// The time of the decision.
    pub now: UnixTime,
}

/// A policy's no, for the local log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDenial {
    /// The rule that denied, or that no rule allowed.
    pub rule: String,
    /// What was missing or wrong.
    pub reason: String,
}

/// The rule that an inlet or outlet applies to the other end. No rule allows nothing.
pub trait Policy {
    /// Allows or denies `member`.
    ///
    /// # Errors
    /// [`PolicyDenial`] names the rule and the reason.
    fn decide(&self, member: &MemberView<'_>) -> Result<(), PolicyDenial>;
}

#[cfg(test)]
mod tests;

//! Who is no member any more, and how a node knows that it has heard the latest of it.
//!
//! The **list** names members that were revoked while credentials of theirs may still be valid:
//! every credential of the member up to a serial is void. The **beacon** is the authority's word,
//! each second, that the list of this number and hash is the present one. So a small message says
//! every second that nothing has changed, and the list travels only when it has.
//!
//! List body: {1: project, 2: number, 3: authority key index, 4: entries}, an entry being
//! [member, highest serial, number], in the order of members. Beacon body: {1: project, 2: number,
//! 3: list number, 4: SHA-256 of the encoded list, 5: milliseconds since 1970, 6: authority key
//! index}. Numbers of lists and of beacons rise and never go down; whether one is newer than what
//! is held is for the caller to ask.

mod beacon;
mod list;

pub use beacon::{Beacon, BeaconBody};
pub use list::{RevocationEntry, RevocationList, RevocationListBody};

use crate::cbor::DecodeError;
use crate::check::TrustedAuthority;
use crate::id::Id;
use crate::sign::{PublicKey, Signed, SignedKind};
use crate::time::UnixTime;

/// Why a list or a beacon is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// The bytes are malformed.
    #[error("revocations: {0}")]
    Decode(#[from] DecodeError),
    /// It is about another project.
    #[error("revocations: they belong to another project")]
    OtherProject,
    /// The authority's key that it names is not accepted.
    #[error("revocations: authority key {0} is not accepted")]
    AuthorityKey(u16),
    /// The authority did not sign it.
    #[error("revocations: the signature does not verify")]
    Signature,
    /// Entries out of order, or one member twice.
    #[error("revocations: the entries are not in order")]
    Order,
    /// More entries than a list may have.
    #[error(
        "revocations: a list has at most {} entries",
        crate::limits::REVOCATIONS_MAX
    )]
    TooMany,
}

/// Whose keys are accepted.
#[derive(Clone, Copy)]
pub enum Keys<'a> {
    /// From the network: those that the authority may use at this time.
    At(&'a TrustedAuthority, UnixTime),
    /// From this node's own disk, where it was written after it had been verified: any of the
    /// authority's history.
    Ever(&'a TrustedAuthority),
}

impl Keys<'_> {
    fn project(&self) -> Id {
        match self {
            Keys::At(authority, _) | Keys::Ever(authority) => authority.project(),
        }
    }

    fn key(&self, index: u16) -> Option<&PublicKey> {
        match self {
            Keys::At(authority, now) => authority.accepted_key(index, *now),
            Keys::Ever(authority) => authority.identity().key_at(index),
        }
    }

    /// Checks whose `signed` is, after its body was read: `project` and `index` are what it says.
    fn verify(
        &self,
        kind: SignedKind,
        signed: &Signed,
        project: &Id,
        index: u16,
    ) -> Result<(), RevocationError> {
        if *project != self.project() {
            return Err(RevocationError::OtherProject);
        }
        let key = self
            .key(index)
            .ok_or(RevocationError::AuthorityKey(index))?;
        signed
            .verify(kind, project, key)
            .map_err(|_| RevocationError::Signature)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

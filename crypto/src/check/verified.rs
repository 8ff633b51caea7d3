//! The results of the check. Their fields are private to the check: a value of these types is
//! the proof that the steps were run. Nothing else can make one:
//!
//! ```compile_fail
//! use crypto::check::{VerifiedIdentity, VerifiedMember};
//! fn forge(identity: VerifiedIdentity, real: VerifiedMember) -> VerifiedMember {
//!     VerifiedMember { identity, ..real }
//! }
//! ```

use crate::credential::{Connect, PassBody, Roles};
use crate::id::Id;
use crate::identity::Identity;
use crate::names::{Attributes, Name, RelayAddress};
use crate::statics::StaticPublic;
use crate::time::UnixTime;

/// A peer that passed steps (a) to (c): it holds the keys of this identity, and nothing is known
/// of its membership.
#[derive(Clone, Debug)]
pub struct VerifiedIdentity {
    pub(super) identity: Identity,
    pub(super) static_key: StaticPublic,
    pub(super) expires: UnixTime,
}

impl VerifiedIdentity {
    /// Who it is.
    pub fn id(&self) -> Id {
        self.identity.id()
    }

    /// The identity with its history, to be remembered.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The static key that it used.
    pub fn static_key(&self) -> StaticPublic {
        self.static_key
    }

    /// When its attestation ends.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }
}

/// A peer that passed the whole check of its kind: steps (a) to (f) on a circuit, (a) to (e) in
/// a relay session, where there is neither name nor attribute nor policy.
#[derive(Clone, Debug)]
pub struct VerifiedMember {
    pub(super) identity: VerifiedIdentity,
    pub(super) grant: PassBody,
    pub(super) named: Option<(Name, Attributes)>,
}

impl VerifiedMember {
    /// Who it is.
    pub fn id(&self) -> Id {
        self.identity.id()
    }

    /// The identity with its history, to be remembered.
    pub fn identity(&self) -> &Identity {
        self.identity.identity()
    }

    /// The static key that it used.
    pub fn static_key(&self) -> StaticPublic {
        self.identity.static_key()
    }

    /// The serial of its credential or pass.
    pub fn serial(&self) -> u64 {
        self.grant.serial
    }

    /// Its roles.
    pub fn roles(&self) -> Roles {
        self.grant.roles
    }

    /// Its name; absent in a relay session.
    pub fn name(&self) -> Option<&Name> {
        self.named.as_ref().map(|(name, _)| name)
    }

    /// Its attributes; absent in a relay session.
    pub fn attributes(&self) -> Option<&Attributes> {
        self.named.as_ref().map(|(_, attributes)| attributes)
    }

    /// The addresses it may serve.
    pub fn may_serve(&self) -> &[RelayAddress] {
        &self.grant.may_serve
    }

    /// The addresses it may connect to.
    pub fn may_connect(&self) -> &Connect {
        &self.grant.may_connect
    }

    /// When its credential or pass ends.
    pub fn credential_expires(&self) -> UnixTime {
        self.grant.not_after
    }

    /// When the first of credential and attestation ends: what was verified holds until then.
    pub fn expires(&self) -> UnixTime {
        self.grant.not_after.min(self.identity.expires)
    }
}

//! Which of the authority's keys are accepted.

use crate::id::Id;
use crate::identity::{HistoryFault, HistoryMark, Identity};
use crate::limits::CREDENTIAL_LIFE_MAX;
use crate::sign::PublicKey;
use crate::time::UnixTime;

/// The authority as a verifier knows it: its longest history seen, and until when its previous
/// key is still accepted. Its id is the project's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedAuthority {
    identity: Identity,
    previous_until: UnixTime,
}

impl TrustedAuthority {
    /// Trusts the current key of `identity`, and the one before it until `previous_until`
    /// (0 for never; kept by a node over a restart).
    pub fn new(identity: Identity, previous_until: UnixTime) -> TrustedAuthority {
        TrustedAuthority {
            identity,
            previous_until,
        }
    }

    /// Takes over a longer history seen at `now`. The key that it ends is accepted for one more
    /// credential life. Returns whether anything changed.
    ///
    /// # Errors
    /// [`HistoryFault`] when it does not go on from what is held; nothing changes then.
    pub fn adopt(&mut self, identity: &Identity, now: UnixTime) -> Result<bool, HistoryFault> {
        if identity.id() != self.project() {
            return Err(HistoryFault::Forked);
        }
        identity.follows(&self.mark())?;
        if identity.len() == self.identity.len() {
            return Ok(false);
        }
        self.previous_until = now.plus(CREDENTIAL_LIFE_MAX);
        self.identity = identity.clone();
        Ok(true)
    }

    /// The project's id.
    pub fn project(&self) -> Id {
        self.identity.id()
    }

    /// The longest history seen.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its mark.
    pub fn mark(&self) -> HistoryMark {
        self.identity.mark()
    }

    /// Until when the previous key is accepted.
    pub fn previous_until(&self) -> UnixTime {
        self.previous_until
    }

    /// Key `index`, if it is accepted at `now`.
    pub(crate) fn accepted_key(&self, index: u16, now: UnixTime) -> Option<&PublicKey> {
        let current = self.identity.len();
        let accepted =
            index == current || index.checked_add(1) == Some(current) && now <= self.previous_until;
        if accepted {
            self.identity.key_at(index)
        } else {
            None
        }
    }
}

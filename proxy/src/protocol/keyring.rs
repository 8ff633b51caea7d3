//! The keys of a node: its identity, and one Noise static key per purpose with the identity's
//! word for it.
//!
//! Static keys are drawn when the process starts and live as long as it does; an attestation is
//! made when one is needed and the one at hand is no longer fresh. So nothing but the identity
//! is ever written to disk.

use crypto::attestation::{Attestation, Purpose};
use crypto::check::{Evidence, Grant};
use crypto::identity::IdentitySecret;
use crypto::statics::StaticKeypair;
use crypto::{Id, Random, UnixTime};

use crate::limits::{ATTESTATION_BACKDATE, ATTESTATION_LIFE};

/// A static key and the last word for it.
struct PurposeKey {
    purpose: Purpose,
    pair: StaticKeypair,
    attestation: Option<Attestation>,
}

impl PurposeKey {
    fn draw(purpose: Purpose, random: &mut dyn Random) -> Self {
        PurposeKey {
            purpose,
            pair: StaticKeypair::generate(random),
            attestation: None,
        }
    }
}

/// See the module.
pub struct Keyring {
    identity: IdentitySecret,
    authority_session: PurposeKey,
    relay_session: PurposeKey,
    circuit: PurposeKey,
}

impl Keyring {
    /// Takes the identity and draws the static keys.
    pub fn new(identity: IdentitySecret, random: &mut dyn Random) -> Self {
        Keyring {
            identity,
            authority_session: PurposeKey::draw(Purpose::AuthoritySession, random),
            relay_session: PurposeKey::draw(Purpose::RelaySession, random),
            circuit: PurposeKey::draw(Purpose::Circuit, random),
        }
    }

    /// The identity.
    pub fn identity(&self) -> &IdentitySecret {
        &self.identity
    }

    /// Its id.
    pub fn id(&self) -> Id {
        self.identity.id()
    }

    /// The static key for a purpose.
    pub fn pair(&self, purpose: Purpose) -> &StaticKeypair {
        match purpose {
            Purpose::AuthoritySession => &self.authority_session.pair,
            Purpose::RelaySession => &self.relay_session.pair,
            Purpose::Circuit => &self.circuit.pair,
        }
    }

    /// What this node shows of itself for a purpose, at authority time `now`.
    ///
    /// An attestation begins some hours before `now`, so that a node whose clock is wrong can
    /// still make its first contact, and is replaced when less than half of what remained at its
    /// making is left, or when time turns out to be before its beginning.
    pub fn evidence(
        &mut self,
        project: &Id,
        purpose: Purpose,
        now: UnixTime,
        grant: Grant,
    ) -> Evidence {
        let key = match purpose {
            Purpose::AuthoritySession => &mut self.authority_session,
            Purpose::RelaySession => &mut self.relay_session,
            Purpose::Circuit => &mut self.circuit,
        };
        let ahead = (ATTESTATION_LIFE - ATTESTATION_BACKDATE).as_secs();
        let fresh = |attestation: &Attestation| {
            let body = attestation.body();
            body.project == *project
                && body.not_before < now
                && body.not_after.since(now) > ahead / 2
        };
        let attestation = match key.attestation.take().filter(fresh) {
            Some(attestation) => attestation,
            None => {
                let not_before = now.minus(ATTESTATION_BACKDATE.as_secs());
                let public = key.pair.public();
                self.identity
                    .attest(project, &public, key.purpose, not_before, now.plus(ahead))
                    .expect("the span is that of ATTESTATION_LIFE")
            }
        };
        key.attestation = Some(attestation.clone());
        Evidence {
            identity: self.identity.identity().clone(),
            attestation,
            grant,
        }
    }
}

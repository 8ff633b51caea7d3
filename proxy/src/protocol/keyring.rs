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
    /// With how often the identity had changed its key when it gave it.
    attestation: Option<(u16, Attestation)>,
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
    /// The same before its last change, while a credential that names it is all there is.
    before: Option<IdentitySecret>,
    authority_session: PurposeKey,
    relay_session: PurposeKey,
    circuit: PurposeKey,
}

impl Keyring {
    /// Takes the identity and draws the static keys.
    pub fn new(identity: IdentitySecret, random: &mut dyn Random) -> Self {
        Keyring {
            identity,
            before: None,
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

    /// The identity has changed its key, and the change is on disk. What a credential is shown with
    /// is the identity that it names, until [`Keyring::on_granted`]. Returns whether it was taken: it
    /// has to go on from the one that is held.
    pub fn rotate(&mut self, identity: IdentitySecret) -> bool {
        let goes_on = identity.identity().extends(self.identity.identity())
            && identity.identity().len() > self.identity.identity().len();
        if goes_on {
            let old = std::mem::replace(&mut self.identity, identity);
            // A change that was not granted yet is skipped: what peers know is the one before.
            self.before.get_or_insert(old);
        }
        goes_on
    }

    /// There is a credential that names a history of so many changes: a key from before them is of
    /// no more use.
    pub fn on_granted(&mut self, history_len: u16) {
        if history_len == self.identity.identity().len() {
            self.before = None;
        }
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
        let named = match &grant {
            Grant::Nothing => None,
            Grant::Credential(credential) => Some(credential.body().history_len),
            Grant::Pass(pass) => Some(pass.body().history_len),
        };
        let before = self.before.as_ref();
        let identity = before
            .filter(|before| named == Some(before.identity().len()))
            .unwrap_or(&self.identity);
        let changes = identity.identity().len();
        let ahead = (ATTESTATION_LIFE - ATTESTATION_BACKDATE).as_secs();
        let fresh = |(by, attestation): &(u16, Attestation)| {
            let body = attestation.body();
            *by == changes
                && body.project == *project
                && body.not_before < now
                && body.not_after.since(now) > ahead / 2
        };
        let attestation = match key.attestation.take().filter(fresh) {
            Some((_, attestation)) => attestation,
            None => {
                let not_before = now.minus(ATTESTATION_BACKDATE.as_secs());
                let public = key.pair.public();
                identity
                    .attest(project, &public, key.purpose, not_before, now.plus(ahead))
                    .expect("the span is that of ATTESTATION_LIFE")
            }
        };
        key.attestation = Some((changes, attestation.clone()));
        Evidence {
            identity: identity.identity().clone(),
            attestation,
            grant,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::SeededRandom;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn keyring() -> Keyring {
        let mut random = SeededRandom::new(1);
        let identity = IdentitySecret::create(&mut random);
        Keyring::new(identity, &mut random)
    }

    fn attested(keyring: &mut Keyring, purpose: Purpose, now: UnixTime) -> Attestation {
        keyring
            .evidence(&Id([1; 32]), purpose, now, Grant::Nothing)
            .attestation
    }

    #[test]
    fn each_purpose_has_a_key_of_its_own() {
        let mut keyring = keyring();
        let purposes = [
            Purpose::AuthoritySession,
            Purpose::RelaySession,
            Purpose::Circuit,
        ];
        let keys = purposes.map(|purpose| {
            let attestation = attested(&mut keyring, purpose, NOW);
            assert_eq!(attestation.body().purpose, purpose);
            assert_eq!(
                attestation.body().static_key,
                keyring.pair(purpose).public()
            );
            attestation.body().static_key
        });
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    }

    #[test]
    fn an_attestation_is_used_again_until_it_is_half_over() {
        let mut keyring = keyring();
        let first = attested(&mut keyring, Purpose::Circuit, NOW);
        assert_eq!(
            attested(&mut keyring, Purpose::Circuit, NOW.plus(10 * 3600)),
            first
        );
        let second = attested(&mut keyring, Purpose::Circuit, NOW.plus(11 * 3600));
        assert_ne!(second, first);
        assert_eq!(second.body().static_key, first.body().static_key);
    }

    #[test]
    fn a_changed_key_attests_at_once_and_only_a_history_that_goes_on_is_taken() {
        let mut random = SeededRandom::new(7);
        let mut keyring = keyring();
        let old = attested(&mut keyring, Purpose::AuthoritySession, NOW);
        assert!(!keyring.rotate(IdentitySecret::create(&mut random)));
        let bytes = keyring.identity().to_bytes();
        let mut changed = IdentitySecret::from_bytes(&bytes).expect("an identity");
        assert!(!keyring.rotate(IdentitySecret::from_bytes(&bytes).expect("an identity")));
        changed.rotate(&mut random).expect("room for a change");
        assert!(keyring.rotate(changed));
        let new = attested(&mut keyring, Purpose::AuthoritySession, NOW);
        assert_ne!(new, old);
        assert_eq!(new.body().static_key, old.body().static_key);
        assert_eq!(keyring.identity().identity().len(), 1);
    }

    #[test]
    fn one_made_by_a_wrong_clock_or_for_another_project_is_replaced() {
        let mut keyring = keyring();
        let ahead = attested(&mut keyring, Purpose::Circuit, NOW.plus(7 * 24 * 3600));
        let right = attested(&mut keyring, Purpose::Circuit, NOW);
        assert_ne!(ahead, right);
        assert!(right.body().not_before < NOW && right.body().not_after > NOW.plus(20 * 3600));
        let other = keyring.evidence(&Id([2; 32]), Purpose::Circuit, NOW, Grant::Nothing);
        assert_eq!(other.attestation.body().project, Id([2; 32]));
    }
}

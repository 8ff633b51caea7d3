//! The secret side: creating, rotating, signing, and the state file.

use super::{Change, Identity, IdentityError, change_body, next_head};
use crate::attestation::{Attestation, AttestationBody, LifeTooLong, Purpose};
use crate::cbor::{DecodeError, Reader, Writer};
use crate::id::Id;
use crate::limits::{HISTORY_MAX, IDENTITY_MAX, IDENTITY_SECRET_MAX};
use crate::random::{self, Random};
use crate::sign::{self, PublicKey, Signature, Signed, SignedKind};
use crate::statics::StaticPublic;
use crate::time::UnixTime;
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

/// The history has no room for another change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the identity has changed its key 64 times, which is the limit; enroll a new one")]
pub struct HistoryFull;

/// An identity and its current secret key. The key never leaves it except into the state file.
pub struct IdentitySecret {
    key: SigningKey,
    identity: Identity,
}

fn public_of(key: &SigningKey) -> PublicKey {
    PublicKey::from_bytes(key.verifying_key().as_bytes()).expect("a secret key has a public key")
}

fn draw_key(random: &mut dyn Random) -> SigningKey {
    SigningKey::from_bytes(&Zeroizing::new(random::bytes(random)))
}

impl IdentitySecret {
    /// A new identity with a key drawn from `random`.
    pub fn create(random: &mut dyn Random) -> IdentitySecret {
        let key = draw_key(random);
        let identity = Identity::new(public_of(&key));
        IdentitySecret { key, identity }
    }

    /// The public side.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The id.
    pub fn id(&self) -> Id {
        self.identity.id
    }

    /// Changes to a new key drawn from `random` and wipes the old one. The caller must persist
    /// the result before anybody sees the new history.
    ///
    /// # Errors
    /// [`HistoryFull`] after 64 changes; nothing has changed then.
    pub fn rotate(&mut self, random: &mut dyn Random) -> Result<(), HistoryFull> {
        if usize::from(self.identity.len()) >= HISTORY_MAX {
            return Err(HistoryFull);
        }
        let key = draw_key(random);
        let public = public_of(&key);
        let id = self.identity.id;
        let body = change_body(self.identity.len() + 1, &self.identity.head(), &public);
        let by_old = self.sign(SignedKind::Change, &id, &body);
        let by_new = sign::sign(&key, SignedKind::Change, &id, &body);
        self.identity
            .heads
            .push(next_head(&self.identity.head(), &body));
        self.identity.changes.push(Change {
            key: public,
            by_old,
            by_new,
        });
        self.key = key;
        Ok(())
    }

    /// Signs `body` as an object of this kind for `project`.
    pub fn sign(&self, kind: SignedKind, project: &Id, body: &[u8]) -> Signature {
        sign::sign(&self.key, kind, project, body)
    }

    /// A body with this identity's signature over it.
    pub(crate) fn signed(&self, kind: SignedKind, project: &Id, body: Vec<u8>) -> Signed {
        let signature = self.sign(kind, project, &body);
        Signed { body, signature }
    }

    /// States that `static_key` is this identity's Noise static key for `purpose` in `project`.
    ///
    /// # Errors
    /// [`LifeTooLong`] when the span is reversed or longer than 24 h.
    pub fn attest(
        &self,
        project: &Id,
        static_key: &StaticPublic,
        purpose: Purpose,
        not_before: UnixTime,
        not_after: UnixTime,
    ) -> Result<Attestation, LifeTooLong> {
        let body = AttestationBody {
            project: *project,
            id: self.identity.id,
            static_key: *static_key,
            purpose,
            not_before,
            not_after,
        };
        Attestation::make(self, body)
    }

    /// Its bytes for the state file: map {1: secret key, 2: identity}.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let identity = self.identity.encode();
        // The room is there from the start: a vector that grew would leave the key behind.
        let mut writer = Writer::with_capacity(identity.len() + 64);
        writer
            .map(2)
            .u64(1)
            .bytes(self.key.as_bytes())
            .u64(2)
            .bytes(&identity);
        Zeroizing::new(writer.finish())
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote, and verifies it.
    ///
    /// # Errors
    /// [`IdentityError`] for damaged bytes and for a key that is not the history's last.
    pub fn from_bytes(bytes: &[u8]) -> Result<IdentitySecret, IdentityError> {
        if bytes.len() > IDENTITY_SECRET_MAX {
            return Err(DecodeError::Length("identity").into());
        }
        let mut reader = Reader::new(bytes);
        let mut keys = reader.map()?;
        keys.required(&mut reader, 1)?;
        let seed = Zeroizing::new(reader.fixed("secret key")?);
        keys.required(&mut reader, 2)?;
        let identity = Identity::decode(reader.bytes(IDENTITY_MAX, "identity")?)?;
        keys.end(&mut reader)?;
        reader.finish()?;
        let key = SigningKey::from_bytes(&seed);
        if public_of(&key) != *identity.key() {
            return Err(IdentityError::SecretMismatch);
        }
        Ok(IdentitySecret { key, identity })
    }
}

//! Identities: an Ed25519 key that can change while the id stays.
//!
//! The id comes from the first key. Each change names its number, the head of the history so far
//! and the new key, and is signed by the old key and the new one. The head after a change is a
//! hash over everything before it:
//!
//! ```text
//! head 0 = SHA-256(adit-head-v1 ‖ id ‖ first key)
//! head n = SHA-256(adit-head-v1 ‖ head n−1 ‖ body n)      body n = {1: n, 2: head n−1, 3: new key}
//! ```
//!
//! On the wire: array [first key, array of changes], a change being new key ‖ signature by the
//! old key ‖ signature by the new key. The bodies are not sent: a verifier builds each from its
//! own state, so nothing in them can disagree.

mod secret;

pub use secret::{HistoryFull, IdentitySecret};

use crate::cbor::{DecodeError, Reader, Writer};
use crate::id::Id;
use crate::limits::{CHANGE_BYTES, HISTORY_MAX, IDENTITY_MAX};
use crate::sign::{self, PublicKey, Signature, SignedKind};
use sha2::{Digest, Sha256};
use std::fmt;

/// A point in a history: how many changes, and the head after them. Whoever verifies keeps the
/// longest mark it has seen of an id, and refuses a history that does not go through it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HistoryMark {
    /// The head after `len` changes.
    pub head: [u8; 32],
    /// Changes so far, 0 to 64.
    pub len: u16,
}

impl fmt::Debug for HistoryMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HistoryMark({}, {}…)",
            self.len,
            data_encoding::HEXLOWER.encode(&self.head[..4])
        )
    }
}

/// Why a history can't follow the one that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryFault {
    /// It has fewer changes than were seen before: an old key may be in use by a thief.
    #[error("its history is shorter than the one seen before")]
    Shorter,
    /// It parts from what was seen before.
    #[error("its history differs from the one seen before")]
    Forked,
}

/// Why bytes are not an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are malformed.
    #[error("identity: {0}")]
    Decode(#[from] DecodeError),
    /// A key in it is not usable.
    #[error("identity: key {0} is not a usable Ed25519 key")]
    Key(u16),
    /// A change is not signed by the key before it or by its own key.
    #[error("identity: change {0} is not signed by both keys")]
    Change(u16),
    /// A change goes back to a key that was given up.
    #[error("identity: change {0} goes back to an earlier key")]
    KeyReused(u16),
    /// The secret key of a state file is not the last of its history.
    #[error("identity: the secret key does not belong to the last public key")]
    SecretMismatch,
}

#[derive(Clone, PartialEq, Eq)]
struct Change {
    key: PublicKey,
    by_old: Signature,
    by_new: Signature,
}

/// The public side of an identity. Every signature in its history has been verified: a value of
/// this type can't be made otherwise.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    id: Id,
    first: PublicKey,
    changes: Vec<Change>,
    /// `heads[n]` is the head after `n` changes; never empty.
    heads: Vec<[u8; 32]>,
}

fn first_head(id: &Id, first: &PublicKey) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"adit-head-v1");
    hash.update(id.0);
    hash.update(first.as_bytes());
    hash.finalize().into()
}

fn next_head(head: &[u8; 32], body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"adit-head-v1");
    hash.update(head);
    hash.update(body);
    hash.finalize().into()
}

fn change_body(number: u16, head: &[u8; 32], key: &PublicKey) -> Vec<u8> {
    let mut writer = Writer::new();
    writer
        .map(3)
        .u64(1)
        .u64(number.into())
        .u64(2)
        .bytes(head)
        .u64(3)
        .bytes(key.as_bytes());
    writer.finish()
}

impl Identity {
    fn new(first: PublicKey) -> Identity {
        let id = Id::of_first_key(first.as_bytes());
        Identity {
            id,
            first,
            changes: Vec::new(),
            heads: vec![first_head(&id, &first)],
        }
    }

    /// The id; it never changes.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The head of the whole history.
    pub fn head(&self) -> [u8; 32] {
        self.mark().head
    }

    /// How often the key changed, 0 to 64.
    pub fn len(&self) -> u16 {
        self.changes.len() as u16
    }

    /// Whether the first key is still the current one.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Where its history stands.
    pub fn mark(&self) -> HistoryMark {
        let head = self.heads.last().copied().unwrap_or([0; 32]);
        HistoryMark {
            head,
            len: self.len(),
        }
    }

    /// The current key.
    pub fn key(&self) -> &PublicKey {
        self.changes
            .last()
            .map_or(&self.first, |change| &change.key)
    }

    /// The key after `index` changes.
    pub fn key_at(&self, index: u16) -> Option<&PublicKey> {
        match index.checked_sub(1) {
            None => Some(&self.first),
            Some(change) => self
                .changes
                .get(usize::from(change))
                .map(|change| &change.key),
        }
    }

    /// Whether this history is that of `other`, or one that goes on from it.
    pub fn extends(&self, other: &Identity) -> bool {
        self.id == other.id && self.follows(&other.mark()).is_ok()
    }

    /// Whether this history goes through `held`. The mark has no id: the caller holds it by id.
    ///
    /// # Errors
    /// [`HistoryFault`] says whether it is shorter or forked.
    pub fn follows(&self, held: &HistoryMark) -> Result<(), HistoryFault> {
        match self.heads.get(usize::from(held.len)) {
            None => Err(HistoryFault::Shorter),
            Some(head) if *head == held.head => Ok(()),
            Some(_) => Err(HistoryFault::Forked),
        }
    }

    /// Adds a change after checking it.
    fn push(&mut self, change: Change) -> Result<(), IdentityError> {
        let number = self.len() + 1;
        let reused =
            self.first == change.key || self.changes.iter().any(|old| old.key == change.key);
        if reused {
            return Err(IdentityError::KeyReused(number));
        }
        let body = change_body(number, &self.head(), &change.key);
        for (key, signature) in [(self.key(), &change.by_old), (&change.key, &change.by_new)] {
            sign::verify(SignedKind::Change, &self.id, &body, key, signature)
                .map_err(|_| IdentityError::Change(number))?;
        }
        self.heads.push(next_head(&self.head(), &body));
        self.changes.push(change);
        Ok(())
    }

    /// Its bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(64 + self.changes.len() * (CHANGE_BYTES + 2));
        writer
            .array(2)
            .bytes(self.first.as_bytes())
            .array(self.changes.len());
        for change in &self.changes {
            let mut bytes = [0; CHANGE_BYTES];
            bytes[..32].copy_from_slice(change.key.as_bytes());
            bytes[32..96].copy_from_slice(&change.by_old.0);
            bytes[96..].copy_from_slice(&change.by_new.0);
            writer.bytes(&bytes);
        }
        writer.finish()
    }

    /// Reads an identity and verifies its whole history: two signature checks a change, so at
    /// most 128 of them (some milliseconds).
    ///
    /// # Errors
    /// [`IdentityError`] for malformed bytes and for histories that don't verify.
    pub fn decode(bytes: &[u8]) -> Result<Identity, IdentityError> {
        if bytes.len() > IDENTITY_MAX {
            return Err(DecodeError::Length("identity").into());
        }
        let mut reader = Reader::new(bytes);
        reader.tuple(2, "identity")?;
        let first = PublicKey::from_bytes(&reader.fixed("first key")?)
            .map_err(|_| IdentityError::Key(0))?;
        let mut identity = Identity::new(first);
        for number in 1..=reader.array(HISTORY_MAX, "change history")? {
            let bytes: [u8; CHANGE_BYTES] = reader.fixed("change")?;
            let (key, signatures) = bytes.split_first_chunk().ok_or(DecodeError::Truncated)?;
            let (by_old, by_new) = signatures
                .split_first_chunk()
                .ok_or(DecodeError::Truncated)?;
            let by_new = by_new.try_into().map_err(|_| DecodeError::Truncated)?;
            let key = PublicKey::from_bytes(key).map_err(|_| IdentityError::Key(number as u16))?;
            let (by_old, by_new) = (Signature(*by_old), Signature(by_new));
            identity.push(Change {
                key,
                by_old,
                by_new,
            })?;
        }
        reader.finish()?;
        Ok(identity)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, {} changes)", self.id.short(), self.len())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

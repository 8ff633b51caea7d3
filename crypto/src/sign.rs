//! What a signature covers, the same for every kind of object:
//!
//! ```text
//! adit-sig-v1 ‖ kind, 1 byte ‖ project id, 32 ‖ length, 4, big-endian ‖ body, as received
//! ```
//!
//! So a signature over one kind of object, or for one project, is worth nothing for another. The
//! body is never re-encoded before it is checked. Verification is Ed25519 `verify_strict`: no
//! small-order keys, no malleable signatures.

use crate::cbor::{DecodeError, Reader, Writer};
use crate::id::Id;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use std::fmt;

/// The kinds of signed objects. The number is part of what is signed and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SignedKind {
    /// A change of key in an identity's history. Its project is the identity's own id: an
    /// identity is older than its membership.
    Change = 1,
    /// An [`Attestation`](crate::attestation::Attestation).
    Attestation = 2,
    /// A [`Credential`](crate::credential::Credential).
    Credential = 3,
    /// A [`Pass`](crate::credential::Pass).
    Pass = 4,
    /// A [`ProjectNote`](crate::project::ProjectNote).
    Project = 5,
    /// A [`RevocationList`](crate::revocation::RevocationList).
    RevocationList = 6,
    /// A [`Beacon`](crate::revocation::Beacon).
    Beacon = 7,
}

/// An Ed25519 public key: a point on the curve, not of small order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Checks the bytes of a key.
    ///
    /// # Errors
    /// [`BadKey`] for bytes that are no point, and for points of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<PublicKey, BadKey> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| BadKey)?;
        if key.is_weak() {
            Err(BadKey)
        } else {
            Ok(PublicKey(*bytes))
        }
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PublicKey({}…)",
            data_encoding::HEXLOWER.encode(&self.0[..4])
        )
    }
}

/// Bytes that can't be used as an Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a usable Ed25519 public key")]
pub struct BadKey;

/// A signature that does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Signature({}…)",
            data_encoding::HEXLOWER.encode(&self.0[..4])
        )
    }
}

/// The bytes that are signed.
fn covered(kind: SignedKind, project: &Id, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("signed objects are a few KiB");
    let mut out = Vec::with_capacity(11 + 1 + 32 + 4 + body.len());
    out.extend_from_slice(b"adit-sig-v1");
    out.push(kind as u8);
    out.extend_from_slice(&project.0);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Signs `body` for `project` with a bare key; identities wrap it.
pub(crate) fn sign(key: &SigningKey, kind: SignedKind, project: &Id, body: &[u8]) -> Signature {
    Signature(key.sign(&covered(kind, project, body)).to_bytes())
}

/// Checks that the owner of `key` signed `body` as an object of this kind for `project`.
///
/// # Errors
/// [`BadSignature`], whatever the reason.
pub fn verify(
    kind: SignedKind,
    project: &Id,
    body: &[u8],
    key: &PublicKey,
    signature: &Signature,
) -> Result<(), BadSignature> {
    verify_bytes(&covered(kind, project, body), key, signature)
}

/// Ed25519 over bare bytes.
pub(crate) fn verify_bytes(
    message: &[u8],
    key: &PublicKey,
    signature: &Signature,
) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(key.as_bytes()).map_err(|_| BadSignature)?;
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    key.verify_strict(message, &signature)
        .map_err(|_| BadSignature)
}

/// A body as it was received (or made), and a signature over it that nobody has checked yet.
/// On the wire: an array of the two byte strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) body: Vec<u8>,
    pub(crate) signature: Signature,
}

impl Signed {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(self.body.len() + 80);
        writer.array(2).bytes(&self.body).bytes(&self.signature.0);
        writer.finish()
    }

    /// Takes the two parts out of at most `max` bytes.
    pub(crate) fn decode(
        bytes: &[u8],
        max: usize,
        what: &'static str,
    ) -> Result<Signed, DecodeError> {
        if bytes.len() > max {
            return Err(DecodeError::Length(what));
        }
        let mut reader = Reader::new(bytes);
        reader.tuple(2, what)?;
        let body = reader.bytes(max, what)?;
        let signature = Signature(reader.fixed("signature")?);
        reader.finish()?;
        Ok(Signed {
            body: body.to_vec(),
            signature,
        })
    }

    pub(crate) fn verify(
        &self,
        kind: SignedKind,
        project: &Id,
        key: &PublicKey,
    ) -> Result<(), BadSignature> {
        verify(kind, project, &self.body, key, &self.signature)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_kind_project_body_and_key_only() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let public = PublicKey::from_bytes(key.verifying_key().as_bytes()).unwrap();
        let other = SigningKey::from_bytes(&[2; 32]);
        let other = PublicKey::from_bytes(other.verifying_key().as_bytes()).unwrap();
        let project = Id([3; 32]);
        let signature = sign(&key, SignedKind::Credential, &project, b"body");
        let check =
            |kind, project: &Id, body: &[u8], key| verify(kind, project, body, key, &signature);
        assert_eq!(
            check(SignedKind::Credential, &project, b"body", &public),
            Ok(())
        );
        assert!(check(SignedKind::Pass, &project, b"body", &public).is_err());
        assert!(check(SignedKind::Credential, &Id([4; 32]), b"body", &public).is_err());
        assert!(check(SignedKind::Credential, &project, b"bod", &public).is_err());
        assert!(check(SignedKind::Credential, &project, b"body", &other).is_err());
    }

    #[test]
    fn keys_of_small_order_are_no_keys() {
        let mut identity = [0; 32];
        identity[0] = 1;
        for weak in [[0; 32], identity] {
            assert_eq!(PublicKey::from_bytes(&weak), Err(BadKey));
        }
    }
}

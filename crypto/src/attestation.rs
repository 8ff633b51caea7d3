//! Attestations: an identity's word that a Noise static key is its own.
//!
//! Body: {1: project, 2: id, 3: Noise static key, 4: purpose, 5: not before, 6: not after}.

use crate::cbor::{DecodeError, Reader, Writer};
use crate::id::Id;
use crate::identity::IdentitySecret;
use crate::limits::{ATTESTATION_LIFE_MAX, ATTESTATION_MAX};
use crate::sign::{BadSignature, PublicKey, Signed, SignedKind};
use crate::statics::StaticPublic;
use crate::time::{UnixTime, Validity};
use std::fmt;

/// What an attested key may be used for. One static key serves one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Sessions between a node and the authority.
    AuthoritySession = 1,
    /// Sessions between a node and a relay.
    RelaySession = 2,
    /// Circuits and lanes, end to end.
    Circuit = 3,
}

impl Purpose {
    fn from_number(number: u8) -> Option<Purpose> {
        match number {
            1 => Some(Purpose::AuthoritySession),
            2 => Some(Purpose::RelaySession),
            3 => Some(Purpose::Circuit),
            _ => None,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purpose::AuthoritySession => "authority session",
            Purpose::RelaySession => "relay session",
            Purpose::Circuit => "circuit",
        })
    }
}

/// A span that ends before it begins or is longer than its kind of object may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it would live longer than {max_s} s, or end before it begins")]
pub struct LifeTooLong {
    /// The longest life, in seconds.
    pub max_s: u64,
}

/// What an attestation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationBody {
    /// The project it is for.
    pub project: Id,
    /// Who attests.
    pub id: Id,
    /// The key that is attested.
    pub static_key: StaticPublic,
    /// What the key may be used for.
    pub purpose: Purpose,
    /// From when it holds.
    pub not_before: UnixTime,
    /// Until when it holds, at most 24 h later.
    pub not_after: UnixTime,
}

/// An attestation with its signature, which only [`crate::check`] verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    signed: Signed,
    body: AttestationBody,
}

impl Attestation {
    pub(crate) fn make(
        by: &IdentitySecret,
        body: AttestationBody,
    ) -> Result<Attestation, LifeTooLong> {
        if !validity(&body).span_fits(ATTESTATION_LIFE_MAX) {
            return Err(LifeTooLong {
                max_s: ATTESTATION_LIFE_MAX,
            });
        }
        let bytes = encode_body(&body);
        let signature = by.sign(SignedKind::Attestation, &body.project, &bytes);
        Ok(Attestation {
            signed: Signed {
                body: bytes,
                signature,
            },
            body,
        })
    }

    /// What it says; unverified when it came from outside.
    pub fn body(&self) -> &AttestationBody {
        &self.body
    }

    /// Its bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.encode()
    }

    /// Reads an attestation; its signature is not checked here.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the one canonical encoding.
    pub fn decode(bytes: &[u8]) -> Result<Attestation, DecodeError> {
        let signed = Signed::decode(bytes, ATTESTATION_MAX, "attestation")?;
        let body = decode_body(&signed.body)?;
        Ok(Attestation { signed, body })
    }

    pub(crate) fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        self.signed
            .verify(SignedKind::Attestation, &self.body.project, key)
    }

    pub(crate) fn validity(&self) -> Validity {
        validity(&self.body)
    }
}

fn validity(body: &AttestationBody) -> Validity {
    Validity {
        not_before: body.not_before,
        not_after: body.not_after,
    }
}

fn encode_body(body: &AttestationBody) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(6);
    writer
        .u64(1)
        .bytes(&body.project.0)
        .u64(2)
        .bytes(&body.id.0);
    writer
        .u64(3)
        .bytes(&body.static_key.0)
        .u64(4)
        .u64(body.purpose as u64);
    writer
        .u64(5)
        .u64(body.not_before.0)
        .u64(6)
        .u64(body.not_after.0);
    writer.finish()
}

fn decode_body(bytes: &[u8]) -> Result<AttestationBody, DecodeError> {
    let mut reader = Reader::new(bytes);
    let r = &mut reader;
    let mut keys = r.map()?;
    keys.required(r, 1)?;
    let project = Id(r.fixed("project")?);
    keys.required(r, 2)?;
    let id = Id(r.fixed("id")?);
    keys.required(r, 3)?;
    let static_key = StaticPublic(r.fixed("static key")?);
    keys.required(r, 4)?;
    let purpose = Purpose::from_number(r.u8("purpose")?).ok_or(DecodeError::Value("purpose"))?;
    keys.required(r, 5)?;
    let not_before = UnixTime(r.u64()?);
    keys.required(r, 6)?;
    let not_after = UnixTime(r.u64()?);
    keys.end(r)?;
    reader.finish()?;
    Ok(AttestationBody {
        project,
        id,
        static_key,
        purpose,
        not_before,
        not_after,
    })
}

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
        Ok(Attestation::sign(by, body))
    }

    /// Signs a body as it is. Apart from [`make`](Self::make) only tests call it, to show what a
    /// verifier must not rely on.
    pub(crate) fn sign(by: &IdentitySecret, body: AttestationBody) -> Attestation {
        let signed = by.signed(SignedKind::Attestation, &body.project, encode_body(&body));
        Attestation { signed, body }
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::random::SeededRandom;
    use proptest::prelude::*;

    fn made(
        project: [u8; 32],
        key: [u8; 32],
        purpose: Purpose,
        from: u64,
        life: u64,
    ) -> Attestation {
        let by = IdentitySecret::create(&mut SeededRandom::new(1));
        let until = UnixTime(from + life);
        by.attest(
            &Id(project),
            &StaticPublic(key),
            purpose,
            UnixTime(from),
            until,
        )
        .unwrap()
    }

    fn any_attestation() -> impl Strategy<Value = Attestation> {
        let purpose = (1_u8..=3).prop_map(|number| Purpose::from_number(number).unwrap());
        (
            any::<[u8; 32]>(),
            any::<[u8; 32]>(),
            purpose,
            0..u64::MAX / 2,
            0_u64..=86_400,
        )
            .prop_map(|(project, key, purpose, from, life)| made(project, key, purpose, from, life))
    }

    #[test]
    fn an_unknown_purpose_is_not_read() {
        let good = made([1; 32], [2; 32], Purpose::Circuit, 0, 1);
        for number in [0, 4, 23] {
            let mut bytes = good.encode();
            let at = bytes
                .windows(3)
                .position(|window| window == [4, 3, 5])
                .unwrap();
            bytes[at + 1] = number;
            assert_eq!(
                Attestation::decode(&bytes),
                Err(DecodeError::Value("purpose"))
            );
        }
    }

    #[test]
    fn the_longest_attestation_fits_its_bound() {
        let longest = made(
            [1; 32],
            [2; 32],
            Purpose::Circuit,
            u64::MAX - 86_400,
            86_400,
        );
        assert!(longest.encode().len() <= ATTESTATION_MAX);
        assert_eq!(Attestation::decode(&longest.encode()), Ok(longest));
        let result = Attestation::decode(&vec![0; ATTESTATION_MAX + 1]);
        assert_eq!(result, Err(DecodeError::Length("attestation")));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(attestation in any_attestation()) {
            prop_assert_eq!(Attestation::decode(&attestation.encode()), Ok(attestation));
        }

        #[test]
        fn a_damaged_one_is_refused_or_fails_its_signature(
            attestation in any_attestation(),
            at: prop::sample::Index,
            flip in 1_u8..,
        ) {
            let mut bytes = attestation.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(read) = Attestation::decode(&bytes) {
                let by = IdentitySecret::create(&mut SeededRandom::new(1));
                prop_assert_eq!(read.encode(), bytes);
                prop_assert!(read.verify(by.identity().key()).is_err());
            }
        }
    }
}

//! What a peer shows of itself inside a handshake payload.
//!
//! Map {1: identity, 2: attestation, 3: credential, 4: pass}; 3 and 4 exclude each other, and in
//! an authority session both are absent.

use crate::attestation::Attestation;
use crate::cbor::{DecodeError, Reader, Writer};
use crate::credential::{Credential, Pass};
use crate::identity::{Identity, IdentityError};
use crate::limits::{ATTESTATION_MAX, CREDENTIAL_MAX, EVIDENCE_MAX, IDENTITY_MAX};

/// What the authority said of the peer, as the peer shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Nothing: enrollment and other authority sessions.
    Nothing,
    /// The whole credential, for the other end of a circuit.
    Credential(Box<Credential>),
    /// The pass, for relay sessions.
    Pass(Box<Pass>),
}

/// An identity, its word for the key of this handshake, and the authority's word for it. The
/// history in it has been verified; nothing else has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Who the peer says it is.
    pub identity: Identity,
    /// Its word for its static key.
    pub attestation: Attestation,
    /// The authority's word for it.
    pub grant: Grant,
}

/// Why bytes are not an [`Evidence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// The bytes are malformed.
    #[error("evidence: {0}")]
    Decode(#[from] DecodeError),
    /// The identity in it does not verify.
    #[error("evidence: {0}")]
    Identity(#[from] IdentityError),
}

impl EvidenceError {
    /// The number in `ADIT-…`.
    pub fn code(&self) -> u16 {
        match self {
            EvidenceError::Decode(_) => 3201,
            EvidenceError::Identity(_) => 3202,
        }
    }
}

impl Evidence {
    /// Its bytes on the wire, at most [`EVIDENCE_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(1024);
        writer.map(if self.grant == Grant::Nothing { 2 } else { 3 });
        writer
            .u64(1)
            .bytes(&self.identity.encode())
            .u64(2)
            .bytes(&self.attestation.encode());
        match &self.grant {
            Grant::Nothing => {}
            Grant::Credential(credential) => {
                writer.u64(3).bytes(&credential.encode());
            }
            Grant::Pass(pass) => {
                writer.u64(4).bytes(&pass.encode());
            }
        }
        writer.finish()
    }

    /// Reads an evidence, and verifies the history of its identity on the way.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn decode(bytes: &[u8]) -> Result<Evidence, EvidenceError> {
        if bytes.len() > EVIDENCE_MAX {
            return Err(DecodeError::Length("evidence").into());
        }
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let mut keys = r.map()?;
        keys.required(r, 1)?;
        let identity = r.bytes(IDENTITY_MAX, "identity")?;
        keys.required(r, 2)?;
        let attestation = Attestation::decode(r.bytes(ATTESTATION_MAX, "attestation")?)?;
        let grant = if keys.optional(r, 3)? {
            let credential = Credential::decode(r.bytes(CREDENTIAL_MAX, "credential")?)?;
            Grant::Credential(Box::new(credential))
        } else if keys.optional(r, 4)? {
            Grant::Pass(Box::new(Pass::decode(r.bytes(CREDENTIAL_MAX, "pass")?)?))
        } else {
            Grant::Nothing
        };
        keys.end(r)?;
        reader.finish()?;
        // Last, because it is what costs most.
        let identity = Identity::decode(identity)?;
        Ok(Evidence {
            identity,
            attestation,
            grant,
        })
    }
}

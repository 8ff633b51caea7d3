//! The revocation list.

use sha2::{Digest, Sha256};

use super::{Keys, RevocationError};
use crate::cbor::{Reader, Writer};
use crate::id::Id;
use crate::identity::IdentitySecret;
use crate::limits::{REVOCATION_LIST_MAX, REVOCATIONS_MAX};
use crate::sign::{Signed, SignedKind};

/// A member that was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationEntry {
    /// Who.
    pub member: Id,
    /// Every credential of the member up to this serial is void. There are none above it: renewal
    /// is refused for good.
    pub max_serial: u64,
    /// The number of the list in which the entry was new.
    pub number: u64,
}

/// What a list says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationListBody {
    /// The project.
    pub project: Id,
    /// Rises with every change of the list.
    pub number: u64,
    /// Which of the authority's keys signed it.
    pub authority_key: u16,
    /// At most `limits::REVOCATIONS_MAX`, in the order of members, each once.
    pub entries: Vec<RevocationEntry>,
}

/// A list that was issued here or verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    signed: Signed,
    body: RevocationListBody,
    /// Every beacon is compared with it, once a second.
    hash: [u8; 32],
}

impl RevocationList {
    /// Issues a list of the authority's own project, signed by its current key. The entries may
    /// come in any order.
    ///
    /// # Errors
    /// [`RevocationError::TooMany`], or [`RevocationError::Order`] for a member that is there
    /// twice.
    pub fn issue(
        authority: &IdentitySecret,
        number: u64,
        mut entries: Vec<RevocationEntry>,
    ) -> Result<RevocationList, RevocationError> {
        entries.sort_by_key(|entry| entry.member);
        let body = RevocationListBody {
            project: authority.id(),
            number,
            authority_key: authority.identity().len(),
            entries,
        };
        well_formed(&body)?;
        let kind = SignedKind::RevocationList;
        let signed = authority.signed(kind, &body.project, encode_body(&body));
        Ok(RevocationList::of(signed, body))
    }

    /// Reads a list and believes it if one of `keys` signed it. Whether it is the one that a beacon
    /// names ([`hash`](Self::hash)) is for the caller to ask.
    ///
    /// # Errors
    /// [`RevocationError`] says what is wrong with it.
    pub fn verify(bytes: &[u8], keys: Keys<'_>) -> Result<RevocationList, RevocationError> {
        let signed = Signed::decode(bytes, REVOCATION_LIST_MAX, "revocation list")?;
        let body = decode_body(&signed.body)?;
        let kind = SignedKind::RevocationList;
        keys.verify(kind, &signed, &body.project, body.authority_key)?;
        Ok(RevocationList::of(signed, body))
    }

    fn of(signed: Signed, body: RevocationListBody) -> RevocationList {
        let hash = Sha256::digest(signed.encode()).into();
        RevocationList { signed, body, hash }
    }

    /// What it says.
    pub fn body(&self) -> &RevocationListBody {
        &self.body
    }

    /// Its bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.encode()
    }

    /// What beacons name it by: SHA-256 of the encoded list.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }
}

fn well_formed(body: &RevocationListBody) -> Result<(), RevocationError> {
    if body.entries.len() > REVOCATIONS_MAX {
        return Err(RevocationError::TooMany);
    }
    let in_order = body.entries.is_sorted_by(|a, b| a.member < b.member);
    let numbered = body.entries.iter().all(|e| e.number <= body.number);
    if in_order && numbered {
        Ok(())
    } else {
        Err(RevocationError::Order)
    }
}

fn encode_body(body: &RevocationListBody) -> Vec<u8> {
    let mut writer = Writer::new();
    let w = &mut writer;
    w.map(4).u64(1).bytes(&body.project.0);
    w.u64(2)
        .u64(body.number)
        .u64(3)
        .u64(body.authority_key.into());
    w.u64(4).array(body.entries.len());
    for entry in &body.entries {
        w.array(3)
            .bytes(&entry.member.0)
            .u64(entry.max_serial)
            .u64(entry.number);
    }
    writer.finish()
}

fn decode_body(bytes: &[u8]) -> Result<RevocationListBody, RevocationError> {
    let mut reader = Reader::new(bytes);
    let r = &mut reader;
    let mut keys = r.map()?;
    keys.required(r, 1)?;
    let project = Id(r.fixed("project")?);
    keys.required(r, 2)?;
    let number = r.u64()?;
    keys.required(r, 3)?;
    let authority_key = r.u16("authority key")?;
    keys.required(r, 4)?;
    let len = r.array(REVOCATIONS_MAX, "entries")?;
    // What is claimed is not allocated: each entry has to be there first.
    let mut entries = Vec::new();
    for _ in 0..len {
        r.tuple(3, "entry")?;
        entries.push(RevocationEntry {
            member: Id(r.fixed("member")?),
            max_serial: r.u64()?,
            number: r.u64()?,
        });
    }
    keys.end(r)?;
    reader.finish()?;
    let body = RevocationListBody {
        project,
        number,
        authority_key,
        entries,
    };
    well_formed(&body)?;
    Ok(body)
}

//! The beacon.

use super::{Keys, RevocationError};
use crate::cbor::{Reader, Writer};
use crate::id::Id;
use crate::identity::IdentitySecret;
use crate::limits::BEACON_MAX;
use crate::revocation::RevocationList;
use crate::sign::{Signed, SignedKind};

/// What a beacon says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeaconBody {
    /// The project.
    pub project: Id,
    /// Rises with every beacon. One that is not above the last is a replay and says nothing.
    pub number: u64,
    /// The number of the present list.
    pub list_number: u64,
    /// The hash of the present list.
    pub list_hash: [u8; 32],
    /// The authority's time when it was made, in milliseconds since 1970.
    pub unix_millis: u64,
    /// Which of the authority's keys signed it.
    pub authority_key: u16,
}

/// A beacon that was issued here or verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    signed: Signed,
    body: BeaconBody,
}

impl Beacon {
    /// Issues a beacon for `list`, signed by the authority's current key.
    pub fn issue(
        authority: &IdentitySecret,
        number: u64,
        list: &RevocationList,
        unix_millis: u64,
    ) -> Beacon {
        let body = BeaconBody {
            project: authority.id(),
            number,
            list_number: list.body().number,
            list_hash: list.hash(),
            unix_millis,
            authority_key: authority.identity().len(),
        };
        let signed = authority.signed(SignedKind::Beacon, &body.project, encode_body(&body));
        Beacon { signed, body }
    }

    /// Reads a beacon and believes it if one of `keys` signed it.
    ///
    /// # Errors
    /// [`RevocationError`] says what is wrong with it.
    pub fn verify(bytes: &[u8], keys: Keys<'_>) -> Result<Beacon, RevocationError> {
        let signed = Signed::decode(bytes, BEACON_MAX, "beacon")?;
        let body = decode_body(&signed.body)?;
        let kind = SignedKind::Beacon;
        keys.verify(kind, &signed, &body.project, body.authority_key)?;
        Ok(Beacon { signed, body })
    }

    /// What it says.
    pub fn body(&self) -> &BeaconBody {
        &self.body
    }

    /// Its bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.encode()
    }
}

fn encode_body(body: &BeaconBody) -> Vec<u8> {
    let mut writer = Writer::new();
    let w = &mut writer;
    w.map(6).u64(1).bytes(&body.project.0);
    w.u64(2).u64(body.number).u64(3).u64(body.list_number);
    w.u64(4).bytes(&body.list_hash);
    w.u64(5).u64(body.unix_millis);
    w.u64(6).u64(body.authority_key.into());
    writer.finish()
}

fn decode_body(bytes: &[u8]) -> Result<BeaconBody, RevocationError> {
    let mut reader = Reader::new(bytes);
    let r = &mut reader;
    let mut keys = r.map()?;
    keys.required(r, 1)?;
    let project = Id(r.fixed("project")?);
    keys.required(r, 2)?;
    let number = r.u64()?;
    keys.required(r, 3)?;
    let list_number = r.u64()?;
    keys.required(r, 4)?;
    let list_hash = r.fixed("list hash")?;
    keys.required(r, 5)?;
    let unix_millis = r.u64()?;
    keys.required(r, 6)?;
    let authority_key = r.u16("authority key")?;
    keys.end(r)?;
    reader.finish()?;
    Ok(BeaconBody {
        project,
        number,
        list_number,
        list_hash,
        unix_millis,
        authority_key,
    })
}

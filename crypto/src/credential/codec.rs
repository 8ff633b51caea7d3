//! The bytes of credentials and passes.

use super::{Connect, CredentialBody, PassBody, Roles, roles_fit};
use crate::cbor::{DecodeError, Keys, Reader, Writer};
use crate::id::Id;
use crate::limits::{ADDRESSES_MAX, ATTRIBUTES_MAX};
use crate::names::{AttributeValue, Attributes, Name, RelayAddress};
use crate::time::UnixTime;

/// Encodes a credential's body, or a pass's when there is nothing to name it by.
pub(super) fn encode(body: &PassBody, named: Option<(&Name, &Attributes)>) -> Vec<u8> {
    let mut writer = Writer::new();
    let w = &mut writer;
    w.map(if named.is_some() { 13 } else { 11 });
    w.u64(1)
        .bytes(&body.project.0)
        .u64(2)
        .bytes(&body.subject.0);
    w.u64(3)
        .bytes(&body.history_head)
        .u64(4)
        .u64(body.history_len.into());
    w.u64(5).u64(body.serial);
    if let Some((name, attributes)) = named {
        w.u64(6).text(name.as_str()).u64(7).array(attributes.len());
        for (name, value) in attributes.iter() {
            w.array(2).text(name.as_str()).text(value.as_str());
        }
    }
    w.u64(8).u64(body.roles.bits().into());
    w.u64(9);
    encode_addresses(w, &body.may_serve);
    w.u64(10);
    match &body.may_connect {
        Connect::All => {
            w.bool(true);
        }
        Connect::Only(list) => encode_addresses(w, list),
    }
    w.u64(11)
        .u64(body.not_before.0)
        .u64(12)
        .u64(body.not_after.0);
    w.u64(13).u64(body.authority_key.into());
    writer.finish()
}

fn encode_addresses(w: &mut Writer, list: &[RelayAddress]) {
    w.array(list.len());
    for address in list {
        w.text(address.as_str());
    }
}

pub(super) fn decode_credential(bytes: &[u8]) -> Result<CredentialBody, DecodeError> {
    let mut named = None;
    let pass = decode(bytes, |keys, r| {
        keys.required(r, 6)?;
        let name = r.text("name")?;
        keys.required(r, 7)?;
        named = Some((name, decode_attributes(r)?));
        Ok(())
    })?;
    let (name, attributes) = named.ok_or(DecodeError::MissingKey(6))?;
    Ok(CredentialBody {
        project: pass.project,
        subject: pass.subject,
        history_head: pass.history_head,
        history_len: pass.history_len,
        serial: pass.serial,
        name,
        attributes,
        roles: pass.roles,
        may_serve: pass.may_serve,
        may_connect: pass.may_connect,
        not_before: pass.not_before,
        not_after: pass.not_after,
        authority_key: pass.authority_key,
    })
}

pub(super) fn decode_pass(bytes: &[u8]) -> Result<PassBody, DecodeError> {
    decode(bytes, |_, _| Ok(()))
}

/// Reads a body; `named` reads what a credential has between keys 5 and 8.
fn decode(
    bytes: &[u8],
    named: impl FnOnce(&mut Keys, &mut Reader<'_>) -> Result<(), DecodeError>,
) -> Result<PassBody, DecodeError> {
    let mut reader = Reader::new(bytes);
    let r = &mut reader;
    let mut keys = r.map()?;
    keys.required(r, 1)?;
    let project = Id(r.fixed("project")?);
    keys.required(r, 2)?;
    let subject = Id(r.fixed("subject")?);
    keys.required(r, 3)?;
    let history_head = r.fixed("history head")?;
    keys.required(r, 4)?;
    let history_len = r.u16("history length")?;
    keys.required(r, 5)?;
    let serial = r.u64()?;
    named(&mut keys, r)?;
    keys.required(r, 8)?;
    let roles = Roles::from_bits(r.u8("roles")?).filter(|roles| roles_fit(*roles));
    let roles = roles.ok_or(DecodeError::Value("roles"))?;
    keys.required(r, 9)?;
    let may_serve = decode_addresses(r)?;
    keys.required(r, 10)?;
    let may_connect = decode_connect(r)?;
    keys.required(r, 11)?;
    let not_before = UnixTime(r.u64()?);
    keys.required(r, 12)?;
    let not_after = UnixTime(r.u64()?);
    keys.required(r, 13)?;
    let authority_key = r.u16("authority key")?;
    keys.end(r)?;
    reader.finish()?;
    Ok(PassBody {
        project,
        subject,
        history_head,
        history_len,
        serial,
        roles,
        may_serve,
        may_connect,
        not_before,
        not_after,
        authority_key,
    })
}

fn decode_connect(r: &mut Reader<'_>) -> Result<Connect, DecodeError> {
    if r.at_array()? {
        return decode_addresses(r).map(Connect::Only);
    }
    if r.bool()? {
        Ok(Connect::All)
    } else {
        Err(DecodeError::Value("may connect"))
    }
}

fn decode_addresses(r: &mut Reader<'_>) -> Result<Vec<RelayAddress>, DecodeError> {
    let len = r.array(ADDRESSES_MAX, "relay addresses")?;
    let mut list: Vec<RelayAddress> = Vec::with_capacity(len);
    for _ in 0..len {
        let address: RelayAddress = r.text("relay address")?;
        if address.is_reserved() || list.last().is_some_and(|last| *last >= address) {
            return Err(DecodeError::Value("relay addresses"));
        }
        list.push(address);
    }
    Ok(list)
}

fn decode_attributes(r: &mut Reader<'_>) -> Result<Attributes, DecodeError> {
    let len = r.array(ATTRIBUTES_MAX, "attributes")?;
    let mut attributes = Attributes::new();
    let mut last: Option<Name> = None;
    for _ in 0..len {
        r.tuple(2, "attribute")?;
        let name: Name = r.text("attribute name")?;
        let value: AttributeValue = r.text("attribute value")?;
        if last.as_ref().is_some_and(|last| *last >= name) {
            return Err(DecodeError::Value("attributes"));
        }
        last = Some(name.clone());
        attributes
            .insert(name, value)
            .map_err(|_| DecodeError::Length("attributes"))?;
    }
    Ok(attributes)
}

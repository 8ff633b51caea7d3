//! Rows to values of the protocol and back.

use std::collections::BTreeMap;
use std::str::FromStr;

use crypto::Id;
use crypto::credential::{Connect, Roles};
use crypto::names::{Attributes, RelayAddress};
use crypto::ticket::TicketId;

use super::Database;
use super::value::{Row, damaged, values};
use crate::protocol::store::{
    Grants, IssuedRow, MemberRow, NewTicket, ProjectRow, Redemption, StoreError, TicketRow,
};

/// The row of a query that always gives one.
pub(super) fn only(rows: &[Row]) -> Result<&Row, StoreError> {
    match rows {
        [row] => Ok(row),
        _ => Err(StoreError::Damaged("a row is not there".into())),
    }
}

fn list<T: FromStr>(json: &str, column: &str) -> Result<Vec<T>, StoreError> {
    let texts: Vec<String> = serde_json::from_str(json).map_err(|_| damaged(column))?;
    texts
        .iter()
        .map(|text| text.parse().map_err(|_| damaged(column)))
        .collect()
}

/// A list as JSON.
pub(super) fn json_list<T: AsRef<str>>(items: &[T]) -> String {
    let texts: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    serde_json::Value::from(texts).to_string()
}

/// Grants as the columns `attributes`, `roles`, `may_serve`, `may_connect` (NULL: all).
pub(super) struct GrantColumns {
    pub(super) attributes: String,
    pub(super) roles: i64,
    pub(super) may_serve: String,
    pub(super) may_connect: Option<String>,
}

impl From<&Grants> for GrantColumns {
    fn from(grants: &Grants) -> GrantColumns {
        let attributes: serde_json::Map<String, serde_json::Value> = grants
            .attributes
            .iter()
            .map(|(name, value)| (name.to_string(), value.as_str().into()))
            .collect();
        GrantColumns {
            attributes: serde_json::Value::Object(attributes).to_string(),
            roles: grants.roles.bits().into(),
            may_serve: json_list(&grants.may_serve),
            may_connect: match &grants.may_connect {
                Connect::All => None,
                Connect::Only(addresses) => Some(json_list(addresses)),
            },
        }
    }
}

fn grants(row: &Row) -> Result<Grants, StoreError> {
    let stored: BTreeMap<String, String> =
        serde_json::from_str(row.text("attributes")?).map_err(|_| damaged("attributes"))?;
    let mut attributes = Attributes::new();
    for (name, value) in stored {
        let (Ok(name), Ok(value)) = (name.parse(), value.parse()) else {
            return Err(damaged("attributes"));
        };
        attributes
            .insert(name, value)
            .map_err(|_| damaged("attributes"))?;
    }
    let roles = u8::try_from(row.unsigned("roles")?).ok();
    Ok(Grants {
        attributes,
        roles: roles
            .and_then(Roles::from_bits)
            .ok_or_else(|| damaged("roles"))?,
        may_serve: list(row.text("may_serve")?, "may_serve")?,
        may_connect: match row.optional_text("may_connect")? {
            None => Connect::All,
            Some(json) => Connect::Only(list::<RelayAddress>(json, "may_connect")?),
        },
    })
}

/// A row of `project`.
pub(super) fn project(row: &Row) -> Result<ProjectRow, StoreError> {
    Ok(ProjectRow {
        id: Id(row.array("id")?),
        name: row.parsed("name")?,
        addresses: list(row.text("addresses")?, "addresses")?,
        note_number: row.unsigned("note_number")?,
        created: row.time("created")?,
    })
}

/// A row of `members`.
pub(super) fn member(row: &Row) -> Result<MemberRow, StoreError> {
    Ok(MemberRow {
        id: Id(row.array("id")?),
        name: row.parsed("name")?,
        grants: grants(row)?,
        identity: row.bytes("identity")?.to_vec(),
        ticket: row.optional_array("ticket")?.map(TicketId),
        enrolled: row.time("enrolled")?,
        serial: row.unsigned("serial")?,
        issued: row.time("issued")?,
        revoked: row.optional_time("revoked")?,
    })
}

/// A row of `tickets` with its redemptions.
pub(super) fn ticket(db: &mut dyn Database, row: &Row) -> Result<TicketRow, StoreError> {
    let id: [u8; 16] = row.array("id")?;
    let query = "SELECT member, at FROM redemptions WHERE ticket = ?1 ORDER BY place";
    let redemptions = db.query(query, values![id])?;
    let redemption = |row: &Row| -> Result<Redemption, StoreError> {
        Ok(Redemption {
            by: Id(row.array("member")?),
            at: row.time("at")?,
        })
    };
    Ok(TicketRow {
        ticket: NewTicket {
            id: TicketId(id),
            secret_hash: row.array("secret_hash")?,
            name: row.optional_parsed("name")?,
            grants: grants(row)?,
            uses: u32::try_from(row.unsigned("uses")?).map_err(|_| damaged("uses"))?,
            bound_to: row.optional_array("bound_to")?.map(Id),
            replaces: row.optional_parsed("replaces")?,
            created_by: Id(row.array("created_by")?),
            created: row.time("created")?,
            expires: row.time("expires")?,
        },
        redemptions: redemptions
            .iter()
            .map(redemption)
            .collect::<Result<_, _>>()?,
        revoked: row.optional_time("revoked")?,
    })
}

/// A row of `issued`.
pub(super) fn issued(row: &Row) -> Result<IssuedRow, StoreError> {
    Ok(IssuedRow {
        serial: row.unsigned("serial")?,
        member: Id(row.array("member")?),
        at: row.time("at")?,
        not_after: row.time("not_after")?,
    })
}

/// The member of this id, revoked ones too.
pub(super) fn member_by_id(
    db: &mut dyn Database,
    id: &Id,
) -> Result<Option<MemberRow>, StoreError> {
    let found = db.query("SELECT * FROM members WHERE id = ?1", values![id.0])?;
    found.first().map(member).transpose()
}

/// The live member of this name.
pub(super) fn member_by_name(
    db: &mut dyn Database,
    name: &str,
) -> Result<Option<MemberRow>, StoreError> {
    let query = "SELECT * FROM members WHERE name = ?1 AND revoked IS NULL";
    let found = db.query(query, values![name])?;
    found.first().map(member).transpose()
}

/// The ticket of this id.
pub(super) fn ticket_by_id(
    db: &mut dyn Database,
    id: &TicketId,
) -> Result<Option<TicketRow>, StoreError> {
    let found = db.query("SELECT * FROM tickets WHERE id = ?1", values![id.0])?;
    found.first().map(|row| ticket(db, row)).transpose()
}

/// The project's id.
pub(super) fn project_id(db: &mut dyn Database) -> Result<Id, StoreError> {
    let found = db.query("SELECT id FROM project", &[])?;
    only(&found)?.array("id").map(Id)
}

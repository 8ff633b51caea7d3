//! Rows to values and back. What was stored was checked before; what is read is checked again,
//! because a file can be damaged or edited.

use std::collections::BTreeMap;
use std::str::FromStr;

use crypto::credential::{Connect, Roles};

use crypto::names::{Attributes, RelayAddress};
use crypto::ticket::TicketId;
use crypto::{Id, UnixTime};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::protocol::store::{
    AuditAction, AuditRow, Grants, IssuedRow, MemberRow, NewTicket, ProjectRow, Redemption,
    StoreError, TicketRow,
};

/// A value that makes no sense in its column.
pub(super) fn damaged(column: &str) -> StoreError {
    StoreError::Damaged(format!(
        "the column {column} holds something else than it should"
    ))
}

/// Times, serials and counts as SQLite's signed integers.
pub(super) fn integer(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Refused("a number is too large".into()))
}

/// A number of a row.
pub(super) fn unsigned(row: &Row<'_>, column: &str) -> Result<u64, StoreError> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| damaged(column))
}

fn time(row: &Row<'_>, column: &str) -> Result<UnixTime, StoreError> {
    unsigned(row, column).map(UnixTime)
}

fn optional_time(row: &Row<'_>, column: &str) -> Result<Option<UnixTime>, StoreError> {
    let value: Option<i64> = row.get(column)?;
    value
        .map(|n| u64::try_from(n).map(UnixTime).map_err(|_| damaged(column)))
        .transpose()
}

fn text<T: FromStr>(row: &Row<'_>, column: &str) -> Result<T, StoreError> {
    row.get::<_, String>(column)?
        .parse()
        .map_err(|_| damaged(column))
}

fn optional_text<T: FromStr>(row: &Row<'_>, column: &str) -> Result<Option<T>, StoreError> {
    let value: Option<String> = row.get(column)?;
    value
        .map(|text| text.parse().map_err(|_| damaged(column)))
        .transpose()
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
    pub(super) roles: u8,
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
            roles: grants.roles.bits(),
            may_serve: json_list(&grants.may_serve),
            may_connect: match &grants.may_connect {
                Connect::All => None,
                Connect::Only(addresses) => Some(json_list(addresses)),
            },
        }
    }
}

fn grants(row: &Row<'_>) -> Result<Grants, StoreError> {
    let stored: BTreeMap<String, String> =
        serde_json::from_str(&row.get::<_, String>("attributes")?)
            .map_err(|_| damaged("attributes"))?;
    let mut attributes = Attributes::new();
    for (name, value) in stored {
        let (Ok(name), Ok(value)) = (name.parse(), value.parse()) else {
            return Err(damaged("attributes"));
        };
        attributes
            .insert(name, value)
            .map_err(|_| damaged("attributes"))?;
    }
    let may_connect: Option<String> = row.get("may_connect")?;
    Ok(Grants {
        attributes,
        roles: Roles::from_bits(row.get("roles")?).ok_or_else(|| damaged("roles"))?,
        may_serve: list(&row.get::<_, String>("may_serve")?, "may_serve")?,
        may_connect: match may_connect {
            None => Connect::All,
            Some(json) => Connect::Only(list::<RelayAddress>(&json, "may_connect")?),
        },
    })
}

/// A row of `project`.
pub(super) fn project(row: &Row<'_>) -> Result<ProjectRow, StoreError> {
    Ok(ProjectRow {
        id: Id(row.get("id")?),
        name: text(row, "name")?,
        addresses: list(&row.get::<_, String>("addresses")?, "addresses")?,
        note_number: unsigned(row, "note_number")?,
        created: time(row, "created")?,
    })
}

/// A row of `members`.
pub(super) fn member(row: &Row<'_>) -> Result<MemberRow, StoreError> {
    let ticket: Option<[u8; 16]> = row.get("ticket")?;
    Ok(MemberRow {
        id: Id(row.get("id")?),
        name: text(row, "name")?,
        grants: grants(row)?,
        identity: row.get("identity")?,
        ticket: ticket.map(TicketId),
        enrolled: time(row, "enrolled")?,
        serial: unsigned(row, "serial")?,
        issued: time(row, "issued")?,
        revoked: optional_time(row, "revoked")?,
    })
}

/// A row of `tickets` with its redemptions.
pub(super) fn ticket(connection: &Connection, row: &Row<'_>) -> Result<TicketRow, StoreError> {
    let id: [u8; 16] = row.get("id")?;
    let bound_to: Option<[u8; 32]> = row.get("bound_to")?;
    let mut statement = connection
        .prepare_cached("SELECT member, at FROM redemptions WHERE ticket = ?1 ORDER BY place")?;
    let redemptions = collect(&mut statement, (id,), |row| {
        Ok(Redemption {
            by: Id(row.get("member")?),
            at: time(row, "at")?,
        })
    })?;
    Ok(TicketRow {
        ticket: NewTicket {
            id: TicketId(id),
            secret_hash: row.get("secret_hash")?,
            name: optional_text(row, "name")?,
            grants: grants(row)?,
            uses: row.get("uses")?,
            bound_to: bound_to.map(Id),
            replaces: optional_text(row, "replaces")?,
            created_by: Id(row.get("created_by")?),
            created: time(row, "created")?,
            expires: time(row, "expires")?,
        },
        redemptions,
        revoked: optional_time(row, "revoked")?,
    })
}

/// A row of `issued`.
pub(super) fn issued(row: &Row<'_>) -> Result<IssuedRow, StoreError> {
    Ok(IssuedRow {
        serial: unsigned(row, "serial")?,
        member: Id(row.get("member")?),
        at: time(row, "at")?,
        not_after: time(row, "not_after")?,
    })
}

/// A row of `audit`.
pub(super) fn audit(row: &Row<'_>) -> Result<AuditRow, StoreError> {
    let action: String = row.get("action")?;
    Ok(AuditRow {
        number: unsigned(row, "number")?,
        at: time(row, "at")?,
        actor: Id(row.get("actor")?),
        action: AuditAction::from_name(&action).ok_or_else(|| damaged("action"))?,
        subject: row.get("subject")?,
    })
}

/// All rows of a query.
pub(super) fn collect<T, P: rusqlite::Params>(
    statement: &mut rusqlite::CachedStatement<'_>,
    params: P,
    mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// The member of this id, revoked ones too.
pub(super) fn member_by_id(
    connection: &Connection,
    id: &Id,
) -> Result<Option<MemberRow>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT * FROM members WHERE id = ?1")?;
    statement
        .query_row((id.0,), |row| Ok(member(row)))
        .optional()?
        .transpose()
}

/// The live member of this name.
pub(super) fn member_by_name(
    connection: &Connection,
    name: &str,
) -> Result<Option<MemberRow>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM members WHERE name = ?1 AND revoked IS NULL")?;
    statement
        .query_row((name,), |row| Ok(member(row)))
        .optional()?
        .transpose()
}

/// The ticket of this id.
pub(super) fn ticket_by_id(
    connection: &Connection,
    id: &TicketId,
) -> Result<Option<TicketRow>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT * FROM tickets WHERE id = ?1")?;
    statement
        .query_row((id.0,), |row| Ok(ticket(connection, row)))
        .optional()?
        .transpose()
}

//! The audit's rows and head. The head stands in a row of its own, which is read and written in the
//! transaction that adds a row, so that rows which were taken away at the end are missed.

use std::collections::BTreeMap;

use crypto::Id;
use crypto::chain::ChainHash;

use super::value::{Row, damaged, integer, values};
use super::{Database, rows};
use crate::limits::{REFUSALS_AUDITED_EVERY, STORE_PAGE_MAX};
use crate::protocol::audit::{
    AuditAction, AuditEvent, AuditHead, AuditPage, AuditQuery, AuditRow, Details,
};
use crate::protocol::store::{StoreError, told};

/// Adds a row.
pub(in crate::control) fn append(
    db: &mut dyn Database,
    event: AuditEvent,
) -> Result<(), StoreError> {
    let mut head = head(db)?;
    let row = head.append(event);
    let event = &row.event;
    db.execute(
        "INSERT INTO audit (number, at, actor, action, subject, details, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        values![
            integer(row.number)?,
            integer(event.at.0)?,
            event.actor.0,
            event.action.as_str(),
            event.subject.as_str(),
            json(&event.details),
            row.hash.0,
        ],
    )?;
    put_head(db, &head)
}

/// Adds a row about a refusal, unless there were enough of its kind.
pub(super) fn append_refusal(db: &mut dyn Database, event: AuditEvent) -> Result<(), StoreError> {
    let since = event.at.minus(REFUSALS_AUDITED_EVERY.as_secs());
    // In the words of the index, or it would not be used.
    let found = db.query(
        "SELECT count(*) AS seen, coalesce(sum(CASE WHEN actor = ?4 THEN 1 ELSE 0 END), 0) AS own
         FROM audit
         WHERE action IN ('ticket.reused', 'ticket.refused', 'credential.refused')
             AND action = ?1 AND subject = ?2 AND at > ?3",
        values![
            event.action.as_str(),
            event.subject.as_str(),
            integer(since.0)?,
            event.actor.0,
        ],
    )?;
    let found = rows::only(&found)?;
    let (before, own) = (found.unsigned("seen")?, found.unsigned("own")?);
    if told::is_refusal_audited(before, own > 0) {
        append(db, event)?;
    }
    Ok(())
}

/// The end of the trail.
pub(in crate::control) fn head(db: &mut dyn Database) -> Result<AuditHead, StoreError> {
    let found = db.query("SELECT number, hash FROM audit_head", &[])?;
    let found = rows::only(&found)?;
    Ok(AuditHead {
        number: found.unsigned("number")?,
        hash: ChainHash(found.array("hash")?),
    })
}

/// Writes where the trail ends.
pub(in crate::control) fn put_head(
    db: &mut dyn Database,
    head: &AuditHead,
) -> Result<(), StoreError> {
    let changed = db.execute(
        "UPDATE audit_head SET number = ?1, hash = ?2",
        values![integer(head.number)?, head.hash.0],
    )?;
    match changed {
        1 => Ok(()),
        _ => Err(StoreError::Damaged("the audit has no head".into())),
    }
}

/// Some rows and the head. A row that can't be read hides none before it.
pub(super) fn page(db: &mut dyn Database, query: AuditQuery) -> Result<AuditPage, StoreError> {
    let head = head(db)?;
    let (order, behind, count) = match query {
        AuditQuery::Last(count) => ("DESC", 0, count.min(STORE_PAGE_MAX)),
        AuditQuery::Behind(number) => ("ASC", number, STORE_PAGE_MAX),
    };
    let query = format!("SELECT * FROM audit WHERE number > ?1 ORDER BY number {order} LIMIT ?2");
    let found = db.query(&query, values![integer(behind)?, integer(count as u64)?])?;
    let mut page = AuditPage {
        rows: Vec::with_capacity(found.len()),
        head,
        unreadable: None,
    };
    let mut ascending: Vec<&Row> = found.iter().collect();
    if order == "DESC" {
        ascending.reverse();
    }
    for stored in ascending {
        match row(stored) {
            Ok(row) => page.rows.push(row),
            Err(error) => {
                let number = stored.unsigned("number");
                let which =
                    number.map_or_else(|_| "a row".into(), |number| format!("row {number}"));
                page.unreadable = Some(format!("{which} can't be read: {error}"));
                break;
            }
        }
    }
    Ok(page)
}

/// A row of `audit`.
fn row(row: &Row) -> Result<AuditRow, StoreError> {
    let action = AuditAction::from_name(row.text("action")?);
    Ok(AuditRow {
        number: row.unsigned("number")?,
        event: AuditEvent {
            at: row.time("at")?,
            actor: Id(row.array("actor")?),
            action: action.ok_or_else(|| damaged("action"))?,
            subject: row.text("subject")?.to_owned(),
            details: details(row.text("details")?)?,
        },
        hash: ChainHash(row.array("hash")?),
    })
}

fn json(details: &Details) -> String {
    let pairs = details.iter();
    let object: serde_json::Map<_, _> = pairs
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    serde_json::Value::Object(object).to_string()
}

fn details(json: &str) -> Result<Details, StoreError> {
    let object: BTreeMap<String, String> =
        serde_json::from_str(json).map_err(|_| damaged("details"))?;
    Ok(object.into_iter().collect())
}

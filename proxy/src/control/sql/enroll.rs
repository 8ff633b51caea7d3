//! Redemptions, members and the serials of credentials.

use crypto::names::Name;
use crypto::{Id, UnixTime};

use super::rows::{self, GrantColumns};
use super::value::{integer, values};
use super::{Database, audit, revocation};
use crate::limits::STORE_ISSUED_KEPT;
use crate::protocol::store::rules::{RedeemPlan, is_issued_already, judge_redeem};
use crate::protocol::store::{
    Issue, MemberRow, Redeem, RedeemAnswer, StoreError, TicketRow, expiry, told,
};
use crate::time::Duration;

/// Carries out a redemption, but for what the audit says of a refusal.
pub(super) fn redeem(db: &mut dyn Database, redeem: &Redeem) -> Result<RedeemAnswer, StoreError> {
    let ticket = rows::ticket_by_id(db, &redeem.ticket)?;
    let member = rows::member_by_id(db, &redeem.id)?;
    match judge_redeem(ticket.as_ref(), member.as_ref(), redeem) {
        Ok(RedeemPlan::Repeat) => {
            let (now, life) = (redeem.now, redeem.life);
            issue_again(db, member, &redeem.identity, now, life).map(RedeemAnswer::Enrolled)
        }
        Ok(RedeemPlan::First { names, replaces }) => match ticket {
            Some(ticket) => redeem_first(db, redeem, &ticket, &names, replaces.as_ref()),
            None => Ok(RedeemAnswer::Unknown),
        },
        Err(refusal) => Ok(refusal),
    }
}

/// Carries out the plan for an identity's first redemption of a ticket.
fn redeem_first(
    db: &mut dyn Database,
    redeem: &Redeem,
    ticket: &TicketRow,
    names: &[Name],
    replaces: Option<&Name>,
) -> Result<RedeemAnswer, StoreError> {
    let replaced = match replaces {
        Some(name) => rows::member_by_name(db, name.as_str())?,
        None => None,
    };
    let replaced_id = replaced.as_ref().map(|member| member.id);
    let Some(name) = free_name(db, names, &redeem.id, replaced_id.as_ref())? else {
        return Ok(match names.first() {
            Some(first) => RedeemAnswer::NameTaken(first.clone()),
            None => RedeemAnswer::Unknown,
        });
    };
    if let Some(old) = replaced.filter(|old| old.id != redeem.id) {
        if revocation::end_membership(db, &old, &redeem.id, redeem.now)?.is_none() {
            return Ok(RedeemAnswer::RevocationsFull);
        }
        audit::append(db, told::member_replaced(redeem, &old))?;
    }
    // Checked by the rules already; the row count decides all the same, so that no other writer
    // of the database could slip in between. A ticket that was the replaced member's is void by now, and
    // was good when it was judged.
    let counted = db.execute(
        "UPDATE tickets SET used = used + 1 WHERE id = ?1 AND used < uses",
        values![redeem.ticket.0],
    )?;
    if counted != 1 {
        return Err(StoreError::Damaged(
            "a ticket's use count and redemptions differ".into(),
        ));
    }
    let before = rows::member_by_id(db, &redeem.id)?;
    let member = MemberRow {
        id: redeem.id,
        name,
        grants: ticket.ticket.grants.clone(),
        identity: redeem.identity.clone(),
        ticket: Some(redeem.ticket),
        enrolled: before.map_or(redeem.now, |member| member.enrolled),
        serial: 0,
        issued: redeem.now,
        revoked: None,
    };
    put_member(db, &member)?;
    db.execute(
        "INSERT INTO redemptions (ticket, place, member, at) VALUES (?1, ?2, ?3, ?4)",
        values![
            redeem.ticket.0,
            integer(ticket.redemptions.len() as u64 + 1)?,
            redeem.id.0,
            integer(redeem.now.0)?,
        ],
    )?;
    audit::append(db, told::ticket_redeemed(redeem, &member))?;
    issue(db, &redeem.id, redeem.id, redeem.now, redeem.life).map(RedeemAnswer::Enrolled)
}

/// The first of the names that no live member has, apart from the one that asks and the one that
/// it replaces.
fn free_name(
    db: &mut dyn Database,
    names: &[Name],
    id: &Id,
    replaced: Option<&Id>,
) -> Result<Option<Name>, StoreError> {
    for name in names {
        let owner = rows::member_by_name(db, name.as_str())?;
        if owner.is_none_or(|owner| owner.id == *id || Some(&owner.id) == replaced) {
            return Ok(Some(name.clone()));
        }
    }
    Ok(None)
}

/// Makes a member's row, or replaces it.
pub(super) fn put_member(db: &mut dyn Database, member: &MemberRow) -> Result<(), StoreError> {
    let grants = GrantColumns::from(&member.grants);
    db.execute(
        "INSERT INTO members (id, name, attributes, roles, may_serve, may_connect, identity,
             ticket, enrolled, serial, issued, revoked)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, NULL)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, attributes = excluded.attributes,
             roles = excluded.roles, may_serve = excluded.may_serve,
             may_connect = excluded.may_connect, identity = excluded.identity,
             ticket = excluded.ticket",
        values![
            member.id.0,
            member.name.as_str(),
            grants.attributes,
            grants.roles,
            grants.may_serve,
            grants.may_connect,
            member.identity.as_slice(),
            member.ticket.map(|id| id.0),
            integer(member.enrolled.0)?,
            integer(member.serial)?,
            integer(member.issued.0)?,
        ],
    )?;
    Ok(())
}

/// The credential that the member has, if that is new enough; else the next one, for the identity
/// that it shows now.
pub(super) fn issue_again(
    db: &mut dyn Database,
    member: Option<MemberRow>,
    identity: &[u8],
    now: UnixTime,
    life: Duration,
) -> Result<Issue, StoreError> {
    let Some(member) = member else {
        return Err(StoreError::Damaged("a member is gone".into()));
    };
    if is_issued_already(&member, identity, now, life) {
        let not_after = expiry(member.issued, life);
        return Ok(Issue { member, not_after });
    }
    db.execute(
        "UPDATE members SET identity = ?2 WHERE id = ?1",
        values![member.id.0, identity],
    )?;
    issue(db, &member.id, member.id, now, life)
}

/// Takes the next serial for a member that exists, and forgets what ended long ago.
pub(super) fn issue(
    db: &mut dyn Database,
    id: &Id,
    actor: Id,
    now: UnixTime,
    life: Duration,
) -> Result<Issue, StoreError> {
    let not_after = expiry(now, life);
    let taken = db.query(
        "INSERT INTO issued (member, at, not_after) VALUES (?1, ?2, ?3) RETURNING serial",
        values![id.0, integer(now.0)?, integer(not_after.0)?],
    )?;
    let serial = rows::only(&taken)?.unsigned("serial")?;
    db.execute(
        "UPDATE members SET serial = ?2, issued = ?3 WHERE id = ?1",
        values![id.0, integer(serial)?, integer(now.0)?],
    )?;
    db.execute(
        "DELETE FROM issued WHERE not_after < ?1",
        values![integer(now.minus(STORE_ISSUED_KEPT.as_secs()).0)?],
    )?;
    let Some(member) = rows::member_by_id(db, id)? else {
        return Err(StoreError::Damaged(format!("member {id} is gone")));
    };
    let issue = Issue { member, not_after };
    audit::append(db, told::credential_issued(actor, &issue))?;
    Ok(issue)
}

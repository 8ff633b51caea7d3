//! The methods of the store. Who may do what is decided by the shared rules; here they become
//! statements.

use crypto::names::Name;
use crypto::ticket::TicketId;
use crypto::{Id, UnixTime};
use rusqlite::{Connection, OptionalExtension, named_params};

use super::SqliteStore;
use super::revocation::{self, end_membership};
use super::rows::{self, GrantColumns, integer, json_list};
use crate::limits::{REUSES_AUDITED_EVERY, STORE_ISSUED_KEPT, STORE_PAGE_MAX};
use crate::protocol::store::rules::{
    RedeemPlan, is_issued_already, is_reuse_audited, judge_redeem, judge_renew,
};
use crate::protocol::store::{
    Admit, AuditAction, AuditRow, Issue, IssuedRow, MemberKey, MemberRow, NewTicket, ProjectRow,
    Redeem, RedeemAnswer, Renew, RenewAnswer, Revoke, RevokeAnswer, RevokeTicket,
    RevokeTicketAnswer, Stamp, Stamped, Store, StoreError, TicketAnswer, TicketRow, expiry,
};
use crate::time::Duration;

impl Store for SqliteStore {
    fn create_project(&mut self, project: &ProjectRow) -> Result<(), StoreError> {
        self.change(|db| {
            let inserted = db.execute(
                "INSERT INTO project VALUES (1, ?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
                (
                    project.id.0,
                    project.name.as_str(),
                    json_list(&project.addresses),
                    integer(project.note_number)?,
                    integer(project.created.0)?,
                ),
            )?;
            if inserted == 0 {
                return Err(StoreError::Refused("it holds a project already".into()));
            }
            let name = project.name.as_str();
            audit(
                db,
                project.created,
                &project.id,
                AuditAction::ProjectCreated,
                name,
            )
        })
    }

    fn project(&mut self) -> Result<Option<ProjectRow>, StoreError> {
        let query = "SELECT * FROM project";
        self.connection
            .query_row(query, (), |row| Ok(rows::project(row)))
            .optional()?
            .transpose()
    }

    fn create_ticket(&mut self, ticket: &NewTicket) -> Result<TicketAnswer, StoreError> {
        self.change(|db| {
            if rows::ticket_by_id(db, &ticket.id)?.is_some() {
                return Err(StoreError::Refused("there is a ticket of that id".into()));
            }
            if let Some(replaced) = &ticket.replaces
                && rows::member_by_name(db, replaced.as_str())?.is_none()
            {
                return Ok(TicketAnswer::NoSuchMember(replaced.clone()));
            }
            if let Some(name) = &ticket.name
                && ticket.uses == 1
                && ticket.replaces.as_ref() != Some(name)
                && rows::member_by_name(db, name.as_str())?.is_some()
            {
                return Ok(TicketAnswer::NameTaken(name.clone()));
            }
            insert_ticket(db, ticket)?;
            let subject = ticket.id.to_string();
            audit(
                db,
                ticket.created,
                &ticket.created_by,
                AuditAction::TicketCreated,
                &subject,
            )?;
            Ok(TicketAnswer::Created)
        })
    }

    fn tickets(&mut self, after: Option<TicketId>) -> Result<Vec<TicketRow>, StoreError> {
        let after = after.map_or_else(Vec::new, |id| id.0.to_vec());
        let db = &self.connection;
        let mut statement =
            db.prepare_cached("SELECT * FROM tickets WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        rows::collect(&mut statement, (after, page(STORE_PAGE_MAX)), |row| {
            rows::ticket(db, row)
        })
    }

    fn redeem(&mut self, redeem: &Redeem) -> Result<RedeemAnswer, StoreError> {
        self.change(|db| {
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
                Err(refusal) => {
                    if matches!(refusal, RedeemAnswer::Used { .. }) {
                        audit_reuse(db, redeem)?;
                    }
                    Ok(refusal)
                }
            }
        })
    }

    fn renew(&mut self, renew: &Renew) -> Result<RenewAnswer, StoreError> {
        self.change(|db| {
            let member = rows::member_by_id(db, &renew.id)?;
            if let Err(refusal) = judge_renew(member.as_ref(), renew) {
                return Ok(refusal);
            }
            let (now, life) = (renew.now, renew.life);
            issue_again(db, member, &renew.identity, now, life).map(RenewAnswer::Renewed)
        })
    }

    fn admit(&mut self, admit: &Admit) -> Result<Issue, StoreError> {
        self.change(|db| {
            let owner = rows::member_by_name(db, admit.name.as_str())?;
            if owner.is_some_and(|owner| owner.id != admit.id) {
                return Err(StoreError::Refused(format!(
                    "a member has the name {}",
                    admit.name
                )));
            }
            let before = rows::member_by_id(db, &admit.id)?;
            if before
                .as_ref()
                .is_some_and(|member| member.revoked.is_some())
            {
                return Err(StoreError::Refused(format!(
                    "member {} is revoked",
                    admit.id
                )));
            }
            let changed = before
                .as_ref()
                .is_none_or(|member| member.name != admit.name || member.grants != admit.grants);
            put_member(
                db,
                &MemberRow {
                    id: admit.id,
                    name: admit.name.clone(),
                    grants: admit.grants.clone(),
                    identity: admit.identity.clone(),
                    ticket: None,
                    enrolled: before.map_or(admit.now, |member| member.enrolled),
                    serial: 0,
                    issued: admit.now,
                    revoked: None,
                },
            )?;
            if changed {
                let actor: [u8; 32] =
                    db.query_row("SELECT id FROM project", (), |row| row.get(0))?;
                let action = AuditAction::MemberAdmitted;
                audit(db, admit.now, &Id(actor), action, admit.name.as_str())?;
            }
            issue(db, &admit.id, admit.now, admit.life)
        })
    }

    fn revoke(&mut self, revoke: &Revoke) -> Result<RevokeAnswer, StoreError> {
        self.change(|db| revocation::revoke(db, revoke))
    }

    fn revoke_ticket(&mut self, revoke: &RevokeTicket) -> Result<RevokeTicketAnswer, StoreError> {
        self.change(|db| revocation::revoke_ticket(db, revoke))
    }

    fn stamp(&mut self, stamp: &Stamp) -> Result<Stamped, StoreError> {
        self.next_stamp(stamp)
    }

    fn members(&mut self, after: Option<Id>) -> Result<Vec<MemberRow>, StoreError> {
        let after = after.map_or_else(Vec::new, |id| id.0.to_vec());
        let mut statement = self
            .connection
            .prepare_cached("SELECT * FROM members WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        rows::collect(&mut statement, (after, page(STORE_PAGE_MAX)), rows::member)
    }

    fn member(&mut self, key: &MemberKey) -> Result<Option<MemberRow>, StoreError> {
        match key {
            MemberKey::Id(id) => rows::member_by_id(&self.connection, id),
            MemberKey::Name(name) => rows::member_by_name(&self.connection, name.as_str()),
        }
    }

    fn issued(&mut self, after: u64) -> Result<Vec<IssuedRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT * FROM issued WHERE serial > ?1 ORDER BY serial LIMIT ?2")?;
        rows::collect(
            &mut statement,
            (integer(after)?, page(STORE_PAGE_MAX)),
            rows::issued,
        )
    }

    fn audit(&mut self, count: usize) -> Result<Vec<AuditRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT * FROM audit ORDER BY number DESC LIMIT ?1")?;
        let mut found = rows::collect(&mut statement, (page(count),), rows::audit)?;
        found.reverse();
        Ok(found)
    }
}

fn page(count: usize) -> i64 {
    i64::try_from(count.min(STORE_PAGE_MAX)).unwrap_or(i64::MAX)
}

/// Carries out the plan for an identity's first redemption of a ticket.
fn redeem_first(
    db: &Connection,
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
        if end_membership(db, &old, &redeem.id, redeem.now)?.is_none() {
            return Ok(RedeemAnswer::RevocationsFull);
        }
        let action = AuditAction::MemberReplaced;
        audit(db, redeem.now, &redeem.id, action, &old.id.to_string())?;
    }
    // Checked by the rules already; the row count decides all the same, so that no other writer
    // of the file could slip in between. A ticket that was the replaced member's is void by now, and
    // was good when it was judged.
    let counted = db.execute(
        "UPDATE tickets SET used = used + 1 WHERE id = ?1 AND used < uses",
        (redeem.ticket.0,),
    )?;
    if counted != 1 {
        return Err(StoreError::Damaged(
            "a ticket's use count and redemptions differ".into(),
        ));
    }
    let before = rows::member_by_id(db, &redeem.id)?;
    put_member(
        db,
        &MemberRow {
            id: redeem.id,
            name,
            grants: ticket.ticket.grants.clone(),
            identity: redeem.identity.clone(),
            ticket: Some(redeem.ticket),
            enrolled: before.map_or(redeem.now, |member| member.enrolled),
            serial: 0,
            issued: redeem.now,
            revoked: None,
        },
    )?;
    db.execute(
        "INSERT INTO redemptions (ticket, place, member, at) VALUES (?1, ?2, ?3, ?4)",
        (
            redeem.ticket.0,
            integer(ticket.redemptions.len() as u64 + 1)?,
            redeem.id.0,
            integer(redeem.now.0)?,
        ),
    )?;
    let subject = redeem.ticket.to_string();
    audit(
        db,
        redeem.now,
        &redeem.id,
        AuditAction::TicketRedeemed,
        &subject,
    )?;
    issue(db, &redeem.id, redeem.now, redeem.life).map(RedeemAnswer::Enrolled)
}

/// The first of the names that no live member has, apart from the one that asks and the one that
/// it replaces.
fn free_name(
    db: &Connection,
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

fn insert_ticket(db: &Connection, ticket: &NewTicket) -> Result<(), StoreError> {
    let grants = GrantColumns::from(&ticket.grants);
    db.execute(
        "INSERT INTO tickets (id, secret_hash, name, attributes, roles, may_serve, may_connect,
             uses, bound_to, replaces, created_by, created, expires)
         VALUES (:id, :secret_hash, :name, :attributes, :roles, :may_serve, :may_connect,
             :uses, :bound_to, :replaces, :created_by, :created, :expires)",
        named_params! {
            ":id": ticket.id.0,
            ":secret_hash": ticket.secret_hash,
            ":name": ticket.name.as_ref().map(Name::as_str),
            ":attributes": grants.attributes,
            ":roles": grants.roles,
            ":may_serve": grants.may_serve,
            ":may_connect": grants.may_connect,
            ":uses": ticket.uses,
            ":bound_to": ticket.bound_to.map(|id| id.0),
            ":replaces": ticket.replaces.as_ref().map(Name::as_str),
            ":created_by": ticket.created_by.0,
            ":created": integer(ticket.created.0)?,
            ":expires": integer(ticket.expires.0)?,
        },
    )?;
    Ok(())
}

/// Makes a member's row, or replaces it.
fn put_member(db: &Connection, member: &MemberRow) -> Result<(), StoreError> {
    let grants = GrantColumns::from(&member.grants);
    db.execute(
        "INSERT INTO members (id, name, attributes, roles, may_serve, may_connect, identity,
             ticket, enrolled, serial, issued, revoked)
         VALUES (:id, :name, :attributes, :roles, :may_serve, :may_connect, :identity,
             :ticket, :enrolled, :serial, :issued, NULL)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, attributes = excluded.attributes,
             roles = excluded.roles, may_serve = excluded.may_serve,
             may_connect = excluded.may_connect, identity = excluded.identity,
             ticket = excluded.ticket",
        named_params! {
            ":id": member.id.0,
            ":name": member.name.as_str(),
            ":attributes": grants.attributes,
            ":roles": grants.roles,
            ":may_serve": grants.may_serve,
            ":may_connect": grants.may_connect,
            ":identity": member.identity,
            ":ticket": member.ticket.map(|id| id.0),
            ":enrolled": integer(member.enrolled.0)?,
            ":serial": integer(member.serial)?,
            ":issued": integer(member.issued.0)?,
        },
    )?;
    Ok(())
}

/// The credential that the member has, if that is new enough; else the next one, for the identity
/// that it shows now.
fn issue_again(
    db: &Connection,
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
        (member.id.0, identity),
    )?;
    issue(db, &member.id, now, life)
}

/// One more use of a ticket that was used up.
fn audit_reuse(db: &Connection, redeem: &Redeem) -> Result<(), StoreError> {
    let action = AuditAction::TicketReused;
    let subject = redeem.ticket.to_string();
    let since = integer(redeem.now.minus(REUSES_AUDITED_EVERY.as_secs()).0)?;
    // The action as text: only then the index applies.
    let query = "SELECT count(*), coalesce(max(actor = ?2), 0) FROM audit
         WHERE action = 'ticket.reused' AND subject = ?1 AND at > ?3";
    let (before, known): (i64, bool) =
        db.query_row(query, (&subject, redeem.id.0, since), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    if is_reuse_audited(before.unsigned_abs(), known) {
        audit(db, redeem.now, &redeem.id, action, &subject)?;
    }
    Ok(())
}

/// Takes the next serial for a member that exists, and forgets what ended long ago.
fn issue(db: &Connection, id: &Id, now: UnixTime, life: Duration) -> Result<Issue, StoreError> {
    let not_after = expiry(now, life);
    db.execute(
        "INSERT INTO issued (member, at, not_after) VALUES (?1, ?2, ?3)",
        (id.0, integer(now.0)?, integer(not_after.0)?),
    )?;
    db.execute(
        "UPDATE members SET serial = ?2, issued = ?3 WHERE id = ?1",
        (id.0, db.last_insert_rowid(), integer(now.0)?),
    )?;
    db.execute(
        "DELETE FROM issued WHERE not_after < ?1",
        (integer(now.minus(STORE_ISSUED_KEPT.as_secs()).0)?,),
    )?;
    match rows::member_by_id(db, id)? {
        Some(member) => Ok(Issue { member, not_after }),
        None => Err(StoreError::Damaged(format!("member {id} is gone"))),
    }
}

/// Adds a row to the audit.
pub(super) fn audit(
    db: &Connection,
    at: UnixTime,
    actor: &Id,
    action: AuditAction,
    subject: &str,
) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO audit (at, actor, action, subject) VALUES (?1, ?2, ?3, ?4)",
        (integer(at.0)?, actor.0, action.as_str(), subject),
    )?;
    Ok(())
}

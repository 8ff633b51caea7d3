//! The methods of the store. Who may do what is decided by the shared rules; here they become
//! statements.

use crypto::Id;
use crypto::names::Name;
use crypto::ticket::TicketId;

use super::rows::{GrantColumns, json_list, project_id};
use super::value::{integer, values};
use super::{Database, SqlStore, audit, enroll, revocation, rows};
use crate::limits::STORE_PAGE_MAX;
use crate::protocol::audit::{AuditPage, AuditQuery};
use crate::protocol::store::rules::{judge_admit, judge_renew};
use crate::protocol::store::{
    Admit, Issue, IssuedRow, MemberKey, MemberRow, NewTicket, ProjectRow, Redeem, RedeemAnswer,
    Renew, RenewAnswer, Revoke, RevokeAnswer, RevokeTicket, RevokeTicketAnswer, Stamp, Stamped,
    Store, StoreError, TicketAnswer, TicketRow, told,
};

impl<D: Database> Store for SqlStore<D> {
    fn create_project(&mut self, project: &ProjectRow) -> Result<(), StoreError> {
        self.change(|db| {
            let inserted = db.execute(
                "INSERT INTO project VALUES (1, ?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
                values![
                    project.id.0,
                    project.name.as_str(),
                    json_list(&project.addresses),
                    integer(project.note_number)?,
                    integer(project.created.0)?,
                ],
            )?;
            if inserted == 0 {
                return Err(StoreError::Refused("it holds a project already".into()));
            }
            audit::append(db, told::project_created(project))
        })
    }

    fn project(&mut self) -> Result<Option<ProjectRow>, StoreError> {
        self.read(|db| {
            let found = db.query("SELECT * FROM project", &[])?;
            found.first().map(rows::project).transpose()
        })
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
            audit::append(db, told::ticket_created(ticket))?;
            Ok(TicketAnswer::Created)
        })
    }

    fn tickets(&mut self, after: Option<TicketId>) -> Result<Vec<TicketRow>, StoreError> {
        let after = after.map_or_else(Vec::new, |id| id.0.to_vec());
        self.read(|db| {
            let query = "SELECT * FROM tickets WHERE id > ?1 ORDER BY id LIMIT ?2";
            let found = db.query(query, values![after.as_slice(), page()])?;
            found.iter().map(|row| rows::ticket(db, row)).collect()
        })
    }

    fn redeem(&mut self, redeem: &Redeem) -> Result<RedeemAnswer, StoreError> {
        self.change(|db| {
            let answer = enroll::redeem(db, redeem)?;
            if let Some(event) = told::redeem_refused(redeem, &answer) {
                audit::append_refusal(db, event)?;
            }
            Ok(answer)
        })
    }

    fn renew(&mut self, renew: &Renew) -> Result<RenewAnswer, StoreError> {
        self.change(|db| {
            let member = rows::member_by_id(db, &renew.id)?;
            if let Err(refusal) = judge_renew(member.as_ref(), renew) {
                if let Some(event) = told::renew_refused(renew, &refusal) {
                    audit::append_refusal(db, event)?;
                }
                return Ok(refusal);
            }
            let (now, life) = (renew.now, renew.life);
            enroll::issue_again(db, member, &renew.identity, now, life).map(RenewAnswer::Renewed)
        })
    }

    fn admit(&mut self, admit: &Admit) -> Result<Issue, StoreError> {
        self.change(|db| {
            let owner = rows::member_by_name(db, admit.name.as_str())?;
            let before = rows::member_by_id(db, &admit.id)?;
            let owner = owner.map(|owner| owner.id);
            let (member, changed) = judge_admit(owner, before.as_ref(), admit)?;
            enroll::put_member(db, &member)?;
            let project = project_id(db)?;
            if changed {
                audit::append(db, told::member_admitted(admit, project))?;
            }
            enroll::issue(db, &admit.id, project, admit.now, admit.life)
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
        self.read(|db| {
            let query = "SELECT * FROM members WHERE id > ?1 ORDER BY id LIMIT ?2";
            let found = db.query(query, values![after.as_slice(), page()])?;
            found.iter().map(rows::member).collect()
        })
    }

    fn member(&mut self, key: &MemberKey) -> Result<Option<MemberRow>, StoreError> {
        self.read(|db| match key {
            MemberKey::Id(id) => rows::member_by_id(db, id),
            MemberKey::Name(name) => rows::member_by_name(db, name.as_str()),
        })
    }

    fn issued(&mut self, after: u64) -> Result<Vec<IssuedRow>, StoreError> {
        let after = integer(after)?;
        self.read(|db| {
            let query = "SELECT * FROM issued WHERE serial > ?1 ORDER BY serial LIMIT ?2";
            let found = db.query(query, values![after, page()])?;
            found.iter().map(rows::issued).collect()
        })
    }

    fn audit(&mut self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        self.read(|db| audit::page(db, query))
    }
}

fn page() -> i64 {
    i64::try_from(STORE_PAGE_MAX).unwrap_or(i64::MAX)
}

fn insert_ticket(db: &mut dyn Database, ticket: &NewTicket) -> Result<(), StoreError> {
    let grants = GrantColumns::from(&ticket.grants);
    db.execute(
        "INSERT INTO tickets (id, secret_hash, name, attributes, roles, may_serve, may_connect,
             uses, bound_to, replaces, created_by, created, expires)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        values![
            ticket.id.0,
            ticket.secret_hash,
            ticket.name.as_ref().map(Name::as_str),
            grants.attributes,
            grants.roles,
            grants.may_serve,
            grants.may_connect,
            i64::from(ticket.uses),
            ticket.bound_to.map(|id| id.0),
            ticket.replaces.as_ref().map(Name::as_str),
            ticket.created_by.0,
            integer(ticket.created.0)?,
            integer(ticket.expires.0)?,
        ],
    )?;
    Ok(())
}

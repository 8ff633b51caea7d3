//! A store in memory, for the simulation and tests. It forgets everything with the process; what
//! it decides is what every store decides.

use std::collections::BTreeMap;

use crypto::credential::Roles;
use crypto::names::Name;
use crypto::revocation::RevocationEntry;
use crypto::ticket::TicketId;
use crypto::{Id, UnixTime};

use super::request::{
    Admit, MemberKey, Redeem, RedeemAnswer, Renew, RenewAnswer, Revoke, RevokeAnswer, RevokeTicket,
    RevokeTicketAnswer, Stamp, Stamped, TicketAnswer,
};
use super::rows::{Issue, IssuedRow, MemberRow, NewTicket, ProjectRow, Redemption, TicketRow};
use super::rules::{
    RedeemPlan, entry_ends, is_issued_already, judge_admit, judge_redeem, judge_renew, judge_revoke,
};
use super::{Store, StoreError, expiry, told};
use crate::limits::{REFUSALS_AUDITED_EVERY, STORE_PAGE_MAX};
use crate::protocol::audit::{AuditEvent, AuditHead, AuditPage, AuditQuery, AuditRow};
use crate::time::Duration;
use crypto::limits::REVOCATIONS_MAX;

/// See the module.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    project: Option<ProjectRow>,
    tickets: BTreeMap<TicketId, TicketRow>,
    members: BTreeMap<Id, MemberRow>,
    issued: Vec<IssuedRow>,
    audit: Vec<AuditRow>,
    audit_head: AuditHead,
    /// Entries of the revocation list, and when each leaves it.
    revocations: BTreeMap<Id, (RevocationEntry, UnixTime)>,
    list_number: u64,
    beacon_number: u64,
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore {
            project: None,
            tickets: BTreeMap::new(),
            members: BTreeMap::new(),
            issued: Vec::new(),
            audit: Vec::new(),
            audit_head: AuditHead::START,
            revocations: BTreeMap::new(),
            list_number: 0,
            beacon_number: 0,
        }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        MemoryStore::default()
    }

    fn note(&mut self, event: AuditEvent) {
        let row = self.audit_head.append(event);
        self.audit.push(row);
    }

    /// A refusal, unless there were enough of its kind.
    fn note_refusal(&mut self, event: AuditEvent) {
        let since = event.at.minus(REFUSALS_AUDITED_EVERY.as_secs());
        let is_like = |row: &&AuditRow| {
            let of_kind = row.event.action == event.action && row.event.subject == event.subject;
            of_kind && row.event.at > since
        };
        let before = self.audit.iter().filter(is_like).count() as u64;
        let mut like = self.audit.iter().filter(is_like);
        let known = like.any(|row| row.event.actor == event.actor);
        if told::is_refusal_audited(before, known) {
            self.note(event);
        }
    }

    fn live_by_name(&self, name: &Name) -> Option<Id> {
        let live = |member: &&MemberRow| member.revoked.is_none() && member.name == *name;
        self.members.values().find(live).map(|member| member.id)
    }

    /// The credential that the member has, if that is new enough, or the next one.
    fn issue_again(
        &mut self,
        id: Id,
        identity: &[u8],
        now: UnixTime,
        life: Duration,
    ) -> Result<Issue, StoreError> {
        let member = self.members.get(&id);
        match member.filter(|member| is_issued_already(member, identity, now, life)) {
            Some(member) => Ok(Issue {
                member: member.clone(),
                not_after: expiry(member.issued, life),
            }),
            None => self.issue(id, id, now, life),
        }
    }

    /// Takes the next serial for a member that exists.
    fn issue(
        &mut self,
        id: Id,
        actor: Id,
        now: UnixTime,
        life: Duration,
    ) -> Result<Issue, StoreError> {
        let serial = self.issued.len() as u64 + 1;
        let Some(member) = self.members.get_mut(&id) else {
            return Err(StoreError::Damaged(format!("member {id} is gone")));
        };
        member.serial = serial;
        member.issued = now;
        let member = member.clone();
        let not_after = expiry(now, life);
        self.issued.push(IssuedRow {
            serial,
            member: id,
            at: now,
            not_after,
        });
        let issue = Issue { member, not_after };
        self.note(told::credential_issued(actor, &issue));
        Ok(issue)
    }

    /// Forgets the entries that have ended; a list without them is another list.
    fn prune(&mut self, now: UnixTime) {
        let before = self.revocations.len();
        self.revocations.retain(|_, (_, ends)| *ends >= now);
        self.list_number += u64::from(self.revocations.len() != before);
    }

    /// A live member is one no longer. Returns its entry and how many tickets are void now; `None`
    /// where the list has no room.
    fn end_membership(
        &mut self,
        id: Id,
        actor: Id,
        now: UnixTime,
    ) -> Option<(RevocationEntry, u32)> {
        self.prune(now);
        if self.revocations.len() >= REVOCATIONS_MAX {
            return None;
        }
        let member = self.members.get_mut(&id)?;
        member.revoked = Some(now);
        self.list_number += 1;
        let entry = RevocationEntry {
            member: id,
            max_serial: member.serial,
            number: self.list_number,
        };
        self.revocations.insert(id, (entry, entry_ends(member)));
        let own = |row: &TicketRow| row.ticket.created_by == id || row.ticket.bound_to == Some(id);
        let mut void = Vec::new();
        for (ticket, row) in &mut self.tickets {
            if row.revoked.is_none() && own(row) {
                row.revoked = Some(now);
                void.push(*ticket);
            }
        }
        for ticket in &void {
            self.note(told::ticket_void(now, actor, *ticket));
        }
        Some((entry, u32::try_from(void.len()).unwrap_or(u32::MAX)))
    }

    /// A redemption, but for what the audit says of a refusal.
    fn redeem_judged(&mut self, redeem: &Redeem) -> Result<RedeemAnswer, StoreError> {
        let ticket = self.tickets.get(&redeem.ticket);
        let plan = match judge_redeem(ticket, self.members.get(&redeem.id), redeem) {
            Ok(plan) => plan,
            Err(refusal) => return Ok(refusal),
        };
        let RedeemPlan::First { names, replaces } = plan else {
            return self
                .issue_again(redeem.id, &redeem.identity, redeem.now, redeem.life)
                .map(RedeemAnswer::Enrolled);
        };
        let replaced = replaces.and_then(|name| self.live_by_name(&name));
        let free = |name: &&Name| {
            let owner = self.live_by_name(name);
            owner.is_none_or(|owner| owner == redeem.id || Some(owner) == replaced)
        };
        let Some(name) = names.iter().find(free).cloned() else {
            return Ok(match names.into_iter().next() {
                Some(first) => RedeemAnswer::NameTaken(first),
                None => RedeemAnswer::Unknown,
            });
        };
        if let Some(replaced) = replaced.filter(|replaced| *replaced != redeem.id) {
            let old = self.members.get(&replaced).cloned();
            let ended = self.end_membership(replaced, redeem.id, redeem.now);
            let (Some(old), Some(_)) = (old, ended) else {
                return Ok(RedeemAnswer::RevocationsFull);
            };
            self.note(told::member_replaced(redeem, &old));
        }
        let Some(row) = self.tickets.get_mut(&redeem.ticket) else {
            return Ok(RedeemAnswer::Unknown);
        };
        row.redemptions.push(Redemption {
            by: redeem.id,
            at: redeem.now,
        });
        let grants = row.ticket.grants.clone();
        let enrolled = self
            .members
            .get(&redeem.id)
            .map_or(redeem.now, |member| member.enrolled);
        let member = MemberRow {
            id: redeem.id,
            name,
            grants,
            identity: redeem.identity.clone(),
            ticket: Some(redeem.ticket),
            enrolled,
            serial: 0,
            issued: redeem.now,
            revoked: None,
        };
        let event = told::ticket_redeemed(redeem, &member);
        self.members.insert(redeem.id, member);
        self.note(event);
        self.issue(redeem.id, redeem.id, redeem.now, redeem.life)
            .map(RedeemAnswer::Enrolled)
    }

    fn project_id(&self) -> Id {
        self.project
            .as_ref()
            .map_or(Id([0; 32]), |project| project.id)
    }
}

impl Store for MemoryStore {
    fn create_project(&mut self, project: &ProjectRow) -> Result<(), StoreError> {
        if self.project.is_some() {
            return Err(StoreError::Refused("it holds a project already".into()));
        }
        self.project = Some(project.clone());
        self.note(told::project_created(project));
        Ok(())
    }

    fn project(&mut self) -> Result<Option<ProjectRow>, StoreError> {
        Ok(self.project.clone())
    }

    fn create_ticket(&mut self, ticket: &NewTicket) -> Result<TicketAnswer, StoreError> {
        if self.tickets.contains_key(&ticket.id) {
            return Err(StoreError::Refused("there is a ticket of that id".into()));
        }
        if let Some(replaced) = &ticket.replaces
            && self.live_by_name(replaced).is_none()
        {
            return Ok(TicketAnswer::NoSuchMember(replaced.clone()));
        }
        if let Some(name) = &ticket.name
            && ticket.uses == 1
            && ticket.replaces.as_ref() != Some(name)
            && self.live_by_name(name).is_some()
        {
            return Ok(TicketAnswer::NameTaken(name.clone()));
        }
        let row = TicketRow {
            ticket: ticket.clone(),
            redemptions: Vec::new(),
            revoked: None,
        };
        self.tickets.insert(ticket.id, row);
        self.note(told::ticket_created(ticket));
        Ok(TicketAnswer::Created)
    }

    fn tickets(&mut self, after: Option<TicketId>) -> Result<Vec<TicketRow>, StoreError> {
        let above = |(id, _): &(&TicketId, &TicketRow)| after.is_none_or(|after| **id > after);
        let rows = self.tickets.iter().filter(above).take(STORE_PAGE_MAX);
        Ok(rows.map(|(_, row)| row.clone()).collect())
    }

    fn redeem(&mut self, redeem: &Redeem) -> Result<RedeemAnswer, StoreError> {
        let answer = self.redeem_judged(redeem)?;
        if let Some(event) = told::redeem_refused(redeem, &answer) {
            self.note_refusal(event);
        }
        Ok(answer)
    }

    fn renew(&mut self, renew: &Renew) -> Result<RenewAnswer, StoreError> {
        if let Err(refusal) = judge_renew(self.members.get(&renew.id), renew) {
            if let Some(event) = told::renew_refused(renew, &refusal) {
                self.note_refusal(event);
            }
            return Ok(refusal);
        }
        let issue = self.issue_again(renew.id, &renew.identity, renew.now, renew.life)?;
        if let Some(member) = self.members.get_mut(&renew.id) {
            member.identity.clone_from(&renew.identity);
        }
        Ok(RenewAnswer::Renewed(issue))
    }

    fn admit(&mut self, admit: &Admit) -> Result<Issue, StoreError> {
        let owner = self.live_by_name(&admit.name);
        let before = self.members.get(&admit.id);
        let (member, changed) = judge_admit(owner, before, admit)?;
        self.members.insert(admit.id, member);
        let actor = self.project_id();
        if changed {
            self.note(told::member_admitted(admit, actor));
        }
        self.issue(admit.id, actor, admit.now, admit.life)
    }

    fn revoke(&mut self, revoke: &Revoke) -> Result<RevokeAnswer, StoreError> {
        let found = self.member(&revoke.member)?;
        let admin =
            |member: &&MemberRow| member.revoked.is_none() && member.grants.roles.has(Roles::ADMIN);
        let admins = self.members.values().filter(admin).count();
        let member = match judge_revoke(found, admins, &self.project_id(), revoke) {
            Ok(member) => member,
            Err(answer) => return Ok(answer),
        };
        let Some((entry, tickets)) = self.end_membership(member.id, revoke.actor, revoke.now)
        else {
            return Ok(RevokeAnswer::Full);
        };
        self.note(told::member_revoked(revoke, &member, &entry));
        Ok(RevokeAnswer::Revoked {
            member: MemberRow {
                revoked: Some(revoke.now),
                ..member
            },
            entry,
            tickets,
        })
    }

    fn revoke_ticket(&mut self, revoke: &RevokeTicket) -> Result<RevokeTicketAnswer, StoreError> {
        let Some(row) = self.tickets.get_mut(&revoke.ticket) else {
            return Ok(RevokeTicketAnswer::Unknown);
        };
        if row.revoked.is_some() {
            return Ok(RevokeTicketAnswer::Already);
        }
        row.revoked = Some(revoke.now);
        self.note(told::ticket_revoked(revoke));
        Ok(RevokeTicketAnswer::Revoked)
    }

    fn stamp(&mut self, stamp: &Stamp) -> Result<Stamped, StoreError> {
        self.prune(stamp.now);
        self.beacon_number += 1;
        let entries = || self.revocations.values().map(|(entry, _)| *entry).collect();
        Ok(Stamped {
            number: self.beacon_number,
            list_number: self.list_number,
            entries: (stamp.have != Some(self.list_number)).then(entries),
        })
    }

    fn members(&mut self, after: Option<Id>) -> Result<Vec<MemberRow>, StoreError> {
        let above = |(id, _): &(&Id, &MemberRow)| after.is_none_or(|after| **id > after);
        let rows = self.members.iter().filter(above).take(STORE_PAGE_MAX);
        Ok(rows.map(|(_, row)| row.clone()).collect())
    }

    fn member(&mut self, key: &MemberKey) -> Result<Option<MemberRow>, StoreError> {
        let id = match key {
            MemberKey::Id(id) => Some(*id),
            MemberKey::Name(name) => self.live_by_name(name),
        };
        Ok(id.and_then(|id| self.members.get(&id).cloned()))
    }

    fn issued(&mut self, after: u64) -> Result<Vec<IssuedRow>, StoreError> {
        let above = |row: &&IssuedRow| row.serial > after;
        Ok(self
            .issued
            .iter()
            .filter(above)
            .take(STORE_PAGE_MAX)
            .copied()
            .collect())
    }

    fn audit(&mut self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        let skipped = match query {
            AuditQuery::Last(count) => self.audit.len().saturating_sub(count.min(STORE_PAGE_MAX)),
            AuditQuery::Behind(number) => usize::try_from(number).unwrap_or(usize::MAX),
        };
        let rows = self.audit.iter().skip(skipped).take(STORE_PAGE_MAX);
        Ok(AuditPage {
            rows: rows.cloned().collect(),
            head: self.audit_head,
            unreadable: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_store_conforms() {
        super::super::conformance::conformance(&mut || Box::new(MemoryStore::new()));
    }

    #[test]
    fn a_full_list_refuses_and_changes_nothing() {
        let mut store = MemoryStore::new();
        let (issued, now) = (UnixTime(1_000_000), UnixTime(1_000_001));
        let admit = |n: u64| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            Admit {
                id: Id(id),
                identity: Vec::new(),
                name: format!("m-{n}").parse().expect("a literal name"),
                grants: super::super::Grants {
                    attributes: crypto::names::Attributes::new(),
                    roles: Roles::MEMBER,
                    may_serve: Vec::new(),
                    may_connect: crypto::credential::Connect::All,
                },
                now: issued,
                life: Duration::from_secs(3600),
            }
        };
        let revoke = |n: u64, now: UnixTime| Revoke {
            member: MemberKey::Id(admit(n).id),
            actor: Id([1; 32]),
            reason: String::new(),
            now,
        };
        let last = REVOCATIONS_MAX as u64;
        for n in 0..=last {
            store.admit(&admit(n)).expect("it is admitted");
        }
        for n in 0..last {
            let answer = store.revoke(&revoke(n, now));
            assert!(matches!(answer, Ok(RevokeAnswer::Revoked { .. })));
        }
        assert_eq!(store.revoke(&revoke(last, now)), Ok(RevokeAnswer::Full));
        assert_eq!(store.members[&admit(last).id].revoked, None);
        // It is possible again when the others have left.
        let later = issued.plus(crate::limits::REVOCATION_KEPT.as_secs() + 1);
        let answer = store.revoke(&revoke(last, later));
        assert!(matches!(answer, Ok(RevokeAnswer::Revoked { .. })));
        assert_eq!(store.revocations.len(), 1);
    }
}

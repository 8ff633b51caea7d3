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
use super::rows::{
    AuditAction, AuditRow, Issue, IssuedRow, MemberRow, NewTicket, ProjectRow, Redemption,
    TicketRow,
};
use super::rules::{
    RedeemPlan, entry_ends, is_issued_already, is_reuse_audited, judge_redeem, judge_renew,
    judge_revoke, revocation_subject,
};
use super::{Store, StoreError, expiry};
use crate::limits::{REUSES_AUDITED_EVERY, STORE_PAGE_MAX};
use crate::time::Duration;
use crypto::limits::REVOCATIONS_MAX;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    project: Option<ProjectRow>,
    tickets: BTreeMap<TicketId, TicketRow>,
    members: BTreeMap<Id, MemberRow>,
    issued: Vec<IssuedRow>,
    audit: Vec<AuditRow>,
    /// Entries of the revocation list, and when each leaves it.
    revocations: BTreeMap<Id, (RevocationEntry, UnixTime)>,
    list_number: u64,
    beacon_number: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        MemoryStore::default()
    }

    fn note(&mut self, at: UnixTime, actor: Id, action: AuditAction, subject: String) {
        let number = self.audit.len() as u64 + 1;
        self.audit.push(AuditRow {
            number,
            at,
            actor,
            action,
            subject,
        });
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
            None => self.issue(id, now, life),
        }
    }

    /// One more use of a ticket that was used up.
    fn note_reuse(&mut self, redeem: &Redeem) {
        let subject = redeem.ticket.to_string();
        let since = redeem.now.minus(REUSES_AUDITED_EVERY.as_secs());
        let rows = || {
            let of_ticket = |row: &&AuditRow| {
                row.action == AuditAction::TicketReused && row.subject == subject && row.at > since
            };
            self.audit.iter().filter(of_ticket)
        };
        let known = rows().any(|row| row.actor == redeem.id);
        if is_reuse_audited(rows().count() as u64, known) {
            self.note(redeem.now, redeem.id, AuditAction::TicketReused, subject);
        }
    }

    /// Takes the next serial for a member that exists.
    fn issue(&mut self, id: Id, now: UnixTime, life: Duration) -> Result<Issue, StoreError> {
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
        Ok(Issue { member, not_after })
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
            self.note(now, actor, AuditAction::TicketRevoked, ticket.to_string());
        }
        Some((entry, u32::try_from(void.len()).unwrap_or(u32::MAX)))
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
        let name = project.name.to_string();
        self.note(
            project.created,
            project.id,
            AuditAction::ProjectCreated,
            name,
        );
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
        let subject = ticket.id.to_string();
        self.note(
            ticket.created,
            ticket.created_by,
            AuditAction::TicketCreated,
            subject,
        );
        Ok(TicketAnswer::Created)
    }

    fn tickets(&mut self, after: Option<TicketId>) -> Result<Vec<TicketRow>, StoreError> {
        let above = |(id, _): &(&TicketId, &TicketRow)| after.is_none_or(|after| **id > after);
        let rows = self.tickets.iter().filter(above).take(STORE_PAGE_MAX);
        Ok(rows.map(|(_, row)| row.clone()).collect())
    }

    fn redeem(&mut self, redeem: &Redeem) -> Result<RedeemAnswer, StoreError> {
        let ticket = self.tickets.get(&redeem.ticket);
        let plan = match judge_redeem(ticket, self.members.get(&redeem.id), redeem) {
            Ok(plan) => plan,
            Err(refusal) => {
                if matches!(refusal, RedeemAnswer::Used { .. }) {
                    self.note_reuse(redeem);
                }
                return Ok(refusal);
            }
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
            let ended = self.end_membership(replaced, redeem.id, redeem.now);
            if ended.is_none() {
                return Ok(RedeemAnswer::RevocationsFull);
            }
            let subject = replaced.to_string();
            self.note(redeem.now, redeem.id, AuditAction::MemberReplaced, subject);
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
        self.members.insert(redeem.id, member);
        let subject = redeem.ticket.to_string();
        self.note(redeem.now, redeem.id, AuditAction::TicketRedeemed, subject);
        self.issue(redeem.id, redeem.now, redeem.life)
            .map(RedeemAnswer::Enrolled)
    }

    fn renew(&mut self, renew: &Renew) -> Result<RenewAnswer, StoreError> {
        if let Err(refusal) = judge_renew(self.members.get(&renew.id), renew) {
            return Ok(refusal);
        }
        let issue = self.issue_again(renew.id, &renew.identity, renew.now, renew.life)?;
        if let Some(member) = self.members.get_mut(&renew.id) {
            member.identity.clone_from(&renew.identity);
        }
        Ok(RenewAnswer::Renewed(issue))
    }

    fn admit(&mut self, admit: &Admit) -> Result<Issue, StoreError> {
        if self
            .live_by_name(&admit.name)
            .is_some_and(|owner| owner != admit.id)
        {
            return Err(StoreError::Refused(format!(
                "a member has the name {}",
                admit.name
            )));
        }
        let before = self.members.get(&admit.id);
        if before.is_some_and(|member| member.revoked.is_some()) {
            return Err(StoreError::Refused(format!(
                "member {} is revoked",
                admit.id
            )));
        }
        let changed =
            before.is_none_or(|member| member.name != admit.name || member.grants != admit.grants);
        let member = MemberRow {
            id: admit.id,
            name: admit.name.clone(),
            grants: admit.grants.clone(),
            identity: admit.identity.clone(),
            ticket: None,
            enrolled: before.map_or(admit.now, |member| member.enrolled),
            serial: 0,
            issued: admit.now,
            revoked: None,
        };
        self.members.insert(admit.id, member);
        if changed {
            let actor = self.project_id();
            self.note(
                admit.now,
                actor,
                AuditAction::MemberAdmitted,
                admit.name.to_string(),
            );
        }
        self.issue(admit.id, admit.now, admit.life)
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
        let subject = revocation_subject(&member.id, &revoke.reason);
        let action = AuditAction::MemberRevoked;
        self.note(revoke.now, revoke.actor, action, subject);
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
        let subject = revoke.ticket.to_string();
        let action = AuditAction::TicketRevoked;
        self.note(revoke.now, revoke.actor, action, subject);
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

    fn audit(&mut self, count: usize) -> Result<Vec<AuditRow>, StoreError> {
        let skipped = self.audit.len().saturating_sub(count.min(STORE_PAGE_MAX));
        Ok(self.audit.iter().skip(skipped).cloned().collect())
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

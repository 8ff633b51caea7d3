//! What the audit says of each change and of each refusal: pure functions, shared by every store, so
//! that the same thing is told in the same words.

use crypto::credential::Connect;
use crypto::names::{Attributes, RelayAddress};
use crypto::revocation::RevocationEntry;
use crypto::ticket::TicketId;
use crypto::{Id, UnixTime};

use super::request::{Admit, Redeem, RedeemAnswer, Renew, RenewAnswer, Revoke, RevokeTicket};
use super::rows::{Grants, Issue, MemberRow, NewTicket, ProjectRow};
use crate::error::Problem;
use crate::limits::REFUSALS_AUDITED_MAX;
use crate::protocol::audit::{AuditAction, AuditEvent, Details};

/// The subject of a ticket that nobody made, whatever was presented: it must not be the stranger's to
/// choose.
const NO_SUCH_TICKET: &str = "unknown";

fn event(at: UnixTime, actor: Id, action: AuditAction, subject: impl ToString) -> AuditEvent {
    AuditEvent {
        at,
        actor,
        action,
        subject: subject.to_string(),
        details: Details::default(),
    }
}

/// The project was created.
pub fn project_created(project: &ProjectRow) -> AuditEvent {
    let action = AuditAction::ProjectCreated;
    event(project.created, project.id, action, &project.name)
}

/// A ticket was created, and what it gives.
pub fn ticket_created(ticket: &NewTicket) -> AuditEvent {
    let action = AuditAction::TicketCreated;
    let details = granted(&ticket.grants)
        .with("name", option(&ticket.name))
        .with("uses", ticket.uses)
        .with("expires_unix_s", ticket.expires.0)
        .with("for", option(&ticket.bound_to))
        .with("replaces", option(&ticket.replaces));
    AuditEvent {
        details,
        ..event(ticket.created, ticket.created_by, action, ticket.id)
    }
}

/// A ticket was redeemed, and by whom.
pub fn ticket_redeemed(redeem: &Redeem, member: &MemberRow) -> AuditEvent {
    let action = AuditAction::TicketRedeemed;
    AuditEvent {
        details: Details::default().with("name", &member.name),
        ..event(redeem.now, redeem.id, action, redeem.ticket)
    }
}

/// A member was made without a ticket, or got other grants so.
pub fn member_admitted(admit: &Admit, project: Id) -> AuditEvent {
    let action = AuditAction::MemberAdmitted;
    AuditEvent {
        details: granted(&admit.grants).with("id", admit.id),
        ..event(admit.now, project, action, &admit.name)
    }
}

/// The one that redeems a ticket takes a member's place.
pub fn member_replaced(redeem: &Redeem, old: &MemberRow) -> AuditEvent {
    let action = AuditAction::MemberReplaced;
    AuditEvent {
        details: Details::default()
            .with("name", &old.name)
            .with("max_serial", old.serial),
        ..event(redeem.now, redeem.id, action, old.id)
    }
}

/// A member was revoked, and up to which serial.
pub fn member_revoked(revoke: &Revoke, member: &MemberRow, entry: &RevocationEntry) -> AuditEvent {
    let action = AuditAction::MemberRevoked;
    let details = Details::default()
        .with("name", &member.name)
        .with("reason", &revoke.reason)
        .with("max_serial", entry.max_serial)
        .with("list", entry.number);
    AuditEvent {
        details,
        ..event(revoke.now, revoke.actor, action, member.id)
    }
}

/// A ticket was taken back by itself.
pub fn ticket_revoked(revoke: &RevokeTicket) -> AuditEvent {
    ticket_void(revoke.now, revoke.actor, revoke.ticket)
}

/// A ticket is void, because it was a revoked member's.
pub fn ticket_void(at: UnixTime, actor: Id, ticket: TicketId) -> AuditEvent {
    event(at, actor, AuditAction::TicketRevoked, ticket)
}

/// A credential was issued. `actor`: who asked for it.
pub fn credential_issued(actor: Id, issue: &Issue) -> AuditEvent {
    let member = &issue.member;
    let action = AuditAction::CredentialIssued;
    let details = Details::default()
        .with("id", member.id)
        .with("serial", member.serial)
        .with("not_after_unix_s", issue.not_after.0);
    AuditEvent {
        details,
        ..event(member.issued, actor, action, &member.name)
    }
}

/// A redemption was refused; nothing if it was not.
pub fn redeem_refused(redeem: &Redeem, answer: &RedeemAnswer) -> Option<AuditEvent> {
    let (action, problem) = match answer {
        RedeemAnswer::Enrolled(_) => return None,
        RedeemAnswer::Used { .. } => (AuditAction::TicketReused, Problem::TicketUsed),
        RedeemAnswer::Unknown => (AuditAction::TicketRefused, Problem::TicketUnknown),
        RedeemAnswer::TicketRevoked => (AuditAction::TicketRefused, Problem::TicketRevoked),
        RedeemAnswer::Expired { .. } => (AuditAction::TicketRefused, Problem::TicketExpired),
        RedeemAnswer::NotForYou => (AuditAction::TicketRefused, Problem::TicketBound),
        RedeemAnswer::NameTaken(_) => (AuditAction::TicketRefused, Problem::NameTaken),
        RedeemAnswer::MemberRevoked => (AuditAction::TicketRefused, Problem::MemberRevoked),
        RedeemAnswer::HistoryForked => (AuditAction::TicketRefused, Problem::HistoryForked),
        RedeemAnswer::RevocationsFull => (AuditAction::TicketRefused, Problem::RevocationsFull),
    };
    let subject = if problem == Problem::TicketUnknown {
        NO_SUCH_TICKET.to_owned()
    } else {
        redeem.ticket.to_string()
    };
    Some(AuditEvent {
        details: Details::default().with("code", problem.code()),
        ..event(redeem.now, redeem.id, action, subject)
    })
}

/// A renewal was refused; nothing if it was not. What it is about is why, so that the number of rows is
/// bounded by the number of reasons.
pub fn renew_refused(renew: &Renew, answer: &RenewAnswer) -> Option<AuditEvent> {
    let (why, problem) = match answer {
        RenewAnswer::Renewed(_) => return None,
        RenewAnswer::Unknown => ("not a member", Problem::NotAMember),
        RenewAnswer::MemberRevoked => ("revoked", Problem::MemberRevoked),
        RenewAnswer::HistoryForked => ("history forked", Problem::HistoryForked),
    };
    Some(AuditEvent {
        details: Details::default().with("code", problem.code()),
        ..event(renew.now, renew.id, AuditAction::CredentialRefused, why)
    })
}

/// Whether one more refusal is worth a row. `before`: rows of the same action and subject within
/// `limits::REFUSALS_AUDITED_EVERY`; `known`: one of them is this identity's.
pub fn is_refusal_audited(before: u64, known: bool) -> bool {
    !known && before < REFUSALS_AUDITED_MAX
}

/// What somebody gets, in texts.
fn granted(grants: &Grants) -> Details {
    let connect = match &grants.may_connect {
        Connect::All => "all".to_owned(),
        Connect::Only(addresses) => listed(addresses),
    };
    Details::default()
        .with("roles", grants.roles)
        .with("attributes", pairs(&grants.attributes))
        .with("may_serve", listed(&grants.may_serve))
        .with("may_connect", connect)
}

fn pairs(attributes: &Attributes) -> String {
    let pairs = attributes.iter();
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(",")
}

fn listed(addresses: &[RelayAddress]) -> String {
    let texts: Vec<&str> = addresses.iter().map(AsRef::as_ref).collect();
    texts.join(",")
}

fn option<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map(T::to_string).unwrap_or_default()
}

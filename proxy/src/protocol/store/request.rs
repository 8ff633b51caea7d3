//! The questions to a store and its answers, as plain data that may cross a thread.

use crypto::names::Name;
use crypto::revocation::RevocationEntry;
use crypto::ticket::TicketId;
use crypto::{Id, UnixTime};

use super::rows::{Grants, Issue, MemberRow, NewTicket, ProjectRow, TicketRow};
use crate::protocol::audit::{AuditPage, AuditQuery};
use crate::time::Duration;

/// An identity wants to redeem a ticket. Its identity was verified, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redeem {
    /// Which ticket.
    pub ticket: TicketId,
    /// Hash of the secret it showed.
    pub secret_hash: [u8; 32],
    /// The name it would like, where the ticket names none.
    pub wish: Option<Name>,
    /// Who.
    pub id: Id,
    /// Its identity, encoded.
    pub identity: Vec<u8>,
    /// The authority's time.
    pub now: UnixTime,
    /// Life of the credential it gets.
    pub life: Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedeemAnswer {
    /// A member now (or again, within a day): sign this credential.
    Enrolled(Issue),
    /// No such ticket, or another secret: one answer for both.
    Unknown,
    /// The ticket was taken back.
    TicketRevoked,
    /// All uses are gone. By whom and when the last one was.
    Used {
        /// The identity that redeemed it last.
        by: Id,
        /// When.
        at: UnixTime,
    },
    /// Nobody redeemed it in time.
    Expired {
        /// Its last second.
        at: UnixTime,
    },
    /// It is bound to another identity.
    NotForYou,
    /// The name it gives belongs to a live member.
    NameTaken(Name),
    /// The identity's membership was revoked; it stays so.
    MemberRevoked,
    /// The identity's history is shorter than, or forks from, what was seen before.
    HistoryForked,
    /// It replaces a member, and the revocation list has no room for that one now.
    RevocationsFull,
}

/// A member asks for its next credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renew {
    /// Who.
    pub id: Id,
    /// Its identity, encoded.
    pub identity: Vec<u8>,
    /// The authority's time.
    pub now: UnixTime,
    /// Life of the credential.
    pub life: Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, and boxed where it travels"
)]
pub enum RenewAnswer {
    /// Sign this credential.
    Renewed(Issue),
    /// Not a member.
    Unknown,
    /// Not any more.
    MemberRevoked,
    /// The identity's history is shorter than, or forks from, what was seen before.
    HistoryForked,
}

/// A member that needs no ticket, because who asks holds the authority's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admit {
    /// Who.
    pub id: Id,
    /// Its identity, encoded.
    pub identity: Vec<u8>,
    /// Its name.
    pub name: Name,
    /// What it has from now on.
    pub grants: Grants,
    /// The authority's time.
    pub now: UnixTime,
    /// Life of the credential.
    pub life: Duration,
}

/// A member is to be one no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoke {
    /// Who.
    pub member: MemberKey,
    /// Who wants it.
    pub actor: Id,
    /// Why, for the audit; may be empty.
    pub reason: String,
    /// The authority's time.
    pub now: UnixTime,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokeAnswer {
    /// It is revoked, and this is its entry in the list.
    Revoked {
        /// As it was, `revoked` included.
        member: MemberRow,
        /// Its entry.
        entry: RevocationEntry,
        /// Tickets that it made or that were bound to it: they are void now.
        tickets: u32,
    },
    /// It was before; nothing changed.
    Already(MemberRow),
    /// There is no such member (by name: no live one).
    Unknown,
    /// It is the last live administrator, and who wants it does not hold the authority's key.
    LastAdmin,
    /// The list has no room now: entries leave when their credentials have expired.
    Full,
}

/// A ticket is to be void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeTicket {
    /// Which.
    pub ticket: TicketId,
    /// Who wants it.
    pub actor: Id,
    /// The authority's time.
    pub now: UnixTime,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeTicketAnswer {
    /// It is void now.
    Revoked,
    /// It was before; nothing changed.
    Already,
    /// There is no such ticket.
    Unknown,
}

/// The authority is about to say which list is the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The number of the list that it holds.
    pub have: Option<u64>,
    /// The authority's time.
    pub now: UnixTime,
}

/// What it may say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// The beacon's number: above all that any process of this store was given before.
    pub number: u64,
    /// The number of the present list.
    pub list_number: u64,
    /// The present list, unless that is held already.
    pub entries: Option<Vec<RevocationEntry>>,
}

/// What came of creating a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TicketAnswer {
    /// It is stored.
    Created,
    /// A live member has its name, and it does not replace that one.
    NameTaken(Name),
    /// The member that it replaces does not exist.
    NoSuchMember(Name),
}

/// How a member is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKey {
    /// By id.
    Id(Id),
    /// The live member of this name.
    Name(Name),
}

/// A call of [`super::Store`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRequest {
    /// [`super::Store::create_project`].
    CreateProject(Box<ProjectRow>),
    /// [`super::Store::project`].
    Project,
    /// [`super::Store::create_ticket`].
    CreateTicket(Box<NewTicket>),
    /// [`super::Store::tickets`].
    Tickets {
        /// Only those above.
        after: Option<TicketId>,
    },
    /// [`super::Store::redeem`].
    Redeem(Box<Redeem>),
    /// [`super::Store::renew`].
    Renew(Box<Renew>),
    /// [`super::Store::admit`].
    Admit(Box<Admit>),
    /// [`super::Store::revoke`].
    Revoke(Box<Revoke>),
    /// [`super::Store::revoke_ticket`].
    RevokeTicket(RevokeTicket),
    /// [`super::Store::stamp`].
    Stamp(Stamp),
    /// [`super::Store::members`].
    Members {
        /// Only those above.
        after: Option<Id>,
    },
    /// [`super::Store::member`].
    Member(MemberKey),
    /// [`super::Store::audit`].
    Audit(AuditQuery),
}

/// The answer to the [`StoreRequest`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreReply {
    /// Done, nothing to say.
    Done,
    /// The project.
    Project(Option<Box<ProjectRow>>),
    /// What came of a ticket.
    Ticket(TicketAnswer),
    /// Tickets.
    Tickets(Vec<TicketRow>),
    /// What came of a redemption.
    Redeemed(Box<RedeemAnswer>),
    /// What came of a renewal.
    Renewed(Box<RenewAnswer>),
    /// A member was admitted.
    Admitted(Box<Issue>),
    /// What came of a revocation.
    Revoked(Box<RevokeAnswer>),
    /// What came of taking a ticket back.
    TicketRevoked(RevokeTicketAnswer),
    /// What the next beacon may say.
    Stamped(Box<Stamped>),
    /// Members.
    Members(Vec<MemberRow>),
    /// A member.
    Member(Option<Box<MemberRow>>),
    /// Audit rows.
    Audit(Box<AuditPage>),
}

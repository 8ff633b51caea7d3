//! The questions to a store and its answers, as plain data that may cross a thread.

use crypto::names::Name;
use crypto::ticket::TicketId;
use crypto::{Id, UnixTime};

use super::rows::{AuditRow, Grants, Issue, MemberRow, NewTicket, ProjectRow, TicketRow};
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
    /// [`super::Store::members`].
    Members {
        /// Only those above.
        after: Option<Id>,
    },
    /// [`super::Store::member`].
    Member(MemberKey),
    /// [`super::Store::audit`].
    Audit {
        /// How many rows.
        count: usize,
    },
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
    /// Members.
    Members(Vec<MemberRow>),
    /// A member.
    Member(Option<Box<MemberRow>>),
    /// Audit rows.
    Audit(Vec<AuditRow>),
}

//! What the administrator's socket asks of a core.

use crypto::Id;
use crypto::credential::{Connect, Roles};
use crypto::names::{Attributes, Name, RelayAddress};
use crypto::ticket::TicketId;

use super::status::Status;
use crate::error::Code;
use crate::protocol::store::{AuditRow, MemberKey, MemberRow, TicketRow};
use crate::time::Duration;

/// A call. Who may make it was decided by who reached the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminCall {
    /// The state of this process.
    Status,
    /// Make a ticket.
    CreateTicket(Box<TicketSpec>),
    /// List tickets, a page at a time.
    Tickets {
        /// Those with an id above.
        after: Option<TicketId>,
    },
    /// List members, a page at a time.
    Members {
        /// Those with an id above.
        after: Option<Id>,
    },
    /// One member.
    Member(MemberKey),
    /// The last audit rows.
    Audit {
        /// How many.
        count: usize,
    },
}

/// What a ticket should give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketSpec {
    /// The redeemer's name.
    pub name: Option<Name>,
    /// Attributes it gets.
    pub attributes: Attributes,
    /// Roles it gets; `Roles::MEMBER` as a rule.
    pub roles: Roles,
    /// Addresses it may serve.
    pub may_serve: Vec<RelayAddress>,
    /// Addresses it may connect to. If nothing is said: none with `may_serve`, all without, so
    /// that an outlet can't initiate.
    pub may_connect: Option<Connect>,
    /// How many identities may redeem it.
    pub uses: u32,
    /// How long it may be redeemed.
    pub life: Duration,
    /// The only identity that may redeem it.
    pub bound_to: Option<Id>,
    /// The member whose place the redeemer takes.
    pub replaces: Option<Name>,
}

/// The answer to a call.
#[derive(Debug)]
pub enum AdminReply {
    /// The state.
    Status(Box<Status>),
    /// The ticket's text. It is a secret: print it, never log it.
    Ticket(zeroize::Zeroizing<String>),
    /// Tickets.
    Tickets(Vec<TicketRow>),
    /// Members.
    Members(Vec<MemberRow>),
    /// A member, if there is such a one.
    Member(Option<Box<MemberRow>>),
    /// Audit rows.
    Audit(Vec<AuditRow>),
    /// It was not done, and this is why.
    Refused {
        /// Stable code.
        code: Code,
        /// What is wrong and how to mend it.
        why: String,
    },
}

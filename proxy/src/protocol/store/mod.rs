//! What the authority remembers, behind one trait: the project, its members, tickets (hashed),
//! the credentials it issued, and the audit rows.
//!
//! Contract: every method is one transaction, and a change and its audit row are the same one.
//! A method that returned `Ok` has made its change durable; one that returned `Err` has changed
//! nothing, with one exception: where the store is reached over a network,
//! [`StoreError::Unavailable`] also tells of a change whose outcome is unknown, because the way to it was
//! lost while it was committed. Who asks again is answered from what is stored. Methods are synchronous; a driver runs them on a thread of its own and carries
//! [`StoreRequest`]s and [`StoreReply`]s to and fro. The store decides whether a ticket may be
//! redeemed and a credential renewed, because only there do reading and writing happen at once;
//! the rules are the pure functions in [`rules`], so that every implementation shares them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`rows`] | what is stored |
//! | [`request`] | the questions and answers, as plain data |
//! | [`rules`] | who may redeem, renew and be revoked: pure functions over rows |
//! | [`told`] | what the audit says of each change and refusal |
//! | [`memory`] | a store in memory, for the simulation and tests |
//! | `conformance` | what every store must do, as one function |

#[cfg(any(test, feature = "sim"))]
pub mod conformance;
pub mod memory;
pub mod request;
pub mod rows;
pub mod rules;
pub mod told;

pub use memory::MemoryStore;
pub use request::{
    Admit, MemberKey, Redeem, RedeemAnswer, Renew, RenewAnswer, Revoke, RevokeAnswer, RevokeTicket,
    RevokeTicketAnswer, Stamp, Stamped, StoreReply, StoreRequest, TicketAnswer,
};
pub use rows::{Grants, Issue, IssuedRow, MemberRow, NewTicket, ProjectRow, Redemption, TicketRow};

use crypto::UnixTime;
use crypto::ticket::TicketId;

use super::audit::{AuditPage, AuditQuery};

/// Why a store could not do what it was asked. Nothing was changed, unless the module says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached or written now (disk full, read-only, locked): worth trying again. Of a store
    /// that is reached over a network, the change may have been carried out.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// What it holds makes no sense; a person has to look.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The request itself can't be carried out, such as a second project in one store.
    #[error("the store refuses: {0}")]
    Refused(String),
}

/// The authority's memory. See the module for the contract.
pub trait Store: Send {
    /// Writes the project's row and its first audit row.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when there is one already.
    fn create_project(&mut self, project: &ProjectRow) -> Result<(), StoreError>;

    /// The project's row, if it was created.
    fn project(&mut self) -> Result<Option<ProjectRow>, StoreError>;

    /// Adds a ticket. Its name must be free among live members, unless the ticket replaces the
    /// member of that name.
    fn create_ticket(&mut self, ticket: &NewTicket) -> Result<TicketAnswer, StoreError>;

    /// At most `limits::STORE_PAGE_MAX` tickets with an id above `after`, in the order of ids.
    fn tickets(&mut self, after: Option<TicketId>) -> Result<Vec<TicketRow>, StoreError>;

    /// Redeems a ticket by [`rules::judge_redeem`]: use count, member, serial and audit row in
    /// one transaction, so that of any number of racing identities exactly as many win as the
    /// ticket has uses.
    fn redeem(&mut self, redeem: &Redeem) -> Result<RedeemAnswer, StoreError>;

    /// Takes the next serial for a member that is still welcome, by [`rules::judge_renew`].
    fn renew(&mut self, renew: &Renew) -> Result<RenewAnswer, StoreError>;

    /// Makes or updates a member without a ticket, for who has the authority's key at hand (the
    /// administrator, the relay in the same process), and takes the next serial.
    fn admit(&mut self, admit: &Admit) -> Result<Issue, StoreError>;

    /// Revokes a member by [`rules::judge_revoke`]: its row, its entry in the revocation list, under
    /// the list's next number, the tickets that it made or that are bound to it, and the audit rows
    /// are one transaction. Its highest serial is the one that its row has in there, so a renewal is
    /// either before, and named, or refused.
    fn revoke(&mut self, revoke: &Revoke) -> Result<RevokeAnswer, StoreError>;

    /// Takes a ticket back: nobody redeems it any more, and nobody again.
    fn revoke_ticket(&mut self, revoke: &RevokeTicket) -> Result<RevokeTicketAnswer, StoreError>;

    /// The next beacon's number, and the present revocation list. Entries whose credentials have all
    /// expired leave it here. Called every second: a store of one process writes only when something
    /// changed, or when the numbers that it took are used up; one that several share writes each number.
    fn stamp(&mut self, stamp: &Stamp) -> Result<Stamped, StoreError>;

    /// At most `limits::STORE_PAGE_MAX` members with an id above `after`, in the order of ids.
    fn members(&mut self, after: Option<crypto::Id>) -> Result<Vec<MemberRow>, StoreError>;

    /// One member; by name, only a live one.
    fn member(&mut self, key: &MemberKey) -> Result<Option<MemberRow>, StoreError>;

    /// At most `limits::STORE_PAGE_MAX` issued credentials of serials above `after`.
    fn issued(&mut self, after: u64) -> Result<Vec<IssuedRow>, StoreError>;

    /// Rows of the audit trail, oldest first, at most `limits::STORE_PAGE_MAX`, and the trail's head as
    /// it was at the same moment.
    fn audit(&mut self, query: AuditQuery) -> Result<AuditPage, StoreError>;

    /// Carries out a request, for a driver that runs the store on another thread.
    fn serve(&mut self, request: &StoreRequest) -> Result<StoreReply, StoreError> {
        Ok(match request {
            StoreRequest::CreateProject(row) => {
                self.create_project(row)?;
                StoreReply::Done
            }
            StoreRequest::Project => StoreReply::Project(self.project()?.map(Box::new)),
            StoreRequest::CreateTicket(ticket) => StoreReply::Ticket(self.create_ticket(ticket)?),
            StoreRequest::Tickets { after } => StoreReply::Tickets(self.tickets(*after)?),
            StoreRequest::Redeem(redeem) => StoreReply::Redeemed(Box::new(self.redeem(redeem)?)),
            StoreRequest::Renew(renew) => StoreReply::Renewed(Box::new(self.renew(renew)?)),
            StoreRequest::Admit(admit) => StoreReply::Admitted(Box::new(self.admit(admit)?)),
            StoreRequest::Revoke(revoke) => StoreReply::Revoked(Box::new(self.revoke(revoke)?)),
            StoreRequest::RevokeTicket(ticket) => {
                StoreReply::TicketRevoked(self.revoke_ticket(ticket)?)
            }
            StoreRequest::Stamp(stamp) => StoreReply::Stamped(Box::new(self.stamp(stamp)?)),
            StoreRequest::Members { after } => StoreReply::Members(self.members(*after)?),
            StoreRequest::Member(key) => StoreReply::Member(self.member(key)?.map(Box::new)),
            StoreRequest::Audit(query) => StoreReply::Audit(Box::new(self.audit(*query)?)),
        })
    }
}

/// When a ticket that is made now with this life ends.
pub fn expiry(now: UnixTime, life: crate::time::Duration) -> UnixTime {
    now.plus(life.as_secs())
}

//! What the administrator's socket asks, and how the authority answers: in a running server by
//! way of its store's thread, or at once on a store at hand.

use crypto::check::PolicyDenial;
use crypto::credential::{Connect, CredentialBody, IssueError, Roles, issue};
use crypto::identity::{Identity, IdentitySecret};
use crypto::limits::TICKET_ADDRESSES_MAX;
use crypto::names::{Attributes, Name, RelayAddress};
use crypto::revocation::RevocationEntry;
use crypto::ticket::{Ticket, TicketId};
use crypto::{Id, Random, UnixTime};
use zeroize::Zeroizing;

use super::status::Status;
use crate::error::{Code, Problem};
use crate::limits::{TICKET_LIFE, TICKET_LIFE_MAX, TICKET_USES_MAX};
use crate::protocol::audit::{AuditPage, AuditQuery};
use crate::protocol::command::Role;
use crate::protocol::policy::Policy;
use crate::protocol::store::{
    Grants, MemberKey, MemberRow, NewTicket, ProjectRow, Revoke, RevokeAnswer, RevokeTicket,
    RevokeTicketAnswer, Store, StoreError, StoreReply, StoreRequest, TicketAnswer, TicketRow,
    expiry,
};
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
    /// A member is to be one no longer.
    RevokeMember {
        /// Who.
        member: MemberKey,
        /// Why, for the audit: at most `limits::REVOKE_REASON_MAX` bytes; may be empty.
        reason: String,
    },
    /// A ticket is to be void.
    RevokeTicket(TicketId),
    /// Rows of the audit trail.
    Audit(AuditQuery),
    /// Give portals another policy.
    SetPolicy(Box<PolicyChange>),
    /// Whether connections at an address are allowed from here, and by which rule.
    Why(RelayAddress),
}

/// Another policy for the portals at a relay address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChange {
    /// The relay address.
    pub address: RelayAddress,
    /// Only this end, where the process has both.
    pub role: Option<Role>,
    /// What their policy is from now on.
    pub policy: Policy,
}

/// What one end knows of whether connections at its relay address are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalWhy {
    /// Which end it is.
    pub role: Role,
    /// Whether this node's credential permits the address; `None` without a membership.
    pub permitted: Option<bool>,
    /// Who is at the other ends of its lanes.
    pub peers: Vec<PeerWhy>,
}

/// What a policy says of a peer now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerWhy {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// The rule that allows it, or why none does.
    pub decision: Result<String, PolicyDenial>,
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

impl TicketSpec {
    /// A ticket for one member with the default life.
    pub fn member(name: Option<Name>) -> TicketSpec {
        TicketSpec {
            name,
            attributes: Attributes::new(),
            roles: Roles::MEMBER,
            may_serve: Vec::new(),
            may_connect: None,
            uses: 1,
            life: TICKET_LIFE,
            bound_to: None,
            replaces: None,
        }
    }

    /// What the redeemer gets.
    pub fn grants(&self) -> Grants {
        let default = || match self.may_serve.is_empty() {
            true => Connect::All,
            false => Connect::Only(Vec::new()),
        };
        Grants {
            attributes: self.attributes.clone(),
            roles: self.roles,
            may_serve: self.may_serve.clone(),
            may_connect: self.may_connect.clone().unwrap_or_else(default),
        }
    }
}

/// The answer to a call.
#[derive(Debug)]
pub enum AdminReply {
    /// The state.
    Status(Box<Status>),
    /// The ticket's text. It is a secret: print it, never log it.
    Ticket(Zeroizing<String>),
    /// Tickets.
    Tickets(Vec<TicketRow>),
    /// Members.
    Members(Vec<MemberRow>),
    /// A member, if there is such a one.
    Member(Option<Box<MemberRow>>),
    /// A member was revoked.
    Revoked(Box<Revoked>),
    /// A ticket is void.
    TicketRevoked {
        /// It was before.
        already: bool,
    },
    /// Audit rows, and where the trail ends.
    Audit(Box<AuditPage>),
    /// Each portal whose policy was set, and how many lanes that cut; `None` if it was the same.
    PolicySet(Vec<(Role, Option<usize>)>),
    /// What this end knows of connections at an address.
    Why(Vec<PortalWhy>),
    /// It was not done, and this is why.
    Refused {
        /// Stable code.
        code: Code,
        /// What is wrong and how to mend it.
        why: String,
    },
}

/// A revocation, and whom it has cut as far as the authority knows.
#[derive(Debug)]
pub struct Revoked {
    /// The member, `revoked` included.
    pub member: MemberRow,
    /// Its entry in the list; nothing if it was revoked before.
    pub entry: Option<RevocationEntry>,
    /// Tickets that it made or that were bound to it, void now.
    pub tickets: u32,
    /// Sessions of the member that were ended here.
    pub sessions: usize,
    /// The members that have an authority session, and whether each holds the list by now. Empty where
    /// no process serves the project.
    pub nodes: Vec<NodeHolds>,
}

/// What a node with an authority session says of the list that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHolds {
    /// The member.
    pub id: Id,
    /// Its name.
    pub name: Option<Name>,
    /// Whether it holds the list that is meant, or a newer one.
    pub holds: bool,
    /// The lanes that it has cut by its newest list.
    pub cut: u32,
}

impl AdminReply {
    /// It was refused.
    pub fn refused(problem: Problem, detail: impl std::fmt::Display) -> AdminReply {
        AdminReply::Refused {
            code: problem.code(),
            why: format!("{problem}: {detail}"),
        }
    }

    /// This process is not the authority.
    pub fn not_here() -> AdminReply {
        let detail = "this process is not the authority; ask where `adit serve` runs";
        AdminReply::refused(Problem::StoreUnavailable, detail)
    }
}

/// Who makes tickets and answers calls: the authority's key and the project's row.
pub struct AdminDesk<'a> {
    /// The project's key.
    pub authority: &'a IdentitySecret,
    /// The project's row.
    pub project: &'a ProjectRow,
}

/// A call on its way to the store.
pub enum AdminStep {
    /// Answered without the store.
    Reply(AdminReply),
    /// Ask the store, then [`AdminDesk::finish`].
    Ask(StoreRequest, AdminPending),
}

/// What is remembered of a call while the store is asked.
pub struct AdminPending {
    /// The ticket's text, given out only when the store has the ticket.
    ticket: Option<Zeroizing<String>>,
}

impl AdminDesk<'_> {
    /// Begins a call. `Status` is the core's own to answer and refused here.
    pub fn begin(&self, call: AdminCall, now: UnixTime, random: &mut dyn Random) -> AdminStep {
        let request = match call {
            AdminCall::Status => return AdminStep::Reply(AdminReply::not_here()),
            AdminCall::SetPolicy(change) => {
                let refused = AdminReply::refused(Problem::NoSuchPortal, change.address);
                return AdminStep::Reply(refused);
            }
            AdminCall::Why(address) => {
                return AdminStep::Reply(AdminReply::refused(Problem::NoSuchPortal, address));
            }
            AdminCall::CreateTicket(spec) => {
                return match self.make_ticket(&spec, now, random) {
                    Ok((ticket, text)) => AdminStep::Ask(
                        StoreRequest::CreateTicket(Box::new(ticket)),
                        AdminPending { ticket: Some(text) },
                    ),
                    Err((problem, why)) => AdminStep::Reply(AdminReply::refused(problem, why)),
                };
            }
            AdminCall::Tickets { after } => StoreRequest::Tickets { after },
            AdminCall::Members { after } => StoreRequest::Members { after },
            AdminCall::Member(key) => StoreRequest::Member(key),
            AdminCall::RevokeMember { member, reason } => StoreRequest::Revoke(Box::new(Revoke {
                member,
                actor: self.project.id,
                reason,
                now,
            })),
            AdminCall::RevokeTicket(ticket) => StoreRequest::RevokeTicket(RevokeTicket {
                ticket,
                actor: self.project.id,
                now,
            }),
            AdminCall::Audit(query) => StoreRequest::Audit(query),
        };
        AdminStep::Ask(request, AdminPending { ticket: None })
    }

    /// Ends a call with the store's answer.
    pub fn finish(pending: AdminPending, answer: Result<StoreReply, StoreError>) -> AdminReply {
        match answer {
            Ok(StoreReply::Ticket(TicketAnswer::Created)) => match pending.ticket {
                Some(text) => AdminReply::Ticket(text),
                None => AdminReply::refused(Problem::StoreUnavailable, "it answers out of turn"),
            },
            Ok(StoreReply::Ticket(TicketAnswer::NameTaken(name))) => {
                AdminReply::refused(Problem::NameTaken, name)
            }
            Ok(StoreReply::Ticket(TicketAnswer::NoSuchMember(name))) => {
                AdminReply::refused(Problem::NoSuchMember, name)
            }
            Ok(StoreReply::Tickets(rows)) => AdminReply::Tickets(rows),
            Ok(StoreReply::Members(rows)) => AdminReply::Members(rows),
            Ok(StoreReply::Member(row)) => AdminReply::Member(row),
            Ok(StoreReply::Audit(page)) => AdminReply::Audit(page),
            Ok(StoreReply::Revoked(answer)) => revoked(*answer),
            Ok(StoreReply::TicketRevoked(answer)) => match answer {
                RevokeTicketAnswer::Revoked => AdminReply::TicketRevoked { already: false },
                RevokeTicketAnswer::Already => AdminReply::TicketRevoked { already: true },
                RevokeTicketAnswer::Unknown => {
                    AdminReply::refused(Problem::NoSuchTicket, "adit ticket list shows them")
                }
            },
            Ok(
                StoreReply::Done
                | StoreReply::Project(_)
                | StoreReply::Redeemed(_)
                | StoreReply::Renewed(_)
                | StoreReply::Admitted(_)
                | StoreReply::Stamped(_),
            ) => AdminReply::refused(Problem::StoreUnavailable, "it answers out of turn"),
            Err(error) => AdminReply::refused(Problem::StoreUnavailable, error),
        }
    }

    /// A whole call on a store at hand: for commands that run where no server does.
    pub fn call(
        &self,
        store: &mut dyn Store,
        call: AdminCall,
        now: UnixTime,
        random: &mut dyn Random,
    ) -> AdminReply {
        match self.begin(call, now, random) {
            AdminStep::Reply(reply) => reply,
            AdminStep::Ask(request, pending) => AdminDesk::finish(pending, store.serve(&request)),
        }
    }

    /// Checks what is asked by making the credential that the redeemer would get.
    fn make_ticket(
        &self,
        spec: &TicketSpec,
        now: UnixTime,
        random: &mut dyn Random,
    ) -> Result<(NewTicket, Zeroizing<String>), (Problem, String)> {
        let wrong = |why: &str| Err((Problem::TicketSpec, why.to_owned()));
        if !(1..=TICKET_USES_MAX).contains(&spec.uses) {
            return wrong("it is for 1 to 10000 uses");
        }
        if spec.life < Duration::from_secs(1) || spec.life > TICKET_LIFE_MAX {
            return wrong("it is valid for 1 second to 30 days");
        }
        if spec.attributes.get("id").is_some() {
            return wrong("an attribute can't be called id: policies use it to pin identities");
        }
        let grants = spec.grants();
        let longest = || "n".repeat(crypto::limits::NAME_MAX).parse();
        let Ok(name) = spec.name.clone().map_or_else(longest, Ok) else {
            return wrong("its name is not valid");
        };
        let body = credential_body(self.authority, &grants, name, 0, now, now.plus(1), None);
        if let Err(error) = issue(self.authority, body) {
            let problem = match error {
                IssueError::TooLong => Problem::GrantsTooLong,
                IssueError::OtherProject
                | IssueError::Life
                | IssueError::Roles
                | IssueError::Addresses => Problem::TicketSpec,
            };
            return Err((problem, error.to_string()));
        }
        let expires = expiry(now, spec.life);
        let addresses = self
            .project
            .addresses
            .iter()
            .take(TICKET_ADDRESSES_MAX)
            .cloned()
            .collect();
        let ticket = Ticket::create(
            random,
            self.project.name.clone(),
            self.project.id,
            self.authority.identity().mark(),
            addresses,
            expires,
        );
        let ticket = ticket.map_err(|error| (Problem::TicketSpec, error.to_string()))?;
        let row = NewTicket {
            id: ticket.id,
            secret_hash: ticket.secret_hash(),
            name: spec.name.clone(),
            grants,
            uses: spec.uses,
            bound_to: spec.bound_to,
            replaces: spec.replaces.clone(),
            created_by: self.project.id,
            created: now,
            expires,
        };
        Ok((row, ticket.to_text()))
    }
}

fn revoked(answer: RevokeAnswer) -> AdminReply {
    let (member, entry, tickets) = match answer {
        RevokeAnswer::Revoked {
            member,
            entry,
            tickets,
        } => (member, Some(entry), tickets),
        RevokeAnswer::Already(member) => (member, None, 0),
        RevokeAnswer::Unknown => {
            return AdminReply::refused(Problem::NoSuchMember, "adit member list shows them");
        }
        RevokeAnswer::LastAdmin => {
            return AdminReply::refused(Problem::LastAdmin, Problem::LastAdmin.mend());
        }
        RevokeAnswer::Full => {
            return AdminReply::refused(Problem::RevocationsFull, Problem::RevocationsFull.mend());
        }
    };
    AdminReply::Revoked(Box::new(Revoked {
        member,
        entry,
        tickets,
        sessions: 0,
        nodes: Vec::new(),
    }))
}

/// The body of a credential of these grants. Without an identity it is the authority's own, to
/// try whether the rest fits.
pub fn credential_body(
    authority: &IdentitySecret,
    grants: &Grants,
    name: Name,
    serial: u64,
    not_before: UnixTime,
    not_after: UnixTime,
    subject: Option<&Identity>,
) -> CredentialBody {
    let subject = subject.unwrap_or(authority.identity());
    CredentialBody {
        project: authority.id(),
        subject: subject.id(),
        history_head: subject.head(),
        history_len: subject.len(),
        serial,
        name,
        attributes: grants.attributes.clone(),
        roles: grants.roles,
        may_serve: grants.may_serve.clone(),
        may_connect: grants.may_connect.clone(),
        not_before,
        not_after,
        authority_key: authority.identity().len(),
    }
}

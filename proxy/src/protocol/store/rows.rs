//! What the authority stores.

use crypto::credential::{Connect, Roles};
use crypto::names::{Attributes, HostPort, Name, RelayAddress};
use crypto::ticket::TicketId;
use crypto::{Id, UnixTime};

/// The project that this store belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectRow {
    /// The authority's id.
    pub id: Id,
    /// Its name for humans.
    pub name: Name,
    /// Where its relays and authority are reached.
    pub addresses: Vec<HostPort>,
    /// Number of the signed project note; a change of the row raises it.
    pub note_number: u64,
    /// When it was created.
    pub created: UnixTime,
}

/// What a ticket gives and a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// Attested to peers.
    pub attributes: Attributes,
    /// What the member may be.
    pub roles: Roles,
    /// Relay addresses it may serve.
    pub may_serve: Vec<RelayAddress>,
    /// Relay addresses it may connect to.
    pub may_connect: Connect,
}

/// A ticket as it is created. Only the hash of its secret is ever stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTicket {
    /// Its id.
    pub id: TicketId,
    /// `crypto::ticket`'s hash of the secret.
    pub secret_hash: [u8; 32],
    /// The redeemer's name; with several uses, `name-1`, `name-2` …
    pub name: Option<Name>,
    /// What the redeemer gets.
    pub grants: Grants,
    /// How many identities may redeem it.
    pub uses: u32,
    /// The only identity that may redeem it.
    pub bound_to: Option<Id>,
    /// The live member whose place the redeemer takes: it is revoked in the same transaction.
    pub replaces: Option<Name>,
    /// Who made it.
    pub created_by: Id,
    /// When it was made.
    pub created: UnixTime,
    /// The last second in which it may be redeemed for the first time.
    pub expires: UnixTime,
}

/// That an identity redeemed a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redemption {
    /// The identity.
    pub by: Id,
    /// When it did so for the first time.
    pub at: UnixTime,
}

/// A stored ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketRow {
    /// As it was created.
    pub ticket: NewTicket,
    /// Who redeemed it, in order; at most `ticket.uses`.
    pub redemptions: Vec<Redemption>,
    /// When it was taken back.
    pub revoked: Option<UnixTime>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// Its id.
    pub id: Id,
    /// Unique among live members.
    pub name: Name,
    /// What it has.
    pub grants: Grants,
    /// Its identity with the longest history seen, encoded.
    pub identity: Vec<u8>,
    /// The ticket it came with; none for who was admitted at the authority itself.
    pub ticket: Option<TicketId>,
    /// When it became a member.
    pub enrolled: UnixTime,
    /// Serial of its newest credential.
    pub serial: u64,
    /// When that was issued.
    pub issued: UnixTime,
    /// Since when it is no member any more.
    pub revoked: Option<UnixTime>,
}

/// The right to sign one credential: the serial is taken and the row is as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The member, `serial` included.
    pub member: MemberRow,
    /// When the credential ends.
    pub not_after: UnixTime,
}

/// A credential that was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuedRow {
    /// Unique in the project, rising.
    pub serial: u64,
    /// To whom.
    pub member: Id,
    /// When.
    pub at: UnixTime,
    /// Its end.
    pub not_after: UnixTime,
}

//! Credentials and passes: the authority's word about a member.
//!
//! Both are issued together from one [`CredentialBody`]. The credential goes to the other end of
//! a circuit; relays are shown the pass, which lacks name and attributes.
//!
//! Body: {1: project, 2: subject, 3: history head, 4: history length, 5: serial, 6: name,
//! 7: attributes, 8: roles, 9: may serve, 10: may connect, 11: not before, 12: not after,
//! 13: authority key}; a pass leaves out 6 and 7. Attributes are an array of [name, value] in name
//! order, address lists are in order, and "all addresses" is `true` in place of a list: one set
//! has one encoding.

mod codec;
mod roles;

pub use roles::{Roles, UnknownRole};

use crate::cbor::DecodeError;
use crate::id::Id;
use crate::identity::IdentitySecret;
use crate::limits::{ADDRESSES_MAX, CREDENTIAL_LIFE_MAX, CREDENTIAL_MAX};
use crate::names::{Attributes, Name, RelayAddress};
use crate::sign::{BadSignature, PublicKey, Signed, SignedKind};
use crate::time::{UnixTime, Validity};

/// Which relay addresses a member may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connect {
    /// Every address.
    All,
    /// These, at most 16. Empty means none: such a member can't initiate.
    Only(Vec<RelayAddress>),
}

impl Connect {
    /// Whether it permits connecting to `address`. Reserved addresses are permitted to nobody.
    pub fn permits(&self, address: &RelayAddress) -> bool {
        match self {
            Connect::All => !address.is_reserved(),
            Connect::Only(list) => list.contains(address),
        }
    }
}

/// What a credential says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialBody {
    /// The project.
    pub project: Id,
    /// The member it is about.
    pub subject: Id,
    /// The head of the member's history when it was issued …
    pub history_head: [u8; 32],
    /// … and how many changes that history had.
    pub history_len: u16,
    /// Rises with every credential of the project; revocation names it.
    pub serial: u64,
    /// The member's name.
    pub name: Name,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its roles.
    pub roles: Roles,
    /// The relay addresses it may serve, at most 16, in order.
    pub may_serve: Vec<RelayAddress>,
    /// The relay addresses it may connect to.
    pub may_connect: Connect,
    /// From when it holds.
    pub not_before: UnixTime,
    /// Until when it holds, at most 1 h later.
    pub not_after: UnixTime,
    /// Which of the authority's keys signed it: the number of changes before that key.
    pub authority_key: u16,
}

/// What a pass says: a [`CredentialBody`] without name and attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is that of CredentialBody")]
pub struct PassBody {
    pub project: Id,
    pub subject: Id,
    pub history_head: [u8; 32],
    pub history_len: u16,
    pub serial: u64,
    pub roles: Roles,
    pub may_serve: Vec<RelayAddress>,
    pub may_connect: Connect,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    pub authority_key: u16,
}

impl PassBody {
    pub(crate) fn validity(&self) -> Validity {
        Validity {
            not_before: self.not_before,
            not_after: self.not_after,
        }
    }
}

impl CredentialBody {
    /// The part that relays are shown.
    pub fn to_pass(&self) -> PassBody {
        PassBody {
            project: self.project,
            subject: self.subject,
            history_head: self.history_head,
            history_len: self.history_len,
            serial: self.serial,
            roles: self.roles,
            may_serve: self.may_serve.clone(),
            may_connect: self.may_connect.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
            authority_key: self.authority_key,
        }
    }
}

/// Why the authority won't issue a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The body names a project that is not the authority's own.
    #[error("the authority issues credentials of its own project only")]
    OtherProject,
    /// Reversed, or longer than an hour.
    #[error("a credential lives at most 3600 s and must not end before it begins")]
    Life,
    /// No role, or the relay role with another.
    #[error("a credential needs a role, and that of a relay stands alone")]
    Roles,
    /// More than 16 addresses in a list, or a reserved one.
    #[error(
        "a credential lists at most 16 relay addresses to serve and 16 to connect to, none reserved"
    )]
    Addresses,
    /// The encoding is longer than 4 KiB.
    #[error("the credential would be longer than 4096 bytes; use fewer or shorter attributes")]
    TooLong,
}

/// A credential as it was received, with a signature that only [`crate::check`] verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    signed: Signed,
    body: CredentialBody,
}

/// A pass as it was received, with a signature that only [`crate::check`] verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    signed: Signed,
    body: PassBody,
}

fn addresses_fit(list: &[RelayAddress]) -> bool {
    list.len() <= ADDRESSES_MAX && !list.iter().any(RelayAddress::is_reserved)
}

/// Whether roles may stand together in one credential.
pub(crate) fn roles_fit(roles: Roles) -> bool {
    !roles.is_empty() && (!roles.has(Roles::RELAY) || roles == Roles::RELAY)
}

fn in_order(list: &mut Vec<RelayAddress>) {
    list.sort();
    list.dedup();
}

/// Issues a credential and its pass. Address lists are put in order and `authority_key` is set to
/// the authority's current key, whatever the body says.
///
/// # Errors
/// [`IssueError`]: the body breaks a rule that every verifier would hold against it.
pub fn issue(
    authority: &IdentitySecret,
    mut body: CredentialBody,
) -> Result<(Credential, Pass), IssueError> {
    if body.project != authority.id() {
        return Err(IssueError::OtherProject);
    }
    if !roles_fit(body.roles) {
        return Err(IssueError::Roles);
    }
    in_order(&mut body.may_serve);
    let connect_fits = match &mut body.may_connect {
        Connect::All => true,
        Connect::Only(list) => {
            in_order(list);
            addresses_fit(list)
        }
    };
    if !connect_fits || !addresses_fit(&body.may_serve) {
        return Err(IssueError::Addresses);
    }
    body.authority_key = authority.identity().len();
    let pass_body = body.to_pass();
    if !pass_body.validity().span_fits(CREDENTIAL_LIFE_MAX) {
        return Err(IssueError::Life);
    }
    let project = &body.project;
    let bytes = codec::encode(&pass_body, Some((&body.name, &body.attributes)));
    let credential = authority.signed(SignedKind::Credential, project, bytes);
    let bytes = codec::encode(&pass_body, None);
    let pass = authority.signed(SignedKind::Pass, project, bytes);
    if credential.encode().len() > CREDENTIAL_MAX {
        return Err(IssueError::TooLong);
    }
    Ok((
        Credential {
            signed: credential,
            body,
        },
        Pass {
            signed: pass,
            body: pass_body,
        },
    ))
}

impl Credential {
    /// What it says; unverified when it came from outside.
    pub fn body(&self) -> &CredentialBody {
        &self.body
    }

    /// Its bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.encode()
    }

    /// Reads a credential; its signature is not checked here.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the one canonical encoding.
    pub fn decode(bytes: &[u8]) -> Result<Credential, DecodeError> {
        let signed = Signed::decode(bytes, CREDENTIAL_MAX, "credential")?;
        let body = codec::decode_credential(&signed.body)?;
        Ok(Credential { signed, body })
    }

    pub(crate) fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        self.signed
            .verify(SignedKind::Credential, &self.body.project, key)
    }
}

impl Pass {
    /// What it says; unverified when it came from outside.
    pub fn body(&self) -> &PassBody {
        &self.body
    }

    /// Its bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.encode()
    }

    /// Reads a pass; its signature is not checked here.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the one canonical encoding.
    pub fn decode(bytes: &[u8]) -> Result<Pass, DecodeError> {
        let signed = Signed::decode(bytes, CREDENTIAL_MAX, "pass")?;
        let body = codec::decode_pass(&signed.body)?;
        Ok(Pass { signed, body })
    }

    pub(crate) fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        self.signed
            .verify(SignedKind::Pass, &self.body.project, key)
    }
}

/// Signs a body as it is, so that tests of the check can show what a verifier must not rely on.
#[cfg(test)]
pub(crate) fn tests_only_forge(authority: &IdentitySecret, body: CredentialBody) -> Credential {
    let bytes = codec::encode(&body.to_pass(), Some((&body.name, &body.attributes)));
    let signed = authority.signed(SignedKind::Credential, &body.project, bytes);
    Credential { signed, body }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

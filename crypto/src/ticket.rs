//! Tickets: everything a new node needs to reach its project and prove that it was invited.
//!
//! ```text
//! text = adit-ticket-1: ‖ base64url, no padding, of (length of body, 2 ‖ body ‖ checksum, 4)
//! body = {1: project name, 2: project id, 3: authority history head, 4: its length,
//!         5: addresses, 6: ticket id, 7: secret, 8: expiry}
//! checksum = the first 4 bytes of SHA-256(adit-ticket-v1 ‖ body)
//! ```
//!
//! The checksum protects from accidents only. The length comes first so that a paste that lost
//! its end is told apart from one that was altered.

use crate::cbor::{DecodeError, Reader, Writer};
use crate::id::Id;
use crate::identity::HistoryMark;
use crate::limits::{TICKET_ADDRESSES_MAX, TICKET_BODY_MAX, TICKET_TEXT_MAX};
use crate::names::{HostPort, Name};
use crate::random::{self, Random};
use crate::time::UnixTime;
use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// What every ticket begins with.
pub const PREFIX: &str = "adit-ticket-1:";

/// Which ticket it is; not secret, and what lists and logs show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub [u8; 16]);

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketId({self})")
    }
}

/// The secret of a ticket: whoever has it, unused and unexpired, may join. Wiped when dropped.
pub struct TicketSecret(Zeroizing<[u8; 32]>);

impl TicketSecret {
    /// A secret that was received.
    pub fn from_bytes(bytes: &[u8; 32]) -> TicketSecret {
        TicketSecret(Zeroizing::new(*bytes))
    }

    /// Its bytes, for the REDEEM frame and for nothing else.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the authority stores in its place: SHA-256(`adit-ticket-secret-v1` ‖ ticket id ‖
    /// secret). A plain hash is enough, because the secret has 256 random bits.
    pub fn hash(&self, id: &TicketId) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(b"adit-ticket-secret-v1");
        hash.update(id.0);
        hash.update(self.0.as_slice());
        hash.finalize().into()
    }
}

/// Why a text is not a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Nothing but white space.
    #[error("the ticket is empty")]
    Empty,
    /// It begins with something else.
    #[error("not a ticket: a ticket begins with adit-ticket-1:")]
    WrongPrefix,
    /// A ticket of a later version.
    #[error("the ticket was made by a newer adit: this one reads adit-ticket-1:")]
    NewerVersion,
    /// A character that no ticket has.
    #[error("character {0} of the ticket is none of A-Z, a-z, 0-9, '-' and '_'")]
    BadCharacter(usize),
    /// Its end is missing.
    #[error("the ticket is cut short: {have} characters of {want} are here; copy it again, whole")]
    Truncated {
        /// Characters that are there.
        have: usize,
        /// Characters that it should have.
        want: usize,
    },
    /// Something follows behind its end.
    #[error("the ticket goes on behind its end: {have} characters are here, it has {want}")]
    TooLong {
        /// Characters that are there.
        have: usize,
        /// Characters that it should have.
        want: usize,
    },
    /// The checksum does not match.
    #[error("the ticket is damaged: its checksum does not match; copy it again")]
    BadChecksum,
    /// The checksum matches, and the content is not that of a ticket.
    #[error("the ticket is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// More than 8 addresses, or none.
    #[error("a ticket has 1 to 8 addresses")]
    Addresses,
}

/// A ticket. It holds a secret: no `Debug`, no `Clone`.
pub struct Ticket {
    /// The project's name.
    pub project_name: Name,
    /// The project's id, which is its authority's.
    pub project: Id,
    /// The authority's history when the ticket was made: a node requires one that follows it.
    pub authority: HistoryMark,
    /// Where to enroll, 1 to 8, the preferred first.
    pub addresses: Vec<HostPort>,
    /// Its id.
    pub id: TicketId,
    /// Until when it can be redeemed.
    pub expires: UnixTime,
    secret: TicketSecret,
}

impl Ticket {
    /// A new ticket with id and secret drawn from `random`.
    ///
    /// # Errors
    /// [`TicketError::Addresses`] unless there are 1 to 8.
    pub fn create(
        random: &mut dyn Random,
        project_name: Name,
        project: Id,
        authority: HistoryMark,
        addresses: Vec<HostPort>,
        expires: UnixTime,
    ) -> Result<Ticket, TicketError> {
        if !(1..=TICKET_ADDRESSES_MAX).contains(&addresses.len()) {
            return Err(TicketError::Addresses);
        }
        let id = TicketId(random::bytes(random));
        let secret = TicketSecret(Zeroizing::new(random::bytes(random)));
        Ok(Ticket {
            project_name,
            project,
            authority,
            addresses,
            id,
            expires,
            secret,
        })
    }

    /// The secret, for the REDEEM frame.
    pub fn secret(&self) -> &TicketSecret {
        &self.secret
    }

    /// What the authority stores; see [`TicketSecret::hash`].
    pub fn secret_hash(&self) -> [u8; 32] {
        self.secret.hash(&self.id)
    }

    /// The text that is handed to the node's owner.
    pub fn to_text(&self) -> Zeroizing<String> {
        let body = self.encode_body();
        let length = u16::try_from(body.len()).expect("a body has at most TICKET_BODY_MAX bytes");
        let mut whole = Zeroizing::new(Vec::with_capacity(body.len() + 6));
        whole.extend_from_slice(&length.to_be_bytes());
        whole.extend_from_slice(&body);
        whole.extend_from_slice(&checksum(&body));
        let mut text = Zeroizing::new(String::with_capacity(TICKET_TEXT_MAX));
        text.push_str(PREFIX);
        BASE64URL_NOPAD.encode_append(&whole, &mut text);
        text
    }

    /// Reads a ticket; white space around it is ignored (files end with a newline).
    ///
    /// # Errors
    /// [`TicketError`] says what is wrong with the text, and never repeats any of it.
    pub fn from_text(text: &str) -> Result<Ticket, TicketError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TicketError::Empty);
        }
        let digits = text.strip_prefix(PREFIX).ok_or_else(|| {
            if text.starts_with("adit-ticket-") && !PREFIX.starts_with(text) {
                TicketError::NewerVersion
            } else {
                TicketError::WrongPrefix
            }
        })?;
        let is_digit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if let Some(at) = digits.chars().position(|c| !is_digit(c)) {
            return Err(TicketError::BadCharacter(PREFIX.len() + at + 1));
        }
        let body = decode_digits(digits)?;
        Ticket::decode_body(&body)
    }

    fn encode_body(&self) -> Zeroizing<Vec<u8>> {
        // The room is there from the start: a vector that grew would leave the secret behind.
        let mut writer = Writer::with_capacity(TICKET_BODY_MAX);
        let w = &mut writer;
        w.map(8)
            .u64(1)
            .text(self.project_name.as_str())
            .u64(2)
            .bytes(&self.project.0);
        w.u64(3)
            .bytes(&self.authority.head)
            .u64(4)
            .u64(self.authority.len.into());
        w.u64(5).array(self.addresses.len());
        for address in &self.addresses {
            w.text(address.as_str());
        }
        w.u64(6)
            .bytes(&self.id.0)
            .u64(7)
            .bytes(self.secret.as_bytes());
        w.u64(8).u64(self.expires.0);
        Zeroizing::new(writer.finish())
    }

    fn decode_body(bytes: &[u8]) -> Result<Ticket, TicketError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let mut keys = r.map()?;
        keys.required(r, 1)?;
        let project_name = r.text("project name")?;
        keys.required(r, 2)?;
        let project = Id(r.fixed("project")?);
        keys.required(r, 3)?;
        let head = r.fixed("history head")?;
        keys.required(r, 4)?;
        let authority = HistoryMark {
            head,
            len: r.u16("history length")?,
        };
        keys.required(r, 5)?;
        let len = r.array(TICKET_ADDRESSES_MAX, "addresses")?;
        let addresses = (0..len)
            .map(|_| r.text("address"))
            .collect::<Result<Vec<_>, _>>()?;
        keys.required(r, 6)?;
        let id = TicketId(r.fixed("ticket id")?);
        keys.required(r, 7)?;
        let secret = TicketSecret(Zeroizing::new(r.fixed("secret")?));
        keys.required(r, 8)?;
        let expires = UnixTime(r.u64()?);
        keys.end(r)?;
        reader.finish()?;
        if addresses.is_empty() {
            return Err(TicketError::Addresses);
        }
        Ok(Ticket {
            project_name,
            project,
            authority,
            addresses,
            id,
            expires,
            secret,
        })
    }
}

fn checksum(body: &[u8]) -> [u8; 4] {
    let mut hash = Sha256::new_with_prefix(b"adit-ticket-v1");
    hash.update(body);
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
    [a, b, c, d]
}

/// How many base64 characters `bytes` bytes make.
const fn digits_of(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Takes length and checksum off and checks both. All characters are base64 digits.
fn decode_digits(digits: &str) -> Result<Zeroizing<Vec<u8>>, TicketError> {
    let have = digits.len() + PREFIX.len();
    let cut = |want_digits| {
        let want = want_digits + PREFIX.len();
        if have < want {
            TicketError::Truncated { have, want }
        } else {
            TicketError::TooLong { have, want }
        }
    };
    // The first four digits hold three bytes, the length and one more.
    let start = digits.get(..4).ok_or(cut(digits_of(6)))?;
    let start = BASE64URL_NOPAD
        .decode(start.as_bytes())
        .map_err(|_| TicketError::BadChecksum)?;
    let [high, low, ..] = start[..] else {
        return Err(TicketError::BadChecksum);
    };
    let body_len = usize::from(u16::from_be_bytes([high, low]));
    if body_len > TICKET_BODY_MAX {
        return Err(TicketError::BadChecksum);
    }
    let whole_len = 2 + body_len + 4;
    if digits.len() != digits_of(whole_len) {
        return Err(cut(digits_of(whole_len)));
    }
    // What is left to go wrong is a last character with bits that no byte uses.
    let whole = BASE64URL_NOPAD
        .decode(digits.as_bytes())
        .map_err(|_| TicketError::BadChecksum)?;
    let whole = Zeroizing::new(whole);
    let (body, sum) = whole
        .get(2..)
        .and_then(|rest| rest.split_last_chunk::<4>())
        .ok_or(TicketError::BadChecksum)?;
    if checksum(body) != *sum {
        return Err(TicketError::BadChecksum);
    }
    Ok(Zeroizing::new(body.to_vec()))
}

impl std::str::FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Ticket, TicketError> {
        Ticket::from_text(text)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

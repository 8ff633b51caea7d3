//! The messages of sessions: `[type, request, field …]` in canonical CBOR, bounded by the frame.
//!
//! | type | message | session | from | fields |
//! |---|---|---|---|---|
//! | 1 | Ping | both | node | |
//! | 2 | Pong | both | server | |
//! | 3 | Refused | both | server | code, detail, redeemed by or null, time or null |
//! | 16 | Redeem | authority | node | ticket id, secret, name wish or null |
//! | 17 | Enrolled | authority | authority | credential, pass, project note |
//! | 18 | Renew | authority | node | |
//! | 19 | Renewed | authority | authority | credential, pass |
//! | 20 | Time | authority | node | nonce |
//! | 21 | TimeIs | authority | authority | nonce, milliseconds since 1970 |
//! | 22 | GetProject | authority | node | |
//! | 23 | Project | authority | authority | project note |
//! | 24 | Beacon | authority | authority | beacon |
//! | 25 | GetRevocations | authority | node | offset |
//! | 26 | Revocations | authority | authority | list number, length, offset, bytes |
//! | 27 | Holds | authority | node | list number, lanes cut |
//! | 32 | Welcome | relay | relay | session id, leg secret, leg address or null |
//! | 33 | Serve | relay | node | addresses |
//! | 34 | Served | relay | relay | accepted, refused |
//! | 35 | ParkLow | relay | relay | address hash, how many more |
//! | 36 | PassRenewed | relay | node | pass |
//! | 37 | GoingAway | relay | relay | |
//! | 38 | Denied | relay | node | address hash, member id |
//! | 39 | NowServed | relay | relay | address hash |
//!
//! The request number is the node's choice, from 1 on and rising; the answer repeats it. What a
//! server says unasked has 0. A repeated request is answered again: redeeming is safe to repeat
//! because the store counts identities, renewing because each credential has its own serial.

use std::net::SocketAddr;

use crypto::names::{Name, RelayAddress};
use crypto::ticket::{TicketId, TicketSecret};
use crypto::{Id, UnixTime};
use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use super::Kind;
use crate::error::Problem;
use crate::ids::{AddressHash, SessionId};
use crate::limits::{REASON_TEXT_MAX, REVOCATIONS_PART, SERVED_MAX};
use crate::protocol::canonical::{self, Canonical, NotCanonical, Written};

/// The number of a request; 0 for what a server says unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestNo(pub u32);

impl RequestNo {
    /// Of what a server says unasked.
    pub const UNASKED: RequestNo = RequestNo(0);
}

/// A server's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A [`Problem`]'s code (3001 for who is not authorized); a newer server may send others.
    pub code: u16,
    /// What it is about, such as a name; may be empty.
    pub detail: String,
    /// Who redeemed the ticket.
    pub redeemed_by: Option<Id>,
    /// When that was, or when the ticket expired; unasked in an authority session: the authority's
    /// time, because a wrong clock is the likeliest cause.
    pub at: Option<UnixTime>,
}

impl Refusal {
    /// A refusal without details.
    pub fn new(problem: Problem) -> Refusal {
        let code = problem.code().0;
        Refusal {
            code,
            detail: String::new(),
            redeemed_by: None,
            at: None,
        }
    }
}

/// A message. No `Debug`, no `Clone`: some hold secrets.
#[expect(missing_docs, reason = "the module's table says what each field is")]
pub enum Message {
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// No.
    Refused(Refusal),
    /// The ticket's secret, for membership.
    Redeem {
        ticket: TicketId,
        secret: TicketSecret,
        wish: Option<Name>,
    },
    /// Membership.
    Enrolled {
        credential: Vec<u8>,
        pass: Vec<u8>,
        note: Vec<u8>,
    },
    /// The next credential, please.
    Renew,
    /// Here it is.
    Renewed { credential: Vec<u8>, pass: Vec<u8> },
    /// What time is it?
    Time { nonce: [u8; 16] },
    /// It was this when the answer was made.
    TimeIs { nonce: [u8; 16], unix_millis: u64 },
    /// The project note, please.
    GetProject,
    /// Here it is.
    Project { note: Vec<u8> },
    /// Which revocation list is the present one.
    Beacon { beacon: Vec<u8> },
    /// The encoded revocation list from there on, please.
    GetRevocations { offset: u32 },
    /// A part of it.
    Revocations {
        number: u64,
        length: u32,
        offset: u32,
        part: Vec<u8>,
    },
    /// This node holds that list, and has cut so many lanes by it; answered by `Pong`.
    Holds { number: u64, cut: u32 },
    /// What legs of this session need.
    Welcome {
        session: SessionId,
        secret: Zeroizing<[u8; 32]>,
        leg_address: Option<SocketAddr>,
    },
    /// This node serves these; replaces what it said before.
    Serve { addresses: Vec<RelayAddress> },
    /// Which of them it may serve.
    Served {
        accepted: Vec<RelayAddress>,
        refused: Vec<RelayAddress>,
    },
    /// Park more legs.
    ParkLow { address: AddressHash, want: u16 },
    /// A newer pass of the same member; answered by `Served`.
    PassRenewed { pass: Vec<u8> },
    /// Find another relay; this session ends soon.
    GoingAway,
    /// This node's policy denied that member at an address that it serves; answered by `Pong`.
    Denied { address: AddressHash, member: Id },
    /// The address is served again; a leg of this session was told that it is not.
    NowServed { address: AddressHash },
}

impl Message {
    /// The plain bytes of the frame that makes (or answers) request `request` with this message.
    pub fn into_plain(self, request: RequestNo) -> Zeroizing<Vec<u8>> {
        let message = self;
        Zeroizing::new(canonical::to_bytes(&Envelope { request, message }, 512))
    }

    /// Whether it may be sent in a session of this kind.
    pub fn belongs_to(&self, kind: Kind) -> bool {
        match self.number() {
            16..32 => kind == Kind::Authority,
            32..48 => kind == Kind::Relay,
            _ => true,
        }
    }

    fn number(&self) -> u8 {
        match self {
            Message::Ping => 1,
            Message::Pong => 2,
            Message::Refused(_) => 3,
            Message::Redeem { .. } => 16,
            Message::Enrolled { .. } => 17,
            Message::Renew => 18,
            Message::Renewed { .. } => 19,
            Message::Time { .. } => 20,
            Message::TimeIs { .. } => 21,
            Message::GetProject => 22,
            Message::Project { .. } => 23,
            Message::Beacon { .. } => 24,
            Message::GetRevocations { .. } => 25,
            Message::Revocations { .. } => 26,
            Message::Holds { .. } => 27,
            Message::Welcome { .. } => 32,
            Message::Serve { .. } => 33,
            Message::Served { .. } => 34,
            Message::ParkLow { .. } => 35,
            Message::PassRenewed { .. } => 36,
            Message::GoingAway => 37,
            Message::Denied { .. } => 38,
            Message::NowServed { .. } => 39,
        }
    }

    fn fields(&self) -> u64 {
        match self {
            Message::Ping
            | Message::Pong
            | Message::Renew
            | Message::GetProject
            | Message::GoingAway => 0,
            Message::Time { .. }
            | Message::Project { .. }
            | Message::Beacon { .. }
            | Message::GetRevocations { .. }
            | Message::Serve { .. }
            | Message::PassRenewed { .. }
            | Message::NowServed { .. } => 1,
            Message::Renewed { .. }
            | Message::TimeIs { .. }
            | Message::Holds { .. }
            | Message::Served { .. }
            | Message::ParkLow { .. }
            | Message::Denied { .. } => 2,
            Message::Redeem { .. } | Message::Enrolled { .. } | Message::Welcome { .. } => 3,
            Message::Refused(_) | Message::Revocations { .. } => 4,
        }
    }
}

/// A message and the number of its request: what a frame holds.
pub(super) struct Envelope {
    pub(super) request: RequestNo,
    pub(super) message: Message,
}

impl Canonical for Envelope {
    fn write(&self, to: &mut Encoder<Vec<u8>>) -> Written {
        let message = &self.message;
        to.array(2 + message.fields())?
            .u8(message.number())?
            .u32(self.request.0)?;
        match message {
            Message::Ping
            | Message::Pong
            | Message::Renew
            | Message::GetProject
            | Message::GoingAway => {}
            Message::Refused(refusal) => {
                to.u16(refusal.code)?.str(&refusal.detail)?;
                write_optional(to, refusal.redeemed_by, |to, id| to.bytes(&id.0).map(drop))?;
                write_optional(to, refusal.at, |to, at| to.u64(at.0).map(drop))?;
            }
            Message::Redeem {
                ticket,
                secret,
                wish,
            } => {
                to.bytes(&ticket.0)?.bytes(secret.as_bytes())?;
                write_optional(to, wish.as_ref(), |to, wish| {
                    to.str(wish.as_str()).map(drop)
                })?;
            }
            Message::Enrolled {
                credential,
                pass,
                note,
            } => {
                to.bytes(credential)?.bytes(pass)?.bytes(note)?;
            }
            Message::Renewed { credential, pass } => {
                to.bytes(credential)?.bytes(pass)?;
            }
            Message::Time { nonce } => {
                to.bytes(nonce)?;
            }
            Message::TimeIs { nonce, unix_millis } => {
                to.bytes(nonce)?.u64(*unix_millis)?;
            }
            Message::Project { note } => {
                to.bytes(note)?;
            }
            Message::Beacon { beacon } => {
                to.bytes(beacon)?;
            }
            Message::GetRevocations { offset } => {
                to.u32(*offset)?;
            }
            Message::Revocations {
                number,
                length,
                offset,
                part,
            } => {
                to.u64(*number)?.u32(*length)?.u32(*offset)?.bytes(part)?;
            }
            Message::Holds { number, cut } => {
                to.u64(*number)?.u32(*cut)?;
            }
            Message::Welcome {
                session,
                secret,
                leg_address,
            } => {
                to.bytes(&session.0)?.bytes(secret.as_slice())?;
                write_optional(to, *leg_address, |to, at| to.str(&at.to_string()).map(drop))?;
            }
            Message::Serve { addresses } => write_addresses(to, addresses)?,
            Message::Served { accepted, refused } => {
                write_addresses(to, accepted)?;
                write_addresses(to, refused)?;
            }
            Message::ParkLow { address, want } => {
                to.bytes(&address.0)?.u16(*want)?;
            }
            Message::PassRenewed { pass } => {
                to.bytes(pass)?;
            }
            Message::Denied { address, member } => {
                to.bytes(&address.0)?.bytes(&member.0)?;
            }
            Message::NowServed { address } => {
                to.bytes(&address.0)?;
            }
        }
        Ok(())
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, NotCanonical> {
        // A wrong number of fields is found when the message is written again.
        canonical::array_up_to(from, 6)?;
        let number = from.u8()?;
        let request = RequestNo(from.u32()?);
        let message = match number {
            1 => Message::Ping,
            2 => Message::Pong,
            3 => Message::Refused(Refusal {
                code: from.u16()?,
                detail: reason_text(from)?,
                redeemed_by: canonical::optional(from, |from| Ok(Id(canonical::fixed(from)?)))?,
                at: canonical::optional(from, |from| Ok(UnixTime(from.u64()?)))?,
            }),
            16 => Message::Redeem {
                ticket: TicketId(canonical::fixed(from)?),
                secret: TicketSecret::from_bytes(&Zeroizing::new(canonical::fixed(from)?)),
                wish: canonical::optional(from, canonical::text)?,
            },
            17 => Message::Enrolled {
                credential: from.bytes()?.to_vec(),
                pass: from.bytes()?.to_vec(),
                note: from.bytes()?.to_vec(),
            },
            18 => Message::Renew,
            19 => Message::Renewed {
                credential: from.bytes()?.to_vec(),
                pass: from.bytes()?.to_vec(),
            },
            20 => Message::Time {
                nonce: canonical::fixed(from)?,
            },
            21 => Message::TimeIs {
                nonce: canonical::fixed(from)?,
                unix_millis: from.u64()?,
            },
            22 => Message::GetProject,
            23 => Message::Project {
                note: from.bytes()?.to_vec(),
            },
            24 => Message::Beacon {
                beacon: from.bytes()?.to_vec(),
            },
            25 => Message::GetRevocations {
                offset: from.u32()?,
            },
            26 => Message::Revocations {
                number: from.u64()?,
                length: from.u32()?,
                offset: from.u32()?,
                part: bytes_up_to(from, REVOCATIONS_PART)?,
            },
            27 => Message::Holds {
                number: from.u64()?,
                cut: from.u32()?,
            },
            32 => Message::Welcome {
                session: SessionId(canonical::fixed(from)?),
                secret: Zeroizing::new(canonical::fixed(from)?),
                leg_address: canonical::optional(from, canonical::text)?,
            },
            33 => Message::Serve {
                addresses: read_addresses(from)?,
            },
            34 => Message::Served {
                accepted: read_addresses(from)?,
                refused: read_addresses(from)?,
            },
            35 => Message::ParkLow {
                address: AddressHash(canonical::fixed(from)?),
                want: from.u16()?,
            },
            36 => Message::PassRenewed {
                pass: from.bytes()?.to_vec(),
            },
            37 => Message::GoingAway,
            38 => Message::Denied {
                address: AddressHash(canonical::fixed(from)?),
                member: Id(canonical::fixed(from)?),
            },
            39 => Message::NowServed {
                address: AddressHash(canonical::fixed(from)?),
            },
            _ => return Err(NotCanonical),
        };
        Ok(Envelope { request, message })
    }
}

fn write_optional<T>(
    to: &mut Encoder<Vec<u8>>,
    value: Option<T>,
    write: impl FnOnce(&mut Encoder<Vec<u8>>, T) -> Written,
) -> Written {
    match value {
        Some(value) => write(to, value),
        None => to.null().map(drop),
    }
}

fn write_addresses(to: &mut Encoder<Vec<u8>>, addresses: &[RelayAddress]) -> Written {
    to.array(addresses.len() as u64)?;
    for address in addresses {
        to.str(address.as_str())?;
    }
    Ok(())
}

fn read_addresses(from: &mut Decoder<'_>) -> Result<Vec<RelayAddress>, NotCanonical> {
    let len = canonical::array_up_to(from, SERVED_MAX)?;
    (0..len).map(|_| canonical::text(from)).collect()
}

fn bytes_up_to(from: &mut Decoder<'_>, max: usize) -> Result<Vec<u8>, NotCanonical> {
    let bytes = from.bytes()?;
    if bytes.len() > max {
        return Err(NotCanonical);
    }
    Ok(bytes.to_vec())
}

/// A text for the log: bounded, without control characters.
fn reason_text(from: &mut Decoder<'_>) -> Result<String, NotCanonical> {
    let text = from.str()?;
    if text.len() > REASON_TEXT_MAX || text.chars().any(char::is_control) {
        return Err(NotCanonical);
    }
    Ok(text.to_owned())
}

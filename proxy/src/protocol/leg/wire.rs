//! A leg's preface and the answer to it, built, sealed and opened. The bytes are drawn in the
//! [module above](super).

use crypto::leg::{LegError, LegKey};
use crypto::suite::SuiteMask;

use crate::error::CloseReason;
use crate::ids::{AddressHash, SessionId};
use crate::limits::{LEG_ANSWER, LEG_PREFACE, PREFACE};
use crate::protocol::codec::{CodecError, Reader};
use crate::protocol::command::Role;
use crate::protocol::preface::{Kind, Preface};

/// The clear and authenticated part of a preface.
pub(super) const CLEAR: usize = 32;
const BODY: usize = 48;
const ANSWER_BODY: usize = 32;
const _: () = assert!(CLEAR + BODY + 16 == LEG_PREFACE && ANSWER_BODY + 16 == LEG_ANSWER);

/// What a leg asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which end of a circuit it is.
    pub role: Role,
    /// Suites its node offers; a hint for the other end.
    pub suites: SuiteMask,
    /// Which relay address it serves or wants.
    pub address: AddressHash,
    /// Inlet: it is to carry bulk. Its bytes may wait for a slow app for as long as that likes,
    /// and that is no sign of a dead path.
    pub bulk: bool,
}

/// The flag of a leg for bulk.
const FLAG_BULK: u8 = 1;

/// The relay's one answer to a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What follows comes from the other end.
    Paired {
        /// Suites the other end offers, a hint.
        suites: SuiteMask,
    },
    /// Nobody serves the address now.
    NoOutlet,
    /// The member's pass does not allow it.
    NotPermitted,
    /// A limit is reached.
    Busy {
        /// Wait this long.
        retry_ms: u32,
    },
    /// The relay is shutting down.
    GoingAway,
}

impl Answer {
    /// The reason under which a refusal is counted.
    pub fn reason(self) -> Option<CloseReason> {
        match self {
            Answer::Paired { .. } => None,
            Answer::NoOutlet => Some(CloseReason::NoOutlet),
            Answer::NotPermitted => Some(CloseReason::AddressNotPermitted),
            Answer::Busy { .. } => Some(CloseReason::RelayBusy),
            Answer::GoingAway => Some(CloseReason::RelayGoingAway),
        }
    }
}

/// Builds a leg's preface. The caller never uses `counter` twice in a session.
pub fn preface(
    key: &LegKey,
    session: SessionId,
    counter: u64,
    request: &Request,
) -> [u8; LEG_PREFACE] {
    let mut clear = [0; CLEAR];
    clear[..PREFACE].copy_from_slice(&Preface::bytes(Kind::Leg));
    clear[PREFACE..24].copy_from_slice(&session.0);
    clear[24..].copy_from_slice(&counter.to_be_bytes());
    let mut body = [0; BODY];
    body[0] = match request.role {
        Role::Inlet => 1,
        Role::Outlet => 2,
    };
    body[1] = if request.bulk { FLAG_BULK } else { 0 };
    body[2..4].copy_from_slice(&request.suites.0.to_be_bytes());
    body[4..36].copy_from_slice(&request.address.0);
    let mut out = [0; LEG_PREFACE];
    out[..CLEAR].copy_from_slice(&clear);
    out[CLEAR..].copy_from_slice(&key.seal_preface(counter, &clear, &body));
    out
}

/// Seals the answer to the preface that had `counter`.
pub fn seal_answer(key: &LegKey, counter: u64, answer: Answer) -> [u8; LEG_ANSWER] {
    let (code, suites, retry_ms) = match answer {
        Answer::Paired { suites } => (1, suites.0, 0),
        Answer::NoOutlet => (2, 0, 0),
        Answer::NotPermitted => (3, 0, 0),
        Answer::Busy { retry_ms } => (4, 0, retry_ms),
        Answer::GoingAway => (5, 0, 0),
    };
    let mut body = [0; ANSWER_BODY];
    body[0] = code;
    body[2..4].copy_from_slice(&suites.to_be_bytes());
    body[4..8].copy_from_slice(&retry_ms.to_be_bytes());
    key.seal_answer(counter, &body)
}

/// Opens the answer to the preface that had `counter`.
///
/// # Errors
/// [`LegError`] when the session's relay did not make it for this leg, or it makes no sense.
pub fn read_answer(key: &LegKey, counter: u64, bytes: &[u8]) -> Result<Answer, LegError> {
    let sealed = bytes.try_into().map_err(|_| LegError)?;
    parse_answer(&key.open_answer(counter, sealed)?).map_err(|_| LegError)
}

fn parse_answer(body: &[u8; ANSWER_BODY]) -> Result<Answer, CodecError> {
    let mut reader = Reader::new(body);
    let code = reader.u8()?;
    let reserved = reader.u8()?;
    let suites = SuiteMask(reader.u16()?);
    let retry_ms = reader.u32()?;
    if reserved != 0 || reader.bytes(ANSWER_BODY - 8)?.iter().any(|&byte| byte != 0) {
        return Err(CodecError::Value("the reserved part"));
    }
    match (code, suites.0, retry_ms) {
        (1, _, 0) => Ok(Answer::Paired { suites }),
        (2, 0, 0) => Ok(Answer::NoOutlet),
        (3, 0, 0) => Ok(Answer::NotPermitted),
        (4, 0, retry_ms) => Ok(Answer::Busy { retry_ms }),
        (5, 0, 0) => Ok(Answer::GoingAway),
        _ => Err(CodecError::Value("the answer")),
    }
}

/// What the sealed part of a preface says.
pub(super) fn parse_request(body: &[u8; BODY]) -> Result<Request, CodecError> {
    let mut reader = Reader::new(body);
    let role = match reader.u8()? {
        1 => Role::Inlet,
        2 => Role::Outlet,
        _ => return Err(CodecError::Value("the role")),
    };
    let bulk = match (role, reader.u8()?) {
        (_, 0) => false,
        (Role::Inlet, FLAG_BULK) => true,
        _ => return Err(CodecError::Value("the flags")),
    };
    let suites = SuiteMask(reader.u16()?);
    let address = AddressHash(reader.array()?);
    if reader.bytes(12)?.iter().any(|&byte| byte != 0) {
        return Err(CodecError::Value("the reserved part"));
    }
    Ok(Request {
        role,
        suites,
        address,
        bulk,
    })
}

/// Which session and counter the clear part names.
pub(super) fn read_clear(clear: &[u8; CLEAR]) -> Result<(SessionId, u64), CodecError> {
    let mut reader = Reader::new(clear);
    if reader.array::<PREFACE>()? != Preface::bytes(Kind::Leg) {
        return Err(CodecError::Value("the preface"));
    }
    let session = SessionId(reader.array()?);
    Ok((session, u64::from_be_bytes(reader.array()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> LegKey {
        LegKey::from_secret(&[3; 32])
    }

    #[test]
    fn only_an_inlets_leg_is_for_bulk() {
        let mut body = [0; BODY];
        body[1] = FLAG_BULK;
        for (role, is_bulk) in [(1, Some(true)), (2, None)] {
            body[0] = role;
            let bulk = parse_request(&body).ok().map(|request| request.bulk);
            assert_eq!(bulk, is_bulk);
        }
        body[..2].copy_from_slice(&[1, 2]);
        assert!(parse_request(&body).is_err(), "an unknown flag");
    }

    #[test]
    fn answers_read_as_sealed_for_their_leg_only() {
        let answers = [
            Answer::Paired {
                suites: SuiteMask(3),
            },
            Answer::NoOutlet,
            Answer::NotPermitted,
            Answer::Busy { retry_ms: 250 },
            Answer::GoingAway,
        ];
        for answer in answers {
            let sealed = seal_answer(&key(), 4, answer);
            assert_eq!(read_answer(&key(), 4, &sealed), Ok(answer));
            assert_eq!(read_answer(&key(), 5, &sealed), Err(LegError));
        }
    }
}

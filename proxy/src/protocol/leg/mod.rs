//! Legs: how a node's connection to the relay shows whose it is and what it wants, without any
//! public-key work, and what the relay answers.
//!
//! ```text
//! preface, 96 bytes
//! | 'A' 'D' 'I' 'T' | version 1 | kind 3 | 0 0 | session id 16 | counter 8 |   clear, authenticated
//! | role 1 | flags 0 | suite mask 2 | SHA-256(project ‖ address) 32 | 0 × 12 |  sealed
//! | tag 16 |
//!
//! answer, 48 bytes
//! | code 1 | 0 | suite mask 2 | retry ms 4 | 0 × 24 |                           sealed
//! | tag 16 |
//! ```
//!
//! The key is the session's leg key, the nonce the counter. A node uses a counter once; the relay
//! takes it once ([`ReplayWindow`]). The relay answers exactly once, under the preface's counter
//! and a key of its own. A preface that is not in order is not answered at all.

mod replay;
mod table;

pub use replay::ReplayWindow;
pub use table::{LegInfo, LegRefused, LegTable, Standing};

use crypto::leg::{ANSWER_BODY, LegKey, PREFACE_BODY, PREFACE_CLEAR, PREFACE_SEALED};
use crypto::suite::SuiteMask;

use super::codec::{CodecError, Reader};
use super::command::Role;
use super::preface::{Kind, Preface};
use crate::error::CloseReason;
use crate::ids::{AddressHash, SessionId};
use crate::limits::{LEG_ANSWER, LEG_PREFACE, PREFACE};
use crate::time::Duration;

const _: () = assert!(PREFACE_CLEAR + PREFACE_SEALED == LEG_PREFACE);
const _: () = assert!(crypto::leg::ANSWER == LEG_ANSWER);

/// What a leg's preface says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegPreface {
    /// The relay session it belongs to.
    pub session: SessionId,
    /// Never used before in that session.
    pub counter: u64,
    /// What the node is on this address.
    pub role: Role,
    /// The suites it offers; a hint for the other end, repeated inside the handshake.
    pub suites: SuiteMask,
    /// The address it serves or wants.
    pub address: AddressHash,
}

/// The part that can be read before the key is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegClear {
    /// Whose key opens the rest.
    pub session: SessionId,
    /// Its nonce.
    pub counter: u64,
}

const ROLE_INLET: u8 = 1;
const ROLE_OUTLET: u8 = 2;
/// Zero bytes at the end of a preface's body, room for later versions.
const PREFACE_ZEROS: usize = 12;
const ANSWER_ZEROS: usize = 24;

impl LegPreface {
    /// Its 96 bytes.
    pub fn seal(&self, key: &LegKey) -> [u8; LEG_PREFACE] {
        let mut clear = [0; PREFACE_CLEAR];
        clear[..PREFACE].copy_from_slice(&Preface::bytes(Kind::Leg));
        clear[8..24].copy_from_slice(&self.session.0);
        clear[24..].copy_from_slice(&self.counter.to_be_bytes());
        let mut body = [0; PREFACE_BODY];
        body[0] = match self.role {
            Role::Inlet => ROLE_INLET,
            Role::Outlet => ROLE_OUTLET,
        };
        body[2..4].copy_from_slice(&self.suites.0.to_be_bytes());
        body[4..36].copy_from_slice(&self.address.0);
        let mut bytes = [0; LEG_PREFACE];
        bytes[..PREFACE_CLEAR].copy_from_slice(&clear);
        bytes[PREFACE_CLEAR..].copy_from_slice(&key.seal_preface(self.counter, &clear, &body));
        bytes
    }

    /// The clear part. Nothing of it is authenticated yet.
    ///
    /// # Errors
    /// [`CloseReason::NotAdit`], `BadVersion` or `Malformed`: no leg begins like this.
    pub fn peek(bytes: &[u8; LEG_PREFACE]) -> Result<LegClear, CloseReason> {
        let short = |_: CodecError| CloseReason::Malformed;
        let mut from = Reader::new(bytes);
        let first = from.array::<PREFACE>().map_err(short)?;
        if Preface::parse(&first).map_err(|error| error.reason())?.kind != Kind::Leg {
            return Err(CloseReason::Malformed);
        }
        let session = SessionId(from.array().map_err(short)?);
        Ok(LegClear {
            session,
            counter: from.u64().map_err(short)?,
        })
    }

    /// Opens and reads a preface.
    ///
    /// # Errors
    /// [`CloseReason::BadLeg`] when it is not authentic or says what no node says, and those of
    /// [`LegPreface::peek`].
    pub fn open(bytes: &[u8; LEG_PREFACE], key: &LegKey) -> Result<LegPreface, CloseReason> {
        let LegClear { session, counter } = LegPreface::peek(bytes)?;
        let bad = CloseReason::BadLeg;
        let (clear, sealed) = bytes.split_first_chunk().ok_or(bad)?;
        let sealed = sealed.first_chunk().ok_or(bad)?;
        let body = key.open_preface(counter, clear, sealed).map_err(|_| bad)?;
        let (role, suites, address) = body_parts(&body).map_err(|_| bad)?;
        Ok(LegPreface {
            session,
            counter,
            role,
            suites,
            address,
        })
    }
}

fn body_parts(body: &[u8; PREFACE_BODY]) -> Result<(Role, SuiteMask, AddressHash), CodecError> {
    let mut from = Reader::new(body);
    let role = match from.u8()? {
        ROLE_INLET => Role::Inlet,
        ROLE_OUTLET => Role::Outlet,
        _ => return Err(CodecError::Value("a leg's role")),
    };
    from.zeros(1, "a leg's flags")?;
    let suites = SuiteMask(from.u16()?);
    let address = AddressHash(from.array()?);
    from.zeros(PREFACE_ZEROS, "a leg preface's end")?;
    from.finish()?;
    Ok((role, suites, address))
}

/// The relay's one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Joined with a leg of the other kind, which offers these suites. Everything behind this
    /// answer is between the two ends.
    Paired(SuiteMask),
    /// Nobody serves the address now, or nobody who does had a leg in time.
    NoOutlet,
    /// The member's pass does not cover it.
    NotPermitted,
    /// A limit is reached; try again after this (whole milliseconds on the wire).
    Busy(Duration),
    /// The relay is shutting down.
    GoingAway,
}

impl Answer {
    /// Why the leg ended, if it did.
    pub fn refusal(self) -> Option<CloseReason> {
        match self {
            Answer::Paired(_) => None,
            Answer::NoOutlet => Some(CloseReason::NoOutlet),
            Answer::NotPermitted => Some(CloseReason::AddressNotPermitted),
            Answer::Busy(_) => Some(CloseReason::RelayBusy),
            Answer::GoingAway => Some(CloseReason::RelayGoingAway),
        }
    }

    fn body(self) -> [u8; ANSWER_BODY] {
        let (code, suites, retry) = match self {
            Answer::Paired(suites) => (1, suites.0, Duration::ZERO),
            Answer::NoOutlet => (2, 0, Duration::ZERO),
            Answer::NotPermitted => (3, 0, Duration::ZERO),
            Answer::Busy(retry) => (4, 0, retry),
            Answer::GoingAway => (5, 0, Duration::ZERO),
        };
        let retry_ms = u32::try_from(retry.as_millis()).unwrap_or(u32::MAX);
        let mut body = [0; ANSWER_BODY];
        body[0] = code;
        body[2..4].copy_from_slice(&suites.to_be_bytes());
        body[4..8].copy_from_slice(&retry_ms.to_be_bytes());
        body
    }

    fn parse(body: &[u8; ANSWER_BODY]) -> Result<Answer, CodecError> {
        let mut from = Reader::new(body);
        let code = from.u8()?;
        from.zeros(1, "an answer's second byte")?;
        let (suites, retry_ms) = (from.u16()?, from.u32()?);
        from.zeros(ANSWER_ZEROS, "an answer's end")?;
        match (code, suites, retry_ms) {
            (1, suites, 0) => Ok(Answer::Paired(SuiteMask(suites))),
            (2, 0, 0) => Ok(Answer::NoOutlet),
            (3, 0, 0) => Ok(Answer::NotPermitted),
            (4, 0, retry_ms) => Ok(Answer::Busy(Duration::from_millis(u64::from(retry_ms)))),
            (5, 0, 0) => Ok(Answer::GoingAway),
            _ => Err(CodecError::Value("a leg's answer")),
        }
    }

    /// Its 48 bytes, for the preface that had `counter`.
    pub fn seal(self, key: &LegKey, counter: u64) -> [u8; LEG_ANSWER] {
        key.seal_answer(counter, &self.body())
    }

    /// Opens and reads the answer to the preface that had `counter`.
    ///
    /// # Errors
    /// [`CloseReason::BadTag`] when the relay of this session did not make it,
    /// [`CloseReason::Malformed`] when it says what no relay says.
    pub fn open(
        bytes: &[u8; LEG_ANSWER],
        key: &LegKey,
        counter: u64,
    ) -> Result<Answer, CloseReason> {
        let body = key
            .open_answer(counter, bytes)
            .map_err(|_| CloseReason::BadTag)?;
        Answer::parse(&body).map_err(|_| CloseReason::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> LegKey {
        LegKey::from_secret(&[9; 32])
    }

    fn some(role: Role) -> LegPreface {
        LegPreface {
            session: SessionId([1; 16]),
            counter: 0x0102_0304_0506_0708,
            role,
            suites: SuiteMask(3),
            address: AddressHash([7; 32]),
        }
    }

    #[test]
    fn a_preface_is_read_back_and_its_clear_part_without_the_key() {
        for role in [Role::Inlet, Role::Outlet] {
            let leg = some(role);
            let bytes = leg.seal(&key());
            assert_eq!(LegPreface::open(&bytes, &key()), Ok(leg));
            let clear = LegClear {
                session: leg.session,
                counter: leg.counter,
            };
            assert_eq!(LegPreface::peek(&bytes), Ok(clear));
            assert_eq!(&bytes[..8], b"ADIT\x01\x03\0\0");
            assert_eq!(&bytes[24..32], &[1, 2, 3, 4, 5, 6, 7, 8]);
        }
    }

    #[test]
    fn a_preface_with_any_bit_altered_is_refused() {
        let bytes = some(Role::Inlet).seal(&key());
        for at in 0..LEG_PREFACE {
            for bit in 0..8 {
                let mut bytes = bytes;
                bytes[at] ^= 1 << bit;
                assert!(LegPreface::open(&bytes, &key()).is_err(), "byte {at}");
            }
        }
        let other = LegKey::from_secret(&[8; 32]);
        assert_eq!(LegPreface::open(&bytes, &other), Err(CloseReason::BadLeg));
    }

    #[test]
    fn an_authentic_preface_that_makes_no_sense_is_refused() {
        let clear = *some(Role::Inlet)
            .seal(&key())
            .first_chunk()
            .unwrap_or(&[0; 32]);
        for (at, value) in [(0, 0), (0, 3), (1, 1), (36, 1), (47, 1)] {
            let mut body = [0; PREFACE_BODY];
            body[0] = ROLE_INLET;
            body[at] = value;
            let mut bytes = [0; LEG_PREFACE];
            bytes[..32].copy_from_slice(&clear);
            bytes[32..].copy_from_slice(&key().seal_preface(
                some(Role::Inlet).counter,
                &clear,
                &body,
            ));
            assert_eq!(
                LegPreface::open(&bytes, &key()),
                Err(CloseReason::BadLeg),
                "byte {at}"
            );
        }
    }

    #[test]
    fn each_answer_is_read_back_under_its_counter_only() {
        for answer in [
            Answer::Paired(SuiteMask(0xffff)),
            Answer::NoOutlet,
            Answer::NotPermitted,
            Answer::Busy(Duration::from_millis(1234)),
            Answer::GoingAway,
        ] {
            let bytes = answer.seal(&key(), 5);
            assert_eq!(Answer::open(&bytes, &key(), 5), Ok(answer));
            assert_eq!(Answer::open(&bytes, &key(), 6), Err(CloseReason::BadTag));
            assert_eq!(
                answer.refusal().is_none(),
                matches!(answer, Answer::Paired(_))
            );
        }
    }

    #[test]
    fn an_authentic_answer_that_makes_no_sense_is_refused() {
        for (at, value) in [(0, 0), (0, 6), (1, 1), (3, 1), (7, 1), (8, 1), (31, 1)] {
            let mut body = Answer::NoOutlet.body();
            body[at] = value;
            let bytes = key().seal_answer(1, &body);
            assert_eq!(
                Answer::open(&bytes, &key(), 1),
                Err(CloseReason::Malformed),
                "byte {at}"
            );
        }
    }
}

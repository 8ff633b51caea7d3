//! Temporary.
#![allow(missing_docs)]
use crate::ids::{AddressHash, SessionId};
use crate::protocol::command::Role;
use crate::protocol::preface::{Kind, Preface};
use crypto::leg::{LegError, LegKey};
use crypto::suite::SuiteMask;
pub struct Request {
    pub role: Role,
    pub suites: SuiteMask,
    pub address: AddressHash,
}
pub enum Answer {
    Paired {
        suites: SuiteMask,
    },
    NoOutlet,
    NotPermitted,
    Busy {
        #[allow(dead_code)]
        retry_ms: u32,
    },
    GoingAway,
}
pub fn preface(key: &LegKey, session: SessionId, counter: u64, request: &Request) -> [u8; 96] {
    let mut clear = [0u8; 32];
    clear[..8].copy_from_slice(&Preface::bytes(Kind::Leg));
    clear[8..24].copy_from_slice(&session.0);
    clear[24..].copy_from_slice(&counter.to_be_bytes());
    let mut body = [0u8; 48];
    body[0] = match request.role {
        Role::Inlet => 1,
        Role::Outlet => 2,
    };
    body[2..4].copy_from_slice(&request.suites.0.to_be_bytes());
    body[4..36].copy_from_slice(&request.address.0);
    let sealed = key.seal_preface(counter, &clear, &body);
    let mut out = [0; 96];
    out[..32].copy_from_slice(&clear);
    out[32..].copy_from_slice(&sealed);
    out
}
pub fn read_answer(key: &LegKey, counter: u64, bytes: &[u8]) -> Result<Answer, LegError> {
    let bytes: &[u8; 48] = bytes.try_into().map_err(|_| LegError)?;
    let body = key.open_answer(counter, bytes)?;
    let word = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
    match body[0] {
        1 => Ok(Answer::Paired {
            suites: SuiteMask(word as u16),
        }),
        2 => Ok(Answer::NoOutlet),
        3 => Ok(Answer::NotPermitted),
        4 => Ok(Answer::Busy { retry_ms: word }),
        5 => Ok(Answer::GoingAway),
        _ => Err(LegError),
    }
}

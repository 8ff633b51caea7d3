//! A leg from its dial to its pairing, the same for both ends of a circuit.

use std::net::SocketAddr;

use crypto::leg::LegKey;
use crypto::suite::SuiteMask;

use crate::error::CloseReason;
use crate::ids::{AddressHash, LinkId, SessionId, WorkerId};
use crate::limits::{LEG_ANSWER, LEG_BUSY_RETRY, TUNNEL_DIAL};
use crate::protocol::command::{Command, Expect, Role};
use crate::protocol::core::outbox::Outbox;
use crate::protocol::leg::{self, Answer};
use crate::protocol::pool::Failure;
use crate::time::Instant;

/// A leg that was dialed and has no answer yet.
pub struct Leg {
    /// The session that it belongs to.
    pub session: SessionId,
    key: LegKey,
    counter: u64,
}

/// What a session gives for one leg.
pub struct LegGrant {
    /// Where to.
    pub to: SocketAddr,
    /// The session.
    pub session: SessionId,
    /// Its leg key.
    pub key: LegKey,
    /// Never used before in this session.
    pub counter: u64,
}

/// What a leg asks for, and where it is dialed from.
pub struct LegAsk {
    /// The worker that carries it.
    pub worker: WorkerId,
    /// Which end it is of.
    pub role: Role,
    /// What that end offers.
    pub suites: SuiteMask,
    /// Where it wants to go.
    pub address: AddressHash,
    /// It is to carry bulk (an inlet says so).
    pub bulk: bool,
}

impl Leg {
    /// Dials.
    pub fn dial(out: &mut Outbox, now: Instant, grant: LegGrant, ask: LegAsk) -> (LinkId, Leg) {
        let LegAsk {
            worker,
            role,
            suites,
            address,
            bulk,
        } = ask;
        let LegGrant {
            to,
            session,
            key,
            counter,
        } = grant;
        let request = leg::Request {
            role,
            suites,
            address,
            bulk,
        };
        let hello = leg::preface(&key, session, counter, &request).to_vec();
        let link = out.new_link(worker);
        out.command(Command::Dial {
            link,
            to: vec![to],
            hello,
            expect: Expect::Exact(LEG_ANSWER as u16),
            deadline: now + TUNNEL_DIAL,
        });
        (
            link,
            Leg {
                session,
                key,
                counter,
            },
        )
    }

    /// Reads the relay's one answer.
    ///
    /// # Errors
    /// Why there is no circuit, and how soon to try again.
    pub fn on_answer(&self, bytes: &[u8]) -> Result<SuiteMask, (CloseReason, Failure)> {
        let answer = leg::read_answer(&self.key, self.counter, bytes);
        match answer.map_err(|_| (CloseReason::BadTag, Failure::Lost))? {
            Answer::Paired { suites } => Ok(suites),
            Answer::NoOutlet => Err((CloseReason::NoOutlet, Failure::Lost)),
            Answer::NotPermitted => Err((CloseReason::AddressNotPermitted, Failure::Refused)),
            // So long a wait is only for who was denied.
            Answer::Busy { retry_ms } if u128::from(retry_ms) > LEG_BUSY_RETRY.as_millis() => {
                Err((CloseReason::NotAuthorized, Failure::Refused))
            }
            Answer::Busy { .. } => Err((CloseReason::RelayBusy, Failure::Lost)),
            Answer::GoingAway => Err((CloseReason::RelayGoingAway, Failure::Lost)),
        }
    }
}

//! The relay: legs are checked, parked and paired by the tables of `protocol`, then bytes are
//! copied between two sockets and never looked at.
//!
//! # Life of a leg
//! 1. Its 96 bytes are opened with its session's leg key: one AEAD, no public-key work.
//! 2. *Waiting*: it is parked, or waits for an outlet. An armed receive notices when it hangs up;
//!    one receive of early bytes is kept.
//! 3. *Paired*: both legs get their sealed answer, then [`relay_flow`](super::relay_flow) carries
//!    bytes; or it is *refused*: the sealed answer, then FIN.
//!
//! A leg never moves to another worker, and only its own worker pairs it: no lock, no double
//! pairing.

use std::net::SocketAddr;

use super::Worker;
use super::conn::Conn;
use super::net::code;
use super::relay_flow::Flow;
use super::slab::SlotKey;
use crate::engine::{Class, Close, Engine, Outcome};
use crate::error::CloseReason;
use crate::limits::{LEG_ANSWER, LINK_LINGER};
use crate::protocol::command::Event;
use crate::time::Instant;

/// How far a leg is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Parked, or waiting for an outlet.
    Waiting,
    /// Joined with the leg in that slot.
    Paired(SlotKey),
    /// Its refusal is on the way; FIN follows, then the peer's end is awaited.
    Refused,
    /// Being closed.
    Closing,
}

/// One leg at the relay.
#[derive(Debug)]
pub(super) struct Leg {
    pub state: State,
    /// From this leg to its counterpart.
    pub flow: Flow,
    /// The sealed answer, until it is handed to the engine.
    pub answer: Option<[u8; LEG_ANSWER]>,
}

/// The relay's tables.
#[derive(Debug, Default)]
pub(super) struct Relay {}
impl Relay {
    pub fn next_deadline(&self) -> Instant {
        Instant::FAR_FUTURE
    }
}
impl<E: Engine> Worker<E> {
    pub(super) fn leg_mut(&mut self, key: SlotKey) -> Option<&mut Leg> {
        match &mut self.net.slots.get_mut(key)?.conn {
            Conn::Leg(leg) => Some(leg),
            Conn::Listener(_)
            | Conn::Stranger(_)
            | Conn::Link(_)
            | Conn::Lane(_)
            | Conn::Stream(_) => None,
        }
    }
    pub(super) fn leg_key(&mut self, _: crate::protocol::command::LegEntry) {}
    pub(super) fn leg_key_gone(&mut self, _: crate::ids::SessionId) {}
    pub(super) fn leg_arrived(&mut self, _: SlotKey, _: SocketAddr, _: &[u8], _: Vec<u8>) {}
    pub(super) fn leg_done(&mut self, _: SlotKey, _: u8, _: Outcome) {}
    pub(super) fn leg_closed(&mut self, _: SlotKey) {}
    pub(super) fn leg_due(&mut self, _: SlotKey) {}
    pub(super) fn leg_resume(&mut self, _: SlotKey) {}
    pub(super) fn leg_stop(&mut self, _: SlotKey, _: Close) {}
    pub(super) fn relay_due(&mut self) {}
    pub(super) fn legs_leave(&mut self) {}
    pub(super) fn check_leg(&self, _: SlotKey, _: &Leg, _: &mut super::check::Count) {}
}

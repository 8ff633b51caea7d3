//! The Noise XX handshake, as type states around snow.
//!
//! ```text
//! Initiator::start ──── message 1 ────▸ Responder::read_message_1
//!            read_message_2 ◂── message 2 ─── write_message_2
//! Checking: verify the peer, then
//!           write_message_3 ──── message 3 ───▸ Waiting::read_message_3
//! Finished                                      Finished: verify the peer, then split
//! ```
//!
//! Each step takes the state by value and gives it back only on success: after an error nothing
//! is left that could be tried again, read or reused. snow itself would allow all of that, would
//! accept points of low order (`resolver` does not), and gives constants as keys before the end;
//! none of it is reachable from here.
//!
//! Message 1 is in clear, and message 2 is read by whoever sent message 1: nothing may be in them
//! that a stranger must not know (a responder's evidence is a stranger's to read). The initiator
//! has to run [`crate::check`] on what [`Initiator::read_message_2`] returns *before* it writes
//! message 3.

mod handshake;
#[cfg(test)]
mod low_order;
mod prologue;
pub(crate) mod resolver;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use prologue::{Part, exchange_prologue, prologue};

use crate::limits::NOISE_MESSAGE_MAX;
use crate::random::Random;
use crate::record::{ChainSecret, MixSecret};
use crate::statics::{StaticKeypair, StaticPublic};
use crate::suite::Suite;
use handshake::Handshake;

/// Why a handshake ended. It says no more than the peer may learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// A message is malformed, does not authenticate, or holds a point of low order.
    #[error("a handshake message was refused")]
    Refused,
    /// A message or payload is too long.
    #[error("a handshake message is longer than 65535 bytes")]
    TooLong,
    /// snow could not be set up; not caused by a peer.
    #[error("the handshake could not be set up")]
    Setup,
}

/// Has written message 1.
pub struct Initiator(Handshake);

/// Has read message 2: knows who the responder says it is, and has told it nothing yet.
pub struct Checking(Handshake, StaticPublic);

/// Has read message 1.
pub struct Responder(Handshake);

/// Has written message 2.
pub struct Waiting(Handshake);

/// All three messages are through. The peer may still have to be verified.
pub struct Finished {
    handshake: Handshake,
    remote: StaticPublic,
}

/// The first secret of each direction.
pub struct Split {
    /// What the initiator seals with and the responder opens with.
    pub initiator_to_responder: ChainSecret,
    /// The other direction.
    pub responder_to_initiator: ChainSecret,
}

impl Initiator {
    /// Begins a handshake. Returns message 1, whose payload is empty.
    ///
    /// # Errors
    /// [`NoiseError::Setup`] only.
    pub fn start(
        suite: Suite,
        prologue: &[u8],
        local: &StaticKeypair,
        random: &mut dyn Random,
    ) -> Result<(Initiator, Vec<u8>), NoiseError> {
        Initiator::start_with(suite, prologue, local, &[], random)
    }

    /// As [`start`](Self::start), with a payload, which nothing protects.
    pub(crate) fn start_with(
        suite: Suite,
        prologue: &[u8],
        local: &StaticKeypair,
        payload: &[u8],
        random: &mut dyn Random,
    ) -> Result<(Initiator, Vec<u8>), NoiseError> {
        let mut handshake = Handshake::initiator(suite, prologue, local)?;
        handshake.draw_ephemeral(random);
        let message = handshake.write(payload)?;
        Ok((Initiator(handshake), message))
    }

    /// Reads message 2 and returns its payload: the responder's evidence, to be verified before
    /// [`Checking::write_message_3`].
    ///
    /// # Errors
    /// [`NoiseError`]; the handshake is over then.
    pub fn read_message_2(mut self, message: &[u8]) -> Result<(Checking, Vec<u8>), NoiseError> {
        let payload = self.0.read(message)?;
        let remote = self.0.remote_static()?;
        Ok((Checking(self.0, remote), payload))
    }
}

impl Checking {
    /// The static key that the responder proved to hold: what step (c) of the check compares.
    pub fn remote_static(&self) -> StaticPublic {
        self.1
    }

    /// Writes message 3 with this end's evidence as its payload.
    ///
    /// # Errors
    /// [`NoiseError::TooLong`]; the handshake is over then.
    pub fn write_message_3(mut self, payload: &[u8]) -> Result<(Finished, Vec<u8>), NoiseError> {
        let message = self.0.write(payload)?;
        Ok((
            Finished {
                handshake: self.0,
                remote: self.1,
            },
            message,
        ))
    }
}

impl Responder {
    /// Reads message 1. A payload in it is refused: suites 1 and 2 have none.
    ///
    /// # Errors
    /// [`NoiseError`]; the handshake is over then.
    pub fn read_message_1(
        suite: Suite,
        prologue: &[u8],
        local: &StaticKeypair,
        message: &[u8],
    ) -> Result<Responder, NoiseError> {
        let (responder, payload) = Responder::read_with(suite, prologue, local, message)?;
        if payload.is_empty() {
            Ok(responder)
        } else {
            Err(NoiseError::Refused)
        }
    }

    /// As [`read_message_1`](Self::read_message_1), and returns the payload.
    pub(crate) fn read_with(
        suite: Suite,
        prologue: &[u8],
        local: &StaticKeypair,
        message: &[u8],
    ) -> Result<(Responder, Vec<u8>), NoiseError> {
        let mut handshake = Handshake::responder(suite, prologue, local)?;
        let payload = handshake.read(message)?;
        Ok((Responder(handshake), payload))
    }

    /// Writes message 2 with this end's evidence as its payload. Whoever sent message 1 can read
    /// it.
    ///
    /// # Errors
    /// [`NoiseError::Refused`] when message 1 held a point of low order, [`NoiseError::TooLong`].
    pub fn write_message_2(
        mut self,
        payload: &[u8],
        random: &mut dyn Random,
    ) -> Result<(Waiting, Vec<u8>), NoiseError> {
        self.0.draw_ephemeral(random);
        let message = self.0.write(payload)?;
        Ok((Waiting(self.0), message))
    }
}

impl Waiting {
    /// Reads message 3 and returns its payload: the initiator's evidence.
    ///
    /// # Errors
    /// [`NoiseError`]; the handshake is over then.
    pub fn read_message_3(mut self, message: &[u8]) -> Result<(Finished, Vec<u8>), NoiseError> {
        let payload = self.0.read(message)?;
        let remote = self.0.remote_static()?;
        Ok((
            Finished {
                handshake: self.0,
                remote,
            },
            payload,
        ))
    }
}

impl Finished {
    /// The static key that the peer proved to hold.
    pub fn remote_static(&self) -> StaticPublic {
        self.remote
    }

    /// The hash over the whole handshake: the same at both ends, and at no other pair.
    pub fn handshake_hash(&self) -> [u8; 32] {
        self.handshake.hash()
    }

    /// The first secrets: HKDF(split, salt = handshake hash, info = direction), where split is
    /// Noise's two keys, the initiator's first.
    pub fn split(self) -> Split {
        let hash = self.handshake.hash();
        let split = self.handshake.raw_split();
        let derive = |info| ChainSecret::derive(&hash, split.as_slice(), info);
        Split {
            initiator_to_responder: derive(b"adit-chain-i2r-v1"),
            responder_to_initiator: derive(b"adit-chain-r2i-v1"),
        }
    }

    /// What a handshake within a lane gives: one secret for the chains that are in use there.
    /// HKDF(split, salt = handshake hash, info), as [`split`](Self::split) derives first secrets.
    pub fn mix(self) -> MixSecret {
        let hash = self.handshake.hash();
        let split = self.handshake.raw_split();
        MixSecret::derive(&hash, split.as_slice(), b"adit-exchange-mix-v1")
    }
}

const _: () = assert!(NOISE_MESSAGE_MAX == 65_535, "NoiseError::TooLong names it");

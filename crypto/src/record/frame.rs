//! The frames of a session: the same construction as a record, without header and updates.

use super::{ChainSecret, Epoch, OpenError, SealError, TAG};
use crate::aead;
use crate::limits::FRAME_PLAIN_MAX;
use crate::suite::Suite;

const FRAME_KEY: &[u8] = b"adit-frame-key-v1";

/// Seals the frames of one direction of a session: ciphertext ‖ tag, the nonce counted, no
/// header (the u16 length before a frame is the carrier's). A session is re-made hourly and its
/// key is never updated.
pub struct FrameSealer(pub(super) Epoch);

impl FrameSealer {
    /// The frames of `chain`.
    pub fn new(suite: Suite, chain: ChainSecret) -> FrameSealer {
        FrameSealer(Epoch::new(suite, chain, FRAME_KEY))
    }

    /// Seals one frame; it is 16 bytes longer than `plain`.
    ///
    /// # Errors
    /// [`SealError::TooLong`] above 65,519 bytes, [`SealError::WornOut`] after 2^22 frames.
    pub fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        if plain.len() > FRAME_PLAIN_MAX {
            return Err(SealError::TooLong);
        }
        if self.0.worn_out() {
            return Err(SealError::WornOut);
        }
        let mut frame = Vec::with_capacity(plain.len() + TAG);
        frame.extend_from_slice(plain);
        let nonce = aead::counter_nonce(self.0.records);
        let tag = self
            .0
            .key
            .seal(nonce, &[], &mut frame)
            .map_err(|_| SealError::TooLong)?;
        frame.extend_from_slice(&tag);
        self.0.count(frame.len());
        Ok(frame)
    }
}

/// Opens the frames of one direction of a session, in order.
pub struct FrameOpener {
    epoch: Epoch,
    dead: bool,
}

impl FrameOpener {
    /// The frames of `chain`.
    pub fn new(suite: Suite, chain: ChainSecret) -> FrameOpener {
        FrameOpener {
            epoch: Epoch::new(suite, chain, FRAME_KEY),
            dead: false,
        }
    }

    /// Opens one frame.
    ///
    /// # Errors
    /// [`OpenError`]; every later call fails with [`OpenError::Dead`].
    pub fn open(&mut self, frame: &[u8]) -> Result<Vec<u8>, OpenError> {
        if self.dead {
            return Err(OpenError::Dead);
        }
        self.dead = true;
        let (sealed, tag) = frame.split_last_chunk().ok_or(OpenError::TooShort)?;
        if sealed.len() > FRAME_PLAIN_MAX {
            return Err(OpenError::TooLong);
        }
        if self.epoch.worn_out() {
            return Err(OpenError::WornOut);
        }
        let mut plain = sealed.to_vec();
        let nonce = aead::counter_nonce(self.epoch.records);
        self.epoch
            .key
            .open(nonce, &[], &mut plain, *tag)
            .map_err(|_| OpenError::Tag)?;
        self.epoch.count(frame.len());
        self.dead = false;
        Ok(plain)
    }
}

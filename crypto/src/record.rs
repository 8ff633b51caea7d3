//! Sealing records and session frames, with keys that move on.
//!
//! A record, as it lies in the buffer:
//!
//! ```text
//!  0        3     4            8
//!  | length | epoch | inner … | payload …                         | tag, 16 |
//!  '--- clear, ----'---------------- sealed in place ------------'
//!      authenticated
//! ```
//!
//! `length` (u24, big-endian) counts everything behind the header, tag included. The nonce is the
//! number of the record under its key, never sent: a record that was dropped, repeated or moved
//! does not open.
//!
//! # Keys
//! A direction has a chain. The record key is derived from the chain and never the other way
//! round. An update replaces the chain by one that can't be traced back, mixes in a fresh secret
//! where there is one, counts the epoch up (modulo 256) and starts counting records at 0:
//!
//! ```text
//! key    = HKDF(salt = none,  chain,  adit-record-key-v1 ‖ suite)
//! chain' = HKDF(salt = chain, "",     adit-chain-next-v1)
//! chain' = HKDF(salt = chain, secret, adit-chain-mix-v1)
//! ```

use crate::aead::{self, AeadKey};
use crate::kdf;
use crate::limits::{KEY_BYTES_DUE, KEY_RECORDS_DUE, KEY_RECORDS_MAX, RECORD_LENGTH_MAX};
use crate::suite::Suite;
use zeroize::Zeroizing;

mod frame;
#[cfg(test)]
mod tests;

pub use frame::{FrameOpener, FrameSealer};

/// Clear bytes of a record: length u24, key epoch u8.
pub const HEADER: usize = 4;
/// Sealed bytes before the payload: type u8, flags u8, stream u16.
pub const INNER: usize = 4;
/// The tag.
pub const TAG: usize = aead::TAG;

/// The secret of one direction. Wiped when dropped.
pub struct ChainSecret(Zeroizing<[u8; 32]>);

impl ChainSecret {
    /// A chain that begins with these bytes. In production they come from
    /// [`Finished::split`](crate::noise::Finished::split) only.
    pub fn from_bytes(bytes: &[u8; 32]) -> ChainSecret {
        ChainSecret(Zeroizing::new(*bytes))
    }

    pub(crate) fn derive(salt: &[u8], secret: &[u8], info: &[u8]) -> ChainSecret {
        ChainSecret(kdf::key(salt, secret, &[info]))
    }

    fn key(&self, suite: Suite, info: &[u8]) -> AeadKey {
        AeadKey::new(
            suite,
            &kdf::key(&[], self.0.as_slice(), &[info, &[suite.number()]]),
        )
    }

    fn next(&self, mix: Option<&MixSecret>) -> ChainSecret {
        let chain = self.0.as_slice();
        match mix {
            None => ChainSecret::derive(chain, &[], b"adit-chain-next-v1"),
            Some(MixSecret(secret)) => {
                ChainSecret::derive(chain, secret.as_slice(), b"adit-chain-mix-v1")
            }
        }
    }
}

/// The fresh secret of a later handshake, to be mixed into chains that are in use. Wiped when dropped.
pub struct MixSecret(Zeroizing<[u8; 32]>);

impl MixSecret {
    /// A secret of these bytes. In production they come from [`Finished::mix`](crate::noise::Finished::mix)
    /// only.
    pub fn from_bytes(bytes: &[u8; 32]) -> MixSecret {
        MixSecret(Zeroizing::new(*bytes))
    }

    pub(crate) fn derive(salt: &[u8], secret: &[u8], info: &[u8]) -> MixSecret {
        MixSecret(kdf::key(salt, secret, &[info]))
    }
}

impl std::fmt::Debug for MixSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MixSecret(..)")
    }
}

/// Why a record or frame was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No room for header, inner header and tag.
    #[error("a record has at least 24 bytes")]
    TooShort,
    /// Longer than its bound.
    #[error("a record or frame is longer than allowed")]
    TooLong,
    /// The key has sealed 2^22 records; only an update helps.
    #[error("the key is worn out")]
    WornOut,
}

/// Why a record or frame was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than its overhead.
    #[error("it is shorter than a record can be")]
    TooShort,
    /// Its length field is above the bound.
    #[error("its length is above the limit")]
    TooLong,
    /// The bytes are not the one record that the header announces.
    #[error("its length is not what its header says")]
    LengthMismatch,
    /// It was sealed under another key.
    #[error("it belongs to another key epoch")]
    WrongEpoch,
    /// It was altered, dropped, repeated, reordered or made by somebody else.
    #[error("it does not authenticate")]
    Tag,
    /// The key has opened 2^22 records.
    #[error("the key is worn out")]
    WornOut,
    /// An earlier record failed; nothing is opened after that.
    #[error("an earlier record failed")]
    Dead,
}

/// The length of the whole record, header included, that begins with `header`. `max` is the
/// largest length field allowed on this lane or circuit. Call it before the record is stored.
///
/// # Errors
/// [`OpenError::TooShort`] and [`OpenError::TooLong`].
pub fn record_len(header: [u8; HEADER], max: usize) -> Result<usize, OpenError> {
    let [a, b, c, _epoch] = header;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length < INNER + TAG {
        Err(OpenError::TooShort)
    } else if length > max {
        Err(OpenError::TooLong)
    } else {
        Ok(HEADER + length)
    }
}

/// A chain with its current key and counter: what sealing and opening have in common.
struct Epoch {
    suite: Suite,
    chain: ChainSecret,
    key: AeadKey,
    number: u8,
    /// Records sealed or opened under this key; the nonce of the next.
    records: u64,
    bytes: u64,
}

const RECORD_KEY: &[u8] = b"adit-record-key-v1";

impl Epoch {
    fn new(suite: Suite, chain: ChainSecret, info: &[u8]) -> Epoch {
        let key = chain.key(suite, info);
        Epoch {
            suite,
            chain,
            key,
            number: 0,
            records: 0,
            bytes: 0,
        }
    }

    fn worn_out(&self) -> bool {
        self.records >= KEY_RECORDS_MAX
    }

    fn sealing_counter(&self) -> u64 {
        #[cfg(feature = "planted")]
        if self.records % 8 == 7 && crate::planted::is(crate::planted::Bug::WrongNonce) {
            return self.records - 1;
        }
        self.records
    }

    fn due(&self) -> bool {
        self.records >= KEY_RECORDS_DUE || self.bytes >= KEY_BYTES_DUE
    }

    fn count(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }

    fn update(&mut self, mix: Option<&MixSecret>) {
        self.chain = self.chain.next(mix);
        self.key = self.chain.key(self.suite, RECORD_KEY);
        self.number = self.number.wrapping_add(1);
        self.records = 0;
        self.bytes = 0;
    }
}

/// Seals the records of one direction. Each record takes the next nonce; there is no way to
/// choose one.
pub struct Sealer(Epoch);

impl Sealer {
    /// Epoch 0 of `chain`.
    pub fn new(suite: Suite, chain: ChainSecret) -> Sealer {
        Sealer(Epoch::new(suite, chain, RECORD_KEY))
    }

    /// Seals one record in place: `record` is header room, inner header, payload and tag room.
    /// Writes the header and the tag. Does not allocate.
    ///
    /// # Errors
    /// [`SealError`]; `record` is unchanged and no nonce is used then.
    pub fn seal(&mut self, record: &mut [u8]) -> Result<(), SealError> {
        let length = record.len().saturating_sub(HEADER);
        if length < INNER + TAG {
            return Err(SealError::TooShort);
        }
        if length > RECORD_LENGTH_MAX {
            return Err(SealError::TooLong);
        }
        if self.0.worn_out() {
            return Err(SealError::WornOut);
        }
        let (header, rest) = record.split_first_chunk_mut().ok_or(SealError::TooShort)?;
        let (body, tag) = rest.split_last_chunk_mut().ok_or(SealError::TooShort)?;
        let [_, a, b, c] = (length as u32).to_be_bytes();
        *header = [a, b, c, self.0.number];
        let nonce = aead::counter_nonce(self.0.sealing_counter());
        *tag = self
            .0
            .key
            .seal(nonce, header, body)
            .map_err(|_| SealError::TooLong)?;
        self.0.count(length);
        Ok(())
    }

    /// Whether the key should be updated: 2^20 records or 32 GiB. Time (10 minutes of use) is
    /// the caller's to count.
    pub fn due(&self) -> bool {
        self.0.due()
    }

    /// Moves on to the next epoch, mixing in a fresh secret where there is one. The old key is
    /// wiped. The last record of the old epoch must have told the other end.
    pub fn update(&mut self, mix: Option<&MixSecret>) {
        self.0.update(mix);
    }

    /// The current epoch.
    pub fn epoch(&self) -> u8 {
        self.0.number
    }
}

/// Opens the records of one direction, in the order in which they were sealed.
pub struct Opener {
    epoch: Epoch,
    dead: bool,
}

impl Opener {
    /// Epoch 0 of `chain`.
    pub fn new(suite: Suite, chain: ChainSecret) -> Opener {
        Opener {
            epoch: Epoch::new(suite, chain, RECORD_KEY),
            dead: false,
        }
    }

    /// Opens exactly one whole record where it lies and returns its inner header and payload.
    ///
    /// # Errors
    /// [`OpenError`]. The stream is broken then: every later call fails with
    /// [`OpenError::Dead`], so that nobody gets a second guess at a tag.
    pub fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        if self.dead {
            return Err(OpenError::Dead);
        }
        // Set first and cleared last, so that every way out but success leaves it set.
        self.dead = true;
        let (header, rest) = record.split_first_chunk_mut().ok_or(OpenError::TooShort)?;
        let whole = record_len(*header, RECORD_LENGTH_MAX)?;
        if whole != HEADER + rest.len() {
            return Err(OpenError::LengthMismatch);
        }
        if header[3] != self.epoch.number {
            return Err(OpenError::WrongEpoch);
        }
        if self.epoch.worn_out() {
            return Err(OpenError::WornOut);
        }
        let sealed = rest.len();
        let (body, tag) = rest.split_last_chunk_mut().ok_or(OpenError::TooShort)?;
        let nonce = aead::counter_nonce(self.epoch.records);
        self.epoch
            .key
            .open(nonce, header, body, *tag)
            .map_err(|_| OpenError::Tag)?;
        self.epoch.count(sealed);
        self.dead = false;
        Ok(body)
    }

    /// Moves on to the next epoch, as the sealer does. The old key is wiped.
    pub fn update(&mut self, mix: Option<&MixSecret>) {
        self.epoch.update(mix);
    }

    /// The current epoch.
    pub fn epoch(&self) -> u8 {
        self.epoch.number
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opener(..)")
    }
}

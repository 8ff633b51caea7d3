//! The two AEADs, through ring, in place.

use crate::suite::Suite;
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

/// Length of the tag of both AEADs.
pub(crate) const TAG: usize = 16;

/// Sealing or opening failed. It says no more on purpose.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AeadError;

/// A key of one suite. It knows nothing of nonces: whoever owns it owns the counter too.
pub(crate) struct AeadKey(LessSafeKey);

impl AeadKey {
    pub(crate) fn new(suite: Suite, key: &[u8; 32]) -> AeadKey {
        let algorithm = match suite {
            Suite::AesGcm => &AES_256_GCM,
            Suite::ChaChaPoly => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, key).expect("both AEADs take 32 bytes");
        AeadKey(LessSafeKey::new(key))
    }

    /// Encrypts `in_out` where it lies and returns its tag.
    pub(crate) fn seal(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        in_out: &mut [u8],
    ) -> Result<[u8; TAG], AeadError> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), in_out)
            .map_err(|_| AeadError)?;
        tag.as_ref().try_into().map_err(|_| AeadError)
    }

    /// Checks `tag` and decrypts `in_out` where it lies. After an error `in_out` holds nothing of
    /// use.
    pub(crate) fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        in_out: &mut [u8],
        tag: [u8; TAG],
    ) -> Result<(), AeadError> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .open_in_place_separate_tag(nonce, Aad::from(aad), tag.into(), in_out, 0..)
            .map(drop)
            .map_err(|_| AeadError)
    }
}

impl Drop for AeadKey {
    fn drop(&mut self) {
        // ring does not wipe its keys. A blank key of the same kind covers every byte of the old
        // one; the black box keeps the compiler from seeing that nobody reads it.
        if let Ok(blank) = UnboundKey::new(self.0.algorithm(), &[0; 32]) {
            self.0 = LessSafeKey::new(blank);
        }
        std::hint::black_box(&mut self.0);
    }
}

/// The nonce of message `counter`: four zero bytes and the counter, big-endian.
pub(crate) fn counter_nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

//! The key of a leg's preface and of the relay's answer to it.
//!
//! The relay gives each session a secret in its welcome. A preface shows that a leg belongs to
//! the session without any public-key work; the answer shows that it is the relay's. Each has a
//! sub-key of its own, because both count their nonces from the same preface counter.
//!
//! ChaCha20-Poly1305 whatever the session's suite is: an operation covers 48 bytes, so speed
//! does not speak for AES; its key is 32 bytes and needs no schedule, so a relay worker's snapshot
//! costs 64 bytes a session where AES-GCM would cost 1,088; and it is constant-time on every
//! machine.

use crate::aead::{AeadKey, TAG, counter_nonce};
use crate::kdf;
use crate::suite::Suite;
use zeroize::Zeroizing;

/// Clear and authenticated bytes of a preface.
pub const PREFACE_CLEAR: usize = 32;
/// Sealed content of a preface.
pub const PREFACE_BODY: usize = 48;
/// The same with its tag.
pub const PREFACE_SEALED: usize = PREFACE_BODY + TAG;
/// Content of an answer.
pub const ANSWER_BODY: usize = 32;
/// The same with its tag, which is the whole answer.
pub const ANSWER: usize = ANSWER_BODY + TAG;

/// A preface or answer that the holder of this key did not make for this counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leg preface or answer does not authenticate")]
pub struct LegError;

/// The leg key of one session. The caller sees to it that a node uses a counter once, and that
/// the relay accepts it once (its window).
///
/// `Clone`, because control publishes a snapshot of all leg keys to the relay's workers; each
/// copy is wiped when it is dropped.
#[derive(Clone)]
pub struct LegKey {
    preface: Zeroizing<[u8; 32]>,
    answer: Zeroizing<[u8; 32]>,
}

fn append_tag<const N: usize>(key: &[u8; 32], counter: u64, aad: &[u8], body: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let (content, tag) = out.split_at_mut(N - TAG);
    content.copy_from_slice(body);
    let key = AeadKey::new(Suite::ChaChaPoly, key);
    let sealed = key.seal(counter_nonce(counter), aad, content);
    tag.copy_from_slice(&sealed.expect("48 bytes are not too many"));
    out
}

fn take_tag<const N: usize>(
    key: &[u8; 32],
    counter: u64,
    aad: &[u8],
    sealed: &[u8],
) -> Result<[u8; N], LegError> {
    let (content, tag) = sealed.split_last_chunk().ok_or(LegError)?;
    let mut body: [u8; N] = content.try_into().map_err(|_| LegError)?;
    let key = AeadKey::new(Suite::ChaChaPoly, key);
    key.open(counter_nonce(counter), aad, &mut body, *tag)
        .map_err(|_| LegError)?;
    Ok(body)
}

impl LegKey {
    /// The key that follows from the 32 secret bytes of the relay's welcome.
    pub fn from_secret(secret: &[u8; 32]) -> LegKey {
        LegKey {
            preface: kdf::key(&[], secret, &[b"adit-leg-preface-v1"]),
            answer: kdf::key(&[], secret, &[b"adit-leg-answer-v1"]),
        }
    }

    /// Seals a preface's body and authenticates its clear part.
    pub fn seal_preface(
        &self,
        counter: u64,
        clear: &[u8; PREFACE_CLEAR],
        body: &[u8; PREFACE_BODY],
    ) -> [u8; PREFACE_SEALED] {
        append_tag(&self.preface, counter, clear, body)
    }

    /// Opens a preface.
    ///
    /// # Errors
    /// [`LegError`] when any of its 96 bytes was altered or the key is another session's.
    pub fn open_preface(
        &self,
        counter: u64,
        clear: &[u8; PREFACE_CLEAR],
        sealed: &[u8; PREFACE_SEALED],
    ) -> Result<[u8; PREFACE_BODY], LegError> {
        take_tag(&self.preface, counter, clear, sealed)
    }

    /// Seals the one answer to the preface that had `counter`.
    pub fn seal_answer(&self, counter: u64, body: &[u8; ANSWER_BODY]) -> [u8; ANSWER] {
        append_tag(&self.answer, counter, &[], body)
    }

    /// Opens the answer to the preface that had `counter`.
    ///
    /// # Errors
    /// [`LegError`] when the relay of this session did not make it for this counter.
    pub fn open_answer(
        &self,
        counter: u64,
        sealed: &[u8; ANSWER],
    ) -> Result<[u8; ANSWER_BODY], LegError> {
        take_tag(&self.answer, counter, &[], sealed)
    }
}

impl std::fmt::Debug for LegKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LegKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> LegKey {
        LegKey::from_secret(&[7; 32])
    }

    #[test]
    fn a_preface_opens_to_what_was_sealed() {
        let sealed = key().seal_preface(9, &[1; 32], &[2; 48]);
        assert_eq!(key().open_preface(9, &[1; 32], &sealed), Ok([2; 48]));
        assert_eq!(
            key().clone().open_preface(9, &[1; 32], &sealed),
            Ok([2; 48])
        );
    }

    #[test]
    fn every_altered_byte_of_a_preface_is_noticed() {
        let sealed = key().seal_preface(9, &[1; 32], &[2; 48]);
        for at in 0..32 {
            let mut clear = [1; 32];
            clear[at] ^= 0x80;
            assert_eq!(key().open_preface(9, &clear, &sealed), Err(LegError));
        }
        for at in 0..64 {
            let mut sealed = sealed;
            sealed[at] ^= 1;
            assert_eq!(key().open_preface(9, &[1; 32], &sealed), Err(LegError));
        }
    }

    #[test]
    fn another_counter_or_session_is_noticed() {
        let sealed = key().seal_preface(9, &[1; 32], &[2; 48]);
        assert_eq!(key().open_preface(10, &[1; 32], &sealed), Err(LegError));
        let other = LegKey::from_secret(&[8; 32]);
        assert_eq!(other.open_preface(9, &[1; 32], &sealed), Err(LegError));
    }

    #[test]
    fn an_answer_opens_for_its_counter_only() {
        let sealed = key().seal_answer(9, &[3; 32]);
        assert_eq!(key().open_answer(9, &sealed), Ok([3; 32]));
        assert_eq!(key().open_answer(8, &sealed), Err(LegError));
        for at in 0..48 {
            let mut sealed = sealed;
            sealed[at] ^= 1;
            assert_eq!(key().open_answer(9, &sealed), Err(LegError));
        }
    }

    #[test]
    fn preface_and_answer_of_one_counter_use_different_keys() {
        let (preface, answer) = (
            key().seal_preface(1, &[0; 32], &[0; 48]),
            key().seal_answer(1, &[0; 32]),
        );
        assert_ne!(
            preface[..32],
            answer[..32],
            "the same keystream would show here"
        );
    }
}

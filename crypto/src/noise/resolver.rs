//! Every primitive that snow uses, from the libraries that the rest of the crate uses.
//!
//! Two of them are stricter than snow asks for: a Diffie-Hellman result of zero is an error (the
//! peer sent a point of low order, RFC 7748 section 6.1), and randomness is 32 bytes that the
//! caller drew for this one handshake; asking again fails.

use crate::aead::{AeadKey, TAG};
use crate::random::{self, Random};
use crate::suite::Suite;
use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random as SnowRandom};
use std::sync::{Arc, Mutex, PoisonError};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// The randomness of one ephemeral key. Shared, because snow keeps its source while the caller
/// hands in randomness later, with the message that needs it. Never contended.
#[derive(Clone, Default)]
pub(super) struct EphemeralSeed(Arc<Mutex<Option<Zeroizing<[u8; 32]>>>>);

impl EphemeralSeed {
    pub(super) fn load(&self, random: &mut dyn Random) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Zeroizing::new(random::bytes(random)));
    }
}

impl SnowRandom for EphemeralSeed {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let seed = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match seed {
            Some(seed) if seed.len() == dest.len() => {
                dest.copy_from_slice(seed.as_slice());
                Ok(())
            }
            _ => Err(snow::Error::Rng),
        }
    }
}

pub(super) struct Resolver {
    pub(super) suite: Suite,
    pub(super) seed: EphemeralSeed,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn SnowRandom>> {
        Some(Box::new(self.seed.clone()))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519::default())),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::SHA256 => Some(Box::new(Sha256Hash(Sha256::new()))),
            HashChoice::SHA512 | HashChoice::Blake2s | HashChoice::Blake2b => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        let suite = match choice {
            CipherChoice::AESGCM => Suite::AesGcm,
            CipherChoice::ChaChaPoly => Suite::ChaChaPoly,
        };
        (suite == self.suite).then(|| Box::new(NoiseCipher { suite, key: None }) as Box<dyn Cipher>)
    }
}

/// X25519 that refuses a result of zero.
pub(crate) struct X25519 {
    secret: StaticSecret,
    public: [u8; 32],
}

impl Default for X25519 {
    /// Without a key; snow sets or generates one before it uses it.
    fn default() -> X25519 {
        X25519 {
            secret: StaticSecret::from([0; 32]),
            public: [0; 32],
        }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        let secret: [u8; 32] = privkey
            .try_into()
            .expect("keys of this crate have 32 bytes");
        self.secret = StaticSecret::from(secret);
        self.public = PublicKey::from(&self.secret).to_bytes();
    }

    fn generate(&mut self, rng: &mut dyn SnowRandom) -> Result<(), snow::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(seed.as_mut_slice())?;
        self.set(seed.as_slice());
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        // snow hands over its longest key buffer, of which the first 32 bytes are the key.
        let pubkey = pubkey.first_chunk::<32>().ok_or(snow::Error::Dh)?;
        let out = out.first_chunk_mut::<32>().ok_or(snow::Error::Dh)?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(*pubkey));
        if !shared.was_contributory() {
            return Err(snow::Error::Dh);
        }
        *out = *shared.as_bytes();
        Ok(())
    }
}

struct Sha256Hash(Sha256);

impl Hash for Sha256Hash {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(&self.0.finalize_reset());
    }
}

/// The nonce as Noise has it (section 12 of its specification): little-endian for ChaChaPoly,
/// big-endian for AESGCM, behind four zero bytes.
pub(crate) fn noise_nonce(suite: Suite, counter: u64) -> [u8; 12] {
    let counter = match suite {
        Suite::AesGcm => counter.to_be_bytes(),
        Suite::ChaChaPoly => counter.to_le_bytes(),
    };
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter);
    nonce
}

struct NoiseCipher {
    suite: Suite,
    key: Option<AeadKey>,
}

impl Cipher for NoiseCipher {
    fn name(&self) -> &'static str {
        match self.suite {
            Suite::AesGcm => "AESGCM",
            Suite::ChaChaPoly => "ChaChaPoly",
        }
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.key = Some(AeadKey::new(self.suite, key));
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let key = self
            .key
            .as_ref()
            .expect("snow sets a key before it encrypts");
        let (content, rest) = out.split_at_mut(plaintext.len());
        content.copy_from_slice(plaintext);
        let tag = key.seal(noise_nonce(self.suite, nonce), authtext, content);
        rest[..TAG].copy_from_slice(&tag.expect("a Noise message is not too long to seal"));
        plaintext.len() + TAG
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let key = self.key.as_ref().ok_or(snow::Error::Decrypt)?;
        let (content, tag) = ciphertext.split_last_chunk().ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..content.len()).ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(content);
        key.open(noise_nonce(self.suite, nonce), authtext, out, *tag)
            .map_err(|_| snow::Error::Decrypt)?;
        Ok(content.len())
    }
}

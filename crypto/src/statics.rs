//! Noise static keys. A node has one per purpose, each attested by its identity.

use crate::random::{self, Random};
use std::fmt;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// The public half of a [`StaticKeypair`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StaticPublic(pub [u8; 32]);

impl fmt::Debug for StaticPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "StaticPublic({}…)",
            data_encoding::HEXLOWER.encode(&self.0[..4])
        )
    }
}

/// An X25519 key pair.
pub struct StaticKeypair {
    secret: StaticSecret,
    public: StaticPublic,
}

impl StaticKeypair {
    /// A new pair drawn from `random`.
    pub fn generate(random: &mut dyn Random) -> StaticKeypair {
        StaticKeypair::from_secret(&Zeroizing::new(random::bytes(random)))
    }

    pub(crate) fn from_secret(secret: &[u8; 32]) -> StaticKeypair {
        let secret = StaticSecret::from(*secret);
        let public = StaticPublic(PublicKey::from(&secret).to_bytes());
        StaticKeypair { secret, public }
    }

    /// The public key.
    pub fn public(&self) -> StaticPublic {
        self.public
    }

    pub(crate) fn secret_bytes(&self) -> &[u8; 32] {
        self.secret.as_bytes()
    }
}

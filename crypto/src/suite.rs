//! Cipher suites and how two ends agree on one.

use std::fmt;

/// A cipher suite that this build implements. 3 and 4 are reserved for the post-quantum hybrids
/// of 1 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Suite {
    /// `Noise_XX_25519_AESGCM_SHA256` and AES-256-GCM records.
    AesGcm = 1,
    /// `Noise_XX_25519_ChaChaPoly_SHA256` and ChaCha20-Poly1305 records.
    ChaChaPoly = 2,
}

impl Suite {
    /// All of them, the preferred first. The hybrids (3, 4) go before these when they come.
    const BY_PREFERENCE: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];

    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The suite of a number, or nothing if this build does not have it.
    pub fn from_number(number: u8) -> Option<Suite> {
        Suite::BY_PREFERENCE
            .into_iter()
            .find(|suite| suite.number() == number)
    }

    /// Its name in the Noise specification.
    pub const fn noise_name(self) -> &'static str {
        match self {
            Suite::AesGcm => "Noise_XX_25519_AESGCM_SHA256",
            Suite::ChaChaPoly => "Noise_XX_25519_ChaChaPoly_SHA256",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.noise_name())
    }
}

/// A set of suites: bit `n − 1` stands for suite `n`. Unknown bits may be set by a newer peer;
/// they match nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SuiteMask(pub u16);

impl SuiteMask {
    /// No suite.
    pub const NONE: SuiteMask = SuiteMask(0);

    /// This set and `suite`.
    #[must_use]
    pub const fn with(self, suite: Suite) -> SuiteMask {
        SuiteMask(self.0 | 1 << (suite.number() - 1))
    }

    /// Whether `suite` is in it.
    pub const fn has(self, suite: Suite) -> bool {
        self.0 & 1 << (suite.number() - 1) != 0
    }

    /// The suites in both.
    #[must_use]
    pub const fn and(self, other: SuiteMask) -> SuiteMask {
        SuiteMask(self.0 & other.0)
    }
}

/// The first of 3, 4, 1, 2 that both ends offer. The inlet chooses by it, and each end
/// recomputes it from the masks that the handshake authenticates.
pub fn preferred(local: SuiteMask, remote: SuiteMask) -> Option<Suite> {
    let both = local.and(remote);
    Suite::BY_PREFERENCE
        .into_iter()
        .find(|suite| both.has(*suite))
}

/// What this machine offers: suite 2 always, suite 1 where the processor has instructions for
/// AES and carry-less multiplication (without them AES-GCM is slow, or leaks through the cache).
pub fn local_mask() -> SuiteMask {
    let mask = SuiteMask::NONE.with(Suite::ChaChaPoly);
    if has_aes_instructions() {
        mask.with(Suite::AesGcm)
    } else {
        mask
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes_instructions() -> bool {
    std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_is_chosen_only_where_both_ends_offer_it() {
        let both = SuiteMask(0b11);
        let chacha = SuiteMask(0b10);
        assert_eq!(preferred(both, both), Some(Suite::AesGcm));
        assert_eq!(preferred(both, chacha), Some(Suite::ChaChaPoly));
        assert_eq!(preferred(chacha, both), Some(Suite::ChaChaPoly));
        assert_eq!(preferred(SuiteMask(0b01), chacha), None);
    }

    #[test]
    fn suites_that_this_build_lacks_are_never_chosen() {
        assert_eq!(
            preferred(SuiteMask(0xffff), SuiteMask(0xffff)),
            Some(Suite::AesGcm)
        );
        assert_eq!(preferred(SuiteMask(0xfffc), SuiteMask(0xfffc)), None);
        for number in [0, 3, 4, 255] {
            assert_eq!(Suite::from_number(number), None);
        }
    }

    #[test]
    fn this_machine_always_offers_chacha() {
        assert!(local_mask().has(Suite::ChaChaPoly));
    }
}

//! HKDF-SHA256 (RFC 5869), the only way a key is derived from another.

use crate::limits::HKDF_OUTPUT_MAX;
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};

struct OutputLen(usize);

impl KeyType for OutputLen {
    fn len(&self) -> usize {
        self.0
    }
}

/// More output was asked for than HKDF has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutputTooLong;

/// Fills `out` with HKDF(salt, secret, info).
pub(crate) fn hkdf(
    salt: &[u8],
    secret: &[u8],
    info: &[&[u8]],
    out: &mut [u8],
) -> Result<(), OutputTooLong> {
    if out.len() > HKDF_OUTPUT_MAX {
        return Err(OutputTooLong);
    }
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, OutputLen(out.len()))
        .and_then(|okm| okm.fill(out))
        .map_err(|_| OutputTooLong)
}

/// A 32-byte key for the purpose that `info` names.
pub(crate) fn key(salt: &[u8], secret: &[u8], info: &[&[u8]]) -> zeroize::Zeroizing<[u8; 32]> {
    let mut out = zeroize::Zeroizing::new([0; 32]);
    hkdf(salt, secret, info, out.as_mut_slice()).expect("32 bytes are within HKDF's output");
    out
}

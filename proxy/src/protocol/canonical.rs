//! Canonical CBOR for session messages and state files: for every value there is exactly one
//! encoding (RFC 8949, section 4.2.1), and a decoder refuses every other.
//!
//! The rule is kept in the simplest way there is: what was read is written again, and must give
//! the same bytes. Longer heads, indefinite lengths, trailing bytes and repeated elements all
//! fail that comparison. Lengths are bounded by the caller's bound on the whole.

use std::convert::Infallible;

use minicbor::{Decoder, Encoder, decode, encode};

/// Not the canonical encoding of what was expected here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed: not the canonical encoding of what is expected here")]
pub struct NotCanonical;

impl From<decode::Error> for NotCanonical {
    fn from(_: decode::Error) -> Self {
        NotCanonical
    }
}

/// What writing gives back.
pub type Written = Result<(), encode::Error<Infallible>>;

/// Something with one encoding.
pub trait Canonical: Sized {
    /// Writes it.
    ///
    /// # Errors
    /// None: the writer is a vector.
    fn write(&self, to: &mut Encoder<Vec<u8>>) -> Written;

    /// Reads it, leniently: [`from_bytes`] makes up for it.
    ///
    /// # Errors
    /// [`NotCanonical`].
    fn read(from: &mut Decoder<'_>) -> Result<Self, NotCanonical>;
}

/// The bytes of `value`. Room for `room` bytes is there from the start, so that a vector with a
/// secret in it need not grow and leave a copy behind.
pub fn to_bytes<T: Canonical>(value: &T, room: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::with_capacity(room));
    value
        .write(&mut encoder)
        .expect("a vector takes every byte");
    encoder.into_writer()
}

/// Reads the one encoding of a value.
///
/// # Errors
/// [`NotCanonical`] for all other bytes.
pub fn from_bytes<T: Canonical>(bytes: &[u8]) -> Result<T, NotCanonical> {
    let value = T::read(&mut Decoder::new(bytes))?;
    let again = zeroize::Zeroizing::new(to_bytes(&value, bytes.len()));
    if again.as_slice() == bytes {
        Ok(value)
    } else {
        Err(NotCanonical)
    }
}

/// The head of an array that must have `len` elements.
///
/// # Errors
/// [`NotCanonical`] when it has others.
pub fn array(from: &mut Decoder<'_>, len: u64) -> Result<(), NotCanonical> {
    if from.array()? == Some(len) {
        Ok(())
    } else {
        Err(NotCanonical)
    }
}

/// The length of an array of at most `max` elements.
///
/// # Errors
/// [`NotCanonical`] when it has more, or does not say.
pub fn array_up_to(from: &mut Decoder<'_>, max: usize) -> Result<usize, NotCanonical> {
    let len = from.array()?.ok_or(NotCanonical)?;
    usize::try_from(len)
        .ok()
        .filter(|len| *len <= max)
        .ok_or(NotCanonical)
}

/// A byte string of exactly `N` bytes.
///
/// # Errors
/// [`NotCanonical`] when it has others.
pub fn fixed<const N: usize>(from: &mut Decoder<'_>) -> Result<[u8; N], NotCanonical> {
    from.bytes()?.try_into().map_err(|_| NotCanonical)
}

/// A text that `T` accepts.
///
/// # Errors
/// [`NotCanonical`] when it does not.
pub fn text<T: std::str::FromStr>(from: &mut Decoder<'_>) -> Result<T, NotCanonical> {
    from.str()?.parse().map_err(|_| NotCanonical)
}

/// `null`, or something else.
///
/// # Errors
/// Those of `read`.
pub fn optional<'b, T>(
    from: &mut Decoder<'b>,
    read: impl FnOnce(&mut Decoder<'b>) -> Result<T, NotCanonical>,
) -> Result<Option<T>, NotCanonical> {
    if from.datatype()? == minicbor::data::Type::Null {
        from.null()?;
        return Ok(None);
    }
    read(from).map(Some)
}

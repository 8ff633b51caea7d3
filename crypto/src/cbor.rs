//! Canonical CBOR, read strictly: for every value there is exactly one encoding, and anything
//! else is an error (RFC 8949, section 4.2.1: shortest heads, definite lengths, ascending keys).
//!
//! Objects are maps with small integer keys, or arrays where every element is required. Nothing
//! is copied before its length was compared with a bound.

use minicbor::{Decoder, Encoder};
use std::convert::Infallible;

/// Why bytes from outside are not the object they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end in the middle of it.
    #[error("it is cut short")]
    Truncated,
    /// It is over and there are more bytes.
    #[error("bytes follow behind its end")]
    Trailing,
    /// A number or a length has a shorter encoding.
    #[error("a number is not in its shortest form")]
    NonMinimal,
    /// A length is left open.
    #[error("a length is indefinite")]
    Indefinite,
    /// Another type of value was expected.
    #[error("a value has the wrong type")]
    WrongType,
    /// A key that this version does not know.
    #[error("key {0} is unknown")]
    UnknownKey(u64),
    /// A key that came before, or out of order.
    #[error("key {0} is repeated or out of order")]
    RepeatedKey(u64),
    /// A key that must be there.
    #[error("key {0} is missing")]
    MissingKey(u64),
    /// Longer than its bound, or not of its one length.
    #[error("{0} has the wrong length")]
    Length(&'static str),
    /// Well-formed, and not a value that is allowed here.
    #[error("{0} is not valid")]
    Value(&'static str),
}

/// A strict reader over one object.
pub(crate) struct Reader<'b>(Decoder<'b>);

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const SIMPLE: u8 = 7;

/// How many bytes the shortest head of argument `n` has.
const fn head_len(n: u64) -> usize {
    match n {
        0..24 => 1,
        24..0x100 => 2,
        0x100..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    }
}

impl<'b> Reader<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Reader<'b> {
        Reader(Decoder::new(bytes))
    }

    /// The major type of the next value.
    fn major(&self) -> Result<u8, DecodeError> {
        let first = self
            .0
            .input()
            .get(self.0.position())
            .ok_or(DecodeError::Truncated)?;
        Ok(first >> 5)
    }

    /// Refuses another major type and an indefinite length before anything is read.
    fn expect(&self, major: u8) -> Result<usize, DecodeError> {
        let start = self.0.position();
        let first = self.0.input().get(start).ok_or(DecodeError::Truncated)?;
        if first >> 5 != major {
            return Err(DecodeError::WrongType);
        }
        match first & 0x1f {
            31 => Err(DecodeError::Indefinite),
            28..=30 => Err(DecodeError::WrongType),
            _ => Ok(start),
        }
    }

    /// Refuses a head longer than it had to be; `body` bytes were read behind it.
    fn minimal(&self, start: usize, argument: u64, body: usize) -> Result<(), DecodeError> {
        let head = self.0.position() - start - body;
        if head == head_len(argument) {
            Ok(())
        } else {
            Err(DecodeError::NonMinimal)
        }
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        let start = self.expect(UNSIGNED)?;
        let value = self.0.u64().map_err(|_| DecodeError::Truncated)?;
        self.minimal(start, value, 0)?;
        Ok(value)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        u16::try_from(self.u64()?).map_err(|_| DecodeError::Value(what))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        u8::try_from(self.u64()?).map_err(|_| DecodeError::Value(what))
    }

    /// A byte string of at most `max` bytes, not copied.
    pub(crate) fn bytes(
        &mut self,
        max: usize,
        what: &'static str,
    ) -> Result<&'b [u8], DecodeError> {
        let start = self.expect(BYTES)?;
        let value = self.0.bytes().map_err(|_| DecodeError::Truncated)?;
        self.minimal(start, value.len() as u64, value.len())?;
        if value.len() > max {
            Err(DecodeError::Length(what))
        } else {
            Ok(value)
        }
    }

    /// A byte string of exactly `N` bytes.
    pub(crate) fn fixed<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        self.bytes(N, what)?
            .try_into()
            .map_err(|_| DecodeError::Length(what))
    }

    /// A text that `T` accepts.
    pub(crate) fn text<T: TryFrom<&'b str>>(
        &mut self,
        what: &'static str,
    ) -> Result<T, DecodeError> {
        let start = self.expect(TEXT)?;
        let value = self.0.str().map_err(|e| {
            if e.is_end_of_input() {
                DecodeError::Truncated
            } else {
                DecodeError::Value(what)
            }
        })?;
        self.minimal(start, value.len() as u64, value.len())?;
        T::try_from(value).map_err(|_| DecodeError::Value(what))
    }

    /// The number of elements of an array, at most `max`.
    pub(crate) fn array(&mut self, max: usize, what: &'static str) -> Result<usize, DecodeError> {
        let start = self.expect(ARRAY)?;
        let len = self.0.array().map_err(|_| DecodeError::Truncated)?;
        let len = len.ok_or(DecodeError::Indefinite)?;
        self.minimal(start, len, 0)?;
        let len = usize::try_from(len).map_err(|_| DecodeError::Length(what))?;
        if len > max {
            Err(DecodeError::Length(what))
        } else {
            Ok(len)
        }
    }

    /// An array of exactly `len` elements.
    pub(crate) fn tuple(&mut self, len: usize, what: &'static str) -> Result<(), DecodeError> {
        if self.array(len, what)? == len {
            Ok(())
        } else {
            Err(DecodeError::Length(what))
        }
    }

    /// Whether the next value is an array.
    pub(crate) fn at_array(&self) -> Result<bool, DecodeError> {
        Ok(self.major()? == ARRAY)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        self.expect(SIMPLE)?;
        self.0.bool().map_err(|_| DecodeError::WrongType)
    }

    /// Begins a map; its keys are then asked for in ascending order.
    pub(crate) fn map(&mut self) -> Result<Keys, DecodeError> {
        let start = self.expect(MAP)?;
        let left = self.0.map().map_err(|_| DecodeError::Truncated)?;
        let left = left.ok_or(DecodeError::Indefinite)?;
        self.minimal(start, left, 0)?;
        Ok(Keys { left, last: None })
    }

    /// The object must be over here.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        let rest = self.0.input().len() - self.0.position();
        if rest == 0 {
            Ok(())
        } else {
            Err(DecodeError::Trailing)
        }
    }
}

/// The keys of a map that is being read. It borrows nothing, so that the reader stays free for
/// the values.
pub(crate) struct Keys {
    left: u64,
    last: Option<u64>,
}

impl Keys {
    fn next(&mut self, reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
        let key = reader.u64()?;
        if self.last.is_some_and(|last| key <= last) {
            return Err(DecodeError::RepeatedKey(key));
        }
        self.left -= 1;
        self.last = Some(key);
        Ok(key)
    }

    /// The next key must be `key`.
    pub(crate) fn required(
        &mut self,
        reader: &mut Reader<'_>,
        key: u64,
    ) -> Result<(), DecodeError> {
        if self.left == 0 {
            return Err(DecodeError::MissingKey(key));
        }
        let found = self.next(reader)?;
        match found.cmp(&key) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(DecodeError::UnknownKey(found)),
            std::cmp::Ordering::Greater => Err(DecodeError::MissingKey(key)),
        }
    }

    /// Reads the next key if it is `key`.
    pub(crate) fn optional(
        &mut self,
        reader: &mut Reader<'_>,
        key: u64,
    ) -> Result<bool, DecodeError> {
        if self.left == 0 {
            return Ok(false);
        }
        let position = reader.0.position();
        let found = reader.u64()?;
        reader.0.set_position(position);
        if found != key {
            return Ok(false);
        }
        self.next(reader)?;
        Ok(true)
    }

    /// No key may be left.
    pub(crate) fn end(mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if self.left == 0 {
            return Ok(());
        }
        Err(DecodeError::UnknownKey(self.next(reader)?))
    }
}

/// Writes canonical CBOR, if maps are written in the order of their keys.
pub(crate) struct Writer(Encoder<Vec<u8>>);

fn sure<T>(written: Result<T, minicbor::encode::Error<Infallible>>) {
    written.map(drop).expect("a vector takes every byte");
}

impl Writer {
    /// With room for `capacity` bytes: a writer of secrets must never move what it holds.
    pub(crate) fn with_capacity(capacity: usize) -> Writer {
        Writer(Encoder::new(Vec::with_capacity(capacity)))
    }

    pub(crate) fn new() -> Writer {
        Writer::with_capacity(256)
    }

    pub(crate) fn map(&mut self, len: u64) -> &mut Writer {
        sure(self.0.map(len));
        self
    }

    pub(crate) fn array(&mut self, len: usize) -> &mut Writer {
        sure(self.0.array(len as u64));
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Writer {
        sure(self.0.u64(value));
        self
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Writer {
        sure(self.0.bytes(value));
        self
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Writer {
        sure(self.0.str(value));
        self
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Writer {
        sure(self.0.bool(value));
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_writer()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

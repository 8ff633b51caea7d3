//! Reading and writing fixed binary layouts over slices: bounded, big-endian, without a panic.
//!
//! A reader hands out what it was asked for or says that it is not there; [`Reader::finish`]
//! refuses what is left over, so that every message has exactly one length.

/// Why bytes are not the message they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end in the middle of it.
    #[error("it is cut short")]
    Truncated,
    /// It is over and there are more bytes.
    #[error("bytes follow behind its end")]
    Trailing,
    /// Well-formed, and not a value that is allowed here.
    #[error("{0} is not valid")]
    Value(&'static str),
    /// Writing: the space is too small.
    #[error("there is no room for it")]
    NoRoom,
}

/// Reads from the front of a slice. Nothing is copied before its length was compared with what
/// is there.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] when there are fewer.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(CodecError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] when there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(CodecError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        self.array().map(u8::from_be_bytes)
    }

    /// The next two bytes as a number.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn u16(&mut self) -> Result<u16, CodecError> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next four bytes as a number.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next eight bytes as a number.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_be_bytes)
    }

    /// `len` bytes that must all be zero: room for later versions.
    ///
    /// # Errors
    /// [`CodecError::Value`] with `what` when one is not, [`CodecError::Truncated`].
    pub fn zeros(&mut self, len: usize, what: &'static str) -> Result<(), CodecError> {
        if self.bytes(len)?.iter().all(|&b| b == 0) {
            Ok(())
        } else {
            Err(CodecError::Value(what))
        }
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The message must be over here.
    ///
    /// # Errors
    /// [`CodecError::Trailing`].
    pub fn finish(self) -> Result<(), CodecError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(CodecError::Trailing)
        }
    }
}

/// Writes into a slice from its front.
#[derive(Debug)]
pub struct Writer<'a> {
    space: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Begins at the first byte of `space`.
    pub fn new(space: &'a mut [u8]) -> Self {
        Writer { space, len: 0 }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`CodecError::NoRoom`]; nothing was written then.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        let end = self
            .len
            .checked_add(bytes.len())
            .ok_or(CodecError::NoRoom)?;
        self.space
            .get_mut(self.len..end)
            .ok_or(CodecError::NoRoom)?
            .copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Appends a byte.
    ///
    /// # Errors
    /// [`CodecError::NoRoom`].
    pub fn u8(&mut self, value: u8) -> Result<(), CodecError> {
        self.bytes(&[value])
    }

    /// Appends two bytes.
    ///
    /// # Errors
    /// [`CodecError::NoRoom`].
    pub fn u16(&mut self, value: u16) -> Result<(), CodecError> {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends four bytes.
    ///
    /// # Errors
    /// [`CodecError::NoRoom`].
    pub fn u32(&mut self, value: u32) -> Result<(), CodecError> {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends eight bytes.
    ///
    /// # Errors
    /// [`CodecError::NoRoom`].
    pub fn u64(&mut self, value: u64) -> Result<(), CodecError> {
        self.bytes(&value.to_be_bytes())
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_to_the_end() {
        let mut space = [0; 18];
        let mut to = Writer::new(&mut space);
        assert!(to.is_empty());
        assert_eq!(
            to.u8(1).and(to.u16(2)).and(to.u32(3)).and(to.u64(4)),
            Ok(())
        );
        assert_eq!(to.bytes(b"abc"), Ok(()));
        assert_eq!(to.len(), 18);
        let mut from = Reader::new(&space);
        assert_eq!(
            (from.u8(), from.u16(), from.u32(), from.u64()),
            (Ok(1), Ok(2), Ok(3), Ok(4))
        );
        assert_eq!((from.left(), from.bytes(3)), (3, Ok(&b"abc"[..])));
        assert_eq!(from.finish(), Ok(()));
    }

    #[test]
    fn a_read_past_the_end_takes_nothing() {
        let mut from = Reader::new(&[1, 2, 3]);
        assert_eq!(from.u32(), Err(CodecError::Truncated));
        assert_eq!(from.bytes(4), Err(CodecError::Truncated));
        assert_eq!(from.u16(), Ok(0x0102));
        assert_eq!(from.finish(), Err(CodecError::Trailing));
        assert_eq!((from.rest(), from.rest()), (&[3][..], &[][..]));
    }

    #[test]
    fn a_write_past_the_end_writes_nothing() {
        let mut space = [0; 3];
        let mut to = Writer::new(&mut space);
        assert_eq!(to.u16(7), Ok(()));
        assert_eq!(to.u16(9), Err(CodecError::NoRoom));
        assert_eq!(to.len(), 2);
        assert_eq!(space, [0, 7, 0]);
    }

    #[test]
    fn reserved_bytes_must_be_zero() {
        assert_eq!(Reader::new(&[0, 0]).zeros(2, "x"), Ok(()));
        assert_eq!(
            Reader::new(&[0, 1]).zeros(2, "x"),
            Err(CodecError::Value("x"))
        );
        assert_eq!(Reader::new(&[0]).zeros(2, "x"), Err(CodecError::Truncated));
    }
}

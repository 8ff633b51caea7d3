//! Cutting a byte stream into the pieces that control expects: a frame (u16 length, big-endian,
//! then that many bytes) or an exact number of bytes. Used by sessions and by handshakes.

use std::ops::Range;

use super::command::Expect;
use crate::limits::FRAME_MAX;

/// Bytes of a frame's length.
pub const FRAME_HEADER: usize = 2;

/// What the bytes received so far begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Nothing is expected: what is there stays there.
    None,
    /// So many bytes more are needed before anything else can be said. At least one.
    Need(usize),
    /// The piece is there.
    Whole {
        /// Where its bytes are, without a length.
        body: Range<usize>,
        /// How many bytes it takes from the front, its length included.
        taken: usize,
    },
}

/// A frame whose length can't be right. Nothing of it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No message is empty.
    #[error("an empty frame")]
    Empty,
    /// Longer than `limits::FRAME_MAX`.
    #[error("a frame of {0} bytes is longer than allowed")]
    TooLong(usize),
}

/// Looks for the piece that `expect` names at the front of `buffered`.
///
/// # Errors
/// [`FrameError`], as soon as the length is there.
pub fn cut(expect: Expect, buffered: &[u8]) -> Result<Piece, FrameError> {
    let (header, len) = match expect {
        Expect::Nothing => return Ok(Piece::None),
        Expect::Exact(len) => (0, usize::from(len)),
        Expect::Frame => match buffered.first_chunk::<FRAME_HEADER>() {
            None => return Ok(Piece::Need(FRAME_HEADER - buffered.len())),
            Some(length) => (FRAME_HEADER, body_len(*length)?),
        },
    };
    let taken = header + len;
    match taken.checked_sub(buffered.len()) {
        None | Some(0) => Ok(Piece::Whole {
            body: header..taken,
            taken,
        }),
        Some(missing) => Ok(Piece::Need(missing)),
    }
}

fn body_len(length: [u8; FRAME_HEADER]) -> Result<usize, FrameError> {
    match usize::from(u16::from_be_bytes(length)) {
        0 => Err(FrameError::Empty),
        len if len > FRAME_MAX => Err(FrameError::TooLong(len)),
        len => Ok(len),
    }
}

/// Appends `body` as a frame.
///
/// # Errors
/// [`FrameError`]; nothing was appended then.
pub fn put(body: &[u8], to: &mut Vec<u8>) -> Result<(), FrameError> {
    let too_long = FrameError::TooLong(body.len());
    let length = u16::try_from(body.len())
        .map_err(|_| too_long)?
        .to_be_bytes();
    body_len(length)?;
    to.extend_from_slice(&length);
    to.extend_from_slice(body);
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_whole_at_its_last_byte_and_not_before() {
        let mut bytes = Vec::new();
        put(b"hello", &mut bytes).unwrap();
        assert_eq!(bytes, b"\0\x05hello");
        bytes.extend_from_slice(b"next");
        assert_eq!(cut(Expect::Frame, &[]), Ok(Piece::Need(2)));
        assert_eq!(cut(Expect::Frame, &bytes[..1]), Ok(Piece::Need(1)));
        for len in 2..7 {
            assert_eq!(cut(Expect::Frame, &bytes[..len]), Ok(Piece::Need(7 - len)));
        }
        let whole = Piece::Whole {
            body: 2..7,
            taken: 7,
        };
        assert_eq!(cut(Expect::Frame, &bytes[..7]), Ok(whole.clone()));
        assert_eq!(cut(Expect::Frame, &bytes), Ok(whole));
    }

    #[test]
    fn an_exact_piece_has_no_length() {
        assert_eq!(cut(Expect::Exact(3), b"ab"), Ok(Piece::Need(1)));
        assert_eq!(
            cut(Expect::Exact(3), b"abcd"),
            Ok(Piece::Whole {
                body: 0..3,
                taken: 3
            })
        );
        assert_eq!(cut(Expect::Nothing, b"abcd"), Ok(Piece::None));
    }

    #[test]
    fn a_length_out_of_bounds_is_refused_at_its_second_byte() {
        assert_eq!(cut(Expect::Frame, &[0, 0]), Err(FrameError::Empty));
        let long = u16::try_from(FRAME_MAX + 1).unwrap().to_be_bytes();
        assert_eq!(
            cut(Expect::Frame, &long),
            Err(FrameError::TooLong(FRAME_MAX + 1))
        );
        let mut to = Vec::new();
        assert_eq!(put(&[], &mut to), Err(FrameError::Empty));
        assert!(put(&vec![0; FRAME_MAX + 1], &mut to).is_err());
        assert!(put(&vec![0; 70_000], &mut to).is_err());
        assert!(to.is_empty());
        assert_eq!(put(&vec![0; FRAME_MAX], &mut to), Ok(()));
    }
}

//! What a completion says about where it belongs: the 64 bits of `user_data`.
//!
//! ```text
//! | sequence 29 bits | cancel 1 bit | side 2 bits | SockRef 32 bits |
//! ```
//! The socket's name carries its generation, and the sequence number tells the requests of one
//! socket apart, so that a completion which outlived its request finds nothing. Side 3 is no
//! socket's: the waker, and commands whose end nobody waits for.

use super::super::op::SockRef;
use super::super::slots::Side;

const SIDE_SHIFT: u32 = 32;
const CANCEL_SHIFT: u32 = 34;
const SEQUENCE_SHIFT: u32 = 35;
/// Sequence numbers wrap after this one.
const SEQUENCE_MASK: u32 = (1 << (64 - SEQUENCE_SHIFT)) - 1;
const NOT_A_SOCKET: u64 = 3;

/// One request of one side of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestId {
    pub(super) name: SockRef,
    pub(super) side: Side,
    pub(super) seq: u32,
}

/// Whose completion it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    /// Of a request.
    Request(RequestId),
    /// Of the attempt to cancel that request.
    Cancel(RequestId),
    /// Of the poll on the waker's eventfd.
    Waker,
    /// Of a command that reports failures only, and whose failure changes nothing.
    Nothing,
}

/// The sequence number after `seq`.
pub(super) fn next(seq: u32) -> u32 {
    seq.wrapping_add(1) & SEQUENCE_MASK
}

impl Id {
    /// As `user_data`.
    pub(super) fn encode(self) -> u64 {
        let of = |r: RequestId, cancel: u64| {
            let side = match r.side {
                Side::In => 0,
                Side::Out => 1,
                Side::Watch => 2,
            };
            u64::from(r.seq & SEQUENCE_MASK) << SEQUENCE_SHIFT
                | cancel << CANCEL_SHIFT
                | side << SIDE_SHIFT
                | u64::from(r.name.0)
        };
        match self {
            Id::Request(r) => of(r, 0),
            Id::Cancel(r) => of(r, 1),
            Id::Waker => NOT_A_SOCKET << SIDE_SHIFT,
            Id::Nothing => NOT_A_SOCKET << SIDE_SHIFT | 1,
        }
    }

    /// From `user_data`.
    pub(super) fn decode(bits: u64) -> Id {
        let low = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
        let side = match bits >> SIDE_SHIFT & 3 {
            0 => Side::In,
            1 => Side::Out,
            2 => Side::Watch,
            _ => return if low == 0 { Id::Waker } else { Id::Nothing },
        };
        let r = RequestId {
            name: SockRef(low),
            side,
            seq: u32::try_from(bits >> SEQUENCE_SHIFT).unwrap_or(0),
        };
        if bits >> CANCEL_SHIFT & 1 == 0 {
            Id::Request(r)
        } else {
            Id::Cancel(r)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_comes_back_as_it_went() {
        for name in [0, 1, 0xf_ffff, 0x1234_5678, u32::MAX] {
            for side in [Side::In, Side::Out, Side::Watch] {
                for seq in [0, 1, SEQUENCE_MASK - 1, SEQUENCE_MASK] {
                    let name = SockRef(name);
                    let r = RequestId { name, side, seq };
                    for id in [Id::Request(r), Id::Cancel(r)] {
                        assert_eq!(Id::decode(id.encode()), id);
                    }
                }
            }
        }
        for id in [Id::Waker, Id::Nothing] {
            assert_eq!(Id::decode(id.encode()), id);
        }
    }

    #[test]
    fn ids_that_differ_in_one_part_differ() {
        let base = RequestId {
            name: SockRef(7),
            side: Side::In,
            seq: 9,
        };
        let mut all = vec![
            Id::Request(base),
            Id::Cancel(base),
            Id::Request(RequestId { seq: 10, ..base }),
            Id::Request(RequestId {
                side: Side::Out,
                ..base
            }),
            Id::Request(RequestId {
                // The next user of the same place of the table.
                name: SockRef(7 | 1 << 20),
                ..base
            }),
            Id::Waker,
            Id::Nothing,
        ];
        let count = all.len();
        all.sort_by_key(|id| id.encode());
        all.dedup_by_key(|id| id.encode());
        assert_eq!(all.len(), count);
    }

    #[test]
    fn sequence_numbers_wrap_within_their_bits() {
        assert_eq!(next(0), 1);
        assert_eq!(next(SEQUENCE_MASK), 0);
    }
}

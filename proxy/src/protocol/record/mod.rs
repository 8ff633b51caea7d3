//! What is inside a record: a header of four bytes and a payload, by type.
//!
//! ```text
//! | length u24 | epoch u8 | type u8 | flags u8 | stream u16 | payload … | tag 16 |
//!  '------ clear -------'  '----------------- sealed ---------------'
//! ```
//!
//! The clear part and the sealing are [`crypto::record`]'s. This module is about the sealed part:
//! [`Header`] says what the record is, [`Body`] what it says. Numbers never change their meaning.
//! A flag, type or value that this version doesn't know is an error, and the lane ends by it.

mod body;

pub use body::{Body, Open, Switch};

use super::codec::CodecError;
use super::command::Role;
use crate::ids::StreamNo;
use crate::limits::RECORD_INNER;

/// What a record is. 23 is reserved for RESUME.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The outlet's first record: policy let the inlet in.
    Ready = 1,
    /// The outlet's first and last record: policy did not.
    Denied = 2,
    /// The inlet asks for a connection to a target.
    Open = 3,
    /// The target is connected.
    Opened = 4,
    /// It is not, and why. The outlet's ABORT.
    Refused = 5,
    /// Bytes of the app or target.
    Data = 6,
    /// So many bytes more may be sent.
    Credit = 7,
    /// A direction's last record here; it goes on elsewhere.
    Switch = 8,
    /// The first record of a direction that comes from elsewhere.
    Continue = 9,
    /// A direction is complete.
    End = 10,
    /// The target's connection is closed, everything written: the number is free.
    Closed = 11,
    /// The stream is reset.
    Abort = 12,
    /// A direction on a circuit stops before its end.
    Cut = 13,
    /// The outlet asks for warm circuits.
    Want = 14,
    /// No new streams on this lane.
    Retire = 15,
    /// The last record under this key.
    KeyUpdate = 16,
    /// One message of a fresh handshake.
    KeyExchange = 17,
    /// The outlet can open records under the mixed key.
    KeyReady = 18,
    /// A renewed credential.
    Credential = 19,
    /// Asks for a PONG.
    Ping = 20,
    /// Answers a PING.
    Pong = 21,
    /// A run on a circuit was read to its end: its direction may be used again.
    Ack = 22,
}

/// OPEN's flag for a stream that wants circuits of its own from its first byte.
pub const FLAG_DEDICATED: u8 = 1;

/// What a record's `stream` may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The lane: 0.
    Lane,
    /// A stream: not 0.
    Stream,
}

impl Kind {
    /// All kinds, by number.
    pub const ALL: [Kind; 22] = [
        Kind::Ready,
        Kind::Denied,
        Kind::Open,
        Kind::Opened,
        Kind::Refused,
        Kind::Data,
        Kind::Credit,
        Kind::Switch,
        Kind::Continue,
        Kind::End,
        Kind::Closed,
        Kind::Abort,
        Kind::Cut,
        Kind::Want,
        Kind::Retire,
        Kind::KeyUpdate,
        Kind::KeyExchange,
        Kind::KeyReady,
        Kind::Credential,
        Kind::Ping,
        Kind::Pong,
        Kind::Ack,
    ];

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Whether it is about the lane or about one stream.
    pub const fn about(self) -> About {
        match self {
            Kind::Ready | Kind::Denied | Kind::Want | Kind::Retire => About::Lane,
            Kind::KeyUpdate | Kind::KeyExchange | Kind::KeyReady => About::Lane,
            Kind::Credential | Kind::Ping | Kind::Pong | Kind::Ack => About::Lane,
            Kind::Open | Kind::Opened | Kind::Refused | Kind::Data | Kind::Credit => About::Stream,
            Kind::Switch | Kind::Continue | Kind::Cut => About::Stream,
            Kind::End | Kind::Closed | Kind::Abort => About::Stream,
        }
    }

    /// The only end that sends it; `None` when both do.
    pub const fn sender(self) -> Option<Role> {
        match self {
            Kind::Open => Some(Role::Inlet),
            Kind::Ready | Kind::Denied | Kind::Opened | Kind::Refused => Some(Role::Outlet),
            Kind::Closed | Kind::Want | Kind::KeyReady => Some(Role::Outlet),
            Kind::Data | Kind::Credit | Kind::Switch | Kind::Continue | Kind::End => None,
            Kind::Abort | Kind::Cut | Kind::Retire | Kind::KeyUpdate | Kind::KeyExchange => None,
            Kind::Credential | Kind::Ping | Kind::Pong | Kind::Ack => None,
        }
    }

    /// The flags it may carry.
    const fn flags(self) -> u8 {
        if matches!(self, Kind::Open) {
            FLAG_DEDICATED
        } else {
            0
        }
    }
}

/// A record's inner header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the record is.
    pub kind: Kind,
    /// Only those that `kind` knows.
    pub flags: u8,
    /// Which stream it is about; 0 for the lane.
    pub stream: StreamNo,
}

impl Header {
    /// A header without flags.
    pub const fn new(kind: Kind, stream: StreamNo) -> Header {
        Header {
            kind,
            flags: 0,
            stream,
        }
    }

    /// Its four bytes.
    pub const fn encode(self) -> [u8; RECORD_INNER] {
        let [high, low] = self.stream.0.to_be_bytes();
        [self.kind as u8, self.flags, high, low]
    }

    /// Reads four bytes.
    ///
    /// # Errors
    /// [`CodecError::Value`] for an unknown type, an unknown flag, or a stream number where the
    /// lane is meant and the other way round.
    pub fn parse(bytes: [u8; RECORD_INNER]) -> Result<Header, CodecError> {
        let [number, flags, high, low] = bytes;
        let kind = Kind::from_number(number).ok_or(CodecError::Value("the record's type"))?;
        if flags & !kind.flags() != 0 {
            return Err(CodecError::Value("a flag of the record"));
        }
        let stream = StreamNo(u16::from_be_bytes([high, low]));
        let about = if stream == StreamNo::LANE {
            About::Lane
        } else {
            About::Stream
        };
        if about != kind.about() {
            return Err(CodecError::Value("the record's stream"));
        }
        Ok(Header {
            kind,
            flags,
            stream,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_kinds_are_these() {
        let numbers: Vec<u8> = Kind::ALL.iter().map(|&kind| kind as u8).collect();
        assert_eq!(numbers, (1..=22).collect::<Vec<u8>>());
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind as u8), Some(kind));
        }
        for number in [0, 23, 24, 255] {
            assert_eq!(Kind::from_number(number), None);
        }
    }

    #[test]
    fn every_four_bytes_are_refused_or_the_one_spelling_of_a_header() {
        for first in 0..=u16::MAX {
            let [number, flags] = first.to_be_bytes();
            for stream in [0, 1, 255, 256, u16::MAX] {
                let [high, low] = u16::to_be_bytes(stream);
                let bytes = [number, flags, high, low];
                if let Ok(header) = Header::parse(bytes) {
                    assert_eq!(header.encode(), bytes);
                    assert_eq!(header.kind.about() == About::Lane, stream == 0);
                }
            }
        }
    }

    #[test]
    fn only_open_has_a_flag() {
        for kind in Kind::ALL {
            let stream = StreamNo(u16::from(kind.about() == About::Stream));
            let plain = Header::new(kind, stream);
            assert_eq!(Header::parse(plain.encode()).unwrap(), plain);
            for bit in 0..8 {
                let flagged = Header {
                    flags: 1 << bit,
                    ..plain
                };
                let allowed = kind == Kind::Open && bit == 0;
                assert_eq!(
                    Header::parse(flagged.encode()).is_ok(),
                    allowed,
                    "{kind:?} {bit}"
                );
            }
        }
    }
}

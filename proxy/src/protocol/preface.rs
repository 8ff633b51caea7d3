//! The eight clear bytes that begin every connection to a public port.
//!
//! ```text
//! | 'A' 'D' 'I' 'T' | version, 1 | kind | 0 | 0 |
//! ```
//!
//! They are authenticated later: a session's prologue begins with them, a leg's AEAD covers them.
//! The kind `circuit` is never sent; it stands in the prologue of a circuit's handshake, so that
//! no handshake of one kind can be taken for another.

use super::codec::{CodecError, Reader};
use crate::error::CloseReason;
use crate::limits::PREFACE;

/// First bytes of every connection.
pub const MAGIC: [u8; 4] = *b"ADIT";
/// The protocol's version.
pub const VERSION: u8 = 1;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A node talks to the authority.
    AuthoritySession = 1,
    /// A node talks to a relay.
    RelaySession = 2,
    /// One TCP connection of a circuit; 88 more bytes of preface follow.
    Leg = 3,
    /// A circuit's handshake, end to end. In prologues only.
    Circuit = 4,
}

/// A preface that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preface {
    /// What the connection is for.
    pub kind: Kind,
}

/// Why a connection's first bytes are no preface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefaceError {
    /// An HTTP client, by mistake.
    #[error("this is an HTTP request; adit speaks its own protocol on this port")]
    Http,
    /// A TLS client, by mistake.
    #[error("this is a TLS handshake; adit speaks its own protocol on this port, without TLS")]
    Tls,
    /// Something else.
    #[error("these are not the first bytes of an adit connection")]
    NotAdit,
    /// A newer (or damaged) adit.
    #[error("protocol version {0} is not supported here, only 1")]
    Version(u8),
    /// A kind that doesn't exist, or one that is never sent.
    #[error("connection kind {0} is not known")]
    Kind(u8),
}

impl PrefaceError {
    /// The reason under which the connection is closed.
    pub fn reason(self) -> CloseReason {
        match self {
            PrefaceError::Http => CloseReason::HttpByMistake,
            PrefaceError::Tls => CloseReason::TlsByMistake,
            PrefaceError::NotAdit => CloseReason::NotAdit,
            PrefaceError::Version(_) => CloseReason::BadVersion,
            PrefaceError::Kind(_) => CloseReason::Malformed,
        }
    }
}

impl Kind {
    fn from_number(number: u8) -> Option<Kind> {
        [
            Kind::AuthoritySession,
            Kind::RelaySession,
            Kind::Leg,
            Kind::Circuit,
        ]
        .into_iter()
        .find(|&kind| kind as u8 == number)
    }
}

impl Preface {
    /// The bytes for a connection of this kind.
    pub const fn bytes(kind: Kind) -> [u8; PREFACE] {
        let [a, b, c, d] = MAGIC;
        [a, b, c, d, VERSION, kind as u8, 0, 0]
    }

    /// Reads the first eight bytes of a connection.
    ///
    /// # Errors
    /// [`PrefaceError`]; the connection is closed without an answer.
    pub fn parse(bytes: &[u8; PREFACE]) -> Result<Preface, PrefaceError> {
        let mut from = Reader::new(bytes);
        let whole = |_: CodecError| PrefaceError::NotAdit;
        if from.array().map_err(whole)? != MAGIC {
            return Err(guess(bytes));
        }
        let version = from.u8().map_err(whole)?;
        if version != VERSION {
            return Err(PrefaceError::Version(version));
        }
        let number = from.u8().map_err(whole)?;
        let kind = Kind::from_number(number).filter(|&kind| kind != Kind::Circuit);
        let kind = kind.ok_or(PrefaceError::Kind(number))?;
        from.zeros(2, "the preface's end").map_err(whole)?;
        Ok(Preface { kind })
    }
}

/// Who else may have called, for a hint in the log.
fn guess(bytes: &[u8; PREFACE]) -> PrefaceError {
    // Each is as long as it takes to tell it from others, and at most a preface. The last is
    // how HTTP/2 begins.
    const BEGINNINGS: [&[u8]; 10] = [
        b"GET ",
        b"PUT ",
        b"HEAD ",
        b"POST ",
        b"PATCH ",
        b"TRACE ",
        b"DELETE ",
        b"CONNECT ",
        b"OPTIONS ",
        b"PRI * HT",
    ];
    if BEGINNINGS.iter().any(|method| bytes.starts_with(method)) {
        PrefaceError::Http
    } else if bytes.starts_with(&[0x16, 0x03]) {
        PrefaceError::Tls
    } else {
        PrefaceError::NotAdit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_is_sent_is_read_back() {
        for kind in [Kind::AuthoritySession, Kind::RelaySession, Kind::Leg] {
            assert_eq!(Preface::parse(&Preface::bytes(kind)), Ok(Preface { kind }));
        }
    }

    #[test]
    fn a_circuits_preface_is_for_prologues_only() {
        let bytes = Preface::bytes(Kind::Circuit);
        assert_eq!(bytes, *b"ADIT\x01\x04\0\0");
        assert_eq!(Preface::parse(&bytes), Err(PrefaceError::Kind(4)));
    }

    #[test]
    fn other_versions_kinds_and_reserved_bytes_are_refused() {
        for (bytes, error, reason) in [
            (
                b"ADIT\x02\x01\0\0",
                PrefaceError::Version(2),
                CloseReason::BadVersion,
            ),
            (
                b"ADIT\x01\x00\0\0",
                PrefaceError::Kind(0),
                CloseReason::Malformed,
            ),
            (
                b"ADIT\x01\x09\0\0",
                PrefaceError::Kind(9),
                CloseReason::Malformed,
            ),
            (
                b"ADIT\x01\x01\x01\0",
                PrefaceError::NotAdit,
                CloseReason::NotAdit,
            ),
            (
                b"ADIT\x01\x01\0\x01",
                PrefaceError::NotAdit,
                CloseReason::NotAdit,
            ),
            (
                b"ADIX\x01\x01\0\0",
                PrefaceError::NotAdit,
                CloseReason::NotAdit,
            ),
        ] {
            assert_eq!(Preface::parse(bytes), Err(error));
            assert_eq!(error.reason(), reason);
        }
    }

    #[test]
    fn http_and_tls_clients_get_a_hint_of_their_own() {
        assert_eq!(Preface::parse(b"GET / HT"), Err(PrefaceError::Http));
        assert_eq!(Preface::parse(b"OPTIONS "), Err(PrefaceError::Http));
        assert_eq!(Preface::parse(b"PRI * HT"), Err(PrefaceError::Http));
        assert_eq!(
            Preface::parse(b"\x16\x03\x01\x02\0\x01\0\x01"),
            Err(PrefaceError::Tls)
        );
        assert!(PrefaceError::Tls.to_string().contains("TLS"));
        assert_eq!(PrefaceError::Http.reason(), CloseReason::HttpByMistake);
        assert_eq!(PrefaceError::Tls.reason(), CloseReason::TlsByMistake);
    }
}

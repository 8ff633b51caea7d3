//! A chain of hashes over rows: each row's hash covers the row and the hash before it, so a row that
//! is altered, taken out or moved no longer fits, nor does anything behind it.
//!
//! ```text
//! hash of a row = SHA-256(adit-chain-v1 ‖ hash of the row before ‖ (length, 8 ‖ field) for each field)
//! ```
//! There is no key in it: who can write all rows can make another chain that fits. Who has noted the hash
//! of a row elsewhere tells the two apart (RFC 9162 calls such a note a tree head).

use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// The hash of a row. Written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash(pub [u8; 32]);

/// A text that is no [`ChainHash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash has 64 digits of 0-9 and a-f")]
pub struct ChainHashError;

impl ChainHash {
    /// What the first row covers.
    pub const START: ChainHash = ChainHash([0; 32]);

    /// The hash of the row behind this one. Other fields, or as many bytes cut into other fields, have
    /// another hash.
    #[must_use]
    pub fn next<'a>(&self, fields: impl IntoIterator<Item = &'a [u8]>) -> ChainHash {
        let mut hash = Sha256::new_with_prefix(b"adit-chain-v1");
        hash.update(self.0);
        for field in fields {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        ChainHash(hash.finalize().into())
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ChainHash {
    type Err = ChainHashError;

    fn from_str(text: &str) -> Result<ChainHash, ChainHashError> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes());
        let bytes = bytes.map_err(|_| ChainHashError)?;
        bytes.try_into().map(ChainHash).map_err(|_| ChainHashError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chained(rows: &[&[&[u8]]]) -> ChainHash {
        let next = |hash: ChainHash, row: &&[&[u8]]| hash.next(row.iter().copied());
        rows.iter().fold(ChainHash::START, next)
    }

    #[test]
    fn what_is_covered_and_where_fields_end_makes_a_difference() {
        let whole = chained(&[&[b"ab", b"c"], &[b"d"]]);
        let others: [&[&[&[u8]]]; 6] = [
            &[&[b"a", b"bc"], &[b"d"]],
            &[&[b"d"], &[b"ab", b"c"]],
            &[&[b"ab", b"c"]],
            &[&[b"d"]],
            &[&[b"ab", b"c"], &[b"e"]],
            &[&[b"ab", b"c", b"d"]],
        ];
        for other in others {
            assert_ne!(chained(other), whole, "{other:?}");
        }
        assert_eq!(chained(&[&[b"ab", b"c"], &[b"d"]]), whole);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let hash = chained(&[&[b"a"]]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for bad in ["", "00", &hash.to_string().to_uppercase(), &"0".repeat(66)] {
            assert_eq!(bad.parse::<ChainHash>(), Err(ChainHashError), "{bad}");
        }
    }
}

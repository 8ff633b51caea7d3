//! Ids: who somebody is, for machines.

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// The id of an identity: SHA-256(`adit-id-v1` ‖ its first public key). A project's id is the id
/// of its authority. Written as `I` and 52 lower-case base32 characters (RFC 4648, no padding).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 32]);

/// A text that is no [`Id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is the letter I followed by 52 characters of a-z and 2-7")]
pub struct IdError;

impl Id {
    /// The id of the identity whose first public key this is.
    pub fn of_first_key(key: &[u8; 32]) -> Id {
        let mut hash = Sha256::new_with_prefix(b"adit-id-v1");
        hash.update(key);
        Id(hash.finalize().into())
    }

    /// Its first 8 characters and `…`, for logs. Not unique: never compare or parse it.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text.push('…');
        text
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}", BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Id, IdError> {
        let digits = text.strip_prefix('I').ok_or(IdError)?;
        if digits.len() != 52 || digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(IdError);
        }
        let bytes = BASE32_NOPAD
            .decode(digits.to_ascii_uppercase().as_bytes())
            .map_err(|_| IdError)?;
        bytes.try_into().map(Id).map_err(|_| IdError)
    }
}

impl TryFrom<&str> for Id {
    type Error = IdError;

    fn try_from(text: &str) -> Result<Id, IdError> {
        text.parse()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes: [u8; 32]) {
            let text = Id(bytes).to_string();
            prop_assert_eq!(text.len(), 53);
            prop_assert_eq!(text.parse::<Id>().unwrap(), Id(bytes));
        }

        #[test]
        fn any_text_is_refused_or_is_the_one_spelling(text in "I[a-z2-7A-Z=1]{50,54}") {
            if let Ok(id) = text.parse::<Id>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let good = Id([0xa5; 32]).to_string();
        for bad in [
            "",
            "I",
            &good[1..],
            &good[..52],
            &format!("{good}a"),
            &good.to_uppercase(),
            &format!("i{}", &good[1..]),
            &format!("{}b", &good[..52]),
        ] {
            assert_eq!(bad.parse::<Id>(), Err(IdError), "{bad}");
        }
    }

    #[test]
    fn the_short_form_is_eight_characters() {
        assert_eq!(Id([0; 32]).short(), "Iaaaaaaa…");
    }
}

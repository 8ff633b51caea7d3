//! Names for humans, and the other short texts that credentials and tickets carry.
//!
//! Each type can only hold a checked text: bounded, of a small alphabet (attribute values:
//! UTF-8 without control characters), so it may be stored, logged and shown as it is.

use crate::limits::{
    ATTRIBUTE_VALUE_MAX, ATTRIBUTES_MAX, HOST_MAX, HOST_PORT_MAX, NAME_MAX, RELAY_ADDRESS_MAX,
};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A text that is not what it should be. It says what was expected and never repeats the text,
/// which may hold anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a [`Name`].
    #[error(
        "a name has 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-', and begins with a letter or digit"
    )]
    Name,
    /// Not an [`AttributeValue`].
    #[error("an attribute value has 1 to 256 bytes of UTF-8 without control characters")]
    AttributeValue,
    /// More than 32 [`Attributes`].
    #[error("a member has at most 32 attributes")]
    TooManyAttributes,
    /// Not a [`RelayAddress`].
    #[error(
        "a relay address has 1 to 63 characters of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit"
    )]
    RelayAddress,
    /// A relay address with `@` that adit does not know.
    #[error("relay addresses that begin with '@' are reserved, and the only one is @authority")]
    ReservedAddress,
    /// Not a [`HostPort`].
    #[error(
        "an address is HOST:PORT, where HOST is a DNS name, an IPv4 address or an IPv6 address in brackets, and PORT is 1 to 65535"
    )]
    HostPort,
}

macro_rules! checked_text {
    ($type:ident, $check:expr) => {
        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<$type, NameError> {
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(text)?;
                Ok($type(text.into()))
            }
        }

        impl TryFrom<&str> for $type {
            type Error = NameError;

            fn try_from(text: &str) -> Result<$type, NameError> {
                text.parse()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// The name of a member, a project or an attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

checked_text!(Name, |text| {
    let mut bytes = text.bytes();
    let first_fits = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest_fits = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if first_fits && rest_fits && text.len() <= NAME_MAX {
        Ok(())
    } else {
        Err(NameError::Name)
    }
});

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeValue(Box<str>);

checked_text!(AttributeValue, |text| {
    let length_fits = (1..=ATTRIBUTE_VALUE_MAX).contains(&text.len());
    if length_fits && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(NameError::AttributeValue)
    }
});

/// What the authority attests of a member: at most 32 names with a value each, in name order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<Name, AttributeValue>);

impl Attributes {
    /// No attributes.
    pub fn new() -> Attributes {
        Attributes::default()
    }

    /// Adds an attribute; one of the same name is replaced.
    ///
    /// # Errors
    /// [`NameError::TooManyAttributes`] when there are 32 of other names.
    pub fn insert(&mut self, name: Name, value: AttributeValue) -> Result<(), NameError> {
        if self.0.len() >= ATTRIBUTES_MAX && !self.0.contains_key(&name) {
            return Err(NameError::TooManyAttributes);
        }
        self.0.insert(name, value);
        Ok(())
    }

    /// The value of `name`, if the member has it.
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        // At most 32 entries: a walk is as good as a second key type for the map.
        self.0
            .iter()
            .find(|(held, _)| held.as_str() == name)
            .map(|(_, value)| value)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &AttributeValue)> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What an outlet serves at a relay and an inlet asks for, such as `postgres`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayAddress(Box<str>);

/// Where an authority without a public address parks.
const AUTHORITY_ADDRESS: &str = "@authority";

checked_text!(RelayAddress, |text| {
    if text.starts_with('@') {
        return if text == AUTHORITY_ADDRESS {
            Ok(())
        } else {
            Err(NameError::ReservedAddress)
        };
    }
    let mut bytes = text.bytes();
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let first_fits = bytes.next().is_some_and(alphanumeric);
    let rest_fits = bytes.all(|b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'));
    if first_fits && rest_fits && text.len() <= RELAY_ADDRESS_MAX {
        Ok(())
    } else {
        Err(NameError::RelayAddress)
    }
});

impl RelayAddress {
    /// The reserved address of the project's authority.
    pub fn authority() -> RelayAddress {
        RelayAddress(AUTHORITY_ADDRESS.into())
    }

    /// Whether no credential can permit it.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('@')
    }
}

/// Where a relay or an authority is reached: a host (DNS name, IPv4, or IPv6 in brackets) and a
/// TCP port. Only its form is checked; nothing is resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort(Box<str>);

checked_text!(HostPort, |text| {
    let fits = text.len() <= HOST_PORT_MAX
        && text
            .rsplit_once(':')
            .is_some_and(|(host, port)| host_fits(host) && port_fits(port));
    if fits {
        Ok(())
    } else {
        Err(NameError::HostPort)
    }
});

fn host_fits(host: &str) -> bool {
    if let Some(inner) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    (1..=HOST_MAX).contains(&host.len())
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn port_fits(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit())
        && !port.starts_with('0')
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

impl HostPort {
    /// The host; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or("", |(host, _)| host);
        host.strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The port, 1 to 65535.
    pub fn port(&self) -> u16 {
        self.0
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(0)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet_and_length() {
        for good in ["a", "Z9", "bank-outlet", "a.b_c-d", &"x".repeat(64)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            ".a",
            "_a",
            "a b",
            "a=b",
            "ä",
            "a\n",
            &"x".repeat(65),
        ] {
            assert_eq!(bad.parse::<Name>(), Err(NameError::Name), "{bad:?}");
        }
    }

    #[test]
    fn values_are_short_and_hold_no_control_characters() {
        for good in ["true", "a=b, c", "größe", &"x".repeat(256)] {
            assert!(good.parse::<AttributeValue>().is_ok(), "{good:?}");
        }
        for bad in ["", "a\u{1b}[31m", "a\n", "\u{85}", &"x".repeat(257)] {
            assert_eq!(
                bad.parse::<AttributeValue>(),
                Err(NameError::AttributeValue),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_thirty_third_attribute_is_refused_and_a_replacement_is_not() {
        let value: AttributeValue = "true".parse().unwrap();
        let mut attributes = Attributes::new();
        for n in 0..32 {
            attributes
                .insert(format!("n{n}").parse().unwrap(), value.clone())
                .unwrap();
        }
        let more = attributes.insert("more".parse().unwrap(), value.clone());
        assert_eq!(more, Err(NameError::TooManyAttributes));
        attributes
            .insert("n0".parse().unwrap(), "false".parse().unwrap())
            .unwrap();
        assert_eq!(attributes.get("n0").unwrap().as_str(), "false");
        assert_eq!(attributes.get("more"), None);
        assert_eq!(attributes.len(), 32);
    }

    #[test]
    fn relay_addresses_are_lower_case_and_reserved_ones_known() {
        for good in ["postgres", "a", "0.a_b-c", &"x".repeat(63)] {
            assert!(!good.parse::<RelayAddress>().unwrap().is_reserved());
        }
        for bad in ["", "Postgres", "a/b", "-a", "..", "a@b", &"x".repeat(64)] {
            assert_eq!(
                bad.parse::<RelayAddress>(),
                Err(NameError::RelayAddress),
                "{bad:?}"
            );
        }
        assert_eq!(
            "@authority".parse::<RelayAddress>().unwrap(),
            RelayAddress::authority()
        );
        assert!(RelayAddress::authority().is_reserved());
        for bad in ["@", "@other", "@authority2"] {
            assert_eq!(
                bad.parse::<RelayAddress>(),
                Err(NameError::ReservedAddress),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn host_and_port_come_apart() {
        for (text, host, port) in [
            ("relay.example.com:7348", "relay.example.com", 7348),
            ("10.0.0.1:1", "10.0.0.1", 1),
            ("[::1]:65535", "::1", 65535),
        ] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port));
            assert_eq!(address.to_string(), text);
        }
        for bad in [
            "", "a", "a:", ":1", "a:0", "a:65536", "a:+1", "a:01", "::1:5", "[a]:5", "a b:5",
        ] {
            assert_eq!(bad.parse::<HostPort>(), Err(NameError::HostPort), "{bad:?}");
        }
    }

    #[test]
    fn an_error_says_what_is_expected() {
        assert!(
            "".parse::<Name>()
                .unwrap_err()
                .to_string()
                .contains("1 to 64 characters")
        );
    }
}

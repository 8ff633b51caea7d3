//! What a member may be.

use std::fmt;
use std::str::FromStr;

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Roles(u8);

/// A text that names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is member, relay, admin, enroller or auditor")]
pub struct UnknownRole;

impl Roles {
    /// No role.
    pub const NONE: Roles = Roles(0);
    /// May be an end of a portal.
    pub const MEMBER: Roles = Roles(1);
    /// Is a relay, and nothing else.
    pub const RELAY: Roles = Roles(1 << 1);
    /// May administer everything.
    pub const ADMIN: Roles = Roles(1 << 2);
    /// May make tickets within its ceilings.
    pub const ENROLLER: Roles = Roles(1 << 3);
    /// May read everything.
    pub const AUDITOR: Roles = Roles(1 << 4);

    const NAMED: [(Roles, &'static str); 5] = [
        (Roles::MEMBER, "member"),
        (Roles::RELAY, "relay"),
        (Roles::ADMIN, "admin"),
        (Roles::ENROLLER, "enroller"),
        (Roles::AUDITOR, "auditor"),
    ];

    /// This set and those of `other`.
    #[must_use]
    pub const fn with(self, other: Roles) -> Roles {
        Roles(self.0 | other.0)
    }

    /// Whether all of `other` are in this set.
    pub const fn has(self, other: Roles) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as bits: member 1, relay 2, admin 4, enroller 8, auditor 16.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits, or nothing if one of them is unknown.
    pub const fn from_bits(bits: u8) -> Option<Roles> {
        if bits < 1 << 5 {
            Some(Roles(bits))
        } else {
            None
        }
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (role, name) in Roles::NAMED {
            if self.has(role) {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        if self.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

impl FromStr for Roles {
    type Err = UnknownRole;

    /// Reads the name of one role.
    fn from_str(text: &str) -> Result<Roles, UnknownRole> {
        let found = Roles::NAMED.into_iter().find(|(_, name)| *name == text);
        found.map(|(role, _)| role).ok_or(UnknownRole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_with_the_names_that_are_read() {
        assert_eq!(Roles::MEMBER.with(Roles::ADMIN).to_string(), "member,admin");
        assert_eq!(Roles::NONE.to_string(), "none");
        for (role, name) in Roles::NAMED {
            assert_eq!(name.parse(), Ok(role));
        }
        assert_eq!("root".parse::<Roles>(), Err(UnknownRole));
    }

    #[test]
    fn unknown_bits_are_refused() {
        assert_eq!(Roles::from_bits(0b11111).map(Roles::bits), Some(0b11111));
        assert_eq!(Roles::from_bits(0b100000), None);
    }
}

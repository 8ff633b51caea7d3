//! The short form of a rule.
//!
//! ```text
//! rule  = term *("," term)          every term must hold
//! term  = name "=" value            the authority attests that attribute with that value
//!       / "id=" id                  the peer is that identity, whatever the authority attests
//! ```
//!
//! A missing attribute is false. A value can't hold a comma: that needs an expression.

use std::fmt;

use crypto::Id;
use crypto::check::MemberView;
use crypto::names::{AttributeValue, Name};

use super::PolicyError;
use crate::limits::{RULE_TERMS_MAX, RULE_TEXT_MAX};

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Term {
    /// The peer's id.
    Id(Id),
    /// An attested attribute.
    Attribute(Name, AttributeValue),
}

impl Term {
    fn holds(&self, member: &MemberView<'_>) -> bool {
        match self {
            Term::Id(id) => member.id == id,
            Term::Attribute(name, value) => member.attributes.get(name.as_str()) == Some(value),
        }
    }

    /// Why it does not hold, for the local log only.
    pub(super) fn missing(&self, member: &MemberView<'_>) -> String {
        match self {
            Term::Id(id) => format!("the peer is {}, not {}", member.id.short(), id.short()),
            Term::Attribute(name, value) => match member.attributes.get(name.as_str()) {
                None => format!("attribute {name} is missing (wanted {name}={value})"),
                Some(other) => format!("attribute {name} is {other} (wanted {value})"),
            },
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::Id(id) => write!(f, "id={id}"),
            Term::Attribute(name, value) => write!(f, "{name}={value}"),
        }
    }
}

/// Terms that must all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    terms: Vec<Term>,
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, term) in self.terms.iter().enumerate() {
            write!(f, "{}{term}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Terms {
    /// Reads the short form.
    ///
    /// # Errors
    /// [`PolicyError`] says where and what was expected. Two terms about one name are an error:
    /// they can't both hold, or the second says nothing.
    pub fn parse(text: &str) -> Result<Terms, PolicyError> {
        let fail = |byte: usize, expected| Err(PolicyError::at(text, byte, expected));
        if text.len() > RULE_TEXT_MAX {
            return fail(
                RULE_TEXT_MAX,
                "the rule should end before here (4096 bytes)",
            );
        }
        let mut terms = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        let mut start = 0;
        for piece in text.split(',') {
            let at = start;
            start += piece.len() + 1;
            let Some((name, value)) = piece.split_once('=') else {
                return fail(at + piece.len(), "expected '=' and a value (name=value)");
            };
            let value_at = at + name.len() + 1;
            if names.contains(&name) {
                return fail(at, "expected a name that this rule has not named before");
            }
            names.push(name);
            if names.len() > RULE_TERMS_MAX {
                return fail(at, "expected the end of the rule: it has 33 terms");
            }
            terms.push(if name == "id" {
                match value.parse() {
                    Ok(id) => Term::Id(id),
                    Err(_) => return fail(value_at, "expected an id: I and 52 characters"),
                }
            } else {
                let Ok(name) = name.parse() else {
                    return fail(at, "expected a name of letters, digits, '.', '_' and '-'");
                };
                match value.parse() {
                    Ok(value) => Term::Attribute(name, value),
                    Err(_) => return fail(value_at, "expected a value of 1 to 256 bytes"),
                }
            });
        }
        Ok(Terms { terms })
    }

    /// The id that it pins.
    pub fn pins(&self) -> Option<Id> {
        self.terms.iter().find_map(|term| match term {
            Term::Id(id) => Some(*id),
            Term::Attribute(..) => None,
        })
    }

    /// What of it does not hold: how many terms, and the first of them. `None` when all hold.
    pub(super) fn lacks(&self, member: &MemberView<'_>) -> Option<(usize, &Term)> {
        let mut missing = self.terms.iter().filter(|term| !term.holds(member));
        let first = missing.next()?;
        Some((1 + missing.count(), first))
    }
}

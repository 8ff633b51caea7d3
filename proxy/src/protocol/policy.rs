//! The rule that an inlet or outlet applies to the other end, in its short form.
//!
//! ```text
//! rule  = term *("," term)          every term must hold
//! term  = name "=" value            the authority attests that attribute with that value
//!       / "id=" id                  the peer is that identity, whatever the authority attests
//! ```
//!
//! Several rules are alternatives. No rule allows nobody, and a missing attribute is false. A
//! value can't hold a comma: that needs the long form, which this build does not have.

use std::fmt;

use crypto::Id;
use crypto::check::{MemberView, PolicyDenial};
use crypto::names::{AttributeValue, Name};

use crate::limits::{RULE_TERMS_MAX, RULE_TEXT_MAX, RULES_MAX};

/// Why a text is no policy. `at` counts characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule:?}, character {at}: {expected}")]
pub struct PolicyError {
    /// The rule as it was written, cut to a line and without control characters.
    pub rule: String,
    /// Where it is wrong.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
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
    fn missing(&self, member: &MemberView<'_>) -> String {
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
pub struct Rule {
    terms: Vec<Term>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, term) in self.terms.iter().enumerate() {
            write!(f, "{}{term}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// [`PolicyError`] says where and what was expected. Two terms about one name are an error:
    /// they can't both hold, or the second says nothing.
    pub fn parse(text: &str) -> Result<Rule, PolicyError> {
        let fail = |byte: usize, expected| {
            let at = text
                .char_indices()
                .take_while(|(start, _)| *start < byte)
                .count()
                + 1;
            let line = text.chars().filter(|c| !c.is_control()).take(80).collect();
            Err(PolicyError {
                rule: line,
                at,
                expected,
            })
        };
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
        Ok(Rule { terms })
    }

    fn pins(&self) -> Option<Id> {
        self.terms.iter().find_map(|term| match term {
            Term::Id(id) => Some(*id),
            Term::Attribute(..) => None,
        })
    }
}

/// Alternative rules; the default allows nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
}

impl Policy {
    /// Reads one rule a text.
    ///
    /// # Errors
    /// [`PolicyError`] of the first text that is no rule, and when there are more than 64.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Policy, PolicyError> {
        if texts.len() > RULES_MAX {
            let expected = "expected at most 64 rules";
            return Err(PolicyError {
                rule: String::new(),
                at: 1,
                expected,
            });
        }
        let rules = texts
            .iter()
            .map(|text| Rule::parse(text.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Policy { rules })
    }

    /// Its rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether every rule pins an id, so that not even the authority can put another identity in
    /// the peer's place. False without rules.
    pub fn pinned(&self) -> bool {
        !self.rules.is_empty() && self.rules.iter().all(|rule| rule.pins().is_some())
    }

    /// The ids that its rules pin.
    pub fn pins(&self) -> impl Iterator<Item = Id> {
        self.rules.iter().filter_map(Rule::pins)
    }

    /// The first rule that allows the member.
    ///
    /// # Errors
    /// Else the rule that came closest, and the first of its terms that does not hold.
    pub fn explain(&self, member: &MemberView<'_>) -> Result<&Rule, PolicyDenial> {
        let mut closest: Option<(usize, &Rule, &Term)> = None;
        for rule in &self.rules {
            let mut missing = rule.terms.iter().filter(|term| !term.holds(member));
            let Some(first) = missing.next() else {
                return Ok(rule);
            };
            let distance = missing.count();
            if closest.is_none_or(|(nearest, ..)| distance < nearest) {
                closest = Some((distance, rule, first));
            }
        }
        Err(match closest {
            None => PolicyDenial {
                rule: "(none)".into(),
                reason: "no rule is set, so nobody is allowed".into(),
            },
            Some((_, rule, term)) => PolicyDenial {
                rule: rule.to_string(),
                reason: term.missing(member),
            },
        })
    }
}

impl crypto::check::Policy for Policy {
    fn decide(&self, member: &MemberView<'_>) -> Result<(), PolicyDenial> {
        self.explain(member).map(|_| ())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crypto::UnixTime;
    use crypto::credential::Roles;
    use crypto::names::Attributes;

    fn decide(policy: &Policy, id: u8, attributes: &[(&str, &str)]) -> Result<(), PolicyDenial> {
        let mut held = Attributes::new();
        for (name, value) in attributes {
            held.insert(name.parse().unwrap(), value.parse().unwrap())
                .unwrap();
        }
        let view = MemberView {
            id: &Id([id; 32]),
            name: &"somebody".parse().unwrap(),
            attributes: &held,
            roles: Roles::MEMBER,
            address: &"postgres".parse().unwrap(),
            now: UnixTime(0),
        };
        policy.explain(&view).map(|_| ())
    }

    #[test]
    fn every_term_of_a_rule_must_hold() {
        let policy = Policy::parse(&["a=1,b=2"]).unwrap();
        assert_eq!(
            decide(&policy, 1, &[("a", "1"), ("b", "2"), ("c", "3")]),
            Ok(())
        );
        assert!(decide(&policy, 1, &[("a", "1")]).is_err());
        assert!(decide(&policy, 1, &[("a", "1"), ("b", "3")]).is_err());
    }

    #[test]
    fn rules_are_alternatives_and_none_allows_nobody() {
        let policy = Policy::parse(&["a=1", "b=2"]).unwrap();
        assert_eq!(decide(&policy, 1, &[("b", "2")]), Ok(()));
        let denial = decide(&Policy::default(), 1, &[("a", "1")]).unwrap_err();
        assert_eq!(denial.reason, "no rule is set, so nobody is allowed");
    }

    #[test]
    fn a_pin_holds_for_one_identity_only() {
        let policy = Policy::parse(&[format!("a=1,id={}", Id([7; 32]))]).unwrap();
        assert!(policy.pinned());
        assert_eq!(policy.pins().collect::<Vec<_>>(), [Id([7; 32])]);
        assert_eq!(decide(&policy, 7, &[("a", "1")]), Ok(()));
        assert!(decide(&policy, 8, &[("a", "1")]).is_err());
        assert!(decide(&policy, 7, &[]).is_err());
        assert!(!Policy::parse(&["a=1"]).unwrap().pinned());
        assert!(!Policy::default().pinned());
    }

    #[test]
    fn a_denial_names_the_closest_rule_and_what_is_missing() {
        let policy = Policy::parse(&["a=1,b=2,c=3", "a=1,d=4"]).unwrap();
        let denial = decide(&policy, 1, &[("a", "1")]).unwrap_err();
        assert_eq!(denial.rule, "a=1,d=4");
        assert_eq!(denial.reason, "attribute d is missing (wanted d=4)");
        let denial = decide(&policy, 1, &[("a", "1"), ("d", "5")]).unwrap_err();
        assert_eq!(denial.reason, "attribute d is 5 (wanted 4)");
    }

    #[test]
    fn an_error_says_where_and_what_was_expected() {
        for (text, at, expected) in [
            ("", 1, "'='"),
            ("postgres-inlet", 15, "'='"),
            ("a=1,", 5, "'='"),
            ("a=1,b", 6, "'='"),
            ("=1", 1, "a name"),
            ("a=", 3, "a value"),
            ("ä=1", 1, "a name"),
            ("a=1, b=2", 5, "a name"),
            ("a=1,a=2", 5, "not named before"),
            ("id=Iabc", 4, "an id"),
            ("größe=1,a=\u{7}", 1, "a name"),
            ("a=ä,b=\u{7}", 7, "a value"),
        ] {
            let error = Rule::parse(text).unwrap_err();
            assert_eq!(error.at, at, "{text:?}: {error}");
            assert!(error.expected.contains(expected), "{text:?}: {error}");
            assert!(!error.to_string().contains('\u{7}'));
        }
    }

    #[test]
    fn a_rule_is_written_as_it_was_read() {
        let text = format!("postgres-inlet=true,id={}", Id([3; 32]));
        assert_eq!(Rule::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn texts_and_lists_are_bounded() {
        assert!(Rule::parse(&"a".repeat(RULE_TEXT_MAX + 1)).is_err());
        let terms: Vec<String> = (0..=RULE_TERMS_MAX).map(|n| format!("a{n}=1")).collect();
        assert!(Rule::parse(&terms.join(",")).is_err());
        assert!(Policy::parse(&vec!["a=1"; RULES_MAX + 1]).is_err());
    }
}

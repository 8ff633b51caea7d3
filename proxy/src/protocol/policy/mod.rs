//! The policy that an inlet or outlet applies to the other end: rules, and what they say of a member.
//!
//! A rule allows or denies. One that denies wins over all that allow; where none allows, nobody is
//! allowed. A rule in audit mode decides nothing: what it would have changed is told beside the decision.
//! Its condition is written in the short form ([`Terms`]) or as an [`Expression`].
//!
//! Everything here is a pure function of the rules and of a [`MemberView`], in which `address` is the
//! target and `now` authority time. What can't be decided is denied.

#[cfg(feature = "policy-cel")]
mod expression;
#[cfg(not(feature = "policy-cel"))]
#[path = "no_expression.rs"]
mod expression;
#[cfg(feature = "policy-cel")]
mod lower;
mod scan;
mod terms;

use std::borrow::Cow;
use std::fmt;

use crypto::Id;
use crypto::check::{MemberView, PolicyDenial};
use crypto::names::Name;

pub use self::expression::Expression;
pub use self::scan::scan;
pub use self::terms::Terms;
use crate::limits::RULES_MAX;

/// Why a text is no policy. `at` counts characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule:?}, character {at}: {expected}")]
pub struct PolicyError {
    /// The rule as it was written, cut to a line and without control characters.
    pub rule: String,
    /// Where it is wrong.
    pub at: usize,
    /// What was expected there.
    pub expected: Cow<'static, str>,
    /// Which of the rules it is, from 0.
    pub nth: usize,
}

impl PolicyError {
    /// An error at a byte of a rule's text.
    pub(crate) fn at(text: &str, byte: usize, expected: impl Into<Cow<'static, str>>) -> Self {
        let before = text.char_indices().take_while(|(start, _)| *start < byte);
        PolicyError::at_character(text, before.count(), expected)
    }

    /// An error at a character, counted from 0.
    pub(crate) fn at_character(
        text: &str,
        character: usize,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        PolicyError {
            rule: text.chars().filter(|c| !c.is_control()).take(80).collect(),
            at: character + 1,
            expected: expected.into(),
            nth: 0,
        }
    }
}

/// What a rule does to those for whom it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It lets them in, unless a rule denies them.
    Allow,
    /// It keeps them out.
    Deny,
}

/// Whether a rule decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It does not: what it would have changed is logged.
    Audit,
}

/// A condition as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// In the short form.
    Short(String),
    /// As a CEL expression.
    Cel(String),
}

/// A rule as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSpec {
    /// What logs call it; its text if it has no name.
    pub name: Option<Name>,
    /// What it does.
    pub effect: Effect,
    /// Whether it decides.
    pub mode: Mode,
    /// For whom.
    pub condition: Written,
}

impl RuleSpec {
    /// An unnamed rule in the short form, enforced.
    pub fn short(effect: Effect, text: impl Into<String>) -> RuleSpec {
        RuleSpec {
            name: None,
            effect,
            mode: Mode::Enforce,
            condition: Written::Short(text.into()),
        }
    }

    /// Whether reading it takes `limits::CEL_STACK`.
    pub fn is_expression(&self) -> bool {
        matches!(self.condition, Written::Cel(_))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Terms(Terms),
    Expression(Expression),
}

/// What a rule's condition says of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'r> {
    /// It holds.
    Holds,
    /// It does not.
    Not {
        /// How far it is from holding: terms that fail, or attributes that are missing.
        distance: usize,
        /// Why, for the local log.
        why: Lack<'r>,
    },
    /// It can't be decided.
    Failed(String),
}

/// Why a condition does not hold: put into words only for the rule that is told of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack<'r>(Lacking<'r>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Lacking<'r> {
    /// A term of the short form.
    Term(&'r terms::Term),
    /// An expression, and an attribute that it reads and that is missing.
    #[cfg(feature = "policy-cel")]
    Expression(Option<&'r str>),
}

impl Lack<'_> {
    /// In words, for the member that it is about.
    pub fn words(&self, member: &MemberView<'_>) -> String {
        match self.0 {
            Lacking::Term(term) => term.missing(member),
            #[cfg(feature = "policy-cel")]
            Lacking::Expression(Some(name)) => format!("attribute {name} is missing"),
            #[cfg(feature = "policy-cel")]
            Lacking::Expression(None) => "the expression is false".to_owned(),
        }
    }
}

/// A rule. Shown as logs name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    name: Option<Name>,
    effect: Effect,
    mode: Mode,
    condition: Condition,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.effect) {
            (Some(name), _) => write!(f, "{name}"),
            (None, Effect::Allow) => f.write_str(&self.text()),
            (None, Effect::Deny) => write!(f, "deny {}", self.text()),
        }
    }
}

impl Rule {
    /// Reads an unnamed rule that allows, in the short form.
    ///
    /// # Errors
    /// [`PolicyError`] says where and what was expected.
    pub fn parse(text: &str) -> Result<Rule, PolicyError> {
        Rule::read(&RuleSpec::short(Effect::Allow, text))
    }

    /// Reads a rule. One with an expression needs `limits::CEL_STACK` of stack.
    ///
    /// # Errors
    /// [`PolicyError`] says where and what was expected.
    pub fn read(spec: &RuleSpec) -> Result<Rule, PolicyError> {
        let condition = match &spec.condition {
            Written::Short(text) => Condition::Terms(Terms::parse(text)?),
            Written::Cel(text) => Condition::Expression(Expression::parse(text)?),
        };
        Ok(Rule {
            name: spec.name.clone(),
            effect: spec.effect,
            mode: spec.mode,
            condition,
        })
    }

    /// What it does.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Whether it decides.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Its condition, as it is written.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.condition {
            Condition::Terms(terms) => terms.to_string().into(),
            Condition::Expression(expression) => expression.text().into(),
        }
    }

    /// Whether its condition is an expression.
    pub fn is_expression(&self) -> bool {
        matches!(self.condition, Condition::Expression(_))
    }

    /// What its condition says of a member.
    pub fn outcome(&self, member: &MemberView<'_>) -> Outcome<'_> {
        match &self.condition {
            Condition::Terms(terms) => match terms.lacks(member) {
                None => Outcome::Holds,
                Some((distance, first)) => Outcome::Not {
                    distance,
                    why: Lack(Lacking::Term(first)),
                },
            },
            Condition::Expression(expression) => expression.outcome(self.effect, member),
        }
    }

    /// All of it in a line: `deny no-contractors (audit): member.attributes.team == "contractor"`.
    pub fn line(&self) -> String {
        let effect = match self.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        };
        let name = match &self.name {
            Some(name) => format!(" {name}"),
            None => String::new(),
        };
        let mode = match self.mode {
            Mode::Enforce => "",
            Mode::Audit => " (audit)",
        };
        let text: Vec<_> = self.text().split_whitespace().map(str::to_owned).collect();
        format!("{effect}{name}{mode}: {}", text.join(" "))
    }

    fn decides(&self, effect: Effect) -> bool {
        self.mode == Mode::Enforce && self.effect == effect
    }

    fn pins(&self) -> Option<Id> {
        match &self.condition {
            Condition::Terms(terms) if self.decides(Effect::Allow) => terms.pins(),
            Condition::Terms(_) | Condition::Expression(_) => None,
        }
    }

    /// Why it denies a member; `None` if it doesn't. Undecided is denied.
    fn denies(&self, member: &MemberView<'_>) -> Option<PolicyDenial> {
        let reason = match self.outcome(member) {
            Outcome::Not { .. } => return None,
            Outcome::Holds => "the rule denies this member".to_owned(),
            Outcome::Failed(why) => format!("{why}; what can't be decided is denied"),
        };
        let rule = self.to_string();
        Some(PolicyDenial { rule, reason })
    }
}

/// What a rule in audit mode would have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// What it would have done.
    pub effect: Effect,
    /// The rule.
    pub rule: String,
    /// Why.
    pub reason: String,
}

/// Rules; the default allows nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
}

impl Policy {
    /// Reads one rule a text, in the short form, each an alternative that allows.
    ///
    /// # Errors
    /// [`PolicyError`] of the first text that is no rule, and when there are more than 64.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Policy, PolicyError> {
        let spec = |text: &T| RuleSpec::short(Effect::Allow, text.as_ref());
        Policy::read(&texts.iter().map(spec).collect::<Vec<_>>())
    }

    /// Reads rules. Expressions need `limits::CEL_STACK` of stack.
    ///
    /// # Errors
    /// [`PolicyError`] of the first that is no rule, of a name that was used before, and when there
    /// are more than 64.
    pub fn read(specs: &[RuleSpec]) -> Result<Policy, PolicyError> {
        if specs.len() > RULES_MAX {
            return Err(PolicyError::at("", 0, "expected at most 64 rules"));
        }
        for (at, spec) in specs.iter().enumerate() {
            let name = spec.name.as_ref();
            if let Some(name) = name.filter(|name| {
                let before = specs.iter().take(at);
                before
                    .filter_map(|other| other.name.as_ref())
                    .any(|other| other == *name)
            }) {
                let expected = "expected a name that no other rule here has";
                let error = PolicyError::at(name.as_str(), 0, expected);
                return Err(PolicyError { nth: at, ..error });
            }
        }
        let read = |(nth, spec)| {
            let numbered = |error| PolicyError { nth, ..error };
            Rule::read(spec).map_err(numbered)
        };
        let rules = specs.iter().enumerate().map(read);
        Ok(Policy {
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    /// Its rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A line for each rule, as `status` and `policy check` show it.
    pub fn lines(&self) -> Vec<String> {
        self.rules.iter().map(Rule::line).collect()
    }

    /// Whether there is a rule that can let anybody in.
    pub fn allows_somebody(&self) -> bool {
        self.rules.iter().any(|rule| rule.decides(Effect::Allow))
    }

    /// Whether every rule that allows pins an id, so that not even the authority can put another
    /// identity in the peer's place. False without such a rule.
    pub fn pinned(&self) -> bool {
        let mut allowing = self.rules.iter().filter(|rule| rule.decides(Effect::Allow));
        self.allows_somebody() && allowing.all(|rule| rule.pins().is_some())
    }

    /// The ids that its rules pin.
    pub fn pins(&self) -> impl Iterator<Item = Id> {
        self.rules.iter().filter_map(Rule::pins)
    }

    /// Whether its answer about a member may change by itself, with the time.
    pub fn reads_now(&self) -> bool {
        self.rules.iter().any(|rule| match &rule.condition {
            Condition::Terms(_) => false,
            Condition::Expression(expression) => expression.reads_now(),
        })
    }

    /// The first rule that allows the member, if none denies it.
    ///
    /// # Errors
    /// The first rule that denies it; else, of the rules that allow, the one that came closest, and
    /// what it lacks.
    pub fn explain(&self, member: &MemberView<'_>) -> Result<&Rule, PolicyDenial> {
        let denying = self.rules.iter().filter(|rule| rule.decides(Effect::Deny));
        if let Some(denial) = denying.filter_map(|rule| rule.denies(member)).next() {
            return Err(denial);
        }
        let mut closest: Option<(usize, &Rule, Result<Lack<'_>, String>)> = None;
        for rule in self.rules.iter().filter(|rule| rule.decides(Effect::Allow)) {
            let (distance, why) = match rule.outcome(member) {
                Outcome::Holds => return Ok(rule),
                Outcome::Not { distance, why } => (distance, Ok(why)),
                Outcome::Failed(why) => (usize::MAX, Err(why)),
            };
            if closest
                .as_ref()
                .is_none_or(|(nearest, ..)| distance < *nearest)
            {
                closest = Some((distance, rule, why));
            }
        }
        Err(match closest {
            None => PolicyDenial {
                rule: "(none)".into(),
                reason: "no rule is set, so nobody is allowed".into(),
            },
            Some((_, rule, why)) => PolicyDenial {
                rule: rule.to_string(),
                reason: why.map_or_else(|failed| failed, |lack| lack.words(member)),
            },
        })
    }

    /// What the rules in audit mode would have changed for a member that is allowed, or isn't.
    pub fn audit(&self, member: &MemberView<'_>, allowed: bool) -> Vec<Audited> {
        let audited = self.rules.iter().filter(|rule| rule.mode == Mode::Audit);
        let mut denying = self.rules.iter().filter(|rule| rule.decides(Effect::Deny));
        // No rule that allows changes anything where one denies.
        let open = !allowed && !denying.any(|rule| rule.denies(member).is_some());
        audited
            .filter_map(|rule| match rule.effect {
                Effect::Deny if allowed => rule.denies(member).map(|denial| Audited {
                    effect: Effect::Deny,
                    rule: denial.rule,
                    reason: denial.reason,
                }),
                Effect::Allow if open => {
                    (rule.outcome(member) == Outcome::Holds).then(|| Audited {
                        effect: Effect::Allow,
                        rule: rule.to_string(),
                        reason: "the rule allows this member".to_owned(),
                    })
                }
                Effect::Allow | Effect::Deny => None,
            })
            .collect()
    }
}

impl crypto::check::Policy for Policy {
    fn decide(&self, member: &MemberView<'_>) -> Result<(), PolicyDenial> {
        self.explain(member).map(|_| ()).map_err(|mut denial| {
            for audited in self.audit(member, false) {
                let rule = audited.rule;
                denial.reason += &format!("; {rule} (audit mode) would have allowed it");
            }
            denial
        })
    }
}

#[cfg(test)]
mod tests;

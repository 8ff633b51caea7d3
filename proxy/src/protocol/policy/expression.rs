//! A rule's condition as an expression of the Common Expression Language.
//!
//! ```text
//! member.attributes.NAME, member.attributes["NAME"]   an attribute that the authority attests: a text
//! has(member.attributes.NAME), "NAME" in member.attributes
//! member.id, member.name      the peer's
//! target                      the relay address
//! now                         authority time; timestamp("…"), duration("…"), now.getHours() …
//! ```
//!
//! What may stand in one is checked when it is read, names included: [`lower`](super::lower) turns every
//! use of an attribute into a variable of its own. So this is known of an expression: that it ends after
//! a bounded number of steps, which attributes it reads, and that it does not fail for its types alone.
//!
//! # A missing attribute
//! It is never what opens. In an `allow` rule its variable is not there: what needs it has no value,
//! not even behind a `!`, and an expression without a value does not hold. In a `deny` rule it equals
//! nothing: `==` is false, `!=` is true, and what can't be decided is denied.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, ExecutionError, IdedExpr, Program, Value};
use crypto::check::MemberView;

use super::lower::{Lowered, lower};
use super::scan::scan;
use super::{Effect, Lack, Lacking, Outcome, PolicyError};
use crate::protocol::core::text::clean;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// See the module.
#[derive(Clone, Debug)]
pub struct Expression {
    compiled: Arc<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    text: String,
    tree: IdedExpr,
    /// The attributes whose values it reads.
    attributes: BTreeSet<String>,
    /// Those whose presence it asks for.
    asked: BTreeSet<String>,
    reads_now: bool,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Expression) -> bool {
        self.compiled.text == other.compiled.text
    }
}

impl Eq for Expression {}

/// The variable that stands for an attribute's value. No name in an expression has a colon.
pub(super) fn value_variable(attribute: &str) -> String {
    format!("value:{attribute}")
}

/// And for its presence.
pub(super) fn presence_variable(attribute: &str) -> String {
    format!("has:{attribute}")
}

/// The other variables.
pub(super) mod variable {
    pub const ID: &str = "member:id";
    pub const NAME: &str = "member:name";
    pub const TARGET: &str = "target";
    pub const NOW: &str = "now";
    pub const HOURS: &str = "now:hours";
    pub const MINUTES: &str = "now:minutes";
    pub const WEEKDAY: &str = "now:weekday";
}

/// What an expression is evaluated on.
struct Facts<'a> {
    id: String,
    name: &'a str,
    target: &'a str,
    now_s: i64,
}

impl Expression {
    /// Reads an expression. Goes down on the stack as deep as its text nests, through a parser: call it
    /// where there is `limits::CEL_STACK`.
    ///
    /// # Errors
    /// [`PolicyError`] says where and what was expected.
    pub fn parse(text: &str) -> Result<Expression, PolicyError> {
        scan(text).map_err(|(byte, expected)| PolicyError::at(text, byte, expected))?;
        let program = Program::compile(text).map_err(|errors| parse_error(text, &errors))?;
        let Lowered {
            tree,
            attributes,
            asked,
            reads_now,
        } = lower(program.expression()).map_err(|refusal| {
            let start = program.source_info().offset_for(refusal.node);
            let character = start.map_or(0, |(start, _)| start as usize);
            PolicyError::at_character(text, character, refusal.expected)
        })?;
        let expression = Expression {
            compiled: Arc::new(Compiled {
                text: text.to_owned(),
                tree,
                attributes,
                asked,
                reads_now,
            }),
        };
        expression.try_out()?;
        Ok(expression)
    }

    /// Evaluates it for nobody: an expression whose types don't fit would fail for everybody.
    fn try_out(&self) -> Result<(), PolicyError> {
        let facts = Facts {
            id: String::new(),
            name: "",
            target: "",
            now_s: 0,
        };
        match self.value(&facts, |_| Some(""), Effect::Deny) {
            Ok(_) => Ok(()),
            Err(why) => {
                let expected = format!("expected true or false to come out: {why}");
                Err(PolicyError::at(&self.compiled.text, 0, expected))
            }
        }
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.compiled.text
    }

    /// Whether it reads the clock, so that its answer may change by itself.
    pub fn reads_now(&self) -> bool {
        self.compiled.reads_now
    }

    /// What it says of a member in a rule of that effect.
    pub fn outcome(&self, effect: Effect, member: &MemberView<'_>) -> Outcome<'_> {
        let facts = Facts {
            id: member.id.to_string(),
            name: member.name.as_str(),
            target: member.address.as_str(),
            now_s: i64::try_from(member.now.0).unwrap_or(i64::MAX),
        };
        let held = |name: &str| member.attributes.get(name).map(|value| value.as_str());
        let missing = || {
            let read = self.compiled.attributes.iter();
            let missing: Vec<&str> = read
                .map(String::as_str)
                .filter(|name| held(name).is_none())
                .collect();
            missing
        };
        match self.value(&facts, held, effect) {
            Ok(true) => Outcome::Holds,
            Ok(false) => {
                let missing = missing();
                Outcome::Not {
                    distance: missing.len().max(1),
                    why: Lack(Lacking::Expression(missing.first().copied())),
                }
            }
            Err(why) => match missing().as_slice() {
                [] => Outcome::Failed(format!("the expression can't be evaluated: {why}")),
                missing @ [first, ..] if effect == Effect::Allow => Outcome::Not {
                    distance: missing.len(),
                    why: Lack(Lacking::Expression(Some(first))),
                },
                [first, ..] => Outcome::Failed(format!(
                    "the expression can't be evaluated: attribute {first} is missing"
                )),
            },
        }
    }

    fn value<'a>(
        &self,
        facts: &Facts<'_>,
        held: impl Fn(&str) -> Option<&'a str>,
        effect: Effect,
    ) -> Result<bool, String> {
        let Compiled {
            tree,
            attributes,
            asked,
            ..
        } = &*self.compiled;
        let mut context = Context::with_env(Arc::clone(&ENV));
        let mut set = |name: &str, value: Value| context.add_variable_from_value(name, value);
        for name in attributes {
            match (held(name), effect) {
                (Some(value), _) => set(&value_variable(name), value.into()),
                (None, Effect::Deny) => set(&value_variable(name), Value::Null),
                (None, Effect::Allow) => {}
            }
        }
        for name in asked {
            set(&presence_variable(name), held(name).is_some().into());
        }
        set(variable::ID, facts.id.as_str().into());
        set(variable::NAME, facts.name.into());
        set(variable::TARGET, facts.target.into());
        set(variable::NOW, facts.now_s.into());
        set(variable::HOURS, (facts.now_s / 3600 % 24).into());
        set(variable::MINUTES, (facts.now_s / 60 % 60).into());
        // 1970-01-01 was a Thursday; Sunday is 0.
        set(variable::WEEKDAY, ((facts.now_s / 86_400 + 4) % 7).into());
        match context.resolve(tree) {
            Ok(Value::Bool(value)) => Ok(value),
            Ok(_) => Err("its value is neither true nor false".to_owned()),
            Err(error) => Err(words(&error).to_owned()),
        }
    }
}

/// An error in our own words: the evaluator's repeat what the peer's attributes hold.
fn words(error: &ExecutionError) -> &'static str {
    let types = matches!(
        error,
        ExecutionError::NoSuchOverload(_)
            | ExecutionError::ValuesNotComparable(..)
            | ExecutionError::UnexpectedType { .. }
            | ExecutionError::UnsupportedBinaryOperator(..)
    );
    if types {
        "values of these types can't be combined or compared"
    } else if matches!(error, ExecutionError::Overflow(..)) {
        "a number is out of range"
    } else if matches!(error, ExecutionError::UndeclaredReference(_)) {
        "an attribute is missing"
    } else {
        "it has no value"
    }
}

fn parse_error(text: &str, errors: &cel::ParseErrors) -> PolicyError {
    let Some(first) = errors.errors.first() else {
        return PolicyError::at(text, 0, "expected an expression");
    };
    // Lines and columns count from 1, in characters.
    let (line, column) = first.pos;
    let line = usize::try_from(line).unwrap_or(1).max(1);
    let before: usize = text
        .split_inclusive('\n')
        .take(line - 1)
        .map(|line| line.chars().count())
        .sum();
    let character = before + usize::try_from(column - 1).unwrap_or(0);
    let expected = format!("expected an expression: {}", clean(&first.msg));
    PolicyError::at_character(text, character, expected)
}

//! In a build without the feature `policy-cel` there is no expression, and none can be made.

use crypto::check::MemberView;

use super::{Effect, Outcome, PolicyError};

/// Nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {}

impl Expression {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn parse(text: &str) -> Result<Expression, PolicyError> {
        let expected = "expected no expression: this build has no CEL (feature policy-cel)";
        Err(PolicyError::at(text, 0, expected))
    }

    /// Its text.
    pub fn text(&self) -> &str {
        match *self {}
    }

    /// Whether it reads the clock.
    pub fn reads_now(&self) -> bool {
        match *self {}
    }

    /// What it says.
    pub fn outcome(&self, _effect: Effect, _member: &MemberView<'_>) -> Outcome<'_> {
        match *self {}
    }
}

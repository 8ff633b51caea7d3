//! What `doctor` and `why` print: one line a check, with a tick or a cross, and below a cross what mends it.

use serde_json::{Value, json};

use super::output;
use crate::control::failure::Failure;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// It can't be told from here.
    Unknown,
}

impl Outcome {
    const fn sign(self) -> char {
        match self {
            Outcome::Good => '✓',
            Outcome::Bad => '✗',
            Outcome::Unknown => '-',
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Outcome::Good => "good",
            Outcome::Bad => "bad",
            Outcome::Unknown => "unknown",
        }
    }
}

/// A check and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    name: &'static str,
    pub(super) outcome: Outcome,
    said: String,
    fix: Option<String>,
}

impl Check {
    pub(super) fn good(name: &'static str, said: impl Into<String>) -> Check {
        Check {
            name,
            outcome: Outcome::Good,
            said: said.into(),
            fix: None,
        }
    }

    pub(super) fn bad(
        name: &'static str,
        said: impl Into<String>,
        fix: impl Into<String>,
    ) -> Check {
        Check {
            name,
            outcome: Outcome::Bad,
            said: said.into(),
            fix: Some(fix.into()),
        }
    }

    /// With what would tell.
    pub(super) fn unknown(
        name: &'static str,
        said: impl Into<String>,
        fix: impl Into<String>,
    ) -> Check {
        Check {
            outcome: Outcome::Unknown,
            ..Check::bad(name, said, fix)
        }
    }

    pub(super) fn failed(name: &'static str, failure: &Failure) -> Check {
        let said = match failure.why.as_str() {
            "" => failure.what.clone(),
            why => format!("{}: {why}", failure.what),
        };
        Check::bad(name, said, failure.mend())
    }

    fn lines(&self) -> String {
        let line = format!("  {} {:<12} {}", self.outcome.sign(), self.name, self.said);
        match &self.fix {
            Some(fix) => format!("{line}\n    {:<12} fix: {fix}", ""),
            None => line,
        }
    }

    fn json(&self) -> Value {
        json!({
            "check": self.name,
            "outcome": self.outcome.word(),
            "said": self.said,
            "fix": self.fix,
        })
    }
}

/// Checks of one thing.
pub(super) struct Section {
    /// What they are about.
    pub(super) about: String,
    pub(super) checks: Vec<Check>,
}

impl Section {
    /// Whether any came out bad.
    pub(super) fn has_bad(&self) -> bool {
        let mut checks = self.checks.iter();
        checks.any(|check| check.outcome == Outcome::Bad)
    }

    pub(super) fn text(&self) -> String {
        let lines = self.checks.iter().map(Check::lines);
        let lines: Vec<String> = std::iter::once(self.about.clone()).chain(lines).collect();
        lines.join("\n")
    }

    pub(super) fn json(&self) -> Value {
        let checks: Value = self.checks.iter().map(Check::json).collect();
        json!({ "about": self.about, "good": !self.has_bad(), "checks": checks })
    }
}

/// Prints them: one object, or a paragraph each.
///
/// # Errors
/// As [`output::line`].
pub(super) fn print(sections: &[Section], json: bool) -> Result<(), Failure> {
    if json {
        let good = !sections.iter().any(Section::has_bad);
        let sections: Value = sections.iter().map(Section::json).collect();
        return output::json(&json!({ "good": good, "sections": sections }));
    }
    for section in sections {
        output::line(&section.text())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cross_is_followed_by_what_mends_it() {
        let section = Section {
            about: "node a".into(),
            checks: vec![
                Check::good("relay", "reached"),
                Check::bad("clock", "2m ahead", "set it"),
                Check::unknown("target", "nobody asked", "start it"),
            ],
        };
        let expected = "node a\n  ✓ relay        reached\n  ✗ clock        2m ahead\n\
            \x20                fix: set it\n  - target       nobody asked\n\
            \x20                fix: start it";
        assert_eq!(section.text(), expected);
        assert!(section.has_bad());
        assert_eq!(section.json()["checks"][1]["outcome"], "bad");
    }
}

//! An error as a person and a script see it.
//!
//! Everything that ends a command is a [`Failure`]: a stable code, what failed, why, and the
//! command that mends it, printed in that order:
//!
//! ```text
//! error[ADIT-1203]: can't use the state directory /home/ann/.adit/acme: process 4711 uses it
//! fix: adit status --project acme
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::error::codes;
use crate::error::{self, Code, Problem};

/// How the process ends. The numbers are part of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// 1: it failed while running.
    Runtime,
    /// 2: what was typed, or the configuration, is wrong.
    Usage,
    /// 3: the other side said no: ticket, credential, policy.
    Denied,
    /// 4: the state directory is missing, unreadable, unsafe or in use.
    State,
    /// 5: `health --ready`: alive, but not ready.
    NotReady,
}

impl Exit {
    /// The number.
    pub const fn number(self) -> u8 {
        match self {
            Exit::Runtime => 1,
            Exit::Usage => 2,
            Exit::Denied => 3,
            Exit::State => 4,
            Exit::NotReady => 5,
        }
    }
}

/// Why a command ends. Holds no secrets: it is printed, logged and sent over the admin socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stable code.
    pub code: Code,
    /// How the process ends.
    pub exit: Exit,
    /// What failed, and on which side; begins in lower case, without a full stop.
    pub what: String,
    /// Why.
    pub why: String,
    /// The command that mends it, ready to paste; without one, what its code's entry in the
    /// catalogue says.
    pub fix: Option<String>,
}

impl Failure {
    /// A failure without a mending command.
    pub fn new(code: Code, exit: Exit, what: impl Into<String>, why: impl fmt::Display) -> Failure {
        Failure {
            code,
            exit,
            what: what.into(),
            why: why.to_string(),
            fix: None,
        }
    }

    /// The same with a mending command.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Failure {
        self.fix = Some(fix.into());
        self
    }

    /// A core's problem: its words end with what mends it, which becomes the fix.
    pub fn of_core(code: Code, exit: Exit, what: impl Into<String>, words: &str) -> Failure {
        let mend = Problem::from_code(code.0).map(Problem::mend);
        let apart = mend.and_then(|mend| {
            let why = words.strip_suffix(mend)?.strip_suffix("; to mend it: ")?;
            Some((why, mend))
        });
        match apart {
            Some((why, mend)) => Failure::new(code, exit, what, why).fix(mend),
            None => Failure::new(code, exit, what, words),
        }
    }

    /// What to do: every failure says so.
    pub fn mend(&self) -> &str {
        let own = self.fix.as_deref();
        own.or_else(|| error::mend(self.code))
            .unwrap_or("adit status; the log says more")
    }

    /// What was typed is wrong.
    pub fn usage(what: impl Into<String>, why: impl fmt::Display) -> Failure {
        Failure::new(codes::USAGE, Exit::Usage, what, why)
    }

    /// As one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "code": self.code.to_string(),
            "what": self.what,
            "why": self.why,
            "fix": self.mend(),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.what)?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        write!(f, "\nfix: {}", self.mend())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_code_what_why_and_fix_in_that_order() {
        let failure = Failure::new(
            codes::STATE_IN_USE,
            Exit::State,
            "can't use it",
            "it is used",
        )
        .fix("adit status");
        assert_eq!(
            failure.to_string(),
            "error[ADIT-1203]: can't use it: it is used\nfix: adit status"
        );
        assert_eq!(failure.to_json()["code"], "ADIT-1203");
    }

    #[test]
    fn one_without_a_command_of_its_own_says_what_its_code_says() {
        for (code, mend) in [
            (Problem::NameTaken.code(), Problem::NameTaken.mend()),
            (
                crate::error::CloseReason::Stopping.code(),
                crate::error::CloseReason::Stopping.mend(),
            ),
            (codes::STORE, "see that its disk has room"),
        ] {
            let failure = Failure::new(code, Exit::Runtime, "it failed", "so");
            let text = failure.to_string();
            assert!(text.contains(&format!("\nfix: {mend}")), "{text}");
            assert_eq!(failure.to_json()["fix"], failure.mend());
        }
    }

    #[test]
    fn a_cores_words_come_apart_into_reason_and_fix() {
        let problem = Problem::TicketUsed;
        let words = format!("{problem} by somebody; to mend it: {}", problem.mend());
        let failure = Failure::of_core(problem.code(), Exit::Denied, "no", &words);
        assert_eq!(failure.why, format!("{problem} by somebody"));
        assert_eq!(failure.fix.as_deref(), Some(problem.mend()));
        let failure = Failure::of_core(Code(1), Exit::Denied, "no", "other words");
        assert!(failure.to_string().contains("\nfix: adit status"));
        assert_eq!((failure.why.as_str(), failure.fix), ("other words", None));
    }
}

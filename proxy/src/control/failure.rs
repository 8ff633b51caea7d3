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

use crate::error::{Code, Problem};

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

/// The codes of the 1xxx range (what was typed, configuration, state directory), and those that
/// only a whole process can meet. Those of the cores are in [`crate::error`].
pub mod codes {
    use crate::error::Code;

    /// A flag or argument is unknown, missing or malformed.
    pub const USAGE: Code = Code(1001);
    /// A configuration file can't be read or is no TOML.
    pub const CONFIG_UNREADABLE: Code = Code(1101);
    /// A configuration key is unknown.
    pub const CONFIG_KEY: Code = Code(1102);
    /// A configuration value is not what its key takes.
    pub const CONFIG_VALUE: Code = Code(1103);
    /// No project, or several and none was named.
    pub const WHICH_PROJECT: Code = Code(1151);
    /// A project of that name is here already.
    pub const PROJECT_EXISTS: Code = Code(1152);
    /// The state directory holds another project of that name.
    pub const OTHER_PROJECT: Code = Code(1153);
    /// A file of the state directory can't be read or written.
    pub const STATE_IO: Code = Code(1201);
    /// A file of the state directory can be read by others.
    pub const STATE_READABLE: Code = Code(1202);
    /// The state directory is in use by another process.
    pub const STATE_IN_USE: Code = Code(1203);
    /// The state was written by a newer adit.
    pub const STATE_NEWER: Code = Code(1204);
    /// A file of the state directory is damaged.
    pub const STATE_CORRUPT: Code = Code(1205);
    /// A ticket can't be read or is malformed.
    pub const TICKET_UNREADABLE: Code = Code(1301);
    /// No process answers on the state directory's socket.
    pub const NOT_RUNNING: Code = Code(1401);
    /// The process on the other end of the socket refused or broke the conversation.
    pub const ADMIN: Code = Code(1402);
    /// Alive, but not ready.
    pub const NOT_READY: Code = Code(1403);
    /// The command behind `--` can't be started.
    pub const CHILD: Code = Code(1501);
    /// A measurement failed: a connection broke, or bytes were lost on the way.
    pub const BENCH: Code = Code(1601);
    /// A listener can't be bound.
    pub const LISTEN: Code = Code(6101);
    /// The engine can't be opened.
    pub const ENGINE: Code = Code(6102);
    /// A thread or the runtime can't be started.
    pub const THREAD: Code = Code(6103);
    /// The process may have too few descriptors.
    pub const DESCRIPTORS: Code = Code(6104);
    /// The authority's store failed.
    pub const STORE: Code = Code(7101);
    /// The authority's store was written by a newer adit.
    pub const STORE_NEWER: Code = Code(7102);
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
    /// The command that mends it, ready to paste.
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

    /// What was typed is wrong.
    pub fn usage(what: impl Into<String>, why: impl fmt::Display) -> Failure {
        Failure::new(codes::USAGE, Exit::Usage, what, why)
    }

    /// As one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::json!({
            "code": self.code.to_string(),
            "what": self.what,
            "why": self.why,
        });
        if let Some(fix) = &self.fix {
            object["fix"] = serde_json::Value::from(fix.as_str());
        }
        object
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.what)?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\nfix: {fix}")?;
        }
        Ok(())
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
    fn a_cores_words_come_apart_into_reason_and_fix() {
        let problem = Problem::TicketUsed;
        let words = format!("{problem} by somebody; to mend it: {}", problem.mend());
        let failure = Failure::of_core(problem.code(), Exit::Denied, "no", &words);
        assert_eq!(failure.why, format!("{problem} by somebody"));
        assert_eq!(failure.fix.as_deref(), Some(problem.mend()));
        let failure = Failure::of_core(Code(1), Exit::Denied, "no", "other words");
        assert_eq!((failure.why.as_str(), failure.fix), ("other words", None));
    }
}

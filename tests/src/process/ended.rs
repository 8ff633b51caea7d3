//! What a program left when it had ended, and what a test expects of that.

use std::fmt;
use std::process::ExitStatus;

use super::{Failure, Outcome};

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// All of standard output.
    pub stdout: Vec<u8>,
    /// All of standard error; what is no UTF-8 is replaced.
    pub stderr: String,
}

impl Ended {
    /// Standard output as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The same, if the program ended with 0; else an error with all that it printed.
    pub fn success(self) -> Outcome<Ended> {
        if self.status.success() {
            Ok(self)
        } else {
            Err(Failure(self.to_string()))
        }
    }

    /// The same, if it ended with this code and its standard error holds `text`.
    pub fn failure(self, code: i32, text: &str) -> Outcome<Ended> {
        if self.code() == Some(code) && self.stderr.contains(text) {
            Ok(self)
        } else {
            Err(Failure(format!("no end with {code} and {text:?}: {self}")))
        }
    }

    /// Standard output as JSON, of a program that ended with 0.
    pub fn json(self) -> Outcome<serde_json::Value> {
        let ended = self.success()?;
        serde_json::from_slice(&ended.stdout)
            .map_err(|error| Failure(format!("no JSON ({error}): {ended}")))
    }

    /// The exit code; `None` for a program that a signal ended.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; printed: {}{}",
            self.status,
            self.text(),
            self.stderr
        )
    }
}

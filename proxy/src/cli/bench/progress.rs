//! How far the benchmark is, on stderr: one line that changes on a terminal, else a line for each
//! run.

use std::io::{self, IsTerminal, Write};

use super::figures::Figures;
use super::plan::{Cell, WayKind};
use super::report::amount;

/// The end of a terminal's line is blanked (ECMA-48, EL).
const TO_LINE_START: &str = "\r\x1b[K";

/// See the module. Dropping it leaves a terminal's line empty.
pub(super) struct Progress {
    terminal: bool,
    runs: usize,
    done: usize,
    now: String,
}

impl Progress {
    /// Before the first of so many runs.
    pub(super) fn new(runs: usize) -> Progress {
        Progress {
            terminal: io::stderr().is_terminal(),
            runs,
            done: 0,
            now: String::new(),
        }
    }

    /// A run begins.
    pub(super) fn begin(&mut self, round: u32, cell: Cell, way: WayKind) {
        let (at, of) = (self.done + 1, self.runs);
        self.now = format!("[{at}/{of}] round {round}: {cell}, {}", way.name());
        if self.terminal {
            self.write(&format!("{TO_LINE_START}{}", self.now));
        }
    }

    /// The run that began is over.
    pub(super) fn done(&mut self, figures: &Figures, cell: Cell) {
        self.done += 1;
        let result = amount(cell.work, figures);
        if self.terminal {
            self.write(&format!("{TO_LINE_START}{}: {result}", self.now));
        } else {
            self.write(&format!("{}: {result}\n", self.now));
        }
    }

    /// A reader that went away is no reason to stop.
    fn write(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes());
        let _ = stderr.flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            self.write(TO_LINE_START);
        }
    }
}

/// What is said next begins on a line of its own, also while a run is under way.
pub(super) fn break_line() {
    if io::stderr().is_terminal() {
        eprintln!();
    }
}

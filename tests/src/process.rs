//! A program under test: started, watched through its output, ended by its id.
//!
//! # Contract
//! - What it prints is collected from the first byte on, so that a wait for a line never misses one
//!   that came early.
//! - A wait ends with its event, or with the program's end, or at its deadline; never by a sleep.
//! - It never outlives its [`Process`], and not this test process either, even one that is killed.
//! - When a test fails, what its programs printed is part of the failure.

mod ended;
mod held;
mod output;
mod start;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

pub use ended::Ended;
pub use held::Held;
use output::{News, Output};
use start::{start, tied};

/// Why something did not happen that a test asked for. A test fails by unwrapping it, so `Debug`
/// prints the text as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure(text)
    }
}

/// A value, or why there is none.
pub type Outcome<T> = Result<T, Failure>;

/// The kernel must have carried out a signal by then.
const SIGNALLED: Duration = Duration::from_secs(10);

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
}

impl Process {
    /// Starts a program with no input and its standard output and error collected. `name` is what
    /// failures call it.
    pub fn spawn(name: &str, command: Command) -> Outcome<Process> {
        Process::launch(name, command, Stdio::null())
    }

    /// The same for a program that reads `input` to its end.
    pub fn spawn_fed(name: &str, command: Command, input: Vec<u8>) -> Outcome<Process> {
        let mut process = Process::launch(name, command, Stdio::piped())?;
        if let Some(mut pipe) = process.child.stdin.take() {
            // A program that ends early breaks the pipe; its status tells the test more than that.
            thread::spawn(move || drop(pipe.write_all(&input)));
        }
        Ok(process)
    }

    fn launch(name: &str, command: Command, stdin: Stdio) -> Outcome<Process> {
        let program = command.get_program().to_owned();
        let mut command = tied(command);
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = start(command)
            .map_err(|error| format!("{name}: {} does not start: {error}", program.display()))?;
        let stdout = Output::collect(child.stdout.take());
        let stderr = Output::collect(child.stderr.take());
        Ok(Process {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        })
    }

    /// Runs a program to its end, which must come `within` that time.
    pub fn run(name: &str, command: Command, within: Duration) -> Outcome<Ended> {
        Process::spawn(name, command)?.finish(within)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of standard error that holds all of `parts`, and returns it. Fails when the
    /// program ends without having printed one.
    pub fn wait_for_line(&self, parts: &[&str], within: Duration) -> Outcome<String> {
        self.wait_for_line_after(0, parts, within)
    }

    /// The same behind the first `after` lines: for an event that comes again. See
    /// [`Process::lines`].
    pub fn wait_for_line_after(
        &self,
        after: usize,
        parts: &[&str],
        within: Duration,
    ) -> Outcome<String> {
        let holds = |line: &&str| parts.iter().all(|part| line.contains(part));
        let find = |text: &str| {
            let line = text.lines().skip(after).find(holds);
            line.map(str::to_owned)
        };
        self.stderr
            .wait_for(Instant::now() + within, find)
            .map_err(|why| {
                let (name, text) = (&self.name, self.stderr.text());
                Failure(format!(
                    "{name}: no line with {parts:?} within {within:?}: {why}; printed: {text}"
                ))
            })
    }

    /// How many lines of standard error there are up to now.
    pub fn lines(&self) -> usize {
        self.stderr.text().lines().count()
    }

    /// All of standard error up to now.
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    /// The lines of standard error that hold all of `parts`, up to now.
    pub fn lines_with(&self, parts: &[&str]) -> Vec<String> {
        let holds = |line: &&str| parts.iter().all(|part| line.contains(part));
        self.stderr
            .text()
            .lines()
            .filter(holds)
            .map(str::to_owned)
            .collect()
    }

    /// Is it still running?
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal; to a program that is gone it does nothing.
    pub fn signal(&mut self, signal: Signal) {
        if self.runs() {
            // It is unreaped, so that its id can't have gone to another process meanwhile.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Ends it at once (SIGKILL) and reaps it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Outcome<ExitStatus> {
        let end = Instant::now() + within;
        let (name, id) = (self.name.clone(), self.child.id());
        let fail = |what: String| Failure(format!("{name} (process {id}): {what}"));
        if let Ok(Some(status)) = self.child.try_wait() {
            return Ok(status);
        }
        let fd = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())
            .map_err(|error| fail(format!("can't be watched: {error}")))?;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|error| fail(error.to_string()))?;
            match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left)) {
                Ok(0) => return Err(fail(format!("still runs after {within:?}"))),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(fail(format!("can't be watched: {error}"))),
            }
        }
        self.child.wait().map_err(|error| fail(error.to_string()))
    }

    /// Waits for its end and returns all that it printed.
    pub fn finish(mut self, within: Duration) -> Outcome<Ended> {
        let end = Instant::now() + within;
        let status = self.wait(within).map_err(|why| {
            Failure(format!(
                "{why}; printed: {}{}",
                self.stdout.text(),
                self.stderr.text()
            ))
        })?;
        // A child of its own may hold the pipes open; what came until the deadline has to do.
        let stdout = self.stdout.all(end);
        let stderr = String::from_utf8_lossy(&self.stderr.all(end)).into_owned();
        Ok(Ended {
            status,
            stdout,
            stderr,
        })
    }

    /// Stops it (SIGSTOP) and waits until none of its threads runs.
    pub fn stop(&mut self) -> Outcome<()> {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        let stopped = eventually(&format!("{} is stopped", self.name), SIGNALLED, || {
            let threads = std::fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))?;
            for thread in threads.flatten() {
                let state = status_field(&thread.path().join("status"), "State:")?;
                if !state.starts_with('T') {
                    return Err(Failure(format!("{} is {state}", thread.path().display())));
                }
            }
            Ok(())
        });
        stopped.map(|_| ())
    }

    /// Lets it go on after [`Process::stop`].
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Resident memory in bytes (VmRSS).
    pub fn resident_bytes(&self) -> Outcome<u64> {
        let status = format!("/proc/{}/status", self.child.id());
        let field = status_field(Path::new(&status), "VmRSS:")?;
        let kib = field
            .strip_suffix(" kB")
            .and_then(|kib| kib.parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| Failure(format!("VmRSS is {field:?}")))
    }
}

/// A field of a `/proc/…/status`.
fn status_field(path: &Path, label: &str) -> Outcome<String> {
    let shown = path.display();
    let status = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    let field = status.lines().find_map(|line| line.strip_prefix(label));
    let field = field.ok_or_else(|| Failure(format!("{shown} has no {label}")))?;
    Ok(field.trim().to_owned())
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
            eprintln!(
                "--- {} printed:\n{stdout}{stderr}--- end of {}",
                self.name, self.name
            );
        }
    }
}

/// Repeats `attempt` until it succeeds, and returns what it gave and how long that took. For states
/// of other programs that no event announces: it is repeated when some watched program prints
/// something, and every 20 ms, so that the programs under test have the processor between.
pub fn eventually<T>(
    what: &str,
    within: Duration,
    mut attempt: impl FnMut() -> Outcome<T>,
) -> Outcome<(T, Duration)> {
    let began = Instant::now();
    loop {
        let seen = News::so_far();
        match attempt() {
            Ok(value) => return Ok((value, began.elapsed())),
            Err(why) if began.elapsed() > within => {
                return Err(Failure(format!(
                    "{what}: not within {within:?}; the last attempt: {why}"
                )));
            }
            Err(_) => News::wait(seen, Duration::from_millis(20)),
        }
    }
}

/// Is there a program of that name in `PATH`?
pub fn installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

/// Says that a test, or a part of it, could not run here, where the test command finds it: it is
/// written past the capture of the test harness.
pub fn skipped(what: &str, why: &str) {
    // On a line of its own, also where the harness has just begun one with the name of the test.
    let _ = writeln!(io::stderr(), "\nSKIPPED: {what}: {why}");
}

/// Are the long forms of the tests wanted (`ADIT_LONG=1`)?
pub fn long() -> bool {
    std::env::var_os("ADIT_LONG").is_some_and(|value| value == "1")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

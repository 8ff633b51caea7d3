//! Processes of the binary: short ones that are run to their end, long ones that are watched.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli::DEADLINE;

/// What a short command printed.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed on stdout.
    pub stdout: String,
    /// What it printed on stderr.
    pub stderr: String,
}

impl Output {
    /// Fails unless it ended with 0.
    #[track_caller]
    pub fn success(self) -> Output {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Fails unless it ended with this code and its stderr holds the text.
    #[track_caller]
    pub fn failure(self, code: i32, text: &str) -> Output {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(self.stderr.contains(text), "{text:?} is not in {self:#?}");
        self
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Runs a command to its end with this on its stdin.
pub fn run(command: &mut Command, stdin: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end without having read.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let stderr = child.stderr.take().unwrap();
    let stderr = std::thread::spawn(move || read_all(stderr));
    let stdout = read_all(child.stdout.take().unwrap());
    let status = child.wait().unwrap();
    Output {
        code: status.code(),
        stdout,
        stderr: stderr.join().unwrap(),
    }
}

fn read_all(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Debug, Default)]
struct Log {
    lines: Vec<String>,
    ended: bool,
}

/// A process that runs until the test is done with it. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: Arc<(Mutex<Log>, Condvar)>,
    reader: Option<JoinHandle<()>>,
    stdout: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a command; `name` is what failures call it.
    pub fn start(name: &str, command: &mut Command) -> Running {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new((Mutex::new(Log::default()), Condvar::new()));
        let shared = Arc::clone(&log);
        let stderr = child.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                shared.0.lock().unwrap().lines.push(line);
                shared.1.notify_all();
            }
            shared.0.lock().unwrap().ended = true;
            shared.1.notify_all();
        });
        let stdout = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || read_all(stdout));
        let reader = Some(reader);
        Running {
            name: name.into(),
            child,
            log,
            reader,
            stdout: Some(stdout),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of its log that holds all of these texts, among those after the first
    /// `after`, and returns the line.
    #[track_caller]
    pub fn wait_for_after(&self, after: usize, texts: &[&str]) -> String {
        let until = Instant::now() + DEADLINE;
        let mut log = self.log.0.lock().unwrap();
        loop {
            let mut lines = log.lines.iter().skip(after);
            if let Some(line) = lines.find(|line| texts.iter().all(|text| line.contains(text))) {
                return line.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            if log.ended || left.is_zero() {
                let what = if log.ended { "ended" } else { "is late" };
                panic!(
                    "{} {what}; no line with {texts:?} in:\n{}",
                    self.name,
                    log.lines.join("\n")
                );
            }
            log = self.log.1.wait_timeout(log, left).unwrap().0;
        }
    }

    /// Waits for a line that holds all of these texts.
    #[track_caller]
    pub fn wait_for(&self, texts: &[&str]) -> String {
        self.wait_for_after(0, texts)
    }

    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn wait_ready(&self) {
        self.wait_for(&["info  ready"]);
    }

    /// How many lines it has logged.
    pub fn lines(&self) -> usize {
        self.log.0.lock().unwrap().lines.len()
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        self.log.0.lock().unwrap().lines.join("\n")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; returns its status and what it printed on stdout.
    #[track_caller]
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let until = Instant::now() + DEADLINE;
        let mut log = self.log.0.lock().unwrap();
        while !log.ended {
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{} did not end:\n{}",
                self.name,
                log.lines.join("\n")
            );
            log = self.log.1.wait_timeout(log, left).unwrap().0;
        }
        drop(log);
        let status = self.child.wait().unwrap();
        let stdout = self.stdout.take().map(|thread| thread.join().unwrap());
        (status, stdout.unwrap_or_default())
    }

    /// Sends SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- log of {} ----\n{}", self.name, self.log());
        }
    }
}

/// A command without the surrounding environment's `ADIT_*`.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ADIT_") {
            command.env_remove(name);
        }
    }
    command
}

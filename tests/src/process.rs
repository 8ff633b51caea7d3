//! A program under test: started, watched through its output, ended by its id.
//!
//! # Contract
//! - What it prints is collected from the first byte on, so that a wait for a line never misses one
//!   that came early.
//! - A wait ends with its event, or with the program's end, or at its deadline; never by a sleep.
//! - It never outlives its [`Process`], and not this test process either, even one that is killed.
//! - When a test fails, what its programs printed is part of the failure.

use std::fmt;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

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

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
}

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
        let holds = |line: &str| parts.iter().all(|part| line.contains(part));
        let find = |text: &str| text.lines().find(|line| holds(line)).map(str::to_owned);
        self.stderr
            .wait_for(Instant::now() + within, find)
            .map_err(|why| {
                let (name, text) = (&self.name, self.stderr.text());
                Failure(format!(
                    "{name}: no line with {parts:?} within {within:?}: {why}; printed: {text}"
                ))
            })
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

    /// Resident memory in bytes (VmRSS).
    pub fn resident_bytes(&self) -> Outcome<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        status
            .lines()
            .find_map(|line| {
                line.strip_prefix("VmRSS:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .parse::<u64>()
                    .ok()
            })
            .map(|kib| kib * 1024)
            .ok_or_else(|| Failure(format!("{path} has no VmRSS")))
    }
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

/// What one pipe of a program brought.
struct Output {
    so_far: Mutex<SoFar>,
    news: Condvar,
}

#[derive(Default)]
struct SoFar {
    bytes: Vec<u8>,
    ended: bool,
}

impl Output {
    fn collect(pipe: Option<impl Read + Send + 'static>) -> Arc<Output> {
        let output = Arc::new(Output {
            so_far: Mutex::default(),
            news: Condvar::new(),
        });
        let collector = Arc::clone(&output);
        thread::spawn(move || {
            let mut chunk = [0; 16 * 1024];
            if let Some(mut pipe) = pipe {
                while let Ok(len @ 1..) = pipe.read(&mut chunk) {
                    collector.lock().bytes.extend_from_slice(&chunk[..len]);
                    collector.news.notify_all();
                    announce_news();
                }
            }
            collector.lock().ended = true;
            collector.news.notify_all();
            announce_news();
        });
        output
    }

    /// A test that failed elsewhere must still be able to print what it has.
    fn lock(&self) -> MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// Waits until `find` finds something in the complete lines so far.
    fn wait_for<T>(&self, end: Instant, find: impl Fn(&str) -> Option<T>) -> Outcome<T> {
        let mut so_far = self.lock();
        loop {
            let newline = so_far.bytes.iter().rposition(|&byte| byte == b'\n');
            let complete = if so_far.ended {
                so_far.bytes.len()
            } else {
                newline.map_or(0, |at| at + 1)
            };
            if let Some(found) = find(&String::from_utf8_lossy(&so_far.bytes[..complete])) {
                return Ok(found);
            }
            if so_far.ended {
                return Err(Failure("it ended before".to_owned()));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure("the time is over".to_owned()));
            }
            so_far = self
                .news
                .wait_timeout(so_far, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// All of it, once the program closed the pipe, or what there is at the deadline.
    fn all(&self, end: Instant) -> Vec<u8> {
        let left = end.saturating_duration_since(Instant::now());
        let waited = self
            .news
            .wait_timeout_while(self.lock(), left, |so_far| !so_far.ended);
        waited
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .bytes
            .clone()
    }
}

/// Whatever any watched program printed may be what somebody waits for: counts the pieces.
static NEWS: (Mutex<u64>, Condvar) = (Mutex::new(0), Condvar::new());

fn announce_news() {
    *NEWS.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    NEWS.1.notify_all();
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
        let seen = *NEWS.0.lock().unwrap_or_else(PoisonError::into_inner);
        match attempt() {
            Ok(value) => return Ok((value, began.elapsed())),
            Err(why) if began.elapsed() > within => {
                return Err(Failure(format!(
                    "{what}: not within {within:?}; the last attempt: {why}"
                )));
            }
            Err(_) => {
                let news = NEWS.0.lock().unwrap_or_else(PoisonError::into_inner);
                drop(
                    NEWS.1
                        .wait_timeout_while(news, Duration::from_millis(20), |now| *now == seen),
                );
            }
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

type Request = (Command, mpsc::SyncSender<io::Result<Child>>);

/// Starts a [`tied`] program.
///
/// The kernel watches the *thread* that started the program, and a test's thread ends before the
/// test process does: so one thread starts them all and stays.
fn start(command: Command) -> io::Result<Child> {
    static STARTER: LazyLock<Mutex<mpsc::Sender<Request>>> = LazyLock::new(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in requests {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let gone = || io::Error::other("the thread that starts programs is gone");
    let (reply, child) = mpsc::sync_channel(1);
    STARTER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, reply))
        .map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

/// The same command behind `setpriv --pdeathsig`, which becomes it: the kernel ends it when this test
/// process ends, however it does. Without setpriv a killed test run leaves its programs behind, and
/// nothing else changes. Loses what was set for standard input and output: set these afterwards.
fn tied(command: Command) -> Command {
    if !installed("setpriv") {
        return command;
    }
    let mut tied = Command::new("setpriv");
    tied.args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        tied.current_dir(folder);
    }
    tied
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const SHORTLY: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_run_returns_all_that_was_printed_and_the_code() {
        let ended = Process::run("sh", shell("echo out; echo err >&2; exit 3"), SHORTLY).unwrap();
        assert_eq!(
            (ended.text().as_str(), ended.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert_eq!(ended.code(), Some(3));
        assert!(ended.success().is_err());
    }

    #[test]
    fn a_line_is_found_however_early_it_came() {
        let process = Process::spawn("sh", shell("echo one >&2; echo two >&2; cat")).unwrap();
        assert_eq!(process.wait_for_line(&["t", "wo"], SHORTLY).unwrap(), "two");
        assert_eq!(process.wait_for_line(&["one"], SHORTLY).unwrap(), "one");
        assert_eq!(process.lines_with(&["o"]), ["one", "two"]);
    }

    #[test]
    fn a_wait_for_a_line_ends_with_the_program_and_at_its_deadline() {
        let ended = Process::spawn("sh", shell("echo no >&2")).unwrap();
        let why = ended.wait_for_line(&["yes"], SHORTLY).unwrap_err();
        assert!(
            why.0.contains("ended before") && why.0.contains("no"),
            "{why}"
        );
        let mut endless = Command::new("tail");
        endless.args(["-f", "/dev/null"]);
        let endless = Process::spawn("tail", endless).unwrap();
        let why = endless
            .wait_for_line(&["yes"], Duration::from_millis(10))
            .unwrap_err();
        assert!(why.0.contains("the time is over"), "{why}");
    }

    #[test]
    fn a_program_that_still_runs_is_an_error_at_the_deadline_and_a_kill_ends_it() {
        let mut command = Command::new("tail");
        command.args(["-f", "/dev/null"]);
        let mut process = Process::spawn("tail", command).unwrap();
        assert!(process.wait(Duration::from_millis(10)).is_err());
        assert!(process.runs());
        assert!(process.resident_bytes().unwrap() > 0);
        process.kill();
        assert!(!process.runs());
        assert_eq!(process.wait(SHORTLY).unwrap().code(), None);
    }

    #[test]
    fn a_program_is_fed_its_input() {
        let mut process = Process::spawn_fed("cat", Command::new("cat"), b"fed".to_vec()).unwrap();
        assert_eq!(process.wait(SHORTLY).unwrap().code(), Some(0));
        assert_eq!(process.finish(SHORTLY).unwrap().text(), "fed");
    }

    #[test]
    fn what_never_happens_is_an_error_that_says_what_was_seen_last() {
        let mut attempts = 0;
        let never = eventually("it", Duration::from_millis(50), || {
            attempts += 1;
            Err::<(), _>(Failure(format!("attempt {attempts}")))
        });
        assert!(
            never
                .unwrap_err()
                .0
                .contains(&format!("attempt {attempts}"))
        );
        assert!(attempts > 1);
    }
}

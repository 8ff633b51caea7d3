//! The socket's client end, for the command line: blocking, one call at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde_json::Value;

use super::wire::Call;
use crate::control::failure::{Exit, Failure, codes};
use crate::control::files::SOCKET;
use crate::error::Code;
use crate::limits::{ADMIN_ANSWER_MAX, ADMIN_CALL_TIMEOUT, SOCKET_PATH_MAX};
use std::os::fd::AsRawFd;

/// A connection to the process that uses a state directory.
pub struct AdminClient {
    stream: BufReader<UnixStream>,
}

impl AdminClient {
    /// Connects; nothing if no process answers there.
    ///
    /// # Errors
    /// The socket is there and can't be reached (permissions).
    pub fn connect(dir: &Path) -> Result<Option<AdminClient>, Failure> {
        let connected = with_short_path(dir, |short| UnixStream::connect(short.join(SOCKET)))
            .and_then(|stream| {
                stream.set_read_timeout(Some(ADMIN_CALL_TIMEOUT))?;
                stream.set_write_timeout(Some(ADMIN_CALL_TIMEOUT))?;
                Ok(stream)
            });
        match connected {
            Ok(stream) => Ok(Some(AdminClient {
                stream: BufReader::new(stream),
            })),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(broken(dir, &error)),
        }
    }

    /// Makes a call and waits for its answer, at most [`ADMIN_CALL_TIMEOUT`].
    ///
    /// # Errors
    /// The process's own failure, or that it did not answer; what was asked may still be carried out then.
    pub fn call(&mut self, call: &Call) -> Result<Value, Failure> {
        let line = format!(
            "{}\n",
            serde_json::to_string(call).map_err(|e| spoiled(&e))?
        );
        self.stream
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(|e| spoiled(&e))?;
        let mut answer = String::new();
        (&mut self.stream)
            .take(ADMIN_ANSWER_MAX as u64)
            .read_line(&mut answer)
            .map_err(|e| unanswered(&e))?;
        let mut answer: Value = serde_json::from_str(&answer).map_err(|e| spoiled(&e))?;
        if let Some(error) = answer.get("error") {
            return Err(failure_from_json(error));
        }
        Ok(answer["ok"].take())
    }
}

/// Runs `f` with a path that names `dir` and leaves room for a socket's name: `sun_path` has 108
/// bytes, and homes can be deep.
pub(super) fn with_short_path<T>(
    dir: &Path,
    f: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    if dir.as_os_str().len() + 1 + SOCKET.len() <= SOCKET_PATH_MAX {
        return f(dir);
    }
    let held = rustix::fs::open(dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    f(&PathBuf::from(format!(
        "/proc/self/fd/{}",
        held.as_raw_fd()
    )))
}

fn broken(dir: &Path, error: &io::Error) -> Failure {
    let what = format!("can't reach the process that uses {}", dir.display());
    Failure::new(codes::ADMIN, Exit::State, what, error)
}

fn spoiled(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        codes::ADMIN,
        Exit::Runtime,
        "the running process did not answer",
        error,
    )
}

/// Reading failed after the call was made.
fn unanswered(error: &io::Error) -> Failure {
    let is_late = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind());
    if !is_late {
        return spoiled(error);
    }
    let why = format!(
        "it has said nothing for {} s; what it was asked may still be carried out",
        ADMIN_CALL_TIMEOUT.as_secs()
    );
    spoiled(&why).fix("adit audit tail")
}

fn failure_from_json(error: &Value) -> Failure {
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_string();
    let code = text("code")
        .strip_prefix("ADIT-")
        .and_then(|digits| digits.parse().ok());
    Failure {
        code: code.map_or(codes::ADMIN, Code),
        exit: Exit::Runtime,
        what: text("what"),
        why: text("why"),
        fix: error["fix"].as_str().map(str::to_string),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_call_whose_time_is_over_may_still_be_carried_out() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let mut client = AdminClient {
            stream: BufReader::new(ours),
        };
        let failure = client.call(&Call::Status).unwrap_err();
        assert_eq!(failure.code, codes::ADMIN);
        assert!(
            failure
                .why
                .ends_with("it was asked may still be carried out"),
            "{failure}"
        );
    }
}

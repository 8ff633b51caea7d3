//! One thread of a process that does not run for a while.

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Failure, Outcome, Process};

/// The main thread of a process, stopped by ptrace(2) while all others run. It goes on when this is dropped, which
/// the thread that made it must do.
///
/// No signal stops a single thread: SIGSTOP stops them all.
pub struct Held {
    thread: Pid,
}

impl Held {
    /// Holds the main thread of a process: where adit's control runs. `None` where this user may not trace.
    ///
    /// Nobody may wait for the process meanwhile, for they would hear of the stop.
    pub fn main_thread(process: &Process) -> Outcome<Option<Held>> {
        let fail = |what, errno: Errno| Failure(format!("ptrace: {what}: {errno}"));
        let id = i32::try_from(process.id()).map_err(|error| Failure(error.to_string()))?;
        let thread = Pid::from_raw(id);
        match ptrace::attach(thread) {
            Ok(()) => {}
            Err(Errno::EPERM) => return Ok(None),
            Err(errno) => return Err(fail("attaching", errno)),
        }
        let held = Held { thread };
        match waitpid(thread, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Stopped(..)) => Ok(Some(held)),
            Ok(other) => Err(Failure(format!("waiting for the stop: {other:?}"))),
            Err(errno) => Err(fail("waiting for the stop", errno)),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It fails only if the process is gone.
        let _ = ptrace::detach(self.thread, None);
    }
}

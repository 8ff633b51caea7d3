//! Starting programs that do not outlive the test process.

use std::io;
use std::process::{Child, Command};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::thread;

use super::installed;

type Request = (Command, mpsc::SyncSender<io::Result<Child>>);

/// Starts a [`tied`] program.
///
/// The kernel watches the *thread* that started the program, and a test's thread ends before the
/// test process does: so one thread starts them all and stays.
pub fn start(command: Command) -> io::Result<Child> {
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
pub fn tied(command: Command) -> Command {
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

//! The socket's server end: accepts callers, checks who they are, and passes their calls to the
//! driver, which owns the core.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::wire::{self, Call};
use crate::control::callers;
use crate::control::failure::{Exit, Failure, codes};
use crate::control::files::{SOCKET, unusable};
use crate::limits::{ADMIN_CALLERS_MAX, ADMIN_LINE_MAX, ADMIN_QUEUE_MAX};

/// A call on its way to the driver, with the way back.
pub struct Asked {
    /// The call.
    pub call: Call,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Value, Failure>>,
}

/// The listening socket. Its file is removed when this is dropped.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl AdminSocket {
    /// Makes the socket in a state directory whose lock the caller has, so a socket that is there
    /// already is left over from a process that was killed.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(dir: &Path) -> Result<AdminSocket, Failure> {
        let path = dir.join(SOCKET);
        let bind = || -> io::Result<UnixListener> {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = super::client::with_short_path(dir, |short| {
                std::os::unix::net::UnixListener::bind(short.join(SOCKET))
            })?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        };
        let listener = bind().map_err(|error| unusable(&path, &error))?;
        Ok(AdminSocket { listener, path })
    }

    /// Answers callers until this task is dropped. Runs on a local task set.
    pub async fn serve(self, calls: mpsc::Sender<Asked>) {
        let accept = async || self.listener.accept().await.map(|(stream, _)| stream);
        let serve = async move |stream| {
            if may_call(&stream) {
                let _ = converse(stream, &calls).await;
            }
        };
        callers::serve(ADMIN_CALLERS_MAX, accept, serve).await;
    }
}

/// The way to the driver, bounded: callers wait, the driver never does.
pub fn queue() -> (mpsc::Sender<Asked>, mpsc::Receiver<Asked>) {
    mpsc::channel(ADMIN_QUEUE_MAX)
}

/// This process's user, or root, who could read its keys anyway.
fn may_call(stream: &UnixStream) -> bool {
    let user = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == user || peer.uid() == 0)
}

async fn converse(stream: UnixStream, calls: &mpsc::Sender<Asked>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        let read_len = (&mut read)
            .take(ADMIN_LINE_MAX as u64)
            .read_line(&mut line)
            .await?;
        if read_len == 0 {
            return Ok(());
        }
        if !line.ends_with('\n') {
            let why = format!("a call is a line of at most {ADMIN_LINE_MAX} bytes");
            let failure = Failure::new(codes::ADMIN, Exit::Usage, "the call is malformed", why);
            return write
                .write_all(wire::write_answer(Err(failure)).as_bytes())
                .await;
        }
        let answer = match wire::read_call(line.trim_end()) {
            Ok(call) => ask(calls, call).await,
            Err(failure) => Err(failure),
        };
        let text = zeroize::Zeroizing::new(wire::write_answer(answer));
        write.write_all(text.as_bytes()).await?;
    }
}

async fn ask(calls: &mpsc::Sender<Asked>, call: Call) -> Result<Value, Failure> {
    let (reply, answer) = oneshot::channel();
    let stopping = || {
        Failure::new(
            codes::ADMIN,
            Exit::Runtime,
            "the call was not answered",
            "the process is stopping",
        )
    };
    calls
        .send(Asked { call, reply })
        .await
        .map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())?
}

//! The service's end of a connection, as a client reaches it.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::BENCH_STALL_DEADLINE;

/// What the built-in service does with a connection: its first byte says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Sends back what it gets.
    Echo,
    /// Counts what it gets; answers with the count as eight bytes once the client has ended.
    Sink,
    /// Sends from the client's next byte to its end of data, and then the count of what it sent.
    Source,
}

impl Mode {
    /// The first byte.
    pub(super) const fn byte(self) -> u8 {
        match self {
            Mode::Echo => b'E',
            Mode::Sink => b'S',
            Mode::Source => b'D',
        }
    }

    pub(super) const fn from_byte(byte: u8) -> Option<Mode> {
        match byte {
            b'E' => Some(Mode::Echo),
            b'S' => Some(Mode::Sink),
            b'D' => Some(Mode::Source),
            _ => None,
        }
    }
}

/// Where the service, or the portal to it, is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint {
    address: SocketAddr,
    /// It is the built-in service, which is told its mode.
    own: bool,
}

impl Endpoint {
    /// The built-in service.
    pub(super) fn own(address: SocketAddr) -> Endpoint {
        Endpoint { address, own: true }
    }

    /// Somebody's service, which echoes.
    pub(super) fn echo(address: SocketAddr) -> Endpoint {
        Endpoint {
            address,
            own: false,
        }
    }

    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// A connection in that mode.
    ///
    /// # Errors
    /// It is refused, or takes longer than [`BENCH_STALL_DEADLINE`].
    pub(super) async fn open(&self, mode: Mode) -> io::Result<TcpStream> {
        let mut stream = self.connect().await?;
        if self.own {
            stream.write_all(&[mode.byte()]).await?;
        }
        Ok(stream)
    }

    /// A connection, and the bytes that begin an echo of `message` on it.
    pub(super) async fn open_with(&self, message: &[u8]) -> io::Result<TcpStream> {
        let mut stream = self.connect().await?;
        if self.own {
            let first = [&[Mode::Echo.byte()], message].concat();
            stream.write_all(&first).await?;
        } else {
            stream.write_all(message).await?;
        }
        Ok(stream)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let connected = timeout(BENCH_STALL_DEADLINE, TcpStream::connect(self.address)).await;
        let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

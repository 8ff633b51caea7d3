//! As many bytes as possible: to the service, from it, or there and back.

use std::io;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::endpoint::{Endpoint, Mode};
use super::fleet::{CHUNK, Load, Tally};

/// Bytes of the count that ends a source's data.
const COUNT: usize = size_of::<u64>();

/// To the service, which counts.
#[derive(Clone)]
pub(super) struct Upload {
    pub(super) to: Endpoint,
}

impl Load for Upload {
    type Ready = TcpStream;

    async fn prepare(&self, _: usize) -> io::Result<TcpStream> {
        self.to.open(Mode::Sink).await
    }

    async fn run(&self, mut stream: TcpStream, until: Instant) -> io::Result<Tally> {
        let (mut read, mut write) = stream.split();
        let sent = send(&mut write, until).await?;
        let counted = read.read_u64().await?;
        Tally::transfer(sent, counted)
    }
}

/// From the service, which counts.
#[derive(Clone)]
pub(super) struct Download {
    pub(super) to: Endpoint,
}

impl Load for Download {
    type Ready = TcpStream;

    async fn prepare(&self, _: usize) -> io::Result<TcpStream> {
        self.to.open(Mode::Source).await
    }

    async fn run(&self, mut stream: TcpStream, until: Instant) -> io::Result<Tally> {
        let (mut read, mut write) = stream.split();
        write.write_u8(0).await?;
        let stop = async {
            tokio::time::sleep_until(until.into()).await;
            write.shutdown().await
        };
        let (received, stopped) = tokio::join!(receive(&mut read), stop);
        stopped?;
        let Received { bytes, last } = received?;
        Tally::transfer(u64::from_be_bytes(last), bytes.saturating_sub(COUNT as u64))
    }
}

/// There and back.
#[derive(Clone)]
pub(super) struct Echo {
    pub(super) to: Endpoint,
}

impl Load for Echo {
    type Ready = TcpStream;

    async fn prepare(&self, _: usize) -> io::Result<TcpStream> {
        self.to.open(Mode::Echo).await
    }

    async fn run(&self, mut stream: TcpStream, until: Instant) -> io::Result<Tally> {
        let (mut read, mut write) = stream.split();
        let (sent, received) = tokio::join!(send(&mut write, until), receive(&mut read));
        Tally::transfer(sent?, received?.bytes)
    }
}

/// Sends until then, and the end of data. Returns how many bytes.
async fn send(write: &mut WriteHalf<'_>, until: Instant) -> io::Result<u64> {
    let chunk = vec![0x5a; CHUNK];
    let mut sent = 0;
    while Instant::now() < until {
        sent += write.write(&chunk).await? as u64;
    }
    write.shutdown().await?;
    Ok(sent)
}

struct Received {
    bytes: u64,
    /// The last eight of them.
    last: [u8; COUNT],
}

/// Reads to the end of data.
async fn receive(read: &mut ReadHalf<'_>) -> io::Result<Received> {
    let mut chunk = vec![0; CHUNK];
    let mut received = Received {
        bytes: 0,
        last: [0; COUNT],
    };
    loop {
        let len = match read.read(&mut chunk).await? {
            0 => return Ok(received),
            len => len,
        };
        received.bytes += len as u64;
        let fresh = len.min(COUNT);
        received.last.rotate_left(fresh);
        received.last[COUNT - fresh..].copy_from_slice(&chunk[len - fresh..len]);
    }
}

//! Load through a hop, and the service behind it. Both ends count, and an end that disagrees fails
//! the run.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use super::CHUNK;

/// First byte of a connection whose bytes are counted, and not sent back.
const SINK: u8 = b'S';
/// First byte of one whose bytes are sent back.
const ECHO: u8 = b'E';

/// Connections of the small messages.
pub const CONNECTIONS: usize = 50;
/// Bytes of a small message.
pub const MESSAGE: usize = 64;

/// What a run did.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Bytes in bulk, or round trips.
    pub amount: u64,
    /// How long it took.
    pub time: Duration,
}

/// Starts the service on a thread that ends with the process.
///
/// # Errors
/// There is no port.
pub fn service() -> io::Result<SocketAddr> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        local(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                spawn_local(async { answer(stream).await });
            }
            #[expect(unreachable_code, reason = "it gives the future its type")]
            Ok(())
        })
    });
    Ok(address)
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let echo = stream.read_u8().await? == ECHO;
    let mut chunk = vec![0; CHUNK];
    let mut count = 0_u64;
    loop {
        let len = stream.read(&mut chunk).await?;
        count += len as u64;
        if len == 0 {
            break;
        }
        if echo {
            stream.write_all(&chunk[..len]).await?;
        }
    }
    if !echo {
        stream.write_u64(count).await?;
    }
    stream.shutdown().await
}

/// As many bytes as possible over one connection.
///
/// # Errors
/// The connection broke, or the service counted other bytes than were sent.
pub fn bulk(to: SocketAddr, time: Duration) -> io::Result<Done> {
    local(async move {
        let mut stream = open(to, SINK).await?;
        let chunk = vec![0x5a; 2 * CHUNK];
        let mut amount = 0;
        let began = Instant::now();
        while began.elapsed() < time {
            amount += stream.write(&chunk).await? as u64;
        }
        stream.shutdown().await?;
        let counted = stream.read_u64().await?;
        if counted != amount {
            let what = format!("{amount} bytes were sent and {counted} arrived");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let time = began.elapsed();
        Ok(Done { amount, time })
    })
}

/// Round trips of [`MESSAGE`] bytes on [`CONNECTIONS`] connections, each with one on its way.
///
/// # Errors
/// A connection broke, or another message came back than was sent.
pub fn small(to: SocketAddr, time: Duration) -> io::Result<Done> {
    local(async move {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            streams.push(open(to, ECHO).await?);
        }
        let began = Instant::now();
        let until = began + time;
        let running: Vec<_> = streams
            .into_iter()
            .map(|stream| spawn_local(round_trips(stream, until)))
            .collect();
        let mut amount = 0;
        for one in running {
            amount += one.await.map_err(io::Error::other)??;
        }
        let time = began.elapsed();
        Ok(Done { amount, time })
    })
}

async fn round_trips(mut stream: TcpStream, until: Instant) -> io::Result<u64> {
    let (mut count, mut back) = (0_u64, [0; MESSAGE]);
    while Instant::now() < until {
        let mut message = [0x5a; MESSAGE];
        message[..8].copy_from_slice(&count.to_be_bytes());
        stream.write_all(&message).await?;
        stream.read_exact(&mut back).await?;
        if back != message {
            return Err(io::ErrorKind::InvalidData.into());
        }
        count += 1;
    }
    Ok(count)
}

async fn open(to: SocketAddr, first: u8) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    stream.write_u8(first).await?;
    Ok(stream)
}

fn local<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(LocalSet::new().run_until(future))
}

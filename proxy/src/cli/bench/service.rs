//! The built-in service: echo, sink and source on one port, see [`Mode`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::endpoint::Mode;
use super::fleet::{self, CHUNK};
use crate::limits::LISTEN_BACKLOG;

/// Starts it on threads that end with the process. Returns where it listens.
///
/// # Errors
/// No port, no thread.
pub(super) fn start() -> io::Result<SocketAddr> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // std asks for 128, and the kernel answers what goes beyond with SYN cookies: connections whose
    // first bytes can be lost (seen on 6.18 with 300 at once).
    rustix::net::listen(&listener, LISTEN_BACKLOG)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    for _ in 0..fleet::threads() {
        let listener = listener.try_clone()?;
        thread::Builder::new()
            .name("bench-service".into())
            .spawn(move || fleet::local(serve(listener)))?;
    }
    Ok(address)
}

async fn serve(listener: StdListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // What went wrong on a connection its client sees, and says.
                tokio::task::spawn_local(async { answer(stream).await });
            }
            // Descriptors are used up: some client is about to end.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match Mode::from_byte(stream.read_u8().await?) {
        Some(Mode::Echo) => echo(stream).await,
        Some(Mode::Sink) => sink(stream).await,
        Some(Mode::Source) => source(stream).await,
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk).await? {
            0 => return stream.shutdown().await,
            len => stream.write_all(&chunk[..len]).await?,
        }
    }
}

async fn sink(mut stream: TcpStream) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut count = 0_u64;
    loop {
        match stream.read(&mut chunk).await? {
            0 => break,
            len => count += len as u64,
        }
    }
    stream.write_u64(count).await?;
    stream.shutdown().await
}

async fn source(mut stream: TcpStream) -> io::Result<()> {
    let chunk = vec![0x5a; CHUNK];
    let mut count = 0_u64;
    stream.read_u8().await?;
    let (mut read, mut write) = stream.split();
    let mut end = [0];
    loop {
        tokio::select! {
            biased;
            ended = read.read(&mut end) => {
                ended?;
                break;
            }
            sent = write.write(&chunk) => count += sent? as u64,
        }
    }
    write.write_u64(count).await?;
    write.shutdown().await
}

//! The hop made of futures: one task for each direction of a connection.

use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice as move_pages};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use super::CHUNK;

/// Futures on a ring.
pub(super) fn on_tokio_uring(listener: StdListener, target: SocketAddr) -> io::Result<()> {
    use tokio_uring::net::{TcpListener, TcpStream};

    async fn one_way(from: Rc<TcpStream>, to: Rc<TcpStream>) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let (got, back) = from.read(chunk).await;
            let len = got?;
            if len == 0 {
                return to.shutdown(Shutdown::Write);
            }
            let slice = tokio_uring::buf::BoundedBuf::slice(back, ..len);
            let (sent, slice) = to.write_all(slice).await;
            sent?;
            chunk = slice.into_inner();
        }
    }

    async fn pair(client: TcpStream, target: SocketAddr) -> io::Result<()> {
        client.set_nodelay(true)?;
        let server = TcpStream::connect(target).await?;
        server.set_nodelay(true)?;
        let (client, server) = (Rc::new(client), Rc::new(server));
        let up = tokio_uring::spawn(one_way(Rc::clone(&client), Rc::clone(&server)));
        one_way(server, client).await?;
        up.await.map_err(io::Error::other)?
    }

    tokio_uring::start(async move {
        let listener = TcpListener::from_std(listener);
        loop {
            let (client, _) = listener.accept().await?;
            // A client that goes away in the middle is its own affair.
            tokio_uring::spawn(async move { pair(client, target).await });
        }
    })
}

/// Futures on epoll; `pair` carries one connection.
pub(super) fn on_tokio<F>(
    listener: StdListener,
    target: SocketAddr,
    pair: fn(TcpStream, TcpStream) -> F,
) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(LocalSet::new().run_until(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (client, _) = listener.accept().await?;
            client.set_nodelay(true)?;
            spawn_local(async move {
                let server = TcpStream::connect(target).await?;
                server.set_nodelay(true)?;
                pair(client, server).await
            });
        }
    }))
}

/// By reading and writing.
pub(super) async fn copy(client: TcpStream, server: TcpStream) -> io::Result<()> {
    async fn one_way(
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk).await? {
                0 => return to.shutdown().await,
                len => to.write_all(&chunk[..len]).await?,
            }
        }
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = spawn_local(one_way(from_client, to_server));
    one_way(from_server, to_client).await?;
    up.await.map_err(io::Error::other)?
}

/// Through a pipe, without a copy into this process.
pub(super) async fn splice(client: TcpStream, server: TcpStream) -> io::Result<()> {
    let (client, server) = (Arc::new(client), Arc::new(server));
    let up = spawn_local(through_pipe(Arc::clone(&client), Arc::clone(&server)));
    through_pipe(server, client).await?;
    up.await.map_err(io::Error::other)?
}

async fn through_pipe(from: Arc<TcpStream>, to: Arc<TcpStream>) -> io::Result<()> {
    let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // What the kernel allows less than this has to do.
    let _ = fcntl_setpipe_size(&into, 4 * CHUNK);
    loop {
        let mut held = ready(&from, Interest::READABLE, || {
            spliced(&*from, &into, 4 * CHUNK)
        })
        .await?;
        if held == 0 {
            return rustix::net::shutdown(&*to, rustix::net::Shutdown::Write)
                .map_err(io::Error::from);
        }
        while held > 0 {
            held -= ready(&to, Interest::WRITABLE, || spliced(&out, &*to, held)).await?;
        }
    }
}

/// Tries again whenever the socket has become ready.
async fn ready(
    socket: &TcpStream,
    interest: Interest,
    mut attempt: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        socket.ready(interest).await?;
        match socket.try_io(interest, &mut attempt) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

fn spliced(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    len: usize,
) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(move_pages(from, None, to, None, len, flags)?)
}

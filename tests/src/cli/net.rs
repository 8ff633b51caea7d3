//! Services that portals lead to, and apps that use them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::cli::DEADLINE;

/// A port that was free a moment ago: for processes that must be told where to listen before they
/// start.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Starts a service that gives each connection to `serve` on a thread of its own; returns where.
/// It ends with the test process.
pub fn service(serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// A service that sends back what it gets, as it comes.
pub fn echo() -> SocketAddr {
    service(|mut stream| {
        let mut reader = stream.try_clone()?;
        io::copy(&mut reader, &mut stream).map(drop)
    })
}

/// A service that reads a whole request, to its end, and only then answers with `reply`.
pub fn answer_after_end(reply: &'static [u8]) -> SocketAddr {
    service(move |mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request)?;
        stream.write_all(reply)
    })
}

/// An app's connection, with the deadline on all it does.
pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends a request and its end while it reads the reply to its end.
///
/// # Errors
/// The connection was reset or timed out.
pub fn exchange(to: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let stream = connect(to);
    let mut writer = stream.try_clone()?;
    thread::scope(|scope| {
        let sent = scope.spawn(move || {
            writer.write_all(request)?;
            writer.shutdown(std::net::Shutdown::Write)
        });
        let mut reply = Vec::new();
        (&stream).read_to_end(&mut reply)?;
        sent.join().unwrap()?;
        Ok(reply)
    })
}

/// Expects that the connection is reset, not ended: an app must not mistake a cut for an end.
#[track_caller]
pub fn expect_reset(mut stream: TcpStream) {
    let _ = stream.write_all(b"anybody there?");
    let mut byte = [0];
    match stream.read(&mut byte) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("expected a reset, not {other:?}"),
    }
}

/// Bytes that differ at every position modulo a prime.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

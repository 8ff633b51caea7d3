//! Services that portals lead to, and apps that use them.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use crate::cli::DEADLINE;

/// A loopback address that no other project of the tests has: the port of a listener on it can't be
/// taken by somebody's outgoing connection while the listener is down.
pub fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = u8::try_from(std::process::id() % 250).unwrap();
    Ipv4Addr::new(127, 1 + process, high, 1 + low % 250)
}

/// A port that was free a moment ago on an address of its own: for processes that must be told
/// where to listen before they start.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((own_ip(), 0)).unwrap();
    listener.local_addr().unwrap()
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

/// Expects that an app which connects is reset, at once or when it has sent something, and never
/// sees an orderly end: an app must not mistake a cut for an end.
#[track_caller]
pub fn expect_reset(to: SocketAddr) {
    let answer = TcpStream::connect_timeout(&to, DEADLINE).and_then(|mut stream| {
        stream.set_read_timeout(Some(DEADLINE))?;
        let _ = stream.write_all(b"anybody there?");
        stream.read(&mut [0])
    });
    match answer {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("expected a reset, not {other:?}"),
    }
}

/// Bytes that differ at every position modulo a prime.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

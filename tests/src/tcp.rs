//! TCP for tests: addresses to listen on, connections with deadlines, and services and clients that
//! know every byte they should see.
//!
//! An end of data, a reset and silence are three different things, and every test that ends a
//! connection says which it means ([`Ending`]).

mod exchange;
mod service;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::process::{Failure, Outcome};

pub use exchange::{Exchange, Order, Pattern, again};
pub use service::Service;

/// No exchange may go without progress for this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One read or write of a client or service.
const CHUNK: usize = 64 * 1024;

/// An address on which a program may listen, restart, and listen again.
///
/// The kernel chooses the port, on a loopback address of its own: no outgoing connection ever has
/// that source address, so that nobody takes the port while nothing listens there, and a client
/// that dials it then can't meet itself.
pub fn own_address() -> Outcome<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // 2^14 processes of 2^8 addresses each; 127.0.0.0/16 stays free.
    let process = std::process::id() & 0x3fff;
    let place = (process + 256) << 8 | NEXT.fetch_add(1, Ordering::Relaxed) & 0xff;
    let ip = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 0).to_bits() | place);
    TcpListener::bind((ip, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| Failure(format!("no port on {ip}: {error}")))
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The other side said that nothing more comes.
    Fin,
    /// The connection was reset.
    Reset,
}

/// Whether a read that failed is worth repeating: nothing came in time, or a signal came (a read
/// with a deadline is not restarted by the kernel).
pub(crate) fn is_passing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Reads to the end of a connection and drops what comes. Returns how it ended and how long that
/// took; fails if it did not end `within` that time.
pub fn ending(stream: &TcpStream, within: Duration) -> Outcome<(Ending, Duration)> {
    let began = Instant::now();
    let mut chunk = [0; CHUNK];
    loop {
        let left = within.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(Failure(format!(
                "the connection had no end within {within:?}"
            )));
        }
        set_patience(stream, left)?;
        match (&*stream).read(&mut chunk) {
            Ok(0) => return Ok((Ending::Fin, began.elapsed())),
            Ok(_) => {}
            Err(error) if is_reset(&error) => return Ok((Ending::Reset, began.elapsed())),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(Failure(format!("reading to the end: {error}"))),
        }
    }
}

/// Connects and sets deadlines for every read and write ([`PATIENCE`]).
pub fn connect(to: SocketAddr) -> Outcome<TcpStream> {
    let fail = |error| Failure(format!("connecting to {to}: {error}"));
    let stream = TcpStream::connect_timeout(&to, PATIENCE).map_err(fail)?;
    stream.set_nodelay(true).map_err(fail)?;
    set_patience(&stream, PATIENCE)?;
    Ok(stream)
}

/// The same with a receive buffer of `bytes`, which the kernel doubles.
///
/// It is set before the connection is made: a window that shrinks below half of what was offered
/// before leaves the sender to its persist timer, at one segment each 200 ms.
pub fn connect_with_receive_buffer(to: SocketAddr, bytes: usize) -> Outcome<TcpStream> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let connected = rustix::net::socket(family, SocketType::STREAM, None).and_then(|socket| {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
        rustix::net::connect(&socket, &to)?;
        Ok(TcpStream::from(socket))
    });
    let stream = connected.map_err(|errno| Failure(format!("connecting to {to}: {errno}")))?;
    set_patience(&stream, PATIENCE)?;
    Ok(stream)
}

/// Closes a connection so that the other side sees a reset.
pub fn reset(stream: TcpStream) -> Outcome<()> {
    let linger = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    linger.map_err(|error| Failure(format!("setting SO_LINGER: {error}")))
}

/// All that comes before FIN; fails if the connection ends in another way.
pub fn read_to_fin(mut stream: &TcpStream) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    read.map_err(|error| Failure(format!("reading to FIN: {error}")))?;
    Ok(bytes)
}

/// Sends `bytes` and reads as many back, which must be the same.
pub fn ping(stream: &TcpStream, bytes: &[u8]) -> Outcome<()> {
    let mut back = vec![0; bytes.len()];
    let mut stream = stream;
    stream
        .write_all(bytes)
        .map_err(|error| Failure(format!("sending a ping: {error}")))?;
    stream
        .read_exact(&mut back)
        .map_err(|error| Failure(format!("reading the echo: {error}")))?;
    if back == bytes {
        Ok(())
    } else {
        Err(Failure("the echo differs".to_owned()))
    }
}

fn set_patience(stream: &TcpStream, time: Duration) -> Outcome<()> {
    stream
        .set_read_timeout(Some(time))
        .and_then(|()| stream.set_write_timeout(Some(time)))
        .map_err(|error| Failure(format!("setting a deadline: {error}")))
}

fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const SMALL: Exchange = Exchange {
        up: 10,
        down: 200_000,
        seed: 1,
        order: Order::AtOnce,
    };

    /// What the client of an exchange says about a service that answers it by `serve`.
    fn client_of(
        serve: impl Fn(&TcpStream, Exchange) -> Outcome<()> + Send + Sync + 'static,
    ) -> Outcome<()> {
        let service = Service::start(move |stream| {
            let exchange = Exchange::read(stream).map_err(|error| Failure(error.to_string()))?;
            serve(stream, exchange).map(|()| Ending::Fin)
        });
        SMALL.run(service.unwrap().address())
    }

    #[test]
    fn a_pattern_is_the_same_in_any_cut() {
        let mut whole = vec![0; 1000];
        Pattern::new(7).fill(&mut whole);
        let (mut cut, mut at) = (Pattern::new(7), 0);
        for len in [1, 2, 13, 100, 884] {
            cut.check(&whole[at..at + len]).unwrap();
            at += len;
        }
        assert_eq!(cut.offset(), 1000);
        assert!(Pattern::new(8).check(&whole).is_err());
    }

    #[test]
    fn a_changed_byte_is_found_at_its_offset() {
        let mut bytes = vec![0; 200_000];
        Pattern::new(7).fill(&mut bytes);
        bytes[150_001] ^= 1;
        let why = Pattern::new(7).check(&bytes).unwrap_err();
        assert!(why.0.contains("150001"), "{why}");
    }

    #[test]
    fn a_client_is_content_with_a_service_that_does_as_asked() {
        client_of(|stream, exchange| exchange.serve(stream)).unwrap();
    }

    #[test]
    fn a_client_notices_wrong_missing_and_surplus_bytes() {
        let wrong = client_of(|stream, it| {
            Exchange {
                seed: it.seed + 1,
                ..it
            }
            .serve(stream)
        });
        assert!(wrong.unwrap_err().0.contains("a wrong byte at offset 0"));
        let missing = client_of(|stream, it| {
            Exchange {
                down: it.down - 1,
                ..it
            }
            .serve(stream)
        });
        assert!(
            missing
                .unwrap_err()
                .0
                .contains("a FIN after 199999 of 200000 bytes")
        );
        let surplus = client_of(|stream, it| {
            Exchange {
                down: it.down + 1,
                ..it
            }
            .serve(stream)
        });
        assert!(surplus.unwrap_err().0.contains("more than 200000 bytes"));
    }

    #[test]
    fn a_reset_is_no_end_of_data_and_silence_is_neither() {
        let resetting = Service::resetting().unwrap();
        let client = connect(resetting.address()).unwrap();
        assert!(ending(&client, Duration::from_millis(10)).is_err());
        (&client).write_all(b"x").unwrap();
        assert_eq!(ending(&client, PATIENCE).unwrap().0, Ending::Reset);
        let closing = Service::closing().unwrap();
        let client = connect(closing.address()).unwrap();
        assert_eq!(ending(&client, PATIENCE).unwrap().0, Ending::Fin);
    }

    /// What [`own_address`] promises: outgoing connections come from another address.
    #[test]
    fn a_client_of_an_own_address_has_another_one_itself() {
        let address = own_address().unwrap();
        let listener = TcpListener::bind(address).unwrap();
        let client = connect(address).unwrap();
        assert_ne!(client.local_addr().unwrap().ip(), address.ip());
        drop(listener);
        assert_ne!(own_address().unwrap().ip(), address.ip());
    }
}

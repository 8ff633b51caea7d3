//! Services and clients over TCP that know every byte they should see.
//!
//! An **exchange** is one connection. The client asks in a header for so many bytes each way, made
//! from a seed; each side sends its own and compares what it reads with what must come, byte for
//! byte, so that a failure names the first wrong offset:
//!
//! ```text
//! client -> service   up u64 | down u64 | seed u64 | order u8 | up bytes of the pattern, FIN
//! service -> client   down bytes of the pattern, FIN     (at once, or only after the client's FIN)
//! ```
//!
//! Both sides take note of how the connection ended, since an end of data, a reset and silence are
//! three different things.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::process::{Failure, Outcome};

/// No exchange may go without progress for this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One read or write of a client or service.
const CHUNK: usize = 64 * 1024;
const HEADER: usize = 25;

// ---- addresses ------------------------------------------------------------------------------

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

// ---- bytes ----------------------------------------------------------------------------------

/// An endless, repeatable sequence of bytes (SplitMix64 over the offset): a byte that is lost,
/// doubled or moved differs from what must stand there.
#[derive(Clone, Debug)]
pub struct Pattern {
    seed: u64,
    offset: u64,
}

impl Pattern {
    /// The sequence of this seed, from its first byte.
    pub fn new(seed: u64) -> Pattern {
        Pattern { seed, offset: 0 }
    }

    /// How many bytes were made or compared.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Writes the next bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        let mut at = 0;
        while at < out.len() {
            let word = self.word(self.offset / 8).to_le_bytes();
            let from = (self.offset % 8) as usize;
            let len = (8 - from).min(out.len() - at);
            out[at..at + len].copy_from_slice(&word[from..from + len]);
            at += len;
            self.offset += len as u64;
        }
    }

    /// Compares the next bytes; the error names the first offset that differs.
    pub fn check(&mut self, got: &[u8]) -> Outcome<()> {
        let mut expected = [0; CHUNK];
        for part in got.chunks(CHUNK) {
            let began = self.offset;
            let expected = &mut expected[..part.len()];
            self.fill(expected);
            if let Some(at) = (part != expected)
                .then(|| {
                    part.iter()
                        .zip(&*expected)
                        .position(|(got, want)| got != want)
                })
                .flatten()
            {
                let offset = began + at as u64;
                return Err(Failure(format!("a wrong byte at offset {offset}")));
            }
        }
        Ok(())
    }

    fn word(&self, index: u64) -> u64 {
        let mut z = self
            .seed
            .wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The other side said that nothing more comes.
    Fin,
    /// The connection was reset.
    Reset,
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
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
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

/// Closes a connection so that the other side sees a reset.
pub fn reset(stream: TcpStream) -> Outcome<()> {
    let linger = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    linger.map_err(|error| Failure(format!("setting SO_LINGER: {error}")))
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

// ---- exchanges ------------------------------------------------------------------------------

/// When a service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Both directions at once.
    AtOnce,
    /// Only after the end of the request: the client has half-closed and still reads.
    AfterFin,
}

/// What one connection carries.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// Bytes from client to service.
    pub up: u64,
    /// Bytes from service to client.
    pub down: u64,
    /// From which both are made.
    pub seed: u64,
    /// When the service answers.
    pub order: Order,
}

impl Exchange {
    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&self.up.to_le_bytes());
        header[8..16].copy_from_slice(&self.down.to_le_bytes());
        header[16..24].copy_from_slice(&self.seed.to_le_bytes());
        header[24] = u8::from(self.order == Order::AfterFin);
        header
    }

    fn read(mut stream: &TcpStream) -> io::Result<Exchange> {
        let mut word = || {
            let mut word = [0; 8];
            stream
                .read_exact(&mut word)
                .map(|()| u64::from_le_bytes(word))
        };
        let (up, down, seed) = (word()?, word()?, word()?);
        let mut order = [0];
        stream.read_exact(&mut order)?;
        let order = if order == [0] {
            Order::AtOnce
        } else {
            Order::AfterFin
        };
        Ok(Exchange {
            up,
            down,
            seed,
            order,
        })
    }

    fn upward(&self) -> Pattern {
        Pattern::new(self.seed)
    }

    fn downward(&self) -> Pattern {
        Pattern::new(!self.seed)
    }

    /// Makes a connection and this exchange over it: all bytes each way, and both ends of data.
    pub fn run(&self, to: SocketAddr) -> Outcome<()> {
        let stream = connect(to)?;
        self.begin(&stream)?;
        self.rest(&stream)
    }

    /// Sends the header only: the service begins, and nobody reads yet.
    pub fn begin(&self, mut stream: &TcpStream) -> Outcome<()> {
        let sent = stream.write_all(&self.header());
        sent.map_err(|error| Failure(format!("sending the header: {error}")))
    }

    /// The rest of an exchange that was begun.
    pub fn rest(&self, stream: &TcpStream) -> Outcome<()> {
        thread::scope(|scope| {
            let sender = scope.spawn(|| send(stream, self.upward(), self.up));
            let received = receive(stream, self.downward(), self.down);
            let sent = sender
                .join()
                .map_err(|_| Failure("the sender panicked".to_owned()))?;
            sent.and(received)
                .map_err(|why| Failure(format!("client of {self:?}: {why}")))
        })
    }

    fn serve(&self, stream: &TcpStream) -> Outcome<()> {
        let served = match self.order {
            Order::AfterFin => receive(stream, self.upward(), self.up)
                .and_then(|()| send(stream, self.downward(), self.down)),
            Order::AtOnce => thread::scope(|scope| {
                let sender = scope.spawn(|| send(stream, self.downward(), self.down));
                let received = receive(stream, self.upward(), self.up);
                let sent = sender
                    .join()
                    .map_err(|_| Failure("the sender panicked".to_owned()))?;
                sent.and(received)
            }),
        };
        served.map_err(|why| Failure(format!("service of {self:?}: {why}")))
    }
}

/// Sends so many bytes of a pattern, and the end of data.
fn send(mut stream: &TcpStream, mut pattern: Pattern, len: u64) -> Outcome<()> {
    let mut chunk = [0; CHUNK];
    while pattern.offset() < len {
        let part = chunk_of(len - pattern.offset());
        pattern.fill(&mut chunk[..part]);
        stream.write_all(&chunk[..part]).map_err(|error| {
            Failure(format!(
                "sending byte {} of {len}: {error}",
                pattern.offset()
            ))
        })?;
    }
    stream
        .shutdown(Shutdown::Write)
        .map_err(|error| Failure(format!("sending FIN after {len} bytes: {error}")))
}

/// Reads exactly so many bytes of a pattern, and the end of data behind them.
fn receive(mut stream: &TcpStream, mut pattern: Pattern, len: u64) -> Outcome<()> {
    let mut chunk = [0; CHUNK];
    loop {
        let got = stream.read(&mut chunk).map_err(|error| {
            Failure(format!(
                "receiving byte {} of {len}: {error}",
                pattern.offset()
            ))
        })?;
        pattern.check(&chunk[..got])?;
        match pattern.offset() {
            offset if offset > len => return Err(Failure(format!("more than {len} bytes came"))),
            offset if got == 0 && offset < len => {
                return Err(Failure(format!("a FIN after {offset} of {len} bytes")));
            }
            _ if got == 0 => return Ok(()),
            _ => {}
        }
    }
}

fn chunk_of(left: u64) -> usize {
    usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK))
}

// ---- services -------------------------------------------------------------------------------

/// A service on the loopback with a thread per connection. Dropping it ends all of them.
pub struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
    reports: Mutex<mpsc::Receiver<Outcome<Ending>>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    accepted: AtomicU32,
    /// One descriptor more of every live connection, to end it when the service stops.
    live: Mutex<BTreeMap<u32, TcpStream>>,
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, BTreeMap<u32, TcpStream>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Serves every connection by `serve`, whose result becomes a report. When it returns, the
    /// connection is closed.
    pub fn start(
        serve: impl Fn(&TcpStream) -> Outcome<Ending> + Send + Sync + 'static,
    ) -> Outcome<Service> {
        let fail = |error: io::Error| Failure(format!("starting a service: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let shared = Arc::new(Shared::default());
        let (reporter, reports) = mpsc::channel();
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared, &Arc::new(serve), &reporter)
        });
        Ok(Service {
            address,
            shared,
            accepting: Some(accepting),
            reports: Mutex::new(reports),
        })
    }

    /// Serves [`Exchange`]s. A report says that all bytes of one came and went, or what was wrong.
    pub fn exchanges() -> Outcome<Service> {
        Service::start(|stream| {
            let exchange = Exchange::read(stream)
                .map_err(|error| Failure(format!("reading the header: {error}")))?;
            exchange.serve(stream).map(|()| Ending::Fin)
        })
    }

    /// Sends back what it reads, and FIN for FIN.
    pub fn echo() -> Outcome<Service> {
        Service::start(|mut stream| {
            let mut chunk = [0; CHUNK];
            loop {
                let turn = stream.read(&mut chunk).and_then(|len| {
                    stream.write_all(&chunk[..len])?;
                    if len == 0 {
                        stream.shutdown(Shutdown::Write).map(|()| 0)
                    } else {
                        Ok(len)
                    }
                });
                match turn {
                    Ok(0) => return Ok(Ending::Fin),
                    Ok(_) => {}
                    Err(error) if is_reset(&error) => return Ok(Ending::Reset),
                    Err(error) => return Err(Failure(format!("the echo service: {error}"))),
                }
            }
        })
    }

    /// Speaks first, as many database servers do, then reads to the end.
    pub fn greeting(greeting: &'static [u8]) -> Outcome<Service> {
        Service::start(move |mut stream| {
            let sent = stream.write_all(greeting);
            sent.map_err(|error| Failure(format!("greeting: {error}")))?;
            ending(stream, PATIENCE).map(|(ending, _)| ending)
        })
    }

    /// Closes every connection at once.
    pub fn closing() -> Outcome<Service> {
        Service::start(|_| Ok(Ending::Fin))
    }

    /// Reads one byte, then resets the connection.
    pub fn resetting() -> Outcome<Service> {
        Service::start(|mut stream| {
            let got = stream.read_exact(&mut [0]);
            got.map_err(|error| Failure(format!("the resetting service: {error}")))?;
            let linger = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
            linger.map_err(|error| Failure(format!("setting SO_LINGER: {error}")))?;
            Ok(Ending::Reset)
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it accepted.
    pub fn accepted(&self) -> u32 {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// How the next connection ended, as the service saw it; connections report when they end.
    pub fn report(&self, within: Duration) -> Outcome<Ending> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.recv_timeout(within).map_err(|_| {
            Failure(format!(
                "no connection of the service ended within {within:?}"
            ))
        })?
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes the accept.
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.shared.live().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept<F>(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    serve: &Arc<F>,
    reporter: &mpsc::Sender<Outcome<Ending>>,
) where
    F: Fn(&TcpStream) -> Outcome<Ending> + Send + Sync + 'static,
{
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        let number = shared.accepted.fetch_add(1, Ordering::AcqRel);
        let ready = stream.and_then(|stream| {
            stream.set_nodelay(true)?;
            shared.live().insert(number, stream.try_clone()?);
            Ok(stream)
        });
        let (shared, serve, reporter) = (Arc::clone(shared), Arc::clone(serve), reporter.clone());
        thread::spawn(move || {
            let report = ready
                .map_err(|error| Failure(format!("accepting: {error}")))
                .and_then(|stream| {
                    set_patience(&stream, PATIENCE)?;
                    serve(&stream)
                });
            // The last descriptor goes before the report: who reads it may count on the close.
            shared.live().remove(&number);
            let _ = reporter.send(report);
        });
    }
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

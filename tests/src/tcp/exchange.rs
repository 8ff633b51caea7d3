//! Exchanges: known bytes each way over one connection.
//!
//! The client asks in a header for so many bytes each way, made from a seed; each side sends its own
//! and compares what it reads with what must come, byte for byte, so that a failure names the first
//! wrong offset:
//!
//! ```text
//! client -> service   up u64 | down u64 | seed u64 | order u8 | up bytes of the pattern, FIN
//! service -> client   down bytes of the pattern, FIN     (at once, or only after the client's FIN)
//! ```

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use super::{CHUNK, connect};
use crate::process::{Failure, Outcome};

const HEADER: usize = 25;

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

    /// Reads the header that begins an exchange.
    pub fn read(mut stream: &TcpStream) -> io::Result<Exchange> {
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

    /// Makes exchanges of so many bytes up and down, all at once, each over a connection and with a seed of
    /// its own. Fails as the first of them that does.
    pub fn run_all(to: SocketAddr, sizes: impl IntoIterator<Item = (u64, u64)>) -> Outcome<()> {
        thread::scope(|scope| {
            let running: Vec<_> = (1..)
                .zip(sizes)
                .map(|(seed, (up, down))| {
                    let exchange = Exchange {
                        up,
                        down,
                        seed,
                        order: Order::AtOnce,
                    };
                    scope.spawn(move || exchange.run(to))
                })
                .collect();
            let panicked = |_| Err(Failure("an exchange panicked".into()));
            let mut ended = running
                .into_iter()
                .map(|it| it.join().unwrap_or_else(panicked));
            ended.try_for_each(|outcome| outcome)
        })
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

    /// The service's part, once the header is read.
    pub fn serve(&self, stream: &TcpStream) -> Outcome<()> {
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

/// Repeats a call that a signal interrupted: one with a deadline is not restarted by the kernel.
pub fn again<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Reads exactly so many bytes of a pattern, and the end of data behind them.
fn receive(mut stream: &TcpStream, mut pattern: Pattern, len: u64) -> Outcome<()> {
    let mut chunk = [0; CHUNK];
    loop {
        let got = again(|| stream.read(&mut chunk)).map_err(|error| {
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

//! One end of an application's connection. It writes a pattern, checks every byte that it reads
//! against the other end's pattern, and remembers how the connection ended.

use proxy::engine::Errno;
use proxy::engine::simulated::{SimRead, SimSocket};
use proxy::time::{Duration, Instant};

/// Which bytes an end sends: byte `i` depends on the key and on `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern(pub u64);

/// Bytes at the head of an app's pattern that name it to the service.
pub const NAME: u64 = 4;

/// Bytes made at a time.
const PIECE: u64 = 8 * 1024;

impl Pattern {
    /// The pattern of app `no`: its first bytes are the number.
    pub fn of_app(no: u32) -> Pattern {
        Pattern(u64::from(no))
    }

    /// The pattern of the service that serves app `no`.
    pub fn of_service(no: u32) -> Pattern {
        Pattern(u64::from(no) | 1 << 40)
    }

    /// Eight bytes from a multiple of eight on.
    fn word(self, at: u64) -> [u8; 8] {
        let mut z = (self.0 << 32 | at >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mut word = z.to_le_bytes();
        let is_app = self.0 < 1 << 40;
        if is_app && at == 0 {
            let name = (self.0 as u32).to_be_bytes();
            word[..NAME as usize].copy_from_slice(&name);
        }
        word
    }

    /// Calls `each` with the pattern from `from` on, in pieces of a word or less.
    fn pieces(self, from: u64, len: usize, mut each: impl FnMut(usize, &[u8])) {
        let mut done = 0;
        while done < len {
            let at = from + done as u64;
            let skip = (at & 7) as usize;
            let word = self.word(at - skip as u64);
            let take = (8 - skip).min(len - done);
            each(done, &word[skip..skip + take]);
            done += take;
        }
    }

    fn fill(self, from: u64, out: &mut [u8]) {
        self.pieces(from, out.len(), |at, piece| {
            out[at..at + piece.len()].copy_from_slice(piece);
        });
    }

    /// Where the first word lies that is not the pattern's.
    fn mismatch(self, from: u64, bytes: &[u8]) -> Option<u64> {
        let mut wrong = None;
        self.pieces(from, bytes.len(), |at, piece| {
            if wrong.is_none() && bytes[at..at + piece.len()] != *piece {
                wrong = Some(from + at as u64);
            }
        });
        wrong
    }
}

/// When an end sends its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// At once.
    AtOnce,
    /// Once the other end has ended.
    AfterEnd,
    /// As many as it has read.
    AsRead,
    /// Pieces of that size, the next one when the last was answered by as many bytes.
    InTurns(u64),
}

/// When an end goes without an end: RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quit {
    /// Never.
    Never,
    /// Once so many bytes were read.
    Read(u64),
    /// Once so many bytes were written.
    Written(u64),
    /// Once it is up for so long.
    After(Duration),
}

/// What an end does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Bytes it sends.
    pub bytes: u64,
    /// When.
    pub say: Say,
    /// When it resets the connection.
    pub quit: Quit,
    /// It closes the whole connection (not only its direction) once everything is written,
    /// whatever the other end has left to say.
    pub hangs_up: bool,
    /// FIN only behind the other end's FIN.
    pub ends_last: bool,
    /// Most bytes read at a time, and how long it rests then; `None` reads all there is.
    pub pace: Option<(usize, Duration)>,
}

impl Part {
    /// Sends so many bytes at once, ends, and reads all there is.
    pub fn plain(bytes: u64) -> Part {
        Part {
            bytes,
            say: Say::AtOnce,
            quit: Quit::Never,
            hangs_up: false,
            ends_last: false,
            pace: None,
        }
    }
}

/// How an end's connection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It goes on.
    Open,
    /// Both directions ended in order.
    Clean,
    /// This end reset it, or hung up.
    Quit,
    /// It failed.
    Failed(Errno),
}

/// See the module.
#[derive(Debug)]
pub struct Endpoint {
    sock: Option<SimSocket>,
    part: Part,
    /// What it sends.
    own: Pattern,
    /// What it reads; `None` until the app's name is read.
    other: Option<Pattern>,
    name: Vec<u8>,
    /// Bytes written.
    pub sent: u64,
    /// Bytes read.
    pub got: u64,
    /// FIN was sent: nothing follows `sent`.
    pub ended: bool,
    /// FIN was read.
    pub eof: bool,
    /// How it went.
    pub ending: Ending,
    /// It does not end its direction while this is set.
    pub lingers: bool,
    up_at: Option<Instant>,
    rests_until: Instant,
    /// The next bytes to write, so that a blocked end does not make them again and again.
    next: Vec<u8>,
}

impl Endpoint {
    /// An app.
    pub fn app(sock: SimSocket, no: u32, part: Part) -> Endpoint {
        let (own, other) = (Pattern::of_app(no), Pattern::of_service(no));
        Endpoint::new(sock, part, own, Some(other))
    }

    /// A service's end that waits to hear whom it serves.
    pub fn service(sock: SimSocket) -> Endpoint {
        let part = Part {
            ends_last: true,
            ..Part::plain(0)
        };
        Endpoint::new(sock, part, Pattern(u64::MAX), None)
    }

    fn new(sock: SimSocket, part: Part, own: Pattern, other: Option<Pattern>) -> Endpoint {
        Endpoint {
            sock: Some(sock),
            part,
            own,
            other,
            name: Vec::new(),
            sent: 0,
            got: 0,
            ended: false,
            eof: false,
            ending: Ending::Open,
            lingers: false,
            up_at: None,
            rests_until: Instant::ZERO,
            next: Vec::new(),
        }
    }

    /// The app's number, once read and not yet answered by [`serve`](Self::serve).
    pub fn caller(&self) -> Option<u32> {
        if self.other.is_some() {
            return None;
        }
        let name: [u8; 4] = self.name.as_slice().try_into().ok()?;
        Some(u32::from_be_bytes(name))
    }

    /// Becomes the service of that app.
    pub fn serve(&mut self, no: u32, part: Part) {
        self.own = Pattern::of_service(no);
        self.other = Some(Pattern::of_app(no));
        self.part = part;
    }

    /// Whether nothing more happens here.
    pub fn is_over(&self) -> bool {
        self.sock.is_none()
    }

    /// Does what can be done now, reading by way of `scratch`. Returns when it wants to be called
    /// again at the latest.
    ///
    /// # Panics
    /// When it reads a byte that the other end never wrote.
    pub fn pump(&mut self, now: Instant, scratch: &mut [u8]) -> Option<Instant> {
        self.sock.as_ref()?;
        if let Err(errno) = self.try_pump(now, scratch) {
            self.ending = Ending::Failed(errno);
            self.sock = None;
        }
        if self.eof && self.ended && self.sock.take().is_some() {
            self.ending = Ending::Clean;
        }
        self.sock.as_ref()?;
        let rest = (self.rests_until > now).then_some(self.rests_until);
        let quit = match (self.part.quit, self.up_at) {
            (Quit::After(time), Some(up)) => Some(up + time),
            _ => None,
        };
        rest.into_iter().chain(quit).min()
    }

    fn try_pump(&mut self, now: Instant, scratch: &mut [u8]) -> Result<(), Errno> {
        let Some(sock) = &mut self.sock else {
            return Ok(());
        };
        if !sock.connected()? {
            return Ok(());
        }
        self.up_at.get_or_insert(now);
        self.read(now, scratch)?;
        self.write()?;
        let up = self.up_at.unwrap_or(now);
        let quits = match self.part.quit {
            Quit::Never => false,
            Quit::Read(bytes) => self.got >= bytes,
            Quit::Written(bytes) => self.sent >= bytes,
            Quit::After(time) => now >= up + time,
        };
        if quits && let Some(sock) = self.sock.take() {
            self.ending = Ending::Quit;
            sock.reset();
        }
        Ok(())
    }

    fn read(&mut self, now: Instant, buf: &mut [u8]) -> Result<(), Errno> {
        while !self.eof && now >= self.rests_until {
            let room = match (self.part.pace, self.other) {
                // The name is read alone: what follows belongs to another script.
                (_, None) => (NAME - self.got) as usize,
                (Some((most, _)), _) => most.min(buf.len()),
                (None, _) => buf.len(),
            };
            if room == 0 {
                return Ok(());
            }
            let Some(sock) = &mut self.sock else {
                return Ok(());
            };
            match sock.read(&mut buf[..room])? {
                SimRead::Bytes(len) => {
                    match self.other {
                        None => self.name.extend_from_slice(&buf[..len]),
                        Some(other) => {
                            if let Some(at) = other.mismatch(self.got, &buf[..len]) {
                                panic!("a wrong byte at {at} or just behind, of {other:?}");
                            }
                        }
                    }
                    self.got += len as u64;
                    if let Some((_, rest)) = self.part.pace {
                        self.rests_until = now + rest;
                    }
                }
                SimRead::Eof => self.eof = true,
                SimRead::Nothing => return Ok(()),
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Errno> {
        let may = match self.part.say {
            Say::AtOnce => self.part.bytes,
            Say::AfterEnd if self.eof => self.part.bytes,
            Say::AfterEnd => 0,
            Say::AsRead => self.part.bytes.min(self.got),
            Say::InTurns(piece) => self.part.bytes.min((self.got / piece + 1) * piece),
        };
        let stop = match self.part.quit {
            Quit::Written(bytes) => bytes,
            Quit::Never | Quit::Read(_) | Quit::After(_) => u64::MAX,
        };
        let may = may.min(stop);
        let Some(sock) = &mut self.sock else {
            return Ok(());
        };
        while self.sent < may {
            if self.next.is_empty() {
                let len = (self.part.bytes - self.sent).min(PIECE) as usize;
                self.next.resize(len, 0);
                self.own.fill(self.sent, &mut self.next);
            }
            let len = self.next.len().min((may - self.sent) as usize);
            match sock.write(&self.next[..len])? {
                0 => return Ok(()),
                moved => {
                    self.sent += moved as u64;
                    self.next.drain(..moved);
                }
            }
        }
        let done = self.sent == self.part.bytes && (self.eof || !self.part.ends_last);
        if done && !self.ended && !self.lingers {
            self.ended = true;
            if self.part.hangs_up {
                self.ending = Ending::Quit;
                self.sock = None;
            } else {
                sock.shutdown_write()?;
            }
        }
        Ok(())
    }
}

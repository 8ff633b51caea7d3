//! What a worker hands to an engine and what it gets back: tokens, sockets, operations, outcomes.

use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

use super::buf::{Buf, Class};
use super::leak;

/// Finds the slot that an operation belongs to: slot, how often the slot was used before, and
/// which of the slot's operations it is. A completion of an earlier use of a slot is recognised by
/// its generation. The engine only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    /// Index in the worker's slab, below 2^24.
    pub slot: u32,
    /// Wraps; compared for equality only.
    pub generation: u32,
    /// The worker's own code for the operation.
    pub op: u8,
}

/// A socket that this engine owns. Not `Clone`; dropping one without
/// [`Engine::close`](super::Engine::close) or [`Engine::detach`](super::Engine::detach) is a bug
/// that debug builds report (see [`leaks`](super::leaks)); the engine closes it when it is dropped
/// itself.
#[derive(Debug)]
pub struct Sock(SockRef);

/// Names a [`Sock`] in an operation. Valid until the socket is closed or detached; a later use is
/// answered as a closed socket, never as the socket that took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SockRef(pub(super) u32);

impl Sock {
    /// The name to put into operations.
    pub fn name(&self) -> SockRef {
        self.0
    }

    /// Only engines make sockets, one per entry of their table.
    pub(super) fn new(name: SockRef) -> Sock {
        Sock(name)
    }

    /// Ends the obligation to close: the engine took the socket back.
    pub(super) fn taken(self) -> SockRef {
        let name = self.0;
        std::mem::forget(self);
        name
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        leak::report("socket");
    }
}

/// A counted slice of a buffer that several sends share (worker-local). When the last part is
/// back, `Rc::try_unwrap` gives the buffer to be freed.
#[derive(Clone, Debug)]
pub struct Part {
    /// The shared buffer.
    pub buf: Rc<Buf>,
    /// The bytes of it to send.
    pub range: Range<usize>,
}

/// What to wait for with [`Op::Ready`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interest {
    /// Bytes or an end can be read. Waiting for it takes the place of a receive.
    Read,
    /// Bytes can be written. Waiting for it takes the place of a send.
    Write,
    /// The peer reset the connection, or both directions have ended. A mere FIN of the peer does
    /// not count: this watches a half-closed socket.
    Hangup,
}

/// One operation. It owns what it needs until its [`Done`].
#[derive(Debug)]
pub enum Op {
    /// Accept connections until cancelled; each is a `Done` with `more`.
    Accept {
        /// A listening socket.
        on: SockRef,
    },
    /// Connect a socket made by [`Engine::socket`](super::Engine::socket).
    Connect {
        /// The socket, of the address's family.
        on: SockRef,
        /// Where to.
        to: SocketAddr,
    },
    /// Receive into a buffer that the engine picks when bytes are there: an idle socket holds none.
    /// The bytes start at `at` in that buffer and leave at least `tail` bytes of room behind.
    RecvAny {
        /// The socket.
        on: SockRef,
        /// Class of the buffer.
        class: Class,
        /// Bytes left free before the received ones.
        at: usize,
        /// Bytes left free behind them; `at + tail` is below the capacity.
        tail: usize,
    },
    /// Receive up to `max` bytes into `buf` at offset `at`.
    RecvInto {
        /// The socket.
        on: SockRef,
        /// The buffer, lent until the `Done`.
        buf: Buf,
        /// Where in it.
        at: usize,
        /// Most bytes, at least 1; `at + max` is within the buffer.
        max: usize,
    },
    /// Send all of `range`.
    Send {
        /// The socket.
        on: SockRef,
        /// The buffer, lent until the `Done`.
        buf: Buf,
        /// The bytes of it, not empty.
        range: Range<usize>,
    },
    /// Send what the socket takes at once.
    SendNow {
        /// The socket.
        on: SockRef,
        /// What to send, not empty.
        part: Part,
    },
    /// Wait until the socket is ready, without a buffer.
    Ready {
        /// The socket.
        on: SockRef,
        /// For what.
        want: Interest,
    },
}

impl Op {
    /// The socket it works on.
    pub fn on(&self) -> SockRef {
        match *self {
            Op::Accept { on }
            | Op::Connect { on, .. }
            | Op::RecvAny { on, .. }
            | Op::RecvInto { on, .. }
            | Op::Send { on, .. }
            | Op::SendNow { on, .. }
            | Op::Ready { on, .. } => on,
        }
    }

    /// Whether its sizes keep within its buffer and are not empty: what every engine demands
    /// before it takes an operation.
    pub(super) fn is_well_formed(&self) -> bool {
        match self {
            Op::RecvAny {
                class, at, tail, ..
            } => at
                .checked_add(*tail)
                .is_some_and(|room| room < class.size()),
            Op::RecvInto { buf, at, max, .. } => {
                *max > 0 && at.checked_add(*max).is_some_and(|end| end <= buf.len())
            }
            Op::Send { buf, range, .. } => range.start < range.end && range.end <= buf.len(),
            Op::SendNow { part, .. } => {
                part.range.start < part.range.end && part.range.end <= part.buf.len()
            }
            Op::Accept { .. } | Op::Connect { .. } | Op::Ready { .. } => true,
        }
    }
}

/// How an operation ended.
#[derive(Debug)]
pub enum Outcome {
    /// A connection came in; its address.
    Accepted(Sock, SocketAddr),
    /// The connection is up.
    Connected,
    /// Bytes came in.
    Received {
        /// The buffer that holds them.
        buf: Buf,
        /// Where they start.
        at: usize,
        /// How many, at least 1.
        len: usize,
        /// The socket had no more just then. A hint: false does not promise more.
        drained: bool,
    },
    /// The peer will send no more (FIN).
    Eof {
        /// The buffer of a `RecvInto`.
        buf: Option<Buf>,
    },
    /// All of the range was sent.
    Sent {
        /// The buffer.
        buf: Buf,
    },
    /// The first bytes of the part were sent.
    SentNow {
        /// The part.
        part: Part,
        /// How many bytes of it, possibly 0.
        moved: usize,
    },
    /// The socket is ready.
    Ready(Interest),
    /// `RecvAny` found bytes but no buffer of its class was free; bytes are still in the socket.
    /// Re-arm after a `free`.
    Starved,
    /// The operation failed; buffers and parts come back.
    Failed {
        /// Why.
        errno: Errno,
        /// The buffer of a `RecvInto` or `Send`.
        buf: Option<Buf>,
        /// The part of a `SendNow`.
        part: Option<Part>,
    },
    /// The operation was cancelled. A cancelled send may have moved bytes, so that direction is dead.
    Cancelled {
        /// The buffer of a `RecvInto` or `Send`.
        buf: Option<Buf>,
        /// The part of a `SendNow`.
        part: Option<Part>,
    },
}

/// A kernel error number (`errno.h`), as a value so that simulated engines can make them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// The call was interrupted.
    pub const INTR: Errno = Errno(4);
    /// No such descriptor: the socket is closed.
    pub const BADF: Errno = Errno(9);
    /// Nothing there just now.
    pub const AGAIN: Errno = Errno(11);
    /// Out of memory.
    pub const NOMEM: Errno = Errno(12);
    /// Too many descriptors in the process.
    pub const MFILE: Errno = Errno(24);
    /// The other end reads no more.
    pub const PIPE: Errno = Errno(32);
    /// No buffer space.
    pub const NOBUFS: Errno = Errno(105);
    /// The operation makes no sense, e.g. sizes that do not fit its buffer.
    pub const INVAL: Errno = Errno(22);
    /// No free local port.
    pub const ADDRNOTAVAIL: Errno = Errno(99);
    /// Somebody listens there already.
    pub const ADDRINUSE: Errno = Errno(98);
    /// The network of the address can't be reached.
    pub const NETUNREACH: Errno = Errno(101);
    /// The peer reset the connection.
    pub const CONNRESET: Errno = Errno(104);
    /// There is no connection, or none any more.
    pub const NOTCONN: Errno = Errno(107);
    /// The connection gave up waiting for the peer (TCP_USER_TIMEOUT, keepalive, SYN retries).
    pub const TIMEDOUT: Errno = Errno(110);
    /// Nobody listens there.
    pub const CONNREFUSED: Errno = Errno(111);
    /// The host can't be reached.
    pub const HOSTUNREACH: Errno = Errno(113);
    /// The operation was cancelled.
    pub(super) const CANCELED: Errno = Errno(125);
}

impl From<Errno> for std::io::Error {
    fn from(e: Errno) -> Self {
        std::io::Error::from_raw_os_error(e.0)
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&std::io::Error::from_raw_os_error(self.0), f)
    }
}

/// The end of an operation, or one of several results of an `Accept`.
#[derive(Debug)]
pub struct Done {
    /// The token it was submitted with.
    pub token: Token,
    /// More results of the same operation will follow.
    pub more: bool,
    /// What happened.
    pub what: Outcome,
}

impl Done {
    /// The last (usually the only) result of an operation.
    pub(super) fn last(token: Token, what: Outcome) -> Done {
        Done {
            token,
            more: false,
            what,
        }
    }
}

/// Completions of one turn; reused, so that a turn allocates nothing.
pub type DoneList = Vec<Done>;

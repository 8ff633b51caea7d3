//! Floor 2: the engine, a proactor behind one trait. The only floor with `unsafe` and with
//! system calls on the hot path.
//!
//! | engine | when |
//! |---|---|
//! | `uring` | Linux ≥ 6.1 where io_uring is allowed, probed at start |
//! | `epoll` | everywhere else |
//! | `simulated` | tests: a world of engines, one clock, links with seeds |
//!
//! # Contract
//! - The worker `submit`s operations, each with a [`Token`], and calls [`Engine::turn`], the only
//!   place that blocks. Every accepted operation ends with exactly one [`Done`] whose `more` is
//!   false (`Accept` reports many before that). No completion appears outside `turn`.
//! - An operation owns its buffer until its `Done` hands it back. Nothing is freed or closed while
//!   an operation on it is in flight: terminate ([`Engine::cancel`]) → join (every `Done` seen) →
//!   close ([`Engine::close`]).
//! - At most one receive and one send may be in flight per socket (two receives on one socket
//!   come unordered), plus one `Ready`.
//! - `Send` is complete or failed: short sends are resumed inside. `SendNow` never waits.
//!
//! Static dispatch everywhere: a `Worker<E: Engine>` is compiled once per engine.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

use crate::time::Instant;

/// Finds the slot that an operation belongs to: slot, how often the slot was used before, and
/// which of the slot's operations it is. A completion of an earlier use of a slot is recognised by
/// its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    /// Index in the worker's slab, below 2^24.
    pub slot: u32,
    /// Wraps at 2^32 - 2^0; compared for equality only.
    pub generation: u32,
    /// The worker's own code for the operation.
    pub op: u8,
}

/// A socket that this engine owns. Not `Clone`; dropping one without [`Engine::close`] or
/// [`Engine::detach`] is a bug that debug builds report.
#[derive(Debug)]
pub struct Sock(pub(crate) SockRef);

/// Names a [`Sock`] in an operation. Valid until the socket is closed or detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SockRef(pub(crate) u32);

impl Sock {
    /// The name to put into operations.
    pub fn name(&self) -> SockRef {
        self.0
    }
}

/// What a buffer is for; its size follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// 4 KiB: the receive of a stream that sends small messages.
    Small,
    /// 16 KiB: the receive of a busier stream; holds one full lane record with its overhead.
    Medium,
    /// 64 KiB: a lane's receive and a lane's batch; a relay's receive.
    Large,
    /// 256 KiB: bulk directions.
    Bulk,
}

/// A buffer of the engine's pool, its whole capacity addressable. Owned and not `Clone`; give it
/// back with [`Engine::free`]. Dropping one is a bug that debug builds report.
pub struct Buf {
    pub(crate) inner: buf::Inner,
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
    /// Bytes or an end can be read.
    Read,
    /// Bytes can be written.
    Write,
    /// The peer reset the connection or closed both directions.
    Hangup,
}

/// One operation. It owns what it needs until its [`Done`].
#[derive(Debug)]
pub enum Op {
    /// Accept connections until cancelled; each is a `Done` with `more`.
    Accept { on: SockRef },
    /// Connect a socket made by [`Engine::socket`].
    Connect { on: SockRef, to: SocketAddr },
    /// Receive into a buffer that the engine picks when bytes are there: an idle socket holds none.
    /// The bytes start at `at` in that buffer and leave at least `tail` bytes of room behind.
    RecvAny {
        on: SockRef,
        class: Class,
        at: usize,
        tail: usize,
    },
    /// Receive up to `max` bytes into `buf` at offset `at`.
    RecvInto {
        on: SockRef,
        buf: Buf,
        at: usize,
        max: usize,
    },
    /// Send all of `range`.
    Send {
        on: SockRef,
        buf: Buf,
        range: Range<usize>,
    },
    /// Send what the socket takes at once.
    SendNow { on: SockRef, part: Part },
    /// Wait until the socket is ready, without a buffer.
    Ready { on: SockRef, want: Interest },
}

/// How an operation ended.
#[derive(Debug)]
pub enum Outcome {
    /// A connection came in; its address.
    Accepted(Sock, SocketAddr),
    /// The connection is up.
    Connected,
    /// `len` > 0 bytes are at `at..at + len`. `drained` says that the socket had no more just then.
    Received {
        buf: Buf,
        at: usize,
        len: usize,
        drained: bool,
    },
    /// The peer will send no more (FIN). A `RecvInto` gets its buffer back.
    Eof { buf: Option<Buf> },
    /// All of the range was sent.
    Sent { buf: Buf },
    /// The first `moved` bytes of the part were sent, possibly 0.
    SentNow { part: Part, moved: usize },
    /// The socket is ready.
    Ready(Interest),
    /// `RecvAny` found bytes but no buffer of its class was free; bytes are still in the socket.
    /// Re-arm after a `free`.
    Starved,
    /// The operation failed; buffers and parts come back.
    Failed {
        errno: Errno,
        buf: Option<Buf>,
        part: Option<Part>,
    },
    /// The operation was cancelled. A cancelled send may have moved bytes, so that direction is dead.
    Cancelled {
        buf: Option<Buf>,
        part: Option<Part>,
    },
}

/// A kernel error number (`errno.h`), as a value so that simulated engines can make them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

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

/// Completions of one turn; reused, so that a turn allocates nothing.
pub type DoneList = Vec<Done>;

/// How long a turn may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: there is work left.
    Poll,
    /// Until a completion, a wake-up or that instant.
    Until(Instant),
    /// Until a completion or a wake-up.
    Forever,
}

/// How a socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// Orderly: the peer reads the rest, then the end.
    Fin,
    /// RST (SO_LINGER 0): the peer can't mistake it for an end.
    Reset,
}

/// One direction of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dir {
    /// What the peer sends.
    Read,
    /// What we send.
    Write,
}

/// IP version of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Options of an outgoing socket. TCP_NODELAY is always set, on accepted ones too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SockOpt {
    /// Tunnel legs and sessions: TCP_USER_TIMEOUT and keepalive find a dead path (see `limits.rs`).
    pub tunnel: bool,
}

/// What an engine needs to know when it is opened.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Most sockets at once.
    pub sockets: u32,
    /// Buffers of each class: `[Small, Medium, Large, Bulk]`. Mapped at open, touched on demand.
    pub buffers: [u32; 4],
}

/// Which implementation, as `--engine` and `status` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// io_uring.
    Uring,
    /// epoll.
    Epoll,
    /// The simulator.
    Simulated,
}

/// What an engine is and can do: shown by `status`.
#[derive(Clone, Debug)]
pub struct Caps {
    /// Which implementation.
    pub kind: Kind,
    /// Features in use, e.g. `defer-taskrun`, `provided-buffers`.
    pub features: Vec<&'static str>,
}

/// Why an engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel or a sandbox does not offer it (EPERM, ENOSYS, EACCES, an old kernel): `auto`
    /// falls back on this one and says so.
    #[error("{engine} is not available: {why}")]
    Unavailable {
        /// Which engine.
        engine: &'static str,
        /// What the kernel said, and what usually causes it.
        why: String,
    },
    /// Anything else (ENOMEM, EMFILE …): an error, never a fallback.
    #[error("opening {engine}: {source}")]
    Failed {
        /// Which engine.
        engine: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// Counters of one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnStats {
    /// System calls made.
    pub syscalls: u32,
    /// Completions delivered.
    pub completions: u32,
}

/// A proactor. See the module's contract.
pub trait Engine: Sized {
    /// A socket in transit between threads: `OwnedFd`, or a simulated id.
    type Carry: Send + 'static;
    /// Wakes a worker that sleeps in `turn`, from any thread.
    type Waker: Wake;

    /// What it is and can do.
    fn caps(&self) -> Caps;
    /// The clock, read once a turn.
    fn now(&self) -> Instant;
    /// Takes a share of a listening socket.
    fn listen(&mut self, shared: &Self::Carry) -> io::Result<Sock>;
    /// A new socket to connect with.
    fn socket(&mut self, family: Family, opt: &SockOpt) -> io::Result<Sock>;
    /// Takes over a connected socket from another thread; gives it back when the table is full.
    fn attach(&mut self, c: Self::Carry) -> Result<Sock, Self::Carry>;
    /// Gives a socket away; refused while an operation is in flight.
    fn detach(&mut self, s: Sock) -> Result<Self::Carry, Sock>;
    /// Hands an operation to the engine. Gives it back when no operation can be taken this turn.
    fn submit(&mut self, t: Token, op: Op) -> Result<(), Op>;
    /// Asks every operation on the socket to end; each still ends with its own `Done`.
    fn cancel(&mut self, s: SockRef);
    /// Ends one direction (FIN, or no more reads).
    fn shutdown(&mut self, s: SockRef, d: Dir) -> io::Result<()>;
    /// Closes an idle socket.
    fn close(&mut self, s: Sock, how: Close);
    /// Submits, waits, and fills `out` with what completed. The only place that blocks.
    fn turn(&mut self, wait: Wait, out: &mut DoneList) -> TurnStats;
    /// A buffer of the class, or `None` when its pool is used up.
    fn alloc(&mut self, c: Class) -> Option<Buf>;
    /// Takes a buffer back.
    fn free(&mut self, b: Buf);
    /// A handle that wakes this engine.
    fn waker(&self) -> Self::Waker;
}

/// Wakes a sleeping worker; costs a system call only when the worker really sleeps.
pub trait Wake: Clone + Send + Sync + 'static {
    /// Makes the current or next `turn` return.
    fn wake(&self);
}

mod buf;

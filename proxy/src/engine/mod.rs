//! Floor 2: the engine, a proactor behind one trait. The only floor with `unsafe` and with
//! system calls on the hot path.
//!
//! | engine | when |
//! |---|---|
//! | [`Uring`] | Linux ≥ 6.1 where io_uring is allowed, probed at start |
//! | [`Epoll`] | everywhere else |
//! | `simulated` | tests (feature `sim`): a world of engines, one clock, links with seeds |
//!
//! | module | what it is |
//! |---|---|
//! | `op`, `config` | the words of the contract: operations and outcomes, options and waits |
//! | `buf`, `touched`, `pipe` | the buffer pool, and which of it has memory; the pipes that a bulk relay goes through |
//! | `open` | which engine to use, and why not the other |
//! | `uring`, `epoll`, `simulated` | the engines |
//! | `table`, `slots` | sockets by name, and the operations in flight on each |
//! | `os`, `accept`, `wake`, `leak` | socket options, exhausted descriptors, waking, dropped things |
//!
//! # Contract
//! - The worker `submit`s operations, each with a [`Token`], and calls [`Engine::turn`], the only
//!   place that blocks. Every accepted operation ends with exactly one [`Done`] whose `more` is
//!   false (`Accept` reports many before that). No completion appears outside `turn`.
//! - An operation owns its buffer until its `Done` hands it back. Nothing is freed or closed while
//!   an operation on it is in flight: terminate ([`Engine::cancel`]) → join (every `Done` seen) →
//!   close ([`Engine::close`]).
//! - At most one receive and one send may be in flight per socket (two receives on one socket
//!   come unordered), plus one watch for a hang-up. `Accept` and waiting for bytes (`Ready` with
//!   `Interest::Read`) count as receives, `Connect` and waiting for room as sends.
//! - `Send` is complete or failed: short sends are resumed inside. `SendNow` never waits.
//! - Nothing reaches the network between turns: sends, connects and closes happen in the next
//!   `turn`, so that what a turn decided leaves in one batch. `shutdown` alone is immediate, and
//!   refused while a send is in flight; and what goes through a pipe, which is bulk.
//! - A [`Pipe`] moves bytes from socket to socket without a buffer: [`Engine::splice_in`], then
//!   [`Engine::splice_out`], neither of which ever waits; between them `Op::Ready` does.
//!
//! Static dispatch everywhere: a `Worker<E: Engine>` is compiled once per engine.

use std::io;

use crate::time::Instant;

mod accept;
mod buf;
mod config;
mod epoll;
mod leak;
mod op;
mod open;
mod os;
mod pipe;
#[cfg(feature = "sim")]
pub mod simulated;
mod slots;
mod table;
mod touched;
mod uring;
mod wake;

pub use buf::{Buf, Class, ClassStats, PoolStats};
pub use config::{
    Caps, Close, Dir, EngineConfig, Family, Kind, OpenError, SockOpt, TurnStats, Wait,
};
pub use epoll::Epoll;
pub use leak::{leaks, tear_down};
pub use op::{Done, DoneList, Errno, Interest, Op, Outcome, Part, Sock, SockRef, Token};
pub use open::{Choice, UnknownEngine, decide};
pub use os::listener;
pub use pipe::Pipe;
pub use uring::Uring;
pub use wake::EventWaker;

/// A proactor. See the module's contract.
pub trait Engine: Sized {
    /// A socket in transit between threads: `OwnedFd`, or a simulated id.
    type Carry: Send + 'static;
    /// Wakes a worker that sleeps in `turn`, from any thread.
    type Waker: Wake;

    /// What it is and can do.
    fn caps(&self) -> Caps;
    /// The clock, read once a turn. Kernel engines count from the machine's start
    /// (CLOCK_BOOTTIME), so all threads of a process agree.
    fn now(&self) -> Instant;
    /// Takes a share of a listening socket.
    fn listen(&mut self, shared: &Self::Carry) -> io::Result<Sock>;
    /// A new socket to connect with.
    fn socket(&mut self, family: Family, opt: &SockOpt) -> io::Result<Sock>;
    /// Takes over a connected socket from another thread; gives it back when the table is full.
    /// The socket was made by an engine, so its options are set.
    fn attach(&mut self, c: Self::Carry) -> Result<Sock, Self::Carry>;
    /// Gives a socket away; refused while an operation is in flight.
    fn detach(&mut self, s: Sock) -> Result<Self::Carry, Sock>;
    /// Sets the options of a connection, e.g. of an accepted one that proved to be a tunnel leg.
    ///
    /// # Errors
    /// What setsockopt says; EBADF for a closed socket.
    fn tune(&mut self, s: SockRef, opt: &SockOpt) -> io::Result<()>;
    /// Hands an operation to the engine. Gives it back when it can't be taken: the socket has one
    /// of that side in flight already. On a closed socket it ends with EBADF, with sizes that do
    /// not fit its buffer with EINVAL.
    fn submit(&mut self, t: Token, op: Op) -> Result<(), Op>;
    /// Asks every operation on the socket to end; each still ends with its own `Done`.
    fn cancel(&mut self, s: SockRef);
    /// Ends one direction (FIN, or no more reads).
    ///
    /// # Errors
    /// `ResourceBusy` when `Write` is asked for while a send is in flight (the FIN would overtake
    /// it); what shutdown(2) says, e.g. ENOTCONN after a reset.
    fn shutdown(&mut self, s: SockRef, d: Dir) -> io::Result<()>;
    /// Closes an idle socket, in the next turn. Closing one with operations in flight is a bug:
    /// their results are swallowed, their buffers freed, and the socket closed after them.
    fn close(&mut self, s: Sock, how: Close);
    /// Submits, waits, and fills `out` with what completed. The only place that blocks.
    fn turn(&mut self, wait: Wait, out: &mut DoneList) -> TurnStats;
    /// A buffer of the class, or `None` when its pool is used up.
    fn alloc(&mut self, c: Class) -> Option<Buf>;
    /// Takes a buffer back.
    fn free(&mut self, b: Buf);
    /// An empty pipe, or `None` when as many as the engine may have are out, none can be made just
    /// now, or it turned out that they do not work here. A pipe belongs to one direction until
    /// [`recycle`](Self::recycle) gives it back.
    fn pipe(&mut self) -> Option<Pipe>;
    /// Moves up to `max` bytes that have arrived on the socket into the pipe: how many, 0 at the
    /// peer's FIN.
    ///
    /// # Errors
    /// `WouldBlock` when the socket has nothing just now *or* the pipe is full: only on an empty
    /// pipe it says that the socket is ([`Pipe::held`]). EBADF for a closed socket; what splice(2)
    /// says, e.g. ECONNRESET, and then [`Pipe::held`] has not changed.
    fn splice_in(&mut self, from: SockRef, p: &mut Pipe, max: usize) -> io::Result<usize>;
    /// Moves what the socket takes at once out of the pipe: how many bytes, at least 1. No send
    /// may be in flight on the socket.
    ///
    /// # Errors
    /// `WouldBlock` when it takes none just now or the pipe is empty; as `splice_in`.
    fn splice_out(&mut self, p: &mut Pipe, to: SockRef) -> io::Result<usize>;
    /// Takes a pipe back. What it still holds is lost.
    fn recycle(&mut self, p: Pipe);
    /// The buffer pool's counters.
    fn pool(&self) -> PoolStats;
    /// Whether [`trim`](Self::trim) is worth its system calls.
    fn has_slack(&self) -> bool;
    /// Gives memory back to the system that was not needed since the last time: that of free
    /// buffers, beyond as many as were out at once, and unused pipes.
    fn trim(&mut self);
    /// A handle that wakes this engine.
    fn waker(&self) -> Self::Waker;
}

/// Wakes a sleeping worker; costs a system call only when the worker really sleeps.
pub trait Wake: Clone + Send + Sync + 'static {
    /// Makes the current or next `turn` return.
    fn wake(&self);
}

//! What may go wrong in a simulated world: by chance, by order, or by a hostile hand on the wire.

use std::net::SocketAddr;
use std::ops::Range;

use crate::engine::Errno;
use crate::time::{Duration, Instant};

/// What happens by chance. Probabilities are in thousandths.
#[derive(Clone, Debug)]
pub struct Faults {
    /// How long a chunk of bytes travels, one way. At least a microsecond.
    pub latency: Range<Duration>,
    /// Bytes of one direction that can be in flight or unread: then writes block.
    pub window: usize,
    /// A receive gets less than is there.
    pub short_reads: u32,
    /// A send moves less than would fit.
    pub short_writes: u32,
    /// Bytes sent at once arrive in several chunks, cut at any offset.
    pub split: u32,
    /// Every receive and send moves one byte.
    pub one_byte: bool,
    /// `alloc` finds nothing and `RecvAny` starves although buffers are free. Not among the
    /// presets: who waits for a `free` may wait in vain then. Small pools starve honestly.
    pub starve: u32,
    /// Bytes that a pipe holds.
    pub pipe: usize,
    /// No pipe is to be had.
    pub no_pipe: u32,
    /// A connect is refused although somebody listens.
    pub refuse: u32,
    /// The connection is reset when a chunk arrives.
    pub reset: u32,
    /// Bytes that were not read yet when a reset arrives are lost.
    pub reset_discards: u32,
}

impl Faults {
    /// A good network: short, steady delays, nothing lost, nothing split.
    pub fn none() -> Faults {
        Faults {
            latency: Duration::from_micros(50)..Duration::from_micros(60),
            window: 256 * 1024,
            short_reads: 0,
            short_writes: 0,
            split: 0,
            one_byte: false,
            starve: 0,
            pipe: 64 * 1024,
            no_pipe: 0,
            refuse: 0,
            reset: 0,
            reset_discards: 0,
        }
    }

    /// Everything that TCP may do to an honest connection, often; nothing that ends one.
    pub fn rough() -> Faults {
        Faults {
            latency: Duration::from_micros(1)..Duration::from_millis(20),
            window: 24 * 1024,
            short_reads: 300,
            short_writes: 300,
            split: 500,
            pipe: 5000,
            no_pipe: 100,
            ..Faults::none()
        }
    }

    /// As rough, and connections are refused and reset as well.
    pub fn hostile() -> Faults {
        Faults {
            refuse: 20,
            reset: 2,
            reset_discards: 500,
            ..Faults::rough()
        }
    }
}

impl Default for Faults {
    fn default() -> Self {
        Faults::none()
    }
}

/// Which call an ordered failure strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// `Op::Connect`.
    Connect,
    /// `Op::RecvAny` and `Op::RecvInto`; the connection is dead afterwards.
    Receive,
    /// `Op::Send` and `Op::SendNow`; the connection is dead afterwards.
    Send,
    /// `Op::Accept` rests, as at EMFILE; the connection waits.
    Accept,
    /// [`Engine::socket`](crate::engine::Engine::socket).
    Socket,
    /// [`Engine::alloc`](crate::engine::Engine::alloc) finds nothing, or `RecvAny` starves.
    Alloc,
    /// [`Engine::pipe`](crate::engine::Engine::pipe) gives none.
    Pipe,
    /// [`Engine::splice_in`](crate::engine::Engine::splice_in): EINVAL as where splicing does not
    /// work; with anything else the connection is dead afterwards.
    SpliceIn,
    /// The same for [`Engine::splice_out`](crate::engine::Engine::splice_out).
    SpliceOut,
}

/// A failure that a test ordered for the next call of its kind on an engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ordered {
    pub(super) engine: u32,
    pub(super) kind: OpKind,
    pub(super) errno: Errno,
}

/// Bytes about to arrive, as a [`tap`](super::World::tap) sees them.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The sender's address.
    pub from: SocketAddr,
    /// The receiver's address.
    pub to: SocketAddr,
    /// They go from the side that connected to the side that accepted.
    pub outward: bool,
    /// Bytes of this direction that were sent before these.
    pub offset: u64,
    /// Which connection of the world, counted from 1.
    pub connection: u64,
    /// The time.
    pub now: Instant,
}

/// What a tap decides after it has seen, and perhaps changed, the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver what the bytes are now (none, if they were cleared).
    Pass,
    /// Deliver them, then end this direction with a FIN; what follows is dropped.
    Fin,
    /// Deliver them, then reset the connection at both ends.
    Reset,
}

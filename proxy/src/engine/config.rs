//! What an engine is opened with, what it says of itself, and how it waits and closes.

use std::io;

use crate::time::Instant;

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

impl Family {
    /// The family of an address.
    pub fn of(addr: &std::net::SocketAddr) -> Family {
        if addr.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }
}

/// Options of a connection. TCP_NODELAY is always set, on accepted ones too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SockOpt {
    /// Tunnel legs and sessions: TCP_USER_TIMEOUT and keepalive find a dead path (see `limits.rs`).
    pub tunnel: bool,
    /// With `tunnel`: the other end may take nothing for as long as it likes. No TCP_USER_TIMEOUT, which
    /// ends a connection whose window stays closed although the path is alive; keepalive stays.
    pub patient: bool,
}

impl SockOpt {
    /// Of a session, or of a leg that is always read.
    pub const TUNNEL: SockOpt = SockOpt {
        tunnel: true,
        patient: false,
    };
    /// Of a leg whose bytes wait for a slow app.
    pub const PATIENT: SockOpt = SockOpt {
        tunnel: true,
        patient: true,
    };
}

/// What an engine needs to know when it is opened.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Most sockets at once; at most `SOCKETS_MAX`.
    pub sockets: u32,
    /// Buffers of each class: `[Small, Medium, Large, Bulk]`. Mapped at open, touched on demand.
    pub buffers: [u32; 4],
    /// Most pipes at once, each of two descriptors beside the sockets; at most `PIPES_MAX`. With
    /// none [`Engine::pipe`](super::Engine::pipe) gives none.
    pub pipes: u32,
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
    /// Somebody woke the engine, in this turn or since the one before.
    pub woken: bool,
}

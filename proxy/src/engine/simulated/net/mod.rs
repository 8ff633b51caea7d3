//! What kernels and the wire do in the simulated world: sockets and who owns them here,
//! connecting in `dial`, reading, writing and closing in `stream`, what is under way in `wire`.
//!
//! A connection has two sides: 0 connected, 1 accepted. `pipes[i]` carries what side `i` sends:
//!
//! ```text
//! write -> [ flying: chunks with a time of arrival ] -> [ arrived: unread bytes ] -> read
//!           '------------- together at most `window` bytes ------------'
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::faults::{Faults, Flow, OpKind, Ordered, Verdict};
use super::rng::Rng;
use crate::engine::{Close, Errno, SockOpt, Wait};
use crate::limits::SIM_TURNS_MAX;
use crate::time::Instant;

mod dial;
mod stream;
mod wire;

pub(super) type SockId = u64;
/// A middlebox: sees and changes bytes before they arrive.
pub type Tap = Box<dyn FnMut(&Flow, &mut Vec<u8>) -> Verdict>;

/// Who is to be told that a socket may have become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Engine(u32),
    App,
    /// In a backlog, or on its way between engines.
    Nobody,
}

#[derive(Debug)]
enum Kind {
    Fresh,
    Dialing,
    Failed(Errno),
    Listener {
        addr: SocketAddr,
        /// The carry and every engine that listens: the last one closes it.
        shares: u32,
        waiting: VecDeque<SockId>,
        watchers: Vec<Owner>,
    },
    End {
        conn: u64,
        side: usize,
    },
}

#[derive(Debug)]
struct Socket {
    owner: Owner,
    host: IpAddr,
    opt: SockOpt,
    kind: Kind,
}

#[derive(Debug)]
enum Chunk {
    Bytes(Vec<u8>),
    Fin,
    Rst,
}

#[derive(Debug, Default)]
struct Pipe {
    flying: VecDeque<(Instant, Chunk)>,
    flying_bytes: usize,
    arrived: VecDeque<u8>,
    /// The FIN has arrived.
    fin: bool,
    /// A middlebox ended it: what still comes is dropped.
    cut: bool,
    last_due: Instant,
    /// Bytes that have left the wire.
    passed: u64,
    /// Since when a partition keeps its head from arriving.
    held_since: Option<Instant>,
    /// The writer has more than fits.
    blocked: bool,
    /// Since when the reader takes nothing although the writer is blocked: its window is closed.
    shut_since: Option<Instant>,
}

#[derive(Debug)]
struct Conn {
    addrs: [SocketAddr; 2],
    /// `None` once closed.
    socks: [Option<SockId>; 2],
    pipes: [Pipe; 2],
    /// Why a side can't go on.
    errors: [Option<Errno>; 2],
    fin_sent: [bool; 2],
    shut_read: [bool; 2],
}

#[derive(Debug)]
pub(super) struct EngineState {
    pub(super) alive: bool,
    pub(super) dirty: bool,
    pub(super) woken: Arc<AtomicBool>,
    pub(super) wait: Wait,
    /// Turns at the same instant, to find an engine that spins.
    turns: (Instant, u32),
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Bytes { len: usize, drained: bool },
    Eof,
    Nothing,
}

pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) ordered: Vec<Ordered>,
    pub(super) tap: Option<Tap>,
    pub(super) engines: Vec<EngineState>,
    pub(super) violations: Vec<String>,
    pub(super) trace: Option<Vec<String>>,
    /// Sockets whose carry was dropped on the way.
    pub(super) graveyard: Arc<Mutex<Vec<SockId>>>,
    sockets: BTreeMap<SockId, Socket>,
    next_sock: SockId,
    listeners: BTreeMap<SocketAddr, SockId>,
    conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    next_port: u16,
    events: BTreeMap<(Instant, u64), wire::Event>,
    next_event: u64,
    /// Pairs of hosts, the smaller first, and since when nothing passes between them.
    partitions: BTreeMap<(IpAddr, IpAddr), Instant>,
    blackholes: BTreeSet<IpAddr>,
}

impl Net {
    pub(super) fn new(seed: u64) -> Net {
        Net {
            now: Instant::ZERO,
            rng: Rng::new(seed),
            faults: Faults::none(),
            ordered: Vec::new(),
            tap: None,
            engines: Vec::new(),
            violations: Vec::new(),
            trace: None,
            graveyard: Arc::default(),
            sockets: BTreeMap::new(),
            next_sock: 1,
            listeners: BTreeMap::new(),
            conns: BTreeMap::new(),
            next_conn: 1,
            next_port: 32_768,
            events: BTreeMap::new(),
            next_event: 0,
            partitions: BTreeMap::new(),
            blackholes: BTreeSet::new(),
        }
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12} ns  {}", self.now.as_nanos(), what()));
        }
    }

    pub(super) fn violation(&mut self, what: String) {
        self.note(|| format!("VIOLATION {what}"));
        self.violations
            .push(format!("at {} ns: {what}", self.now.as_nanos()));
    }

    // ---- engines --------------------------------------------------------------------------

    /// A new engine has its first turn as soon as it can.
    pub(super) fn add_engine(&mut self) -> (u32, Arc<AtomicBool>) {
        let woken = Arc::new(AtomicBool::new(false));
        self.engines.push(EngineState {
            alive: true,
            dirty: true,
            woken: Arc::clone(&woken),
            wait: Wait::Poll,
            turns: (Instant::ZERO, 0),
        });
        (
            u32::try_from(self.engines.len() - 1).unwrap_or(u32::MAX),
            woken,
        )
    }

    pub(super) fn engine(&mut self, id: u32) -> Option<&mut EngineState> {
        self.engines.get_mut(id as usize)
    }

    /// Notes a turn; an engine that takes too many at one instant spins.
    pub(super) fn begin_turn(&mut self, id: u32) -> bool {
        let now = self.now;
        let Some(e) = self.engine(id) else {
            return false;
        };
        e.dirty = false;
        e.turns = if e.turns.0 == now {
            (now, e.turns.1 + 1)
        } else {
            (now, 1)
        };
        let spins = e.turns.1 == SIM_TURNS_MAX;
        let woken = e.woken.swap(false, Ordering::AcqRel);
        if spins {
            self.violation(format!(
                "engine {id} spins: {SIM_TURNS_MAX} turns at one instant"
            ));
        }
        woken
    }

    pub(super) fn is_runnable(&self, id: u32) -> bool {
        self.engines.get(id as usize).is_some_and(|e| {
            e.alive
                && (e.dirty
                    || e.woken.load(Ordering::Acquire)
                    || match e.wait {
                        Wait::Poll => true,
                        Wait::Until(t) => t <= self.now,
                        Wait::Forever => false,
                    })
        })
    }

    pub(super) fn tell(&mut self, owner: Owner) {
        if let Owner::Engine(id) = owner
            && let Some(e) = self.engine(id)
        {
            e.dirty = true;
        }
    }

    fn tell_sock(&mut self, sock: Option<SockId>) {
        if let Some(owner) = sock.and_then(|s| self.sockets.get(&s)).map(|s| s.owner) {
            self.tell(owner);
        }
    }

    /// Takes an ordered failure of that kind, if the test asked for one.
    pub(super) fn ordered(&mut self, engine: u32, kind: OpKind) -> Option<Errno> {
        let i = self
            .ordered
            .iter()
            .position(|o| o.engine == engine && o.kind == kind)?;
        let errno = self.ordered.remove(i).errno;
        self.note(|| format!("engine {engine}: ordered {kind:?} failure {}", errno.0));
        Some(errno)
    }

    // ---- sockets --------------------------------------------------------------------------

    fn add(&mut self, owner: Owner, host: IpAddr, kind: Kind) -> SockId {
        let id = self.next_sock;
        self.next_sock += 1;
        self.sockets.insert(
            id,
            Socket {
                owner,
                host,
                opt: SockOpt::default(),
                kind,
            },
        );
        id
    }

    pub(super) fn socket(&mut self, owner: Owner, host: IpAddr) -> SockId {
        self.add(owner, host, Kind::Fresh)
    }

    pub(super) fn set_options(&mut self, id: SockId, opt: SockOpt) {
        if let Some(s) = self.sockets.get_mut(&id) {
            s.opt = opt;
        }
    }

    pub(super) fn set_owner(&mut self, id: SockId, owner: Owner) {
        if let Some(s) = self.sockets.get_mut(&id) {
            s.owner = owner;
        }
        self.tell(owner);
    }

    pub(super) fn is_connection(&self, id: SockId) -> bool {
        self.sockets
            .get(&id)
            .is_some_and(|s| matches!(s.kind, Kind::End { .. }))
    }

    pub(super) fn count_sockets(&self) -> usize {
        self.sockets.len()
    }

    pub(super) fn count_connections(&self) -> usize {
        self.conns.len()
    }

    /// Closes what was dropped on its way between engines.
    pub(super) fn bury(&mut self) {
        let dead: Vec<SockId> = match self.graveyard.lock() {
            Ok(mut g) => g.drain(..).collect(),
            Err(poisoned) => poisoned.into_inner().drain(..).collect(),
        };
        for id in dead {
            self.close(id, Close::Fin);
        }
    }

    fn end_of(&self, id: SockId) -> Option<(u64, usize)> {
        match self.sockets.get(&id)?.kind {
            Kind::End { conn, side } => Some((conn, side)),
            Kind::Fresh | Kind::Dialing | Kind::Failed(_) | Kind::Listener { .. } => None,
        }
    }
}

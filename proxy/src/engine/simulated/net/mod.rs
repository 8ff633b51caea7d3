//! What kernels do in the simulated world: sockets, listening, connecting, reading, writing,
//! closing. The wire between them is in [`wire`].
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
use crate::engine::{Close, Dir, Errno, Wait};
use crate::limits::{LISTEN_BACKLOG, SIM_TURNS_MAX};
use crate::time::Instant;

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
    tunnel: bool,
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
                tunnel: false,
                kind,
            },
        );
        id
    }

    pub(super) fn socket(&mut self, owner: Owner, host: IpAddr) -> SockId {
        self.add(owner, host, Kind::Fresh)
    }

    pub(super) fn set_tunnel(&mut self, id: SockId) {
        if let Some(s) = self.sockets.get_mut(&id) {
            s.tunnel = true;
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

    // ---- listening and connecting ---------------------------------------------------------

    /// # Errors
    /// EADDRNOTAVAIL for an unspecified address, EADDRINUSE.
    pub(super) fn listen(&mut self, addr: SocketAddr, owner: Owner) -> Result<SockId, Errno> {
        if addr.ip().is_unspecified() {
            return Err(Errno::ADDRNOTAVAIL);
        }
        let mut addr = addr;
        if addr.port() == 0 {
            addr.set_port(self.port());
        }
        if self.listeners.contains_key(&addr) {
            return Err(Errno::ADDRINUSE);
        }
        let kind = Kind::Listener {
            addr,
            shares: 1,
            waiting: VecDeque::new(),
            watchers: Vec::new(),
        };
        let id = self.add(owner, addr.ip(), kind);
        self.listeners.insert(addr, id);
        Ok(id)
    }

    pub(super) fn listening_at(&self, id: SockId) -> Option<SocketAddr> {
        match self.sockets.get(&id)?.kind {
            Kind::Listener { addr, .. } => Some(addr),
            Kind::Fresh | Kind::Dialing | Kind::Failed(_) | Kind::End { .. } => None,
        }
    }

    /// One more engine listens on it.
    pub(super) fn share(&mut self, id: SockId, owner: Owner) -> bool {
        match self.sockets.get_mut(&id).map(|s| &mut s.kind) {
            Some(Kind::Listener {
                shares, watchers, ..
            }) => {
                *shares += 1;
                watchers.push(owner);
                true
            }
            _ => false,
        }
    }

    /// One engine listens on it no more. Its carry is not asked for an owner.
    pub(super) fn unshare(&mut self, id: SockId, owner: Option<Owner>) {
        let Some(Kind::Listener {
            addr,
            shares,
            waiting,
            watchers,
        }) = self.sockets.get_mut(&id).map(|s| &mut s.kind)
        else {
            return;
        };
        if let Some(i) = owner.and_then(|o| watchers.iter().position(|w| *w == o)) {
            watchers.remove(i);
        }
        *shares -= 1;
        if *shares > 0 {
            return;
        }
        let (addr, waiting) = (*addr, std::mem::take(waiting));
        self.sockets.remove(&id);
        self.listeners.remove(&addr);
        for w in waiting {
            self.close(w, Close::Reset);
        }
    }

    pub(super) fn is_waiting(&self, id: SockId) -> bool {
        matches!(self.sockets.get(&id).map(|s| &s.kind),
            Some(Kind::Listener { waiting, .. }) if !waiting.is_empty())
    }

    /// The connection that waited longest.
    pub(super) fn accept(&mut self, id: SockId, owner: Owner) -> Option<(SockId, SocketAddr)> {
        let Some(Kind::Listener { waiting, .. }) = self.sockets.get_mut(&id).map(|s| &mut s.kind)
        else {
            return None;
        };
        let sock = waiting.pop_front()?;
        self.set_owner(sock, owner);
        let (conn, side) = self.end_of(sock)?;
        Some((sock, self.conns.get(&conn)?.addrs[1 - side]))
    }

    fn port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = if port == u16::MAX { 32_768 } else { port + 1 };
        port
    }

    /// Begins to connect; [`connect_state`](Self::connect_state) says how it went.
    pub(super) fn connect(&mut self, id: SockId, to: SocketAddr) {
        let port = self.port();
        let Some(s) = self.sockets.get_mut(&id) else {
            return;
        };
        s.kind = Kind::Dialing;
        let from = SocketAddr::new(s.host, port);
        self.note(|| format!("{from} connects to {to}"));
        self.dial(id, from, to, 0);
    }

    /// `None` while it is under way.
    pub(super) fn connect_state(&self, id: SockId) -> Option<Result<(), Errno>> {
        match self.sockets.get(&id).map(|s| &s.kind) {
            Some(Kind::Dialing) => None,
            Some(Kind::End { .. }) => Some(Ok(())),
            Some(Kind::Failed(errno)) => Some(Err(*errno)),
            Some(Kind::Fresh | Kind::Listener { .. }) | None => Some(Err(Errno::INVAL)),
        }
    }

    fn fail_dial(&mut self, id: SockId, errno: Errno) {
        if let Some(s) = self.sockets.get_mut(&id)
            && matches!(s.kind, Kind::Dialing)
        {
            s.kind = Kind::Failed(errno);
            self.tell_sock(Some(id));
        }
    }

    /// A SYN has come to `to`: true if somebody listens there and has room for it.
    fn answer(&mut self, sock: SockId, from: SocketAddr, to: SocketAddr) -> Answer {
        let Some(&listener) = self.listeners.get(&to) else {
            return Answer::Refused;
        };
        let Some(Kind::Listener {
            waiting, watchers, ..
        }) = self.sockets.get(&listener).map(|s| &s.kind)
        else {
            return Answer::Refused;
        };
        if waiting.len() >= usize::try_from(LISTEN_BACKLOG).unwrap_or(0) {
            return Answer::Dropped;
        }
        let (conn, watchers) = (self.next_conn, watchers.clone());
        self.next_conn += 1;
        let far = self.add(Owner::Nobody, to.ip(), Kind::End { conn, side: 1 });
        self.conns.insert(
            conn,
            Conn {
                addrs: [from, to],
                socks: [Some(sock), Some(far)],
                pipes: [Pipe::default(), Pipe::default()],
                errors: [None; 2],
                fin_sent: [false; 2],
                shut_read: [false; 2],
            },
        );
        if let Some(Kind::Listener { waiting, .. }) =
            self.sockets.get_mut(&listener).map(|s| &mut s.kind)
        {
            waiting.push_back(far);
        }
        watchers.into_iter().for_each(|w| self.tell(w));
        Answer::Accepted(conn)
    }

    // ---- reading and writing --------------------------------------------------------------

    /// Moves what fits of `bytes`, 0 when nothing does.
    ///
    /// # Errors
    /// ECONNRESET or ETIMEDOUT once the connection is lost, EPIPE after an own FIN.
    pub(super) fn write(&mut self, id: SockId, bytes: &[u8]) -> Result<usize, Errno> {
        let Some((conn, side)) = self.end_of(id) else {
            return Err(Errno::PIPE);
        };
        let (window, short) = (self.faults.window, self.faults.short_writes);
        let Some(c) = self.conns.get_mut(&conn) else {
            return Err(Errno::PIPE);
        };
        if let Some(errno) = c.errors[side] {
            return Err(errno);
        }
        if c.fin_sent[side] {
            return Err(Errno::PIPE);
        }
        let pipe = &c.pipes[side];
        let room = window.saturating_sub(pipe.flying_bytes + pipe.arrived.len());
        let mut n = room.min(bytes.len());
        if n > 1 && self.faults.one_byte {
            n = 1;
        } else if n > 1 && self.rng.chance(short) {
            n = self.rng.within(1..n);
        }
        self.launch(conn, side, &bytes[..n]);
        Ok(n)
    }

    /// Reads what is there; with no room to read into, says whether something is.
    ///
    /// # Errors
    /// ECONNRESET or ETIMEDOUT, after what had arrived before.
    pub(super) fn read(&mut self, id: SockId, into: &mut [u8]) -> Result<Read, Errno> {
        let Some((conn, side)) = self.end_of(id) else {
            return Err(Errno::NOTCONN);
        };
        let Some(c) = self.conns.get_mut(&conn) else {
            return Err(Errno::NOTCONN);
        };
        let pipe = &mut c.pipes[1 - side];
        if pipe.arrived.is_empty() {
            return match c.errors[side] {
                Some(errno) => Err(errno),
                None if pipe.fin || c.shut_read[side] => Ok(Read::Eof),
                None => Ok(Read::Nothing),
            };
        }
        let mut n = pipe.arrived.len().min(into.len());
        if n == 0 {
            return Ok(Read::Bytes {
                len: 0,
                drained: false,
            });
        }
        if n > 1 && self.faults.one_byte {
            n = 1;
        } else if n > 1 && self.rng.chance(self.faults.short_reads) {
            n = self.rng.within(1..n);
        }
        for (to, from) in into.iter_mut().zip(pipe.arrived.drain(..n)) {
            *to = from;
        }
        let drained = pipe.arrived.is_empty();
        let writer = c.socks[1 - side];
        self.tell_sock(writer);
        Ok(Read::Bytes { len: n, drained })
    }

    pub(super) fn is_readable(&self, id: SockId) -> bool {
        let Some((conn, side)) = self.end_of(id) else {
            return false;
        };
        self.conns.get(&conn).is_some_and(|c| {
            let pipe = &c.pipes[1 - side];
            !pipe.arrived.is_empty() || pipe.fin || c.shut_read[side] || c.errors[side].is_some()
        })
    }

    pub(super) fn is_writable(&self, id: SockId) -> bool {
        let Some((conn, side)) = self.end_of(id) else {
            return false;
        };
        self.conns.get(&conn).is_some_and(|c| {
            let pipe = &c.pipes[side];
            c.errors[side].is_some()
                || c.fin_sent[side]
                || pipe.flying_bytes + pipe.arrived.len() < self.faults.window
        })
    }

    /// Reset, or both directions ended.
    pub(super) fn is_hung_up(&self, id: SockId) -> bool {
        let Some((conn, side)) = self.end_of(id) else {
            return false;
        };
        self.conns.get(&conn).is_some_and(|c| {
            c.errors[side].is_some() || (c.fin_sent[side] && c.pipes[1 - side].fin)
        })
    }

    // ---- ending ---------------------------------------------------------------------------

    /// # Errors
    /// ENOTCONN when there is no connection any more.
    pub(super) fn shutdown(&mut self, id: SockId, d: Dir) -> Result<(), Errno> {
        let (conn, side) = self.end_of(id).ok_or(Errno::NOTCONN)?;
        let c = self.conns.get_mut(&conn).ok_or(Errno::NOTCONN)?;
        if c.errors[side].is_some() {
            return Err(Errno::NOTCONN);
        }
        match d {
            Dir::Read => c.shut_read[side] = true,
            Dir::Write if c.fin_sent[side] => {}
            Dir::Write => {
                c.fin_sent[side] = true;
                self.launch_end(conn, side, Chunk::Fin);
            }
        }
        self.tell_sock(Some(id));
        Ok(())
    }

    pub(super) fn close(&mut self, id: SockId, how: Close) {
        let Some(s) = self.sockets.get(&id) else {
            return;
        };
        match s.kind {
            Kind::Listener { .. } => self.unshare(id, None),
            Kind::Fresh | Kind::Dialing | Kind::Failed(_) => {
                self.sockets.remove(&id);
            }
            Kind::End { conn, side } => {
                self.sockets.remove(&id);
                self.close_end(conn, side, how);
            }
        }
    }

    fn close_end(&mut self, conn: u64, side: usize, how: Close) {
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        c.socks[side] = None;
        let unread = !c.pipes[1 - side].arrived.is_empty();
        c.pipes[1 - side].arrived.clear();
        let (from, to) = (c.addrs[side], c.addrs[1 - side]);
        if c.errors[side].is_some() {
            // The peer ended it: there is nobody to tell.
        } else if how == Close::Reset || unread {
            self.note(|| format!("{from} resets {to}"));
            self.abort(conn, side);
        } else if !c.fin_sent[side] {
            c.fin_sent[side] = true;
            self.launch_end(conn, side, Chunk::Fin);
        }
        self.collect(conn);
    }

    /// Forgets a connection that nobody holds.
    fn collect(&mut self, conn: u64) {
        if self
            .conns
            .get(&conn)
            .is_some_and(|c| c.socks == [None, None])
        {
            self.conns.remove(&conn);
        }
    }
}

/// What comes back for a SYN.
enum Answer {
    Accepted(u64),
    Refused,
    Dropped,
}

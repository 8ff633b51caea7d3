//! The worker's sockets: one slot each, with what is in flight on it, its deadline, and what it
//! is at the moment.
//!
//! # Contract
//! - Every operation is submitted through here, so `flight` says exactly which are out; a slot is
//!   freed only when none is.
//! - Closing has three named steps. **terminate**: [`Net::terminate`] marks the slot and cancels
//!   what is in flight. **join**: every `Done` of it passes [`Net::landed`], buffers are freed.
//!   **close**: with the last one the socket is closed and the caller told, which frees the slot
//!   or keeps it (a stream whose number is still in use on its lane).
//! - Completions of a slot that is closing never reach the connection's own code.
//! - A buffer that can't be had is no error: the slot waits in `starved` and gets its turn after a
//!   buffer was freed.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

use super::conn::Conn;
use super::slab::{Slab, SlotKey};
use super::timers::Timers;
use crate::engine::{
    Buf, Class, Close, Dir, Done, DoneList, Engine, Errno, Family, Interest, Op, Outcome, Part,
    Pipe, Sock, SockOpt, SockRef, Token, TurnStats, Wait,
};
use crate::limits::{STARVED_RETRY, TIMERS_STALE_MAX};
use crate::time::Instant;

/// The worker's code for an operation in a token: one bit each, so that a set of them is a byte.
pub(super) mod code {
    pub const ACCEPT: u8 = 1;
    pub const CONNECT: u8 = 2;
    pub const RECV: u8 = 4;
    pub const SEND: u8 = 8;
    pub const READY: u8 = 16;
}

/// One slot: a socket (or none, before it is made and after it is closed) and what it is used for.
#[derive(Debug)]
pub(super) struct Slot {
    sock: Option<Sock>,
    /// Operations in flight, a set of [`code`] bits.
    flight: u8,
    /// Set by the first step of closing.
    closing: Option<Close>,
    /// When the connection's own code wants to be called.
    deadline: Instant,
    /// Earliest entry of this slot in the timer heap.
    queued: Instant,
    /// Waits for a buffer.
    starved: bool,
    pub conn: Conn,
}

impl Slot {
    /// Whether one of these operations is in flight.
    pub fn flying(&self, codes: u8) -> bool {
        self.flight & codes != 0
    }

    /// Whether the slot has a socket that is not being closed.
    pub fn is_live(&self) -> bool {
        self.sock.is_some() && self.closing.is_none()
    }

    /// Whether the socket is gone (or was never made).
    pub fn is_closed(&self) -> bool {
        self.sock.is_none()
    }
}

/// What a completion was for, after the bookkeeping.
#[derive(Debug)]
pub(super) enum Landed {
    /// The connection's own code deals with it.
    Live(SlotKey, u8, Outcome),
    /// The last operation of a closing slot: the socket is closed now.
    Closed(SlotKey),
    /// Bytes are there, but no buffer: the slot is in line for one.
    Starved,
    /// Nothing more to do.
    Nothing,
}

/// Engine, slots, timers.
pub(super) struct Net<E: Engine> {
    pub engine: E,
    pub slots: Slab<Slot>,
    timers: Timers,
    starved: VecDeque<SlotKey>,
    /// Buffers given back since starved slots were last looked at.
    freed: usize,
    /// When a starved slot asks again, should no buffer be freed.
    retry_at: Instant,
    /// Closed without an operation in flight: told at the end of the step that closed them.
    closed: VecDeque<SlotKey>,
}

impl<E: Engine> Net<E> {
    pub fn new(engine: E, slots_max: u32) -> Self {
        Net {
            engine,
            slots: Slab::new(slots_max),
            timers: Timers::new(),
            starved: VecDeque::new(),
            freed: 0,
            retry_at: Instant::FAR_FUTURE,
            closed: VecDeque::new(),
        }
    }

    /// Gives a socket a slot.
    ///
    /// # Errors
    /// The socket is closed with a reset, and what it would have been comes back, when every slot
    /// is in use.
    #[expect(
        clippy::result_large_err,
        reason = "moved only where the table is full"
    )]
    pub fn insert(&mut self, sock: Option<Sock>, conn: Conn) -> Result<SlotKey, Conn> {
        let slot = Slot {
            sock,
            flight: 0,
            closing: None,
            deadline: Instant::FAR_FUTURE,
            queued: Instant::FAR_FUTURE,
            starved: false,
            conn,
        };
        self.slots.insert(slot).map_err(|slot| {
            if let Some(sock) = slot.sock {
                self.engine.close(sock, Close::Reset);
            }
            slot.conn
        })
    }

    /// Makes an outgoing socket for a slot that has none.
    ///
    /// # Errors
    /// What socket(2) says.
    pub fn make_socket(&mut self, key: SlotKey, to: SocketAddr, opt: &SockOpt) -> io::Result<()> {
        let sock = self.engine.socket(Family::of(&to), opt)?;
        match self.slots.get_mut(key) {
            Some(slot) if slot.sock.is_none() => {
                slot.sock = Some(sock);
                slot.closing = None;
                Ok(())
            }
            Some(_) | None => {
                debug_assert!(false, "a socket for a slot that has one");
                self.engine.close(sock, Close::Reset);
                Err(io::ErrorKind::AddrInUse.into())
            }
        }
    }

    /// Takes the socket out of its slot, to be handed to another worker; `None` while anything is
    /// in flight on it, or when it is being closed.
    pub fn detach(&mut self, key: SlotKey) -> Option<E::Carry> {
        let slot = self.slots.get_mut(key)?;
        if slot.flight != 0 || slot.closing.is_some() {
            return None;
        }
        match self.engine.detach(slot.sock.take()?) {
            Ok(carry) => Some(carry),
            Err(sock) => {
                slot.sock = Some(sock);
                None
            }
        }
    }

    /// Puts a socket back that nobody took; false when it is lost.
    pub fn reattach(&mut self, key: SlotKey, carry: E::Carry) -> bool {
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.sock.is_none()) else {
            return false;
        };
        slot.sock = self.engine.attach(carry).ok();
        slot.sock.is_some()
    }

    /// Gives a socket that was handed over a slot.
    ///
    /// # Errors
    /// The socket is closed when every slot is in use.
    pub fn take_over(&mut self, carry: E::Carry, conn: Conn) -> Result<SlotKey, ()> {
        let sock = self.engine.attach(carry).map_err(drop)?;
        self.insert(Some(sock), conn).map_err(drop)
    }

    /// Frees the slot of a closed socket.
    pub fn remove(&mut self, key: SlotKey) -> Option<Conn> {
        let slot = self.slots.remove(key)?;
        assert!(
            slot.sock.is_none() && slot.flight == 0,
            "a slot is freed with its socket open"
        );
        Some(slot.conn)
    }

    /// The socket's name, if an operation of that kind may be submitted on it now.
    fn name(&self, key: SlotKey, code: u8) -> Option<SockRef> {
        let slot = self.slots.get(key)?;
        debug_assert!(!slot.flying(code), "two operations of one kind on a socket");
        let open = slot.closing.is_none() && !slot.flying(code);
        slot.sock.as_ref().filter(|_| open).map(Sock::name)
    }

    fn submit(&mut self, key: SlotKey, code: u8, op: Op) {
        let token = Token {
            slot: key.slot,
            generation: key.generation,
            op: code,
        };
        match self.engine.submit(token, op) {
            Ok(()) => {
                if let Some(slot) = self.slots.get_mut(key) {
                    slot.flight |= code;
                }
            }
            Err(op) => {
                debug_assert!(false, "the engine refused {op:?}");
                match op {
                    Op::RecvInto { buf, .. } | Op::Send { buf, .. } => self.free(buf),
                    Op::SendNow { part, .. } => self.release(part),
                    Op::Accept { .. }
                    | Op::Connect { .. }
                    | Op::RecvAny { .. }
                    | Op::Ready { .. } => {}
                }
            }
        }
    }

    /// Accepts until closed.
    pub fn accept(&mut self, key: SlotKey) {
        if let Some(on) = self.name(key, code::ACCEPT) {
            self.submit(key, code::ACCEPT, Op::Accept { on });
        }
    }

    /// Connects the slot's fresh socket.
    pub fn connect(&mut self, key: SlotKey, to: SocketAddr) {
        if let Some(on) = self.name(key, code::CONNECT) {
            self.submit(key, code::CONNECT, Op::Connect { on, to });
        }
    }

    /// Receives into a buffer that the engine picks when bytes are there, unless a receive is
    /// armed already.
    pub fn recv_any(&mut self, key: SlotKey, class: Class) {
        if self.is_flying(key, code::RECV) {
            return;
        }
        if let Some(on) = self.name(key, code::RECV) {
            self.submit(
                key,
                code::RECV,
                Op::RecvAny {
                    on,
                    class,
                    at: 0,
                    tail: 0,
                },
            );
        }
    }

    /// Receives into a buffer that the engine picks when bytes are there, with room around them.
    pub fn recv_roomy(&mut self, key: SlotKey, class: Class, at: usize, tail: usize) {
        if self.is_flying(key, code::RECV) {
            return;
        }
        if let Some(on) = self.name(key, code::RECV) {
            let op = Op::RecvAny {
                on,
                class,
                at,
                tail,
            };
            self.submit(key, code::RECV, op);
        }
    }

    /// Receives into the rest of `buf`, behind its first `at` bytes.
    pub fn recv_into(&mut self, key: SlotKey, buf: Buf, at: usize) {
        let max = buf.len().saturating_sub(at);
        match self.name(key, code::RECV) {
            Some(on) => self.submit(key, code::RECV, Op::RecvInto { on, buf, at, max }),
            None => self.free(buf),
        }
    }

    /// Sends all of `range`.
    pub fn send(&mut self, key: SlotKey, buf: Buf, range: Range<usize>) {
        match self.name(key, code::SEND) {
            Some(on) => self.submit(key, code::SEND, Op::Send { on, buf, range }),
            None => self.free(buf),
        }
    }

    /// Sends what the socket takes at once.
    pub fn send_now(&mut self, key: SlotKey, part: Part) {
        match self.name(key, code::SEND) {
            Some(on) => self.submit(key, code::SEND, Op::SendNow { on, part }),
            None => self.release(part),
        }
    }

    /// Watches for a hang-up, unless it is watched already.
    pub fn watch(&mut self, key: SlotKey) {
        self.ready(key, code::READY, Interest::Hangup);
    }

    /// Waits for bytes or an end, unless a receive is armed already. Its completion has the code
    /// of a receive, whose place it takes.
    pub fn wait_bytes(&mut self, key: SlotKey) {
        self.ready(key, code::RECV, Interest::Read);
    }

    /// Waits for room, unless a send is in flight. Its completion has the code of a send.
    pub fn wait_room(&mut self, key: SlotKey) {
        self.ready(key, code::SEND, Interest::Write);
    }

    fn ready(&mut self, key: SlotKey, code: u8, want: Interest) {
        if self.is_flying(key, code) {
            return;
        }
        if let Some(on) = self.name(key, code) {
            self.submit(key, code, Op::Ready { on, want });
        }
    }

    /// Moves what the socket has into a pipe, as [`Engine::splice_in`].
    pub fn splice_in(&mut self, key: SlotKey, pipe: &mut Pipe, max: usize) -> io::Result<usize> {
        let on = self.name(key, code::RECV).ok_or(Errno::BADF)?;
        self.engine.splice_in(on, pipe, max)
    }

    /// Moves what the socket takes out of a pipe, as [`Engine::splice_out`].
    pub fn splice_out(&mut self, pipe: &mut Pipe, key: SlotKey) -> io::Result<usize> {
        let on = self.name(key, code::SEND).ok_or(Errno::BADF)?;
        self.engine.splice_out(pipe, on)
    }

    /// Sends FIN behind what was sent. False when the socket is broken (its receive or hang-up
    /// watch will say so).
    pub fn finish(&mut self, key: SlotKey) -> bool {
        let Some(slot) = self.slots.get(key) else {
            return false;
        };
        debug_assert!(!slot.flying(code::SEND), "a FIN would overtake a send");
        let Some(sock) = slot.sock.as_ref().filter(|_| slot.closing.is_none()) else {
            return false;
        };
        self.engine.shutdown(sock.name(), Dir::Write).is_ok()
    }

    /// Sets the options of a tunnel leg or session on an accepted connection. A failure is the
    /// socket's, and will be seen by its next operation.
    pub fn tune_tunnel(&mut self, key: SlotKey) {
        if let Some(sock) = self.slots.get(key).and_then(|slot| slot.sock.as_ref()) {
            let tuned = self.engine.tune(sock.name(), &SockOpt::TUNNEL);
            debug_assert!(
                tuned.is_ok() || cfg!(not(test)),
                "options of a fresh connection"
            );
        }
    }

    /// A tunnel leg's bytes may wait for a slow app from now on: that must not end it.
    pub fn tune_patient(&mut self, key: SlotKey) {
        if let Some(sock) = self.slots.get(key).and_then(|slot| slot.sock.as_ref()) {
            // A failure is the socket's, and will be seen by its next operation.
            let _ = self.engine.tune(sock.name(), &SockOpt::PATIENT);
        }
    }

    /// Whether anything is in flight on the slot.
    pub fn is_busy(&self, key: SlotKey) -> bool {
        self.slots.get(key).is_some_and(|slot| slot.flight != 0)
    }

    /// Whether one of these operations is in flight on the slot.
    pub fn is_flying(&self, key: SlotKey, codes: u8) -> bool {
        self.slots.get(key).is_some_and(|slot| slot.flying(codes))
    }

    /// Ends the operations in flight without closing; each still lands.
    pub fn cancel(&mut self, key: SlotKey) {
        if let Some(sock) = self.slots.get(key).and_then(|slot| slot.sock.as_ref()) {
            self.engine.cancel(sock.name());
        }
    }

    /// The first step of closing; does nothing to a slot that is closing already, except that a
    /// reset beats an orderly end. The slot's connection hears of the last step by
    /// [`Landed::Closed`] or [`Net::next_closed`], never before this returns.
    pub fn terminate(&mut self, key: SlotKey, how: Close) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        let first = slot.closing.is_none();
        if first || how == Close::Reset {
            slot.closing = Some(how);
        }
        if !first {
            return;
        }
        slot.deadline = Instant::FAR_FUTURE;
        if slot.flight != 0
            && let Some(sock) = &slot.sock
        {
            self.engine.cancel(sock.name());
            return;
        }
        if let Some(sock) = slot.sock.take() {
            self.engine.close(sock, how);
        }
        self.closed.push_back(key);
    }

    /// The next slot whose closing ended without a completion.
    pub fn next_closed(&mut self) -> Option<SlotKey> {
        let key = self.closed.pop_front()?;
        if let Some(slot) = self.slots.get_mut(key) {
            slot.closing = None;
        }
        Some(key)
    }

    /// Books a completion.
    pub fn landed(&mut self, done: Done) -> Landed {
        let key = SlotKey::of(done.token);
        let code = done.token.op;
        let Some(slot) = self.slots.get_mut(key) else {
            debug_assert!(false, "an operation was in flight on a freed slot");
            self.reclaim(done.what);
            return Landed::Nothing;
        };
        assert!(
            slot.flying(code),
            "a completion of an operation that was not in flight"
        );
        if !done.more {
            slot.flight &= !code;
        }
        let Some(how) = slot.closing else {
            if matches!(done.what, Outcome::Starved) {
                self.starve(key);
                return Landed::Starved;
            }
            return Landed::Live(key, code, done.what);
        };
        let last = slot.flight == 0;
        if last && let Some(sock) = slot.sock.take() {
            slot.closing = None;
            self.engine.close(sock, how);
        }
        self.reclaim(done.what);
        if last {
            Landed::Closed(key)
        } else {
            Landed::Nothing
        }
    }

    /// Takes back what an outcome carries when nobody wants it.
    pub fn reclaim(&mut self, what: Outcome) {
        match what {
            Outcome::Accepted(sock, _) => self.engine.close(sock, Close::Reset),
            Outcome::Received { buf, .. } | Outcome::Sent { buf } => self.free(buf),
            Outcome::SentNow { part, .. } => self.release(part),
            Outcome::Eof { buf } => {
                if let Some(buf) = buf {
                    self.free(buf);
                }
            }
            Outcome::Failed { buf, part, .. } | Outcome::Cancelled { buf, part } => {
                if let Some(buf) = buf {
                    self.free(buf);
                }
                if let Some(part) = part {
                    self.release(part);
                }
            }
            Outcome::Connected | Outcome::Ready(_) | Outcome::Starved => {}
        }
    }

    /// A buffer was given back to the engine.
    pub fn freed_one(&mut self) {
        self.freed += 1;
    }

    /// Gives a buffer back.
    pub fn free(&mut self, buf: Buf) {
        self.freed += 1;
        self.engine.free(buf);
    }

    /// Gives a part back; its buffer is free with the last one.
    pub fn release(&mut self, part: Part) {
        self.release_shared(part.buf);
    }

    /// Gives a share of a buffer back.
    pub fn release_shared(&mut self, buf: Rc<Buf>) {
        if let Ok(buf) = Rc::try_unwrap(buf) {
            self.free(buf);
        }
    }

    /// Puts the slot in line for a buffer: its connection's `resume` is called after one was freed.
    pub fn starve(&mut self, key: SlotKey) {
        if let Some(slot) = self.slots.get_mut(key)
            && !slot.starved
        {
            slot.starved = true;
            self.starved.push_back(key);
        }
    }

    /// When a slot that waits for a buffer asks again by itself.
    pub fn retry_at(&mut self, now: Instant) -> Instant {
        if self.starved.is_empty() {
            return Instant::FAR_FUTURE;
        }
        self.retry_at = self.retry_at.min(now + STARVED_RETRY);
        self.retry_at
    }

    /// How many starved slots get their turn now: one per buffer freed since the last time. One
    /// of them asks again after `limits::STARVED_RETRY` in any case, because a buffer may have
    /// been freed just before it got in line; not earlier, or it would ask in a busy loop.
    pub fn fed(&mut self, now: Instant) -> usize {
        if self.starved.is_empty() {
            self.retry_at = Instant::FAR_FUTURE;
            self.freed = 0;
            return 0;
        }
        if self.freed == 0 && now < self.retry_at(now) {
            return 0;
        }
        self.retry_at = now + STARVED_RETRY;
        std::mem::take(&mut self.freed)
            .max(1)
            .min(self.starved.len())
    }

    /// The starved slot that waits longest.
    pub fn next_starved(&mut self) -> Option<SlotKey> {
        let key = self.starved.pop_front()?;
        if let Some(slot) = self.slots.get_mut(key) {
            slot.starved = false;
        }
        Some(key)
    }

    /// Moves the slot's deadline.
    pub fn set_deadline(&mut self, key: SlotKey, at: Instant) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.deadline = at;
            self.timers.set(key, at, &mut slot.queued);
        }
    }

    /// The next slot whose deadline has come; it is taken away.
    pub fn next_due(&mut self, now: Instant) -> Option<SlotKey> {
        while let Some((at, key)) = self.timers.pop(now) {
            let Some(slot) = self.slots.get_mut(key) else {
                continue;
            };
            if slot.queued != at {
                continue;
            }
            slot.queued = Instant::FAR_FUTURE;
            if slot.deadline <= now {
                slot.deadline = Instant::FAR_FUTURE;
                return Some(key);
            }
            let deadline = slot.deadline;
            self.timers.set(key, deadline, &mut slot.queued);
        }
        None
    }

    /// When [`Net::next_due`] will have something, or earlier.
    pub fn next_deadline(&mut self) -> Instant {
        if self.timers.len() > 2 * self.slots.len() + TIMERS_STALE_MAX {
            let slots = &self.slots;
            self.timers
                .retain(|at, key| slots.get(key).is_some_and(|slot| slot.queued == at));
        }
        self.timers.next()
    }

    /// Submits and waits: the only place that blocks.
    pub fn turn(&mut self, wait: Wait, out: &mut DoneList) -> TurnStats {
        self.engine.turn(wait, out)
    }

    /// Asserts what must hold between two turns (see `reliability.md`, invariants).
    pub fn check(&self) {
        self.slots.check();
        let pool = self.engine.pool();
        assert!(
            pool.balanced() && pool.foreign == 0,
            "buffers out + free = made: {pool:?}"
        );
        for (key, slot) in self.slots.iter() {
            assert!(
                slot.sock.is_some() || slot.flight == 0,
                "{key:?} has operations, no socket"
            );
            assert!(
                slot.queued <= slot.deadline,
                "{key:?} would oversleep its deadline"
            );
        }
    }
}

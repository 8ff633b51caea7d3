//! Links: framed connections that a worker carries for control (sessions, handshakes, our own
//! parked legs). The worker cuts bytes into the pieces control expects; control never sees a socket.
//!
//! # Life of a link
//! 1. *Dialing*: addresses are tried in order, each with its share of the time that is left; or
//!    the link was accepted and starts at 2.
//! 2. *Open*: the hello leaves, then pieces come and go. After one piece reached control nothing
//!    is read until control says what to expect next, so a link has at most one piece on its way.
//! 3. It ends by itself (`Event::Closed`), by `Close`, or it becomes a lane or a circuit (`Adopt`), on
//!    another worker perhaps (`HandOver`).
//!
//! # Bounds
//! Received and not cut: one piece and one receive. To be sent: `limits::LINK_TX_MAX`.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::Worker;
use super::conn::Conn;
use super::net::code;
use super::slab::SlotKey;
use crate::engine::{Class, Close, Engine, Outcome, SockOpt};
use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::limits::{DIAL_ADDRESSES_MAX, LINK_LINGER, LINK_TX_MAX};
use crate::protocol::command::{Adopt, Event, Expect};
use crate::protocol::frame::{self, Piece};
use crate::time::Instant;

/// A dial that has not succeeded yet.
#[derive(Debug)]
struct Dial {
    /// Addresses not tried yet.
    left: VecDeque<SocketAddr>,
    /// The address being tried.
    trying: SocketAddr,
    /// When this attempt gives way to the next.
    attempt_ends: Instant,
    /// When the whole dial has failed.
    deadline: Instant,
}

/// How far the end of a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Not begun.
    No,
    /// What is queued is still sent; then FIN, and until the peer's FIN what comes is discarded
    /// (closing with unread bytes would send a reset that destroys what we sent).
    Flushing,
    /// The socket is being closed; control is told why, or knows.
    Closing { tell: Option<CloseReason> },
}

/// One framed connection.
#[derive(Debug)]
pub(super) struct Link {
    pub id: LinkId,
    dial: Option<Dial>,
    expect: Expect,
    /// Received and not yet cut.
    pub rx: Vec<u8>,
    /// To be sent, not yet handed to the engine.
    pub tx: Vec<u8>,
    end: End,
    fin_sent: bool,
    /// It is handed to another worker, where it becomes this.
    pub leaving: Option<Box<Adopt>>,
    /// Control's deadline and the reason when it passes.
    due: (Instant, CloseReason),
}

impl Link {
    fn new(id: LinkId, expect: Expect, rx: Vec<u8>, tx: Vec<u8>) -> Self {
        let due = (Instant::FAR_FUTURE, CloseReason::ShakeTimeout);
        Link {
            id,
            dial: None,
            expect,
            rx,
            tx,
            end: End::No,
            fin_sent: false,
            leaving: None,
            due,
        }
    }

    /// An accepted connection that has said its preface; `rx` came behind that.
    pub fn accepted(id: LinkId, rx: Vec<u8>) -> Self {
        Link::new(id, Expect::Nothing, rx, Vec::new())
    }

    /// Whether it can become a lane.
    pub fn is_open(&self) -> bool {
        self.dial.is_none() && self.end == End::No
    }

    /// The expected piece, once it is complete; nothing is expected after it.
    ///
    /// # Errors
    /// `Malformed` as soon as a length is out of bounds, before anything is stored for it.
    fn cut(&mut self) -> Result<Option<Vec<u8>>, CloseReason> {
        let piece = frame::cut(self.expect, &self.rx).map_err(|_| CloseReason::Malformed)?;
        let Piece::Whole { body, taken } = piece else {
            return Ok(None);
        };
        self.expect = Expect::Nothing;
        let rest = self.rx.split_off(taken);
        let mut piece = std::mem::replace(&mut self.rx, rest);
        piece.drain(..body.start);
        Ok(Some(piece))
    }
}

impl<E: Engine> Worker<E> {
    pub(super) fn link_mut(&mut self, key: SlotKey) -> Option<&mut Link> {
        match &mut self.net.slots.get_mut(key)?.conn {
            Conn::Link(link) => Some(link),
            Conn::Listener(_)
            | Conn::Stranger(_)
            | Conn::Leg(_)
            | Conn::Lane(_)
            | Conn::Circuit(_)
            | Conn::Stream(_) => None,
        }
    }

    /// `Command::Dial`.
    pub(super) fn link_dial(
        &mut self,
        id: LinkId,
        to: Vec<SocketAddr>,
        hello: Vec<u8>,
        expect: Expect,
        deadline: Instant,
    ) {
        let mut link = Link::new(id, expect, Vec::new(), hello);
        let mut left: VecDeque<SocketAddr> = to.into();
        left.truncate(DIAL_ADDRESSES_MAX);
        if let Some(&trying) = left.front() {
            link.dial = Some(Dial {
                left,
                trying,
                attempt_ends: self.now,
                deadline,
            });
        }
        match self.net.insert(None, Conn::Link(Box::new(link))) {
            Ok(key) => {
                self.links.insert(id, key);
                self.counters.links_open.add(1);
                self.link_dial_next(key, CloseReason::DialFailed);
            }
            Err(_) => self.tell(Event::Closed {
                link: id,
                why: CloseReason::Overloaded,
            }),
        }
    }

    /// Tries the next address; `failed` is the reason if none is left.
    fn link_dial_next(&mut self, key: SlotKey, failed: CloseReason) {
        let now = self.now;
        loop {
            let Some(link) = self.link_mut(key) else {
                return;
            };
            let Some(dial) = &mut link.dial else {
                return self.link_end(key, Some(failed));
            };
            if now >= dial.deadline {
                return self.link_end(key, Some(CloseReason::DialTimeout));
            }
            let tries = u32::try_from(dial.left.len()).unwrap_or(u32::MAX).max(1);
            let Some(to) = dial.left.pop_front() else {
                return self.link_end(key, Some(failed));
            };
            dial.trying = to;
            dial.attempt_ends = now + dial.deadline.since(now) / tries;
            if self.net.make_socket(key, to, &SockOpt::TUNNEL).is_ok() {
                self.net.connect(key, to);
                return self.link_set_deadline(key);
            }
        }
    }

    fn link_set_deadline(&mut self, key: SlotKey) {
        let Some(link) = self.link_mut(key) else {
            return;
        };
        let attempt = link
            .dial
            .as_ref()
            .map_or(Instant::FAR_FUTURE, |d| d.attempt_ends);
        let at = attempt.min(link.due.0);
        self.net.set_deadline(key, at);
    }

    /// `Command::Send`.
    pub(super) fn link_send(&mut self, id: LinkId, bytes: &[u8], framed: bool, then: Expect) {
        let Some(key) = self.links.get(&id).copied() else {
            return;
        };
        let Some(link) = self.link_mut(key) else {
            return;
        };
        if link.end != End::No {
            return;
        }
        if framed && !bytes.is_empty() {
            let put = frame::put(bytes, &mut link.tx);
            debug_assert!(put.is_ok(), "control made a frame that is too long");
        } else {
            link.tx.extend_from_slice(bytes);
        }
        link.expect = then;
        if link.tx.len() > LINK_TX_MAX {
            return self.link_end(key, Some(CloseReason::Overloaded));
        }
        self.link_pump(key);
        self.link_read(key);
    }

    /// `Command::Deadline`.
    pub(super) fn link_deadline(&mut self, id: LinkId, at: Instant, why: CloseReason) {
        let Some(key) = self.links.get(&id).copied() else {
            return;
        };
        let Some(link) = self.link_mut(key) else {
            return;
        };
        if link.end == End::No {
            link.due = (at, why);
            self.link_set_deadline(key);
        }
    }

    /// `Command::Close`.
    pub(super) fn link_close(&mut self, id: LinkId, flush: bool) {
        let Some(key) = self.links.get(&id).copied() else {
            return;
        };
        let ends = self.now + LINK_LINGER;
        let Some(link) = self.link_mut(key) else {
            return;
        };
        if !flush || link.dial.is_some() {
            return self.link_end(key, None);
        }
        if link.end == End::No {
            link.end = End::Flushing;
            link.due = (ends, CloseReason::Finished);
            self.link_set_deadline(key);
            self.link_pump(key);
            self.link_read(key);
        }
    }

    /// Ends the link with a reset; control hears `tell`.
    pub(super) fn link_end(&mut self, key: SlotKey, tell: Option<CloseReason>) {
        self.link_end_how(key, tell, Close::Reset);
    }

    fn link_end_how(&mut self, key: SlotKey, tell: Option<CloseReason>, how: Close) {
        let Some(link) = self.link_mut(key) else {
            return;
        };
        link.dial = None;
        let tell = match link.end {
            End::No => tell,
            // Control closed it: it has forgotten the link.
            End::Flushing => None,
            // The first reason counts, unless control asked for the close in between.
            End::Closing { tell: first } => tell.and(first),
        };
        link.end = End::Closing { tell };
        self.net.terminate(key, how);
    }

    /// Sends what is queued, or the FIN behind it.
    pub(super) fn link_pump(&mut self, key: SlotKey) {
        if self.net.is_flying(key, code::SEND | code::CONNECT) {
            return;
        }
        let Some(link) = self.link_mut(key) else {
            return;
        };
        if matches!(link.end, End::Closing { .. }) || link.dial.is_some() {
            return;
        }
        if link.leaving.is_some() {
            return self.link_leave(key);
        }
        if link.tx.is_empty() {
            if link.end == End::Flushing && !link.fin_sent {
                link.fin_sent = true;
                self.net.finish(key);
            }
            return;
        }
        let class = if link.tx.len() <= Class::Small.size() {
            Class::Small
        } else {
            Class::Medium
        };
        let Some(mut buf) = self.net.engine.alloc(class) else {
            self.counters.starved.add(1);
            return self.net.starve(key);
        };
        let Some(link) = self.link_mut(key) else {
            return self.net.free(buf);
        };
        let len = link.tx.len().min(buf.len());
        buf[..len].copy_from_slice(&link.tx[..len]);
        link.tx.drain(..len);
        self.net.send(key, buf, 0..len);
    }

    /// Hands the expected piece to control if it is there; else reads, or watches for a hang-up
    /// when nothing is expected.
    pub(super) fn link_read(&mut self, key: SlotKey) {
        let congested = self.is_congested();
        let Some(link) = self.link_mut(key) else {
            return;
        };
        if link.dial.is_some() {
            return;
        }
        match link.end {
            End::Closing { .. } => return,
            End::Flushing => {
                link.rx.clear();
                return self.net.recv_any(key, Class::Small);
            }
            End::No => {}
        }
        if link.leaving.is_some() {
            return;
        }
        if congested {
            self.links_paused.push(key);
            return;
        }
        match link.cut() {
            Err(why) => self.link_end(key, Some(why)),
            Ok(Some(bytes)) => {
                let link = link.id;
                self.net.watch(key);
                self.tell(Event::Frame { link, bytes });
            }
            Ok(None) if link.expect == Expect::Nothing => self.net.watch(key),
            Ok(None) => self.net.recv_any(key, Class::Small),
        }
    }

    /// A completion of a link.
    pub(super) fn link_done(&mut self, key: SlotKey, code: u8, what: Outcome) {
        if self
            .link_mut(key)
            .is_some_and(|link| link.leaving.is_some())
        {
            return self.link_leaving(key, code, what);
        }
        match (code, what) {
            (code::CONNECT, Outcome::Connected) => {
                let Some(link) = self.link_mut(key) else {
                    return;
                };
                let Some(dial) = link.dial.take() else { return };
                let event = Event::Connected {
                    link: link.id,
                    peer: dial.trying,
                };
                self.tell(event);
                self.link_set_deadline(key);
                self.link_pump(key);
                self.link_read(key);
            }
            // The next address, when this socket is closed.
            (code::CONNECT, _) => self.net.terminate(key, Close::Reset),
            (code::RECV, Outcome::Received { buf, at, len, .. }) => {
                if let Some(link) = self.link_mut(key)
                    && link.end == End::No
                {
                    link.rx.extend_from_slice(&buf[at..at + len]);
                }
                self.net.free(buf);
                self.link_read(key);
            }
            (code::RECV, Outcome::Eof { buf }) => {
                if let Some(buf) = buf {
                    self.net.free(buf);
                }
                let flushed = self.link_mut(key).is_some_and(|link| link.fin_sent);
                let how = if flushed { Close::Fin } else { Close::Reset };
                self.link_end_how(key, Some(CloseReason::TunnelLost), how);
            }
            (code::SEND, Outcome::Sent { buf }) => {
                self.net.free(buf);
                self.link_pump(key);
            }
            (_, what) => {
                self.net.reclaim(what);
                self.link_end(key, Some(CloseReason::TunnelLost));
            }
        }
    }

    /// The link's deadline, or that of one dial attempt.
    pub(super) fn link_due(&mut self, key: SlotKey) {
        let now = self.now;
        let Some(link) = self.link_mut(key) else {
            return;
        };
        let (at, why) = link.due;
        if at <= now {
            let how = if link.fin_sent {
                Close::Fin
            } else {
                Close::Reset
            };
            self.link_end_how(key, Some(why), how);
        } else if link
            .dial
            .as_ref()
            .is_some_and(|dial| dial.attempt_ends <= now)
        {
            self.net.terminate(key, Close::Reset);
        } else {
            self.link_set_deadline(key);
        }
    }

    /// The link's socket is closed: the end, or the end of one dial attempt.
    pub(super) fn link_closed(&mut self, key: SlotKey) {
        let Some(link) = self.link_mut(key) else {
            return;
        };
        if let End::Closing { tell } = link.end {
            let id = link.id;
            self.net.remove(key);
            self.links.remove(&id);
            self.counters.links_open.sub(1);
            if let Some(why) = tell {
                self.tell(Event::Closed { link: id, why });
            }
        } else {
            self.link_dial_next(key, CloseReason::DialFailed);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::limits::FRAME_MAX;

    fn link(expect: Expect, rx: &[u8]) -> Link {
        Link::new(LinkId(2), expect, rx.to_vec(), Vec::new())
    }

    #[test]
    fn a_frame_is_cut_only_when_complete_and_the_rest_stays() {
        let mut whole = Vec::new();
        frame::put(b"hello", &mut whole).unwrap();
        whole.extend_from_slice(b"next");
        for cut in 0..7 {
            assert_eq!(
                link(Expect::Frame, &whole[..cut]).cut(),
                Ok(None),
                "{cut} bytes"
            );
        }
        let mut link = link(Expect::Frame, &whole);
        assert_eq!(link.cut().unwrap().unwrap(), b"hello");
        assert_eq!(link.rx, b"next");
        assert_eq!(link.expect, Expect::Nothing);
        assert_eq!(link.cut(), Ok(None), "nothing is expected after a piece");
    }

    #[test]
    fn a_length_out_of_bounds_is_malformed_before_the_body_is_there() {
        let over = u16::try_from(FRAME_MAX + 1).unwrap().to_be_bytes();
        assert_eq!(
            link(Expect::Frame, &over).cut(),
            Err(CloseReason::Malformed)
        );
        assert_eq!(
            link(Expect::Frame, &[0, 0]).cut(),
            Err(CloseReason::Malformed)
        );
    }

    #[test]
    fn an_exact_piece_has_no_length() {
        let mut link = link(Expect::Exact(3), b"abcd");
        assert_eq!(link.cut().unwrap().unwrap(), b"abc");
        assert_eq!(link.rx, b"d");
    }
}

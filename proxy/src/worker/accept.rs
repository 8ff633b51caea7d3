//! Listening sockets, and strangers: connections to the public address that have not said yet
//! what they are.
//!
//! # What the first bytes decide
//! 1. Eight bytes are the preface. Kinds 1 and 2 (sessions) become a link and are control's from
//!    then on ([`Event::Accepted`]).
//! 2. Kind 3 is a leg: 88 bytes more, then the relay decides without any public-key work.
//! 3. Everything else is closed with a reset and counted.
//!
//! # Bounds
//! `limits::STRANGERS_MAX` at once, `STRANGERS_PER_PREFIX` per source network (the oldest make room
//! for newcomers), `STRANGER_TIMEOUT` each, one leg preface of bytes each; what one receive brings behind the
//! preface belongs to the connection it becomes.

use std::net::SocketAddr;

use super::Worker;
use super::conn::Conn;
use super::link::Link;
use super::net::{Slot, code};
use super::slab::{Slab, SlotKey};
use crate::engine::{Class, Close, Engine, Outcome, Sock};
use crate::error::CloseReason;
use crate::ids::{LinkId, PortalNo};
use crate::limits::{LEG_PREFACE, PREFACE, STRANGER_TIMEOUT};
use crate::protocol::command::{Event, Gate};
use crate::protocol::preface::{Kind, Preface};

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    /// The inlet it belongs to; `None` is the public address.
    pub portal: Option<PortalNo>,
}

/// A connection that has not said yet what it is.
#[derive(Debug)]
pub(super) struct Stranger {
    peer: SocketAddr,
    got: Vec<u8>,
}

impl<E: Engine> Worker<E> {
    /// Takes a share of a listening socket and begins to accept.
    pub(super) fn listen(&mut self, portal: Option<PortalNo>, socket: &E::Carry) {
        let Ok(sock) = self.net.engine.listen(socket) else {
            // The descriptor came from control, which has bound it: only a full table is left.
            self.counters.hints_dropped.add(1);
            return;
        };
        if let Ok(key) = self
            .net
            .insert(Some(sock), Conn::Listener(Listener { portal }))
        {
            self.listeners.push(key);
            if self.is_accepting(portal) {
                self.net.accept(key);
            }
        }
    }

    /// `Command::ClosePortal`. A connection that was accepted meanwhile meets the gate.
    pub(super) fn close_portal(&mut self, portal: PortalNo, why: CloseReason) {
        let of_portal = |slots: &Slab<Slot>, key: SlotKey| {
            let conn = slots.get(key).map(|slot| &slot.conn);
            matches!(conn, Some(Conn::Listener(it)) if it.portal == Some(portal))
        };
        let slots = &self.net.slots;
        let closing = self.listeners.extract_if(.., |key| of_portal(slots, *key));
        let closing: Vec<SlotKey> = closing.collect();
        for key in closing {
            self.net.terminate(key, Close::Reset);
        }
        if self.inlets.contains_key(&portal) {
            self.set_gate(portal, Gate::Reset(why));
        }
        self.targets.remove(&portal);
        self.limits.remove(&portal);
    }

    /// A completion of a listener.
    pub(super) fn listener_done(&mut self, key: SlotKey, what: Outcome) {
        let portal = match self.net.slots.get(key).map(|slot| &slot.conn) {
            Some(Conn::Listener(listener)) => listener.portal,
            Some(_) | None => return self.net.reclaim(what),
        };
        match (what, portal) {
            (Outcome::Accepted(sock, peer), Some(portal)) => self.app_accepted(portal, sock, peer),
            (Outcome::Accepted(sock, peer), None) => self.stranger_accepted(sock, peer),
            (what, _) => self.net.reclaim(what),
        }
        if !self.net.is_flying(key, code::ACCEPT) && self.is_accepting(portal) {
            self.net.accept(key);
        }
    }

    fn stranger_accepted(&mut self, sock: Sock, peer: SocketAddr) {
        let stranger = Stranger {
            peer,
            got: Vec::with_capacity(LEG_PREFACE),
        };
        match self
            .net
            .insert(Some(sock), Conn::Stranger(Box::new(stranger)))
        {
            Ok(key) => {
                self.counters.strangers_open.add(1);
                self.net.set_deadline(key, self.now + STRANGER_TIMEOUT);
                self.net.recv_any(key, Class::Small);
                if let Some(oldest) = self.strangers.admit(key, peer) {
                    self.counters.strangers_refused.add(1);
                    self.stranger_drop(oldest);
                }
            }
            Err(_) => self.counters.strangers_refused.add(1),
        }
    }

    fn stranger_mut(&mut self, key: SlotKey) -> Option<&mut Stranger> {
        match &mut self.net.slots.get_mut(key)?.conn {
            Conn::Stranger(stranger) => Some(stranger),
            Conn::Listener(_)
            | Conn::Link(_)
            | Conn::Leg(_)
            | Conn::Lane(_)
            | Conn::Circuit(_)
            | Conn::Stream(_) => None,
        }
    }

    /// A completion of a stranger.
    pub(super) fn stranger_done(&mut self, key: SlotKey, code: u8, what: Outcome) {
        match (code, what) {
            (code::RECV, Outcome::Received { buf, at, len, .. }) => {
                if let Some(stranger) = self.stranger_mut(key) {
                    stranger.got.extend_from_slice(&buf[at..at + len]);
                }
                self.net.free(buf);
                self.stranger_read(key);
            }
            (_, what) => {
                self.net.reclaim(what);
                self.stranger_drop(key);
            }
        }
    }

    /// Decides once enough bytes are there.
    pub(super) fn stranger_read(&mut self, key: SlotKey) {
        let Some(stranger) = self.stranger_mut(key) else {
            return;
        };
        let peer = stranger.peer;
        let Some(preface) = stranger.got.first_chunk::<PREFACE>() else {
            return self.net.recv_any(key, Class::Small);
        };
        match Preface::parse(preface).map(|preface| preface.kind) {
            Ok(Kind::AuthoritySession | Kind::RelaySession) => self.stranger_is_session(key),
            Ok(Kind::Leg) => {
                if stranger.got.len() < LEG_PREFACE {
                    return self.net.recv_any(key, Class::Small);
                }
                self.stranger_is_leg(key);
            }
            Ok(Kind::Circuit) => self.stranger_drop(key),
            Err(error) => {
                let why = error.reason();
                self.hint(Event::LegRefused {
                    member: None,
                    peer,
                    why,
                });
                self.stranger_drop(key);
            }
        }
    }

    fn stranger_is_session(&mut self, key: SlotKey) {
        if self.is_congested() {
            self.links_paused.push(key);
            return;
        }
        let Some(stranger) = self.stranger_leaves(key) else {
            return;
        };
        let Stranger { peer, mut got } = stranger;
        let rest = got.split_off(PREFACE);
        let Some(preface) = got.first_chunk::<PREFACE>().copied() else {
            return;
        };
        let link = LinkId(self.next_link);
        self.next_link += 2;
        if let Some(slot) = self.net.slots.get_mut(key) {
            slot.conn = Conn::Link(Box::new(Link::accepted(link, rest)));
        }
        self.links.insert(link, key);
        self.counters.links_open.add(1);
        self.net.set_deadline(key, crate::time::Instant::FAR_FUTURE);
        self.net.tune_tunnel(key);
        self.net.watch(key);
        self.tell(Event::Accepted {
            link,
            preface,
            peer,
        });
    }

    fn stranger_is_leg(&mut self, key: SlotKey) {
        let Some(stranger) = self.stranger_leaves(key) else {
            return;
        };
        let Stranger { peer, got } = stranger;
        self.net.set_deadline(key, crate::time::Instant::FAR_FUTURE);
        self.net.tune_tunnel(key);
        match self.leg_home(&got) {
            Some(home) => self.leg_go_home(key, home, peer, got),
            None => self.leg_arrived(key, peer, got),
        }
    }

    /// The stranger is one no longer; the slot keeps a placeholder until the caller fills it.
    fn stranger_leaves(&mut self, key: SlotKey) -> Option<Stranger> {
        let stranger = self.stranger_mut(key)?;
        let empty = Stranger {
            peer: stranger.peer,
            got: Vec::new(),
        };
        let stranger = std::mem::replace(stranger, empty);
        self.strangers.leave(key);
        self.counters.strangers_open.sub(1);
        Some(stranger)
    }

    /// Closes a stranger that said nothing useful, or nothing in time.
    pub(super) fn stranger_drop(&mut self, key: SlotKey) {
        self.counters.strangers_dropped.add(1);
        self.strangers.leave(key);
        self.net.terminate(key, Close::Reset);
    }

    /// The stranger's socket is closed.
    pub(super) fn stranger_closed(&mut self, key: SlotKey) {
        if let Some(Conn::Stranger(_)) = self.net.remove(key) {
            self.strangers.leave(key);
            self.counters.strangers_open.sub(1);
        }
    }
}

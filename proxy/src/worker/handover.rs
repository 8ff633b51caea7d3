//! Apps and links that move to another worker while they are fresh.
//!
//! | what | moves | where to |
//! |---|---|---|
//! | an app that was just accepted | when this worker has no lane for it, or many more streams | a worker that has a lane |
//! | an app that waits for a lane | when another worker has one and this one has none | the same |
//! | a link whose handshake is done | when control says so | the worker of its bundle |
//!
//! What is in flight on the socket is cancelled first, and what that brings goes with it. A send is
//! awaited: a cancelled one may have moved some of its bytes.

use std::net::SocketAddr;

use super::Worker;
use super::conn::Conn;
use super::link::Link;
use super::net::code;
use super::slab::SlotKey;
use super::stream::Phase;
use crate::engine::{Engine, Outcome, Sock};
use crate::error::CloseReason;
use crate::ids::{LinkId, PortalNo, WorkerId, WorkerSet};
use crate::mailbox::Handed;
use crate::protocol::command::{Adopt, Event};
use crate::time::Instant;

impl<E: Engine> Worker<E> {
    /// Where an app of that portal should be rather than here.
    fn app_host(&mut self, portal: PortalNo) -> Option<WorkerId> {
        // Whoever drains may have closed its doors already.
        if self.team.size() == 1 || !self.drain.is_no() {
            return None;
        }
        let inlet = self.inlets.entry(portal).or_default();
        self.team.host_for_app(inlet.hosts, inlet.has_lane())
    }

    /// An app connected: here is where it stays, or is handed on.
    pub(super) fn app_accepted(&mut self, portal: PortalNo, sock: Sock, peer: SocketAddr) {
        self.count_begun(portal);
        let Some(to) = self.app_host(portal) else {
            return self.app_arrived(portal, sock, peer);
        };
        let socket = match self.net.engine.detach(sock) {
            Ok(socket) => socket,
            Err(sock) => return self.app_arrived(portal, sock, peer),
        };
        let app = Handed::App {
            portal,
            peer,
            socket,
        };
        match self.mailbox.hand(to, app) {
            Ok(()) => self.counters.apps_handed.add(1),
            Err(Handed::App { socket, .. }) => self.app_taken(portal, peer, socket),
            Err(
                Handed::Link { .. }
                | Handed::Leg { .. }
                | Handed::Pair { .. }
                | Handed::Note { .. },
            ) => {}
        }
    }

    /// An app that another worker accepted. It stays, whatever happens here.
    pub(super) fn app_taken(&mut self, portal: PortalNo, peer: SocketAddr, socket: E::Carry) {
        match self.net.engine.attach(socket) {
            Ok(sock) => self.app_arrived(portal, sock, peer),
            Err(_) => {
                self.counters.streams_total.add(1);
                self.count_ended(portal, CloseReason::Overloaded);
            }
        }
    }

    /// `Command::Hosts`.
    pub(super) fn set_hosts(&mut self, portal: PortalNo, workers: WorkerSet) {
        let inlet = self.inlets.entry(portal).or_default();
        inlet.hosts = workers;
        if inlet.has_lane() || self.app_host(portal).is_none() {
            return;
        }
        let inlet = self.inlets.entry(portal).or_default();
        for key in inlet.take_waiting() {
            let reads = self.net.is_flying(key, code::RECV);
            let Some(stream) = self.stream_mut(key) else {
                continue;
            };
            // One that had a lane before has been read from: it waits for the next one here.
            if reads || stream.rx.held.is_some() || stream.rx.ended {
                let inlet = self.inlets.entry(portal).or_default();
                inlet.waits_on(key);
                continue;
            }
            stream.phase = Phase::Moving;
            self.counters.apps_waiting.sub(1);
            self.net.set_deadline(key, Instant::FAR_FUTURE);
            self.net.cancel(key);
            self.app_move(key);
        }
    }

    /// Something landed on an app's socket: whether the app moves, and is on with it. A hang-up is
    /// noticed where it goes.
    pub(super) fn app_moves(&mut self, key: SlotKey) -> bool {
        let moves = self
            .stream(key)
            .is_some_and(|s| matches!(s.phase, Phase::Moving));
        if moves {
            self.app_move(key);
        }
        moves
    }

    /// Hands a waiting app over once nothing is in flight.
    fn app_move(&mut self, key: SlotKey) {
        if self.net.is_busy(key) {
            return;
        }
        let Some(stream) = self.stream(key) else {
            return;
        };
        let (portal, peer) = (stream.portal, stream.peer);
        let to = self.app_host(portal);
        let detached = to.and_then(|to| Some((to, self.net.detach(key)?)));
        let back = match detached {
            Some((to, socket)) => {
                let app = Handed::App {
                    portal,
                    peer,
                    socket,
                };
                match self.mailbox.hand(to, app) {
                    Ok(()) => {
                        self.counters.apps_handed.add(1);
                        self.net.remove(key);
                        // It begins anew there.
                        self.counters.streams_open.sub(1);
                        self.counters.streams_total.sub(1);
                        return;
                    }
                    Err(Handed::App { socket, .. }) => self.net.reattach(key, socket),
                    Err(
                        Handed::Link { .. }
                        | Handed::Leg { .. }
                        | Handed::Pair { .. }
                        | Handed::Note { .. },
                    ) => false,
                }
            }
            None => true,
        };
        if let Some(stream) = self.stream_mut(key) {
            stream.phase = Phase::Waiting;
            self.counters.apps_waiting.add(1);
        }
        if back {
            self.app_place(key);
        } else {
            self.app_give_up(key, CloseReason::Overloaded);
        }
    }

    // ---- links --------------------------------------------------------------------------------

    /// `Command::HandOver`. From now on the link has its new name, by which control hears of it
    /// should it end here.
    pub(super) fn link_hand_over(&mut self, id: LinkId, adopt: Box<Adopt>) {
        let name = adopt.link;
        let lost = Event::Closed {
            link: name,
            why: CloseReason::TunnelLost,
        };
        let Some(key) = self.links.remove(&id) else {
            return self.tell(lost);
        };
        self.links.insert(name, key);
        match self.link_mut(key) {
            Some(link) => {
                link.id = name;
                link.leaving = Some(adopt);
                self.link_leave(key);
            }
            None => {
                debug_assert!(false, "only a link is handed over");
                self.links.remove(&name);
                self.links.insert(id, key);
                self.tell(lost);
            }
        }
    }

    /// A completion of a link that is handed over.
    pub(super) fn link_leaving(&mut self, key: SlotKey, code: u8, what: Outcome) {
        match (code, what) {
            (code::RECV, Outcome::Received { buf, at, len, .. }) => {
                if let Some(link) = self.link_mut(key) {
                    link.rx.extend_from_slice(&buf[at..at + len]);
                }
                self.net.free(buf);
            }
            (code::SEND, Outcome::Sent { buf }) => self.net.free(buf),
            (_, what @ Outcome::Cancelled { .. }) => self.net.reclaim(what),
            (_, what) => {
                self.net.reclaim(what);
                return self.link_end(key, Some(CloseReason::TunnelLost));
            }
        }
        self.link_leave(key);
    }

    /// Hands the link over once nothing is in flight.
    pub(super) fn link_leave(&mut self, key: SlotKey) {
        if self.net.is_flying(key, code::SEND) {
            return;
        }
        if self.net.is_busy(key) {
            return self.net.cancel(key);
        }
        let Some(link) = self.link_mut(key).filter(|link| link.is_open()) else {
            return;
        };
        let Some(adopt) = link.leaving.take() else {
            return;
        };
        let received = std::mem::take(&mut link.rx);
        let unsent = std::mem::take(&mut link.tx);
        let name = adopt.link;
        let Some(socket) = self.net.detach(key) else {
            return self.link_end(key, Some(CloseReason::TunnelLost));
        };
        let link = Handed::Link {
            socket,
            received,
            unsent,
            adopt,
        };
        // Where it finds no room it is closed by being dropped.
        let handed = self.mailbox.hand(name.worker(), link).is_ok();
        self.net.remove(key);
        self.links.remove(&name);
        self.counters.links_open.sub(1);
        if handed {
            self.counters.links_handed.add(1);
        } else {
            self.tell(Event::Closed {
                link: name,
                why: CloseReason::Overloaded,
            });
        }
    }

    /// A link whose handshake another worker has carried.
    pub(super) fn link_taken(
        &mut self,
        socket: E::Carry,
        received: Vec<u8>,
        unsent: Vec<u8>,
        adopt: Box<Adopt>,
    ) {
        let id = adopt.link;
        let mut link = Link::accepted(id, received);
        link.tx = unsent;
        match self.net.take_over(socket, Conn::Link(Box::new(link))) {
            Ok(key) => {
                self.links.insert(id, key);
                self.counters.links_open.add(1);
                self.adopt(*adopt);
            }
            Err(()) => self.tell(Event::Closed {
                link: id,
                why: CloseReason::Overloaded,
            }),
        }
    }
}

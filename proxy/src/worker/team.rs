//! The other workers of the process: who has less to do, and what is said to them.
//!
//! Workers share their listening sockets and let each other read their counters; all else goes
//! through their mailboxes. What is handed over is a socket on which nothing is in flight, or a note
//! about a leg that was. A socket that finds no room stays with who has it, or is closed; a note must
//! not be lost and is said again until there is room.

use std::collections::VecDeque;
use std::sync::Arc;

use super::counters::Counters;
use super::{Worker, WorkerConfig};
use crate::engine::Engine;
use crate::ids::{WorkerId, WorkerSet};
use crate::limits::{APPS_APART, HAND_RETRY, SLOTS_RESERVED};
use crate::mailbox::{Handed, LegNote};
use crate::protocol::pairing::LegHandle;
use crate::time::Instant;

/// What a worker knows of the others.
#[derive(Debug)]
pub(super) struct Team {
    pub me: WorkerId,
    counters: Vec<Arc<Counters>>,
    /// Apps that any of them can have.
    apps_max: u64,
    /// Notes that found no room: at most one or two for each leg that was handed over.
    notes: VecDeque<(WorkerId, LegHandle, LegNote)>,
    again_at: Instant,
}

impl Team {
    pub fn new(config: &WorkerConfig) -> Team {
        Team {
            me: config.place,
            counters: config.team.clone(),
            apps_max: u64::from(config.slots).saturating_sub(SLOTS_RESERVED as u64),
            notes: VecDeque::new(),
            again_at: Instant::FAR_FUTURE,
        }
    }

    /// Workers of the process.
    pub fn size(&self) -> usize {
        self.counters.len().max(1)
    }

    /// When notes are said again.
    pub fn next_deadline(&self) -> Instant {
        self.again_at
    }

    /// Apps and OPENs that have come to the others so far.
    pub fn arrivals(&self) -> u64 {
        let others = self.counters.iter().enumerate();
        let others = others.filter(|(place, _)| *place != self.me.index());
        others
            .map(|(_, counters)| counters.streams_total.get())
            .sum()
    }

    fn open(&self, worker: WorkerId) -> u64 {
        let counters = self.counters.get(worker.index());
        counters.map_or(u64::MAX, |counters| counters.streams_open.get())
    }

    /// The worker among `hosts` that has room and the fewest streams, and how many; not this one.
    fn least(&self, hosts: WorkerSet) -> Option<(u64, WorkerId)> {
        let others = hosts.iter().filter(|worker| *worker != self.me);
        let open = others.map(|worker| (self.open(worker), worker));
        open.filter(|(open, _)| *open < self.apps_max).min()
    }

    /// Where an app that came here goes, `hosts` being the workers that have a lane for it; `None`:
    /// it stays.
    pub fn host_for_app(&self, hosts: WorkerSet, lane_here: bool) -> Option<WorkerId> {
        if self.size() == 1 {
            return None;
        }
        let (least, worker) = self.least(hosts)?;
        let here = self.open(self.me);
        let stays = lane_here && here < least + APPS_APART + least / 8;
        (!stays).then_some(worker)
    }
}

impl<E: Engine> Worker<E> {
    /// Another worker handed something over. Once everything is being closed, its sockets are too.
    pub(super) fn take_over(&mut self, handed: Handed<E::Carry>) {
        if self.drain.is_over() {
            return;
        }
        match handed {
            Handed::App {
                portal,
                peer,
                socket,
            } => self.app_taken(portal, peer, socket),
            Handed::Link {
                socket,
                received,
                unsent,
                adopt,
            } => self.link_taken(socket, received, unsent, adopt),
            Handed::Leg {
                socket,
                peer,
                received,
            } => self.leg_taken(socket, peer, received),
            Handed::Pair { home, legs } => self.pair_taken(home, *legs),
            Handed::Note { from, leg, what } => self.leg_noted(from, leg, what),
        }
    }

    /// Says something of a leg to the worker that keeps its books, or carries it.
    pub(super) fn note(&mut self, to: WorkerId, leg: LegHandle, what: LegNote) {
        self.team.notes.push_back((to, leg, what));
        if self.team.notes.len() == 1 {
            self.say_notes();
        }
    }

    /// Notes leave in the order in which they were made.
    pub(super) fn say_notes(&mut self) {
        let from = self.team.me;
        while let Some((to, leg, what)) = self.team.notes.front().copied() {
            if self
                .mailbox
                .hand(to, Handed::Note { from, leg, what })
                .is_err()
            {
                self.team.again_at = self.now + HAND_RETRY;
                return;
            }
            self.team.notes.pop_front();
        }
        self.team.again_at = Instant::FAR_FUTURE;
    }
}

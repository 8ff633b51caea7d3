//! A relay's worker: the real tables of legs and pairs, with connections that are emulated.

use std::collections::{BTreeMap, BTreeSet};

use crypto::Id;

use super::conn::Carrier;
use super::{HostNo, World};
use crate::error::CloseReason;
use crate::ids::{AddressHash, SessionId};
use crate::limits::{LEG_PREFACE, PREFACE};
use crate::protocol::command::{Event, LegEntry, Role};
use crate::protocol::core::Input;
use crate::protocol::leg::{Answer, LegInfo, LegTable};
use crate::protocol::pairing::{LegHandle, Over, Pairing, Verdict};
use crate::protocol::preface::{Kind, Preface};
use crate::time::Instant;

/// See the module. A leg's handle is its connection's number.
#[derive(Default)]
pub struct RelayWorker {
    table: LegTable,
    pairing: Pairing,
    legs: BTreeMap<LegHandle, LegInfo>,
    /// Sessions that have not ended.
    pub sessions: BTreeSet<SessionId>,
}

impl RelayWorker {
    pub fn publish(&mut self, entry: LegEntry) {
        self.sessions.insert(entry.session);
        for address in self.table.publish(entry) {
            self.pairing.on_served(&address);
        }
    }

    pub fn denied(&mut self, address: AddressHash, member: Id, now: Instant) {
        self.pairing.on_denied(now, address, member);
    }

    pub fn end_session(&mut self, session: SessionId, now: Instant) {
        self.sessions.remove(&session);
        self.pairing.on_session_end(session);
        if let Some(member) = self.table.end_session(now, session) {
            self.pairing.on_serves_less(now, &member, &self.table);
        }
    }

    /// A leg's connection is gone.
    pub fn leg_gone(&mut self, conn: u64, now: Instant) {
        let handle = handle(conn);
        if self.legs.remove(&handle).is_some() {
            self.pairing.on_gone(now, handle, &self.table);
        }
    }

    /// Legs parked now.
    pub fn parked(&self) -> usize {
        self.pairing.counts().0
    }

    pub fn next_timer(&self) -> Instant {
        self.table.next_deadline().min(self.pairing.next_deadline())
    }
}

fn handle(conn: u64) -> LegHandle {
    LegHandle(conn)
}

impl World {
    /// The 88 bytes behind a leg's clear preface.
    pub(super) fn on_leg(&mut self, no: u64, host: HostNo, rest: &[u8]) {
        let mut whole = [0; LEG_PREFACE];
        whole[..PREFACE].copy_from_slice(&Preface::bytes(Kind::Leg));
        whole[PREFACE..].copy_from_slice(rest);
        let (now, mispair) = (self.now, self.mispair);
        let relay = &mut self.host_mut(host).relay_worker;
        let Ok(mut info) = relay.table.check(now, &whole) else {
            return self.drop_conn(no, Some(1), CloseReason::TunnelLost);
        };
        if mispair && info.request.role == Role::Inlet {
            let parked = relay
                .legs
                .values()
                .find(|leg| leg.request.role == Role::Outlet);
            info.request.address = parked.map_or(info.request.address, |leg| leg.request.address);
        }
        let verdict = relay.pairing.on_leg(now, handle(no), &info, &relay.table);
        match verdict {
            Verdict::Refuse(answer) => {
                if answer == Answer::NotPermitted {
                    let why = CloseReason::AddressNotPermitted;
                    let (member, peer) = (Some(info.member), self.host(host).address);
                    let event = Event::LegRefused { member, peer, why };
                    self.input(host, Input::Event(event));
                }
                self.answer(host, no, &info, answer);
                self.drop_conn(no, Some(1), CloseReason::TunnelLost);
            }
            Verdict::Wait => drop(relay.legs.insert(handle(no), info)),
            Verdict::Pair(with) => {
                relay.legs.insert(handle(no), info);
                self.join(host, no, with.0);
            }
        }
        self.tell_wants(host);
    }

    fn join(&mut self, host: HostNo, one: u64, two: u64) {
        let legs = &self.host(host).relay_worker.legs;
        let (a, b) = (legs[&handle(one)], legs[&handle(two)]);
        for (own, other, info, far) in [(one, two, a, b), (two, one, b, a)] {
            let suites = match info.request.role {
                Role::Inlet => self.forged_mask.unwrap_or(far.request.suites),
                Role::Outlet => far.request.suites,
            };
            self.answer(host, own, &info, Answer::Paired { suites });
            self.conns.get_mut(&own).unwrap().ends[1].carrier = Carrier::Joined(other);
            // There is somebody at the other end of each connection that is emulated.
            let pairing = &mut self.host_mut(host).relay_worker.pairing;
            pairing.on_sign(handle(own));
        }
    }

    fn answer(&mut self, host: HostNo, conn: u64, info: &LegInfo, answer: Answer) {
        if let Some(sealed) = self.host(host).relay_worker.table.answer(info, answer) {
            self.send(conn, 1, &sealed);
        }
    }

    pub(super) fn tell_wants(&mut self, host: HostNo) {
        while let Some((inlet, outlet)) = self.host_mut(host).relay_worker.pairing.poll_pair() {
            self.join(host, inlet.0, outlet.0);
        }
        while let Some((session, address)) = self.host_mut(host).relay_worker.pairing.poll_served()
        {
            self.input(host, Input::Event(Event::NowServed { session, address }));
        }
        while let Some(want) = self.host_mut(host).relay_worker.pairing.poll_want() {
            let (session, address, want) = (want.session, want.address, want.want);
            self.input(
                host,
                Input::Event(Event::ParkLow {
                    session,
                    address,
                    want,
                }),
            );
        }
    }

    /// A member is one no longer.
    pub(super) fn member_gone(&mut self, host: HostNo, member: Id) {
        let relay = &mut self.host_mut(host).relay_worker;
        relay.table.forget(&member);
        for leg in relay.pairing.legs_of(&member) {
            self.drop_conn(leg.0, Some(1), CloseReason::TunnelLost);
        }
        self.tell_wants(host);
    }

    /// What is due at a relay.
    pub(super) fn fire_relay(&mut self, host: HostNo) {
        let now = self.now;
        let relay = &mut self.host_mut(host).relay_worker;
        if relay.next_timer() > now {
            return;
        }
        let over = relay.pairing.on_timer(now, &relay.table);
        let ended = relay.table.sweep(now);
        let ended: Vec<LegHandle> = ended
            .iter()
            .flat_map(|member| relay.pairing.legs_of(member))
            .collect();
        for over in over {
            let leg = match over {
                Over::Unanswered(leg) => {
                    if let Some(info) = self.host(host).relay_worker.legs.get(&leg).copied() {
                        self.answer(host, leg.0, &info, Answer::NoOutlet);
                    }
                    leg
                }
                Over::Dead(leg) => leg,
            };
            self.drop_conn(leg.0, Some(1), CloseReason::TunnelLost);
        }
        for leg in ended {
            self.drop_conn(leg.0, Some(1), CloseReason::TunnelLost);
        }
        self.tell_wants(host);
    }
}

//! A relay's worker: checks legs by the keys that its core published, parks and pairs them.

use std::collections::{BTreeMap, VecDeque};

use crypto::Id;
use crypto::suite::SuiteMask;

use super::conn::Carrier;
use super::{HostNo, World};
use crate::error::CloseReason;
use crate::ids::{AddressHash, SessionId};
use crate::limits::{LEG_GRACE, LEG_PREFACE, PAIR_WAIT, PREFACE};
use crate::protocol::command::{ConnectSet, Event, LegEntry, Role};
use crate::protocol::core::Input;
use crate::protocol::preface::{Kind, Preface};
use crate::time::Instant;

/// A leg that was checked.
struct CheckedLeg {
    session: SessionId,
    counter: u64,
    suites: SuiteMask,
    address: AddressHash,
    conn: u64,
}

/// See the module.
#[derive(Default)]
pub struct RelayWorker {
    /// With the end of the grace of those whose session is gone.
    pub keys: BTreeMap<SessionId, (LegEntry, Instant)>,
    parked: VecDeque<CheckedLeg>,
    waiting: VecDeque<CheckedLeg>,
    /// Refused legs.
    pub refused: Vec<CloseReason>,
}

impl RelayWorker {
    pub fn publish(&mut self, entry: LegEntry) {
        self.keys
            .insert(entry.session, (entry, Instant::FAR_FUTURE));
    }

    pub fn gone(&mut self, session: SessionId, now: Instant) {
        if let Some((_, until)) = self.keys.get_mut(&session) {
            *until = now + LEG_GRACE;
        }
    }

    pub fn leg_gone(&mut self, conn: u64) {
        self.parked.retain(|leg| leg.conn != conn);
        self.waiting.retain(|leg| leg.conn != conn);
    }

    /// Legs parked now.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Whether somebody with a live session serves the address.
    fn served(&self, address: &AddressHash) -> bool {
        let live = |(entry, until): &(LegEntry, Instant)| {
            *until == Instant::FAR_FUTURE && entry.serve.contains(address)
        };
        self.keys.values().any(live)
    }
}

impl World {
    /// The 88 bytes behind a leg's clear preface.
    pub(super) fn on_leg(&mut self, no: u64, host: HostNo, rest: &[u8]) {
        let mut whole = [0; LEG_PREFACE];
        whole[..PREFACE].copy_from_slice(&Preface::bytes(Kind::Leg));
        whole[PREFACE..].copy_from_slice(rest);
        let clear: &[u8; 32] = whole.first_chunk().unwrap();
        let sealed: &[u8; 64] = whole.last_chunk().unwrap();
        let session = SessionId(clear[8..24].try_into().unwrap());
        let counter = u64::from_be_bytes(clear[24..].try_into().unwrap());
        let now = self.now;
        let worker = &mut self.host_mut(host).relay_worker;
        let entry = worker
            .keys
            .get(&session)
            .filter(|(entry, until)| now < *until && now < entry.not_after);
        let body = entry.and_then(|(entry, _)| entry.key.open_preface(counter, clear, sealed).ok());
        let (Some((entry, _)), Some(body)) = (entry, body) else {
            worker.refused.push(CloseReason::BadLeg);
            return self.drop_conn(no, Some(1), CloseReason::TunnelLost);
        };
        let role = if body[0] == 1 {
            Role::Inlet
        } else {
            Role::Outlet
        };
        let suites = SuiteMask(u16::from_be_bytes([body[2], body[3]]));
        let address = AddressHash(body[4..36].try_into().unwrap());
        let permitted = match role {
            Role::Outlet => entry.serve.contains(&address),
            Role::Inlet => match &entry.connect {
                ConnectSet::All => true,
                ConnectSet::Only(list) => list.contains(&address),
            },
        };
        let member = entry.member;
        let leg = CheckedLeg {
            session,
            counter,
            suites,
            address,
            conn: no,
        };
        if !permitted {
            return self.refuse_leg(host, &leg, member);
        }
        match role {
            Role::Outlet => self.host_mut(host).relay_worker.parked.push_back(leg),
            Role::Inlet => {
                let served = self.host(host).relay_worker.served(&address);
                if !served && !self.mispair {
                    return self.answer(host, &leg, 2, 0);
                }
                let deadline = (now + PAIR_WAIT, CloseReason::NoOutlet);
                self.conns.get_mut(&no).unwrap().ends[1].deadline = deadline;
                self.host_mut(host).relay_worker.waiting.push_back(leg);
            }
        }
        self.pair(host);
    }

    fn refuse_leg(&mut self, host: HostNo, leg: &CheckedLeg, member: Id) {
        let why = CloseReason::AddressNotPermitted;
        self.host_mut(host).relay_worker.refused.push(why);
        let peer = self.host(host).address;
        let event = Event::LegRefused {
            member: Some(member),
            peer,
            why,
        };
        self.input(host, Input::Event(event));
        self.answer(host, leg, 3, 0);
    }

    fn pair(&mut self, host: HostNo) {
        let any = self.mispair;
        let worker = &mut self.host_mut(host).relay_worker;
        let found = worker.waiting.iter().enumerate().find_map(|(w, inlet)| {
            let fits = |outlet: &CheckedLeg| any || outlet.address == inlet.address;
            worker.parked.iter().position(fits).map(|p| (w, p))
        });
        let Some((w, p)) = found else {
            return;
        };
        let inlet = worker.waiting.remove(w).unwrap();
        let outlet = worker.parked.remove(p).unwrap();
        let low = !worker
            .parked
            .iter()
            .any(|leg| leg.address == outlet.address);
        let shown = self.forged_mask.unwrap_or(outlet.suites);
        self.answer(host, &inlet, 1, u32::from(shown.0));
        self.answer(host, &outlet, 1, u32::from(inlet.suites.0));
        for (own, other) in [(inlet.conn, outlet.conn), (outlet.conn, inlet.conn)] {
            if let Some(conn) = self.conns.get_mut(&own) {
                conn.ends[1].carrier = Carrier::Joined(other);
                conn.ends[1].deadline.0 = Instant::FAR_FUTURE;
            }
        }
        if low {
            let (session, address, want) = (outlet.session, outlet.address, 8);
            self.input(
                host,
                Input::Event(Event::ParkLow {
                    session,
                    address,
                    want,
                }),
            );
        }
        self.pair(host);
    }

    fn answer(&mut self, host: HostNo, leg: &CheckedLeg, code: u8, word: u32) {
        let mut body = [0; 32];
        body[0] = code;
        body[4..8].copy_from_slice(&word.to_be_bytes());
        let Some((entry, _)) = self.host(host).relay_worker.keys.get(&leg.session) else {
            return;
        };
        let sealed = entry.key.seal_answer(leg.counter, &body);
        self.send(leg.conn, 1, &sealed);
        if code != 1 {
            self.drop_conn(leg.conn, Some(1), CloseReason::TunnelLost);
        }
    }

    /// An inlet leg has waited long enough.
    pub(super) fn answer_no_outlet(&mut self, conn: u64, host: HostNo) {
        let worker = &mut self.host_mut(host).relay_worker;
        if let Some(place) = worker.waiting.iter().position(|leg| leg.conn == conn) {
            let leg = worker.waiting.remove(place).unwrap();
            self.answer(host, &leg, 2, 0);
        }
    }
}

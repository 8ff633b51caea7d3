//! Circuits: like lanes without streams. What retires ends at once, unless the world is busy.

use crypto::record::{Opener, Sealer};

use super::conn::Carrier;
use super::lanes::seal;
use super::{HostNo, World};
use crate::error::{CloseReason, Code};
use crate::ids::{BundleId, CircuitNo, LinkId};
use crate::limits::{CIRCUIT_RECORD_MAX, CIRCUITS_MAX, RECORD_HEADER, RECORD_INNER};
use crate::protocol::command::{
    Adopt, Becomes, CircuitCommand, CircuitEvent, Event, Expect, LaneEvent, Role,
};
use crate::protocol::core::{CircuitsStatus, Input};
use crate::protocol::record::{Header, Kind};

/// One end of a circuit.
pub struct CircuitEnd {
    pub bundle: BundleId,
    pub no: CircuitNo,
    pub role: Role,
    /// It begins no more directions.
    pub retiring: bool,
    opener: Opener,
    /// Kept with the end, as by a worker.
    _sealer: Sealer,
}

impl World {
    /// A link becomes a circuit, where the host has the lane.
    pub(super) fn adopt_circuit(&mut self, host: HostNo, (no, which): (u64, usize), adopt: Adopt) {
        let Adopt {
            link,
            last,
            becomes,
            role,
            bundle,
            mut sealer,
            opener,
            ..
        } = adopt;
        let Becomes::Circuit(circuit) = becomes else {
            unreachable!("a lane");
        };
        if self.lane_of(host, bundle).is_none() {
            let why = CloseReason::NoBundle;
            self.input(host, Input::Event(Event::Closed { link, why }));
            return self.close(no, which);
        }
        let taken = self
            .circuits_of(host)
            .any(|(_, end)| (end.bundle, end.role, end.no) == (bundle, role, circuit));
        assert!(!taken, "{circuit:?} is in use in {bundle:?}");
        let mut out = Vec::new();
        if !last.is_empty() {
            out.extend_from_slice(&(last.len() as u16).to_be_bytes());
            out.extend_from_slice(&last);
        }
        if role == Role::Outlet {
            out.extend_from_slice(&seal(&mut sealer, Kind::Ready, &[]));
            self.circuit_event(host, link, CircuitEvent::Ready);
        }
        let end = CircuitEnd {
            bundle,
            no: circuit,
            role,
            retiring: false,
            opener,
            _sealer: sealer,
        };
        self.conns.get_mut(&no).unwrap().ends[which].carrier =
            Carrier::Circuit(link, Box::new(end));
        self.send(no, which, &out);
    }

    pub(super) fn circuit_event(&mut self, host: HostNo, link: LinkId, what: CircuitEvent) {
        self.input(host, Input::Event(Event::Circuit { link, what }));
    }

    /// Opens one record.
    pub(super) fn circuit_receive(&mut self, no: u64, which: usize) -> bool {
        let end = &mut self.conns.get_mut(&no).unwrap().ends[which];
        let host = end.host;
        let Carrier::Circuit(link, circuit) = &mut end.carrier else {
            return false;
        };
        let link = *link;
        let Some(header) = end.inbox.first_chunk::<RECORD_HEADER>() else {
            return false;
        };
        let len = crypto::record::record_len(*header, CIRCUIT_RECORD_MAX).unwrap();
        if end.inbox.len() < len {
            return false;
        }
        let mut record: Vec<u8> = end.inbox.drain(..len).collect();
        let inner = circuit.opener.open(&mut record).unwrap();
        let (head, payload) = inner.split_first_chunk::<RECORD_INNER>().unwrap();
        let what = match Header::parse(*head).unwrap().kind {
            Kind::Ready => CircuitEvent::Ready,
            Kind::Denied => {
                let code = Code(u16::from_be_bytes(payload[..].try_into().unwrap()));
                CircuitEvent::Denied(CloseReason::from_code(code.0).unwrap())
            }
            other => panic!("an unexpected record: {other:?}"),
        };
        assert_eq!(circuit.role, Role::Inlet);
        self.circuit_event(host, link, what);
        true
    }

    pub(super) fn circuit_command(&mut self, host: HostNo, link: LinkId, what: CircuitCommand) {
        let Some((no, which)) = self.find(host, link) else {
            return;
        };
        let busy = self.busy;
        let Carrier::Circuit(_, end) = &mut self.conns.get_mut(&no).unwrap().ends[which].carrier
        else {
            return;
        };
        match what {
            CircuitCommand::Retire => {
                assert!(!end.retiring, "retired twice");
                end.retiring = true;
                if !busy {
                    self.drop_conn(no, None, CloseReason::Finished);
                }
            }
            CircuitCommand::Cut(why) => {
                self.circuit_event(host, link, CircuitEvent::Closed(why));
                self.drop_conn(no, Some(which), CloseReason::TunnelLost);
            }
        }
    }

    /// A host has lost a lane: its worker ends the circuits of it.
    pub(super) fn end_bundle(&mut self, host: HostNo, bundle: BundleId, why: CloseReason) {
        let circuits: Vec<u64> = self
            .circuits_of(host)
            .filter(|(_, end)| end.bundle == bundle)
            .map(|(conn, _)| conn)
            .collect();
        for no in circuits {
            let Some(conn) = self.conns.get(&no) else {
                continue;
            };
            let which = conn.ends.iter().position(|end| end.host == host).unwrap();
            if let Carrier::Circuit(link, _) = &conn.ends[which].carrier {
                let link = *link;
                self.circuit_event(host, link, CircuitEvent::Closed(why));
            }
            self.drop_conn(no, Some(which), why);
        }
    }

    /// The circuits that a host has, with their connections.
    pub fn circuits_of(&self, host: HostNo) -> impl Iterator<Item = (u64, &CircuitEnd)> {
        self.conns.iter().flat_map(move |(no, conn)| {
            conn.ends.iter().filter_map(move |end| match &end.carrier {
                Carrier::Circuit(_, circuit) if end.host == host => Some((*no, &**circuit)),
                _ => None,
            })
        })
    }

    /// A host's lane of this bundle.
    fn lane_of(&self, host: HostNo, bundle: BundleId) -> Option<LinkId> {
        let mut ends = self.conns.values().flat_map(|conn| &conn.ends);
        ends.find_map(|end| match &end.carrier {
            Carrier::Lane(link, lane) if end.host == host && lane.bundle == bundle => Some(*link),
            _ => None,
        })
    }

    /// An inlet's worker says how the circuits of all its lanes are used.
    pub fn say_circuits(&mut self, inlet: HostNo, peak: u16, wanted: u16) {
        let lanes: Vec<LinkId> = self
            .lanes()
            .iter()
            .filter_map(|(bundle, ..)| self.lane_of(inlet, *bundle))
            .collect();
        for link in lanes {
            let what = LaneEvent::Circuits { peak, wanted };
            self.input(inlet, Input::Event(Event::Lane { link, what }));
        }
    }

    /// How many of a host's lanes that take streams, and of its circuits, are at each worker.
    pub fn at_workers(&self, host: HostNo) -> Vec<(usize, usize)> {
        let mut at = vec![(0, 0); usize::from(self.host(host).workers)];
        let ends = self.conns.values().flat_map(|conn| &conn.ends);
        for end in ends.filter(|end| end.host == host) {
            match &end.carrier {
                Carrier::Lane(link, lane) if !lane.retiring => at[link.worker().index()].0 += 1,
                Carrier::Circuit(link, _) => at[link.worker().index()].1 += 1,
                _ => {}
            }
        }
        at
    }

    /// Whatever retires and is still there ends.
    pub fn end_retired(&mut self) {
        let over: Vec<u64> = self
            .conns
            .iter()
            .filter(|(_, conn)| {
                conn.ends.iter().any(|end| match &end.carrier {
                    Carrier::Circuit(_, circuit) => circuit.retiring,
                    Carrier::Lane(_, lane) => lane.retiring,
                    _ => false,
                })
            })
            .map(|(no, _)| *no)
            .collect();
        for no in over {
            self.drop_conn(no, None, CloseReason::Finished);
        }
    }

    /// A host's lanes, with their connections and which ends are its.
    fn lanes_of(&self, host: HostNo) -> Vec<(u64, usize, BundleId)> {
        let mut found = Vec::new();
        for (no, conn) in &self.conns {
            for (which, end) in conn.ends.iter().enumerate() {
                if let Carrier::Lane(_, lane) = &end.carrier
                    && end.host == host
                {
                    found.push((*no, which, lane.bundle));
                }
            }
        }
        found
    }

    /// The outlet's worker asks for other lanes than those that there are.
    pub fn ask_to_retire(&mut self, outlet: HostNo) {
        for (no, which, _) in self.lanes_of(outlet) {
            let Carrier::Lane(_, lane) = &mut self.conns.get_mut(&no).unwrap().ends[which].carrier
            else {
                unreachable!("a lane");
            };
            if !std::mem::replace(&mut lane.retiring, true) {
                let record = lane.seal(Kind::Retire, &[]);
                self.send(no, which, &record);
            }
        }
    }

    /// A host loses its lanes in a way that the other end does not notice.
    pub fn forget_lanes(&mut self, host: HostNo) {
        for (no, which, bundle) in self.lanes_of(host) {
            let end = &mut self.conns.get_mut(&no).unwrap().ends[which];
            let Carrier::Lane(link, _) = std::mem::replace(&mut end.carrier, Carrier::Fresh) else {
                unreachable!("a lane");
            };
            end.expect = Expect::Nothing;
            self.lane_closed(host, (link, bundle), CloseReason::TunnelLost);
        }
    }

    /// A host finds its lanes dead.
    pub fn lose_lanes(&mut self, host: HostNo) {
        for (no, ..) in self.lanes_of(host) {
            self.break_conn(no, None);
        }
    }

    /// Breaks the connection of a host's `n`th lane, counted round.
    pub fn lose_lane(&mut self, host: HostNo, n: usize) {
        let lanes: Vec<_> = self.lanes_of(host).into_iter().map(|(no, ..)| no).collect();
        if let Some(no) = lanes.get(n % lanes.len().max(1)) {
            self.break_conn(*no, None);
        }
    }

    /// Breaks the connection of a host's `n`th circuit, counted round.
    pub fn lose_circuit(&mut self, host: HostNo, n: usize) {
        let count = self.circuits_of(host).count();
        if count > 0 {
            let no = self.circuits_of(host).nth(n % count).unwrap().0;
            self.break_conn(no, None);
        }
    }

    /// Breaks the connection that was made `back` before the newest one.
    pub fn lose_newest(&mut self, back: usize) {
        let newest = self.conns.keys().rev().nth(back).copied();
        if let Some(no) = newest {
            self.break_conn(no, None);
        }
    }

    /// What must hold whenever everything that could happen has happened: control and the worker of
    /// each node know of the same links, and no bound is passed.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn check(&self) {
        for n in 0..self.hosts.len() {
            let no = HostNo(n);
            if self.host(no).alive() {
                self.check_host(no);
            }
        }
    }

    fn check_host(&self, no: HostNo) {
        let host = self.host(no);
        let ends = self.conns.values().flat_map(|conn| &conn.ends);
        for end in ends.filter(|end| end.host == no) {
            if let Carrier::Link(link) | Carrier::Lane(link, _) | Carrier::Circuit(link, _) =
                &end.carrier
            {
                assert!(host.owns(*link), "{}: nobody knows of {link:?}", host.name);
            }
        }
        for (_, _, bundle) in self.lanes_of(no) {
            let circuits = self.circuits_of(no);
            let own = circuits.filter(|(_, end)| end.bundle == bundle).count();
            assert!(own <= CIRCUITS_MAX, "{}: {own} in one bundle", host.name);
        }
        for end in self.conns.values().flat_map(|conn| &conn.ends) {
            if let Carrier::Circuit(link, circuit) = &end.carrier
                && end.host == no
                && let Some(lane) = self.lane_of(no, circuit.bundle)
            {
                let (own, name) = (link.worker(), &host.name);
                assert_eq!(own, lane.worker(), "{name}: a bundle is on one worker");
            }
        }
        let mut known = CircuitsStatus::default();
        for portal in self.status(no).portals {
            known += portal.circuits;
        }
        let there = self.circuits_of(no).count();
        let adopted = known.ready + known.retiring;
        let possible = adopted..=adopted + known.building;
        let name = &host.name;
        assert!(possible.contains(&there), "{name}: {there}, {known:?}");
    }
}

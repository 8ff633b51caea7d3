//! What must hold between two turns (`reliability.md`, invariants): called by simulations after
//! every step, and never by a running process.

use super::Worker;
use super::circuit::CircuitIx;
use super::conn::Conn;
use super::slab::SlotKey;
use super::stream::{Phase, Stream};
use crate::engine::{Class, Engine};
use crate::protocol::stream::Visits;

impl<E: Engine> Worker<E> {
    /// Panics if an invariant does not hold.
    pub fn check(&self) {
        self.net.check();
        let mut count = Count::default();
        for (key, slot) in self.net.slots.iter() {
            match &slot.conn {
                Conn::Listener(_) => {}
                Conn::Stranger(_) => {
                    count.strangers += 1;
                    count.strangers_live += usize::from(slot.is_live());
                }
                Conn::Link(link) => {
                    count.links += 1;
                    assert_eq!(self.links.get(&link.id), Some(&key), "a link has one name");
                }
                Conn::Leg(leg) => self.check_leg(key, leg, &mut count),
                Conn::Lane(ix) => {
                    let lane = self.lanes.get(*ix).expect("a lane's slot has a lane");
                    assert_eq!(lane.key, key, "a lane has one slot");
                    lane.proto.check();
                    if lane.end.is_none() {
                        lane.tx.check();
                    }
                    count.lanes += 1;
                }
                Conn::Circuit(ix) => {
                    let circuit = self
                        .circuits
                        .get(*ix)
                        .expect("a circuit's slot has a circuit");
                    assert_eq!(circuit.key, key, "a circuit has one slot");
                    count.circuits += 1;
                    if circuit.end.is_none() {
                        self.check_circuit(*ix);
                    }
                }
                Conn::Stream(stream) => {
                    count.streams += 1;
                    self.check_stream_circuits(key, stream);
                    if matches!(stream.phase, Phase::Waiting) {
                        count.waiting += 1;
                    }
                    if let Some((ix, _)) = stream.place() {
                        let lane = self.lanes.get(ix).expect("a stream's lane exists");
                        assert!(lane.end.is_none(), "a lost lane keeps no stream");
                        count.placed += 1;
                    }
                    assert!(
                        !slot.is_closed() || stream.place().is_some() || !slot.is_live(),
                        "a closed stream that no lane knows is gone"
                    );
                }
            }
        }
        self.check_relay();
        let placed: usize = self.lanes.iter().map(|(_, lane)| lane.streams).sum();
        assert_eq!(
            count.placed, placed,
            "streams that know their lane, and the other way round"
        );
        assert_eq!(count.lanes, self.lanes.len(), "each lane has a slot");
        assert_eq!(
            count.links + count.lanes + count.circuits,
            self.links.len(),
            "each link has a name"
        );
        assert!(
            (count.strangers_live..=count.strangers).contains(&self.strangers.count()),
            "each stranger that is not being closed has a place"
        );
        let c = &self.counters;
        assert_eq!(
            c.streams_open.get(),
            count.streams as u64,
            "gauge of streams"
        );
        assert_eq!(
            c.apps_waiting.get(),
            count.waiting as u64,
            "gauge of waiting apps"
        );
        assert_eq!(c.lanes_open.get(), count.lanes as u64, "gauge of lanes");
        assert_eq!(
            count.circuits,
            self.circuits.len(),
            "each circuit has a slot"
        );
        assert_eq!(
            c.circuits_open.get(),
            count.circuits as u64,
            "gauge of circuits"
        );
        assert_eq!(c.links_open.get(), count.links as u64, "gauge of links");
        assert_eq!(
            c.strangers_open.get(),
            count.strangers as u64,
            "gauge of strangers"
        );
        assert_eq!(
            c.legs_paired.get(),
            count.legs_paired as u64,
            "gauge of paired legs"
        );
        assert_eq!(
            c.legs_waiting.get(),
            count.legs_waiting as u64,
            "gauge of waiting legs"
        );
        assert_eq!(c.pipes_in_use.get(), count.pipes as u64, "gauge of pipes");
        assert_eq!(
            self.net.engine.pool().pipes as usize,
            count.pipes,
            "every pipe that is out has its direction"
        );
    }

    /// A circuit belongs to a lane that lives, and each of its directions to one stream at most,
    /// which knows it.
    fn check_circuit(&self, ix: CircuitIx) {
        let Some(circuit) = self.circuits.get(ix) else {
            return;
        };
        circuit.tx.check();
        let lane = self
            .lanes
            .get(circuit.lane)
            .expect("a circuit's lane exists");
        assert!(lane.end.is_none(), "a lost lane keeps no circuit");
        assert!(
            lane.circuits.contains(&(circuit.no, ix)),
            "a lane knows its circuits"
        );
        if let Some(user) = circuit.tx.user {
            let stream = self.stream(user).expect("a run belongs to a stream");
            assert_eq!(stream.rx.on, Some(ix), "a stream knows where it sends");
        }
        if let Some((user, _)) = circuit.rx.user
            && let Some(stream) = self.stream(user)
        {
            assert_eq!(stream.tx.from, Some(ix), "a stream knows what comes");
        }
    }

    fn check_stream_circuits(&self, key: SlotKey, stream: &Stream) {
        if let Some(ix) = stream.rx.on {
            let circuit = self.circuits.get(ix).expect("a stream's circuit exists");
            assert_eq!(circuit.tx.user, Some(key), "a circuit knows who sends");
        }
        if let Some(ix) = stream.tx.from {
            let circuit = self.circuits.get(ix).expect("a stream's circuit exists");
            let user = circuit.rx.user.map(|(user, _)| user);
            assert_eq!(user, Some(key), "a circuit knows who receives");
        }
    }

    /// Cells of the stream table that this worker's lanes have visited, ended ones too.
    pub fn visited(&self) -> Visits {
        let mut visited = self.lanes.visited;
        for (_, lane) in self.lanes.iter() {
            visited.add(lane.proto.visited());
        }
        visited
    }

    /// Buffers that are not in the pool: 0 once everything has ended.
    pub fn buffers_out(&self) -> u32 {
        self.net.engine.pool().out()
    }

    /// Bulk buffers that are not in the pool.
    pub fn bulk_buffers_out(&self) -> u32 {
        self.net.engine.pool().classes[Class::Bulk.index()].out
    }

    /// Whether no direction of any circuit is in use.
    pub fn circuits_are_idle(&self) -> bool {
        self.lanes
            .iter()
            .all(|(_, lane)| lane.proto.circuits_are_idle())
    }

    /// Slots in use: the listeners once everything else has ended.
    pub fn slots_in_use(&self) -> usize {
        self.net.slots.len()
    }
}

/// What the slots hold.
#[derive(Debug, Default)]
pub(super) struct Count {
    strangers: usize,
    strangers_live: usize,
    links: usize,
    lanes: usize,
    circuits: usize,
    streams: usize,
    waiting: usize,
    placed: usize,
    pub legs_waiting: usize,
    pub legs_paired: usize,
    pub pipes: usize,
}

#[cfg(test)]
impl<E: Engine> Worker<E> {
    /// What every slot is doing, for a test that failed.
    pub fn dump(&self) {
        eprintln!("pool {:?}", self.net.engine.pool());
        for (key, slot) in self.net.slots.iter() {
            eprintln!("{key:?} {slot:?}");
        }
        for (_, lane) in self.lanes.iter() {
            eprintln!("tx {:?}\nrx {:?}", lane.tx, lane.rx);
        }
    }
}

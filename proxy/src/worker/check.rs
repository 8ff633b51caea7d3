//! What must hold between two turns (`reliability.md`, invariants): called by simulations after
//! every step, and never by a running process.

use super::Worker;
use super::conn::Conn;
use super::stream::Phase;
use crate::engine::Engine;
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
                Conn::Stream(stream) => {
                    count.streams += 1;
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
            count.links + count.lanes,
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

//! Two ends of a lane with nothing between: what a message costs in states, headers and credit,
//! without sealing it and without any socket.

use proxy::ids::StreamNo;
use proxy::limits::{CREDIT_BUDGET, LANE_CREDENTIAL_MAX};
use proxy::protocol::command::Role;
use proxy::protocol::lane::{Lane, LaneShared, Reaction, StreamKey};
use proxy::protocol::record::{Header, Kind, Open};
use proxy::time::Instant;

const NOW_MILLIS: u64 = 1_700_000_000_000;

/// An inlet's and an outlet's end, and streams that are open on them.
pub struct Lanes {
    inlet: Lane,
    outlet: Lane,
    streams: Vec<StreamNo>,
}

impl Lanes {
    /// A lane with so many streams, all of them connected.
    ///
    /// # Panics
    /// The lane takes no so many.
    pub fn open(streams: u32) -> Lanes {
        let end = |role| {
            let shared = LaneShared::new(CREDIT_BUDGET);
            shared.set_authority_time(NOW_MILLIS, Instant::ZERO);
            Lane::new(role, &shared)
        };
        let mut lanes = Lanes {
            inlet: end(Role::Inlet),
            outlet: end(Role::Outlet),
            streams: Vec::new(),
        };
        lanes.settle();
        let open = Open {
            target: "postgres".into(),
            authority_millis: NOW_MILLIS,
            app: None,
            dedicated: false,
        };
        for key in 0..streams {
            let opened = lanes.inlet.open(Instant::ZERO, StreamKey(key), &open);
            lanes.streams.push(opened.expect("a lane takes streams"));
        }
        lanes.settle();
        lanes
    }

    /// A message of `len` bytes on each stream, there and back. Returns how many records went.
    ///
    /// # Panics
    /// An end found a violation, or the credit does not suffice.
    pub fn round(&mut self, len: usize) -> usize {
        let payload = vec![0; len];
        let mut records = 0;
        for &n in &self.streams {
            self.inlet.on_app_data(n, len);
            records += take(&mut self.outlet, Header::new(Kind::Data, n), &payload);
        }
        records += self.settle();
        for &n in &self.streams {
            self.outlet.on_app_data(n, len);
            records += take(&mut self.inlet, Header::new(Kind::Data, n), &payload);
        }
        records + self.settle()
    }

    /// Everything that the ends have to say to each other arrives.
    fn settle(&mut self) -> usize {
        react(&mut self.inlet, 0);
        react(&mut self.outlet, 0);
        let mut records = 0;
        loop {
            let up = tell(&mut self.inlet, &mut self.outlet);
            let down = tell(&mut self.outlet, &mut self.inlet);
            if up + down == 0 {
                return records;
            }
            records += up + down;
        }
    }
}

/// Everything that one end has queued arrives at the other. Returns how many records that were.
fn tell(from: &mut Lane, to: &mut Lane) -> usize {
    let mut payload = [0; LANE_CREDENTIAL_MAX];
    let mut records = 0;
    while let Some((header, len)) = from.next_control(&mut payload) {
        records += take(to, header, &payload[..len]);
    }
    records
}

/// One record arrives and is dealt with.
fn take(end: &mut Lane, header: Header, payload: &[u8]) -> usize {
    end.on_record(Instant::ZERO, header, payload)
        .expect("honest ends make no violation");
    react(end, payload.len());
    1
}

/// What a worker does whose sockets are always ready.
fn react(end: &mut Lane, len: usize) {
    while let Some(reaction) = end.poll_reaction() {
        if let Reaction::Connect { n, .. } = reaction {
            end.bind(n, StreamKey(u32::from(n.0)));
            end.on_connected(n);
        } else if let Reaction::Deliver { n, .. } = reaction {
            end.on_delivered(n, len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_on_as_long_as_one_likes() {
        let mut lanes = Lanes::open(50);
        let mut records = 0;
        for _ in 0..1000 {
            records += lanes.round(64);
        }
        // Two for each message, and some CREDIT.
        assert!((100_000..110_000).contains(&records), "{records}");
    }
}

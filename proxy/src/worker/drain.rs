//! Stopping without cutting anybody, and stopping.
//!
//! 1. `Drain`: everything goes on, new arrivals too, until none came for `idle` (in a pod the app
//!    gets SIGTERM at the same moment and still has queries to make). Only what belongs to a stream
//!    is an arrival: whoever knocks at a relay can't keep it from ending. What comes to another worker
//!    counts too; the first that finds nothing ends the waiting of all, by way of control.
//! 2. Then the listeners close and lanes retire: live streams go on. `Event::DoorsClosed` makes
//!    control end its sessions, and a relay's nodes retire their lanes through it.
//! 3. When the last stream, pair and link has ended, or at `deadline`, which cuts the rest:
//!    `Event::Drained`.
//! 4. `Stop` closes everything; the worker ends when the last socket is closed.

use super::Worker;
use super::conn::Conn;
use super::slab::SlotKey;
use crate::engine::{Close, Engine};
use crate::error::CloseReason;
use crate::protocol::command::Event;
use crate::time::{Duration, Instant};

/// How far the worker's end is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Drain {
    /// Not asked for.
    #[default]
    No,
    /// Waiting for arrivals to cease.
    Idling {
        idle: Duration,
        last_arrival: Instant,
        /// What had come to the other workers when this one looked last.
        elsewhere: u64,
        deadline: Instant,
    },
    /// Closed to new ones; waiting for streams to end.
    Emptying { deadline: Instant },
    /// Told control.
    Drained,
    /// Closing everything.
    Stopping,
}

impl Drain {
    /// Whether it was not asked for.
    pub fn is_no(&self) -> bool {
        *self == Drain::No
    }

    /// Whether new connections are taken.
    pub fn is_accepting(&self) -> bool {
        matches!(self, Drain::No | Drain::Idling { .. })
    }

    /// Whether the worker ends with its last socket.
    pub fn is_over(&self) -> bool {
        *self == Drain::Stopping
    }

    pub fn next_deadline(&self) -> Instant {
        match *self {
            Drain::No | Drain::Drained | Drain::Stopping => Instant::FAR_FUTURE,
            Drain::Idling {
                idle,
                last_arrival,
                deadline,
                elsewhere: _,
            } => deadline.min(last_arrival + idle),
            Drain::Emptying { deadline } => deadline,
        }
    }
}

impl<E: Engine> Worker<E> {
    /// `Command::Drain`.
    pub(super) fn begin_drain(&mut self, idle: Duration, deadline: Instant) {
        let elsewhere = self.team.arrivals();
        match &mut self.drain {
            Drain::No => {
                self.drain = Drain::Idling {
                    idle,
                    last_arrival: self.now,
                    elsewhere,
                    deadline,
                };
            }
            // Another worker has found that nothing comes any more.
            Drain::Idling { idle: before, .. } => *before = idle.min(*before),
            Drain::Emptying { .. } | Drain::Drained | Drain::Stopping => {}
        }
    }

    /// Something new came: an app, an OPEN.
    pub(super) fn note_arrival(&mut self) {
        if let Drain::Idling { last_arrival, .. } = &mut self.drain {
            *last_arrival = self.now;
        }
    }

    pub(super) fn drain_due(&mut self) {
        let now = self.now;
        if let Drain::Idling {
            idle,
            last_arrival,
            elsewhere,
            ..
        } = &mut self.drain
            && *idle > Duration::ZERO
            && now >= *last_arrival + *idle
        {
            let arrivals = self.team.arrivals();
            if arrivals != *elsewhere {
                // Something came to another worker meanwhile.
                *elsewhere = arrivals;
                *last_arrival = now;
            }
        }
        match self.drain {
            Drain::Idling { deadline, .. } if now >= self.drain.next_deadline() => {
                self.drain = Drain::Emptying { deadline };
                self.close_doors();
                self.tell(Event::DoorsClosed);
            }
            Drain::Emptying { deadline } if now >= deadline => self.cut_everything(),
            Drain::No
            | Drain::Idling { .. }
            | Drain::Emptying { .. }
            | Drain::Drained
            | Drain::Stopping => {}
        }
    }

    /// No listeners, no strangers, no waiting legs; lanes take no new streams.
    fn close_doors(&mut self) {
        for key in std::mem::take(&mut self.listeners) {
            self.net.terminate(key, Close::Reset);
        }
        for key in self.slots_where(|conn| matches!(conn, Conn::Stranger(_))) {
            self.net.terminate(key, Close::Reset);
        }
        self.legs_leave();
        let lanes: Vec<_> = self.lanes.iter().map(|(ix, _)| ix).collect();
        for ix in lanes {
            self.lane_retire(ix);
        }
    }

    /// Ends every stream and pair.
    fn cut_everything(&mut self) {
        let lanes: Vec<_> = self.lanes.iter().map(|(ix, _)| ix).collect();
        for ix in lanes {
            self.lane_cut(ix, CloseReason::Stopping);
        }
        for key in self.slots_where(|conn| matches!(conn, Conn::Stream(_))) {
            self.stream_cut(key, CloseReason::Stopping);
        }
        for key in self.slots_where(|conn| matches!(conn, Conn::Leg(_))) {
            self.leg_stop(key, Close::Reset);
        }
    }

    /// Tells control when the last stream, pair and link is gone.
    pub(super) fn drain_step(&mut self) {
        let Drain::Emptying { deadline } = self.drain else {
            return;
        };
        let streams = self.counters.streams_open.get() + self.counters.legs_paired.get();
        // What control says last on its sessions has to be read, unless it takes too long.
        let links = if self.now < deadline {
            self.counters.links_open.get()
        } else {
            0
        };
        let left = streams + links;
        if left == 0 {
            self.drain = Drain::Drained;
            self.tell(Event::Drained);
        }
    }

    /// `Command::Stop`.
    pub(super) fn stop(&mut self) {
        if self.drain == Drain::Stopping {
            return;
        }
        self.drain = Drain::Stopping;
        self.close_doors();
        self.cut_everything();
        for key in self.slots_where(|conn| matches!(conn, Conn::Link(_))) {
            self.link_end(key, None);
        }
    }

    fn slots_where(&self, which: impl Fn(&Conn) -> bool) -> Vec<SlotKey> {
        self.net
            .slots
            .iter()
            .filter(|(_, slot)| which(&slot.conn))
            .map(|(key, _)| key)
            .collect()
    }
}

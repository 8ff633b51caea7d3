//! Who leaves the lane for a circuit, and when: decided per direction by the end that sends it.
//!
//! A direction is bulk when it brings `limits::PROMOTE_BYTES` from its app within
//! `PROMOTE_SPAN`, fills `PROMOTE_FULL_RECEIVES` receives in a row, or has used so much credit and
//! still has more. It goes back after `CIRCUIT_QUIET`. Without an idle circuit, or without Bulk
//! buffers, it stays on the lane and wishes: the inlet's control is told, an outlet says WANT.
//!
//! An app that does not read looks like bulk until the buffers on the way are full, and then keeps
//! its circuit for as long as it likes. So the last quarter of a bundle's circuits is for directions
//! that are *steady*: they have moved more than those buffers hold, within a second.

use std::collections::VecDeque;

use super::Worker;
use super::circuit::CircuitIx;
use super::dedicated::Own;
use super::lane::LaneIx;
use super::slab::SlotKey;
use super::stream::Phase;
use crate::engine::{Class, Engine};
use crate::limits::{
    CIRCUITS_FOR_ALL, CIRCUITS_SAY_AGAIN, PROMOTE_BYTES, PROMOTE_FULL_RECEIVES, PROMOTE_SPAN,
    PROMOTE_STEADY_BYTES, PROMOTE_STEADY_SPAN,
};
use crate::protocol::command::{Event, LaneEvent, Role};
use crate::protocol::lane::Stays;
use crate::time::Instant;

/// How fast an app sends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Receives in a row that filled a Medium buffer.
    full: u8,
    /// Bytes since then.
    bytes: u32,
    since: Instant,
    /// Bytes on this stay on the lane.
    stay: u32,
    /// Bytes of this span of `PROMOTE_STEADY_SPAN`.
    steady: u32,
    steady_since: Instant,
}

impl Pace {
    /// Notes a receive; whether the direction is bulk.
    pub fn note(&mut self, len: usize, class: Class, now: Instant) -> bool {
        let bytes = u32::try_from(len).unwrap_or(u32::MAX);
        let full = class != Class::Small && len >= Class::Medium.size().min(class.size());
        self.full = if full { self.full.saturating_add(1) } else { 0 };
        if now.since(self.since) > PROMOTE_SPAN {
            self.since = now;
            self.bytes = 0;
        }
        if now.since(self.steady_since) > PROMOTE_STEADY_SPAN {
            self.steady_since = now;
            self.steady = 0;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.steady = self.steady.saturating_add(bytes);
        self.stay = self.stay.saturating_add(bytes);
        self.full >= PROMOTE_FULL_RECEIVES || self.bytes >= PROMOTE_BYTES
    }

    /// Whether a direction that is out of credit, with more to send, has used much of it.
    pub fn is_pressed(&self) -> bool {
        self.stay >= PROMOTE_BYTES
    }

    /// Whether the other end reads, as well: buffers alone would not have taken so much.
    fn is_steady(&self) -> bool {
        self.steady >= PROMOTE_STEADY_BYTES
    }
}

/// What a lane knows of directions that want a circuit.
#[derive(Debug)]
pub(super) struct Wishes {
    /// Streams that wait for an idle circuit, longest first.
    pub waiting: VecDeque<SlotKey>,
    /// What the outlet said it wants.
    pub peers: u16,
    /// Something is to be said to control or to the other end.
    pub news: bool,
    /// What control was told last, and when.
    said: (u16, Instant),
    /// When it is to be told again: never while no circuit is in use.
    pub say_at: Instant,
}

impl Default for Wishes {
    fn default() -> Self {
        Wishes {
            waiting: VecDeque::new(),
            peers: 0,
            news: false,
            said: (0, Instant::ZERO),
            say_at: Instant::FAR_FUTURE,
        }
    }
}

impl<E: Engine> Worker<E> {
    /// Moves a bulk direction to a circuit, or lets it wish for one.
    pub(super) fn stream_promote(&mut self, key: SlotKey) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        let Some((ix, n)) = stream.place() else {
            return;
        };
        let fit = matches!(stream.phase, Phase::Up) && stream.is_opened();
        if !fit || stream.rx.on.is_some() || stream.rx.ended {
            return;
        }
        let all = stream.rx.own.is_dedicated() || stream.rx.pace.is_steady();
        let has_buffers = self.net.engine.pool().classes[Class::Bulk.index()].free > 0;
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        let stays = if !has_buffers {
            Some(Stays::NotNow)
        } else if !all && lane.proto.circuits_sending() >= CIRCUITS_FOR_ALL {
            Some(Stays::NoCircuit)
        } else {
            lane.proto.promote(n).err()
        };
        match stays {
            None => {
                lane.wishes.news = true;
                if let Some(stream) = self.stream_mut(key) {
                    stream.rx.wishes = false;
                }
                self.lane_react(ix);
            }
            Some(Stays::NotNow) => {}
            Some(Stays::NoCircuit) => {
                lane.wishes.news = true;
                if let Some(stream) = self.stream_mut(key)
                    && !std::mem::replace(&mut stream.rx.wishes, true)
                    && let Some(lane) = self.lanes.get_mut(ix)
                {
                    lane.wishes.waiting.push_back(key);
                    self.counters.promotions_starved.add(1);
                }
                self.lane_dirty(ix);
            }
        }
    }

    /// A circuit may be idle: those that wait longest go first.
    pub(super) fn lane_grant_wishes(&mut self, ix: LaneIx) {
        loop {
            let Some(lane) = self.lanes.get_mut(ix).filter(|lane| lane.end.is_none()) else {
                return;
            };
            let (idle, sending) = (lane.proto.has_idle_circuit(), lane.proto.circuits_sending());
            let Some(&key) = lane.wishes.waiting.front().filter(|_| idle) else {
                return;
            };
            let own = self.stream(key).map_or(Own::Shared, |s| s.rx.own);
            if sending >= own.circuits_max() {
                return;
            }
            if let Some(lane) = self.lanes.get_mut(ix) {
                lane.wishes.waiting.pop_front();
            }
            let here = |stream: &super::stream::Stream| stream.lane == Some(ix);
            if let Some(stream) = self.stream_mut(key)
                && here(stream)
                && std::mem::take(&mut stream.rx.wishes)
            {
                self.stream_promote(key);
            }
        }
    }

    /// Says how the bundle's circuits are used: an inlet to its control, an outlet by WANT.
    pub(super) fn lane_say_wishes(&mut self, ix: LaneIx) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        if !std::mem::take(&mut lane.wishes.news) {
            return;
        }
        let own = u16::try_from(lane.wishes.waiting.len()).unwrap_or(u16::MAX);
        if lane.role == Role::Outlet {
            lane.proto.want(now, own);
            return;
        }
        let wanted = own.saturating_add(std::mem::take(&mut lane.wishes.peers));
        let peak = lane.proto.circuits_peak();
        let (said, at) = lane.wishes.said;
        let old = now.since(at) >= CIRCUITS_SAY_AGAIN;
        if wanted == 0 && (peak == 0 || peak <= said && !old) {
            return;
        }
        lane.wishes.said = (peak, now);
        lane.proto.reset_circuits_peak();
        lane.wishes.say_at = if lane.proto.circuits_peak() > 0 {
            now + CIRCUITS_SAY_AGAIN
        } else {
            Instant::FAR_FUTURE
        };
        let link = lane.link;
        let what = LaneEvent::Circuits { peak, wanted };
        self.hint(Event::Lane { link, what });
    }

    /// The run was quiet: the direction goes back to the lane. Whether it does.
    pub(super) fn stream_goes_back(&mut self, key: SlotKey) -> bool {
        let Some(stream) = self.stream(key) else {
            return false;
        };
        let Some((ix, n)) = stream.place() else {
            return false;
        };
        let stays = stream.rx.own.is_dedicated();
        if stays || stream.rx.held.is_some() || stream.rx.on.is_none() {
            return false;
        }
        let went = self
            .lanes
            .get_mut(ix)
            .is_some_and(|lane| lane.proto.go_back(n));
        if went {
            self.circuit_release(key);
            if let Some(stream) = self.stream_mut(key) {
                stream.rx.settle();
            }
            self.counters.demotions.add(1);
            self.lane_react(ix);
            self.stream_arm(key);
        }
        went
    }

    /// The circuits of a lane send what they have to say by themselves.
    pub(super) fn lane_flush_circuits(&mut self, ix: LaneIx) {
        while let Some(no) = self
            .lanes
            .get_mut(ix)
            .and_then(|lane| lane.proto.next_circuit_due())
        {
            let circuit: Option<CircuitIx> = self.circuit_of(ix, no);
            if let Some(circuit) = circuit {
                self.circuit_flush(circuit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn four_full_receives_in_a_row_are_bulk() {
        let mut pace = Pace::default();
        let (now, size) = (Instant::ZERO, Class::Medium.size());
        for _ in 0..3 {
            assert!(!pace.note(size, Class::Medium, now));
        }
        assert!(!pace.note(100, Class::Medium, now), "the row is broken");
        for _ in 0..3 {
            assert!(!pace.note(size, Class::Medium, now));
        }
        assert!(pace.note(size, Class::Medium, now));
    }

    #[test]
    fn steady_is_what_goes_on_after_the_buffers_are_full() {
        let mut stalled = Pace::default();
        let mut read = Pace::default();
        let mut now = Instant::ZERO;
        for round in 0..200 {
            if round < 60 {
                stalled.note(Class::Medium.size(), Class::Medium, now);
            }
            read.note(Class::Medium.size(), Class::Medium, now);
            now = now + Duration::from_millis(5);
        }
        assert!(stalled.is_pressed() && !stalled.is_steady());
        assert!(read.is_steady());
    }

    #[test]
    fn much_in_a_short_time_is_bulk_and_the_same_slowly_is_not() {
        let mut fast = Pace::default();
        let mut slow = Pace::default();
        let mut now = Instant::ZERO;
        let mut bulk = (false, false);
        for _ in 0..70 {
            bulk.0 |= fast.note(4_000, Class::Small, Instant::ZERO);
            bulk.1 |= slow.note(4_000, Class::Small, now);
            now = now + Duration::from_millis(1);
        }
        assert_eq!(bulk, (true, false));
        assert!(slow.is_pressed(), "but it is once it has no credit left");
    }
}

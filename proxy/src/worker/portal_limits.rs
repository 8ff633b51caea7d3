//! The limits of portals, as a worker keeps to them: how many streams, and how long one may be quiet.
//!
//! Nothing is counted or noted when bytes move: a stream that may not be quiet for long is looked at
//! every quarter of that time, and compared with what it had moved before. So it is reset when it was
//! quiet for that long, and a quarter longer at most.

use std::sync::Arc;

use super::Worker;
use super::slab::SlotKey;
use super::stream::{Phase, Stream};
use crate::engine::{Close, Engine};
use crate::error::CloseReason;
use crate::ids::PortalNo;
use crate::protocol::portal_limits::{PortalLimits, StreamPlace};
use crate::time::Instant;

/// A stream of a portal with limits.
#[derive(Debug)]
pub(super) struct Limited {
    place: StreamPlace,
    /// What it had moved when it was looked at last, and since when it is that.
    moved: u64,
    since: Instant,
}

impl<E: Engine> Worker<E> {
    /// `Command::Limits`.
    pub(super) fn set_limits(&mut self, portal: PortalNo, limits: Arc<PortalLimits>) {
        self.limits.insert(portal, limits);
    }

    /// A place for one more stream of a portal; `None` where nothing is limited.
    ///
    /// # Errors
    /// It has as many as it may.
    pub(super) fn admit(&self, portal: PortalNo) -> Result<Option<Box<Limited>>, CloseReason> {
        let limits = self.limits.get(&portal);
        let Some(limits) = limits.filter(|limits| !limits.is_unlimited()) else {
            return Ok(None);
        };
        let place = limits.admit().ok_or(CloseReason::PortalFull)?;
        Ok(Some(Box::new(Limited {
            place,
            moved: 0,
            since: self.now,
        })))
    }

    /// Counts a stream of a portal, once in its life: one that moves to another worker has begun already.
    pub(super) fn count_begun(&self, portal: PortalNo) {
        if let Some(limits) = self.limits.get(&portal) {
            limits.count_begun();
        }
    }

    /// Counts its end.
    pub(super) fn count_ended(&self, portal: PortalNo, why: CloseReason) {
        self.counters.count_end(why);
        if let Some(limits) = self.limits.get(&portal) {
            limits.count_ended();
        }
    }

    fn bytes_moved(&self, key: SlotKey) -> u64 {
        let place = self.stream(key).and_then(Stream::place);
        place
            .and_then(|(ix, n)| Some(self.lanes.get(ix)?.proto.moved(n)))
            .unwrap_or(0)
    }

    /// The stream is up: from now on it may not be quiet for long, if its portal says so.
    pub(super) fn stream_watch_quiet(&mut self, key: SlotKey) {
        let now = self.now;
        let limited = self.stream_mut(key).and_then(|s| s.limited.as_mut());
        let Some(limited) = limited else {
            return;
        };
        limited.since = now;
        if let Some(idle) = limited.place.idle() {
            self.net.set_deadline(key, now + idle / 4);
        }
    }

    /// A look at a stream that may not be quiet for long.
    pub(super) fn stream_quiet_due(&mut self, key: SlotKey) {
        let (now, moved) = (self.now, self.bytes_moved(key));
        let limited = self.stream_mut(key).and_then(|s| s.limited.as_mut());
        let Some(limited) = limited else {
            return;
        };
        if limited.moved != moved {
            (limited.moved, limited.since) = (moved, now);
        }
        let Some(idle) = limited.place.idle() else {
            return;
        };
        let end = limited.since + idle;
        if now < end {
            return self.net.set_deadline(key, end.min(now + idle / 4));
        }
        let Some(stream) = self.stream(key).filter(|s| matches!(s.phase, Phase::Up)) else {
            return;
        };
        if let Some((ix, n)) = stream.place() {
            self.stream_stop(key, Close::Reset);
            if let Some(lane) = self.lanes.get_mut(ix) {
                lane.proto.on_app_reset(n, CloseReason::IdleTooLong);
                self.lane_react(ix);
            }
        }
    }
}

//! The limits of a portal: how many streams it has at once, and for how long one may be quiet; and how
//! many there are and were, limits or not.
//!
//! Shared: the workers of a process count in one place, and a configuration that is read again changes
//! them where they are. A stream that was admitted holds its place until it is dropped, so no path can
//! forget to give it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::time::Duration;

/// What is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most streams at once; without a value, as many as the process can carry.
    pub streams_max: Option<u32>,
    /// A stream on which no byte moves for so long is reset; without a value, none is.
    pub idle: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub struct PortalLimits {
    streams_max: AtomicU32,
    /// 0: none.
    idle_millis: AtomicU64,
    open: AtomicU32,
    /// Streams that began, and those of them that have ended.
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A stream's place among those of its portal.
#[derive(Debug)]
pub struct StreamPlace {
    limits: Arc<PortalLimits>,
}

impl PortalLimits {
    /// Nobody is admitted yet.
    pub fn new(limits: Limits) -> Arc<PortalLimits> {
        let new = PortalLimits {
            streams_max: AtomicU32::new(0),
            idle_millis: AtomicU64::new(0),
            open: AtomicU32::new(0),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
        };
        new.set(limits);
        Arc::new(new)
    }

    /// These hold from now on. Streams beyond a lower maximum stay; a stream that began while there
    /// was no limit of quiet has none.
    pub fn set(&self, limits: Limits) {
        let most = limits.streams_max.unwrap_or(u32::MAX);
        let idle = limits.idle.map_or(0, |idle| idle.as_millis());
        let idle = u64::try_from(idle).unwrap_or(u64::MAX);
        self.streams_max.store(most, Ordering::Relaxed);
        self.idle_millis.store(idle, Ordering::Relaxed);
    }

    /// What holds now.
    pub fn limits(&self) -> Limits {
        let most = self.streams_max.load(Ordering::Relaxed);
        let idle = self.idle_millis.load(Ordering::Relaxed);
        Limits {
            streams_max: (most != u32::MAX).then_some(most),
            idle: (idle > 0).then(|| Duration::from_millis(idle)),
        }
    }

    /// Streams that hold a place.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a stream that begins, once in its life and whatever becomes of it.
    pub fn count_begun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the end of such a stream.
    pub fn count_ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Streams that have not ended, and all that began.
    pub fn streams(&self) -> (u64, u64) {
        // Read first, so that what begins and ends meanwhile makes no difference below zero.
        let ended = self.ended.load(Ordering::Relaxed);
        let begun = self.begun.load(Ordering::Relaxed);
        (begun.saturating_sub(ended), begun)
    }

    /// Nothing is limited: who asks now needs no place.
    pub fn is_unlimited(&self) -> bool {
        self.streams_max.load(Ordering::Relaxed) == u32::MAX
            && self.idle_millis.load(Ordering::Relaxed) == 0
    }

    /// A place for one more stream, if there is one.
    pub fn admit(self: &Arc<Self>) -> Option<StreamPlace> {
        let most = self.streams_max.load(Ordering::Relaxed);
        let one_more = |open| (open < most).then_some(open + 1);
        let admitted = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        admitted.ok().map(|_| StreamPlace {
            limits: Arc::clone(self),
        })
    }
}

impl StreamPlace {
    /// For how long this stream may be quiet.
    pub fn idle(&self) -> Option<Duration> {
        let millis = self.limits.idle_millis.load(Ordering::Relaxed);
        (millis > 0).then(|| Duration::from_millis(millis))
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let before = self.limits.open.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a place was given back twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let limits = PortalLimits::new(Limits {
            streams_max: Some(2),
            idle: None,
        });
        let first = limits.admit();
        let second = limits.admit();
        assert!(first.is_some() && second.is_some() && limits.admit().is_none());
        drop(first);
        assert_eq!(limits.open(), 1);
        let third = limits.admit();
        assert!(third.is_some());
        // A lower maximum cuts nobody, and admits nobody until there is room under it.
        limits.set(Limits {
            streams_max: Some(1),
            idle: Some(Duration::from_secs(5)),
        });
        drop(third);
        assert!(limits.admit().is_none());
        assert_eq!(
            second.and_then(|it| it.idle()),
            Some(Duration::from_secs(5))
        );
        assert!(limits.admit().is_some());
    }

    #[test]
    fn streams_are_counted_with_and_without_limits() {
        let portal = PortalLimits::new(Limits::default());
        portal.count_begun();
        portal.count_begun();
        portal.count_ended();
        assert_eq!(portal.streams(), (1, 2));
    }

    #[test]
    fn without_limits_everybody_is_admitted() {
        let limits = PortalLimits::new(Limits::default());
        assert!(limits.is_unlimited());
        let places: Vec<_> = (0..1000).map(|_| limits.admit()).collect();
        assert!(places.iter().all(Option::is_some));
        assert_eq!(limits.open(), 1000);
        assert!(places.iter().flatten().all(|place| place.idle().is_none()));
    }
}

//! The clocks, read: the only place of control that asks the system what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::protocol::core::Now;
use crate::time::{Duration, Instant};

/// Both clocks now. `mono` is the engines' clock (CLOCK_BOOTTIME: it counts suspend), so that an instant means the
/// same in a command and in a worker.
pub fn now() -> Now {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        mono: mono(),
        wall_millis: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
    }
}

/// The engines' clock.
pub fn mono() -> Instant {
    let t = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(t.tv_nsec).unwrap_or(0);
    Instant::ZERO + Duration::new(seconds, nanos)
}

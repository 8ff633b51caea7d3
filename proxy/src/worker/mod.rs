//! Floor 3, hot path: one thread, one ring, no locks, no allocation per record.

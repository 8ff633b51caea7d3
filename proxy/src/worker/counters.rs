//! What a worker counts, for `status` and metrics: relaxed atomics that control reads whenever it
//! likes. One writer each, so a lost update can't happen; gauges are exact between two turns.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::CloseReason;

/// One number that only its worker changes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` away (gauges).
    pub fn sub(&self, n: u64) {
        let was = self.0.load(Relaxed);
        debug_assert!(was >= n, "a gauge below zero");
        self.0.store(was.wrapping_sub(n), Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters of one worker.
        #[derive(Debug)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
            /// Ended streams, by the place of their reason in [`CloseReason::ALL`].
            ended: [Counter; CloseReason::ALL.len()],
        }

        impl Default for Counters {
            fn default() -> Self {
                Counters {
                    $($name: Counter::default(),)*
                    ended: std::array::from_fn(|_| Counter::default()),
                }
            }
        }

        impl Counters {
            /// Every plain counter with its name, in a fixed order.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Gauge: streams that have not ended.
    streams_open,
    /// Streams begun.
    streams_total,
    /// Gauge: apps that wait for a lane.
    apps_waiting,
    /// Apps handed to another worker.
    apps_handed,
    /// Bytes from apps and targets, sealed into lanes.
    bytes_sent,
    /// Bytes opened from lanes, for apps and targets.
    bytes_received,
    /// Records sealed.
    records_sent,
    /// Records opened.
    records_received,
    /// Lane sends: `records_sent` divided by this is the batching.
    lane_sends,
    /// Lane receives.
    lane_receives,
    /// Bytes of records that were cut by the end of a receive and had to be moved.
    lane_bytes_moved,
    /// Bytes that an app did not take at once and that were copied out of the lane's buffer.
    bytes_copied_out,
    /// Gauge: lanes.
    lanes_open,
    /// Lanes adopted.
    lanes_total,
    /// Lanes that ended by a violation or a bad tag of the peer.
    lane_violations,
    /// Gauge: circuits.
    circuits_open,
    /// Circuits adopted.
    circuits_total,
    /// Directions that moved from a lane to a circuit.
    promotions,
    /// Directions that came back to their lane: they were quiet, or had been on their circuit for long.
    demotions,
    /// Those of them that had been on their circuit for long.
    circuits_left,
    /// Times a bulk direction found no idle circuit.
    promotions_starved,
    /// Directions of dedicated streams that found no circuit in time.
    dedicated_late,
    /// Bytes from apps and targets, sealed into circuits; counted in `bytes_sent` too.
    circuit_bytes_sent,
    /// Bytes opened from circuits; counted in `bytes_received` too.
    circuit_bytes_received,
    /// Circuit sends.
    circuit_sends,
    /// Circuit receives.
    circuit_receives,
    /// Bytes behind a complete record, or of a begun one, that had to be moved.
    circuit_bytes_moved,
    /// KEY_UPDATEs sent.
    key_updates,
    /// Fresh key exchanges of lanes: both directions have gone over.
    key_exchanges,
    /// Gauge: links (sessions, handshakes, parked outlet legs of our own).
    links_open,
    /// Links handed to another worker.
    links_handed,
    /// Gauge: connections that have not said yet what they are.
    strangers_open,
    /// Connections closed because strangers are at a limit.
    strangers_refused,
    /// Connections that said nothing useful, or nothing in time.
    strangers_dropped,
    /// Relay, gauge: legs that wait for their counterpart.
    legs_waiting,
    /// Relay, gauge: paired legs (two per circuit).
    legs_paired,
    /// Relay: circuits paired.
    pairs_total,
    /// Relay: legs handed to the worker that keeps the books of their address.
    legs_handed,
    /// Relay: pairs handed to the worker that carries the fewest.
    pairs_handed,
    /// Relay: legs refused.
    legs_refused,
    /// Relay: bytes forwarded.
    bytes_relayed,
    /// Relay: of these, bytes that went through a pipe.
    bytes_spliced,
    /// Relay: moves of bytes from a leg into a pipe.
    splices,
    /// Relay, gauge: directions that have a pipe.
    pipes_in_use,
    /// Relay: times a bulk direction stayed without a pipe because none was to be had.
    pipes_refused,
    /// Times a receive or a batch waited for a buffer.
    starved,
    /// Times an event waited because control's queue was full.
    mailbox_full,
    /// Hints to control that were dropped because its queue stayed full.
    hints_dropped,
    /// Times it looked for completions before it slept (`--spin`) …
    spins,
    /// … and times that something came.
    spins_hit,
    /// Turns of the loop.
    turns,
}

impl Counters {
    /// Counts the end of a stream.
    pub fn count_end(&self, why: CloseReason) {
        if let Some(place) = CloseReason::ALL.iter().position(|&r| r == why) {
            self.ended[place].add(1);
        }
    }

    /// Streams that ended for this reason.
    pub fn ended(&self, why: CloseReason) -> u64 {
        CloseReason::ALL
            .iter()
            .position(|&r| r == why)
            .map_or(0, |place| self.ended[place].get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_by_reason() {
        let counters = Counters::default();
        counters.count_end(CloseReason::AppReset);
        counters.count_end(CloseReason::AppReset);
        assert_eq!(counters.ended(CloseReason::AppReset), 2);
        assert_eq!(counters.ended(CloseReason::Finished), 0);
        counters.streams_open.add(3);
        counters.streams_open.sub(1);
        assert!(counters.all().contains(&("streams_open", 2)));
    }
}

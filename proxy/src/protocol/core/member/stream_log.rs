//! What the log says of streams that ended: each one at the level debug, and those that did not end
//! as they should once a second and portal at most, with a count of the others.
//!
//! An app that resets its connection is no news, and anybody who reaches an inlet's port can do it
//! thousands of times a second; so can a member with targets that are refused. Neither may fill
//! the disk. The loss of a lane, a denial and an app without a lane have lines of their own.

use std::collections::BTreeMap;

use crate::error::CloseReason;
use crate::ids::PortalNo;
use crate::limits::STREAM_LOG_INTERVAL;
use crate::protocol::command::StreamReport;
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::outbox::Outbox;
use crate::time::Instant;

/// The streams of a portal that were not worth a line of their own yet.
struct Quiet {
    until: Instant,
    /// How many, and why the last one ended.
    more: Option<(u64, CloseReason)>,
}

/// See the module. Bounded by the number of portals.
#[derive(Default)]
pub struct StreamLog {
    portals: BTreeMap<PortalNo, Quiet>,
}

impl StreamLog {
    /// A stream ended.
    pub fn on_ended(&mut self, out: &mut Outbox, now: Now, report: &StreamReport) {
        let level = if self.is_worth_a_line(now, report) {
            Level::Info
        } else {
            Level::Debug
        };
        let record = LogRecord::new(level, "a stream ended")
            .code(report.why.code())
            .with("why", report.why)
            .with("portal", report.portal.0)
            .with("peer", report.peer)
            .with("target", &report.target)
            .with("bundle", format_args!("{:?}", report.bundle))
            .with("stream", report.stream)
            .with("bytes_sent", report.bytes_sent)
            .with("bytes_received", report.bytes_received)
            .with("duration_ms", report.duration.as_millis());
        out.log(record);
    }

    fn is_worth_a_line(&mut self, now: Now, report: &StreamReport) -> bool {
        let expected = [
            CloseReason::Finished,
            CloseReason::AppReset,
            CloseReason::PeerReset,
        ];
        if expected.contains(&report.why) {
            return false;
        }
        let until = now.mono + STREAM_LOG_INTERVAL;
        match self.portals.get_mut(&report.portal) {
            Some(quiet) if quiet.more.is_some() || quiet.until > now.mono => {
                let (more, _) = quiet.more.unwrap_or((0, report.why));
                quiet.more = Some((more + 1, report.why));
                false
            }
            Some(_) | None => {
                let quiet = Quiet { until, more: None };
                self.portals.insert(report.portal, quiet);
                true
            }
        }
    }

    /// Says how many more there were, where the time is over.
    pub fn on_timer(&mut self, out: &mut Outbox, now: Now) {
        for (portal, quiet) in &mut self.portals {
            let more = quiet.more.filter(|_| quiet.until <= now.mono);
            if let Some((count, why)) = more {
                let record = LogRecord::new(Level::Info, "more streams ended before they should")
                    .code(why.code())
                    .with("count", count)
                    .with("last", why)
                    .with("portal", portal.0);
                out.log(record);
                quiet.more = None;
                quiet.until = now.mono + STREAM_LOG_INTERVAL;
            }
        }
        self.portals
            .retain(|_, quiet| quiet.more.is_some() || quiet.until > now.mono);
    }

    /// When [`on_timer`](Self::on_timer) has something to say.
    pub fn next_timer(&self) -> Instant {
        let due = self.portals.values().filter(|quiet| quiet.more.is_some());
        due.map(|quiet| quiet.until)
            .fold(Instant::FAR_FUTURE, Instant::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BundleId;
    use crate::protocol::command::Role;
    use crate::protocol::core::io::Output;
    use crate::time::Duration;
    use crypto::Id;

    fn at(millis: u64) -> Now {
        Now {
            mono: Instant::ZERO + Duration::from_millis(millis),
            wall_millis: millis,
        }
    }

    fn ended(portal: u16, why: CloseReason) -> StreamReport {
        StreamReport {
            portal: PortalNo(portal),
            role: Role::Inlet,
            peer: Id([1; 32]),
            bundle: BundleId([2; 16]),
            stream: 1,
            target: "db".into(),
            bytes_sent: 0,
            bytes_received: 0,
            duration: Duration::ZERO,
            why,
        }
    }

    /// The texts of the lines at level info, and how many there are at debug.
    fn said(out: &mut Outbox) -> (Vec<String>, usize) {
        let (mut info, mut debug) = (Vec::new(), 0);
        while let Some(output) = out.poll() {
            if let Output::Log(record) = output {
                if record.level == Level::Debug {
                    debug += 1;
                } else {
                    info.push(format!("{record:?}"));
                }
            }
        }
        (info, debug)
    }

    fn outbox() -> Outbox {
        Outbox::new(Box::new(crypto::SeededRandom::new(1)))
    }

    #[test]
    fn resets_of_apps_are_no_news() {
        let (mut log, mut out) = (StreamLog::default(), outbox());
        for _ in 0..1000 {
            log.on_ended(&mut out, at(0), &ended(1, CloseReason::AppReset));
            log.on_ended(&mut out, at(0), &ended(1, CloseReason::PeerReset));
        }
        assert_eq!(said(&mut out), (Vec::new(), 2000));
        assert_eq!(log.next_timer(), Instant::FAR_FUTURE);
    }

    #[test]
    fn of_a_thousand_losses_each_portal_has_a_line_and_a_count() {
        let (mut log, mut out) = (StreamLog::default(), outbox());
        for portal in [1, 2] {
            for _ in 0..1000 {
                log.on_ended(&mut out, at(0), &ended(portal, CloseReason::TunnelLost));
            }
        }
        assert_eq!(said(&mut out).0.len(), 2);
        let due = log.next_timer();
        assert_eq!(due, Instant::ZERO + STREAM_LOG_INTERVAL);
        log.on_timer(&mut out, at(1000));
        let (counts, _) = said(&mut out);
        assert_eq!(counts.len(), 2);
        assert!(counts[0].contains("999"), "{counts:?}");
        // The next second is quiet, and the one after begins anew.
        log.on_timer(&mut out, at(2000));
        assert!(log.portals.is_empty());
        log.on_ended(&mut out, at(2000), &ended(1, CloseReason::TunnelLost));
        assert_eq!(said(&mut out).0.len(), 1);
    }
}

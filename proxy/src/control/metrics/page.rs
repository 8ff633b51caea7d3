//! The text of `/metrics`: a process's state in Prometheus' text format, version 0.0.4.
//!
//! Each family has its HELP and TYPE once, and all of its samples behind them; a family without a sample
//! is left out.

use std::fmt::{Display, Write};

use super::families::{self as is, Family};
use crate::control::process::engine_word;
use crate::control::report::Counted;
use crate::engine::Kind;
use crate::protocol::core::{MembershipStatus, PortalStatus, Reach, Status};

/// What the text is made of.
pub struct Snapshot<'a> {
    /// The command that runs.
    pub command: &'a str,
    /// Its engine.
    pub engine: Kind,
    /// Most sockets of the workers together.
    pub sockets_max: u32,
    /// It drains or stops.
    pub stopping: bool,
    /// What the core says.
    pub status: &'a Status,
    /// What is counted.
    pub counted: &'a Counted,
}

/// The text.
pub fn text(process: &Snapshot<'_>) -> String {
    let mut page = Page::default();
    page.of_process(process);
    page.of_member(process.status);
    page.of_decisions(process);
    page.of_portals(process);
    page.of_server(process.status);
    page.of_workers(&process.counted.workers);
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// A family's head, and its samples: values of its labels, and the number.
    fn put<V: Display>(&mut self, family: Family, samples: &[(Vec<&dyn Display>, V)]) {
        if samples.is_empty() {
            return;
        }
        let Family {
            name, kind, help, ..
        } = family;
        let _ = writeln!(self.text, "# HELP {name} {help}");
        let _ = writeln!(self.text, "# TYPE {name} {}", kind.word());
        for (values, number) in samples {
            debug_assert_eq!(values.len(), family.labels.len(), "{name}");
            self.text.push_str(name);
            for (at, (label, value)) in family.labels.iter().zip(values).enumerate() {
                self.text.push(if at == 0 { '{' } else { ',' });
                let _ = write!(self.text, "{label}=\"{}\"", escaped(*value));
            }
            if !values.is_empty() {
                self.text.push('}');
            }
            let _ = writeln!(self.text, " {number}");
        }
    }

    /// A family without labels.
    fn one(&mut self, family: Family, number: impl Display) {
        self.put(family, &[(Vec::new(), number)]);
    }

    fn of_process(&mut self, process: &Snapshot<'_>) {
        let version = env!("CARGO_PKG_VERSION");
        self.put(is::BUILD, &[(vec![&version], 1)]);
        let engine = engine_word(process.engine);
        self.put(is::ENGINE, &[(vec![&engine, &process.command], 1)]);
        self.one(is::WORKERS, process.counted.workers.len());
        self.one(is::SOCKETS, process.sockets_max);
        let ready = process.status.ready() && !process.stopping;
        self.one(is::READY, u8::from(ready));
        self.one(is::STOPPING, u8::from(process.stopping));
    }

    fn of_member(&mut self, status: &Status) {
        match &status.membership {
            MembershipStatus::Authority => {}
            MembershipStatus::NotEnrolled { .. } | MembershipStatus::Enrolling { .. } => {
                self.one(is::ENROLLED, 0);
            }
            MembershipStatus::Enrolled {
                not_after,
                expires_in,
                ..
            } => {
                self.one(is::ENROLLED, 1);
                self.one(is::EXPIRY, not_after.0);
                self.one(is::REMAINING, expires_in.as_secs());
            }
        }
        let reaches = [("authority", &status.authority), ("relay", &status.relay)];
        let reaches = reaches.iter().filter_map(|(with, reach)| match reach {
            Reach::NotNeeded => None,
            Reach::Trying { .. } => Some((vec![with as &dyn Display], 0)),
            Reach::Reached { .. } => Some((vec![with as &dyn Display], 1)),
        });
        self.put(is::SESSION, &reaches.collect::<Vec<_>>());
        if let Some(millis) = status.clock_ahead_millis {
            let sign = if millis < 0 { "-" } else { "" };
            let millis = millis.unsigned_abs();
            self.one(
                is::CLOCK,
                format_args!("{sign}{}.{:03}", millis / 1000, millis % 1000),
            );
        }
        if let Some(revocations) = &status.revocations {
            self.one(is::LIST, revocations.list);
            if let Some(age) = revocations.heard {
                self.one(is::WORD_AGE, age.as_secs());
            }
            self.one(is::WORD_AGE_MAX, revocations.max_age.as_secs());
        }
    }

    fn of_decisions(&mut self, process: &Snapshot<'_>) {
        let tally = &process.status.tally;
        let results = [
            (vec![&"finished" as &dyn Display], tally.handshakes_finished),
            (vec![&"failed"], tally.handshakes_failed),
        ];
        self.put(is::HANDSHAKES, &results);
        let denials: Vec<_> = tally.denials().collect();
        let denials = denials
            .iter()
            .map(|(code, count)| (vec![code as &dyn Display], *count));
        self.put(is::DENIALS, &denials.collect::<Vec<_>>());
        let ended: Vec<_> = process
            .counted
            .ended
            .iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        let ended: Vec<_> = ended
            .iter()
            .map(|(why, count)| (why.code(), why, *count))
            .collect();
        let ended = ended
            .iter()
            .map(|(code, why, count)| (vec![code as &dyn Display, why], *count));
        self.put(is::ENDED, &ended.collect::<Vec<_>>());
    }

    fn of_portals(&mut self, process: &Snapshot<'_>) {
        let portals = &process.status.portals;
        let roles: Vec<_> = portals.iter().map(|portal| portal.role.word()).collect();
        let each = |of: &dyn Fn(&PortalStatus) -> u64| -> Vec<(Vec<&dyn Display>, u64)> {
            let portals = portals.iter().zip(&roles);
            let samples = portals.map(|(portal, role)| {
                let labels: Vec<&dyn Display> = vec![&portal.portal.0, role, &portal.address];
                (labels, of(portal))
            });
            samples.collect()
        };
        let count = |n: usize| n as u64;
        let streams = |portal: &PortalStatus| process.counted.streams_of(portal.portal);
        self.put(is::PORTAL_READY, &each(&|it| u64::from(it.ready)));
        self.put(is::PORTAL_LANES, &each(&|it| count(it.lanes)));
        self.put(is::PORTAL_PEERS, &each(&|it| count(it.peers.len())));
        self.put(is::PORTAL_PARKED, &each(&|it| count(it.parked)));
        let mut circuits = Vec::new();
        for state in &["ready", "building", "retiring"] {
            let of_state = each(&|it| {
                count(match *state {
                    "ready" => it.circuits.ready,
                    "building" => it.circuits.building,
                    _ => it.circuits.retiring,
                })
            });
            for (mut labels, number) in of_state {
                labels.push(state);
                circuits.push((labels, number));
            }
        }
        self.put(is::PORTAL_CIRCUITS, &circuits);
        self.put(is::PORTAL_PEAK, &each(&|it| count(it.circuits.peak)));
        self.put(is::PORTAL_OPEN, &each(&|it| streams(it).0));
        self.put(is::PORTAL_TOTAL, &each(&|it| streams(it).1));
    }

    fn of_server(&mut self, status: &Status) {
        if let Some(server) = &status.server {
            self.one(is::AUTHORITY_SESSIONS, server.authority_sessions);
            self.one(is::RELAY_SESSIONS, server.relay_sessions);
            self.one(is::SERVED, server.served.len());
        }
    }

    fn of_workers(&mut self, workers: &[Vec<(&'static str, u64)>]) {
        let names: Vec<usize> = (0..workers.len()).collect();
        for (counter, family) in is::OF_WORKER {
            let samples = workers.iter().zip(&names).filter_map(|(counted, name)| {
                let (_, number) = counted.iter().find(|(name, _)| name == counter)?;
                Some((vec![name as &dyn Display], *number))
            });
            self.put(*family, &samples.collect::<Vec<_>>());
        }
    }
}

/// A label's value in quotes: `\`, `"` and line feeds are escaped.
fn escaped(value: &dyn Display) -> String {
    let text = value.to_string();
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_its_head_once_and_escaped_labels() {
        let mut page = Page::default();
        let family = Family {
            name: "adit_x",
            kind: is::Kind::Gauge,
            labels: &["a", "b"],
            help: "An x.",
        };
        page.put(family, &[(vec![&"1\n\"\\", &2], 3), (vec![&4, &5], 6)]);
        page.put::<u8>(family, &[]);
        let expected = "# HELP adit_x An x.\n# TYPE adit_x gauge\n\
            adit_x{a=\"1\\n\\\"\\\\\",b=\"2\"} 3\nadit_x{a=\"4\",b=\"5\"} 6\n";
        assert_eq!(page.text, expected);
    }
}

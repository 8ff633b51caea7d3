//! Every metric: its name, kind, labels and meaning. Names have their unit, and end in `_total` where the
//! number only grows (Prometheus' naming conventions). A name never changes its meaning.

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 when the process starts.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Kind {
    /// The word for it in the text format.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    let kind = Kind::Gauge;
    Family {
        name,
        kind,
        labels,
        help,
    }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    let kind = Kind::Counter;
    Family {
        name,
        kind,
        labels,
        help,
    }
}

macro_rules! families {
    ($($ident:ident = $how:ident($name:literal, $labels:expr, $help:literal);)*) => {
        $(#[doc = $help] pub const $ident: Family = $how($name, $labels, $help);)*

        /// The metrics of the process as a whole and of its portals, in the order of the page.
        pub const OF_PROCESS: &[Family] = &[$($ident,)*];
    };
}

const PORTAL: &[&str] = &["portal", "role", "address"];

families! {
    BUILD = gauge("adit_build_info", &["version"], "1; the release that runs.");
    ENGINE = gauge("adit_engine_info", &["engine", "command"], "1; how bytes are moved, and the command that runs.");
    WORKERS = gauge("adit_workers", &[], "Threads that move bytes.");
    SOCKETS = gauge("adit_sockets_max", &[], "Most sockets that the workers hold at once, together.");
    READY = gauge("adit_ready", &[], "1 if every portal can carry a connection now, or the server serves.");
    STOPPING = gauge("adit_stopping", &[], "1 while the process drains or stops.");
    ENROLLED = gauge("adit_enrolled", &[], "1 if the node is a member. Not there where the authority is in the process.");
    EXPIRY = gauge("adit_credential_expiry_timestamp_seconds", &[], "When the credential of the node ends, in seconds since 1970.");
    REMAINING = gauge("adit_credential_remaining_seconds", &[], "How long the credential of the node is still good, by the authority's time.");
    SESSION = gauge("adit_session_up", &["with"], "1 while the authority or the relay is reached, 0 while it is wanted and not reached.");
    CLOCK = gauge("adit_clock_ahead_seconds", &[], "By how much this machine's clock is ahead of the authority's; negative: behind.");
    LIST = gauge("adit_revocation_list_number", &[], "The number of the revocation list that the node holds.");
    WORD_AGE = gauge("adit_revocation_word_age_seconds", &[], "How old the authority's newest word on revocations is.");
    WORD_AGE_MAX = gauge("adit_revocation_word_age_max_seconds", &[], "At which age of that word streams are cut (--revocation-max-age).");
    HANDSHAKES = counter("adit_handshakes_total", &["result"], "Handshakes that came to their end (finished, whatever was decided then) or were broken by a bad message (failed).");
    DENIALS = counter("adit_denials_total", &["code"], "Denials given or received, by the code that the log has.");
    ENDED = counter("adit_streams_ended_total", &["code", "reason"], "Streams that ended, by reason; only reasons that occurred.");
    PORTAL_READY = gauge("adit_portal_ready", PORTAL, "1 if the portal can carry a connection now.");
    PORTAL_LANES = gauge("adit_portal_lanes", PORTAL, "Lanes that are ready.");
    PORTAL_PEERS = gauge("adit_portal_peers", PORTAL, "Members at the other ends of its lanes.");
    PORTAL_PARKED = gauge("adit_portal_parked_legs", PORTAL, "Legs that an outlet has parked at the relay.");
    PORTAL_CIRCUITS = gauge("adit_portal_circuits", &["portal", "role", "address", "state"], "Circuits of its lanes: ready, building or retiring.");
    PORTAL_PEAK = gauge("adit_portal_circuits_peak", PORTAL, "Most circuits that an inlet had in use or wanted at once in the last minute.");
    PORTAL_OPEN = gauge("adit_portal_streams_open", PORTAL, "Streams that have not ended.");
    PORTAL_TOTAL = counter("adit_portal_streams_total", PORTAL, "Streams that began, refused ones included.");
    AUTHORITY_SESSIONS = gauge("adit_authority_sessions", &[], "Server: sessions of members with the authority.");
    RELAY_SESSIONS = gauge("adit_relay_sessions", &[], "Server: sessions of members with the relay.");
    SERVED = gauge("adit_relay_addresses_served", &[], "Server: relay addresses that somebody serves now.");
}

const WORKER: &[&str] = &["worker"];

macro_rules! of_worker {
    ($($counter:ident = $how:ident($name:literal, $help:literal);)*) => {
        /// The metrics of each worker, with the names of the counters that they are.
        pub const OF_WORKER: &[(&str, Family)] =
            &[$((stringify!($counter), $how($name, WORKER, $help)),)*];
    };
}

of_worker! {
    streams_open = gauge("adit_streams_open", "Streams that have not ended.");
    apps_waiting = gauge("adit_apps_waiting", "Inlet: apps that wait for a lane.");
    apps_handed = counter("adit_apps_handed_total", "Inlet: apps handed to another worker.");
    bytes_sent = counter("adit_sent_bytes_total", "Bytes from apps and targets, sealed.");
    bytes_received = counter("adit_received_bytes_total", "Bytes opened, for apps and targets.");
    records_sent = counter("adit_records_sent_total", "Records sealed.");
    records_received = counter("adit_records_received_total", "Records opened.");
    lane_sends = counter("adit_lane_sends_total", "Sends on lanes; records sealed divided by this is the batching.");
    lane_receives = counter("adit_lane_receives_total", "Receives on lanes.");
    lane_bytes_moved = counter("adit_lane_moved_bytes_total", "Bytes of records that a receive cut, and that had to be moved.");
    bytes_copied_out = counter("adit_copied_out_bytes_total", "Bytes that an app did not take at once, and that were copied.");
    lanes_open = gauge("adit_lanes_open", "Lanes.");
    lanes_total = counter("adit_lanes_total", "Lanes that were opened.");
    lane_violations = counter("adit_lane_violations_total", "Lanes that ended by a violation or a bad tag of the peer.");
    circuits_open = gauge("adit_circuits_open", "Circuits.");
    circuits_total = counter("adit_circuits_total", "Circuits that were opened.");
    promotions = counter("adit_promotions_total", "Directions that moved from a lane to a circuit.");
    demotions = counter("adit_demotions_total", "Directions that came back to their lane.");
    promotions_starved = counter("adit_promotions_starved_total", "Times a bulk direction found no idle circuit.");
    dedicated_late = counter("adit_dedicated_late_total", "Directions of dedicated streams that found no circuit in time.");
    circuit_bytes_sent = counter("adit_circuit_sent_bytes_total", "Of the bytes sealed, those on circuits.");
    circuit_bytes_received = counter("adit_circuit_received_bytes_total", "Of the bytes opened, those on circuits.");
    circuit_sends = counter("adit_circuit_sends_total", "Sends on circuits.");
    circuit_receives = counter("adit_circuit_receives_total", "Receives on circuits.");
    circuit_bytes_moved = counter("adit_circuit_moved_bytes_total", "Bytes on circuits that had to be moved.");
    key_updates = counter("adit_key_updates_total", "KEY_UPDATEs sent.");
    key_exchanges = counter("adit_key_exchanges_total", "Fresh key exchanges of lanes.");
    links_open = gauge("adit_links_open", "Sessions, handshakes and parked legs.");
    links_handed = counter("adit_links_handed_total", "Of these, those handed to another worker.");
    strangers_open = gauge("adit_strangers_open", "Connections that have not said yet what they are.");
    strangers_refused = counter("adit_strangers_refused_total", "Connections closed because there were too many such.");
    strangers_dropped = counter("adit_strangers_dropped_total", "Connections that said nothing useful, or nothing in time.");
    legs_waiting = gauge("adit_relay_legs_waiting", "Relay: legs that wait for their counterpart.");
    legs_paired = gauge("adit_relay_legs_paired", "Relay: paired legs, two for each lane or circuit.");
    pairs_total = counter("adit_relay_pairs_total", "Relay: pairs that were made.");
    legs_handed = counter("adit_relay_legs_handed_total", "Relay: legs handed to the worker of their address.");
    pairs_handed = counter("adit_relay_pairs_handed_total", "Relay: pairs handed to the worker with the fewest.");
    legs_refused = counter("adit_relay_legs_refused_total", "Relay: legs that were refused.");
    bytes_relayed = counter("adit_relayed_bytes_total", "Relay: bytes passed on.");
    bytes_spliced = counter("adit_relay_spliced_bytes_total", "Relay: of these, bytes that stayed in the kernel.");
    splices = counter("adit_relay_splices_total", "Relay: moves of bytes from a leg into a pipe.");
    pipes_in_use = gauge("adit_relay_pipes_in_use", "Relay: directions that have a pipe.");
    pipes_refused = counter("adit_relay_pipes_refused_total", "Relay: times that no pipe was to be had.");
    starved = counter("adit_buffer_waits_total", "Times that something waited for a buffer.");
    mailbox_full = counter("adit_mailbox_full_total", "Times that an event waited because control's queue was full.");
    hints_dropped = counter("adit_hints_dropped_total", "Hints to control that were dropped because its queue stayed full.");
    spins = counter("adit_spins_total", "Times that it looked for completions before it slept (--spin).");
    spins_hit = counter("adit_spins_hit_total", "Of these, times that something came.");
    turns = counter("adit_turns_total", "Turns of the worker's loop.");
}

/// A counter that is no metric: an app that moves to another worker takes its count along, and a number
/// that steps back looks like a restart. The streams of portals are counted instead.
pub const NOT_SHOWN: &str = "streams_total";

/// All of them.
pub fn all() -> impl Iterator<Item = Family> {
    let of_worker = OF_WORKER.iter().map(|(_, family)| *family);
    OF_PROCESS.iter().copied().chain(of_worker)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    const MONITORING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/monitoring");

    const HEAD: &str = "\
# Metrics

`adit serve`, `inlet`, `outlet` and `run` answer a monitoring system where one is wanted:

```sh
adit inlet … --metrics 127.0.0.1:9464      # or ADIT_METRICS, or metrics = \"127.0.0.1:9464\" in the file of adit run
```

| request | answer |
|---|---|
| `GET /metrics` | every number below, in Prometheus' text format |
| `GET /livez` | 200 while the process answers; depends on nothing outside |
| `GET /readyz` | 200 while every portal can carry a connection (or the server serves), else 503 and why |

There is no listener unless an address is given. Who reaches it can read the numbers below, which name relay
addresses and no member; there is no password, so give it an address that only the monitoring system reaches.
It speaks plain HTTP/1.1, answers one request a connection, and takes few callers at once.

[packaging/monitoring](../packaging/monitoring) has a dashboard for Grafana and alert rules for Prometheus.

A name never changes its meaning. Counters begin with 0 when the process starts. Of counters with the label
`worker` each thread that moves bytes has its own: take the sum.

This page is made of the texts in the program (`UPDATE_DOCS=1 cargo test -p proxy --lib metrics`).
";

    fn page() -> String {
        let mut page = HEAD.to_owned();
        let tables: [(&str, Vec<Family>); 2] = [
            ("The process and its portals", OF_PROCESS.to_vec()),
            ("Each worker", OF_WORKER.iter().map(|(_, it)| *it).collect()),
        ];
        for (title, families) in tables {
            page.push_str(&format!(
                "\n## {title}\n\n| name | kind | labels | meaning |\n|---|---|---|---|\n"
            ));
            for family in families {
                page.push_str(&format!(
                    "| `{}` | {} | {} | {} |\n",
                    family.name,
                    family.kind.word(),
                    family.labels.join(", "),
                    family.help
                ));
            }
        }
        page
    }

    #[test]
    fn the_page_of_metrics_is_what_the_code_says() {
        let made = page();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            return std::fs::write(PAGE, made).unwrap();
        }
        let stands = std::fs::read_to_string(PAGE).unwrap();
        assert!(
            stands == made,
            "UPDATE_DOCS=1 cargo test -p proxy --lib metrics"
        );
    }

    #[test]
    fn names_are_used_once_and_say_what_kind_they_are() {
        let mut names = BTreeSet::new();
        for family in all() {
            assert!(names.insert(family.name), "{} is used twice", family.name);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(family.name.starts_with("adit_") && family.name.chars().all(plain));
            let grows = family.kind == Kind::Counter;
            assert_eq!(family.name.ends_with("_total"), grows, "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\']));
        }
    }

    /// The words of a text that look like a metric.
    fn named(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with("adit_")).collect()
    }

    #[test]
    fn the_dashboard_and_the_alerts_name_metrics_that_there_are() {
        let known: BTreeSet<&str> = all().map(|family| family.name).collect();
        for file in ["dashboard.json", "alerts.yml"] {
            let text = std::fs::read_to_string(format!("{MONITORING}/{file}")).unwrap();
            let named = named(&text);
            assert!(named.len() > 5, "{file} names {named:?}");
            let unknown: Vec<_> = named.difference(&known).collect();
            assert!(unknown.is_empty(), "{file}: {unknown:?}");
        }
        assert_eq!(named("sum(rate(adit_x[5m]))"), BTreeSet::from(["adit_x"]));
    }

    #[test]
    fn the_dashboard_is_json() {
        let text = std::fs::read_to_string(format!("{MONITORING}/dashboard.json")).unwrap();
        let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let asks = |panel: &serde_json::Value| panel["targets"][0]["expr"].is_string();
        assert!(
            panels
                .iter()
                .filter(|panel| panel["type"] != "row")
                .all(asks)
        );
    }
}

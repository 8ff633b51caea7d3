//! One end of a lane with a peer that says anything. Each record of the peer is taken or ends the
//! lane; this end's invariants hold to the last.
//!
//! ```text
//! role u8 (0 inlet, else outlet) ‖ step …
//! step = what this end does u8 ‖ inner header 4 ‖ payload length u8 ‖ payload
//! ```

use std::collections::BTreeMap;

use proxy::error::CloseReason;
use proxy::ids::StreamNo;
use proxy::limits::{CREDIT_BUDGET, LANE_CREDENTIAL_MAX, LANE_PAYLOAD_MAX};
use proxy::protocol::command::Role;
use proxy::protocol::lane::{Lane, LaneShared, Reaction, StreamKey};
use proxy::protocol::record::{Body, Header, Kind, Open};
use proxy::time::{Duration, Instant};

use crate::Target;

const BEGIN: Instant = Instant::from_nanos(1_000_000_000);
const MILLIS: u64 = 1_800_000_000_000;
/// Apps that one run opens.
const APPS: u32 = 50;

/// An app, or a target, behind this end.
struct App {
    n: StreamNo,
    /// It ended its direction, and was told that the other one ended.
    fin: bool,
    told: bool,
    reset: bool,
}

impl App {
    fn new(n: StreamNo) -> App {
        App {
            n,
            fin: false,
            told: false,
            reset: false,
        }
    }
}

struct End {
    lane: Lane,
    role: Role,
    now: Instant,
    next: u32,
    apps: BTreeMap<StreamKey, App>,
}

fn open(target: &str) -> Open {
    Open {
        target: target.into(),
        authority_millis: MILLIS,
        app: None,
        dedicated: false,
    }
}

impl End {
    fn new(role: Role) -> End {
        let shared = LaneShared::new(CREDIT_BUDGET);
        shared.set_authority_time(MILLIS, BEGIN);
        End {
            lane: Lane::new(role, &shared),
            role,
            now: BEGIN,
            next: 0,
            apps: BTreeMap::new(),
        }
    }

    fn key(&mut self) -> StreamKey {
        self.next += 1;
        StreamKey(self.next)
    }

    /// Carries out what the lane has decided; `len` is the payload of the record behind it.
    fn react(&mut self, len: usize) {
        while let Some(reaction) = self.lane.poll_reaction() {
            if let Reaction::Connect { n, .. } = reaction {
                let key = self.key();
                self.apps.insert(key, App::new(n));
                self.lane.bind(n, key);
                if self.next.is_multiple_of(5) {
                    self.lane.on_connect_failed(n, CloseReason::TargetRefused);
                } else {
                    self.lane.on_connected(n);
                }
            } else if let Reaction::Deliver { n, key } | Reaction::Hold { n, key } = reaction {
                let app = &self.apps[&key];
                assert!(!app.told && !app.reset, "bytes behind an end");
                self.lane.on_delivered(n, len);
            } else if let Reaction::FinToApp { key, .. } = reaction {
                let app = self.apps.get_mut(&key).expect("an app that is there");
                assert!(!app.told && !app.reset, "a second end");
                app.told = true;
                self.closed(key);
            } else if let Reaction::ResetApp { key, .. } = reaction {
                let app = self.apps.get_mut(&key).expect("an app that is there");
                assert!(!app.reset, "a second reset");
                app.reset = true;
            } else if let Reaction::Freed { key, .. } | Reaction::Retry { key, .. } = reaction {
                let gone = self.apps.remove(&key);
                assert!(gone.is_some(), "freed twice");
            }
        }
        self.lane.check();
    }

    /// A target whose both directions have ended is closed.
    fn closed(&mut self, key: StreamKey) {
        let over = self.apps.get(&key).filter(|app| app.fin && app.told);
        if let Some(n) = over.map(|app| app.n)
            && self.role == Role::Outlet
        {
            self.lane.on_app_closed(n);
        }
    }

    /// Something that this end does by itself.
    fn act(&mut self, what: u8) {
        let live = self.apps.iter().filter(|(_, app)| !app.reset);
        let live: Vec<(StreamKey, StreamNo)> = live.map(|(key, app)| (*key, app.n)).collect();
        let one = live
            .get(usize::from(what >> 3) % live.len().max(1))
            .copied();
        match (what % 8, one) {
            (1, _) if self.role == Role::Inlet && self.next < APPS => {
                let key = self.key();
                if let Ok(n) = self.lane.open(self.now, key, &open("postgres")) {
                    self.apps.insert(key, App::new(n));
                }
            }
            (2, Some((key, n))) if !self.apps[&key].fin => {
                self.drain();
                let len = self.lane.sendable(n).min(1000);
                if len > 0 {
                    self.lane.on_app_data(n, len);
                }
            }
            (3, Some((key, n))) => {
                let app = self.apps.get_mut(&key).expect("an app that is there");
                if !std::mem::replace(&mut app.fin, true) {
                    self.lane.on_app_fin(n);
                    self.closed(key);
                }
            }
            (4, Some((key, n))) => {
                if let Some(app) = self.apps.get_mut(&key) {
                    app.reset = true;
                }
                self.lane.on_app_reset(n, CloseReason::AppReset);
            }
            (5, _) => {
                self.now = self.now + Duration::from_secs(4);
                self.lane.on_timer(self.now);
            }
            (6, _) => self.lane.retire(),
            (7, _) => {
                self.lane.ping(self.now);
            }
            _ => {}
        }
        self.react(0);
    }

    fn drain(&mut self) {
        let mut payload = [0; LANE_CREDENTIAL_MAX];
        while let Some((_, len)) = self.lane.next_control(&mut payload) {
            assert!(len <= LANE_PAYLOAD_MAX);
        }
        self.react(0);
    }
}

fn body(bytes: &[u8]) -> bool {
    let Some((&role, mut rest)) = bytes.split_first() else {
        return false;
    };
    let role = if role == 0 { Role::Inlet } else { Role::Outlet };
    let mut end = End::new(role);
    end.react(0);
    end.drain();
    let mut taken = 0;
    while let Some((&[what, a, b, c, d, len], behind)) = rest.split_first_chunk::<6>() {
        let len = usize::from(len).min(behind.len());
        let (payload, behind) = behind.split_at(len);
        rest = behind;
        end.act(what);
        // The worker checks header and length before the lane sees a record.
        let Ok(header) = Header::parse([a, b, c, d]) else {
            break;
        };
        match end.lane.on_record(end.now, header, payload) {
            Ok(()) => taken += 1,
            Err(violation) => {
                end.lane.on_lost(violation.reason());
                end.react(0);
                assert!(end.apps.is_empty(), "a lane that is gone holds apps");
                return false;
            }
        }
        end.react(len);
        end.drain();
    }
    end.lane.on_lost(CloseReason::TunnelLost);
    end.react(0);
    assert!(end.apps.is_empty(), "a lane that is gone holds apps");
    taken > 0
}

fn step(what: u8, stream: u16, record: &Body<'_>) -> Vec<u8> {
    let mut payload = [0; LANE_CREDENTIAL_MAX];
    let len = record.encode(&mut payload).expect("there is room");
    let header = Header::new(record.kind(), StreamNo(stream));
    raw(what, header.encode(), &payload[..len])
}

fn raw(what: u8, header: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("a short payload");
    [&[what], header.as_slice(), &[len], payload].concat()
}

fn data(what: u8, stream: u16, payload: &[u8]) -> Vec<u8> {
    raw(
        what,
        Header::new(Kind::Data, StreamNo(stream)).encode(),
        payload,
    )
}

/// A lane and a peer that says anything.
pub const LANE: Target = Target {
    name: "lane",
    body,
    seeds: || {
        let outlet = [
            vec![1],
            step(0, 1, &Body::Open(open("postgres"))),
            data(0, 1, b"hello"),
            step(2, 1, &Body::Credit(1000)),
            step(3, 1, &Body::End(5)),
            step(5, 0, &Body::Ping(7)),
            step(0, 2, &Body::Open(open("postgres"))),
            step(0, 2, &Body::Abort(CloseReason::AppReset.code())),
            step(6, 0, &Body::KeyUpdate(None)),
        ];
        let inlet = [
            vec![0],
            step(0, 0, &Body::Ready),
            step(1, 1, &Body::Opened),
            data(2, 1, b"hello"),
            step(3, 1, &Body::End(5)),
            step(0, 1, &Body::Closed),
            step(1, 1, &Body::Refused(CloseReason::TargetRefused.code())),
            step(7, 0, &Body::Retire),
        ];
        vec![("outlet", outlet.concat()), ("inlet", inlet.concat())]
    },
};

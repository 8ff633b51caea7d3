//! An inlet's and an outlet's lane, the records on their way, and the apps behind both.
//!
//! The world keeps the lane's contract as a worker does: control records leave before DATA, FIN
//! is told when everything before it was sealed, and a freed key is never spoken of again. It
//! checks what apps may see: bytes in full before a FIN, and never a FIN for a reset.

use std::collections::{BTreeMap, VecDeque};

use super::super::*;
use crate::limits::{CREDIT_BUDGET, LANE_PAYLOAD_MAX};
use crate::protocol::record::{Body, Header, Kind, Open};
use crate::time::{Duration, Instant};

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Inlet,
    Outlet,
}

impl Side {
    pub(super) fn other(self) -> Side {
        if self == Side::Inlet {
            Side::Outlet
        } else {
            Side::Inlet
        }
    }
}

/// An app or a target, as the owner of its socket sees it.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) n: Option<StreamNo>,
    /// What it has sent into the lane.
    pub(super) sent: u64,
    /// What was handed over for it and is not written.
    pub(super) pending: usize,
    /// What was written to it.
    pub(super) got: u64,
    /// Outlet: not connected yet.
    pub(super) connecting: bool,
    /// Its credit is used up, and it is not read until `Resume` comes.
    pub(super) starved: bool,
    /// It sent its FIN.
    pub(super) fin_sent: bool,
    /// It is to get a FIN behind what is pending.
    pub(super) fin_due: bool,
    /// Its connection was reset by us.
    pub(super) reset: Option<CloseReason>,
    /// The lane is done with it.
    pub(super) freed: Option<CloseReason>,
}

impl App {
    /// Whether the lane still knows it.
    pub(super) fn is_live(&self) -> bool {
        self.freed.is_none()
    }
}

/// One end with its apps. An app's key is its place.
#[derive(Debug)]
pub(super) struct End {
    pub(super) lane: Lane,
    pub(super) shared: LaneShared,
    pub(super) apps: Vec<App>,
    /// Everything else that the lane said.
    pub(super) said: Vec<Reaction>,
    /// Outlet: streams that wait for `connected` or `failed`.
    pub(super) connecting: Vec<usize>,
    /// The exchange whose secret is held.
    pub(super) held: Option<u32>,
    /// The last exchange that is over.
    pub(super) mixed: u32,
}

impl End {
    fn new(role: Role, credit: usize) -> End {
        let shared = LaneShared::new(credit);
        shared.set_authority_time(NOW_MILLIS, Instant::ZERO);
        let (apps, said, connecting) = (Vec::new(), Vec::new(), Vec::new());
        End {
            lane: Lane::new(role, &shared),
            shared,
            apps,
            said,
            connecting,
            held: None,
            mixed: 0,
        }
    }

    pub(super) fn n(&self, app: usize) -> StreamNo {
        self.apps[app].n.unwrap_or(StreamNo::LANE)
    }
}

/// The authority's time at the beginning.
pub(super) const NOW_MILLIS: u64 = 1_700_000_000_000;

/// A record on its way; of DATA only the length.
pub(super) type Wire = VecDeque<(Header, Vec<u8>)>;

/// The world.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) inlet: End,
    pub(super) outlet: End,
    to_outlet: Wire,
    to_inlet: Wire,
    /// Which app of the outlet belongs to which of the inlet.
    pub(super) pairs: BTreeMap<usize, usize>,
    /// Which app of the inlet had a number last.
    holders: BTreeMap<StreamNo, usize>,
    /// The outlet takes whom it is asked for at once.
    pub(super) eager: bool,
    /// Both controls answer the messages of key exchanges, which are their numbers, at once.
    pub(super) exchanges: bool,
}

pub(super) fn open_at(target: &str, authority_millis: u64) -> Open {
    Open {
        target: target.to_owned(),
        authority_millis,
        app: None,
        dedicated: false,
    }
}

impl World {
    pub(super) fn new() -> World {
        World::with_credit(CREDIT_BUDGET)
    }

    pub(super) fn with_credit(credit: usize) -> World {
        World {
            now: Instant::ZERO,
            inlet: End::new(Role::Inlet, credit),
            outlet: End::new(Role::Outlet, credit),
            to_outlet: Wire::new(),
            to_inlet: Wire::new(),
            pairs: BTreeMap::new(),
            holders: BTreeMap::new(),
            eager: true,
            exchanges: true,
        }
    }

    /// With READY read.
    pub(super) fn ready() -> World {
        let mut world = World::new();
        world.settle();
        world
    }

    pub(super) fn end(&mut self, side: Side) -> &mut End {
        if side == Side::Inlet {
            &mut self.inlet
        } else {
            &mut self.outlet
        }
    }

    /// The records on their way to that end.
    pub(super) fn wire_to(&mut self, side: Side) -> &mut Wire {
        if side == Side::Inlet {
            &mut self.to_inlet
        } else {
            &mut self.to_outlet
        }
    }

    // ---- what apps do ----------------------------------------------------------------------

    /// An app connects to the inlet; its place.
    pub(super) fn open(&mut self) -> Result<usize, OpenRefused> {
        let app = self.inlet.apps.len();
        let key = StreamKey(u32::try_from(app).unwrap_or(u32::MAX));
        let millis = self.inlet.shared.authority_millis(self.now).unwrap_or(0);
        let n = self
            .inlet
            .lane
            .open(self.now, key, &open_at("postgres", millis))?;
        let early = self.to_inlet.iter().any(|(header, _)| header.stream == n);
        assert!(
            !early,
            "number {} is used again with a record of its old stream under way",
            n.0
        );
        self.inlet.apps.push(App {
            n: Some(n),
            ..App::default()
        });
        self.holders.insert(n, app);
        self.react(Side::Inlet, &[]);
        Ok(app)
    }

    /// The app sends up to `len` bytes; how many were sealed.
    pub(super) fn send(&mut self, side: Side, app: usize, len: usize) -> usize {
        self.pull_control(side);
        let end = self.end(side);
        let n = end.n(app);
        let len = len.min(end.lane.sendable(n)).min(LANE_PAYLOAD_MAX);
        if len > 0 {
            end.lane.on_app_data(n, len);
            end.apps[app].sent += len as u64;
            let record = (Header::new(Kind::Data, n), vec![0; len]);
            self.wire_to(side.other()).push_back(record);
        }
        let end = self.end(side);
        end.apps[app].starved = end.lane.sendable(n) == 0;
        self.react(side, &[]);
        len
    }

    pub(super) fn fin(&mut self, side: Side, app: usize) {
        let end = self.end(side);
        end.apps[app].fin_sent = true;
        let n = end.n(app);
        end.lane.on_app_fin(n);
        self.react(side, &[]);
    }

    pub(super) fn reset(&mut self, side: Side, app: usize) {
        let end = self.end(side);
        let n = end.n(app);
        end.lane.on_app_reset(n, CloseReason::AppReset);
        end.connecting.retain(|&waiting| waiting != app);
        self.react(side, &[]);
        assert!(
            !self.end(side).apps[app].is_live(),
            "a reset app is freed at once"
        );
    }

    /// Up to `len` pending bytes are written to the app; then its FIN, if due.
    pub(super) fn write(&mut self, side: Side, app: usize, len: usize) {
        let end = self.end(side);
        let n = end.n(app);
        let one = &mut end.apps[app];
        let len = len.min(one.pending);
        if one.connecting || len == 0 {
            return;
        }
        one.pending -= len;
        one.got += len as u64;
        end.lane.on_delivered(n, len);
        self.react(side, &[]);
    }

    /// The target's connection is closed, if everything is over.
    pub(super) fn close_if_done(&mut self, app: usize) -> bool {
        let one = &self.outlet.apps[app];
        let done = one.is_live() && one.fin_sent && one.fin_due && one.pending == 0;
        if done {
            self.outlet.lane.on_app_closed(self.outlet.n(app));
            self.react(Side::Outlet, &[]);
        }
        done
    }

    pub(super) fn connected(&mut self, app: usize) {
        self.outlet.connecting.retain(|&waiting| waiting != app);
        self.outlet.apps[app].connecting = false;
        self.outlet.lane.on_connected(self.outlet.n(app));
        self.react(Side::Outlet, &[]);
    }

    pub(super) fn failed(&mut self, app: usize, why: CloseReason) {
        self.outlet.connecting.retain(|&waiting| waiting != app);
        self.outlet.lane.on_connect_failed(self.outlet.n(app), why);
        self.react(Side::Outlet, &[]);
    }

    // ---- what the network does -------------------------------------------------------------

    /// Seals every control record that is queued.
    pub(super) fn pull_control(&mut self, side: Side) {
        let mut payload = [0; 256];
        while self.end(side).lane.has_control() {
            let left = self.end(side).lane.next_control(&mut payload);
            assert!(left.is_some(), "what is queued can leave");
            let Some((header, len)) = left else { return };
            self.wire_to(side.other())
                .push_back((header, payload[..len].to_vec()));
        }
        if self.exchanges
            && let Some(number) = self.end(side).lane.mix_due()
        {
            assert_eq!(self.end(side).held, Some(number));
            let mixes = record(&Body::KeyUpdate(Some(number)), 0);
            self.wire_to(side.other()).push_back(mixes);
            self.end(side).lane.on_mixed();
        }
        self.react(side, &[]);
    }

    /// Control's answer to a message of a key exchange.
    fn on_exchange(&mut self, side: Side, number: u32, message: &[u8]) {
        let end = self.end(side);
        match message {
            [1] => end.lane.exchange(number, vec![2]),
            [2] => {
                assert!(end.lane.mix(number, Some(vec![3])));
                end.held = Some(number);
            }
            [3] => {
                assert!(end.lane.mix(number, None));
                end.held = Some(number);
            }
            other => unreachable!("{other:?}"),
        }
    }

    /// One record arrives. Whether there was one.
    pub(super) fn arrive(&mut self, side: Side) -> bool {
        let Some((header, payload)) = self.wire_to(side).pop_front() else {
            return false;
        };
        let now = self.now;
        let taken = self.end(side).lane.on_record(now, header, &payload);
        assert_eq!(taken, Ok(()), "a record of an honest peer: {header:?}");
        self.react(side, &payload);
        true
    }

    /// Everything queued leaves, everything under way arrives.
    pub(super) fn settle(&mut self) {
        loop {
            self.pull_control(Side::Inlet);
            self.pull_control(Side::Outlet);
            let arrived = self.arrive(Side::Inlet) | self.arrive(Side::Outlet);
            if !arrived && self.to_inlet.is_empty() && self.to_outlet.is_empty() {
                break;
            }
        }
        self.check();
    }

    /// Time passes.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for side in [Side::Inlet, Side::Outlet] {
            let now = self.now;
            if self.end(side).lane.next_deadline() <= now {
                self.end(side).lane.on_timer(now);
                self.react(side, &[]);
            }
        }
    }

    /// The tunnel is gone for both.
    pub(super) fn lose(&mut self) {
        self.to_inlet.clear();
        self.to_outlet.clear();
        for side in [Side::Inlet, Side::Outlet] {
            self.end(side).lane.on_lost(CloseReason::TunnelLost);
            self.react(side, &[]);
        }
    }

    pub(super) fn check(&self) {
        for end in [&self.inlet, &self.outlet] {
            end.lane.check();
            for app in end.apps.iter().filter(|app| app.is_live() && app.starved) {
                let credit = app.n.map(|n| end.lane.sendable(n));
                assert_eq!(credit, Some(0), "credit came and nobody was told");
            }
        }
        if self.to_inlet.is_empty() && self.to_outlet.is_empty() {
            let quiet = !self.inlet.lane.has_control() && !self.outlet.lane.has_control();
            if quiet && self.inlet.lane.phase == Phase::Up {
                self.inlet.lane.check_against(&self.outlet.lane);
            }
        }
    }

    // ---- what the lanes want ---------------------------------------------------------------

    fn react(&mut self, side: Side, payload: &[u8]) {
        while let Some(reaction) = self.end(side).lane.poll_reaction() {
            self.carry_out(side, reaction, payload);
        }
        self.check();
    }

    fn carry_out(&mut self, side: Side, reaction: Reaction, payload: &[u8]) {
        let (eager, exchanges) = (self.eager, self.exchanges);
        let end = self.end(side);
        let app = |key: StreamKey| key.0 as usize;
        match reaction {
            Reaction::Connect { n, .. } => {
                let place = end.apps.len();
                end.lane
                    .bind(n, StreamKey(u32::try_from(place).unwrap_or(u32::MAX)));
                end.apps.push(App {
                    n: Some(n),
                    connecting: true,
                    ..App::default()
                });
                end.connecting.push(place);
                if let Some(&opener) = self.holders.get(&n) {
                    self.pairs.insert(opener, place);
                }
                if eager {
                    self.connected(place);
                }
            }
            Reaction::Deliver { key, .. } | Reaction::Hold { key, .. } => {
                let held = matches!(reaction, Reaction::Hold { .. });
                let one = &mut end.apps[app(key)];
                assert!(
                    one.is_live() && !one.fin_due,
                    "bytes behind a FIN or a last word"
                );
                assert_eq!(
                    one.connecting, held,
                    "bytes are held for a target exactly until then"
                );
                one.pending += payload.len();
            }
            Reaction::FinToApp { key, .. } => {
                let one = &mut end.apps[app(key)];
                assert!(one.is_live() && !one.fin_due, "a second FIN");
                one.fin_due = true;
            }
            Reaction::ResetApp { key, why, .. } => {
                let one = &mut end.apps[app(key)];
                assert!(
                    one.is_live() && one.reset.is_none(),
                    "a reset behind a last word"
                );
                one.reset = Some(why);
                one.pending = 0;
                end.connecting.retain(|&waiting| waiting != app(key));
            }
            Reaction::Retry { key, .. } => {
                let one = &mut end.apps[app(key)];
                assert!(one.is_live() && one.got == 0);
                one.freed = Some(CloseReason::LaneRetiring);
            }
            Reaction::Freed {
                key,
                why,
                sent,
                received,
                ..
            } => {
                let one = &mut end.apps[app(key)];
                assert!(one.is_live(), "a second last word");
                assert_eq!((one.sent, one.got), (sent, received), "the report's counts");
                let clean = one.fin_sent && one.fin_due && one.pending == 0 && one.reset.is_none();
                assert!(
                    why != CloseReason::Finished || clean,
                    "finished before its end: {one:?}"
                );
                one.freed = Some(why);
            }
            Reaction::Resume { key, .. } => {
                assert!(end.apps[app(key)].is_live());
                assert!(
                    end.lane.sendable(end.n(app(key))) > 0,
                    "resumed without credit"
                );
                end.apps[app(key)].starved = false;
            }
            Reaction::Exchange { number, message } if exchanges => {
                self.on_exchange(side, number, &message);
            }
            Reaction::KeyUpdate { mix: Some(number) } => assert_eq!(end.held, Some(number)),
            Reaction::Mixed { number } => {
                end.held = None;
                end.mixed = number;
            }
            Reaction::Exchange { .. }
            | Reaction::Behind { .. }
            | Reaction::Merge { .. }
            | Reaction::Moved { .. }
            | Reaction::CircuitReady { .. }
            | Reaction::CircuitDenied { .. }
            | Reaction::CircuitRead { .. }
            | Reaction::CircuitIdle { .. }
            | Reaction::CircuitDead { .. }
            | Reaction::Want(_)
            | Reaction::Refused { .. }
            | Reaction::Opened { .. }
            | Reaction::Ready
            | Reaction::Denied(_)
            | Reaction::Retiring
            | Reaction::KeyUpdate { .. }
            | Reaction::Credential(_)
            | Reaction::Pong { .. } => end.said.push(reaction),
        }
    }

    /// Asserts what apps may have seen: a FIN only behind everything that the other one sent
    /// before its FIN, and a finished stream at both ends or neither.
    pub(super) fn check_apps(&self) {
        for (&opener, &target) in &self.pairs {
            let (a, b) = (&self.inlet.apps[opener], &self.outlet.apps[target]);
            for (from, to) in [(a, b), (b, a)] {
                assert!(to.got <= from.sent, "bytes that nobody sent");
                if to.fin_due {
                    assert!(from.fin_sent, "a FIN that nobody sent");
                    assert!(
                        to.reset.is_some()
                            || to.got + to.pending as u64 == from.sent
                            || to.freed.is_some(),
                        "a FIN before all bytes: {from:?} {to:?}"
                    );
                }
                if to.freed == Some(CloseReason::Finished) {
                    assert_eq!(
                        (to.got, to.fin_due),
                        (from.sent, true),
                        "all bytes, then FIN"
                    );
                }
            }
        }
    }
}

/// What a record to be given to a lane looks like.
pub(super) fn record(body: &Body<'_>, n: u16) -> (Header, Vec<u8>) {
    let mut payload = [0; 256];
    let len = body.encode(&mut payload).unwrap_or(0);
    (
        Header::new(body.kind(), StreamNo(n)),
        payload[..len].to_vec(),
    )
}

/// Gives one end a record that nobody sent; its reactions are left.
pub(super) fn give(
    world: &mut World,
    side: Side,
    body: &Body<'_>,
    n: u16,
) -> Result<(), Violation> {
    let (header, payload) = record(body, n);
    let now = world.now;
    world.end(side).lane.on_record(now, header, &payload)
}

/// A world with one stream that both ends have, both keys 0.
pub(super) fn one_stream() -> World {
    let mut world = World::ready();
    assert_eq!(world.open(), Ok(0));
    world.settle();
    world
}

//! Two ends of a bundle: the lane's two pipes, two pipes per circuit, and apps that count bytes.
//!
//! Every pipe delivers in order and at any time; the pipes know nothing of each other. Each DATA
//! carries where its bytes begin in the sender's direction, so that what is written to an app is
//! known to be the next byte and no other.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::super::*;
use super::world::{NOW_MILLIS, Side, open_at};
use crate::ids::CircuitNo;
use crate::limits::{CREDIT_BUDGET, LANE_PAYLOAD_MAX};
use crate::protocol::record::{Header, Kind};
use crate::time::{Duration, Instant};

/// Longest DATA of these tests; sizes don't matter to a lane.
pub(super) const LONGEST: usize = LANE_PAYLOAD_MAX;
const ZEROS: [u8; LONGEST] = [0; LONGEST];

/// A record on its way: of DATA the place of its bytes.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) header: Header,
    payload: Vec<u8>,
    bytes: Range<u64>,
}

/// An app or target.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) n: Option<StreamNo>,
    pub(super) sent: u64,
    pub(super) fin_sent: bool,
    pub(super) connecting: bool,
    /// From the lane, to be written.
    lane: VecDeque<Range<u64>>,
    /// From the lane, behind what the circuit still brings.
    behind: VecDeque<Range<u64>>,
    /// From the circuit: it waits until this is written.
    circuit: Option<(CircuitNo, Range<u64>)>,
    pub(super) got: u64,
    pub(super) fin_due: bool,
    pub(super) freed: Option<CloseReason>,
}

impl App {
    pub(super) fn is_live(&self) -> bool {
        self.freed.is_none()
    }

    pub(super) fn is_written(&self) -> bool {
        self.lane.is_empty() && self.behind.is_empty() && self.circuit.is_none()
    }
}

/// One end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) lane: Lane,
    pub(super) shared: LaneShared,
    pub(super) apps: Vec<App>,
    /// Circuits whose next record is not given to the lane: they wait for SWITCH.
    waiting: Vec<CircuitNo>,
    pub(super) wants: u16,
    pub(super) idle: u64,
}

/// The pipe of a circuit towards an end.
type Pipes = BTreeMap<(u8, CircuitNo), VecDeque<Sent>>;

#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) now: Instant,
    ends: [End; 2],
    lanes: [VecDeque<Sent>; 2],
    circuits: Pipes,
    /// Circuits that are gone, by the end that has not heard of it.
    lost: Vec<(Side, CircuitNo)>,
    pairs: BTreeMap<usize, usize>,
    holders: BTreeMap<StreamNo, usize>,
    next_circuit: u16,
    pub(super) moved: u64,
    pub(super) returned: u64,
}

fn place(side: Side) -> usize {
    usize::from(side == Side::Outlet)
}

pub(super) const SIDES: [Side; 2] = [Side::Inlet, Side::Outlet];

impl Bundle {
    pub(super) fn new() -> Bundle {
        let end = |role| {
            let shared = LaneShared::new(CREDIT_BUDGET);
            shared.set_authority_time(NOW_MILLIS, Instant::ZERO);
            End {
                lane: Lane::new(role, &shared),
                shared,
                apps: Vec::new(),
                waiting: Vec::new(),
                wants: 0,
                idle: 0,
            }
        };
        let mut bundle = Bundle {
            now: Instant::ZERO,
            ends: [end(Role::Inlet), end(Role::Outlet)],
            lanes: [VecDeque::new(), VecDeque::new()],
            circuits: Pipes::new(),
            lost: Vec::new(),
            pairs: BTreeMap::new(),
            holders: BTreeMap::new(),
            next_circuit: 0,
            moved: 0,
            returned: 0,
        };
        bundle.settle();
        bundle
    }

    pub(super) fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[place(side)]
    }

    pub(super) fn lane(&mut self, side: Side) -> &mut Lane {
        &mut self.end(side).lane
    }

    pub(super) fn n(&mut self, side: Side, app: usize) -> StreamNo {
        self.end(side).apps[app].n.unwrap_or(StreamNo::LANE)
    }

    // ---- circuits --------------------------------------------------------------------------

    pub(super) fn add_circuit(&mut self) -> CircuitNo {
        self.next_circuit += 1;
        let no = CircuitNo(self.next_circuit);
        for side in SIDES {
            assert!(self.lane(side).add_circuit(no), "{no:?} is new");
            self.circuits
                .insert((place(side) as u8, no), VecDeque::new());
            self.react(side, None);
        }
        no
    }

    pub(super) fn circuits(&self) -> Vec<CircuitNo> {
        let of_inlet = self.circuits.keys().filter(|(end, _)| *end == 0);
        of_inlet.map(|&(_, no)| no).collect()
    }

    /// What is on its way on the circuit disappears; each end hears of it some time.
    pub(super) fn break_circuit(&mut self, no: CircuitNo) {
        for side in SIDES {
            self.circuits.remove(&(place(side) as u8, no));
            self.lost.push((side, no));
        }
    }

    /// One end hears of a loss.
    pub(super) fn hear_of_loss(&mut self, at: usize) {
        if self.lost.is_empty() {
            return;
        }
        let (side, no) = self.lost.swap_remove(at % self.lost.len());
        self.lane(side).on_circuit_lost(no, CloseReason::TunnelLost);
        let end = self.end(side);
        end.waiting.retain(|&waiting| waiting != no);
        for app in &mut end.apps {
            if app.circuit.as_ref().is_some_and(|(on, _)| *on == no) && app.is_live() {
                // What the circuit has brought belongs to a stream that is reset below.
                app.circuit = None;
            }
        }
        self.react(side, None);
    }

    // ---- what apps do ----------------------------------------------------------------------

    pub(super) fn open(&mut self) -> Option<usize> {
        let app = self.ends[0].apps.len();
        let key = StreamKey(u32::try_from(app).unwrap_or(u32::MAX));
        let now = self.now;
        let millis = self.ends[0].shared.authority_millis(now).unwrap_or(0);
        let n = self
            .lane(Side::Inlet)
            .open(now, key, &open_at("postgres", millis))
            .ok()?;
        let early = self.lanes[0].iter().any(|sent| sent.header.stream == n);
        assert!(!early, "a number is used again with a record under way");
        self.ends[0].apps.push(App {
            n: Some(n),
            ..App::default()
        });
        self.holders.insert(n, app);
        self.react(Side::Inlet, None);
        Some(app)
    }

    pub(super) fn connected(&mut self, app: usize) {
        let n = self.n(Side::Outlet, app);
        self.ends[1].apps[app].connecting = false;
        self.lane(Side::Outlet).on_connected(n);
        self.react(Side::Outlet, None);
    }

    /// The app sends up to `len` bytes where its direction is; how many.
    pub(super) fn send(&mut self, side: Side, app: usize, len: usize) -> usize {
        let n = self.n(side, app);
        self.pull_lane(side);
        let len = len.min(LONGEST);
        if let Some(no) = self.lane(side).sends_on(n) {
            self.pull_circuit(side, no);
            self.lane(side).on_circuit_data(n, len);
            let sent = self.data(side, app, len);
            if let Some(pipe) = self.circuits.get_mut(&(place(side.other()) as u8, no)) {
                pipe.push_back(sent);
            }
            return len;
        }
        let len = len.min(self.lane(side).sendable(n));
        if len > 0 {
            self.lane(side).on_app_data(n, len);
            let sent = self.data(side, app, len);
            self.lanes[place(side.other())].push_back(sent);
        }
        len
    }

    fn data(&mut self, side: Side, app: usize, len: usize) -> Sent {
        let n = self.n(side, app);
        let one = &mut self.end(side).apps[app];
        let from = one.sent;
        one.sent += len as u64;
        Sent {
            header: Header::new(Kind::Data, n),
            payload: vec![0; len],
            bytes: from..one.sent,
        }
    }

    pub(super) fn promote(&mut self, side: Side, app: usize) -> Result<CircuitNo, Stays> {
        let n = self.n(side, app);
        let promoted = self.lane(side).promote(n);
        self.react(side, None);
        promoted
    }

    pub(super) fn go_back(&mut self, side: Side, app: usize) -> bool {
        let n = self.n(side, app);
        let went = self.lane(side).go_back(n);
        self.react(side, None);
        self.returned += u64::from(went);
        went
    }

    pub(super) fn fin(&mut self, side: Side, app: usize) {
        let n = self.n(side, app);
        self.end(side).apps[app].fin_sent = true;
        self.lane(side).on_app_fin(n);
        self.react(side, None);
    }

    pub(super) fn reset(&mut self, side: Side, app: usize) {
        let n = self.n(side, app);
        self.lane(side).on_app_reset(n, CloseReason::AppReset);
        self.react(side, None);
        assert!(!self.end(side).apps[app].is_live());
    }

    /// Up to `len` bytes are written to the app, in order.
    pub(super) fn write(&mut self, side: Side, app: usize, len: usize) {
        let n = self.n(side, app);
        let one = &mut self.end(side).apps[app];
        if one.connecting || !one.is_live() || len == 0 {
            return;
        }
        let from_lane = one.lane.front_mut();
        let is_lane = from_lane.is_some();
        let next = from_lane.or(one.circuit.as_mut().map(|(_, bytes)| bytes));
        let Some(bytes) = next else { return };
        let len = (len as u64).min(bytes.end - bytes.start);
        assert_eq!(bytes.start, one.got, "the next byte and no other");
        bytes.start += len;
        one.got += len;
        let done = bytes.is_empty();
        if done && is_lane {
            one.lane.pop_front();
        } else if done {
            one.circuit = None;
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if is_lane {
            self.lane(side).on_delivered(n, len);
        } else {
            self.lane(side).on_circuit_delivered(n, len);
        }
        self.react(side, None);
    }

    pub(super) fn close_if_done(&mut self, app: usize) {
        let one = &self.ends[1].apps[app];
        if one.is_live() && one.fin_sent && one.fin_due && one.is_written() {
            let n = self.n(Side::Outlet, app);
            self.lane(Side::Outlet).on_app_closed(n);
            self.react(Side::Outlet, None);
        }
    }

    // ---- records ---------------------------------------------------------------------------

    /// The lane's queued records leave.
    pub(super) fn pull_lane(&mut self, side: Side) {
        let mut payload = [0; 256];
        while let Some((header, len)) = self.lane(side).next_control(&mut payload) {
            let payload = payload[..len].to_vec();
            self.lanes[place(side.other())].push_back(Sent {
                header,
                payload,
                bytes: 0..0,
            });
        }
        self.react(side, None);
    }

    /// A circuit's queued records leave.
    pub(super) fn pull_circuit(&mut self, side: Side, no: CircuitNo) {
        let mut payload = [0; 16];
        while let Some((header, len)) = self.lane(side).next_circuit_control(no, &mut payload) {
            let payload = payload[..len].to_vec();
            if let Some(pipe) = self.circuits.get_mut(&(place(side.other()) as u8, no)) {
                pipe.push_back(Sent {
                    header,
                    payload,
                    bytes: 0..0,
                });
            }
        }
        self.react(side, None);
    }

    /// The next record of the lane arrives; false if there is none.
    pub(super) fn arrive(&mut self, side: Side) -> bool {
        let Some(sent) = self.lanes[place(side)].pop_front() else {
            return false;
        };
        let now = self.now;
        let taken = self.lane(side).on_record(now, sent.header, &sent.payload);
        assert_eq!(taken, Ok(()), "an honest record on the lane: {sent:?}");
        self.react(side, Some(sent.bytes));
        true
    }

    /// The next record of a circuit arrives; false if there is none or the circuit isn't read.
    pub(super) fn arrive_on(&mut self, side: Side, no: CircuitNo) -> bool {
        let end = &self.ends[place(side)];
        let blocked = end.waiting.contains(&no)
            || end
                .apps
                .iter()
                .any(|app| app.is_live() && app.circuit.as_ref().is_some_and(|(on, _)| *on == no));
        if blocked {
            return false;
        }
        let pipe = self.circuits.get_mut(&(place(side) as u8, no));
        let Some(sent) = pipe.and_then(VecDeque::pop_front) else {
            return false;
        };
        let now = self.now;
        let taken = self
            .lane(side)
            .on_circuit_record(now, no, sent.header, &sent.payload);
        match taken {
            Ok(Took::Nothing | Took::KeyUpdate) => {}
            Ok(Took::Wait) => self.end(side).waiting.push(no),
            Ok(Took::Deliver { key, .. }) => {
                let app = &mut self.end(side).apps[key.0 as usize];
                assert!(app.is_live() && !app.fin_due, "bytes behind a last word");
                app.circuit = Some((no, sent.bytes));
            }
            Err(why) => panic!("an honest record on {no:?}: {sent:?}: {why}"),
        }
        self.react(side, None);
        true
    }

    fn react(&mut self, side: Side, bytes: Option<Range<u64>>) {
        while let Some(reaction) = self.lane(side).poll_reaction() {
            self.carry_out(side, reaction, bytes.clone());
        }
        self.ends[place(side)].lane.check();
    }

    fn carry_out(&mut self, side: Side, reaction: Reaction, bytes: Option<Range<u64>>) {
        let at = |key: StreamKey| key.0 as usize;
        match reaction {
            Reaction::Connect { n, .. } => {
                let app = self.ends[1].apps.len();
                let key = StreamKey(u32::try_from(app).unwrap_or(u32::MAX));
                self.lane(side).bind(n, key);
                self.ends[1].apps.push(App {
                    n: Some(n),
                    connecting: true,
                    ..App::default()
                });
                self.pairs.insert(self.holders[&n], app);
            }
            Reaction::Deliver { key, .. } | Reaction::Hold { key, .. } => {
                let app = &mut self.end(side).apps[at(key)];
                assert!(app.is_live() && !app.fin_due && app.circuit.is_none());
                app.lane.extend(bytes);
            }
            Reaction::Behind { key, .. } => {
                let app = &mut self.end(side).apps[at(key)];
                assert!(app.is_live() && !app.fin_due);
                app.behind.extend(bytes);
            }
            Reaction::Merge { key, .. } => {
                let app = &mut self.end(side).apps[at(key)];
                assert!(app.circuit.is_none(), "a run ends behind its bytes");
                let behind = std::mem::take(&mut app.behind);
                app.lane.extend(behind);
            }
            Reaction::FinToApp { key, .. } => {
                let app = &mut self.end(side).apps[at(key)];
                assert!(!app.fin_due && app.behind.is_empty() && app.circuit.is_none());
                app.fin_due = true;
            }
            Reaction::ResetApp { key, .. } => {
                let app = &mut self.end(side).apps[at(key)];
                assert!(app.is_live());
                app.lane.clear();
                app.behind.clear();
                app.circuit = None;
            }
            Reaction::Freed {
                key,
                why,
                sent,
                received,
                ..
            } => {
                let app = &mut self.end(side).apps[at(key)];
                assert!(app.is_live(), "a second last word");
                assert_eq!((app.sent, app.got), (sent, received), "the report's counts");
                let clean = app.fin_sent && app.fin_due && app.is_written();
                assert!(
                    why != CloseReason::Finished || clean,
                    "finished early: {app:?}"
                );
                app.freed = Some(why);
            }
            Reaction::Moved { .. } => self.moved += 1,
            Reaction::CircuitRead { circuit } => {
                let waiting = &mut self.end(side).waiting;
                assert!(waiting.contains(&circuit));
                waiting.retain(|&no| no != circuit);
            }
            Reaction::CircuitIdle { .. } => self.end(side).idle += 1,
            Reaction::CircuitDead { circuit } => self.break_circuit(circuit),
            Reaction::Want(directions) => self.end(side).wants = directions,
            Reaction::Retry { .. } | Reaction::CircuitDenied { .. } | Reaction::Denied(_) => {
                panic!("not from this peer: {reaction:?}")
            }
            Reaction::Refused { .. }
            | Reaction::Opened { .. }
            | Reaction::Resume { .. }
            | Reaction::Ready
            | Reaction::Retiring
            | Reaction::KeyUpdate { .. }
            | Reaction::Exchange { .. }
            | Reaction::Mixed { .. }
            | Reaction::Credential(_)
            | Reaction::CircuitReady { .. }
            | Reaction::Pong { .. } => {}
        }
    }

    /// Everything queued leaves, everything under way arrives; apps write nothing.
    pub(super) fn settle(&mut self) {
        loop {
            let mut any = false;
            while !self.lost.is_empty() {
                self.hear_of_loss(0);
                any = true;
            }
            for side in SIDES {
                self.pull_lane(side);
                for no in self.circuits() {
                    self.pull_circuit(side, no);
                }
            }
            for side in SIDES {
                for no in self.circuits() {
                    any |= self.arrive_on(side, no);
                }
                any |= self.arrive(side);
            }
            if !any {
                break;
            }
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for side in SIDES {
            let now = self.now;
            if self.lane(side).next_deadline() <= now {
                self.lane(side).on_timer(now);
                self.react(side, None);
            }
        }
    }

    pub(super) fn lose_lane(&mut self) {
        self.lanes.iter_mut().for_each(VecDeque::clear);
        self.circuits.clear();
        self.lost.clear();
        for side in SIDES {
            self.lane(side).on_lost(CloseReason::TunnelLost);
            self.react(side, None);
        }
    }

    /// What apps may have seen: a FIN only behind everything the other one sent before its own.
    pub(super) fn check_apps(&self) {
        for (&opener, &target) in &self.pairs {
            let (a, b) = (&self.ends[0].apps[opener], &self.ends[1].apps[target]);
            for (from, to) in [(a, b), (b, a)] {
                assert!(to.got <= from.sent, "bytes that nobody sent");
                if to.freed == Some(CloseReason::Finished) {
                    assert_eq!((to.got, to.fin_due), (from.sent, true));
                }
            }
        }
    }

    /// Gives the lane a record that nobody sent; its reactions are left.
    pub(super) fn give(
        &mut self,
        side: Side,
        body: &crate::protocol::record::Body<'_>,
        n: u16,
    ) -> Result<(), Violation> {
        let (header, payload) = super::world::record(body, n);
        let now = self.now;
        self.lane(side).on_record(now, header, &payload)
    }

    /// The same on a circuit.
    pub(super) fn give_on(
        &mut self,
        side: Side,
        no: CircuitNo,
        body: &crate::protocol::record::Body<'_>,
        n: u16,
    ) -> Result<Took, Violation> {
        let (header, payload) = super::world::record(body, n);
        let now = self.now;
        self.lane(side).on_circuit_record(now, no, header, &payload)
    }

    /// A bundle with one stream, connected, at both ends app 0, and one circuit.
    pub(super) fn one_stream() -> Bundle {
        let mut bundle = Bundle::new();
        bundle.add_circuit();
        bundle.open();
        bundle.settle();
        bundle.connected(0);
        bundle.settle();
        bundle
    }
}

/// Bytes of a DATA payload of any length up to `LONGEST`.
pub(super) fn zeros(len: usize) -> &'static [u8] {
    static BYTES: [u8; LONGEST] = ZEROS;
    &BYTES[..len]
}

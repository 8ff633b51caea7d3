//! Outlets: OPEN becomes a connection to a target, or REFUSED at once.
//!
//! A target is the *name* of an entry in this outlet's configuration; the permit says which names
//! the peer may use, `Command::Targets` says what they mean now. Addresses are tried in order,
//! each with its share of the time that is left until `limits::CONNECTING_TIMEOUT`; one that did not
//! answer within `limits::TARGET_SHUNNED` is tried behind all others. That is the health check: only
//! connections that are wanted are made, because a database logs each one that comes and goes.
//!
//! A target that wants a header of the PROXY protocol has it in its socket before it counts as
//! connected.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Worker;
use super::conn::Conn;
use super::dedicated::Own;
use super::lane::LaneIx;
use super::slab::SlotKey;
use super::stream::{Phase, Stream};
use crate::engine::{Class, Close, Engine, Errno, SockOpt};
use crate::error::CloseReason;
use crate::ids::{PortalNo, StreamNo};
use crate::limits::{CONNECTING_TIMEOUT, TARGET_ADDRESSES_MAX, TARGET_SHUNNED};
use crate::protocol::command::{Event, KnownTarget, Role, StreamReport};
use crate::protocol::proxy_header::OnBehalf;
use crate::protocol::record::Open;
use crate::time::{Duration, Instant};

/// A target of a portal.
#[derive(Debug)]
pub(super) struct Target {
    addresses: Vec<Address>,
    proxy_header: bool,
}

/// The targets of a portal, by name.
pub(super) type Targets = BTreeMap<Arc<str>, Target>;

#[derive(Clone, Copy, Debug)]
struct Address {
    at: SocketAddr,
    /// It did not answer: until then, others are tried before it.
    shunned: Instant,
}

impl Target {
    fn new(known: &KnownTarget, before: Option<&Target>) -> Target {
        let before = before.map_or(&[][..], |target| &target.addresses);
        let address = |at: &SocketAddr| {
            let same = before.iter().find(|old| old.at == *at);
            let shunned = same.map_or(Instant::ZERO, |old| old.shunned);
            Address { at: *at, shunned }
        };
        let addresses = known.to.iter().take(TARGET_ADDRESSES_MAX);
        Target {
            addresses: addresses.map(address).collect(),
            proxy_header: known.proxy_header,
        }
    }

    /// Its addresses in the order in which they are to be tried.
    fn order(&self, now: Instant) -> VecDeque<SocketAddr> {
        let (shunned, well): (Vec<&Address>, Vec<&Address>) =
            self.addresses.iter().partition(|it| it.shunned > now);
        well.iter().chain(&shunned).map(|it| it.at).collect()
    }

    fn shun(&mut self, at: SocketAddr, until: Instant) {
        if let Some(address) = self.addresses.iter_mut().find(|it| it.at == at) {
            address.shunned = until;
        }
    }
}

/// A target that is being dialed.
#[derive(Debug)]
pub(super) struct Connecting {
    left: VecDeque<SocketAddr>,
    /// For a target that wants a header.
    on_behalf: Option<OnBehalf>,
    deadline: Instant,
    attempt_ends: Instant,
    /// Why the last address did not answer.
    why: CloseReason,
}

/// Where an address would be shown if there is none yet.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl<E: Engine> Worker<E> {
    /// `Command::Targets`.
    pub(super) fn set_targets(&mut self, portal: PortalNo, targets: &[KnownTarget]) {
        let before = self.targets.remove(&portal).unwrap_or_default();
        let target = |known: &KnownTarget| {
            let name: Arc<str> = Arc::from(known.name.as_str());
            let target = Target::new(known, before.get(&name));
            (name, target)
        };
        let targets = targets.iter().map(target).collect();
        self.targets.insert(portal, targets);
    }

    /// OPEN: dials the target, unless the peer may not or there is none.
    pub(super) fn target_open(&mut self, ix: LaneIx, n: StreamNo, open: &Open) {
        match self.target_begin(ix, n, open) {
            Ok(key) => self.target_next(key),
            Err(why) => {
                self.report_refused(ix, n, open, why);
                if let Some(lane) = self.lanes.get_mut(ix) {
                    lane.proto.on_connect_failed(n, why);
                    self.lane_react(ix);
                }
            }
        }
    }

    /// An OPEN that was refused before anybody was contacted: for log and audit.
    pub(super) fn report_refused(
        &mut self,
        ix: LaneIx,
        n: StreamNo,
        open: &Open,
        why: CloseReason,
    ) {
        let Some(lane) = self.lanes.get(ix) else {
            return;
        };
        let report = StreamReport {
            portal: lane.portal,
            role: Role::Outlet,
            peer: lane.permit.peer,
            bundle: lane.bundle,
            stream: n.0,
            target: open.target.clone(),
            bytes_sent: 0,
            bytes_received: 0,
            duration: Duration::ZERO,
            why,
        };
        self.counters.streams_total.add(1);
        self.count_begun(lane.portal);
        self.count_ended(lane.portal, why);
        // A peer can make as many of these as it likes, so they may be dropped.
        self.hint(Event::Stream(Box::new(report)));
    }

    fn target_begin(
        &mut self,
        ix: LaneIx,
        n: StreamNo,
        open: &Open,
    ) -> Result<SlotKey, CloseReason> {
        let now = self.now;
        let Some(lane) = self.lanes.get(ix) else {
            return Err(CloseReason::TunnelLost);
        };
        if lane.permit.not_after <= now {
            return Err(CloseReason::PermitExpired);
        }
        let name: &str = &open.target;
        let permitted = lane.permit.targets.iter().any(|t| t == name);
        let known = self
            .targets
            .get(&lane.portal)
            .and_then(|t| t.get_key_value(name));
        let Some((name, target)) = known.filter(|_| permitted) else {
            return Err(CloseReason::TargetUnknown);
        };
        let deadline = now + CONNECTING_TIMEOUT;
        let on_behalf = OnBehalf {
            app: open.app,
            member: lane.permit.peer,
            bundle: lane.bundle,
            stream: n,
        };
        let connecting = Connecting {
            left: target.order(now),
            on_behalf: target.proxy_header.then_some(on_behalf),
            deadline,
            attempt_ends: deadline,
            why: CloseReason::TargetUnreachable,
        };
        let phase = Phase::Connecting(Box::new(connecting));
        let name = Arc::clone(name);
        let limited = self.admit(lane.portal)?;
        let mut stream = Stream::new(lane.portal, Role::Outlet, NOWHERE, name, now, phase);
        stream.lane = Some(ix);
        stream.n = Some(n);
        stream.limited = limited;
        stream.rx.own = Own::new(open.dedicated);
        // Each stream that begins is a report to control later: none begins while control is behind.
        if self.is_congested() || self.net.slots.room() <= self.reserve() {
            return Err(CloseReason::Overloaded);
        }
        let Ok(key) = self.net.insert(None, Conn::Stream(stream)) else {
            return Err(CloseReason::Overloaded);
        };
        if let Some(lane) = self.lanes.get_mut(ix) {
            lane.gains_stream(now);
            lane.proto
                .bind(n, crate::protocol::lane::StreamKey(key.slot));
            let portal = lane.portal;
            self.count_begun(portal);
        }
        self.counters.streams_open.add(1);
        self.counters.streams_total.add(1);
        Ok(key)
    }

    /// Dials the next address, or gives up.
    pub(super) fn target_next(&mut self, key: SlotKey) {
        let now = self.now;
        loop {
            let Some(stream) = self.stream_mut(key) else {
                return;
            };
            let Phase::Connecting(connecting) = &mut stream.phase else {
                return;
            };
            let tries = u32::try_from(connecting.left.len())
                .unwrap_or(u32::MAX)
                .max(1);
            let next = connecting
                .left
                .pop_front()
                .filter(|_| connecting.deadline > now);
            let Some(to) = next else {
                let why = connecting.why;
                return self.target_give_up(key, why);
            };
            connecting.attempt_ends = now + connecting.deadline.since(now) / tries;
            let attempt_ends = connecting.attempt_ends;
            stream.peer = to;
            match self.net.make_socket(key, to, &SockOpt::default()) {
                Ok(()) => {
                    self.net.connect(key, to);
                    return self.net.set_deadline(key, attempt_ends);
                }
                Err(error) => self.target_failed_with(key, reason_of(&error)),
            }
        }
    }

    fn target_give_up(&mut self, key: SlotKey, why: CloseReason) {
        let Some(stream) = self.stream(key) else {
            return;
        };
        let hint = Event::TargetFailed {
            portal: stream.portal,
            target: stream.target.to_string(),
            why,
        };
        let place = stream.place();
        self.hint(hint);
        self.stream_stop(key, Close::Reset);
        if let Some((ix, n)) = place
            && let Some(lane) = self.lanes.get_mut(ix)
        {
            lane.proto.on_connect_failed(n, why);
            self.lane_react(ix);
        }
    }

    /// The target answered. A header that it wants goes first.
    pub(super) fn target_connected(&mut self, key: SlotKey) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        let to = stream.peer;
        let Phase::Connecting(connecting) = &mut stream.phase else {
            return;
        };
        let Some(on_behalf) = connecting.on_behalf else {
            return self.target_up(key);
        };
        let header = on_behalf.header(to);
        let Some(mut buf) = self.net.engine.alloc(Class::Small) else {
            self.target_failed_with(key, CloseReason::Overloaded);
            return self.net.terminate(key, Close::Reset);
        };
        buf[..header.len()].copy_from_slice(&header);
        self.net.send(key, buf, 0..header.len());
    }

    /// The target is connected, and has its header: bytes flow.
    pub(super) fn target_up(&mut self, key: SlotKey) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        stream.phase = Phase::Up;
        self.net.set_deadline(key, Instant::FAR_FUTURE);
        self.stream_watch_quiet(key);
        if let Some((ix, n)) = self.stream(key).and_then(Stream::place)
            && let Some(lane) = self.lanes.get_mut(ix)
        {
            lane.proto.on_connected(n);
            self.lane_react(ix);
        }
        self.stream_dedicate(key);
        self.stream_pump(key);
        self.stream_arm(key);
    }

    /// An address did not answer: the next one, when this socket is closed.
    pub(super) fn target_failed(&mut self, key: SlotKey, errno: Errno) {
        let why = match errno {
            Errno::CONNREFUSED | Errno::CONNRESET => CloseReason::TargetRefused,
            Errno::TIMEDOUT => CloseReason::TargetTimeout,
            Errno::MFILE | Errno::NOMEM | Errno::NOBUFS | Errno::ADDRNOTAVAIL => {
                CloseReason::Overloaded
            }
            Errno(_) => CloseReason::TargetUnreachable,
        };
        self.target_failed_with(key, why);
        self.net.terminate(key, Close::Reset);
    }

    /// The address that was tried last did not answer, and this is why. If the fault is not its own, it
    /// is not shunned.
    fn target_failed_with(&mut self, key: SlotKey, why: CloseReason) {
        let until = self.now + TARGET_SHUNNED;
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        let Phase::Connecting(connecting) = &mut stream.phase else {
            return;
        };
        connecting.why = why;
        let (portal, name, at) = (stream.portal, Arc::clone(&stream.target), stream.peer);
        if why == CloseReason::Overloaded {
            return;
        }
        let targets = self.targets.get_mut(&portal);
        if let Some(target) = targets.and_then(|targets| targets.get_mut(&name)) {
            target.shun(at, until);
        }
    }

    /// The attempt's time is over.
    pub(super) fn target_due(&mut self, key: SlotKey) {
        let now = self.now;
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        let Phase::Connecting(connecting) = &mut stream.phase else {
            return;
        };
        if connecting.attempt_ends <= now {
            self.target_failed_with(key, CloseReason::TargetTimeout);
            self.net.terminate(key, Close::Reset);
        } else {
            let at = connecting.attempt_ends;
            self.net.set_deadline(key, at);
        }
    }
}

fn reason_of(error: &std::io::Error) -> CloseReason {
    if error
        .raw_os_error()
        .is_some_and(|n| [Errno::MFILE, Errno::NOMEM, Errno::NOBUFS].contains(&Errno(n)))
    {
        CloseReason::Overloaded
    } else {
        CloseReason::TargetUnreachable
    }
}

//! Control records that wait to be sent: one per kind and stream.
//!
//! They leave in this order: the lane's own first (READY before all others, a message of a key
//! exchange before CREDENTIAL: it may show the history that the new credential ends), then the
//! streams' in the order in which they came to the queue, all records of a stream together. An outlet's RETIRE
//! so precedes each REFUSED that follows from it; an inlet's waits until the queue is empty, for
//! no OPEN may come behind it. What a record says is put in when it leaves: a CREDIT grants
//! everything that was returned until then.

#[cfg(feature = "planted")]
use crypto::planted;

use super::slot::Queued;
use super::{Lane, Phase};
use crate::ids::StreamNo;
use crate::limits::{CREDENTIAL_INTERVAL, CREDENTIALS_BURST};
use crate::protocol::command::Role;
use crate::protocol::record::{Body, FLAG_DEDICATED, Header, Kind};
use crate::time::{Duration, Instant};

/// The lane's own records.
#[derive(Debug, Default)]
pub(super) struct LaneControl {
    ready: bool,
    pub(super) retire: bool,
    pub(super) credential: Option<Vec<u8>>,
    /// What WANT says.
    pub(super) want: Option<u16>,
    /// When WANT was last queued.
    pub(super) wanted_at: Option<Instant>,
    /// The number for the PONG that is owed.
    pub(super) pong: Option<u64>,
    /// A PING waits to be sent.
    ping: bool,
    /// When the unanswered PING was asked for.
    pub(super) pinged: Option<Instant>,
    ping_number: u64,
    /// The peer's newest CREDENTIAL, while it has to wait.
    credential_in: Option<Vec<u8>>,
    /// How many of the peer's CREDENTIALs control was given.
    credentials: Allowance,
}

/// What passes at a bounded rate: a count that leaks one in a while.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    recent: u32,
    since: Instant,
}

impl Allowance {
    /// Whether one more may pass, where so many may at once and one more after each `rest`. It counts
    /// if it may.
    pub(super) fn take(&mut self, now: Instant, burst: u32, rest: Duration) -> bool {
        while self.recent > 0 && now.since(self.since) >= rest {
            self.recent -= 1;
            self.since = self.since + rest;
        }
        if self.recent == 0 {
            self.since = now;
        }
        let passes = self.recent < burst;
        self.recent += u32::from(passes);
        passes
    }

    /// When one more may pass that may not now.
    pub(super) fn next(&self, rest: Duration) -> Instant {
        self.since + rest
    }
}

impl LaneControl {
    pub(super) fn new(role: Role) -> LaneControl {
        LaneControl {
            ready: role == Role::Outlet,
            ..LaneControl::default()
        }
    }

    pub(super) fn ping(&mut self, now: Instant) {
        self.ping_number += 1;
        self.ping = true;
        self.pinged = Some(now);
    }

    /// The PONG for `number` came; how long it took. `None` if that PING isn't under way.
    pub(super) fn answered(&mut self, now: Instant, number: u64) -> Option<Duration> {
        if self.ping || number != self.ping_number {
            return None;
        }
        self.pinged.take().map(|asked| now.since(asked))
    }

    /// A CREDENTIAL of the peer: handed on now, or later if there were many. Each costs control
    /// three signatures to verify, so they pass at a bounded rate, and of those that wait the newest
    /// counts.
    pub(super) fn take_credential(&mut self, now: Instant, bytes: &[u8]) -> Option<Vec<u8>> {
        self.credential_in = Some(bytes.to_vec());
        self.due_credential(now)
    }

    /// The CREDENTIAL that waits, once its time has come.
    pub(super) fn due_credential(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.credential_in.as_ref()?;
        let passes = self
            .credentials
            .take(now, CREDENTIALS_BURST, CREDENTIAL_INTERVAL);
        self.credential_in.take_if(|_| passes)
    }

    /// When a CREDENTIAL that waits is due.
    pub(super) fn credential_due_at(&self) -> Instant {
        match self.credential_in {
            Some(_) => self.credentials.next(CREDENTIAL_INTERVAL),
            None => Instant::FAR_FUTURE,
        }
    }

    pub(super) fn clear(&mut self) {
        *self = LaneControl::default();
    }

    /// The record that leaves first; RETIRE only if it may leave now.
    fn first(&self, may_retire: bool) -> Option<Body<'_>> {
        if self.ready {
            Some(Body::Ready)
        } else if self.retire && may_retire {
            Some(Body::Retire)
        } else if let Some(bytes) = &self.credential {
            Some(Body::Credential(bytes))
        } else if let Some(directions) = self.want {
            Some(Body::Want(directions))
        } else if let Some(number) = self.pong {
            Some(Body::Pong(number))
        } else {
            self.ping.then_some(Body::Ping(self.ping_number))
        }
    }
}

impl Lane {
    /// Whether something is queued. Then [`Lane::next_control`] gives it, if there is room for it.
    pub fn has_control(&self) -> bool {
        self.may_send() && (self.own_record().is_some() || !self.queue.is_empty())
    }

    fn own_record(&self) -> Option<Body<'_>> {
        let control = self
            .control
            .first(self.role == Role::Outlet || self.queue.is_empty());
        let control = match control {
            // The message was made before the credential came, or shows it as well.
            Some(Body::Credential(_)) => self.exchange.first().or(control),
            control => control.or_else(|| self.exchange.first()),
        };
        control.or_else(|| self.circuits.acks.front().map(|&no| Body::Ack(no)))
    }

    /// An inlet says nothing before READY.
    fn may_send(&self) -> bool {
        match self.phase {
            Phase::Starting => self.role == Role::Outlet,
            Phase::Up => true,
            Phase::Gone => false,
        }
    }

    /// Writes the payload of the next queued record to the front of `payload`; its header and
    /// length. `None` when nothing is queued or the record doesn't fit: any fits in
    /// `limits::LANE_CREDENTIAL_MAX`, and all but CREDENTIAL and KEY_EXCHANGE in 128 bytes. Drain it before any
    /// DATA is sealed.
    pub fn next_control(&mut self, payload: &mut [u8]) -> Option<(Header, usize)> {
        if !self.may_send() {
            return None;
        }
        if let Some(body) = self.own_record() {
            let header = Header::new(body.kind(), StreamNo::LANE);
            let len = body.encode(payload).ok()?;
            self.own_record_left(header.kind);
            return Some((header, len));
        }
        let n = StreamNo(*self.queue.front()?);
        let record = self.slot(n)?.queued.first()?;
        self.stream_record(n, record, payload)
    }

    /// One of the lane's own records has left.
    fn own_record_left(&mut self, kind: Kind) {
        let control = &mut self.control;
        if kind == Kind::Ack {
            self.circuits.acks.pop_front();
        } else if kind == Kind::Want {
            control.want = None;
        } else if kind == Kind::Ready {
            control.ready = false;
            self.phase = Phase::Up;
        } else if kind == Kind::Retire {
            control.retire = false;
        } else if kind == Kind::Credential {
            control.credential = None;
        } else if kind == Kind::Pong {
            control.pong = None;
        } else if matches!(kind, Kind::KeyExchange | Kind::KeyReady) {
            self.exchange.left(kind);
        } else {
            control.ping = false;
        }
    }

    fn stream_record(
        &mut self,
        n: StreamNo,
        record: Queued,
        payload: &mut [u8],
    ) -> Option<(Header, usize)> {
        // The one payload that changes something when it is made, so it has to fit first.
        if record == Queued::Credit && payload.len() < size_of::<u32>() {
            return None;
        }
        let switch = self.switch_body(n);
        let slot = self.slots.get_mut(usize::from(n.0).checked_sub(1)?)?;
        let code = slot.why.code();
        let open = (record == Queued::Open).then(|| slot.open.take()).flatten();
        let body = match record {
            Queued::Open => Body::Open(*open?),
            Queued::Opened => Body::Opened,
            Queued::Refused => Body::Refused(code),
            Queued::Credit => Body::Credit(slot.window.grant(|bytes| self.grants.take(bytes))),
            Queued::Continue => Body::Continue(slot.sent),
            Queued::Switch => switch?,
            Queued::End => Body::End(slot.sent),
            Queued::Abort => Body::Abort(code),
            Queued::Closed => Body::Closed,
        };
        let encoded = body.encode(payload);
        let mut header = Header::new(body.kind(), n);
        if matches!(&body, Body::Open(open) if open.dedicated) {
            header.flags = FLAG_DEDICATED;
        }
        let Ok(len) = encoded else {
            if let Body::Open(open) = body {
                slot.open = Some(Box::new(open));
            }
            return None;
        };
        if record == Queued::Switch {
            self.switch_left(n);
        }
        self.stream_record_left(n, record);
        Some((header, len))
    }

    /// The first record of the queue's first stream is gone.
    fn stream_record_left(&mut self, n: StreamNo, record: Queued) {
        let Some(slot) = self.slot_mut(n) else { return };
        slot.queued.remove(record);
        if slot.queued.is_empty() {
            slot.in_queue = false;
            self.queue.pop_front();
            self.settle(n);
        }
    }

    /// Takes a queued record back. The queue is walked if the stream has nothing else in it, which
    /// happens once in a stream's life at most.
    pub(super) fn unqueue(&mut self, n: StreamNo, record: Queued) {
        let Some(slot) = self.slot_mut(n).filter(|slot| slot.queued.has(record)) else {
            return;
        };
        slot.queued.remove(record);
        if slot.queued.is_empty() {
            slot.in_queue = false;
            self.queue.retain(|&queued| queued != n.0);
        }
    }

    /// Queues a record of a stream.
    pub(super) fn enqueue(&mut self, n: StreamNo, record: Queued) {
        let Some(slot) = self.slot_mut(n) else { return };
        #[cfg(feature = "planted")]
        if record == Queued::End && slot.in_queue && planted::is(planted::Bug::LostEnd) {
            return;
        }
        slot.queued.insert(record);
        if !slot.in_queue {
            slot.in_queue = true;
            self.queue.push_back(n.0);
        }
    }
}

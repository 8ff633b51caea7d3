//! From an app onto its circuit: one receive fills one buffer, which is sealed where it lies and
//! sent whole.
//!
//! ```text
//! app ──recv──▶ | header 4 | inner 4 | payload …… | tag 16 | ──send──▶ circuit      Class::Bulk
//! ```
//!
//! 1. At most one receive of the app and one send of the circuit are in flight, and at most one
//!    sealed buffer waits for that send: the next receive runs while the last send does.
//! 2. What was received elsewhere (before the move, or without room around it) is copied once.
//! 3. Records of the circuit's own leave in order with the data, from Small buffers.
//! 4. Small work has precedence: while lanes carry bytes, receives are Large and not Bulk, so that
//!    a turn stays short.

use std::collections::VecDeque;
use std::ops::Range;

use crypto::record::Sealer;

use super::Worker;
use super::batch::{Batch, HEAD_MAX, Stop};
use super::circuit::CircuitIx;
use super::conn::Conn;
use super::counters::Counters;
use super::net::code;
use super::slab::SlotKey;
use crate::engine::{Buf, Class, Engine};
use crate::error::CloseReason;
use crate::ids::{CircuitNo, StreamNo};
use crate::limits::{
    BULK_SCARCE, CIRCUIT_CONTROL_MAX, CIRCUIT_PAYLOAD_MAX, CIRCUIT_QUIET, KEY_AGE_MAX,
    RECORD_HEADER, RECORD_INNER, RECORD_OVERHEAD, RECORD_TAG,
};
use crate::protocol::lane::Lane;
use crate::protocol::record::{Body, Header, Kind};
use crate::time::Instant;

/// Room before the payload.
pub(super) const ROOM: usize = RECORD_HEADER + RECORD_INNER;

/// The sending direction of a circuit.
#[derive(Debug)]
pub(super) struct CircuitTx {
    sealer: Sealer,
    key_since: Instant,
    /// Framed bytes that precede the first record.
    head: Vec<u8>,
    /// Sealed, oldest first, behind the send in flight.
    queue: VecDeque<Batch>,
    sending: bool,
    /// The stream whose run it is.
    pub user: Option<SlotKey>,
    /// When that run began, or its last bytes were sealed.
    pub last_data: Instant,
}

impl CircuitTx {
    pub fn new(sealer: Sealer, head: Vec<u8>, now: Instant) -> Self {
        CircuitTx {
            sealer,
            key_since: now,
            head,
            queue: VecDeque::new(),
            sending: false,
            user: None,
            last_data: now,
        }
    }

    /// Whether everything has left.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.queue.is_empty() && !self.sending
    }

    /// Takes every buffer, to free it: what was sealed does not leave.
    pub fn take_buffers(&mut self) -> impl Iterator<Item = Buf> {
        self.queue.drain(..).map(|batch| batch.buf)
    }

    /// A batch with room for `room` bytes more.
    fn reserve<E: Engine>(&mut self, engine: &mut E, room: usize) -> Result<&mut Batch, Stop> {
        let fits = self.queue.back().is_some_and(|batch| batch.room() >= room);
        if !fits {
            let class = if room <= Class::Small.size() {
                Class::Small
            } else {
                Class::Large
            };
            let buf = engine.alloc(class).ok_or(Stop::NoBuffer)?;
            self.queue.push_back(Batch { buf, len: 0 });
        }
        self.queue.back_mut().ok_or(Stop::NoBuffer)
    }

    fn put_head<E: Engine>(&mut self, engine: &mut E) -> Result<(), Stop> {
        let len = self.head.len();
        if len == 0 {
            return Ok(());
        }
        assert!(len <= HEAD_MAX, "a link's queue is bounded");
        let head = std::mem::take(&mut self.head);
        match self.reserve(engine, len) {
            Ok(batch) => {
                batch.buf[batch.len..batch.len + len].copy_from_slice(&head);
                batch.len += len;
                Ok(())
            }
            Err(stop) => {
                self.head = head;
                Err(stop)
            }
        }
    }

    /// Seals what the circuit has to say by itself.
    fn put_control<E: Engine>(
        &mut self,
        engine: &mut E,
        lane: &mut Lane,
        no: CircuitNo,
        counters: &Counters,
    ) -> Result<(), Stop> {
        self.put_head(engine)?;
        while lane.has_circuit_control(no) {
            let batch = self.reserve(engine, RECORD_OVERHEAD + CIRCUIT_CONTROL_MAX)?;
            let at = batch.len + ROOM;
            let payload = &mut batch.buf[at..at + CIRCUIT_CONTROL_MAX];
            let next = lane.next_circuit_control(no, payload);
            let (header, len) = next.ok_or(Stop::KeyUsedUp)?;
            self.seal_last(header, len)?;
            counters.records_sent.add(1);
        }
        Ok(())
    }

    /// Seals the record whose payload lies behind the last batch.
    fn seal_last(&mut self, header: Header, len: usize) -> Result<(), Stop> {
        let batch = self.queue.back_mut().ok_or(Stop::NoBuffer)?;
        let end = batch.len + RECORD_OVERHEAD + len;
        let record = &mut batch.buf[batch.len..end];
        record[RECORD_HEADER..ROOM].copy_from_slice(&header.encode());
        self.sealer.seal(record).map_err(|_| Stop::KeyUsedUp)?;
        batch.len = end;
        Ok(())
    }

    /// Once the key has been used enough: the last record under it. Without a buffer, later.
    fn put_key_update<E: Engine>(
        &mut self,
        engine: &mut E,
        now: Instant,
        counters: &Counters,
    ) -> Result<(), Stop> {
        if !self.sealer.due() && now.since(self.key_since) < KEY_AGE_MAX {
            return Ok(());
        }
        if self.reserve(engine, RECORD_OVERHEAD).is_err() {
            return Ok(());
        }
        let body = Body::KeyUpdate(None);
        self.seal_last(Header::new(body.kind(), StreamNo::LANE), 0)?;
        self.sealer.update(None);
        self.key_since = now;
        counters.records_sent.add(1);
        counters.key_updates.add(1);
        Ok(())
    }

    /// Asserts that nothing waits longer than it must.
    pub fn check(&self) {
        assert!(
            self.queue.is_empty() || self.sending,
            "sealed records wait for no send"
        );
    }
}

impl<E: Engine> Worker<E> {
    /// Seals and sends what the circuit has to say by itself.
    pub(super) fn circuit_flush(&mut self, ix: CircuitIx) {
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        let (key, lane_ix) = (circuit.key, circuit.lane);
        let Some(lane) = self.lanes.get_mut(lane_ix) else {
            return;
        };
        let engine = &mut self.net.engine;
        let put = circuit
            .tx
            .put_control(engine, &mut lane.proto, circuit.no, &self.counters);
        match put {
            Ok(()) => {}
            Err(Stop::NoBuffer) => {
                self.counters.starved.add(1);
                self.net.starve(key);
            }
            Err(Stop::KeyUsedUp) => return self.circuit_cut(ix, CloseReason::Replaced),
        }
        self.circuit_pump(ix);
        self.lane_grant_wishes(lane_ix);
        self.circuit_close_if_spent(ix);
    }

    /// Sends the oldest sealed buffer, unless one is on its way.
    fn circuit_pump(&mut self, ix: CircuitIx) {
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        let key = circuit.key;
        if self.net.is_flying(key, code::SEND) {
            return;
        }
        if let Some(batch) = circuit.tx.queue.pop_front() {
            circuit.tx.sending = true;
            self.counters.circuit_sends.add(1);
            self.net.send(key, batch.buf, 0..batch.len);
        }
    }

    /// A send of the circuit is over: the next buffer leaves, and the app is read again.
    pub(super) fn circuit_sent(&mut self, ix: CircuitIx, buf: Buf) {
        self.net.free(buf);
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        circuit.tx.sending = false;
        let user = circuit.tx.user;
        self.circuit_pump(ix);
        if let Some(user) = user {
            self.stream_arm(user);
        }
        self.circuit_close_if_spent(ix);
    }

    /// SWITCH has left: the stream's bytes leave on the circuit from now on.
    pub(super) fn stream_moved(&mut self, key: SlotKey, ix: CircuitIx) {
        let now = self.now;
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        circuit.tx.user = Some(key);
        circuit.tx.last_data = now;
        let slot = circuit.key;
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        stream.rx.on = Some(ix);
        let dedicated = stream.rx.own.is_dedicated();
        self.counters.promotions.add(1);
        if dedicated {
            self.stream_settle(key);
        } else {
            self.net.set_deadline(slot, now + CIRCUIT_QUIET);
        }
        self.circuit_take(key);
    }

    /// Seals and sends what was received from the app, and reads on.
    pub(super) fn circuit_take(&mut self, key: SlotKey) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        let Some(ix) = stream.rx.on else { return };
        let ended = stream.rx.ended;
        let sealed = stream.rx.held.is_some();
        if let Some((buf, range)) = stream.rx.held.take() {
            match self.circuit_seal(ix, key, buf, range) {
                Ok(()) => {}
                Err((Stop::NoBuffer, buf, range)) => {
                    if let Some(stream) = self.stream_mut(key) {
                        stream.rx.held = Some((buf, range));
                    }
                    self.counters.starved.add(1);
                    return self.net.starve(key);
                }
                Err((Stop::KeyUsedUp, buf, _)) => {
                    self.net.free(buf);
                    return self.circuit_cut(ix, CloseReason::Replaced);
                }
            }
            self.circuit_pump(ix);
        } else {
            self.circuit_flush(ix);
        }
        if ended {
            self.stream_tell_end(key);
        } else if sealed && self.circuit_is_stale(ix) && self.stream_goes_back(key) {
            self.counters.circuits_left.add(1);
        } else {
            self.stream_arm(key);
        }
    }

    /// Seals one DATA record where its payload lies, or in a buffer with room around it. What was
    /// not sealed comes back.
    fn circuit_seal(
        &mut self,
        ix: CircuitIx,
        key: SlotKey,
        buf: Buf,
        range: Range<usize>,
    ) -> Result<(), (Stop, Buf, Range<usize>)> {
        let now = self.now;
        let n = match self.net.slots.get(key).map(|slot| &slot.conn) {
            Some(Conn::Stream(stream)) => stream.n,
            Some(_) | None => None,
        };
        let circuit = self.circuits.live_mut(ix);
        let lane = circuit.as_ref().map(|circuit| circuit.lane);
        let lane = lane.and_then(|lane| self.lanes.get_mut(lane));
        let (Some(n), Some(circuit), Some(lane)) = (n, circuit, lane) else {
            return Err((Stop::KeyUsedUp, buf, range));
        };
        let engine = &mut self.net.engine;
        let put = circuit
            .tx
            .put_control(engine, &mut lane.proto, circuit.no, &self.counters);
        if let Err(stop) = put {
            return Err((stop, buf, range));
        }
        let len = range.len();
        debug_assert!(
            len <= CIRCUIT_PAYLOAD_MAX,
            "receives leave room for a record"
        );
        let in_place = range.start == ROOM && range.end + RECORD_TAG <= buf.len();
        let buf = if in_place {
            buf
        } else {
            let large = RECORD_OVERHEAD + len <= Class::Large.size();
            let class = if large { Class::Large } else { Class::Bulk };
            let Some(mut roomy) = engine.alloc(class) else {
                return Err((Stop::NoBuffer, buf, range));
            };
            roomy[ROOM..ROOM + len].copy_from_slice(&buf[range]);
            self.net.freed_one();
            self.net.engine.free(buf);
            roomy
        };
        circuit.tx.queue.push_back(Batch { buf, len: 0 });
        let header = Header::new(Kind::Data, n);
        if let Err(stop) = circuit.tx.seal_last(header, len)
            && let Some(batch) = circuit.tx.queue.pop_back()
        {
            return Err((stop, batch.buf, ROOM..ROOM + len));
        }
        circuit.tx.last_data = now;
        lane.proto.on_circuit_data(n, len);
        self.counters.records_sent.add(1);
        self.counters.bytes_sent.add(len as u64);
        self.counters.circuit_bytes_sent.add(len as u64);
        let update = circuit
            .tx
            .put_key_update(&mut self.net.engine, now, &self.counters);
        debug_assert!(update.is_ok(), "2^20 records are due long before 2^22");
        Ok(())
    }

    /// Whether the app of a stream on a circuit may be read: one sealed buffer may wait.
    pub(super) fn circuit_takes(&self, ix: CircuitIx) -> bool {
        let circuit = self.circuits.get(ix);
        circuit.is_some_and(|circuit| circuit.tx.queue.is_empty() || !circuit.tx.sending)
    }

    /// The class into which an app on a circuit is received.
    pub(super) fn bulk_class(&self) -> Class {
        if self.turn.saturating_sub(self.small_turn) <= 1 || self.is_bulk_scarce() {
            Class::Large
        } else {
            Class::Bulk
        }
    }

    /// Whether few Bulk buffers are free.
    pub(super) fn is_bulk_scarce(&self) -> bool {
        let bulk = self.net.engine.pool().classes[Class::Bulk.index()];
        bulk.free < bulk.made / BULK_SCARCE
    }

    /// The run on a circuit is over for the stream; what was sealed still leaves.
    pub(super) fn circuit_release(&mut self, key: SlotKey) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        if let Some(ix) = stream.rx.on.take()
            && let Some(circuit) = self.circuits.get_mut(ix)
        {
            circuit.tx.user = None;
        }
    }
}

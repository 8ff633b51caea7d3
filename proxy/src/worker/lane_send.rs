//! Sealing into a lane: everything that a turn produces for a lane is sealed into one buffer and
//! leaves in one send at the turn's end; while that send is in flight the next batch collects.
//!
//! ```text
//! batch  | header 4 | inner 4 | payload … | tag 16 | header 4 | …        Class::Large
//!          └────────── one record, sealed where it lies ──────┘
//! ```
//!
//! # Order within a turn
//! 1. Control records that the lane's state machine has queued (so OPEN precedes its DATA).
//! 2. DATA: streams take turns, one record each, until nothing is left, credit is used up, the
//!    lane holds `limits::LANE_PENDING_MAX`, or the turn's share (`TURN_BYTES_MAX`) is used up.
//! 3. One send of the oldest batch, unless one is in flight.
//!
//! END can't overtake DATA: it is queued only once nothing of its stream is held.

use std::collections::VecDeque;

use crypto::record::Sealer;

use super::Worker;
use super::conn::Conn;
use super::counters::Counters;
use super::lane::{LaneConn, LaneIx};
use super::net::code;
use super::slab::SlotKey;
use crate::engine::{Buf, Class, Engine};
use crate::error::CloseReason;
use crate::ids::StreamNo;
use crate::limits::{
    CONTROL_PAYLOAD_MAX, KEY_AGE_MAX, LANE_PAYLOAD_MAX, LANE_PENDING_MAX, LINK_TX_MAX,
    RECORD_HEADER, RECORD_INNER, RECORD_OVERHEAD, TURN_BYTES_MAX,
};
use crate::protocol::record::{Header, Kind};
use crate::time::Instant;

/// A buffer that collects sealed records.
#[derive(Debug)]
struct Batch {
    buf: Buf,
    len: usize,
}

impl Batch {
    fn room(&self) -> usize {
        self.buf.len() - self.len
    }
}

/// The sending direction of a lane.
#[derive(Debug)]
pub(super) struct LaneTx {
    sealer: Sealer,
    /// When the current key came into use.
    key_since: Instant,
    /// Framed bytes that precede the first record.
    head: Vec<u8>,
    filling: Option<Batch>,
    full: VecDeque<Batch>,
    /// Bytes of the send in flight.
    sending: usize,
    /// Sealed bytes that have not left, those in flight included.
    pub pending: usize,
    /// Streams that have something, in the order of their turns.
    pub turn: VecDeque<SlotKey>,
    /// Streams that stopped reading because the lane was full.
    pub paused: VecDeque<SlotKey>,
    /// Inlet: streams whose OPEN leaves in the next turn, and the turn they came in.
    pub fresh: VecDeque<(SlotKey, u64)>,
}

/// Why nothing more could be sealed just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// No buffer: the lane waits for one.
    NoBuffer,
    /// The key is used up. The lane has to end.
    KeyUsedUp,
}

/// Less room than this behind full records is not worth a record of its own.
const SLIVER: usize = 1024;

impl LaneTx {
    pub fn new(sealer: Sealer, head: Vec<u8>, now: Instant) -> Self {
        LaneTx {
            sealer,
            key_since: now,
            pending: head.len(),
            head,
            filling: None,
            full: VecDeque::new(),
            sending: 0,
            turn: VecDeque::new(),
            paused: VecDeque::new(),
            fresh: VecDeque::new(),
        }
    }

    /// Whether everything that was sealed has left.
    pub fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// The buffer being filled, with at least `room` bytes left; makes one if needed.
    fn reserve<E: Engine>(&mut self, engine: &mut E, room: usize) -> Result<&mut Batch, Stop> {
        if self
            .filling
            .as_ref()
            .is_some_and(|batch| batch.room() < room)
            && let Some(batch) = self.filling.take()
        {
            self.full.push_back(batch);
        }
        match &mut self.filling {
            Some(batch) => Ok(batch),
            empty => {
                let buf = engine.alloc(Class::Large).ok_or(Stop::NoBuffer)?;
                Ok(empty.insert(Batch { buf, len: 0 }))
            }
        }
    }

    /// Seals one record whose payload is already in place behind the batch's end.
    fn seal(&mut self, header: Header, payload: usize) -> Result<(), Stop> {
        let Some(batch) = &mut self.filling else {
            return Err(Stop::NoBuffer);
        };
        let end = batch.len + RECORD_OVERHEAD + payload;
        let record = &mut batch.buf[batch.len..end];
        record[RECORD_HEADER..RECORD_HEADER + RECORD_INNER].copy_from_slice(&header.encode());
        self.sealer.seal(record).map_err(|_| Stop::KeyUsedUp)?;
        self.pending += end - batch.len;
        batch.len = end;
        Ok(())
    }

    /// Whether the key has been used enough.
    fn is_key_old(&self, now: Instant) -> bool {
        self.sealer.due() || now.since(self.key_since) >= KEY_AGE_MAX
    }

    /// The next buffer to send.
    fn next(&mut self) -> Option<Batch> {
        self.full.pop_front().or_else(|| self.filling.take())
    }

    /// Takes every buffer, to free it.
    pub fn take_buffers(&mut self) -> impl Iterator<Item = Buf> {
        self.full
            .drain(..)
            .chain(self.filling.take())
            .map(|batch| batch.buf)
    }
}

impl<E: Engine> Worker<E> {
    /// Seals what the turn has produced for this lane and sends.
    pub(super) fn lane_flush(&mut self, ix: LaneIx) {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        lane.dirty = false;
        if lane.end.is_some() {
            return;
        }
        let key = lane.key;
        match self.lane_seal(ix) {
            Ok(()) => {}
            Err(Stop::NoBuffer) => {
                self.counters.starved.add(1);
                self.net.starve(key);
            }
            Err(Stop::KeyUsedUp) => return self.lane_cut(ix, CloseReason::Replaced),
        }
        self.lane_send(ix);
        self.lane_set_deadline(ix);
        // Only now: what sealing itself has marked is done.
        if let Some(lane) = self.lanes.get_mut(ix) {
            lane.dirty = false;
        }
    }

    fn lane_seal(&mut self, ix: LaneIx) -> Result<(), Stop> {
        self.lane_open_fresh(ix);
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(ix) else {
            return Ok(());
        };
        lane.put_head(&mut self.net.engine)?;
        lane.put_control(&mut self.net.engine, now, &self.counters)?;
        let mut share = TURN_BYTES_MAX;
        loop {
            let Some(lane) = self.lanes.get_mut(ix) else {
                return Ok(());
            };
            if lane.tx.pending >= LANE_PENDING_MAX {
                return Ok(());
            }
            if share == 0 {
                // The rest of the streams get their turn in the next one.
                self.lane_later(ix);
                return Ok(());
            }
            let Some(key) = lane.tx.turn.pop_front() else {
                return Ok(());
            };
            match self.lane_seal_data(ix, key) {
                Ok(len) => share = share.saturating_sub(len),
                Err(stop) => {
                    if let Some(lane) = self.lanes.get_mut(ix) {
                        lane.tx.turn.push_front(key);
                    }
                    return Err(stop);
                }
            }
        }
    }

    /// Seals one record of what the stream holds; how many bytes of it.
    fn lane_seal_data(&mut self, ix: LaneIx, key: SlotKey) -> Result<usize, Stop> {
        let now = self.now;
        let Some(Conn::Stream(stream)) = self.net.slots.get_mut(key).map(|slot| &mut slot.conn)
        else {
            return Ok(0);
        };
        let place = stream.place().filter(|(at, _)| *at == ix);
        let (Some((_, n)), Some((held, range))) = (place, stream.rx.held.as_mut()) else {
            stream.rx.queued = false;
            return Ok(0);
        };
        let Some(lane) = self.lanes.get_mut(ix) else {
            return Ok(0);
        };
        let want = range
            .len()
            .min(LANE_PAYLOAD_MAX)
            .min(lane.proto.sendable(n));
        if want == 0 {
            // Credit is used up: `Resume` brings the stream back.
            stream.rx.queued = false;
            self.net.watch(key);
            return Ok(0);
        }
        let room = RECORD_OVERHEAD + want.min(SLIVER);
        let batch = lane.tx.reserve(&mut self.net.engine, room)?;
        let len = want.min(batch.room() - RECORD_OVERHEAD);
        let at = batch.len + RECORD_HEADER + RECORD_INNER;
        let from = range.start..range.start + len;
        batch.buf[at..at + len].copy_from_slice(&held[from]);
        lane.tx.seal(
            Header {
                kind: Kind::Data,
                flags: 0,
                stream: n,
            },
            len,
        )?;
        lane.proto.on_app_data(now, n, len);
        self.counters.records_sent.add(1);
        self.counters.bytes_sent.add(len as u64);
        range.start += len;
        let rest = range.start < range.end;
        if !rest && let Some((buf, _)) = stream.rx.held.take() {
            self.net.free(buf);
        }
        if let Some(stream) = self.stream_mut(key) {
            stream.rx.queued = false;
        }
        if rest {
            self.stream_queue(key);
        } else {
            self.stream_arm(key);
        }
        if let Some(lane) = self.lanes.get_mut(ix)
            && lane.tx.is_key_old(now)
        {
            lane.put_key_update(&mut self.net.engine, now, &self.counters)?;
        }
        Ok(len)
    }

    /// Sends the oldest batch, unless one is on its way.
    fn lane_send(&mut self, ix: LaneIx) {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        let key = lane.key;
        if self.net.is_flying(key, code::SEND) {
            return;
        }
        match lane.tx.next() {
            Some(batch) if batch.len > 0 => {
                lane.tx.sending = batch.len;
                self.counters.lane_sends.add(1);
                self.net.send(key, batch.buf, 0..batch.len);
            }
            Some(unused) => self.net.free(unused.buf),
            None => {}
        }
    }

    /// A batch has left: the next one goes at the end of this turn, and apps that waited for room
    /// are read again.
    pub(super) fn lane_sent(&mut self, ix: LaneIx, buf: Buf) {
        self.net.free(buf);
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        let sent = std::mem::take(&mut lane.tx.sending);
        lane.tx.pending = lane.tx.pending.saturating_sub(sent);
        if lane.tx.pending < LANE_PENDING_MAX {
            let paused = std::mem::take(&mut lane.tx.paused);
            for key in paused {
                if let Some(stream) = self.stream_mut(key) {
                    stream.rx.paused = false;
                }
                self.stream_arm(key);
            }
        }
        self.lane_dirty(ix);
    }
}

impl LaneConn {
    /// Puts what precedes the first record into the first batch.
    fn put_head<E: Engine>(&mut self, engine: &mut E) -> Result<(), Stop> {
        if self.tx.head.is_empty() {
            return Ok(());
        }
        self.tx.reserve(engine, LINK_TX_MAX)?;
        let head = std::mem::take(&mut self.tx.head);
        let Some(batch) = &mut self.tx.filling else {
            return Err(Stop::NoBuffer);
        };
        batch.buf[batch.len..batch.len + head.len()].copy_from_slice(&head);
        batch.len += head.len();
        Ok(())
    }

    /// Seals every control record that is queued.
    fn put_control<E: Engine>(
        &mut self,
        engine: &mut E,
        now: Instant,
        counters: &Counters,
    ) -> Result<(), Stop> {
        loop {
            let batch = self
                .tx
                .reserve(engine, RECORD_OVERHEAD + CONTROL_PAYLOAD_MAX)?;
            let at = batch.len + RECORD_HEADER + RECORD_INNER;
            let payload = &mut batch.buf[at..at + CONTROL_PAYLOAD_MAX];
            let Some((header, len)) = self.proto.next_control(payload) else {
                return Ok(());
            };
            self.tx.seal(header, len)?;
            counters.records_sent.add(1);
            if self.tx.is_key_old(now) {
                self.put_key_update(engine, now, counters)?;
            }
        }
    }

    /// The last record under the old key: what follows is sealed with the next one.
    fn put_key_update<E: Engine>(
        &mut self,
        engine: &mut E,
        now: Instant,
        counters: &Counters,
    ) -> Result<(), Stop> {
        let batch = self
            .tx
            .reserve(engine, RECORD_OVERHEAD + CONTROL_PAYLOAD_MAX)?;
        let at = batch.len + RECORD_HEADER + RECORD_INNER;
        let len = 0;
        let _ = &batch.buf[at..];
        let header = Header {
            kind: Kind::KeyUpdate,
            flags: 0,
            stream: StreamNo::LANE,
        };
        self.tx.seal(header, len)?;
        self.tx.sealer.update(None);
        self.tx.key_since = now;
        counters.records_sent.add(1);
        counters.key_updates.add(1);
        Ok(())
    }
}

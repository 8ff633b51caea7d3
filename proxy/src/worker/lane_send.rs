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
use super::lane::{LaneConn, LaneIx};
use super::net::code;
use super::slab::SlotKey;
use crate::engine::{Buf, Class, Engine};
use crate::error::CloseReason;
use crate::limits::{
    CONTROL_PAYLOAD_MAX, KEY_AGE_MAX, LANE_PAYLOAD_MAX, LANE_PENDING_MAX, RECORD_HEADER,
    RECORD_INNER, RECORD_OVERHEAD, RECORD_TAG, TURN_BYTES_MAX,
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
        if self.filling.as_ref().is_some_and(|batch| batch.room() < room)
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
        let Some(batch) = &mut self.filling else { return Err(Stop::NoBuffer) };
        let end = batch.len + RECORD_OVERHEAD + payload;
        let record = &mut batch.buf[batch.len..end];
        record[RECORD_HEADER..RECORD_HEADER + RECORD_INNER].copy_from_slice(&header.encode());
        self.sealer.seal(record).map_err(|_| Stop::KeyUsedUp)?;
        self.pending += end - batch.len;
        batch.len = end;
        Ok(())
    }

    /// The next buffer to send.
    fn next(&mut self) -> Option<Batch> {
        self.full.pop_front().or_else(|| self.filling.take()).filter(|batch| batch.len > 0)
    }

    /// Takes every buffer, to free it.
    pub fn take_buffers(&mut self) -> impl Iterator<Item = Buf> {
        self.full.drain(..).chain(self.filling.take()).map(|batch| batch.buf)
    }
}

impl<E: Engine> Worker<E> {
    /// Seals what the turn has produced for this lane and sends.
    pub(super) fn lane_flush(&mut self, ix: LaneIx) {
        let Some(lane) = self.lanes.get_mut(ix) else { return };
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
    }

    fn lane_seal(&mut self, ix: LaneIx) -> Result<(), Stop> {
        self.lane_open_fresh(ix);
        let Some(lane) = self.lanes.get_mut(ix) else { return Ok(()) };
        if !lane.tx.head.is_empty() {
            let batch = lane.tx.reserve(&mut self.net.engine, lane.tx.head.len())?;
        }
        Ok(())
    }
}

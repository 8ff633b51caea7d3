//! What a lane has sealed and not yet sent, and the sealing itself.
//!
//! ```text
//! batch  | header 4 | inner 4 | payload … | tag 16 | header 4 | …        Class::Large
//!          └────────── one record, sealed where it lies ──────┘
//! full   [ batch ] [ batch ]      wait for the send in flight, oldest first
//! filling  batch                  takes the next record
//! ```
//!
//! Invariant: `pending` is what the batches hold, plus the head, plus the send in flight.

use std::collections::VecDeque;

use crypto::record::{MixSecret, Sealer};

use super::counters::Counters;
use super::slab::SlotKey;
use crate::engine::{Buf, Class, Engine};
use crate::ids::StreamNo;
use crate::limits::{
    CONTROL_PAYLOAD_MAX, KEY_AGE_MAX, LINK_TX_MAX, RECORD_HEADER, RECORD_INNER, RECORD_OVERHEAD,
};
use crate::protocol::lane::Lane;
use crate::protocol::record::{Body, Header, Kind};
use crate::time::Instant;

/// A buffer that collects sealed records.
#[derive(Debug)]
pub(super) struct Batch {
    pub buf: Buf,
    pub len: usize,
}

impl Batch {
    pub fn room(&self) -> usize {
        self.buf.len() - self.len
    }
}

/// Why nothing more could be sealed just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// No buffer: the lane waits for one.
    NoBuffer,
    /// The key is used up, or the lane's state machine made a record that can't be sealed: the
    /// lane has to end.
    KeyUsedUp,
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
    pub sending: usize,
    /// Bytes that have not left, those in flight included.
    pub pending: usize,
    /// Streams that have something, in the order of their turns.
    pub turn: VecDeque<SlotKey>,
    /// Streams that stopped reading because the lane was full.
    pub paused: VecDeque<SlotKey>,
    /// Inlet: streams whose OPEN leaves in the next turn, and the turn they came in.
    pub fresh: VecDeque<(SlotKey, u64)>,
}

/// Less room than this behind full records is not worth a record of its own.
const SLIVER: usize = 1024;

impl LaneTx {
    /// Nothing sealed yet; `head` precedes the first record.
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

    /// Seals one record whose payload is in place behind the batch's end.
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

    /// Seals one DATA record of the front of `bytes`; how many of them it took, at least one.
    pub fn put_data<E: Engine>(
        &mut self,
        engine: &mut E,
        stream: StreamNo,
        bytes: &[u8],
    ) -> Result<usize, Stop> {
        let batch = self.reserve(engine, RECORD_OVERHEAD + bytes.len().min(SLIVER))?;
        let len = bytes.len().min(batch.room() - RECORD_OVERHEAD);
        let at = batch.len + RECORD_HEADER + RECORD_INNER;
        batch.buf[at..at + len].copy_from_slice(&bytes[..len]);
        self.seal(Header::new(Kind::Data, stream), len)?;
        Ok(len)
    }

    /// Puts what precedes the first record into the first batch.
    pub fn put_head<E: Engine>(&mut self, engine: &mut E) -> Result<(), Stop> {
        if self.head.is_empty() {
            return Ok(());
        }
        assert!(self.head.len() <= HEAD_MAX, "a link's queue is bounded");
        let len = self.head.len();
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

    /// Seals every control record that the lane has queued.
    pub fn put_control<E: Engine>(
        &mut self,
        engine: &mut E,
        lane: &mut Lane,
        now: Instant,
        counters: &Counters,
    ) -> Result<(), Stop> {
        while lane.has_control() {
            let batch = self.reserve(engine, RECORD_OVERHEAD + CONTROL_PAYLOAD_MAX)?;
            let at = batch.len + RECORD_HEADER + RECORD_INNER;
            let payload = &mut batch.buf[at..at + CONTROL_PAYLOAD_MAX];
            let (header, len) = lane.next_control(payload).ok_or(Stop::KeyUsedUp)?;
            self.seal(header, len)?;
            counters.records_sent.add(1);
            self.put_key_update(engine, now, counters)?;
        }
        Ok(())
    }

    /// Once the key has been used enough: the last record under it. What follows is sealed with
    /// the next one.
    pub fn put_key_update<E: Engine>(
        &mut self,
        engine: &mut E,
        now: Instant,
        counters: &Counters,
    ) -> Result<(), Stop> {
        if !self.sealer.due() && now.since(self.key_since) < KEY_AGE_MAX {
            return Ok(());
        }
        self.update_key(engine, None, now, counters)
    }

    /// Seals the last record under the present key, and goes over to the next one: with the secret of
    /// an exchange mixed in, if there is one.
    pub fn update_key<E: Engine>(
        &mut self,
        engine: &mut E,
        mix: Option<(u32, &MixSecret)>,
        now: Instant,
        counters: &Counters,
    ) -> Result<(), Stop> {
        let batch = self.reserve(engine, RECORD_OVERHEAD + CONTROL_PAYLOAD_MAX)?;
        let at = batch.len + RECORD_HEADER + RECORD_INNER;
        let body = Body::KeyUpdate(mix.map(|(number, _)| number));
        let len = body
            .encode(&mut batch.buf[at..])
            .map_err(|_| Stop::KeyUsedUp)?;
        self.seal(Header::new(Kind::KeyUpdate, StreamNo::LANE), len)?;
        self.sealer.update(mix.map(|(_, secret)| secret));
        self.key_since = now;
        counters.records_sent.add(1);
        counters.key_updates.add(1);
        Ok(())
    }

    /// The next buffer to send, oldest first.
    pub fn next_batch(&mut self) -> Option<Batch> {
        self.full.pop_front().or_else(|| self.filling.take())
    }

    /// The send in flight is over.
    pub fn sent(&mut self) {
        let sent = std::mem::take(&mut self.sending);
        assert!(sent <= self.pending, "more left than was pending");
        self.pending -= sent;
    }

    /// Takes every buffer, to free it: what was sealed does not leave.
    pub fn take_buffers(&mut self) -> impl Iterator<Item = Buf> {
        self.pending = self.head.len() + self.sending;
        self.full
            .drain(..)
            .chain(self.filling.take())
            .map(|batch| batch.buf)
    }

    /// Asserts the invariant.
    pub fn check(&self) {
        let batches: usize = self
            .full
            .iter()
            .chain(&self.filling)
            .map(|batch| batch.len)
            .sum();
        assert_eq!(
            self.pending,
            batches + self.head.len() + self.sending,
            "bytes in = bytes held"
        );
    }
}

/// What a link may have queued, and one message more.
pub(super) const HEAD_MAX: usize = 2 * LINK_TX_MAX;
const _: () = assert!(HEAD_MAX <= Class::Large.size());

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything sealed fits: the largest record and the largest control record.
    #[test]
    fn a_batch_holds_the_largest_record() {
        assert!(RECORD_OVERHEAD + crate::limits::LANE_PAYLOAD_MAX <= Class::Large.size());
        assert!(RECORD_OVERHEAD + CONTROL_PAYLOAD_MAX <= Class::Large.size());
    }
}

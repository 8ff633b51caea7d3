//! Sending on a lane: everything that a turn produces for it is sealed into one buffer and leaves
//! in one send at the turn's end; while that send is in flight the next batch collects. No timer,
//! no Nagle, never a send in the middle of a turn.
//!
//! # Order within a flush
//! 1. What precedes the first record (the inlet's message 3).
//! 2. Control records that the lane's state machine has queued (so OPEN precedes its DATA).
//! 3. DATA: streams take turns, one record each, until nothing is left, credit is used up, the
//!    lane holds `limits::LANE_PENDING_MAX`, or the turn's share (`TURN_BYTES_MAX`) is used up.
//! 4. Control records that this has queued: END can't overtake DATA, because it is queued only
//!    once nothing of its stream is held.
//! 5. One send of the oldest batch, unless one is in flight.

use super::Worker;
use super::batch::Stop;
use super::conn::Conn;
use super::lane::LaneIx;
use super::net::code;
use super::slab::SlotKey;
use crate::engine::{Buf, Engine};
use crate::error::CloseReason;
use crate::limits::{LANE_PAYLOAD_MAX, LANE_PENDING_MAX, TURN_BYTES_MAX};
use crate::protocol::command::Role;

impl<E: Engine> Worker<E> {
    /// Seals what the turn has produced for this lane and sends.
    pub(super) fn lane_flush(&mut self, ix: LaneIx) {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        if lane.end.is_some() {
            return;
        }
        let key = lane.key;
        // What sealing itself marks is done below.
        lane.dirty = true;
        match self
            .lane_seal(ix)
            .and_then(|()| self.lane_seal_circuits(ix))
        {
            Ok(()) => {}
            Err(Stop::NoBuffer) => {
                self.counters.starved.add(1);
                self.net.starve(key);
            }
            Err(Stop::KeyUsedUp) => return self.lane_cut(ix, CloseReason::Replaced),
        }
        self.lane_send(ix);
        self.lane_set_deadline(ix);
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        lane.dirty = false;
        if lane.role == Role::Inlet && lane.proto.is_spent() && lane.tx.pending == 0 {
            self.lane_cut(ix, CloseReason::Retired);
        }
    }

    fn lane_seal(&mut self, ix: LaneIx) -> Result<(), Stop> {
        self.lane_open_fresh(ix);
        let Some(lane) = self.lanes.get_mut(ix) else {
            return Ok(());
        };
        lane.tx.put_head(&mut self.net.engine)?;
        self.lane_put_control(ix)?;
        self.lane_put_data(ix)?;
        self.lane_put_control(ix)
    }

    /// What circuits have to say leaves on them; what that queued on the lane leaves at once.
    fn lane_seal_circuits(&mut self, ix: LaneIx) -> Result<(), Stop> {
        self.lane_say_wishes(ix);
        self.lane_flush_circuits(ix);
        match self.lanes.get(ix) {
            Some(lane) if lane.end.is_none() && lane.proto.has_control() => {
                self.lane_put_control(ix)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn lane_put_control(&mut self, ix: LaneIx) -> Result<(), Stop> {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return Ok(());
        };
        let engine = &mut self.net.engine;
        lane.tx
            .put_control(engine, &mut lane.proto, self.now, &self.counters)?;
        if let (Some(number), Some(secret)) = (lane.proto.mix_due(), &lane.mix) {
            let mix = Some((number, secret));
            lane.tx.update_key(engine, mix, self.now, &self.counters)?;
            lane.proto.on_mixed();
        }
        self.lane_react(ix);
        Ok(())
    }

    fn lane_put_data(&mut self, ix: LaneIx) -> Result<(), Stop> {
        let mut share = TURN_BYTES_MAX;
        loop {
            let Some(lane) = self.lanes.get_mut(ix) else {
                return Ok(());
            };
            if lane.tx.pending >= LANE_PENDING_MAX {
                return Ok(());
            }
            let Some(key) = lane.tx.turn.pop_front() else {
                return Ok(());
            };
            if share == 0 {
                // The others get their turn in the next one.
                lane.tx.turn.push_front(key);
                self.lane_later(ix);
                return Ok(());
            }
            match self.lane_put_stream(ix, key) {
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
    fn lane_put_stream(&mut self, ix: LaneIx, key: SlotKey) -> Result<usize, Stop> {
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
            if stream.rx.pace.is_pressed() {
                self.stream_promote(key);
            }
            self.stream_watch(key);
            return Ok(0);
        }
        let bytes = &held[range.start..range.start + want];
        let len = lane.tx.put_data(&mut self.net.engine, n, bytes)?;
        lane.proto.on_app_data(n, len);
        range.start += len;
        let done = range.start == range.end;
        stream.rx.queued = false;
        self.counters.records_sent.add(1);
        self.counters.bytes_sent.add(len as u64);
        self.small_turn = self.turn;
        lane.tx
            .put_key_update(&mut self.net.engine, now, &self.counters)?;
        if done {
            self.stream_sealed(key);
        } else {
            self.stream_queue(key);
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
        match lane.tx.next_batch() {
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
        lane.tx.sent();
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

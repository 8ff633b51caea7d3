//! Opening from a lane: the mirror image of `lane_send.rs`. One receive brings many records of
//! many streams; all of them are opened where they lie and delivered from there.
//!
//! ```text
//! receive  | kept | record | record | … | part of one |      Class::Large
//!            └ begun by the last receive    └ moved to the front of the next buffer
//! ```
//!
//! 1. Each complete record is opened in place and given to the lane's state machine.
//! 2. DATA becomes a *run*: a slice of the buffer for one stream. Neighbouring records of the
//!    same stream are moved together, so a burst for one app is one send.
//! 3. Then the buffer is shared (counted), each run goes out by `SendNow`, and the buffer is free
//!    when the last of them is back.
//! 4. The next receive is armed last, so that this turn's sends are over before its bytes come.
//!
//! Reading a lane never pauses for a stream: what an app doesn't take is copied out, within the
//! credit it was granted. The lane itself waits only when there is no buffer at all.

use std::ops::Range;
use std::rc::Rc;

use crypto::record::{self, MixSecret, Opener};

use super::Worker;
use super::lane::LaneIx;
use super::slab::SlotKey;
use crate::engine::{Buf, Class, Engine};
use crate::error::CloseReason;
use crate::limits::{LANE_RECORD_MAX, RECORD_HEADER, RECORD_INNER};
use crate::protocol::record::Header;

/// The receiving direction of a lane.
#[derive(Debug)]
pub(super) struct LaneRx {
    opener: Opener,
    /// Bytes of a begun record at the front of the buffer of the receive in flight.
    kept: usize,
    /// A begun record that could not be moved yet, because no buffer was free: the lane's own
    /// share of the buffer, and where in it.
    stalled: Option<(Rc<Buf>, Range<usize>)>,
    /// What came behind the last handshake frame, until a buffer holds it.
    rest: Vec<u8>,
}

/// DATA for one stream, in the buffer that is being worked on.
#[derive(Debug)]
pub(super) struct Run {
    key: SlotKey,
    range: Range<usize>,
}

impl LaneRx {
    pub fn new(opener: Opener, rest: Vec<u8>) -> Self {
        LaneRx {
            opener,
            kept: 0,
            stalled: None,
            rest,
        }
    }

    /// Takes the share of a buffer that a begun record pins, to release it.
    pub fn take_stalled(&mut self) -> Option<Rc<Buf>> {
        self.stalled.take().map(|(buf, _)| buf)
    }

    /// Whether a receive can't be armed because of a begun record.
    pub fn is_stalled(&self) -> bool {
        self.stalled.is_some() || !self.rest.is_empty()
    }

    pub fn update_key(&mut self, mix: Option<&MixSecret>) {
        self.opener.update(mix);
    }
}

/// The length of the record that `bytes` begins with, once all of it is there.
fn next_record(bytes: &[u8]) -> Result<Option<usize>, CloseReason> {
    let Some(header) = bytes.first_chunk::<RECORD_HEADER>() else {
        return Ok(None);
    };
    let whole = record::record_len(*header, LANE_RECORD_MAX).map_err(|_| CloseReason::Malformed)?;
    Ok((bytes.len() >= whole).then_some(whole))
}

impl<E: Engine> Worker<E> {
    /// A receive of the lane is back.
    pub(super) fn lane_received(&mut self, ix: LaneIx, mut buf: Buf, at: usize, len: usize) {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return self.net.free(buf);
        };
        debug_assert!(
            lane.rx.kept <= at,
            "a begun record lies before what was received"
        );
        let mut pos = at - lane.rx.kept;
        let end = at + len;
        lane.rx.kept = 0;
        self.counters.lane_receives.add(1);
        // A record may be answered without any reaction.
        self.lane_dirty(ix);
        let mut runs = std::mem::take(&mut self.runs);
        loop {
            match next_record(&buf[pos..end]) {
                Ok(None) => break,
                Ok(Some(whole)) => {
                    let range = pos..pos + whole;
                    pos += whole;
                    if let Err(why) = self.lane_record(ix, &mut buf, range, &mut runs) {
                        self.lane_cut(ix, why);
                        break;
                    }
                }
                Err(why) => {
                    self.lane_cut(ix, why);
                    break;
                }
            }
            if self.lanes.get(ix).is_none_or(|lane| lane.end.is_some()) {
                break;
            }
        }
        if self.lanes.get(ix).is_none_or(|lane| lane.end.is_some()) {
            runs.clear();
            self.net.free(buf);
        } else if runs.is_empty() {
            self.lane_keep(ix, buf, pos..end);
        } else {
            self.small_turn = self.turn;
            let buf = Rc::new(buf);
            for run in runs.drain(..) {
                self.stream_deliver(run.key, &buf, run.range);
            }
            self.lane_keep_shared(ix, buf, pos..end);
        }
        self.runs = runs;
    }

    /// Opens one record and lets the lane's state machine judge it.
    fn lane_record(
        &mut self,
        ix: LaneIx,
        buf: &mut Buf,
        range: Range<usize>,
        runs: &mut Vec<Run>,
    ) -> Result<(), CloseReason> {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return Ok(());
        };
        let start = range.start + RECORD_HEADER + RECORD_INNER;
        let opened = lane
            .rx
            .opener
            .open(&mut buf[range])
            .map_err(|_| CloseReason::BadTag)?;
        let (inner, payload) = opened.split_first_chunk().ok_or(CloseReason::Malformed)?;
        let header = Header::parse(*inner).map_err(|_| CloseReason::Violation)?;
        let payload_len = payload.len();
        lane.proto
            .on_record(self.now, header, payload)
            .map_err(crate::protocol::lane::Violation::reason)?;
        lane.hears(self.now);
        self.counters.records_received.add(1);
        while let Some(reaction) = self
            .lanes
            .get_mut(ix)
            .and_then(|lane| lane.proto.poll_reaction())
        {
            if let Some(key) = self.lane_reaction(ix, reaction) {
                self.counters.bytes_received.add(payload_len as u64);
                add_run(runs, buf, key, start..start + payload_len);
            }
        }
        Ok(())
    }

    /// Keeps a begun record at the front of the same buffer, and receives behind it.
    fn lane_keep(&mut self, ix: LaneIx, mut buf: Buf, rest: Range<usize>) {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return self.net.free(buf);
        };
        let key = lane.key;
        if rest.is_empty() {
            self.net.free(buf);
            return self.net.recv_any(key, Class::Large);
        }
        let kept = rest.len();
        lane.rx.kept = kept;
        self.counters.lane_bytes_moved.add(kept as u64);
        buf.copy_within(rest, 0);
        self.net.recv_into(key, buf, kept);
    }

    /// The same when runs are on their way from that buffer: the begun record moves to another.
    fn lane_keep_shared(&mut self, ix: LaneIx, shared: Rc<Buf>, rest: Range<usize>) {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return self.net.release_shared(shared);
        };
        let key = lane.key;
        if rest.is_empty() {
            self.net.release_shared(shared);
            return self.net.recv_any(key, Class::Large);
        }
        let Some(mut buf) = self.net.engine.alloc(Class::Large) else {
            lane.rx.stalled = Some((shared, rest));
            self.counters.starved.add(1);
            return self.net.starve(key);
        };
        let kept = rest.len();
        buf[..kept].copy_from_slice(&shared[rest]);
        lane.rx.kept = kept;
        self.counters.lane_bytes_moved.add(kept as u64);
        self.net.release_shared(shared);
        self.net.recv_into(key, buf, kept);
    }

    /// Goes on after waiting for a buffer: with a new one, or with the old one if no run of it is
    /// out any more.
    pub(super) fn lane_unstall(&mut self, ix: LaneIx) {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        if let Some((shared, rest)) = lane.rx.stalled.take() {
            match Rc::try_unwrap(shared) {
                Ok(buf) => self.lane_keep(ix, buf, rest),
                Err(shared) => self.lane_keep_shared(ix, shared, rest),
            }
        } else {
            self.lane_take_rest(ix);
        }
    }

    /// The first records of an adopted link, if some came behind its last frame.
    pub(super) fn lane_take_rest(&mut self, ix: LaneIx) {
        let Some(lane) = self.lanes.get_mut(ix) else {
            return;
        };
        let key = lane.key;
        if lane.rx.rest.is_empty() {
            return self.net.recv_any(key, Class::Large);
        }
        let Some(mut buf) = self.net.engine.alloc(Class::Large) else {
            self.counters.starved.add(1);
            return self.net.starve(key);
        };
        let rest = std::mem::take(&mut lane.rx.rest);
        let len = rest.len().min(buf.len());
        debug_assert_eq!(
            len,
            rest.len(),
            "a link holds no more than one piece and one receive"
        );
        buf[..len].copy_from_slice(&rest[..len]);
        self.lane_received(ix, buf, 0, len);
    }
}

/// Adds a slice for a stream; joins it to the run before if that is of the same stream.
fn add_run(runs: &mut Vec<Run>, buf: &mut Buf, key: SlotKey, range: Range<usize>) {
    if let Some(last) = runs.last_mut()
        && last.key == key
    {
        let to = last.range.end;
        last.range.end += range.len();
        buf.copy_within(range, to);
        return;
    }
    runs.push(Run { key, range });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_complete_at_its_last_byte_and_not_before() {
        let whole = [0, 0, 24, 0, 1, 2, 3, 4];
        assert_eq!(next_record(&whole[..3]), Ok(None));
        assert_eq!(next_record(&whole), Ok(None));
        let mut long = whole.to_vec();
        long.resize(28, 0);
        assert_eq!(next_record(&long[..27]), Ok(None));
        assert_eq!(next_record(&long), Ok(Some(28)));
        long.push(9);
        assert_eq!(next_record(&long), Ok(Some(28)));
    }

    #[test]
    fn a_length_past_the_bound_is_malformed_at_its_header() {
        assert_eq!(next_record(&[1, 0, 0, 0]), Err(CloseReason::Malformed));
    }
}

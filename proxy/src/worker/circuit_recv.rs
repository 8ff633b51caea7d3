//! From a circuit to the app of its run: the mirror image of `circuit_send.rs`.
//!
//! ```text
//! receive  | begun before | record | record | part of one |          Class::Bulk
//!            └ opened where they lie; payloads become one *run* that is sent from here
//! ```
//!
//! 1. Records are opened in place. Neighbouring DATA is moved together and leaves in one send; the
//!    buffer is the send's until that is over.
//! 2. What lies behind moves to the next buffer, into which the circuit is read meanwhile: two
//!    buffers at most, and no more is read while the app takes nothing.
//! 3. A record that is not DATA means something only when the bytes before it are written: it
//!    waits for the send. So ACK says that the run was delivered.
//! 4. A CONTINUE without SWITCH stops everything until SWITCH comes on the lane.

use std::ops::Range;

use crypto::record::{self, Opener};

use super::Worker;
use super::circuit::CircuitIx;
use super::net::code;
use super::slab::SlotKey;
use super::stream::Phase;
use crate::engine::{Buf, Class, Engine};
use crate::error::CloseReason;
use crate::limits::{CIRCUIT_CONTROL_MAX, CIRCUIT_RECORD_MAX, RECORD_HEADER, RECORD_INNER};
use crate::protocol::lane::{Took, Violation};
use crate::protocol::record::{Header, Kind};

/// A record that waits until the bytes before it are written.
#[derive(Debug)]
struct After {
    header: Header,
    payload: [u8; CIRCUIT_CONTROL_MAX],
    len: usize,
}

/// The receiving direction of a circuit.
#[derive(Debug)]
pub(super) struct CircuitRx {
    opener: Opener,
    /// Bytes of a begun record at the front of the buffer of the receive in flight.
    kept: usize,
    /// Received and not parsed: it waits for the run before it.
    more: Option<(Buf, Range<usize>)>,
    /// The same where no buffer was free, or behind the last handshake frame.
    spare: Vec<u8>,
    /// Opened, for the app of `user`, whose socket is busy.
    run: Option<(Buf, Range<usize>)>,
    /// The app of the run that waits or is being sent, and how many bytes are being sent.
    pub user: Option<(SlotKey, usize)>,
    after: Option<After>,
    /// Until SWITCH comes.
    waits: bool,
}

/// What is found in a buffer.
#[derive(Debug, Default)]
struct Found {
    key: Option<SlotKey>,
    run: Range<usize>,
}

impl CircuitRx {
    pub fn new(opener: Opener, rest: Vec<u8>) -> Self {
        CircuitRx {
            opener,
            kept: 0,
            more: None,
            spare: rest,
            run: None,
            user: None,
            after: None,
            waits: false,
        }
    }

    /// Whether something has to happen before more is parsed.
    fn is_busy(&self) -> bool {
        self.user.is_some() || self.after.is_some() || self.waits
    }

    /// Takes every buffer, to free it.
    pub fn take_buffers(&mut self) -> impl Iterator<Item = Buf> {
        self.spare = Vec::new();
        let both = [self.more.take(), self.run.take()];
        both.into_iter().flatten().map(|(buf, _)| buf)
    }
}

/// The length of the record that `bytes` begins with, once all of it is there.
fn next_record(bytes: &[u8]) -> Result<Option<usize>, CloseReason> {
    let Some(header) = bytes.first_chunk::<RECORD_HEADER>() else {
        return Ok(None);
    };
    let whole =
        record::record_len(*header, CIRCUIT_RECORD_MAX).map_err(|_| CloseReason::Malformed)?;
    Ok((bytes.len() >= whole).then_some(whole))
}

impl<E: Engine> Worker<E> {
    /// A receive of the circuit is back.
    pub(super) fn circuit_received(&mut self, ix: CircuitIx, buf: Buf, at: usize, len: usize) {
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return self.net.free(buf);
        };
        let kept = std::mem::take(&mut circuit.rx.kept);
        debug_assert!(kept <= at, "a begun record lies before what was received");
        self.counters.circuit_receives.add(1);
        let range = at - kept..at + len;
        if circuit.rx.is_busy() {
            debug_assert!(circuit.rx.more.is_none(), "a third buffer");
            circuit.rx.more = Some((buf, range));
        } else {
            self.circuit_parse(ix, buf, range);
        }
    }

    /// Opens what is there, and begins to deliver it.
    fn circuit_parse(&mut self, ix: CircuitIx, mut buf: Buf, range: Range<usize>) {
        let mut found = Found::default();
        let mut pos = range.start;
        let end = range.end;
        loop {
            let whole = match next_record(&buf[pos..end]) {
                Ok(Some(whole)) => whole,
                Ok(None) => break,
                Err(why) => {
                    self.circuit_cut(ix, why);
                    break;
                }
            };
            let record = pos..pos + whole;
            pos += whole;
            if let Err(why) = self.circuit_record(ix, &mut buf, record, &mut found) {
                self.circuit_broken(ix, why);
                break;
            }
            let circuit = self.circuits.live_mut(ix);
            if circuit.is_none_or(|circuit| circuit.rx.after.is_some() || circuit.rx.waits) {
                break;
            }
        }
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return self.net.free(buf);
        };
        let Some(key) = found.key else {
            if circuit.rx.waits {
                return self.circuit_keep_more(ix, buf, pos..end);
            }
            return self.circuit_keep(ix, buf, pos..end);
        };
        circuit.rx.user = Some((key, 0));
        let rest = pos..end;
        let whole = circuit.rx.after.is_none();
        if !rest.is_empty() {
            self.circuit_set_aside(ix, &buf, rest, whole);
        } else if whole && !self.is_bulk_scarce() {
            self.circuit_arm(ix);
        }
        if let Some(circuit) = self.circuits.live_mut(ix) {
            circuit.rx.run = Some((buf, found.run));
        }
        if let Some(stream) = self.stream_mut(key) {
            stream.tx.from = Some(ix);
        }
        self.circuit_deliver(ix);
    }

    /// A bad tag ends the circuit; a violation ends the bundle.
    fn circuit_broken(&mut self, ix: CircuitIx, why: CloseReason) {
        let lane = self.circuits.get(ix).map(|circuit| circuit.lane);
        match (why, lane) {
            (CloseReason::Violation | CloseReason::Malformed, Some(lane)) => {
                self.lane_cut(lane, why);
            }
            _ => self.circuit_cut(ix, why),
        }
    }

    /// Opens one record and lets the bundle's state machine judge it.
    fn circuit_record(
        &mut self,
        ix: CircuitIx,
        buf: &mut Buf,
        range: Range<usize>,
        found: &mut Found,
    ) -> Result<(), CloseReason> {
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return Ok(());
        };
        let start = range.start + RECORD_HEADER + RECORD_INNER;
        let opened = circuit
            .rx
            .opener
            .open(&mut buf[range])
            .map_err(|_| CloseReason::BadTag)?;
        let (inner, payload) = opened.split_first_chunk().ok_or(CloseReason::Malformed)?;
        let header = Header::parse(*inner).map_err(|_| CloseReason::Violation)?;
        let len = payload.len();
        self.counters.records_received.add(1);
        let waits_for_run = !matches!(header.kind, Kind::Data | Kind::KeyUpdate);
        if waits_for_run && found.key.is_some() {
            let mut after = After {
                header,
                payload: [0; CIRCUIT_CONTROL_MAX],
                len,
            };
            let room = after.payload.get_mut(..len).ok_or(CloseReason::Malformed)?;
            room.copy_from_slice(payload);
            circuit.rx.after = Some(after);
            return Ok(());
        }
        let took = self.circuit_give(ix, header, &buf[start..start + len])?;
        if let Took::Deliver { key, .. } = took
            && let Some(key) = self.net.slots.key_of(key.0)
        {
            self.counters.bytes_received.add(len as u64);
            self.counters.circuit_bytes_received.add(len as u64);
            if found.key == Some(key) {
                let to = found.run.end;
                buf.copy_within(start..start + len, to);
                found.run.end += len;
            } else {
                debug_assert!(found.key.is_none(), "one run at a time");
                found.key = Some(key);
                found.run = start..start + len;
            }
        }
        Ok(())
    }

    /// Gives a record to the bundle's state machine.
    fn circuit_give(
        &mut self,
        ix: CircuitIx,
        header: Header,
        payload: &[u8],
    ) -> Result<Took, CloseReason> {
        let now = self.now;
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return Ok(Took::Nothing);
        };
        let lane_ix = circuit.lane;
        let Some(lane) = self.lanes.get_mut(lane_ix) else {
            return Ok(Took::Nothing);
        };
        let took = lane
            .proto
            .on_circuit_record(now, circuit.no, header, payload)
            .map_err(Violation::reason)?;
        match took {
            Took::KeyUpdate => circuit.rx.opener.update(None),
            Took::Wait => circuit.rx.waits = true,
            Took::Nothing | Took::Deliver { .. } => {}
        }
        if header.kind != Kind::Data {
            self.lane_react(lane_ix);
            if header.kind == Kind::Retire {
                self.circuit_flush(ix);
            }
        }
        Ok(took)
    }

    /// Keeps a begun record at the front of its buffer, and receives behind it.
    fn circuit_keep(&mut self, ix: CircuitIx, mut buf: Buf, rest: Range<usize>) {
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return self.net.free(buf);
        };
        let key = circuit.key;
        if rest.is_empty() {
            self.net.free(buf);
            return self.circuit_next(ix);
        }
        debug_assert!(
            !self.net.is_flying(key, code::RECV),
            "a begun record goes before what is being received"
        );
        let kept = rest.len();
        circuit.rx.kept = kept;
        self.counters.circuit_bytes_moved.add(kept as u64);
        buf.copy_within(rest, 0);
        self.net.recv_into(key, buf, kept);
    }

    /// Keeps what must not be parsed yet.
    fn circuit_keep_more(&mut self, ix: CircuitIx, buf: Buf, rest: Range<usize>) {
        match self.circuits.live_mut(ix) {
            Some(circuit) if !rest.is_empty() => circuit.rx.more = Some((buf, rest)),
            Some(_) | None => self.net.free(buf),
        }
    }

    /// Moves what lies behind a run out of its buffer. A mere begun record is received on to.
    fn circuit_set_aside(&mut self, ix: CircuitIx, buf: &Buf, rest: Range<usize>, begun: bool) {
        let scarce = self.is_bulk_scarce();
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        let key = circuit.key;
        let kept = rest.len();
        self.counters.circuit_bytes_moved.add(kept as u64);
        let another = (!scarce).then(|| self.net.engine.alloc(Class::Bulk));
        let Some(mut another) = another.flatten() else {
            circuit.rx.spare.extend_from_slice(&buf[rest]);
            return;
        };
        another[..kept].copy_from_slice(&buf[rest]);
        if begun {
            circuit.rx.kept = kept;
            self.net.recv_into(key, another, kept);
        } else {
            circuit.rx.more = Some((another, 0..kept));
        }
    }

    /// Sends the run to its app, if the socket is free and nothing goes before it.
    pub(super) fn circuit_deliver(&mut self, ix: CircuitIx) {
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        let Some((key, _)) = circuit.rx.user else {
            return;
        };
        let busy = self.net.is_flying(key, code::SEND);
        let over = match self.stream(key).map(|stream| (&stream.phase, stream)) {
            Some((Phase::Up | Phase::Fresh, stream)) => {
                if busy || stream.tx.has_spill() {
                    return;
                }
                false
            }
            Some((Phase::Waiting | Phase::Moving | Phase::Connecting(_), _)) => return,
            Some((Phase::Over { .. }, _)) | None => true,
        };
        if over {
            return self.circuit_unrun(ix);
        }
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        if let Some((buf, range)) = circuit.rx.run.take() {
            circuit.rx.user = Some((key, range.len()));
            self.net.send(key, buf, range);
        }
    }

    /// The app's socket has taken the run.
    pub(super) fn circuit_delivered(&mut self, ix: CircuitIx, key: SlotKey) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        stream.tx.from = None;
        let place = stream.place();
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        let len = circuit.rx.user.take().map_or(0, |(_, len)| len);
        if len > 0
            && let Some((lane_ix, n)) = place
            && let Some(lane) = self.lanes.get_mut(lane_ix)
        {
            lane.proto.on_circuit_delivered(n, len);
            self.lane_react(lane_ix);
        }
        self.circuit_next(ix);
    }

    /// Nobody takes the run any more: what comes is discarded.
    pub(super) fn circuit_unrun(&mut self, ix: CircuitIx) {
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        circuit.rx.user = None;
        if let Some((buf, _)) = circuit.rx.run.take() {
            self.net.free(buf);
        }
        self.circuits_touched.push(ix);
    }

    /// SWITCH came for the CONTINUE that waits.
    pub(super) fn circuit_read(&mut self, ix: CircuitIx) {
        if let Some(circuit) = self.circuits.live_mut(ix) {
            circuit.rx.waits = false;
            // What the lane brought before SWITCH is delivered first.
            self.circuits_touched.push(ix);
        }
    }

    /// Goes on where the receiving direction stopped: the record that waited, then what was
    /// received meanwhile, then the next receive.
    pub(super) fn circuit_next(&mut self, ix: CircuitIx) {
        let Some(circuit) = self.circuits.live_mut(ix) else {
            return;
        };
        let key = circuit.key;
        if circuit.rx.user.is_some() {
            return self.circuit_deliver(ix);
        }
        if circuit.rx.waits {
            return;
        }
        if let Some(After {
            header,
            payload,
            len,
        }) = circuit.rx.after.take()
        {
            let given = self.circuit_give(ix, header, payload.get(..len).unwrap_or_default());
            if let Err(why) = given {
                return self.circuit_broken(ix, why);
            }
            return self.circuit_next(ix);
        }
        if let Some((buf, range)) = circuit.rx.more.take() {
            return self.circuit_parse(ix, buf, range);
        }
        if self.net.is_flying(key, code::RECV) {
            return;
        }
        if circuit.rx.spare.is_empty() {
            return self.circuit_arm(ix);
        }
        let Some(mut buf) = self.net.engine.alloc(Class::Bulk) else {
            self.counters.starved.add(1);
            return self.net.starve(key);
        };
        let spare = std::mem::take(&mut circuit.rx.spare);
        let len = spare.len().min(buf.len());
        debug_assert_eq!(len, spare.len(), "no more than one buffer is set aside");
        buf[..len].copy_from_slice(&spare[..len]);
        self.circuit_parse(ix, buf, 0..len);
    }
}

//! From the lane to the app: the mirror image of the receive side in `stream.rs`.
//!
//! 1. A run of DATA arrives as a slice of the lane's receive buffer. If nothing is in the way it
//!    goes out by `SendNow`, which never waits, so a blocked app never pins that buffer.
//! 2. What it did not take, and what comes meanwhile, is copied to the stream's own *spill*,
//!    which the peer's credit bounds; from there `Send` delivers it in order.
//! 3. Every delivered byte is told to the lane, which returns credit.
//! 4. FIN follows the last byte of an END. With both directions ended the socket is closed.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::Worker;
use super::circuit::CircuitIx;
use super::net::code;
use super::slab::SlotKey;
use super::stream::Phase;
use crate::engine::{Buf, Class, Close, Engine, Part};
use crate::limits::{CREDIT_MAX, SPILL_KEPT_MAX};

/// The FIN towards the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fin {
    /// No END yet.
    No,
    /// END came; FIN follows what is left to deliver.
    Wanted,
    /// Sent.
    Sent,
}

/// From the lane towards the app.
#[derive(Debug)]
pub(super) struct Tx {
    /// Bytes that wait for the socket, behind those in flight.
    spill: VecDeque<u8>,
    /// Bytes of the `Send` in flight.
    sending: usize,
    pub fin: Fin,
    /// The circuit that has bytes for the app: waiting for the socket, or being sent.
    pub from: Option<CircuitIx>,
    /// What waits here goes behind what the circuit still brings.
    pub held_back: bool,
}

impl Tx {
    pub fn new() -> Self {
        Tx {
            spill: VecDeque::new(),
            sending: 0,
            fin: Fin::No,
            from: None,
            held_back: false,
        }
    }

    /// Whether bytes of the lane go before those of a circuit.
    pub fn has_spill(&self) -> bool {
        !self.held_back && !self.spill.is_empty()
    }

    /// Drops what waits: nobody will read it.
    pub fn forget(&mut self) {
        self.spill = VecDeque::new();
    }

    fn push(&mut self, bytes: &[u8]) {
        self.spill.extend(bytes);
        assert!(
            self.spill.len() <= CREDIT_MAX as usize,
            "more held than was granted"
        );
    }

    /// Puts bytes before everything that waits.
    fn push_back_in_front(&mut self, bytes: &[u8]) {
        self.push(bytes);
        self.spill.rotate_right(bytes.len());
    }

    /// Moves bytes that wait to `out`, as many as fit.
    fn take(&mut self, out: &mut [u8]) -> usize {
        let len = self.spill.len().min(out.len());
        let (front, back) = self.spill.as_slices();
        let first = front.len().min(len);
        out[..first].copy_from_slice(&front[..first]);
        out[first..len].copy_from_slice(&back[..len - first]);
        self.spill.drain(..len);
        if self.spill.is_empty() && self.spill.capacity() > SPILL_KEPT_MAX {
            self.spill = VecDeque::new();
        }
        len
    }
}

impl<E: Engine> Worker<E> {
    /// Delivers a slice of a lane's buffer to an app.
    pub(super) fn stream_deliver(&mut self, key: SlotKey, buf: &Rc<Buf>, range: Range<usize>) {
        let busy = self.net.is_flying(key, code::SEND);
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        match stream.phase {
            // Reset meanwhile: the lane discards the rest by itself.
            Phase::Over { .. } => {}
            Phase::Up | Phase::Fresh
                if !busy && stream.tx.spill.is_empty() && !stream.tx.held_back =>
            {
                self.net.send_now(
                    key,
                    Part {
                        buf: Rc::clone(buf),
                        range,
                    },
                );
            }
            Phase::Up | Phase::Fresh | Phase::Waiting | Phase::Moving | Phase::Connecting(_) => {
                stream.tx.push(&buf[range.clone()]);
                self.counters.bytes_copied_out.add(range.len() as u64);
                self.stream_pump(key);
            }
        }
    }

    /// A `SendNow` is back: the socket took the first `moved` bytes.
    pub(super) fn stream_sent_now(&mut self, key: SlotKey, part: &Part, moved: usize) {
        let rest = part.range.start + moved..part.range.end;
        if !rest.is_empty()
            && let Some(stream) = self.stream_mut(key)
        {
            stream.tx.push_back_in_front(&part.buf[rest.clone()]);
            self.counters.bytes_copied_out.add(rest.len() as u64);
        }
        self.stream_delivered(key, moved);
        self.stream_pump(key);
    }

    /// A `Send` is back.
    pub(super) fn stream_sent(&mut self, key: SlotKey) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        let len = std::mem::take(&mut stream.tx.sending);
        if len == 0
            && let Some(ix) = stream.tx.from
        {
            self.circuit_delivered(ix, key);
            return self.stream_pump(key);
        }
        self.stream_delivered(key, len);
        self.stream_pump(key);
    }

    /// The app's socket has taken so many bytes: credit for the peer.
    fn stream_delivered(&mut self, key: SlotKey, len: usize) {
        let Some((ix, n)) = self.stream(key).and_then(super::stream::Stream::place) else {
            return;
        };
        if len > 0
            && let Some(lane) = self.lanes.get_mut(ix)
        {
            lane.proto.on_delivered(n, len);
            self.lane_react(ix);
        }
    }

    /// END came: FIN for the app, behind what is left to deliver.
    pub(super) fn stream_finish(&mut self, key: SlotKey) {
        if let Some(stream) = self.stream_mut(key)
            && stream.tx.fin == Fin::No
        {
            stream.tx.fin = Fin::Wanted;
            self.touched.push(key);
        }
    }

    /// Sends what waits; then the FIN; then, with both directions ended, closes.
    pub(super) fn stream_pump(&mut self, key: SlotKey) {
        if self.net.is_flying(key, code::SEND) {
            return;
        }
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        match stream.phase {
            Phase::Up | Phase::Fresh => {}
            Phase::Waiting | Phase::Moving | Phase::Connecting(_) | Phase::Over { .. } => return,
        }
        if stream.tx.has_spill() {
            return self.stream_send_spill(key);
        }
        if let Some(ix) = stream.tx.from {
            return self.circuit_deliver(ix);
        }
        if stream.tx.fin == Fin::Wanted {
            stream.tx.fin = Fin::Sent;
            if !self.net.finish(key) {
                return self.stream_app_reset(key);
            }
        }
        let Some(stream) = self.stream(key) else {
            return;
        };
        if stream.tx.fin == Fin::Sent && stream.rx.ended {
            self.stream_stop(key, Close::Fin);
        }
    }

    fn stream_send_spill(&mut self, key: SlotKey) {
        let Some(stream) = self.stream_mut(key) else {
            return;
        };
        let class = match stream.tx.spill.len() {
            0..=SMALL => Class::Small,
            _ => Class::Medium,
        };
        let engine = &mut self.net.engine;
        let buf = engine.alloc(class).or_else(|| engine.alloc(Class::Small));
        let Some(mut buf) = buf else {
            self.counters.starved.add(1);
            return self.net.starve(key);
        };
        let Some(stream) = self.stream_mut(key) else {
            return self.net.free(buf);
        };
        let len = stream.tx.take(&mut buf);
        stream.tx.sending = len;
        self.net.send(key, buf, 0..len);
    }
}

/// Up to here a Small buffer does.
const SMALL: usize = Class::Small.size();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_send_goes_before_what_came_meanwhile() {
        let mut tx = Tx::new();
        tx.push(b"later");
        tx.push_back_in_front(b"first ");
        let mut out = [0; 32];
        let len = tx.take(&mut out);
        assert_eq!(&out[..len], b"first later");
    }

    #[test]
    fn bytes_come_out_in_order_through_a_small_window() {
        let mut tx = Tx::new();
        let mut seen = Vec::new();
        let mut out = [0; 7];
        for chunk in (0..200_u8).collect::<Vec<_>>().chunks(9) {
            tx.push(chunk);
            let len = tx.take(&mut out);
            seen.extend_from_slice(&out[..len]);
        }
        while !tx.spill.is_empty() {
            let len = tx.take(&mut out);
            seen.extend_from_slice(&out[..len]);
        }
        assert_eq!(seen, (0..200).collect::<Vec<u8>>());
    }

    #[test]
    fn an_empty_spill_keeps_no_large_allocation() {
        let mut tx = Tx::new();
        tx.push(&vec![1; SPILL_KEPT_MAX * 2]);
        let mut out = vec![0; SPILL_KEPT_MAX * 2];
        tx.take(&mut out);
        assert_eq!(tx.spill.capacity(), 0);
    }
}

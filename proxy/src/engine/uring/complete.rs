//! Completions become results, or the next request of the same operation: whose completion it is,
//! how operations end, and polls. `received`, `sent` and `incoming` have the operations.

use io_uring::cqueue;
use rustix::event::PollFlags;
use rustix::io::Errno as SysErrno;

use super::super::op::{Done, DoneList, Errno, Interest, Outcome, SockRef};
use super::super::slots::{Inward, Outward, Side};
use super::Uring;
use super::id::{Id, RequestId};
use super::issue::events;
use super::socket::What;

/// A completion, taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) result: Result<u32, Errno>,
    /// The same request will complete again.
    pub(super) more: bool,
    /// The socket has more to read.
    pub(super) nonempty: bool,
    /// The provided buffer that was taken.
    pub(super) buffer: Option<u16>,
}

impl Completion {
    fn of(entry: &cqueue::Entry) -> Completion {
        let flags = entry.flags();
        let result = u32::try_from(entry.result());
        Completion {
            result: result.map_err(|_| Errno(entry.result().wrapping_neg())),
            more: cqueue::more(flags),
            nonempty: cqueue::sock_nonempty(flags),
            buffer: cqueue::buffer_select(flags),
        }
    }
}

#[cfg(test)]
impl Completion {
    /// The only completion of a request that failed.
    pub(super) fn failed(errno: Errno) -> Completion {
        Completion {
            result: Err(errno),
            more: false,
            nonempty: false,
            buffer: None,
        }
    }
}

/// How a poll stands after a completion of it.
pub(super) enum Polled {
    Waiting,
    Ready,
    Ended(Option<Errno>),
}

/// Whether it is that one of the system's errors.
pub(super) fn is(errno: Errno, other: SysErrno) -> bool {
    errno.0 == other.raw_os_error()
}

impl Uring {
    /// Takes one completion in.
    pub(super) fn complete(&mut self, entry: &cqueue::Entry, out: &mut DoneList) {
        let c = Completion::of(entry);
        match Id::decode(entry.user_data()) {
            Id::Nothing => {}
            Id::Waker if c.more => {}
            Id::Waker => self.ring.watch_waker(self.waker.fd()),
            Id::Cancel(id) => self.cancel_missed(id, c.result),
            Id::Request(id) => self.advance(id, c, out),
        }
    }

    /// A request on its way from one wait of the kernel's to the next is not found by its
    /// cancellation: ask again.
    pub(super) fn cancel_missed(&mut self, id: RequestId, result: Result<u32, Errno>) {
        let Some(e) = self.table.get_mut(id.name) else {
            return;
        };
        let request = e.request(id.side);
        let internal = matches!(
            request.what,
            What::EdgeMet | What::Stopping | What::Recalled
        );
        let wanted = request.cancelled || internal;
        let there = request.is_out() && request.seq == id.seq;
        if wanted && there && result.is_err_and(|e| is(e, SysErrno::NOENT)) {
            self.ring.cancel(id);
        }
    }

    /// Takes a completion of a request in.
    pub(super) fn advance(&mut self, id: RequestId, c: Completion, out: &mut DoneList) {
        let name = id.name;
        let known = self.table.get_mut(name).is_some_and(|e| {
            let request = e.request(id.side);
            request.is_out() && request.seq == id.seq
        });
        if !known {
            // A request keeps its socket, so there is none that this could belong to.
            debug_assert!(false, "a completion of nothing: {id:?} {c:?}");
            return;
        }
        if !c.more {
            self.ring.landed();
        }
        if self.table.get(name).is_some_and(|e| e.closing) {
            let mut nobodys = Vec::new();
            self.advance_side(id, c, &mut nobodys);
            for done in nobodys {
                self.swallow(done.what);
            }
            if self.table.get(name).is_some_and(|e| e.slots.is_idle()) {
                self.doom(name);
            }
        } else {
            self.advance_side(id, c, out);
        }
    }

    fn advance_side(&mut self, id: RequestId, c: Completion, out: &mut DoneList) {
        let name = id.name;
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        match id.side {
            Side::In => match e.slots.inward {
                Some((_, Inward::Accept)) => self.accept_completed(name, c, out),
                Some((_, Inward::Any { class, at, tail })) => {
                    self.receive_any_completed(name, (class, at, tail), c, out);
                }
                Some((_, Inward::Into { .. })) => self.receive_into_completed(name, c, out),
                Some((_, Inward::Ready)) => self.ready_completed(id, Interest::Read, c, out),
                None => {}
            },
            Side::Out => match e.slots.outward {
                Some((_, Outward::Connect { .. })) => self.connect_completed(name, c, out),
                Some((_, Outward::All { .. })) => self.send_completed(name, c, out),
                Some((_, Outward::Now { .. })) => self.send_now_completed(name, c, out),
                Some((_, Outward::Ready)) => self.ready_completed(id, Interest::Write, c, out),
                None => {}
            },
            Side::Watch => self.ready_completed(id, Interest::Hangup, c, out),
        }
    }

    /// Ends the operation of that side: cancelled with `None`.
    pub(super) fn finish(
        &mut self,
        name: SockRef,
        side: Side,
        errno: Option<Errno>,
        out: &mut DoneList,
    ) {
        let ended = self
            .table
            .get_mut(name)
            .and_then(|e| e.end(side, errno.filter(|e| *e != Errno::CANCELED)));
        if let Some((t, what)) = ended {
            out.push(Done::last(t, what));
        }
    }

    /// Ends an operation that can't go on: it was cancelled, or it failed.
    pub(super) fn fail(
        &mut self,
        name: SockRef,
        side: Side,
        why: (Errno, bool),
        out: &mut DoneList,
    ) {
        let (errno, cancelled) = why;
        // Reasons to try again are none to fail with, but the worker wants no further try.
        let retry = errno == Errno::AGAIN || errno == Errno::INTR || errno == Errno::NOBUFS;
        let errno = Some(errno).filter(|_| !(cancelled && retry));
        self.finish(name, side, errno, out);
    }

    /// The peer's direction has ended: a send that waits inside the kernel is to wait outside.
    pub(super) fn note_end(&mut self, name: SockRef) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let first = !std::mem::replace(&mut e.ended, true);
        let whole = matches!(e.slots.outward, Some((_, Outward::All { .. })));
        let id = e.current(name, Side::Out);
        let request = e.request(Side::Out);
        if first && whole && matches!(request.what, What::Op) && !request.cancelled {
            request.what = What::Recalled;
            self.ring.cancel(id);
        }
    }

    /// A completion of the poll that a `Ready` is.
    fn ready_completed(
        &mut self,
        RequestId { name, side, .. }: RequestId,
        want: Interest,
        c: Completion,
        out: &mut DoneList,
    ) {
        match self.polled(name, side, want, c) {
            Polled::Waiting => {}
            Polled::Ready => {
                // Its place is free again; what it would have ended as is not said.
                let ended = self.table.get_mut(name).and_then(|e| e.end(side, None));
                if let Some((t, _)) = ended {
                    out.push(Done::last(t, Outcome::Ready(want)));
                }
            }
            Polled::Ended(errno) => self.finish(name, side, errno, out),
        }
    }

    /// A completion of a poll: whether what it waits for has come. The kernel reports the peer's
    /// FIN to every poll; when that is not what is waited for, the poll goes on by edges.
    pub(super) fn polled(
        &mut self,
        name: SockRef,
        side: Side,
        want: Interest,
        c: Completion,
    ) -> Polled {
        let always = u32::from((PollFlags::ERR | PollFlags::HUP).bits());
        let fin = u32::from(PollFlags::RDHUP.bits());
        let mask = c.result.unwrap_or(0);
        if mask & (always | fin) != 0 {
            self.note_end(name);
        }
        let Some(e) = self.table.get_mut(name) else {
            return Polled::Ended(None);
        };
        let came = mask & (always | events(want)) != 0;
        let id = e.current(name, side);
        let request = e.request(side);
        if c.more {
            if came && matches!(request.what, What::Edge) {
                request.what = What::EdgeMet;
                if !request.cancelled {
                    self.ring.cancel(id);
                }
            }
            return Polled::Waiting;
        }
        let (what, cancelled) = request.land();
        let came = came || matches!(what, What::EdgeMet);
        match c.result {
            _ if came && (!cancelled || side == Side::Watch) => Polled::Ready,
            _ if cancelled => Polled::Ended(None),
            Err(errno) => Polled::Ended(Some(errno)),
            Ok(_) => {
                self.poll(name, side, want);
                Polled::Waiting
            }
        }
    }
}

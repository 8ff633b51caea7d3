//! Completions become results, or the next request of the same operation.

use io_uring::cqueue;
use rustix::event::PollFlags;
use rustix::io::Errno as SysErrno;
use rustix::net::{self, RecvFlags, sockopt};

use super::super::buf::{Buf, Class};
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
    nonempty: bool,
    /// The provided buffer that was taken.
    buffer: Option<u16>,
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
enum Polled {
    Waiting,
    Ready,
    Ended(Option<Errno>),
}

fn is(errno: Errno, other: SysErrno) -> bool {
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
                None => {}
            },
            Side::Out => match e.slots.outward {
                Some((_, Outward::Connect { .. })) => self.connect_completed(name, c, out),
                Some((_, Outward::All { .. })) => self.send_completed(name, c, out),
                Some((_, Outward::Now { .. })) => self.send_now_completed(name, c, out),
                None => {}
            },
            Side::Watch => self.watch_completed(name, c, out),
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
    fn fail(&mut self, name: SockRef, side: Side, why: (Errno, bool), out: &mut DoneList) {
        let (errno, cancelled) = why;
        // Reasons to try again are none to fail with, but the worker wants no further try.
        let retry = errno == Errno::AGAIN || errno == Errno::INTR || errno == Errno::NOBUFS;
        let errno = Some(errno).filter(|_| !(cancelled && retry));
        self.finish(name, side, errno, out);
    }

    // ---- receiving ------------------------------------------------------------------------

    /// Notes what a receive said of the socket.
    fn note_receive(&mut self, name: SockRef, c: Completion) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        match c.result {
            Ok(0) => self.note_end(name),
            Ok(_) => e.nonempty = c.nonempty,
            Err(_) => e.nonempty = false,
        }
    }

    /// The peer's direction has ended: a send that waits inside the kernel is to wait outside.
    fn note_end(&mut self, name: SockRef) {
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

    fn receive_into_completed(&mut self, name: SockRef, c: Completion, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        if matches!(e.request(Side::In).what, What::Poll) {
            match self.polled(name, Side::In, Interest::Read, c) {
                Polled::Waiting => {}
                Polled::Ready => {
                    self.expect_bytes(name);
                    self.issue(name, Side::In);
                }
                Polled::Ended(errno) => self.finish(name, Side::In, errno, out),
            }
            return;
        }
        let (_, cancelled) = e.request(Side::In).land();
        self.note_receive(name, c);
        match c.result {
            Ok(len) => self.received(name, None, len, c, out),
            Err(Errno::AGAIN) if !cancelled => self.poll(name, Side::In, Interest::Read),
            Err(Errno::INTR) if !cancelled => self.issue(name, Side::In),
            Err(errno) => self.fail(name, Side::In, (errno, cancelled), out),
        }
    }

    fn receive_any_completed(
        &mut self,
        name: SockRef,
        (class, at, tail): (Class, usize, usize),
        c: Completion,
        out: &mut DoneList,
    ) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        if matches!(e.request(Side::In).what, What::Poll) {
            match self.polled(name, Side::In, Interest::Read, c) {
                Polled::Waiting => {}
                Polled::Ready => self.bytes_are_there(name, (class, at, tail), out),
                Polled::Ended(errno) => self.finish(name, Side::In, errno, out),
            }
            return;
        }
        let (what, cancelled) = e.request(Side::In).land();
        // A failed or ended receive may have taken a buffer too.
        let lent = match (c.buffer, self.groups[class.index()].as_mut()) {
            (Some(number), Some(group)) => Some(group.taken(number, &self.pool)),
            _ => None,
        };
        let buf = match what {
            What::Own(buf) => Some(buf),
            What::None
            | What::Op
            | What::Poll
            | What::Edge
            | What::EdgeMet
            | What::Stopping
            | What::Recalled => lent,
        };
        self.note_receive(name, c);
        if let Ok(len) = c.result {
            return self.received(name, buf, len, c, out);
        }
        if let Some(buf) = buf {
            self.pool.free(buf);
        }
        match c.result {
            Err(Errno::NOBUFS) if !cancelled => {
                if let Some(group) = &mut self.groups[class.index()] {
                    group.grow();
                }
                self.issue(name, Side::In);
            }
            Err(Errno::AGAIN) if !cancelled => self.poll(name, Side::In, Interest::Read),
            Err(Errno::INTR) if !cancelled => self.issue(name, Side::In),
            Err(errno) => self.fail(name, Side::In, (errno, cancelled), out),
            Ok(_) => {}
        }
    }

    /// The result of a receive; the buffer is the operation's own unless it is given.
    fn received(
        &mut self,
        name: SockRef,
        given: Option<Buf>,
        len: u32,
        c: Completion,
        out: &mut DoneList,
    ) {
        let Some((t, op)) = self.table.get_mut(name).and_then(|e| e.slots.inward.take()) else {
            return;
        };
        if len == 0 {
            if let Some(buf) = given {
                self.pool.free(buf);
            }
            out.push(Done::last(t, op.eof()));
            return;
        }
        let (buf, at) = match op {
            Inward::Into { buf, at, .. } => (Some(buf), at),
            Inward::Any { at, .. } => (given, at),
            Inward::Accept => (given, 0),
        };
        // The kernel has no other place to put bytes than the buffer it names.
        assert!(buf.is_some(), "bytes without a buffer");
        if let Some(buf) = buf {
            let what = Outcome::Received {
                buf,
                at,
                len: len as usize,
                drained: !c.nonempty,
            };
            out.push(Done::last(t, what));
        }
    }

    /// A socket has bytes or its end, and its `RecvAny` no buffer yet.
    fn bytes_are_there(
        &mut self,
        name: SockRef,
        (class, at, tail): (Class, usize, usize),
        out: &mut DoneList,
    ) {
        if self.receive_own(name, class, at, tail) {
            return;
        }
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let group = self.groups[class.index()].as_mut();
        if group.is_some_and(|g| g.suits(at) && g.lent() > 0) {
            self.expect_bytes(name);
            return self.issue(name, Side::In);
        }
        self.ring.count_syscall();
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let what = match net::recv(&e.fd, &mut [0_u8; 1][..], flags) {
            Ok((0, _)) => Outcome::Eof { buf: None },
            Ok(_) => Outcome::Starved,
            Err(SysErrno::AGAIN | SysErrno::INTR) => {
                return self.poll(name, Side::In, Interest::Read);
            }
            Err(errno) => return self.finish(name, Side::In, Some(errno.into()), out),
        };
        if let Some((t, _)) = e.slots.inward.take() {
            out.push(Done::last(t, what));
        }
    }

    /// A poll has said that there is something: the next receive need not wait.
    fn expect_bytes(&mut self, name: SockRef) {
        if let Some(e) = self.table.get_mut(name) {
            e.nonempty = true;
        }
    }

    // ---- sending --------------------------------------------------------------------------

    fn send_completed(&mut self, name: SockRef, c: Completion, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let what = &e.request(Side::Out).what;
        let recalled = matches!(what, What::Recalled);
        if !recalled && !matches!(what, What::Op) {
            match self.polled(name, Side::Out, Interest::Write, c) {
                Polled::Waiting => {}
                Polled::Ready => self.issue(name, Side::Out),
                Polled::Ended(errno) => self.finish(name, Side::Out, errno, out),
            }
            return;
        }
        let (_, cancelled) = e.request(Side::Out).land();
        let mut left = 0;
        if let (Ok(moved), Some((_, Outward::All { range, .. }))) = (c.result, &mut e.slots.outward)
        {
            range.start = (range.start + moved as usize).min(range.end);
            left = range.len();
        }
        match c.result {
            Ok(_) if left == 0 => {
                if let Some((t, Outward::All { buf, .. })) = e.slots.outward.take() {
                    out.push(Done::last(t, Outcome::Sent { buf }));
                }
            }
            Ok(_) if cancelled => self.finish(name, Side::Out, None, out),
            // What the socket did not take has to wait for room.
            Ok(_) | Err(Errno::AGAIN) if !cancelled => {
                self.poll(name, Side::Out, Interest::Write);
            }
            Err(Errno::INTR) if !cancelled => self.issue(name, Side::Out),
            Err(Errno::CANCELED) if recalled && !cancelled => self.issue(name, Side::Out),
            Ok(_) => {}
            Err(errno) => self.fail(name, Side::Out, (errno, cancelled), out),
        }
    }

    fn send_now_completed(&mut self, name: SockRef, c: Completion, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let (_, cancelled) = e.request(Side::Out).land();
        let moved = match c.result {
            Ok(moved) => moved as usize,
            Err(Errno::AGAIN) => 0,
            Err(Errno::INTR) if !cancelled => return self.issue(name, Side::Out),
            Err(errno) => return self.fail(name, Side::Out, (errno, cancelled), out),
        };
        if let Some((t, Outward::Now { part })) = e.slots.outward.take() {
            out.push(Done::last(t, Outcome::SentNow { part, moved }));
        }
    }

    fn connect_completed(&mut self, name: SockRef, c: Completion, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let result = if matches!(e.request(Side::Out).what, What::Op) {
            let (_, cancelled) = e.request(Side::Out).land();
            match c.result {
                Ok(_) => Ok(()),
                Err(errno) if is(errno, SysErrno::ISCONN) => Ok(()),
                Err(errno) => {
                    let begun = [SysErrno::INPROGRESS, SysErrno::ALREADY];
                    let begun = errno == Errno::AGAIN
                        || errno == Errno::INTR
                        || begun.iter().any(|e| is(errno, *e));
                    if begun && !cancelled {
                        return self.poll(name, Side::Out, Interest::Write);
                    }
                    if begun { Err(None) } else { Err(Some(errno)) }
                }
            }
        } else {
            match self.polled(name, Side::Out, Interest::Write, c) {
                Polled::Waiting => return,
                Polled::Ready => self.dialed(name),
                Polled::Ended(errno) => Err(errno),
            }
        };
        match result {
            Ok(()) => {
                let op = self.table.get_mut(name).and_then(|e| {
                    e.dial = None;
                    e.slots.outward.take()
                });
                if let Some((t, _)) = op {
                    out.push(Done::last(t, Outcome::Connected));
                }
            }
            Err(errno) => self.finish(name, Side::Out, errno, out),
        }
    }

    /// How a connection attempt that was waited for has ended.
    fn dialed(&mut self, name: SockRef) -> Result<(), Option<Errno>> {
        let Some(e) = self.table.get_mut(name) else {
            return Err(None);
        };
        self.ring.count_syscall();
        match sockopt::socket_error(&e.fd) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(errno)) | Err(errno) => Err(Some(errno.into())),
        }
    }

    // ---- readiness ------------------------------------------------------------------------

    fn watch_completed(&mut self, name: SockRef, c: Completion, out: &mut DoneList) {
        let watched = self.table.get(name).and_then(|e| e.watched());
        let Some((t, want)) = watched else {
            return;
        };
        match self.polled(name, Side::Watch, want, c) {
            Polled::Waiting => {}
            Polled::Ready => {
                if let Some(e) = self.table.get_mut(name) {
                    e.slots.watch = None;
                }
                out.push(Done::last(t, Outcome::Ready(want)));
            }
            Polled::Ended(errno) => self.finish(name, Side::Watch, errno, out),
        }
    }

    /// A completion of a poll: whether what it waits for has come. The kernel reports the peer's
    /// FIN to every poll; when that is not what is waited for, the poll goes on by edges.
    fn polled(&mut self, name: SockRef, side: Side, want: Interest, c: Completion) -> Polled {
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

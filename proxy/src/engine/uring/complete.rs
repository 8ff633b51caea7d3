//! From a completion to a `Done`, or to the next step of its operation.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use io_uring::cqueue;
use rustix::event::PollFlags;
use rustix::io::Errno as SysErrno;
use rustix::net::sockopt;

use super::super::accept::{AcceptError, classify};
use super::super::buf::Buf;
use super::super::op::{Done, DoneList, Errno, Interest, Outcome, Sock, SockRef};
use super::super::os;
use super::super::slots::{self, Inward, Outward, Side};
use super::issue::{self, Code, Step};
use super::{Entry, Uring, place};

/// A completion's result: how many (or which descriptor, or which events), or why not.
type Res = Result<u32, Errno>;

/// Errors after which the same is tried again at once.
fn is_retry(e: Errno) -> bool {
    e == Errno::INTR
}

/// Poll results beyond what was asked for that end any wait.
const GONE: PollFlags = PollFlags::HUP.union(PollFlags::ERR);

fn events(mask: u32) -> PollFlags {
    PollFlags::from_bits_truncate(u16::try_from(mask & 0xffff).unwrap_or(0))
}

impl Uring {
    /// Deals with one completion.
    pub(super) fn complete(&mut self, cqe: &cqueue::Entry, out: &mut DoneList) {
        let (data, flags) = (cqe.user_data(), cqe.flags());
        let res: Res =
            u32::try_from(cqe.result()).map_err(|_| Errno(cqe.result().saturating_neg()));
        let more = cqueue::more(flags);
        if !more {
            self.in_flight -= 1;
        }
        match data {
            issue::WAKER => {
                if !more && res != Err(Errno::CANCELED) {
                    self.watch_waker();
                }
                return;
            }
            issue::ENGINE_CANCEL | issue::STEP_END => return,
            _ => {}
        }
        let name = SockRef(u32::try_from(data & 0xffff_ffff).unwrap_or(0));
        let code = data >> 32;
        if code == Code::Cancel as u64 {
            self.cancel_done(name);
            return;
        }
        let side = if code == Code::In as u64 {
            Side::In
        } else if code == Code::Out as u64 {
            Side::Out
        } else {
            Side::Watch
        };
        let Some(e) = self.table.get_mut(name) else {
            debug_assert!(false, "a completion of a socket that is gone");
            return;
        };
        let step = e.steps[place(side)];
        if !more {
            e.steps[place(side)] = None;
        }
        match (side, step) {
            (_, None) => debug_assert!(false, "a completion that was not waited for"),
            (Side::In, Some(Step::Main)) if matches!(e.slots.inward, Some((_, Inward::Accept))) => {
                self.accept_done(name, res, more, out);
            }
            (Side::In, Some(Step::Main)) => self.receive_done(name, res, flags, out),
            (Side::In, Some(_)) => self.in_poll_done(name, res, out),
            (Side::Out, Some(Step::Main)) => self.outward_done(name, res, out),
            (Side::Out, Some(step)) => self.out_poll_done(name, step, res, more, out),
            (Side::Watch, Some(step)) => self.watch_done(name, step, res, more, out),
        }
        if self.table.get(name).is_some_and(|e| e.zombie.is_some()) {
            self.bury(name);
        }
    }

    /// A cancel has been carried out; what it missed because it was between two steps gets another.
    fn cancel_done(&mut self, name: SockRef) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        e.cancelling = false;
        let missed = e
            .cancelled
            .iter()
            .zip(&e.steps)
            .any(|(c, step)| *c && step.is_some());
        if missed {
            self.cancel_in_kernel(name);
        }
    }

    /// Closes a socket that was closed too early, once everything of it is back.
    fn bury(&mut self, name: SockRef) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let Some(how) = e.zombie else { return };
        if e.in_kernel() || !e.slots.is_idle() {
            return;
        }
        os::prepare_close(e.fd.as_fd(), how);
        if let Some(e) = self.table.remove(name) {
            self.doomed.push(e.fd);
        }
    }

    fn finish(&mut self, name: SockRef, done: Done, out: &mut DoneList) {
        if self.table.get(name).is_some_and(|e| e.zombie.is_some()) {
            if let Some(buf) = slots::buffers_of(done.what) {
                self.pool.free(buf);
            }
        } else {
            out.push(done);
        }
    }

    // ---- inward ---------------------------------------------------------------------------

    fn end_inward(&mut self, name: SockRef, errno: Option<Errno>, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let Some((t, op)) = e.slots.inward.take() else {
            return;
        };
        self.finish(name, Done::last(t, op.ended(errno)), out);
    }

    fn receive_done(&mut self, name: SockRef, res: Res, flags: u32, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let cancelled = e.cancelled[0];
        let kind = match &e.slots.inward {
            Some((_, Inward::Any { class, at, tail })) => Some((*class, *at, *tail)),
            Some((_, Inward::Accept | Inward::Into { .. })) | None => None,
        };
        // A failed receive may carry a buffer too.
        let provided = match (cqueue::buffer_select(flags), kind) {
            (Some(bid), Some((class, ..))) => Some((e.group, class, bid)),
            _ => None,
        };
        let own = e.own.take();
        e.nonempty = cqueue::sock_nonempty(flags);
        let buf = match provided {
            Some((group, class, bid)) => {
                if let Some(g) = self.groups.get_mut(usize::from(group)) {
                    g.taken();
                }
                Some(self.pool.receive_lent(class, u32::from(bid)))
            }
            None => own,
        };
        match res {
            Ok(0) => {
                self.give_back(buf);
                let Some(e) = self.table.get_mut(name) else {
                    return;
                };
                e.ended = true;
                // An end can be read again at once.
                e.nonempty = true;
                if let Some((t, op)) = e.slots.inward.take() {
                    self.finish(name, Done::last(t, op.eof()), out);
                }
                self.recall_send(name);
            }
            Ok(len) => self.received(name, buf, len as usize, out),
            Err(Errno::CANCELED) => {
                self.give_back(buf);
                self.end_inward(name, None, out);
            }
            Err(_) if cancelled => {
                self.give_back(buf);
                self.end_inward(name, None, out);
            }
            Err(errno) if is_retry(errno) => {
                self.give_back(buf);
                self.issue(name, Side::In);
            }
            // No provided buffer was left, or the bytes are gone again: wait for bytes, then take
            // an own buffer.
            Err(Errno::NOBUFS | Errno::AGAIN) => {
                self.give_back(buf);
                self.issue_poll(name, Side::In);
            }
            Err(errno) => {
                self.give_back(buf);
                self.end_inward(name, Some(errno), out);
            }
        }
    }

    fn received(&mut self, name: SockRef, taken: Option<Buf>, len: usize, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let drained = !e.nonempty;
        let Some((t, op)) = e.slots.inward.take() else {
            return;
        };
        let (buf, at) = match op {
            Inward::Any { at, .. } => (taken, at),
            Inward::Into { buf, at, .. } => {
                self.give_back(taken);
                (Some(buf), at)
            }
            Inward::Accept => (taken, 0),
        };
        let Some(buf) = buf else {
            debug_assert!(false, "bytes without a buffer");
            return;
        };
        self.finish(
            name,
            Done::last(
                t,
                Outcome::Received {
                    buf,
                    at,
                    len,
                    drained,
                },
            ),
            out,
        );
    }

    fn give_back(&mut self, buf: Option<Buf>) {
        if let Some(buf) = buf {
            self.pool.free(buf);
        }
    }

    /// The socket may have bytes for a receive that found no provided buffer, or for an accept.
    fn in_poll_done(&mut self, name: SockRef, res: Res, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        if e.cancelled[0] {
            self.end_inward(name, None, out);
            return;
        }
        if let Err(errno) = res {
            let errno = if errno == Errno::CANCELED {
                None
            } else {
                Some(errno)
            };
            self.end_inward(name, errno, out);
            return;
        }
        e.nonempty = true;
        match e.slots.inward {
            Some((t, Inward::Any { class, at, tail })) => {
                if self.issue_own(name, (class, at, tail)) {
                    return;
                }
                if self.kernel_has_buffers((class, at, tail)) {
                    self.issue(name, Side::In);
                    return;
                }
                // An end or an error needs no buffer: the bytes decide whether this is hunger.
                match self.peek(name) {
                    Ok(0) => self.receive_done(name, Ok(0), 0, out),
                    Ok(_) => {
                        if let Some(e) = self.table.get_mut(name) {
                            e.slots.inward = None;
                        }
                        self.finish(name, Done::last(t, Outcome::Starved), out);
                    }
                    Err(errno) => self.receive_done(name, Err(errno), 0, out),
                }
            }
            Some((_, Inward::Accept | Inward::Into { .. })) | None => self.issue(name, Side::In),
        }
    }

    /// What a receive would find, taken without a buffer: bytes, 0 for an end, or an error.
    fn peek(&mut self, name: SockRef) -> Res {
        use rustix::net::{RecvFlags, recv};
        let Some(e) = self.table.get(name) else {
            return Err(Errno::BADF);
        };
        self.syscalls += 1;
        let mut byte = [0_u8; 1];
        match recv(&e.fd, &mut byte[..], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Ok((n, _)) => Ok(u32::try_from(n).unwrap_or(1)),
            Err(errno) => Err(errno.into()),
        }
    }

    // ---- accepting ------------------------------------------------------------------------

    fn accept_done(&mut self, name: SockRef, res: Res, more: bool, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let cancelled = e.cancelled[0];
        match res {
            Ok(fd) => {
                e.rests = 0;
                let fd = own_fd(fd);
                self.accepted(name, fd, out);
                if !more && cancelled {
                    self.end_inward(name, None, out);
                } else if !more {
                    self.accept_again(name, out);
                }
            }
            Err(_) if cancelled => self.end_inward(name, None, out),
            Err(errno) => match classify(errno) {
                // The table was full, so its accept was cancelled; or the multishot has ended.
                AcceptError::Again => self.accept_again(name, out),
                AcceptError::Empty => self.issue_poll(name, Side::In),
                AcceptError::Exhausted => self.rest(name),
                AcceptError::Fatal => self.end_inward(name, Some(errno), out),
            },
        }
    }

    fn accepted(&mut self, listener: SockRef, fd: OwnedFd, out: &mut DoneList) {
        if self.table.is_full() || !self.parked.is_empty() {
            self.parked.push_back((listener, fd));
            let Some(e) = self.table.get(listener) else {
                return;
            };
            if e.steps[0].is_some() {
                // No more than what came at once: the rest waits in the backlog.
                self.cancel_in_kernel(listener);
            }
            return;
        }
        self.welcome(listener, fd, out);
    }

    fn welcome(&mut self, listener: SockRef, fd: OwnedFd, out: &mut DoneList) {
        let Some((t, _)) = self
            .table
            .get(listener)
            .and_then(|e| e.slots.inward.as_ref())
        else {
            return;
        };
        let t = *t;
        self.syscalls += 1;
        // The peer may be gone again: then so is its address, and the connection with it.
        let Ok(from) = os::peer(fd.as_fd()) else {
            return;
        };
        let entry = Entry {
            nonempty: true,
            ..Entry::new(fd)
        };
        if let Ok(sock) = self.insert(entry) {
            let done = Done {
                token: t,
                more: true,
                what: Outcome::Accepted(sock, from),
            };
            self.finish_accepted(listener, done, out);
        }
    }

    fn finish_accepted(&mut self, listener: SockRef, done: Done, out: &mut DoneList) {
        if self.table.get(listener).is_some_and(|e| e.zombie.is_none()) {
            out.push(done);
        } else if let Outcome::Accepted(sock, _) = done.what {
            self.discard(sock);
        }
    }

    fn discard(&mut self, sock: Sock) {
        if let Some(e) = self.table.remove(sock.taken()) {
            self.doomed.push(e.fd);
        }
    }

    /// Hands out connections that were accepted when the table was full.
    pub(super) fn deliver_parked(&mut self, out: &mut DoneList) {
        for _ in 0..self.parked.len() {
            if self.table.is_full() {
                return;
            }
            let Some((listener, fd)) = self.parked.pop_front() else {
                return;
            };
            if self
                .table
                .get(listener)
                .is_some_and(|e| e.slots.inward.is_some())
            {
                self.welcome(listener, fd, out);
            } else {
                // Its accept was cancelled; the next one gets it.
                self.parked.push_back((listener, fd));
            }
        }
    }

    fn rest(&mut self, name: SockRef) {
        let now = os::monotonic();
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        e.rests += 1;
        self.rests.begin(name, e.fd.as_fd(), e.rests, now);
    }

    /// Accepts again, or rests while there is no place for a connection.
    pub(super) fn accept_again(&mut self, name: SockRef, out: &mut DoneList) {
        self.deliver_parked(out);
        let waits = self.parked.iter().any(|(listener, _)| *listener == name);
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        if e.slots.inward.is_none() || e.steps[0].is_some() {
            return;
        }
        if waits || self.table.is_full() {
            let until = os::monotonic();
            if let Some(e) = self.table.get(name) {
                self.rests.begin(name, e.fd.as_fd(), 0, until);
            }
        } else {
            self.issue(name, Side::In);
        }
    }

    // ---- outward --------------------------------------------------------------------------

    fn end_outward(&mut self, name: SockRef, what: Outcome, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let Some((t, _)) = e.slots.outward.take() else {
            return;
        };
        self.finish(name, Done::last(t, what), out);
    }

    fn outward_done(&mut self, name: SockRef, res: Res, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let cancelled = e.cancelled[1];
        let Some((t, op)) = e.slots.outward.take() else {
            return;
        };
        let what = match op {
            Outward::Connect { to } => {
                let under_way = [SysErrno::INPROGRESS, SysErrno::ALREADY, SysErrno::AGAIN];
                match res {
                    Ok(_) => Outcome::Connected,
                    Err(_) if cancelled => Outward::Connect { to }.ended(None),
                    Err(e2) if under_way.iter().any(|n| n.raw_os_error() == e2.0) => {
                        e.slots.outward = Some((t, Outward::Connect { to }));
                        self.issue_poll(name, Side::Out);
                        return;
                    }
                    Err(errno) => Outward::Connect { to }.ended(Some(errno)),
                }
            }
            Outward::All { buf, range } => {
                let moved = res.map(|n| n as usize);
                match moved {
                    Ok(n) if n >= range.len() => Outcome::Sent { buf },
                    Err(errno) if !cancelled && errno != Errno::AGAIN && !is_retry(errno) => {
                        let errno = if errno == Errno::CANCELED {
                            None
                        } else {
                            Some(errno)
                        };
                        Outward::All { buf, range }.ended(errno)
                    }
                    _ if cancelled => Outward::All { buf, range }.ended(None),
                    partly => {
                        // Resumed here: the worker sees one `Done`.
                        let n = partly.unwrap_or(0);
                        // What waited inside came back early: that alone is no want of room.
                        let short = n > 0 && e.waits_inside;
                        let op = Outward::All {
                            buf,
                            range: range.start + n..range.end,
                        };
                        e.slots.outward = Some((t, op));
                        if short || matches!(partly, Err(errno) if is_retry(errno)) {
                            self.issue(name, Side::Out);
                        } else {
                            self.issue_poll(name, Side::Out);
                        }
                        return;
                    }
                }
            }
            Outward::Now { part } => match res {
                Ok(n) => Outcome::SentNow {
                    part,
                    moved: n as usize,
                },
                Err(Errno::AGAIN | Errno::INTR) => Outcome::SentNow { part, moved: 0 },
                Err(Errno::CANCELED) => Outward::Now { part }.ended(None),
                Err(errno) => Outward::Now { part }.ended(Some(errno)),
            },
        };
        e.address = None;
        self.finish(name, Done::last(t, what), out);
    }

    /// There may be room for the rest of a send, or a connect may be over.
    fn out_poll_done(
        &mut self,
        name: SockRef,
        step: Step,
        res: Res,
        more: bool,
        out: &mut DoneList,
    ) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let found = step == Step::Found
            || res.is_ok_and(|mask| events(mask).intersects(PollFlags::OUT | GONE));
        if more {
            if found && step == Step::Poll && !e.cancelled[1] {
                self.end_poll(name, Side::Out);
            }
            return;
        }
        if e.cancelled[1] {
            if let Some((t, op)) = e.slots.outward.take() {
                self.finish(name, Done::last(t, op.ended(None)), out);
            }
            return;
        }
        if !found {
            // It ended by itself: poll anew.
            self.issue_poll(name, Side::Out);
            return;
        }
        if matches!(e.slots.outward, Some((_, Outward::Connect { .. }))) {
            let what = match sockopt::socket_error(&e.fd) {
                Ok(Ok(())) => Outcome::Connected,
                Ok(Err(errno)) | Err(errno) => Outcome::Failed {
                    errno: errno.into(),
                    buf: None,
                    part: None,
                },
            };
            self.end_outward(name, what, out);
        } else {
            self.issue(name, Side::Out);
        }
    }

    // ---- watches --------------------------------------------------------------------------

    fn watch_done(&mut self, name: SockRef, step: Step, res: Res, more: bool, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let Some((t, want)) = e.slots.watch else {
            return;
        };
        let wanted = match want {
            Interest::Read => PollFlags::IN | PollFlags::RDHUP | GONE,
            Interest::Write => PollFlags::OUT | GONE,
            Interest::Hangup => GONE,
        };
        let found = step == Step::Found || res.is_ok_and(|mask| events(mask).intersects(wanted));
        if more {
            if found && step != Step::Found && !e.cancelled[2] {
                self.end_poll(name, Side::Watch);
            }
            return;
        }
        let what = match res {
            _ if found => Outcome::Ready(want),
            _ if e.cancelled[2] => Outcome::Cancelled {
                buf: None,
                part: None,
            },
            Err(Errno::CANCELED) | Ok(_) => {
                // A multishot poll that ended by itself: watch anew.
                self.issue(name, Side::Watch);
                return;
            }
            Err(errno) => Outcome::Failed {
                errno,
                buf: None,
                part: None,
            },
        };
        if let Some(e) = self.table.get_mut(name) {
            e.slots.watch = None;
        }
        self.finish(name, Done::last(t, what), out);
    }
}

/// The descriptor that an accept completed with.
#[expect(
    unsafe_code,
    reason = "a completion is the only place a new descriptor comes from"
)]
fn own_fd(fd: u32) -> OwnedFd {
    let raw = i32::try_from(fd).unwrap_or(-1);
    // SAFETY: the kernel has just installed this descriptor for this completion, which is seen
    // once: nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

//! Completions of sends and connects.

use rustix::io::Errno as SysErrno;
use rustix::net::sockopt;

use super::super::op::{Done, DoneList, Errno, Interest, Outcome, SockRef};
use super::super::slots::{Outward, Side};
use super::Uring;
use super::complete::{Completion, Polled, is};
use super::socket::What;

impl Uring {
    pub(super) fn send_completed(&mut self, name: SockRef, c: Completion, out: &mut DoneList) {
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

    pub(super) fn send_now_completed(&mut self, name: SockRef, c: Completion, out: &mut DoneList) {
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

    pub(super) fn connect_completed(&mut self, name: SockRef, c: Completion, out: &mut DoneList) {
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
}

//! Accepting: many connections with one request, fewer when places run out, rests when nothing
//! more can be taken.
//!
//! ```text
//! places > margin   one request, completes again and again
//! places ≤ margin   that request is taken back; then one request per connection
//! none              rest, look again (see `accept`): connections wait in the backlog
//! ```
//! What the kernel accepted before the request could be taken back is `held` by the listening
//! socket and handed out first: at most a backlog, once.

#![expect(
    unsafe_code,
    reason = "a completion hands over a descriptor as a number"
)]

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use super::super::accept::{AcceptError, classify};
use super::super::op::{Done, DoneList, Errno, Interest, Outcome, SockRef};
use super::super::os;
use super::super::slots::Side;
use super::Uring;
use super::complete::Completion;
use super::socket::What;
use crate::limits::ACCEPT_MARGIN;

impl Uring {
    /// An `Accept` begins: held connections are handed out in the next turn, like everything.
    pub(super) fn accept_on_submit(&mut self, name: SockRef) {
        let mut local = std::mem::take(&mut self.local);
        self.accept_on(name, &mut local);
        self.local = local;
    }

    /// Goes on accepting, when nothing is in the kernel for it.
    pub(super) fn accept_on(&mut self, name: SockRef, out: &mut DoneList) {
        self.hand_out(name, out);
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        if e.slots.inward.is_none() || e.request(Side::In).is_out() {
            return;
        }
        if self.table.is_full() {
            self.rest(name);
        } else {
            self.accept_more(name);
        }
    }

    /// A completion of an `Accept`, or of the poll it waits with.
    pub(super) fn accept_completed(&mut self, name: SockRef, c: Completion, out: &mut DoneList) {
        let full = self.free_places() <= ACCEPT_MARGIN;
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let id = e.current(name, Side::In);
        let request = e.request(Side::In);
        let was_poll = matches!(request.what, What::Poll);
        let landed = if c.more {
            if full && matches!(request.what, What::Op) && !request.cancelled {
                request.what = What::Stopping;
                self.ring.cancel(id);
            }
            None
        } else {
            Some(request.land())
        };
        if let Some(number) = c.result.ok().filter(|_| !was_poll) {
            let number = i32::try_from(number).unwrap_or(i32::MAX);
            // SAFETY: the kernel made this descriptor for this request, and says so once.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            e.rests = 0;
            e.held.get_or_insert_default().0.push_back(fd);
            self.hand_out(name, out);
        }
        let Some((what, cancelled)) = landed else {
            return;
        };
        if cancelled {
            return self.finish(name, Side::In, None, out);
        }
        let stopped = matches!(what, What::Stopping);
        match c.result {
            Ok(_) => self.accept_on(name, out),
            Err(Errno::CANCELED) if !stopped => self.finish(name, Side::In, None, out),
            Err(errno) => match classify(errno) {
                AcceptError::Again => self.accept_on(name, out),
                AcceptError::Empty => self.poll(name, Side::In, Interest::Read),
                AcceptError::Exhausted => self.rest(name),
                AcceptError::Fatal => self.finish(name, Side::In, Some(errno), out),
            },
        }
    }

    /// Gives held connections to the worker while there are places.
    fn hand_out(&mut self, name: SockRef, out: &mut DoneList) {
        while !self.table.is_full() {
            let Some(e) = self.table.get_mut(name) else {
                return;
            };
            let Some((token, _)) = e.slots.inward else {
                return;
            };
            let Some(fd) = e.held.as_mut().and_then(|held| held.0.pop_front()) else {
                return;
            };
            self.ring.count_syscall();
            // A peer that is gone already has no address any more.
            let Ok(from) = os::peer(fd.as_fd()) else {
                continue;
            };
            if let Ok(sock) = self.adopt(fd) {
                out.push(Done {
                    token,
                    more: true,
                    what: Outcome::Accepted(sock, from),
                });
            }
        }
    }

    fn rest(&mut self, name: SockRef) {
        let now = os::boottime();
        if let Some(e) = self.table.get_mut(name) {
            e.rests += 1;
            self.rests.begin(name, e.fd.as_fd(), e.rests, now);
        }
    }
}

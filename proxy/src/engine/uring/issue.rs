//! From an operation to submission entries.
//!
//! ```text
//! user data   | 0 .. | code 8 bits | name of the socket 32 bits |
//! ```
//!
//! # Where a send waits for room
//! Best inside the kernel (MSG_WAITALL): the rest of a short send goes on without a completion.
//! But its waiting treats RDHUP, the peer's FIN, as readiness: a send that blocks on a half-closed
//! socket is retried in vain and then handed to a kernel thread that blocks, one per socket (seen
//! on 6.18). So a send waits inside only while a receive is armed, which is how the engine learns
//! of a FIN; when one comes, the send is recalled. Otherwise sends are MSG_DONTWAIT and wait
//! outside, with a multishot poll whose completions count only when they say that there is room.

#![expect(
    unsafe_code,
    reason = "pushes submission entries; the memory they name is in the slots"
)]

use std::os::fd::AsRawFd;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{opcode, squeue};
use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use super::super::buf::Class;
use super::super::op::{Interest, SockRef};
use super::super::slots::{Inward, Outward, Side};
use super::setup::Group;
use super::{Entry, Uring, place};

/// `IORING_RECVSEND_POLL_FIRST`: wait for readiness before the first try.
const POLL_FIRST: u16 = 1;

/// Which step of an operation the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The operation itself.
    Main,
    /// A poll before its next try.
    Poll,
    /// A multishot poll that has seen what it waits for and is being ended.
    Found,
}

/// What a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    In = 0,
    Out = 1,
    Watch = 2,
    Cancel = 3,
}

/// The waker's poll.
pub(super) const WAKER: u64 = 1 << 40;
/// The cancel at the end of an engine.
pub(super) const ENGINE_CANCEL: u64 = 2 << 40;
/// The end of a multishot poll, or a recalled send.
pub(super) const STEP_END: u64 = 3 << 40;

pub(super) fn user_data(name: SockRef, code: Code) -> u64 {
    u64::from(name.0) | (code as u64) << 32
}

fn code_of(side: Side) -> Code {
    match side {
        Side::In => Code::In,
        Side::Out => Code::Out,
        Side::Watch => Code::Watch,
    }
}

impl Uring {
    pub(super) fn try_push(&mut self, sqe: &squeue::Entry) -> bool {
        // SAFETY: what the entry points to (buffer, part, address) is owned by the slots of its
        // socket until its final completion was reaped (module invariants of `uring`).
        unsafe { self.ring.submission().push(sqe) }.is_ok()
    }

    /// Queues a submission for the next turn.
    pub(super) fn push(&mut self, sqe: squeue::Entry) {
        self.in_flight += 1;
        if !self.backlog.is_empty() || !self.try_push(&sqe) {
            self.backlog.push_back(sqe);
        }
    }

    pub(super) fn watch_waker(&mut self) {
        let fd = Fd(self.waker.fd().as_raw_fd());
        let events = u32::from(PollFlags::IN.bits());
        self.push(
            opcode::PollAdd::new(fd, events)
                .multi(true)
                .build()
                .user_data(WAKER),
        );
    }

    /// Gives the operation of that side to the kernel.
    pub(super) fn issue(&mut self, name: SockRef, side: Side) {
        let Some(e) = self.table.get(name) else {
            return;
        };
        let sqe = match side {
            Side::In => match &e.slots.inward {
                Some((_, Inward::Any { class, at, tail })) => {
                    let kind = (*class, *at, *tail);
                    self.issue_any(name, kind);
                    return;
                }
                Some((_, Inward::Accept)) => accept(e),
                Some((_, Inward::Into { buf, at, max })) => {
                    // SAFETY: `at` lies within the buffer (`Op::is_well_formed`).
                    let start = unsafe { buf.start().as_ptr().add(*at) };
                    let len = u32::try_from(*max).unwrap_or(u32::MAX);
                    opcode::Recv::new(Fd(e.fd.as_raw_fd()), start, len)
                        .ioprio(if e.nonempty { 0 } else { POLL_FIRST })
                        .build()
                }
                None => return,
            },
            Side::Out => match self.outward(name) {
                Some(sqe) => sqe,
                None => return,
            },
            Side::Watch => match &e.slots.watch {
                Some((_, want)) => watch(e, *want),
                None => return,
            },
        };
        self.put(name, side, Step::Main, sqe);
    }

    /// Waits until the side may go on, before its next try.
    pub(super) fn issue_poll(&mut self, name: SockRef, side: Side) {
        let Some(e) = self.table.get(name) else {
            return;
        };
        let fd = Fd(e.fd.as_raw_fd());
        let sqe = match side {
            Side::In | Side::Watch => {
                opcode::PollAdd::new(fd, u32::from(PollFlags::IN.bits())).build()
            }
            Side::Out => opcode::PollAdd::new(fd, u32::from(PollFlags::OUT.bits()))
                .multi(true)
                .build(),
        };
        self.put(name, side, Step::Poll, sqe);
    }

    /// The peer has sent its FIN: a send that waits in the kernel is to wait outside.
    pub(super) fn recall_send(&mut self, name: SockRef) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        if e.steps[1] == Some(Step::Main) && e.waits_inside && !e.recalled {
            e.recalled = true;
            let send = CancelBuilder::user_data(user_data(name, Code::Out));
            self.push(opcode::AsyncCancel2::new(send).build().user_data(STEP_END));
        }
    }

    /// Ends a multishot poll; its last completion is yet to come.
    pub(super) fn end_poll(&mut self, name: SockRef, side: Side) {
        if let Some(e) = self.table.get_mut(name) {
            e.steps[place(side)] = Some(Step::Found);
        }
        let poll = CancelBuilder::user_data(user_data(name, code_of(side)));
        self.push(opcode::AsyncCancel2::new(poll).build().user_data(STEP_END));
    }

    fn put(&mut self, name: SockRef, side: Side, step: Step, sqe: squeue::Entry) {
        if let Some(e) = self.table.get_mut(name) {
            debug_assert!(e.steps[place(side)].is_none());
            e.steps[place(side)] = Some(step);
        }
        self.push(sqe.user_data(user_data(name, code_of(side))));
    }

    fn issue_any(&mut self, name: SockRef, kind: (Class, usize, usize)) {
        let Some(group) = self.group(kind) else {
            self.issue_poll(name, Side::In);
            return;
        };
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        e.group = group;
        // Length 0: as much as the buffer was registered with.
        let sqe = opcode::Recv::new(Fd(e.fd.as_raw_fd()), std::ptr::null_mut(), 0)
            .buf_group(group)
            .ioprio(if e.nonempty { 0 } else { POLL_FIRST })
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.put(name, Side::In, Step::Main, sqe);
    }

    /// Tries to receive into an own buffer, without waiting. False: there is none.
    pub(super) fn issue_own(
        &mut self,
        name: SockRef,
        (class, at, tail): (Class, usize, usize),
    ) -> bool {
        let Some(buf) = self.pool.alloc(class) else {
            return false;
        };
        let Some(e) = self.table.get_mut(name) else {
            self.pool.free(buf);
            return true;
        };
        // SAFETY: `at` lies within the buffer (`Op::is_well_formed`).
        let start = unsafe { buf.start().as_ptr().add(at) };
        let len = u32::try_from(class.size() - at - tail).unwrap_or(u32::MAX);
        let flags = RecvFlags::DONTWAIT.bits().cast_signed();
        let sqe = opcode::Recv::new(Fd(e.fd.as_raw_fd()), start, len)
            .flags(flags)
            .build();
        e.own = Some(buf);
        self.put(name, Side::In, Step::Main, sqe);
        true
    }

    /// The group of provided buffers for that kind of receive, made when it is first asked for.
    fn group(&mut self, (class, at, tail): (Class, usize, usize)) -> Option<u16> {
        let mut of_class = 0;
        for (i, g) in self.groups.iter().enumerate() {
            if g.class == class {
                if (g.at, g.tail) == (at, tail) {
                    return u16::try_from(i).ok();
                }
                of_class += 1;
            }
        }
        let len = Group::size(&self.pool, class, of_class)?;
        let number = u16::try_from(self.groups.len()).ok()?;
        // Without memory for it, such receives poll.
        let mut group = Group::register(&self.ring, number, len, (class, at, tail)).ok()?;
        group.refill(&self.pool);
        self.groups.push(group);
        Some(number)
    }

    /// Whether provided buffers for that kind of receive are left.
    pub(super) fn kernel_has_buffers(&self, (class, at, tail): (Class, usize, usize)) -> bool {
        self.groups
            .iter()
            .any(|g| (g.class, g.at, g.tail) == (class, at, tail) && g.has_buffers())
    }

    fn outward(&mut self, name: SockRef) -> Option<squeue::Entry> {
        let e = self.table.get_mut(name)?;
        let fd = Fd(e.fd.as_raw_fd());
        let (_, op) = e.slots.outward.as_ref()?;
        Some(match op {
            Outward::Connect { to } => {
                let address = e.address.insert(Box::new((*to).into()));
                opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
            }
            Outward::All { buf, range } => {
                // SAFETY: the range lies within the buffer (`Op::is_well_formed`), and moved only
                // towards its end since.
                let start = unsafe { buf.start().as_ptr().add(range.start) };
                let len = u32::try_from(range.len()).unwrap_or(u32::MAX);
                e.waits_inside = !e.ended && e.slots.inward.is_some();
                let waits = if e.waits_inside {
                    WAITALL
                } else {
                    SendFlags::DONTWAIT.bits()
                };
                opcode::Send::new(fd, start, len)
                    .flags(no_signal(waits))
                    .build()
            }
            Outward::Now { part } => {
                // SAFETY: the range lies within the buffer (`Op::is_well_formed`).
                let start = unsafe { part.buf.start().as_ptr().add(part.range.start) };
                let len = u32::try_from(part.range.len()).unwrap_or(u32::MAX);
                let flags = no_signal(SendFlags::DONTWAIT.bits());
                opcode::Send::new(fd, start, len).flags(flags).build()
            }
        })
    }
}

/// On a send it asks the ring to go on after a short one.
const WAITALL: u32 = RecvFlags::WAITALL.bits();

fn no_signal(flags: u32) -> i32 {
    (SendFlags::NOSIGNAL.bits() | flags).cast_signed()
}

fn accept(e: &Entry) -> squeue::Entry {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    opcode::AcceptMulti::new(Fd(e.fd.as_raw_fd()))
        .flags(flags.bits().cast_signed())
        .build()
}

/// The kernel adds RDHUP to every poll. For bytes that is right; for room and for a hang-up it is
/// not, so these are multishot and their completions are filtered.
fn watch(e: &Entry, want: Interest) -> squeue::Entry {
    let fd = Fd(e.fd.as_raw_fd());
    match want {
        Interest::Read => opcode::PollAdd::new(fd, u32::from(PollFlags::IN.bits())).build(),
        Interest::Write => opcode::PollAdd::new(fd, u32::from(PollFlags::OUT.bits()))
            .multi(true)
            .build(),
        Interest::Hangup => opcode::PollAdd::new(fd, 0).multi(true).build(),
    }
}

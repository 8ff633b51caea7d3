//! Operations become requests. Send and receive mirror each other: try, and when the kernel says
//! that nothing moves just now (EAGAIN), wait for readiness on the ring and try again.
//!
//! ```text
//! RecvAny   group suits and has buffers  -> recv, the kernel picks the buffer
//!           else                         -> poll -> own buffer, recv that does not wait
//! RecvInto                               -> recv           (EAGAIN -> poll -> recv)
//! Send      a receive is armed           -> send, whole    (taken back when the peer's FIN comes)
//!           none, or the FIN was seen    -> send that does not wait -> poll -> send the rest
//! SendNow                                -> send that does not wait
//! Connect                                -> connect        (EAGAIN -> poll -> ask for the result)
//! Ready                                  -> poll
//! ```
//! The kernel waits for the room of a whole send by itself, which is cheapest. But once the peer
//! has sent FIN, its polls always report that: it tries a blocked send in vain over and over, and
//! at last gives it to a kernel thread (seen on 6.18). So a send waits inside only where a receive
//! would see the FIN; elsewhere the engine waits for room, by edges when the FIN is there.

#![expect(unsafe_code, reason = "requests carry pointers into buffers")]

use std::os::fd::{AsFd, AsRawFd};

use io_uring::squeue::{self, Flags};
use io_uring::{opcode, types::Fd};
use rustix::event::PollFlags;
use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, SocketFlags};

use super::super::buf::Class;
use super::super::op::{Done, Interest, SockRef};
use super::super::slots::{Inward, Outward, Side};
use super::Uring;
use super::ring::Ring;
use super::socket::{Socket, What};
use crate::limits::ACCEPT_MARGIN;

/// Wait for readiness before the first try (`IORING_RECVSEND_POLL_FIRST`): a try that finds nothing
/// is wasted.
const POLL_FIRST: u16 = 1;

/// What poll events an interest means. An error or a hang-up always counts as well.
pub(super) fn events(want: Interest) -> u32 {
    let flags = match want {
        Interest::Read => PollFlags::IN | PollFlags::RDHUP,
        Interest::Write => PollFlags::OUT,
        Interest::Hangup => PollFlags::empty(),
    };
    u32::from(flags.bits())
}

/// The flags of message calls are the same for both directions, and fit an `int`.
fn flags_of(bits: u32) -> i32 {
    i32::try_from(bits).unwrap_or(0)
}

fn len_of(bytes: usize) -> u32 {
    // Lengths are within a buffer, at most 256 KiB.
    u32::try_from(bytes).unwrap_or(0)
}

impl Uring {
    /// Puts the operation of that side on its way.
    pub(super) fn issue(&mut self, name: SockRef, side: Side) {
        match side {
            Side::In => self.issue_inward(name),
            Side::Out => self.issue_outward(name),
            Side::Watch => self.poll(name, Side::Watch, Interest::Hangup),
        }
    }

    /// Ends one side's operation as cancelled, at once where nothing is in the kernel.
    pub(super) fn cancel_side(&mut self, name: SockRef, side: Side) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        if !e.request(side).is_out() {
            if let Some((t, what)) = e.end(side, None) {
                self.local.push(Done::last(t, what));
            }
            if side == Side::In {
                self.rests.forget(name);
            }
        } else if !e.request(side).cancelled {
            e.request(side).cancelled = true;
            self.ring.cancel(e.current(name, side));
        }
    }

    fn issue_inward(&mut self, name: SockRef) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        match &e.slots.inward {
            Some((_, Inward::Any { class, at, tail })) => {
                let (class, at, tail) = (*class, *at, *tail);
                self.receive_any(name, class, at, tail);
            }
            Some((_, Inward::Into { buf, at, max })) => {
                // SAFETY: well-formed operations only: `at + max` is within the buffer.
                let start = unsafe { buf.start().add(*at) };
                let entry = opcode::Recv::new(fd(e), start.as_ptr(), len_of(*max))
                    .ioprio(patience(e))
                    .build();
                request(e, &mut self.ring, name, Side::In, What::Op, entry);
            }
            Some((_, Inward::Accept)) => self.accept_on_submit(name),
            Some((_, Inward::Ready)) => self.poll(name, Side::In, Interest::Read),
            None => {}
        }
    }

    fn receive_any(&mut self, name: SockRef, class: Class, at: usize, tail: usize) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let group = self.groups[class.index()]
            .as_mut()
            .filter(|g| g.lent() > 0 || self.pool.available(class) > 0)
            .and_then(|g| g.suits(at).then_some(g));
        if let Some(group) = group {
            let max = len_of(class.size() - at - tail);
            let entry = opcode::Recv::new(fd(e), std::ptr::null_mut(), max)
                .buf_group(group.id())
                .ioprio(patience(e))
                .build()
                .flags(Flags::BUFFER_SELECT);
            request(e, &mut self.ring, name, Side::In, What::Op, entry);
        } else if !e.nonempty || !self.receive_own(name, class, at, tail) {
            self.poll(name, Side::In, Interest::Read);
        }
    }

    /// Tries a `RecvAny` with an own buffer; false when there is none.
    pub(super) fn receive_own(
        &mut self,
        name: SockRef,
        class: Class,
        at: usize,
        tail: usize,
    ) -> bool {
        let Some(e) = self.table.get_mut(name) else {
            return false;
        };
        let Some(buf) = self.pool.alloc(class) else {
            return false;
        };
        // SAFETY: well-formed operations only: `at + tail` is within a buffer of the class.
        let start = unsafe { buf.start().add(at) };
        let max = len_of(class.size() - at - tail);
        let entry = opcode::Recv::new(fd(e), start.as_ptr(), max)
            .flags(flags_of(RecvFlags::DONTWAIT.bits()))
            .build();
        request(e, &mut self.ring, name, Side::In, What::Own(buf), entry);
        true
    }

    /// Accepts one connection after the other with one request, one at a time when the table is
    /// nearly full: the kernel would go on when no place is left.
    pub(super) fn accept_more(&mut self, name: SockRef) {
        let many = self.free_places() > ACCEPT_MARGIN;
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let flags = flags_of(flags.bits());
        let entry = if many {
            opcode::AcceptMulti::new(fd(e)).flags(flags).build()
        } else {
            let nobody = std::ptr::null_mut();
            opcode::Accept::new(fd(e), nobody, std::ptr::null_mut())
                .flags(flags)
                .build()
        };
        request(e, &mut self.ring, name, Side::In, What::Op, entry);
    }

    fn issue_outward(&mut self, name: SockRef) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let whole = SendFlags::NOSIGNAL.bits() | RecvFlags::WAITALL.bits();
        let at_once = SendFlags::NOSIGNAL.bits() | SendFlags::DONTWAIT.bits();
        let (start, len, flags) = match &e.slots.outward {
            Some((_, Outward::Connect { to })) => {
                let to = Box::new(SocketAddrAny::from(*to));
                let entry = opcode::Connect::new(fd(e), to.as_ptr().cast(), to.addr_len()).build();
                e.dial = Some(to);
                request(e, &mut self.ring, name, Side::Out, What::Op, entry);
                return;
            }
            Some((_, Outward::All { buf, range })) => {
                let inside = e.is_receiving() && !e.ended;
                let flags = if inside { whole } else { at_once };
                // SAFETY: well-formed operations only: the range is within the buffer.
                (unsafe { buf.start().add(range.start) }, range.len(), flags)
            }
            Some((_, Outward::Now { part })) => {
                // SAFETY: as above.
                let start = unsafe { part.buf.start().add(part.range.start) };
                (start, part.range.len(), at_once)
            }
            Some((_, Outward::Ready)) => return self.poll(name, Side::Out, Interest::Write),
            None => return,
        };
        let entry = opcode::Send::new(fd(e), start.as_ptr(), len_of(len))
            .flags(flags_of(flags))
            .build();
        request(e, &mut self.ring, name, Side::Out, What::Op, entry);
    }

    /// Waits for readiness: once, or by edges where the peer's FIN would end a one-time poll at once.
    pub(super) fn poll(&mut self, name: SockRef, side: Side, want: Interest) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let edges = e.ended && want != Interest::Read;
        let what = if edges { What::Edge } else { What::Poll };
        let id = e.begin(name, side, what);
        self.ring.poll(id, e.fd.as_fd(), events(want), edges);
    }
}

fn fd(e: &Socket) -> Fd {
    Fd(e.fd.as_raw_fd())
}

fn patience(e: &Socket) -> u16 {
    if e.nonempty { 0 } else { POLL_FIRST }
}

/// Queues a request of that side.
fn request(
    e: &mut Socket,
    ring: &mut Ring,
    name: SockRef,
    side: Side,
    what: What,
    entry: squeue::Entry,
) {
    let id = e.begin(name, side, what);
    // SAFETY: the entry points into a buffer of the operation or of `what`, both in this socket's
    // slots from now until the request's last completion; or into `dial`, which the next connect
    // replaces at the earliest and the kernel copies when it is submitted; or nowhere. Lent
    // buffers are nobody's until they come back. The table keeps the socket until then, and the
    // engine, when it is dropped, keeps or leaks the buffers.
    unsafe { ring.push_request(id, entry) }
}

//! Completions of receives: into the operation's own buffer, one that the kernel picked, or one
//! taken when bytes were there.

use rustix::io::Errno as SysErrno;
use rustix::net::{self, RecvFlags};

use super::super::buf::{Buf, Class};
use super::super::op::{Done, DoneList, Errno, Interest, Outcome, SockRef};
use super::super::slots::{Inward, Side};
use super::Uring;
use super::complete::{Completion, Polled};
use super::socket::What;

impl Uring {
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

    pub(super) fn receive_into_completed(
        &mut self,
        name: SockRef,
        c: Completion,
        out: &mut DoneList,
    ) {
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

    pub(super) fn receive_any_completed(
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
            Inward::Accept | Inward::Ready => (given, 0),
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
}

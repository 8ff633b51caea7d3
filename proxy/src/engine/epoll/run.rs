//! Trying operations: each function makes the system call of one side of one socket and either
//! completes the operation or leaves it for the next readiness.

use std::os::fd::AsFd;

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno as SysErrno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags, sockopt};

use super::super::accept::{AcceptError, classify};
use super::super::buf::{Buf, Class};
use super::super::op::{Done, DoneList, Errno, Interest, Outcome, Part, SockRef, Token};
use super::super::slots::{Inward, Outward};
use super::super::{Engine, os};
use super::{Entry, Epoll};
use crate::limits::ACCEPT_BURST;

/// What a receive into a buffer came to.
enum Got {
    Bytes { len: usize, drained: bool },
    Eof,
    Nothing,
    Error(Errno),
}

/// Receives into `buf[at..at + max]`. A short receive says that the socket is drained, unless the
/// peer's direction has ended: the end itself must still be read.
fn receive(e: &mut Entry, buf: &mut Buf, at: usize, max: usize) -> Got {
    loop {
        return match net::recv(&e.fd, &mut buf[at..at + max], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Got::Eof,
            Ok((len, _)) => {
                let drained = len < max;
                if drained && !e.ended {
                    e.readable = false;
                }
                Got::Bytes { len, drained }
            }
            Err(SysErrno::INTR) => continue,
            Err(SysErrno::AGAIN) => {
                e.readable = false;
                Got::Nothing
            }
            Err(err) => Got::Error(err.into()),
        };
    }
}

/// Whether there is something to read, found out without a buffer.
fn peek(e: &mut Entry) -> Got {
    let mut byte = [0_u8; 1];
    loop {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        return match net::recv(&e.fd, &mut byte[..], flags) {
            Ok((0, _)) => Got::Eof,
            Ok((len, _)) => Got::Bytes {
                len,
                drained: false,
            },
            Err(SysErrno::INTR) => continue,
            Err(SysErrno::AGAIN) => {
                e.readable = false;
                Got::Nothing
            }
            Err(err) => Got::Error(err.into()),
        };
    }
}

/// Sends what the socket takes of `bytes`: how many, or an error other than EAGAIN.
fn send_some(e: &mut Entry, bytes: &[u8]) -> Result<usize, Errno> {
    let mut moved = 0;
    while moved < bytes.len() {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match net::send(&e.fd, &bytes[moved..], flags) {
            Ok(n) => {
                moved += n;
                // The kernel has noted that space is wanted: an edge will come.
                if moved < bytes.len() {
                    e.writable = false;
                    break;
                }
            }
            Err(SysErrno::INTR) => {}
            Err(SysErrno::AGAIN) => {
                e.writable = false;
                break;
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(moved)
}

impl Epoll {
    /// Tries the send or the connect of a socket.
    pub(super) fn try_outward(&mut self, name: SockRef, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let Some((t, op)) = e.slots.outward.take() else {
            return;
        };
        match op {
            Outward::Connect { to } => self.try_connect(name, t, to, out),
            Outward::All { buf, range } => {
                if !e.writable {
                    e.slots.outward = Some((t, Outward::All { buf, range }));
                    return;
                }
                self.syscalls += 1;
                match send_some(e, &buf[range.clone()]) {
                    Ok(n) if n == range.len() => out.push(Done::last(t, Outcome::Sent { buf })),
                    Ok(n) => {
                        let range = range.start + n..range.end;
                        e.slots.outward = Some((t, Outward::All { buf, range }));
                    }
                    Err(errno) => {
                        let what = Outward::All { buf, range }.ended(Some(errno));
                        out.push(Done::last(t, what));
                    }
                }
            }
            Outward::Ready => {
                if e.writable {
                    self.syscalls += 1;
                    e.writable = is_ready(e, PollFlags::OUT);
                }
                if e.writable {
                    out.push(Done::last(t, Outcome::Ready(Interest::Write)));
                } else {
                    e.slots.outward = Some((t, Outward::Ready));
                }
            }
            Outward::Now { part } => {
                let what = if e.writable {
                    self.syscalls += 1;
                    send_now(e, part)
                } else {
                    Outcome::SentNow { part, moved: 0 }
                };
                out.push(Done::last(t, what));
            }
        }
    }

    fn try_connect(
        &mut self,
        name: SockRef,
        t: Token,
        to: std::net::SocketAddr,
        out: &mut DoneList,
    ) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let result = if e.connecting {
            if !e.writable {
                e.slots.outward = Some((t, Outward::Connect { to }));
                return;
            }
            self.syscalls += 1;
            sockopt::socket_error(&e.fd).and_then(|pending| pending)
        } else {
            e.connecting = true;
            self.syscalls += 1;
            let begun = net::connect(&e.fd, &to);
            if matches!(begun, Ok(()) | Err(SysErrno::INPROGRESS | SysErrno::INTR))
                && let Err(err) = self.join(name, EventFlags::OUT | EventFlags::RDHUP)
            {
                let errno = Errno(err.raw_os_error().unwrap_or(Errno::NOMEM.0));
                out.push(Done::last(t, Outward::Connect { to }.ended(Some(errno))));
                return;
            }
            begun
        };
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        match result {
            Ok(()) => {
                e.writable = true;
                out.push(Done::last(t, Outcome::Connected));
            }
            Err(SysErrno::INPROGRESS | SysErrno::INTR) => {
                e.slots.outward = Some((t, Outward::Connect { to }));
            }
            Err(err) => {
                let what = Outward::Connect { to }.ended(Some(err.into()));
                out.push(Done::last(t, what));
            }
        }
    }

    /// Tries the receive or the accept of a socket.
    pub(super) fn try_inward(&mut self, name: SockRef, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        if !e.readable {
            return;
        }
        let Some((t, op)) = e.slots.inward.take() else {
            return;
        };
        match op {
            Inward::Accept => self.try_accept(name, t, out),
            Inward::Ready => {
                self.syscalls += 1;
                e.readable = is_ready(e, PollFlags::IN);
                if e.readable {
                    out.push(Done::last(t, Outcome::Ready(Interest::Read)));
                } else {
                    e.slots.inward = Some((t, Inward::Ready));
                }
            }
            Inward::Any { class, at, tail } => {
                self.try_receive_any(name, t, (class, at, tail), out)
            }
            Inward::Into { mut buf, at, max } => {
                self.syscalls += 1;
                let what = match receive(e, &mut buf, at, max) {
                    Got::Bytes { len, drained } => Outcome::Received {
                        buf,
                        at,
                        len,
                        drained,
                    },
                    Got::Eof => Inward::Into { buf, at, max }.eof(),
                    Got::Error(errno) => Inward::Into { buf, at, max }.ended(Some(errno)),
                    Got::Nothing => {
                        e.slots.inward = Some((t, Inward::Into { buf, at, max }));
                        return;
                    }
                };
                out.push(Done::last(t, what));
            }
        }
    }

    fn try_receive_any(
        &mut self,
        name: SockRef,
        t: Token,
        (class, at, tail): (Class, usize, usize),
        out: &mut DoneList,
    ) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let op = Inward::Any { class, at, tail };
        self.syscalls += 1;
        let mut buf = self.pool.alloc(class);
        let got = match &mut buf {
            Some(buf) => receive(e, buf, at, class.size() - at - tail),
            None => peek(e),
        };
        let what = match (got, buf.take()) {
            (Got::Bytes { len, drained }, Some(buf)) => Outcome::Received {
                buf,
                at,
                len,
                drained,
            },
            (Got::Bytes { .. }, None) => Outcome::Starved,
            (Got::Eof, unused) => {
                self.give_back(unused);
                op.eof()
            }
            (Got::Error(errno), unused) => {
                self.give_back(unused);
                op.ended(Some(errno))
            }
            (Got::Nothing, unused) => {
                e.slots.inward = Some((t, op));
                self.give_back(unused);
                return;
            }
        };
        out.push(Done::last(t, what));
    }

    fn give_back(&mut self, unused: Option<Buf>) {
        if let Some(buf) = unused {
            self.free(buf);
        }
    }

    fn try_accept(&mut self, name: SockRef, t: Token, out: &mut DoneList) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let mut more = true;
        for _ in 0..ACCEPT_BURST {
            let accepted = if self.table.is_full() {
                Err(SysErrno::MFILE)
            } else {
                self.syscalls += 1;
                let Some(e) = self.table.get(name) else {
                    return;
                };
                net::acceptfrom_with(&e.fd, flags)
            };
            match accepted {
                Ok((fd, from)) => {
                    if let Some(e) = self.table.get_mut(name) {
                        e.rests = 0;
                    }
                    let from = match from.and_then(|a| a.try_into().ok()) {
                        Some(from) => from,
                        None => match os::peer(fd.as_fd()) {
                            Ok(from) => from,
                            Err(_) => continue,
                        },
                    };
                    // A set that can't grow (ENOMEM, max_user_watches) costs the connection.
                    if let Ok(sock) = self.adopt(fd) {
                        out.push(Done {
                            token: t,
                            more: true,
                            what: Outcome::Accepted(sock, from),
                        });
                    }
                }
                Err(err) => match classify(err.into()) {
                    AcceptError::Again => {}
                    AcceptError::Empty => {
                        more = false;
                        break;
                    }
                    AcceptError::Exhausted => {
                        self.rest(name);
                        more = false;
                        break;
                    }
                    AcceptError::Fatal => {
                        out.push(Done::last(t, Inward::Accept.ended(Some(err.into()))));
                        return;
                    }
                },
            }
        }
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        e.slots.inward = Some((t, Inward::Accept));
        e.readable = more;
        if more {
            self.enqueue(name);
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

    /// Checks whether the hang-up that is waited for has come.
    pub(super) fn try_watch(&mut self, name: SockRef, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let Some(t) = e.slots.watch else {
            return;
        };
        self.syscalls += 1;
        if is_ready(e, PollFlags::empty()) {
            e.slots.watch = None;
            out.push(Done::last(t, Outcome::Ready(Interest::Hangup)));
        }
    }
}

/// Whether one of the events, an error or a hang-up is there, exactly: remembered readiness may be
/// stale. When it is not, an edge will come.
fn is_ready(e: &Entry, events: PollFlags) -> bool {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let found = poll(&mut [PollFd::new(&e.fd, events)], Some(&at_once));
    matches!(found, Ok(n) if n > 0)
}

fn send_now(e: &mut Entry, part: Part) -> Outcome {
    match send_some(e, &part.buf[part.range.clone()]) {
        Ok(moved) => Outcome::SentNow { part, moved },
        Err(errno) => Outward::Now { part }.ended(Some(errno)),
    }
}

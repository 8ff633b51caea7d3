//! A socket and what the kernel holds for it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::net::SocketAddrAny;

use super::super::buf::Buf;
use super::super::op::{Errno, Outcome, SockRef, Token};
use super::super::slots::{self, Inward, Side, Slots};
use super::id::{self, RequestId};

/// All sides, in the order of [`Socket::requests`].
pub(super) const SIDES: [Side; 3] = [Side::In, Side::Out, Side::Watch];

/// What a request in the kernel does for its operation.
#[derive(Debug, Default)]
pub(super) enum What {
    /// Nothing is in the kernel.
    #[default]
    None,
    /// The operation itself.
    Op,
    /// A `RecvAny` into a buffer taken when bytes were said to be there. It does not wait.
    Own(Buf),
    /// Waiting for readiness, once.
    Poll,
    /// Waiting for readiness, each change of it reported: a one-time poll also ends at the peer's
    /// FIN, over and over, when that is not what is waited for.
    Edge,
    /// As `Edge`; it came, and the poll is being taken back.
    EdgeMet,
    /// An accept that is being taken back because the table fills up.
    Stopping,
    /// A send that is being taken back because the peer's direction has ended meanwhile.
    Recalled,
}

/// One side's request.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) what: What,
    pub(super) seq: u32,
    /// The worker asked the operation to end: nothing is issued for it any more.
    pub(super) cancelled: bool,
}

impl Request {
    /// Whether something is in the kernel.
    pub(super) fn is_out(&self) -> bool {
        !matches!(self.what, What::None)
    }

    /// Its last completion was seen: what it was, and whether it was to end.
    pub(super) fn land(&mut self) -> (What, bool) {
        let what = std::mem::take(&mut self.what);
        (what, std::mem::take(&mut self.cancelled))
    }
}

/// Connections of a listening socket that are to be handed out first.
#[derive(Debug, Default)]
pub(super) struct Held(pub(super) VecDeque<OwnedFd>);

/// A socket of the engine.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    pub(super) slots: Slots,
    pub(super) requests: [Request; 3],
    /// Address of a `Connect`; the kernel copies it when it is submitted.
    pub(super) dial: Option<Box<SocketAddrAny>>,
    seq: u32,
    /// The last receive said that more is there (or there was none yet): the next one may try at
    /// once instead of waiting first.
    pub(super) nonempty: bool,
    /// The peer's direction has ended: one-time polls see that instead of what they wait for.
    pub(super) ended: bool,
    /// Rests in a row of a listening socket.
    pub(super) rests: u32,
    /// Connections that the kernel had accepted when the table was full already. Most sockets
    /// listen to nothing and are small.
    pub(super) held: Option<Box<Held>>,
    /// Closed by the worker with operations in flight.
    pub(super) closing: bool,
}

impl Socket {
    /// A socket with nothing in flight.
    pub(super) fn new(fd: OwnedFd) -> Socket {
        Socket {
            fd,
            slots: Slots::default(),
            requests: Default::default(),
            dial: None,
            seq: 0,
            nonempty: true,
            ended: false,
            rests: 0,
            held: None,
            closing: false,
        }
    }

    /// The request of that side.
    pub(super) fn request(&mut self, side: Side) -> &mut Request {
        &mut self.requests[index(side)]
    }

    /// Notes a new request of that side and names it.
    pub(super) fn begin(&mut self, name: SockRef, side: Side, what: What) -> RequestId {
        self.seq = id::next(self.seq);
        let seq = self.seq;
        let request = self.request(side);
        debug_assert!(!request.is_out(), "one request per side");
        request.what = what;
        request.seq = seq;
        RequestId { name, side, seq }
    }

    /// The name of the request in the kernel.
    pub(super) fn current(&self, name: SockRef, side: Side) -> RequestId {
        RequestId {
            name,
            side,
            seq: self.requests[index(side)].seq,
        }
    }

    /// Takes the operation of that side out, ended by an error or, with `None`, cancelled.
    pub(super) fn end(&mut self, side: Side, errno: Option<Errno>) -> Option<(Token, Outcome)> {
        match side {
            Side::In => self.slots.inward.take().map(|(t, op)| (t, op.ended(errno))),
            Side::Out => self
                .slots
                .outward
                .take()
                .map(|(t, op)| (t, op.ended(errno))),
            Side::Watch => self.slots.watch.take().map(|t| (t, watch_end(errno))),
        }
    }

    /// Takes the buffers of all operations out, when the engine ends.
    pub(super) fn take_buffers(&mut self) -> impl Iterator<Item = Buf> + use<> {
        let own = match self.request(Side::In).land().0 {
            What::Own(buf) => Some(buf),
            What::None
            | What::Op
            | What::Poll
            | What::Edge
            | What::EdgeMet
            | What::Stopping
            | What::Recalled => None,
        };
        let operations = [self.end(Side::In, None), self.end(Side::Out, None)];
        operations
            .into_iter()
            .flatten()
            .filter_map(|(_, what)| slots::buffers_of(what))
            .chain(own)
    }

    /// Whether a receive, or a wait for bytes, is on its way, so that the peer's FIN will not go
    /// unnoticed.
    pub(super) fn is_receiving(&self) -> bool {
        let receives = matches!(
            self.slots.inward,
            Some((_, Inward::Any { .. } | Inward::Into { .. } | Inward::Ready))
        );
        receives && self.requests[index(Side::In)].is_out()
    }
}

fn watch_end(errno: Option<Errno>) -> Outcome {
    let (buf, part) = (None, None);
    match errno {
        Some(errno) => Outcome::Failed { errno, buf, part },
        None => Outcome::Cancelled { buf, part },
    }
}

fn index(side: Side) -> usize {
    match side {
        Side::In => 0,
        Side::Out => 1,
        Side::Watch => 2,
    }
}

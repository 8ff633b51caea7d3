//! The operations in flight on one socket: one inward, one outward, one watch. What is common to
//! the engines: which side an operation takes, and how it ends when nothing comes of it.

use std::net::SocketAddr;
use std::ops::Range;

use super::buf::{Buf, Class};
use super::op::{Errno, Interest, Op, Outcome, Part, Token};

/// An operation that takes bytes or connections in.
#[derive(Debug)]
pub(super) enum Inward {
    /// `Op::Accept`.
    Accept,
    /// `Op::RecvAny`.
    Any {
        class: Class,
        at: usize,
        tail: usize,
    },
    /// `Op::RecvInto`.
    Into { buf: Buf, at: usize, max: usize },
    /// `Op::Ready` for bytes.
    Ready,
}

/// An operation that brings bytes or a connection out.
#[derive(Debug)]
pub(super) enum Outward {
    /// `Op::Connect`.
    Connect { to: SocketAddr },
    /// `Op::Send`: what is left of it.
    All { buf: Buf, range: Range<usize> },
    /// `Op::SendNow`.
    Now { part: Part },
    /// `Op::Ready` for room.
    Ready,
}

/// Which of the three places an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// `Slots::inward`.
    In,
    /// `Slots::outward`.
    Out,
    /// `Slots::watch`.
    Watch,
}

/// What is in flight on one socket.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) inward: Option<(Token, Inward)>,
    pub(super) outward: Option<(Token, Outward)>,
    /// `Op::Ready` for a hang-up.
    pub(super) watch: Option<Token>,
}

impl Slots {
    /// Whether nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.inward.is_none() && self.outward.is_none() && self.watch.is_none()
    }

    /// Puts an operation in its place; gives it back when the place is taken.
    pub(super) fn put(&mut self, token: Token, op: Op) -> Result<Side, Op> {
        let (side, taken) = match op {
            Op::Accept { .. }
            | Op::RecvAny { .. }
            | Op::RecvInto { .. }
            | Op::Ready {
                want: Interest::Read,
                ..
            } => (Side::In, self.inward.is_some()),
            Op::Connect { .. }
            | Op::Send { .. }
            | Op::SendNow { .. }
            | Op::Ready {
                want: Interest::Write,
                ..
            } => (Side::Out, self.outward.is_some()),
            Op::Ready {
                want: Interest::Hangup,
                ..
            } => (Side::Watch, self.watch.is_some()),
        };
        if taken {
            return Err(op);
        }
        match op {
            Op::Accept { .. } => self.inward = Some((token, Inward::Accept)),
            Op::RecvAny {
                class, at, tail, ..
            } => {
                self.inward = Some((token, Inward::Any { class, at, tail }));
            }
            Op::RecvInto { buf, at, max, .. } => {
                self.inward = Some((token, Inward::Into { buf, at, max }));
            }
            Op::Connect { to, .. } => self.outward = Some((token, Outward::Connect { to })),
            Op::Send { buf, range, .. } => {
                self.outward = Some((token, Outward::All { buf, range }));
            }
            Op::SendNow { part, .. } => self.outward = Some((token, Outward::Now { part })),
            Op::Ready { want, .. } => match want {
                Interest::Read => self.inward = Some((token, Inward::Ready)),
                Interest::Write => self.outward = Some((token, Outward::Ready)),
                Interest::Hangup => self.watch = Some(token),
            },
        }
        Ok(side)
    }
}

impl Inward {
    /// Its end when it was cancelled (`None`) or failed.
    pub(super) fn ended(self, errno: Option<Errno>) -> Outcome {
        match self {
            Inward::Accept | Inward::Any { .. } | Inward::Ready => end(errno, None, None),
            Inward::Into { buf, .. } => end(errno, Some(buf), None),
        }
    }

    /// Its end at the peer's FIN.
    pub(super) fn eof(self) -> Outcome {
        match self {
            Inward::Accept | Inward::Any { .. } | Inward::Ready => Outcome::Eof { buf: None },
            Inward::Into { buf, .. } => Outcome::Eof { buf: Some(buf) },
        }
    }
}

impl Outward {
    /// Its end when it was cancelled (`None`) or failed.
    pub(super) fn ended(self, errno: Option<Errno>) -> Outcome {
        match self {
            Outward::Connect { .. } | Outward::Ready => end(errno, None, None),
            Outward::All { buf, .. } => end(errno, Some(buf), None),
            Outward::Now { part } => end(errno, None, Some(part)),
        }
    }
}

fn end(errno: Option<Errno>, buf: Option<Buf>, part: Option<Part>) -> Outcome {
    match errno {
        Some(errno) => Outcome::Failed { errno, buf, part },
        None => Outcome::Cancelled { buf, part },
    }
}

/// The end of an operation that never came into flight.
pub(super) fn refuse(op: Op, errno: Errno) -> Outcome {
    match op {
        Op::RecvInto { buf, .. } | Op::Send { buf, .. } => end(Some(errno), Some(buf), None),
        Op::SendNow { part, .. } => end(Some(errno), None, Some(part)),
        Op::Accept { .. } | Op::Connect { .. } | Op::RecvAny { .. } | Op::Ready { .. } => {
            end(Some(errno), None, None)
        }
    }
}

/// The buffers that an outcome carries, for an engine that must swallow it.
pub(super) fn buffers_of(what: Outcome) -> Option<Buf> {
    match what {
        Outcome::Received { buf, .. } | Outcome::Sent { buf } => Some(buf),
        Outcome::Eof { buf } => buf,
        Outcome::SentNow { part, .. } => std::rc::Rc::try_unwrap(part.buf).ok(),
        Outcome::Failed { buf, part, .. } | Outcome::Cancelled { buf, part } => {
            buf.or_else(|| part.and_then(|p| std::rc::Rc::try_unwrap(p.buf).ok()))
        }
        // A socket that nobody will take is reported by its own drop, and closed with its engine.
        Outcome::Accepted(..) | Outcome::Connected | Outcome::Ready(_) | Outcome::Starved => None,
    }
}

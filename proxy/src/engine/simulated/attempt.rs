//! Attempts at operations: what a simulated engine does for each socket in a turn.

use super::engine::SimEngine;
use super::faults::OpKind;
use super::net::{Owner, Read, SockId};
use crate::engine::op::Done;
use crate::engine::slots::{Inward, Outward};
use crate::engine::{DoneList, Errno, Interest, Outcome, SockRef, Token};
use crate::limits::{ACCEPT_BURST, ACCEPT_PAUSE};

/// What is left of an operation after an attempt.
enum Tried<T> {
    Ended(Outcome),
    Stays(T),
}

impl SimEngine {
    pub(super) fn try_outward(&mut self, name: SockRef, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let Some((t, op)) = e.slots.outward.take() else {
            return;
        };
        let (id, cancel) = (e.id, std::mem::take(&mut e.cancel[1]));
        let mut net = self.net.borrow_mut();
        if cancel {
            // A cancelled send may have moved bytes.
            if let Outward::All { buf, range } = &op
                && net.rng.chance(500)
            {
                let _ = net.write(id, &buf[range.clone()]);
            }
            out.push(Done::last(t, op.ended(None)));
            return;
        }
        let kind = match &op {
            Outward::Connect { .. } => OpKind::Connect,
            Outward::All { .. } | Outward::Now { .. } => OpKind::Send,
            Outward::Ready => {
                if net.is_writable(id) || net.is_hung_up(id) {
                    out.push(Done::last(t, Outcome::Ready(Interest::Write)));
                } else {
                    e.slots.outward = Some((t, op));
                }
                return;
            }
        };
        if let Some(errno) = net.ordered(self.id, kind) {
            net.break_off(id, errno);
            out.push(Done::last(t, op.ended(Some(errno))));
            return;
        }
        let tried = match op {
            Outward::Connect { to } => {
                if !std::mem::replace(&mut e.connecting, true) {
                    net.connect(id, to);
                }
                match net.connect_state(id) {
                    None => Tried::Stays(Outward::Connect { to }),
                    Some(Ok(())) => Tried::Ended(Outcome::Connected),
                    Some(Err(errno)) => Tried::Ended(Outward::Connect { to }.ended(Some(errno))),
                }
            }
            Outward::All { buf, range } => match net.write(id, &buf[range.clone()]) {
                Ok(n) if n == range.len() => Tried::Ended(Outcome::Sent { buf }),
                Ok(n) => {
                    if n > 0 {
                        net.nudge(self.id);
                    }
                    Tried::Stays(Outward::All {
                        buf,
                        range: range.start + n..range.end,
                    })
                }
                Err(errno) => Tried::Ended(Outward::All { buf, range }.ended(Some(errno))),
            },
            Outward::Ready => Tried::Stays(Outward::Ready),
            Outward::Now { part } => {
                Tried::Ended(match net.write(id, &part.buf[part.range.clone()]) {
                    Ok(moved) => Outcome::SentNow { part, moved },
                    Err(errno) => Outward::Now { part }.ended(Some(errno)),
                })
            }
        };
        match tried {
            Tried::Ended(what) => out.push(Done::last(t, what)),
            Tried::Stays(op) => e.slots.outward = Some((t, op)),
        }
    }

    pub(super) fn try_inward(&mut self, name: SockRef, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let Some((t, op)) = e.slots.inward.take() else {
            return;
        };
        let (id, cancel) = (e.id, std::mem::take(&mut e.cancel[0]));
        let mut net = self.net.borrow_mut();
        // A cancelled receive may still deliver.
        let too_late = cancel && !matches!(op, Inward::Accept) && net.rng.chance(500);
        if cancel && !(too_late && net.is_readable(id)) {
            out.push(Done::last(t, op.ended(None)));
            return;
        }
        if let Inward::Accept = op {
            drop(net);
            self.try_accept(name, t, id, out);
            return;
        }
        if !net.is_readable(id) && !matches!(net.connect_state(id), Some(Err(_))) {
            e.slots.inward = Some((t, op));
            return;
        }
        if let Inward::Ready = op {
            out.push(Done::last(t, Outcome::Ready(Interest::Read)));
            return;
        }
        if let Some(errno) = net.ordered(self.id, OpKind::Receive) {
            net.break_off(id, errno);
            out.push(Done::last(t, op.ended(Some(errno))));
            return;
        }
        let what = match op {
            Inward::Any { class, at, tail } => {
                let starve = net.faults.starve;
                let starved =
                    net.rng.chance(starve) || net.ordered(self.id, OpKind::Alloc).is_some();
                let buf = if starved {
                    None
                } else {
                    self.pool.alloc(class)
                };
                match buf {
                    Some(mut buf) => {
                        let room = at..class.size() - tail;
                        match net.read(id, &mut buf[room]) {
                            Ok(Read::Bytes { len, drained }) => Outcome::Received {
                                buf,
                                at,
                                len,
                                drained,
                            },
                            end => {
                                self.pool.free(buf);
                                Self::no_bytes(Inward::Any { class, at, tail }, end)
                            }
                        }
                    }
                    None => match net.read(id, &mut []) {
                        Ok(Read::Bytes { .. }) => Outcome::Starved,
                        end => Self::no_bytes(Inward::Any { class, at, tail }, end),
                    },
                }
            }
            Inward::Into { mut buf, at, max } => match net.read(id, &mut buf[at..at + max]) {
                Ok(Read::Bytes { len, drained }) => Outcome::Received {
                    buf,
                    at,
                    len,
                    drained,
                },
                end => Self::no_bytes(Inward::Into { buf, at, max }, end),
            },
            Inward::Accept | Inward::Ready => Outcome::Cancelled {
                buf: None,
                part: None,
            },
        };
        out.push(Done::last(t, what));
    }

    fn no_bytes(op: Inward, read: Result<Read, Errno>) -> Outcome {
        match read {
            Ok(_) => op.eof(),
            Err(errno) => op.ended(Some(errno)),
        }
    }

    fn try_accept(&mut self, name: SockRef, t: Token, id: SockId, out: &mut DoneList) {
        for _ in 0..ACCEPT_BURST {
            let exhausted = self.table.is_full()
                || self
                    .net
                    .borrow_mut()
                    .ordered(self.id, OpKind::Accept)
                    .is_some();
            if exhausted {
                break;
            }
            let Some((sock, from)) = self.net.borrow_mut().accept(id, Owner::Engine(self.id))
            else {
                break;
            };
            if let Ok(sock) = self.insert(sock, false) {
                out.push(Done {
                    token: t,
                    more: true,
                    what: Outcome::Accepted(sock, from),
                });
            }
        }
        if self.net.borrow().is_waiting(id) {
            self.net.borrow_mut().nudge_in(self.id, ACCEPT_PAUSE);
        }
        if let Some(e) = self.table.get_mut(name) {
            e.slots.inward = Some((t, Inward::Accept));
        }
    }

    pub(super) fn try_watch(&mut self, name: SockRef, out: &mut DoneList) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        let Some(t) = e.slots.watch else {
            return;
        };
        let hung_up = self.net.borrow().is_hung_up(e.id);
        if std::mem::take(&mut e.cancel[2]) {
            e.slots.watch = None;
            out.push(Done::last(
                t,
                Outcome::Cancelled {
                    buf: None,
                    part: None,
                },
            ));
        } else if hung_up {
            e.slots.watch = None;
            out.push(Done::last(t, Outcome::Ready(Interest::Hangup)));
        }
    }
}

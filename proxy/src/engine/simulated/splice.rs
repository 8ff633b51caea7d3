//! Pipes of the simulated kernel: bounded, with short moves, refusals and failures.

use std::io;

use super::engine::SimEngine;
use super::faults::OpKind;
use super::net::{Read, SockId};
use crate::engine::pipe::Pipe;
use crate::engine::{Errno, SockRef};

impl SimEngine {
    pub(super) fn make_pipe(&mut self) -> Option<Pipe> {
        let mut net = self.net.borrow_mut();
        let (size, refused) = (net.faults.pipe, net.faults.no_pipe);
        if net.rng.chance(refused) || net.ordered(self.id, OpKind::Pipe).is_some() {
            return None;
        }
        self.pipes.take(|| Ok(Pipe::simulated(size)))
    }

    pub(super) fn fill(&mut self, from: SockRef, p: &mut Pipe, max: usize) -> io::Result<usize> {
        let id = self.splicing(from, OpKind::SpliceIn)?;
        let room = max.min(p.size().saturating_sub(p.held()));
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut bytes = vec![0; room];
        let read = self.net.borrow_mut().read(id, &mut bytes)?;
        let Some(into) = p.bytes() else {
            return Err(Errno::BADF.into());
        };
        match read {
            Read::Bytes { len, .. } => {
                into.extend(&bytes[..len]);
                p.count();
                Ok(len)
            }
            Read::Eof => Ok(0),
            Read::Nothing => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn drain(&mut self, p: &mut Pipe, to: SockRef) -> io::Result<usize> {
        let id = self.splicing(to, OpKind::SpliceOut)?;
        if self
            .table
            .get(to)
            .is_some_and(|e| e.slots.outward.is_some())
        {
            self.violation(format!("a splice to {to:?} overtakes a send"));
        }
        let Some(bytes) = p.bytes() else {
            return Err(Errno::BADF.into());
        };
        let moved = self
            .net
            .borrow_mut()
            .write(id, bytes.make_contiguous())
            .map_err(io::Error::from)?;
        bytes.drain(..moved);
        p.count();
        if moved == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(moved)
    }

    /// The socket of a splice, unless a test ordered that it fails.
    fn splicing(&self, name: SockRef, kind: OpKind) -> io::Result<SockId> {
        let Some(e) = self.table.get(name) else {
            self.violation(format!("{kind:?} on a closed socket"));
            return Err(Errno::BADF.into());
        };
        let mut net = self.net.borrow_mut();
        match net.ordered(self.id, kind) {
            Some(Errno::INVAL) => Err(Errno::INVAL.into()),
            Some(errno) => {
                net.break_off(e.id, errno);
                Err(errno.into())
            }
            None => Ok(e.id),
        }
    }
}

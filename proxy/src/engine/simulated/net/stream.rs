//! Reading, writing, shutting down, closing.

use super::{Chunk, Kind, Net, Read, SockId};
use crate::engine::{Close, Dir, Errno};

impl Net {
    /// Moves what fits of `bytes`, 0 when nothing does.
    ///
    /// # Errors
    /// ECONNRESET or ETIMEDOUT once the connection is lost, EPIPE after an own FIN.
    pub(in super::super) fn write(&mut self, id: SockId, bytes: &[u8]) -> Result<usize, Errno> {
        let Some((conn, side)) = self.end_of(id) else {
            return Err(Errno::PIPE);
        };
        let (window, short) = (self.faults.window, self.faults.short_writes);
        let Some(c) = self.conns.get_mut(&conn) else {
            return Err(Errno::PIPE);
        };
        if let Some(errno) = c.errors[side] {
            return Err(errno);
        }
        if c.fin_sent[side] {
            return Err(Errno::PIPE);
        }
        let pipe = &c.pipes[side];
        let room = window.saturating_sub(pipe.flying_bytes + pipe.arrived.len());
        let mut n = room.min(bytes.len());
        if n > 1 && self.faults.one_byte {
            n = 1;
        } else if n > 1 && self.rng.chance(short) {
            n = self.rng.within(1..n);
        }
        if let Some(c) = self.conns.get_mut(&conn) {
            c.pipes[side].blocked = n < bytes.len();
        }
        self.launch(conn, side, &bytes[..n]);
        Ok(n)
    }

    /// Reads what is there; with no room to read into, says whether something is.
    ///
    /// # Errors
    /// ECONNRESET or ETIMEDOUT, after what had arrived before.
    pub(in super::super) fn read(&mut self, id: SockId, into: &mut [u8]) -> Result<Read, Errno> {
        let Some((conn, side)) = self.end_of(id) else {
            return Err(Errno::NOTCONN);
        };
        let Some(c) = self.conns.get_mut(&conn) else {
            return Err(Errno::NOTCONN);
        };
        let pipe = &mut c.pipes[1 - side];
        if pipe.arrived.is_empty() {
            return match c.errors[side] {
                Some(errno) => Err(errno),
                None if pipe.fin || c.shut_read[side] => Ok(Read::Eof),
                None => Ok(Read::Nothing),
            };
        }
        let mut n = pipe.arrived.len().min(into.len());
        if n == 0 {
            return Ok(Read::Bytes {
                len: 0,
                drained: false,
            });
        }
        if n > 1 && self.faults.one_byte {
            n = 1;
        } else if n > 1 && self.rng.chance(self.faults.short_reads) {
            n = self.rng.within(1..n);
        }
        for (to, from) in into.iter_mut().zip(pipe.arrived.drain(..n)) {
            *to = from;
        }
        pipe.shut_since = None;
        let drained = pipe.arrived.is_empty();
        let writer = c.socks[1 - side];
        self.tell_sock(writer);
        Ok(Read::Bytes { len: n, drained })
    }

    pub(in super::super) fn is_readable(&self, id: SockId) -> bool {
        let Some((conn, side)) = self.end_of(id) else {
            return false;
        };
        self.conns.get(&conn).is_some_and(|c| {
            let pipe = &c.pipes[1 - side];
            !pipe.arrived.is_empty() || pipe.fin || c.shut_read[side] || c.errors[side].is_some()
        })
    }

    pub(in super::super) fn is_writable(&self, id: SockId) -> bool {
        let Some((conn, side)) = self.end_of(id) else {
            return false;
        };
        self.conns.get(&conn).is_some_and(|c| {
            let pipe = &c.pipes[side];
            c.errors[side].is_some()
                || c.fin_sent[side]
                || pipe.flying_bytes + pipe.arrived.len() < self.faults.window
        })
    }

    /// Reset, or both directions ended.
    pub(in super::super) fn is_hung_up(&self, id: SockId) -> bool {
        let Some((conn, side)) = self.end_of(id) else {
            return false;
        };
        self.conns.get(&conn).is_some_and(|c| {
            c.errors[side].is_some() || (c.fin_sent[side] && c.pipes[1 - side].fin)
        })
    }

    /// # Errors
    /// ENOTCONN when there is no connection any more.
    pub(in super::super) fn shutdown(&mut self, id: SockId, d: Dir) -> Result<(), Errno> {
        let (conn, side) = self.end_of(id).ok_or(Errno::NOTCONN)?;
        let c = self.conns.get_mut(&conn).ok_or(Errno::NOTCONN)?;
        if c.errors[side].is_some() {
            return Err(Errno::NOTCONN);
        }
        match d {
            Dir::Read => c.shut_read[side] = true,
            Dir::Write if c.fin_sent[side] => {}
            Dir::Write => {
                c.fin_sent[side] = true;
                self.launch_end(conn, side, Chunk::Fin);
            }
        }
        self.tell_sock(Some(id));
        Ok(())
    }

    pub(in super::super) fn close(&mut self, id: SockId, how: Close) {
        let Some(s) = self.sockets.get(&id) else {
            return;
        };
        match s.kind {
            Kind::Listener { .. } => self.unshare(id, None),
            Kind::Fresh | Kind::Dialing | Kind::Failed(_) => {
                self.sockets.remove(&id);
            }
            Kind::End { conn, side } => {
                self.sockets.remove(&id);
                self.close_end(conn, side, how);
            }
        }
    }

    pub(super) fn close_end(&mut self, conn: u64, side: usize, how: Close) {
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        c.socks[side] = None;
        let unread = !c.pipes[1 - side].arrived.is_empty();
        c.pipes[1 - side].arrived.clear();
        let (from, to) = (c.addrs[side], c.addrs[1 - side]);
        if c.errors[side].is_some() {
            // The peer ended it: there is nobody to tell.
        } else if how == Close::Reset || unread {
            self.note(|| format!("{from} resets {to}"));
            self.abort(conn, side);
        } else if !c.fin_sent[side] {
            c.fin_sent[side] = true;
            self.launch_end(conn, side, Chunk::Fin);
        }
        self.collect(conn);
    }

    /// Forgets a connection that nobody holds.
    pub(super) fn collect(&mut self, conn: u64) {
        if self
            .conns
            .get(&conn)
            .is_some_and(|c| c.socks == [None, None])
        {
            self.conns.remove(&conn);
        }
    }
}

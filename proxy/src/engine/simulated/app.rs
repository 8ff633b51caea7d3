//! Endpoints that a test drives by hand: the app before an inlet, the service behind an outlet, a
//! stranger.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use super::net::{Net, Owner, Read, SockId};
use crate::engine::{Close, Dir, Errno, SockOpt};

/// What [`SimSocket::read`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimRead {
    /// So many bytes, at least 1.
    Bytes(usize),
    /// The peer will send no more.
    Eof,
    /// Nothing there yet.
    Nothing,
}

/// A connection of the test's own. Nothing blocks. Dropping it closes it in order.
pub struct SimSocket {
    net: Rc<RefCell<Net>>,
    id: SockId,
    closed: bool,
}

impl std::fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimSocket({})", self.id)
    }
}

impl SimSocket {
    pub(super) fn new(net: Rc<RefCell<Net>>, id: SockId) -> SimSocket {
        SimSocket {
            net,
            id,
            closed: false,
        }
    }

    /// Whether it is up: false while it still connects.
    ///
    /// # Errors
    /// Why it will never be: ECONNREFUSED, ETIMEDOUT.
    pub fn connected(&self) -> Result<bool, Errno> {
        match self.net.borrow().connect_state(self.id) {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(errno)) => Err(errno),
        }
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// ECONNRESET or ETIMEDOUT, after what had arrived before; ENOTCONN before it is up.
    pub fn read(&mut self, into: &mut [u8]) -> Result<SimRead, Errno> {
        Ok(match self.net.borrow_mut().read(self.id, into)? {
            Read::Bytes { len, .. } => SimRead::Bytes(len),
            Read::Eof => SimRead::Eof,
            Read::Nothing => SimRead::Nothing,
        })
    }

    /// Writes what fits, perhaps 0 bytes.
    ///
    /// # Errors
    /// ECONNRESET or ETIMEDOUT once the connection is lost; EPIPE before it is up and after an
    /// own end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.net.borrow_mut().write(self.id, bytes)
    }

    /// Ends the own direction (FIN).
    ///
    /// # Errors
    /// ENOTCONN when there is no connection any more.
    pub fn shutdown_write(&mut self) -> Result<(), Errno> {
        self.net.borrow_mut().shutdown(self.id, Dir::Write)
    }

    /// Sets the options of a tunnel, so that a partition is found.
    pub fn tune(&mut self, opt: &SockOpt) {
        self.net.borrow_mut().set_options(self.id, *opt);
    }

    /// Closes it with a RST.
    pub fn reset(mut self) {
        self.end(Close::Reset);
    }

    /// Closes it in order; a RST if something was left unread, as Linux does.
    pub fn close(mut self) {
        self.end(Close::Fin);
    }

    fn end(&mut self, how: Close) {
        if !std::mem::replace(&mut self.closed, true)
            && let Ok(mut net) = self.net.try_borrow_mut()
        {
            net.close(self.id, how);
        }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.end(Close::Fin);
    }
}

/// A listening service of the test's own. Dropping it closes it; who waits is reset.
pub struct SimListener {
    net: Rc<RefCell<Net>>,
    id: SockId,
}

impl std::fmt::Debug for SimListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimListener({})", self.id)
    }
}

impl SimListener {
    pub(super) fn new(net: Rc<RefCell<Net>>, id: SockId) -> SimListener {
        SimListener { net, id }
    }

    /// Where it listens.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.net.borrow().listening_at(self.id)
    }

    /// The connection that waited longest, and where it comes from.
    pub fn accept(&mut self) -> Option<(SimSocket, SocketAddr)> {
        let (id, from) = self.net.borrow_mut().accept(self.id, Owner::App)?;
        Some((SimSocket::new(Rc::clone(&self.net), id), from))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        if let Ok(mut net) = self.net.try_borrow_mut() {
            net.close(self.id, Close::Reset);
        }
    }
}

//! Listening, connecting, accepting.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::{Conn, Kind, Net, Owner, Pipe, SockId};
use crate::engine::{Close, Errno};
use crate::limits::LISTEN_BACKLOG;

/// What comes back for a SYN.
pub(super) enum Answer {
    Accepted(u64),
    Refused,
    Dropped,
}

impl Net {
    /// # Errors
    /// EADDRNOTAVAIL for an unspecified address, EADDRINUSE.
    pub(in super::super) fn listen(
        &mut self,
        addr: SocketAddr,
        owner: Owner,
    ) -> Result<SockId, Errno> {
        if addr.ip().is_unspecified() {
            return Err(Errno::ADDRNOTAVAIL);
        }
        let mut addr = addr;
        if addr.port() == 0 {
            addr.set_port(self.port());
        }
        if self.listeners.contains_key(&addr) {
            return Err(Errno::ADDRINUSE);
        }
        let kind = Kind::Listener {
            addr,
            shares: 1,
            waiting: VecDeque::new(),
            watchers: Vec::new(),
        };
        let id = self.add(owner, addr.ip(), kind);
        self.listeners.insert(addr, id);
        Ok(id)
    }

    pub(in super::super) fn listening_at(&self, id: SockId) -> Option<SocketAddr> {
        match self.sockets.get(&id)?.kind {
            Kind::Listener { addr, .. } => Some(addr),
            Kind::Fresh | Kind::Dialing | Kind::Failed(_) | Kind::End { .. } => None,
        }
    }

    /// One more carry of it is about.
    pub(in super::super) fn keep_listening(&mut self, id: SockId) {
        if let Some(Kind::Listener { shares, .. }) = self.sockets.get_mut(&id).map(|s| &mut s.kind)
        {
            *shares += 1;
        }
    }

    /// One more engine listens on it.
    pub(in super::super) fn share(&mut self, id: SockId, owner: Owner) -> bool {
        match self.sockets.get_mut(&id).map(|s| &mut s.kind) {
            Some(Kind::Listener {
                shares, watchers, ..
            }) => {
                *shares += 1;
                watchers.push(owner);
                true
            }
            _ => false,
        }
    }

    /// One engine listens on it no more. Its carry is not asked for an owner.
    pub(in super::super) fn unshare(&mut self, id: SockId, owner: Option<Owner>) {
        let Some(Kind::Listener {
            addr,
            shares,
            waiting,
            watchers,
        }) = self.sockets.get_mut(&id).map(|s| &mut s.kind)
        else {
            return;
        };
        if let Some(i) = owner.and_then(|o| watchers.iter().position(|w| *w == o)) {
            watchers.remove(i);
        }
        *shares -= 1;
        if *shares > 0 {
            return;
        }
        let (addr, waiting) = (*addr, std::mem::take(waiting));
        self.sockets.remove(&id);
        self.listeners.remove(&addr);
        for w in waiting {
            self.close(w, Close::Reset);
        }
    }

    pub(in super::super) fn is_waiting(&self, id: SockId) -> bool {
        matches!(self.sockets.get(&id).map(|s| &s.kind),
            Some(Kind::Listener { waiting, .. }) if !waiting.is_empty())
    }

    /// The connection that waited longest.
    pub(in super::super) fn accept(
        &mut self,
        id: SockId,
        owner: Owner,
    ) -> Option<(SockId, SocketAddr)> {
        let Some(Kind::Listener { waiting, .. }) = self.sockets.get_mut(&id).map(|s| &mut s.kind)
        else {
            return None;
        };
        let sock = waiting.pop_front()?;
        self.set_owner(sock, owner);
        let (conn, side) = self.end_of(sock)?;
        Some((sock, self.conns.get(&conn)?.addrs[1 - side]))
    }

    pub(super) fn port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = if port == u16::MAX { 32_768 } else { port + 1 };
        port
    }

    /// Begins to connect; [`connect_state`](Self::connect_state) says how it went.
    pub(in super::super) fn connect(&mut self, id: SockId, to: SocketAddr) {
        let port = self.port();
        let Some(s) = self.sockets.get_mut(&id) else {
            return;
        };
        s.kind = Kind::Dialing;
        let from = SocketAddr::new(s.host, port);
        self.note(|| format!("{from} connects to {to}"));
        self.dial(id, from, to, 0);
    }

    /// `None` while it is under way.
    pub(in super::super) fn connect_state(&self, id: SockId) -> Option<Result<(), Errno>> {
        match self.sockets.get(&id).map(|s| &s.kind) {
            Some(Kind::Dialing) => None,
            Some(Kind::End { .. }) => Some(Ok(())),
            Some(Kind::Failed(errno)) => Some(Err(*errno)),
            Some(Kind::Fresh | Kind::Listener { .. }) | None => Some(Err(Errno::INVAL)),
        }
    }

    pub(super) fn fail_dial(&mut self, id: SockId, errno: Errno) {
        if let Some(s) = self.sockets.get_mut(&id)
            && matches!(s.kind, Kind::Dialing)
        {
            s.kind = Kind::Failed(errno);
            self.tell_sock(Some(id));
        }
    }

    /// A SYN has come to `to`: true if somebody listens there and has room for it.
    pub(super) fn answer(&mut self, sock: SockId, from: SocketAddr, to: SocketAddr) -> Answer {
        let Some(&listener) = self.listeners.get(&to) else {
            return Answer::Refused;
        };
        let Some(Kind::Listener {
            waiting, watchers, ..
        }) = self.sockets.get(&listener).map(|s| &s.kind)
        else {
            return Answer::Refused;
        };
        if waiting.len() >= usize::try_from(LISTEN_BACKLOG).unwrap_or(0) {
            return Answer::Dropped;
        }
        let (conn, watchers) = (self.next_conn, watchers.clone());
        self.next_conn += 1;
        let far = self.add(Owner::Nobody, to.ip(), Kind::End { conn, side: 1 });
        self.conns.insert(
            conn,
            Conn {
                addrs: [from, to],
                socks: [Some(sock), Some(far)],
                pipes: [Pipe::default(), Pipe::default()],
                errors: [None; 2],
                fin_sent: [false; 2],
                shut_read: [false; 2],
            },
        );
        if let Some(Kind::Listener { waiting, .. }) =
            self.sockets.get_mut(&listener).map(|s| &mut s.kind)
        {
            waiting.push_back(far);
        }
        watchers.into_iter().for_each(|w| self.tell(w));
        Answer::Accepted(conn)
    }
}

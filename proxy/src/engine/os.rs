//! System calls that the kernel engines share: sockets, their options, the clock.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use rustix::time::{ClockId, clock_gettime};

use super::config::{Close, Dir, Family, SockOpt};
use super::op::Errno;
use crate::limits::{
    LISTEN_BACKLOG, LISTEN_PATIENCE, TUNNEL_KEEPALIVE, TUNNEL_KEEPALIVE_PROBE, TUNNEL_USER_TIMEOUT,
    UNSENT_MAX,
};
use crate::time::{Duration, Instant};

impl From<rustix::io::Errno> for Errno {
    fn from(e: rustix::io::Errno) -> Self {
        Errno(e.raw_os_error())
    }
}

/// The time since the machine started (CLOCK_BOOTTIME, which counts suspend): the same for all engines of a process.
pub(super) fn boottime() -> Instant {
    let t = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(t.tv_nsec).unwrap_or(0);
    Instant::ZERO + Duration::new(secs, nanos)
}

/// A listening TCP socket, to be shared by the engines of all workers, and its address (port 0
/// asks the kernel for one). SO_REUSEADDR, so that a restart needs no wait, and never
/// SO_REUSEPORT, which lets a second process bind the same port silently.
///
/// Blocks for up to half a second when the address is in use: that of a process which was killed
/// while a ring of it accepted stays so until the kernel has dismantled the ring, some 10 ms after
/// the process is gone (seen on 6.18), and who restarts it at once must not be told an error.
///
/// # Errors
/// What socket, bind or listen say: EADDRINUSE, EACCES, EADDRNOTAVAIL …
pub fn listener(addr: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let fd = new_socket(Family::of(&addr))?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    // Accepted sockets inherit all three on Linux: no system call per connection.
    sockopt::set_tcp_nodelay(&fd, true)?;
    hold_little(fd.as_fd())?;
    reset_unless_told(fd.as_fd())?;
    let (pause, patience) = LISTEN_PATIENCE;
    let deadline = boottime() + patience;
    loop {
        match net::bind(&fd, &addr) {
            Err(rustix::io::Errno::ADDRINUSE) if boottime() < deadline => rest(pause),
            bound => break bound?,
        }
    }
    net::listen(&fd, LISTEN_BACKLOG)?;
    let bound = SocketAddr::try_from(net::getsockname(&fd)?)?;
    Ok((fd, bound))
}

/// Blocks for less than a second; a signal may end it early.
pub(super) fn rest(pause: Duration) {
    let pause = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(pause.subsec_nanos()),
    };
    // Nothing is polled, so that only time can pass.
    let _ = rustix::event::poll(&mut [], Some(&pause));
}

fn new_socket(family: Family) -> io::Result<OwnedFd> {
    let family = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    // Non-blocking for both engines: splice(2) on a blocking socket blocks whatever its flags say.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(net::socket_with(
        family,
        SocketType::STREAM,
        flags,
        Some(ipproto::TCP),
    )?)
}

/// A socket to connect with.
pub(super) fn stream(family: Family, opt: &SockOpt) -> io::Result<OwnedFd> {
    let fd = new_socket(family)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    hold_little(fd.as_fd())?;
    reset_unless_told(fd.as_fd())?;
    tune(fd.as_fd(), opt)?;
    Ok(fd)
}

/// Sets the options of a connection.
pub(super) fn tune(fd: BorrowedFd<'_>, opt: &SockOpt) -> io::Result<()> {
    if opt.tunnel {
        let (interval, probes) = TUNNEL_KEEPALIVE_PROBE;
        let timeout_ms = if opt.patient {
            0
        } else {
            u32::try_from(TUNNEL_USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX)
        };
        sockopt::set_tcp_user_timeout(fd, timeout_ms)?;
        sockopt::set_tcp_keepidle(fd, TUNNEL_KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(fd, interval)?;
        sockopt::set_tcp_keepcnt(fd, probes)?;
        sockopt::set_socket_keepalive(fd, true)?;
    }
    Ok(())
}

/// shutdown(2).
pub(super) fn shutdown(fd: BorrowedFd<'_>, d: Dir) -> io::Result<()> {
    let how = match d {
        Dir::Read => net::Shutdown::Read,
        Dir::Write => net::Shutdown::Write,
    };
    Ok(net::shutdown(fd, how)?)
}

/// Bounds what the kernel keeps of what was sent to a peer that does not read: by itself it takes up
/// to 4 MiB for each, and a thousand slow readers use up its memory for all of TCP.
fn hold_little(fd: BorrowedFd<'_>) -> io::Result<()> {
    socket2::SockRef::from(&fd).set_tcp_notsent_lowat(UNSENT_MAX)
}

/// From now on the kernel resets the connection when it closes it for a process that was killed:
/// an app must not take that for the end of its data. Accepted sockets have it from their listener.
fn reset_unless_told(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(fd, Some(Duration::ZERO))?)
}

/// Makes the coming close(2) an orderly one or a reset.
pub(super) fn prepare_close(fd: BorrowedFd<'_>, how: Close) {
    let linger = match how {
        Close::Fin => None,
        Close::Reset => Some(Duration::ZERO),
    };
    // It can't fail on a socket; where it did, the close would still end the connection.
    let set = sockopt::set_socket_linger(fd, linger);
    debug_assert!(set.is_ok());
}

/// The peer's address; an error once the peer is gone.
pub(super) fn peer(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let any = net::getpeername(fd)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
    Ok(SocketAddr::try_from(any)?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn an_address_that_stays_in_use_is_an_error_in_the_end() {
        let (_held, addr) = listener(([127, 0, 0, 1], 0).into()).unwrap();
        let begun = boottime();
        let refused = listener(addr).map(|(_, addr)| addr).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        assert!(boottime().since(begun) >= LISTEN_PATIENCE.1);
    }
}

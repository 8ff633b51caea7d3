//! Descriptors used up. Its own process, because the limit is the process's: one test only.

#![cfg(feature = "engine")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::TcpStream;
use std::os::fd::OwnedFd;

use proxy::engine::{
    Close, DoneList, Engine, EngineConfig, Epoll, Op, Outcome, Token, Uring, Wait, listener,
};
use proxy::limits::{ACCEPT_PAUSE, ACCEPT_PAUSES_MAX};
use proxy::time::{Duration, Instant};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const ACCEPT: Token = Token {
    slot: 1,
    generation: 0,
    op: 0,
};

/// Runs turns until that instant, without allocating a descriptor; system calls made.
fn run_until<E: Engine>(e: &mut E, until: Instant, out: &mut DoneList) -> u32 {
    let mut calls = 0;
    while e.now() < until {
        calls += e.turn(Wait::Until(until), out).syscalls;
    }
    calls
}

fn accept_at_the_limit<E: Engine<Carry = OwnedFd>>(open: impl FnOnce(&EngineConfig) -> E) {
    let mut e = open(&EngineConfig {
        sockets: 64,
        buffers: [8, 2, 2, 2],
        pipes: 8,
    });
    let (carry, addr) = listener(([127, 0, 0, 1], 0).into()).unwrap();
    let on = e.listen(&carry).unwrap();
    let mut out = DoneList::new();
    let mut app = TcpStream::connect(addr).unwrap();
    app.set_nonblocking(true).unwrap();
    // Nothing above the highest descriptor in use may be opened any more, and the gaps are filled.
    let limit = getrlimit(Resource::Nofile);
    let mut fill: Vec<std::fs::File> = Vec::new();
    let soft = 64;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(soft),
            ..limit
        },
    )
    .unwrap();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        fill.push(file);
    }
    // Only now: the kernel notes the limit when an accept is armed.
    e.submit(ACCEPT, Op::Accept { on: on.name() }).unwrap();
    e.turn(Wait::Poll, &mut out);
    // The connection waits, and the engine does not spin.
    let start = e.now();
    let calls = run_until(&mut e, start + ACCEPT_PAUSE * 4, &mut out);
    assert!(out.is_empty(), "{out:?}");
    assert!(calls <= 40, "{calls} system calls in four rests");
    let mut byte = [0_u8; 1];
    let pending = std::io::Read::read(&mut app, &mut byte).unwrap_err();
    assert_eq!(pending.kind(), std::io::ErrorKind::WouldBlock);
    // One descriptor comes free: the connection is taken.
    drop(fill.pop());
    let until = e.now() + Duration::from_secs(10);
    while out.is_empty() && e.now() < until {
        e.turn(Wait::Until(until), &mut out);
    }
    let far = match out.pop().map(|d| (d.more, d.what)) {
        Some((true, Outcome::Accepted(far, _))) => far,
        other => panic!("{other:?}"),
    };
    // Used up again, and nothing comes free: who waits longest is refused in the end.
    setrlimit(Resource::Nofile, limit).unwrap();
    let late = TcpStream::connect(addr).unwrap();
    late.set_nonblocking(true).unwrap();
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(soft),
            ..limit
        },
    )
    .unwrap();
    let start = e.now();
    run_until(
        &mut e,
        start + ACCEPT_PAUSE * (ACCEPT_PAUSES_MAX + 4),
        &mut out,
    );
    assert!(out.is_empty(), "{out:?}");
    let refused = std::io::Read::read(&mut &late, &mut byte).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionReset);
    // With descriptors to be had everything is as before.
    setrlimit(Resource::Nofile, limit).unwrap();
    drop(fill);
    let app2 = TcpStream::connect(addr).unwrap();
    let until = e.now() + Duration::from_secs(10);
    while out.is_empty() && e.now() < until {
        e.turn(Wait::Until(until), &mut out);
    }
    let far2 = match out.pop().map(|d| d.what) {
        Some(Outcome::Accepted(far, _)) => far,
        other => panic!("{other:?}"),
    };
    e.cancel(on.name());
    while out.is_empty() {
        e.turn(Wait::Forever, &mut out);
    }
    for sock in [on, far, far2] {
        e.close(sock, Close::Reset);
    }
    drop((app, app2, late));
}

#[test]
fn accepting_rests_when_descriptors_are_used_up() {
    accept_at_the_limit(|cfg| Epoll::open(cfg).unwrap());
    accept_at_the_limit(|cfg| Uring::open(cfg).unwrap());
}

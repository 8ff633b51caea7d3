//! What only this engine can get wrong: full queues, lost cancellations, kernel threads, teardown.
//! What every engine must do is in the conformance suite.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

use super::super::op::{Interest, Part};
use super::super::slots::Side;
use super::complete::Completion;
use super::*;
use crate::limits::ACCEPT_MARGIN;

fn config(sockets: u32) -> EngineConfig {
    EngineConfig {
        sockets,
        buffers: [512, 128, 32, 8],
        pipes: 8,
    }
}

fn open() -> Uring {
    Uring::open(&config(1024)).unwrap()
}

fn tiny(submissions: u32, completions: u32) -> Uring {
    let sizes = Sizes {
        submissions,
        completions,
    };
    Uring::open_sized(&config(1024), sizes).unwrap()
}

fn token(slot: u32) -> Token {
    Token {
        slot,
        generation: 1,
        op: 2,
    }
}

/// A connection: an end in the engine and a plain one outside.
fn pair(e: &mut Uring) -> (Sock, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let outside = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (inside, _) = listener.accept().unwrap();
    let sock = e.attach(inside.into()).unwrap();
    (sock, outside)
}

/// Runs turns until one of `tokens` has ended; everything else is lost.
fn wait(e: &mut Uring, t: Token) -> Outcome {
    let mut out = Vec::new();
    let deadline = os::monotonic() + Duration::from_secs(20);
    while os::monotonic() < deadline {
        let until = os::monotonic() + Duration::from_millis(100);
        e.turn(Wait::Until(until), &mut out);
        if let Some(at) = out.iter().position(|d| d.token == t && !d.more) {
            return out.swap_remove(at).what;
        }
    }
    panic!("{t:?} never ended: {out:?}");
}

fn recv(on: &Sock) -> Op {
    Op::RecvAny {
        on: on.name(),
        class: Class::Small,
        at: 0,
        tail: 0,
    }
}

fn part(e: &mut Uring, on: &Sock, len: usize) -> Op {
    let buf = Rc::new(e.alloc(Class::Small).unwrap());
    Op::SendNow {
        on: on.name(),
        part: Part { buf, range: 0..len },
    }
}

fn close_all(e: &mut Uring, socks: impl IntoIterator<Item = Sock>) {
    for sock in socks {
        e.close(sock, Close::Reset);
    }
    e.turn(Wait::Poll, &mut Vec::new());
    assert!(e.pool().balanced());
    assert_eq!(e.pool().out(), 0);
}

#[test]
fn an_overflown_completion_queue_loses_nothing() {
    let mut e = tiny(4, 4);
    let pairs: Vec<_> = (0..64).map(|_| pair(&mut e)).collect();
    for (i, (sock, _)) in pairs.iter().enumerate() {
        e.submit(token(i as u32), recv(sock)).unwrap();
    }
    let mut out = Vec::new();
    e.turn(Wait::Poll, &mut out);
    assert!(out.is_empty(), "{out:?}");
    for (_, outside) in &pairs {
        (&*outside).write_all(b"x").unwrap();
    }
    // Enter without collecting, until the kernel says that the queue was too small.
    let deadline = os::monotonic() + Duration::from_secs(20);
    while !e.ring.has_overflown() {
        assert!(os::monotonic() < deadline);
        e.ring.enter(Some(Duration::from_millis(1)));
    }
    let mut seen = vec![false; pairs.len()];
    while seen.iter().any(|s| !s) {
        assert!(os::monotonic() < deadline, "{seen:?}");
        let until = os::monotonic() + Duration::from_millis(10);
        e.turn(Wait::Until(until), &mut out);
        for done in out.drain(..) {
            let Outcome::Received { buf, len: 1, .. } = done.what else {
                panic!("{:?}", done.what)
            };
            e.free(buf);
            assert!(!std::mem::replace(
                &mut seen[done.token.slot as usize],
                true
            ));
        }
    }
    close_all(&mut e, pairs.into_iter().map(|(sock, _)| sock));
}

#[test]
fn more_operations_than_the_submission_queue_holds_leave_in_one_turn() {
    let mut e = tiny(4, 256);
    let pairs: Vec<_> = (0..50).map(|_| pair(&mut e)).collect();
    for (i, (sock, _)) in pairs.iter().enumerate() {
        let op = part(&mut e, sock, 10);
        e.submit(token(i as u32), op).unwrap();
    }
    let mut out = Vec::new();
    e.turn(Wait::Poll, &mut out);
    assert_eq!(out.len(), 50);
    for (i, done) in out.drain(..).enumerate() {
        assert_eq!(done.token, token(i as u32), "in the order of submission");
        assert!(matches!(done.what, Outcome::SentNow { moved: 10, .. }));
        e.swallow(done.what);
    }
    close_all(&mut e, pairs.into_iter().map(|(sock, _)| sock));
}

#[test]
fn a_turn_is_one_system_call_and_an_idle_look_none() {
    let mut e = open();
    let (sock, outside) = pair(&mut e);
    let mut out = Vec::new();
    e.turn(Wait::Poll, &mut out);
    assert_eq!(e.turn(Wait::Poll, &mut out).syscalls, 0);
    (&outside).write_all(b"ping").unwrap();
    let op = part(&mut e, &sock, 4);
    e.submit(token(1), recv(&sock)).unwrap();
    e.submit(token(2), op).unwrap();
    let stats = e.turn(Wait::Forever, &mut out);
    assert_eq!((stats.syscalls, stats.completions), (1, 2), "{out:?}");
    for done in out.drain(..) {
        e.swallow(done.what);
    }
    close_all(&mut e, [sock]);
}

#[test]
fn a_close_is_not_kept_by_a_turn_that_sleeps() {
    let mut e = open();
    let (sock, mut outside) = pair(&mut e);
    let waker = e.waker();
    let reader = std::thread::spawn(move || {
        let read = outside.read(&mut [0; 8]);
        super::super::Wake::wake(&waker);
        read.unwrap()
    });
    e.close(sock, Close::Fin);
    let until = os::monotonic() + Duration::from_secs(20);
    e.turn(Wait::Until(until), &mut Vec::new());
    assert!(os::monotonic() < until);
    assert_eq!(reader.join().unwrap(), 0);
}

#[test]
fn a_blocked_send_to_a_half_closed_peer_needs_no_kernel_thread() {
    let mut e = open();
    let (sock, mut outside) = pair(&mut e);
    outside.shutdown(std::net::Shutdown::Write).unwrap();
    e.submit(token(0), recv(&sock)).unwrap();
    assert!(matches!(wait(&mut e, token(0)), Outcome::Eof { .. }));
    let mut sent = 0;
    let mut out = Vec::new();
    // Bulk buffers until one is left hanging.
    let hanging = loop {
        let mut buf = e.alloc(Class::Bulk).unwrap();
        buf.fill(7);
        let range = 0..buf.len();
        let on = sock.name();
        e.submit(token(1), Op::Send { on, buf, range }).unwrap();
        let until = os::monotonic() + Duration::from_millis(200);
        while out.is_empty() && os::monotonic() < until {
            e.turn(Wait::Until(until), &mut out);
        }
        match out.pop() {
            Some(done) => e.swallow(done.what),
            None => break Class::Bulk.size(),
        }
        sent += Class::Bulk.size();
    };
    let thread = format!("iou-wrk-{}", rustix::thread::gettid().as_raw_nonzero());
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let name = std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default();
        assert_ne!(name.trim(), thread);
    }
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        outside.read_to_end(&mut all).unwrap();
        all
    });
    let what = wait(&mut e, token(1));
    assert!(matches!(what, Outcome::Sent { .. }), "{what:?}");
    e.swallow(what);
    e.close(sock, Close::Fin);
    e.turn(Wait::Poll, &mut out);
    let all = reader.join().unwrap();
    assert_eq!(all.len(), sent + hanging);
    assert!(all.iter().all(|&b| b == 7));
}

#[test]
fn the_ring_does_nothing_that_it_is_not_made_for() {
    let mut e = open();
    e.ring.push_nop();
    e.ring.enter(Some(Duration::from_millis(100)));
    let mut completions = Vec::new();
    e.ring.reap(&mut completions);
    let results: Vec<i32> = completions.iter().map(cqueue::Entry::result).collect();
    assert_eq!(results, [-rustix::io::Errno::ACCESS.raw_os_error()]);
}

#[test]
fn connections_that_overshoot_the_table_wait_their_turn() {
    let places = ACCEPT_MARGIN as u32 + 10;
    let mut e = Uring::open(&config(places)).unwrap();
    let (carry, addr) = os::listener(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener = e.listen(&carry).unwrap();
    let on = listener.name();
    e.submit(token(0), Op::Accept { on }).unwrap();
    let all = places as usize + 100;
    let outside: Vec<_> = (0..all)
        .map(|_| TcpStream::connect(addr).unwrap())
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    let mut open = Vec::new();
    let mut out = Vec::new();
    let deadline = os::monotonic() + Duration::from_secs(20);
    while seen.len() < all {
        assert!(os::monotonic() < deadline, "{} of {all}", seen.len());
        let until = os::monotonic() + Duration::from_millis(20);
        e.turn(Wait::Until(until), &mut out);
        assert!(out.len() + open.len() < places as usize);
        for done in out.drain(..) {
            let Outcome::Accepted(sock, from) = done.what else {
                panic!("{:?}", done.what)
            };
            assert!(seen.insert(from), "{from} twice");
            open.push(sock);
        }
        for sock in open.drain(..) {
            e.close(sock, Close::Fin);
        }
    }
    drop(outside);
    e.cancel(on);
    assert!(matches!(wait(&mut e, token(0)), Outcome::Cancelled { .. }));
    close_all(&mut e, [listener]);
}

#[test]
fn an_engine_that_is_dropped_takes_everything_back() {
    let before = super::super::leaks();
    let mut e = open();
    let (carry, addr) = os::listener(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let mut socks = vec![e.listen(&carry).unwrap()];
    let on = socks[0].name();
    e.submit(token(0), Op::Accept { on }).unwrap();
    let mut outside = Vec::new();
    for i in 0..8 {
        let (sock, out) = pair(&mut e);
        let on = sock.name();
        let op = if i % 2 == 0 {
            let buf = e.alloc(Class::Medium).unwrap();
            let (at, max) = (10, 1000);
            Op::RecvInto { on, buf, at, max }
        } else {
            recv(&sock)
        };
        e.submit(token(10 + i), op).unwrap();
        let want = Interest::Hangup;
        e.submit(token(20 + i), Op::Ready { on, want }).unwrap();
        socks.push(sock);
        outside.push(out);
    }
    // Sends until they are left hanging.
    let mut out = Vec::new();
    for _ in 0..64 {
        for (i, sock) in (0..).zip(&socks[1..]) {
            let Some(buf) = e.alloc(Class::Bulk) else {
                continue;
            };
            let (on, range) = (sock.name(), 0..buf.len());
            let refused = e.submit(token(30 + i), Op::Send { on, buf, range });
            if let Err(Op::Send { buf, .. }) = refused {
                e.free(buf);
            }
        }
        e.turn(Wait::Poll, &mut out);
        for done in out.drain(..) {
            e.swallow(done.what);
        }
    }
    assert_eq!(e.pool().classes[Class::Bulk.index()].out, 8);
    // And a few that the kernel never saw.
    let (sock, _outside) = pair(&mut e);
    let op = part(&mut e, &sock, 100);
    e.submit(token(40), op).unwrap();
    socks.push(sock);
    let sock = e.socket(Family::V4, &SockOpt::default()).unwrap();
    let on = sock.name();
    e.submit(token(41), Op::Connect { on, to: addr }).unwrap();
    socks.push(sock);
    drop(e);
    for sock in socks {
        sock.taken();
    }
    assert_eq!(super::super::leaks(), before);
    for mut out in outside {
        // The engine's ends are closed: the reader sees an end or a reset, after what was sent.
        let _ = out.read_to_end(&mut Vec::new());
    }
}

/// Lets the operation's first request complete with `errno` without having been in the kernel.
fn pretend(e: &mut Uring, t: Token, op: Op, side: Side, errno: i32, out: &mut DoneList) {
    let name = op.on();
    let socket = e.table.get_mut(name).unwrap();
    assert_eq!(socket.slots.put(t, op).unwrap(), side);
    let id = socket.begin(name, side, socket::What::Op);
    e.ring.pretend_request();
    e.advance(id, Completion::failed(Errno(errno)), out);
}

#[test]
fn a_request_that_finds_nothing_waits_and_is_issued_again() {
    let mut e = open();
    let retry = [Errno::AGAIN, Errno::INTR, Errno::NOBUFS];
    for (errno, any) in retry.into_iter().flat_map(|e| [(e, true), (e, false)]) {
        if errno == Errno::NOBUFS && !any {
            continue;
        }
        let (sock, outside) = pair(&mut e);
        let op = if any {
            recv(&sock)
        } else {
            let (on, buf) = (sock.name(), e.alloc(Class::Small).unwrap());
            let (at, max) = (5, 100);
            Op::RecvInto { on, buf, at, max }
        };
        let mut out = Vec::new();
        pretend(&mut e, token(1), op, Side::In, errno.0, &mut out);
        e.turn(Wait::Poll, &mut out);
        assert!(out.is_empty(), "{errno}: {out:?}");
        (&outside).write_all(b"late").unwrap();
        let what = wait(&mut e, token(1));
        assert!(matches!(what, Outcome::Received { len: 4, .. }), "{what:?}");
        e.swallow(what);
        close_all(&mut e, [sock]);
    }
    for errno in [Errno::AGAIN, Errno::INTR] {
        let (sock, mut outside) = pair(&mut e);
        let (on, buf) = (sock.name(), e.alloc(Class::Small).unwrap());
        let op = Op::Send {
            on,
            buf,
            range: 0..9,
        };
        pretend(&mut e, token(2), op, Side::Out, errno.0, &mut Vec::new());
        let what = wait(&mut e, token(2));
        assert!(matches!(what, Outcome::Sent { .. }), "{what:?}");
        e.swallow(what);
        outside.read_exact(&mut [0; 9]).unwrap();
        close_all(&mut e, [sock]);
    }
}

#[test]
fn a_request_that_finds_nothing_and_was_cancelled_is_not_issued_again() {
    let mut e = open();
    for errno in [Errno::AGAIN, Errno::INTR, Errno::NOBUFS, Errno::CANCELED] {
        let (sock, _outside) = pair(&mut e);
        let name = sock.name();
        let socket = e.table.get_mut(name).unwrap();
        socket.slots.put(token(1), recv(&sock)).unwrap();
        let id = socket.begin(name, Side::In, socket::What::Op);
        socket.request(Side::In).cancelled = true;
        e.ring.pretend_request();
        let mut out = Vec::new();
        e.advance(id, Completion::failed(errno), &mut out);
        assert!(
            matches!(
                out[..],
                [Done {
                    more: false,
                    what: Outcome::Cancelled { .. },
                    ..
                }]
            ),
            "{errno}: {out:?}"
        );
        close_all(&mut e, [sock]);
    }
}

#[test]
fn accepting_goes_on_after_every_passing_error() {
    use rustix::io::Errno as E;
    let mut e = open();
    for errno in [E::AGAIN, E::CONNABORTED, E::MFILE, E::NOMEM, E::INTR] {
        let (carry, addr) = os::listener(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = e.listen(&carry).unwrap();
        let on = listener.name();
        let errno = errno.raw_os_error();
        let mut out = Vec::new();
        pretend(
            &mut e,
            token(1),
            Op::Accept { on },
            Side::In,
            errno,
            &mut out,
        );
        let _outside = TcpStream::connect(addr).unwrap();
        let deadline = os::monotonic() + Duration::from_secs(20);
        while out.is_empty() {
            assert!(os::monotonic() < deadline, "{errno}");
            e.turn(Wait::Until(deadline), &mut out);
        }
        let Some(Outcome::Accepted(sock, _)) = out.pop().map(|d| d.what) else {
            panic!("not accepted after {errno}")
        };
        e.cancel(on);
        assert!(matches!(wait(&mut e, token(1)), Outcome::Cancelled { .. }));
        close_all(&mut e, [sock, listener]);
    }
}

#[test]
fn a_cancellation_that_finds_its_request_between_two_waits_is_repeated() {
    let mut e = open();
    let (sock, _outside) = pair(&mut e);
    e.submit(token(1), recv(&sock)).unwrap();
    e.turn(Wait::Poll, &mut Vec::new());
    // As if the cancellation had come and gone without finding anything.
    let name = sock.name();
    let socket = e.table.get_mut(name).unwrap();
    socket.request(Side::In).cancelled = true;
    let id = socket.current(name, Side::In);
    let missed = Err(Errno(rustix::io::Errno::NOENT.raw_os_error()));
    e.cancel_missed(id, missed);
    assert!(matches!(wait(&mut e, token(1)), Outcome::Cancelled { .. }));
    // Once it is over, a late answer changes nothing.
    e.cancel_missed(id, missed);
    close_all(&mut e, [sock]);
}

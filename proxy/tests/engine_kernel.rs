//! What only the engines of the kernel can get wrong: kernel threads behind one's back, sleeping
//! that is none, buffers that the kernel still holds when an engine ends.

#![cfg(feature = "engine")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, on whatever it did not expect"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;

use proxy::engine::{
    Class, Close, Dir, DoneList, Engine, EngineConfig, Epoll, Family, Interest, Op, Outcome, Sock,
    SockOpt, Token, Uring, Wait, leaks, listener,
};
use proxy::time::Duration;

fn config() -> EngineConfig {
    EngineConfig {
        sockets: 64,
        buffers: [64, 64, 16, 64],
        pipes: 8,
    }
}

fn token(slot: u32) -> Token {
    Token {
        slot,
        generation: 0,
        op: 0,
    }
}

/// A connection between an engine and a plain socket.
fn connection<E: Engine<Carry = OwnedFd>>(e: &mut E) -> (Sock, TcpStream) {
    let (carry, addr) = listener(([127, 0, 0, 1], 0).into()).unwrap();
    let app = TcpStream::connect(addr).unwrap();
    let listener = std::net::TcpListener::from(carry);
    let (near, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    (e.attach(near.into()).unwrap(), app)
}

fn wait<E: Engine>(e: &mut E, t: Token) -> Outcome {
    let mut out = DoneList::new();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let until = e.now() + Duration::from_millis(100);
        e.turn(Wait::Until(until), &mut out);
        if let Some(done) = out.pop() {
            assert!(out.is_empty() && done.token == t && !done.more, "{done:?}");
            return done.what;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{t:?} never completed"
        );
    }
}

/// System calls while an engine sleeps for a moment.
fn calls_while_asleep<E: Engine>(e: &mut E) -> u32 {
    let mut out = DoneList::new();
    let until = e.now() + Duration::from_millis(100);
    let mut calls = 0;
    while e.now() < until {
        calls += e.turn(Wait::Until(until), &mut out).syscalls;
    }
    assert!(out.is_empty(), "{out:?}");
    calls
}

/// Threads of this process that io_uring made.
fn kernel_threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok())
        .filter(|comm| comm.starts_with("iou-wrk"))
        .count()
}

/// Sends until a send does not end for a while: it is in flight then. Bytes sent before it, and
/// whether a receive found the end meanwhile.
fn send_until_blocked<E: Engine>(e: &mut E, near: &Sock, mut sent: usize) -> (usize, bool) {
    let mut out = DoneList::new();
    let mut ended = false;
    loop {
        let mut buf = e.alloc(Class::Bulk).unwrap();
        buf.iter_mut()
            .enumerate()
            .for_each(|(i, b)| *b = ((sent + i) % 251) as u8);
        let len = buf.len();
        e.submit(
            token(2),
            Op::Send {
                on: near.name(),
                buf,
                range: 0..len,
            },
        )
        .unwrap();
        let until = e.now() + Duration::from_millis(100);
        while !out.iter().any(|d| d.token == token(2)) && e.now() < until {
            e.turn(Wait::Until(until), &mut out);
        }
        let blocked = !out.iter().any(|d| d.token == token(2));
        for done in out.drain(..) {
            match done.what {
                Outcome::Sent { buf } => {
                    sent += len;
                    e.free(buf);
                }
                Outcome::Eof { buf: None } => ended = true,
                other => panic!("{other:?}"),
            }
        }
        if blocked {
            return (sent, ended);
        }
    }
}

/// Lets the engine finish what it does on its own.
fn settle<E: Engine>(e: &mut E) {
    let mut out = DoneList::new();
    for _ in 0..5 {
        let until = e.now() + Duration::from_millis(5);
        e.turn(Wait::Until(until), &mut out);
    }
    assert!(out.is_empty(), "{out:?}");
}

/// When the peer's FIN comes, and whether the engine knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    /// Before the send, and it was read.
    Read,
    /// Before the send, and nobody reads.
    Unread,
    /// While the send is blocked and a receive is armed.
    Later,
}

/// A peer that reads nothing for a while and sends its FIN: all bytes arrive in the end, in order,
/// and meanwhile the blocked send costs neither system calls nor a thread.
fn blocked_send_to_a_half_closed_peer<E: Engine<Carry = OwnedFd>>(mut e: E, fin: Fin) {
    let (near, mut app) = connection(&mut e);
    let receive = || Op::RecvAny {
        on: near.name(),
        class: Class::Small,
        at: 0,
        tail: 0,
    };
    if fin != Fin::Later {
        app.shutdown(Shutdown::Write).unwrap();
    }
    if fin == Fin::Read {
        e.submit(token(1), receive()).unwrap();
        assert!(matches!(wait(&mut e, token(1)), Outcome::Eof { buf: None }));
    } else if fin == Fin::Later {
        e.submit(token(1), receive()).unwrap();
    }
    let (mut sent, _) = send_until_blocked(&mut e, &near, 0);
    if fin == Fin::Later {
        app.shutdown(Shutdown::Write).unwrap();
        // The socket may take some more once the FIN is there.
        let mut out = DoneList::new();
        let mut ended = false;
        while !ended {
            e.turn(Wait::Forever, &mut out);
            for done in out.drain(..) {
                match done.what {
                    Outcome::Eof { buf: None } => ended = true,
                    Outcome::Sent { buf } => {
                        sent += buf.len();
                        e.free(buf);
                        let (more, found) = send_until_blocked(&mut e, &near, sent);
                        sent = more;
                        ended |= found;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        settle(&mut e);
    } else {
        assert_eq!(kernel_threads(), 0, "{fin:?}");
    }
    let calls = calls_while_asleep(&mut e);
    assert!(
        calls <= 5,
        "{calls} system calls while nothing could be done"
    );
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        app.read_to_end(&mut all).unwrap();
        all
    });
    match wait(&mut e, token(2)) {
        Outcome::Sent { buf } => {
            sent += buf.len();
            e.free(buf);
        }
        other => panic!("{other:?}"),
    }
    e.shutdown(near.name(), Dir::Write).unwrap();
    let all = reader.join().unwrap();
    assert_eq!(all.len(), sent);
    assert!(
        all.iter()
            .enumerate()
            .all(|(i, b)| usize::from(*b) == i % 251)
    );
    e.close(near, Close::Fin);
    assert_eq!(e.pool().out(), 0);
}

#[test]
fn a_blocked_send_to_a_half_closed_peer_costs_nothing() {
    // One test, because kernel threads are counted for the whole process.
    for fin in [Fin::Read, Fin::Unread, Fin::Later] {
        blocked_send_to_a_half_closed_peer(Epoll::open(&config()).unwrap(), fin);
        blocked_send_to_a_half_closed_peer(Uring::open(&config()).unwrap(), fin);
    }
}

fn watches_on_a_half_closed_peer<E: Engine<Carry = OwnedFd>>(mut e: E) {
    let (near, app) = connection(&mut e);
    app.shutdown(Shutdown::Write).unwrap();
    e.submit(
        token(1),
        Op::Ready {
            on: near.name(),
            want: Interest::Read,
        },
    )
    .unwrap();
    assert!(matches!(
        wait(&mut e, token(1)),
        Outcome::Ready(Interest::Read)
    ));
    e.submit(
        token(2),
        Op::Ready {
            on: near.name(),
            want: Interest::Hangup,
        },
    )
    .unwrap();
    let mut out = DoneList::new();
    e.turn(Wait::Poll, &mut out);
    let calls = calls_while_asleep(&mut e);
    assert!(calls <= 5, "{calls} system calls while nothing happened");
    e.cancel(near.name());
    assert!(matches!(wait(&mut e, token(2)), Outcome::Cancelled { .. }));
    e.close(near, Close::Reset);
}

#[test]
fn a_watch_for_hang_up_on_a_half_closed_peer_sleeps() {
    watches_on_a_half_closed_peer(Epoll::open(&config()).unwrap());
    watches_on_a_half_closed_peer(Uring::open(&config()).unwrap());
}

fn idle_engine_sleeps<E: Engine<Carry = OwnedFd>>(mut e: E) {
    let connections: Vec<_> = (0..10).map(|_| connection(&mut e)).collect();
    let (carry, _) = listener(([127, 0, 0, 1], 0).into()).unwrap();
    let on = e.listen(&carry).unwrap();
    e.submit(token(100), Op::Accept { on: on.name() }).unwrap();
    for (i, (near, _)) in connections.iter().enumerate() {
        let op = Op::RecvAny {
            on: near.name(),
            class: Class::Small,
            at: 8,
            tail: 16,
        };
        e.submit(token(i as u32), op).unwrap();
    }
    let mut out = DoneList::new();
    for _ in 0..4 {
        e.turn(Wait::Poll, &mut out);
    }
    let calls = calls_while_asleep(&mut e);
    assert!(calls <= 5, "{calls} system calls of an idle engine");
    assert_eq!(e.pool().out(), 0);
    for (near, _) in connections {
        e.cancel(near.name());
        assert!(matches!(wait_any(&mut e), Outcome::Cancelled { .. }));
        e.close(near, Close::Fin);
    }
    e.cancel(on.name());
    assert!(matches!(wait_any(&mut e), Outcome::Cancelled { .. }));
    e.close(on, Close::Fin);
}

fn wait_any<E: Engine>(e: &mut E) -> Outcome {
    let mut out = DoneList::new();
    while out.is_empty() {
        e.turn(Wait::Forever, &mut out);
    }
    assert_eq!(out.len(), 1, "{out:?}");
    out.remove(0).what
}

#[test]
fn an_engine_with_nothing_to_do_sleeps() {
    idle_engine_sleeps(Epoll::open(&config()).unwrap());
    idle_engine_sleeps(Uring::open(&config()).unwrap());
}

fn dropped_with_operations_in_flight<E: Engine<Carry = OwnedFd>>(mut e: E) {
    let before = leaks();
    let (near, mut app) = connection(&mut e);
    let buf = e.alloc(Class::Large).unwrap();
    let max = buf.len();
    e.submit(
        token(1),
        Op::RecvInto {
            on: near.name(),
            buf,
            at: 0,
            max,
        },
    )
    .unwrap();
    e.submit(
        token(2),
        Op::Ready {
            on: near.name(),
            want: Interest::Hangup,
        },
    )
    .unwrap();
    let mut out = DoneList::new();
    e.turn(Wait::Poll, &mut out);
    assert!(out.is_empty());
    drop(e);
    // Whatever the kernel held of it is gone: nobody reads these bytes into freed memory.
    let _ = app.write_all(&[1; 1000]);
    assert!(matches!(app.read(&mut [0; 10]), Ok(0) | Err(_)));
    assert_eq!(leaks(), before);
    proxy::engine::tear_down(|| drop(near));
}

#[test]
fn an_engine_takes_its_operations_with_it() {
    dropped_with_operations_in_flight(Epoll::open(&config()).unwrap());
    dropped_with_operations_in_flight(Uring::open(&config()).unwrap());
}

#[test]
fn tunnel_options_are_what_they_should_be() {
    use rustix::net::sockopt;
    let mut e = Epoll::open(&config()).unwrap();
    let (near, _app) = connection(&mut e);
    e.tune(near.name(), &SockOpt { tunnel: true }).unwrap();
    let fd = e.detach(near).unwrap();
    assert_eq!(sockopt::tcp_user_timeout(&fd).unwrap(), 15_000);
    assert!(sockopt::socket_keepalive(&fd).unwrap());
    assert_eq!(sockopt::tcp_keepidle(&fd).unwrap(), Duration::from_secs(60));
    assert!(
        sockopt::tcp_nodelay(&fd).unwrap(),
        "inherited from the listening socket"
    );
}

#[test]
fn completions_outlive_a_full_completion_queue() {
    // Two operations on each of 1,400 sockets, and a queue for 2,048 completions.
    let cfg = EngineConfig {
        sockets: 1400,
        buffers: [2200, 1, 1, 1],
        pipes: 8,
    };
    let mut e = Uring::open(&cfg).unwrap();
    let mut connections = Vec::new();
    for _ in 0..1400 {
        connections.push(connection(&mut e));
    }
    for (i, (near, app)) in connections.iter_mut().enumerate() {
        app.write_all(&[1]).unwrap();
        let slot = i as u32;
        let on = near.name();
        let op = Op::RecvAny {
            on,
            class: Class::Small,
            at: 0,
            tail: 0,
        };
        e.submit(token(slot), op).unwrap();
        let other = if i % 2 == 0 {
            let part = proxy::engine::Part {
                buf: e.alloc(Class::Small).unwrap().into(),
                range: 0..1,
            };
            Op::SendNow { on, part }
        } else {
            let want = Interest::Write;
            Op::Ready { on, want }
        };
        e.submit(token(10_000 + slot), other).unwrap();
    }
    let mut out = DoneList::new();
    let mut seen = std::collections::BTreeSet::new();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while seen.len() < 2800 {
        assert!(
            std::time::Instant::now() < deadline,
            "{} of 2800 completions",
            seen.len()
        );
        let until = e.now() + Duration::from_millis(100);
        e.turn(Wait::Until(until), &mut out);
        for done in out.drain(..) {
            let mut again = false;
            match done.what {
                Outcome::Received { buf, .. } => e.free(buf),
                Outcome::SentNow { part, moved: 1 } => {
                    e.free(std::rc::Rc::try_unwrap(part.buf).unwrap());
                }
                Outcome::Starved => again = true,
                Outcome::Ready(Interest::Write) => {}
                other => panic!("{other:?}"),
            }
            if again {
                let on = connections[done.token.slot as usize].0.name();
                let op = Op::RecvAny {
                    on,
                    class: Class::Small,
                    at: 0,
                    tail: 0,
                };
                e.submit(done.token, op).unwrap();
            } else {
                assert!(seen.insert(done.token), "{:?} twice", done.token);
            }
        }
    }
    for (near, _) in connections {
        e.close(near, Close::Reset);
    }
    assert_eq!(e.pool().out(), 0);
}

/// A connect that nobody answers: the listening socket's backlog is full.
fn cancelled_connect<E: Engine<Carry = OwnedFd>>(mut e: E) {
    use rustix::net::{self, AddressFamily, SocketType};
    let full = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    net::bind(&full, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    net::listen(&full, 0).unwrap();
    let addr = std::net::SocketAddr::try_from(net::getsockname(&full).unwrap()).unwrap();
    // What fits into the backlog connects at once; the first that does not is the one.
    let mut up = Vec::new();
    loop {
        let s = e.socket(Family::V4, &SockOpt::default()).unwrap();
        e.submit(
            token(1),
            Op::Connect {
                on: s.name(),
                to: addr,
            },
        )
        .unwrap();
        let mut out = DoneList::new();
        let until = e.now() + Duration::from_millis(100);
        while out.is_empty() && e.now() < until {
            e.turn(Wait::Until(until), &mut out);
        }
        match out.pop().map(|d| d.what) {
            Some(Outcome::Connected) => up.push(s),
            None => {
                e.cancel(s.name());
                assert!(matches!(wait(&mut e, token(1)), Outcome::Cancelled { .. }));
                e.close(s, Close::Reset);
                break;
            }
            other => panic!("{other:?}"),
        }
        assert!(up.len() < 50, "a backlog without a bottom");
    }
    for s in up {
        e.close(s, Close::Reset);
    }
}

#[test]
fn a_cancelled_connect_ends_once() {
    cancelled_connect(Epoll::open(&config()).unwrap());
    cancelled_connect(Uring::open(&config()).unwrap());
}

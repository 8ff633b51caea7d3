//! Where a sandbox denies io_uring, as the default seccomp profiles of container runtimes do.
//!
//! A seccomp filter belongs to a thread and what it starts: each test denies it to a thread of
//! its own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and looks at the cases it is about"
)]

use std::collections::BTreeMap;

use proxy::engine::{
    Choice, Class, Close, Engine, EngineConfig, Epoll, Errno, Kind, Op, OpenError, Outcome, Token,
    Uring, Wait, decide, listener,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// `io_uring_setup`: the same number on every architecture of the generic table and on x86_64.
const IO_URING_SETUP: i64 = 425;

/// Runs `f` on a thread for which io_uring_setup fails with `errno`.
fn denied<T: Send + 'static>(errno: Errno, f: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        let filter = SeccompFilter::new(
            BTreeMap::from([(IO_URING_SETUP, vec![])]),
            SeccompAction::Allow,
            SeccompAction::Errno(errno.0.unsigned_abs()),
            TargetArch::try_from(std::env::consts::ARCH).unwrap(),
        )
        .unwrap();
        seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
        f()
    });
    thread.join().unwrap()
}

const PERM: Errno = Errno(1);
const ACCES: Errno = Errno(13);
const NOSYS: Errno = Errno(38);

#[test]
fn auto_falls_back_to_epoll_and_says_why() {
    for errno in [PERM, ACCES, NOSYS] {
        let (kind, why) = denied(errno, || decide(Choice::Auto)).unwrap();
        assert_eq!(kind, Kind::Epoll);
        let why = why.unwrap();
        assert!(why.contains("io_uring is not available"), "{why}");
        assert!(why.contains("io_uring_setup"), "{why}");
    }
    let (_, why) = denied(PERM, || decide(Choice::Auto)).unwrap();
    assert!(why.unwrap().contains("seccomp"));
}

#[test]
fn uring_by_name_is_an_error() {
    let refused = denied(PERM, || decide(Choice::Uring));
    assert!(
        matches!(refused, Err(OpenError::Unavailable { .. })),
        "{refused:?}"
    );
}

#[test]
fn want_of_memory_or_descriptors_is_an_error_and_no_reason_to_fall_back() {
    for errno in [Errno::NOMEM, Errno::MFILE] {
        let failed = denied(errno, || decide(Choice::Auto));
        assert!(
            matches!(failed, Err(OpenError::Failed { .. })),
            "{failed:?}"
        );
    }
}

#[test]
fn epoll_carries_a_connection_where_io_uring_is_denied() {
    let bytes = denied(PERM, || {
        let cfg = EngineConfig {
            sockets: 16,
            buffers: [8, 2, 2, 2],
            pipes: 8,
        };
        assert!(Uring::open(&cfg).is_err());
        let mut e = Epoll::open(&cfg).unwrap();
        let (carry, addr) = listener(([127, 0, 0, 1], 0).into()).unwrap();
        let on = e.listen(&carry).unwrap();
        let token = |slot| Token {
            slot,
            generation: 0,
            op: 0,
        };
        e.submit(token(1), Op::Accept { on: on.name() }).unwrap();
        let app = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let mut app = std::net::TcpStream::connect(addr).unwrap();
            app.write_all(b"hello").unwrap();
            let mut end = Vec::new();
            app.read_to_end(&mut end).unwrap();
        });
        let mut out = Vec::new();
        let mut bytes = Vec::new();
        let mut far = None;
        while bytes.len() < 5 {
            e.turn(Wait::Forever, &mut out);
            for done in std::mem::take(&mut out) {
                match done.what {
                    Outcome::Accepted(sock, _) => far = Some(sock),
                    Outcome::Received { buf, at, len, .. } => {
                        bytes.extend_from_slice(&buf[at..at + len]);
                        e.free(buf);
                    }
                    other => panic!("{other:?}"),
                }
                let on = far.as_ref().unwrap().name();
                let op = Op::RecvAny {
                    on,
                    class: Class::Small,
                    at: 0,
                    tail: 0,
                };
                e.submit(token(2), op).unwrap();
            }
        }
        for sock in [on.name(), far.as_ref().unwrap().name()] {
            e.cancel(sock);
        }
        while out.len() < 2 {
            e.turn(Wait::Forever, &mut out);
        }
        e.close(on, Close::Fin);
        e.close(far.unwrap(), Close::Fin);
        e.turn(Wait::Poll, &mut out);
        app.join().unwrap();
        bytes
    });
    assert_eq!(bytes, b"hello");
}

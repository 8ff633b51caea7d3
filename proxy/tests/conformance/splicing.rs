//! Pipes: from socket to socket without a buffer.

use std::io::ErrorKind;

use super::{Harness, Rig, config};
use proxy::engine::{Close, Dir, Engine, EngineConfig, Interest, Op, Outcome, Pipe, SockRef};

/// Waits for bytes or room on a socket.
fn ready<H: Harness>(r: &mut Rig<H>, on: SockRef, want: Interest) {
    let t = r.submit(0, Op::Ready { on, want });
    match r.end(0, t) {
        Outcome::Ready(got) if got == want => {}
        other => panic!("{other:?}"),
    }
}

/// Moves into the pipe what is there once something is.
fn fill<H: Harness>(r: &mut Rig<H>, from: SockRef, p: &mut Pipe, max: usize) -> usize {
    loop {
        ready(r, from, Interest::Read);
        let before = p.held();
        match r.engine(0).splice_in(from, p, max) {
            Ok(n) => {
                assert_eq!(p.held(), before + n);
                assert!(n <= max);
                return n;
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
        }
    }
}

/// Moves everything out of the pipe.
fn drain<H: Harness>(r: &mut Rig<H>, p: &mut Pipe, to: SockRef) {
    while p.held() > 0 {
        ready(r, to, Interest::Write);
        let before = p.held();
        match r.engine(0).splice_out(p, to) {
            Ok(n) => assert!(n > 0 && p.held() == before - n),
            Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
        }
    }
}

pub fn bytes_pass_through_a_pipe_unchanged<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (app, near) = r.pair(0, 0);
    let (far, service) = r.pair(0, 0);
    let mut pipe = r.engine(0).pipe().unwrap();
    for round in 0..20_u8 {
        let bytes: Vec<u8> = (0..3000_u32).map(|i| (i % 251) as u8 ^ round).collect();
        r.send(0, app.name(), &bytes);
        let mut moved = 0;
        while moved < bytes.len() {
            moved += fill(&mut r, near.name(), &mut pipe, 100_000);
            drain(&mut r, &mut pipe, far.name());
        }
        assert_eq!(r.recv(0, service.name(), bytes.len()), bytes);
    }
    r.engine(0).recycle(pipe);
    r.finish([(0, app), (0, near), (0, far), (0, service)]);
}

pub fn no_more_than_asked_for_goes_into_a_pipe<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (app, near) = r.pair(0, 0);
    r.send(0, app.name(), b"0123456789");
    let mut pipe = r.engine(0).pipe().unwrap();
    assert!(fill(&mut r, near.name(), &mut pipe, 4) <= 4);
    let rest = 10 - pipe.held();
    assert_eq!(r.recv(0, near.name(), rest).len(), rest);
    r.engine(0).recycle(pipe);
    r.finish([(0, app), (0, near)]);
}

pub fn an_empty_socket_and_an_empty_pipe_would_block<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (app, near) = r.pair(0, 0);
    let mut pipe = r.engine(0).pipe().unwrap();
    assert!(pipe.size() > 0);
    let e = r.engine(0).splice_in(near.name(), &mut pipe, 100);
    assert_eq!(e.unwrap_err().kind(), ErrorKind::WouldBlock);
    let e = r.engine(0).splice_out(&mut pipe, near.name());
    assert_eq!(e.unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(pipe.held(), 0);
    r.engine(0).recycle(pipe);
    r.finish([(0, app), (0, near)]);
}

pub fn a_full_pipe_would_block_and_keeps_what_it_has<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (app, near) = r.pair(0, 0);
    let (far, service) = r.pair(0, 0);
    let mut pipe = r.engine(0).pipe().unwrap();
    let mut sent = 0;
    let full = loop {
        r.send(0, app.name(), &[7; 1000]);
        sent += 1000;
        ready(&mut r, near.name(), Interest::Read);
        match r.engine(0).splice_in(near.name(), &mut pipe, 1 << 20) {
            Ok(_) => assert!(pipe.held() <= pipe.size()),
            Err(e) => break e,
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    let held = pipe.held();
    assert!(held > 0 && held <= pipe.size());
    drain(&mut r, &mut pipe, far.name());
    assert_eq!(r.recv(0, service.name(), held), vec![7; held]);
    // What did not fit is still there.
    let rest = sent - held;
    assert_eq!(r.recv(0, near.name(), rest), vec![7; rest]);
    r.engine(0).recycle(pipe);
    r.finish([(0, app), (0, near), (0, far), (0, service)]);
}

pub fn a_full_socket_would_block_until_there_is_room<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (app, near) = r.pair(0, 0);
    let (far, service) = r.pair(0, 0);
    let mut pipe = r.engine(0).pipe().unwrap();
    let mut total = 0;
    let mut quiet = 0;
    // Until nothing goes out for a while: what is in flight has settled.
    while quiet < 20 {
        if pipe.held() == 0 {
            r.send(0, app.name(), &[total as u8; 4096]);
            total += fill(&mut r, near.name(), &mut pipe, 1 << 20);
        }
        match r.engine(0).splice_out(&mut pipe, far.name()) {
            Ok(_) => quiet = 0,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::WouldBlock);
                quiet += 1;
                r.nothing_for(0, &[]);
            }
        }
        assert!(total < 1 << 28, "a socket without a bottom");
    }
    let room = r.submit(
        0,
        Op::Ready {
            on: far.name(),
            want: Interest::Write,
        },
    );
    r.nothing_for(0, &[room]);
    let held = pipe.held();
    assert!(held > 0);
    assert_eq!(r.recv(0, service.name(), total - held).len(), total - held);
    assert!(matches!(r.end(0, room), Outcome::Ready(Interest::Write)));
    drain(&mut r, &mut pipe, far.name());
    assert_eq!(r.recv(0, service.name(), held).len(), held);
    r.engine(0).recycle(pipe);
    r.finish([(0, app), (0, near), (0, far), (0, service)]);
}

pub fn a_fin_is_nothing_moved<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (app, near) = r.pair(0, 0);
    let mut pipe = r.engine(0).pipe().unwrap();
    r.send(0, app.name(), b"last words");
    r.engine(0).shutdown(app.name(), Dir::Write).unwrap();
    let mut moved = 0;
    loop {
        match fill(&mut r, near.name(), &mut pipe, 100) {
            0 => break,
            n => moved += n,
        }
    }
    assert_eq!((moved, pipe.held()), (10, 10));
    // The other direction goes on, through a pipe that holds bytes of this one.
    drain(&mut r, &mut pipe, near.name());
    assert_eq!(r.recv(0, app.name(), 10), b"last words");
    r.engine(0).recycle(pipe);
    r.finish([(0, app), (0, near)]);
}

pub fn a_reset_is_an_error_of_both_splices<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (app, near) = r.pair(0, 0);
    let (far, service) = r.pair(0, 0);
    let mut pipe = r.engine(0).pipe().unwrap();
    r.send(0, app.name(), b"lost");
    while pipe.held() < 4 {
        fill(&mut r, near.name(), &mut pipe, 100);
    }
    for sock in [app, service] {
        r.engine(0).close(sock, Close::Reset);
    }
    for on in [near.name(), far.name()] {
        let t = r.submit(
            0,
            Op::Ready {
                on,
                want: Interest::Hangup,
            },
        );
        assert!(matches!(r.end(0, t), Outcome::Ready(Interest::Hangup)));
    }
    let lost = r.engine(0).splice_in(near.name(), &mut pipe, 100);
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let lost = r.engine(0).splice_out(&mut pipe, far.name()).unwrap_err();
    assert!(
        matches!(
            lost.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        ),
        "{lost}"
    );
    assert_eq!(pipe.held(), 4);
    r.engine(0).recycle(pipe);
    r.finish([(0, near), (0, far)]);
}

pub fn pipes_are_bounded_and_come_back_empty<H: Harness>() {
    let cfg = EngineConfig {
        pipes: 2,
        ..config()
    };
    let mut r = Rig::<H>::new(1, &cfg);
    let (app, near) = r.pair(0, 0);
    let mut pipe = r.engine(0).pipe().unwrap();
    let other = r.engine(0).pipe().unwrap();
    assert!(r.engine(0).pipe().is_none());
    assert_eq!(r.engine(0).pool().pipes, 2);
    r.send(0, app.name(), b"somebody's");
    fill(&mut r, near.name(), &mut pipe, 100);
    r.engine(0).recycle(pipe);
    r.engine(0).recycle(other);
    let both = [r.engine(0).pipe().unwrap(), r.engine(0).pipe().unwrap()];
    for mut pipe in both {
        assert_eq!(pipe.held(), 0);
        let nothing = r.engine(0).splice_out(&mut pipe, near.name());
        assert_eq!(nothing.unwrap_err().kind(), ErrorKind::WouldBlock);
        r.engine(0).recycle(pipe);
    }
    assert_eq!(r.engine(0).pool().pipes, 0);
    r.finish([(0, app), (0, near)]);
}

pub fn an_engine_without_pipes_gives_none<H: Harness>() {
    let cfg = EngineConfig {
        pipes: 0,
        ..config()
    };
    let mut r = Rig::<H>::new(1, &cfg);
    assert!(r.engine(0).pipe().is_none());
    r.finish([]);
}

pub fn a_closed_socket_is_not_spliced<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (app, near) = r.pair(0, 0);
    let (far, service) = r.pair(0, 0);
    let mut pipe = r.engine(0).pipe().unwrap();
    r.send(0, app.name(), b"x");
    fill(&mut r, near.name(), &mut pipe, 1);
    r.h.expect_violations();
    let (from, to) = (near.name(), far.name());
    r.engine(0).close(near, Close::Fin);
    r.engine(0).close(far, Close::Fin);
    // EBADF.
    let e = r.engine(0).splice_in(from, &mut pipe, 1).unwrap_err();
    assert_eq!(e.raw_os_error(), Some(9));
    let e = r.engine(0).splice_out(&mut pipe, to).unwrap_err();
    assert_eq!(e.raw_os_error(), Some(9));
    r.engine(0).recycle(pipe);
    r.finish([(0, app), (0, service)]);
}

pub fn a_socket_waits_for_bytes_and_for_room_at_once<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let (send, _) = super::sending::fill(&mut r, near.name());
    r.engine(0).cancel(near.name());
    match r.end(0, send) {
        Outcome::Cancelled { buf: Some(buf), .. } => r.engine(0).free(buf),
        other => panic!("{other:?}"),
    }
    let on = near.name();
    let waits = [Interest::Read, Interest::Write, Interest::Hangup]
        .map(|want| r.submit(0, Op::Ready { on, want }));
    r.nothing_for(0, &waits);
    r.send(0, far.name(), b"!");
    assert!(matches!(r.end(0, waits[0]), Outcome::Ready(Interest::Read)));
    r.nothing_for(0, &waits[1..]);
    // A wait for what is there already ends at once.
    let [bytes, again] = [r.token(), r.token()];
    let wait = Op::Ready {
        on,
        want: Interest::Read,
    };
    assert!(r.engine(0).submit(bytes, wait).is_ok());
    assert!(matches!(r.end(0, bytes), Outcome::Ready(Interest::Read)));
    assert_eq!(r.recv(0, on, 1), b"!");
    let wait = Op::Ready {
        on,
        want: Interest::Read,
    };
    assert!(r.engine(0).submit(again, wait).is_ok());
    r.engine(0).cancel(on);
    for t in [again, waits[1], waits[2]] {
        assert!(matches!(r.end(0, t), Outcome::Cancelled { .. }));
    }
    r.finish([(0, near), (0, far)]);
}

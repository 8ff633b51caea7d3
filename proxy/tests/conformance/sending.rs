//! Sending: resumed sends, sends that never wait, parts.

use std::rc::Rc;

use super::{Harness, Rig};
use proxy::engine::{Buf, Class, Engine, Errno, Op, Outcome, Part, SockRef};

const BULK: usize = Class::Bulk.size();

/// Sends buffers until one does not complete for a while: the socket is full. The token of that
/// send, and how many bytes were sent before it.
pub(super) fn fill<H: Harness>(r: &mut Rig<H>, on: SockRef) -> (proxy::engine::Token, usize) {
    let mut sent = 0;
    loop {
        let mut buf = r.engine(0).alloc(Class::Bulk).unwrap();
        pattern(&mut buf, sent);
        let t = r.submit(
            0,
            Op::Send {
                on,
                buf,
                range: 0..BULK,
            },
        );
        let mut patience = 50;
        let done = loop {
            r.h.rest(&mut r.arrived);
            if let Some(done) = r.take(0, t) {
                break done;
            }
            patience -= 1;
            if patience == 0 {
                return (t, sent);
            }
        };
        let Outcome::Sent { buf } = done.what else {
            panic!("{:?}", done.what)
        };
        r.engine(0).free(buf);
        sent += BULK;
        assert!(sent < 1 << 28, "a socket without a bottom");
    }
}

/// Bytes that tell where they belong.
fn pattern(buf: &mut Buf, from: usize) {
    for (i, b) in buf.iter_mut().enumerate() {
        *b = ((from + i) % 253) as u8;
    }
}

pub fn a_send_is_resumed_until_all_is_sent<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let (t, sent) = fill(&mut r, near.name());
    let got = r.recv(0, far.name(), sent + BULK);
    match r.end(0, t) {
        Outcome::Sent { buf } => r.engine(0).free(buf),
        other => panic!("{other:?}"),
    }
    assert_eq!(got.len(), sent + BULK);
    for (i, b) in got.iter().enumerate() {
        assert_eq!(usize::from(*b), i % 253, "at {i}");
    }
    r.finish([(0, near), (0, far)]);
}

pub fn send_now_moves_what_fits_and_never_waits<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let buf = Rc::new(r.filled(0, Class::Bulk, &[5; BULK]));
    let mut total = 0;
    loop {
        let part = Part {
            buf: Rc::clone(&buf),
            range: 0..BULK,
        };
        let t = r.submit(
            0,
            Op::SendNow {
                on: near.name(),
                part,
            },
        );
        let Outcome::SentNow { part, moved } = r.end(0, t) else {
            panic!("not sent")
        };
        assert_eq!(part.range, 0..BULK);
        total += moved;
        if moved == 0 {
            break;
        }
        assert!(total < 1 << 28, "a socket without a bottom");
    }
    assert!(total > 0);
    let buf = Rc::try_unwrap(buf).unwrap();
    r.engine(0).free(buf);
    assert!(r.recv(0, far.name(), total).iter().all(|&b| b == 5));
    r.finish([(0, near), (0, far)]);
}

pub fn parts_of_one_buffer_go_to_many_sockets<H: Harness>() {
    let mut r = Rig::<H>::one();
    let pairs: Vec<_> = (0..10).map(|_| r.pair(0, 0)).collect();
    let text = b"0123456789";
    let buf = Rc::new(r.filled(0, Class::Large, text));
    let mut tokens = Vec::new();
    for (i, (near, _)) in pairs.iter().enumerate() {
        let part = Part {
            buf: Rc::clone(&buf),
            range: i..i + 1,
        };
        tokens.push(r.submit(
            0,
            Op::SendNow {
                on: near.name(),
                part,
            },
        ));
    }
    drop(buf);
    let mut last = None;
    for t in tokens {
        let Outcome::SentNow { part, moved } = r.end(0, t) else {
            panic!("not sent")
        };
        assert_eq!(moved, 1);
        if let Ok(buf) = Rc::try_unwrap(part.buf) {
            assert!(last.replace(buf).is_none());
        }
    }
    let buf = last.unwrap();
    r.engine(0).free(buf);
    for (i, (_, far)) in pairs.iter().enumerate() {
        assert_eq!(r.recv(0, far.name(), 1), text[i..=i]);
    }
    r.finish(pairs.into_iter().flat_map(|(a, b)| [(0, a), (0, b)]));
}

pub fn a_cancelled_send_gives_its_buffer_back<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let (t, _) = fill(&mut r, near.name());
    r.engine(0).cancel(near.name());
    match r.end(0, t) {
        Outcome::Cancelled {
            buf: Some(buf),
            part: None,
        } => r.engine(0).free(buf),
        other => panic!("{other:?}"),
    }
    r.nothing_for(0, &[t]);
    r.finish([(0, near), (0, far)]);
}

pub fn a_second_send_is_given_back<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let (first, _) = fill(&mut r, near.name());
    r.h.expect_violations();
    let buf = r.filled(0, Class::Small, b"x");
    let t = r.token();
    match r.engine(0).submit(
        t,
        Op::Send {
            on: near.name(),
            buf,
            range: 0..1,
        },
    ) {
        Err(Op::Send { buf, .. }) => r.engine(0).free(buf),
        other => panic!("{other:?}"),
    }
    r.engine(0).cancel(near.name());
    match r.end(0, first) {
        Outcome::Cancelled { buf: Some(buf), .. } => r.engine(0).free(buf),
        other => panic!("{other:?}"),
    }
    r.finish([(0, near), (0, far)]);
}

pub fn both_directions_run_at_once<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let ends = [near.name(), far.name()];
    let mut sends = Vec::new();
    for (i, on) in ends.into_iter().enumerate() {
        let buf = r.filled(0, Class::Bulk, &vec![i as u8 + 1; BULK]);
        sends.push(r.submit(
            0,
            Op::Send {
                on,
                buf,
                range: 0..BULK,
            },
        ));
    }
    for (i, on) in ends.into_iter().enumerate() {
        let got = r.recv(0, on, BULK);
        assert!(got.iter().all(|&b| b == 2 - i as u8));
    }
    for t in sends {
        let Outcome::Sent { buf } = r.end(0, t) else {
            panic!("not sent")
        };
        r.engine(0).free(buf);
    }
    r.finish([(0, near), (0, far)]);
}

pub fn sizes_that_do_not_fit_are_refused<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    r.h.expect_violations();
    let on = near.name();
    let small = Class::Small.size();
    for range in [0..0, 5..5, 0..small + 1] {
        let buf = r.engine(0).alloc(Class::Small).unwrap();
        let t = r.submit(0, Op::Send { on, buf, range });
        assert_eq!(r.expect_failure(0, t), Errno::INVAL);
    }
    for (at, max) in [(0, 0), (0, small + 1), (small, 1), (usize::MAX, 2)] {
        let buf = r.engine(0).alloc(Class::Small).unwrap();
        let t = r.submit(0, Op::RecvInto { on, buf, at, max });
        assert_eq!(r.expect_failure(0, t), Errno::INVAL);
    }
    for (at, tail) in [(small, 0), (0, small), (usize::MAX, 1)] {
        let t = r.submit(
            0,
            Op::RecvAny {
                on,
                class: Class::Small,
                at,
                tail,
            },
        );
        assert_eq!(r.expect_failure(0, t), Errno::INVAL);
    }
    r.finish([(0, near), (0, far)]);
}

//! Ends: half-close, close, reset, watches, cancelled waits.

use std::rc::Rc;

use super::{Harness, Rig};
use proxy::engine::{
    Class, Close, Dir, Engine, Errno, Interest, Op, Outcome, Part, SockRef, Token,
};

fn watch<H: Harness>(r: &mut Rig<H>, on: SockRef, want: Interest) -> Token {
    r.submit(0, Op::Ready { on, want })
}

pub fn fin_is_an_end_and_the_other_direction_goes_on<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    r.send(0, near.name(), b"request");
    r.engine(0).shutdown(near.name(), Dir::Write).unwrap();
    assert_eq!(r.recv(0, far.name(), 7), b"request");
    r.expect_eof(0, far.name());
    // An end can be read again.
    r.expect_eof(0, far.name());
    let reply = vec![3; 200_000];
    r.transfer(0, far.name(), near.name(), &reply);
    r.engine(0).shutdown(far.name(), Dir::Write).unwrap();
    let buf = r.engine(0).alloc(Class::Small).unwrap();
    let t = r.submit(
        0,
        Op::RecvInto {
            on: near.name(),
            buf,
            at: 0,
            max: 9,
        },
    );
    match r.end(0, t) {
        Outcome::Eof { buf: Some(buf) } => r.engine(0).free(buf),
        other => panic!("{other:?}"),
    }
    r.finish([(0, near), (0, far)]);
}

pub fn shutdown_waits_for_the_send<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let buf = r.filled(0, Class::Small, b"last words");
    let t = r.submit(
        0,
        Op::Send {
            on: near.name(),
            buf,
            range: 0..10,
        },
    );
    let e = r.engine(0).shutdown(near.name(), Dir::Write).unwrap_err();
    assert_eq!(e.kind(), std::io::ErrorKind::ResourceBusy);
    let Outcome::Sent { buf } = r.end(0, t) else {
        panic!("not sent")
    };
    r.engine(0).free(buf);
    r.engine(0).shutdown(near.name(), Dir::Write).unwrap();
    assert_eq!(r.recv(0, far.name(), 10), b"last words");
    r.expect_eof(0, far.name());
    r.finish([(0, near), (0, far)]);
}

pub fn an_orderly_close_delivers_everything_first<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    r.send(0, near.name(), &[8; 20_000]);
    r.engine(0).close(near, Close::Fin);
    assert_eq!(r.recv(0, far.name(), 20_000), [8; 20_000]);
    r.expect_eof(0, far.name());
    r.finish([(0, far)]);
}

pub fn a_reset_close_is_a_reset_at_the_peer<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let t = r.recv_any(0, far.name());
    r.nothing_for(0, &[t]);
    r.engine(0).close(near, Close::Reset);
    assert_eq!(r.expect_failure(0, t), Errno::CONNRESET);
    r.finish([(0, far)]);
}

pub fn a_reset_gives_the_buffer_of_a_receive_back<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let buf = r.engine(0).alloc(Class::Large).unwrap();
    let t = r.submit(
        0,
        Op::RecvInto {
            on: far.name(),
            buf,
            at: 0,
            max: 100,
        },
    );
    r.engine(0).close(near, Close::Reset);
    match r.end(0, t) {
        Outcome::Failed {
            errno: Errno::CONNRESET,
            buf: Some(buf),
            part: None,
        } => {
            r.engine(0).free(buf);
        }
        other => panic!("{other:?}"),
    }
    r.finish([(0, far)]);
}

pub fn sending_to_a_peer_that_is_gone_fails<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let t = watch(&mut r, far.name(), Interest::Hangup);
    r.engine(0).close(near, Close::Reset);
    assert!(matches!(r.end(0, t), Outcome::Ready(Interest::Hangup)));
    let buf = r.filled(0, Class::Small, b"anyone?");
    let t = r.submit(
        0,
        Op::Send {
            on: far.name(),
            buf,
            range: 0..7,
        },
    );
    let errno = r.expect_failure(0, t);
    assert!(matches!(errno, Errno::CONNRESET | Errno::PIPE), "{errno:?}");
    let buf = Rc::new(r.filled(0, Class::Small, b"anyone?"));
    let part = Part { buf, range: 0..7 };
    let t = r.submit(
        0,
        Op::SendNow {
            on: far.name(),
            part,
        },
    );
    match r.end(0, t) {
        Outcome::Failed {
            buf: None,
            part: Some(part),
            ..
        } => {
            let buf = Rc::try_unwrap(part.buf).unwrap();
            r.engine(0).free(buf);
        }
        other => panic!("{other:?}"),
    }
    r.finish([(0, far)]);
}

pub fn a_watch_for_hang_up_ignores_a_fin_and_sees_a_reset<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let t = watch(&mut r, far.name(), Interest::Hangup);
    r.nothing_for(0, &[t]);
    r.engine(0).shutdown(near.name(), Dir::Write).unwrap();
    r.nothing_for(0, &[t]);
    r.expect_eof(0, far.name());
    // Bytes that flow the other way are no hang-up either.
    r.send(0, far.name(), b"more");
    assert_eq!(r.recv(0, near.name(), 4), b"more");
    r.nothing_for(0, &[t]);
    // A watch begun after the FIN behaves the same.
    r.engine(0).cancel(far.name());
    assert!(matches!(r.end(0, t), Outcome::Cancelled { .. }));
    let t = watch(&mut r, far.name(), Interest::Hangup);
    r.nothing_for(0, &[t]);
    r.engine(0).close(near, Close::Reset);
    assert!(matches!(r.end(0, t), Outcome::Ready(Interest::Hangup)));
    r.finish([(0, far)]);
}

pub fn a_watch_for_hang_up_sees_both_directions_ended<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    r.engine(0).shutdown(near.name(), Dir::Write).unwrap();
    r.expect_eof(0, far.name());
    let t = watch(&mut r, far.name(), Interest::Hangup);
    r.nothing_for(0, &[t]);
    r.engine(0).shutdown(far.name(), Dir::Write).unwrap();
    assert!(matches!(r.end(0, t), Outcome::Ready(Interest::Hangup)));
    r.finish([(0, near), (0, far)]);
}

pub fn a_watch_for_bytes_sees_bytes_and_ends<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let t = watch(&mut r, far.name(), Interest::Read);
    r.nothing_for(0, &[t]);
    assert_eq!(r.engine(0).pool().out(), 0);
    r.send(0, near.name(), b"!");
    assert!(matches!(r.end(0, t), Outcome::Ready(Interest::Read)));
    assert_eq!(r.recv(0, far.name(), 1), b"!");
    let t = watch(&mut r, far.name(), Interest::Read);
    r.nothing_for(0, &[t]);
    r.engine(0).shutdown(near.name(), Dir::Write).unwrap();
    assert!(matches!(r.end(0, t), Outcome::Ready(Interest::Read)));
    r.expect_eof(0, far.name());
    r.finish([(0, near), (0, far)]);
}

pub fn a_watch_for_room_waits_until_there_is_some<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let t = watch(&mut r, near.name(), Interest::Write);
    assert!(matches!(r.end(0, t), Outcome::Ready(Interest::Write)));
    // Fill it until nothing goes in for a while: what is in flight has settled.
    let buf = Rc::new(r.engine(0).alloc(Class::Bulk).unwrap());
    let mut total = 0;
    let mut quiet = 0;
    while quiet < 20 {
        let part = Part {
            buf: Rc::clone(&buf),
            range: 0..buf.len(),
        };
        let t = r.submit(
            0,
            Op::SendNow {
                on: near.name(),
                part,
            },
        );
        let Outcome::SentNow { moved, .. } = r.end(0, t) else {
            panic!("not sent")
        };
        total += moved;
        quiet = if moved == 0 { quiet + 1 } else { 0 };
        r.h.rest(&mut r.arrived);
    }
    r.engine(0).free(Rc::try_unwrap(buf).unwrap());
    let t = watch(&mut r, near.name(), Interest::Write);
    r.nothing_for(0, &[t]);
    r.recv(0, far.name(), total);
    assert!(matches!(r.end(0, t), Outcome::Ready(Interest::Write)));
    r.finish([(0, near), (0, far)]);
}

pub fn a_cancelled_watch_ends_once<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    for want in [Interest::Read, Interest::Hangup] {
        let t = watch(&mut r, far.name(), want);
        r.nothing_for(0, &[t]);
        r.engine(0).cancel(far.name());
        assert!(matches!(
            r.end(0, t),
            Outcome::Cancelled {
                buf: None,
                part: None
            }
        ));
        r.nothing_for(0, &[t]);
    }
    r.finish([(0, near), (0, far)]);
}

pub fn a_cancelled_accept_ends_once<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (listener, addr) = r.listen(0);
    for _ in 0..3 {
        let t = r.submit(
            0,
            Op::Accept {
                on: listener.name(),
            },
        );
        r.nothing_for(0, &[t]);
        r.engine(0).cancel(listener.name());
        assert!(matches!(r.end(0, t), Outcome::Cancelled { .. }));
        r.nothing_for(0, &[t]);
    }
    let t = r.submit(
        0,
        Op::Accept {
            on: listener.name(),
        },
    );
    let (near, connect) = r.connect(0, addr);
    let far = r.accepted(0, t);
    assert!(matches!(r.end(0, connect), Outcome::Connected));
    r.engine(0).cancel(listener.name());
    assert!(matches!(r.end(0, t), Outcome::Cancelled { .. }));
    r.finish([(0, near), (0, far), (0, listener)]);
}

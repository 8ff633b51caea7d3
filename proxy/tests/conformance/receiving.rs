//! Receiving: buffers, room, starving.

use super::{Harness, Rig, config};
use proxy::engine::{Class, Engine, EngineConfig, Op, Outcome, Token};

pub fn bytes_arrive_as_they_were_sent<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    r.send(0, near.name(), &bytes[..4000]);
    assert_eq!(r.recv(0, far.name(), 4000), bytes[..4000]);
    r.transfer(0, far.name(), near.name(), &bytes);
    r.finish([(0, near), (0, far)]);
}

pub fn an_idle_receive_holds_no_buffer<H: Harness>() {
    let mut r = Rig::<H>::one();
    let pairs: Vec<_> = (0..10).map(|_| r.pair(0, 0)).collect();
    let armed: Vec<Token> = pairs
        .iter()
        .map(|(near, _)| r.recv_any(0, near.name()))
        .collect();
    r.nothing_for(0, &armed);
    let stats = r.engine(0).pool();
    assert_eq!(stats.out(), 0, "{stats:?}");
    assert!(stats.balanced());
    for ((near, _), t) in pairs.iter().zip(armed) {
        r.engine(0).cancel(near.name());
        assert!(matches!(
            r.end(0, t),
            Outcome::Cancelled {
                buf: None,
                part: None
            }
        ));
    }
    r.finish(pairs.into_iter().flat_map(|(a, b)| [(0, a), (0, b)]));
}

pub fn received_bytes_leave_the_room_that_was_asked_for<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let (at, tail) = (24, 100);
    r.send(0, near.name(), &vec![7; 3 * Class::Small.size()]);
    let mut got = 0;
    while got < 3 * Class::Small.size() {
        let op = Op::RecvAny {
            on: far.name(),
            class: Class::Small,
            at,
            tail,
        };
        let t = r.submit(0, op);
        let Outcome::Received {
            buf,
            at: start,
            len,
            ..
        } = r.end(0, t)
        else {
            panic!("not received")
        };
        assert_eq!(start, at);
        assert!(len > 0 && start + len + tail <= buf.len(), "{len}");
        assert_eq!(buf.class(), Class::Small);
        assert!(buf[start..start + len].iter().all(|&b| b == 7));
        got += len;
        r.engine(0).free(buf);
    }
    assert_eq!(got, 3 * Class::Small.size());
    r.finish([(0, near), (0, far)]);
}

pub fn receives_with_different_room_work_side_by_side<H: Harness>() {
    let mut r = Rig::<H>::one();
    let pairs: Vec<_> = (0..8).map(|_| r.pair(0, 0)).collect();
    for round in 0..3_usize {
        let mut armed = Vec::new();
        for (i, (_, far)) in pairs.iter().enumerate() {
            let (at, tail) = (i * 8, round * 16);
            let class = if i % 2 == 0 {
                Class::Small
            } else {
                Class::Medium
            };
            armed.push(r.submit(
                0,
                Op::RecvAny {
                    on: far.name(),
                    class,
                    at,
                    tail,
                },
            ));
        }
        for (near, _) in &pairs {
            r.send(0, near.name(), &[round as u8; 1]);
        }
        for (i, t) in armed.into_iter().enumerate() {
            let Outcome::Received { buf, at, len, .. } = r.end(0, t) else {
                panic!("not received")
            };
            assert_eq!((at, len, buf[at]), (i * 8, 1, round as u8));
            r.engine(0).free(buf);
        }
    }
    r.finish(pairs.into_iter().flat_map(|(a, b)| [(0, a), (0, b)]));
}

pub fn a_receive_into_stays_within_its_bounds<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    r.send(0, near.name(), &[9; 1000]);
    let mut buf = r.engine(0).alloc(Class::Medium).unwrap();
    buf.fill(0);
    let mut got = 0;
    while got < 1000 {
        let t = r.submit(
            0,
            Op::RecvInto {
                on: far.name(),
                buf,
                at: 500 + got,
                max: 300,
            },
        );
        match r.end(0, t) {
            Outcome::Received {
                buf: back, at, len, ..
            } => {
                assert_eq!(at, 500 + got);
                assert!(len > 0 && len <= 300);
                got += len;
                buf = back;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(buf[..500].iter().all(|&b| b == 0));
    assert!(buf[500..1500].iter().all(|&b| b == 9));
    assert!(buf[1500..].iter().all(|&b| b == 0));
    r.engine(0).free(buf);
    r.finish([(0, near), (0, far)]);
}

pub fn without_buffers_a_receive_starves_and_the_bytes_stay<H: Harness>() {
    let mut r = Rig::<H>::new(
        1,
        &EngineConfig {
            sockets: 16,
            buffers: [2, 2, 1, 1],
            pipes: 8,
        },
    );
    let (near, far) = r.pair(0, 0);
    let held = [Class::Medium, Class::Medium].map(|c| r.engine(0).alloc(c).unwrap());
    let op = || Op::RecvAny {
        on: far.name(),
        class: Class::Medium,
        at: 0,
        tail: 0,
    };
    let t = r.submit(0, op());
    r.nothing_for(0, &[t]);
    r.send(0, near.name(), b"patience");
    assert!(matches!(r.end(0, t), Outcome::Starved));
    for buf in held {
        r.engine(0).free(buf);
    }
    let mut got = Vec::new();
    while got.len() < 8 {
        let t = r.submit(0, op());
        let Outcome::Received { buf, at, len, .. } = r.end(0, t) else {
            panic!("not received")
        };
        got.extend_from_slice(&buf[at..at + len]);
        r.engine(0).free(buf);
    }
    assert_eq!(got, b"patience");
    r.finish([(0, near), (0, far)]);
}

pub fn many_receives_use_up_the_pool_and_go_on_when_buffers_are_back<H: Harness>() {
    let mut r = Rig::<H>::new(
        1,
        &EngineConfig {
            sockets: 512,
            buffers: [128, 8, 2, 2],
            pipes: 8,
        },
    );
    let pairs: Vec<_> = (0..160).map(|_| r.pair(0, 0)).collect();
    for (near, _) in &pairs {
        r.send(0, near.name(), b"x");
    }
    let armed: Vec<Token> = pairs
        .iter()
        .map(|(_, far)| r.recv_any(0, far.name()))
        .collect();
    let mut held = Vec::new();
    let mut starved = Vec::new();
    for (i, t) in armed.into_iter().enumerate() {
        match r.end(0, t) {
            Outcome::Received { buf, .. } => held.push(buf),
            Outcome::Starved => starved.push(i),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((held.len(), starved.len()), (128, 32));
    let stats = r.engine(0).pool();
    assert_eq!((stats.classes[0].out, stats.classes[0].free), (128, 0));
    held.into_iter().for_each(|b| r.engine(0).free(b));
    for i in starved {
        assert_eq!(r.recv(0, pairs[i].1.name(), 1), b"x");
    }
    r.finish(pairs.into_iter().flat_map(|(a, b)| [(0, a), (0, b)]));
}

pub fn a_receive_of_every_class_works_again_and_again<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    for round in 0..100_u8 {
        for class in Class::ALL {
            let t = r.submit(
                0,
                Op::RecvAny {
                    on: far.name(),
                    class,
                    at: 4,
                    tail: 16,
                },
            );
            r.send(0, near.name(), &[round; 1]);
            let Outcome::Received { buf, at, len, .. } = r.end(0, t) else {
                panic!("not received")
            };
            assert_eq!((buf.class(), len, buf[at]), (class, 1, round));
            r.engine(0).free(buf);
        }
    }
    r.finish([(0, near), (0, far)]);
}

pub fn a_cancelled_receive_ends_once<H: Harness>() {
    let mut r = Rig::<H>::new(1, &config());
    let (near, far) = r.pair(0, 0);
    let buf = r.engine(0).alloc(Class::Small).unwrap();
    let t = r.submit(
        0,
        Op::RecvInto {
            on: far.name(),
            buf,
            at: 0,
            max: 10,
        },
    );
    r.nothing_for(0, &[t]);
    r.engine(0).cancel(far.name());
    match r.end(0, t) {
        Outcome::Cancelled {
            buf: Some(buf),
            part: None,
        } => r.engine(0).free(buf),
        other => panic!("{other:?}"),
    }
    r.nothing_for(0, &[t]);
    // The socket is usable afterwards.
    r.send(0, near.name(), b"on");
    assert_eq!(r.recv(0, far.name(), 2), b"on");
    // And cancelled before it ever reached the kernel:
    let t = r.recv_any(0, far.name());
    r.engine(0).cancel(far.name());
    assert!(matches!(
        r.end(0, t),
        Outcome::Cancelled {
            buf: None,
            part: None
        }
    ));
    r.finish([(0, near), (0, far)]);
}

pub fn a_second_receive_is_given_back<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let first = r.recv_any(0, far.name());
    r.h.expect_violations();
    let t = r.token();
    let op = Op::RecvAny {
        on: far.name(),
        class: Class::Small,
        at: 0,
        tail: 0,
    };
    assert!(r.engine(0).submit(t, op).is_err());
    r.engine(0).cancel(far.name());
    assert!(matches!(r.end(0, first), Outcome::Cancelled { .. }));
    r.finish([(0, near), (0, far)]);
}

pub fn drained_is_said_when_nothing_more_was_there<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    r.send(0, near.name(), &[1; 10]);
    // All ten bytes must be there before the first receive.
    let ready = r.submit(
        0,
        Op::Ready {
            on: far.name(),
            want: proxy::engine::Interest::Read,
        },
    );
    assert!(matches!(r.end(0, ready), Outcome::Ready(_)));
    r.nothing_for(0, &[]);
    let mut got = 0;
    loop {
        let t = r.recv_any(0, far.name());
        let Outcome::Received {
            buf, len, drained, ..
        } = r.end(0, t)
        else {
            panic!("not received")
        };
        r.engine(0).free(buf);
        got += len;
        if got == 10 {
            assert!(drained);
            break;
        }
    }
    r.finish([(0, near), (0, far)]);
}

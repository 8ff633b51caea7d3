//! Turns: how long they last and what ends them.

use super::{Harness, Rig};
use proxy::engine::{Engine, Errno, Op, Outcome, Token, Wait, Wake};
use proxy::time::Duration;

pub fn a_turn_ends_at_its_instant<H: Harness>() {
    let mut r = Rig::<H>::one();
    let mut out = Vec::new();
    r.h.turn(0, Wait::Poll, &mut out);
    let until = r.engine(0).now() + Duration::from_millis(5);
    r.h.turn(0, Wait::Until(until), &mut out);
    assert!(r.engine(0).now() >= until);
    assert!(r.engine(0).now().since(until) < Duration::from_secs(5));
    // An instant that has passed does not block.
    r.h.turn(0, Wait::Until(until), &mut out);
    assert!(out.is_empty());
    r.finish([]);
}

pub fn a_poll_never_blocks<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let t = r.recv_any(0, near.name());
    let mut out = Vec::new();
    for _ in 0..100 {
        r.h.turn(0, Wait::Poll, &mut out);
    }
    assert!(out.is_empty());
    r.engine(0).cancel(near.name());
    assert!(matches!(r.end(0, t), Outcome::Cancelled { .. }));
    r.finish([(0, near), (0, far)]);
}

pub fn another_thread_wakes_a_sleeping_turn<H: Harness>() {
    let mut r = Rig::<H>::one();
    let waker = r.engine(0).waker();
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        while asked.recv().is_ok() {
            waker.wake();
        }
    });
    // Sometimes the turn sleeps already when the wake comes, sometimes not yet.
    let mut out = Vec::new();
    for _ in 0..200 {
        ask.send(()).unwrap();
        r.h.turn(0, Wait::Forever, &mut out);
        assert!(out.is_empty());
    }
    drop(ask);
    thread.join().unwrap();
    r.finish([]);
}

pub fn a_wake_before_the_turn_is_not_lost<H: Harness>() {
    let mut r = Rig::<H>::one();
    let waker = r.engine(0).waker();
    let mut out = Vec::new();
    std::thread::spawn(move || waker.wake()).join().unwrap();
    r.h.turn(0, Wait::Forever, &mut out);
    assert!(out.is_empty());
    r.finish([]);
}

pub fn a_wake_is_used_up_by_one_turn<H: Harness>() {
    let mut r = Rig::<H>::one();
    let waker = r.engine(0).waker();
    let mut out = Vec::new();
    waker.wake();
    waker.wake();
    r.h.turn(0, Wait::Poll, &mut out);
    let until = r.engine(0).now() + Duration::from_millis(20);
    r.h.turn(0, Wait::Until(until), &mut out);
    assert!(r.engine(0).now() >= until, "woken twice");
    r.finish([]);
}

pub fn tokens_come_back_unchanged<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    // The same slot in two generations, as after a slot was used again.
    let old = Token {
        slot: 0xff_ffff,
        generation: u32::MAX,
        op: 255,
    };
    let new = Token {
        slot: 0xff_ffff,
        generation: 0,
        op: 255,
    };
    for (t, sock) in [(old, &near), (new, &far)] {
        let op = Op::RecvAny {
            on: sock.name(),
            class: super::Class::Small,
            at: 0,
            tail: 0,
        };
        assert!(r.engine(0).submit(t, op).is_ok());
    }
    r.engine(0).cancel(near.name());
    assert!(matches!(r.end(0, old), Outcome::Cancelled { .. }));
    r.nothing_for(0, &[new]);
    r.engine(0).close(near, proxy::engine::Close::Reset);
    assert_eq!(r.expect_failure(0, new), Errno::CONNRESET);
    r.finish([(0, far)]);
}

//! Accepting, connecting, and moving connections.

use super::{Harness, Rig, config};
use proxy::engine::{
    Close, Engine, EngineConfig, Errno, Family, Op, Outcome, Sock, SockOpt, Token,
};

pub fn accept_reports_each_connection_and_goes_on<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (listener, addr) = r.listen(0);
    let accept = r.submit(
        0,
        Op::Accept {
            on: listener.name(),
        },
    );
    let mut socks = Vec::new();
    for _ in 0..3 {
        let (near, connect) = r.connect(0, addr);
        let done = r.wait(0, accept);
        assert!(done.more);
        let Outcome::Accepted(far, from) = done.what else {
            panic!("{:?}", done.what)
        };
        assert!(matches!(r.end(0, connect), Outcome::Connected));
        assert_eq!(from.ip(), addr.ip());
        assert_ne!(from.port(), addr.port());
        socks.extend([near, far]);
    }
    r.engine(0).cancel(listener.name());
    assert!(matches!(r.end(0, accept), Outcome::Cancelled { .. }));
    socks.push(listener);
    r.finish(socks.into_iter().map(|s| (0, s)));
}

pub fn connecting_where_nobody_listens_is_refused<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (listener, addr) = r.listen(0);
    r.engine(0).close(listener, Close::Fin);
    r.nothing_for(0, &[]);
    let (sock, connect) = r.connect(0, addr);
    assert_eq!(r.expect_failure(0, connect), Errno::CONNREFUSED);
    r.finish([(0, sock)]);
}

pub fn two_engines_share_one_listening_socket<H: Harness>() {
    let mut r = Rig::<H>::new(3, &config());
    let (carry, addr) = r.h.listener(0);
    let a = r.engine(0).listen(&carry).unwrap();
    let b = r.engine(1).listen(&carry).unwrap();
    drop(carry);
    let accepts = [
        r.submit(0, Op::Accept { on: a.name() }),
        r.submit(1, Op::Accept { on: b.name() }),
    ];
    let mut socks = Vec::new();
    let mut nears: Vec<(Sock, Token)> = (0..16).map(|_| r.connect(2, addr)).collect();
    let mut accepted = 0;
    while accepted < 16 {
        r.pump();
        for (i, &t) in accepts.iter().enumerate() {
            while let Some(done) = r.take(i, t) {
                let Outcome::Accepted(sock, _) = done.what else {
                    panic!("{:?}", done.what)
                };
                socks.push((i, sock));
                accepted += 1;
            }
        }
    }
    for (sock, t) in nears.drain(..) {
        assert!(matches!(r.end(2, t), Outcome::Connected));
        socks.push((2, sock));
    }
    // One of the two going away does not disturb the other.
    r.engine(0).cancel(a.name());
    assert!(matches!(r.end(0, accepts[0]), Outcome::Cancelled { .. }));
    r.engine(0).close(a, Close::Fin);
    let (near, connect) = r.connect(2, addr);
    let far = r.accepted(1, accepts[1]);
    assert!(matches!(r.end(2, connect), Outcome::Connected));
    socks.extend([(2, near), (1, far)]);
    r.engine(1).cancel(b.name());
    assert!(matches!(r.end(1, accepts[1]), Outcome::Cancelled { .. }));
    socks.push((1, b));
    r.finish(socks);
}

pub fn a_thousand_connections_work_at_once<H: Harness>() {
    let mut r = Rig::<H>::new(
        1,
        &EngineConfig {
            sockets: 4096,
            buffers: [2048, 16, 4, 4],
            pipes: 8,
        },
    );
    let (listener, addr) = r.listen(0);
    let accept = r.submit(
        0,
        Op::Accept {
            on: listener.name(),
        },
    );
    let connects: Vec<_> = (0..1000).map(|_| r.connect(0, addr)).collect();
    let fars: Vec<Sock> = (0..1000).map(|_| r.accepted(0, accept)).collect();
    let mut nears = Vec::new();
    for (sock, t) in connects {
        assert!(matches!(r.end(0, t), Outcome::Connected));
        nears.push(sock);
    }
    let receives: Vec<Token> = fars.iter().map(|s| r.recv_any(0, s.name())).collect();
    for sock in &nears {
        r.send(0, sock.name(), b"hello");
    }
    for t in receives {
        let Outcome::Received { buf, at, len, .. } = r.end(0, t) else {
            panic!("not received")
        };
        assert!(b"hello".starts_with(&buf[at..at + len]));
        r.engine(0).free(buf);
    }
    r.engine(0).cancel(listener.name());
    assert!(matches!(r.end(0, accept), Outcome::Cancelled { .. }));
    let all = nears.into_iter().chain(fars).chain([listener]);
    r.finish(all.map(|s| (0, s)));
}

pub fn a_full_table_leaves_connections_in_the_backlog<H: Harness>() {
    // The listener, two accepted ones; the connecting side has its own engine.
    let mut r = Rig::<H>::new(
        2,
        &EngineConfig {
            sockets: 3,
            buffers: [8, 8, 2, 2],
            pipes: 8,
        },
    );
    let (listener, addr) = r.listen(0);
    let accept = r.submit(
        0,
        Op::Accept {
            on: listener.name(),
        },
    );
    let nears: Vec<_> = (0..3).map(|_| r.connect(1, addr)).collect();
    let first = r.accepted(0, accept);
    let second = r.accepted(0, accept);
    r.nothing_for(0, &[accept]);
    r.engine(0).close(first, Close::Fin);
    let third = r.accepted(0, accept);
    r.engine(0).cancel(listener.name());
    assert!(matches!(r.end(0, accept), Outcome::Cancelled { .. }));
    let mut socks = vec![(0, second), (0, third), (0, listener)];
    for (sock, t) in nears {
        assert!(matches!(r.end(1, t), Outcome::Connected));
        socks.push((1, sock));
    }
    r.finish(socks);
}

pub fn a_connection_moves_from_one_engine_to_another<H: Harness>() {
    let mut r = Rig::<H>::new(2, &config());
    let (near, far) = r.pair(0, 0);
    r.send(0, near.name(), b"before");
    let carry = r.engine(0).detach(far).unwrap();
    let far = match r.engine(1).attach(carry) {
        Ok(sock) => sock,
        Err(_) => panic!("attach"),
    };
    assert_eq!(r.recv(1, far.name(), 6), b"before");
    r.send(1, far.name(), b"after");
    assert_eq!(r.recv(0, near.name(), 5), b"after");
    r.finish([(0, near), (1, far)]);
}

pub fn a_socket_with_an_operation_in_flight_is_not_given_away<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let t = r.recv_any(0, near.name());
    let near = match r.engine(0).detach(near) {
        Err(sock) => sock,
        Ok(_) => panic!("detached"),
    };
    r.nothing_for(0, &[t]);
    r.engine(0).cancel(near.name());
    assert!(matches!(r.end(0, t), Outcome::Cancelled { .. }));
    assert!(r.engine(0).detach(near).is_ok());
    r.finish([(0, far)]);
}

pub fn a_name_outlives_its_socket_without_harm<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    let old = near.name();
    r.engine(0).close(near, Close::Fin);
    let new = r.engine(0).socket(Family::V4, &SockOpt::default()).unwrap();
    assert_ne!(old, new.name());
    r.h.expect_violations();
    let buf = r.filled(0, super::Class::Small, b"x");
    let t = r.submit(
        0,
        Op::Send {
            on: old,
            buf,
            range: 0..1,
        },
    );
    assert_eq!(r.expect_failure(0, t), Errno::BADF);
    let t = r.recv_any(0, old);
    assert_eq!(r.expect_failure(0, t), Errno::BADF);
    r.engine(0).cancel(old);
    assert!(
        r.engine(0)
            .shutdown(old, proxy::engine::Dir::Write)
            .is_err()
    );
    r.finish([(0, new), (0, far)]);
}

pub fn a_tunnel_has_its_options_set<H: Harness>() {
    let mut r = Rig::<H>::one();
    let (near, far) = r.pair(0, 0);
    r.engine(0).tune(far.name(), &SockOpt::TUNNEL).unwrap();
    let dialed = r.engine(0).socket(Family::V4, &SockOpt::TUNNEL).unwrap();
    r.send(0, far.name(), b"still works");
    assert_eq!(r.recv(0, near.name(), 11), b"still works");
    r.finish([(0, near), (0, far), (0, dialed)]);
}

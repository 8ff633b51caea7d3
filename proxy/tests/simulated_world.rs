//! The simulated world: what its network does, what it can break, what it notices.
//! `cargo test -p proxy --features sim --test simulated_world`.

#![cfg(feature = "sim")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, on whatever it did not expect"
)]

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use proxy::engine::simulated::{
    Faults, OpKind, SimEngine, SimListener, SimRead, SimSocket, Step, Verdict, World,
};
use proxy::engine::{
    Class, Close, Done, DoneList, Engine, EngineConfig, Errno, Family, Op, Outcome, SockOpt, Token,
    Wait, Wake, leaks, tear_down,
};
use proxy::time::{Duration, Instant};

const APP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

fn at(host: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(host, port)
}

fn config() -> EngineConfig {
    EngineConfig {
        sockets: 64,
        buffers: [64, 16, 8, 4],
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

/// Two apps with a connection between them.
fn apps(world: &World) -> (SimSocket, SimSocket) {
    let mut service = world.app_listen(at(HOST, 80)).unwrap();
    let near = world.app_connect(APP, at(HOST, 80));
    let mut far = None;
    assert!(world.run_until(
        Instant::FAR_FUTURE,
        |_| {},
        || {
            far = far.take().or_else(|| service.accept().map(|(s, _)| s));
            far.is_some() && near.connected() == Ok(true)
        },
    ));
    (near, far.unwrap())
}

/// Lets the world run until nothing happens by itself.
fn settle(world: &World) {
    while let Step::Run(_) = world.advance(Instant::FAR_FUTURE) {}
}

fn read_all(s: &mut SimSocket) -> (Vec<u8>, Result<SimRead, Errno>) {
    let mut all = Vec::new();
    let mut buf = [0; 4096];
    loop {
        match s.read(&mut buf) {
            Ok(SimRead::Bytes(n)) => all.extend_from_slice(&buf[..n]),
            end => return (all, end),
        }
    }
}

/// Runs one engine until it has completed something.
fn run(world: &World, e: &mut SimEngine, out: &mut DoneList) {
    loop {
        e.turn(Wait::Forever, out);
        if !out.is_empty() {
            return;
        }
        assert_ne!(
            world.advance(Instant::FAR_FUTURE),
            Step::Quiet,
            "nothing will ever happen (seed {})",
            world.seed()
        );
    }
}

fn one(world: &World, e: &mut SimEngine) -> Done {
    let mut out = DoneList::new();
    run(world, e, &mut out);
    assert_eq!(out.len(), 1, "{out:?}");
    out.remove(0)
}

// ---- determinism --------------------------------------------------------------------------

/// An echo through an engine on a rough network; what happened on the wire.
fn echo(seed: u64) -> Vec<String> {
    let world = World::new(seed);
    world.trace(true);
    world.set_faults(Faults::rough());
    let mut e = world.engine(HOST, &config()).unwrap();
    let (carry, addr) = world.listen(at(HOST, 80)).unwrap();
    let on = e.listen(&carry).unwrap();
    e.submit(token(0), Op::Accept { on: on.name() }).unwrap();
    let mut app = world.app_connect(APP, addr);
    let sent: Vec<u8> = (0..50_000_u32).map(|i| (i % 241) as u8).collect();
    let (mut written, mut got) = (0, Vec::new());
    let mut far = None;
    let mut out = DoneList::new();
    while got.len() < sent.len() {
        e.turn(Wait::Forever, &mut out);
        for done in std::mem::take(&mut out) {
            match done.what {
                Outcome::Accepted(sock, _) => far = Some(sock),
                Outcome::Received { buf, at, len, .. } => {
                    let on = far.as_ref().unwrap().name();
                    e.submit(
                        token(2),
                        Op::Send {
                            on,
                            buf,
                            range: at..at + len,
                        },
                    )
                    .unwrap();
                    continue;
                }
                Outcome::Sent { buf } => e.free(buf),
                other => panic!("{other:?} (seed {seed})"),
            }
            let on = far.as_ref().unwrap().name();
            let op = Op::RecvAny {
                on,
                class: Class::Small,
                at: 3,
                tail: 5,
            };
            e.submit(token(1), op).unwrap();
        }
        assert_ne!(
            world.advance(Instant::FAR_FUTURE),
            Step::Quiet,
            "stuck (seed {seed})"
        );
        if app.connected().unwrap() && written < sent.len() {
            written += app.write(&sent[written..]).unwrap();
        }
        got.extend(read_all(&mut app).0);
    }
    assert_eq!(got, sent, "seed {seed}");
    assert_eq!(world.violations(), Vec::<String>::new());
    tear_down(|| drop((far, on, e)));
    world.take_trace()
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    assert_eq!(echo(1), echo(1));
    assert_ne!(echo(1), echo(2));
}

#[test]
fn bytes_survive_every_seed_of_a_rough_network() {
    for seed in 0..200 {
        echo(seed);
    }
}

#[test]
fn single_bytes_carry_a_message() {
    let world = World::new(5);
    world.set_faults(Faults {
        one_byte: true,
        ..Faults::none()
    });
    let (mut near, mut far) = apps(&world);
    let mut got = Vec::new();
    for b in b"letter by letter" {
        assert_eq!(near.write(&[*b, 0, 0]), Ok(1));
        settle(&world);
        got.extend(read_all(&mut far).0);
    }
    assert_eq!(got, b"letter by letter");
}

// ---- the middlebox ------------------------------------------------------------------------

#[test]
fn a_tap_changes_drops_and_repeats_bytes() {
    let world = World::new(3);
    let (mut near, mut far) = apps(&world);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    world.tap(Some(Box::new(move |flow, bytes| {
        log.borrow_mut()
            .push((flow.outward, flow.offset, bytes.clone()));
        match flow.offset {
            0 => bytes[0] ^= 1,
            4 => bytes.clear(),
            8 => bytes.extend_from_within(..),
            _ => {}
        }
        Verdict::Pass
    })));
    for text in [b"\x10111", b"2222", b"3333", b"4444"] {
        near.write(text).unwrap();
        settle(&world);
    }
    assert_eq!(read_all(&mut far).0, b"\x1111133333333\x34444");
    far.write(b"back").unwrap();
    settle(&world);
    assert_eq!(seen.borrow().len(), 5);
    assert_eq!(seen.borrow()[4], (false, 0, b"back".to_vec()));
    assert_eq!(read_all(&mut near).0, b"cack");
}

#[test]
fn a_tap_ends_a_direction_at_any_offset() {
    for cut in 0..10 {
        let world = World::new(cut);
        let (mut near, mut far) = apps(&world);
        world.tap(Some(Box::new(move |flow, bytes| {
            let keep = cut.saturating_sub(flow.offset);
            if keep < bytes.len() as u64 {
                bytes.truncate(keep as usize);
                return Verdict::Fin;
            }
            Verdict::Pass
        })));
        near.write(b"0123456789").unwrap();
        near.write(b"more").unwrap();
        settle(&world);
        let (got, end) = read_all(&mut far);
        assert_eq!(got, b"0123456789"[..cut as usize]);
        assert_eq!(end, Ok(SimRead::Eof));
    }
}

#[test]
fn a_tap_resets_both_ends_at_any_offset() {
    for cut in 0..10_usize {
        let world = World::new(cut as u64);
        let (mut near, mut far) = apps(&world);
        world.tap(Some(Box::new(move |_, bytes| {
            bytes.truncate(cut);
            Verdict::Reset
        })));
        near.write(b"0123456789").unwrap();
        settle(&world);
        assert_eq!(
            read_all(&mut far),
            (b"0123456789"[..cut].to_vec(), Err(Errno::CONNRESET))
        );
        assert_eq!(near.write(b"x"), Err(Errno::CONNRESET));
    }
}

// ---- the network --------------------------------------------------------------------------

#[test]
fn a_full_window_blocks_the_writer_until_the_reader_reads() {
    let world = World::new(1);
    world.set_faults(Faults {
        window: 1000,
        ..Faults::none()
    });
    let (mut near, mut far) = apps(&world);
    assert_eq!(near.write(&[1; 1500]), Ok(1000));
    settle(&world);
    assert_eq!(near.write(&[1; 1500]), Ok(0));
    assert_eq!(read_all(&mut far).0.len(), 1000);
    assert_eq!(near.write(&[1; 1500]), Ok(1000));
}

#[test]
fn nobody_listening_is_a_refusal_and_nobody_there_a_timeout() {
    let world = World::new(1);
    let refused = world.app_connect(APP, at(HOST, 81));
    settle(&world);
    assert_eq!(refused.connected(), Err(Errno::CONNREFUSED));
    let gone = at([10, 9, 9, 9].into(), 80);
    world.blackhole(gone.ip(), true);
    let dead = world.app_connect(APP, gone);
    let before = world.now();
    settle(&world);
    assert_eq!(dead.connected(), Err(Errno::TIMEDOUT));
    assert!(world.now().since(before) > Duration::from_secs(60));
}

#[test]
fn a_partition_holds_bytes_up_and_healing_delivers_them() {
    let world = World::new(1);
    let (mut near, mut far) = apps(&world);
    world.partition(APP, HOST);
    near.write(b"held up").unwrap();
    let later = world.now() + Duration::from_secs(5);
    world.alarm(later);
    while world.now() < later {
        assert_ne!(world.advance(later), Step::Quiet);
    }
    assert_eq!(read_all(&mut far), (vec![], Ok(SimRead::Nothing)));
    world.heal(APP, HOST);
    near.write(b", then not").unwrap();
    assert!(world.run_until(
        world.now() + Duration::from_secs(1),
        |_| {},
        || world.now() > later + Duration::from_millis(1)
    ));
    assert_eq!(read_all(&mut far).0, b"held up, then not");
}

#[test]
fn a_partitioned_tunnel_fails_within_its_timeout() {
    let world = World::new(1);
    let (mut near, mut far) = apps(&world);
    near.tune(&SockOpt::TUNNEL);
    far.tune(&SockOpt::TUNNEL);
    world.partition(APP, HOST);
    let start = world.now();
    near.write(b"?").unwrap();
    // The one with data in flight notices first, the idle one by its keepalive.
    let times = RefCell::new([None, None]);
    let (near, far) = (RefCell::new(near), RefCell::new(far));
    world.run_until(
        start + Duration::from_secs(200),
        |_| {},
        || {
            for (i, s) in [&near, &far].into_iter().enumerate() {
                if s.borrow_mut().read(&mut [0; 8]) == Err(Errno::TIMEDOUT) {
                    times.borrow_mut()[i].get_or_insert(world.now());
                }
            }
            times.borrow().iter().all(Option::is_some)
        },
    );
    let [a, b] = times
        .into_inner()
        .map(|t: Option<Instant>| t.unwrap().since(start));
    assert!(
        a >= Duration::from_secs(15) && a < Duration::from_secs(16),
        "{a:?}"
    );
    assert!(
        b >= Duration::from_secs(70) && b < Duration::from_secs(80),
        "{b:?}"
    );
}

#[test]
fn a_dial_into_a_partition_succeeds_once_it_heals() {
    let world = World::new(1);
    let mut service: SimListener = world.app_listen(at(HOST, 80)).unwrap();
    world.partition(APP, HOST);
    let app = world.app_connect(APP, at(HOST, 80));
    let later = world.now() + Duration::from_secs(2);
    while world.advance(later) != Step::Limit {}
    assert_eq!(app.connected(), Ok(false));
    world.heal(APP, HOST);
    settle(&world);
    assert_eq!(app.connected(), Ok(true));
    assert!(service.accept().is_some());
}

#[test]
fn closing_with_unread_bytes_is_a_reset() {
    let world = World::new(1);
    let (mut near, far) = apps(&world);
    near.write(b"never read").unwrap();
    settle(&world);
    far.close();
    settle(&world);
    assert_eq!(near.read(&mut [0; 8]), Err(Errno::CONNRESET));
}

#[test]
fn bytes_for_a_closed_socket_come_back_as_a_reset() {
    let world = World::new(1);
    let (mut near, far) = apps(&world);
    far.close();
    settle(&world);
    assert_eq!(near.read(&mut [0; 8]), Ok(SimRead::Eof));
    near.write(b"too late").unwrap();
    settle(&world);
    assert_eq!(near.write(b"x"), Err(Errno::CONNRESET));
}

#[test]
fn a_reset_may_cut_what_was_under_way_anywhere() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let world = World::new(seed);
        world.set_faults(Faults {
            split: 900,
            ..Faults::none()
        });
        let (mut near, mut far) = apps(&world);
        near.write(b"0123456789").unwrap();
        near.reset();
        settle(&world);
        let (got, end) = read_all(&mut far);
        assert!(b"0123456789".starts_with(&got));
        assert_eq!(end, Err(Errno::CONNRESET));
        lengths.insert(got.len());
    }
    assert_eq!(lengths.len(), 11, "cut at every offset: {lengths:?}");
}

// ---- orders -------------------------------------------------------------------------------

#[test]
fn ordered_failures_strike_once() {
    let world = World::new(1);
    let mut e = world.engine(HOST, &config()).unwrap();
    let _service = world.app_listen(at(APP, 80)).unwrap();
    world.fail_next(e.id(), OpKind::Socket, Errno::MFILE);
    assert!(e.socket(Family::V4, &SockOpt::default()).is_err());
    let s = e.socket(Family::V4, &SockOpt::default()).unwrap();
    world.fail_next(e.id(), OpKind::Connect, Errno::ADDRNOTAVAIL);
    e.submit(
        token(1),
        Op::Connect {
            on: s.name(),
            to: at(APP, 80),
        },
    )
    .unwrap();
    let done = one(&world, &mut e);
    assert!(
        matches!(
            done.what,
            Outcome::Failed {
                errno: Errno::ADDRNOTAVAIL,
                ..
            }
        ),
        "{done:?}"
    );
    e.close(s, Close::Reset);
    world.fail_next(e.id(), OpKind::Alloc, Errno::NOMEM);
    assert!(e.alloc(Class::Small).is_none());
    let s = e.socket(Family::V4, &SockOpt::default()).unwrap();
    e.submit(
        token(2),
        Op::Connect {
            on: s.name(),
            to: at(APP, 80),
        },
    )
    .unwrap();
    assert!(matches!(one(&world, &mut e).what, Outcome::Connected));
    world.fail_next(e.id(), OpKind::Send, Errno::PIPE);
    let buf = e.alloc(Class::Small).unwrap();
    e.submit(
        token(3),
        Op::Send {
            on: s.name(),
            buf,
            range: 0..9,
        },
    )
    .unwrap();
    match one(&world, &mut e).what {
        Outcome::Failed {
            errno: Errno::PIPE,
            buf: Some(buf),
            ..
        } => e.free(buf),
        other => panic!("{other:?}"),
    }
    e.close(s, Close::Reset);
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[test]
fn every_connection_between_two_hosts_can_be_reset() {
    let world = World::new(1);
    let (mut near, mut far) = apps(&world);
    world.reset_between(HOST, APP);
    assert_eq!(near.read(&mut [0; 1]), Err(Errno::CONNRESET));
    assert_eq!(far.read(&mut [0; 1]), Err(Errno::CONNRESET));
}

// ---- engines ------------------------------------------------------------------------------

#[test]
fn a_killed_process_leaves_nothing_behind() {
    let world = World::new(1);
    let before = world.census();
    let mut e = world.engine(HOST, &config()).unwrap();
    let (carry, addr) = world.listen(at(HOST, 80)).unwrap();
    let on = e.listen(&carry).unwrap();
    drop(carry);
    e.submit(token(0), Op::Accept { on: on.name() }).unwrap();
    let mut app = world.app_connect(APP, addr);
    let Outcome::Accepted(far, _) = one(&world, &mut e).what else {
        panic!("not accepted")
    };
    let buf = e.alloc(Class::Bulk).unwrap();
    e.submit(
        token(1),
        Op::RecvInto {
            on: far.name(),
            buf,
            at: 0,
            max: 10,
        },
    )
    .unwrap();
    let mut out = DoneList::new();
    e.turn(Wait::Forever, &mut out);
    let leaked = leaks();
    tear_down(|| drop((on, far, e)));
    assert_eq!(leaks(), leaked);
    settle(&world);
    // A killed process must not look like the end of its data.
    assert_eq!(app.read(&mut [0; 1]), Err(Errno::CONNRESET));
    drop(app);
    settle(&world);
    assert_eq!(world.census(), before);
    let app = world.app_connect(APP, addr);
    settle(&world);
    assert_eq!(app.connected(), Err(Errno::CONNREFUSED));
}

#[test]
fn a_carry_that_nobody_takes_closes_its_socket() {
    let world = World::new(1);
    let mut e = world.engine(HOST, &config()).unwrap();
    let (carry, addr) = world.listen(at(HOST, 80)).unwrap();
    let on = e.listen(&carry).unwrap();
    e.submit(token(0), Op::Accept { on: on.name() }).unwrap();
    let mut app = world.app_connect(APP, addr);
    let Outcome::Accepted(far, _) = one(&world, &mut e).what else {
        panic!("not accepted")
    };
    let far = e.detach(far).unwrap();
    std::thread::spawn(move || drop(far)).join().unwrap();
    settle_with(&world, &mut e);
    assert_eq!(app.read(&mut [0; 1]), Ok(SimRead::Eof));
    tear_down(|| drop((on, e)));
}

fn settle_with(world: &World, e: &mut SimEngine) {
    let mut out = DoneList::new();
    while let Step::Run(_) = world.advance(Instant::FAR_FUTURE) {
        e.turn(Wait::Forever, &mut out);
        assert!(out.is_empty(), "{out:?}");
    }
}

#[test]
fn a_cancelled_connect_ends_once() {
    let world = World::new(1);
    let mut e = world.engine(HOST, &config()).unwrap();
    let _service = world.app_listen(at(APP, 80)).unwrap();
    world.partition(APP, HOST);
    let s = e.socket(Family::V4, &SockOpt::default()).unwrap();
    e.submit(
        token(1),
        Op::Connect {
            on: s.name(),
            to: at(APP, 80),
        },
    )
    .unwrap();
    let mut out = DoneList::new();
    e.turn(Wait::Forever, &mut out);
    assert!(out.is_empty());
    e.cancel(s.name());
    assert!(matches!(
        one(&world, &mut e).what,
        Outcome::Cancelled { .. }
    ));
    e.close(s, Close::Reset);
    world.heal(APP, HOST);
    settle_with(&world, &mut e);
    assert_eq!(world.census().connections, 0);
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[test]
fn breaches_of_the_contract_are_recorded() {
    let world = World::new(1);
    let mut e = world.engine(HOST, &config()).unwrap();
    let mut other = world.engine(HOST, &config()).unwrap();
    let s = e.socket(Family::V4, &SockOpt::default()).unwrap();
    let name = s.name();
    let count = Cell::new(0);
    let expect = |what: &str| {
        count.set(count.get() + 1);
        let all = world.violations();
        assert_eq!(all.len(), count.get(), "{all:?}");
        assert!(all[count.get() - 1].contains(what), "{all:?}");
    };
    let receive = || Op::RecvAny {
        on: name,
        class: Class::Small,
        at: 0,
        tail: 0,
    };
    e.submit(token(1), receive()).unwrap();
    assert!(e.submit(token(2), receive()).is_err());
    expect("next to another");
    let buf = e.alloc(Class::Small).unwrap();
    other.free(buf);
    expect("another engine");
    e.close(s, Close::Fin);
    expect("in flight");
    e.submit(token(3), receive()).unwrap();
    expect("closed socket");
    let mut out = DoneList::new();
    for _ in 0..proxy::limits::SIM_TURNS_MAX + 5 {
        other.turn(Wait::Poll, &mut out);
    }
    expect("spins");
    world.pardon();
    assert!(world.violations().is_empty());
}

#[test]
fn an_engine_runs_when_it_is_woken_or_its_instant_comes() {
    let world = World::new(1);
    let mut e = world.engine(HOST, &config()).unwrap();
    let mut out = DoneList::new();
    assert_eq!(world.advance(Instant::FAR_FUTURE), Step::Run(vec![e.id()]));
    e.turn(Wait::Forever, &mut out);
    assert_eq!(world.advance(Instant::FAR_FUTURE), Step::Quiet);
    e.waker().wake();
    assert_eq!(world.advance(Instant::FAR_FUTURE), Step::Run(vec![e.id()]));
    let until = world.now() + Duration::from_secs(3);
    e.turn(Wait::Until(until), &mut out);
    assert!(e.was_woken());
    assert_eq!(world.advance(until - Duration::from_secs(1)), Step::Limit);
    assert_eq!(world.now(), until - Duration::from_secs(1));
    assert_eq!(world.advance(Instant::FAR_FUTURE), Step::Run(vec![e.id()]));
    assert_eq!(world.now(), until);
}

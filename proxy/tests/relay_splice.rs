//! A relay's worker on the engines of the kernel: bulk between two legs arrives as it was sent, and
//! goes through pipes.
//!
//! What it costs, with and without pipes, and what an idle circuit holds, both engines:
//! `cargo test -p proxy --test relay_splice -- --ignored --nocapture --test-threads 1`

#![cfg(feature = "engine")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use crypto::Id;
use crypto::leg::LegKey;
use crypto::suite::SuiteMask;
use proxy::engine::{Engine, EngineConfig, Epoll, EventWaker, Uring, listener};
use proxy::ids::{AddressHash, SessionId};
use proxy::limits::LEG_ANSWER;
use proxy::mailbox::{ControlEnd, ToWorker, mailbox};
use proxy::protocol::command::{Command, ConnectSet, LegEntry, Role};
use proxy::protocol::leg::{self, Request};
use proxy::time::{Duration, Instant};
use proxy::worker::counters::Counters;
use proxy::worker::{Worker, WorkerConfig};

const SOCKETS: u32 = 10_000;
const MEMBERS: u8 = 101;
const ADDRESS: AddressHash = AddressHash([5; 32]);

/// The session of a member.
fn session(member: u8) -> (SessionId, LegKey) {
    (SessionId([member; 16]), LegKey::from_secret(&[member; 32]))
}

/// The member that serves; any other may connect.
const OUTLET: u8 = 0;

/// A relay's worker on its thread, and control, which the test plays.
struct Relay {
    control: ControlEnd<OwnedFd, EventWaker>,
    counters: Arc<Counters>,
    addr: SocketAddr,
    /// Gives the thread's CPU time.
    thread: JoinHandle<Duration>,
}

impl Relay {
    fn start<E>(open: fn(&EngineConfig) -> E, pipes: u32) -> Relay
    where
        E: Engine<Carry = OwnedFd, Waker = EventWaker> + 'static,
    {
        let (ours, theirs) = channel();
        let counters = Arc::new(Counters::default());
        let of_worker = Arc::clone(&counters);
        let thread = thread::spawn(move || {
            let engine = open(&EngineConfig {
                sockets: SOCKETS,
                buffers: [256, 256, 64, 0],
                pipes,
            });
            let (control, end) = mailbox(engine.waker(), Arc::new(|| {}));
            ours.send(control).unwrap();
            let config = WorkerConfig::alone(SOCKETS);
            Worker::new(engine, end, &config, of_worker).run();
            let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            Duration::new(
                spent.tv_sec.try_into().unwrap(),
                spent.tv_nsec.try_into().unwrap(),
            )
        });
        let control = theirs.recv().unwrap();
        let (socket, addr) = listener(([127, 0, 0, 1], 0).into()).unwrap();
        let portal = None;
        assert!(control.send(ToWorker::Listen { portal, socket }).is_ok());
        for member in 0..MEMBERS {
            let (session, key) = session(member);
            let serve = if member == OUTLET {
                vec![ADDRESS]
            } else {
                vec![]
            };
            let entry = LegEntry {
                session,
                key,
                member: Id([member; 32]),
                serve,
                connect: ConnectSet::All,
                not_after: Instant::FAR_FUTURE,
            };
            let command = Command::LegKey(Box::new(entry));
            assert!(control.send(ToWorker::Command(command)).is_ok());
        }
        Relay {
            control,
            counters,
            addr,
            thread,
        }
    }

    /// Two legs, paired: their answers are read.
    fn pair(&self, inlet: u8, counter: u64) -> [TcpStream; 2] {
        let mut legs = [(Role::Outlet, OUTLET), (Role::Inlet, inlet)].map(|(role, member)| {
            let (session, key) = session(member);
            let request = Request {
                role,
                suites: SuiteMask(1),
                address: ADDRESS,
                bulk: role == Role::Inlet,
            };
            let mut socket = TcpStream::connect(self.addr).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            socket
                .write_all(&leg::preface(&key, session, counter, &request))
                .unwrap();
            socket
        });
        for leg in &mut legs {
            leg.read_exact(&mut [0; LEG_ANSWER]).unwrap();
        }
        legs
    }

    fn stop(self) -> Duration {
        let stop = ToWorker::Command(Command::Stop);
        assert!(self.control.send(stop).is_ok());
        self.thread.join().unwrap()
    }
}

fn pattern(at: usize) -> u8 {
    (at % 251) as u8 ^ (at >> 16) as u8
}

/// Writes so many bytes and ends.
fn feed(mut to: TcpStream, len: usize) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut at = 0;
        while at < len {
            let piece: Vec<u8> = (at..len.min(at + 100_000)).map(pattern).collect();
            to.write_all(&piece).unwrap();
            at += piece.len();
        }
        to.shutdown(Shutdown::Write).unwrap();
    })
}

/// Reads to the end and compares.
fn drink(from: &mut TcpStream, len: usize) {
    let (mut at, mut buf) = (0, vec![0; 100_000]);
    loop {
        let n = from.read(&mut buf).unwrap();
        if n == 0 {
            break;
        }
        for (i, byte) in buf[..n].iter().enumerate() {
            assert_eq!(*byte, pattern(at + i), "at {}", at + i);
        }
        at += n;
    }
    assert_eq!(at, len);
}

fn bulk<E>(open: fn(&EngineConfig) -> E, pipes: u32)
where
    E: Engine<Carry = OwnedFd, Waker = EventWaker> + 'static,
{
    const LEN: usize = 64 << 20;
    let relay = Relay::start(open, pipes);
    let [outlet, inlet] = relay.pair(1, 1);
    let feeds = [
        feed(outlet.try_clone().unwrap(), LEN),
        feed(inlet.try_clone().unwrap(), LEN / 2),
    ];
    let drinks = [(inlet, LEN), (outlet, LEN / 2)].map(|(mut leg, len)| {
        thread::spawn(move || {
            drink(&mut leg, len);
            leg
        })
    });
    for feed in feeds {
        feed.join().unwrap();
    }
    let legs = drinks.map(|drink| drink.join().unwrap());
    let spliced = relay.counters.bytes_spliced.get();
    let all = relay.counters.bytes_relayed.get();
    assert_eq!(all, (LEN + LEN / 2) as u64);
    if pipes > 0 {
        assert!(spliced > all / 2, "only {spliced} of {all} spliced");
    } else {
        assert_eq!(spliced, 0);
        assert!(relay.counters.pipes_refused.get() > 0);
    }
    assert_eq!(relay.counters.pipes_in_use.get(), 0);
    drop(legs);
    relay.stop();
}

#[test]
fn bulk_each_way_is_spliced_and_unchanged() {
    bulk(|cfg| Epoll::open(cfg).unwrap(), 8);
    bulk(|cfg| Uring::open(cfg).unwrap(), 8);
}

#[test]
fn bulk_each_way_is_unchanged_without_pipes() {
    bulk(|cfg| Epoll::open(cfg).unwrap(), 0);
    bulk(|cfg| Uring::open(cfg).unwrap(), 0);
}

fn cost<E>(what: &str, open: fn(&EngineConfig) -> E, pipes: u32, piece: usize)
where
    E: Engine<Carry = OwnedFd, Waker = EventWaker> + 'static,
{
    const LEN: u64 = 2 << 30;
    let relay = Relay::start(open, pipes);
    let [mut outlet, mut inlet] = relay.pair(1, 1);
    let feed = thread::spawn(move || {
        let bytes = vec![7; piece];
        for _ in 0..LEN / piece as u64 {
            outlet.write_all(&bytes).unwrap();
        }
        outlet
    });
    let begun = std::time::Instant::now();
    let (mut got, mut buf) = (0, vec![0; 1 << 18]);
    while got < LEN {
        got += inlet.read(&mut buf).unwrap() as u64;
    }
    let took = begun.elapsed();
    drop(feed.join().unwrap());
    drop(inlet);
    let counters = Arc::clone(&relay.counters);
    let spent = relay.stop();
    let gib = LEN as f64 / f64::from(1 << 30);
    println!(
        "{what:12} pieces of {piece:6}: {:.3} CPU-s/GiB, {:.1} Gbit/s, {} turns, {} splices of {} bytes",
        spent.as_secs_f64() / gib,
        LEN as f64 * 8e-9 / took.as_secs_f64(),
        counters.turns.get(),
        counters.splices.get(),
        counters.bytes_spliced.get() / counters.splices.get().max(1),
    );
}

#[test]
#[ignore = "a measurement"]
fn cost_of_bulk_with_and_without_pipes() {
    for piece in [16 << 10, 64 << 10, 256 << 10] {
        for _ in 0..2 {
            cost("uring splice", |cfg| Uring::open(cfg).unwrap(), 8, piece);
            cost("uring copy", |cfg| Uring::open(cfg).unwrap(), 0, piece);
            cost("epoll splice", |cfg| Epoll::open(cfg).unwrap(), 8, piece);
            cost("epoll copy", |cfg| Epoll::open(cfg).unwrap(), 0, piece);
        }
    }
}

/// Proportional share of this process's memory, in KiB.
fn pss() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Pss:"));
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    words[1].parse().unwrap()
}

fn idle<E>(what: &str, open: fn(&EngineConfig) -> E)
where
    E: Engine<Carry = OwnedFd, Waker = EventWaker> + 'static,
{
    let relay = Relay::start(open, 8);
    // The legs of this test are descriptors in a vector: all else is the relay's.
    let mut legs = Vec::with_capacity(8000);
    let mut events = Vec::new();
    let mut counter = 0;
    let mut add = |legs: &mut Vec<_>, circuits: usize| {
        for _ in 0..circuits {
            counter += 1;
            let inlet = u8::try_from(counter % u64::from(MEMBERS - 1)).unwrap() + 1;
            legs.extend(relay.pair(inlet, counter));
            relay.control.receive(&mut events, 4096);
            events.clear();
        }
    };
    add(&mut legs, 500);
    let before = pss();
    add(&mut legs, 3000);
    let after = pss();
    println!(
        "{what}: {:.2} KiB per idle circuit",
        (after - before) as f64 / 3000.0
    );
    drop(legs);
    relay.stop();
}

#[test]
#[ignore = "a measurement"]
fn memory_of_idle_circuits() {
    idle("uring", |cfg| Uring::open(cfg).unwrap());
    idle("epoll", |cfg| Epoll::open(cfg).unwrap());
}

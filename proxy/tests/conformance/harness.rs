//! The engines that the suite drives, and how time passes for each.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use proxy::engine::simulated::{Faults, SimCarry, SimEngine, Step, World};
use proxy::engine::{DoneList, Engine, EngineConfig, Epoll, Uring, Wait, listener};
use proxy::time::{Duration, Instant};

/// One or more engines that reach each other.
pub trait Harness {
    type E: Engine;
    fn open(engines: usize, cfg: &EngineConfig) -> Self;
    fn engine(&mut self, i: usize) -> &mut Self::E;
    /// A listening socket where engine `i` is, and its address.
    fn listener(&mut self, i: usize) -> (<Self::E as Engine>::Carry, SocketAddr);
    /// Runs all engines once; when nothing completed, lets a little time pass.
    fn pump(&mut self, out: &mut [DoneList]);
    /// Runs all engines and lets a little time pass in any case.
    fn rest(&mut self, out: &mut [DoneList]);
    /// One turn of one engine that blocks as `wait` says.
    fn turn(&mut self, i: usize, wait: Wait, out: &mut DoneList);
    /// The test breaks the contract on purpose from here on.
    fn expect_violations(&mut self) {}
    /// Looks for violations of the contract.
    fn check(&mut self) {}
}

/// Engines of the kernel: time passes by itself.
pub struct Kernel<E>(Vec<E>);

/// How to open an engine of the kernel.
pub trait Open: Engine<Carry = OwnedFd> {
    fn open_one(cfg: &EngineConfig) -> Self;
}

impl Open for Epoll {
    fn open_one(cfg: &EngineConfig) -> Self {
        Epoll::open(cfg).unwrap()
    }
}

impl Open for Uring {
    fn open_one(cfg: &EngineConfig) -> Self {
        Uring::open(cfg).unwrap()
    }
}

pub type UringHarness = Kernel<Uring>;
pub type EpollHarness = Kernel<Epoll>;

impl<E: Open> Harness for Kernel<E> {
    type E = E;

    fn open(engines: usize, cfg: &EngineConfig) -> Self {
        Kernel((0..engines).map(|_| E::open_one(cfg)).collect())
    }

    fn engine(&mut self, i: usize) -> &mut E {
        &mut self.0[i]
    }

    fn listener(&mut self, _: usize) -> (OwnedFd, SocketAddr) {
        listener(([127, 0, 0, 1], 0).into()).unwrap()
    }

    fn pump(&mut self, out: &mut [DoneList]) {
        let mut any = false;
        for (e, out) in self.0.iter_mut().zip(out.iter_mut()) {
            any |= e.turn(Wait::Poll, out).completions > 0;
        }
        if !any {
            self.rest(out);
        }
    }

    fn rest(&mut self, out: &mut [DoneList]) {
        for (e, out) in self.0.iter_mut().zip(out) {
            let until = e.now() + Duration::from_millis(1);
            e.turn(Wait::Until(until), out);
        }
    }

    fn turn(&mut self, i: usize, wait: Wait, out: &mut DoneList) {
        self.0[i].turn(wait, out);
    }
}

/// Simulated engines: time passes when nobody has anything to do.
pub struct Sim<const ROUGH: bool> {
    world: World,
    engines: Vec<SimEngine>,
    tolerated: bool,
}

pub type SimHarness = Sim<false>;
pub type RoughSimHarness = Sim<true>;

impl<const ROUGH: bool> Sim<ROUGH> {
    fn turn_all(&mut self, out: &mut [DoneList]) -> bool {
        let mut any = false;
        for (e, out) in self.engines.iter_mut().zip(out) {
            any |= e.turn(Wait::Forever, out).completions > 0;
        }
        any
    }
}

impl<const ROUGH: bool> Harness for Sim<ROUGH> {
    type E = SimEngine;

    fn open(engines: usize, cfg: &EngineConfig) -> Self {
        let world = World::new(4711);
        if ROUGH {
            world.set_faults(Faults::rough());
        }
        let host = [10, 0, 0, 1].into();
        let engines = (0..engines)
            .map(|_| world.engine(host, cfg).unwrap())
            .collect();
        Sim {
            world,
            engines,
            tolerated: false,
        }
    }

    fn engine(&mut self, i: usize) -> &mut SimEngine {
        &mut self.engines[i]
    }

    fn listener(&mut self, _: usize) -> (SimCarry, SocketAddr) {
        self.world.listen(([10, 0, 0, 1], 0).into()).unwrap()
    }

    fn pump(&mut self, out: &mut [DoneList]) {
        if !self.turn_all(out) && self.world.advance(Instant::FAR_FUTURE) == Step::Quiet {
            panic!("nothing will ever happen (seed {})", self.world.seed());
        }
    }

    fn rest(&mut self, out: &mut [DoneList]) {
        let until = self.world.now() + Duration::from_millis(10);
        loop {
            self.turn_all(out);
            match self.world.advance(until) {
                Step::Run(_) => {}
                Step::Limit | Step::Quiet => break,
            }
        }
    }

    fn turn(&mut self, i: usize, wait: Wait, out: &mut DoneList) {
        if let Wait::Until(t) = wait {
            self.world.alarm(t);
        }
        loop {
            let e = &mut self.engines[i];
            let stats = e.turn(wait, out);
            let over = match wait {
                Wait::Poll => true,
                Wait::Until(t) => t <= e.now(),
                Wait::Forever => false,
            };
            if over || stats.completions > 0 || e.was_woken() {
                break;
            }
            // Quiet: another thread will wake it.
            if self.world.advance(Instant::FAR_FUTURE) == Step::Quiet {
                std::thread::yield_now();
            }
        }
    }

    fn expect_violations(&mut self) {
        self.tolerated = true;
    }

    fn check(&mut self) {
        let violations = self.world.violations();
        assert_eq!(violations.is_empty(), !self.tolerated, "{violations:?}");
        // Everything was closed: after the last turns nothing is left but what the kernel holds.
        let mut out: Vec<DoneList> = self.engines.iter().map(|_| Vec::new()).collect();
        self.rest(&mut out);
        let census = self.world.census();
        assert_eq!((census.sockets, census.connections), (0, 0), "{census:?}");
    }
}

//! The engines that the suite drives, and how time passes for each.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use proxy::engine::{DoneList, Engine, EngineConfig, Epoll, Uring, Wait, listener};
use proxy::time::Duration;

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

pub type EpollHarness = Kernel<Epoll>;
pub type UringHarness = Kernel<Uring>;

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

//! The world: makes engines and apps, moves the clock, breaks things on request.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use super::app::{SimListener, SimSocket};
use super::engine::{SimCarry, SimEngine};
use super::faults::{Faults, OpKind, Ordered};
pub use super::net::Tap;
use super::net::{Net, Owner};
use crate::engine::{EngineConfig, Errno, Wait};
use crate::time::Instant;

/// An engine of a world. Numbered from 0 in the order in which they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EngineId(pub(super) u32);

/// What [`World::advance`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These engines have something to do, in this order; none, when only apps may have.
    Run(Vec<EngineId>),
    /// The clock has reached the limit.
    Limit,
    /// Nothing will ever happen by itself; the clock stands.
    Quiet,
}

/// What a world holds, to compare with what it held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Open sockets of engines, apps and backlogs, listening ones too.
    pub sockets: usize,
    /// Connections of which at least one end is open.
    pub connections: usize,
}

/// A simulated world. A handle: clones mean the same world. Single-threaded.
#[derive(Clone)]
pub struct World {
    net: Rc<RefCell<Net>>,
    seed: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World(seed {})", self.seed)
    }
}

impl World {
    /// An empty world with a good network. The seed decides everything that is left to chance;
    /// a failing test prints it.
    pub fn new(seed: u64) -> World {
        World {
            net: Rc::new(RefCell::new(Net::new(seed))),
            seed,
        }
    }

    /// The seed it was made with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.net.borrow().now
    }

    /// A number of chance, for decisions of the test that should follow the seed.
    pub fn random(&self) -> u64 {
        self.net.borrow_mut().rng.draw()
    }

    // ---- what is in it --------------------------------------------------------------------

    /// An engine on that host: one worker of one process. Dropping it ends it as a killed process
    /// does: the kernel resets its connections.
    ///
    /// # Errors
    /// When its buffers can't be mapped.
    pub fn engine(&self, host: IpAddr, cfg: &EngineConfig) -> io::Result<SimEngine> {
        SimEngine::open(Rc::clone(&self.net), host, cfg)
    }

    /// A listening socket to be shared by engines, and its address (port 0 picks one).
    ///
    /// # Errors
    /// EADDRINUSE; EADDRNOTAVAIL for an unspecified address: hosts have one address here.
    pub fn listen(&self, addr: SocketAddr) -> Result<(SimCarry, SocketAddr), Errno> {
        let mut net = self.net.borrow_mut();
        let id = net.listen(addr, Owner::Nobody)?;
        let addr = net.listening_at(id).unwrap_or(addr);
        Ok((SimCarry::new(id, &net), addr))
    }

    /// Another share of a listening socket, as a copy of its descriptor.
    pub fn share(&self, socket: &SimCarry) -> SimCarry {
        let mut net = self.net.borrow_mut();
        net.keep_listening(socket.id());
        SimCarry::new(socket.id(), &net)
    }

    /// A service of the test's own that listens there.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn app_listen(&self, addr: SocketAddr) -> Result<SimListener, Errno> {
        let id = self.net.borrow_mut().listen(addr, Owner::App)?;
        Ok(SimListener::new(Rc::clone(&self.net), id))
    }

    /// A connection of the test's own, from that host; it comes up as the clock moves.
    pub fn app_connect(&self, host: IpAddr, to: SocketAddr) -> SimSocket {
        let mut net = self.net.borrow_mut();
        let id = net.socket(Owner::App, host);
        net.connect(id, to);
        drop(net);
        SimSocket::new(Rc::clone(&self.net), id)
    }

    /// How much it holds.
    pub fn census(&self) -> Census {
        let mut net = self.net.borrow_mut();
        net.bury();
        Census {
            sockets: net.count_sockets(),
            connections: net.count_connections(),
        }
    }

    /// Breaches of the engine's contract so far, each with its time. A test asserts that there
    /// are none.
    pub fn violations(&self) -> Vec<String> {
        self.net.borrow().violations.clone()
    }

    /// Forgets them: for tests that commit some.
    pub fn pardon(&self) {
        self.net.borrow_mut().violations.clear();
    }

    /// Starts or stops writing down what happens on the wire.
    pub fn trace(&self, on: bool) {
        self.net.borrow_mut().trace = on.then(Vec::new);
    }

    /// What was written down since it was started or last taken.
    pub fn take_trace(&self) -> Vec<String> {
        self.net
            .borrow_mut()
            .trace
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    // ---- time -----------------------------------------------------------------------------

    /// Says which engines have something to do; when none has, moves the clock to the next thing
    /// that happens or that an engine waits for, but not beyond `limit`.
    pub fn advance(&self, limit: Instant) -> Step {
        let mut net = self.net.borrow_mut();
        net.bury();
        net.run_due();
        let ready = Self::ready(&mut net);
        if !ready.is_empty() {
            return Step::Run(ready);
        }
        let waits = net
            .engines
            .iter()
            .filter(|e| e.alive)
            .filter_map(|e| match e.wait {
                Wait::Until(t) if t < Instant::FAR_FUTURE => Some(t),
                Wait::Until(_) | Wait::Forever | Wait::Poll => None,
            });
        match waits.chain(net.next_event()).min() {
            None => Step::Quiet,
            Some(t) if t > limit => {
                net.now = net.now.max(limit);
                Step::Limit
            }
            Some(t) => {
                net.now = net.now.max(t);
                net.run_due();
                Step::Run(Self::ready(&mut net))
            }
        }
    }

    fn ready(net: &mut Net) -> Vec<EngineId> {
        let n = u32::try_from(net.engines.len()).unwrap_or(u32::MAX);
        let mut ready: Vec<EngineId> = (0..n)
            .filter(|&id| net.is_runnable(id))
            .map(EngineId)
            .collect();
        net.rng.shuffle(&mut ready);
        ready
    }

    /// Makes [`advance`](Self::advance) stop at that instant, for timers of the test's own.
    pub fn alarm(&self, at: Instant) {
        self.net.borrow_mut().alarm(at);
    }

    /// Runs the world: `run` is given each engine that has something to do, `look` is called after
    /// each step and says whether the run is over. False when `limit` came first, or when nothing
    /// would ever happen any more.
    pub fn run_until(
        &self,
        limit: Instant,
        mut run: impl FnMut(EngineId),
        mut look: impl FnMut() -> bool,
    ) -> bool {
        loop {
            if look() {
                return true;
            }
            match self.advance(limit) {
                Step::Run(ready) => ready.into_iter().for_each(&mut run),
                Step::Limit | Step::Quiet => return look(),
            }
        }
    }

    // ---- faults ---------------------------------------------------------------------------

    /// Changes what may go wrong by chance from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.net.borrow_mut().faults = faults;
    }

    /// The next call of that kind on that engine fails.
    pub fn fail_next(&self, engine: EngineId, kind: OpKind, errno: Errno) {
        let mut net = self.net.borrow_mut();
        net.ordered.push(Ordered {
            engine: engine.0,
            kind,
            errno,
        });
        net.tell(Owner::Engine(engine.0));
    }

    /// Puts a middlebox on every wire, or takes it away: it sees each chunk of bytes just before
    /// it arrives and may change, clear or lengthen it. It must not call into the world.
    pub fn tap(&self, tap: Option<Tap>) {
        self.net.borrow_mut().tap = tap;
    }

    /// Nothing passes between the two hosts until [`heal`](Self::heal): what is sent is held up,
    /// dials are unanswered, and what TCP gives up on fails with ETIMEDOUT.
    pub fn partition(&self, a: IpAddr, b: IpAddr) {
        self.net.borrow_mut().partition(a, b);
    }

    /// Ends a partition; what was held up arrives.
    pub fn heal(&self, a: IpAddr, b: IpAddr) {
        self.net.borrow_mut().heal(a, b);
    }

    /// Dials to that host are unanswered, as if nothing had its address; or answered again.
    pub fn blackhole(&self, host: IpAddr, on: bool) {
        self.net.borrow_mut().blackhole(host, on);
    }

    /// Resets every connection between the two hosts.
    pub fn reset_between(&self, a: IpAddr, b: IpAddr) {
        self.net.borrow_mut().reset_between(a, b);
    }
}

//! The simulated engine: a world of engines, one clock, one seeded network. For tests only.
//!
//! | module | what it is |
//! |---|---|
//! | [`World`] | makes engines and apps, moves the clock, breaks things on request |
//! | `engine` | [`SimEngine`]: the [`Engine`](super::Engine) contract on the world's sockets |
//! | `attempt` | what it does for one socket in a turn |
//! | `splice` | its pipes |
//! | `app` | [`SimSocket`], [`SimListener`]: endpoints that a test reads and writes by hand |
//! | `net` | sockets, connections, bytes in flight: what a kernel and the wire do |
//! | `faults` | what may go wrong by chance, and what a test orders |
//! | `rng` | the one source of chance |
//!
//! # How a simulation runs
//! Nothing blocks: [`SimEngine`]'s `turn` does what can be done now and returns, having noted how
//! long it would have slept. The test owns the workers and runs
//!
//! ```text
//! loop {
//!     match world.advance(limit) {
//!         Step::Run(engines) => each of them: worker.one_turn();  then the test's own apps
//!         Step::Limit | Step::Quiet => break,
//!     }
//! }
//! ```
//! or [`World::run_until`], which is that loop. The clock moves only in `advance`, and only when
//! no engine has anything to do, so a run is a function of the seed and of what the test does.
//!
//! # What is checked
//! Breaches of the engine's contract are recorded, in release builds too, and the test asserts
//! that [`World::violations`] is empty: operations on closed sockets, two operations on one side
//! of a socket, sizes that do not fit, a close with an operation in flight, a buffer given to the
//! wrong engine, an engine that spins. (A buffer can't be freed twice: `free` takes it by value.)

mod app;
mod attempt;
mod engine;
mod faults;
mod net;
mod rng;
mod splice;
mod world;

pub use app::{SimListener, SimRead, SimSocket};
pub use engine::{SimCarry, SimEngine, SimWaker};
pub use faults::{Faults, Flow, OpKind, Verdict};
pub use rng::Rng;
pub use world::{Census, EngineId, Step, Tap, World};

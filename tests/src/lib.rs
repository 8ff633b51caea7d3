//! Fixtures of the integration tests: real programs, real sockets, one behaviour at a time.
//!
//! | module | what it gives a test |
//! |---|---|
//! | [`process`] | a program that is watched through its output and ended by its id |
//! | [`tcp`] | services and clients that know every byte they should see, and how a connection ended |
//! | [`portal`] | a project with relay, outlet and inlet as processes of their own; the ways to a target |
//! | [`postgres`] | a PostgreSQL server for one test binary, and the programs that talk to it |
//!
//! Nothing here sleeps for a fixed time: a wait ends with its event or fails at its deadline. Every
//! port comes from the kernel.

pub mod portal;
pub mod postgres;
pub mod process;
pub mod tcp;

//! The worker in simulated worlds: every test prints its seed when it fails.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod app;
mod faults;
mod lanes;
mod links;
mod rig;

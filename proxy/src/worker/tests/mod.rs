//! The worker in simulated worlds: every test prints its seed when it fails.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and looks at the cases it is about"
)]

mod app;
mod circuits;
mod dedicated;
mod drain;
mod faults;
mod lanes;
mod limits;
mod links;
mod rig;
mod shunned;
mod splice;
mod targets;

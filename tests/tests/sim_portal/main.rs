//! Whole portals in a simulated world: authority, relay, outlet and inlet, each made of its
//! production core, worker and mailbox; apps and a target service that know every byte.
//!
//! | module | what it is |
//! |---|---|
//! | [`process`] | a process: core, worker, mailbox, and a driver that does what control's does |
//! | [`cast`] | who is in a portal, where, and what each is started with |
//! | [`portal`] | the world of one portal, its step, and what is checked after each |
//! | [`endpoint`] | apps and services that write, read, end and reset by a script, and what they may see |
//! | [`script`] | what an app and its service do, drawn from a seed |
//! | [`scenario`] | a whole run from one number: network, apps, faults, then quiet |
//! | [`sweep`] | many seeds on all cores, and what is printed when one fails |
//! | [`relay`] | what a hostile relay does to the bytes it carries |
//! | [`seeds`] | tests: thousands of seeds, one seed, and hours of renewals |
//! | [`worlds`] | tests: a store that fails, wrong clocks, two inlets, a relay apart from its authority |
//! | [`policies`] | tests: a policy that changes while bytes flow |
//! | [`hostile`] | tests: each trick of a hostile relay |
//! | [`workers`] | tests: several workers a process |
//! | [`planted`] | tests: six planted bugs are found |
//!
//! A run is a function of its seed. There is one clock, and it moves only when nobody has
//! anything left to do.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and looks at the cases it is about"
)]

mod cast;
mod endpoint;
mod hostile;
mod planted;
mod policies;
mod portal;
mod process;
mod relay;
mod scenario;
mod script;
mod seeds;
mod sweep;
mod workers;
mod worlds;

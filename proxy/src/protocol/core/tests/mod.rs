//! Whole cores against each other, in the emulated world.

mod circuits;
mod denial;
mod enrollment;
mod exchange;
mod faults;
mod identity;
mod policies;
mod portal;
mod portals;
mod renewal;
mod revocation;
mod strangers;
mod workers;

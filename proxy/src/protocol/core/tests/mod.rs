//! Whole cores against each other, in the emulated world.

mod circuits;
mod denial;
mod enrollment;
mod faults;
mod portal;
mod renewal;
mod revocation;
mod strangers;

//! What the micro-benches in `benches/`, the instruction counts and the comparison of hops start
//! from. BENCHMARKING.md says how to run and read them.
//!
//! | module | what it is |
//! |---|---|
//! | [`keys`] | keys that both ends agree on, records under them, handshakes |
//! | [`lanes`] | two ends of a lane, back to back: the protocol without I/O and cryptography |
//! | [`turn`] | two workers on the simulated engine: a turn of the loop with many streams |
//! | [`work`] | small, repeatable pieces of work by name, for criterion and for callgrind |
//! | [`hop`] | one plain TCP hop, made in five ways, and the load that measures it |
//!
//! `peers.py`, beside this crate's manifest, puts whole portals into the comparison with other
//! tunnels; `callgrind.sh` compares instruction counts with those in `callgrind.txt`.

pub mod hop;
pub mod keys;
pub mod lanes;
pub mod turn;
pub mod work;

//! A pair of lanes with two queues between them, driven by rules, by chance and by a liar.

#[expect(clippy::panic, reason = "a test fails by panicking")]
mod bundle;
mod bundle_chance;
mod chance;
mod liar;
mod rules_circuit;
mod rules_credit;
mod rules_ending;
mod rules_exchange;
mod rules_lane;
mod world;

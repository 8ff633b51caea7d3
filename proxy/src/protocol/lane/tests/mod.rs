//! A pair of lanes with two queues between them, driven by rules, by chance and by a liar.

mod chance;
mod liar;
mod rules_credit;
mod rules_ending;
mod rules_lane;
mod world;

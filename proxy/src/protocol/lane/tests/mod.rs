//! A pair of lanes with two queues between them, driven by rules, by chance and by a liar.

mod chance;
mod liar;
mod rules;
mod world;

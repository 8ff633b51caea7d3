//! What adit does with bytes from outside, as functions that a fuzzer calls: none of them may
//! panic, whatever the bytes are, and what they accept must be what a well-meaning sender writes.
//!
//! `tests/replay.rs` runs each target on its corpus and on mutations of it. `libfuzzer/` lets
//! cargo-fuzz search for more; its targets are one line each.
//!
//! A body returns whether it accepted the bytes. It is a corpus's sign of life: a corpus of which
//! nothing is accepted would test the first check only.

pub mod fixtures;
mod handshake;
mod lane;
mod legs;
mod member;
mod objects;
mod records;
mod session;
mod text;
mod wire;

/// Something that takes bytes from outside.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name of the target and of its corpus's folder.
    pub name: &'static str,
    /// Takes the bytes; whether they were accepted.
    pub body: fn(&[u8]) -> bool,
    /// Accepted bytes to begin a corpus with, each with its file's name.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    objects::IDENTITY,
    objects::IDENTITY_SECRET,
    objects::ATTESTATION,
    objects::CREDENTIAL,
    objects::PASS,
    objects::EVIDENCE,
    objects::NOTE,
    objects::REVOCATION_LIST,
    objects::BEACON,
    objects::HELD_REVOCATIONS,
    handshake::HANDSHAKE,
    records::RECORDS,
    records::FRAMES,
    records::LEG,
    legs::LEG_REQUEST,
    legs::LEG_ANSWER,
    lane::LANE,
    member::MEMBER,
    wire::PREFACE,
    wire::CUTTING,
    wire::OPENED,
    session::MESSAGE,
    session::HELLO,
    session::CIRCUIT_HELLO,
    session::POLICY,
    session::MEMBERSHIP,
    text::TICKET,
    text::TICKET_BODY,
    text::NAMES,
    text::EXPRESSION,
    text::CONFIG,
];

/// Runs the target of that name: what cargo-fuzz's targets call.
///
/// # Panics
/// There is no such target, or it found something.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of that name").body)(bytes);
}

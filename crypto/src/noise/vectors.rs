//! The published Noise XX vectors of suites 1 and 2, through the type states.

use super::resolver::noise_nonce;
use super::{Finished, Initiator, Responder};
use crate::aead::AeadKey;
use crate::random::Random;
use crate::statics::StaticKeypair;
use crate::suite::Suite;
use crate::vectors::{load, unhex, unhex_array};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    protocol_name: Option<String>,
    init_prologue: Option<String>,
    init_static: Option<String>,
    init_ephemeral: Option<String>,
    resp_prologue: Option<String>,
    resp_static: Option<String>,
    resp_ephemeral: Option<String>,
    handshake_hash: Option<String>,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    payload: String,
    ciphertext: String,
}

/// Randomness that is the ephemeral key of a vector, once.
struct Fixed(Option<[u8; 32]>);

impl Random for Fixed {
    fn fill(&mut self, out: &mut [u8]) {
        out.copy_from_slice(&self.0.take().expect("one ephemeral key a handshake"));
    }
}

/// Checks the transport messages with Noise's own keys: those that `split` derives ours from.
fn check_transport(suite: Suite, finished: Finished, messages: &[Message]) {
    let split = finished.handshake.raw_split();
    let keys = [&split[..32], &split[32..]]
        .map(|half| AeadKey::new(suite, half.try_into().expect("half of 64")));
    let mut counters = [0; 2];
    // After message 3 it is the responder's turn.
    for (turn, message) in messages.iter().enumerate() {
        let side = 1 - turn % 2;
        let mut sealed = unhex(&message.payload);
        let tag = keys[side]
            .seal(noise_nonce(suite, counters[side]), &[], &mut sealed)
            .expect("short messages seal");
        sealed.extend_from_slice(&tag);
        assert_eq!(
            sealed,
            unhex(&message.ciphertext),
            "transport message {turn}"
        );
        counters[side] += 1;
    }
}

fn run(suite: Suite, vector: &Vector) {
    let text = |field: &Option<String>| field.clone().expect("an XX vector has all keys");
    let keypair = |field| StaticKeypair::from_secret(&unhex_array(&text(field)));
    let fixed = |field| Fixed(Some(unhex_array(&text(field))));
    let (local, remote) = (keypair(&vector.init_static), keypair(&vector.resp_static));
    let [one, two, three, transport @ ..] = &vector.messages[..] else {
        unreachable!("XX has three messages")
    };

    let (initiator, message) = Initiator::start_with(
        suite,
        &unhex(&text(&vector.init_prologue)),
        &local,
        &unhex(&one.payload),
        &mut fixed(&vector.init_ephemeral),
    )
    .expect("message 1");
    assert_eq!(message, unhex(&one.ciphertext));
    let prologue = unhex(&text(&vector.resp_prologue));
    let (responder, payload) =
        Responder::read_with(suite, &prologue, &remote, &message).expect("message 1");
    assert_eq!(payload, unhex(&one.payload));

    let (waiting, message) = responder
        .write_message_2(&unhex(&two.payload), &mut fixed(&vector.resp_ephemeral))
        .expect("message 2");
    assert_eq!(message, unhex(&two.ciphertext));
    let (checking, payload) = initiator.read_message_2(&message).expect("message 2");
    assert_eq!(payload, unhex(&two.payload));
    assert_eq!(checking.remote_static(), remote.public());

    let (finished_i, message) = checking
        .write_message_3(&unhex(&three.payload))
        .expect("message 3");
    assert_eq!(message, unhex(&three.ciphertext));
    let (finished_r, payload) = waiting.read_message_3(&message).expect("message 3");
    assert_eq!(payload, unhex(&three.payload));
    assert_eq!(finished_r.remote_static(), local.public());

    assert_eq!(finished_i.handshake_hash(), finished_r.handshake_hash());
    if let Some(hash) = &vector.handshake_hash {
        assert_eq!(finished_i.handshake_hash(), unhex_array(hash));
    }
    check_transport(suite, finished_i, transport);
    check_transport(suite, finished_r, transport);
}

/// Returns how many vectors ran and how many were for other protocols.
fn run_file(path: &str) -> (usize, usize) {
    let file: File = load(path);
    let mut ran = 0;
    for vector in &file.vectors {
        let name = vector.protocol_name.as_deref().unwrap_or("");
        let suites = [Suite::AesGcm, Suite::ChaChaPoly];
        if let Some(suite) = suites.into_iter().find(|suite| suite.noise_name() == name) {
            run(suite, vector);
            ran += 1;
        }
    }
    (ran, file.vectors.len() - ran)
}

#[test]
fn every_cacophony_vector_of_our_suites_is_met() {
    assert_eq!(run_file("noise/cacophony.txt"), (2, 942));
}

#[test]
fn every_snow_vector_of_our_suites_is_met() {
    assert_eq!(run_file("noise/snow.txt"), (2, 406));
}

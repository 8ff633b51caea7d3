//! What the type states promise.

use super::resolver::EphemeralSeed;
use super::{Checking, Finished, Initiator, NoiseError, Part, Responder, Waiting, prologue};
use crate::id::Id;
use crate::random::SeededRandom;
use crate::record::{ChainSecret, MixSecret, Opener, Sealer};
use crate::statics::StaticKeypair;
use crate::suite::Suite;
use snow::types::Random as _;

const SUITES: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];

fn keypair(seed: u64) -> StaticKeypair {
    StaticKeypair::generate(&mut SeededRandom::new(seed))
}

/// Both ends after message 2, and what the initiator read of it.
fn shake(suite: Suite) -> (Initiator, Waiting, Vec<u8>) {
    let (initiator, one) =
        Initiator::start(suite, b"p", &keypair(1), &mut SeededRandom::new(11)).expect("start");
    let responder = Responder::read_message_1(suite, b"p", &keypair(2), &one).expect("one");
    let (waiting, two) = responder
        .write_message_2(b"responder", &mut SeededRandom::new(12))
        .expect("message 2");
    (initiator, waiting, two)
}

fn read_two(initiator: Initiator, two: &[u8]) -> Checking {
    initiator.read_message_2(two).expect("message 2").0
}

fn finish(suite: Suite) -> (Finished, Finished) {
    let (initiator, waiting, two) = shake(suite);
    let (finished_i, three) = read_two(initiator, &two)
        .write_message_3(b"initiator")
        .expect("message 3");
    let (finished_r, payload) = waiting.read_message_3(&three).expect("message 3");
    assert_eq!(payload, b"initiator");
    (finished_i, finished_r)
}

#[test]
fn both_ends_learn_the_others_static_key_and_the_same_hash() {
    for suite in SUITES {
        let (finished_i, finished_r) = finish(suite);
        assert_eq!(finished_i.remote_static(), keypair(2).public());
        assert_eq!(finished_r.remote_static(), keypair(1).public());
        assert_eq!(finished_i.handshake_hash(), finished_r.handshake_hash());
    }
}

#[test]
fn what_one_end_seals_the_other_opens_and_directions_differ() {
    for suite in SUITES {
        let (finished_i, finished_r) = finish(suite);
        let (split_i, split_r) = (finished_i.split(), finished_r.split());
        let mut out = Sealer::new(suite, split_i.initiator_to_responder);
        let mut back = Sealer::new(suite, split_r.responder_to_initiator);
        let (mut record, mut reply) = (*b"....innerpayload................", [0; 40]);
        out.seal(&mut record).expect("sealed");
        back.seal(&mut reply).expect("sealed");
        let mut reflected = record;
        let mut opener_i = Opener::new(suite, split_i.responder_to_initiator);
        assert!(
            opener_i.open(&mut reflected).is_err(),
            "a reflected record opens"
        );
        let mut opener_r = Opener::new(suite, split_r.initiator_to_responder);
        assert_eq!(opener_r.open(&mut record).expect("opened"), b"innerpayload");
    }
}

#[test]
fn a_handshake_within_a_lane_gives_both_ends_one_secret_and_each_handshake_another() {
    for suite in SUITES {
        let (finished_i, finished_r) = finish(suite);
        // Whether what one end seals under a chain that the secret was mixed into opens at the other.
        let opens = |mix_sealer: &MixSecret, mix_opener: &MixSecret| {
            let chain = || ChainSecret::from_bytes(&[3; 32]);
            let (mut sealer, mut opener) =
                (Sealer::new(suite, chain()), Opener::new(suite, chain()));
            sealer.update(Some(mix_sealer));
            opener.update(Some(mix_opener));
            let mut record = [0; 40];
            sealer.seal(&mut record).expect("sealed");
            opener.open(&mut record).is_ok()
        };
        let (mix_i, mix_r) = (finished_i.mix(), finished_r.mix());
        assert!(opens(&mix_i, &mix_r));
        let random = &mut SeededRandom::new(77);
        let (initiator, one) = Initiator::start(suite, b"p", &keypair(1), random).expect("start");
        let responder = Responder::read_message_1(suite, b"p", &keypair(2), &one).expect("one");
        let (_, two) = responder.write_message_2(b"", random).expect("two");
        let (other, _) = read_two(initiator, &two)
            .write_message_3(b"")
            .expect("three");
        assert!(!opens(&other.mix(), &mix_r));
    }
}

#[test]
fn another_prologue_or_suite_ends_the_handshake() {
    for (suite, text) in [(Suite::AesGcm, b"q"), (Suite::ChaChaPoly, b"p")] {
        let start = Initiator::start(Suite::AesGcm, b"p", &keypair(1), &mut SeededRandom::new(1));
        let (initiator, one) = start.expect("start");
        let responder = Responder::read_message_1(suite, text, &keypair(2), &one).ok();
        let responder = responder.expect("message 1 is clear");
        let message = responder
            .write_message_2(b"", &mut SeededRandom::new(2))
            .ok();
        let (_, two) = message.expect("message 2");
        assert_eq!(
            initiator.read_message_2(&two).err(),
            Some(NoiseError::Refused)
        );
    }
}

#[test]
fn every_altered_byte_of_messages_2_and_3_is_noticed() {
    let (_, _, two) = shake(Suite::AesGcm);
    for at in 0..two.len() {
        let (initiator, _, mut two) = shake(Suite::AesGcm);
        two[at] ^= 1;
        assert_eq!(
            initiator.read_message_2(&two).err(),
            Some(NoiseError::Refused),
            "byte {at}"
        );
    }
    let len = 48 + 16;
    for at in 0..len {
        let (initiator, waiting, two) = shake(Suite::AesGcm);
        let (_, mut three) = read_two(initiator, &two)
            .write_message_3(b"")
            .expect("three");
        assert_eq!(three.len(), len);
        three[at] ^= 1;
        assert_eq!(
            waiting.read_message_3(&three).err(),
            Some(NoiseError::Refused),
            "byte {at}"
        );
    }
}

#[test]
fn every_shortened_message_is_refused() {
    let (_, one) = Initiator::start(Suite::AesGcm, b"p", &keypair(1), &mut SeededRandom::new(1))
        .expect("start");
    assert_eq!(one.len(), 32);
    for len in 0..one.len() {
        let result = Responder::read_message_1(Suite::AesGcm, b"p", &keypair(2), &one[..len]);
        assert_eq!(result.err(), Some(NoiseError::Refused));
    }
    let (_, _, two) = shake(Suite::AesGcm);
    for len in 0..two.len() {
        let (initiator, _, two) = shake(Suite::AesGcm);
        assert_eq!(
            initiator.read_message_2(&two[..len]).err(),
            Some(NoiseError::Refused)
        );
    }
}

#[test]
fn messages_beyond_the_noise_limit_are_refused() {
    let long = vec![0; 65_536];
    let result = Responder::read_message_1(Suite::AesGcm, b"p", &keypair(2), &long);
    assert_eq!(result.err(), Some(NoiseError::TooLong));
    let (initiator, waiting, two) = shake(Suite::AesGcm);
    let checking = read_two(initiator, &two);
    assert_eq!(
        checking.write_message_3(&long).err(),
        Some(NoiseError::TooLong)
    );
    assert_eq!(
        waiting.read_message_3(&long).err(),
        Some(NoiseError::TooLong)
    );
}

#[test]
fn a_payload_in_message_1_is_refused() {
    let (_, mut one) =
        Initiator::start(Suite::AesGcm, b"p", &keypair(1), &mut SeededRandom::new(1))
            .expect("start");
    one.push(0);
    let result = Responder::read_message_1(Suite::AesGcm, b"p", &keypair(2), &one);
    assert_eq!(result.err(), Some(NoiseError::Refused));
}

#[test]
fn the_same_randomness_gives_the_same_messages_and_other_randomness_others() {
    let start = |seed| {
        Initiator::start(
            Suite::AesGcm,
            b"p",
            &keypair(1),
            &mut SeededRandom::new(seed),
        )
        .expect("start")
        .1
    };
    assert_eq!(start(1), start(1));
    assert_ne!(start(1), start(2));
}

#[test]
fn an_ephemeral_key_is_given_once() {
    let mut seed = EphemeralSeed::default();
    assert_eq!(seed.try_fill_bytes(&mut [0; 32]), Err(snow::Error::Rng));
    seed.load(&mut SeededRandom::new(1));
    assert_eq!(seed.try_fill_bytes(&mut [0; 32]), Ok(()));
    assert_eq!(seed.try_fill_bytes(&mut [0; 32]), Err(snow::Error::Rng));
}

#[test]
fn every_part_of_the_prologue_counts() {
    let make = |preface: &[u8; 8], suite, version, id, address: &str, initiator, responder| {
        let address = address.parse().ok();
        prologue(
            preface,
            suite,
            version,
            &Id([id; 32]),
            address.as_ref(),
            initiator,
            responder,
        )
    };
    let (inlet, outlet) = (Part::Inlet, Part::Outlet);
    let base = make(
        b"ADIT\x01\x03\0\0",
        Suite::AesGcm,
        1,
        1,
        "postgres",
        inlet,
        outlet,
    );
    let others = [
        make(
            b"ADIT\x01\x02\0\0",
            Suite::AesGcm,
            1,
            1,
            "postgres",
            inlet,
            outlet,
        ),
        make(
            b"ADIT\x01\x03\0\0",
            Suite::ChaChaPoly,
            1,
            1,
            "postgres",
            inlet,
            outlet,
        ),
        make(
            b"ADIT\x01\x03\0\0",
            Suite::AesGcm,
            2,
            1,
            "postgres",
            inlet,
            outlet,
        ),
        make(
            b"ADIT\x01\x03\0\0",
            Suite::AesGcm,
            1,
            2,
            "postgres",
            inlet,
            outlet,
        ),
        make(
            b"ADIT\x01\x03\0\0",
            Suite::AesGcm,
            1,
            1,
            "postgres-staging",
            inlet,
            outlet,
        ),
        make(b"ADIT\x01\x03\0\0", Suite::AesGcm, 1, 1, "", inlet, outlet),
        make(
            b"ADIT\x01\x03\0\0",
            Suite::AesGcm,
            1,
            1,
            "postgres",
            outlet,
            inlet,
        ),
        make(
            b"ADIT\x01\x03\0\0",
            Suite::AesGcm,
            1,
            1,
            "postgres",
            Part::Node,
            outlet,
        ),
    ];
    for (at, other) in others.iter().enumerate() {
        assert_ne!(base, *other, "variant {at}");
    }
    assert_eq!(base.len(), 8 + 6 + 2 + 32 + 1 + 8 + 2);
    assert!(base.starts_with(b"ADIT\x01\x03\0\0adit/1\x01\x01"));
}

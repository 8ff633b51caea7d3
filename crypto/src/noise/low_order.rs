//! Points of low order: a peer that sends one makes a Diffie-Hellman result that everybody knows.
//!
//! Each case has a control: snow with a lenient X25519 goes on, so what refuses is our resolver
//! and not some other damage in the message.

use super::resolver::{EphemeralSeed, Resolver};
use super::{Initiator, NoiseError, Responder};
use crate::random::SeededRandom;
use crate::statics::StaticKeypair;
use crate::suite::Suite;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random as SnowRandom};
use snow::{Builder, HandshakeState};
use std::sync::atomic::{AtomicUsize, Ordering};
use x25519_dalek::{PublicKey, StaticSecret};

const SUITES: [Suite; 2] = [Suite::AesGcm, Suite::ChaChaPoly];

/// All encodings of points of low order: five points, two of them with a second encoding below
/// 2^255, each with and without the bit that X25519 ignores.
fn points() -> Vec<[u8; 32]> {
    let mut points = Vec::new();
    for text in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let point = crate::vectors::unhex_array::<32>(text);
        let mut high = point;
        high[31] |= 0x80;
        points.extend([point, high]);
    }
    points
}

/// X25519 as snow's own resolvers have it: any result is fine. With `claimed`, the public key it
/// shows is that, and every result is the zero that the other end will compute.
struct Lenient {
    secret: StaticSecret,
    public: [u8; 32],
    claimed: Option<[u8; 32]>,
}

impl Dh for Lenient {
    fn name(&self) -> &'static str {
        "25519"
    }
    fn pub_len(&self) -> usize {
        32
    }
    fn priv_len(&self) -> usize {
        32
    }
    fn set(&mut self, privkey: &[u8]) {
        self.secret = StaticSecret::from(<[u8; 32]>::try_from(privkey).expect("32 bytes"));
        self.public = self
            .claimed
            .unwrap_or(PublicKey::from(&self.secret).to_bytes());
    }
    fn generate(&mut self, _rng: &mut dyn SnowRandom) -> Result<(), snow::Error> {
        self.set(&[0x42; 32]);
        Ok(())
    }
    fn pubkey(&self) -> &[u8] {
        &self.public
    }
    fn privkey(&self) -> &[u8] {
        self.secret.as_bytes()
    }
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let theirs = PublicKey::from(<[u8; 32]>::try_from(&pubkey[..32]).expect("32 bytes"));
        let shared = match self.claimed {
            Some(_) => [0; 32],
            None => self.secret.diffie_hellman(&theirs).to_bytes(),
        };
        out[..32].copy_from_slice(&shared);
        Ok(())
    }
}

struct LenientResolver {
    ours: Resolver,
    static_key: Option<[u8; 32]>,
    ephemeral_key: Option<[u8; 32]>,
    asked: AtomicUsize,
}

impl CryptoResolver for LenientResolver {
    fn resolve_rng(&self) -> Option<Box<dyn SnowRandom>> {
        self.ours.resolve_rng()
    }
    fn resolve_dh(&self, _choice: &DHChoice) -> Option<Box<dyn Dh>> {
        // snow's builder asks for the static key first and for the ephemeral key second.
        let claimed = match self.asked.fetch_add(1, Ordering::Relaxed) {
            0 => self.static_key,
            _ => self.ephemeral_key,
        };
        let secret = StaticSecret::from([1; 32]);
        Some(Box::new(Lenient {
            secret,
            public: [0; 32],
            claimed,
        }))
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        self.ours.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        self.ours.resolve_cipher(choice)
    }
}

#[derive(Clone, Copy, Default)]
struct Claims {
    static_key: Option<[u8; 32]>,
    ephemeral_key: Option<[u8; 32]>,
}

/// An end that accepts anything and may itself claim points of low order.
struct Attacker(HandshakeState);

impl Attacker {
    fn new(suite: Suite, initiator: bool, claims: Claims) -> Attacker {
        let resolver = LenientResolver {
            ours: Resolver {
                suite,
                seed: EphemeralSeed::default(),
            },
            static_key: claims.static_key,
            ephemeral_key: claims.ephemeral_key,
            asked: AtomicUsize::new(0),
        };
        let params = suite
            .noise_name()
            .parse()
            .expect("a suite has a Noise name");
        let builder = Builder::with_resolver(params, Box::new(resolver))
            .local_private_key(&[0x17; 32])
            .expect("set once");
        let state = if initiator {
            builder.build_initiator()
        } else {
            builder.build_responder()
        };
        Attacker(state.expect("the resolver has everything"))
    }

    fn write(&mut self) -> Vec<u8> {
        let mut message = vec![0; 256];
        let len = self
            .0
            .write_message(&[], &mut message)
            .expect("an attacker is lenient");
        message.truncate(len);
        message
    }

    fn accepts(&mut self, message: &[u8]) -> bool {
        self.0.read_message(message, &mut [0; 256]).is_ok()
    }
}

fn victim() -> StaticKeypair {
    StaticKeypair::generate(&mut SeededRandom::new(3))
}

fn each_case(mut case: impl FnMut(Suite, [u8; 32])) {
    let mut cases = 0;
    for suite in SUITES {
        for point in points() {
            case(suite, point);
            cases += 1;
        }
    }
    assert_eq!(cases, 28);
}

#[test]
fn every_point_on_the_list_makes_zero() {
    for point in points() {
        let shared = StaticSecret::from([7; 32]).diffie_hellman(&PublicKey::from(point));
        assert!(!shared.was_contributory());
    }
}

#[test]
fn an_ephemeral_key_of_low_order_in_message_1_is_refused() {
    each_case(|suite, point| {
        let claims = Claims {
            ephemeral_key: Some(point),
            ..Claims::default()
        };
        let message = Attacker::new(suite, true, claims).write();
        assert_eq!(message, point);
        let mut lenient = Attacker::new(suite, false, Claims::default());
        assert!(lenient.accepts(&message));
        lenient.write();

        let responder = Responder::read_message_1(suite, &[], &victim(), &message).ok();
        let responder = responder.expect("message 1 alone shows nothing");
        let result = responder.write_message_2(b"evidence", &mut SeededRandom::new(1));
        assert_eq!(result.err(), Some(NoiseError::Refused));
    });
}

fn message_2_is_refused(claims: impl Fn([u8; 32]) -> Claims) {
    each_case(|suite, point| {
        let mut lenient = Attacker::new(suite, true, Claims::default());
        let mut attacker = Attacker::new(suite, false, claims(point));
        assert!(attacker.accepts(&lenient.write()));
        assert!(lenient.accepts(&attacker.write()), "the control fails");

        let mut attacker = Attacker::new(suite, false, claims(point));
        let (initiator, message) =
            Initiator::start(suite, &[], &victim(), &mut SeededRandom::new(1)).expect("message 1");
        assert!(attacker.accepts(&message));
        let result = initiator.read_message_2(&attacker.write());
        assert_eq!(result.err(), Some(NoiseError::Refused));
    });
}

#[test]
fn an_ephemeral_key_of_low_order_in_message_2_is_refused() {
    message_2_is_refused(|point| Claims {
        ephemeral_key: Some(point),
        ..Claims::default()
    });
}

#[test]
fn a_static_key_of_low_order_in_message_2_is_refused() {
    message_2_is_refused(|point| Claims {
        static_key: Some(point),
        ..Claims::default()
    });
}

#[test]
fn a_static_key_of_low_order_in_message_3_is_refused() {
    each_case(|suite, point| {
        let claims = Claims {
            static_key: Some(point),
            ..Claims::default()
        };
        let mut attacker = Attacker::new(suite, true, claims);
        let mut lenient = Attacker::new(suite, false, Claims::default());
        assert!(lenient.accepts(&attacker.write()));
        assert!(attacker.accepts(&lenient.write()));
        assert!(lenient.accepts(&attacker.write()), "the control fails");

        let mut attacker = Attacker::new(suite, true, claims);
        let responder = Responder::read_message_1(suite, &[], &victim(), &attacker.write()).ok();
        let (waiting, message) = responder
            .and_then(|r| {
                r.write_message_2(b"evidence", &mut SeededRandom::new(1))
                    .ok()
            })
            .expect("the attacker's ephemeral key is honest");
        assert!(attacker.accepts(&message));
        let result = waiting.read_message_3(&attacker.write());
        assert_eq!(result.err(), Some(NoiseError::Refused));
    });
}

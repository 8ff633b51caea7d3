//! The three handshake messages, at the end that reads each.
//!
//! Input: one byte that says which message and which suite, then the message. The other messages
//! are the genuine ones, of one fixed handshake.

use crypto::noise::{Initiator, Part, Responder, Waiting, prologue};
use crypto::statics::StaticKeypair;
use crypto::suite::Suite;
use crypto::{Id, SeededRandom};

use crate::Target;

const PAYLOAD_2: &[u8] = b"what the responder shows of itself";
const PAYLOAD_3: &[u8] = b"what the initiator shows of itself";

/// One handshake, the same each time, as far as its second message.
struct Shake {
    suite: Suite,
    prologue: Vec<u8>,
    inlet: StaticKeypair,
    outlet: StaticKeypair,
    random: SeededRandom,
}

impl Shake {
    fn new(suite: Suite) -> Shake {
        let mut random = SeededRandom::new(2);
        let preface = b"ADIT\x01\x04\0\0";
        Shake {
            suite,
            prologue: prologue(
                preface,
                suite,
                1,
                &Id([1; 32]),
                None,
                Part::Inlet,
                Part::Outlet,
            ),
            inlet: StaticKeypair::generate(&mut random),
            outlet: StaticKeypair::generate(&mut random),
            random,
        }
    }

    fn initiator(&mut self) -> (Initiator, Vec<u8>) {
        Initiator::start(self.suite, &self.prologue, &self.inlet, &mut self.random)
            .expect("message 1 has no input")
    }

    fn responder(&self, one: &[u8]) -> Option<Responder> {
        Responder::read_message_1(self.suite, &self.prologue, &self.outlet, one).ok()
    }

    /// The genuine message 2 to a genuine message 1.
    fn waiting(&mut self, one: &[u8]) -> (Waiting, Vec<u8>) {
        let responder = self.responder(one).expect("the message is genuine");
        responder
            .write_message_2(PAYLOAD_2, &mut self.random)
            .expect("the message is genuine")
    }
}

fn suite_of(selector: u8) -> Suite {
    if selector & 0x80 == 0 {
        Suite::AesGcm
    } else {
        Suite::ChaChaPoly
    }
}

fn body(bytes: &[u8]) -> bool {
    let Some((&selector, message)) = bytes.split_first() else {
        return false;
    };
    let mut shake = Shake::new(suite_of(selector));
    match selector & 0x7f {
        1 => {
            // Nothing is authenticated yet: any point but those of low order will do, and those
            // show when message 2 is written.
            let Some(responder) = shake.responder(message) else {
                return false;
            };
            responder
                .write_message_2(PAYLOAD_2, &mut shake.random)
                .is_ok()
        }
        2 => {
            let (initiator, one) = shake.initiator();
            let (_, genuine) = shake.waiting(&one);
            let Ok((checking, payload)) = initiator.read_message_2(message) else {
                return false;
            };
            assert_eq!(
                message, genuine,
                "a message 2 that the responder did not write"
            );
            assert_eq!(
                (payload.as_slice(), checking.remote_static()),
                (PAYLOAD_2, shake.outlet.public())
            );
            true
        }
        3 => {
            let (initiator, one) = shake.initiator();
            let (waiting, two) = shake.waiting(&one);
            let Ok((_, payload)) = waiting.read_message_3(message) else {
                return false;
            };
            let (checking, _) = initiator
                .read_message_2(&two)
                .expect("the message is genuine");
            let (_, genuine) = checking
                .write_message_3(PAYLOAD_3)
                .expect("the payload is short");
            assert_eq!(
                message, genuine,
                "a message 3 that the initiator did not write"
            );
            assert_eq!(payload, PAYLOAD_3);
            true
        }
        _ => false,
    }
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut found = Vec::new();
    for (selector, names) in [
        (0, ["aes_1", "aes_2", "aes_3"]),
        (0x80, ["chacha_1", "chacha_2", "chacha_3"]),
    ] {
        let mut shake = Shake::new(suite_of(selector));
        let (initiator, one) = shake.initiator();
        let (_, two) = shake.waiting(&one);
        let (checking, _) = initiator
            .read_message_2(&two)
            .expect("the message is genuine");
        let (_, three) = checking
            .write_message_3(PAYLOAD_3)
            .expect("the payload is short");
        for ((message, number), name) in [one, two, three].into_iter().zip(1..).zip(names) {
            found.push((name, [&[selector | number], message.as_slice()].concat()));
        }
    }
    found
}

/// Handshake messages.
pub const HANDSHAKE: Target = Target {
    name: "handshake",
    body,
    seeds,
};

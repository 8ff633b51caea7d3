//! Keys that both ends agree on, records under them, and the parties of a handshake.

use crypto::noise::{Finished, Initiator, Part, Responder, prologue};
use crypto::record::{ChainSecret, HEADER, INNER, Opener, Sealer, TAG};
use crypto::statics::StaticKeypair;
use crypto::suite::Suite;
use crypto::{Id, SeededRandom};

/// Both suites of this version, with the names that the reports show.
pub const SUITES: [(Suite, &str); 2] = [
    (Suite::AesGcm, "aes-256-gcm"),
    (Suite::ChaChaPoly, "chacha20-poly1305"),
];

/// The two ends of one direction.
pub fn ends(suite: Suite) -> (Sealer, Opener) {
    let secret = || ChainSecret::from_bytes(&[7; 32]);
    (Sealer::new(suite, secret()), Opener::new(suite, secret()))
}

/// Room for a record with so many bytes of payload.
pub fn record(payload: usize) -> Vec<u8> {
    vec![0x5a; HEADER + INNER + payload + TAG]
}

/// Seals `record`, with a key that is changed when it is due, as a worker does.
///
/// # Panics
/// The record has no room for header and tag.
pub fn seal(sealer: &mut Sealer, record: &mut [u8]) {
    if sealer.due() {
        sealer.update(None);
    }
    sealer
        .seal(record)
        .expect("a fresh key seals a record of a legal size");
}

/// Opens what [`seal`] sealed, in the same order.
///
/// # Panics
/// The record is another one.
pub fn open(opener: &mut Opener, record: &mut [u8]) {
    if record[HEADER - 1] != opener.epoch() {
        opener.update(None);
    }
    opener.open(record).expect("records are opened in order");
}

/// The parties of a handshake, whose long-lived keys are made once.
pub struct Parties {
    suite: Suite,
    prologue: Vec<u8>,
    inlet: StaticKeypair,
    outlet: StaticKeypair,
    random: SeededRandom,
    /// As long as an evidence with a credential usually is.
    evidence: Vec<u8>,
}

impl Parties {
    /// An inlet and an outlet.
    pub fn new(suite: Suite) -> Parties {
        let mut random = SeededRandom::new(1);
        let preface = *b"ADIT\x01\x04\0\0";
        Parties {
            suite,
            prologue: prologue(
                &preface,
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
            evidence: vec![0x5a; 700],
        }
    }

    /// A whole handshake, both ends, up to the split. The check of the evidence is not in it.
    ///
    /// # Panics
    /// The handshake failed.
    pub fn shake(&mut self) -> (Finished, Finished) {
        let (initiator, one) =
            Initiator::start(self.suite, &self.prologue, &self.inlet, &mut self.random)
                .expect("message 1 is written");
        let responder = Responder::read_message_1(self.suite, &self.prologue, &self.outlet, &one)
            .expect("message 1 is read");
        let (waiting, two) = responder
            .write_message_2(&self.evidence, &mut self.random)
            .expect("message 2 is written");
        let (checking, _) = initiator.read_message_2(&two).expect("message 2 is read");
        let (inlet, three) = checking
            .write_message_3(&self.evidence)
            .expect("message 3 is written");
        let (outlet, _) = waiting.read_message_3(&three).expect("message 3 is read");
        (inlet, outlet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_direction_agree_across_a_change_of_key() {
        for (suite, _) in SUITES {
            let (mut sealer, mut opener) = ends(suite);
            for _ in 0..3 {
                let mut record = record(100);
                seal(&mut sealer, &mut record);
                open(&mut opener, &mut record);
                sealer.update(None);
            }
        }
    }

    #[test]
    fn both_ends_of_a_handshake_agree() {
        for (suite, _) in SUITES {
            let (inlet, outlet) = Parties::new(suite).shake();
            assert_eq!(inlet.handshake_hash(), outlet.handshake_hash());
        }
    }
}

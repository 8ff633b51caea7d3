//! The outlet's end: it responds.

use crypto::Random;
use crypto::check::{Evidence, VerifiedMember};
use crypto::noise::{Responder, Waiting};
use crypto::record::{Opener, Sealer};
use crypto::statics::StaticPublic;
use crypto::suite::{Suite, SuiteMask};

use super::{Binding, CircuitHello, CircuitKind, Shaken, Side};
use crate::error::CloseReason;
use crate::ids::{BundleId, CircuitNo, StreamNo};
use crate::limits::{RECORD_HEADER, RECORD_TAG};
use crate::protocol::canonical;
use crate::protocol::record::{Header, Kind};
use crate::protocol::session::{Hello, SessionError};

/// Has sent frame 2 and waits for frame 3.
pub struct OutletShake {
    suite: Suite,
    offered: SuiteMask,
    waiting: Waiting,
}

/// All three frames are through, and the inlet is still to be checked: accept or deny.
pub struct Proposal {
    /// What the inlet shows.
    pub evidence: Evidence,
    /// The key it proved to hold.
    pub remote_static: StaticPublic,
    /// What it wants.
    pub kind: CircuitKind,
    /// The bundle.
    pub bundle: BundleId,
    /// The circuit's number in it.
    pub circuit: CircuitNo,
    /// What a fresh key exchange is tied to.
    pub binding: Binding,
    exchanges_keys: bool,
    sealer: Sealer,
    opener: Opener,
}

impl OutletShake {
    /// Reads frame 1 and answers with frame 2.
    ///
    /// # Errors
    /// [`SessionError`]; the link should be closed without a word.
    pub fn on_frame_1(
        side: &Side<'_>,
        frame: &[u8],
        random: &mut dyn Random,
    ) -> Result<(OutletShake, Vec<u8>), SessionError> {
        let (number, message) = frame.split_first().ok_or(SessionError::Malformed)?;
        let suite = Suite::from_number(*number).filter(|suite| side.suites.has(*suite));
        let suite = suite.ok_or(SessionError::Suite)?;
        let responder =
            Responder::read_message_1(suite, &side.prologue(suite), side.pair, message)?;
        let ours = canonical::to_bytes(&Hello::new(side.suites, side.evidence), 512);
        let (waiting, frame_2) = responder.write_message_2(&ours, random)?;
        Ok((
            OutletShake {
                suite,
                offered: side.suites,
                waiting,
            },
            frame_2,
        ))
    }

    /// Reads frame 3.
    ///
    /// # Errors
    /// [`SessionError`]; the link should be closed without a word.
    pub fn on_frame_3(self, frame: &[u8]) -> Result<Proposal, SessionError> {
        let (finished, payload) = self.waiting.read_message_3(frame)?;
        let theirs: CircuitHello = canonical::from_bytes(&payload)?;
        let evidence = theirs.hello.judge(self.offered, self.suite)?;
        let remote_static = finished.remote_static();
        let binding = Binding {
            suite: self.suite,
            hash: finished.handshake_hash(),
        };
        let split = finished.split();
        Ok(Proposal {
            evidence,
            remote_static,
            kind: theirs.kind,
            bundle: theirs.bundle,
            circuit: theirs.circuit,
            binding,
            exchanges_keys: theirs.hello.exchanges_keys(),
            sealer: Sealer::new(self.suite, split.responder_to_initiator),
            opener: Opener::new(self.suite, split.initiator_to_responder),
        })
    }
}

impl Proposal {
    /// The inlet was checked: these are the circuit's keys.
    pub fn accept(self, peer: VerifiedMember) -> Shaken {
        Shaken {
            peer,
            binding: self.binding,
            exchanges_keys: self.exchanges_keys,
            sealer: self.sealer,
            opener: self.opener,
        }
    }

    /// The inlet was denied: the bytes of one sealed DENIED record, the only thing it gets. They
    /// are sent as they are, and then the link is closed.
    ///
    /// # Errors
    /// [`SessionError::Limit`], which can't happen with a fresh key.
    pub fn deny(mut self, why: CloseReason) -> Result<Vec<u8>, SessionError> {
        let mut record = denied_record(why);
        self.sealer
            .seal(&mut record)
            .map_err(|_| SessionError::Limit)?;
        Ok(record)
    }
}

/// A DENIED record with room for its tag, unsealed.
fn denied_record(why: CloseReason) -> Vec<u8> {
    let code = why.code().0.to_be_bytes();
    let mut record = vec![0; RECORD_HEADER];
    record.extend_from_slice(&Header::new(Kind::Denied, StreamNo::LANE).encode());
    record.extend_from_slice(&code);
    record.resize(record.len() + RECORD_TAG, 0);
    record
}

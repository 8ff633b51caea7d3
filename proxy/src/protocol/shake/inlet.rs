//! The inlet's end: it initiates.

use crypto::Random;
use crypto::check::{Denial, Evidence, VerifiedMember};
use crypto::noise::Initiator;
use crypto::record::{Opener, Sealer};
use crypto::statics::StaticPublic;
use crypto::suite::{Suite, SuiteMask, preferred};

use super::{Binding, CircuitHello, CircuitKind, Side};
use crate::ids::{BundleId, CircuitNo};
use crate::protocol::canonical;
use crate::protocol::session::{Hello, SessionError};

/// Has sent frame 1 and waits for frame 2.
pub struct InletShake {
    suite: Suite,
    initiator: Initiator,
}

/// Both ends have each other's keys; for an inlet, the outlet has been checked.
pub struct Shaken {
    /// The peer, after the whole check.
    pub peer: VerifiedMember,
    /// Seals what this end sends.
    pub sealer: Sealer,
    /// Opens what the peer sends.
    pub opener: Opener,
    /// What a fresh key exchange is tied to.
    pub binding: Binding,
    /// Whether the peer knows fresh key exchanges.
    pub exchanges_keys: bool,
}

impl InletShake {
    /// Picks the suite by the outlet's mask as the relay passed it on, and returns frame 1.
    ///
    /// # Errors
    /// [`SessionError::Suite`] when there is no common suite.
    pub fn start(
        side: &Side<'_>,
        hinted: SuiteMask,
        random: &mut dyn Random,
    ) -> Result<(InletShake, Vec<u8>), SessionError> {
        let suite = preferred(side.suites, hinted).ok_or(SessionError::Suite)?;
        let prologue = side.prologue(suite);
        let (initiator, message) = Initiator::start(suite, &prologue, side.pair, random)?;
        let mut frame = vec![suite.number()];
        frame.extend_from_slice(&message);
        Ok((InletShake { suite, initiator }, frame))
    }

    /// Reads frame 2, has `check` run the whole check on the outlet, and only if that succeeds
    /// writes frame 3, which asks for the lane of a new `bundle` (circuit 0), or for a circuit of a
    /// bundle that is there. Returns the keys and frame 3.
    ///
    /// # Errors
    /// [`SessionError`]; nothing was written then, and nothing is left that could be tried again.
    pub fn on_frame_2(
        self,
        side: &Side<'_>,
        (bundle, circuit): (BundleId, CircuitNo),
        frame: &[u8],
        check: impl FnOnce(&Evidence, &StaticPublic) -> Result<VerifiedMember, Denial>,
    ) -> Result<(Shaken, Vec<u8>), SessionError> {
        let (checking, payload) = self.initiator.read_message_2(frame)?;
        let theirs: Hello = canonical::from_bytes(&payload)?;
        let shown = theirs.judge(side.suites, self.suite)?;
        let peer = check(&shown, &checking.remote_static())?;
        let kind = match circuit {
            CircuitNo(0) => CircuitKind::Lane,
            CircuitNo(_) => CircuitKind::Circuit,
        };
        let ours = CircuitHello {
            hello: Hello::new(side.suites, side.evidence),
            kind,
            bundle,
            circuit,
        };
        let (finished, frame_3) = checking.write_message_3(&canonical::to_bytes(&ours, 512))?;
        let binding = Binding {
            suite: self.suite,
            hash: finished.handshake_hash(),
        };
        let split = finished.split();
        let shaken = Shaken {
            peer,
            binding,
            exchanges_keys: theirs.exchanges_keys(),
            sealer: Sealer::new(self.suite, split.initiator_to_responder),
            opener: Opener::new(self.suite, split.responder_to_initiator),
        };
        Ok((shaken, frame_3))
    }

    /// The bare handshake, for tests that lie in message 3.
    #[cfg(test)]
    pub(crate) fn into_initiator(self) -> Initiator {
        self.initiator
    }
}

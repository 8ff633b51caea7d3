//! The end that accepts: the authority or a relay.

use crypto::check::Evidence;
use crypto::noise::{Responder, Waiting};
use crypto::statics::{StaticKeypair, StaticPublic};
use crypto::suite::Suite;
use crypto::{Id, Random};

use super::{Hello, Kind, SESSION_SUITES, Sealed, SessionError};
use crate::protocol::canonical;

/// Has sent frame 2 and waits for frame 3.
pub struct Accepting {
    kind: Kind,
    suite: Suite,
    waiting: Waiting,
}

/// All three frames are through. The peer holds `remote_static` and shows `evidence`; whether it
/// is believed is for the caller to check before anything else.
pub struct Accepted {
    /// What the dialer shows.
    pub evidence: Evidence,
    /// The key it proved to hold.
    pub remote_static: StaticPublic,
    /// The session. To a peer that is not believed, at most a refusal is sent on it.
    pub sealed: Sealed,
}

impl Accepting {
    /// Reads frame 1 and answers with frame 2, which shows `evidence`.
    ///
    /// # Errors
    /// [`SessionError`]; the link should be closed without a word.
    pub fn on_frame_1(
        kind: Kind,
        project: &Id,
        local: &StaticKeypair,
        evidence: &Evidence,
        frame: &[u8],
        random: &mut dyn Random,
    ) -> Result<(Accepting, Vec<u8>), SessionError> {
        let (number, message) = frame.split_first().ok_or(SessionError::Malformed)?;
        let suite = Suite::from_number(*number).filter(|suite| SESSION_SUITES.has(*suite));
        let suite = suite.ok_or(SessionError::Suite)?;
        let prologue = kind.prologue(suite, project);
        let responder = Responder::read_message_1(suite, &prologue, local, message)?;
        let ours = canonical::to_bytes(&Hello::new(SESSION_SUITES, evidence), 512);
        let (waiting, frame_2) = responder.write_message_2(&ours, random)?;
        Ok((
            Accepting {
                kind,
                suite,
                waiting,
            },
            frame_2,
        ))
    }

    /// The session's kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Reads frame 3.
    ///
    /// # Errors
    /// [`SessionError`]; the link should be closed without a word.
    pub fn on_frame_3(self, frame: &[u8]) -> Result<Accepted, SessionError> {
        let (finished, payload) = self.waiting.read_message_3(frame)?;
        let theirs: Hello = canonical::from_bytes(&payload)?;
        let evidence = theirs.judge(SESSION_SUITES, self.suite)?;
        let remote_static = finished.remote_static();
        let split = finished.split();
        let sealed = Sealed::new(
            self.kind,
            self.suite,
            split.responder_to_initiator,
            split.initiator_to_responder,
        );
        Ok(Accepted {
            evidence,
            remote_static,
            sealed,
        })
    }
}

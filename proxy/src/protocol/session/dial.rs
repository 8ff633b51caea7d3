//! The end that dials: always a node.

use crypto::check::{Denial, Evidence};
use crypto::noise::Initiator;
use crypto::statics::{StaticKeypair, StaticPublic};
use crypto::suite::{Suite, preferred};
use crypto::{Id, Random};

use super::{Hello, Kind, SESSION_SUITES, Sealed, SessionError};
use crate::protocol::canonical;

/// Has sent frame 1 and waits for frame 2.
pub struct Dialing {
    kind: Kind,
    suite: Suite,
    initiator: Initiator,
}

impl Dialing {
    /// Begins. Returns the bytes to send as they are: preface, length, frame 1.
    ///
    /// # Errors
    /// [`SessionError::Noise`] if the handshake can't be set up.
    pub fn start(
        kind: Kind,
        project: &Id,
        local: &StaticKeypair,
        random: &mut dyn Random,
    ) -> Result<(Dialing, Vec<u8>), SessionError> {
        let suite = preferred(SESSION_SUITES, SESSION_SUITES).ok_or(SessionError::Suite)?;
        let prologue = kind.prologue(suite, project);
        let (initiator, message) = Initiator::start(suite, &prologue, local, random)?;
        let length = u16::try_from(message.len() + 1).map_err(|_| SessionError::Limit)?;
        let mut hello = kind.preface().to_vec();
        hello.extend_from_slice(&length.to_be_bytes());
        hello.push(suite.number());
        hello.extend_from_slice(&message);
        Ok((
            Dialing {
                kind,
                suite,
                initiator,
            },
            hello,
        ))
    }

    /// The session's kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Reads frame 2, has `check` judge what the acceptor shows and the key it proved to hold,
    /// and only if that succeeds writes frame 3, which shows `evidence`. Returns what `check`
    /// made, frame 3, and the open session.
    ///
    /// # Errors
    /// [`SessionError`]; nothing was written then, and nothing is left that could be tried again.
    pub fn on_frame_2<T>(
        self,
        frame: &[u8],
        evidence: &Evidence,
        check: impl FnOnce(&Evidence, &StaticPublic) -> Result<T, Denial>,
    ) -> Result<(T, Vec<u8>, Sealed), SessionError> {
        let (checking, payload) = self.initiator.read_message_2(frame)?;
        let theirs: Hello = canonical::from_bytes(&payload)?;
        let shown = theirs.judge(SESSION_SUITES, self.suite)?;
        let checked = check(&shown, &checking.remote_static())?;
        let ours = canonical::to_bytes(&Hello::new(SESSION_SUITES, evidence), 512);
        let (finished, frame_3) = checking.write_message_3(&ours)?;
        let split = finished.split();
        let sealed = Sealed::new(
            self.kind,
            self.suite,
            split.initiator_to_responder,
            split.responder_to_initiator,
        );
        Ok((checked, frame_3, sealed))
    }
}

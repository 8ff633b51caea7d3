//! An open session: messages in, sealed frames out, and the reverse.

use crypto::record::{ChainSecret, FrameOpener, FrameSealer};
use crypto::suite::Suite;
use zeroize::Zeroizing;

use super::message::{Envelope, Message, RequestNo};
use super::{Kind, SessionError};
use crate::limits::FRAME_MAX;
use crate::protocol::canonical;

/// The keys of an open session. One sealed frame is one message.
pub struct Sealed {
    kind: Kind,
    sealer: FrameSealer,
    opener: FrameOpener,
}

impl Sealed {
    pub(super) fn new(kind: Kind, suite: Suite, send: ChainSecret, receive: ChainSecret) -> Self {
        let sealer = FrameSealer::new(suite, send);
        Sealed {
            kind,
            sealer,
            opener: FrameOpener::new(suite, receive),
        }
    }

    /// Seals a message; `request` is the number of the request it makes or answers.
    ///
    /// # Errors
    /// [`SessionError::Limit`] when it is longer than a frame, or the key is worn out.
    pub fn seal(&mut self, request: RequestNo, message: Message) -> Result<Vec<u8>, SessionError> {
        debug_assert!(message.belongs_to(self.kind));
        let plain = message.into_plain(request);
        let frame = self.sealer.seal(&plain).map_err(|_| SessionError::Limit)?;
        if frame.len() > FRAME_MAX {
            Err(SessionError::Limit)
        } else {
            Ok(frame)
        }
    }

    /// Opens a frame.
    ///
    /// # Errors
    /// [`SessionError::BadTag`], [`SessionError::Malformed`], or [`SessionError::Violation`] for
    /// a message of the other kind of session. The session is over then.
    pub fn open(&mut self, frame: &[u8]) -> Result<(RequestNo, Message), SessionError> {
        let plain = self.opener.open(frame).map_err(|_| SessionError::BadTag)?;
        let plain = Zeroizing::new(plain);
        let Envelope { request, message } = canonical::from_bytes(&plain)?;
        if message.belongs_to(self.kind) {
            Ok((request, message))
        } else {
            Err(SessionError::Violation)
        }
    }
}

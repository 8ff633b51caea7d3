//! A fresh handshake within a lane: both ends show themselves again, and get one secret that is
//! mixed into the chains of the lane.
//!
//! ```text
//! inlet                                                      outlet
//! KEY_EXCHANGE(n, Noise message 1)  ──▸
//!                       ◂──  KEY_EXCHANGE(n, message 2: evidence)
//! checks it, and only then:
//! KEY_EXCHANGE(n, message 3: evidence)  ──▸  checks it
//! ```
//!
//! It has the suite of the lane and a prologue with the hash of the lane's last handshake, the
//! first or one like this: its messages mean something on that lane only, and only once. Nothing is
//! negotiated, so there is nothing to strip.

use crypto::check::{Denial, Evidence, VerifiedMember};
use crypto::noise::{Initiator, Responder, Waiting, exchange_prologue};
use crypto::record::MixSecret;
use crypto::statics::{StaticKeypair, StaticPublic};
use crypto::suite::Suite;
use crypto::{Id, Random};

use crate::protocol::session::SessionError;

/// What a lane's next handshake is tied to: its suite, and the hash of its last handshake. Both ends
/// have the same, and nobody else can make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The suite in use.
    pub suite: Suite,
    /// The last handshake's hash.
    pub hash: [u8; 32],
}

/// What a handshake within a lane gives.
pub struct Exchanged {
    /// The peer, after the whole check; the member that it was before.
    pub peer: VerifiedMember,
    /// For the lane's chains, of both directions.
    pub mix: MixSecret,
    /// What the next one is tied to.
    pub binding: Binding,
}

/// Inlet: has sent message 1 and waits for message 2.
pub struct InletExchange {
    suite: Suite,
    initiator: Initiator,
}

/// Outlet: has sent message 2 and waits for message 3.
pub struct OutletExchange {
    suite: Suite,
    waiting: Waiting,
}

impl InletExchange {
    /// Begins one. Returns message 1.
    ///
    /// # Errors
    /// [`SessionError::Noise`], not caused by a peer.
    pub fn start(
        binding: &Binding,
        pair: &StaticKeypair,
        random: &mut dyn Random,
    ) -> Result<(InletExchange, Vec<u8>), SessionError> {
        let suite = binding.suite;
        let prologue = exchange_prologue(&binding.hash);
        let (initiator, message) = Initiator::start(suite, &prologue, pair, random)?;
        Ok((InletExchange { suite, initiator }, message))
    }

    /// Reads message 2, has `check` run the whole check on what the outlet shows, and only if that
    /// succeeds and it is the member `peer` writes message 3, which shows `evidence`.
    ///
    /// # Errors
    /// [`SessionError`], [`SessionError::Violation`] for another member; the lane has to end.
    pub fn on_message_2(
        self,
        (peer, evidence): (&Id, &Evidence),
        message: &[u8],
        check: impl FnOnce(&Evidence, &StaticPublic) -> Result<VerifiedMember, Denial>,
    ) -> Result<(Exchanged, Vec<u8>), SessionError> {
        let (checking, payload) = self.initiator.read_message_2(message)?;
        let shown = Evidence::decode(&payload)?;
        let peer = same(peer, check(&shown, &checking.remote_static())?)?;
        let (finished, message_3) = checking.write_message_3(&evidence.encode())?;
        let binding = Binding {
            suite: self.suite,
            hash: finished.handshake_hash(),
        };
        let mix = finished.mix();
        Ok((Exchanged { peer, mix, binding }, message_3))
    }
}

impl OutletExchange {
    /// Reads message 1 and answers with message 2, which shows `evidence`.
    ///
    /// # Errors
    /// [`SessionError::Noise`]; the lane has to end.
    pub fn on_message_1(
        binding: &Binding,
        (pair, evidence): (&StaticKeypair, &Evidence),
        message: &[u8],
        random: &mut dyn Random,
    ) -> Result<(OutletExchange, Vec<u8>), SessionError> {
        let suite = binding.suite;
        let prologue = exchange_prologue(&binding.hash);
        let responder = Responder::read_message_1(suite, &prologue, pair, message)?;
        let (waiting, message_2) = responder.write_message_2(&evidence.encode(), random)?;
        Ok((OutletExchange { suite, waiting }, message_2))
    }

    /// Reads message 3 and has `check` run the whole check on what the inlet shows, which has to be
    /// the member `peer`.
    ///
    /// # Errors
    /// As [`InletExchange::on_message_2`].
    pub fn on_message_3(
        self,
        peer: &Id,
        message: &[u8],
        check: impl FnOnce(&Evidence, &StaticPublic) -> Result<VerifiedMember, Denial>,
    ) -> Result<Exchanged, SessionError> {
        let (finished, payload) = self.waiting.read_message_3(message)?;
        let shown = Evidence::decode(&payload)?;
        let peer = same(peer, check(&shown, &finished.remote_static())?)?;
        let binding = Binding {
            suite: self.suite,
            hash: finished.handshake_hash(),
        };
        let mix = finished.mix();
        Ok(Exchanged { peer, mix, binding })
    }
}

/// A lane stays with the member that it was made with.
fn same(expected: &Id, found: VerifiedMember) -> Result<VerifiedMember, SessionError> {
    if found.id() == *expected {
        Ok(found)
    } else {
        Err(SessionError::Violation)
    }
}

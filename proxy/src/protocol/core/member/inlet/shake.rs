//! The handshake of a lane.

use crypto::suite::SuiteMask;

use super::terms::NotShaken;
use super::{Building, Inlet};
use crate::error::CloseReason;
use crate::ids::{BundleId, CircuitNo, LinkId};
use crate::limits::SHAKE_TIMEOUT;
use crate::protocol::command::Gate;
use crate::protocol::core::io::Now;
use crate::protocol::core::member::peer::Lane;
use crate::protocol::core::node::Node;
use crate::protocol::pool::Failure;
use crate::protocol::session::SessionError;
use crate::protocol::shake::InletShake;

impl Inlet {
    pub(super) fn shake(&mut self, node: &mut Node, now: Now, link: LinkId, hinted: SuiteMask) {
        match self.terms.start(node, now, link, hinted) {
            Ok(shake) => {
                let bundle = BundleId(node.out.draw());
                self.building = Some(Building::Shaking(link, Box::new(shake), bundle));
            }
            Err(trouble) => self.on_not_shaken(node, now, link, &trouble),
        }
    }

    pub(super) fn on_frame_2(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        shake: InletShake,
        bundle: BundleId,
        bytes: &[u8],
    ) {
        let asks = (bundle, CircuitNo(0));
        match self.terms.check(node, now, shake, asks, bytes) {
            Ok(checked) => {
                let lane = Lane::new(&checked.shaken.peer, bundle);
                self.terms.adopt(node, now, link, checked);
                self.building = Some(Building::Waiting(link, lane, now.mono + SHAKE_TIMEOUT));
            }
            Err(trouble) => self.on_not_shaken(node, now, link, &trouble),
        }
    }

    fn on_not_shaken(&mut self, node: &mut Node, now: Now, link: LinkId, trouble: &NotShaken) {
        match trouble {
            NotShaken::Failed(error) => self.on_shake_failed(node, now, link, error),
            NotShaken::NoMember => {
                let why = CloseReason::NotAuthorized;
                node.out.close(link, false, why);
                self.fail(node, now, why, Failure::Lost);
            }
        }
    }

    /// The handshake failed at this end: nothing was shown to the outlet. If that is no accident,
    /// trying again at once would give the same result, so apps are reset meanwhile.
    pub(super) fn on_shake_failed(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        error: &SessionError,
    ) {
        let why = error.close_reason();
        node.out.close(link, false, why);
        let record = self.terms.record(error);
        let code = record.code.unwrap_or(why.code());
        // A message that was altered once says nothing about the outlet; twice, it will be again.
        let once = self.is_news(code) && !matches!(error, SessionError::Denied(_));
        if self.is_news(code) {
            node.deny(record);
        }
        self.trouble = Some((code, error.to_string()));
        self.set_gate(node, Gate::Reset(why));
        self.building = None;
        let failure = if once {
            Failure::Lost
        } else {
            Failure::Refused
        };
        self.pool.on_failed(now.mono, failure, node.out.random());
        node.out.status_changed();
    }
}

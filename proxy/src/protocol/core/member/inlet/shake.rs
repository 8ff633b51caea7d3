//! The handshake of an inlet: from PAIRED to a link that is adopted as a lane.

use std::sync::Arc;

use crypto::attestation::Purpose;
use crypto::suite::SuiteMask;

use super::{Building, Inlet};
use crate::error::CloseReason;
use crate::ids::{BundleId, LinkId};
use crate::limits::SHAKE_TIMEOUT;
use crate::protocol::command::{Adopt, Becomes, Command, Gate, Permit, Role};
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::member::peer::{Lane, peer_name, permit_end, remember};
use crate::protocol::core::node::{Node, denial_record};
use crate::protocol::pool::Failure;
use crate::protocol::session::SessionError;
use crate::protocol::shake::{InletShake, Side};

impl Inlet {
    pub(super) fn shake(&mut self, node: &mut Node, now: Now, link: LinkId, hinted: SuiteMask) {
        let started = node.circuit_evidence(now).and_then(|evidence| {
            let project = node.membership.as_ref()?.project();
            let side = Side {
                project: &project,
                address: &self.config.via,
                suites: node.suites(self.suites),
                pair: node.keyring.pair(Purpose::Circuit),
                evidence: &evidence,
            };
            Some(InletShake::start(&side, hinted, node.out.random()))
        });
        match started {
            Some(Ok((shake, frame))) => {
                node.out.send_frame(link, frame);
                node.out
                    .deadline(link, now.mono, SHAKE_TIMEOUT, CloseReason::ShakeTimeout);
                let bundle = BundleId(node.out.draw());
                self.building = Some(Building::Shaking(link, Box::new(shake), bundle));
            }
            Some(Err(error)) => self.on_shake_failed(node, now, link, &error),
            None => {
                node.out.close(link, false, CloseReason::Stopping);
                self.fail(node, now, CloseReason::NotAuthorized, Failure::Lost);
            }
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
        let evidence = node.circuit_evidence(now);
        let (Some(evidence), Some(membership)) = (evidence, &node.membership) else {
            node.out.close(link, false, CloseReason::NotAuthorized);
            return self.fail(node, now, CloseReason::NotAuthorized, Failure::Lost);
        };
        let project = membership.project();
        let side = Side {
            project: &project,
            address: &self.config.via,
            suites: node.suites(self.suites),
            pair: node.keyring.pair(Purpose::Circuit),
            evidence: &evidence,
        };
        let time = node.clock.now(now);
        let judge = self.judge();
        let shaken = shake.on_frame_2(&side, bundle, bytes, |shown, key| {
            judge.check(membership, time, shown, key)
        });
        let (shaken, message_3) = match shaken {
            Ok(shaken) => shaken,
            Err(error) => return self.on_shake_failed(node, now, link, &error),
        };
        remember(node, &self.config.allow, &shaken.peer);
        let permit = Permit {
            peer: shaken.peer.id(),
            peer_name: peer_name(&shaken.peer),
            serial: shaken.peer.serial(),
            targets: Arc::clone(&self.targets),
            policy_version: 1,
            not_after: permit_end(node, now, &shaken.peer),
        };
        node.out.no_deadline(link);
        node.out.command(Command::Adopt(Box::new(Adopt {
            link,
            becomes: Becomes::Lane,
            last: message_3,
            role: Role::Inlet,
            portal: self.config.portal,
            bundle,
            sealer: shaken.sealer,
            opener: shaken.opener,
            permit,
        })));
        let lane = Lane::new(&shaken.peer, bundle);
        self.building = Some(Building::Waiting(link, lane, now.mono + SHAKE_TIMEOUT));
    }

    /// The handshake failed at this end: nothing was shown to the outlet, and trying again at
    /// once would give the same result, so apps are reset meanwhile.
    pub(super) fn on_shake_failed(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        error: &SessionError,
    ) {
        let why = error.close_reason();
        node.out.close(link, false, why);
        let record = match error {
            SessionError::Denied(denial) => denial_record("the outlet was denied", denial),
            SessionError::Malformed
            | SessionError::Suite
            | SessionError::Version(..)
            | SessionError::Noise(_)
            | SessionError::Evidence(_)
            | SessionError::BadTag
            | SessionError::Violation
            | SessionError::Limit => {
                LogRecord::new(Level::Warn, "the handshake with the outlet failed")
                    .code(error.code())
                    .with("why", error)
            }
        };
        let code = record.code.unwrap_or(why.code());
        if self.is_news(code) {
            node.deny(record.with("address", &self.config.via));
        }
        self.trouble = Some((code, error.to_string()));
        self.set_gate(node, Gate::Reset(why));
        self.building = None;
        self.pool
            .on_failed(now.mono, Failure::Refused, node.out.random());
        node.out.status_changed();
    }
}

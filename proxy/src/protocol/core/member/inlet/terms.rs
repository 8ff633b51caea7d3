//! What an inlet brings into its handshakes, the same for lanes and circuits: from PAIRED to a
//! link that the worker adopts.

use std::sync::Arc;

use crypto::attestation::Purpose;
use crypto::check::Direction;
use crypto::suite::SuiteMask;

use crate::error::CloseReason;
use crate::ids::{BundleId, CircuitNo, LinkId};
use crate::limits::SHAKE_TIMEOUT;
use crate::protocol::command::{Adopt, Becomes, Command, Permit, Role};
use crate::protocol::core::config::InletConfig;
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::member::peer::{Judge, peer_name, permit_end, remember};
use crate::protocol::core::node::{Node, denial_record};
use crate::protocol::policy::Policy;
use crate::protocol::session::SessionError;
use crate::protocol::shake::{InletShake, Shaken, Side};

/// See the module.
pub struct Terms {
    /// The portal's.
    pub config: InletConfig,
    /// Suites that this node can do; what the project allows of them is offered.
    pub suites: SuiteMask,
    /// What streams ask for.
    targets: Arc<[String]>,
    /// How often the policy was set.
    policy_version: u64,
}

/// Why there is no handshake.
pub enum NotShaken {
    /// This node is no member (any more).
    NoMember,
    /// It failed at this end: nothing was shown to the outlet.
    Failed(SessionError),
}

/// The outlet has passed the whole check, and message 3 has not been sent yet.
pub struct Checked {
    /// The peer and the keys.
    pub shaken: Shaken,
    message_3: Vec<u8>,
    bundle: BundleId,
    circuit: CircuitNo,
}

impl Terms {
    /// Those of a portal.
    pub fn new(config: InletConfig, suites: SuiteMask) -> Terms {
        let target = config
            .target
            .as_ref()
            .map_or(config.via.as_str(), |name| name.as_str());
        let targets = Arc::from([target.to_owned()]);
        Terms {
            config,
            suites,
            targets,
            policy_version: 1,
        }
    }

    /// The policy is this one from now on. Returns whether it is another one.
    pub fn set_policy(&mut self, policy: Policy) -> bool {
        let other = self.config.allow != policy;
        if other {
            self.config.allow = policy;
            self.policy_version += 1;
        }
        other
    }

    /// How outlets are judged.
    pub fn judge(&self) -> Judge<'_> {
        let (address, policy) = (&self.config.via, &self.config.allow);
        Judge {
            address,
            direction: Direction::Serve,
            policy,
        }
    }

    /// Sends frame 1 on a link that was paired, `hinted` being what the other end offers by the
    /// relay's word. Frame 2 is due then.
    ///
    /// # Errors
    /// [`NotShaken`]; the link is the caller's to close.
    pub fn start(
        &self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        hinted: SuiteMask,
    ) -> Result<InletShake, NotShaken> {
        let evidence = node.circuit_evidence(now).ok_or(NotShaken::NoMember)?;
        let membership = node.membership.as_ref().ok_or(NotShaken::NoMember)?;
        let project = membership.project();
        let side = Side {
            project: &project,
            address: &self.config.via,
            suites: node.suites(self.suites),
            pair: node.keyring.pair(Purpose::Circuit),
            evidence: &evidence,
        };
        let started = InletShake::start(&side, hinted, node.out.random());
        let (shake, frame) = started.map_err(NotShaken::Failed)?;
        node.out.send_frame(link, frame);
        node.out
            .deadline(link, now.mono, SHAKE_TIMEOUT, CloseReason::ShakeTimeout);
        Ok(shake)
    }

    /// Reads frame 2 and checks the outlet. Circuit 0 is the lane of a new bundle.
    ///
    /// # Errors
    /// [`NotShaken`]; the link is the caller's to close.
    pub fn check(
        &self,
        node: &mut Node,
        now: Now,
        shake: InletShake,
        (bundle, circuit): (BundleId, CircuitNo),
        bytes: &[u8],
    ) -> Result<Checked, NotShaken> {
        let evidence = node.circuit_evidence(now).ok_or(NotShaken::NoMember)?;
        let membership = node.membership.as_ref().ok_or(NotShaken::NoMember)?;
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
        let revocation = node.revocations.as_of(now.mono);
        let shaken = shake.on_frame_2(&side, (bundle, circuit), bytes, |shown, key| {
            judge.check(membership, time, &revocation, shown, key)
        });
        let finished = matches!(shaken, Ok(_) | Err(SessionError::Denied(_)));
        node.tally.on_handshake(finished);
        let (shaken, message_3) = shaken.map_err(NotShaken::Failed)?;
        Ok(Checked {
            shaken,
            message_3,
            bundle,
            circuit,
        })
    }

    /// Sends message 3 and gives the link to the worker as what was asked for. The outlet's READY
    /// or DENIED is due then.
    pub fn adopt(&self, node: &mut Node, now: Now, link: LinkId, checked: Checked) {
        let Checked {
            shaken,
            message_3,
            bundle,
            circuit,
        } = checked;
        remember(node, &self.config.allow, &shaken.peer);
        let permit = Permit {
            peer: shaken.peer.id(),
            peer_name: peer_name(&shaken.peer),
            serial: shaken.peer.serial(),
            targets: Arc::clone(&self.targets),
            policy_version: self.policy_version,
            list_number: node.revocations.revoked().number(),
            not_after: permit_end(node, now, &shaken.peer),
        };
        let becomes = match circuit {
            CircuitNo(0) => Becomes::Lane,
            no @ CircuitNo(_) => Becomes::Circuit(no),
        };
        node.out.no_deadline(link);
        node.out.command(Command::Adopt(Box::new(Adopt {
            link,
            becomes,
            last: message_3,
            role: Role::Inlet,
            portal: self.config.portal,
            bundle,
            sealer: shaken.sealer,
            opener: shaken.opener,
            permit,
            dedicated: self.config.dedicated,
        })));
    }

    /// The record of a handshake that failed at this end.
    pub fn record(&self, error: &SessionError) -> LogRecord {
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
        record.with("address", &self.config.via)
    }
}

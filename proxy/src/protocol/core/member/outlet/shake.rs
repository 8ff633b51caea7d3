//! The handshakes of an outlet: from message 1 to a lane, a circuit, or one sealed DENIED.

use std::sync::Arc;

use crypto::attestation::Purpose;
use crypto::check::{Step, VerifiedMember};

use super::{Outlet, Stage, fewest};
use crate::error::CloseReason;
use crate::ids::{BundleId, LinkId, WorkerId};
use crate::limits::{
    MISTAKE_HINT_INTERVAL, OUTLET_LANES_MAX, OUTLET_LANES_PER_MEMBER_MAX, SHAKE_TIMEOUT,
};
use crate::protocol::command::{Adopt, Becomes, Command, Expect, Permit, Role};
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::member::exchange::Exchanges;
use crate::protocol::core::member::peer::{Lane, peer_name, permit_end, remember};
use crate::protocol::core::node::{Node, denial_record};
use crate::protocol::session::SessionError;
use crate::protocol::shake::{CircuitKind, OutletShake, Proposal, Side};

impl Outlet {
    pub(super) fn on_frame_1(&mut self, node: &mut Node, now: Now, link: LinkId, bytes: &[u8]) {
        let evidence = node.circuit_evidence(now);
        let (Some(evidence), Some(membership)) = (evidence, &node.membership) else {
            return node.out.close(link, false, CloseReason::NotAuthorized);
        };
        let project = membership.project();
        let side = Side {
            project: &project,
            address: &self.address,
            suites: node.suites(self.suites),
            pair: node.keyring.pair(Purpose::Circuit),
            evidence: &evidence,
        };
        match OutletShake::on_frame_1(&side, bytes, node.out.random()) {
            Ok((shake, frame_2)) => {
                node.out.send_frame(link, frame_2);
                node.out
                    .deadline(link, now.mono, SHAKE_TIMEOUT, CloseReason::ShakeTimeout);
                self.stages.insert(link, Stage::Shaking(Box::new(shake)));
            }
            Err(error) => self.on_shake_failed(node, link, &error),
        }
    }

    /// The inlet has shown itself: adopt or deny.
    pub(super) fn decide(&mut self, node: &mut Node, now: Now, link: LinkId, proposal: Proposal) {
        let Some(membership) = &node.membership else {
            return node.out.close(link, false, CloseReason::NotAuthorized);
        };
        let time = node.clock.now(now);
        let (shown, key) = (&proposal.evidence, &proposal.remote_static);
        let revocation = node.revocations.as_of(now.mono);
        let checked = self
            .judge()
            .check(membership, time, &revocation, shown, key);
        let peer = match checked {
            Ok(peer) => peer,
            Err(denial) => {
                let claimed = shown.identity.id();
                let record = denial_record("an inlet was denied", &denial)
                    .with("address", &self.address)
                    .with("peer", claimed);
                node.deny(record);
                if denial.step() == Step::Policy {
                    node.denied.push((self.address.clone(), claimed));
                }
                return self.deny(node, link, proposal, CloseReason::NotAuthorized);
            }
        };
        if proposal.kind == CircuitKind::Circuit {
            return self.decide_circuit(node, now, link, proposal, peer);
        }
        if let Err(why) = self.has_room_for_lane(&peer.id(), proposal.bundle) {
            let record = LogRecord::new(Level::Warn, "a lane of an inlet was turned away")
                .code(why.code())
                .with("why", why)
                .with("address", &self.address)
                .with("peer", peer.id());
            node.out.log(record);
            return self.deny(node, link, proposal, why);
        }
        // It is the inlet that begins.
        let exchanges = Exchanges::new(proposal.binding, false);
        let lane = Lane::new(&peer, proposal.bundle, exchanges);
        lane.log_audited(node, now, &self.judge());
        let worker = self.worker_for_lane(link.worker());
        let link = self.adopt(node, now, (link, worker), proposal, peer, Becomes::Lane);
        self.stages.insert(link, Stage::Lane(lane));
    }

    /// The worker with the fewest lanes that take streams; the one where the link is, if others
    /// have no fewer.
    fn worker_for_lane(&self, here: WorkerId) -> WorkerId {
        let mut lanes = vec![0_usize; usize::from(self.workers)];
        for (link, _) in self.lanes().filter(|(_, lane)| !lane.retiring) {
            if let Some(lanes) = lanes.get_mut(link.worker().index()) {
                *lanes += 1;
            }
        }
        let least = fewest(&lanes);
        match (lanes.get(here.index()), lanes.get(least.index())) {
            (Some(own), Some(other)) if own <= other => here,
            _ => least,
        }
    }

    /// Gives the link to a worker, which sends READY. Returns the link's name there.
    pub(super) fn adopt(
        &self,
        node: &mut Node,
        now: Now,
        (link, worker): (LinkId, WorkerId),
        proposal: Proposal,
        peer: VerifiedMember,
        becomes: Becomes,
    ) -> LinkId {
        remember(node, &self.policy, &peer);
        let bundle = proposal.bundle;
        let permit = Permit {
            peer: peer.id(),
            peer_name: peer_name(&peer),
            serial: peer.serial(),
            targets: Arc::clone(&self.names),
            policy_version: self.policy_version,
            list_number: node.revocations.revoked().number(),
            not_after: permit_end(node, now, &peer),
        };
        let shaken = proposal.accept(peer);
        node.out.no_deadline(link);
        let moves = worker != link.worker();
        let name = if moves {
            node.out.new_link(worker)
        } else {
            link
        };
        let adopt = Box::new(Adopt {
            link: name,
            becomes,
            last: Vec::new(),
            role: Role::Outlet,
            portal: self.portal,
            bundle,
            sealer: shaken.sealer,
            opener: shaken.opener,
            permit,
            dedicated: false,
        });
        node.out.command(if moves {
            Command::HandOver { link, adopt }
        } else {
            Command::Adopt(adopt)
        });
        name
    }

    fn has_room_for_lane(&self, peer: &crypto::Id, bundle: BundleId) -> Result<(), CloseReason> {
        let (mut of_member, mut all) = (0, 0);
        for (_, lane) in self.lanes() {
            // Drawn at random, so only an inlet that lies comes with one that is taken: a circuit
            // could not tell then which lane is meant.
            if lane.bundle == bundle {
                return Err(CloseReason::Violation);
            }
            all += 1;
            of_member += usize::from(lane.peer == *peer);
        }
        // Those that were cut on their way to a worker count until they have ended.
        for cut in self.cut_lanes() {
            if cut.bundle == bundle {
                return Err(CloseReason::Violation);
            }
            all += 1;
            of_member += usize::from(cut.peer == *peer);
        }
        if all >= OUTLET_LANES_MAX || of_member >= OUTLET_LANES_PER_MEMBER_MAX {
            return Err(CloseReason::Overloaded);
        }
        Ok(())
    }

    pub(super) fn deny(
        &mut self,
        node: &mut Node,
        link: LinkId,
        proposal: Proposal,
        why: CloseReason,
    ) {
        if let Ok(bytes) = proposal.deny(why) {
            let then = Expect::Nothing;
            node.out.command(Command::Send {
                link,
                bytes,
                framed: false,
                then,
            });
        }
        node.out.close(link, true, why);
    }

    /// The handshake ended when the inlet's last message was due. An inlet that was killed looks like
    /// that, and so does a relay that paired this outlet with itself to read what message 2 shows.
    pub(super) fn on_broken_off(&mut self, node: &mut Node, now: Now, why: CloseReason) {
        let (count, quiet_until) = &mut self.broken_off;
        *count += 1;
        if *quiet_until > now.mono {
            return;
        }
        *quiet_until = now.mono + MISTAKE_HINT_INTERVAL;
        let what = "a handshake was broken off after this outlet had shown its name and attributes";
        let record = LogRecord::new(Level::Warn, what)
            .code(CloseReason::ShakeTimeout.code())
            .with("why", why)
            .with("address", &self.address)
            .with("count", std::mem::take(count))
            .with("mend", "if it comes back, look at who runs the relay");
        node.out.log(record);
    }

    /// The handshake failed before the inlet showed itself: a log line, and nothing to the peer.
    pub(super) fn on_shake_failed(&mut self, node: &mut Node, link: LinkId, error: &SessionError) {
        node.tally.on_handshake(false);
        node.out.close(link, false, error.close_reason());
        let record = LogRecord::new(Level::Warn, "the handshake with an inlet failed")
            .code(error.code())
            .with("why", error)
            .with("address", &self.address);
        node.deny(record);
    }
}

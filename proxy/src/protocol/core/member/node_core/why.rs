//! Whether connections at a relay address are allowed from here, and by which rule: `adit why`. Only what
//! this end knows: its credential's permission, and its own policy's word on who is at the other end.

use crypto::credential::CredentialBody;

use super::MemberCore;
use crate::error::Problem;
use crate::protocol::command::Role;
use crate::protocol::core::admin::{AdminReply, PeerWhy, PortalWhy};
use crate::protocol::core::io::Now;
use crate::protocol::core::member::peer::{Judge, Lane};
use crypto::names::RelayAddress;

impl MemberCore {
    /// The portals of this node at that address.
    pub(super) fn why(&self, now: Now, address: &RelayAddress) -> AdminReply {
        let inlets = self.inlets.iter().filter(|it| it.via() == address);
        let inlets = inlets.map(|it| self.portal_why(now, Role::Inlet, &it.judge(), it.lanes()));
        let outlets = self.outlets.iter().filter(|it| it.address() == address);
        let outlets =
            outlets.map(|it| self.portal_why(now, Role::Outlet, &it.judge(), it.all_lanes()));
        let portals: Vec<PortalWhy> = inlets.chain(outlets).collect();
        if portals.is_empty() {
            return AdminReply::refused(Problem::NoSuchPortal, address);
        }
        AdminReply::Why(portals)
    }

    fn portal_why<'a>(
        &self,
        now: Now,
        role: Role,
        judge: &Judge<'_>,
        lanes: impl Iterator<Item = &'a Lane>,
    ) -> PortalWhy {
        let permitted = self.node.membership.as_ref().map(|membership| {
            let body: &CredentialBody = membership.credential.body();
            match role {
                Role::Inlet => body.may_connect.permits(judge.address),
                Role::Outlet => body.may_serve.contains(judge.address),
            }
        });
        let mut peers: Vec<PeerWhy> = Vec::new();
        for lane in lanes {
            // Several lanes may lead to the same member.
            if peers.iter().all(|peer| peer.id != lane.peer) {
                peers.push(PeerWhy {
                    id: lane.peer,
                    name: lane.name.clone(),
                    decision: lane.explain(&self.node, now, judge),
                });
            }
        }
        PortalWhy {
            role,
            permitted,
            peers,
        }
    }
}

//! Revocations that are under way: the answer to the administrator says which nodes hold the new list
//! and what they have cut, so it waits for them, a little.

use super::ServerCore;
use crate::limits::REVOKE_WAIT;
use crate::protocol::core::admin::{AdminReply, Revoked};
use crate::protocol::core::io::{AdminNo, Level, LogRecord, Now, Output};
use crate::time::Instant;

/// A revocation that is done and not answered yet.
pub(super) struct Revoking {
    no: AdminNo,
    revoked: Box<Revoked>,
    /// The list that has its entry.
    number: u64,
    until: Instant,
}

impl ServerCore {
    /// The store has answered an administrator's call.
    pub(super) fn on_admin_reply(&mut self, now: Now, no: AdminNo, reply: AdminReply) {
        let parts = &mut self.parts;
        match (reply, &mut parts.authority) {
            (AdminReply::Revoked(mut revoked), Some(authority)) => {
                let member = &revoked.member;
                let relay = parts.relay.as_ref();
                revoked.sessions = authority.sessions_of(&member.id)
                    + relay.map_or(0, |relay| relay.core.sessions_of(&member.id));
                let number = match revoked.entry {
                    Some(entry) => {
                        let record = LogRecord::new(Level::Info, "a member was revoked")
                            .with("name", &member.name)
                            .with("id", member.id)
                            .with("serial", entry.max_serial)
                            .with("list", entry.number);
                        parts.out.log(record);
                        entry.number
                    }
                    None => authority.list_number(),
                };
                authority.stamp_now(&mut parts.out, now);
                self.revoking.push(Revoking {
                    no,
                    revoked,
                    number,
                    until: now.mono + REVOKE_WAIT,
                });
                self.look_at_revoking(now);
            }
            (reply, _) => {
                let reply = Box::new(reply);
                parts.out.push(Output::Admin { no, reply });
            }
        }
    }

    /// Answers those whose list every connected node holds, and those that have waited long enough.
    pub(super) fn look_at_revoking(&mut self, now: Now) {
        let Some(authority) = &self.parts.authority else {
            return;
        };
        let own = |revoking: &Revoking, id: &crypto::Id| revoking.revoked.member.id == *id;
        for revoking in std::mem::take(&mut self.revoking) {
            let nodes = authority.holders(revoking.number);
            let others = || nodes.iter().filter(|node| !own(&revoking, &node.id));
            let done = others().all(|node| node.holds)
                && (others().next().is_none() || authority.list_number() >= revoking.number);
            if !done && now.mono < revoking.until {
                self.revoking.push(revoking);
                continue;
            }
            let nodes = others().cloned().collect();
            let Revoking { no, revoked, .. } = revoking;
            let reply = AdminReply::Revoked(Box::new(Revoked { nodes, ..*revoked }));
            let reply = Box::new(reply);
            self.parts.out.push(Output::Admin { no, reply });
        }
    }

    /// When a revocation has waited long enough.
    pub(super) fn revoking_until(&self) -> Option<Instant> {
        self.revoking.iter().map(|revoking| revoking.until).min()
    }

    /// Answers all of them with what is known: the process stops.
    pub(super) fn answer_revoking(&mut self) {
        for Revoking { no, revoked, .. } in self.revoking.drain(..) {
            let reply = Box::new(AdminReply::Revoked(revoked));
            self.parts.out.push(Output::Admin { no, reply });
        }
    }
}

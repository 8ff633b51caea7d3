//! Which of a process's workers a command is for.

use std::sync::Arc;

use super::Command;
use crate::ids::WorkerId;

impl Command {
    /// The worker that it is for; `None`: all of them.
    pub fn worker(&self) -> Option<WorkerId> {
        match self {
            Command::Dial { link, .. }
            | Command::Send { link, .. }
            | Command::Deadline { link, .. }
            | Command::Close { link, .. }
            | Command::HandOver { link, .. }
            | Command::Lane { link, .. }
            | Command::Circuit { link, .. } => Some(link.worker()),
            Command::Adopt(adopt) => Some(adopt.link.worker()),
            Command::LegKey(_)
            | Command::LegKeyGone { .. }
            | Command::MemberGone { .. }
            | Command::MemberDenied { .. }
            | Command::Targets { .. }
            | Command::Gate { .. }
            | Command::Hosts { .. }
            | Command::Limits { .. }
            | Command::ClosePortal { .. }
            | Command::AuthorityTime { .. }
            | Command::Drain { .. }
            | Command::Stop => None,
        }
    }

    /// The same once more, of a command that is for all workers; those for one hold keys, which
    /// are in one place.
    fn again(&self) -> Option<Command> {
        Some(match self {
            Command::LegKey(entry) => Command::LegKey(entry.clone()),
            Command::LegKeyGone { session } => Command::LegKeyGone { session: *session },
            Command::MemberGone { member } => Command::MemberGone { member: *member },
            Command::MemberDenied { address, member } => Command::MemberDenied {
                address: *address,
                member: *member,
            },
            Command::Targets { portal, targets } => Command::Targets {
                portal: *portal,
                targets: targets.clone(),
            },
            Command::Gate { portal, gate } => Command::Gate {
                portal: *portal,
                gate: *gate,
            },
            Command::Hosts { portal, workers } => Command::Hosts {
                portal: *portal,
                workers: *workers,
            },
            Command::Limits { portal, limits } => Command::Limits {
                portal: *portal,
                limits: Arc::clone(limits),
            },
            Command::ClosePortal { portal, why } => Command::ClosePortal {
                portal: *portal,
                why: *why,
            },
            Command::AuthorityTime { unix_millis, at } => Command::AuthorityTime {
                unix_millis: *unix_millis,
                at: *at,
            },
            Command::Drain { idle, deadline } => Command::Drain {
                idle: *idle,
                deadline: *deadline,
            },
            Command::Stop => Command::Stop,
            Command::Dial { .. }
            | Command::Send { .. }
            | Command::Deadline { .. }
            | Command::Close { .. }
            | Command::Adopt(_)
            | Command::HandOver { .. }
            | Command::Lane { .. }
            | Command::Circuit { .. } => return None,
        })
    }

    /// Gives it to those of `workers` workers that it is for.
    pub fn deliver(self, workers: u8, mut to: impl FnMut(WorkerId, Command)) {
        if let Some(worker) = self.worker() {
            return to(worker, self);
        }
        for worker in WorkerId::all(workers).skip(1) {
            if let Some(again) = self.again() {
                to(worker, again);
            }
        }
        to(WorkerId::FIRST, self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CloseReason;
    use crate::ids::{LinkId, SessionId};

    #[test]
    fn a_command_reaches_the_worker_of_its_link_or_all() {
        let reached = |command: Command| {
            let mut reached = Vec::new();
            command.deliver(3, |worker, _| reached.push(worker.0));
            reached.sort_unstable();
            reached
        };
        let link = LinkId::at(WorkerId(2), 4);
        let (flush, why) = (false, CloseReason::Stopping);
        assert_eq!(reached(Command::Close { link, flush, why }), [2]);
        assert_eq!(reached(Command::Stop), [0, 1, 2]);
        let session = SessionId([1; 16]);
        assert_eq!(reached(Command::LegKeyGone { session }), [0, 1, 2]);
    }
}

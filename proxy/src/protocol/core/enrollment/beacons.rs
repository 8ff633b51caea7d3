//! What the authority says of revocations: beacons, the list, and that this node itself is out.

use super::records::{refusal_record, with_mend};
use super::{Enrollment, EnrollmentNews, State};
use crate::error::{CloseReason, Problem};
use crate::protocol::core::io::Now;
use crate::protocol::core::node::Node;
use crate::protocol::core::revocations::{BeaconFault, Heard};
use crate::protocol::session::{Message, SessionError};

impl Enrollment {
    /// A beacon came.
    pub(super) fn on_beacon(&mut self, node: &mut Node, now: Now, beacon: &[u8]) -> EnrollmentNews {
        let Some(membership) = &node.membership else {
            return EnrollmentNews::None;
        };
        let (clock, authority) = (&node.clock, &membership.authority);
        let heard = node.revocations.on_beacon(now, clock, authority, beacon);
        self.on_heard(node, now, heard)
    }

    /// A part of the list came, as asked for.
    pub(super) fn on_revocations(
        &mut self,
        node: &mut Node,
        now: Now,
        place: (u64, u32, u32),
        part: &[u8],
    ) -> EnrollmentNews {
        let Some(membership) = &node.membership else {
            return EnrollmentNews::None;
        };
        let (clock, authority) = (&node.clock, &membership.authority);
        let heard = node.revocations.on_part(now, clock, authority, place, part);
        self.on_heard(node, now, heard)
    }

    fn on_heard(
        &mut self,
        node: &mut Node,
        now: Now,
        heard: Result<Heard, BeaconFault>,
    ) -> EnrollmentNews {
        let news = match heard {
            Ok(Heard::Nothing) => EnrollmentNews::None,
            Ok(Heard::Fresh) => EnrollmentNews::Heard,
            Ok(Heard::List) => EnrollmentNews::Revocations,
            Err(fault) => {
                if node.revocations.fault_is_news() {
                    let problem = match fault {
                        BeaconFault::Back => Problem::RevocationsBack,
                        BeaconFault::NotBelieved(_) | BeaconFault::Parts => Problem::BadGrant,
                    };
                    node.out.log(refusal_record(problem, "").with("why", fault));
                }
                if fault == BeaconFault::Parts {
                    self.uplink.break_off(node, now, &SessionError::Violation);
                    self.forget_requests();
                }
                EnrollmentNews::None
            }
        };
        if let Some(offset) = node.revocations.wants()
            && self.list_asked.is_none()
        {
            let message = Message::GetRevocations { offset };
            self.list_asked = self.uplink.ask(node, now, message);
        }
        // Of a new list, whoever it names is cut before a disk is waited for.
        if news == EnrollmentNews::Heard {
            node.persist_revocations(now);
        }
        news
    }

    /// Tells the authority that this node holds the newest list, and how many lanes it has cut by it.
    /// Without a session it goes untold.
    pub fn say_held(&mut self, node: &mut Node, now: Now, cut: usize) {
        let number = node.revocations.revoked().number();
        let cut = u32::try_from(cut).unwrap_or(u32::MAX);
        self.uplink.ask(node, now, Message::Holds { number, cut });
    }

    /// The authority has ended this node's membership, and says so.
    pub(super) fn on_own_revocation(&mut self, node: &mut Node, now: Now) -> EnrollmentNews {
        let problem = Problem::MemberRevoked;
        let text = with_mend(problem, "");
        self.uplink.leave(node, now, CloseReason::Revoked);
        self.forget_requests();
        if let State::Inside { refused } = &mut self.state
            && !matches!(refused, Some((Problem::MemberRevoked, _)))
        {
            *refused = Some((problem, text));
            node.deny(refusal_record(problem, ""));
        }
        EnrollmentNews::Refused
    }
}

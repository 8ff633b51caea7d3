//! How a node becomes and stays a member: the authority session, enrollment, renewal, authority
//! time and the project note. Used by nodes with portals and by a relay of its own.
//!
//! ```text
//! Outside ── a ticket ──▸ Joining ── Enrolled ──▸ Inside ── renewed at two thirds of its life
//!    ▴                        │                      │
//!    └─── refused for good ───┘      (Inside stays so after a refused renewal: the credential
//!                                     that is held ends by itself, and it is asked again)
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `answers` | what the authority's answers change |
//! | `beacons` | what it says of revocations |
//! | `records` | log records, and reading what was granted |

mod answers;
mod beacons;
mod records;

use crypto::Id;
use crypto::check::{Evidence, Grant, IdentityQuestion, NoHistories, verify_identity};
use crypto::identity::{HistoryMark, IdentitySecret};
use crypto::names::{HostPort, Name};
use crypto::statics::StaticPublic;
use crypto::ticket::{Ticket, TicketSecret};

use self::records::{announce_time, log_membership, refusal_record, with_mend};
use super::io::{Level, LogRecord, Now, ResolveNo};
use super::link_event::LinkEvent;
use super::node::Node;
use super::status::{MembershipStatus, Reach};
use super::uplink::{Target, Uplink, UplinkNews};
use crate::error::{CloseReason, Code, Problem};
use crate::ids::LinkId;
use crate::protocol::pool::{Backoff, jitter};
use crate::protocol::session::{Kind, Message, RequestNo};
use crate::time::{Duration, Instant};

/// What changed, for the other parts of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrollmentNews {
    /// Nothing.
    None,
    /// The node is a member now.
    Joined,
    /// It has a newer credential and pass.
    Renewed,
    /// The project note says something else now.
    NoteChanged,
    /// It is another time than this node believed: what it refused may be good.
    TimeChanged,
    /// A beacon was heard for the list that is held.
    Heard,
    /// Another revocation list is held now.
    Revocations,
    /// It is not going to be a member with what it has.
    Refused,
}

enum State {
    Outside { code: Code, why: String },
    Joining(Box<Joining>),
    Inside { refused: Option<(Problem, String)> },
}

struct Joining {
    ticket: Ticket,
    since: Instant,
    asked: Option<RequestNo>,
    backoff: Backoff,
}

/// See the module.
pub struct Enrollment {
    uplink: Uplink,
    state: State,
    wish: Option<Name>,
    renew: Periodic,
    note: Periodic,
    time: Periodic,
    /// The nonce of the TIME request, and when it was asked.
    time_asked: Option<([u8; 16], Instant)>,
    /// A part of the revocation list was asked for.
    list_asked: Option<RequestNo>,
    skew_logged: bool,
}

/// A request that is due again and again.
struct Periodic {
    due: Instant,
    asked: Option<RequestNo>,
    backoff: Backoff,
}

impl Periodic {
    fn due_at(due: Instant) -> Periodic {
        Periodic {
            due,
            asked: None,
            backoff: Backoff::default(),
        }
    }

    fn next_timer(&self) -> Instant {
        match self.asked {
            Some(_) => Instant::FAR_FUTURE,
            None => self.due.max(self.backoff.not_before()),
        }
    }

    /// Whether `request` is the one that was asked; it is not any more then.
    fn answered(&mut self, request: RequestNo) -> bool {
        let own = self.asked == Some(request);
        if own {
            self.asked = None;
        }
        own
    }
}

/// Whom to require at the other end, and where it is.
struct Authority {
    project: Id,
    mark: HistoryMark,
    addresses: Vec<HostPort>,
}

impl Enrollment {
    /// Begins as a member if the node is one, else with the ticket if there is one.
    pub fn new(node: &mut Node, now: Now, ticket: Option<Ticket>, wish: Option<Name>) -> Self {
        let mut enrollment = Enrollment {
            uplink: Uplink::new(Kind::Authority, now.mono),
            state: State::Inside { refused: None },
            wish,
            renew: Periodic::due_at(now.mono),
            note: Periodic::due_at(now.mono),
            time: Periodic::due_at(now.mono),
            time_asked: None,
            list_asked: None,
            skew_logged: false,
        };
        announce_time(node, now);
        if node.membership.is_some() {
            log_membership(node, "this node is a member");
            if ticket.is_some() {
                enrollment.ignore_ticket(node);
            }
            enrollment.schedule_renewal(node, now);
            return enrollment;
        }
        let problem = Problem::NoTicket;
        enrollment.state = State::Outside {
            code: problem.code(),
            why: with_mend(problem, ""),
        };
        match ticket {
            Some(ticket) => enrollment.join(node, now, ticket),
            None => node.out.log(refusal_record(problem, "")),
        }
        enrollment
    }

    /// A ticket became available.
    pub fn on_ticket(&mut self, node: &mut Node, now: Now, ticket: Ticket) {
        let hopeless = matches!(
            &self.state,
            State::Inside {
                refused: Some((Problem::NotAMember, _))
            }
        );
        if node.membership.is_some() && !hopeless {
            return self.ignore_ticket(node);
        }
        self.uplink.close(node, CloseReason::Replaced, true);
        self.join(node, now, ticket);
    }

    /// The identity has changed its key. The authority is told at once, in a session that shows it;
    /// all others hear of it with the credential that it gives then.
    pub fn on_identity(&mut self, node: &mut Node, identity: IdentitySecret) {
        let changes = identity.identity().len();
        if !node.keyring.rotate(identity) {
            return;
        }
        let what = "the identity has changed its key";
        let record = LogRecord::new(Level::Info, what).with("changes", changes);
        node.out.log(record);
        self.uplink.close(node, CloseReason::Replaced, true);
        self.forget_requests();
        self.uplink.wake();
    }

    fn ignore_ticket(&mut self, node: &mut Node) {
        let what = "the ticket is ignored: this node is a member already";
        node.out.log(LogRecord::new(Level::Info, what));
    }

    fn join(&mut self, node: &mut Node, now: Now, ticket: Ticket) {
        let record = LogRecord::new(Level::Info, "redeeming a ticket")
            .with("project", &ticket.project_name)
            .with("ticket", ticket.id);
        node.out.log(record);
        node.out.status_changed();
        let joining = Joining {
            ticket,
            since: now.mono,
            asked: None,
            backoff: Backoff::default(),
        };
        self.state = State::Joining(Box::new(joining));
        self.uplink.wake();
    }

    fn authority(&self, node: &Node) -> Option<Authority> {
        match &self.state {
            State::Outside { .. } => None,
            State::Joining(joining) => Some(Authority {
                project: joining.ticket.project,
                mark: joining.ticket.authority,
                addresses: joining.ticket.addresses.clone(),
            }),
            State::Inside { .. } => node.membership.as_ref().map(|membership| Authority {
                project: membership.project(),
                mark: membership.authority.mark(),
                addresses: membership.note.body().relays.clone(),
            }),
        }
    }

    /// Whether this link is the authority session's.
    pub fn owns(&self, link: LinkId) -> bool {
        self.uplink.owns(link)
    }

    /// The resolver's answer; says whether the question was asked here.
    pub fn on_resolved(
        &mut self,
        node: &mut Node,
        now: Now,
        no: ResolveNo,
        answer: &Result<Vec<std::net::SocketAddr>, String>,
    ) -> bool {
        if !self.uplink.asked(no) {
            return false;
        }
        if let Some(authority) = self.authority(node) {
            let target = target(&authority);
            self.uplink.on_resolved(node, now, &target, answer.clone());
        }
        true
    }

    /// An event of a link that is [owned](Self::owns).
    pub fn on_event(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        event: LinkEvent,
    ) -> EnrollmentNews {
        let Some(authority) = self.authority(node) else {
            return EnrollmentNews::None;
        };
        let check = |node: &mut Node, shown: &Evidence, key: &StaticPublic| {
            let question = IdentityQuestion {
                project: &authority.project,
                required: Some((authority.project, authority.mark)),
                histories: &NoHistories,
                remote_static: key,
                now: node.clock.now(now),
            };
            let verified = verify_identity(shown, &question)?;
            let time = node.clock.now(now);
            if let Some(membership) = &mut node.membership
                && membership.authority.adopt(verified.identity(), time) == Ok(true)
            {
                node.persist();
            }
            Ok(())
        };
        let news = self
            .uplink
            .on_event(node, now, &target(&authority), link, event, check);
        match news {
            UplinkNews::None => EnrollmentNews::None,
            UplinkNews::Up => {
                self.forget_requests();
                node.revocations.forget_fetching();
                // In each session first thing: to the authority it is what tells a member from
                // a stranger, and to this node what changed while it was away.
                self.renew.due = now.mono;
                self.time.due = now.mono;
                self.ask_what_is_due(node, now);
                EnrollmentNews::None
            }
            UplinkNews::Down => {
                self.forget_requests();
                EnrollmentNews::None
            }
            UplinkNews::Message(request, message) => self.on_message(node, now, request, message),
        }
    }

    fn forget_requests(&mut self) {
        for periodic in [&mut self.renew, &mut self.note, &mut self.time] {
            periodic.asked = None;
        }
        self.time_asked = None;
        self.list_asked = None;
        if let State::Joining(joining) = &mut self.state {
            joining.asked = None;
        }
    }

    /// Dials when it should, and asks what is due.
    pub fn on_timer(&mut self, node: &mut Node, now: Now) {
        if let Some(authority) = self.authority(node) {
            self.uplink.begin(node, now, &authority.addresses);
        }
        if matches!(self.uplink.on_timer(node, now), UplinkNews::Down) {
            self.forget_requests();
        }
        self.ask_what_is_due(node, now);
    }

    /// When [`on_timer`](Self::on_timer) has something to do.
    pub fn next_timer(&self) -> Instant {
        let wanted = !matches!(self.state, State::Outside { .. });
        let uplink = self.uplink.next_timer(wanted);
        if self.uplink.open_at().is_none() {
            return uplink;
        }
        let due = match &self.state {
            State::Outside { .. } => Instant::FAR_FUTURE,
            State::Joining(joining) if joining.asked.is_some() => Instant::FAR_FUTURE,
            State::Joining(joining) => joining.backoff.not_before(),
            State::Inside { .. } => self.renew.next_timer().min(self.note.next_timer()),
        };
        uplink.min(due).min(self.time.next_timer())
    }

    fn ask_what_is_due(&mut self, node: &mut Node, now: Now) {
        if self.uplink.open_at().is_none() {
            return;
        }
        if self.time.next_timer() <= now.mono {
            let nonce = node.out.draw();
            self.time.asked = self.uplink.ask(node, now, Message::Time { nonce });
            self.time_asked = self.time.asked.map(|_| (nonce, now.mono));
        }
        match &mut self.state {
            State::Outside { .. } => {}
            State::Joining(joining) => {
                if joining.asked.is_none() && joining.backoff.not_before() <= now.mono {
                    let secret = TicketSecret::from_bytes(joining.ticket.secret().as_bytes());
                    let (ticket, wish) = (joining.ticket.id, self.wish.clone());
                    let message = Message::Redeem {
                        ticket,
                        secret,
                        wish,
                    };
                    joining.asked = self.uplink.ask(node, now, message);
                }
            }
            State::Inside { .. } => {
                if self.renew.next_timer() <= now.mono {
                    self.renew.asked = self.uplink.ask(node, now, Message::Renew);
                }
                if self.note.next_timer() <= now.mono {
                    self.note.asked = self.uplink.ask(node, now, Message::GetProject);
                }
            }
        }
    }

    /// Two thirds of the credential's life, a little earlier by chance so that nodes which
    /// enrolled together don't renew together; at once when that is over.
    fn schedule_renewal(&mut self, node: &mut Node, now: Now) {
        let Some(membership) = &node.membership else {
            return;
        };
        let body = membership.credential.body();
        let life = Duration::from_secs(body.not_after.since(body.not_before));
        let end = node.clock.instant_of(now, body.not_after);
        let before_end = life.mul_f64(0.3) + jitter(life.mul_f64(0.08), node.out.random());
        self.renew.due = end - before_end;
    }

    /// What `status` shows of the membership.
    pub fn membership_status(&self, node: &Node, now: Now) -> MembershipStatus {
        match (&self.state, &node.membership) {
            (State::Outside { code, why }, _) => MembershipStatus::NotEnrolled {
                code: *code,
                why: why.clone(),
            },
            (State::Joining(joining), _) => MembershipStatus::Enrolling {
                since: now.mono.since(joining.since),
            },
            (State::Inside { refused }, Some(membership)) => {
                let body = membership.credential.body();
                let left = body.not_after.since(node.clock.now(now));
                match refused {
                    Some((problem, why)) if left == 0 => MembershipStatus::NotEnrolled {
                        code: problem.code(),
                        why: why.clone(),
                    },
                    _ => MembershipStatus::Enrolled {
                        name: body.name.clone(),
                        attributes: body.attributes.clone(),
                        serial: body.serial,
                        not_after: body.not_after,
                        expires_in: Duration::from_secs(left),
                    },
                }
            }
            (State::Inside { .. }, None) => {
                let problem = Problem::NoTicket;
                let (code, why) = (problem.code(), with_mend(problem, ""));
                MembershipStatus::NotEnrolled { code, why }
            }
        }
    }

    /// What `status` shows of the session.
    pub fn reach(&self, now: Instant) -> Reach {
        match self.state {
            State::Outside { .. } => Reach::NotNeeded,
            State::Joining(_) | State::Inside { .. } => self.uplink.reach(now),
        }
    }

    /// Whether apps at inlets may hope: the node is a member, or about to become one.
    pub fn hopeful(&self) -> bool {
        !matches!(self.state, State::Outside { .. })
    }

    /// Whether this node was told that it is a member no longer.
    pub fn is_revoked(&self) -> bool {
        matches!(
            &self.state,
            State::Inside {
                refused: Some((Problem::MemberRevoked, _))
            }
        )
    }

    /// Ends the session.
    pub fn stop(&mut self, node: &mut Node) {
        self.uplink.close(node, CloseReason::Stopping, true);
        self.forget_requests();
    }
}

fn target(authority: &Authority) -> Target {
    Target {
        project: authority.project,
        grant: Grant::Nothing,
    }
}

//! How a node becomes and stays a member: the authority session, enrollment, renewal, authority
//! time and the project note. Used by nodes with portals and by a relay of its own.
//!
//! ```text
//! Outside ── a ticket ──▸ Joining ── Enrolled ──▸ Inside ── renewed at two thirds of its life
//!    ▴                        │                      │
//!    └─── refused for good ───┘      (Inside stays so after a refused renewal: the credential
//!                                     that is held ends by itself, and it is asked again)
//! ```

use crypto::UnixTime;
use crypto::check::{
    Evidence, Grant, IdentityQuestion, NoHistories, TrustedAuthority, verify_identity,
};
use crypto::credential::{Credential, Pass};
use crypto::identity::HistoryMark;
use crypto::names::{HostPort, Name};
use crypto::project::ProjectNote;
use crypto::ticket::{Ticket, TicketSecret};
use crypto::{Id, statics::StaticPublic};

use super::io::{Level, LogRecord, Now, Output, ResolveNo};
use super::membership::{Membership, Pinned};
use super::node::Node;
use super::status::{MembershipStatus, Reach};
use super::text::utc;
use super::uplink::{Target, Uplink, UplinkNews};
use crate::error::{CloseReason, Code, Problem};
use crate::ids::LinkId;
use crate::limits::{CLOCK_SKEW_WARN, NOTE_REFRESH, TIME_REFRESH};
use crate::protocol::command::{Command, Event};
use crate::protocol::pool::{Backoff, Failure, jitter};
use crate::protocol::session::{Kind, Message, Refusal, RequestNo, SessionError};
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
    pub fn on_event(&mut self, node: &mut Node, now: Now, event: Event) -> EnrollmentNews {
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
            .on_event(node, now, &target(&authority), event, check);
        match news {
            UplinkNews::None => EnrollmentNews::None,
            UplinkNews::Up => {
                self.forget_requests();
                // In each session first thing: to the authority it is what tells a member from
                // a stranger, and to this node what changed while it was away.
                self.renew.due = now.mono;
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

    fn on_message(
        &mut self,
        node: &mut Node,
        now: Now,
        request: RequestNo,
        message: Message,
    ) -> EnrollmentNews {
        match message {
            Message::TimeIs { nonce, unix_millis } if self.time.answered(request) => {
                self.on_time(node, now, nonce, unix_millis);
                EnrollmentNews::None
            }
            Message::Enrolled {
                credential,
                pass,
                note,
            } => self.on_enrolled(node, now, request, &credential, &pass, &note),
            Message::Renewed { credential, pass } if self.renew.answered(request) => {
                self.on_renewed(node, now, &credential, &pass)
            }
            Message::Project { note } if self.note.answered(request) => {
                self.note.due = now.mono + jitter(NOTE_REFRESH, node.out.random());
                self.on_note(node, now, &note)
            }
            Message::Refused(refusal) => self.on_refused(node, now, request, &refusal),
            _ => {
                self.uplink.break_off(node, now, &SessionError::Violation);
                self.forget_requests();
                EnrollmentNews::None
            }
        }
    }

    fn on_time(&mut self, node: &mut Node, now: Now, nonce: [u8; 16], unix_millis: u64) {
        let Some((_, asked)) = self.time_asked.take().filter(|(own, _)| *own == nonce) else {
            return self
                .time
                .backoff
                .failed(now.mono, Failure::Lost, node.out.random());
        };
        if !node.clock.learn(now.mono, asked, unix_millis) {
            return self
                .time
                .backoff
                .failed(now.mono, Failure::Lost, node.out.random());
        }
        self.time.due = now.mono + jitter(TIME_REFRESH, node.out.random());
        announce_time(node, now);
        self.schedule_renewal(node, now);
        let ahead = node.clock.wall_ahead(now).unwrap_or(0);
        let skewed = u128::from(ahead.unsigned_abs()) > CLOCK_SKEW_WARN.as_millis();
        if skewed && !self.skew_logged {
            let record = refusal_record(Problem::ClockSkew, "");
            node.out.log(record.with("ahead_millis", ahead));
        }
        self.skew_logged = skewed;
    }

    fn on_enrolled(
        &mut self,
        node: &mut Node,
        now: Now,
        request: RequestNo,
        credential: &[u8],
        pass: &[u8],
        note: &[u8],
    ) -> EnrollmentNews {
        let State::Joining(joining) = &self.state else {
            return EnrollmentNews::None;
        };
        if joining.asked != Some(request) {
            return EnrollmentNews::None;
        }
        let ticket = &joining.ticket;
        let granted = read_grant(node, &ticket.project, credential, pass);
        let note = ProjectNote::verify(note, &ticket.project, &ticket.authority).ok();
        let Some(((credential, pass), note)) = granted.zip(note) else {
            return self.refuse(node, Problem::BadGrant, "", |record| record);
        };
        let authority = TrustedAuthority::new(note.body().authority.clone(), UnixTime(0));
        let pinned = Pinned::default();
        node.membership = Some(Membership {
            note,
            credential,
            pass,
            authority,
            pinned,
        });
        self.state = State::Inside { refused: None };
        self.note.due = now.mono + jitter(NOTE_REFRESH, node.out.random());
        node.persist();
        node.out.push(Output::TicketSpent);
        log_membership(node, "enrolled");
        node.out.status_changed();
        self.schedule_renewal(node, now);
        EnrollmentNews::Joined
    }

    fn on_renewed(
        &mut self,
        node: &mut Node,
        now: Now,
        credential: &[u8],
        pass: &[u8],
    ) -> EnrollmentNews {
        let project = node.membership.as_ref().map(Membership::project);
        let granted = project.and_then(|project| read_grant(node, &project, credential, pass));
        let (Some((credential, pass)), Some(membership)) = (granted, &mut node.membership) else {
            self.renew
                .backoff
                .failed(now.mono, Failure::Refused, node.out.random());
            node.out.log(refusal_record(Problem::BadGrant, ""));
            return EnrollmentNews::None;
        };
        membership.credential = credential;
        membership.pass = pass;
        self.state = State::Inside { refused: None };
        node.persist();
        node.out.status_changed();
        self.schedule_renewal(node, now);
        EnrollmentNews::Renewed
    }

    fn on_note(&mut self, node: &mut Node, now: Now, note: &[u8]) -> EnrollmentNews {
        let time = node.clock.now(now);
        let Some(membership) = &mut node.membership else {
            return EnrollmentNews::None;
        };
        let note = ProjectNote::verify(note, &membership.project(), &membership.authority.mark());
        match note {
            Ok(note) => {
                if membership.adopt_note(note, time) {
                    node.persist();
                    EnrollmentNews::NoteChanged
                } else {
                    EnrollmentNews::None
                }
            }
            Err(error) => {
                node.out
                    .log(refusal_record(Problem::BadGrant, "").with("why", error));
                EnrollmentNews::None
            }
        }
    }

    fn on_refused(
        &mut self,
        node: &mut Node,
        now: Now,
        request: RequestNo,
        refusal: &Refusal,
    ) -> EnrollmentNews {
        let problem = Problem::from_code(refusal.code);
        let asked_to_join = match &mut self.state {
            State::Joining(joining) if joining.asked == Some(request) => {
                joining.asked = None;
                true
            }
            State::Joining(_) | State::Outside { .. } | State::Inside { .. } => false,
        };
        if asked_to_join {
            let for_good = problem.filter(|problem| problem.code().0 / 1000 == 2);
            if let Some(problem) = for_good {
                return self.refuse(node, problem, &refusal.detail, |record| {
                    let by = refusal.redeemed_by.map(|id| id.to_string());
                    let at = refusal.at.map(utc);
                    let record = by
                        .into_iter()
                        .fold(record, |r, by| r.with("redeemed_by", by));
                    at.into_iter().fold(record, |r, at| r.with("at", at))
                });
            }
            if let State::Joining(joining) = &mut self.state {
                joining
                    .backoff
                    .failed(now.mono, Failure::Refused, node.out.random());
            }
            let problem = problem.unwrap_or(Problem::AuthorityBusy);
            node.out.log(refusal_record(problem, &refusal.detail));
            return EnrollmentNews::None;
        }
        if self.renew.answered(request) {
            self.renew
                .backoff
                .failed(now.mono, Failure::Refused, node.out.random());
            let problem = problem.unwrap_or(Problem::AuthorityBusy);
            let text = with_mend(problem, &refusal.detail);
            if let State::Inside { refused } = &mut self.state {
                let known = refused
                    .as_ref()
                    .is_some_and(|(before, _)| *before == problem);
                *refused = Some((problem, text));
                if !known {
                    node.deny(refusal_record(problem, &refusal.detail));
                }
            }
            return EnrollmentNews::Refused;
        }
        if self.note.answered(request) {
            self.note
                .backoff
                .failed(now.mono, Failure::Refused, node.out.random());
            return EnrollmentNews::None;
        }
        if request == RequestNo::UNASKED {
            let code = Code(refusal.code);
            let why = format!(
                "the authority refuses this node: {}",
                CloseReason::NotAuthorized
            );
            self.uplink.refused(node, now, code, why);
            self.forget_requests();
        }
        EnrollmentNews::None
    }

    /// The ticket does not work, and trying again would not help.
    fn refuse(
        &mut self,
        node: &mut Node,
        problem: Problem,
        detail: &str,
        more: impl FnOnce(LogRecord) -> LogRecord,
    ) -> EnrollmentNews {
        self.uplink.close(node, CloseReason::NotAuthorized, true);
        self.forget_requests();
        let record = more(refusal_record(problem, detail));
        let said = |(name, value): &(&str, String)| match *name {
            "redeemed_by" => format!(" by {value}"),
            "at" => format!(" at {value}"),
            _ => String::new(),
        };
        let facts: String = record.fields.iter().map(said).collect();
        let why = with_mend(problem, &facts);
        self.state = State::Outside {
            code: problem.code(),
            why,
        };
        node.deny(record);
        EnrollmentNews::Refused
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

/// Tells the worker what time to write into OPEN.
fn announce_time(node: &mut Node, now: Now) {
    let unix_millis = node.clock.millis(now);
    node.out.command(Command::AuthorityTime {
        unix_millis,
        at: now.mono,
    });
}

/// Reads a credential and its pass, if both are this node's.
fn read_grant(
    node: &Node,
    project: &Id,
    credential: &[u8],
    pass: &[u8],
) -> Option<(Credential, Pass)> {
    let credential = Credential::decode(credential).ok()?;
    let pass = Pass::decode(pass).ok()?;
    let id = node.keyring.id();
    let (body, part) = (credential.body(), pass.body());
    let ours = body.project == *project && body.subject == id && body.to_pass() == *part;
    ours.then_some((credential, pass))
}

fn log_membership(node: &mut Node, what: &str) {
    if let Some(membership) = &node.membership {
        let body = membership.credential.body();
        let attributes: Vec<String> = body
            .attributes
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let record = LogRecord::new(Level::Info, what)
            .with("project", membership.project_name())
            .with("name", &body.name)
            .with("attributes", attributes.join(","))
            .with("credential_until", utc(body.not_after));
        node.out.log(record);
    }
}

fn refusal_record(problem: Problem, detail: &str) -> LogRecord {
    let record = LogRecord::new(Level::Error, problem.to_string()).code(problem.code());
    let record = if detail.is_empty() {
        record
    } else {
        record.with("detail", detail)
    };
    record.with("mend", problem.mend())
}

fn with_mend(problem: Problem, facts: &str) -> String {
    format!("{problem}{facts}; to mend it: {}", problem.mend())
}

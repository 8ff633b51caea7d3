//! What the authority answers: enrolled, renewed, the time, the note, or no.

use crypto::UnixTime;
use crypto::check::TrustedAuthority;
use crypto::project::ProjectNote;

use super::records::{announce_time, log_membership, read_grant, refusal_record, with_mend};
use super::{Enrollment, EnrollmentNews, State};
use crate::error::{CloseReason, Code, Problem};
use crate::limits::{CLOCK_SKEW_WARN, CLOCK_STEP, NOTE_REFRESH, TIME_REFRESH};
use crate::protocol::core::io::{LogRecord, Now, Output};
use crate::protocol::core::membership::{Membership, Pinned};
use crate::protocol::core::node::Node;
use crate::protocol::core::text::utc;
use crate::protocol::pool::{Failure, jitter};
use crate::protocol::session::{Message, Refusal, RequestNo, SessionError};

impl Enrollment {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else comes is out of turn"
    )]
    pub(super) fn on_message(
        &mut self,
        node: &mut Node,
        now: Now,
        request: RequestNo,
        message: Message,
    ) -> EnrollmentNews {
        match message {
            Message::TimeIs { nonce, unix_millis } if self.time.answered(request) => {
                let before = node.clock.millis(now);
                self.on_time(node, now, nonce, unix_millis);
                let moved = node.clock.millis(now).abs_diff(before);
                if u128::from(moved) > CLOCK_STEP.as_millis() {
                    EnrollmentNews::TimeChanged
                } else {
                    EnrollmentNews::None
                }
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
            Message::Beacon { beacon } => self.on_beacon(node, now, &beacon),
            Message::Revocations {
                number,
                length,
                offset,
                part,
            } if self.list_asked == Some(request) => {
                self.list_asked = None;
                self.on_revocations(node, now, (number, length, offset), &part)
            }
            Message::Refused(refusal) => self.on_refused(node, now, request, &refusal),
            _ => {
                self.uplink.break_off(node, now, &SessionError::Violation);
                self.forget_requests();
                EnrollmentNews::None
            }
        }
    }

    pub(super) fn on_time(&mut self, node: &mut Node, now: Now, nonce: [u8; 16], unix_millis: u64) {
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
        node.revocations.on_time(&node.clock, now);
        self.schedule_renewal(node, now);
        let ahead = node.clock.wall_ahead(now).unwrap_or(0);
        let skewed = u128::from(ahead.unsigned_abs()) > CLOCK_SKEW_WARN.as_millis();
        if skewed && !self.skew_logged {
            let record = refusal_record(Problem::ClockSkew, "");
            node.out.log(record.with("ahead_millis", ahead));
        }
        self.skew_logged = skewed;
    }

    pub(super) fn on_enrolled(
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
        node.revocations.begin(now.mono);
        self.note.due = now.mono + jitter(NOTE_REFRESH, node.out.random());
        node.persist();
        node.out.push(Output::TicketSpent);
        log_membership(node, "enrolled");
        node.out.status_changed();
        self.schedule_renewal(node, now);
        EnrollmentNews::Joined
    }

    pub(super) fn on_renewed(
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
        node.keyring.on_granted(credential.body().history_len);
        membership.credential = credential;
        membership.pass = pass;
        self.state = State::Inside { refused: None };
        node.persist();
        node.out.status_changed();
        self.schedule_renewal(node, now);
        EnrollmentNews::Renewed
    }

    pub(super) fn on_note(&mut self, node: &mut Node, now: Now, note: &[u8]) -> EnrollmentNews {
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

    pub(super) fn on_refused(
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
        if self.list_asked == Some(request) {
            self.list_asked = None;
            return EnrollmentNews::None;
        }
        if self.note.answered(request) {
            self.note
                .backoff
                .failed(now.mono, Failure::Refused, node.out.random());
            return EnrollmentNews::None;
        }
        if request == RequestNo::UNASKED && problem == Some(Problem::MemberRevoked) {
            return self.on_own_revocation(node, now);
        }
        if request == RequestNo::UNASKED {
            let here = node.clock.now(now);
            let skew = refusal
                .at
                .map_or(0, |there| here.since(there).max(there.since(here)));
            let (code, why) = if skew > CLOCK_SKEW_WARN.as_secs() {
                let problem = Problem::ClockSkew;
                (
                    problem.code(),
                    format!("{problem} by {skew} s; to mend it: {}", problem.mend()),
                )
            } else {
                let why = CloseReason::NotAuthorized;
                (
                    Code(refusal.code),
                    format!("the authority refuses this node: {why}"),
                )
            };
            self.uplink.refused(node, now, code, why);
            self.forget_requests();
        }
        EnrollmentNews::None
    }

    /// The ticket does not work, and trying again would not help.
    pub(super) fn refuse(
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
}

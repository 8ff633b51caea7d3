//! How an attempt or a session ends, and what becomes of that.

use crypto::check::Reason;

use super::{State, Uplink, UplinkNews};
use crate::error::{CloseReason, Code, Problem};
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::node::Node;
use crate::protocol::pool::Failure;
use crate::protocol::session::{Kind, SessionError};

impl Uplink {
    /// The peer broke the protocol, or a request was not answered: give the session up.
    pub fn break_off(&mut self, node: &mut Node, now: Now, error: &SessionError) -> UplinkNews {
        self.close(node, error.close_reason(), false);
        self.fail_session(node, now, error);
        UplinkNews::Down
    }

    /// The server said no to this node as such: give the session up and come back later.
    pub fn refused(&mut self, node: &mut Node, now: Now, code: Code, why: String) {
        self.close(node, CloseReason::NotAuthorized, true);
        self.fail(node, now, code, why, Failure::Refused);
    }

    /// The server wants nothing of this node any more, and said so: ends, and comes back as after a
    /// refusal. What there is to log is the owner's to say.
    pub fn leave(&mut self, node: &mut Node, now: Now, why: CloseReason) {
        self.close(node, why, true);
        let random = node.out.random();
        self.backoff.failed(now.mono, Failure::Refused, random);
    }

    /// Ends without trying again until [`begin`](Self::begin).
    pub fn close(&mut self, node: &mut Node, why: CloseReason, flush: bool) {
        match std::mem::replace(&mut self.state, State::Waiting) {
            State::Waiting | State::Resolving(_) => {}
            State::Dialing { link, .. } => node.out.close(link, false, why),
            State::Open(open) => node.out.close(open.link, flush, why),
        }
    }

    pub(super) fn fail_session(&mut self, node: &mut Node, now: Now, error: &SessionError) {
        let Some(problem) = self.problem(error) else {
            return self.fail(node, now, error.code(), error.to_string(), Failure::Lost);
        };
        let why = format!("{problem}: {error}");
        // A message that was altered once says nothing about the server; twice, it will be again.
        let denied = matches!(error, SessionError::Denied(_));
        let known = self.why.as_ref().map(|(code, _)| *code) == Some(problem.code());
        let failure = if denied || known {
            Failure::Refused
        } else {
            Failure::Lost
        };
        self.fail(node, now, problem.code(), why, failure);
    }

    /// What is behind a failed handshake, where that is known and trying again at once is no use.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only what has to do with clocks is special"
    )]
    fn problem(&self, error: &SessionError) -> Option<Problem> {
        let other_end = match self.kind {
            Kind::Authority => Problem::WrongProject,
            Kind::Relay => Problem::NotARelay,
        };
        match error {
            SessionError::Denied(denial) => Some(match denial.reason() {
                Reason::AttestationEarly(_)
                | Reason::AttestationExpired(_)
                | Reason::CredentialEarly(_) => Problem::ClockSkew,
                _ => other_end,
            }),
            SessionError::Noise(_) | SessionError::Evidence(_) => Some(other_end),
            SessionError::Malformed
            | SessionError::Suite
            | SessionError::Version(..)
            | SessionError::BadTag
            | SessionError::Violation
            | SessionError::Limit => None,
        }
    }

    pub(super) fn fail(
        &mut self,
        node: &mut Node,
        now: Now,
        code: Code,
        why: String,
        failure: Failure,
    ) {
        self.state = State::Waiting;
        let attempt = self.attempt.take().filter(|_| failure == Failure::Lost);
        if attempt.is_some() || failure == Failure::Refused {
            self.cursor = self.cursor.wrapping_add(1);
        }
        if attempt.is_some() && self.left > 0 {
            return;
        }
        self.left = 0;
        // What an attempt took is part of the wait for the next one. A session that was lost is
        // waited for anew: a thousand others have lost theirs at the same instant.
        let since = attempt.unwrap_or(now.mono);
        self.backoff.failed(since, failure, node.out.random());
        if self.failures == 0 {
            self.since = now.mono;
        }
        self.failures = self.failures.saturating_add(1);
        let changed = self.why.as_ref().is_none_or(|(before, _)| *before != code);
        let refused = failure == Failure::Refused && self.logged != Some(code);
        if self.logged.is_none() || refused {
            let who = self.who();
            let level = if self.quiet {
                Level::Debug
            } else {
                Level::Warn
            };
            let record = LogRecord::new(level, format!("{who} can't be reached")).code(code);
            node.out.log(record.with("why", &why));
            self.logged = Some(code);
        }
        if changed {
            node.out.status_changed();
        }
        self.why = Some((code, why));
    }

    pub(super) fn who(&self) -> &'static str {
        match self.kind {
            Kind::Authority => "the authority",
            Kind::Relay => "the relay",
        }
    }
}

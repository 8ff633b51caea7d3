//! What is said in an open session: requests, answers, pings.

use super::{State, Uplink, UplinkNews};
use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::limits::{SESSION_DEAD, SESSION_PING, SESSION_REQUESTS_MAX};
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::node::Node;
use crate::protocol::pool::Failure;
use crate::protocol::session::{Message, RequestNo, SessionError};
use crate::time::Instant;

impl Uplink {
    /// The server talks to this node: only now it is reached. A session that is refused as soon
    /// as it is open must not look like one that was lost, over and over.
    fn accepted(&mut self, node: &mut Node, now: Now) {
        let State::Open(open) = &mut self.state else {
            return;
        };
        if std::mem::replace(&mut open.accepted, true) {
            return;
        }
        let at = open.at;
        let level = if self.quiet {
            Level::Debug
        } else {
            Level::Info
        };
        let record = LogRecord::new(level, format!("{} reached", self.who()));
        node.out.log(record.with("address", at));
        node.out.status_changed();
        self.quiet = false;
        self.since = now.mono;
        self.failures = 0;
        self.why = None;
        self.logged = None;
    }

    pub(super) fn on_message(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        request: RequestNo,
        message: Message,
    ) -> UplinkNews {
        let State::Open(open) = &mut self.state else {
            return UplinkNews::None;
        };
        let expected = request == RequestNo::UNASKED || open.asked.remove(&request).is_some();
        if !expected {
            return self.break_off(node, now, &SessionError::Violation);
        }
        node.out.expect_frame(link);
        node.out
            .deadline(link, now.mono, SESSION_DEAD, CloseReason::SessionDead);
        let denied = request == RequestNo::UNASKED && matches!(message, Message::Refused(_));
        if !denied {
            self.accepted(node, now);
        }
        if matches!(message, Message::Pong) {
            UplinkNews::None
        } else {
            UplinkNews::Message(request, message)
        }
    }

    /// Sends a request; its number comes back with the answer. `None` without a session, or when
    /// too many answers are owed: the owner asks again when the session is up next.
    pub fn ask(&mut self, node: &mut Node, now: Now, message: Message) -> Option<RequestNo> {
        let State::Open(open) = &mut self.state else {
            return None;
        };
        if open.asked.len() >= SESSION_REQUESTS_MAX {
            return None;
        }
        let request = RequestNo(open.next_request);
        match open.sealed.seal(request, message) {
            Ok(frame) => {
                open.next_request += 1;
                open.asked.insert(request, now.mono);
                node.out.send_frame(open.link, frame);
                Some(request)
            }
            Err(error) => {
                self.break_off(node, now, &error);
                None
            }
        }
    }

    /// Pings, and gives a session up that owes an answer for too long.
    pub fn on_timer(&mut self, node: &mut Node, now: Now) -> UplinkNews {
        let State::Open(open) = &mut self.state else {
            return UplinkNews::None;
        };
        let overdue = |asked: &Instant| now.mono.since(*asked) >= SESSION_DEAD;
        if open.asked.values().any(overdue) {
            let why = CloseReason::SessionDead;
            self.close(node, why, false);
            self.fail(node, now, why.code(), why.to_string(), Failure::Lost);
            return UplinkNews::Down;
        }
        if now.mono >= open.next_ping {
            open.next_ping = now.mono + SESSION_PING;
            self.ask(node, now, Message::Ping);
        }
        UplinkNews::None
    }
}

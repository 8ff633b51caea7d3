//! What the relay says, and what that changes.

use crypto::leg::LegKey;
use crypto::names::RelayAddress;

use super::session::{Welcome, serial};
use super::{RelayLink, RelayNews};
use crate::error::{Code, Problem};
use crate::limits::{RELAY_SESSION_LIFE, RELAY_SESSION_LINGER};
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::node::Node;
use crate::protocol::pool::jitter;
use crate::protocol::session::{Message, RequestNo, SessionError};

impl RelayLink {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else comes is out of turn"
    )]
    pub(super) fn on_message(
        &mut self,
        node: &mut Node,
        now: Now,
        coming: bool,
        request: RequestNo,
        message: Message,
    ) -> RelayNews {
        let no_outlets = self.addresses.is_empty();
        let session = match &mut self.coming {
            Some(session) if coming => session,
            _ => &mut self.active,
        };
        match message {
            Message::Welcome {
                session: id,
                secret,
                leg_address,
            } if session.welcome.is_none() => {
                let Some(at) = session.uplink.open_at() else {
                    return RelayNews::None;
                };
                session.welcome = Some(Welcome {
                    session: id,
                    key: LegKey::from_secret(&secret),
                    to: leg_address.unwrap_or(at),
                    next_counter: 0,
                });
                if no_outlets {
                    session.served = Some(super::session::Served::default());
                    return self.on_usable(node, now, coming);
                }
                session.serve(node, now, &self.addresses);
                RelayNews::None
            }
            Message::Served { accepted, refused } if session.welcome.is_some() => {
                let first = session.served.is_none();
                let served = session
                    .served
                    .insert(super::session::Served { accepted, refused });
                let refused = served.refused.clone();
                self.log_refused(node, &refused);
                if first {
                    self.on_usable(node, now, coming)
                } else {
                    RelayNews::Served
                }
            }
            Message::ParkLow { address, want } if !coming => RelayNews::ParkLow(address, want),
            Message::NowServed { .. } => RelayNews::NowServed,
            Message::ParkLow { .. } => RelayNews::None,
            Message::GoingAway => {
                let what = "the relay is going away";
                node.out.log(LogRecord::new(Level::Info, what));
                session.leaving = true;
                RelayNews::GoingAway
            }
            Message::Refused(refusal) if request == RequestNo::UNASKED => {
                let problem = Problem::RelayDenied;
                let why = format!("{problem} (code {})", Code(refusal.code));
                session.uplink.refused(node, now, problem.code(), why);
                if serial(node) != session.shown {
                    // What was refused is not what this node would show now.
                    session.uplink.wake();
                }
                self.on_down(node, coming)
            }
            _ => {
                session
                    .uplink
                    .break_off(node, now, &SessionError::Violation);
                self.on_down(node, coming)
            }
        }
    }

    fn on_usable(&mut self, node: &mut Node, now: Now, coming: bool) -> RelayNews {
        if coming && let Some(session) = self.coming.take() {
            let mut old = std::mem::replace(&mut self.active, session);
            if let Some(link) = old.uplink.release() {
                self.old.push((link, now.mono + RELAY_SESSION_LINGER));
            }
        }
        self.remake = now.mono + jitter(RELAY_SESSION_LIFE, node.out.random());
        node.out.status_changed();
        RelayNews::Ready
    }

    /// Says once which addresses this node may not serve.
    fn log_refused(&mut self, node: &mut Node, refused: &[RelayAddress]) {
        for address in refused {
            if !self.refused_logged.contains(address) && self.addresses.contains(address) {
                let problem = Problem::MayNotServe;
                let record = LogRecord::new(Level::Error, problem.to_string())
                    .code(problem.code())
                    .with("address", address)
                    .with("mend", problem.mend());
                node.deny(record);
            }
        }
        self.refused_logged = refused.to_vec();
    }
}

//! The fresh key exchanges of a lane, as control does them: when one begins, the whole check of the
//! peer in its middle, and the secret for the worker, which has the chains.
//!
//! The inlet begins one before the lane was in use for `key_exchange_every` without. A peer that is
//! not accepted, or another one, costs the lane; so does an exchange that does not end in time: a
//! lane whose keys can't be made anew is not used on.
//!
//! A peer may change its key while its message of an exchange is under way, and this end hear of it
//! first on another lane. So what counts for a pinned peer is what was held of it when the exchange
//! began: an exchange that begins later has to show the new key.

use crypto::attestation::Purpose;
use crypto::check::{Direction, Evidence, Histories, NoHistories, VerifiedMember};
use crypto::identity::HistoryMark;
use crypto::statics::StaticPublic;

use super::peer::{Judge, Lane, NotAccepted};
use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::limits::KEY_EXCHANGE_TIMEOUT;
use crate::protocol::command::{Command, LaneCommand};
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::node::{Node, denial_record};
use crate::protocol::pool::jitter;
use crate::protocol::session::SessionError;
use crate::protocol::shake::{Binding, Exchanged, InletExchange, OutletExchange};
use crate::time::Instant;

/// How far the one that is under way is.
enum Stage {
    /// None is. An inlet begins the next one then.
    Quiet(Instant),
    /// Inlet: message 2 is due by then.
    Asked(Box<InletExchange>, Instant),
    /// Outlet: message 3 is due.
    Answered(Box<OutletExchange>),
    /// The worker has the secret; both directions must have gone over by then.
    Mixing(Instant),
}

/// See the module.
pub struct Exchanges {
    binding: Binding,
    /// Whether the peer knows them.
    known: bool,
    /// The one that is under way, or was last.
    number: u32,
    /// No other history of the peer was held, when it began, than the one it had shown on this lane.
    began_current: bool,
    stage: Stage,
}

impl Exchanges {
    /// Of a lane whose handshake is done. An inlet [plans](Lane::plan_exchange) the first.
    pub fn new(binding: Binding, known: bool) -> Exchanges {
        Exchanges {
            binding,
            known,
            number: 0,
            began_current: false,
            stage: Stage::Quiet(Instant::FAR_FUTURE),
        }
    }

    /// When [`Lane::on_exchange_timer`] has something to do.
    pub fn next_timer(&self) -> Instant {
        match self.stage {
            Stage::Quiet(at) | Stage::Asked(_, at) | Stage::Mixing(at) => at,
            Stage::Answered(_) => Instant::FAR_FUTURE,
        }
    }
}

/// Whether an exchange that begins now may still end with the history that the peer has `shown` on this
/// lane: not if another is `held` of it.
fn is_current(shown: HistoryMark, held: Option<HistoryMark>) -> bool {
    held.is_none_or(|held| held == shown)
}

impl Lane {
    /// Inlet: the keys are new now. The next ones come before they are `every` old.
    pub fn plan_exchange(&mut self, node: &mut Node, now: Now) {
        if self.exchanges.known {
            let every = node.key_exchange_every;
            let wait = every / 2 + jitter(every / 2, node.out.random());
            self.exchanges.stage = Stage::Quiet(now.mono + wait);
        }
    }

    /// Inlet: begins the exchange that is due, or ends the lane of one that is overdue.
    pub fn on_exchange_timer(&mut self, node: &mut Node, now: Now, link: LinkId) {
        if self.exchanges.next_timer() > now.mono {
            return;
        }
        if !matches!(self.exchanges.stage, Stage::Quiet(_)) {
            self.exchanges.stage = Stage::Quiet(Instant::FAR_FUTURE);
            let why = CloseReason::ShakeTimeout;
            let record = LogRecord::new(Level::Warn, "a lane was cut: its keys were not made anew")
                .code(why.code())
                .with("why", why)
                .with("peer", self.peer)
                .with("peer_name", &self.name);
            node.out.log(record);
            let what = LaneCommand::Cut(why);
            return node.out.command(Command::Lane { link, what });
        }
        let pair = node.keyring.pair(Purpose::Circuit);
        let begun = InletExchange::start(&self.exchanges.binding, pair, node.out.random());
        match (begun, self.exchanges.number.checked_add(1)) {
            (Ok((exchange, message)), Some(number)) => {
                self.exchanges.number = number;
                let pinned = node.membership.as_ref().map(|it| &it.pinned);
                let held = pinned.and_then(|it| it.held(&self.peer));
                self.exchanges.began_current = is_current(self.shown, held);
                let until = now.mono + KEY_EXCHANGE_TIMEOUT;
                self.exchanges.stage = Stage::Asked(Box::new(exchange), until);
                let what = LaneCommand::Exchange { number, message };
                node.out.command(Command::Lane { link, what });
            }
            (Err(_), _) | (_, None) => self.plan_exchange(node, now),
        }
    }

    /// A message of an exchange came, in turn.
    ///
    /// # Errors
    /// [`NotAccepted`]: it has cut the lane.
    pub fn on_exchange(
        &mut self,
        node: &mut Node,
        now: Now,
        (link, number): (LinkId, u32),
        judge: &Judge<'_>,
        message: &[u8],
    ) -> Result<(), NotAccepted> {
        let Some(evidence) = node.circuit_evidence(now) else {
            return Ok(());
        };
        let Err(error) = self.exchange(node, now, (link, number), judge, (&evidence, message))
        else {
            return Ok(());
        };
        let what = "a lane was cut: a fresh key exchange failed";
        let record = match &error {
            SessionError::Denied(denial) => denial_record(what, denial),
            SessionError::Malformed
            | SessionError::Suite
            | SessionError::Version(..)
            | SessionError::Noise(_)
            | SessionError::Evidence(_)
            | SessionError::BadTag
            | SessionError::Violation
            | SessionError::Limit => LogRecord::new(Level::Warn, what)
                .code(error.code())
                .with("why", &error),
        };
        node.deny(
            record
                .with("address", judge.address)
                .with("peer", self.peer)
                .with("peer_name", &self.name),
        );
        let why = error.close_reason();
        let what = LaneCommand::Cut(why);
        node.out.command(Command::Lane { link, what });
        let (code, words) = (error.code(), error.to_string());
        Err(NotAccepted { why, code, words })
    }

    fn exchange(
        &mut self,
        node: &mut Node,
        now: Now,
        (link, number): (LinkId, u32),
        judge: &Judge<'_>,
        (evidence, message): (&Evidence, &[u8]),
    ) -> Result<(), SessionError> {
        let stage = std::mem::replace(&mut self.exchanges.stage, Stage::Quiet(Instant::FAR_FUTURE));
        let Some(membership) = &node.membership else {
            return Ok(());
        };
        let time = node.clock.now(now);
        let revocation = node.revocations.as_of(now.mono);
        let known = self.exchanges.began_current.then_some(self.shown);
        let check = |shown: &Evidence, key: &StaticPublic| {
            // A mark is that of one history only, and this one was verified before.
            let histories: &dyn Histories = if known == Some(shown.identity.mark()) {
                &NoHistories
            } else {
                &membership.pinned
            };
            judge.check_against(histories, membership, time, &revocation, shown, key)
        };
        let peer = self.peer;
        let (exchanged, message_3) = match stage {
            Stage::Asked(exchange, _) => {
                let (exchanged, message_3) =
                    exchange.on_message_2((&peer, evidence), message, check)?;
                (exchanged, Some(message_3))
            }
            Stage::Answered(exchange) => (exchange.on_message_3(&peer, message, check)?, None),
            Stage::Quiet(_) | Stage::Mixing(_) if judge.direction == Direction::Connect => {
                let pair = node.keyring.pair(Purpose::Circuit);
                let (exchange, message) = OutletExchange::on_message_1(
                    &self.exchanges.binding,
                    (pair, evidence),
                    message,
                    node.out.random(),
                )?;
                self.exchanges.number = number;
                let held = membership.pinned.held(&self.peer);
                self.exchanges.began_current = is_current(self.shown, held);
                self.exchanges.stage = Stage::Answered(Box::new(exchange));
                let what = LaneCommand::Exchange { number, message };
                node.out.command(Command::Lane { link, what });
                return Ok(());
            }
            // The worker lets nothing through that nobody asked for.
            Stage::Quiet(_) | Stage::Mixing(_) => return Err(SessionError::Violation),
        };
        let Exchanged { peer, mix, binding } = exchanged;
        self.exchanges.binding = binding;
        let until = match message_3 {
            Some(_) => now.mono + KEY_EXCHANGE_TIMEOUT,
            None => Instant::FAR_FUTURE,
        };
        self.exchanges.stage = Stage::Mixing(until);
        self.shows(node, now, link, judge, &peer);
        let what = LaneCommand::Mix {
            number,
            secret: mix,
            message: message_3,
        };
        node.out.command(Command::Lane { link, what });
        Ok(())
    }

    /// What the peer has shown of itself now counts.
    fn shows(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        judge: &Judge<'_>,
        peer: &VerifiedMember,
    ) {
        if let Some((serial, not_after)) = self.renewed(node, now, judge, peer) {
            let what = LaneCommand::Extend { serial, not_after };
            node.out.command(Command::Lane { link, what });
        }
    }

    /// Both directions have gone over to the new keys.
    pub fn on_mixed(&mut self, node: &mut Node, now: Now, direction: Direction) {
        match direction {
            Direction::Serve => self.plan_exchange(node, now),
            Direction::Connect => self.exchanges.stage = Stage::Quiet(Instant::FAR_FUTURE),
        }
        let record = LogRecord::new(Level::Debug, "the keys of a lane were made anew")
            .with("peer", self.peer)
            .with("bundle", format_args!("{:?}", self.bundle))
            .with("exchange", self.exchanges.number);
        node.out.log(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_that_begins_after_the_peer_changed_its_key_has_to_show_the_new_one() {
        let mark = |len: u16, head| HistoryMark {
            head: [head; 32],
            len,
        };
        let (old, new) = (mark(1, 1), mark(2, 2));
        assert!(is_current(old, None), "not pinned");
        assert!(is_current(old, Some(old)));
        assert!(!is_current(old, Some(new)));
        assert!(!is_current(old, Some(mark(1, 9))), "a fork");
    }
}

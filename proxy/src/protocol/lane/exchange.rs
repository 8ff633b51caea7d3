//! The fresh key exchange of a lane, as the end that carries it sees it: which record is in turn,
//! and when a direction goes over to the mixed key.
//!
//! Control makes and reads the Noise messages; the lane's owner has the chains and the secret that
//! control gives it. This module has only the order:
//!
//! ```text
//! inlet                                              outlet
//! Quiet                                              Quiet
//!   exchange(n, m1) → KEY_EXCHANGE n ──▸ to control → Asked
//! Asked                      ◂── KEY_EXCHANGE n ← exchange(n, m2)
//!   to control → Checking                            Answered
//!   mix(n, m3)  → KEY_EXCHANGE n ──▸ to control → Checking
//! Held                         ◂── KEY_READY n ← mix(n)
//!   → Mixing                ◂── KEY_UPDATE{n} ←    Mixing
//!   → KEY_UPDATE{n} ──▸
//! Quiet, when both KEY_UPDATEs have passed           Quiet
//! ```
//!
//! # Why nobody waits
//! The inlet's owner holds the secret before message 3 leaves, the outlet's before KEY_READY leaves.
//! The outlet goes over behind KEY_READY, the inlet behind having read it. So a receiver always has
//! the secret that a KEY_UPDATE names; one that names another is a violation.

use super::{Lane, Phase, Reaction, Violation};
use crate::limits::{KEY_EXCHANGE_BURST, KEY_EXCHANGE_REST};
use crate::protocol::command::Role;
use crate::protocol::record::{Body, Kind};
use crate::time::Instant;

use super::control::Allowance;

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// None is under way.
    #[default]
    Quiet,
    /// Message 1 was given out (inlet) or has come (outlet).
    Asked,
    /// Outlet: message 2 was given out.
    Answered,
    /// Control has the message that decides: 2 at an inlet, 3 at an outlet.
    Checking,
    /// Inlet: the secret is here, and KEY_READY has not come.
    Held,
    /// Both ends have the secret. Which directions have gone over.
    Mixing { ours: bool, theirs: bool },
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The exchange that is under way, or was last.
    number: u32,
    step: Step,
    /// The message that leaves next.
    message: Option<Vec<u8>>,
    /// Outlet: KEY_READY is queued.
    ready: bool,
    /// Outlet: message 1, while it has to wait.
    asked: Option<Vec<u8>>,
    /// Outlet: how many of them control was given.
    allowance: Allowance,
}

impl Exchange {
    /// The record that leaves next.
    pub(super) fn first(&self) -> Option<Body<'_>> {
        if let Some(message) = &self.message {
            Some(Body::KeyExchange(self.number, message))
        } else {
            self.ready.then_some(Body::KeyReady(self.number))
        }
    }

    /// What [`Exchange::first`] gave has left.
    pub(super) fn left(&mut self, kind: Kind) {
        if kind == Kind::KeyExchange {
            self.message = None;
        } else {
            self.ready = false;
        }
    }

    /// Message 1, now or once its time has come: each costs control a handshake, so they pass at a
    /// bounded rate.
    fn due(&mut self, now: Instant) -> Option<Reaction> {
        self.asked.as_ref()?;
        let passes = self
            .allowance
            .take(now, KEY_EXCHANGE_BURST, KEY_EXCHANGE_REST);
        let message = self.asked.take_if(|_| passes)?;
        let number = self.number;
        Some(Reaction::Exchange { number, message })
    }

    /// When a message that waits is due.
    pub(super) fn due_at(&self) -> Instant {
        match self.asked {
            Some(_) => self.allowance.next(KEY_EXCHANGE_REST),
            None => Instant::FAR_FUTURE,
        }
    }

    #[cfg(test)]
    pub(super) fn is_quiet(&self) -> bool {
        self.step == Step::Quiet
    }

    #[cfg(test)]
    pub(super) fn is_asked(&self) -> bool {
        self.step == Step::Asked
    }

    #[cfg(test)]
    pub(super) fn next_number(&self) -> u32 {
        self.number + 1
    }

    /// Whether a message of the peer is in turn.
    #[cfg(test)]
    pub(super) fn takes_message(&self, role: Role) -> bool {
        match role {
            Role::Inlet => self.step == Step::Asked,
            Role::Outlet => matches!(self.step, Step::Quiet | Step::Answered),
        }
    }

    /// What must hold whenever nothing is being done.
    pub(super) fn check(&self, role: Role) {
        let fits = match (role, self.step) {
            (_, Step::Quiet) => self.message.is_none() && !self.ready,
            (Role::Inlet, Step::Asked | Step::Checking | Step::Held) => !self.ready,
            (Role::Inlet, Step::Mixing { .. }) => self.message.is_none() && !self.ready,
            (Role::Outlet, Step::Asked | Step::Checking) => self.message.is_none() && !self.ready,
            (Role::Outlet, Step::Answered) => !self.ready,
            (Role::Outlet, Step::Mixing { ours, theirs }) => !self.ready || !(ours || theirs),
            (Role::Inlet, Step::Answered) | (Role::Outlet, Step::Held) => false,
        };
        assert!(fits, "a key exchange of an {role:?}: {self:?}");
        assert!(self.asked.is_none() || self.step == Step::Asked);
    }
}

impl Lane {
    /// A message that control has made: message 1 at an inlet, message 2 at an outlet. Queued, unless
    /// the lane is past it.
    pub fn exchange(&mut self, number: u32, message: Vec<u8>) {
        if self.phase == Phase::Gone {
            return;
        }
        let exchange = &mut self.exchange;
        let next = match (self.role, exchange.step) {
            (Role::Inlet, Step::Quiet) if exchange.number.checked_add(1) == Some(number) => {
                Step::Asked
            }
            (Role::Outlet, Step::Asked) if exchange.number == number => Step::Answered,
            (Role::Inlet | Role::Outlet, _) => {
                debug_assert!(false, "control exchanges keys out of turn: {exchange:?}");
                return;
            }
        };
        exchange.number = number;
        exchange.step = next;
        exchange.message = Some(message);
    }

    /// The owner holds the secret of that exchange: message 3 is queued at an inlet, KEY_READY at an
    /// outlet. Whether the secret is wanted.
    pub fn mix(&mut self, number: u32, message: Option<Vec<u8>>) -> bool {
        if self.phase == Phase::Gone {
            return false;
        }
        let exchange = &mut self.exchange;
        let in_turn = (exchange.step, exchange.number) == (Step::Checking, number);
        debug_assert!(in_turn, "control mixes out of turn: {exchange:?}");
        if !in_turn {
            return false;
        }
        exchange.message = message;
        (exchange.step, exchange.ready) = match self.role {
            Role::Inlet => (Step::Held, false),
            Role::Outlet => {
                let (ours, theirs) = (false, false);
                (Step::Mixing { ours, theirs }, true)
            }
        };
        true
    }

    /// The exchange whose secret our direction should mix in now: the next record is KEY_UPDATE with
    /// its number.
    pub fn mix_due(&self) -> Option<u32> {
        let exchange = &self.exchange;
        let queued = exchange.message.is_some() || exchange.ready;
        let due = match exchange.step {
            Step::Mixing { ours, .. } => !ours && !queued,
            #[cfg(feature = "planted")]
            Step::Held => !queued && crypto::planted::is(crypto::planted::Bug::EarlyMix),
            #[cfg(not(feature = "planted"))]
            Step::Held => false,
            Step::Quiet | Step::Asked | Step::Answered | Step::Checking => false,
        };
        due.then_some(exchange.number)
    }

    /// The KEY_UPDATE that [`Lane::mix_due`] asked for was sealed.
    pub fn on_mixed(&mut self) {
        match self.exchange.step {
            Step::Mixing { theirs, .. } => self.mixes(true, theirs),
            Step::Quiet | Step::Asked | Step::Answered | Step::Checking | Step::Held => {}
        }
    }

    fn mixes(&mut self, ours: bool, theirs: bool) {
        if ours && theirs {
            self.exchange.step = Step::Quiet;
            let number = self.exchange.number;
            self.reactions.push_back(Reaction::Mixed { number });
        } else {
            self.exchange.step = Step::Mixing { ours, theirs };
        }
    }

    /// KEY_EXCHANGE was read.
    pub(super) fn exchange_read(
        &mut self,
        now: Instant,
        number: u32,
        message: &[u8],
    ) -> Result<(), Violation> {
        let exchange = &mut self.exchange;
        let same = exchange.number == number;
        match (self.role, exchange.step) {
            (Role::Outlet, Step::Quiet) if exchange.number.checked_add(1) == Some(number) => {
                exchange.number = number;
                exchange.step = Step::Asked;
                exchange.asked = Some(message.to_vec());
                let due = exchange.due(now);
                self.reactions.extend(due);
                Ok(())
            }
            (Role::Inlet, Step::Asked) | (Role::Outlet, Step::Answered)
                if same && exchange.message.is_none() =>
            {
                exchange.step = Step::Checking;
                let message = message.to_vec();
                self.reactions
                    .push_back(Reaction::Exchange { number, message });
                Ok(())
            }
            (Role::Inlet | Role::Outlet, _) => Err(Violation::Untimely(Kind::KeyExchange)),
        }
    }

    /// KEY_READY was read, by an inlet.
    pub(super) fn exchange_ready(&mut self, number: u32) -> Result<(), Violation> {
        let exchange = &mut self.exchange;
        let held = (exchange.step, exchange.number) == (Step::Held, number);
        if !held || exchange.message.is_some() {
            return Err(Violation::Untimely(Kind::KeyReady));
        }
        let (ours, theirs) = (false, false);
        exchange.step = Step::Mixing { ours, theirs };
        Ok(())
    }

    /// KEY_UPDATE with a number was read: what follows is sealed under the mixed key.
    pub(super) fn mix_read(&mut self, number: u32) -> Result<(), Violation> {
        match self.exchange.step {
            Step::Mixing {
                ours,
                theirs: false,
            } if self.exchange.number == number && !self.exchange.ready => {
                let mix = Some(number);
                self.reactions.push_back(Reaction::KeyUpdate { mix });
                self.mixes(ours, true);
                Ok(())
            }
            Step::Quiet
            | Step::Asked
            | Step::Answered
            | Step::Checking
            | Step::Held
            | Step::Mixing { .. } => Err(Violation::Untimely(Kind::KeyUpdate)),
        }
    }

    /// Gives out a message 1 that has waited long enough.
    pub(super) fn exchange_due(&mut self, now: Instant) {
        let due = self.exchange.due(now);
        self.reactions.extend(due);
    }
}

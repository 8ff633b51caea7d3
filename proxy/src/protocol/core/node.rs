//! What all parts of a node share: its outbox, keys, clock and membership.

use std::collections::BTreeSet;

use crypto::attestation::Purpose;
use crypto::check::{Denial, Evidence, Grant, Reason};
use crypto::identity::IdentitySecret;
use crypto::names::RelayAddress;
use crypto::suite::SuiteMask;
use crypto::{Id, Random};

use super::clock::AuthorityClock;
use super::io::{Level, LogRecord, Now, StateFile};
use super::membership::Membership;
use super::outbox::Outbox;
use super::revocations::Revocations;
use super::tally::Tally;
use crate::error::Code;
use crate::limits::KEY_EXCHANGE_EVERY;
use crate::protocol::keyring::Keyring;
use crate::time::Duration;

/// See the module.
pub struct Node {
    /// What should be done.
    pub out: Outbox,
    /// Its keys.
    pub keyring: Keyring,
    /// Authority time.
    pub clock: AuthorityClock,
    /// Its membership, while it has one.
    pub membership: Option<Membership>,
    /// Who is revoked, as far as it knows.
    pub revocations: Revocations,
    /// Within what time keys are made anew.
    pub key_exchange_every: Duration,
    /// The last denial, given or received.
    pub last_denial: Option<LogRecord>,
    /// What it counts.
    pub tally: Tally,
    /// Peers that were seen since the start, so that a new one is logged. Bounded; beyond the
    /// bound each counts as new.
    pub seen: BTreeSet<Id>,
    /// Peers and rules in audit mode that were logged, so that each pair is logged once a policy.
    /// Bounded; beyond the bound none is logged.
    pub audited: BTreeSet<(Id, String)>,
    /// Members that an outlet's policy has just denied, and where: for the relay.
    pub denied: Vec<(RelayAddress, Id)>,
}

impl Node {
    /// A node with fresh static keys.
    pub fn new(
        identity: IdentitySecret,
        membership: Option<Membership>,
        mut random: Box<dyn Random + Send>,
    ) -> Node {
        let keyring = Keyring::new(identity, &mut *random);
        Node {
            out: Outbox::new(random),
            keyring,
            clock: AuthorityClock::default(),
            membership,
            revocations: Revocations::default(),
            key_exchange_every: KEY_EXCHANGE_EVERY,
            last_denial: None,
            tally: Tally::default(),
            seen: BTreeSet::new(),
            audited: BTreeSet::new(),
            denied: Vec::new(),
        }
    }

    /// What it shows to the other end of a circuit; `None` without a membership.
    pub fn circuit_evidence(&mut self, now: Now) -> Option<Evidence> {
        let membership = self.membership.as_ref()?;
        let grant = Grant::Credential(Box::new(membership.credential.clone()));
        let project = membership.project();
        let time = self.clock.now(now);
        Some(
            self.keyring
                .evidence(&project, Purpose::Circuit, time, grant),
        )
    }

    /// What it offers on circuits: what it can and the project allows.
    pub fn suites(&self, local: SuiteMask) -> SuiteMask {
        let allowed = self
            .membership
            .as_ref()
            .map(|membership| membership.note.body().suites);
        allowed.map_or(SuiteMask::NONE, |allowed| local.and(allowed))
    }

    /// Writes the membership's file.
    pub fn persist(&mut self) {
        if let Some(membership) = &self.membership {
            let bytes = membership.encode();
            self.out.persist(StateFile::Membership, bytes);
        }
    }

    /// Writes the newest word on revocations, when that is due.
    pub fn persist_revocations(&mut self, now: Now) {
        if let Some(bytes) = self.revocations.take_for_disk(now.mono) {
            self.out.persist(StateFile::Revocations, bytes);
        }
    }

    /// Logs a denial and keeps it for `status`.
    pub fn deny(&mut self, record: LogRecord) {
        if let Some(why) = record.code {
            self.tally.on_denial(why);
        }
        self.last_denial = Some(record.clone());
        self.out.log(record);
        self.out.status_changed();
    }
}

/// The record of a denial by this end's check.
pub fn denial_record(what: &str, denial: &Denial) -> LogRecord {
    let record = LogRecord::new(Level::Warn, what)
        .code(Code(denial.code()))
        .with("step", denial.step().letter())
        .with("why", denial.reason());
    if let Reason::Policy(denial) = denial.reason() {
        record.with("rule", &denial.rule)
    } else {
        record
    }
}

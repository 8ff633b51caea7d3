//! The relay of a server, and how it comes to its pass.

use std::sync::Arc;

use crypto::check::TrustedAuthority;
use crypto::credential::{Connect, Pass, Roles};
use crypto::names::{Attributes, Name};

use crate::error::Problem;
use crate::limits::{RELAY_PASS_RETRY, REVOCATION_MAX_AGE};
use crate::protocol::core::authority::AuthorityCore;
use crate::protocol::core::clock::AuthorityClock;
use crate::protocol::core::config::RelayConfig;
use crate::protocol::core::enrollment::Enrollment;
use crate::protocol::core::io::{Level, LogRecord, Now, StoreNo};
use crate::protocol::core::node::Node;
use crate::protocol::core::outbox::{Outbox, SharedRandom};
use crate::protocol::core::relay::{RelayCore, RelayGrant};
use crate::protocol::core::revocations::Revocations;
use crate::protocol::keyring::Keyring;
use crate::protocol::pool::jitter;
use crate::protocol::store::{Admit, Grants, Issue, StoreError, StoreReply, StoreRequest};
use crate::time::{Duration, Instant};

/// How the relay of this process comes to its pass.
pub enum Source {
    /// The authority is here: the relay is admitted without a ticket, again and again.
    Local(Box<LocalRelay>),
    /// The authority is elsewhere: it enrolls like any node.
    Remote(Box<Node>, Box<Enrollment>),
}

/// A relay next to its authority.
pub struct LocalRelay {
    keyring: Keyring,
    name: Name,
    /// Life of its passes.
    life: Duration,
    asked: Option<StoreNo>,
    due: Instant,
    /// That the store fails was logged.
    failing: bool,
}

/// See the module.
pub struct RelayHost {
    /// Its sessions.
    pub core: RelayCore,
    /// How it comes to its pass.
    pub source: Source,
    /// Its pass, once it has one.
    pub grant: Option<RelayGrant>,
}

impl LocalRelay {
    fn next_timer(&self) -> Instant {
        match self.asked {
            Some(_) => Instant::FAR_FUTURE,
            None => self.due,
        }
    }

    fn admit(&self, now: Now) -> Admit {
        Admit {
            id: self.keyring.id(),
            identity: self.keyring.identity().identity().encode(),
            name: self.name.clone(),
            grants: Grants {
                attributes: Attributes::new(),
                roles: Roles::RELAY,
                may_serve: Vec::new(),
                may_connect: Connect::Only(Vec::new()),
            },
            now: now.wall(),
            life: self.life,
        }
    }
}

impl Source {
    /// Authority time as the relay knows it; next to the authority, its own clock.
    pub fn clock(&self) -> AuthorityClock {
        match self {
            Source::Local(_) => AuthorityClock::default(),
            Source::Remote(node, _) => node.clock,
        }
    }

    /// The relay's keys.
    pub fn keyring(&mut self) -> &mut Keyring {
        match self {
            Source::Local(local) => &mut local.keyring,
            Source::Remote(node, _) => &mut node.keyring,
        }
    }
}

impl RelayHost {
    /// A relay without a pass; `local`: its authority is in this process, and issues passes of
    /// that life.
    pub fn new(
        config: RelayConfig,
        local: Option<Duration>,
        mut random: SharedRandom,
        now: Now,
    ) -> RelayHost {
        let RelayConfig {
            identity,
            name,
            leg_address,
            membership,
            revocations,
            ticket,
        } = config;
        let source = if let Some(life) = local {
            Source::Local(Box::new(LocalRelay {
                keyring: Keyring::new(identity, &mut random),
                name,
                life,
                asked: None,
                due: now.mono,
                failing: false,
            }))
        } else {
            let mut node = Box::new(Node::new(identity, membership, Box::new(random)));
            node.revocations = Revocations::new(REVOCATION_MAX_AGE, now.mono);
            if let Some(held) = revocations {
                node.revocations.restore(held, &node.clock, now);
            }
            let enrollment = Enrollment::new(&mut node, now, ticket, Some(name));
            Source::Remote(node, Box::new(enrollment))
        };
        let mut host = RelayHost {
            core: RelayCore::new(leg_address),
            source,
            grant: None,
        };
        host.take_membership();
        if let Source::Remote(node, _) = &host.source {
            host.core
                .know_revocations(Arc::clone(node.revocations.revoked()));
        }
        host
    }

    /// Takes pass and authority of what the node has become.
    pub fn take_membership(&mut self) {
        if let Source::Remote(node, _) = &self.source {
            self.grant = node.membership.as_ref().map(|membership| RelayGrant {
                authority: membership.authority.clone(),
                pass: membership.pass.clone(),
            });
        }
    }

    /// Asks the store for the local relay's pass when that is due; returns the request's number.
    pub fn ask_pass(&mut self, out: &mut Outbox, now: Now) -> Option<StoreNo> {
        let Source::Local(local) = &mut self.source else {
            return None;
        };
        if local.next_timer() > now.mono {
            return None;
        }
        let no = out.store(StoreRequest::Admit(Box::new(local.admit(now))));
        local.asked = Some(no);
        Some(no)
    }

    /// The local relay's pass is due now: it was issued by another time.
    pub fn renew_pass(&mut self, now: Now) {
        if let Source::Local(local) = &mut self.source {
            local.due = now.mono;
        }
    }

    /// The store's answer to [`ask_pass`](Self::ask_pass).
    pub fn on_pass(
        &mut self,
        out: &mut Outbox,
        now: Now,
        authority: &AuthorityCore,
        answer: Result<StoreReply, StoreError>,
    ) {
        let Source::Local(local) = &mut self.source else {
            return;
        };
        local.asked = None;
        let pass = match answer {
            Ok(StoreReply::Admitted(issue)) => sign(authority, &local.keyring, &issue),
            Ok(_) => Err("the store answers out of turn".into()),
            Err(error) => Err(error.to_string()),
        };
        match pass {
            Ok(pass) => {
                let later = local.life / 2 + jitter(local.life / 6, out.random());
                local.due = now.mono + later;
                local.failing = false;
                let identity = authority.identity().identity().clone();
                let authority = TrustedAuthority::new(identity, crypto::UnixTime(0));
                if self.grant.is_none() {
                    let id = local.keyring.id();
                    out.log(LogRecord::new(Level::Info, "relay").with("id", id));
                    out.status_changed();
                }
                self.grant = Some(RelayGrant { authority, pass });
            }
            Err(why) => {
                local.due = now.mono + jitter(RELAY_PASS_RETRY, out.random());
                if !std::mem::replace(&mut local.failing, true) {
                    let what = "the relay's own pass could not be issued";
                    let code = Problem::StoreUnavailable.code();
                    out.log(
                        LogRecord::new(Level::Error, what)
                            .code(code)
                            .with("why", why),
                    );
                }
            }
        }
    }

    /// When something is due.
    pub fn next_timer(&self) -> Instant {
        let source = match &self.source {
            Source::Local(local) => local.next_timer(),
            Source::Remote(node, enrollment) => {
                let look = node
                    .membership
                    .as_ref()
                    .map(|_| node.revocations.next_timer());
                look.map_or(Instant::FAR_FUTURE, |at| at)
                    .min(enrollment.next_timer())
            }
        };
        source.min(self.core.next_timer())
    }
}

fn sign(authority: &AuthorityCore, keyring: &Keyring, issue: &Issue) -> Result<Pass, String> {
    let signed = authority.sign(keyring.identity().identity(), issue);
    signed
        .map(|(_, pass)| pass)
        .map_err(|refusal| refusal.detail)
}

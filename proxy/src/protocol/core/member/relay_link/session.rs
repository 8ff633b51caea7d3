//! One session with the relay, being made or usable, and how the relay is judged.

use std::net::SocketAddr;
use std::sync::Arc;

use crypto::UnixTime;
use crypto::check::{
    Denial, Evidence, Grant, PassQuestion, SessionPart, TrustedAuthority, VerifiedMember,
    verify_pass,
};
use crypto::leg::LegKey;
use crypto::names::{HostPort, RelayAddress};
use crypto::statics::StaticPublic;

use crate::ids::SessionId;
use crate::protocol::core::io::Now;
use crate::protocol::core::membership::Pinned;
use crate::protocol::core::node::Node;
use crate::protocol::core::revocations::RevokedMembers;
use crate::protocol::core::uplink::{Target, Uplink};
use crate::protocol::session::{Kind, Message};
use crate::time::Instant;

/// One session, being made or usable.
pub(super) struct Session {
    pub uplink: Uplink,
    pub welcome: Option<Welcome>,
    /// The addresses that the relay was asked to let this node serve, last.
    pub asked: Vec<RelayAddress>,
    /// The relay's answer; a node without outlets needs none.
    pub served: Option<Served>,
    /// Serial of the pass that the relay was shown in the handshake.
    pub shown: Option<u64>,
    /// How often this node's identity had changed its key then.
    pub changes: Option<u16>,
    /// The relay has said that it goes away: legs would come too late.
    pub leaving: bool,
    /// The relay that passed the check, and the serial of its pass.
    pub with: Option<(crypto::Id, u64)>,
}

/// Which addresses a relay lets this node serve.
#[derive(Default)]
pub(super) struct Served {
    pub accepted: Vec<RelayAddress>,
    pub refused: Vec<RelayAddress>,
}

pub(super) struct Welcome {
    pub session: SessionId,
    pub key: LegKey,
    pub to: SocketAddr,
    pub next_counter: u64,
}

impl Session {
    /// Not begun.
    pub fn new(now: Instant) -> Session {
        Session {
            uplink: Uplink::new(Kind::Relay, now),
            welcome: None,
            asked: Vec::new(),
            served: None,
            shown: None,
            changes: None,
            leaving: false,
            with: None,
        }
    }

    /// One that takes over from another that still works.
    pub fn replacement(now: Instant) -> Session {
        Session {
            uplink: Uplink::replacement(Kind::Relay, now),
            ..Session::new(now)
        }
    }

    /// Asks the relay to let this node serve these. If too many answers are owed, it goes unasked: it is
    /// asked when one has come.
    pub fn serve(&mut self, node: &mut Node, now: Now, addresses: &[RelayAddress]) {
        let message = Message::Serve {
            addresses: addresses.to_vec(),
        };
        if self.uplink.ask(node, now, message).is_some() {
            self.asked = addresses.to_vec();
        }
    }

    /// Whether legs can be made by it.
    pub fn usable(&self) -> bool {
        let welcome = self.welcome.is_some() && self.served.is_some() && !self.leaving;
        welcome && self.uplink.open_at().is_some()
    }

    /// It is no more.
    pub fn forget(&mut self) {
        self.welcome = None;
        self.asked = Vec::new();
        self.served = None;
        self.leaving = false;
    }
}

/// How often this node's identity had changed its key by its pass.
pub(super) fn changes(node: &Node) -> Option<u16> {
    let membership = node.membership.as_ref()?;
    Some(membership.pass.body().history_len)
}

/// Serial of this node's pass.
pub(super) fn serial(node: &Node) -> Option<u64> {
    let membership = node.membership.as_ref()?;
    Some(membership.pass.body().serial)
}

/// Where the project's relays are, what they are shown, and how they are judged.
pub(super) struct Relays {
    project: crypto::Id,
    pub addresses: Vec<HostPort>,
    grant: Grant,
    authority: TrustedAuthority,
    pinned: Pinned,
    revoked: Arc<RevokedMembers>,
}

impl Relays {
    /// Of the node's membership; `None` without one.
    pub fn of(node: &Node) -> Option<Relays> {
        node.membership.as_ref().map(|membership| Relays {
            project: membership.project(),
            addresses: membership.note.body().relays.clone(),
            grant: Grant::Pass(Box::new(membership.pass.clone())),
            authority: membership.authority.clone(),
            pinned: membership.pinned.clone(),
            revoked: Arc::clone(node.revocations.revoked()),
        })
    }

    /// Whom an uplink means, and what it shows there.
    pub fn target(&self) -> Target {
        Target {
            project: self.project,
            grant: self.grant.clone(),
        }
    }

    /// Steps (a) to (e) on a relay's pass, which must have the role `relay` and no other.
    pub fn check(
        &self,
        now: UnixTime,
        shown: &Evidence,
        key: &StaticPublic,
    ) -> Result<VerifiedMember, Denial> {
        let question = PassQuestion {
            authority: &self.authority,
            histories: &self.pinned,
            remote_static: key,
            now,
            part: SessionPart::Relay,
            // A relay is trusted with availability only: an old list is good enough to know it by.
            revocation: &*self.revoked,
        };
        verify_pass(shown, &question)
    }
}

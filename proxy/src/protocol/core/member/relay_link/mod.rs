//! The relay session, and the legs that it lets this node make.
//!
//! A session is usable once the relay has said which of this node's addresses it may serve (for a
//! node without outlets, once it was welcomed). At about an hour's age a second one is made, and
//! takes over when it is usable: make before break. The old one is closed a little later.

mod hear;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;

use crypto::check::Evidence;
use crypto::names::RelayAddress;
use crypto::statics::StaticPublic;

use self::session::{Relays, Session, changes, serial};
use super::legs::LegGrant;
use crate::error::CloseReason;
use crate::ids::{AddressHash, LinkId};
use crate::limits::RELAY_SESSION_LIFE;
use crate::protocol::command::address_hash;
use crate::protocol::core::io::{Now, ResolveNo};
use crate::protocol::core::link_event::LinkEvent;
use crate::protocol::core::node::Node;
use crate::protocol::core::status::Reach;
use crate::protocol::core::uplink::UplinkNews;
use crate::protocol::pool::jitter;
use crate::protocol::session::Message;
use crate::time::Instant;

/// What changed, for the portals.
pub enum RelayNews {
    /// Nothing.
    None,
    /// A session is usable that was not there before: make legs by it.
    Ready,
    /// The relay said (again) which addresses this node may serve.
    Served,
    /// There is no usable session any more.
    Lost,
    /// The relay is about to end: it waits for lanes through it to do so.
    GoingAway,
    /// An address is served again that was not when this node asked for it.
    NowServed,
    /// Park more legs at an address.
    ParkLow(AddressHash, u16),
}

/// See the module.
pub struct RelayLink {
    /// Addresses that this node's outlets serve.
    addresses: Vec<RelayAddress>,
    active: Session,
    coming: Option<Session>,
    remake: Instant,
    /// Replaced sessions, and when they are closed.
    old: Vec<(LinkId, Instant)>,
    refused_logged: Vec<RelayAddress>,
    /// No legs are to be made now: this end may open no streams.
    held: bool,
}

impl RelayLink {
    /// Not begun; `addresses` are those of the outlets.
    pub fn new(now: Instant, addresses: Vec<RelayAddress>) -> Self {
        RelayLink {
            addresses,
            active: Session::new(now),
            coming: None,
            remake: Instant::FAR_FUTURE,
            old: Vec::new(),
            refused_logged: Vec::new(),
            held: false,
        }
    }

    /// Whether this link is one of the sessions.
    pub fn owns(&self, link: LinkId) -> bool {
        self.active.uplink.owns(link)
            || self
                .coming
                .as_ref()
                .is_some_and(|coming| coming.uplink.owns(link))
            || self.old.iter().any(|(old, _)| *old == link)
    }

    /// Whether legs can be made.
    pub fn usable(&self) -> bool {
        self.active.usable() && !self.held
    }

    /// Makes no legs until told otherwise; sessions stay.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Leaves relays that are members no longer.
    pub fn on_revocations(&mut self, node: &mut Node, now: Now) -> RelayNews {
        let revoked = Arc::clone(node.revocations.revoked());
        let is_out = |session: &Session| session.with.is_some_and(|(id, no)| revoked.has(&id, no));
        if self.coming.as_ref().is_some_and(is_out)
            && let Some(mut coming) = self.coming.take()
        {
            coming.uplink.close(node, CloseReason::Revoked, false);
        }
        if !is_out(&self.active) {
            return RelayNews::None;
        }
        let why = CloseReason::Revoked;
        let text = format!("the relay: {why}");
        self.active.uplink.refused(node, now, why.code(), text);
        self.on_down(node, false)
    }

    /// This node's outlets serve these addresses from now on. The relay is told at the next
    /// [`on_timer`](Self::on_timer).
    pub fn serve(&mut self, addresses: Vec<RelayAddress>) {
        self.addresses = addresses;
    }

    /// Whether the relay lets this node serve an address; `None` while it has not said.
    pub fn may_serve(&self, address: &RelayAddress) -> Option<bool> {
        let served = self.active.served.as_ref()?;
        let refused = served.refused.contains(address).then_some(false);
        let accepted = served.accepted.contains(address).then_some(true);
        accepted.or(refused)
    }

    /// What the next leg needs; `None` without a usable session.
    pub fn grant_leg(&mut self) -> Option<LegGrant> {
        if !self.usable() {
            return None;
        }
        let welcome = self.active.welcome.as_mut()?;
        let counter = welcome.next_counter;
        welcome.next_counter += 1;
        let key = welcome.key.clone();
        Some(LegGrant {
            to: welcome.to,
            session: welcome.session,
            key,
            counter,
        })
    }

    /// There is news that may make an attempt succeed: don't wait.
    pub fn wake(&mut self) {
        self.active.uplink.wake();
    }

    /// Shows the relay this node's newer pass.
    pub fn on_renewed(&mut self, node: &mut Node, now: Now) {
        self.wake();
        let Some(membership) = &node.membership else {
            return;
        };
        let pass = membership.pass.encode();
        let changes = changes(node);
        // A session shows the identity with which it began: one that has changed its key since gets
        // another session, and the old one serves meanwhile.
        let outdated = |session: &Session| session.welcome.is_some() && session.changes != changes;
        if outdated(&self.active) {
            self.remake = now.mono;
            if let Some(mut coming) = self.coming.take() {
                coming.uplink.close(node, CloseReason::Replaced, false);
            }
        }
        for session in std::iter::once(&mut self.active).chain(self.coming.as_mut()) {
            if session.welcome.is_some() {
                if outdated(session) {
                    continue;
                }
                session
                    .uplink
                    .ask(node, now, Message::PassRenewed { pass: pass.clone() });
            }
        }
    }

    /// Tells the relay whom this node's outlets have denied, so that it lets them wait. Without a
    /// session, or when too many answers are owed, it goes untold: the next denial is told again.
    pub fn on_denied(&mut self, node: &mut Node, now: Now) {
        let denied = std::mem::take(&mut node.denied);
        let Some(membership) = node.membership.as_ref().filter(|_| self.active.usable()) else {
            return;
        };
        let project = membership.project();
        for (address, member) in denied {
            let address = address_hash(&project, &address);
            let message = Message::Denied { address, member };
            self.active.uplink.ask(node, now, message);
        }
    }

    /// The resolver's answer; says whether the question was asked here.
    pub fn on_resolved(
        &mut self,
        node: &mut Node,
        now: Now,
        no: ResolveNo,
        answer: &Result<Vec<SocketAddr>, String>,
    ) -> bool {
        let sessions = std::iter::once(&mut self.active).chain(self.coming.as_mut());
        for session in sessions {
            if session.uplink.asked(no) {
                if let Some(at) = Relays::of(node) {
                    session
                        .uplink
                        .on_resolved(node, now, &at.target(), answer.clone());
                }
                self.forget_idle_replacement();
                return true;
            }
        }
        false
    }

    /// An event of a link that is [owned](Self::owns).
    pub fn on_event(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        event: LinkEvent,
    ) -> RelayNews {
        if let Some(place) = self.old.iter().position(|(old, _)| *old == link) {
            match event {
                LinkEvent::Closed(_) => drop(self.old.remove(place)),
                // Whatever a replaced session still says, the new one has said better.
                LinkEvent::Frame(_) => node.out.expect_frame(link),
                LinkEvent::Connected(_) | LinkEvent::Lane(_) | LinkEvent::Circuit(_) => {}
            }
            return RelayNews::None;
        }
        let Some(relays) = Relays::of(node) else {
            return RelayNews::None;
        };
        let coming = self
            .coming
            .as_ref()
            .is_some_and(|coming| coming.uplink.owns(link));
        let session = match &mut self.coming {
            Some(session) if coming => session,
            _ => &mut self.active,
        };
        let time = node.clock.now(now);
        let with = &mut session.with;
        let check = |_: &mut Node, shown: &Evidence, key: &StaticPublic| {
            let relay = relays.check(time, shown, key)?;
            *with = Some((relay.id(), relay.serial()));
            Ok(())
        };
        let news = session
            .uplink
            .on_event(node, now, &relays.target(), link, event, check);
        match news {
            UplinkNews::None => RelayNews::None,
            UplinkNews::Up => {
                session.shown = serial(node);
                session.changes = changes(node);
                RelayNews::None
            }
            UplinkNews::Down => self.on_down(node, coming),
            UplinkNews::Message(request, message) => {
                self.on_message(node, now, coming, request, message)
            }
        }
    }

    fn on_down(&mut self, node: &mut Node, coming: bool) -> RelayNews {
        if coming {
            // The active one still works; another attempt is made at the next timer.
            self.coming = None;
            return RelayNews::None;
        }
        let was_usable = self.active.usable();
        self.active.forget();
        self.remake = Instant::FAR_FUTURE;
        if let Some(mut coming) = self.coming.take() {
            coming.uplink.close(node, CloseReason::Replaced, false);
        }
        if was_usable {
            RelayNews::Lost
        } else {
            RelayNews::None
        }
    }

    /// Dials, pings, remakes and closes what is due. `wanted`: there are portals, and the node is
    /// a member.
    pub fn on_timer(&mut self, node: &mut Node, now: Now, wanted: bool) -> RelayNews {
        let due = |at: &Instant| *at <= now.mono;
        for (link, _) in self.old.extract_if(.., |(_, at)| due(at)) {
            node.out.close(link, true, CloseReason::Replaced);
        }
        if let Some(relays) = Relays::of(node).filter(|_| wanted) {
            self.active.uplink.begin(node, now, &relays.addresses);
            if due(&self.remake) && self.coming.is_none() {
                self.remake = now.mono + jitter(RELAY_SESSION_LIFE / 30, node.out.random());
                let coming = self.coming.insert(Session::replacement(now.mono));
                coming.uplink.begin(node, now, &relays.addresses);
            }
        }
        for session in std::iter::once(&mut self.active).chain(self.coming.as_mut()) {
            if session.served.is_some() && session.asked != self.addresses {
                session.serve(node, now, &self.addresses);
            }
        }
        if let Some(coming) = &mut self.coming
            && matches!(coming.uplink.on_timer(node, now), UplinkNews::Down)
        {
            self.coming = None;
        }
        self.forget_idle_replacement();
        match self.active.uplink.on_timer(node, now) {
            UplinkNews::Down => self.on_down(node, false),
            UplinkNews::None | UplinkNews::Up | UplinkNews::Message(..) => RelayNews::None,
        }
    }

    /// A replacement that failed does not try again by itself: another is begun when it is due.
    fn forget_idle_replacement(&mut self) {
        self.coming.take_if(|coming| coming.uplink.is_waiting());
    }

    /// When [`on_timer`](Self::on_timer) has something to do.
    pub fn next_timer(&self, wanted: bool) -> Instant {
        let coming = self
            .coming
            .as_ref()
            .map(|coming| coming.uplink.next_timer(false));
        let old = self.old.iter().map(|(_, at)| *at).min();
        let remake = if wanted && self.coming.is_none() {
            self.remake
        } else {
            Instant::FAR_FUTURE
        };
        [coming, old, Some(remake)]
            .into_iter()
            .flatten()
            .fold(self.active.uplink.next_timer(wanted), Instant::min)
    }

    /// What `status` shows.
    pub fn reach(&self, now: Instant, wanted: bool) -> Reach {
        if wanted {
            self.active.uplink.reach(now)
        } else {
            Reach::NotNeeded
        }
    }

    /// Ends all sessions.
    pub fn stop(&mut self, node: &mut Node) {
        for (link, _) in self.old.drain(..) {
            node.out.close(link, true, CloseReason::Stopping);
        }
        if let Some(mut coming) = self.coming.take() {
            coming.uplink.close(node, CloseReason::Stopping, true);
        }
        self.active.uplink.close(node, CloseReason::Stopping, true);
        self.active.forget();
    }
}

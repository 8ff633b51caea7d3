//! Beacons and the revocation list: once a second the store is asked for the next number, and for the
//! list if that has changed; both are signed here and said to every member that has a session.
//!
//! A revocation asks at once. Members that a new list names are told so a moment later, and their sessions
//! end: the others, who cut them and say by what, come first.

use std::collections::VecDeque;
use std::sync::Arc;

use crypto::Id;
use crypto::limits::REVOCATION_LIST_MAX;
use crypto::revocation::{Beacon, RevocationList};

use super::AuthorityCore;
use crate::error::{CloseReason, Problem};
use crate::ids::LinkId;
use crate::limits::{BEACON_INTERVAL, REVOCATIONS_PART, REVOKED_TOLD};
use crate::protocol::core::admin::NodeHolds;
use crate::protocol::core::io::{Level, LogRecord, Now, StoreNo};
use crate::protocol::core::outbox::Outbox;
use crate::protocol::core::revocations::RevokedMembers;
use crate::protocol::session::{Message, Refusal, RequestNo};
use crate::protocol::store::{Stamp, Stamped, StoreError, StoreReply, StoreRequest};
use crate::time::Instant;

const _: () = assert!(REVOCATION_LIST_MAX < u32::MAX as usize);

/// The newest list and beacon.
pub(super) struct Beacons {
    list: Option<RevocationList>,
    /// The list as it travels.
    bytes: Vec<u8>,
    revoked: Arc<RevokedMembers>,
    /// Somebody else has not seen this list yet.
    news: bool,
    beacon: Option<Vec<u8>>,
    asked: Option<StoreNo>,
    due: Instant,
    /// Something changed since the store was asked.
    again: bool,
    /// Members that are out, and when they are told.
    out: VecDeque<(Instant, Id)>,
}

impl Default for Beacons {
    fn default() -> Beacons {
        Beacons {
            list: None,
            bytes: Vec::new(),
            revoked: Arc::default(),
            news: false,
            beacon: None,
            asked: None,
            due: Instant::ZERO,
            again: false,
            out: VecDeque::new(),
        }
    }
}

impl Beacons {
    pub(super) fn next_timer(&self) -> Instant {
        let told = self.out.front().map_or(Instant::FAR_FUTURE, |(at, _)| *at);
        told.min(self.next_stamp())
    }

    fn next_stamp(&self) -> Instant {
        match self.asked {
            Some(_) => Instant::FAR_FUTURE,
            None => self.due,
        }
    }

    /// The list from `offset` on, as much as goes into a message.
    pub(super) fn part(&self, offset: u32) -> Message {
        let length = self.bytes.len();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(length);
        let part = &self.bytes[from..length.min(from.saturating_add(REVOCATIONS_PART))];
        Message::Revocations {
            number: self.revoked.number(),
            length: u32::try_from(length).unwrap_or(u32::MAX),
            offset,
            part: part.to_vec(),
        }
    }
}

impl AuthorityCore {
    /// The number of the newest list.
    pub fn list_number(&self) -> u64 {
        self.beacons.revoked.number()
    }

    /// Sessions of a member.
    pub fn sessions_of(&self, member: &Id) -> usize {
        self.by_peer.of(*member).count()
    }

    /// Who is revoked, if there is a list that was not taken yet.
    pub fn take_list(&mut self) -> Option<Arc<RevokedMembers>> {
        let news = std::mem::take(&mut self.beacons.news);
        news.then(|| Arc::clone(&self.beacons.revoked))
    }

    /// Something changed in the store: the next beacon is due now.
    pub fn stamp_now(&mut self, out: &mut Outbox, now: Now) {
        self.beacons.due = now.mono;
        self.beacons.again = self.beacons.asked.is_some();
        self.ask_stamp(out, now);
    }

    pub(super) fn ask_stamp(&mut self, out: &mut Outbox, now: Now) {
        let beacons = &mut self.beacons;
        if beacons.next_stamp() > now.mono {
            return;
        }
        let have = beacons.list.as_ref().map(|list| list.body().number);
        let stamp = Stamp {
            have,
            now: now.wall(),
        };
        beacons.asked = Some(out.store(StoreRequest::Stamp(stamp)));
        beacons.due = now.mono + BEACON_INTERVAL;
    }

    /// The store's answer, if it was asked for a stamp; else it is given back.
    pub(super) fn on_stamp(
        &mut self,
        out: &mut Outbox,
        now: Now,
        no: StoreNo,
        answer: Result<StoreReply, StoreError>,
    ) -> Option<Result<StoreReply, StoreError>> {
        if self.beacons.asked != Some(no) {
            return Some(answer);
        }
        self.beacons.asked = None;
        self.note_store(out, &answer);
        if let Ok(StoreReply::Stamped(stamped)) = answer {
            self.stamped(out, now, *stamped);
        }
        if std::mem::take(&mut self.beacons.again) {
            self.stamp_now(out, now);
        }
        None
    }

    fn stamped(&mut self, out: &mut Outbox, now: Now, stamped: Stamped) {
        if let Some(entries) = stamped.entries {
            let authority = self.keyring.identity();
            let list = match RevocationList::issue(authority, stamped.list_number, entries) {
                Ok(list) => list,
                Err(error) => {
                    let problem = Problem::StoreUnavailable;
                    let record = LogRecord::new(Level::Error, problem.to_string());
                    return out.log(record.code(problem.code()).with("why", error));
                }
            };
            let revoked = RevokedMembers::of(&list);
            let before = &self.beacons.revoked;
            let new = revoked.members().filter(|id| !before.names(id)).copied();
            let told = now.mono + REVOKED_TOLD;
            self.beacons.out.extend(new.map(|id| (told, id)));
            self.beacons.bytes = list.encode();
            self.beacons.revoked = Arc::new(revoked);
            self.beacons.list = Some(list);
            self.beacons.news = true;
        }
        let Some(list) = &self.beacons.list else {
            return;
        };
        let millis = now.wall_millis;
        let beacon = Beacon::issue(self.keyring.identity(), stamped.number, list, millis);
        self.beacons.beacon = Some(beacon.encode());
        let members = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.is_guest);
        let links: Vec<LinkId> = members.map(|(link, _)| *link).collect();
        for link in links {
            self.say_beacon(out, link);
        }
    }

    /// Tells a member's session which list is the present one.
    pub(super) fn say_beacon(&mut self, out: &mut Outbox, link: LinkId) {
        if let Some(beacon) = self.beacons.beacon.clone() {
            self.reply(out, link, RequestNo::UNASKED, Message::Beacon { beacon });
        }
    }

    /// Ends the sessions of those that are to be told by now.
    pub(super) fn tell_those_out(&mut self, out: &mut Outbox, now: Now) {
        let due = |(at, _): &mut (Instant, Id)| *at <= now.mono;
        while let Some((_, member)) = self.beacons.out.pop_front_if(due) {
            self.end_sessions_of(out, &member);
        }
    }

    /// Who is a member no longer hears that, and has no session any more.
    fn end_sessions_of(&mut self, out: &mut Outbox, member: &Id) {
        let links: Vec<LinkId> = self.by_peer.of(*member).collect();
        for link in links {
            let refusal = Message::Refused(Refusal::new(Problem::MemberRevoked));
            self.reply(out, link, RequestNo::UNASKED, refusal);
            out.close(link, true, CloseReason::Revoked);
            self.on_closed(link);
        }
    }

    /// What the members with a session say of list `number`; one that has several counts once.
    pub fn holders(&self, number: u64) -> Vec<NodeHolds> {
        let mut found: Vec<NodeHolds> = Vec::new();
        for (id, link) in self.by_peer.iter() {
            let Some(session) = self.sessions.get(link).filter(|s| !s.is_guest) else {
                continue;
            };
            let said = session.holds.filter(|(held, _)| *held >= number);
            let node = NodeHolds {
                id: *id,
                name: session.name.clone(),
                holds: said.is_some(),
                cut: said.map_or(0, |(_, cut)| cut),
            };
            match found.last_mut().filter(|last| last.id == *id) {
                Some(last) if node.holds => *last = node,
                Some(_) => {}
                None => found.push(node),
            }
        }
        found
    }
}

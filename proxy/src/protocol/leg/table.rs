//! The sessions by which legs are checked, and until when their members' legs may stay.

use std::collections::BTreeMap;

use crypto::Id;

use super::window::Window;
use super::wire::{Answer, CLEAR, parse_request, read_clear, seal_answer};
use super::{LegInfo, LegRefusal};
use crate::ids::{AddressHash, SessionId};
use crate::limits::{LEG_ANSWER, LEG_GRACE, LEG_PREFACE};
use crate::protocol::command::{ConnectSet, LegEntry, Role};
use crate::time::Instant;

#[derive(Debug)]
struct Session {
    entry: LegEntry,
    window: Window,
    /// It ended; its key is good until then.
    until: Instant,
}

/// How long a member's legs may stay.
#[derive(Debug)]
struct Member {
    /// Sessions that have not ended.
    live: usize,
    /// End of its newest pass.
    not_after: Instant,
    /// End of the grace after its last session.
    grace: Instant,
}

impl Member {
    fn ends(&self) -> Instant {
        if self.live > 0 {
            self.not_after
        } else {
            self.not_after.min(self.grace)
        }
    }
}

/// The sessions that control has published, and until when their members' legs may stay.
#[derive(Debug, Default)]
pub struct LegTable {
    sessions: BTreeMap<SessionId, Session>,
    members: BTreeMap<Id, Member>,
    /// Who serves what, by sessions that have not ended, the latest last.
    served: BTreeMap<AddressHash, BTreeMap<Id, Vec<SessionId>>>,
}

impl LegTable {
    /// A session is there, or its pass was renewed, or it serves something else. Returns what it
    /// serves now and did not before.
    pub fn publish(&mut self, entry: LegEntry) -> Vec<AddressHash> {
        let live = |session: &&Session| session.until == Instant::FAR_FUTURE;
        let before = self.sessions.get(&entry.session).filter(live);
        let before = before.map_or(Vec::new(), |session| session.entry.serve.clone());
        let fresh = |address: &&AddressHash| !before.contains(address);
        let fresh: Vec<AddressHash> = entry.serve.iter().filter(fresh).copied().collect();
        for address in before.iter().filter(|at| !entry.serve.contains(at)) {
            self.serves_no_more(address, &entry.member, entry.session);
        }
        for address in &fresh {
            let members = self.served.entry(*address).or_default();
            members.entry(entry.member).or_default().push(entry.session);
        }
        let member = self.members.entry(entry.member).or_insert(Member {
            live: 0,
            not_after: entry.not_after,
            grace: Instant::FAR_FUTURE,
        });
        member.not_after = entry.not_after;
        match self.sessions.get_mut(&entry.session) {
            Some(session) => {
                if session.until != Instant::FAR_FUTURE {
                    session.until = Instant::FAR_FUTURE;
                    member.live += 1;
                }
                session.entry = entry;
            }
            None => {
                member.live += 1;
                let session = Session {
                    window: Window::new(),
                    until: Instant::FAR_FUTURE,
                    entry,
                };
                self.sessions.insert(session.entry.session, session);
            }
        }
        fresh
    }

    fn serves_no_more(&mut self, address: &AddressHash, member: &Id, session: SessionId) {
        let Some(members) = self.served.get_mut(address) else {
            return;
        };
        if let Some(sessions) = members.get_mut(member) {
            sessions.retain(|other| *other != session);
            if sessions.is_empty() {
                members.remove(member);
            }
        }
        if members.is_empty() {
            self.served.remove(address);
        }
    }

    /// The session ended. Legs that are on their way with its key are good for
    /// `limits::LEG_GRACE`, and so are its member's legs, unless the member has another session.
    /// Returns whose it was.
    pub fn end_session(&mut self, now: Instant, session: SessionId) -> Option<Id> {
        let ended = self.sessions.get_mut(&session)?;
        if ended.until != Instant::FAR_FUTURE {
            return None;
        }
        ended.until = now + LEG_GRACE;
        let id = ended.entry.member;
        for address in ended.entry.serve.clone() {
            self.serves_no_more(&address, &id, session);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.live -= 1;
            member.grace = now + LEG_GRACE;
        }
        Some(id)
    }

    /// The address that an authentic preface asks for. Whoever keeps that address's books
    /// [checks](Self::check) it.
    pub fn address_of(&self, now: Instant, bytes: &[u8; LEG_PREFACE]) -> Option<AddressHash> {
        let (clear, sealed) = bytes.split_first_chunk::<CLEAR>()?;
        let (session, counter) = read_clear(clear).ok()?;
        let found = self.sessions.get(&session)?;
        if found.until <= now {
            return None;
        }
        let key = &found.entry.key;
        let body = key
            .open_preface(counter, clear, sealed.try_into().ok()?)
            .ok()?;
        Some(parse_request(&body).ok()?.address)
    }

    /// Checks a preface and marks its counter as used.
    ///
    /// # Errors
    /// [`LegRefusal`]: the connection is closed without an answer.
    pub fn check(
        &mut self,
        now: Instant,
        bytes: &[u8; LEG_PREFACE],
    ) -> Result<LegInfo, LegRefusal> {
        let (clear, sealed) = bytes
            .split_first_chunk::<CLEAR>()
            .ok_or(LegRefusal::Malformed)?;
        let sealed = sealed.try_into().map_err(|_| LegRefusal::Malformed)?;
        let (session, counter) = read_clear(clear).map_err(|_| LegRefusal::Malformed)?;
        let found = self
            .sessions
            .get_mut(&session)
            .filter(|found| now < found.until);
        let Some(found) = found else {
            return Err(LegRefusal::UnknownSession);
        };
        if !found.window.is_fresh(counter) {
            return Err(LegRefusal::Replayed);
        }
        let entry = &found.entry;
        let body = entry
            .key
            .open_preface(counter, clear, sealed)
            .map_err(|_| LegRefusal::Forged)?;
        // Only an authentic preface may move the window.
        found.window.mark(counter);
        let request = parse_request(&body).map_err(|_| LegRefusal::Malformed)?;
        if entry.not_after <= now {
            return Err(LegRefusal::Expired);
        }
        let permitted = match request.role {
            Role::Outlet => entry.serve.contains(&request.address),
            Role::Inlet => match &entry.connect {
                ConnectSet::All => true,
                ConnectSet::Only(addresses) => addresses.contains(&request.address),
            },
        };
        Ok(LegInfo {
            session,
            counter,
            member: entry.member,
            request,
            permitted,
        })
    }

    /// Seals an answer for a leg that [`LegTable::check`] let in; `None` once its session is
    /// forgotten.
    pub fn answer(&self, leg: &LegInfo, answer: Answer) -> Option<[u8; LEG_ANSWER]> {
        let session = self.sessions.get(&leg.session)?;
        Some(seal_answer(&session.entry.key, leg.counter, answer))
    }

    /// The members that serve the address by a session that has not ended, each with its latest.
    pub fn serving(&self, address: &AddressHash) -> Vec<(Id, SessionId)> {
        let members = self.served.get(address);
        let members = members.into_iter().flatten();
        members
            .filter_map(|(id, sessions)| Some((*id, *sessions.last()?)))
            .collect()
    }

    /// When [`LegTable::sweep`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        let members = self.members.values().map(Member::ends);
        let sessions = self.sessions.values().map(|session| session.until);
        members.chain(sessions).min().unwrap_or(Instant::FAR_FUTURE)
    }

    /// Forgets what has ended; the members whose legs must end now.
    pub fn sweep(&mut self, now: Instant) -> Vec<Id> {
        self.sessions.retain(|_, session| now < session.until);
        let ended: Vec<Id> = self
            .members
            .iter()
            .filter(|(_, member)| member.ends() <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in &ended {
            self.forget(id);
        }
        ended
    }

    /// Forgets a member: its sessions' keys are good for nothing any more.
    pub fn forget(&mut self, id: &Id) {
        self.members.remove(id);
        self.sessions
            .retain(|_, session| session.entry.member != *id);
        for members in self.served.values_mut() {
            members.remove(id);
        }
        self.served.retain(|_, members| !members.is_empty());
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::protocol::leg::{Request, preface};
    use crate::time::Duration;
    use crypto::leg::LegKey;
    use crypto::suite::SuiteMask;

    const SESSION: SessionId = SessionId([5; 16]);
    const ADDRESS: AddressHash = AddressHash([9; 32]);
    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    fn key() -> LegKey {
        LegKey::from_secret(&[3; 32])
    }

    fn entry(member: u8, session: SessionId) -> LegEntry {
        LegEntry {
            session,
            key: key(),
            member: Id([member; 32]),
            serve: vec![ADDRESS],
            connect: ConnectSet::Only(vec![]),
            not_after: NOW + Duration::from_secs(3600),
        }
    }

    fn table() -> LegTable {
        let mut table = LegTable::default();
        table.publish(entry(1, SESSION));
        table
    }

    fn request(role: Role) -> Request {
        Request {
            role,
            suites: SuiteMask(3),
            address: ADDRESS,
            bulk: false,
        }
    }

    fn leg(counter: u64) -> [u8; LEG_PREFACE] {
        preface(&key(), SESSION, counter, &request(Role::Outlet))
    }

    #[test]
    fn a_preface_is_understood_once() {
        let mut table = table();
        let info = table.check(NOW, &leg(7)).unwrap();
        assert_eq!(info.request, request(Role::Outlet));
        assert!(info.permitted);
        assert_eq!(table.check(NOW, &leg(7)), Err(LegRefusal::Replayed));
        assert!(
            table.check(NOW, &leg(3)).is_ok(),
            "an older one that was not used"
        );
    }

    #[test]
    fn every_altered_byte_is_noticed_and_uses_up_nothing() {
        let mut table = table();
        for at in 0..LEG_PREFACE {
            let mut bytes = leg(1);
            bytes[at] ^= 1;
            assert!(table.check(NOW, &bytes).is_err(), "byte {at}");
        }
        assert!(table.check(NOW, &leg(1)).is_ok());
    }

    #[test]
    fn the_pass_decides_what_is_permitted() {
        let mut table = table();
        let inlet = preface(&key(), SESSION, 1, &request(Role::Inlet));
        assert!(!table.check(NOW, &inlet).unwrap().permitted);
        let mut renewed = entry(1, SESSION);
        renewed.connect = ConnectSet::All;
        table.publish(renewed);
        let inlet = preface(&key(), SESSION, 2, &request(Role::Inlet));
        assert!(table.check(NOW, &inlet).unwrap().permitted);
        assert_eq!(
            table.check(NOW, &leg(1)),
            Err(LegRefusal::Replayed),
            "renewal keeps the window"
        );
    }

    #[test]
    fn a_session_that_ended_is_good_for_its_grace_and_serves_nothing() {
        let mut table = table();
        table.end_session(NOW, SESSION);
        assert_eq!(table.serving(&ADDRESS), []);
        let late = NOW + LEG_GRACE - Duration::from_nanos(1);
        assert!(table.check(late, &leg(1)).is_ok());
        assert_eq!(table.sweep(late), []);
        assert_eq!(
            table.check(NOW + LEG_GRACE, &leg(2)),
            Err(LegRefusal::UnknownSession)
        );
        assert_eq!(table.sweep(NOW + LEG_GRACE), [Id([1; 32])]);
        assert_eq!(table.next_deadline(), Instant::FAR_FUTURE);
    }

    #[test]
    fn a_member_with_another_session_keeps_its_legs() {
        let mut table = table();
        table.publish(entry(1, SessionId([6; 16])));
        table.end_session(NOW, SESSION);
        assert_eq!(table.sweep(NOW + LEG_GRACE), []);
        assert_eq!(table.serving(&ADDRESS), [(Id([1; 32]), SessionId([6; 16]))]);
    }

    #[test]
    fn who_serves_is_known_by_its_latest_session_and_no_longer_than_it_lasts() {
        let mut table = table();
        let second = SessionId([6; 16]);
        assert_eq!(table.publish(entry(1, SESSION)), [], "nothing new");
        assert_eq!(table.publish(entry(1, second)), [ADDRESS]);
        assert_eq!(table.publish(entry(2, SessionId([7; 16]))), [ADDRESS]);
        let both = [(Id([1; 32]), second), (Id([2; 32]), SessionId([7; 16]))];
        assert_eq!(table.serving(&ADDRESS), both);
        assert_eq!(table.end_session(NOW, second), Some(Id([1; 32])));
        assert_eq!(table.serving(&ADDRESS)[0], (Id([1; 32]), SESSION));
        let mut less = entry(1, SESSION);
        less.serve.clear();
        table.publish(less);
        assert_eq!(table.serving(&ADDRESS), [(Id([2; 32]), SessionId([7; 16]))]);
        table.sweep(NOW + Duration::from_secs(3600));
        assert_eq!(table.serving(&ADDRESS), []);
        assert!(table.served.is_empty());
    }

    #[test]
    fn a_member_that_is_forgotten_has_no_session_and_no_grace() {
        let mut table = table();
        table.publish(entry(2, SessionId([6; 16])));
        table.forget(&Id([1; 32]));
        assert_eq!(table.check(NOW, &leg(1)), Err(LegRefusal::UnknownSession));
        assert_eq!(table.serving(&ADDRESS), [(Id([2; 32]), SessionId([6; 16]))]);
        assert_eq!(table.end_session(NOW, SESSION), None);
    }

    #[test]
    fn an_expired_pass_ends_the_member_s_legs() {
        let mut table = table();
        let end = NOW + Duration::from_secs(3600);
        assert_eq!(table.check(end, &leg(1)), Err(LegRefusal::Expired));
        assert_eq!(table.next_deadline(), end);
        assert_eq!(table.sweep(end), [Id([1; 32])]);
    }
}

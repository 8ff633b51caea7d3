//! What a relay worker knows of sessions: enough to tell in O(1), without allocating and without
//! public-key work, whose leg it is and what it may do.
//!
//! A leg belongs to its *member*: it ends when the member's newest pass does, or
//! `limits::LEG_GRACE` after its last session here. [`LegTable::insert`] and [`LegTable::gone`]
//! return the member's new [`Standing`] for [`Pairing`](super::super::pairing::Pairing).

use std::collections::HashMap;

use crypto::Id;
use crypto::leg::LegKey;
use crypto::suite::SuiteMask;

use super::{Answer, LegPreface, ReplayWindow};
use crate::error::CloseReason;
use crate::ids::{AddressHash, SessionId};
use crate::limits::{LEG_ANSWER, LEG_GRACE, LEG_PREFACE};
use crate::protocol::command::{ConnectSet, LegEntry, Role};
use crate::time::Instant;

#[derive(Debug)]
struct Session {
    entry: LegEntry,
    window: ReplayWindow,
    /// When it ended.
    gone: Option<Instant>,
}

/// All sessions that legs may name.
#[derive(Debug, Default)]
pub struct LegTable {
    sessions: HashMap<SessionId, Session>,
    /// A member's sessions, oldest first.
    members: HashMap<Id, Vec<SessionId>>,
}

/// A leg that is who it says, and permitted.
#[derive(Clone, Debug)]
pub struct LegInfo {
    /// The session whose key it used.
    pub session: SessionId,
    /// Whose it is.
    pub member: Id,
    /// What the member is on this address.
    pub role: Role,
    /// What it offers.
    pub suites: SuiteMask,
    /// The address.
    pub address: AddressHash,
    /// Of its preface; its answer is sealed under it.
    counter: u64,
    /// A copy, because the leg may wait longer than its session lives.
    key: LegKey,
}

impl LegInfo {
    /// The sealed answer to this leg. It is sent exactly once.
    pub fn answer(&self, answer: Answer) -> [u8; LEG_ANSWER] {
        answer.seal(&self.key, self.counter)
    }
}

/// A leg that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegRefused {
    /// Why, for counters and the log.
    pub why: CloseReason,
    /// Whose it was, where it proved it.
    pub member: Option<Id>,
    /// What to send before closing; nothing to those who proved nothing.
    pub answer: Option<[u8; LEG_ANSWER]>,
}

/// What a member may do with its legs from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The member.
    pub member: Id,
    /// Its newest live session; it is asked for more legs there.
    pub session: Option<SessionId>,
    /// What its live sessions serve, ascending.
    pub serves: Vec<AddressHash>,
    /// When its legs end, unless that changes.
    pub ends: Instant,
}

impl LegTable {
    /// Legs of this session are welcome. Said again for a session, it replaces (a renewed pass);
    /// counters stay used.
    pub fn insert(&mut self, now: Instant, entry: LegEntry) -> Standing {
        let member = entry.member;
        let id = entry.session;
        match self.sessions.get_mut(&id) {
            Some(session) if session.entry.member == member => session.entry = entry,
            Some(_) | None => {
                let session = Session {
                    entry,
                    window: ReplayWindow::default(),
                    gone: None,
                };
                self.sessions.insert(id, session);
                self.members.entry(member).or_default().push(id);
            }
        }
        self.sweep(member, now);
        self.standing(member)
    }

    /// The session ended. Its key opens prefaces for `limits::LEG_GRACE` more. `None` if it
    /// is not known.
    pub fn gone(&mut self, now: Instant, session: SessionId) -> Option<Standing> {
        let ended = self.sessions.get_mut(&session)?;
        ended.gone.get_or_insert(now);
        let member = ended.entry.member;
        let standing = self.standing(member);
        self.sweep(member, now);
        Some(standing)
    }

    /// Forgets those of a member's sessions that ended longer ago than their grace.
    fn sweep(&mut self, member: Id, now: Instant) {
        let Some(ids) = self.members.get_mut(&member) else {
            return;
        };
        let sessions = &mut self.sessions;
        ids.retain(|id| {
            let over = |s: &Session| s.gone.is_some_and(|gone| gone + LEG_GRACE <= now);
            let stays = sessions.get(id).is_some_and(|session| !over(session));
            if !stays {
                sessions.remove(id);
            }
            stays
        });
        if ids.is_empty() {
            self.members.remove(&member);
        }
    }

    /// Forgets a member whose legs have ended: call it when its [`Standing::ends`] has passed.
    pub fn forget(&mut self, now: Instant, member: Id) {
        self.sweep(member, now);
    }

    fn standing(&self, member: Id) -> Standing {
        let ids = self.members.get(&member).map_or(&[][..], Vec::as_slice);
        let sessions = || ids.iter().filter_map(|id| self.sessions.get(id));
        let newest = sessions()
            .map(|s| s.entry.not_after)
            .max()
            .unwrap_or(Instant::ZERO);
        let live = || sessions().filter(|session| session.gone.is_none());
        let mut serves: Vec<AddressHash> = live()
            .flat_map(|session| session.entry.serve.iter().copied())
            .collect();
        serves.sort_unstable();
        serves.dedup();
        let session = live().next_back().map(|session| session.entry.session);
        let ends = match session {
            Some(_) => newest,
            None => {
                let last = sessions()
                    .filter_map(|s| s.gone)
                    .max()
                    .unwrap_or(Instant::ZERO);
                newest.min(last + LEG_GRACE)
            }
        };
        Standing {
            member,
            session,
            serves,
            ends,
        }
    }

    /// Checks a preface: authentic, fresh, of a member whose legs have not ended, permitted.
    ///
    /// # Errors
    /// [`LegRefused`], with an answer only for a member that isn't permitted.
    pub fn check(
        &mut self,
        now: Instant,
        bytes: &[u8; LEG_PREFACE],
    ) -> Result<LegInfo, LegRefused> {
        let refused = |why, member| LegRefused {
            why,
            member,
            answer: None,
        };
        let clear = LegPreface::peek(bytes).map_err(|why| refused(why, None))?;
        let bad = || refused(CloseReason::BadLeg, None);
        let session = self.sessions.get_mut(&clear.session).ok_or_else(bad)?;
        let leg = LegPreface::open(bytes, &session.entry.key).map_err(|_| bad())?;
        let member = session.entry.member;
        if !session.window.accept(leg.counter) {
            return Err(refused(CloseReason::BadLeg, Some(member)));
        }
        let over = session.gone.is_some_and(|gone| gone + LEG_GRACE <= now);
        let info = LegInfo {
            session: leg.session,
            member,
            role: leg.role,
            suites: leg.suites,
            address: leg.address,
            counter: leg.counter,
            key: session.entry.key.clone(),
        };
        let permitted = may(&session.entry, leg.role, &leg.address);
        if over || self.newest_pass(member) <= now {
            return Err(refused(CloseReason::LegExpired, Some(member)));
        }
        if permitted {
            return Ok(info);
        }
        let answer = Some(info.answer(Answer::NotPermitted));
        Err(LegRefused {
            why: CloseReason::AddressNotPermitted,
            member: Some(member),
            answer,
        })
    }

    fn newest_pass(&self, member: Id) -> Instant {
        let ids = self.members.get(&member).map_or(&[][..], Vec::as_slice);
        let passes = ids
            .iter()
            .filter_map(|id| self.sessions.get(id))
            .map(|s| s.entry.not_after);
        passes.max().unwrap_or(Instant::ZERO)
    }

    /// Sessions that are known, those in their grace too.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }
}

fn may(entry: &LegEntry, role: Role, address: &AddressHash) -> bool {
    match (role, &entry.connect) {
        (Role::Outlet, _) => entry.serve.contains(address),
        (Role::Inlet, ConnectSet::All) => true,
        (Role::Inlet, ConnectSet::Only(addresses)) => addresses.contains(address),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::time::Duration;

    const ADDRESS: AddressHash = AddressHash([5; 32]);
    const T: fn(u64) -> Instant = |seconds| Instant::ZERO + Duration::from_secs(seconds);

    fn key(session: u8) -> LegKey {
        LegKey::from_secret(&[session; 32])
    }

    fn entry(session: u8, not_after: u64) -> LegEntry {
        LegEntry {
            session: SessionId([session; 16]),
            key: key(session),
            member: Id([1; 32]),
            serve: vec![ADDRESS],
            connect: ConnectSet::Only(vec![ADDRESS]),
            not_after: T(not_after),
        }
    }

    fn leg(session: u8, counter: u64, role: Role, address: AddressHash) -> [u8; LEG_PREFACE] {
        let (id, suites) = (SessionId([session; 16]), SuiteMask(1));
        LegPreface {
            session: id,
            counter,
            role,
            suites,
            address,
        }
        .seal(&key(session))
    }

    fn why(table: &mut LegTable, now: u64, session: u8, counter: u64) -> Option<CloseReason> {
        let leg = leg(session, counter, Role::Inlet, ADDRESS);
        table.check(T(now), &leg).err().map(|refused| refused.why)
    }

    #[test]
    fn a_members_leg_is_told_from_everything_else() {
        let mut table = LegTable::default();
        table.insert(T(0), entry(1, 100));
        let info = table
            .check(T(1), &leg(1, 0, Role::Outlet, ADDRESS))
            .unwrap();
        assert_eq!(
            (info.member, info.role, info.address),
            (Id([1; 32]), Role::Outlet, ADDRESS)
        );
        let answer = info.answer(Answer::Paired(SuiteMask(2)));
        assert_eq!(
            Answer::open(&answer, &key(1), 0),
            Ok(Answer::Paired(SuiteMask(2)))
        );
        let stranger = table
            .check(T(1), &leg(2, 0, Role::Outlet, ADDRESS))
            .unwrap_err();
        assert_eq!(
            stranger,
            LegRefused {
                why: CloseReason::BadLeg,
                member: None,
                answer: None
            }
        );
        let mut forged = leg(1, 1, Role::Outlet, ADDRESS);
        forged[95] ^= 1;
        assert_eq!(table.check(T(1), &forged).unwrap_err().member, None);
    }

    #[test]
    fn a_preface_is_taken_once_and_a_forged_one_uses_no_counter_up() {
        let mut table = LegTable::default();
        table.insert(T(0), entry(1, 100));
        let mut forged = leg(1, 7, Role::Inlet, ADDRESS);
        forged[40] ^= 1;
        assert!(table.check(T(1), &forged).is_err());
        assert_eq!(why(&mut table, 1, 1, 7), None);
        assert_eq!(why(&mut table, 1, 1, 7), Some(CloseReason::BadLeg));
        table.insert(T(2), entry(1, 200));
        assert_eq!(
            why(&mut table, 2, 1, 7),
            Some(CloseReason::BadLeg),
            "a renewal forgets nothing"
        );
    }

    #[test]
    fn what_the_pass_does_not_cover_is_answered_with_a_refusal() {
        let mut table = LegTable::default();
        let other = AddressHash([6; 32]);
        let mut one = entry(1, 100);
        one.serve.clear();
        table.insert(T(0), one);
        for (counter, role, address) in [(1, Role::Outlet, ADDRESS), (2, Role::Inlet, other)] {
            let refused = table
                .check(T(1), &leg(1, counter, role, address))
                .unwrap_err();
            assert_eq!(refused.why, CloseReason::AddressNotPermitted);
            let answer = Answer::open(&refused.answer.unwrap(), &key(1), counter);
            assert_eq!(answer, Ok(Answer::NotPermitted));
        }
        let all = LegEntry {
            connect: ConnectSet::All,
            ..entry(1, 100)
        };
        table.insert(T(2), all);
        assert!(table.check(T(2), &leg(1, 3, Role::Inlet, other)).is_ok());
    }

    #[test]
    fn legs_are_taken_until_the_newest_pass_ends() {
        let mut table = LegTable::default();
        table.insert(T(0), entry(1, 100));
        assert_eq!(why(&mut table, 100, 1, 0), Some(CloseReason::LegExpired));
        let standing = table.insert(T(100), entry(2, 300));
        assert_eq!(standing.ends, T(300));
        assert_eq!(
            why(&mut table, 101, 1, 1),
            None,
            "the member's other session has a newer one"
        );
    }

    #[test]
    fn legs_outlive_the_last_session_by_the_grace() {
        let mut table = LegTable::default();
        table.insert(T(0), entry(1, 100));
        let both = table.insert(T(0), entry(2, 100));
        assert_eq!(both.session, Some(SessionId([2; 16])));
        let one = table.gone(T(10), SessionId([2; 16])).unwrap();
        assert_eq!((one.session, one.ends), (Some(SessionId([1; 16])), T(100)));
        let none = table.gone(T(20), SessionId([1; 16])).unwrap();
        assert_eq!(
            (none.session, none.serves.len(), none.ends),
            (None, 0, T(50))
        );
        assert_eq!(why(&mut table, 49, 1, 0), None);
        assert_eq!(why(&mut table, 45, 2, 0), Some(CloseReason::LegExpired));
        assert_eq!(why(&mut table, 50, 1, 1), Some(CloseReason::LegExpired));
        table.forget(T(50), Id([1; 32]));
        assert_eq!(table.sessions(), 0);
        assert_eq!(table.gone(T(60), SessionId([1; 16])), None);
    }

    #[test]
    fn a_pass_that_ends_within_the_grace_ends_the_legs() {
        let mut table = LegTable::default();
        table.insert(T(0), entry(1, 25));
        assert_eq!(table.gone(T(10), SessionId([1; 16])).unwrap().ends, T(25));
    }
}

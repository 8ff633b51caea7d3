//! The first bytes of a leg, the relay's answer, and the relay's table of who may send them.
//!
//! ```text
//! preface, 96 B   | magic 4 | version 1 | kind 3 | 0 0 | session 16 | counter u64 |   clear, authenticated
//!                 | role u8 | flags u8 | suite mask u16 | address hash 32 | 0 × 12 | sealed; then tag 16
//! answer, 48 B    | answer u8 | 0 | suite mask u16 | retry ms u32 | 0 × 24 |           sealed; then tag 16
//! ```
//!
//! Both are sealed with keys of the session ([`LegKey`]), nonce = counter. A node uses a counter
//! once; the relay accepts it once, in any order within `limits::LEG_WINDOW` (the sliding window
//! of RFC 6479). Checking costs one AEAD and a look-up: no public-key work, no allocation.

use std::collections::BTreeMap;

use crypto::Id;
use crypto::leg::{LegError, LegKey};
use crypto::suite::SuiteMask;

use super::codec::{CodecError, Reader};
use super::command::{ConnectSet, LegEntry, Role};
use super::preface::{Kind, Preface};
use crate::error::CloseReason;
use crate::ids::{AddressHash, SessionId};
use crate::limits::{LEG_ANSWER, LEG_GRACE, LEG_PREFACE, LEG_WINDOW, PREFACE};
use crate::time::Instant;

const CLEAR: usize = 32;
const BODY: usize = 48;
const ANSWER_BODY: usize = 32;
const _: () = assert!(CLEAR + BODY + 16 == LEG_PREFACE && ANSWER_BODY + 16 == LEG_ANSWER);

/// What a leg asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which end of a circuit it is.
    pub role: Role,
    /// Suites its node offers; a hint for the other end.
    pub suites: SuiteMask,
    /// Which relay address it serves or wants.
    pub address: AddressHash,
    /// Inlet: it is to carry bulk. Its bytes may wait for a slow app for as long as that likes,
    /// and that is no sign of a dead path.
    pub bulk: bool,
}

/// The flag of a leg for bulk.
const FLAG_BULK: u8 = 1;

/// The relay's one answer to a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What follows comes from the other end.
    Paired {
        /// Suites the other end offers, a hint.
        suites: SuiteMask,
    },
    /// Nobody serves the address now.
    NoOutlet,
    /// The member's pass does not allow it.
    NotPermitted,
    /// A limit is reached.
    Busy {
        /// Wait this long.
        retry_ms: u32,
    },
    /// The relay is shutting down.
    GoingAway,
}

impl Answer {
    /// The reason under which a refusal is counted.
    pub fn reason(self) -> Option<CloseReason> {
        match self {
            Answer::Paired { .. } => None,
            Answer::NoOutlet => Some(CloseReason::NoOutlet),
            Answer::NotPermitted => Some(CloseReason::AddressNotPermitted),
            Answer::Busy { .. } => Some(CloseReason::RelayBusy),
            Answer::GoingAway => Some(CloseReason::RelayGoingAway),
        }
    }
}

/// Builds a leg's preface. The caller never uses `counter` twice in a session.
pub fn preface(
    key: &LegKey,
    session: SessionId,
    counter: u64,
    request: &Request,
) -> [u8; LEG_PREFACE] {
    let mut clear = [0; CLEAR];
    clear[..PREFACE].copy_from_slice(&Preface::bytes(Kind::Leg));
    clear[PREFACE..24].copy_from_slice(&session.0);
    clear[24..].copy_from_slice(&counter.to_be_bytes());
    let mut body = [0; BODY];
    body[0] = match request.role {
        Role::Inlet => 1,
        Role::Outlet => 2,
    };
    body[1] = if request.bulk { FLAG_BULK } else { 0 };
    body[2..4].copy_from_slice(&request.suites.0.to_be_bytes());
    body[4..36].copy_from_slice(&request.address.0);
    let mut out = [0; LEG_PREFACE];
    out[..CLEAR].copy_from_slice(&clear);
    out[CLEAR..].copy_from_slice(&key.seal_preface(counter, &clear, &body));
    out
}

/// Seals the answer to the preface that had `counter`.
pub fn seal_answer(key: &LegKey, counter: u64, answer: Answer) -> [u8; LEG_ANSWER] {
    let (code, suites, retry_ms) = match answer {
        Answer::Paired { suites } => (1, suites.0, 0),
        Answer::NoOutlet => (2, 0, 0),
        Answer::NotPermitted => (3, 0, 0),
        Answer::Busy { retry_ms } => (4, 0, retry_ms),
        Answer::GoingAway => (5, 0, 0),
    };
    let mut body = [0; ANSWER_BODY];
    body[0] = code;
    body[2..4].copy_from_slice(&suites.to_be_bytes());
    body[4..8].copy_from_slice(&retry_ms.to_be_bytes());
    key.seal_answer(counter, &body)
}

/// Opens the answer to the preface that had `counter`.
///
/// # Errors
/// [`LegError`] when the session's relay did not make it for this leg, or it makes no sense.
pub fn read_answer(key: &LegKey, counter: u64, bytes: &[u8]) -> Result<Answer, LegError> {
    let sealed = bytes.try_into().map_err(|_| LegError)?;
    parse_answer(&key.open_answer(counter, sealed)?).map_err(|_| LegError)
}

fn parse_answer(body: &[u8; ANSWER_BODY]) -> Result<Answer, CodecError> {
    let mut reader = Reader::new(body);
    let code = reader.u8()?;
    let reserved = reader.u8()?;
    let suites = SuiteMask(reader.u16()?);
    let retry_ms = reader.u32()?;
    if reserved != 0 || reader.bytes(ANSWER_BODY - 8)?.iter().any(|&byte| byte != 0) {
        return Err(CodecError::Value("the reserved part"));
    }
    match (code, suites.0, retry_ms) {
        (1, _, 0) => Ok(Answer::Paired { suites }),
        (2, 0, 0) => Ok(Answer::NoOutlet),
        (3, 0, 0) => Ok(Answer::NotPermitted),
        (4, 0, retry_ms) => Ok(Answer::Busy { retry_ms }),
        (5, 0, 0) => Ok(Answer::GoingAway),
        _ => Err(CodecError::Value("the answer")),
    }
}

fn parse_request(body: &[u8; BODY]) -> Result<Request, CodecError> {
    let mut reader = Reader::new(body);
    let role = match reader.u8()? {
        1 => Role::Inlet,
        2 => Role::Outlet,
        _ => return Err(CodecError::Value("the role")),
    };
    let bulk = match (role, reader.u8()?) {
        (_, 0) => false,
        (Role::Inlet, FLAG_BULK) => true,
        _ => return Err(CodecError::Value("the flags")),
    };
    let suites = SuiteMask(reader.u16()?);
    let address = AddressHash(reader.array()?);
    if reader.bytes(12)?.iter().any(|&byte| byte != 0) {
        return Err(CodecError::Value("the reserved part"));
    }
    Ok(Request {
        role,
        suites,
        address,
        bulk,
    })
}

/// A leg whose preface was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegInfo {
    /// The session whose key it showed.
    pub session: SessionId,
    /// Its counter, for the answer.
    pub counter: u64,
    /// Whose it is.
    pub member: Id,
    /// What it asks for.
    pub request: Request,
    /// The member's pass allows that, and (outlet) its session said that it serves it.
    pub permitted: bool,
}

/// Why a preface is not answered at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LegRefusal {
    /// Not the clear part of a leg's preface.
    #[error("not a leg preface")]
    Malformed,
    /// No such session here, now.
    #[error("the leg's session is not known here")]
    UnknownSession,
    /// The counter was used before, or is too old to tell.
    #[error("the leg's preface was used before")]
    Replayed,
    /// It does not authenticate.
    #[error("the leg's preface does not authenticate")]
    Forged,
    /// The member's pass has ended.
    #[error("the member's pass has ended")]
    Expired,
}

impl LegRefusal {
    /// The reason under which it is closed and counted.
    pub fn reason(self) -> CloseReason {
        match self {
            LegRefusal::Malformed => CloseReason::Malformed,
            LegRefusal::UnknownSession | LegRefusal::Replayed | LegRefusal::Forged => {
                CloseReason::BadLeg
            }
            LegRefusal::Expired => CloseReason::LegExpired,
        }
    }
}

/// Which counters of a session were used: one bit each, behind the highest seen (RFC 6479).
#[derive(Debug)]
struct Window {
    /// One above the highest counter seen.
    next: u64,
    bits: Box<[u64; WORDS]>,
}

const WORDS: usize = (LEG_WINDOW / 64) as usize;
const _: () = assert!(LEG_WINDOW.is_multiple_of(64));

impl Window {
    fn new() -> Window {
        Window {
            next: 0,
            bits: Box::new([0; WORDS]),
        }
    }

    fn place(counter: u64) -> (usize, u64) {
        let word = (counter / 64) % WORDS as u64;
        (word as usize, 1 << (counter % 64))
    }

    /// Whether the counter is neither used nor too old.
    fn is_fresh(&self, counter: u64) -> bool {
        if counter >= self.next {
            return counter < u64::MAX;
        }
        let (word, bit) = Window::place(counter);
        // One word less than the whole: the word of `next` is being cleared as it goes.
        self.next - counter <= LEG_WINDOW - 64 && self.bits[word] & bit == 0
    }

    /// Marks a fresh counter as used.
    fn mark(&mut self, counter: u64) {
        if counter >= self.next {
            let (first, last) = (self.next.div_ceil(64), counter / 64);
            for word in first..=last.min(first.saturating_add(WORDS as u64)) {
                self.bits[(word % WORDS as u64) as usize] = 0;
            }
            self.next = counter + 1;
        }
        let (word, bit) = Window::place(counter);
        self.bits[word] |= bit;
    }
}

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
}

impl LegTable {
    /// A session is there, or its pass was renewed.
    pub fn publish(&mut self, entry: LegEntry) {
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
    }

    /// The session ended. Legs that are on their way with its key are good for
    /// `limits::LEG_GRACE`, and so are its member's legs, unless the member has another session.
    pub fn end_session(&mut self, now: Instant, session: SessionId) {
        let Some(session) = self.sessions.get_mut(&session) else {
            return;
        };
        if session.until != Instant::FAR_FUTURE {
            return;
        }
        session.until = now + LEG_GRACE;
        if let Some(member) = self.members.get_mut(&session.entry.member) {
            member.live -= 1;
            member.grace = now + LEG_GRACE;
        }
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

    /// Whether a session that has not ended serves the address.
    pub fn is_served(&self, address: &AddressHash) -> bool {
        self.sessions.values().any(|session| {
            session.until == Instant::FAR_FUTURE && session.entry.serve.contains(address)
        })
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
            self.members.remove(id);
            self.sessions
                .retain(|_, session| session.entry.member != *id);
        }
        ended
    }
}

fn read_clear(clear: &[u8; CLEAR]) -> Result<(SessionId, u64), CodecError> {
    let mut reader = Reader::new(clear);
    if reader.array::<PREFACE>()? != Preface::bytes(Kind::Leg) {
        return Err(CodecError::Value("the preface"));
    }
    let session = SessionId(reader.array()?);
    Ok((session, u64::from_be_bytes(reader.array()?)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::time::Duration;

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

    #[test]
    fn only_an_inlets_leg_is_for_bulk() {
        let mut body = [0; BODY];
        body[1] = FLAG_BULK;
        for (role, is_bulk) in [(1, Some(true)), (2, None)] {
            body[0] = role;
            let bulk = parse_request(&body).ok().map(|request| request.bulk);
            assert_eq!(bulk, is_bulk);
        }
        body[..2].copy_from_slice(&[1, 2]);
        assert!(parse_request(&body).is_err(), "an unknown flag");
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
        assert!(!table.is_served(&ADDRESS));
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
        assert!(table.is_served(&ADDRESS));
    }

    #[test]
    fn an_expired_pass_ends_the_member_s_legs() {
        let mut table = table();
        let end = NOW + Duration::from_secs(3600);
        assert_eq!(table.check(end, &leg(1)), Err(LegRefusal::Expired));
        assert_eq!(table.next_deadline(), end);
        assert_eq!(table.sweep(end), [Id([1; 32])]);
    }

    #[test]
    fn answers_read_as_sealed_for_their_leg_only() {
        let answers = [
            Answer::Paired {
                suites: SuiteMask(3),
            },
            Answer::NoOutlet,
            Answer::NotPermitted,
            Answer::Busy { retry_ms: 250 },
            Answer::GoingAway,
        ];
        for answer in answers {
            let sealed = seal_answer(&key(), 4, answer);
            assert_eq!(read_answer(&key(), 4, &sealed), Ok(answer));
            assert_eq!(read_answer(&key(), 5, &sealed), Err(LegError));
        }
    }

    /// The window against a set that forgets nothing.
    #[test]
    fn no_counter_is_ever_fresh_twice() {
        let mut seed = 1_u64;
        let mut window = Window::new();
        let mut used = std::collections::BTreeSet::new();
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let jump = if seed >> 60 == 0 { 9000 } else { 300 };
            let counter = window.next.saturating_sub(200) + (seed >> 33) % jump;
            if window.is_fresh(counter) {
                assert!(used.insert(counter), "{counter} twice");
                window.mark(counter);
            } else {
                assert!(
                    used.contains(&counter),
                    "{counter} is near and was not used"
                );
            }
        }
        assert!(!window.is_fresh(0), "too old");
    }
}

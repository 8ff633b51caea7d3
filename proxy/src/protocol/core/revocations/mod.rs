//! What this node knows of revocations, and how fresh that is.
//!
//! The authority says once a second which list is the present one (a beacon); the node fetches the
//! list when that is not the one it holds. It has *heard* a beacon when it holds the list that the
//! beacon names. From then on age counts, on the monotonic clock:
//!
//! ```text
//! Waiting ── first beacon ──▸ Fresh ── 10 s ──▸ Late (warns) ── max age ──▸ Stale (cuts, opens nothing)
//!                               ▴                │                            │
//!                               └── a newer beacon, whose list is held ───────┘
//! ```
//! A beacon counts only if its number is above the last one's: a replayed one extends nothing. List
//! numbers never go down, also over a restart: both are on disk as the authority signed them.

mod held;
mod members;

pub use held::HeldRevocations;
pub use members::RevokedMembers;

use std::sync::Arc;

use crypto::check::{Revocation, Standing, TrustedAuthority};
use crypto::limits::REVOCATION_LIST_MAX;
use crypto::revocation::{Beacon, Keys, RevocationError, RevocationList};
use crypto::{Id, UnixTime};
use zeroize::Zeroizing;

use super::clock::AuthorityClock;
use super::io::{Level, LogRecord, Now};
use super::outbox::Outbox;
use super::status::RevocationsStatus;
use crate::error::{CloseReason, Problem};
use crate::limits::{BEACON_LATE, BEACON_PERSIST, BEACON_SKEW, REVOCATION_MAX_AGE};
use crate::time::{Duration, Instant};

/// How fresh the list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing was heard yet, and it is too early to worry.
    Waiting,
    /// A beacon came lately.
    Fresh,
    /// The newest beacon is older than `limits::BEACON_LATE`.
    Late,
    /// It is older than this end allows.
    Stale,
}

impl Freshness {
    /// Whether streams may be opened.
    pub fn permits(self) -> bool {
        matches!(self, Freshness::Fresh | Freshness::Late)
    }
}

/// What a beacon or a part of a list has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing yet: it is a replay, or the list is still to be fetched.
    Nothing,
    /// A beacon was heard for the list that was held before.
    Fresh,
    /// Another list is held now.
    List,
}

/// A list that is being fetched, and the newest beacon that names it.
struct Fetching {
    beacon: Beacon,
    heard: Instant,
    bytes: Vec<u8>,
}

/// See the module.
pub struct Revocations {
    max_age: Duration,
    list: Option<RevocationList>,
    revoked: Arc<RevokedMembers>,
    /// The newest that was believed.
    beacon: Option<Beacon>,
    heard: Option<Instant>,
    /// That is by what was on disk, and by the clock of then.
    from_disk: bool,
    fetching: Option<Fetching>,
    /// Waiting since then.
    since: Instant,
    persist_due: Instant,
    /// As it was at the last look.
    freshness: Freshness,
    fault_logged: bool,
}

impl Default for Revocations {
    fn default() -> Revocations {
        Revocations::new(REVOCATION_MAX_AGE, Instant::ZERO)
    }
}

impl Revocations {
    /// Nothing is known yet.
    pub fn new(max_age: Duration, now: Instant) -> Revocations {
        Revocations {
            max_age,
            list: None,
            revoked: Arc::default(),
            beacon: None,
            heard: None,
            from_disk: false,
            fetching: None,
            since: now,
            persist_due: Instant::ZERO,
            freshness: Freshness::Waiting,
            fault_logged: false,
        }
    }

    /// Goes on from what an earlier process wrote. Its beacon is as old as the wall clock says; one
    /// from the future says nothing.
    pub fn restore(&mut self, held: HeldRevocations, clock: &AuthorityClock, now: Now) {
        let HeldRevocations { list, beacon } = held;
        let millis = beacon.body().unix_millis;
        let age = clock.millis(now).checked_sub(millis);
        self.heard = age.and_then(|age| before(now.mono, Duration::from_millis(age)));
        self.revoked = Arc::new(RevokedMembers::of(&list));
        self.list = Some(list);
        self.beacon = Some(beacon);
        self.from_disk = true;
        self.freshness = self.freshness_at(now.mono);
    }

    /// The authority has told the time: what was on disk is as old as that says, whatever the wall
    /// clock said.
    pub fn on_time(&mut self, clock: &AuthorityClock, now: Now) {
        let Some(beacon) = self.beacon.as_ref().filter(|_| self.from_disk) else {
            return;
        };
        let age = clock.millis(now).saturating_sub(beacon.body().unix_millis);
        self.heard = before(now.mono, Duration::from_millis(age));
    }

    /// The node has become a member just now.
    pub fn begin(&mut self, now: Instant) {
        self.since = now;
        self.freshness = Freshness::Waiting;
        self.freshness = self.freshness_at(now);
    }

    /// Who is revoked, by the list that is held.
    pub fn revoked(&self) -> &Arc<RevokedMembers> {
        &self.revoked
    }

    /// For step (e) of the check.
    pub fn as_of(&self, now: Instant) -> AsOf<'_> {
        AsOf { held: self, now }
    }

    /// How long ago the newest beacon was heard.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.heard.map(|heard| now.since(heard))
    }

    /// What `status` shows.
    pub fn status(&self, now: Instant) -> RevocationsStatus {
        RevocationsStatus {
            list: self.revoked.number(),
            heard: self.age(now),
            max_age: self.max_age,
        }
    }

    /// How fresh the list is.
    pub fn freshness_at(&self, now: Instant) -> Freshness {
        let stale = match self.age(now) {
            Some(age) if age < self.max_age => {
                return if age < BEACON_LATE {
                    Freshness::Fresh
                } else {
                    Freshness::Late
                };
            }
            // A node that is back after an hour, or new, hears a beacon in a moment.
            Some(_) | None => now.since(self.since) >= BEACON_LATE,
        };
        if stale || self.freshness == Freshness::Stale || self.freshness.permits() {
            Freshness::Stale
        } else {
            Freshness::Waiting
        }
    }

    /// A beacon came.
    ///
    /// # Errors
    /// It is not the authority's, or [`Problem::RevocationsBack`]: it names an older list than the
    /// one that is held, or another one of that number.
    pub fn on_beacon(
        &mut self,
        now: Now,
        clock: &AuthorityClock,
        authority: &TrustedAuthority,
        bytes: &[u8],
    ) -> Result<Heard, BeaconFault> {
        let beacon = Beacon::verify(bytes, Keys::At(authority, clock.now(now)))?;
        let body = *beacon.body();
        let newest = self.fetching.as_ref().map(|fetching| &fetching.beacon);
        let newest = newest.or(self.beacon.as_ref()).map(|b| *b.body());
        if newest.is_some_and(|newest| body.list_number < newest.list_number) {
            return Err(BeaconFault::Back);
        }
        if let Some(newest) = newest.filter(|newest| body.number <= newest.number) {
            // A replay is as old as it is. One that is newer by its clock than what was heard before comes
            // from a store that went back.
            let skew = u64::try_from(BEACON_SKEW.as_millis()).unwrap_or(u64::MAX);
            let newer = body.unix_millis > newest.unix_millis.saturating_add(skew);
            return if newer {
                Err(BeaconFault::Back)
            } else {
                Ok(Heard::Nothing)
            };
        }
        let Some(heard) = self.heard_at(now, clock, body.unix_millis) else {
            return Ok(Heard::Nothing);
        };
        let held = self.list.as_ref().map(|list| list.body().number);
        if held == Some(body.list_number) {
            let same = self
                .list
                .as_ref()
                .is_some_and(|l| l.hash() == body.list_hash);
            if !same {
                return Err(BeaconFault::Back);
            }
            self.accept(beacon, heard);
            return Ok(Heard::Fresh);
        }
        match &mut self.fetching {
            Some(fetching) if fetching.beacon.body().list_hash == body.list_hash => {
                fetching.beacon = beacon;
                fetching.heard = heard;
            }
            fetching => {
                *fetching = Some(Fetching {
                    beacon,
                    heard,
                    bytes: Vec::new(),
                });
            }
        }
        Ok(Heard::Nothing)
    }

    /// When a beacon that came now counts from: one that was held back on its way is as old as it
    /// says, but for what clocks may differ.
    fn heard_at(&self, now: Now, clock: &AuthorityClock, unix_millis: u64) -> Option<Instant> {
        let age = clock.millis(now).saturating_sub(unix_millis);
        let late = Duration::from_millis(age).saturating_sub(BEACON_SKEW);
        before(now.mono, late)
    }

    fn accept(&mut self, beacon: Beacon, heard: Instant) {
        let known = self.heard.filter(|_| !self.from_disk);
        self.heard = Some(known.map_or(heard, |known| known.max(heard)));
        self.beacon = Some(beacon);
        self.from_disk = false;
        self.fault_logged = false;
    }

    /// A part of the list came; `number` is the list's, `length` that of the whole.
    ///
    /// # Errors
    /// It is not the list that the beacon names.
    pub fn on_part(
        &mut self,
        now: Now,
        clock: &AuthorityClock,
        authority: &TrustedAuthority,
        (number, length, offset): (u64, u32, u32),
        part: &[u8],
    ) -> Result<Heard, BeaconFault> {
        let Some(mut fetching) = self.fetching.take() else {
            return Ok(Heard::Nothing);
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if number != fetching.beacon.body().list_number {
            // There is a newer one, or an older one was still on the way: the next beacon says which.
            return Ok(Heard::Nothing);
        }
        let end = at.saturating_add(part.len());
        let fits = length <= REVOCATION_LIST_MAX && end <= length && !part.is_empty();
        if !fits || at != fetching.bytes.len() {
            return Err(BeaconFault::Parts);
        }
        fetching.bytes.extend_from_slice(part);
        if end < length {
            self.fetching = Some(fetching);
            return Ok(Heard::Nothing);
        }
        let list = RevocationList::verify(&fetching.bytes, Keys::At(authority, clock.now(now)))?;
        if list.hash() != fetching.beacon.body().list_hash || list.body().number != number {
            return Err(BeaconFault::Parts);
        }
        self.revoked = Arc::new(RevokedMembers::of(&list));
        self.list = Some(list);
        self.accept(fetching.beacon, fetching.heard);
        self.persist_due = Instant::ZERO;
        Ok(Heard::List)
    }

    /// From where on the list that is being fetched is missing.
    pub fn wants(&self) -> Option<u32> {
        let fetching = self.fetching.as_ref()?;
        u32::try_from(fetching.bytes.len()).ok()
    }

    /// The session is over: what was being fetched is asked for anew, by the next beacon.
    pub fn forget_fetching(&mut self) {
        self.fetching = None;
    }

    /// What to write to disk now, if anything.
    pub fn take_for_disk(&mut self, now: Instant) -> Option<Zeroizing<Vec<u8>>> {
        if self.persist_due > now {
            return None;
        }
        let (list, beacon) = (self.list.clone()?, self.beacon.clone()?);
        self.persist_due = now + BEACON_PERSIST;
        Some(HeldRevocations { list, beacon }.encode())
    }

    /// Logs what the clock has changed. Returns whether streams may be opened now, where that is
    /// news.
    pub fn look(&mut self, out: &mut Outbox, now: Instant) -> Option<bool> {
        let before = self.freshness;
        self.freshness = self.freshness_at(now);
        if before == self.freshness {
            return None;
        }
        let age_s = self.age(now).map_or(0, |age| age.as_secs());
        let late = |level, problem: Problem| {
            LogRecord::new(level, problem.to_string())
                .code(problem.code())
                .with("seconds", age_s)
        };
        match (before, self.freshness) {
            (_, Freshness::Late) => {
                let record = late(Level::Warn, Problem::RevocationsLate);
                out.log(record.with("streams_end_at_seconds", self.max_age.as_secs()));
            }
            (_, Freshness::Stale) => {
                let why = CloseReason::RevocationStale;
                let record = LogRecord::new(Level::Error, why.to_string()).code(why.code());
                out.log(record.with("seconds", age_s).with("mend", why.mend()));
            }
            (Freshness::Late | Freshness::Stale, Freshness::Fresh) => {
                let what = "the authority's word on revocations is there again";
                out.log(LogRecord::new(Level::Info, what));
            }
            (Freshness::Waiting | Freshness::Fresh, Freshness::Fresh) | (_, Freshness::Waiting) => {
            }
        }
        out.status_changed();
        let permits = self.freshness.permits();
        (before.permits() != permits || self.freshness == Freshness::Stale).then_some(permits)
    }

    /// When [`look`](Self::look) has something to do.
    pub fn next_timer(&self) -> Instant {
        let late = match self.heard {
            Some(heard) => heard + BEACON_LATE,
            None => Instant::FAR_FUTURE,
        };
        let stale = self.heard.map_or(self.since, |heard| heard + self.max_age);
        match self.freshness {
            Freshness::Fresh => late.min(stale),
            Freshness::Late => stale,
            Freshness::Waiting => self.since + BEACON_LATE,
            Freshness::Stale => Instant::FAR_FUTURE,
        }
    }

    /// Whether a fault of a beacon was not logged since the last good one.
    pub fn fault_is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.fault_logged, true)
    }
}

/// So long before that. Nothing if the clock did not run yet then: it counts from the machine's start,
/// and what is older must not look younger.
fn before(now: Instant, age: Duration) -> Option<Instant> {
    (age <= now.since(Instant::ZERO)).then(|| now - age)
}

/// Why a beacon or a part was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeaconFault {
    /// It is not believed.
    #[error(transparent)]
    NotBelieved(#[from] RevocationError),
    /// It names an older list than was seen, or another one of that number.
    #[error("it names an older list than the one held, or another of that number")]
    Back,
    /// The parts don't make the list that the beacon names.
    #[error("its parts are not the list that the beacon names")]
    Parts,
}

/// The list as the check sees it at an instant.
pub struct AsOf<'a> {
    held: &'a Revocations,
    now: Instant,
}

impl Revocation for AsOf<'_> {
    fn standing(&self, id: &Id, serial: u64, _now: UnixTime) -> Standing {
        if self.held.revoked.has(id, serial) {
            return Standing::Revoked;
        }
        match self.held.age(self.now) {
            Some(age) if age < self.held.max_age => Standing::Good,
            Some(age) => Standing::Stale {
                age_s: age.as_secs(),
            },
            None => Standing::Stale {
                age_s: self.now.since(self.held.since).as_secs(),
            },
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and looks at the cases it is about"
)]
mod tests;

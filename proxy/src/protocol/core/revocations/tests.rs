use super::*;
use crate::error::Code;
use crate::protocol::core::outbox::Outbox;
use crate::protocol::testkit::{NOW, Project};
use crypto::SeededRandom;
use crypto::revocation::RevocationEntry;

const MAX_AGE: Duration = Duration::from_secs(60);
/// How long the machine runs when the tests begin.
const UPTIME_S: u64 = 1_000;

/// So many seconds after the beginning, by right clocks.
fn at(seconds: u64) -> Now {
    Now {
        mono: Instant::from_nanos((UPTIME_S + seconds) * 1_000_000_000),
        wall_millis: (NOW.0 + seconds) * 1000,
    }
}

fn mono(seconds: u64) -> Instant {
    at(seconds).mono
}

struct World {
    project: Project,
    authority: TrustedAuthority,
    clock: AuthorityClock,
    held: Revocations,
}

impl World {
    fn new() -> World {
        let project = Project::new(1);
        World {
            authority: project.trusted(),
            clock: AuthorityClock::default(),
            held: Revocations::new(MAX_AGE, mono(0)),
            project,
        }
    }

    /// List `number`, which names that many members.
    fn list(&self, number: u64, members: u8) -> RevocationList {
        let entry = |n: u8| RevocationEntry {
            member: Id([n; 32]),
            max_serial: 10,
            number: 1,
        };
        let entries = (0..members).map(entry).collect();
        RevocationList::issue(&self.project.authority, number, entries).unwrap()
    }

    /// Beacon `number` for `list`, made at that second and received at `now`.
    fn hear(
        &mut self,
        now: u64,
        number: u64,
        list: &RevocationList,
        made: u64,
    ) -> Result<Heard, BeaconFault> {
        let millis = at(made).wall_millis;
        let beacon = Beacon::issue(&self.project.authority, number, list, millis);
        let (clock, authority) = (&self.clock, &self.authority);
        self.held
            .on_beacon(at(now), clock, authority, &beacon.encode())
    }

    fn part(
        &mut self,
        now: u64,
        place: (u64, u32, u32),
        part: &[u8],
    ) -> Result<Heard, BeaconFault> {
        let (clock, authority) = (&self.clock, &self.authority);
        self.held.on_part(at(now), clock, authority, place, part)
    }

    /// Fetches the whole of `list` in one part.
    fn fetch(&mut self, now: u64, list: &RevocationList) -> Result<Heard, BeaconFault> {
        let bytes = list.encode();
        let length = u32::try_from(bytes.len()).unwrap();
        self.part(now, (list.body().number, length, 0), &bytes)
    }

    fn fresh(&self, now: u64) -> Freshness {
        self.held.freshness_at(mono(now))
    }
}

/// One that holds list 1 since second 0, by beacon 10.
fn holding() -> World {
    let mut world = World::new();
    let list = world.list(1, 1);
    assert_eq!(world.hear(0, 10, &list, 0), Ok(Heard::Nothing));
    assert_eq!(world.held.wants(), Some(0));
    assert_eq!(world.fetch(0, &list), Ok(Heard::List));
    assert_eq!(world.held.wants(), None);
    world
}

#[test]
fn a_beacon_is_heard_when_its_list_is_held_and_not_before() {
    let mut world = World::new();
    assert_eq!(world.fresh(0), Freshness::Waiting);
    let list = world.list(1, 1);
    world.hear(1, 10, &list, 1).unwrap();
    assert_eq!(world.held.age(mono(2)), None, "it holds nothing yet");
    world.fetch(2, &list).unwrap();
    assert_eq!(world.held.age(mono(2)), Some(Duration::from_secs(1)));
    assert!(world.held.revoked().has(&Id([0; 32]), 10));
    assert!(!world.held.revoked().has(&Id([0; 32]), 11));
    assert!(!world.held.revoked().has(&Id([1; 32]), 1));
}

#[test]
fn a_replayed_beacon_extends_nothing() {
    let mut world = holding();
    let list = world.list(1, 1);
    assert_eq!(world.hear(5, 11, &list, 5), Ok(Heard::Fresh));
    for now in [6, 30, 59] {
        for (number, said) in [(11, 5), (10, 4), (1, 0)] {
            assert_eq!(world.hear(now, number, &list, said), Ok(Heard::Nothing));
        }
    }
    assert_eq!(world.fresh(64), Freshness::Late);
    assert_eq!(world.fresh(65), Freshness::Stale);
}

#[test]
fn a_newer_beacon_with_an_older_number_is_of_a_store_that_went_back() {
    let mut world = holding();
    let list = world.list(1, 1);
    assert_eq!(world.hear(5, 11, &list, 5), Ok(Heard::Fresh));
    assert_eq!(world.hear(30, 10, &list, 30), Err(BeaconFault::Back));
    assert_eq!(world.fresh(65), Freshness::Stale, "it extends nothing");
}

#[test]
fn a_beacon_that_was_held_back_is_as_old_as_it_says() {
    let mut world = holding();
    let list = world.list(1, 1);
    // 40 beacons come at once, 40 s late: the newest of them is 40 s old, less what clocks may differ.
    for number in 11..51 {
        world.hear(80, number, &list, number - 11).unwrap();
    }
    let age = world.held.age(mono(80)).unwrap();
    assert_eq!(age, Duration::from_secs(80 - 39) - BEACON_SKEW);
}

#[test]
fn an_older_list_and_another_of_the_same_number_are_refused() {
    let mut world = holding();
    let newer = world.list(5, 2);
    world.hear(1, 11, &newer, 1).unwrap();
    world.fetch(1, &newer).unwrap();
    let (older, other) = (world.list(4, 3), world.list(5, 0));
    assert_eq!(world.hear(2, 12, &older, 2), Err(BeaconFault::Back));
    assert_eq!(world.hear(2, 13, &other, 2), Err(BeaconFault::Back));
    assert_eq!(world.held.revoked().number(), 5);
    assert_eq!(world.held.age(mono(2)), Some(Duration::from_secs(1)));
}

#[test]
fn a_list_comes_in_parts_and_must_be_the_one_that_was_named() {
    let mut world = holding();
    let list = world.list(2, 200);
    let bytes = list.encode();
    let length = u32::try_from(bytes.len()).unwrap();
    world.hear(1, 11, &list, 1).unwrap();
    assert_eq!(
        world.part(1, (2, length, 0), &bytes[..4000]),
        Ok(Heard::Nothing)
    );
    assert_eq!(world.held.wants(), Some(4000));
    // A newer beacon for the same list does not begin anew.
    world.hear(2, 12, &list, 2).unwrap();
    assert_eq!(world.held.wants(), Some(4000));
    assert_eq!(
        world.part(2, (2, length, 4000), &bytes[4000..]),
        Ok(Heard::List)
    );
    assert_eq!(world.held.age(mono(2)), Some(Duration::ZERO));

    let next = world.list(3, 3);
    let bytes = next.encode();
    let length = u32::try_from(bytes.len()).unwrap();
    let wrong: [(u32, u32, &[u8]); 5] = [
        (length, 1, &bytes[1..]),
        (length - 1, 0, &bytes),
        (u32::MAX, 0, &bytes),
        (length, 0, &[]),
        (length, 0, &[0; 8]),
    ];
    for (number, (length, offset, part)) in (20..).zip(wrong) {
        world.hear(3, number, &next, 3).unwrap();
        let taken = world.part(3, (3, length, offset), part);
        if part.len() == 8 {
            assert_eq!(taken, Ok(Heard::Nothing), "it could be the beginning");
        } else {
            assert_eq!(taken, Err(BeaconFault::Parts), "{length} {offset}");
        }
        world.held.forget_fetching();
    }
    // The authority's own, and not the one that the beacon names.
    world.hear(4, 30, &next, 4).unwrap();
    let other = world.list(3, 4);
    assert_eq!(world.fetch(4, &other), Err(BeaconFault::Parts));
    assert_eq!(world.held.revoked().number(), 2);
}

#[test]
fn nobody_else_s_beacon_counts() {
    let mut world = holding();
    let list = world.list(1, 1);
    let stranger = Project::new(9);
    let theirs = Beacon::issue(&stranger.authority, 99, &list, at(1).wall_millis);
    let (clock, authority) = (&world.clock, &world.authority);
    let heard = world
        .held
        .on_beacon(at(1), clock, authority, &theirs.encode());
    assert!(
        matches!(heard, Err(BeaconFault::NotBelieved(_))),
        "{heard:?}"
    );
}

#[test]
fn it_warns_once_at_ten_seconds_cuts_at_the_age_allowed_and_says_when_it_is_back() {
    let mut world = holding();
    let list = world.list(1, 1);
    let mut out = Outbox::new(Box::new(SeededRandom::new(1)));
    let mut look = |world: &mut World, now: u64| {
        let turned = world.held.look(&mut out, mono(now));
        let logged = std::iter::from_fn(|| out.poll()).filter_map(|output| match output {
            crate::protocol::core::io::Output::Log(record) => Some(record.code),
            _ => None,
        });
        (turned, logged.collect::<Vec<Option<Code>>>())
    };
    assert_eq!(look(&mut world, 0), (Some(true), vec![]));
    assert_eq!(world.held.next_timer(), mono(10));
    assert_eq!(look(&mut world, 9), (None, vec![]));
    let late = Some(Problem::RevocationsLate.code());
    assert_eq!(look(&mut world, 10), (None, vec![late]));
    assert_eq!(look(&mut world, 59), (None, vec![]));
    assert_eq!(world.held.next_timer(), mono(60));
    let stale = Some(CloseReason::RevocationStale.code());
    assert_eq!(look(&mut world, 60), (Some(false), vec![stale]));
    assert_eq!(look(&mut world, 4000), (None, vec![]));
    world.hear(4001, 12, &list, 4001).unwrap();
    assert_eq!(look(&mut world, 4001), (Some(true), vec![None]));
}

#[test]
fn what_is_on_disk_goes_on_at_its_age_and_is_never_younger() {
    let mut world = holding();
    let list = world.list(1, 1);
    let bytes = world.held.take_for_disk(mono(0)).unwrap();
    assert!(
        world.held.take_for_disk(mono(59)).is_none(),
        "once a minute"
    );
    assert!(world.held.take_for_disk(mono(60)).is_some());
    let restored = |now: Now| {
        let held = HeldRevocations::decode(&bytes, &world.authority).unwrap();
        let mut again = Revocations::new(MAX_AGE, now.mono);
        again.restore(held, &world.clock, now);
        again
    };
    assert_eq!(
        restored(at(20)).age(mono(20)),
        Some(Duration::from_secs(20))
    );
    assert_eq!(restored(at(61)).freshness_at(mono(61)), Freshness::Waiting);
    assert_eq!(restored(at(61)).freshness_at(mono(72)), Freshness::Stale);
    // The machine was started since: its clock counts from there.
    let booted = Now {
        mono: Instant::from_nanos(5_000_000_000),
        wall_millis: at(50).wall_millis,
    };
    assert_eq!(restored(booted).age(booted.mono), None);
    // Its wall clock is behind: nothing can be said of the age.
    let behind = Now {
        mono: mono(1),
        wall_millis: at(0).wall_millis - 3_600_000,
    };
    assert_eq!(restored(behind).age(behind.mono), None);
    // Until the authority tells the time, which counts in place of the wall clock.
    let mut corrected = restored(behind);
    let mut clock = AuthorityClock::default();
    assert!(clock.learn(mono(2), mono(2), at(30).wall_millis));
    corrected.on_time(&clock, at(2));
    assert_eq!(corrected.age(mono(2)), Some(Duration::from_secs(30)));
    // An older beacon than the one on disk is a replay after a restart too.
    let mut again = restored(at(20));
    let beacon = Beacon::issue(&world.project.authority, 10, &list, at(0).wall_millis);
    let heard = again.on_beacon(at(20), &world.clock, &world.authority, &beacon.encode());
    assert_eq!(heard, Ok(Heard::Nothing));
    for n in 0..bytes.len() {
        let mut altered = bytes.to_vec();
        altered[n] ^= 1;
        assert!(HeldRevocations::decode(&altered, &world.authority).is_err());
    }
}

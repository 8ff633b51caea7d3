//! Two authority processes, as far as a store can tell: two connections, two threads, and clocks that are
//! ten seconds apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;

use crypto::{Id, UnixTime};
use proxy::protocol::audit::AuditAction;
use proxy::protocol::store::{
    IssuedRow, MemberKey, RedeemAnswer, RenewAnswer, Revoke, RevokeAnswer, Stamp, Store,
};
use tests::postgres::Postgres;
use tests::process::long;

use super::common::{Place, T0, admit, id, project, redeem, renew, ticket, verified};

/// Members, and identities that race for tickets.
const NODES: u8 = 100;
/// A ticket's uses, of which each node tries one.
const USES: u32 = 7;

/// How far apart the two clocks are from the true time.
const SKEWS: [i64; 2] = [-5, 5];

fn skewed(seconds: u64, skew: i64) -> UnixTime {
    UnixTime(T0.plus(seconds).0.saturating_add_signed(skew))
}

/// Numbers that look random and are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What one process did.
#[derive(Default)]
struct Done {
    /// Whom each serial was given to.
    serials: Vec<(u64, Id)>,
    lists: Vec<u64>,
    /// Numbers of beacons and the lists that they named, in the order in which they were given.
    beacons: Vec<(u64, u64)>,
}

fn renews_and_revokes(place: &Place, skew: i64, seed: u64) -> Done {
    let mut store = place.open();
    let mut chance = Chance(seed);
    let mut done = Done::default();
    let rounds = if long() { 500 } else { 250 };
    for round in 0..rounds {
        let now = skewed(100 + 6 * round, skew);
        let who = 1 + u8::try_from(chance.below(NODES.into())).unwrap();
        match chance.below(8) {
            0 => {
                let revoke = Revoke {
                    member: MemberKey::Id(id(who)),
                    actor: id(0xaa),
                    reason: String::new(),
                    now,
                };
                let answer = store.revoke(&revoke).unwrap();
                if let RevokeAnswer::Revoked { entry, .. } = answer {
                    done.lists.push(entry.number);
                } else {
                    let known = matches!(answer, RevokeAnswer::Already(_));
                    assert!(known, "seed {seed}: {answer:?}");
                }
            }
            1 => {
                let stamped = store.stamp(&Stamp { have: None, now }).unwrap();
                done.beacons.push((stamped.number, stamped.list_number));
            }
            _ => {
                let answer = store.renew(&renew(who, now)).unwrap();
                if let RenewAnswer::Renewed(issue) = answer {
                    done.serials.push((issue.member.serial, issue.member.id));
                } else {
                    assert_eq!(answer, RenewAnswer::MemberRevoked, "seed {seed}");
                }
            }
        }
    }
    done
}

fn all_issued(store: &mut dyn Store) -> Vec<IssuedRow> {
    let mut issued: Vec<IssuedRow> = Vec::new();
    loop {
        let last = issued.last().map_or(0, |row| row.serial);
        let page = store.issued(last).unwrap();
        if page.is_empty() {
            return issued;
        }
        issued.extend(page);
    }
}

#[test]
fn no_credential_survives_its_revocation_when_two_processes_race() {
    let name = "no_credential_survives_its_revocation_when_two_processes_race";
    let Some(server) = Postgres::shared(name).unwrap() else {
        return;
    };
    let place = Place::Postgres(server.database().unwrap().url());
    let mut store = place.open();
    store.create_project(&project()).unwrap();
    for who in 1..=NODES {
        store.admit(&admit(who, T0)).unwrap();
    }
    let done: Vec<Done> = thread::scope(|scope| {
        let running = SKEWS.iter().zip([1, 2]).map(|(&skew, seed)| {
            let place = &place;
            scope.spawn(move || renews_and_revokes(place, skew, seed))
        });
        let running: Vec<_> = running.collect();
        running.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let [one, other] = done.as_slice() else {
        unreachable!("two processes ran")
    };

    // A list's number is given once, and numbers rise in each process.
    let lists: BTreeSet<u64> = one.lists.iter().chain(&other.lists).copied().collect();
    assert_eq!(lists.len(), one.lists.len() + other.lists.len());
    assert!(one.lists.is_sorted() && other.lists.is_sorted());
    // Whoever signs it, a beacon of a higher number names no older list.
    let mut beacons = [one.beacons.as_slice(), &other.beacons].concat();
    beacons.sort_unstable();
    assert!(beacons.windows(2).all(|two| two[0].0 < two[1].0));
    assert!(beacons.is_sorted_by_key(|(_, list)| *list), "{beacons:?}");

    let now = skewed(0, 0);
    let entries = store.stamp(&Stamp { have: None, now }).unwrap().entries;
    let entries = entries.unwrap();
    assert_eq!(entries.len(), one.lists.len() + other.lists.len());
    let issued = all_issued(store.as_mut());
    let owners: BTreeMap<u64, Id> = issued.iter().map(|row| (row.serial, row.member)).collect();
    for (serial, member) in one.serials.iter().chain(&other.serials) {
        assert_eq!(owners.get(serial), Some(member), "serial {serial}");
    }
    for entry in &entries {
        // A serial above would be a credential that nobody revoked.
        let of_member = issued.iter().filter(|row| row.member == entry.member);
        let newest = of_member.map(|row| row.serial).max();
        assert_eq!(newest, Some(entry.max_serial), "of {}", entry.member);
    }
    let rows = verified(store.as_mut());
    let of = |action| rows.iter().filter(|row| row.event.action == action).count();
    assert_eq!(of(AuditAction::MemberRevoked), entries.len());
    assert_eq!(of(AuditAction::CredentialIssued), issued.len());
    println!(
        "{} renewed, {} revoked",
        one.serials.len() + other.serials.len(),
        entries.len()
    );
}

#[test]
fn of_a_hundred_nodes_that_race_at_two_processes_as_many_win_as_a_ticket_has_uses() {
    let name = "of_a_hundred_nodes_that_race_at_two_processes_as_many_win_as_a_ticket_has_uses";
    let Some(server) = Postgres::shared(name).unwrap() else {
        return;
    };
    let place = Place::Postgres(server.database().unwrap().url());
    let mut store = place.open();
    store.create_project(&project()).unwrap();
    store.create_ticket(&ticket(1, USES)).unwrap();
    // Each process has half of the nodes, so all of them race for the same uses.
    let winners = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (half, skew) in [0, 1].into_iter().zip(SKEWS) {
            let (place, winners) = (&place, &winners);
            scope.spawn(move || {
                let mut store = place.open();
                for who in (1..=NODES).filter(|who| who % 2 == half) {
                    let now = skewed(10, skew);
                    let answer = store.redeem(&redeem(1, who, now)).unwrap();
                    if let RedeemAnswer::Enrolled(issue) = answer {
                        winners.lock().unwrap().push(issue);
                    } else {
                        let used = matches!(answer, RedeemAnswer::Used { .. });
                        assert!(used, "{answer:?}");
                    }
                }
            });
        }
    });
    let winners = winners.into_inner().unwrap();
    assert_eq!(winners.len(), USES as usize);
    let serials: BTreeSet<u64> = winners.iter().map(|issue| issue.member.serial).collect();
    let names: BTreeSet<&str> = winners.iter().map(|it| it.member.name.as_str()).collect();
    assert_eq!((serials.len(), names.len()), (winners.len(), winners.len()));
    let row = store.tickets(None).unwrap().remove(0);
    assert_eq!(row.redemptions.len(), USES as usize);
    assert_eq!(store.members(None).unwrap().len(), winners.len());
    // A winner that lost its answer asks the other process.
    let winner = winners[0].member.id.0[0];
    let again = place.open().redeem(&redeem(1, winner, skewed(20, 5)));
    assert!(matches!(again, Ok(RedeemAnswer::Enrolled(issue)) if issue.member.id == id(winner)));
    verified(store.as_mut());
}

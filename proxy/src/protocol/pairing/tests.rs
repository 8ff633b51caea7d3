//! The rules of pairing, one each, and random runs that keep the books.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use crypto::leg::LegKey;

use super::*;
use crate::ids::SessionId;
use crate::limits::{LEG_GRACE, LEG_PREFACE, LEG_UNPROVEN, OUTLET_SKIP, PARK_ASK_AGAIN};
use crate::protocol::command::{ConnectSet, LegEntry};
use crate::protocol::leg::{LegPreface, LegTable};
use crate::time::Duration;

const ADDRESS: AddressHash = AddressHash([5; 32]);

/// A relay with its table of legs; members and sessions are named by small numbers.
struct Relay {
    now: Instant,
    table: LegTable,
    pairing: Pairing,
    counter: u64,
    handles: u64,
}

impl Relay {
    fn new() -> Relay {
        let (table, pairing) = (LegTable::default(), Pairing::new());
        Relay {
            now: Instant::ZERO,
            table,
            pairing,
            counter: 0,
            handles: 0,
        }
    }

    fn session_until(&mut self, member: u8, session: u8, ends: u64) {
        let entry = LegEntry {
            session: SessionId([session; 16]),
            key: LegKey::from_secret(&[session; 32]),
            member: Id([member; 32]),
            serve: if member < 10 {
                vec![ADDRESS]
            } else {
                Vec::new()
            },
            connect: ConnectSet::All,
            not_after: Instant::ZERO + Duration::from_secs(ends),
        };
        let standing = self.table.insert(self.now, entry);
        self.pairing.on_standing(self.now, standing);
        self.pairing.check();
    }

    /// Outlets are members 1 to 9 and inlets from 10 on; a session has its member's number.
    fn session(&mut self, member: u8) {
        self.session_until(member, member, 3600);
    }

    fn gone(&mut self, session: u8) {
        let standing = self.table.gone(self.now, SessionId([session; 16]));
        if let Some(standing) = standing {
            self.pairing.on_standing(self.now, standing);
        }
        self.pairing.check();
    }

    fn preface(&mut self, member: u8) -> [u8; LEG_PREFACE] {
        self.counter += 1;
        let role = if member < 10 {
            Role::Outlet
        } else {
            Role::Inlet
        };
        let suites = SuiteMask(u16::from(member));
        let (session, counter) = (SessionId([member; 16]), self.counter);
        let leg = LegPreface {
            session,
            counter,
            role,
            suites,
            address: ADDRESS,
        };
        leg.seal(&LegKey::from_secret(&[member; 32]))
    }

    fn leg(&mut self, member: u8) -> (LegHandle, Verdict) {
        let preface = self.preface(member);
        let info = match self.table.check(self.now, &preface) {
            Ok(info) => info,
            Err(refused) => panic!("a good leg is refused: {refused:?}"),
        };
        self.handles += 1;
        let handle = LegHandle(self.handles);
        let verdict = self.pairing.on_leg(self.now, handle, &info);
        self.pairing.check();
        (handle, verdict)
    }

    fn waits(&mut self, member: u8) -> LegHandle {
        let (handle, verdict) = self.leg(member);
        assert_eq!(verdict, Verdict::Waits);
        handle
    }

    fn paired(&mut self, member: u8) -> Pair {
        match self.leg(member) {
            (_, Verdict::Paired(pair)) => pair,
            (_, other) => panic!("{other:?} where a pair is due"),
        }
    }

    fn refused(&mut self, member: u8) -> Answer {
        match self.leg(member) {
            (_, Verdict::Refused(answer)) => answer,
            (_, other) => panic!("{other:?} where a refusal is due"),
        }
    }

    fn leg_gone(&mut self, leg: LegHandle) {
        self.pairing.on_gone(self.now, leg);
        self.pairing.check();
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.pairing.on_timer(self.now);
        self.pairing.check();
    }

    fn outcomes(&mut self) -> Vec<Outcome> {
        std::iter::from_fn(|| self.pairing.poll()).collect()
    }

    /// What was said except for requests to park more.
    fn decided(&mut self) -> Vec<Outcome> {
        let all = self.outcomes().into_iter();
        all.filter(|outcome| !matches!(outcome, Outcome::ParkLow { .. }))
            .collect()
    }

    fn asked(&mut self) -> Vec<u16> {
        let all = self.outcomes().into_iter();
        all.filter_map(|outcome| match outcome {
            Outcome::ParkLow { want, .. } => Some(want),
            Outcome::Paired(_)
            | Outcome::Refused { .. }
            | Outcome::Ended { .. }
            | Outcome::MemberEnded(_) => None,
        })
        .collect()
    }
}

#[test]
fn a_parked_leg_is_paired_at_once_and_each_end_learns_the_others_suites() {
    let mut relay = Relay::new();
    relay.session(1);
    relay.session(10);
    let outlet = relay.waits(1);
    let pair = relay.paired(10);
    assert_eq!(pair.outlet, outlet);
    assert_eq!(
        (pair.inlet_suites, pair.outlet_suites),
        (SuiteMask(10), SuiteMask(1))
    );
    assert_eq!(relay.pairing.counts(), (0, 2));
}

#[test]
fn nobody_serves_so_nobody_waits() {
    let mut relay = Relay::new();
    relay.session(10);
    assert_eq!(relay.refused(10), Answer::NoOutlet);
    relay.session(1);
    relay.waits(10);
    relay.gone(1);
    let all = relay.decided();
    assert!(
        matches!(
            all[..],
            [Outcome::Refused {
                answer: Answer::NoOutlet,
                ..
            }]
        ),
        "{all:?}"
    );
    assert_eq!(relay.refused(10), Answer::NoOutlet);
}

#[test]
fn nothing_is_kept_of_addresses_that_nobody_serves() {
    let mut relay = Relay::new();
    relay.session(10);
    let key = LegKey::from_secret(&[10; 32]);
    for counter in 1..100 {
        let (session, suites) = (SessionId([10; 16]), SuiteMask(1));
        let address = AddressHash([counter; 32]);
        let counter = u64::from(counter);
        let leg = LegPreface {
            session,
            counter,
            role: Role::Inlet,
            suites,
            address,
        };
        let info = relay.table.check(relay.now, &leg.seal(&key));
        let verdict = info.map(|info| relay.pairing.on_leg(relay.now, LegHandle(counter), &info));
        assert_eq!(verdict.ok(), Some(Verdict::Refused(Answer::NoOutlet)));
    }
    assert!(relay.pairing.addresses.is_empty() && relay.pairing.legs.is_empty());
}

#[test]
fn a_leg_waits_five_seconds_for_a_live_outlet() {
    let mut relay = Relay::new();
    relay.session(1);
    relay.session(10);
    let leg = relay.waits(10);
    assert_eq!(relay.pairing.next_deadline(), Instant::ZERO + PAIR_WAIT);
    relay.pass(PAIR_WAIT);
    assert_eq!(
        relay.decided(),
        [Outcome::Refused {
            leg,
            answer: Answer::NoOutlet
        }]
    );
    let leg = relay.waits(10);
    let pair = relay.paired(1);
    assert_eq!(pair.inlet, leg);
    relay.pass(PAIR_WAIT);
    assert_eq!(relay.decided(), [], "what is paired waits no more");
}

#[test]
fn the_oldest_parked_leg_goes_first() {
    let mut relay = Relay::new();
    relay.session(1);
    relay.session(10);
    let legs: Vec<LegHandle> = (0..3).map(|_| relay.waits(1)).collect();
    relay.leg_gone(legs[0]);
    assert_eq!(relay.paired(10).outlet, legs[1]);
    assert_eq!(relay.paired(10).outlet, legs[2]);
}

#[test]
fn waiting_members_take_turns() {
    let mut relay = Relay::new();
    for member in [1, 10, 11] {
        relay.session(member);
    }
    let greedy: Vec<LegHandle> = (0..3).map(|_| relay.waits(10)).collect();
    let modest = relay.waits(11);
    let order: Vec<LegHandle> = (0..4).map(|_| relay.paired(1).inlet).collect();
    assert_eq!(order, [greedy[0], modest, greedy[1], greedy[2]]);
}

#[test]
fn an_inlet_stays_with_its_outlet_while_that_answers() {
    let mut relay = Relay::new();
    for member in [1, 2, 10, 11] {
        relay.session(member);
    }
    relay.waits(1);
    let first = relay.paired(10);
    relay.pass(LEG_UNPROVEN);
    relay.waits(2);
    let waiting = relay.waits(10);
    assert_eq!(
        relay.paired(1).inlet,
        waiting,
        "outlet 2's parked leg was not for it"
    );
    relay.leg_gone(first.inlet);
    relay.waits(1);
    relay.gone(1);
    let pair = relay.paired(10);
    assert_eq!(
        pair.outlet_suites,
        SuiteMask(1),
        "a leg that is parked still answers"
    );
}

#[test]
fn an_inlet_goes_to_another_outlet_when_its_own_is_gone() {
    let mut relay = Relay::new();
    for member in [1, 2, 10] {
        relay.session(member);
    }
    relay.waits(1);
    relay.paired(10);
    relay.pass(LEG_UNPROVEN);
    let other = relay.waits(2);
    let waiting = relay.waits(10);
    relay.gone(1);
    let all = relay.decided();
    assert!(
        matches!(all[..], [Outcome::Paired(Pair { inlet, outlet, .. })] if (inlet, outlet) == (waiting, other)),
        "{all:?}"
    );
}

#[test]
fn without_ties_the_outlet_with_fewest_circuits_is_taken_and_one_that_failed_is_skipped() {
    let mut relay = Relay::new();
    for member in [1, 2, 10, 11, 12, 13] {
        relay.session(member);
    }
    let ones: Vec<LegHandle> = (0..3).map(|_| relay.waits(1)).collect();
    let twos: Vec<LegHandle> = (0..3).map(|_| relay.waits(2)).collect();
    assert_eq!(relay.paired(10).outlet, ones[0], "the oldest leg");
    let pair = relay.paired(11);
    assert_eq!(pair.outlet, twos[0], "the fewest circuits");
    relay.leg_gone(pair.outlet);
    relay.leg_gone(pair.inlet);
    assert_eq!(
        relay.paired(12).outlet,
        ones[1],
        "outlet 2 has failed just now"
    );
    relay.pass(OUTLET_SKIP);
    assert_eq!(relay.paired(13).outlet, twos[1]);
}

#[test]
fn an_outlet_that_fails_early_does_not_keep_its_inlet() {
    let mut relay = Relay::new();
    for member in [1, 2, 10] {
        relay.session(member);
    }
    relay.waits(1);
    let other = relay.waits(2);
    let pair = relay.paired(10);
    relay.waits(1);
    relay.leg_gone(pair.outlet);
    assert_eq!(relay.paired(10).outlet, other);
}

#[test]
fn unfinished_circuits_of_a_member_are_bounded() {
    let mut relay = Relay::new();
    for member in [1, 10, 11] {
        relay.session(member);
    }
    for _ in 0..LEGS_UNFINISHED_MAX / 2 {
        relay.waits(1);
        relay.paired(10);
    }
    let waiting: Vec<LegHandle> = (0..LEGS_UNFINISHED_MAX / 2)
        .map(|_| relay.waits(10))
        .collect();
    assert_eq!(relay.refused(10), Answer::Busy(LEG_BUSY_RETRY));
    relay.waits(11);
    relay.leg_gone(waiting[0]);
    relay.waits(10);
    assert_eq!(relay.refused(10), Answer::Busy(LEG_BUSY_RETRY));
    relay.pass(LEG_UNPROVEN);
    relay.waits(10);
}

#[test]
fn circuits_of_a_member_are_bounded() {
    let mut relay = Relay::new();
    relay.session(1);
    relay.session(10);
    for at in 0..LEGS_PAIRED_MAX {
        relay.waits(1);
        relay.paired(10);
        if at % 32 == 31 {
            relay.pass(LEG_UNPROVEN);
        }
    }
    assert_eq!(relay.refused(10), Answer::Busy(LEG_BUSY_RETRY));
}

#[test]
fn parked_legs_of_a_member_are_bounded() {
    let mut relay = Relay::new();
    relay.session(1);
    for _ in 0..LEGS_PARKED_MAX {
        relay.waits(1);
    }
    assert_eq!(relay.refused(1), Answer::Busy(LEG_BUSY_RETRY));
}

#[test]
fn an_outlet_is_asked_for_more_legs_when_few_are_left() {
    let mut relay = Relay::new();
    relay.session(1);
    relay.session(10);
    for _ in 0..3 {
        relay.waits(1);
    }
    relay.paired(10);
    assert_eq!(relay.asked(), [], "two are left");
    relay.paired(10);
    assert_eq!(relay.asked(), [2 * 2 + 4 - 1], "one is left");
    relay.paired(10);
    assert_eq!(relay.asked(), [], "it was asked just now");
    relay.waits(1);
    relay.paired(10);
    assert_eq!(relay.asked(), [], "most of them are still owed");
    relay.pass(PARK_ASK_AGAIN);
    relay.waits(10);
    assert_eq!(
        relay.asked(),
        [2 * 4 + 4],
        "four pairings in one second, by now without a leg"
    );
}

#[test]
fn an_outlet_that_brought_what_it_was_asked_for_is_asked_again_at_once() {
    let mut relay = Relay::new();
    relay.session(1);
    relay.session(10);
    relay.waits(10);
    assert_eq!(relay.asked(), [4]);
    relay.paired(1);
    for _ in 0..3 {
        relay.waits(1);
    }
    for _ in 0..2 {
        relay.paired(10);
    }
    assert_eq!(
        relay.asked(),
        [2 * 3 + 4 - 1],
        "three pairings in one second"
    );
}

#[test]
fn legs_end_with_their_members_pass_and_their_circuits_too() {
    let mut relay = Relay::new();
    relay.session_until(1, 1, 100);
    relay.session(10);
    let circuit = relay.waits(1);
    let pair = relay.paired(10);
    let parked = relay.waits(1);
    relay.outcomes();
    relay.pass(Duration::from_secs(100));
    let why = CloseReason::LegExpired;
    assert_eq!(
        relay.decided(),
        [
            Outcome::Ended { leg: circuit, why },
            Outcome::Ended { leg: parked, why },
            Outcome::MemberEnded(Id([1; 32])),
        ]
    );
    relay.leg_gone(circuit);
    relay.leg_gone(pair.inlet);
    assert_eq!(relay.pairing.counts(), (0, 0));
    assert_eq!(relay.refused(10), Answer::NoOutlet);
}

#[test]
fn a_renewed_pass_keeps_legs_alive() {
    let mut relay = Relay::new();
    relay.session_until(1, 1, 100);
    relay.waits(1);
    relay.session_until(1, 1, 200);
    relay.pass(Duration::from_secs(150));
    assert_eq!(relay.decided(), []);
    relay.pass(Duration::from_secs(50));
    assert_eq!(relay.decided().len(), 2);
}

#[test]
fn legs_outlive_their_members_last_session_by_the_grace() {
    let mut relay = Relay::new();
    relay.session(1);
    relay.session(10);
    let parked = relay.waits(1);
    relay.gone(1);
    relay.pass(LEG_GRACE - Duration::from_secs(1));
    relay.session_until(1, 2, 3600);
    relay.pass(Duration::from_secs(60));
    assert_eq!(relay.decided(), [], "the member is back");
    relay.gone(2);
    relay.pass(LEG_GRACE);
    let all = relay.decided();
    let why = CloseReason::LegExpired;
    assert_eq!(
        all,
        [
            Outcome::Ended { leg: parked, why },
            Outcome::MemberEnded(Id([1; 32]))
        ]
    );
}

#[test]
fn a_draining_relay_tells_every_unpaired_leg() {
    let mut relay = Relay::new();
    for member in [1, 2, 10] {
        relay.session(member);
    }
    relay.waits(1);
    let pair = relay.paired(10);
    let parked = relay.waits(2);
    relay.outcomes();
    relay.pairing.drain(relay.now);
    relay.pairing.check();
    assert_eq!(
        relay.decided(),
        [Outcome::Refused {
            leg: parked,
            answer: Answer::GoingAway
        }]
    );
    assert_eq!(relay.refused(10), Answer::GoingAway);
    assert_eq!(relay.pairing.counts(), (0, 2), "circuits go on: {pair:?}");
}

#[test]
fn random_runs_keep_the_books_and_give_the_same_decisions_twice() {
    for seed in 0..200 {
        let (once, again) = (random_run(seed), random_run(seed));
        assert_eq!(once, again, "seed {seed}");
    }
}

/// Random legs, sessions and time; everything that was decided.
fn random_run(seed: u64) -> Vec<String> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % n
    };
    let mut relay = Relay::new();
    let mut said = Vec::new();
    let mut open: Vec<LegHandle> = Vec::new();
    for member in [1, 2, 3, 10, 11, 12] {
        relay.session_until(member, member, 50 + below(100));
    }
    for _ in 0..150 {
        let member = if below(2) == 0 {
            1 + below(3)
        } else {
            10 + below(3)
        };
        let member = u8::try_from(member).unwrap_or(1);
        match below(12) {
            0..6 => {
                let preface = relay.preface(member);
                if let Ok(info) = relay.table.check(relay.now, &preface) {
                    relay.handles += 1;
                    let handle = LegHandle(relay.handles);
                    let verdict = relay.pairing.on_leg(relay.now, handle, &info);
                    if !matches!(verdict, Verdict::Refused(_)) {
                        open.push(handle);
                    }
                    said.push(format!("{handle:?} {verdict:?}"));
                }
            }
            6 | 7 if !open.is_empty() => {
                let at = below(open.len() as u64) as usize;
                let leg = open.swap_remove(at);
                relay.leg_gone(leg);
            }
            8 => relay.gone(member),
            9 => {
                let ends = relay.now.since(Instant::ZERO).as_secs() + below(60);
                relay.session_until(member, member, ends);
            }
            _ => relay.pass(Duration::from_millis(below(8_000))),
        }
        relay.pairing.check();
        for outcome in relay.outcomes() {
            if let Outcome::Refused { leg, .. } | Outcome::Ended { leg, .. } = outcome {
                open.retain(|&known| known != leg);
            }
            said.push(format!("{outcome:?}"));
        }
    }
    for leg in open {
        relay.leg_gone(leg);
    }
    assert_eq!(relay.pairing.counts(), (0, 0), "seed {seed}: legs are left");
    said
}

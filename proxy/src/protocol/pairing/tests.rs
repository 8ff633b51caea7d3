//! Pairing, one rule a test, and by chance.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crypto::suite::SuiteMask;

use super::*;
use crate::limits::{
    DENIED_WAIT_FIRST, LEGS_PARKED_MAX, LEGS_UNFINISHED_MAX, OUTLET_FAILED, PARK_ASK_AGAIN,
    PARK_WANT_MIN,
};

const ADDRESS: AddressHash = AddressHash([1; 32]);
const NOW: Instant = Instant::from_nanos(10_000_000_000);

fn info(member: u8, role: Role) -> LegInfo {
    LegInfo {
        session: SessionId([member; 16]),
        counter: 0,
        member: Id([member; 32]),
        request: Request {
            role,
            suites: SuiteMask(3),
            address: ADDRESS,
            bulk: false,
        },
        permitted: true,
    }
}

/// Members in session that serve [`ADDRESS`], by sessions of their own number.
#[derive(Default)]
struct Served(Vec<u8>);

impl Serving for Served {
    fn serving(&self, address: &AddressHash) -> Vec<(Id, SessionId)> {
        let here = self.0.iter().filter(|_| *address == ADDRESS);
        here.map(|&no| (Id([no; 32]), SessionId([no; 16])))
            .collect()
    }
}

/// Legs numbered in the order in which they come, at a time that stands still unless moved.
struct Relay {
    pairing: Pairing,
    served: Served,
    next: u64,
    now: Instant,
}

impl Default for Relay {
    fn default() -> Relay {
        Relay {
            pairing: Pairing::default(),
            served: Served(vec![1, 2]),
            next: 0,
            now: NOW,
        }
    }
}

fn refused_as_busy(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Refuse(Answer::Busy { .. }))
}

impl Relay {
    fn leg(&mut self, info: &LegInfo) -> (LegHandle, Verdict) {
        let handle = LegHandle(self.next);
        self.next += 1;
        let verdict = self.pairing.on_leg(self.now, handle, info, &self.served);
        self.pairing.check(self.now, &self.served);
        (handle, verdict)
    }

    fn park(&mut self, member: u8) -> LegHandle {
        let (handle, verdict) = self.leg(&info(member, Role::Outlet));
        assert_eq!(verdict, Verdict::Wait);
        handle
    }

    fn inlet(&mut self, member: u8) -> Verdict {
        self.leg(&info(member, Role::Inlet)).1
    }

    fn gone(&mut self, handle: LegHandle) {
        self.pairing.on_gone(self.now, handle, &self.served);
    }

    /// The pairs that the last call has made.
    fn pairs(&mut self) -> Vec<(LegHandle, LegHandle)> {
        let pairs = std::iter::from_fn(|| self.pairing.poll_pair()).collect();
        self.pairing.check(self.now, &self.served);
        pairs
    }

    fn pass(&mut self, span: Duration) -> Vec<Over> {
        self.now = self.now + span;
        self.pairing.on_timer(self.now, &self.served)
    }
}

#[test]
fn the_oldest_parked_leg_goes_first() {
    let mut relay = Relay::default();
    let (first, second) = (relay.park(1), relay.park(1));
    assert_eq!(relay.inlet(2), Verdict::Pair(first));
    assert_eq!(relay.inlet(2), Verdict::Pair(second));
}

#[test]
fn without_an_outlet_an_inlet_waits_only_if_somebody_serves_the_address() {
    let mut relay = Relay::default();
    let unserved = Served(Vec::new());
    let served = std::mem::replace(&mut relay.served, unserved);
    assert_eq!(relay.inlet(9), Verdict::Refuse(Answer::NoOutlet));
    relay.served = served;
    let (waiting, verdict) = relay.leg(&info(9, Role::Inlet));
    assert_eq!(verdict, Verdict::Wait);
    assert_eq!(relay.pairing.next_deadline(), NOW + PAIR_WAIT);
    assert_eq!(relay.pass(PAIR_WAIT), [Over::Unanswered(waiting)]);
    assert_eq!(relay.pairing.next_deadline(), Instant::FAR_FUTURE);
    assert!(relay.pairing.addresses.is_empty(), "nothing is left of it");
}

#[test]
fn who_found_nobody_hears_when_the_address_is_served_unless_he_has_left() {
    let mut relay = Relay {
        served: Served(Vec::new()),
        ..Relay::default()
    };
    for member in [7, 8, 9, 9] {
        assert_eq!(relay.inlet(member), Verdict::Refuse(Answer::NoOutlet));
    }
    relay.pairing.on_session_end(SessionId([8; 16]));
    relay.pairing.on_served(&AddressHash([2; 32]));
    assert_eq!(relay.pairing.poll_served(), None, "another address");
    relay.pairing.on_served(&ADDRESS);
    let told = std::iter::from_fn(|| relay.pairing.poll_served());
    let told: Vec<SessionId> = told.map(|(session, _)| session).collect();
    assert_eq!(told, [SessionId([7; 16]), SessionId([9; 16])]);
    relay.pairing.on_served(&ADDRESS);
    assert_eq!(relay.pairing.poll_served(), None, "told once");
}

#[test]
fn members_that_wait_take_turns() {
    let mut relay = Relay::default();
    for member in [8, 8, 8, 9] {
        assert_eq!(relay.inlet(member), Verdict::Wait);
    }
    let served: Vec<Verdict> = (0..4)
        .map(|_| relay.leg(&info(1, Role::Outlet)).1)
        .collect();
    let in_turn = [0, 3, 1, 2].map(|n| Verdict::Pair(LegHandle(n)));
    assert_eq!(served, in_turn);
}

#[test]
fn what_a_pass_does_not_allow_is_refused_and_leaves_nothing() {
    let mut relay = Relay::default();
    let denied = LegInfo {
        permitted: false,
        ..info(2, Role::Inlet)
    };
    let verdict = relay.leg(&denied).1;
    assert_eq!(verdict, Verdict::Refuse(Answer::NotPermitted));
    assert!(relay.pairing.legs.is_empty() && relay.pairing.addresses.is_empty());
}

#[test]
fn one_member_can_not_hold_more_than_its_share() {
    let mut relay = Relay::default();
    for _ in 0..LEGS_UNFINISHED_MAX {
        assert_eq!(relay.inlet(2), Verdict::Wait);
    }
    assert!(refused_as_busy(relay.inlet(2)));
    assert_eq!(
        relay.inlet(3),
        Verdict::Wait,
        "another member is not affected"
    );
}

#[test]
fn an_outlet_parks_no_more_than_its_share() {
    let mut relay = Relay::default();
    for _ in 0..LEGS_PARKED_MAX {
        relay.park(1);
    }
    assert!(refused_as_busy(relay.leg(&info(1, Role::Outlet)).1));
}

#[test]
fn an_inlet_with_a_circuit_stays_with_its_outlet_and_waits_for_it() {
    let mut relay = Relay::default();
    let (a, first) = (relay.park(1), LegHandle(1));
    assert_eq!(relay.inlet(9), Verdict::Pair(a));
    let other = relay.park(2);
    let (waiting, verdict) = relay.leg(&info(9, Role::Inlet));
    assert_eq!(verdict, Verdict::Wait, "although the other has a leg");
    let (_, verdict) = relay.leg(&info(1, Role::Outlet));
    assert_eq!(verdict, Verdict::Pair(waiting));
    let (waiting, _) = relay.leg(&info(9, Role::Inlet));
    // Its circuits end, and with them the bond.
    relay.gone(first);
    assert_eq!(relay.pairs(), []);
    relay.gone(LegHandle(3));
    assert_eq!(relay.pairs(), [(waiting, other)]);
}

#[test]
fn an_inlet_does_not_wait_for_an_outlet_that_has_left() {
    let mut relay = Relay::default();
    let a = relay.park(1);
    assert_eq!(relay.inlet(9), Verdict::Pair(a));
    let other = relay.park(2);
    let (waiting, _) = relay.leg(&info(9, Role::Inlet));
    relay.served = Served(vec![2]);
    relay
        .pairing
        .on_serves_less(relay.now, &Id([1; 32]), &relay.served);
    assert_eq!(relay.pairs(), [(waiting, other)], "its circuit lives on");
}

#[test]
fn an_inlet_that_waited_in_vain_goes_to_another_outlet() {
    let mut relay = Relay::default();
    let a = relay.park(1);
    assert_eq!(relay.inlet(9), Verdict::Pair(a));
    relay.pairing.on_sign(a);
    let other = relay.park(2);
    let (waiting, _) = relay.leg(&info(9, Role::Inlet));
    assert_eq!(relay.pass(PAIR_WAIT), [Over::Unanswered(waiting)]);
    assert_eq!(relay.inlet(9), Verdict::Pair(other));
    assert!(
        relay.pairing.poll_want().is_some(),
        "the first one was asked"
    );
}

#[test]
fn legs_of_the_latest_session_go_first() {
    let mut relay = Relay::default();
    let old = relay.park(1);
    let renewed = LegInfo {
        session: SessionId([77; 16]),
        ..info(1, Role::Outlet)
    };
    let (new, _) = relay.leg(&renewed);
    let (newest, _) = relay.leg(&renewed);
    for expected in [new, newest, old] {
        assert_eq!(relay.inlet(9), Verdict::Pair(expected));
    }
}

#[test]
fn the_outlet_with_the_fewest_circuits_goes_first_then_the_oldest_leg() {
    let mut relay = Relay::default();
    let second = relay.park(2);
    relay.now = relay.now + Duration::from_millis(1);
    let first = relay.park(1);
    assert_eq!(relay.inlet(8), Verdict::Pair(second), "the oldest leg");
    relay.park(2);
    assert_eq!(relay.inlet(9), Verdict::Pair(first), "fewest circuits");
}

#[test]
fn a_paired_leg_without_a_sign_of_life_is_dead_and_so_is_what_was_parked_before() {
    let mut relay = Relay::default();
    let (dead, old) = (relay.park(1), relay.park(1));
    assert_eq!(relay.inlet(9), Verdict::Pair(dead));
    relay.now = relay.now + Duration::from_millis(1);
    let new = relay.park(1);
    assert_eq!(relay.pass(LEG_SIGN), [Over::Dead(dead), Over::Dead(old)]);
    relay.gone(dead);
    relay.gone(LegHandle(2));
    // It has parked since: it lives, and only some of its connections did not.
    assert_eq!(relay.inlet(9), Verdict::Pair(new));
}

#[test]
fn a_sign_of_life_is_enough() {
    let mut relay = Relay::default();
    let leg = relay.park(1);
    assert_eq!(relay.inlet(9), Verdict::Pair(leg));
    assert_eq!(relay.pairing.next_deadline(), NOW + LEG_SIGN);
    relay.pairing.on_sign(leg);
    assert_eq!(relay.pairing.next_deadline(), Instant::FAR_FUTURE);
    assert_eq!(relay.pass(LEG_SIGN), []);
}

#[test]
fn an_outlet_that_failed_is_passed_over_while_another_has_legs() {
    let mut relay = Relay::default();
    let dead = relay.park(1);
    assert_eq!(relay.inlet(9), Verdict::Pair(dead));
    assert_eq!(relay.pass(LEG_SIGN), [Over::Dead(dead)]);
    relay.gone(dead);
    relay.gone(LegHandle(1));
    let back = relay.park(1);
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(relay.park(2));
    }
    assert_eq!(relay.inlet(8), Verdict::Pair(others[0]));
    assert_eq!(relay.inlet(7), Verdict::Pair(others[1]), "more circuits");
    relay.now = relay.now + OUTLET_FAILED;
    assert_eq!(relay.inlet(6), Verdict::Pair(back), "forgiven");
}

#[test]
fn an_outlet_that_failed_serves_where_it_is_the_only_one() {
    let mut relay = Relay::default();
    let dead = relay.park(1);
    assert_eq!(relay.inlet(9), Verdict::Pair(dead));
    relay.pass(LEG_SIGN);
    relay.gone(dead);
    relay.gone(LegHandle(1));
    let back = relay.park(1);
    assert_eq!(relay.inlet(9), Verdict::Pair(back));
}

#[test]
fn a_denied_member_waits_where_it_was_denied_until_the_address_is_served_anew() {
    let mut relay = Relay::default();
    let leg = relay.park(1);
    relay.pairing.on_denied(NOW, ADDRESS, Id([9; 32]));
    let retry_ms = DENIED_WAIT_FIRST.as_millis() as u32;
    let busy = Verdict::Refuse(Answer::Busy { retry_ms });
    assert_eq!(relay.inlet(9), busy);
    assert_eq!(relay.inlet(8), Verdict::Pair(leg), "others don't");
    relay.pairing.on_served(&ADDRESS);
    assert_eq!(relay.inlet(9), Verdict::Wait);
}

#[test]
fn a_served_address_without_legs_asks_its_outlets_when_somebody_waits() {
    let mut relay = Relay::default();
    assert_eq!(relay.inlet(9), Verdict::Wait);
    for no in [1, 2] {
        let want = relay.pairing.poll_want().unwrap();
        assert_eq!((want.session, want.address), (SessionId([no; 16]), ADDRESS));
        assert_eq!(usize::from(want.want), PARK_WANT_MIN);
    }
    assert_eq!(relay.inlet(8), Verdict::Wait);
    assert_eq!(relay.pairing.poll_want(), None, "asked just now");
}

#[test]
fn an_outlet_short_of_legs_is_asked_once_a_second() {
    let mut relay = Relay::default();
    let parked: Vec<LegHandle> = (0..3).map(|_| relay.park(1)).collect();
    assert_eq!(
        relay.pairing.poll_want(),
        None,
        "legs that are coming need no asking"
    );
    relay.inlet(2);
    assert_eq!(relay.pairing.poll_want(), None);
    relay.inlet(2);
    let want = relay.pairing.poll_want().unwrap();
    assert_eq!((want.session, want.address), (SessionId([1; 16]), ADDRESS));
    assert_eq!(usize::from(want.want), PARK_WANT_MIN + 2 * 2 - 1);
    relay.inlet(2);
    assert_eq!(relay.pairing.poll_want(), None, "asked just now");
    relay.now = NOW + PARK_ASK_AGAIN;
    relay.gone(parked[0]);
    assert!(relay.pairing.poll_want().is_some());
}

#[test]
fn a_member_s_legs_are_found_whatever_they_do() {
    let mut relay = Relay::default();
    let a = relay.park(1);
    relay.inlet(2);
    let b = relay.park(1);
    assert_eq!(relay.pairing.legs_of(&Id([1; 32])), [a, b]);
    assert_eq!(relay.pairing.unpaired(), [b]);
    assert_eq!(relay.pairing.counts(), (1, 2));
}

/// Random legs of random members come and go; the books balance after every step.
#[test]
fn the_books_balance_whatever_comes() {
    for seed in 0..200_u64 {
        let mut state = seed.wrapping_add(1);
        let mut draw = |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % n
        };
        let (mut relay, mut open) = (Relay::default(), Vec::new());
        for _ in 0..400 {
            let span = Duration::from_millis(draw(400));
            for over in relay.pass(span) {
                let (Over::Unanswered(handle) | Over::Dead(handle)) = over;
                open.retain(|&other| other != handle);
                relay.gone(handle);
            }
            relay.pairs();
            match draw(10) {
                0..6 => {
                    let role = if draw(2) == 0 {
                        Role::Inlet
                    } else {
                        Role::Outlet
                    };
                    let member = (draw(3) + if role == Role::Inlet { 10 } else { 0 }) as u8;
                    let (handle, verdict) = relay.leg(&info(member, role));
                    match verdict {
                        Verdict::Refuse(_) => {}
                        Verdict::Wait | Verdict::Pair(_) => open.push(handle),
                    }
                }
                6..8 if !open.is_empty() => {
                    let handle = open.swap_remove(draw(open.len() as u64) as usize);
                    relay.gone(handle);
                }
                8 if !open.is_empty() => {
                    relay
                        .pairing
                        .on_sign(open[draw(open.len() as u64) as usize]);
                }
                9 => {
                    relay.served.0 = (0..3).filter(|_| draw(2) == 0).collect();
                    let (now, pairing) = (relay.now, &mut relay.pairing);
                    for no in 0..3 {
                        pairing.on_serves_less(now, &Id([no; 32]), &relay.served);
                    }
                }
                _ => {}
            }
            relay.pairs();
        }
        for handle in open {
            relay.gone(handle);
            relay.pairs();
        }
        assert!(relay.pairing.legs.is_empty(), "seed {seed}");
        assert!(relay.pairing.addresses.is_empty(), "seed {seed}");
        assert!(relay.pairing.due.is_empty(), "seed {seed}");
    }
}

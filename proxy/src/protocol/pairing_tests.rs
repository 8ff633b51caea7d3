//! Pairing, one rule a test, and by chance.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crypto::suite::SuiteMask;

use super::*;

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

/// Legs numbered in the order in which they come.
#[derive(Default)]
struct Relay {
    pairing: Pairing,
    next: u64,
}

impl Relay {
    fn leg(&mut self, member: u8, role: Role, is_served: bool) -> (LegHandle, Verdict) {
        let handle = LegHandle(self.next);
        self.next += 1;
        let verdict = self
            .pairing
            .on_leg(NOW, handle, &info(member, role), is_served);
        self.pairing.check();
        (handle, verdict)
    }

    fn park(&mut self, member: u8) -> LegHandle {
        let (handle, verdict) = self.leg(member, Role::Outlet, true);
        assert_eq!(verdict, Verdict::Wait);
        handle
    }

    fn inlet(&mut self, member: u8) -> Verdict {
        self.leg(member, Role::Inlet, true).1
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
    let (_, verdict) = relay.leg(2, Role::Inlet, false);
    assert_eq!(verdict, Verdict::Refuse(Answer::NoOutlet));
    let (waiting, verdict) = relay.leg(2, Role::Inlet, true);
    assert_eq!(verdict, Verdict::Wait);
    assert_eq!(relay.pairing.next_deadline(), NOW + PAIR_WAIT);
    assert_eq!(relay.pairing.on_timer(NOW + PAIR_WAIT), [waiting]);
    relay.pairing.on_gone(NOW, waiting);
    assert_eq!(relay.pairing.next_deadline(), Instant::FAR_FUTURE);
    assert!(relay.pairing.addresses.is_empty(), "nothing is left of it");
}

#[test]
fn members_that_wait_take_turns() {
    let mut relay = Relay::default();
    for member in [2, 2, 2, 3] {
        assert_eq!(relay.inlet(member), Verdict::Wait);
    }
    let served: Vec<Verdict> = (0..4).map(|_| relay.leg(1, Role::Outlet, true).1).collect();
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
    let verdict = relay.pairing.on_leg(NOW, LegHandle(1), &denied, true);
    assert_eq!(verdict, Verdict::Refuse(Answer::NotPermitted));
    assert!(relay.pairing.legs.is_empty() && relay.pairing.addresses.is_empty());
}

#[test]
fn one_member_can_not_hold_more_than_its_share() {
    let mut relay = Relay::default();
    for _ in 0..LEGS_UNFINISHED_MAX {
        assert_eq!(relay.inlet(2), Verdict::Wait);
    }
    assert_eq!(relay.inlet(2), BUSY);
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
    assert_eq!(relay.leg(1, Role::Outlet, true).1, BUSY);
}

#[test]
fn an_inlet_stays_with_its_outlet_while_that_has_legs() {
    let mut relay = Relay::default();
    let a = relay.park(1);
    assert_eq!(relay.inlet(9), Verdict::Pair(a));
    let b = relay.park(2);
    let a = relay.park(1);
    assert_eq!(
        relay.inlet(9),
        Verdict::Pair(a),
        "although the other has fewer circuits"
    );
    assert_eq!(relay.inlet(9), Verdict::Pair(b));
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
    relay.pairing.on_gone(NOW + PARK_ASK_AGAIN, parked[0]);
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
        let (mut relay, mut now, mut open) = (Relay::default(), NOW, Vec::new());
        for _ in 0..400 {
            now = now + Duration::from_millis(draw(400));
            match draw(3) {
                0 | 1 => {
                    let role = if draw(2) == 0 {
                        Role::Inlet
                    } else {
                        Role::Outlet
                    };
                    let member = (draw(3) + if role == Role::Inlet { 10 } else { 0 }) as u8;
                    let handle = LegHandle(relay.next);
                    relay.next += 1;
                    let verdict = relay.pairing.on_leg(now, handle, &info(member, role), true);
                    if !matches!(verdict, Verdict::Refuse(_)) {
                        open.push(handle);
                    }
                }
                _ if !open.is_empty() => {
                    let handle = open.swap_remove(draw(open.len() as u64) as usize);
                    relay.pairing.on_gone(now, handle);
                }
                _ => {}
            }
            relay.pairing.check();
            for handle in relay.pairing.on_timer(now) {
                open.retain(|&other| other != handle);
                relay.pairing.on_gone(now, handle);
                relay.pairing.check();
            }
        }
        for handle in open {
            relay.pairing.on_gone(now, handle);
        }
        assert!(relay.pairing.legs.is_empty(), "seed {seed}");
        assert!(relay.pairing.addresses.is_empty(), "seed {seed}");
    }
}

//! Rules of the lane as a whole: beginning, opening, retiring, deadlines, what is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::super::*;
use super::world::{NOW_MILLIS, Side, World, give, one_stream, open_at, record};
use crate::error::Code;
use crate::limits::{
    CONNECTING_TIMEOUT, CREDENTIAL_INTERVAL, CREDENTIALS_BURST, LANE_STREAMS_MAX, OPENING_TIMEOUT,
};
use crate::protocol::record::{Body, Kind, Open};
use crate::time::{Duration, Instant};
use Side::{Inlet, Outlet};

#[test]
fn ready_comes_first_and_nothing_before_it() {
    let mut world = World::new();
    assert_eq!(world.open(), Err(OpenRefused::NotReady));
    assert!(!world.inlet.lane.has_control());
    world.inlet.lane.credential(vec![1]);
    assert!(
        !world.inlet.lane.has_control(),
        "an inlet says nothing before READY"
    );
    let early = give(&mut world, Outlet, &Body::Ping(1), 0);
    assert_eq!(
        early,
        Err(Violation::Untimely(Kind::Ping)),
        "READY has not left"
    );
    let data = give(&mut world, Inlet, &Body::Data(&[1]), 1);
    assert_eq!(data, Err(Violation::Untimely(Kind::Data)));
    world.settle();
    assert_eq!(world.inlet.said, [Reaction::Ready]);
    assert_eq!(
        world.outlet.said,
        [Reaction::Ready, Reaction::Credential(vec![1])]
    );
    assert!(world.open().is_ok());
    let again = give(&mut world, Inlet, &Body::Ready, 0);
    assert_eq!(again, Err(Violation::Untimely(Kind::Ready)));
}

#[test]
fn denied_ends_the_lane_with_its_reason_and_an_unknown_one_is_not_authorized() {
    for (code, why) in [
        (
            CloseReason::NotAuthorized.code(),
            CloseReason::NotAuthorized,
        ),
        (CloseReason::Finished.code(), CloseReason::NotAuthorized),
        (Code(9999), CloseReason::NotAuthorized),
        (
            CloseReason::PermitExpired.code(),
            CloseReason::PermitExpired,
        ),
    ] {
        let mut world = World::new();
        assert_eq!(give(&mut world, Inlet, &Body::Denied(code), 0), Ok(()));
        assert_eq!(
            world.inlet.lane.poll_reaction(),
            Some(Reaction::Denied(why))
        );
        assert_eq!(world.open(), Err(OpenRefused::NotReady));
        let more = give(&mut world, Inlet, &Body::Ready, 0);
        assert_eq!(more, Err(Violation::Untimely(Kind::Ready)));
    }
}

#[test]
fn open_and_first_bytes_leave_together_and_are_held_until_the_target_answers() {
    let mut world = World::ready();
    world.eager = false;
    let app = world.open().unwrap();
    assert_eq!(world.send(Inlet, app, 100), 100);
    let kinds: Vec<Kind> = world
        .wire_to(Outlet)
        .iter()
        .map(|(header, _)| header.kind)
        .collect();
    assert_eq!(kinds, [Kind::Open, Kind::Data]);
    world.settle();
    assert_eq!(world.outlet.apps[0].pending, 100);
    world.connected(0);
    world.settle();
    assert_eq!(
        world.inlet.said.last(),
        Some(&Reaction::Opened {
            n: StreamNo(1),
            key: StreamKey(0)
        })
    );
}

#[test]
fn open_numbers_leave_no_gap_and_are_not_taken_twice() {
    let mut world = one_stream();
    let open = Body::Open(open_at("postgres", NOW_MILLIS));
    assert_eq!(
        give(&mut world, Outlet, &open, 3),
        Err(Violation::Number(3))
    );
    let taken = give(&mut world, Outlet, &open, 1);
    assert!(
        matches!(
            taken,
            Err(Violation::OutOfTurn {
                input: Input::Open,
                ..
            })
        ),
        "{taken:?}"
    );
    assert_eq!(give(&mut world, Outlet, &open, 2), Ok(()));
}

#[test]
fn records_of_the_wrong_end_are_violations() {
    let mut world = one_stream();
    let open = Body::Open(open_at("postgres", NOW_MILLIS));
    assert_eq!(
        give(&mut world, Inlet, &open, 2),
        Err(Violation::WrongEnd(Kind::Open))
    );
    for (body, n) in [
        (Body::Opened, 1),
        (Body::Refused(Code(5101)), 1),
        (Body::Closed, 1),
        (Body::Ready, 0),
    ] {
        let wrong = give(&mut world, Outlet, &body, n);
        assert_eq!(wrong, Err(Violation::WrongEnd(body.kind())));
    }
}

#[test]
fn an_open_says_by_its_flag_that_the_stream_wants_its_own_circuits() {
    for dedicated in [false, true] {
        let mut world = World::ready();
        let open = Open {
            dedicated,
            ..open_at("postgres", NOW_MILLIS)
        };
        let opened = world.inlet.lane.open(world.now, StreamKey(1), &open);
        assert_eq!(opened, Ok(StreamNo(1)));
        let mut payload = [0; 128];
        let left = world.inlet.lane.next_control(&mut payload);
        let (header, len) = left.unwrap();
        assert_eq!(header.flags, u8::from(dedicated));
        let read = world
            .outlet
            .lane
            .on_record(world.now, header, &payload[..len]);
        assert_eq!(read, Ok(()));
        let asked = world.outlet.lane.poll_reaction();
        let (n, open) = (StreamNo(1), Box::new(open));
        assert_eq!(asked, Some(Reaction::Connect { n, open }));
    }
}

#[test]
fn an_open_that_was_held_back_contacts_nobody() {
    for (age, fresh) in [
        (0, true),
        (10_000, true),
        (10_001, false),
        (-10_000, true),
        (-10_001, false),
    ] {
        let mut world = World::ready();
        world.pass(Duration::from_secs(60));
        let now = NOW_MILLIS + 60_000;
        let open = open_at("postgres", now.saturating_add_signed(-age));
        let (header, payload) = record(&Body::Open(open.clone()), 1);
        assert_eq!(
            world.outlet.lane.on_record(world.now, header, &payload),
            Ok(())
        );
        let (n, open) = (StreamNo(1), Box::new(open));
        let expected = if fresh {
            Reaction::Connect { n, open }
        } else {
            Reaction::Refused {
                n,
                why: CloseReason::OpenTooOld,
                open,
            }
        };
        assert_eq!(
            world.outlet.lane.poll_reaction(),
            Some(expected),
            "{age} ms"
        );
    }
}

#[test]
fn an_outlet_without_the_authoritys_time_refuses() {
    let shared = LaneShared::new(0);
    let mut lane = Lane::new(Role::Outlet, &shared);
    while lane.poll_reaction().is_some() {}
    assert!(lane.next_control(&mut [0; 128]).is_some());
    let (header, payload) = record(&Body::Open(open_at("postgres", 0)), 1);
    assert_eq!(lane.on_record(Instant::ZERO, header, &payload), Ok(()));
    let reaction = lane.poll_reaction();
    assert!(matches!(
        reaction,
        Some(Reaction::Refused {
            why: CloseReason::OpenTooOld,
            ..
        })
    ));
}

#[test]
fn a_retired_lane_goes_on_with_its_streams_and_late_opens_may_be_tried_elsewhere() {
    let mut world = one_stream();
    let late = world.open().unwrap();
    world.send(Inlet, late, 10);
    world.outlet.lane.retire();
    world.outlet.lane.retire();
    world.settle();
    assert_eq!(world.outlet.apps.len(), 1, "nothing was contacted");
    assert_eq!(
        world.inlet.apps[late].freed,
        Some(CloseReason::LaneRetiring)
    );
    assert_eq!(world.inlet.apps[late].reset, None);
    assert_eq!(world.inlet.said.last(), Some(&Reaction::Retiring));
    assert_eq!(world.open(), Err(OpenRefused::Retiring));
    assert!(!world.inlet.lane.is_spent(), "a stream is left");
    assert_eq!(world.send(Inlet, 0, 10), 10);
    world.settle();
    world.reset(Inlet, 0);
    assert!(!world.inlet.lane.is_spent(), "its ABORT has not left");
    world.settle();
    assert!(world.inlet.lane.is_spent() && world.outlet.lane.is_spent());
    let again = give(&mut world, Inlet, &Body::Retire, 0);
    assert_eq!(again, Err(Violation::Untimely(Kind::Retire)));
}

#[test]
fn an_inlet_that_retired_opens_nothing_more() {
    let mut world = World::ready();
    world.inlet.lane.retire();
    world.settle();
    assert_eq!(world.outlet.said.last(), Some(&Reaction::Retiring));
    let open = Body::Open(open_at("postgres", NOW_MILLIS));
    assert_eq!(
        give(&mut world, Outlet, &open, 1),
        Err(Violation::Untimely(Kind::Open))
    );
}

#[test]
fn a_retry_is_believed_only_from_a_lane_that_retires() {
    let mut world = World::ready();
    world.open().unwrap();
    let refused = Body::Refused(CloseReason::LaneRetiring.code());
    assert_eq!(
        give(&mut world, Inlet, &refused, 1),
        Err(Violation::Untimely(Kind::Refused))
    );
}

#[test]
fn an_open_without_an_answer_is_reset_after_its_time() {
    let mut world = World::ready();
    world.open().unwrap();
    world.pass(Duration::from_secs(1));
    world.open().unwrap();
    assert_eq!(
        world.inlet.lane.next_deadline(),
        Instant::ZERO + OPENING_TIMEOUT
    );
    world.pass(OPENING_TIMEOUT - Duration::from_secs(1));
    assert_eq!(world.inlet.apps[0].reset, Some(CloseReason::OpenTimeout));
    assert!(world.inlet.apps[1].is_live());
}

#[test]
fn a_target_without_an_answer_is_refused_after_its_time() {
    let mut world = World::ready();
    world.eager = false;
    world.open().unwrap();
    world.settle();
    assert_eq!(
        world.outlet.lane.next_deadline(),
        Instant::ZERO + CONNECTING_TIMEOUT
    );
    world.pass(CONNECTING_TIMEOUT);
    assert_eq!(world.outlet.apps[0].reset, Some(CloseReason::TargetTimeout));
    world.settle();
    assert_eq!(world.inlet.apps[0].reset, Some(CloseReason::TargetTimeout));
    assert_eq!(world.outlet.lane.next_deadline(), Instant::FAR_FUTURE);
}

#[test]
fn a_ping_is_answered_once_with_its_number() {
    let mut world = World::ready();
    assert!(world.inlet.lane.ping(world.now));
    assert!(!world.inlet.lane.ping(world.now), "one at a time");
    let unasked = give(&mut world, Inlet, &Body::Pong(1), 0);
    assert_eq!(
        unasked,
        Err(Violation::Untimely(Kind::Pong)),
        "it has not left yet"
    );
    world.pull_control(Inlet);
    world.pass(Duration::from_millis(30));
    world.settle();
    let rtt = Duration::from_millis(30);
    assert_eq!(world.inlet.said.last(), Some(&Reaction::Pong { rtt }));
    let again = give(&mut world, Inlet, &Body::Pong(1), 0);
    assert_eq!(again, Err(Violation::Untimely(Kind::Pong)));
    assert_eq!(give(&mut world, Outlet, &Body::Ping(8), 0), Ok(()));
    let twice = give(&mut world, Outlet, &Body::Ping(9), 0);
    assert_eq!(
        twice,
        Err(Violation::Untimely(Kind::Ping)),
        "the first is unanswered"
    );
}

#[test]
fn a_key_update_and_a_credential_are_handed_on() {
    let mut world = World::ready();
    assert_eq!(give(&mut world, Inlet, &Body::KeyUpdate(None), 0), Ok(()));
    assert_eq!(
        world.inlet.lane.poll_reaction(),
        Some(Reaction::KeyUpdate { mix: None })
    );
    world.outlet.lane.credential(vec![1; 10]);
    world.outlet.lane.credential(vec![2; 200]);
    assert_eq!(
        world.outlet.lane.next_control(&mut [0; 128]),
        None,
        "it does not fit"
    );
    assert!(world.outlet.lane.has_control());
    world.settle();
    assert_eq!(
        world.inlet.said.last(),
        Some(&Reaction::Credential(vec![2; 200])),
        "the newest"
    );
}

#[test]
fn a_full_lane_says_so() {
    let mut lane = World::ready().inlet.lane;
    let open = open_at("postgres", 0);
    for n in 1..=LANE_STREAMS_MAX {
        let key = StreamKey(u32::try_from(n).unwrap());
        assert_eq!(
            usize::from(lane.open(Instant::ZERO, key, &open).unwrap().0),
            n
        );
    }
    assert_eq!(
        lane.open(Instant::ZERO, StreamKey(0), &open),
        Err(OpenRefused::Full)
    );
    let bad = open_at("10.0.0.1:22", 0);
    assert_eq!(
        lane.open(Instant::ZERO, StreamKey(0), &bad),
        Err(OpenRefused::BadTarget)
    );
    lane.check();
}

#[test]
fn of_many_credentials_a_few_pass_and_then_the_newest() {
    let mut world = World::ready();
    world.inlet.said.clear();
    for n in 0..10 * CREDENTIALS_BURST {
        let credential = [u8::try_from(n).unwrap(); 40];
        let body = Body::Credential(&credential);
        assert_eq!(give(&mut world, Inlet, &body, 0), Ok(()));
    }
    let passed = |world: &mut World| {
        let said = std::iter::from_fn(|| world.inlet.lane.poll_reaction());
        said.filter(|r| matches!(r, Reaction::Credential(_)))
            .collect::<Vec<_>>()
    };
    assert_eq!(passed(&mut world).len(), CREDENTIALS_BURST as usize);
    let due = world.inlet.lane.next_deadline();
    assert_eq!(due, world.now + CREDENTIAL_INTERVAL);
    world.inlet.lane.on_timer(due);
    let newest = u8::try_from(10 * CREDENTIALS_BURST - 1).unwrap();
    assert_eq!(passed(&mut world), [Reaction::Credential(vec![newest; 40])]);
    assert_eq!(world.inlet.lane.next_deadline(), Instant::FAR_FUTURE);
}

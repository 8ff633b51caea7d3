//! What is sealed in a leg's preface and in the answer to it: an authentic one may still say
//! anything.

use crypto::Id;
use crypto::leg::{ANSWER_BODY, LegKey, PREFACE_BODY, PREFACE_CLEAR};
use crypto::suite::SuiteMask;
use proxy::ids::{AddressHash, SessionId};
use proxy::limits::LEG_PREFACE;
use proxy::protocol::command::{ConnectSet, LegEntry, Role};
use proxy::protocol::leg::{Answer, LegTable, Request, preface, read_answer, seal_answer};
use proxy::time::{Duration, Instant};

use crate::Target;

const SESSION: SessionId = SessionId([5; 16]);
const ADDRESS: AddressHash = AddressHash([9; 32]);
const COUNTER: u64 = 6;
const NOW: Instant = Instant::from_nanos(1_000_000_000);

fn key() -> LegKey {
    LegKey::from_secret(&[7; 32])
}

fn table() -> LegTable {
    let mut table = LegTable::default();
    table.publish(LegEntry {
        session: SESSION,
        key: key(),
        member: Id([1; 32]),
        serve: vec![ADDRESS],
        connect: ConnectSet::Only(vec![AddressHash([8; 32])]),
        not_after: NOW + Duration::from_secs(60),
    });
    table
}

fn clear() -> [u8; PREFACE_CLEAR] {
    let request = Request {
        role: Role::Inlet,
        suites: SuiteMask::NONE,
        address: ADDRESS,
        bulk: false,
    };
    let mut clear = [0; PREFACE_CLEAR];
    clear.copy_from_slice(&preface(&key(), SESSION, COUNTER, &request)[..PREFACE_CLEAR]);
    clear
}

fn request(bytes: &[u8]) -> bool {
    let Ok(body) = <&[u8; PREFACE_BODY]>::try_from(bytes) else {
        return false;
    };
    let mut whole = [0; LEG_PREFACE];
    whole[..PREFACE_CLEAR].copy_from_slice(&clear());
    whole[PREFACE_CLEAR..].copy_from_slice(&key().seal_preface(COUNTER, &clear(), body));
    let mut table = table();
    let checked = table.check(NOW, &whole);
    assert!(
        table.check(NOW, &whole).is_err(),
        "a counter was used twice"
    );
    let Ok(leg) = checked else {
        return false;
    };
    let again = preface(&key(), SESSION, COUNTER, &leg.request);
    assert_eq!(whole, again, "a request has one encoding");
    let serves = leg.request.role == Role::Outlet && leg.request.address == ADDRESS;
    let connects = leg.request.role == Role::Inlet && leg.request.address == AddressHash([8; 32]);
    assert_eq!(leg.permitted, serves || connects);
    true
}

/// What a leg asks for.
pub const LEG_REQUEST: Target = Target {
    name: "leg_request",
    body: request,
    seeds: || {
        let body = |role| {
            let mut body = vec![0; PREFACE_BODY];
            body[0] = role;
            body[3] = 3;
            body[4..36].fill(9);
            body
        };
        vec![("inlet", body(1)), ("outlet", body(2))]
    },
};

fn answer(bytes: &[u8]) -> bool {
    let Ok(body) = <&[u8; ANSWER_BODY]>::try_from(bytes) else {
        return false;
    };
    let sealed = key().seal_answer(COUNTER, body);
    let Ok(answer) = read_answer(&key(), COUNTER, &sealed) else {
        return false;
    };
    let again = seal_answer(&key(), COUNTER, answer);
    assert_eq!(sealed, again, "an answer has one encoding");
    assert!(read_answer(&key(), COUNTER + 1, &sealed).is_err());
    true
}

/// What the relay answers.
pub const LEG_ANSWER: Target = Target {
    name: "leg_answer",
    body: answer,
    seeds: || {
        let answers = [
            (
                "paired",
                Answer::Paired {
                    suites: SuiteMask(3),
                },
            ),
            ("no_outlet", Answer::NoOutlet),
            ("busy", Answer::Busy { retry_ms: 1000 }),
        ];
        let body = |answer| {
            let sealed = seal_answer(&key(), COUNTER, answer);
            let body = key().open_answer(COUNTER, &sealed);
            body.expect("it was just sealed").to_vec()
        };
        let seeds = answers.into_iter();
        seeds.map(|(name, answer)| (name, body(answer))).collect()
    },
};

//! Prefaces, and legs with their answers.

use crypto::leg::LegKey;
use crypto::suite::SuiteMask;
use proxy::ids::{AddressHash, SessionId};
use proxy::protocol::command::Role;
use proxy::protocol::leg::{Answer, Request, preface, read_answer, seal_answer};
use proxy::protocol::preface::{Kind, Preface};

use crate::cast;
use crate::paper::Paper;

fn prefaces() -> String {
    let mut paper = Paper::new();
    for (what, kind) in [
        ("authority session", Kind::AuthoritySession),
        ("relay session", Kind::RelaySession),
        ("leg (88 bytes follow)", Kind::Leg),
        ("circuit (in prologues only)", Kind::Circuit),
    ] {
        paper.field(&Preface::bytes(kind), what);
    }
    paper.finish()
}

fn legs() -> String {
    let key = LegKey::from_secret(&[0x52; 32]);
    let session = SessionId([0x51; 16]);
    let address = AddressHash(crypto::address_hash(&cast::project(), &cast::address()));
    let mut paper = Paper::new();
    paper.line("leg secret 32 × 52");
    paper.field(&address.0, "SHA-256(project id ‖ \"postgres\")");
    for (what, role, counter) in [
        ("inlet's leg, counter 0, suites 1 and 2", Role::Inlet, 0),
        ("outlet's leg, counter 1, suites 1 and 2", Role::Outlet, 1),
    ] {
        let request = Request {
            role,
            suites: SuiteMask(3),
            address,
            bulk: false,
        };
        let bytes = preface(&key, session, counter, &request);
        paper.line(&format!("{what} ({} bytes)", bytes.len()));
        paper.field(&bytes[..8], "preface");
        paper.field(&bytes[8..24], "session id");
        paper.field(&bytes[24..32], "counter");
        paper.field(&bytes[32..80], "sealed body");
        paper.field(&bytes[80..], "tag");
    }
    for (what, answer) in [
        (
            "PAIRED, the other end offers 1 and 2",
            Answer::Paired {
                suites: SuiteMask(3),
            },
        ),
        ("NO_OUTLET", Answer::NoOutlet),
        ("NOT_PERMITTED", Answer::NotPermitted),
        ("BUSY, 1000 ms", Answer::Busy { retry_ms: 1000 }),
        ("GOING_AWAY", Answer::GoingAway),
    ] {
        let bytes = seal_answer(&key, 0, answer);
        assert_eq!(read_answer(&key, 0, &bytes), Ok(answer));
        paper.block(&format!("answer to counter 0: {what}"), &bytes);
    }
    paper.finish()
}

pub fn examples() -> Vec<(&'static str, String)> {
    vec![("prefaces", prefaces()), ("legs", legs())]
}

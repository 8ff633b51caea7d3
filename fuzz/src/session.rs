//! What comes out of a session's frames and a handshake's payloads once they are opened, what a node
//! keeps in its state file, and policies.

use crypto::check::{Grant, TrustedAuthority};
use crypto::noise::{Part, Responder, prologue};
use crypto::record::{FrameOpener, FrameSealer};
use crypto::suite::{Suite, SuiteMask};
use crypto::{Id, SeededRandom};
use proxy::ids::{AddressHash, BundleId, CircuitNo, SessionId};
use proxy::limits::PREFACE;
use proxy::protocol::canonical::{Canonical, from_bytes, to_bytes};
use proxy::protocol::core::Membership;
use proxy::protocol::core::membership::Pinned;
use proxy::protocol::policy::Rule;
use proxy::protocol::preface::VERSION;
use proxy::protocol::session::{Dialing, Hello, Kind, Message, Refusal, RequestNo, Sealed};
use proxy::protocol::shake::{CircuitHello, CircuitKind};

use crate::Target;
use crate::fixtures::{NOW, Project};

/// A node's end of an open session, and what the other end sends and receives with: a peer that
/// may say anything, behind frames that authenticate.
fn session(kind: Kind) -> (Sealed, FrameSealer, FrameOpener) {
    let project = Project::new();
    let mut random = SeededRandom::new(3);
    let node_evidence = project.evidence(Grant::Nothing);
    let (dialing, hello) = Dialing::start(
        kind,
        &project.authority.id(),
        &project.static_key,
        &mut random,
    )
    .expect("message 1 has no input");
    let (preface, rest) = hello
        .split_first_chunk::<PREFACE>()
        .expect("the preface comes first");
    // Behind it the frame's length, the suite, and message 1.
    let suite = Suite::from_number(rest[2]).expect("a suite of ours");
    let acceptor = match kind {
        Kind::Authority => Part::Authority,
        Kind::Relay => Part::Relay,
    };
    let prologue = prologue(
        preface,
        suite,
        VERSION,
        &project.authority.id(),
        None,
        Part::Node,
        acceptor,
    );
    let responder = Responder::read_message_1(suite, &prologue, &project.static_key, &rest[3..])
        .expect("the message is genuine");
    let shown = to_bytes(&Hello::new(SuiteMask(3), &node_evidence), 512);
    let (waiting, two) = responder
        .write_message_2(&shown, &mut random)
        .expect("the message is genuine");
    let ((), three, sealed) = dialing
        .on_frame_2(&two, &node_evidence, |_, _| Ok(()))
        .expect("the message is genuine");
    let (finished, _) = waiting
        .read_message_3(&three)
        .expect("the message is genuine");
    let split = finished.split();
    let sealer = FrameSealer::new(suite, split.responder_to_initiator);
    (
        sealed,
        sealer,
        FrameOpener::new(suite, split.initiator_to_responder),
    )
}

/// One byte for the kind of session, then a message.
fn message(bytes: &[u8]) -> bool {
    let Some((&kind, plain)) = bytes.split_first() else {
        return false;
    };
    let kind = if kind == 1 {
        Kind::Authority
    } else {
        Kind::Relay
    };
    let (mut node, mut sealer, mut opener) = session(kind);
    let Ok(frame) = sealer.seal(plain) else {
        return false;
    };
    let Ok((request, message)) = node.open(&frame) else {
        return false;
    };
    assert!(
        message.belongs_to(kind),
        "a message of the other kind of session"
    );
    let frame = node
        .seal(request, message)
        .expect("what was read can be written");
    assert_eq!(
        opener.open(&frame).expect("it was sealed just now"),
        plain,
        "a message has one encoding"
    );
    true
}

fn message_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let project = Project::new();
    let (credential, pass, note) = (
        project.credential.encode(),
        project.pass.encode(),
        project.note.encode(),
    );
    let address = || "postgres".parse().expect("a legal address");
    let refusal = Refusal {
        code: 2003,
        detail: "bank-outlet".to_owned(),
        redeemed_by: Some(Id([1; 32])),
        at: Some(NOW),
    };
    let redeem = Message::Redeem {
        ticket: project.ticket.id,
        secret: crypto::ticket::TicketSecret::from_bytes(&[7; 32]),
        wish: Some("bank-outlet".parse().expect("a legal name")),
    };
    let welcome = Message::Welcome {
        session: SessionId([2; 16]),
        secret: [7; 32].into(),
        leg_address: Some(([192, 0, 2, 7], 7348).into()),
    };
    let served = Message::Served {
        accepted: vec![address()],
        refused: vec![],
    };
    let low = Message::ParkLow {
        address: AddressHash([3; 32]),
        want: 4,
    };
    let of = |kind, name, message| (kind, name, message);
    [
        of(Kind::Authority, "ping", Message::Ping),
        of(Kind::Authority, "refused", Message::Refused(refusal)),
        of(Kind::Authority, "redeem", redeem),
        of(
            Kind::Authority,
            "enrolled",
            Message::Enrolled {
                credential: credential.clone(),
                pass: pass.clone(),
                note: note.clone(),
            },
        ),
        of(Kind::Authority, "renew", Message::Renew),
        of(
            Kind::Authority,
            "renewed",
            Message::Renewed {
                credential,
                pass: pass.clone(),
            },
        ),
        of(Kind::Authority, "time", Message::Time { nonce: [4; 16] }),
        of(
            Kind::Authority,
            "time_is",
            Message::TimeIs {
                nonce: [4; 16],
                unix_millis: 1_800_000_000_000,
            },
        ),
        of(Kind::Authority, "get_project", Message::GetProject),
        of(Kind::Authority, "project", Message::Project { note }),
        of(
            Kind::Authority,
            "beacon",
            Message::Beacon {
                beacon: b"a beacon".to_vec(),
            },
        ),
        of(
            Kind::Authority,
            "get_revocations",
            Message::GetRevocations { offset: 12_288 },
        ),
        of(
            Kind::Authority,
            "revocations",
            Message::Revocations {
                number: 3,
                length: 12_291,
                offset: 12_288,
                part: b"end".to_vec(),
            },
        ),
        of(
            Kind::Authority,
            "holds",
            Message::Holds { number: 3, cut: 1 },
        ),
        of(Kind::Relay, "pong", Message::Pong),
        of(Kind::Relay, "welcome", welcome),
        of(
            Kind::Relay,
            "serve",
            Message::Serve {
                addresses: vec![address()],
            },
        ),
        of(Kind::Relay, "served", served),
        of(Kind::Relay, "park_low", low),
        of(Kind::Relay, "pass_renewed", Message::PassRenewed { pass }),
        of(Kind::Relay, "going_away", Message::GoingAway),
    ]
    .into_iter()
    .map(|(kind, name, message)| {
        let (mut node, _, mut opener) = session(kind);
        let frame = node.seal(RequestNo(9), message).expect("it fits a frame");
        let plain = opener.open(&frame).expect("it was sealed just now");
        let selector = if kind == Kind::Authority { 1 } else { 2 };
        (name, [&[selector], plain.as_slice()].concat())
    })
    .collect()
}

/// Messages of both kinds of session.
pub const MESSAGE: Target = Target {
    name: "message",
    body: message,
    seeds: message_seeds,
};

/// Whether the bytes are a value's, which must then be written the same way.
fn one_encoding<T: Canonical>(bytes: &[u8]) -> bool {
    let Ok(value) = from_bytes::<T>(bytes) else {
        return false;
    };
    assert_eq!(to_bytes(&value, 0), bytes, "a value has one encoding");
    true
}

fn hello(bytes: &[u8]) -> bool {
    let Ok(hello) = from_bytes::<Hello>(bytes) else {
        return false;
    };
    // Whatever it says, judging it ends with evidence or a reason.
    let _ = hello.judge(SuiteMask(3), Suite::AesGcm);
    one_encoding::<Hello>(bytes)
}

/// Payloads of messages 2 and 3.
pub const HELLO: Target = Target {
    name: "hello",
    body: hello,
    seeds: || {
        let project = Project::new();
        let grant = Grant::Pass(Box::new(project.pass.clone()));
        vec![(
            "session",
            to_bytes(&Hello::new(SuiteMask(3), &project.evidence(grant)), 0),
        )]
    },
};

/// The payload of a circuit's message 3.
pub const CIRCUIT_HELLO: Target = Target {
    name: "circuit_hello",
    body: one_encoding::<CircuitHello>,
    seeds: || {
        let project = Project::new();
        let grant = Grant::Credential(Box::new(project.credential.clone()));
        let hello = Hello::new(SuiteMask(3), &project.evidence(grant));
        let of = |kind, circuit| {
            let (bundle, circuit) = (BundleId([5; 16]), CircuitNo(circuit));
            to_bytes(
                &CircuitHello {
                    hello: hello.clone(),
                    kind,
                    bundle,
                    circuit,
                },
                0,
            )
        };
        vec![
            ("lane", of(CircuitKind::Lane, 0)),
            ("circuit", of(CircuitKind::Circuit, 3)),
        ]
    },
};

/// Policies of the short form.
pub const POLICY: Target = Target {
    name: "policy",
    body: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        match Rule::parse(text) {
            Ok(rule) => {
                assert_eq!(rule.to_string(), text, "a rule is shown as it was written");
                true
            }
            Err(error) => {
                let message = error.to_string();
                assert!(
                    !message.chars().any(|c| c.is_control() && c != '\n'),
                    "a control character in {message:?}"
                );
                false
            }
        }
    },
    seeds: || {
        let pinned = format!("postgres-inlet=true,id={}", Id([1; 32]));
        vec![
            ("attribute", b"postgres-inlet=true".to_vec()),
            ("pinned", pinned.into_bytes()),
            (
                "three",
                "team=Zürich,env=prod,postgres-inlet=true"
                    .as_bytes()
                    .to_vec(),
            ),
        ]
    },
};

/// A node's state file. Only its own user can write it; it may be damaged all the same.
pub const MEMBERSHIP: Target = Target {
    name: "membership",
    body: |bytes| {
        let id = Project::new().member.id();
        let Ok(membership) = Membership::decode(bytes, &id) else {
            return false;
        };
        assert_eq!(
            membership.encode().as_slice(),
            bytes,
            "a membership has one encoding"
        );
        true
    },
    seeds: || {
        let project = Project::new();
        let mut pinned = Pinned::default();
        pinned.remember(Id([1; 32]), project.member.identity().mark());
        let membership = Membership {
            authority: TrustedAuthority::new(project.authority.identity().clone(), NOW),
            note: project.note,
            credential: project.credential,
            pass: project.pass,
            pinned,
        };
        vec![("pinned", membership.encode().to_vec())]
    },
};

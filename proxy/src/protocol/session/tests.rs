//! Sessions end to end, and what ends them.

use super::message::Envelope;
use super::*;
use crate::error::Problem;
use crate::ids::{AddressHash, SessionId};
use crate::limits::FRAME_MAX;
use crate::protocol::canonical;
use crate::protocol::testkit::{Member, NOW, Project};
use crypto::check::{Evidence, IdentityQuestion, NoHistories, VerifiedIdentity, verify_identity};
use crypto::credential::Roles;
use crypto::statics::StaticPublic;
use crypto::ticket::{TicketId, TicketSecret};
use crypto::{Id, SeededRandom, UnixTime};
use proptest::prelude::*;
use zeroize::Zeroizing;

struct World {
    project: Project,
    node: Member,
}

impl World {
    fn new(seed: u64) -> World {
        let mut project = Project::new(seed);
        let node = project.member("node", Roles::MEMBER);
        World { project, node }
    }

    fn dial(&mut self, kind: Kind) -> (Dialing, Vec<u8>) {
        let id = self.project.id();
        let pair = self.node.keys.pair(kind.purpose());
        Dialing::start(kind, &id, pair, &mut self.project.random).unwrap()
    }

    /// The authority's answer to frame 1.
    fn accept(&mut self, hello: &[u8]) -> (Accepting, Vec<u8>) {
        let mut keys = self.project.authority_keys();
        let id = self.project.id();
        let grant = crypto::check::Grant::Nothing;
        let shown = keys.evidence(&id, Kind::Authority.purpose(), NOW, grant);
        let pair = keys.pair(Kind::Authority.purpose());
        let random = &mut self.project.random;
        Accepting::on_frame_1(Kind::Authority, &id, pair, &shown, frame_1(hello), random).unwrap()
    }

    /// As a node requires the authority.
    fn require(&self, shown: &Evidence, key: &StaticPublic) -> Result<VerifiedIdentity, Denial> {
        let mark = self.project.authority.identity().mark();
        let question = IdentityQuestion {
            project: &self.project.id(),
            required: Some((self.project.id(), mark)),
            histories: &NoHistories,
            remote_static: key,
            now: NOW,
        };
        verify_identity(shown, &question)
    }

    fn open(&mut self) -> (Sealed, Sealed) {
        let (dialing, hello) = self.dial(Kind::Authority);
        let (accepting, frame_2) = self.accept(&hello);
        let shown = self.node.for_authority();
        let check = |shown: &Evidence, key: &StaticPublic| self.require(shown, key);
        let (verified, frame_3, near) = dialing.on_frame_2(&frame_2, &shown, check).unwrap();
        assert_eq!(verified.id(), self.project.id());
        let accepted = accepting.on_frame_3(&frame_3).unwrap();
        assert_eq!(accepted.evidence.identity.id(), self.node.keys.id());
        (near, accepted.sealed)
    }
}

fn frame_1(hello: &[u8]) -> &[u8] {
    let (preface, rest) = hello.split_first_chunk::<8>().unwrap();
    assert!(Kind::of_preface(preface).is_some());
    let (len, frame) = rest.split_first_chunk::<2>().unwrap();
    assert_eq!(usize::from(u16::from_be_bytes(*len)), frame.len());
    frame
}

#[test]
fn both_ends_talk_once_each_was_checked() {
    let (mut node, mut authority) = World::new(1).open();
    let frame = node.seal(RequestNo(1), Message::Ping).unwrap();
    assert!(matches!(
        authority.open(&frame),
        Ok((RequestNo(1), Message::Ping))
    ));
    let frame = authority.seal(RequestNo(1), Message::Pong).unwrap();
    assert!(matches!(
        node.open(&frame),
        Ok((RequestNo(1), Message::Pong))
    ));
}

#[test]
fn a_relay_that_answers_enrollment_itself_gets_no_message_3() {
    let mut world = World::new(2);
    // A real relay of the project, which knows the project's id and all public objects.
    let mut relay = world.project.member("relay", Roles::RELAY);
    let (dialing, hello) = world.dial(Kind::Authority);
    let id = world.project.id();
    let shown = relay.for_authority();
    let pair = relay.keys.pair(Kind::Authority.purpose());
    let random = &mut world.project.random;
    let answer = Accepting::on_frame_1(Kind::Authority, &id, pair, &shown, frame_1(&hello), random);
    let (_, frame_2) = answer.unwrap();
    let own = world.node.for_authority();
    let mut asked = 0;
    let result = dialing.on_frame_2(&frame_2, &own, |shown, key| {
        asked += 1;
        world.require(shown, key)
    });
    let Err(SessionError::Denied(denial)) = result else {
        unreachable!("believed");
    };
    assert_eq!(denial.code(), 3210, "another identity than the project's");
    assert_eq!(asked, 1, "it was judged, and no frame 3 exists");
}

#[test]
fn a_relay_that_shows_the_authoritys_evidence_lacks_its_key() {
    let mut world = World::new(3);
    let relay = world.project.member("relay", Roles::RELAY);
    let (dialing, hello) = world.dial(Kind::Authority);
    let id = world.project.id();
    let mut authority = world.project.authority_keys();
    let grant = crypto::check::Grant::Nothing;
    let copied = authority.evidence(&id, Kind::Authority.purpose(), NOW, grant);
    let pair = relay.keys.pair(Kind::Authority.purpose());
    let random = &mut world.project.random;
    let answer =
        Accepting::on_frame_1(Kind::Authority, &id, pair, &copied, frame_1(&hello), random);
    let (_, frame_2) = answer.unwrap();
    let own = world.node.for_authority();
    let result = dialing.on_frame_2(&frame_2, &own, |shown, key| world.require(shown, key));
    let Err(SessionError::Denied(denial)) = result else {
        unreachable!("believed");
    };
    assert_eq!(denial.step().letter(), 'c');
}

#[test]
fn kinds_projects_and_bytes_can_not_be_swapped() {
    let mut world = World::new(4);
    // A relay session's first frame, answered as an authority session.
    let (dialing, hello) = world.dial(Kind::Relay);
    let (_, frame_2) = world.accept(&hello);
    let own = world.node.for_relay();
    let result = dialing.on_frame_2(&frame_2, &own, |shown, key| world.require(shown, key));
    assert!(matches!(result, Err(SessionError::Noise(_))));
    // Another project's authority.
    let mut other = World::new(5);
    let (dialing, hello) = world.dial(Kind::Authority);
    let (_, frame_2) = other.accept(&hello);
    let own = world.node.for_authority();
    let result = dialing.on_frame_2(&frame_2, &own, |shown, key| world.require(shown, key));
    assert!(matches!(result, Err(SessionError::Noise(_))));
    // Any one byte of frame 2 changed.
    let (dialing, hello) = world.dial(Kind::Authority);
    let (_, mut frame_2) = world.accept(&hello);
    frame_2[40] ^= 1;
    let result = dialing.on_frame_2(&frame_2, &own, |shown, key| world.require(shown, key));
    assert!(matches!(result, Err(SessionError::Noise(_))));
}

#[test]
fn only_the_sessions_suite_is_spoken() {
    let mut world = World::new(6);
    let (_, hello) = world.dial(Kind::Authority);
    for number in [0, 1, 3, 255] {
        let mut frame = frame_1(&hello).to_vec();
        frame[0] = number;
        let mut keys = world.project.authority_keys();
        let id = world.project.id();
        let grant = crypto::check::Grant::Nothing;
        let shown = keys.evidence(&id, Kind::Authority.purpose(), NOW, grant);
        let pair = keys.pair(Kind::Authority.purpose());
        let random = &mut world.project.random;
        let answer = Accepting::on_frame_1(Kind::Authority, &id, pair, &shown, &frame, random);
        assert!(matches!(answer, Err(SessionError::Suite)), "{number}");
    }
}

#[test]
fn a_hello_of_other_versions_or_suites_is_refused() {
    let mut world = World::new(7);
    let shown = world.node.for_authority();
    let suite = crypto::suite::Suite::ChaChaPoly;
    let hello = Hello::new(SESSION_SUITES, &shown);
    assert!(hello.judge(SESSION_SUITES, suite).is_ok());
    let newer = Hello {
        version_min: 2,
        version_max: 3,
        ..hello.clone()
    };
    assert_eq!(
        newer.judge(SESSION_SUITES, suite),
        Err(SessionError::Version(2, 3))
    );
    let both = Hello {
        version_max: 9,
        capabilities: u64::MAX,
        ..hello.clone()
    };
    assert!(
        both.judge(SESSION_SUITES, suite).is_ok(),
        "a newer peer that still speaks 1"
    );
    let stripped = Hello {
        suites: SuiteMask(0b01),
        ..hello.clone()
    };
    assert_eq!(
        stripped.judge(SESSION_SUITES, suite),
        Err(SessionError::Suite)
    );
    let flipped = Hello {
        suites: SuiteMask(0b11),
        ..hello
    };
    let ours = SuiteMask(0b11);
    assert_eq!(
        flipped.judge(ours, suite),
        Err(SessionError::Suite),
        "suite 1 was possible"
    );
}

#[test]
fn a_message_of_the_other_kind_is_a_violation() {
    let chain = |byte| crypto::record::ChainSecret::from_bytes(&[byte; 32]);
    let suite = crypto::suite::Suite::ChaChaPoly;
    let mut relay = Sealed::new(Kind::Relay, suite, chain(1), chain(2));
    let mut authority = Sealed::new(Kind::Authority, suite, chain(2), chain(1));
    let frame = relay.seal(RequestNo(1), Message::Ping).unwrap();
    assert!(authority.open(&frame).is_ok(), "both kinds ping");
    let frame = relay.seal(RequestNo(2), Message::GoingAway).unwrap();
    assert!(matches!(
        authority.open(&frame),
        Err(SessionError::Violation)
    ));
    let frame = authority.seal(RequestNo(3), Message::Renew).unwrap();
    assert!(matches!(relay.open(&frame), Err(SessionError::Violation)));
}

#[test]
fn a_changed_repeated_or_left_out_frame_ends_the_session() {
    for fault in 0..3 {
        let (mut node, mut authority) = World::new(9).open();
        let mut first = node.seal(RequestNo(1), Message::Ping).unwrap();
        let second = node.seal(RequestNo(2), Message::Ping).unwrap();
        let result = match fault {
            0 => {
                first[0] ^= 1;
                authority.open(&first)
            }
            1 => {
                authority.open(&first).ok().unwrap();
                authority.open(&first)
            }
            _ => authority.open(&second),
        };
        assert!(matches!(result, Err(SessionError::BadTag)), "{fault}");
        assert!(authority.open(&second).is_err(), "it stays ended");
    }
}

#[test]
fn what_does_not_fit_a_frame_is_not_sent() {
    let (mut node, _) = World::new(10).open();
    let note = vec![0; FRAME_MAX];
    assert!(matches!(
        node.seal(RequestNo(1), Message::Project { note }),
        Err(SessionError::Limit)
    ));
}

fn samples() -> Vec<Message> {
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    vec![
        Message::Ping,
        Message::Pong,
        Message::Refused(Refusal::new(Problem::TicketUnknown)),
        Message::Refused(Refusal {
            code: Problem::TicketUsed.code().0,
            detail: "bank".into(),
            redeemed_by: Some(Id([3; 32])),
            at: Some(UnixTime(77)),
        }),
        Message::Redeem {
            ticket: TicketId([1; 16]),
            secret: TicketSecret::from_bytes(&[2; 32]),
            wish: Some("bank".parse().unwrap()),
        },
        Message::Redeem {
            ticket: TicketId([1; 16]),
            secret: TicketSecret::from_bytes(&[2; 32]),
            wish: None,
        },
        Message::Enrolled {
            credential: vec![1],
            pass: vec![2; 300],
            note: vec![],
        },
        Message::Renew,
        Message::Renewed {
            credential: vec![1],
            pass: vec![2],
        },
        Message::Time { nonce: [7; 16] },
        Message::TimeIs {
            nonce: [7; 16],
            unix_millis: 1 << 40,
        },
        Message::GetProject,
        Message::Project { note: vec![9; 100] },
        Message::Welcome {
            session: SessionId([4; 16]),
            secret: Zeroizing::new([5; 32]),
            leg_address: Some("[2001:db8::1]:7348".parse().unwrap()),
        },
        Message::Welcome {
            session: SessionId([4; 16]),
            secret: Zeroizing::new([5; 32]),
            leg_address: None,
        },
        Message::Serve {
            addresses: addresses(&["postgres", "redis"]),
        },
        Message::Served {
            accepted: addresses(&["postgres"]),
            refused: addresses(&[]),
        },
        Message::ParkLow {
            address: AddressHash([6; 32]),
            want: 300,
        },
        Message::PassRenewed {
            pass: vec![1, 2, 3],
        },
        Message::GoingAway,
        Message::Denied {
            address: AddressHash([6; 32]),
            member: Id([7; 32]),
        },
        Message::NowServed {
            address: AddressHash([6; 32]),
        },
    ]
}

#[test]
fn every_message_is_read_back_and_no_longer_or_shorter() {
    for (n, message) in samples().into_iter().enumerate() {
        let envelope = Envelope {
            request: RequestNo(n as u32),
            message,
        };
        let bytes = canonical::to_bytes(&envelope, 64);
        let again: Envelope = canonical::from_bytes(&bytes).unwrap();
        assert_eq!(again.request, envelope.request);
        assert_eq!(canonical::to_bytes(&again, 64), bytes, "message {n}");
        for len in 0..bytes.len() {
            assert!(
                canonical::from_bytes::<Envelope>(&bytes[..len]).is_err(),
                "{n} cut to {len}"
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(canonical::from_bytes::<Envelope>(&longer).is_err());
    }
}

#[test]
fn lists_and_texts_are_bounded() {
    let many = (0..17).map(|n| format!("a{n}").parse().unwrap()).collect();
    let envelope = Envelope {
        request: RequestNo(1),
        message: Message::Serve { addresses: many },
    };
    let bytes = canonical::to_bytes(&envelope, 64);
    assert!(canonical::from_bytes::<Envelope>(&bytes).is_err());
    for detail in ["x".repeat(257), "a\u{1b}[31m".into()] {
        let refusal = Refusal {
            detail,
            ..Refusal::new(Problem::NameTaken)
        };
        let message = Message::Refused(refusal);
        let bytes = canonical::to_bytes(
            &Envelope {
                request: RequestNo(1),
                message,
            },
            64,
        );
        assert!(canonical::from_bytes::<Envelope>(&bytes).is_err());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_are_the_one_encoding(
        seed in 0usize..20, at in 0usize..400, with: u8, cut in 0usize..400,
    ) {
        let message = samples().swap_remove(seed);
        let mut bytes = canonical::to_bytes(&Envelope { request: RequestNo(1), message }, 64);
        let place = at % bytes.len();
        bytes[place] = with;
        bytes.truncate(cut.max(1));
        if let Ok(read) = canonical::from_bytes::<Envelope>(&bytes) {
            prop_assert_eq!(canonical::to_bytes(&read, 64), bytes);
        }
    }

    #[test]
    fn arbitrary_frames_never_end_in_a_session(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut world = World::new(11);
        let (dialing, _) = world.dial(Kind::Authority);
        let own = world.node.for_authority();
        prop_assert!(dialing.on_frame_2(&bytes, &own, |s, k| world.require(s, k)).is_err());
        let (_, hello) = world.dial(Kind::Authority);
        let (accepting, _) = world.accept(&hello);
        prop_assert!(accepting.on_frame_3(&bytes).is_err());
        let _ = SeededRandom::new(1);
    }
}

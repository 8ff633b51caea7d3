//! Prologues and the two handshakes, checked in full at both ends.

use crypto::Id;
use crypto::UnixTime;
use crypto::attestation::Purpose;
use crypto::check::{
    Direction, Evidence, Grant, IdentityQuestion, MemberQuestion, MemberView, NoHistories, Policy,
    PolicyDenial, Revocation, Standing, verify_identity, verify_member,
};
use crypto::identity::{HistoryMark, IdentitySecret};
use crypto::noise::{Part, prologue};
use crypto::record::{ChainSecret, Opener, Sealer};
use crypto::statics::StaticPublic;
use crypto::suite::{Suite, SuiteMask};
use proxy::ids::{BundleId, CircuitNo, StreamNo};
use proxy::protocol::preface::{Kind, Preface, VERSION};
use proxy::protocol::record::{Header, Kind as RecordKind};
use proxy::protocol::session::{self, Accepting, Dialing, Message, RequestNo};
use proxy::protocol::shake::{
    InletExchange, InletShake, OutletExchange, OutletShake, Proposal, Shaken, Side,
};

use crate::cast::{self, INITIATOR, NOW, RESPONDER, Same};
use crate::paper::Paper;
use crate::signed::inlet_evidence;

struct Everybody;

impl Revocation for Everybody {
    fn standing(&self, _: &Id, _: u64, _: UnixTime) -> Standing {
        Standing::Good
    }
}

impl Policy for Everybody {
    fn decide(&self, _: &MemberView<'_>) -> Result<(), PolicyDenial> {
        Ok(())
    }
}

fn prologues() -> String {
    let mut paper = Paper::new();
    let project = cast::project();
    for (what, kind, suite, address, parts) in [
        (
            "authority session, suite 2",
            Kind::AuthoritySession,
            Suite::ChaChaPoly,
            None,
            (Part::Node, Part::Authority),
        ),
        (
            "relay session, suite 2",
            Kind::RelaySession,
            Suite::ChaChaPoly,
            None,
            (Part::Node, Part::Relay),
        ),
        (
            "circuit for postgres, suite 1",
            Kind::Circuit,
            Suite::AesGcm,
            Some(cast::address()),
            (Part::Inlet, Part::Outlet),
        ),
    ] {
        let bytes = prologue(
            &Preface::bytes(kind),
            suite,
            VERSION,
            &project,
            address.as_ref(),
            parts.0,
            parts.1,
        );
        paper.block(what, &bytes);
    }
    paper.finish()
}

fn session_evidence(of: &IdentitySecret, static_byte: u8) -> Evidence {
    Evidence {
        identity: of.identity().clone(),
        attestation: cast::attestation(of, static_byte, Purpose::AuthoritySession),
        grant: Grant::Nothing,
    }
}

fn session_question<'a>(
    project: &'a Id,
    remote_static: &'a StaticPublic,
    required: Option<(Id, HistoryMark)>,
) -> IdentityQuestion<'a> {
    let histories = &NoHistories;
    IdentityQuestion {
        project,
        required,
        histories,
        remote_static,
        now: NOW,
    }
}

/// A whole authority session: the inlet's node dials, and asks for the time.
fn session() -> String {
    let project = cast::project();
    let (node, authority) = (
        cast::pair(cast::NODE_STATIC),
        cast::pair(cast::AUTHORITY_STATIC),
    );
    let kind = session::Kind::Authority;
    let (dialing, hello) = Dialing::start(kind, &project, &node, &mut Same(INITIATOR)).unwrap();
    let shown = session_evidence(&cast::authority(), cast::AUTHORITY_STATIC);
    let (accepting, frame_2) = Accepting::on_frame_1(
        kind,
        &project,
        &authority,
        &shown,
        &hello[10..],
        &mut Same(RESPONDER),
    )
    .unwrap();
    let required = Some((project, cast::authority().identity().mark()));
    let ours = session_evidence(&cast::inlet(), cast::NODE_STATIC);
    let check = |shown: &Evidence, key: &StaticPublic| {
        verify_identity(shown, &session_question(&project, key, required))
    };
    let (_, frame_3, mut sealed) = dialing.on_frame_2(&frame_2, &ours, check).unwrap();
    let accepted = accepting.on_frame_3(&frame_3).unwrap();
    let question = session_question(&project, &accepted.remote_static, None);
    verify_identity(&accepted.evidence, &question).unwrap();
    let mut answering = accepted.sealed;

    let time = || Message::Time { nonce: [0x55; 16] };
    let first = sealed.seal(RequestNo(1), time()).unwrap();
    assert!(answering.open(&first).is_ok());
    let answer = || Message::TimeIs {
        nonce: [0x55; 16],
        unix_millis: NOW.0 * 1000,
    };
    let second = answering.seal(RequestNo(1), answer()).unwrap();
    assert!(sealed.open(&second).is_ok());

    let mut paper = Paper::new();
    paper.line("node → authority, in one write");
    paper.field(&hello[..8], "preface");
    paper.field(&hello[8..10], "length of frame 1");
    paper.field(&hello[10..11], "suite");
    paper.field(&hello[11..], "Noise message 1");
    paper.block("authority → node, frame 2, without its length", &frame_2);
    paper.block("node → authority, frame 3, without its length", &frame_3);
    paper.block("node → authority, a sealed frame: TIME, request 1", &first);
    paper.block("authority → node, a sealed frame: TIME IS", &second);
    paper.finish()
}

/// Both ends of a circuit's handshake, and its frames.
struct Circuit {
    frames: [Vec<u8>; 3],
    proposal: Proposal,
    inlet: Shaken,
}

fn outlet_evidence() -> Evidence {
    Evidence {
        identity: cast::outlet().identity().clone(),
        attestation: cast::attestation(&cast::outlet(), cast::OUTLET_STATIC, Purpose::Circuit),
        grant: Grant::Credential(Box::new(cast::membership(true).0)),
    }
}

fn shake() -> Circuit {
    let (project, address, trusted) = (cast::project(), cast::address(), cast::trusted());
    let (inlet_pair, outlet_pair) = (
        cast::pair(cast::INLET_STATIC),
        cast::pair(cast::OUTLET_STATIC),
    );
    let (inlet_shows, outlet_shows) = (inlet_evidence(), outlet_evidence());
    let side = |pair, evidence| Side {
        project: &project,
        address: &address,
        suites: SuiteMask(3),
        pair,
        evidence,
    };
    let inlet = side(&inlet_pair, &inlet_shows);
    let outlet = side(&outlet_pair, &outlet_shows);
    let (first, frame_1) = InletShake::start(&inlet, SuiteMask(3), &mut Same(INITIATOR)).unwrap();
    let (second, frame_2) =
        OutletShake::on_frame_1(&outlet, &frame_1, &mut Same(RESPONDER)).unwrap();
    let check = |shown: &Evidence, key: &StaticPublic| {
        let question = MemberQuestion {
            authority: &trusted,
            histories: &NoHistories,
            remote_static: key,
            now: NOW,
            address: &address,
            direction: Direction::Serve,
            revocation: &Everybody,
            policy: &Everybody,
        };
        verify_member(shown, &question)
    };
    let bundle = BundleId([0x77; 16]);
    let (inlet, frame_3) = first
        .on_frame_2(&inlet, (bundle, CircuitNo(0)), &frame_2, check)
        .unwrap();
    let proposal = second.on_frame_3(&frame_3).unwrap();
    Circuit {
        frames: [frame_1, frame_2, frame_3],
        proposal,
        inlet,
    }
}

fn circuit() -> String {
    let Circuit {
        frames: [frame_1, frame_2, frame_3],
        proposal,
        mut inlet,
    } = shake();
    let (address, trusted) = (cast::address(), cast::trusted());
    let question = MemberQuestion {
        authority: &trusted,
        histories: &NoHistories,
        remote_static: &proposal.remote_static,
        now: NOW,
        address: &address,
        direction: Direction::Connect,
        revocation: &Everybody,
        policy: &Everybody,
    };
    let peer = verify_member(&proposal.evidence, &question).unwrap();
    let mut outlet = proposal.accept(peer);
    let mut ready = vec![0; 4];
    ready.extend_from_slice(&Header::new(RecordKind::Ready, StreamNo::LANE).encode());
    ready.extend_from_slice(&[0; 16]);
    outlet.sealer.seal(&mut ready).unwrap();
    assert!(inlet.opener.open(&mut ready.clone()).is_ok());
    let denied = shake()
        .proposal
        .deny(proxy::error::CloseReason::NotAuthorized)
        .unwrap();

    let mut paper = Paper::new();
    paper.line("inlet → outlet, frame 1, without its length");
    paper.field(&frame_1[..1], "suite");
    paper.field(&frame_1[1..], "Noise message 1");
    paper.block("outlet → inlet, frame 2, without its length", &frame_2);
    paper.block("inlet → outlet, frame 3, without its length", &frame_3);
    paper.block("outlet → inlet, the first record: READY", &ready);
    paper.block("or, where policy says no: DENIED 3001, and FIN", &denied);
    paper.finish()
}

/// The first key exchange of the lane that [`circuit`] shows, in full at both ends.
fn exchange() -> String {
    let Circuit {
        proposal, inlet, ..
    } = shake();
    let (address, trusted) = (cast::address(), cast::trusted());
    let check = |direction| {
        let (address, trusted) = (&address, &trusted);
        move |shown: &Evidence, key: &StaticPublic| {
            let question = MemberQuestion {
                authority: trusted,
                histories: &NoHistories,
                remote_static: key,
                now: NOW,
                address,
                direction,
                revocation: &Everybody,
                policy: &Everybody,
            };
            verify_member(shown, &question)
        }
    };
    let (inlet_pair, outlet_pair) = (
        cast::pair(cast::INLET_STATIC),
        cast::pair(cast::OUTLET_STATIC),
    );
    let (inlet_shows, outlet_shows) = (inlet_evidence(), outlet_evidence());
    let (asked, one) = InletExchange::start(&inlet.binding, &inlet_pair, &mut Same(0x33)).unwrap();
    let shows = (&outlet_pair, &outlet_shows);
    let (answered, two) =
        OutletExchange::on_message_1(&proposal.binding, shows, &one, &mut Same(0x34)).unwrap();
    let outlet_is = (&cast::outlet().id(), &inlet_shows);
    let (at_inlet, three) = asked
        .on_message_2(outlet_is, &two, check(Direction::Serve))
        .unwrap();
    let at_outlet = answered
        .on_message_3(&cast::inlet().id(), &three, check(Direction::Connect))
        .unwrap();
    assert_eq!(at_inlet.binding, at_outlet.binding);

    let chain = || ChainSecret::from_bytes(&[0x61; 32]);
    let mut sealer = Sealer::new(Suite::AesGcm, chain());
    let mut opener = Opener::new(Suite::AesGcm, chain());
    sealer.update(Some(&at_inlet.mix));
    opener.update(Some(&at_outlet.mix));
    let mut ping = vec![0; 4];
    ping.extend_from_slice(&Header::new(RecordKind::Ping, StreamNo::LANE).encode());
    ping.extend_from_slice(&9_u64.to_be_bytes());
    ping.extend_from_slice(&[0; 16]);
    sealer.seal(&mut ping).unwrap();
    assert!(opener.open(&mut ping.clone()).is_ok());

    let mut paper = Paper::new();
    let record = |kind: RecordKind, message: &[u8]| {
        let header = Header::new(kind, StreamNo::LANE).encode();
        [&header[..], &1_u32.to_be_bytes(), message].concat()
    };
    paper.line(
        "ephemeral keys: initiator 32 × 33, responder 32 × 34; records before they are sealed",
    );
    let exchange = |message: &[u8]| record(RecordKind::KeyExchange, message);
    paper.block("hash of the lane's handshake", &inlet.binding.hash);
    paper.block("inlet → outlet: KEY_EXCHANGE 1, message 1", &exchange(&one));
    paper.block("outlet → inlet: KEY_EXCHANGE 1, message 2", &exchange(&two));
    paper.block(
        "inlet → outlet: KEY_EXCHANGE 1, message 3",
        &exchange(&three),
    );
    paper.block("hash of this handshake", &at_inlet.binding.hash);
    paper.block(
        "outlet → inlet: KEY_READY 1",
        &record(RecordKind::KeyReady, b""),
    );
    paper.block("both: KEY_UPDATE 1", &record(RecordKind::KeyUpdate, b""));
    paper.block(
        "suite 1, chain 32 × 61 with the secret mixed in: epoch 1, record 0: PING 9",
        &ping,
    );
    paper.finish()
}

fn hellos() -> String {
    use proxy::protocol::canonical;
    use proxy::protocol::session::Hello;
    use proxy::protocol::shake::{CircuitHello, CircuitKind};
    let hello = Hello::new(SuiteMask(3), &inlet_evidence());
    let circuit = CircuitHello {
        hello: hello.clone(),
        kind: CircuitKind::Lane,
        bundle: BundleId([0x77; 16]),
        circuit: CircuitNo(0),
    };
    let mut paper = Paper::new();
    paper.line("payload of message 2, and of message 3 of a session");
    paper.reading(&canonical::to_bytes(&hello, 512));
    paper.line("payload of message 3 of a circuit");
    paper.reading(&canonical::to_bytes(&circuit, 512));
    paper.finish()
}

pub fn examples() -> Vec<(&'static str, String)> {
    vec![
        ("prologues", prologues()),
        ("hellos", hellos()),
        ("session", session()),
        ("circuit", circuit()),
        ("exchange", exchange()),
    ]
}

//! The circuit handshake: only two honest ends that mean the same thing get keys.

use super::*;
use crate::error::CloseReason;
use crate::ids::{BundleId, CircuitNo};
use crate::limits::{RECORD_HEADER, RECORD_INNER};
use crate::protocol::canonical;
use crate::protocol::policy::Policy;
use crate::protocol::record::{Header, Kind as RecordKind};
use crate::protocol::session::{Hello, SessionError};
use crate::protocol::testkit::{Member, NOW, Project};
use crypto::check::{
    Denial, Direction, MemberQuestion, NoHistories, VerifiedMember, verify_member,
};
use crypto::credential::Roles;
use crypto::statics::StaticPublic;
use crypto::{Id, UnixTime};

struct AllGood;

impl crypto::check::Revocation for AllGood {
    fn standing(&self, _: &Id, _: u64, _: UnixTime) -> crypto::check::Standing {
        crypto::check::Standing::Good
    }
}

struct End {
    member: Member,
    evidence: Evidence,
    address: RelayAddress,
    suites: SuiteMask,
    policy: Policy,
    direction: Direction,
    now: UnixTime,
}

struct World {
    project: Project,
    id: Id,
    inlet: End,
    outlet: End,
    /// What the inlet asks for.
    circuit: CircuitNo,
}

const BUNDLE: BundleId = BundleId([8; 16]);

impl World {
    fn new(seed: u64) -> World {
        let mut project = Project::new(seed);
        let mut end = |name: &str, rule: &str, direction| {
            let mut member = project.member(name, Roles::MEMBER);
            let evidence = member.circuit();
            End {
                member,
                evidence,
                address: "postgres".parse().unwrap(),
                suites: SuiteMask(0b11),
                policy: Policy::parse(&[rule]).unwrap(),
                direction,
                now: NOW,
            }
        };
        let inlet = end("inlet", "outlet=true", Direction::Serve);
        let outlet = end("outlet", "inlet=true", Direction::Connect);
        World {
            id: project.id(),
            project,
            inlet,
            outlet,
            circuit: CircuitNo(0),
        }
    }

    fn start(&mut self, hint: SuiteMask) -> Result<(InletShake, Vec<u8>), SessionError> {
        InletShake::start(&self.inlet.side(&self.id), hint, &mut self.project.random)
    }

    fn answer(&mut self, frame: &[u8]) -> Result<(OutletShake, Vec<u8>), SessionError> {
        OutletShake::on_frame_1(&self.outlet.side(&self.id), frame, &mut self.project.random)
    }

    fn finish(&self, shake: InletShake, frame: &[u8]) -> Result<(Shaken, Vec<u8>), SessionError> {
        let side = self.inlet.side(&self.id);
        shake.on_frame_2(&side, (BUNDLE, self.circuit), frame, |shown, key| {
            self.inlet.judge(&self.project, shown, key)
        })
    }

    /// Up to what the outlet has to decide.
    fn propose(&mut self) -> Result<(Shaken, Proposal), SessionError> {
        let hint = self.outlet.suites;
        let (shake, frame_1) = self.start(hint)?;
        let (waiting, frame_2) = self.answer(&frame_1)?;
        let (shaken, frame_3) = self.finish(shake, &frame_2)?;
        Ok((shaken, waiting.on_frame_3(&frame_3)?))
    }

    fn judge(&self, proposal: &Proposal) -> Result<VerifiedMember, Denial> {
        self.outlet
            .judge(&self.project, &proposal.evidence, &proposal.remote_static)
    }

    fn refused(mut self) -> SessionError {
        match self.propose() {
            Ok(_) => unreachable!("it succeeded"),
            Err(error) => error,
        }
    }
}

impl End {
    fn side<'a>(&'a self, project: &'a Id) -> Side<'a> {
        Side {
            project,
            address: &self.address,
            suites: self.suites,
            pair: self.member.circuit_pair(),
            evidence: &self.evidence,
        }
    }

    fn judge(
        &self,
        project: &Project,
        shown: &Evidence,
        key: &StaticPublic,
    ) -> Result<VerifiedMember, Denial> {
        let question = MemberQuestion {
            authority: &project.trusted(),
            histories: &NoHistories,
            remote_static: key,
            now: self.now,
            address: &self.address,
            direction: self.direction,
            revocation: &AllGood,
            policy: &self.policy,
        };
        verify_member(shown, &question)
    }
}

fn denied(error: SessionError) -> u16 {
    match error {
        SessionError::Denied(denial) => denial.code(),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn two_honest_ends_get_matching_keys_in_every_suite() {
    for (mask, suite) in [
        (SuiteMask(0b11), Suite::AesGcm),
        (SuiteMask(0b10), Suite::ChaChaPoly),
    ] {
        let mut world = World::new(1);
        world.outlet.suites = mask;
        let (mut inlet, proposal) = world.propose().unwrap();
        assert_eq!(inlet.binding.suite, suite);
        assert_eq!(proposal.bundle, BUNDLE);
        assert_eq!(
            (proposal.kind, proposal.circuit),
            (CircuitKind::Lane, CircuitNo(0))
        );
        let peer = world.judge(&proposal).unwrap();
        assert_eq!(peer.id(), world.inlet.member.keys.id());
        assert_eq!(inlet.peer.id(), world.outlet.member.keys.id());
        let mut outlet = proposal.accept(peer);
        let mut record = vec![0; RECORD_HEADER + RECORD_INNER + 5 + 16];
        outlet.sealer.seal(&mut record).unwrap();
        inlet.opener.open(&mut record).unwrap();
        let mut record = vec![0; RECORD_HEADER + RECORD_INNER + 5 + 16];
        inlet.sealer.seal(&mut record).unwrap();
        outlet.opener.open(&mut record).unwrap();
    }
}

#[test]
fn a_circuit_of_a_bundle_is_asked_for_by_its_number() {
    let mut world = World::new(19);
    world.circuit = CircuitNo(7);
    let (_, proposal) = world.propose().unwrap();
    assert_eq!(
        (proposal.kind, proposal.bundle, proposal.circuit),
        (CircuitKind::Circuit, BUNDLE, CircuitNo(7))
    );
    assert!(world.judge(&proposal).is_ok());
}

#[test]
fn a_denied_inlet_gets_one_record_that_only_it_can_read() {
    let mut world = World::new(2);
    world.outlet.policy = Policy::parse(&["gold=true"]).unwrap();
    let (mut inlet, proposal) = world.propose().unwrap();
    assert_eq!(world.judge(&proposal).unwrap_err().code(), 3260);
    let mut record = proposal.deny(CloseReason::NotAuthorized).unwrap();
    let inner = inlet.opener.open(&mut record).unwrap();
    let (head, payload) = inner.split_first_chunk::<RECORD_INNER>().unwrap();
    assert_eq!(Header::parse(*head).unwrap().kind, RecordKind::Denied);
    assert_eq!(payload, CloseReason::NotAuthorized.code().0.to_be_bytes());
}

#[test]
fn another_address_at_the_other_end_fails_at_message_2() {
    let mut world = World::new(3);
    world.outlet.address = "postgres-staging".parse().unwrap();
    assert!(matches!(world.refused(), SessionError::Noise(_)));
}

#[test]
fn another_project_at_the_other_end_fails_at_message_2() {
    let mut world = World::new(4);
    let other = World::new(5);
    let (shake, frame_1) = world.start(SuiteMask(0b11)).unwrap();
    let mut random = crypto::SeededRandom::new(9);
    let side = other.outlet.side(&other.id);
    let (_, frame_2) = OutletShake::on_frame_1(&side, &frame_1, &mut random).unwrap();
    assert!(matches!(
        world.finish(shake, &frame_2),
        Err(SessionError::Noise(_))
    ));
}

#[test]
fn a_hint_that_was_stripped_is_found_out_by_either_end() {
    // The relay tells the inlet that the outlet has suite 2 only: message 2 says otherwise.
    let mut world = World::new(6);
    let (shake, frame_1) = world.start(SuiteMask(0b10)).unwrap();
    let (_, frame_2) = world.answer(&frame_1).unwrap();
    assert!(matches!(
        world.finish(shake, &frame_2),
        Err(SessionError::Suite)
    ));
    // An inlet that goes along with it is refused by the outlet after message 3.
    let mut world = World::new(7);
    world.inlet.suites = SuiteMask(0b10);
    let (shake, frame_1) = world.start(SuiteMask(0b10)).unwrap();
    let (waiting, frame_2) = world.answer(&frame_1).unwrap();
    world.inlet.suites = SuiteMask(0b11);
    let forged = Side {
        suites: SuiteMask(0b10),
        ..world.inlet.side(&world.id)
    };
    let (_, frame_3) = shake
        .on_frame_2(&forged, (BUNDLE, CircuitNo(0)), &frame_2, |shown, key| {
            world.inlet.judge(&world.project, shown, key)
        })
        .unwrap();
    assert!(
        waiting.on_frame_3(&frame_3).is_ok(),
        "an honest mask of 2 alone is a choice of 2"
    );
}

#[test]
fn an_outlet_takes_no_suite_that_it_does_not_offer_and_no_other_than_the_first() {
    let mut world = World::new(8);
    let (_, frame_1) = world.start(SuiteMask(0b11)).unwrap();
    world.outlet.suites = SuiteMask(0b10);
    assert!(matches!(world.answer(&frame_1), Err(SessionError::Suite)));
    assert!(matches!(world.answer(&[]), Err(SessionError::Malformed)));
    // No suite in common: nothing is sent.
    world.inlet.suites = SuiteMask(0b01);
    assert!(matches!(
        world.start(SuiteMask(0b10)),
        Err(SessionError::Suite)
    ));
    // The inlet uses 2 and says in message 3 that it offers both: refused.
    let mut world = World::new(9);
    world.inlet.suites = SuiteMask(0b10);
    let (shake, frame_1) = world.start(SuiteMask(0b10)).unwrap();
    let (waiting, frame_2) = world.answer(&frame_1).unwrap();
    let (checking, payload) = shake_parts(shake, &frame_2);
    let _: Hello = canonical::from_bytes(&payload).unwrap();
    let lying = CircuitHello {
        hello: Hello::new(SuiteMask(0b11), &world.inlet.evidence),
        kind: CircuitKind::Lane,
        bundle: BUNDLE,
        circuit: CircuitNo(0),
    };
    let (_, frame_3) = checking
        .write_message_3(&canonical::to_bytes(&lying, 512))
        .unwrap();
    assert!(matches!(
        waiting.on_frame_3(&frame_3),
        Err(SessionError::Suite)
    ));
}

fn shake_parts(shake: InletShake, frame_2: &[u8]) -> (crypto::noise::Checking, Vec<u8>) {
    shake.into_initiator().read_message_2(frame_2).unwrap()
}

#[test]
fn each_end_checks_the_other_before_it_counts() {
    // The outlet lacks the attribute.
    let mut world = World::new(10);
    world.inlet.policy = Policy::parse(&["gold=true"]).unwrap();
    assert_eq!(denied(world.refused()), 3260);
    // It may not serve the address.
    let mut world = World::new(11);
    world.outlet.address = "redis".parse().unwrap();
    world.inlet.address = "redis".parse().unwrap();
    assert_eq!(denied(world.refused()), 3250);
    // Its credential is over.
    let mut world = World::new(12);
    world.inlet.now = NOW.plus(3600 + 31);
    assert_eq!(denied(world.refused()), 3247);
    // Its attestation is over.
    let mut world = World::new(13);
    world.inlet.now = NOW.plus(21 * 3600 + 31);
    assert_eq!(denied(world.refused()), 3226);
    // It shows somebody else's evidence.
    let mut world = World::new(14);
    let mut other = world.project.member("outlet", Roles::MEMBER);
    world.outlet.evidence = other.circuit();
    assert_eq!(denied(world.refused()), 3230);
    // It shows a relay's credential.
    let mut world = World::new(15);
    let mut relay = world.project.member("outlet", Roles::RELAY);
    world.outlet.evidence = relay.circuit();
    world.outlet.member = relay;
    assert_eq!(denied(world.refused()), 3248);
}

#[test]
fn the_outlet_checks_the_inlet_likewise() {
    let mut world = World::new(16);
    let (_, proposal) = world.propose().unwrap();
    world.outlet.now = NOW.plus(3600 + 31);
    assert_eq!(world.judge(&proposal).unwrap_err().code(), 3247);
    world.outlet.now = NOW;
    assert!(world.judge(&proposal).is_ok());
    let other = World::new(17);
    let foreign = other
        .outlet
        .judge(&other.project, &proposal.evidence, &proposal.remote_static);
    assert_eq!(
        foreign.unwrap_err().code(),
        3222,
        "another project's attestation"
    );
}

#[test]
fn a_lane_has_number_0_and_a_circuit_another() {
    let mut world = World::new(18);
    let hello = Hello::new(SuiteMask(0b11), &world.inlet.member.circuit());
    for (kind, circuit, fits) in [
        (CircuitKind::Lane, 0, true),
        (CircuitKind::Lane, 1, false),
        (CircuitKind::Circuit, 0, false),
        (CircuitKind::Circuit, 7, true),
    ] {
        let hello = hello.clone();
        let circuit = CircuitNo(circuit);
        let payload = CircuitHello {
            hello,
            kind,
            bundle: BUNDLE,
            circuit,
        };
        let bytes = canonical::to_bytes(&payload, 512);
        assert_eq!(canonical::from_bytes::<CircuitHello>(&bytes).is_ok(), fits);
    }
}

/// Both ends of a lane, for exchanges on it.
struct OnLane {
    world: World,
    inlet: Binding,
    outlet: Binding,
}

impl OnLane {
    fn new(seed: u64) -> OnLane {
        let mut world = World::new(seed);
        let (shaken, proposal) = world.propose().unwrap();
        OnLane {
            world,
            inlet: shaken.binding,
            outlet: proposal.binding,
        }
    }

    /// Up to message 3, the outlet being checked as the member `peer`.
    fn asked(&mut self, peer: &Id) -> Result<(Exchanged, OutletExchange, Vec<u8>), SessionError> {
        let World {
            project,
            inlet,
            outlet,
            ..
        } = &mut self.world;
        let pair = inlet.member.circuit_pair();
        let (exchange, one) = InletExchange::start(&self.inlet, pair, &mut project.random)?;
        let shows = (outlet.member.circuit_pair(), &outlet.evidence);
        let (waiting, two) =
            OutletExchange::on_message_1(&self.outlet, shows, &one, &mut project.random)?;
        let (exchanged, three) =
            exchange.on_message_2((peer, &inlet.evidence), &two, |shown, key| {
                inlet.judge(project, shown, key)
            })?;
        Ok((exchanged, waiting, three))
    }

    fn exchange(&mut self) -> Result<[Exchanged; 2], SessionError> {
        let (inlet, outlet) = (self.id(true), self.id(false));
        let (at_inlet, waiting, three) = self.asked(&outlet)?;
        let (end, project) = (&self.world.outlet, &self.world.project);
        let at_outlet =
            waiting.on_message_3(&inlet, &three, |shown, key| end.judge(project, shown, key))?;
        Ok([at_inlet, at_outlet])
    }

    fn id(&self, inlet: bool) -> Id {
        let end = if inlet {
            &self.world.inlet
        } else {
            &self.world.outlet
        };
        end.evidence.identity.id()
    }
}

#[test]
fn exchanges_on_a_lane_follow_each_other_and_each_is_tied_to_the_one_before() {
    let mut lane = OnLane::new(1);
    let first = lane.inlet;
    assert_eq!(lane.inlet, lane.outlet);
    for _ in 0..3 {
        let [inlet, outlet] = lane.exchange().unwrap();
        assert_eq!(inlet.binding, outlet.binding);
        assert_ne!(inlet.binding.hash, lane.inlet.hash);
        assert_eq!(inlet.peer.id(), lane.id(false));
        assert_eq!(outlet.peer.id(), lane.id(true));
        (lane.inlet, lane.outlet) = (inlet.binding, outlet.binding);
    }
    // One that is tied to an earlier handshake fails where the peer is authenticated.
    lane.inlet = first;
    assert!(matches!(lane.exchange(), Err(SessionError::Noise(_))));
}

#[test]
fn an_exchange_of_another_lane_of_the_same_two_members_fails() {
    let mut lane = OnLane::new(2);
    let (other, _) = lane.world.propose().unwrap();
    lane.inlet = other.binding;
    assert!(matches!(lane.exchange(), Err(SessionError::Noise(_))));
}

#[test]
fn an_outlet_that_is_denied_at_an_exchange_is_shown_nothing() {
    let mut lane = OnLane::new(3);
    lane.world.inlet.policy = Policy::parse(&["gold=true"]).unwrap();
    let outlet = lane.id(false);
    assert_eq!(denied(lane.asked(&outlet).err().unwrap()), 3260);
}

#[test]
fn an_inlet_that_is_denied_at_an_exchange_gives_no_secret() {
    let mut lane = OnLane::new(4);
    lane.world.outlet.policy = Policy::parse(&["gold=true"]).unwrap();
    assert_eq!(denied(lane.exchange().err().unwrap()), 3260);
}

#[test]
fn another_member_that_passes_the_check_gets_no_exchange() {
    let mut lane = OnLane::new(5);
    let (inlet, outlet) = (lane.id(true), lane.id(false));
    assert_eq!(lane.asked(&inlet).err(), Some(SessionError::Violation));
    let (_, waiting, three) = lane.asked(&outlet).unwrap();
    let (end, project) = (&lane.world.outlet, &lane.world.project);
    let wrong = waiting.on_message_3(&outlet, &three, |shown, key| end.judge(project, shown, key));
    assert_eq!(wrong.err(), Some(SessionError::Violation));
}

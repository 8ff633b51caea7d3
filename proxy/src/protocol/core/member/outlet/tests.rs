//! An outlet alone, against inlets that lie.

use super::*;
use crate::ids::CircuitNo;
use crate::limits::{CIRCUITS_MAX, OUTLET_CIRCUITS_PER_MEMBER_MAX, OUTLET_LANES_PER_MEMBER_MAX};
use crate::protocol::canonical;
use crate::protocol::command::{CircuitCommand, CircuitEvent, LaneCommand, LaneEvent};
use crate::protocol::core::io::Output;
use crate::protocol::core::membership::{Membership, Pinned};
use crate::protocol::core::revocations::HeldRevocations;
use crate::protocol::record::{Header, Kind};
use crate::protocol::session::Hello;
use crate::protocol::shake::{CircuitHello, CircuitKind, InletShake, Side};
use crate::protocol::testkit::{Member, NOW, Project};
use crate::time::Duration;
use crypto::SeededRandom;
use crypto::attestation::Purpose;
use crypto::credential::Roles;
use crypto::project::ProjectNote;
use crypto::record::Opener;
use crypto::revocation::{Beacon, RevocationEntry, RevocationList};

const SUITES: SuiteMask = SuiteMask(0b11);

struct World {
    project: Project,
    node: Node,
    outlet: Outlet,
    inlet: Member,
    /// The bundle that is asked for.
    bundle: u64,
    /// The link of the last handshake.
    link: LinkId,
    next: u64,
}

/// What became of a link.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Adopted,
    HandedOver,
    Denied(CloseReason),
    Dropped(CloseReason),
}

impl World {
    fn new() -> World {
        let mut project = Project::new(1);
        let Member {
            keys,
            credential,
            pass,
        } = project.member("outlet", Roles::MEMBER);
        let identity = keys.identity().to_bytes();
        let identity = crypto::identity::IdentitySecret::from_bytes(&identity).unwrap();
        let name = "acme".parse().unwrap();
        let note = ProjectNote::issue(&project.authority, name, 1, Vec::new(), SUITES).unwrap();
        let authority = project.trusted();
        let pinned = Pinned::default();
        let membership = Membership {
            note,
            credential,
            pass,
            authority,
            pinned,
        };
        let mut node = Node::new(identity, Some(membership), Box::new(SeededRandom::new(2)));
        // Nobody is revoked, by a beacon of this moment.
        let list = RevocationList::issue(&project.authority, 1, Vec::new()).unwrap();
        let beacon = Beacon::issue(&project.authority, 1, &list, World::now().wall_millis);
        let held = HeldRevocations::new(list, beacon).unwrap();
        node.revocations.restore(held, &node.clock, World::now());
        let config = OutletConfig {
            portal: PortalNo(0),
            at: "postgres".parse().unwrap(),
            targets: Vec::new(),
            allow: Policy::parse(&["inlet=true"]).unwrap(),
        };
        let inlet = project.member("inlet", Roles::MEMBER);
        World {
            project,
            node,
            outlet: Outlet::new(config, SUITES, 1),
            inlet,
            bundle: 0,
            link: LinkId(0),
            next: 2,
        }
    }

    fn now() -> Now {
        Now {
            mono: Instant::from_nanos(1),
            wall_millis: NOW.0 * 1000,
        }
    }

    /// A paired link.
    fn paired(&mut self) -> LinkId {
        let link = LinkId(self.next);
        self.next += 2;
        self.outlet.stages.insert(link, Stage::Paired);
        link
    }

    fn bundle(&self) -> BundleId {
        BundleId((u128::from(self.bundle) << 64).to_be_bytes())
    }

    /// A lane of a new bundle.
    fn lane(&mut self) -> End {
        self.bundle += 1;
        self.propose(CircuitKind::Lane, 0)
    }

    fn event(&mut self, link: LinkId, event: LinkEvent) -> Vec<Command> {
        self.outlet
            .on_event(&mut self.node, World::now(), link, event);
        let outputs = std::iter::from_fn(|| self.node.out.poll());
        outputs
            .filter_map(|output| match output {
                Output::Command(command) => Some(command),
                _ => None,
            })
            .collect()
    }

    fn frame(&mut self, link: LinkId, bytes: Vec<u8>) -> Vec<Command> {
        self.event(link, LinkEvent::Frame(bytes))
    }

    /// A whole handshake that asks for this.
    fn propose(&mut self, kind: CircuitKind, circuit: u16) -> End {
        let link = self.paired();
        self.link = link;
        let evidence = self.inlet.circuit();
        let project = self.project.id();
        let address = "postgres".parse().unwrap();
        let side = Side {
            project: &project,
            address: &address,
            suites: SUITES,
            pair: self.inlet.keys.pair(Purpose::Circuit),
            evidence: &evidence,
        };
        let started = InletShake::start(&side, SUITES, &mut self.project.random);
        let (shake, frame_1) = started.unwrap();
        let suite = crypto::suite::Suite::from_number(frame_1[0]).unwrap();
        let frame_2 = sent(&self.frame(link, frame_1));
        let (checking, _) = shake.into_initiator().read_message_2(&frame_2).unwrap();
        let payload = CircuitHello {
            hello: Hello::new(SUITES, &evidence),
            kind,
            bundle: self.bundle(),
            circuit: CircuitNo(circuit),
        };
        let payload = canonical::to_bytes(&payload, 512);
        let (finished, frame_3) = checking.write_message_3(&payload).unwrap();
        let mut opener = Opener::new(suite, finished.split().responder_to_initiator);
        let commands = self.frame(link, frame_3);
        if commands
            .iter()
            .any(|command| matches!(command, Command::Adopt(_)))
        {
            return End::Adopted;
        }
        let name = commands.iter().find_map(|command| match command {
            Command::HandOver { adopt, .. } => Some(adopt.link),
            _ => None,
        });
        if let Some(name) = name {
            self.link = name;
            return End::HandedOver;
        }
        let mut record = sent(&commands);
        let inner = opener.open(&mut record).unwrap();
        let (head, payload) = inner.split_first_chunk::<4>().unwrap();
        assert_eq!(Header::parse(*head).unwrap().kind, Kind::Denied);
        let code = u16::from_be_bytes(payload[..].try_into().unwrap());
        let why = closed(&commands);
        assert_eq!(CloseReason::from_code(code), Some(why));
        assert!(!self.outlet.owns(link));
        End::Denied(why)
    }
}

fn sent(commands: &[Command]) -> Vec<u8> {
    let found = commands.iter().find_map(|command| match command {
        Command::Send { bytes, .. } => Some(bytes.clone()),
        _ => None,
    });
    found.unwrap()
}

fn closed(commands: &[Command]) -> CloseReason {
    let found = commands.iter().find_map(|command| match command {
        Command::Close { why, .. } => Some(*why),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn a_lane_is_adopted_and_a_circuit_of_no_bundle_denied() {
    let mut world = World::new();
    assert_eq!(world.lane(), End::Adopted);
    assert_eq!(world.propose(CircuitKind::Circuit, 1), End::Adopted);
    world.bundle += 1;
    assert_eq!(
        world.propose(CircuitKind::Circuit, 1),
        End::Denied(CloseReason::NoBundle)
    );
}

#[test]
fn a_bundle_is_its_members_alone_and_its_id_is_not_used_twice() {
    let mut world = World::new();
    assert_eq!(world.lane(), End::Adopted);
    let taken = End::Denied(CloseReason::Violation);
    assert_eq!(world.propose(CircuitKind::Lane, 0), taken);
    world.inlet = world.project.member("inlet", Roles::MEMBER);
    assert_eq!(world.propose(CircuitKind::Lane, 0), taken);
    assert_eq!(
        world.propose(CircuitKind::Circuit, 1),
        End::Denied(CloseReason::NoBundle)
    );
}

#[test]
fn a_circuit_runs_the_whole_check() {
    let mut world = World::new();
    assert_eq!(world.lane(), End::Adopted);
    world.outlet.policy = Policy::parse(&["gold=true"]).unwrap();
    assert_eq!(
        world.propose(CircuitKind::Circuit, 1),
        End::Denied(CloseReason::NotAuthorized)
    );
}

#[test]
fn a_circuits_number_is_free_when_it_is_gone() {
    let mut world = World::new();
    assert_eq!(world.lane(), End::Adopted);
    assert_eq!(world.propose(CircuitKind::Circuit, 9), End::Adopted);
    let first = world.link;
    assert_eq!(
        world.propose(CircuitKind::Circuit, 9),
        End::Denied(CloseReason::Violation)
    );
    assert_eq!(world.propose(CircuitKind::Circuit, 10), End::Adopted);
    let closed = CircuitEvent::Closed(CloseReason::TunnelLost);
    let said = world.event(first, LinkEvent::Circuit(closed));
    assert!(said.is_empty(), "{said:?}");
    assert!(!world.outlet.owns(first));
    assert_eq!(world.propose(CircuitKind::Circuit, 9), End::Adopted);
}

#[test]
fn circuits_end_with_their_lane_and_with_no_other() {
    let mut world = World::new();
    assert_eq!(world.lane(), End::Adopted);
    let lane = world.link;
    let mut circuits = Vec::new();
    for no in 1..=3 {
        assert_eq!(world.propose(CircuitKind::Circuit, no), End::Adopted);
        circuits.push(world.link);
    }
    assert_eq!(world.lane(), End::Adopted);
    assert_eq!(world.propose(CircuitKind::Circuit, 1), End::Adopted);
    let other = world.link;
    let why = CloseReason::TunnelLost;
    let said = world.event(lane, LinkEvent::Lane(LaneEvent::Closed(why)));
    let cut: Vec<_> = said
        .iter()
        .map(|command| match command {
            Command::Circuit {
                link,
                what: CircuitCommand::Cut(_),
            } => *link,
            other => unreachable!("{other:?}"),
        })
        .collect();
    assert_eq!(cut, circuits);
    assert!(world.outlet.owns(other));
    assert_eq!(world.outlet.status().circuits.building, 1);
}

#[test]
fn one_member_has_so_many_lanes_and_no_more() {
    let mut world = World::new();
    for _ in 0..OUTLET_LANES_PER_MEMBER_MAX {
        assert_eq!(world.lane(), End::Adopted);
    }
    assert_eq!(world.lane(), End::Denied(CloseReason::Overloaded));
    world.inlet = world.project.member("inlet", Roles::MEMBER);
    assert_eq!(world.lane(), End::Adopted, "another member");
}

#[test]
fn one_bundle_and_one_member_have_so_many_circuits_and_no_more() {
    let mut world = World::new();
    let full = End::Denied(CloseReason::Overloaded);
    let bundles = OUTLET_CIRCUITS_PER_MEMBER_MAX / CIRCUITS_MAX;
    for _ in 0..bundles {
        assert_eq!(world.lane(), End::Adopted);
        for no in 1..=CIRCUITS_MAX as u16 {
            assert_eq!(world.propose(CircuitKind::Circuit, no), End::Adopted);
        }
        assert_eq!(world.propose(CircuitKind::Circuit, 1000), full);
    }
    assert_eq!(world.lane(), End::Adopted, "a lane finds its place");
    assert_eq!(world.propose(CircuitKind::Circuit, 1), full);
    world.inlet = world.project.member("inlet", Roles::MEMBER);
    assert_eq!(world.lane(), End::Adopted);
    assert_eq!(world.propose(CircuitKind::Circuit, 1), End::Adopted);
}

#[test]
fn garbage_in_any_frame_is_dropped_without_a_word() {
    let mut world = World::new();
    let mut dropped = Vec::new();
    for bytes in [vec![], vec![0; 33], vec![1; 20], vec![2; 4000], vec![9]] {
        let link = world.paired();
        let commands = world.frame(link, bytes);
        assert_eq!(commands.len(), 1, "{commands:?}");
        dropped.push(End::Dropped(closed(&commands)));
        assert!(!world.outlet.owns(link));
    }
    assert!(dropped.iter().all(|end| matches!(
        end,
        End::Dropped(CloseReason::Malformed | CloseReason::ShakeFailed)
    )));
}

#[test]
fn who_reads_message_2_and_goes_is_logged_once_a_minute() {
    let mut world = World::new();
    let evidence = world.inlet.circuit();
    let project = world.project.id();
    let address = "postgres".parse().unwrap();
    let mut hints = 0;
    for _ in 0..20 {
        let link = world.paired();
        let side = Side {
            project: &project,
            address: &address,
            suites: SUITES,
            pair: world.inlet.keys.pair(Purpose::Circuit),
            evidence: &evidence,
        };
        let (_, frame_1) = InletShake::start(&side, SUITES, &mut world.project.random).unwrap();
        sent(&world.frame(link, frame_1));
        let (outlet, node) = (&mut world.outlet, &mut world.node);
        let event = LinkEvent::Closed(CloseReason::TunnelLost);
        outlet.on_event(node, World::now(), link, event);
        let outputs = std::iter::from_fn(|| node.out.poll());
        hints += outputs
            .filter(|output| match output {
                Output::Log(record) => record.what.contains("had shown its name and attributes"),
                _ => false,
            })
            .count();
    }
    assert_eq!(hints, 1);
    assert_eq!(world.outlet.broken_off.0, 19, "they are counted");
}

impl World {
    /// A list that names the inlet's credentials up to that serial is held, by a beacon that is so old.
    fn hold_list(&mut self, max_serial: u64, age: Duration) {
        let entry = RevocationEntry {
            member: self.inlet.credential.body().subject,
            max_serial,
            number: 2,
        };
        let authority = &self.project.authority;
        let list = RevocationList::issue(authority, 2, vec![entry]).unwrap();
        let heard = World::now().wall_millis - age.as_millis() as u64;
        let beacon = Beacon::issue(authority, 2, &list, heard);
        let held = HeldRevocations::new(list, beacon).unwrap();
        let now = World::now();
        self.node.revocations.restore(held, &self.node.clock, now);
    }
}

#[test]
fn a_revoked_inlet_s_lane_and_circuits_are_cut_and_it_is_not_let_in_again() {
    let mut world = World::new();
    assert_eq!(world.lane(), End::Adopted);
    let lane = world.link;
    world.event(lane, LinkEvent::Lane(LaneEvent::Ready));
    assert_eq!(world.propose(CircuitKind::Circuit, 1), End::Adopted);
    let circuit = world.link;
    let serial = world.inlet.credential.body().serial;
    // Another member's lane is not touched.
    let first = std::mem::replace(
        &mut world.inlet,
        world.project.member("inlet", Roles::MEMBER),
    );
    assert_eq!(world.lane(), End::Adopted);
    world.inlet = first;
    world.hold_list(serial, Duration::ZERO);
    let revoked = Arc::clone(world.node.revocations.revoked());
    let why = CloseReason::Revoked;
    let cut = world
        .outlet
        .cut(&mut world.node, why, |lane| lane.is_revoked(&revoked));
    assert_eq!(cut, 1);
    assert!(!world.outlet.owns(lane) && !world.outlet.owns(circuit));
    assert_eq!(world.outlet.lanes().count(), 1);
    let outputs: Vec<Output> = std::iter::from_fn(|| world.node.out.poll()).collect();
    let cuts = outputs.iter().filter(|output| match output {
        Output::Command(Command::Lane { link, what }) => {
            *link == lane && matches!(what, LaneCommand::Cut(cut) if *cut == why)
        }
        Output::Command(Command::Circuit { link, what }) => {
            *link == circuit && *what == CircuitCommand::Cut(why)
        }
        _ => false,
    });
    assert_eq!(cuts.count(), 2);
    let denied = End::Denied(CloseReason::NotAuthorized);
    assert_eq!(world.lane(), denied);
    assert_eq!(world.propose(CircuitKind::Circuit, 1), denied);
    let record = world.node.last_denial.as_ref().unwrap();
    assert_eq!(record.code.unwrap().0, 3252, "step e");
}

#[test]
fn a_credential_above_the_serial_that_is_named_is_good() {
    let mut world = World::new();
    let serial = world.inlet.credential.body().serial;
    world.hold_list(serial - 1, Duration::ZERO);
    assert_eq!(world.lane(), End::Adopted);
}

#[test]
fn a_list_that_is_too_old_lets_nobody_in() {
    let mut world = World::new();
    world.hold_list(0, Duration::from_secs(301));
    assert_eq!(world.lane(), End::Denied(CloseReason::NotAuthorized));
    let record = world.node.last_denial.as_ref().unwrap();
    assert_eq!(record.code.unwrap().0, 3253, "step e");
}

/// An outlet with two workers and a lane that is on its way from one to the other.
fn on_its_way() -> (World, LinkId) {
    let mut world = World::new();
    world.outlet.workers = 2;
    assert_eq!(world.lane(), End::Adopted);
    assert_eq!(world.lane(), End::HandedOver);
    let link = world.link;
    (world, link)
}

/// What the lane is told when it is there.
fn told_when_ready(world: &mut World, link: LinkId) -> Vec<String> {
    // What was said before finds nothing.
    while world.node.out.poll().is_some() {}
    let commands = world.event(link, LinkEvent::Lane(LaneEvent::Ready));
    let told = commands.into_iter().filter_map(|command| match command {
        Command::Lane { link: of, what } => {
            assert_eq!(of, link);
            Some(format!("{what:?}"))
        }
        _ => None,
    });
    told.collect()
}

#[test]
fn a_lane_that_is_revoked_on_its_way_to_another_worker_is_cut_when_it_is_there() {
    let (mut world, lane) = on_its_way();
    let serial = world.inlet.credential.body().serial;
    world.hold_list(serial, Duration::ZERO);
    let revoked = Arc::clone(world.node.revocations.revoked());
    let why = CloseReason::Revoked;
    let is_out = |lane: &Lane| lane.is_revoked(&revoked);
    assert_eq!(world.outlet.cut(&mut world.node, why, is_out), 2);
    assert_eq!(world.outlet.lanes().count(), 0);
    // Nor do its legs' going take it out of the book.
    world.outlet.stop(&mut world.node);
    let told = told_when_ready(&mut world, lane);
    assert_eq!(told, [format!("{:?}", LaneCommand::Cut(why))]);
    assert!(world.outlet.owns(lane));
    world.event(lane, LinkEvent::Lane(LaneEvent::Closed(why)));
    assert!(!world.outlet.owns(lane));
}

#[test]
fn a_lane_that_is_cut_and_never_arrives_is_forgotten() {
    let (mut world, lane) = on_its_way();
    let why = CloseReason::Revoked;
    assert_eq!(world.outlet.cut(&mut world.node, why, |_| true), 2);
    assert!(world.outlet.owns(lane));
    world.event(lane, LinkEvent::Closed(CloseReason::TunnelLost));
    assert!(!world.outlet.owns(lane));
}

#[test]
fn lanes_that_were_cut_on_their_way_count_until_they_have_ended() {
    let mut world = World::new();
    for _ in 0..OUTLET_LANES_PER_MEMBER_MAX {
        assert_eq!(world.lane(), End::Adopted);
    }
    let last = world.link;
    let why = CloseReason::NotAuthorized;
    world.outlet.cut(&mut world.node, why, |_| true);
    assert_eq!(world.lane(), End::Denied(CloseReason::Overloaded));
    world.event(last, LinkEvent::Lane(LaneEvent::Closed(why)));
    assert_eq!(world.lane(), End::Adopted);
}

#[test]
fn a_lane_hears_of_a_renewal_and_of_its_retiring_once_it_is_there() {
    let (mut world, lane) = on_its_way();
    let evidence = world.node.circuit_evidence(World::now()).unwrap().encode();
    world.outlet.on_renewed(&mut world.node, &evidence);
    world.outlet.on_relay_leaves(&mut world.node);
    let told = told_when_ready(&mut world, lane);
    let both = [LaneCommand::Credential(evidence), LaneCommand::Retire];
    assert_eq!(told, both.map(|what| format!("{what:?}")));
    let again = told_when_ready(&mut world, lane);
    assert_eq!(again, Vec::<String>::new(), "once");
}

//! The whole core of a node, with a worker, a resolver and a server that say anything. Whatever
//! comes, it does a bounded number of things and asks for no timer in the past for ever.
//!
//! ```text
//! step = what u8 ‖ which u8 ‖ length u8 ‖ bytes
//! ```

use std::net::{Ipv4Addr, SocketAddr};

use crypto::SeededRandom;
use crypto::check::TrustedAuthority;
use crypto::revocation::{Beacon, RevocationList};
use crypto::suite::SuiteMask;
use proxy::error::CloseReason;
use proxy::ids::{LinkId, PortalNo};
use proxy::limits::LEG_ANSWER;
use proxy::protocol::command::{Command, Event, LaneEvent};
use proxy::protocol::core::membership::Pinned;
use proxy::protocol::core::{
    AdminCall, AdminNo, Core, HeldRevocations, InletConfig, Input, MemberConfig, MemberCore,
    Membership, Now, OutletConfig, Output, ResolveNo, TargetConfig,
};
use proxy::protocol::policy::Policy;
use proxy::time::{Duration, Instant};

use crate::Target;
use crate::fixtures::{NOW, Project};

/// Outputs that one input may cause.
const OUTPUTS: usize = 2_000;
/// Timers that may be due at one instant.
const TIMERS: usize = 1_000;

struct World {
    core: MemberCore,
    now: Now,
    links: Vec<LinkId>,
    questions: Vec<ResolveNo>,
    dialed: usize,
}

fn core(now: Now) -> MemberCore {
    let project = Project::new();
    let membership = Membership {
        authority: TrustedAuthority::new(project.authority.identity().clone(), NOW),
        note: project.note,
        credential: project.credential,
        pass: project.pass,
        pinned: Pinned::default(),
    };
    // Nobody is revoked, by a beacon of this moment.
    let list = RevocationList::issue(&project.authority, 1, Vec::new()).expect("an empty list");
    let beacon = Beacon::issue(&project.authority, 1, &list, now.wall_millis);
    let revocations = HeldRevocations::new(list, beacon).expect("a list and its beacon");
    let allow = || Policy::parse(&["postgres-outlet=true".to_owned()]);
    let config = MemberConfig {
        workers: 1,
        identity: project.member,
        membership: Some(membership),
        revocations: Some(revocations),
        revocation_max_age: Duration::from_secs(300),
        key_exchange_every: Duration::from_secs(3600),
        ticket: None,
        wish: None,
        suites: SuiteMask(3),
        inlets: vec![InletConfig {
            portal: PortalNo(0),
            via: "postgres.staging".parse().expect("a legal address"),
            target: None,
            allow: allow().expect("a legal rule"),
            lanes: 1,
            dedicated: false,
        }],
        outlets: vec![OutletConfig {
            portal: PortalNo(1),
            at: "postgres".parse().expect("a legal address"),
            targets: vec![TargetConfig {
                name: "postgres".parse().expect("a legal name"),
                to: vec!["db.example:5432".parse().expect("a legal address")],
                proxy_header: false,
            }],
            allow: allow().expect("a legal rule"),
        }],
    };
    MemberCore::new(config, Box::new(SeededRandom::new(5)), now)
}

impl World {
    fn new() -> World {
        let now = Now {
            mono: Instant::from_nanos(1_000_000_000),
            wall_millis: NOW.0 * 1000,
        };
        let mut world = World {
            core: core(now),
            now,
            links: Vec::new(),
            questions: Vec::new(),
            dialed: 0,
        };
        world.outputs();
        world
    }

    fn input(&mut self, input: Input) {
        self.core.handle(self.now, input);
        self.outputs();
    }

    fn outputs(&mut self) {
        let mut count = 0;
        while let Some(output) = self.core.poll_output() {
            count += 1;
            assert!(count < OUTPUTS, "one input has no end of outputs");
            if let Output::Command(Command::Dial { link, .. }) = output {
                self.dialed += 1;
                self.links.push(link);
            } else if let Output::Resolve { no, .. } = output {
                self.questions.push(no);
            } else if let Output::Command(Command::Close { link, .. }) = output {
                self.links.retain(|open| *open != link);
            }
        }
    }

    /// The clock goes on; what is due is done.
    fn pass(&mut self, span: Duration) {
        self.now.mono = self.now.mono + span;
        self.now.wall_millis += u64::try_from(span.as_millis()).unwrap_or(0);
        for _ in 0..TIMERS {
            if self.core.next_timer() > self.now.mono {
                return;
            }
            self.input(Input::Timer);
        }
        unreachable!("a timer stays due");
    }

    fn step(&mut self, what: u8, which: u8, bytes: &[u8]) {
        let link = self.links.get(usize::from(which) % self.links.len().max(1));
        let link = link.copied();
        let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, which), 7348));
        let lane = |what| link.map(|link| Event::Lane { link, what });
        let why = CloseReason::ALL[usize::from(which) % CloseReason::ALL.len()];
        let event = match what % 16 {
            0 => return self.pass(Duration::from_millis(10 << (which % 20))),
            1 => {
                let place = usize::from(which) % self.questions.len().max(1);
                if place < self.questions.len() {
                    let no = self.questions.remove(place);
                    let addresses = bytes
                        .iter()
                        .map(|b| (Ipv4Addr::new(10, 0, 0, *b), 7348).into());
                    let answer = if bytes.is_empty() {
                        Err("no such name".into())
                    } else {
                        Ok(addresses.collect())
                    };
                    self.input(Input::Resolved { no, answer });
                }
                return;
            }
            2 => link.map(|link| Event::Connected { link, peer }),
            3 | 4 => {
                // A leg's answer has its length; anything else is a frame.
                let mut bytes = bytes.to_vec();
                if what % 16 == 4 {
                    bytes.resize(LEG_ANSWER, which);
                }
                link.map(|link| Event::Frame { link, bytes })
            }
            5 => {
                let gone = link;
                self.links.retain(|open| Some(*open) != gone);
                gone.map(|link| Event::Closed { link, why })
            }
            6 => lane(LaneEvent::Ready),
            7 => lane(LaneEvent::Denied(why)),
            8 => lane(LaneEvent::Credential(bytes.to_vec())),
            9 => lane(LaneEvent::Retiring),
            10 => lane(LaneEvent::Closed(why)),
            11 => Some(Event::AppRefused {
                portal: PortalNo(u16::from(which) % 3),
                app: peer,
                why,
            }),
            12 => Some(Event::TargetFailed {
                portal: PortalNo(1),
                target: String::from_utf8_lossy(bytes).into_owned(),
                why,
            }),
            13 => {
                let (no, call) = (AdminNo(1), AdminCall::Status);
                return self.input(Input::Admin { no, call });
            }
            14 if which > 250 => return self.input(Input::Stop),
            15 if which < 200 => lane(LaneEvent::Exchange {
                number: u32::from(which % 3),
                message: bytes.to_vec(),
            }),
            15 => lane(LaneEvent::Mixed { number: 1 }),
            _ => None,
        };
        if let Some(event) = event {
            self.input(Input::Event(event));
        }
    }
}

fn body(mut bytes: &[u8]) -> bool {
    let mut world = World::new();
    while let Some((&[what, which, len], rest)) = bytes.split_first_chunk::<3>() {
        let (piece, rest) = rest.split_at(usize::from(len).min(rest.len()));
        bytes = rest;
        world.step(what, which, piece);
    }
    world.pass(Duration::from_secs(3));
    let _ = world.core.status(world.now);
    world.dialed > 0
}

/// The core of a node.
pub const MEMBER: Target = Target {
    name: "member",
    body,
    seeds: || {
        let reached = [
            [1, 0, 1, 2].as_slice(),
            &[1, 0, 1, 2],
            &[2, 0, 0],
            &[2, 1, 0],
            &[3, 0, 4, 1, 2, 3, 4],
            &[0, 12, 0],
            &[1, 0, 0],
            &[5, 1, 0],
            &[0, 14, 0],
            &[13, 0, 0],
        ];
        let told = [
            [1, 0, 2, 3, 4].as_slice(),
            &[2, 0, 0],
            &[4, 0, 1, 9],
            &[6, 0, 0],
            &[8, 0, 3, 1, 2, 3],
            &[9, 0, 0],
            &[10, 0, 0],
            &[11, 0, 0],
            &[12, 0, 2, b'd', b'b'],
            &[0, 19, 0],
            &[14, 255, 0],
        ];
        vec![("reached", reached.concat()), ("told", told.concat())]
    },
};

//! The worker's loop with many streams, on the simulated engine: an inlet and an outlet with a lane
//! between them, apps at one end and an echo service at the other. No kernel is in it, so what is
//! measured is the worker, its sealing and opening, and the simulation's sockets.
//!
//! Control's part is played here: the lane's keys are made without a handshake.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use crypto::Id;
use crypto::record::{ChainSecret, Opener, Sealer};
use crypto::suite::Suite;
use proxy::engine::simulated::{
    EngineId, Faults, SimCarry, SimEngine, SimListener, SimRead, SimSocket, SimWaker, Step, World,
};
use proxy::engine::{Engine, EngineConfig};
use proxy::ids::{BundleId, LinkId, PortalNo};
use proxy::mailbox::{ControlEnd, ToWorker, mailbox};
use proxy::protocol::command::{
    Adopt, Becomes, Command, Event, Expect, KnownTarget, LaneEvent, Permit, Role,
};
use proxy::protocol::preface::{Kind, Preface};
use proxy::time::Instant;
use proxy::worker::counters::Counters;
use proxy::worker::{Worker, WorkerConfig};

const INLET: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const OUTLET: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));
const DOOR: u16 = 15432;
const TUNNEL: u16 = 7348;
const SERVICE: u16 = 5432;
const PORTAL: PortalNo = PortalNo(1);
const LINK: LinkId = LinkId(2);
const TARGET: &str = "echo";

/// Bytes of one message.
pub const MESSAGE: usize = 64;

struct Node {
    engine: EngineId,
    worker: Worker<SimEngine>,
    control: ControlEnd<SimCarry, SimWaker>,
    counters: Arc<Counters>,
}

impl Node {
    fn new(world: &World, host: IpAddr) -> Node {
        let config = EngineConfig {
            sockets: 4096,
            buffers: [4096, 256, 64, 0],
            pipes: 0,
        };
        let engine = world.engine(host, &config).expect("an engine");
        let id = engine.id();
        let (control, end) = mailbox(engine.waker(), Arc::new(|| {}));
        let counters = Arc::new(Counters::default());
        let config = WorkerConfig::alone(4096);
        let worker = Worker::new(engine, end, &config, Arc::clone(&counters));
        Node {
            engine: id,
            worker,
            control,
            counters,
        }
    }

    fn tell(&self, message: ToWorker<SimCarry>) {
        assert!(self.control.send(message).is_ok(), "the mailbox has room");
    }
}

/// A portal with its lane up and its streams open.
pub struct Turns {
    world: World,
    inlet: Node,
    outlet: Node,
    service: SimListener,
    served: Vec<SimSocket>,
    apps: Vec<SimSocket>,
    ready: bool,
    /// Time that the inlet's turns took since it was last asked for.
    spent: Duration,
}

impl Turns {
    /// So many apps, each with a stream on which a message went there and back.
    ///
    /// # Panics
    /// The lane does not come up.
    pub fn new(streams: usize) -> Turns {
        let world = World::new(1);
        // Equal delays: what is sent at one time arrives at one time, and makes one turn.
        let hop = Duration::from_micros(1);
        world.set_faults(Faults {
            latency: hop..hop + Duration::from_nanos(1),
            ..Faults::none()
        });
        let (inlet, outlet) = (Node::new(&world, INLET), Node::new(&world, OUTLET));
        let listen = |node: &Node, host, port, portal| {
            let listening = world.listen(SocketAddr::new(host, port));
            let (socket, _) = listening.expect("the port is free");
            node.tell(ToWorker::Listen { portal, socket });
        };
        listen(&inlet, INLET, DOOR, Some(PORTAL));
        listen(&outlet, OUTLET, TUNNEL, None);
        let service = world.app_listen(SocketAddr::new(OUTLET, SERVICE));
        let service = service.expect("the port is free");
        let target = vec![SocketAddr::new(OUTLET, SERVICE)];
        outlet.tell(ToWorker::Command(Command::Targets {
            portal: PORTAL,
            targets: vec![KnownTarget {
                name: TARGET.into(),
                to: target,
                proxy_header: false,
            }],
        }));
        for node in [&inlet, &outlet] {
            node.tell(ToWorker::Command(Command::AuthorityTime {
                unix_millis: 1_000_000,
                at: Instant::ZERO,
            }));
        }
        inlet.tell(ToWorker::Command(Command::Dial {
            link: LINK,
            to: vec![SocketAddr::new(OUTLET, TUNNEL)],
            hello: Preface::bytes(Kind::RelaySession).to_vec(),
            expect: Expect::Nothing,
            deadline: world.now() + Duration::from_secs(10),
        }));
        let mut turns = Turns {
            world,
            inlet,
            outlet,
            service,
            served: Vec::new(),
            apps: Vec::new(),
            ready: false,
            spent: Duration::ZERO,
        };
        while !turns.ready {
            turns.step();
        }
        let door = SocketAddr::new(INLET, DOOR);
        for _ in 0..streams {
            turns.apps.push(turns.world.app_connect(INLET, door));
        }
        while !turns.apps.iter().all(|app| app.connected() == Ok(true)) {
            turns.step();
        }
        turns.round();
        turns
    }

    /// A message of [`MESSAGE`] bytes of every app goes to the service and comes back. Returns the
    /// time that the inlet's turns took: those that seal what the apps sent, and those that open
    /// what came back.
    ///
    /// # Panics
    /// A connection broke.
    pub fn round(&mut self) -> Duration {
        self.spent = Duration::ZERO;
        let message = [0x5a; MESSAGE];
        for app in &mut self.apps {
            assert_eq!(app.write(&message), Ok(MESSAGE));
        }
        let mut missing = self.apps.len() * MESSAGE;
        while missing > 0 {
            self.step();
            let mut back = [0; MESSAGE];
            for app in &mut self.apps {
                if let Ok(SimRead::Bytes(len)) = app.read(&mut back) {
                    missing -= len;
                }
            }
        }
        self.spent
    }

    /// Sends on the lane so far, of the inlet.
    pub fn lane_sends(&self) -> u64 {
        self.inlet.counters.lane_sends.get()
    }

    /// One step of the world, with the parts of control and of the service.
    fn step(&mut self) {
        match self.world.advance(Instant::FAR_FUTURE) {
            Step::Run(engines) => {
                for engine in engines {
                    self.turn(engine);
                }
            }
            Step::Limit | Step::Quiet => unreachable!("the world stands still"),
        }
        self.play_control();
        while let Some((socket, _)) = self.service.accept() {
            self.served.push(socket);
        }
        let mut chunk = [0; 4 * MESSAGE];
        for served in &mut self.served {
            while let Ok(SimRead::Bytes(len)) = served.read(&mut chunk) {
                assert_eq!(served.write(&chunk[..len]), Ok(len));
            }
        }
    }

    fn turn(&mut self, engine: EngineId) {
        if engine == self.inlet.engine {
            let began = Clock::now();
            self.inlet.worker.one_turn();
            self.spent += began.elapsed();
        } else {
            self.outlet.worker.one_turn();
        }
    }

    fn play_control(&mut self) {
        let mut events = Vec::new();
        self.inlet.control.receive(&mut events, 64);
        for event in events.drain(..) {
            if let Event::Connected { link, .. } = event {
                self.inlet.tell(adopt(Role::Inlet, link));
            } else if let Event::Lane { what, .. } = event {
                self.ready |= matches!(what, LaneEvent::Ready);
            }
        }
        self.outlet.control.receive(&mut events, 64);
        for event in events {
            if let Event::Accepted { link, .. } = event {
                self.outlet.tell(adopt(Role::Outlet, link));
            }
        }
    }
}

fn adopt(role: Role, link: LinkId) -> ToWorker<SimCarry> {
    let secret = |of: u8| ChainSecret::from_bytes(&[of; 32]);
    let (send, receive) = match role {
        Role::Inlet => (1, 2),
        Role::Outlet => (2, 1),
    };
    ToWorker::Command(Command::Adopt(Box::new(Adopt {
        link,
        becomes: Becomes::Lane,
        last: Vec::new(),
        role,
        portal: PORTAL,
        bundle: BundleId([3; 16]),
        fresh_until: Instant::FAR_FUTURE,
        sealer: Sealer::new(Suite::AesGcm, secret(send)),
        opener: Opener::new(Suite::AesGcm, secret(receive)),
        permit: Permit {
            peer: Id([7; 32]),
            peer_name: "peer".into(),
            serial: 1,
            targets: Arc::from([TARGET.to_string()]),
            policy_version: 1,
            list_number: 1,
            not_after: Instant::FAR_FUTURE,
        },
        dedicated: false,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_one_time_leave_in_one_send() {
        let mut turns = Turns::new(50);
        let before = turns.lane_sends();
        for _ in 0..10 {
            assert!(turns.round() > Duration::ZERO);
        }
        let sends = turns.lane_sends() - before;
        assert!(sends <= 20, "{sends} sends for 10 times 50 messages");
        assert_eq!(turns.world.violations(), Vec::<String>::new());
    }
}

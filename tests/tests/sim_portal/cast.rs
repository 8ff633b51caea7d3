//! Who is in a portal, where, and what each is started with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crypto::credential::Roles;
use crypto::identity::IdentitySecret;
use crypto::{Random, UnixTime};
use proxy::engine::simulated::{Faults, Rng, World};
use proxy::limits::{KEY_EXCHANGE_EVERY, REVOCATION_MAX_AGE};
use proxy::protocol::core::{AdminCall, AdminReply, TicketSpec};
use proxy::protocol::store::{MemoryStore, ProjectRow, Store};
use proxy::time::{Duration, Instant};
use zeroize::Zeroizing;

use super::process::{EPOCH, Plan, Process, Seat};

const fn host(net: u8, no: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, net, no))
}

/// The inlet's host.
pub const INLET: IpAddr = host(0, 1);
/// The server's host.
pub const SERVER: IpAddr = host(0, 2);
/// The outlet's host.
pub const OUTLET: IpAddr = host(0, 3);
/// The relay's host, where it is no part of the server.
pub const RELAY: IpAddr = host(0, 4);
/// The second inlet's host.
pub const SECOND: IpAddr = host(0, 6);
/// The apps' host.
pub const APPS: IpAddr = host(1, 1);
/// The services' host.
pub const SERVICES: IpAddr = host(1, 3);

/// Where the server is reached, and by which name.
pub const PUBLIC: (&str, u16) = ("relay.example:7348", 7348);

/// The same of a relay that is no part of the server.
pub const APART: (&str, u16) = ("apart.example:7349", 7349);

/// A relay address with everything that belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The relay address.
    pub address: &'static str,
    /// The port of the inlet's door.
    pub door: u16,
    /// The service, as the resolver knows it.
    pub target: &'static str,
    /// The service's port.
    pub port: u16,
}

/// The route of every portal.
pub const POSTGRES: Route = Route {
    address: "postgres",
    door: 15432,
    target: "db.example:5432",
    port: 5432,
};

/// A second one, for portals with two.
pub const STAGING: Route = Route {
    address: "staging",
    door: 15433,
    target: "staging.example:5433",
    port: 5433,
};

/// A process of the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Authority and relay, or the authority alone.
    Server,
    /// The outlet.
    Outlet,
    /// The inlet.
    Inlet,
    /// Another inlet for the same addresses.
    Second,
    /// A relay that is no part of the server.
    Relay,
}

/// What a portal is made like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The network while it comes up.
    pub faults: Faults,
    /// Its routes.
    pub routes: Vec<Route>,
    /// Buffers of each engine.
    pub buffers: [u32; 4],
    /// How late a control thread may be.
    pub lag: Duration,
    /// Who has more than one worker.
    pub workers: Vec<(Who, u8)>,
    /// Lanes of each inlet at each worker.
    pub lanes: u8,
    /// Inlets have `--dedicated`.
    pub dedicated: bool,
    /// There are two inlets for each address.
    pub crowd: bool,
    /// The relay is a process of its own.
    pub apart: bool,
    /// By how many seconds the wall clock of a node is wrong.
    pub wrong_clock: Option<(Who, i64)>,
    /// `--revocation-max-age` of all.
    pub max_age: Duration,
    /// `--key-exchange-every` of all.
    pub key_exchange_every: Duration,
    /// The attribute that the authority gives the inlet; the outlet wants `postgres-inlet`.
    pub inlet_is: &'static str,
    /// The attribute that the authority gives the outlet; the inlet wants `postgres-outlet`.
    pub outlet_is: &'static str,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            faults: Faults::none(),
            routes: vec![POSTGRES],
            buffers: [512, 128, 128, 32],
            lag: Duration::ZERO,
            workers: Vec::new(),
            lanes: 1,
            dedicated: false,
            crowd: false,
            apart: false,
            wrong_clock: None,
            max_age: REVOCATION_MAX_AGE,
            key_exchange_every: KEY_EXCHANGE_EVERY,
            inlet_is: "postgres-inlet",
            outlet_is: "postgres-outlet",
        }
    }
}

/// The processes of a portal, just started.
pub fn start(
    shape: &Shape,
    world: &World,
    rng: &mut Rng,
    random: &mut dyn Random,
) -> Vec<(Who, Process)> {
    let public = Some(SocketAddr::new(SERVER, PUBLIC.1));
    let mut server = Process::new("server", SERVER, public, project(random, shape.apart));
    set(&mut server, Who::Server, shape);
    server.start(world, rng.draw());
    let mut cast = Vec::new();
    let addresses: Vec<&str> = shape.routes.iter().map(|route| route.address).collect();
    let outlet_plans = shape.routes.iter().map(|route| Plan::Outlet {
        at: route.address,
        allow: "postgres-inlet=true".into(),
        to: route.target,
    });
    let inlet_plans = |ip| {
        let plans = shape.routes.iter().map(move |route| Plan::Inlet {
            via: route.address,
            allow: "postgres-outlet=true".into(),
            door: SocketAddr::new(ip, route.door),
        });
        plans.collect()
    };
    let mut nodes = vec![
        (
            Who::Outlet,
            OUTLET,
            spec("bank-outlet", shape.outlet_is, &addresses),
            outlet_plans.collect(),
        ),
        (
            Who::Inlet,
            INLET,
            spec("analysis-inlet", shape.inlet_is, &[]),
            inlet_plans(INLET),
        ),
    ];
    if shape.crowd {
        let spec = spec("second-inlet", shape.inlet_is, &[]);
        nodes.push((Who::Second, SECOND, spec, inlet_plans(SECOND)));
    }
    for (who, ip, spec, plans) in nodes {
        let ticket = ticket(&mut server, world.now(), spec);
        let mut process = Process::new(who.name(), ip, None, node(random, ticket, plans));
        set(&mut process, who, shape);
        if let Some((wrong, by)) = shape.wrong_clock
            && wrong == who
        {
            process.clock_error_s = by;
        }
        process.start(world, rng.draw());
        cast.push((who, process));
    }
    if shape.apart {
        let spec = TicketSpec {
            roles: Roles::RELAY,
            ..TicketSpec::member(Some("relay".parse().unwrap()))
        };
        let seat = Seat::Relay {
            identity: IdentitySecret::create(random).to_bytes(),
            membership: None,
            ticket: Some(ticket(&mut server, world.now(), spec)),
        };
        let public = Some(SocketAddr::new(RELAY, APART.1));
        let mut relay = Process::new("relay", RELAY, public, seat);
        set(&mut relay, Who::Relay, shape);
        relay.start(world, rng.draw());
        cast.push((Who::Relay, relay));
    }
    cast.insert(0, (Who::Server, server));
    cast
}

impl Who {
    /// Each of them, in the order in which seeds draw.
    pub const ALL: [Who; 5] = [
        Who::Server,
        Who::Relay,
        Who::Outlet,
        Who::Inlet,
        Who::Second,
    ];

    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Who::Server => "server",
            Who::Outlet => "outlet",
            Who::Inlet => "inlet",
            Who::Second => "second",
            Who::Relay => "relay",
        }
    }

    /// Whether apps connect to it.
    pub fn is_inlet(self) -> bool {
        matches!(self, Who::Inlet | Who::Second)
    }
}

fn set(process: &mut Process, who: Who, shape: &Shape) {
    let workers = shape.workers.iter().find(|(of, _)| *of == who);
    process.workers = workers.map_or(1, |(_, workers)| *workers);
    process.lanes = shape.lanes;
    process.dedicated = shape.dedicated;
    process.max_age = shape.max_age;
    process.key_exchange_every = shape.key_exchange_every;
    process.buffers = shape.buffers;
    process.lag = shape.lag;
}

fn project(random: &mut dyn Random, apart: bool) -> Seat {
    let authority = IdentitySecret::create(random);
    let relay = (!apart).then(|| IdentitySecret::create(random).to_bytes());
    let mut addresses = vec![PUBLIC.0.parse().unwrap()];
    if apart {
        addresses.push(APART.0.parse().unwrap());
    }
    let project = ProjectRow {
        id: authority.id(),
        name: "acme".parse().unwrap(),
        addresses,
        note_number: 1,
        created: UnixTime(EPOCH),
    };
    let mut store = Box::new(MemoryStore::new());
    store.create_project(&project).unwrap();
    Seat::Server {
        authority: authority.to_bytes(),
        relay,
        project,
        store,
    }
}

/// A node that has a ticket.
pub fn node(random: &mut dyn Random, ticket: Zeroizing<String>, plans: Vec<Plan>) -> Seat {
    Seat::Node {
        identity: IdentitySecret::create(random).to_bytes(),
        membership: None,
        ticket: Some(ticket),
        plans,
    }
}

fn spec(name: &str, attribute: &str, may_serve: &[&str]) -> TicketSpec {
    let mut spec = TicketSpec::member(Some(name.parse().unwrap()));
    let attribute = attribute.parse().unwrap();
    let value = "true".parse().unwrap();
    spec.attributes.insert(attribute, value).unwrap();
    spec.may_serve = may_serve.iter().map(|at| at.parse().unwrap()).collect();
    spec
}

fn ticket(server: &mut Process, now: Instant, spec: TicketSpec) -> Zeroizing<String> {
    match server.call(now, AdminCall::CreateTicket(Box::new(spec))) {
        AdminReply::Ticket(text) => text,
        other => panic!("no ticket: {other:?}"),
    }
}

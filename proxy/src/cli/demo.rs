//! `adit demo`: a whole portal in one process on loopback, with an echo service behind it. It uses
//! the same parts as the real thing: a project, tickets, enrollment, relay, policy on both sides.

use std::net::SocketAddr;
use std::time::Instant;

use crypto::names::{HostPort, Name, RelayAddress};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zeroize::Zeroizing;

use super::args::LogLevel;
use super::scratch::Scratch;
use super::settings::{self, Settings};
use super::{log, output};
use crate::control::admin::wire::{Call, TicketCall};
use crate::control::driver::Stop;
use crate::control::failure::{Exit, Failure, codes};
use crate::control::files::Home;
use crate::control::node::{Node, NodePlan};
use crate::control::portals::{Inlet, Outlet, Portal};
use crate::control::process::Running;
use crate::control::project::Project;
use crate::control::runtime::Runtime;
use crate::control::serve::{self, Roles};
use crate::control::store_place::StorePlace;
use crate::control::ticket_file::TicketSource;
use crate::control::worker_thread::{EngineDecision, Listener};
use crate::limits::{CREDENTIAL_LIFE, DEMO_DEADLINE, KEY_EXCHANGE_EVERY, REVOCATION_MAX_AGE};
use crate::protocol::core::AdminReply;
use crate::protocol::portal_limits::{Limits, PortalLimits};

const PROJECT: &str = "demo";
const ADDRESS: &str = "echo";
const MESSAGE: &[u8] = b"hello through the mountain";

pub(super) fn run(settings: &Settings) -> Result<u8, Failure> {
    let mut quiet = settings.clone();
    if quiet.log_level == LogLevel::Info {
        quiet.log_level = LogLevel::Warn;
    }
    log::start(&quiet);
    let scratch = Scratch::new("demo")?;
    let home = Home::at(scratch.path());
    let began = Instant::now();
    let engine = EngineDecision::make(settings.engine, settings.workers, settings.spin)?;
    let runtime = Runtime::for_control(engine.kind)?;
    let mut story = Story(settings.json.then(Vec::new));
    runtime.block_on(async {
        let told = tell(&home, &engine, runtime.has_ring(), &mut story);
        match tokio::time::timeout(DEMO_DEADLINE, told).await {
            Ok(result) => result,
            Err(_) => {
                let what = "the demo did not finish";
                Err(
                    Failure::new(codes::NOT_READY, Exit::Runtime, what, "it took too long")
                        .fix("adit demo --log-level debug"),
                )
            }
        }
    })?;
    let took = began.elapsed().as_millis();
    if settings.json {
        output::json(&json!({ "demo": "done", "steps": story.0, "took_ms": took }))?;
    } else {
        output::line(&format!("done in {took} ms"))?;
        output::say("next: adit project create NAME --address HOST:PORT");
    }
    Ok(0)
}

/// What has been reached: said line by line to a person, at the end to a program.
struct Story(Option<Vec<String>>);

impl Story {
    fn step(&mut self, text: &str) -> Result<(), Failure> {
        match &mut self.0 {
            Some(steps) => steps.push(text.into()),
            None => output::line(text)?,
        }
        Ok(())
    }
}

async fn tell(
    home: &Home,
    engine: &EngineDecision,
    on_ring: bool,
    story: &mut Story,
) -> Result<(), Failure> {
    let project: Name = settings::parsed(PROJECT)?;
    let local = SocketAddr::from(([127, 0, 0, 1], 0));

    let listener = Listener::bind(None, local)?;
    let public: HostPort = parsed(&listener.address.to_string())?;
    let created = Project::create(home, &project, vec![public], &StorePlace::File)?;
    story.step(&format!("project    {PROJECT} {}", created.id))?;
    let outlet_ticket = ticket(home, &project, "echo-outlet", true)?;
    let inlet_ticket = ticket(home, &project, "echo-inlet", false)?;
    story.step("tickets    one for the outlet (may serve echo), one for the inlet")?;

    let opened = Project::open(home, &project, "demo", &StorePlace::File)?;
    let both = Roles {
        authority: true,
        relay: true,
    };
    let at = listener.address;
    let mut server = serve::start(
        opened,
        both,
        CREDENTIAL_LIFE,
        listener,
        None,
        engine.clone(),
        on_ring,
    )?;
    server.until(|progress| progress.ready).await?;
    story.step(&format!("serve      authority and relay at {at}"))?;

    let echo = TcpListener::bind(local)
        .await
        .map_err(|error| io_failure(&error))?;
    let service = echo.local_addr().map_err(|error| io_failure(&error))?;
    let echo = tokio::task::spawn_local(serve_echo(echo));
    let mut outlet = start(
        plan(
            home,
            &project,
            "echo-outlet",
            outlet_ticket,
            Portal::Outlet(Outlet {
                at: parsed(ADDRESS)?,
                to: vec![parsed(&service.to_string())?],
                proxy_header: false,
                allow: settings::policy(&["echo-inlet=true".into()])?,
                limits: PortalLimits::new(Limits::default()),
            }),
        )?,
        engine,
        on_ring,
    )?;
    outlet.until(|progress| progress.ready).await?;
    story.step(&format!(
        "outlet     serves {ADDRESS} with {service}, allows echo-inlet=true"
    ))?;

    let mut inlet = start(
        plan(
            home,
            &project,
            "echo-inlet",
            inlet_ticket,
            Portal::Inlet(Inlet {
                via: parsed::<RelayAddress>(ADDRESS)?,
                from: local,
                allow: settings::policy(&["echo-outlet=true".into()])?,
                limits: PortalLimits::new(Limits::default()),
                lanes: settings::DEFAULT_LANES,
                dedicated: false,
            }),
        )?,
        engine,
        on_ring,
    )?;
    inlet.until(|progress| progress.ready).await?;
    let door = inlet.listening.first().copied().unwrap_or(local);
    story.step(&format!(
        "inlet      {door} leads to {ADDRESS}, allows echo-outlet=true"
    ))?;

    let sent = Instant::now();
    let answer = exchange(door).await.map_err(|error| io_failure(&error))?;
    let text = String::from_utf8_lossy(&answer);
    story.step(&format!(
        "app        sent and got back {text:?} in {} µs",
        sent.elapsed().as_micros()
    ))?;

    echo.abort();
    for process in [&mut inlet, &mut outlet, &mut server] {
        let _ = process.stopper().send(Stop::Now).await;
        process.ended().await?;
    }
    if answer == MESSAGE {
        Ok(())
    } else {
        let what = "the demo got back other bytes than it sent";
        Err(Failure::new(
            codes::NOT_READY,
            Exit::Runtime,
            what,
            "this is a bug of adit",
        ))
    }
}

fn start(plan: NodePlan, engine: &EngineDecision, on_ring: bool) -> Result<Running, Failure> {
    Node::open(plan)?.start(engine.clone(), on_ring)
}

fn plan(
    home: &Home,
    project: &Name,
    node: &str,
    ticket: TicketSource,
    portal: Portal,
) -> Result<NodePlan, Failure> {
    Ok(NodePlan {
        what: "demo",
        home: home.clone(),
        project: Some(project.clone()),
        node: settings::parsed(node)?,
        ticket: Some(ticket),
        exit_if_not_enrolled: true,
        revocation_max_age: REVOCATION_MAX_AGE,
        metrics: None,
        key_exchange_every: KEY_EXCHANGE_EVERY,
        portals: vec![portal],
    })
}

/// A ticket whose redeemer gets the attribute of its own name.
fn ticket(home: &Home, project: &Name, name: &str, serves: bool) -> Result<TicketSource, Failure> {
    let call = Call::CreateTicket(Box::new(TicketCall {
        name: Some(name.into()),
        attributes: [(name.to_string(), "true".to_string())].into(),
        roles: vec!["member".into()],
        may_serve: if serves {
            vec![ADDRESS.into()]
        } else {
            Vec::new()
        },
        may_connect: None,
        uses: 1,
        life_s: DEMO_DEADLINE.as_secs(),
        bound_to: None,
        replaces: None,
    }));
    let refused = || {
        let what = "the demo's authority made no ticket";
        Failure::new(codes::ADMIN, Exit::Runtime, what, "this is a bug of adit")
    };
    let call = call.checked()?.ok_or_else(refused)?;
    match Project::open(home, project, "demo", &StorePlace::File)?.call(call)? {
        AdminReply::Ticket(text) => Ok(TicketSource::Text(Zeroizing::new(text.to_string()))),
        AdminReply::Refused { code, why } => Err(Failure::new(
            code,
            Exit::Runtime,
            "the demo's authority refused",
            why,
        )),
        AdminReply::Status(_)
        | AdminReply::Tickets(_)
        | AdminReply::Members(_)
        | AdminReply::Member(_)
        | AdminReply::Revoked(_)
        | AdminReply::TicketRevoked { .. }
        | AdminReply::Audit(_)
        | AdminReply::PolicySet(_)
        | AdminReply::Why(_) => Err(refused()),
    }
}

/// Sends what it gets back, until the end.
async fn serve_echo(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::task::spawn_local(async move {
            let (mut read, mut write) = stream.into_split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
}

/// An app: sends, says that this was all, and reads to the end.
async fn exchange(door: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut app = TcpStream::connect(door).await?;
    app.write_all(MESSAGE).await?;
    app.shutdown().await?;
    let mut answer = Vec::new();
    app.take(2 * MESSAGE.len() as u64)
        .read_to_end(&mut answer)
        .await?;
    Ok(answer)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Failure> {
    text.parse()
        .map_err(|error| Failure::usage(format!("can't use {text}"), error))
}

fn io_failure(error: &std::io::Error) -> Failure {
    Failure::new(
        codes::NOT_READY,
        Exit::Runtime,
        "the demo's app failed",
        error,
    )
}

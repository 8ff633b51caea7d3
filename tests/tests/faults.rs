//! A process that is killed, stopped or asked to end takes nothing with it that it need not take,
//! and what comes back finds its way without help.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tests::portal::{Engine, Part, Portal, SHORTLY, START};
use tests::postgres::{Benched, Database, Postgres};
use tests::process::{Held, Process, eventually, long, skipped};
use tests::tcp::{self, Ending, Exchange, Order, PATIENCE, Service};

tests::on_both_engines!(
    pgbench_works_again_after_the_inlet_was_killed,
    pgbench_works_again_after_authority_and_relay_were_killed,
    pgbench_works_again_after_the_outlet_was_killed,
    everything_killed_and_restarted_in_the_wrong_order_works_again,
    a_killed_inlet_is_a_reset_at_both_ends,
    a_killed_relay_is_a_reset_at_both_ends,
    a_killed_outlet_is_a_reset_at_both_ends,
    a_killed_process_never_ends_an_answer_in_good_order,
    a_killed_process_never_ends_a_request_in_good_order,
    streams_go_on_when_a_stopped_inlet_resumes,
    streams_go_on_when_a_stopped_relay_resumes,
    streams_go_on_when_a_stopped_outlet_resumes,
    streams_keep_their_speed_while_every_control_thread_is_held,
    an_inlet_that_is_asked_to_end_lets_its_streams_finish,
    an_outlet_that_is_asked_to_end_lets_its_streams_finish,
    a_relay_that_is_asked_to_end_does_so_with_0,
    an_idle_portal_ends_with_0_when_asked,
);

/// The promise is 2 s; a busy machine in an unoptimized build gets more, and the figure is printed.
const BACK: Duration = Duration::from_secs(10);
const MIB: u64 = 1024 * 1024;

// ---- killed: with a real database and a real load --------------------------------------------

/// A portal to a PostgreSQL server and a database in it that pgbench can use.
struct World {
    portal: Portal,
    database: Database,
    _server: Arc<Postgres>,
}

fn world(engine: Engine, test: &str) -> Option<World> {
    let server = Postgres::shared(test).unwrap()?;
    let database = server.database().unwrap();
    database.direct().pgbench_init().unwrap();
    let portal = Portal::start(engine, server.address()).unwrap();
    Some(World {
        portal,
        database,
        _server: server,
    })
}

impl World {
    /// A load that goes on until its connections break; returns once it runs.
    fn load(&self) -> Process {
        let client = self.database.at(self.portal.entry());
        let endless = [
            "--no-vacuum",
            "-S",
            "-c",
            "4",
            "-j",
            "2",
            "-T",
            "600",
            "-P",
            "1",
        ];
        let load = Process::spawn("pgbench", client.pgbench_command(&endless)).unwrap();
        load.wait_for_line(&["progress:"], PATIENCE).unwrap();
        load
    }

    /// How long until a short pgbench goes through.
    fn works_again(&self) -> Duration {
        let client = self.database.at(self.portal.entry());
        let short = ["--no-vacuum", "-S", "-c", "2", "-t", "10"];
        let (benched, took) = eventually("pgbench works", BACK, || client.pgbench(&short)).unwrap();
        assert_eq!(
            benched,
            Benched {
                processed: 20,
                failed: 0
            }
        );
        took
    }

    fn expect_running(&mut self, parts: &[Part]) {
        for &part in parts {
            assert!(
                self.portal.node(part).process().runs(),
                "{part:?} ended too"
            );
        }
    }
}

fn kill_and_restart(engine: Engine, part: Part, test: &str) {
    let Some(mut world) = world(engine, test) else {
        return;
    };
    let load = world.load();
    world.portal.node(part).kill();
    // The app notices: its connections are reset. It must not hang.
    let ended = load.finish(BACK).unwrap();
    assert!(
        !ended.status.success(),
        "pgbench can't have worked: {ended}"
    );
    let others: Vec<Part> = Part::ALL
        .into_iter()
        .filter(|&other| other != part)
        .collect();
    world.expect_running(&others);

    let began = Instant::now();
    world.portal.node(part).restart().unwrap();
    let took = world.works_again();
    println!(
        "{part:?} on {}: pgbench works {took:?} after the restart",
        engine.name()
    );
    assert!(began.elapsed() < BACK + PATIENCE);
    world.expect_running(&Part::ALL);
}

fn pgbench_works_again_after_the_inlet_was_killed(engine: Engine) {
    kill_and_restart(
        engine,
        Part::Inlet,
        "pgbench_works_again_after_the_inlet_was_killed",
    );
}

fn pgbench_works_again_after_authority_and_relay_were_killed(engine: Engine) {
    let name = "pgbench_works_again_after_authority_and_relay_were_killed";
    kill_and_restart(engine, Part::Serve, name);
}

fn pgbench_works_again_after_the_outlet_was_killed(engine: Engine) {
    kill_and_restart(
        engine,
        Part::Outlet,
        "pgbench_works_again_after_the_outlet_was_killed",
    );
}

fn everything_killed_and_restarted_in_the_wrong_order_works_again(engine: Engine) {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(engine, service.address()).unwrap();
    for part in Part::ALL {
        portal.node(part).kill();
    }
    for part in [Part::Inlet, Part::Outlet, Part::Serve] {
        portal.node(part).restart().unwrap();
    }
    let (_, took) = eventually("an echo", BACK, || {
        tcp::ping(&tcp::connect(portal.entry())?, b"all back")
    })
    .unwrap();
    println!("works {took:?} after the last one was started");
}

// ---- killed: what its streams see -------------------------------------------------------------

/// Kills one process under an idle stream. Both ends of the stream must be reset, those next to the
/// killed process too: the kernel closes a dead process's sockets in good order if nobody told it
/// otherwise before.
fn killed_under_a_stream(engine: Engine, part: Part) {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(engine, service.address()).unwrap();
    let client = tcp::connect(portal.entry()).unwrap();
    tcp::ping(&client, b"before").unwrap();
    portal.node(part).kill();
    assert_eq!(
        tcp::ending(&client, BACK).unwrap().0,
        Ending::Reset,
        "at the client"
    );
    assert_eq!(
        service.report(BACK).unwrap(),
        Ending::Reset,
        "at the target"
    );
}

fn a_killed_inlet_is_a_reset_at_both_ends(engine: Engine) {
    killed_under_a_stream(engine, Part::Inlet);
}

fn a_killed_relay_is_a_reset_at_both_ends(engine: Engine) {
    killed_under_a_stream(engine, Part::Serve);
}

fn a_killed_outlet_is_a_reset_at_both_ends(engine: Engine) {
    killed_under_a_stream(engine, Part::Outlet);
}

/// A process dies in the middle of an answer: the app must not take what came for all of it.
fn a_killed_process_never_ends_an_answer_in_good_order(engine: Engine) {
    for part in Part::ALL {
        let service = Service::exchanges().unwrap();
        let mut portal = Portal::start(engine, service.address()).unwrap();
        let mut client = tcp::connect(portal.entry()).unwrap();
        let endless = Exchange {
            up: 0,
            down: 4096 * MIB,
            seed: 1,
            order: Order::AtOnce,
        };
        endless.begin(&client).unwrap();
        client.read_exact(&mut vec![0; 1024 * 1024]).unwrap();
        portal.node(part).kill();
        assert_eq!(
            tcp::ending(&client, BACK).unwrap().0,
            Ending::Reset,
            "{part:?} was killed"
        );
    }
}

/// The same for a request: the service must not take what came for all of it.
fn a_killed_process_never_ends_a_request_in_good_order(engine: Engine) {
    for part in Part::ALL {
        let service = Service::greeting(b"go on").unwrap();
        let mut portal = Portal::start(engine, service.address()).unwrap();
        let mut client = tcp::connect(portal.entry()).unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        client.write_all(&vec![7; 1024 * 1024]).unwrap();
        portal.node(part).kill();
        assert_eq!(
            service.report(BACK).unwrap(),
            Ending::Reset,
            "{part:?} was killed"
        );
    }
}

// ---- stopped ----------------------------------------------------------------------------------

fn stop_and_resume(engine: Engine, part: Part) {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(engine, service.address()).unwrap();
    let mut client = tcp::connect(portal.entry()).unwrap();
    tcp::ping(&client, b"before").unwrap();

    portal.node(part).process().stop().unwrap();
    client.write_all(b"meanwhile").unwrap();
    // Long enough for every session's ping to be missed, in the long form.
    let silence = Duration::from_secs(if long() { 10 } else { 2 });
    client.set_read_timeout(Some(silence)).unwrap();
    let mut back = [0; 9];
    let nothing = tcp::again(|| client.read(&mut back)).map_err(|error| error.kind());
    assert_eq!(
        nothing,
        Err(ErrorKind::WouldBlock),
        "{part:?} is stopped, and yet it answers"
    );

    portal.node(part).process().resume();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"meanwhile");
    tcp::ping(&client, b"after").unwrap();
    tcp::ping(&tcp::connect(portal.entry()).unwrap(), b"a new one").unwrap();
}

fn streams_go_on_when_a_stopped_inlet_resumes(engine: Engine) {
    stop_and_resume(engine, Part::Inlet);
}

fn streams_go_on_when_a_stopped_relay_resumes(engine: Engine) {
    stop_and_resume(engine, Part::Serve);
}

fn streams_go_on_when_a_stopped_outlet_resumes(engine: Engine) {
    stop_and_resume(engine, Part::Outlet);
}

/// Neither a byte of an open stream nor the liveness of lanes and legs depends on control.
fn streams_keep_their_speed_while_every_control_thread_is_held(engine: Engine) {
    const HELD: Duration = Duration::from_secs(10);
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(engine, service.address()).unwrap();
    let streams: Vec<_> = (0..8)
        .map(|_| tcp::connect(portal.entry()).unwrap())
        .collect();
    let rounds = |at_least: Duration| {
        let began = Instant::now();
        let mut rounds = 0_u32;
        while began.elapsed() < at_least {
            for stream in &streams {
                tcp::ping(stream, &[7; 1000]).unwrap();
            }
            rounds += 1;
        }
        f64::from(rounds) / began.elapsed().as_secs_f64()
    };
    let before = rounds(Duration::from_secs(1));
    let mut held = Vec::new();
    for part in Part::ALL {
        let Some(one) = Held::main_thread(portal.node(part).process()).unwrap() else {
            return skipped("holding a thread", "this user may not use ptrace(2)");
        };
        held.push(one);
    }
    let during = rounds(HELD);
    drop(held);
    println!("{before:.0} rounds of 8 round trips a second before, {during:.0} with control held");
    rounds(Duration::ZERO);
    for stream in &streams {
        tcp::ping(stream, b"still the same stream").unwrap();
    }
    eventually("a new stream works", BACK, || {
        tcp::ping(&tcp::connect(portal.entry())?, b"new")
    })
    .unwrap();
}

// ---- asked to end -----------------------------------------------------------------------------

/// SIGTERM in the middle of a stream: it stays whole, and the process ends with 0 once it is over.
fn drain(engine: Engine, part: Part) {
    let service = Service::exchanges().unwrap();
    let mut portal = Portal::start(engine, service.address()).unwrap();
    let running = tcp::connect(portal.entry()).unwrap();
    let exchange = Exchange {
        up: 32 * MIB,
        down: 32 * MIB,
        seed: 1,
        order: Order::AtOnce,
    };
    exchange.begin(&running).unwrap();
    eventually("the stream is open", PATIENCE, || {
        match service.accepted() {
            1 => Ok(()),
            accepted => Err(format!("{accepted} connections").into()),
        }
    })
    .unwrap();
    portal.node(part).terminate();
    // Not ready at once, so that nobody sends new work here.
    let (_, took) = eventually("it says that it is not ready", SHORTLY, || {
        portal.node(part).health()?.failure(5, "stopping")
    })
    .unwrap();
    println!("{part:?} says so after {took:?}");
    assert!(
        portal.node(part).process().runs(),
        "{part:?} ended under a live stream"
    );
    exchange.rest(&running).unwrap();
    assert_eq!(service.report(PATIENCE).unwrap(), Ending::Fin);
    drop(running);
    assert_eq!(
        portal.node(part).process().wait(START).unwrap().code(),
        Some(0)
    );
}

fn an_inlet_that_is_asked_to_end_lets_its_streams_finish(engine: Engine) {
    drain(engine, Part::Inlet);
}

fn an_outlet_that_is_asked_to_end_lets_its_streams_finish(engine: Engine) {
    drain(engine, Part::Outlet);
}

/// A relay can't tell a lane's streams; it may wait for its circuits up to its deadline, and ends.
fn a_relay_that_is_asked_to_end_does_so_with_0(engine: Engine) {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(engine, service.address()).unwrap();
    let client = tcp::connect(portal.entry()).unwrap();
    tcp::ping(&client, b"before").unwrap();
    portal.project.serve.terminate();
    tcp::ping(&client, b"while it drains").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(tcp::ending(&client, PATIENCE).unwrap().0, Ending::Fin);
    assert_eq!(
        portal
            .project
            .serve
            .process()
            .wait(2 * START)
            .unwrap()
            .code(),
        Some(0)
    );
    for part in [Part::Inlet, Part::Outlet] {
        assert!(portal.node(part).process().runs(), "{part:?} ended too");
    }
}

fn an_idle_portal_ends_with_0_when_asked(engine: Engine) {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(engine, service.address()).unwrap();
    // A relay ends once its pairs have, so the companies' nodes go first.
    for part in Part::ALL.into_iter().rev() {
        portal.node(part).terminate();
        let status = portal.node(part).process().wait(2 * START).unwrap();
        assert_eq!(status.code(), Some(0), "{part:?}");
    }
}

// ---- a command behind the inlet: no bytes of apps move, so one engine is enough ---------------

/// Starts `adit inlet … -- COMMAND` in the place of a portal's inlet.
fn inlet_with(portal: &Portal, command: &[&str]) -> tests::portal::Node {
    let ticket = portal.project.inlet_ticket("with-a-command").unwrap();
    let from = tcp::own_address().unwrap().to_string();
    let rule = tests::portal::OUTLET_RULE;
    let via = [
        "--via",
        tests::portal::ADDRESS,
        "--from",
        &from,
        "--allow",
        rule,
        "--",
    ];
    let more = [&via, command].concat();
    portal
        .project
        .node("with-a-command", "inlet", &ticket, &more)
        .unwrap()
}

#[test]
fn an_inlet_ends_with_the_exit_code_of_its_command() {
    let service = Service::echo().unwrap();
    let portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    let mut inlet = inlet_with(&portal, &["sh", "-c", "exit 42"]);
    assert_eq!(inlet.process().wait(START).unwrap().code(), Some(42));
}

#[test]
fn a_command_of_the_inlet_sees_nothing_of_adits_environment() {
    let service = Service::echo().unwrap();
    let portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    // ADIT_HOME at least was set for the inlet.
    let script = "echo \"variables: $(env | grep -c ^ADIT_)\" >&2";
    let mut inlet = inlet_with(&portal, &["sh", "-c", script]);
    let said = inlet
        .process()
        .wait_for_line(&["variables:"], START)
        .unwrap();
    assert_eq!(said, "variables: 0");
    assert_eq!(inlet.process().wait(START).unwrap().code(), Some(0));
}

#[test]
fn a_command_of_the_inlet_is_asked_to_end_with_it() {
    let service = Service::echo().unwrap();
    let portal = Portal::start(Engine::Epoll, service.address()).unwrap();
    // The shell waits for a tail that ends by itself when the inlet does.
    let script = "trap 'echo asked >&2; kill $!; exit 7' TERM; \
                  tail -f --pid=$PPID /dev/null & echo started >&2; wait";
    let mut inlet = inlet_with(&portal, &["sh", "-c", script]);
    inlet.process().wait_for_line(&["started"], START).unwrap();
    inlet.terminate();
    inlet.process().wait_for_line(&["asked"], SHORTLY).unwrap();
    assert_eq!(inlet.process().wait(START).unwrap().code(), Some(7));
}

// ---- many at once -----------------------------------------------------------------------------

/// 100 nodes with one ticket: the authority lets exactly one in.
#[test]
fn of_many_nodes_that_race_one_ticket_one_becomes_a_member() {
    let project = tests::portal::Project::start(Engine::Epoll).unwrap();
    let ticket = project.inlet_ticket("racer").unwrap();
    let racers: u32 = if long() { 100 } else { 8 };
    let codes: Vec<Option<i32>> = thread::scope(|scope| {
        let running: Vec<_> = (0..racers)
            .map(|number| {
                let (project, ticket) = (&project, &ticket);
                scope.spawn(move || {
                    let home = project.home(&format!("racer{number}")).unwrap();
                    let ticket = ticket.to_str().unwrap();
                    let args = ["enroll", "--ticket", ticket, "--exit-if-not-enrolled"];
                    let command = tests::portal::command(&home, &args).unwrap();
                    Process::run("enroll", command, PATIENCE).unwrap().code()
                })
            })
            .collect();
        running
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    });
    assert_eq!(
        codes.iter().filter(|&&code| code == Some(0)).count(),
        1,
        "{codes:?}"
    );
    assert_eq!(
        codes.iter().filter(|&&code| code == Some(3)).count() as u32,
        racers - 1,
        "{codes:?}"
    );
}

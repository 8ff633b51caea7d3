//! Stock PostgreSQL clients work through a portal with nothing changed but host and port.
//!
//! Each test runs directly too, which tests the test. Where PostgreSQL or Node.js is not installed
//! a test says so and ends; `tests/run.sh` installs them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tests::portal::{Route, Way};
use tests::postgres::{Benched, Client, Database, Postgres, node_app};
use tests::process::{Process, eventually, long};

tests::on_every_way!(
    psql_reads_what_it_wrote,
    pgbench_selects_over_eight_connections,
    pgbench_with_a_connection_for_each_transaction_works,
    pgbench_updates_as_tpc_b_does,
    pgbench_fills_its_tables,
    a_cancel_reaches_the_server_that_runs_the_query,
    copy_carries_32_mib_each_way,
    an_error_of_the_server_is_the_servers_own,
    a_node_app_with_pg_reads_what_it_wrote,
);

/// Statements and short benchmarks end long before.
const PATIENCE: Duration = Duration::from_secs(60);

/// A fresh database and clients that reach it by one way. The route comes first: it is closed
/// before the server is.
struct World {
    _route: Route,
    client: Client,
    database: Database,
}

fn world(way: Way, test: &str) -> Option<World> {
    let server = Postgres::shared(test).unwrap()?;
    let route = way.open(server.address()).unwrap()?;
    let database = server.database().unwrap();
    let client = database.at(route.entry);
    Some(World {
        _route: route,
        client,
        database,
    })
}

/// How many transactions each client of a benchmark makes.
fn transactions(quick: u64) -> u64 {
    if long() { quick * 20 } else { quick }
}

/// Runs pgbench with so many clients; every transaction must go through.
fn pgbench(world: &World, kind: &[&str], clients: u64, each: u64) {
    let (c, t) = (clients.to_string(), each.to_string());
    let args = [&["--no-vacuum", "-c", &c, "-j", "2", "-t", &t], kind].concat();
    let benched = world.client.pgbench(&args).unwrap();
    assert_eq!(
        benched,
        Benched {
            processed: clients * each,
            failed: 0
        }
    );
}

fn psql_reads_what_it_wrote(way: Way) {
    let Some(world) = world(way, "psql_reads_what_it_wrote") else {
        return;
    };
    world
        .client
        .psql("create table note (id int, text text)")
        .unwrap();
    world
        .client
        .psql("insert into note values (1, 'through the portal')")
        .unwrap();
    assert_eq!(
        world.client.psql("select text from note").unwrap(),
        "through the portal"
    );
    assert_eq!(
        world
            .database
            .direct()
            .psql("select count(*) from note")
            .unwrap(),
        "1"
    );
}

fn pgbench_selects_over_eight_connections(way: Way) {
    let Some(world) = world(way, "pgbench_selects_over_eight_connections") else {
        return;
    };
    world.database.direct().pgbench_init().unwrap();
    pgbench(&world, &["-S"], 8, transactions(250));
}

fn pgbench_with_a_connection_for_each_transaction_works(way: Way) {
    let name = "pgbench_with_a_connection_for_each_transaction_works";
    let Some(world) = world(way, name) else {
        return;
    };
    world.database.direct().pgbench_init().unwrap();
    pgbench(&world, &["-S", "-C"], 4, transactions(25));
}

fn pgbench_updates_as_tpc_b_does(way: Way) {
    let Some(world) = world(way, "pgbench_updates_as_tpc_b_does") else {
        return;
    };
    let direct = world.database.direct();
    direct.pgbench_init().unwrap();
    let (clients, each) = (4, transactions(50));
    pgbench(&world, &[], clients, each);
    // Each transaction leaves a row, and the three sums must agree.
    let rows = direct.psql("select count(*) from pgbench_history").unwrap();
    assert_eq!(rows, (clients * each).to_string());
    let sums = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from \
                pgbench_history) and (select sum(bbalance) from pgbench_branches) = \
                (select sum(tbalance) from pgbench_tellers)";
    assert_eq!(direct.psql(sums).unwrap(), "t");
}

fn pgbench_fills_its_tables(way: Way) {
    let Some(world) = world(way, "pgbench_fills_its_tables") else {
        return;
    };
    world.client.pgbench_init().unwrap();
    let rows = world
        .database
        .direct()
        .psql("select count(*) from pgbench_accounts")
        .unwrap();
    assert_eq!(rows, "100000");
}

/// A cancel comes over a connection of its own and has to find the same server.
fn a_cancel_reaches_the_server_that_runs_the_query(way: Way) {
    let Some(world) = world(way, "a_cancel_reaches_the_server_that_runs_the_query") else {
        return;
    };
    let mut psql =
        Process::spawn("psql", world.client.psql_command("select pg_sleep(600)")).unwrap();
    let direct = world.database.direct();
    let running = "select count(*) from pg_stat_activity where datname = current_database() \
                   and state = 'active' and query = 'select pg_sleep(600)'";
    eventually("the query runs", PATIENCE, || {
        match direct.psql(running)?.as_str() {
            "1" => Ok(()),
            other => Err(format!("{other} such queries").into()),
        }
    })
    .unwrap();
    psql.signal(Signal::INT);
    let ended = psql.finish(Duration::from_secs(10)).unwrap();
    assert!(
        ended
            .stderr
            .contains("canceling statement due to user request"),
        "{ended}"
    );
    assert_eq!(direct.psql(running).unwrap(), "0");
}

fn copy_carries_32_mib_each_way(way: Way) {
    let Some(world) = world(way, "copy_carries_32_mib_each_way") else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let (sent, got) = (folder.path().join("sent"), folder.path().join("got"));
    let mut rows = String::new();
    let mut number = 0u64;
    while rows.len() < 32 * 1024 * 1024 {
        // Lines of many lengths, none like another.
        let width = usize::try_from(number % 1000).unwrap();
        writeln!(
            rows,
            "{number}\t{:0width$x}",
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        )
        .unwrap();
        number += 1;
    }
    fs::write(&sent, &rows).unwrap();
    let client = &world.client;
    client
        .psql("create unlogged table bulk (id bigint, text text)")
        .unwrap();
    client
        .psql(&format!("\\copy bulk from '{}'", sent.display()))
        .unwrap();
    client
        .psql(&format!(
            "\\copy (select * from bulk order by id) to '{}'",
            got.display()
        ))
        .unwrap();
    assert!(
        fs::read(&got).unwrap() == rows.as_bytes(),
        "what came back is not what was sent"
    );
}

fn an_error_of_the_server_is_the_servers_own(way: Way) {
    let Some(world) = world(way, "an_error_of_the_server_is_the_servers_own") else {
        return;
    };
    let command = world.client.psql_command("select no_such_column");
    let ended = Process::run("psql", command, PATIENCE).unwrap();
    assert_eq!(ended.code(), Some(1), "{ended}");
    assert!(
        ended
            .stderr
            .contains("column \"no_such_column\" does not exist"),
        "{ended}"
    );
}

fn a_node_app_with_pg_reads_what_it_wrote(way: Way) {
    let name = "a_node_app_with_pg_reads_what_it_wrote";
    let Some(folder) = node_app(name) else { return };
    let Some(world) = world(way, name) else {
        return;
    };
    let mut app = Command::new("node");
    app.arg("app.js")
        .current_dir(folder)
        .env("MARKER", "a marker of this test");
    world.client.environment(&mut app);
    let ended = Process::run("app.js", app, PATIENCE)
        .unwrap()
        .success()
        .unwrap();
    assert!(ended.text().contains("a marker of this test"), "{ended}");
    let tables = world
        .database
        .direct()
        .psql("select count(*) from pg_tables where schemaname = 'public'")
        .unwrap();
    assert_eq!(
        tables, "1",
        "the app's table is in the database behind the portal"
    );
}

//! The authority's stores, on real databases: one suite for both, two processes' connections at once, and
//! a process that is killed at every step.
//!
//! Where PostgreSQL is not installed, its tests say so and end; `tests/run.sh` installs it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "store/common.rs"]
mod common;
#[path = "store/killed.rs"]
mod killed;
#[path = "store/race.rs"]
mod race;

use common::{Place, T0, admit, id, project, verified};
use std::net::TcpListener;
use std::time::Instant;

use proxy::control::failure::codes;
use proxy::control::postgres::PostgresStore;
use proxy::limits::STORE_ANSWER_WAIT;
use proxy::protocol::audit::AuditAction;
use proxy::protocol::store::StoreError;
use proxy::protocol::store::conformance::conformance;
use rustix::process::{Pid, Signal, kill_process};
use tests::postgres::Postgres;
use tests::process::eventually;
use tests::tcp::PATIENCE;

#[test]
fn a_postgres_store_conforms() {
    let Some(server) = Postgres::shared("a_postgres_store_conforms").unwrap() else {
        return;
    };
    conformance(&mut || {
        let database = server.database().unwrap();
        Place::Postgres(database.url()).open()
    });
}

#[test]
fn what_was_written_to_postgres_is_there_for_the_next_process() {
    let name = "what_was_written_to_postgres_is_there_for_the_next_process";
    let Some(server) = Postgres::shared(name).unwrap() else {
        return;
    };
    let place = Place::Postgres(server.database().unwrap().url());
    place.open().create_project(&project()).unwrap();
    let mut again = place.open();
    assert_eq!(again.project(), Ok(Some(project())));
    let refused = again.create_project(&project());
    assert!(matches!(refused, Err(StoreError::Refused(_))));
    assert_eq!(verified(again.as_mut()).len(), 1);
}

#[test]
fn a_newer_schema_of_postgres_is_refused_untouched() {
    let name = "a_newer_schema_of_postgres_is_refused_untouched";
    let Some(server) = Postgres::shared(name).unwrap() else {
        return;
    };
    let database = server.database().unwrap();
    let place = Place::Postgres(database.url());
    drop(place.open());
    let psql = |sql: &str| database.direct().psql(sql).unwrap();
    psql("update adit.version set number = number + 1");
    let before = psql("select schema_name from information_schema.schemata order by 1");
    let failure = PostgresStore::open(&place.url()).unwrap_err();
    assert_eq!(failure.code, codes::STORE_NEWER);
    assert_eq!(
        failure.why,
        "its schema is version 4, and this adit knows 3"
    );
    assert_eq!(psql("select number from adit.version"), "4");
    assert_eq!(
        psql("select schema_name from information_schema.schemata order by 1"),
        before
    );
}

#[test]
fn two_processes_that_start_at_once_make_the_schema_once() {
    let name = "two_processes_that_start_at_once_make_the_schema_once";
    let Some(server) = Postgres::shared(name).unwrap() else {
        return;
    };
    let database = server.database().unwrap();
    let place = Place::Postgres(database.url());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| drop(place.open()));
        }
    });
    let versions = "select count(*) from adit.version";
    assert_eq!(database.direct().psql(versions).unwrap(), "1");
}

#[test]
fn a_lost_connection_is_made_again() {
    let Some(server) = Postgres::shared("a_lost_connection_is_made_again").unwrap() else {
        return;
    };
    let database = server.database().unwrap();
    let mut store = Place::Postgres(database.url()).open();
    store.create_project(&project()).unwrap();
    let end_all = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                   where datname = current_database() and pid <> pg_backend_pid()";
    assert_eq!(database.direct().psql(end_all).unwrap(), "1");
    // It has been asked to, and ends a moment later.
    eventually("it has ended", PATIENCE, || {
        let left = database.direct().psql(
            "select count(pid) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()",
        )?;
        if left == "0" {
            Ok(())
        } else {
            Err(format!("{left} are left").into())
        }
    })
    .unwrap();
    let issue = store.admit(&admit(1, T0)).unwrap();
    assert_eq!(issue.member.id, id(1));
    assert_eq!(verified(store.as_mut()).len(), 3);
}

/// A process that is stopped, and goes on at the end.
struct Frozen(Pid);

impl Frozen {
    fn freeze(pid: Pid) -> Frozen {
        kill_process(pid, Signal::STOP).unwrap();
        Frozen(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

#[test]
fn a_server_that_stops_answering_is_given_up_and_asked_on_another_connection() {
    let name = "a_server_that_stops_answering_is_given_up_and_asked_on_another_connection";
    let Some(server) = Postgres::shared(name).unwrap() else {
        return;
    };
    let database = server.database().unwrap();
    let mut store = Place::Postgres(database.url()).open();
    store.create_project(&project()).unwrap();
    let ours = "select pid from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid()";
    let pid = database.direct().psql(ours).unwrap().parse().unwrap();
    let frozen = Frozen::freeze(Pid::from_raw(pid).unwrap());
    let began = Instant::now();
    let refused = store.admit(&admit(1, T0)).unwrap_err();
    assert!(
        matches!(&refused, StoreError::Unavailable(why) if why.contains("has not answered for 15 s")),
        "{refused}"
    );
    assert!(began.elapsed() < STORE_ANSWER_WAIT * 2);
    let issue = store.admit(&admit(1, T0)).unwrap();
    assert_eq!(issue.member.id, id(1));
    drop(frozen);
    assert_eq!(verified(store.as_mut()).len(), 3);
}

#[test]
fn a_listener_that_never_speaks_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let place = Place::Postgres(format!("postgres://adit@{address}/adit"));
    let failure = PostgresStore::open(&place.url()).unwrap_err();
    assert_eq!(failure.code, codes::STORE);
    assert!(
        failure.why.contains("has not answered for 5 s"),
        "{failure}"
    );
}

#[test]
fn a_failure_to_connect_says_why() {
    let unused = tests::tcp::own_address().unwrap();
    let place = Place::Postgres(format!("postgres://adit@{unused}/adit"));
    let failure = PostgresStore::open(&place.url()).unwrap_err();
    assert!(failure.why.contains("onnection refused"), "{failure}");
}

#[test]
fn no_piece_of_a_password_with_an_at_sign_is_shown() {
    let url = "postgres://adit:zebra@crossing@localhost/adit".to_owned();
    let failure = PostgresStore::open(&Place::Postgres(url).url()).unwrap_err();
    assert_eq!(failure.code, codes::USAGE);
    let shown = failure.to_string();
    assert!(
        !shown.contains("zebra") && !shown.contains("crossing"),
        "{shown}"
    );
    let fix = failure.fix.unwrap();
    assert!(fix.contains("%40"), "{fix}");
}

#[test]
fn the_owner_of_the_schema_needs_no_right_to_create_one() {
    let name = "the_owner_of_the_schema_needs_no_right_to_create_one";
    let Some(server) = Postgres::shared(name).unwrap() else {
        return;
    };
    let database = server.database().unwrap();
    let psql = |sql: &str| database.direct().psql(sql).unwrap();
    psql("create role owner_of_schema login");
    psql("create schema adit authorization owner_of_schema");
    let may = "select has_database_privilege('owner_of_schema', current_database(), 'create')";
    assert_eq!(psql(may), "f");
    let url = database.url().replacen("//adit@", "//owner_of_schema@", 1);
    let mut store = Place::Postgres(url).open();
    store.create_project(&project()).unwrap();
}

#[test]
fn rows_of_the_audit_in_postgres_are_only_added() {
    let name = "rows_of_the_audit_in_postgres_are_only_added";
    let Some(server) = Postgres::shared(name).unwrap() else {
        return;
    };
    let database = server.database().unwrap();
    let mut store = Place::Postgres(database.url()).open();
    store.create_project(&project()).unwrap();
    for change in [
        "delete from adit.audit",
        "update adit.audit set subject = 'x'",
        "truncate adit.audit",
    ] {
        let refused = database.direct().psql(change).unwrap_err();
        assert!(refused.0.contains("only added"), "{refused}");
    }
    // Who owns the tables can take that away, and is found out.
    let forge = "alter table adit.audit disable trigger all;
                 update adit.audit set action = 'member.admitted' where number = 1";
    database.direct().psql(forge).unwrap();
    let page = store.audit(proxy::protocol::audit::AuditQuery::Behind(0));
    let row = page.unwrap().rows.remove(0);
    assert_eq!(row.event.action, AuditAction::MemberAdmitted);
    let misfit = common::first_misfit(store.as_mut());
    assert!(
        misfit
            .unwrap()
            .to_string()
            .starts_with("row 1 does not fit")
    );
}

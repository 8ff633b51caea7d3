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
use proxy::control::failure::codes;
use proxy::control::postgres::PostgresStore;
use proxy::protocol::audit::AuditAction;
use proxy::protocol::store::StoreError;
use proxy::protocol::store::conformance::conformance;
use tests::postgres::Postgres;

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
    let issue = store.admit(&admit(1, T0)).unwrap();
    assert_eq!(issue.member.id, id(1));
    assert_eq!(verified(store.as_mut()).len(), 3);
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

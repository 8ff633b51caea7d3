//! A process that is killed (SIGKILL) before any statement of a change, before its commit, and between its
//! commit and its report: what it reported is there, and of what it did not report all or nothing.
//!
//! The process is this test binary, started for one test that does the change with a database that kills
//! the process at the step it is told.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use proxy::control::sql::{Database, Purpose, Row, SqlStore, Value};
use proxy::control::sqlite::SqliteFile;
use proxy::protocol::audit::AuditAction;
use proxy::protocol::store::{
    MemberKey, RedeemAnswer, RenewAnswer, Revoke, RevokeAnswer, Stamp, Store, StoreError,
};
use rustix::process::{Signal, getpid, kill_process};
use tempfile::TempDir;
use tests::postgres::Postgres;
use tests::process::Process;
use tests::tcp::PATIENCE;

use super::common::{Place, T0, id, project, redeem, renew, ticket, verified};

/// What the killed process was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Redeem,
    Renew,
    Revoke,
}

impl Change {
    const ALL: [Change; 3] = [Change::Redeem, Change::Renew, Change::Revoke];

    fn name(self) -> String {
        format!("{self:?}")
    }
}

/// A database that is the last thing its process sees of the world.
struct Killing<D> {
    database: D,
    /// Steps that are left.
    left: u32,
}

impl<D> Killing<D> {
    fn step(&mut self) {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => {
                kill_process(getpid(), Signal::KILL).unwrap();
                unreachable!("a process survived SIGKILL");
            }
        }
    }
}

impl<D: Database> Database for Killing<D> {
    fn begin(&mut self, purpose: Purpose) -> Result<(), StoreError> {
        self.step();
        self.database.begin(purpose)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.step();
        self.database.commit()?;
        self.step();
        Ok(())
    }

    fn rollback(&mut self) {
        self.database.rollback();
    }

    fn execute(&mut self, query: &str, values: &[Value]) -> Result<u64, StoreError> {
        self.step();
        self.database.execute(query, values)
    }

    fn query(&mut self, query: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        self.step();
        self.database.query(query, values)
    }

    fn is_shared(&self) -> bool {
        self.database.is_shared()
    }
}

/// The change about node `n`. For what was there before it see [`prepare`].
fn carry_out(store: &mut dyn Store, change: Change, n: u8) {
    let now = T0.plus(100);
    match change {
        Change::Redeem => {
            let answer = store.redeem(&redeem(n, n, now)).unwrap();
            assert!(matches!(answer, RedeemAnswer::Enrolled(_)), "{answer:?}");
        }
        Change::Renew => {
            let answer = store.renew(&renew(n, now)).unwrap();
            assert!(matches!(answer, RenewAnswer::Renewed(_)), "{answer:?}");
        }
        Change::Revoke => {
            let revoke = Revoke {
                member: MemberKey::Id(id(n)),
                actor: id(0xaa),
                reason: "killed".into(),
                now,
            };
            let answer = store.revoke(&revoke).unwrap();
            let is_out = matches!(
                answer,
                RevokeAnswer::Revoked { .. } | RevokeAnswer::Already(_)
            );
            assert!(is_out, "{answer:?}");
        }
    }
}

/// Node `n` has a ticket; it is a member with one credential unless it is about to redeem that.
fn prepare(store: &mut dyn Store, change: Change, n: u8) {
    store.create_ticket(&ticket(n, 1)).unwrap();
    if change != Change::Redeem {
        store.redeem(&redeem(n, n, T0)).unwrap();
    }
}

/// Whether the change about node `n` was carried out: all that tells of it says the same.
fn is_done(store: &mut dyn Store, change: Change, n: u8) -> bool {
    let rows = verified(store);
    let told = |action: AuditAction, of: &dyn Fn(&str) -> bool| {
        let by = |row: &&proxy::protocol::audit::AuditRow| {
            let event = &row.event;
            event.action == action && (event.actor == id(n) || of(&event.subject))
        };
        rows.iter().filter(by).count()
    };
    let nobody = |_: &str| false;
    let member = store.member(&MemberKey::Id(id(n))).unwrap();
    let issued = store.issued(0).unwrap();
    let issued = issued.iter().filter(|row| row.member == id(n)).count();
    let credentials = told(AuditAction::CredentialIssued, &nobody);
    let told_once = |count: usize| match count {
        0 => false,
        1 => true,
        more => unreachable!("{more} rows about one change"),
    };
    let said: Vec<bool> = match change {
        Change::Redeem => {
            let tickets = store.tickets(None).unwrap();
            let row = tickets.iter().find(|row| row.ticket.id.0 == [n; 16]);
            vec![
                member.is_some(),
                told_once(row.unwrap().redemptions.len()),
                told_once(issued),
                told_once(credentials),
                told_once(told(AuditAction::TicketRedeemed, &nobody)),
            ]
        }
        Change::Renew => vec![
            member.unwrap().issued == T0.plus(100),
            told_once(issued - 1),
            told_once(credentials - 1),
        ],
        Change::Revoke => {
            let stamp = Stamp {
                have: None,
                now: T0.plus(100),
            };
            let list = store.stamp(&stamp).unwrap().entries.unwrap();
            let named = list.iter().filter(|entry| entry.member == id(n)).count();
            let subject = id(n).to_string();
            vec![
                member.unwrap().revoked.is_some(),
                told_once(named),
                told_once(told(AuditAction::MemberRevoked, &|of| of == subject)),
            ]
        }
    };
    assert!(
        said.iter().all(|it| *it == said[0]),
        "{change:?} {n}: {said:?}"
    );
    said[0]
}

/// The variables that tell [`a_process_that_is_killed`] what to do.
const PLACE: &str = "STORE_TEST_PLACE";
const CHANGE: &str = "STORE_TEST_CHANGE";
const STEPS: &str = "STORE_TEST_STEPS";
const NODE: &str = "STORE_TEST_NODE";

/// Not a test: the process that the tests below start and that ends in the middle of a change.
#[test]
#[ignore = "started by the tests that need it"]
fn a_process_that_is_killed() {
    let Ok(place) = std::env::var(PLACE) else {
        return;
    };
    let number = |name| std::env::var(name).unwrap().parse::<u32>().unwrap();
    let change = std::env::var(CHANGE).unwrap();
    let change = Change::ALL.into_iter().find(|it| it.name() == change);
    let (left, node) = (number(STEPS), u8::try_from(number(NODE)).unwrap());
    if place.starts_with("postgres:") {
        let database = Place::Postgres(place).database();
        let mut store = SqlStore::new(Killing { database, left });
        carry_out(&mut store, change.unwrap(), node);
    } else {
        let database = SqliteFile::open(&PathBuf::from(place)).unwrap();
        let mut store = SqlStore::new(Killing { database, left });
        carry_out(&mut store, change.unwrap(), node);
    }
}

/// Kills a process at each step of the change, until one survives it.
fn killed_at_every_step(place: &Place, change: Change) {
    place.open().create_project(&project()).unwrap();
    let (mut before, mut after) = (0, 0);
    for n in 1..=100 {
        let mut store = place.open();
        prepare(store.as_mut(), change, n);
        drop(store);
        let mut process = Command::new(std::env::current_exe().unwrap());
        let of_test = ["--exact", "killed::a_process_that_is_killed", "--ignored"];
        let shown = match place {
            Place::Sqlite(path) => path.to_str().unwrap(),
            Place::Postgres(url) => url,
        };
        process
            .args(of_test)
            .env(PLACE, shown)
            .env(CHANGE, change.name())
            .env(STEPS, (n - 1).to_string())
            .env(NODE, n.to_string());
        let ended = Process::run("a process that is killed", process, PATIENCE).unwrap();
        let reported = ended.status.success();
        let killed = ended.status.signal() == Some(Signal::KILL.as_raw());
        assert!(reported || killed, "{ended}");
        // The next process.
        let mut store = place.open();
        let done = is_done(store.as_mut(), change, n);
        assert!(done || !reported, "{change:?}: reported, and lost");
        // Who asks again gets it done, once.
        carry_out(store.as_mut(), change, n);
        assert!(is_done(store.as_mut(), change, n));
        if reported {
            println!("{change:?}: {before} steps before it is done, {after} behind");
            assert!(before > 5 && after > 0, "it was killed at every step");
            return;
        }
        before += u32::from(!done);
        after += u32::from(done);
    }
    unreachable!("no process survives {change:?}");
}

#[test]
fn on_sqlite_a_killed_change_is_all_or_nothing() {
    let folder = TempDir::new().unwrap();
    for change in Change::ALL {
        let place = Place::Sqlite(folder.path().join(change.name()));
        killed_at_every_step(&place, change);
    }
}

#[test]
fn on_postgres_a_killed_change_is_all_or_nothing() {
    let name = "on_postgres_a_killed_change_is_all_or_nothing";
    let Some(server) = Postgres::shared(name).unwrap() else {
        return;
    };
    for change in Change::ALL {
        let place = Place::Postgres(server.database().unwrap().url());
        killed_at_every_step(&place, change);
    }
}

//! Stores on real databases, and what the tests of them put in.

use std::path::PathBuf;

use crypto::credential::{Connect, Roles};
use crypto::names::Attributes;
use crypto::ticket::TicketId;
use crypto::{Id, UnixTime};
use proxy::control::postgres::PostgresDatabase;
use proxy::control::sql::SqlStore;
use proxy::control::sqlite::SqliteFile;
use proxy::control::store_place::PostgresUrl;
use proxy::protocol::audit::{AuditHead, AuditQuery, AuditRow, Misfit};
use proxy::protocol::store::{Admit, Grants, NewTicket, ProjectRow, Redeem, Renew, Store};
use proxy::time::Duration;
use zeroize::Zeroizing;

pub const T0: UnixTime = UnixTime(1_800_000_000);
/// Of credentials: short, so that many renewals fit before an entry of the revocation list ends.
pub const LIFE: Duration = Duration::from_secs(30);

/// Where a store is.
#[derive(Clone, Debug)]
pub enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Place {
    /// Opens the store.
    pub fn open(&self) -> Box<dyn Store> {
        match self {
            Place::Sqlite(path) => Box::new(SqlStore::new(SqliteFile::open(path).unwrap())),
            Place::Postgres(_) => Box::new(SqlStore::new(self.database())),
        }
    }

    /// The database's URL.
    pub fn url(&self) -> PostgresUrl {
        let Place::Postgres(url) = self else {
            unreachable!("{self:?} has no URL")
        };
        PostgresUrl::new(Zeroizing::new(url.clone())).unwrap()
    }

    /// A connection to it.
    pub fn database(&self) -> PostgresDatabase {
        PostgresDatabase::open(&self.url()).unwrap()
    }
}

pub fn id(n: u8) -> Id {
    Id([n; 32])
}

pub fn project() -> ProjectRow {
    ProjectRow {
        id: id(0xaa),
        name: "acme".parse().unwrap(),
        addresses: vec!["relay.example:1".parse().unwrap()],
        note_number: 1,
        created: T0,
    }
}

fn grants() -> Grants {
    Grants {
        attributes: Attributes::new(),
        roles: Roles::MEMBER,
        may_serve: Vec::new(),
        may_connect: Connect::All,
    }
}

/// Ticket `n`, redeemable `uses` times; its secret's hash is `[n; 32]`.
pub fn ticket(n: u8, uses: u32) -> NewTicket {
    NewTicket {
        id: TicketId([n; 16]),
        secret_hash: [n; 32],
        name: None,
        grants: grants(),
        uses,
        bound_to: None,
        replaces: None,
        created_by: id(0xaa),
        created: T0,
        expires: T0.plus(6000),
    }
}

pub fn redeem(n: u8, who: u8, now: UnixTime) -> Redeem {
    Redeem {
        ticket: TicketId([n; 16]),
        secret_hash: [n; 32],
        wish: None,
        id: id(who),
        identity: vec![who],
        now,
        life: LIFE,
    }
}

pub fn renew(who: u8, now: UnixTime) -> Renew {
    Renew {
        id: id(who),
        identity: vec![who],
        now,
        life: LIFE,
    }
}

pub fn admit(who: u8, now: UnixTime) -> Admit {
    Admit {
        id: id(who),
        identity: vec![who],
        name: format!("m-{who}").parse().unwrap(),
        grants: grants(),
        now,
        life: LIFE,
    }
}

/// All rows of the audit, and what does not fit in them.
fn read(store: &mut dyn Store) -> (Vec<AuditRow>, Result<(), Misfit>) {
    let (mut rows, mut head) = (Vec::new(), AuditHead::START);
    loop {
        let page = store.audit(AuditQuery::Behind(head.number)).unwrap();
        if page.rows.is_empty() {
            return (rows, head.ends_at(&page.head));
        }
        for row in page.rows {
            if let Err(misfit) = head.accept(&row) {
                return (rows, Err(misfit));
            }
            rows.push(row);
        }
    }
}

/// All rows of the audit, which must fit.
pub fn verified(store: &mut dyn Store) -> Vec<AuditRow> {
    let (rows, fits) = read(store);
    assert_eq!(fits, Ok(()));
    rows
}

/// What does not fit in the audit.
pub fn first_misfit(store: &mut dyn Store) -> Option<Misfit> {
    read(store).1.err()
}

//! The tables and their version.
//!
//! Lists are JSON, so that a person with a SQLite shell can read them; ids and hashes are blobs.
//! A change raises [`VERSION`] and adds a step that brings an older file up; a new file takes all steps.

use std::time::Duration;

use crypto::{Id, UnixTime};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::control::sql::VERSION;
use crate::protocol::audit::{AuditAction, AuditEvent, AuditHead, Details};

/// Marks the file as ours (`application_id`): "ADIT".
pub(super) const APPLICATION: i64 = 0x4144_4954;

/// The tables of version 1.
pub(super) const TABLES_1: &str = "
CREATE TABLE project (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    id          BLOB NOT NULL CHECK (length(id) = 32),
    name        TEXT NOT NULL,
    addresses   TEXT NOT NULL,
    note_number INTEGER NOT NULL,
    created     INTEGER NOT NULL
) STRICT;

CREATE TABLE tickets (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),
    secret_hash BLOB NOT NULL CHECK (length(secret_hash) = 32),
    name        TEXT,
    attributes  TEXT NOT NULL,
    roles       INTEGER NOT NULL,
    may_serve   TEXT NOT NULL,
    may_connect TEXT,
    uses        INTEGER NOT NULL,
    used        INTEGER NOT NULL DEFAULT 0 CHECK (used <= uses),
    bound_to    BLOB,
    replaces    TEXT,
    created_by  BLOB NOT NULL,
    created     INTEGER NOT NULL,
    expires     INTEGER NOT NULL,
    revoked     INTEGER
) STRICT;

CREATE TABLE members (
    id          BLOB PRIMARY KEY CHECK (length(id) = 32),
    name        TEXT NOT NULL,
    attributes  TEXT NOT NULL,
    roles       INTEGER NOT NULL,
    may_serve   TEXT NOT NULL,
    may_connect TEXT,
    identity    BLOB NOT NULL,
    ticket      BLOB REFERENCES tickets (id),
    enrolled    INTEGER NOT NULL,
    serial      INTEGER NOT NULL,
    issued      INTEGER NOT NULL,
    revoked     INTEGER
) STRICT;
CREATE UNIQUE INDEX live_names ON members (name) WHERE revoked IS NULL;

CREATE TABLE redemptions (
    ticket      BLOB NOT NULL REFERENCES tickets (id),
    place       INTEGER NOT NULL,
    member      BLOB NOT NULL REFERENCES members (id),
    at          INTEGER NOT NULL,
    PRIMARY KEY (ticket, place),
    UNIQUE (ticket, member)
) STRICT, WITHOUT ROWID;

CREATE TABLE issued (
    serial      INTEGER PRIMARY KEY AUTOINCREMENT,
    member      BLOB NOT NULL REFERENCES members (id),
    at          INTEGER NOT NULL,
    not_after   INTEGER NOT NULL
) STRICT;
CREATE INDEX issued_ends ON issued (not_after);

CREATE TABLE audit (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    actor       BLOB NOT NULL,
    action      TEXT NOT NULL,
    subject     TEXT NOT NULL
) STRICT;
";

/// From version 1 to 2: the revocation list, with the members that were replaced before there was
/// one, and the numbers of lists and beacons. An entry stays for the life of a credential and a
/// little more (`limits::REVOCATION_KEPT`), counted from when the newest was issued.
const STEP_2: &str = "
CREATE TABLE revocations (
    member      BLOB PRIMARY KEY CHECK (length(member) = 32) REFERENCES members (id),
    max_serial  INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    ends        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revocations_end ON revocations (ends);

CREATE TABLE numbers (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    list        INTEGER NOT NULL,
    beacons     INTEGER NOT NULL
) STRICT;

INSERT INTO revocations (member, max_serial, number, ends)
    SELECT id, serial, 1, issued + 3690 FROM members
    WHERE revoked IS NOT NULL ORDER BY issued DESC LIMIT 4096;
INSERT INTO numbers VALUES (1, 1, 0);
";

/// From version 2 to 3: the audit becomes a chain ([`chain_up`]), with its head apart.
const STEP_3: &str = "
DROP INDEX IF EXISTS audit_reuses;
ALTER TABLE audit ADD COLUMN details TEXT NOT NULL DEFAULT '{}';
ALTER TABLE audit ADD COLUMN hash BLOB NOT NULL DEFAULT x'';

CREATE TABLE audit_head (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    number      INTEGER NOT NULL,
    hash        BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO audit_head VALUES (1, 0, zeroblob(32));
";

/// The end of that step: from now on rows are only added.
const STEP_3_END: &str = "
CREATE INDEX audit_refusals ON audit (action, subject, at)
    WHERE action IN ('ticket.reused', 'ticket.refused', 'credential.refused');
CREATE TRIGGER audit_rows_stay BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'audit rows are only added'); END;
CREATE TRIGGER audit_rows_are_as_written BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'audit rows are only added'); END;
";

/// Numbers the rows that there are and gives them their hashes. What release 2 said stays as it was.
fn chain_up(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let query = "SELECT number, at, actor, action, subject FROM audit ORDER BY number";
    let mut rows = transaction.prepare(query)?;
    let mut rows = rows.query(())?;
    let mut head = AuditHead::START;
    while let Some(row) = rows.next()? {
        let (stood, at): (i64, i64) = (row.get(0)?, row.get(1)?);
        let name: String = row.get(3)?;
        let odd = || rusqlite::Error::IntegralValueOutOfRange(0, stood);
        let added = head.append(AuditEvent {
            at: UnixTime(u64::try_from(at).map_err(|_| odd())?),
            actor: Id(row.get(2)?),
            action: AuditAction::from_name(&name).ok_or_else(odd)?,
            subject: row.get(4)?,
            details: Details::default(),
        });
        let number = i64::try_from(added.number).map_err(|_| odd())?;
        transaction.execute(
            "UPDATE audit SET number = ?2, hash = ?3 WHERE number = ?1",
            (stood, number, added.hash.0),
        )?;
    }
    let number = i64::try_from(head.number).unwrap_or(i64::MAX);
    let update = "UPDATE audit_head SET number = ?1, hash = ?2";
    transaction.execute(update, (number, head.hash.0))?;
    Ok(())
}

/// What a file is, judged without writing to it.
pub(super) enum Found {
    /// Nothing in it yet.
    Empty,
    /// This version.
    Ours,
    /// One that is brought up to this version when it is opened.
    Older(i64),
    /// A version that this build does not know.
    Newer(i64),
    /// Something else's.
    Foreign,
}

/// Looks at a file.
pub(super) fn examine(connection: &Connection) -> rusqlite::Result<Found> {
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let application = number("application_id")?;
    let version = number("user_version")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    Ok(match (application, version, tables) {
        (0, 0, 0) => Found::Empty,
        (APPLICATION, VERSION, _) => Found::Ours,
        (APPLICATION, older @ 1..VERSION, _) => Found::Older(older),
        (APPLICATION, newer, _) if newer > VERSION => Found::Newer(newer),
        _ => Found::Foreign,
    })
}

/// Sets the connection up and makes the tables if they are not there yet.
pub(super) fn prepare(connection: &mut Connection, busy_wait: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy_wait)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let from = match examine(&transaction)? {
        Found::Empty => {
            transaction.execute_batch(TABLES_1)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            1
        }
        Found::Older(version) => version,
        Found::Ours | Found::Newer(_) | Found::Foreign => VERSION,
    };
    if from < 2 {
        transaction.execute_batch(STEP_2)?;
    }
    if from < 3 {
        transaction.execute_batch(STEP_3)?;
        chain_up(&transaction)?;
        transaction.execute_batch(STEP_3_END)?;
    }
    if from < VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

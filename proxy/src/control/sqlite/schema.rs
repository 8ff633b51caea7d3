//! The tables and their version.
//!
//! Lists are JSON, so that a person with a SQLite shell can read them; ids and hashes are blobs.
//! A change raises [`VERSION`] and adds a step that brings an older file up; a new file takes all steps.

use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

/// The schema's version, kept in `user_version`.
pub(super) const VERSION: i64 = 2;
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

/// What makes questions fast and changes nothing that is stored: older releases don't mind it, so
/// it raises no version.
const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS audit_reuses ON audit (subject, at, actor)
    WHERE action = 'ticket.reused';
";

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
    if from < VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.execute_batch(INDEXES)?;
    transaction.commit()
}

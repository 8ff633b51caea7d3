//! The tables, in the schema `adit`, and their version. They are those of SQLite's version 3, with which
//! this database begins.

use tokio_postgres::{Client, Error, GenericClient};

use crate::control::sql::VERSION;

/// Taken while the schema is made, so that of two processes that start at once one does: "ADIT".
const MAKING: i64 = 0x4144_4954;

/// The tables of version 3.
const TABLES_3: &str = "
CREATE TABLE adit.version (number BIGINT NOT NULL);
INSERT INTO adit.version VALUES (3);

CREATE TABLE adit.project (
    one         BIGINT PRIMARY KEY CHECK (one = 1),
    id          BYTEA NOT NULL CHECK (length(id) = 32),
    name        TEXT NOT NULL,
    addresses   TEXT NOT NULL,
    note_number BIGINT NOT NULL,
    created     BIGINT NOT NULL
);

CREATE TABLE adit.tickets (
    id          BYTEA PRIMARY KEY CHECK (length(id) = 16),
    secret_hash BYTEA NOT NULL CHECK (length(secret_hash) = 32),
    name        TEXT,
    attributes  TEXT NOT NULL,
    roles       BIGINT NOT NULL,
    may_serve   TEXT NOT NULL,
    may_connect TEXT,
    uses        BIGINT NOT NULL,
    used        BIGINT NOT NULL DEFAULT 0 CHECK (used <= uses),
    bound_to    BYTEA,
    replaces    TEXT,
    created_by  BYTEA NOT NULL,
    created     BIGINT NOT NULL,
    expires     BIGINT NOT NULL,
    revoked     BIGINT
);

CREATE TABLE adit.members (
    id          BYTEA PRIMARY KEY CHECK (length(id) = 32),
    name        TEXT NOT NULL,
    attributes  TEXT NOT NULL,
    roles       BIGINT NOT NULL,
    may_serve   TEXT NOT NULL,
    may_connect TEXT,
    identity    BYTEA NOT NULL,
    ticket      BYTEA REFERENCES adit.tickets (id),
    enrolled    BIGINT NOT NULL,
    serial      BIGINT NOT NULL,
    issued      BIGINT NOT NULL,
    revoked     BIGINT
);
CREATE UNIQUE INDEX live_names ON adit.members (name) WHERE revoked IS NULL;

CREATE TABLE adit.redemptions (
    ticket      BYTEA NOT NULL REFERENCES adit.tickets (id),
    place       BIGINT NOT NULL,
    member      BYTEA NOT NULL REFERENCES adit.members (id),
    at          BIGINT NOT NULL,
    PRIMARY KEY (ticket, place),
    UNIQUE (ticket, member)
);

CREATE TABLE adit.issued (
    serial      BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    member      BYTEA NOT NULL REFERENCES adit.members (id),
    at          BIGINT NOT NULL,
    not_after   BIGINT NOT NULL
);
CREATE INDEX issued_ends ON adit.issued (not_after);

CREATE TABLE adit.revocations (
    member      BYTEA PRIMARY KEY CHECK (length(member) = 32) REFERENCES adit.members (id),
    max_serial  BIGINT NOT NULL,
    number      BIGINT NOT NULL,
    ends        BIGINT NOT NULL
);
CREATE INDEX revocations_end ON adit.revocations (ends);

CREATE TABLE adit.numbers (
    one         BIGINT PRIMARY KEY CHECK (one = 1),
    list        BIGINT NOT NULL,
    beacons     BIGINT NOT NULL
);
INSERT INTO adit.numbers VALUES (1, 1, 0);

CREATE TABLE adit.audit (
    number      BIGINT PRIMARY KEY,
    at          BIGINT NOT NULL,
    actor       BYTEA NOT NULL,
    action      TEXT NOT NULL,
    subject     TEXT NOT NULL,
    details     TEXT NOT NULL,
    hash        BYTEA NOT NULL CHECK (length(hash) = 32)
);
CREATE INDEX audit_refusals ON adit.audit (action, subject, at)
    WHERE action IN ('ticket.reused', 'ticket.refused', 'credential.refused');

CREATE TABLE adit.audit_head (
    one         BIGINT PRIMARY KEY CHECK (one = 1),
    number      BIGINT NOT NULL,
    hash        BYTEA NOT NULL CHECK (length(hash) = 32)
);
INSERT INTO adit.audit_head VALUES (1, 0, decode(repeat('00', 32), 'hex'));

CREATE FUNCTION adit.audit_rows_stay() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'audit rows are only added'; END $$;
CREATE TRIGGER audit_rows_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON adit.audit
    FOR EACH STATEMENT EXECUTE FUNCTION adit.audit_rows_stay();
";

/// What a database holds.
pub(super) enum Found {
    /// This version, perhaps made just now.
    Ours,
    /// A version that this build does not know; nothing was changed.
    Other(i64),
}

/// Looks at the database without writing to it, and makes the tables where there are none.
pub(super) async fn prepare(client: &mut Client) -> Result<Found, Error> {
    if let Some(version) = version(client).await? {
        return Ok(found(version));
    }
    let making = client.transaction().await?;
    making
        .execute("SELECT pg_advisory_xact_lock($1)", &[&MAKING])
        .await?;
    // Somebody else may have made them meanwhile.
    if let Some(version) = version(&making).await? {
        return Ok(found(version));
    }
    // Asked for first: IF NOT EXISTS wants the right to make a schema even where there is one.
    let schemas = "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = 'adit'";
    let schemas = making.query_one(schemas, &[]).await?;
    if schemas.try_get::<_, i64>(0)? == 0 {
        making.batch_execute("CREATE SCHEMA adit").await?;
    }
    making.batch_execute(TABLES_3).await?;
    making.commit().await?;
    Ok(Found::Ours)
}

fn found(version: i64) -> Found {
    match version {
        VERSION => Found::Ours,
        other => Found::Other(other),
    }
}

/// The version of the tables, if there are any.
async fn version(client: &impl GenericClient) -> Result<Option<i64>, Error> {
    // Not to_regclass: it may remember from before the lock that there is no such table.
    let query = "SELECT count(*) FROM pg_catalog.pg_class AS c
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname = 'adit' AND c.relname = 'version'";
    let there = client.query_one(query, &[]).await?;
    if there.try_get::<_, i64>(0)? == 0 {
        return Ok(None);
    }
    let row = client
        .query_one("SELECT max(number) FROM adit.version", &[])
        .await?;
    row.try_get::<_, Option<i64>>(0)
}

//! The authority's store in one SQLite file.
//!
//! A change is a `BEGIN IMMEDIATE` transaction. `synchronous=FULL` in WAL mode: what a method reported as
//! done survives a power cut. A file of a newer schema is refused before anything is written to it.
//! [`schema`] holds the tables and their version.

mod schema;

use std::path::Path;
use std::sync::Arc;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, params_from_iter};

use super::failure::{Exit, Failure, codes};
use super::sql::{Database, Purpose, Row, SqlStore, VERSION, Value};
use crate::limits::{STORE_BUSY_WAIT, STORE_ROOM_MIN};
use crate::protocol::store::StoreError;

/// A store that lives in a file.
pub type SqliteStore = SqlStore<SqliteFile>;

/// The file, opened. One process's at a time: the state directory's lock is its caller's.
#[derive(Debug)]
pub struct SqliteFile {
    connection: Connection,
}

impl SqliteStore {
    /// Opens the file, or makes it. The caller has the state directory's lock and has seen to it
    /// that others can't read the file.
    ///
    /// # Errors
    /// As [`SqliteFile::open`].
    pub fn open(path: &Path) -> Result<SqliteStore, Failure> {
        SqliteFile::open(path).map(SqlStore::new)
    }
}

impl SqliteFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// A newer schema, damage, another program's file, or the system's error; nothing was changed
    /// then.
    pub fn open(path: &Path) -> Result<SqliteFile, Failure> {
        let what = || format!("can't use the store {}", path.display());
        let failed = |error: rusqlite::Error| {
            let why = format!("{}{}", StoreError::from(error), room_on(path));
            Failure::new(codes::STORE, Exit::State, what(), why)
        };
        let mut connection = Connection::open(path).map_err(failed)?;
        match schema::examine(&connection).map_err(failed)? {
            schema::Found::Ours | schema::Found::Older(_) | schema::Found::Empty => {}
            schema::Found::Newer(version) => {
                let why = format!("its schema is version {version}, and this adit knows {VERSION}");
                return Err(Failure::new(codes::STORE_NEWER, Exit::State, what(), why)
                    .fix("install the newer adit again; nothing was changed"));
            }
            schema::Found::Foreign => {
                let why = "it was not made by adit; nothing was changed";
                return Err(Failure::new(codes::STORE, Exit::State, what(), why));
            }
        }
        schema::prepare(&mut connection, STORE_BUSY_WAIT).map_err(failed)?;
        Ok(SqliteFile { connection })
    }
}

impl Database for SqliteFile {
    fn begin(&mut self, purpose: Purpose) -> Result<(), StoreError> {
        let begin = match purpose {
            Purpose::Read => "BEGIN",
            Purpose::Change => "BEGIN IMMEDIATE",
        };
        Ok(self.connection.execute_batch(begin)?)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    fn rollback(&mut self) {
        // Some failures have taken it back already.
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn execute(&mut self, query: &str, values: &[Value]) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare_cached(query)?;
        Ok(statement.execute(params_from_iter(values))? as u64)
    }

    fn query(&mut self, query: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.connection.prepare_cached(query)?;
        let names = statement.column_names().map(str::to_owned);
        let columns: Arc<[String]> = names.collect();
        let mut rows = statement.query(params_from_iter(values))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let values = (0..columns.len()).map(|at| value(row.get_ref(at)?));
            let values = values.collect::<Result<_, StoreError>>()?;
            found.push(Row::new(Arc::clone(&columns), values));
        }
        Ok(found)
    }

    fn is_shared(&self) -> bool {
        false
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(value) => ValueRef::Integer(*value),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn value(value: ValueRef<'_>) -> Result<Value, StoreError> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            // No text: who reads it as one names the column.
            Err(_) => Value::Bytes(text.to_vec()),
        },
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        ValueRef::Real(_) => return Err(StoreError::Damaged("a number is not whole".into())),
    })
}

/// SQLite has one word for everything that a disk may do; a full one is the likeliest.
fn room_on(path: &Path) -> String {
    let disk = path.parent().and_then(|dir| rustix::fs::statvfs(dir).ok());
    let free = disk.map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if free < STORE_ROOM_MIN {
        format!("; no space: {free} bytes are free on its disk")
    } else {
        String::new()
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        let damaged_file = error.sqlite_error_code().is_some_and(|code| {
            matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        });
        let damaged_value = matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..)
        );
        let text = error.to_string();
        if damaged_file || damaged_value {
            StoreError::Damaged(text)
        } else {
            StoreError::Unavailable(text)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::protocol::audit::{AuditAction, AuditHead, AuditQuery, AuditRow};
    use crate::protocol::store::{Store, conformance::conformance};
    use std::path::PathBuf;

    /// A file path of its own; the files are removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Scratch {
            let path =
                std::env::temp_dir().join(format!("adit-sqlite-{test}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_conforms() {
        let scratch = Scratch::new("conforms");
        let mut number = 0;
        conformance(&mut || {
            number += 1;
            Box::new(SqliteStore::open(&scratch.file(&format!("{number}.db"))).unwrap())
        });
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let scratch = Scratch::new("restart");
        let path = scratch.file("authority.db");
        let row = crate::protocol::store::ProjectRow {
            id: crypto::Id([7; 32]),
            name: "acme".parse().unwrap(),
            addresses: vec!["a:1".parse().unwrap(), "[::1]:2".parse().unwrap()],
            note_number: 1,
            created: crypto::UnixTime(5),
        };
        SqliteStore::open(&path)
            .unwrap()
            .create_project(&row)
            .unwrap();
        assert_eq!(SqliteStore::open(&path).unwrap().project(), Ok(Some(row)));
    }

    #[test]
    fn a_file_of_the_version_before_is_brought_up_and_keeps_its_rows() {
        let scratch = Scratch::new("older");
        let path = scratch.file("authority.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(schema::TABLES_1).unwrap();
        old.pragma_update(None, "application_id", schema::APPLICATION)
            .unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        let member = "INSERT INTO members (id, name, attributes, roles, may_serve, identity,
             enrolled, serial, issued, revoked) VALUES (?1, ?2, '{}', 1, '[]', x'00', 5, ?3, 5, ?4)";
        old.execute(member, ([7_u8; 32], "bank", 3, Option::<i64>::None))
            .unwrap();
        old.execute(member, ([8_u8; 32], "bank", 2, Some(9)))
            .unwrap();
        // A number is missing, as after a failed write of release 1.
        let audit = "INSERT INTO audit VALUES (?1, 5, zeroblob(32), ?2, 'bank')";
        for (number, action) in [(1, "project.created"), (3, "member.replaced")] {
            old.execute(audit, (number, action)).unwrap();
        }
        drop(old);
        let mut store = SqliteStore::open(&path).unwrap();
        let kept = verified(&mut store).unwrap();
        let kept: Vec<AuditAction> = kept.iter().map(|row| row.event.action).collect();
        assert_eq!(
            kept,
            [AuditAction::ProjectCreated, AuditAction::MemberReplaced]
        );
        let members = store.members(None).unwrap();
        assert_eq!(members.len(), 2);
        // Who was replaced before there was a list is in the first one.
        let stamp = |have, now| crate::protocol::store::Stamp {
            have,
            now: crypto::UnixTime(now),
        };
        let stamped = store.stamp(&stamp(None, 6)).unwrap();
        let entries = stamped.entries.unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].member, crypto::Id([8; 32]));
        assert_eq!((entries[0].max_serial, stamped.list_number), (2, 1));
        drop(store);
        let again = SqliteStore::open(&path).unwrap().stamp(&stamp(Some(1), 6));
        let again = again.unwrap();
        assert_eq!(again.entries, None);
        assert!(again.number > stamped.number, "also over a restart");
    }

    #[test]
    fn a_full_list_refuses_and_changes_nothing() {
        use crate::protocol::store::{MemberKey, Revoke, RevokeAnswer};
        let scratch = Scratch::new("full");
        let mut store = SqliteStore::open(&scratch.file("authority.db")).unwrap();
        let row = crate::protocol::store::ProjectRow {
            id: crypto::Id([7; 32]),
            name: "acme".parse().unwrap(),
            addresses: Vec::new(),
            note_number: 1,
            created: crypto::UnixTime(5),
        };
        store.create_project(&row).unwrap();
        let fill = format!(
            "PRAGMA foreign_keys = OFF;
             INSERT INTO members (id, name, attributes, roles, may_serve, identity, enrolled, serial,
                 issued) VALUES (zeroblob(32), 'last', '{{}}', 1, '[]', x'00', 5, 3, 5);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
                 INSERT INTO revocations SELECT randomblob(32), 1, 1, 100 FROM n;",
            crypto::limits::REVOCATIONS_MAX
        );
        store.database().connection.execute_batch(&fill).unwrap();
        let revoke = |now| Revoke {
            member: MemberKey::Name("last".parse().unwrap()),
            actor: row.id,
            reason: String::new(),
            now: crypto::UnixTime(now),
        };
        assert_eq!(store.revoke(&revoke(99)), Ok(RevokeAnswer::Full));
        let member = store.member(&revoke(99).member).unwrap();
        assert_eq!(member.unwrap().revoked, None);
        // It is possible again when the others have left.
        let answer = store.revoke(&revoke(101));
        assert!(matches!(answer, Ok(RevokeAnswer::Revoked { .. })));
    }

    /// The rows, if they fit and end where they should.
    fn verified(store: &mut SqliteStore) -> Result<Vec<AuditRow>, String> {
        let page = store.audit(AuditQuery::Behind(0));
        let page = page.map_err(|error| error.to_string())?;
        let mut head = AuditHead::START;
        for row in &page.rows {
            head.accept(row).map_err(|error| error.to_string())?;
        }
        head.ends_at(&page.head)
            .map_err(|error| error.to_string())?;
        Ok(page.rows)
    }

    /// A store with a project and three tickets: four rows of audit.
    fn with_four_rows(path: &Path) -> SqliteStore {
        let mut store = SqliteStore::open(path).unwrap();
        let id = crypto::Id([7; 32]);
        let row = crate::protocol::store::ProjectRow {
            id,
            name: "acme".parse().unwrap(),
            addresses: Vec::new(),
            note_number: 1,
            created: crypto::UnixTime(5),
        };
        store.create_project(&row).unwrap();
        for n in 1..=3 {
            let ticket = crate::protocol::store::NewTicket {
                id: crypto::ticket::TicketId([n; 16]),
                secret_hash: [n; 32],
                name: None,
                grants: crate::protocol::store::Grants {
                    attributes: crypto::names::Attributes::new(),
                    roles: crypto::credential::Roles::MEMBER,
                    may_serve: Vec::new(),
                    may_connect: crypto::credential::Connect::All,
                },
                uses: 1,
                bound_to: None,
                replaces: None,
                created_by: id,
                created: crypto::UnixTime(6),
                expires: crypto::UnixTime(600),
            };
            store.create_ticket(&ticket).unwrap();
        }
        store
    }

    #[test]
    fn rows_of_the_audit_are_only_added() {
        let scratch = Scratch::new("append-only");
        let mut store = with_four_rows(&scratch.file("authority.db"));
        let connection = &store.database().connection;
        for change in [
            "DELETE FROM audit WHERE number = 4",
            "UPDATE audit SET subject = 'x'",
        ] {
            let refused = connection.execute_batch(change).unwrap_err().to_string();
            assert!(refused.contains("only added"), "{refused}");
        }
        assert_eq!(verified(&mut store).unwrap().len(), 4);
    }

    #[test]
    fn a_row_that_was_changed_taken_out_or_moved_is_named() {
        let unlock = "DROP TRIGGER audit_rows_stay; DROP TRIGGER audit_rows_are_as_written;";
        for (forgery, named) in [
            ("UPDATE audit SET subject = 'x' WHERE number = 2", "row 2"),
            ("UPDATE audit SET details = '{}' WHERE number = 3", "row 3"),
            ("UPDATE audit SET action = 'x' WHERE number = 3", "row 3"),
            ("DELETE FROM audit WHERE number = 2", "row 2 is missing"),
            (
                "DELETE FROM audit WHERE number = 2;
                 UPDATE audit SET number = number - 1 WHERE number > 2",
                "row 2 does not fit",
            ),
            (
                "UPDATE audit SET number = 9 WHERE number = 2;
                 UPDATE audit SET number = 2 WHERE number = 3;
                 UPDATE audit SET number = 3 WHERE number = 9",
                "row 2 does not fit",
            ),
            ("DELETE FROM audit WHERE number = 4", "row 4 is missing"),
            ("UPDATE audit_head SET hash = zeroblob(32)", "row 4"),
        ] {
            let scratch = Scratch::new("forged");
            let mut store = with_four_rows(&scratch.file("authority.db"));
            let connection = &store.database().connection;
            connection
                .execute_batch(&format!("{unlock}{forgery}"))
                .unwrap();
            let found = verified(&mut store).unwrap_err();
            assert!(found.contains(named), "{forgery}: {found}");
        }
    }

    #[test]
    fn a_row_of_the_audit_that_cannot_be_read_hides_none_before_it() {
        let unlock = "DROP TRIGGER audit_rows_stay; DROP TRIGGER audit_rows_are_as_written;";
        for damage in [
            "action = 'x'",
            "details = 'x'",
            "subject = CAST(x'ff' AS TEXT)",
        ] {
            let scratch = Scratch::new("unreadable");
            let mut store = with_four_rows(&scratch.file("authority.db"));
            let forge = format!("{unlock} UPDATE audit SET {damage} WHERE number = 3");
            store.database().connection.execute_batch(&forge).unwrap();
            for (query, readable) in [
                (AuditQuery::Behind(0), &[1, 2][..]),
                (AuditQuery::Last(3), &[2]),
                (AuditQuery::Behind(2), &[]),
                (AuditQuery::Behind(3), &[4]),
            ] {
                let page = store.audit(query).unwrap();
                let numbers: Vec<u64> = page.rows.iter().map(|row| row.number).collect();
                assert_eq!(numbers, readable, "{damage} {query:?}");
                let said = page.unreadable.unwrap_or_default();
                let is_named = said.starts_with("row 3 can't be read");
                assert_eq!(is_named, readable != [4], "{damage} {query:?}: {said}");
            }
        }
    }

    #[test]
    fn a_newer_schema_is_refused_untouched() {
        let scratch = Scratch::new("newer");
        let path = scratch.file("authority.db");
        drop(SqliteStore::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection
            .pragma_update(None, "user_version", VERSION + 1)
            .unwrap();
        drop(connection);
        let before = std::fs::read(&path).unwrap();
        let failure = SqliteStore::open(&path).unwrap_err();
        assert_eq!(failure.code, codes::STORE_NEWER);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_foreign_or_damaged_file_is_refused_untouched() {
        let scratch = Scratch::new("foreign");
        let path = scratch.file("other.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        drop(connection);
        let before = std::fs::read(&path).unwrap();
        assert_eq!(SqliteStore::open(&path).unwrap_err().code, codes::STORE);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let garbage = scratch.file("garbage.db");
        std::fs::write(&garbage, [b'x'; 8192]).unwrap();
        assert_eq!(SqliteStore::open(&garbage).unwrap_err().code, codes::STORE);
        assert_eq!(std::fs::read(&garbage).unwrap(), [b'x'; 8192]);
    }
}

//! The authority's store in one SQLite file.
//!
//! Every method of [`Store`](crate::protocol::store::Store) is one `BEGIN IMMEDIATE` transaction, and a change and its audit row
//! are the same one. `synchronous=FULL` in WAL mode: what a method reported as done survives a
//! power cut. A file of a newer schema is refused before anything is written to it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`schema`] | the tables and their version |
//! | [`rows`] | rows to values and back |
//! | [`store`] | the methods |
//! | [`revocation`] | those about revocations |

mod revocation;
mod rows;
mod schema;
mod store;

use std::path::Path;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::failure::{Exit, Failure, codes};
use crate::limits::{STORE_BUSY_WAIT, STORE_ROOM_MIN};
use crate::protocol::store::StoreError;

/// A store that lives in a file.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    /// Numbers of beacons taken from the file and not used up.
    beacons: Option<revocation::Beacons>,
}

impl SqliteStore {
    /// Opens the file, or makes it. The caller has the state directory's lock and has seen to it
    /// that others can't read the file.
    ///
    /// # Errors
    /// A newer schema, damage, another program's file, or the system's error; nothing was changed
    /// then.
    pub fn open(path: &Path) -> Result<SqliteStore, Failure> {
        let what = || format!("can't use the store {}", path.display());
        let failed = |error: rusqlite::Error| {
            let why = format!("{}{}", StoreError::from(error), room_on(path));
            Failure::new(codes::STORE, Exit::State, what(), why)
        };
        let mut connection = Connection::open(path).map_err(failed)?;
        match schema::examine(&connection).map_err(failed)? {
            schema::Found::Ours | schema::Found::Older(_) | schema::Found::Empty => {}
            schema::Found::Newer(version) => {
                let why = format!(
                    "its schema is version {version}, and this adit knows {}",
                    schema::VERSION
                );
                return Err(Failure::new(codes::STORE_NEWER, Exit::State, what(), why)
                    .fix("install the newer adit again; nothing was changed"));
            }
            schema::Found::Foreign => {
                let why = "it was not made by adit; nothing was changed";
                return Err(Failure::new(codes::STORE, Exit::State, what(), why));
            }
        }
        schema::prepare(&mut connection, STORE_BUSY_WAIT).map_err(failed)?;
        Ok(SqliteStore {
            connection,
            beacons: None,
        })
    }

    /// Runs `change` in a transaction, which is taken back when it fails.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = change(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }
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
        drop(old);
        let mut store = SqliteStore::open(&path).unwrap();
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
        store.connection.execute_batch(&fill).unwrap();
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

    #[test]
    fn a_newer_schema_is_refused_untouched() {
        let scratch = Scratch::new("newer");
        let path = scratch.file("authority.db");
        drop(SqliteStore::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection
            .pragma_update(None, "user_version", schema::VERSION + 1)
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

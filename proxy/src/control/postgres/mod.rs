//! The authority's store in a PostgreSQL database, for several authority processes at once (the feature
//! `store-postgres`).
//!
//! # Contract
//! - Everything is in the schema `adit`: one project a database. [`schema`] makes it and brings it up; one
//!   of a newer version is refused before anything is written.
//! - A change begins with a lock on the one row of `numbers` and holds it until it commits, so changes of
//!   all processes run one after the other (see [`sql`](super::sql)). Who waits longer than
//!   `limits::STORE_BUSY_WAIT` is refused; a process that stops in the middle of a change loses it after
//!   `limits::STORE_IDLE_MAX`.
//! - A connection that was lost is made again by the next transaction. A change whose commit was lost on
//!   the way may have been carried out: nodes ask again, and are answered from what is stored.
//! - The connection is not encrypted; SECURITY.md says where it may lead.
//!
//! The client drives its connection on a runtime of its own and may not be used or dropped on a thread
//! that runs another: a store lives on its own thread, and [`PostgresDatabase`] sees to its end.

mod schema;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use postgres::config::Host;
use postgres::error::SqlState;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, NoTls, Statement};

use super::failure::{Exit, Failure, codes};
use super::sql::{Database, Purpose, Row, SqlStore, VERSION, Value};
use super::store_place::PostgresUrl;
use crate::limits::{
    STORE_BUSY_WAIT, STORE_CONNECT_TIMEOUT, STORE_IDLE_MAX, STORE_KEEPALIVE, STORE_KEEPALIVES_MAX,
    STORE_STATEMENT_TIMEOUT,
};
use crate::protocol::store::StoreError;

/// A store in a PostgreSQL database.
pub type PostgresStore = SqlStore<PostgresDatabase>;

/// A connection to it.
pub struct PostgresDatabase {
    config: Config,
    connected: Option<Connected>,
}

/// A connection with what was prepared on it. The texts of statements are this program's own, a few dozen.
struct Connected {
    client: Client,
    statements: HashMap<String, Statement>,
}

impl PostgresStore {
    /// Connects, and makes or brings up the schema.
    ///
    /// # Errors
    /// As [`PostgresDatabase::open`].
    pub fn open(url: &PostgresUrl) -> Result<PostgresStore, Failure> {
        PostgresDatabase::open(url).map(SqlStore::new)
    }
}

impl PostgresDatabase {
    /// Connects, and makes or brings up the schema.
    ///
    /// # Errors
    /// The URL is malformed, the server is not reached, the schema is newer; nothing was changed then.
    /// The failure never repeats a password.
    pub fn open(url: &PostgresUrl) -> Result<PostgresDatabase, Failure> {
        let mut config = config(url)?;
        let what = format!("can't use the store {}", place(&config));
        let failed = |error: StoreError| {
            Failure::new(codes::STORE, Exit::State, what.clone(), error).fix(
                "see that the server runs and lets this user in, who must own the schema adit or be \
                 allowed to create it",
            )
        };
        config
            .application_name("adit")
            .connect_timeout(STORE_CONNECT_TIMEOUT)
            .tcp_user_timeout(STORE_KEEPALIVE * STORE_KEEPALIVES_MAX)
            .keepalives_idle(STORE_KEEPALIVE)
            .keepalives_interval(STORE_KEEPALIVE)
            .keepalives_retries(STORE_KEEPALIVES_MAX);
        let mut database = PostgresDatabase {
            config,
            connected: None,
        };
        let client = &mut database.connected().map_err(failed)?.client;
        match schema::prepare(client).map_err(|error| failed(error.into()))? {
            schema::Found::Ours => Ok(database),
            schema::Found::Other(version) => {
                let why = format!("its schema is version {version}, and this adit knows {VERSION}");
                Err(Failure::new(codes::STORE_NEWER, Exit::State, what, why)
                    .fix("install the newer adit again; nothing was changed"))
            }
        }
    }

    /// The connection, made again where it was lost.
    fn connected(&mut self) -> Result<&mut Connected, StoreError> {
        let kept = self
            .connected
            .take()
            .filter(|connected| !connected.client.is_closed());
        let connected = match kept {
            Some(connected) => connected,
            None => {
                let mut client = self.config.connect(NoTls)?;
                client.batch_execute(&session())?;
                Connected {
                    client,
                    statements: HashMap::new(),
                }
            }
        };
        Ok(self.connected.insert(connected))
    }

    fn try_begin(&mut self, purpose: Purpose) -> Result<(), StoreError> {
        let begin = match purpose {
            Purpose::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            // Each statement behind the lock sees all that was committed before it was had.
            Purpose::Change => {
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
                 SELECT 1 FROM numbers FOR UPDATE"
            }
        };
        Ok(self.connected()?.client.batch_execute(begin)?)
    }
}

/// What holds for every connection.
fn session() -> String {
    format!(
        "SET search_path = adit;
         SET client_min_messages = warning;
         SET lock_timeout = {};
         SET statement_timeout = {};
         SET idle_in_transaction_session_timeout = {};
         SELECT set_config('synchronous_commit', 'on', false)
             WHERE current_setting('synchronous_commit') = 'off'",
        STORE_BUSY_WAIT.as_millis(),
        STORE_STATEMENT_TIMEOUT.as_millis(),
        STORE_IDLE_MAX.as_millis(),
    )
}

fn config(url: &PostgresUrl) -> Result<Config, Failure> {
    let mut config: Config = url.text().parse().map_err(|error| {
        let what = "can't read where the store is";
        Failure::new(codes::USAGE, Exit::Usage, what, error)
            .fix("say postgres://USER@HOST:PORT/DATABASE")
    })?;
    if let Some(password) = url.password() {
        config.password(password.as_bytes());
    }
    Ok(config)
}

/// Where a database is, without user and password.
fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let hosts = config.get_hosts().iter().enumerate();
    let hosts: Vec<String> = hosts
        .map(|(at, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(at)),
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    let database = config.get_dbname().or(config.get_user());
    format!("{}/{}", hosts.join(","), database.unwrap_or_default())
}

impl Database for PostgresDatabase {
    fn begin(&mut self, purpose: Purpose) -> Result<(), StoreError> {
        let Err(error) = self.try_begin(purpose) else {
            return Ok(());
        };
        let lost = self
            .connected
            .as_ref()
            .is_none_or(|connected| connected.client.is_closed());
        if lost {
            // It was lost while nobody used it: nothing was begun.
            return self.try_begin(purpose);
        }
        self.rollback();
        Err(error)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        match &mut self.connected {
            Some(connected) => Ok(connected.client.batch_execute("COMMIT")?),
            None => Err(lost()),
        }
    }

    fn rollback(&mut self) {
        let connected = self.connected.take();
        self.connected = connected.and_then(|mut kept| {
            kept.client
                .batch_execute("ROLLBACK")
                .is_ok()
                .then_some(kept)
        });
    }

    fn execute(&mut self, query: &str, values: &[Value]) -> Result<u64, StoreError> {
        let connected = self.connected.as_mut().ok_or_else(lost)?;
        let statement = connected.prepared(query)?;
        Ok(connected.client.execute(&statement, &parameters(values))?)
    }

    fn query(&mut self, query: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let connected = self.connected.as_mut().ok_or_else(lost)?;
        let statement = connected.prepared(query)?;
        let found = connected.client.query(&statement, &parameters(values))?;
        let names = statement.columns().iter().map(|it| it.name().to_owned());
        let columns: Arc<[String]> = names.collect();
        let row = |row: &postgres::Row| {
            let values = (0..columns.len()).map(|at| value(row, at));
            Ok(Row::new(
                Arc::clone(&columns),
                values.collect::<Result<_, StoreError>>()?,
            ))
        };
        found.iter().map(row).collect()
    }

    fn is_shared(&self) -> bool {
        true
    }
}

impl Connected {
    fn prepared(&mut self, query: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.statements.get(query) {
            return Ok(statement.clone());
        }
        // `?1` is SQLite's word for `$1`; no text of a statement has a question mark in it.
        let statement = self.client.prepare(&query.replace('?', "$"))?;
        self.statements.insert(query.to_owned(), statement.clone());
        Ok(statement)
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable("the connection was lost".into())
}

fn parameters(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values
        .iter()
        .map(|value| value as &(dyn ToSql + Sync))
        .collect()
}

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (self, ty) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Integer(value), &Type::INT8) => value.to_sql(ty, out),
            (Value::Text(text), &Type::TEXT) => text.to_sql(ty, out),
            (Value::Bytes(bytes), &Type::BYTEA) => bytes.to_sql(ty, out),
            (Value::Integer(_) | Value::Text(_) | Value::Bytes(_), _) => {
                Err(format!("a parameter is of type {ty}").into())
            }
        }
    }

    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::BYTEA].contains(ty)
    }

    to_sql_checked!();
}

fn value(row: &postgres::Row, at: usize) -> Result<Value, StoreError> {
    let column = row.columns().get(at).map(postgres::Column::type_);
    Ok(match column {
        Some(&Type::INT8) => row.try_get::<_, Option<i64>>(at)?.into(),
        Some(&Type::TEXT) => row.try_get::<_, Option<String>>(at)?.into(),
        Some(&Type::BYTEA) => match row.try_get::<_, Option<Vec<u8>>>(at)? {
            Some(bytes) => Value::Bytes(bytes),
            None => Value::Null,
        },
        Some(_) | None => return Err(StoreError::Damaged("a column has another type".into())),
    })
}

impl From<postgres::Error> for StoreError {
    fn from(error: postgres::Error) -> StoreError {
        let tables_differ = error.code().is_some_and(|code| {
            let missing = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN];
            missing.contains(code) || code.code().starts_with("XX")
        });
        let text = match error.as_db_error() {
            Some(said) => said.message().to_owned(),
            None => error.to_string(),
        };
        if tables_differ {
            StoreError::Damaged(text)
        } else {
            StoreError::Unavailable(text)
        }
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        // Saying good-bye takes the client's own runtime, which can't run inside of another: where a
        // start failed, the store is dropped on the thread that was about to serve.
        let Some(connected) = self.connected.take() else {
            return;
        };
        if tokio::runtime::Handle::try_current().is_ok() {
            std::thread::spawn(move || drop(connected));
        }
    }
}

impl fmt::Debug for PostgresDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresDatabase({})", place(&self.config))
    }
}

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
//! - Nothing is waited for longer than `limits::STORE_ANSWER_WAIT`. A server that has not answered by then
//!   (its machine is frozen, the way to it is gone) is asked nothing more on that connection.
//! - The connection is not encrypted; SECURITY.md says where it may lead.
//!
//! A connection is driven by a runtime of its own, while an answer is waited for, and may not be used on a
//! thread that runs another: a store lives on its own thread.

mod connection;
mod schema;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use self::connection::Connection;
use super::failure::{Exit, Failure, codes};
use super::sql::{Database, Purpose, Row, SqlStore, VERSION, Value};
use super::store_place::PostgresUrl;
use crate::limits::{STORE_CONNECT_TIMEOUT, STORE_KEEPALIVE, STORE_KEEPALIVES_MAX};
use crate::protocol::store::StoreError;

/// A store in a PostgreSQL database.
pub type PostgresStore = SqlStore<PostgresDatabase>;

/// A connection to it.
pub struct PostgresDatabase {
    config: Config,
    connection: Option<Connection>,
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
            connection: None,
        };
        let connection = database.connected().map_err(failed)?;
        match connection.ask(schema::prepare).map_err(failed)? {
            schema::Found::Ours => Ok(database),
            schema::Found::Other(version) => {
                let why = format!("its schema is version {version}, and this adit knows {VERSION}");
                Err(Failure::new(codes::STORE_NEWER, Exit::State, what, why)
                    .fix("install the newer adit again; nothing was changed"))
            }
        }
    }

    /// The connection, made again where it was lost.
    fn connected(&mut self) -> Result<&mut Connection, StoreError> {
        let connection = match self.connection.take().filter(|kept| !kept.is_lost()) {
            Some(kept) => kept,
            None => Connection::open(&self.config)?,
        };
        Ok(self.connection.insert(connection))
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
        self.connected()?.run(begin)
    }

    /// The connection of the transaction that has begun.
    fn begun(&mut self) -> Result<&mut Connection, StoreError> {
        let lost = || StoreError::Unavailable("the connection was lost".into());
        self.connection.as_mut().ok_or_else(lost)
    }
}

fn config(url: &PostgresUrl) -> Result<Config, Failure> {
    let mut config: Config = url.text().parse().map_err(|error| {
        let what = "can't read where the store is";
        Failure::new(codes::USAGE, Exit::Usage, what, error)
            .fix("say postgres://USER@HOST:PORT/DATABASE")
    })?;
    // What is behind the first @ is read as the host, and hosts are printed.
    let is_torn = |host: &Host| match host {
        Host::Tcp(name) => name.contains('@'),
        Host::Unix(_) => false,
    };
    if config.get_hosts().iter().any(is_torn) {
        let what = "can't read where the store is";
        let why = "there is an @ in the host's name: the user's name or the password holds one";
        return Err(
            Failure::new(codes::USAGE, Exit::Usage, what, why).fix("write @ in a password as %40")
        );
    }
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
        let is_kept = self.connection.is_some();
        let mut begun = self.try_begin(purpose);
        if begun.is_err() && is_kept && self.connection.as_ref().is_some_and(Connection::is_over) {
            // It was lost while nobody used it: nothing was begun.
            begun = self.try_begin(purpose);
        }
        if begun.is_err() {
            self.rollback();
        }
        begun
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.begun()?.run("COMMIT")
    }

    fn rollback(&mut self) {
        let kept = self.connection.take().filter(|kept| !kept.is_lost());
        self.connection = kept.and_then(|mut kept| kept.run("ROLLBACK").is_ok().then_some(kept));
    }

    fn execute(&mut self, query: &str, values: &[Value]) -> Result<u64, StoreError> {
        let connection = self.begun()?;
        let statement = connection.prepared(query)?;
        let parameters = parameters(values);
        connection.ask(async |client| client.execute(&statement, &parameters).await)
    }

    fn query(&mut self, query: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let connection = self.begun()?;
        let statement = connection.prepared(query)?;
        let parameters = parameters(values);
        let found = connection.ask(async |client| client.query(&statement, &parameters).await)?;
        let names = statement.columns().iter().map(|it| it.name().to_owned());
        let columns: Arc<[String]> = names.collect();
        let row = |row: &tokio_postgres::Row| {
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
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
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

fn value(row: &tokio_postgres::Row, at: usize) -> Result<Value, StoreError> {
    let column = row.columns().get(at).map(tokio_postgres::Column::type_);
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

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> StoreError {
        let tables_differ = error.code().is_some_and(|code| {
            let missing = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN];
            missing.contains(code) || code.code().starts_with("XX")
        });
        let text = match error.as_db_error() {
            Some(said) => said.message().to_owned(),
            // Its own text names only what was done; why it failed is behind it.
            None => match error.source() {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            },
        };
        if tables_differ {
            StoreError::Damaged(text)
        } else {
            StoreError::Unavailable(text)
        }
    }
}

impl fmt::Debug for PostgresDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresDatabase({})", place(&self.config))
    }
}

//! A connection, and how long its server is waited for.

use std::collections::HashMap;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::error::Severity;
use tokio_postgres::{Client, Config, Error, NoTls, Statement};

use crate::limits::{
    STORE_ANSWER_WAIT, STORE_BUSY_WAIT, STORE_CONNECT_TIMEOUT, STORE_IDLE_MAX,
    STORE_STATEMENT_TIMEOUT,
};
use crate::protocol::store::StoreError;

/// A connection with what was prepared on it. The texts of statements are this program's own, a few dozen.
pub(super) struct Connection {
    driver: Driver,
    client: Client,
    statements: HashMap<String, Statement>,
    /// The server said that it ends.
    is_ended: bool,
    /// The server did not answer in time; what it was asked may still be carried out.
    is_silent: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The server is not reached, refuses, or takes longer than `limits::STORE_CONNECT_TIMEOUT` for each
    /// host that is named.
    pub(super) fn open(config: &Config) -> Result<Connection, StoreError> {
        let driver = Driver::new()?;
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
        let limit = STORE_CONNECT_TIMEOUT.saturating_mul(hosts.max(1));
        let client = driver.wait(limit, async {
            let (client, connection) = config.connect(NoTls).await?;
            // What ends it is told to who waits for an answer.
            tokio::spawn(connection);
            client.batch_execute(&session()).await?;
            Ok::<Client, Error>(client)
        });
        Ok(Connection {
            client: client.map_err(|_| silent(limit))??,
            driver,
            statements: HashMap::new(),
            is_ended: false,
            is_silent: false,
        })
    }

    /// Whether nothing can be asked on it any more.
    pub(super) fn is_lost(&self) -> bool {
        self.is_silent || self.is_over()
    }

    /// Whether its other end is known to be gone.
    pub(super) fn is_over(&self) -> bool {
        self.is_ended || self.client.is_closed()
    }

    /// Asks the server, and waits `limits::STORE_ANSWER_WAIT` at most.
    ///
    /// # Errors
    /// The server's, or that it did not answer; see [`Connection::is_lost`].
    pub(super) fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut Client) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        if self.is_silent {
            return Err(silent(STORE_ANSWER_WAIT));
        }
        let answer = question(&mut self.client);
        let Ok(answer) = self.driver.wait(STORE_ANSWER_WAIT, answer) else {
            self.is_silent = true;
            return Err(silent(STORE_ANSWER_WAIT));
        };
        self.is_ended |= answer.as_ref().is_err_and(ends_connection);
        Ok(answer?)
    }

    /// Runs statements without parameters and results.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub(super) fn run(&mut self, statements: &str) -> Result<(), StoreError> {
        self.ask(async |client| client.batch_execute(statements).await)
    }

    /// A statement, prepared once.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub(super) fn prepared(&mut self, query: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.statements.get(query) {
            return Ok(statement.clone());
        }
        // `?1` is SQLite's word for `$1`; no text of a statement has a question mark in it.
        let text = query.replace('?', "$");
        let statement = self.ask(async |client| client.prepare(&text).await)?;
        self.statements.insert(query.to_owned(), statement.clone());
        Ok(statement)
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

/// An error of these ends the session, though the connection may not be closed yet.
fn ends_connection(error: &Error) -> bool {
    let severity = error.as_db_error().and_then(|said| said.parsed_severity());
    matches!(severity, Some(Severity::Fatal | Severity::Panic))
}

fn silent(limit: Duration) -> StoreError {
    StoreError::Unavailable(format!(
        "the database has not answered for {} s",
        limit.as_secs()
    ))
}

/// The runtime of one connection: the connection's task and its socket end with it. Nothing once it is
/// being dropped.
struct Driver(Option<Runtime>);

/// The time was over.
struct Expired;

impl Driver {
    fn new() -> Result<Driver, StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Driver(Some(runtime)))
    }

    fn wait<T>(&self, limit: Duration, answer: impl Future<Output = T>) -> Result<T, Expired> {
        let runtime = self.0.as_ref().ok_or(Expired)?;
        runtime
            .block_on(async { timeout(limit, answer).await })
            .map_err(|_| Expired)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Waits for nothing: neither for a server nor for a name that is being resolved.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

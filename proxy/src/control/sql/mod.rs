//! The authority's store in a database that speaks SQL: what SQLite and PostgreSQL have in common, which
//! is everything but the connection and the schema.
//!
//! # Contract
//! - A [`Database`] is one connection. Every method of [`Store`](crate::protocol::store::Store) is one transaction on it
//!   ([`SqlStore`]), and a change, its audit row and the head of the audit are the same one.
//! - Of all transactions that change something, one runs at a time, also where several processes share
//!   the database: [`Database::begin`] waits for its turn. So what is read in one holds until it commits,
//!   serials and numbers rise in the order of commits, and the chain of the audit has one end. A turn
//!   is a few statements; a project needs some changes a minute for a thousand members.
//! - Who may do what is decided by the shared rules ([`rules`](crate::protocol::store::rules)), with the
//!   clock of the process that asks. Nothing depends on the order of two processes' clocks: what must
//!   rise is counted here.
//! - What was stored was checked before; what is read is checked again, because a database can be
//!   damaged or edited.
//!
//! | module | what it holds |
//! |---|---|
//! | [`value`] | what goes in and comes out |
//! | [`rows`] | rows to values of the protocol and back |
//! | [`store`] | the methods |
//! | [`enroll`] | redemptions, members, serials |
//! | [`revocation`] | revocations and beacons |
//! | [`audit`] | the audit's rows and head |

pub(super) mod audit;
mod enroll;
mod revocation;
mod rows;
mod store;
pub mod value;

pub use value::{Row, Value};

use crate::protocol::store::StoreError;

/// The version of the tables, in either database; each knows how to bring older ones up.
pub(super) const VERSION: i64 = 3;

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Several reads of one state.
    Read,
    /// A change: the only one at its time.
    Change,
}

/// A connection to a database with the store's tables, outside of or in one transaction. Parameters of a
/// query are `?1`, `?2` ….
pub trait Database: Send {
    /// Begins a transaction.
    ///
    /// # Errors
    /// The database is not reached, or other changes took too long.
    fn begin(&mut self, purpose: Purpose) -> Result<(), StoreError>;

    /// Ends it; what it changed is durable when this returns.
    ///
    /// # Errors
    /// The database's. Whether it was carried out is unknown if it was lost on the way: a node that asks
    /// again is told.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Takes it back.
    fn rollback(&mut self);

    /// Runs a statement; returns how many rows it changed.
    ///
    /// # Errors
    /// The database's.
    fn execute(&mut self, query: &str, values: &[Value]) -> Result<u64, StoreError>;

    /// Runs a statement that gives rows.
    ///
    /// # Errors
    /// The database's.
    fn query(&mut self, query: &str, values: &[Value]) -> Result<Vec<Row>, StoreError>;

    /// Whether other processes may be using it at the same time.
    fn is_shared(&self) -> bool;
}

/// The store on a database. See the module.
#[derive(Debug)]
pub struct SqlStore<D> {
    database: D,
    /// Numbers of beacons taken from a database that is nobody else's, and not used up.
    beacons: Option<revocation::Beacons>,
}

impl<D: Database> SqlStore<D> {
    /// The store on a database whose tables are there.
    pub fn new(database: D) -> SqlStore<D> {
        SqlStore {
            database,
            beacons: None,
        }
    }

    /// The database under it, for tests that look behind the store.
    #[cfg(test)]
    pub(super) fn database(&mut self) -> &mut D {
        &mut self.database
    }

    /// Runs `work` in a transaction, which is taken back when it fails.
    fn within<T>(
        &mut self,
        purpose: Purpose,
        work: impl FnOnce(&mut D) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.database.begin(purpose)?;
        let done = work(&mut self.database).and_then(|done| {
            self.database.commit()?;
            Ok(done)
        });
        if done.is_err() {
            self.database.rollback();
        }
        done
    }

    fn change<T>(
        &mut self,
        work: impl FnOnce(&mut D) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.within(Purpose::Change, work)
    }

    fn read<T>(
        &mut self,
        work: impl FnOnce(&mut D) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.within(Purpose::Read, work)
    }
}

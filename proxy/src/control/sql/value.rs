//! What goes into a database and comes out of it: integers of 64 bits, texts, bytes, and nothing.

use std::str::FromStr;
use std::sync::Arc;

use crypto::UnixTime;

use crate::protocol::store::StoreError;

/// A value of a column or parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// Times, serials, counts.
    Integer(i64),
    /// Names and lists.
    Text(String),
    /// Ids and hashes.
    Bytes(Vec<u8>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Integer(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Value {
        Value::Bytes(value.to_vec())
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Value {
        Value::Bytes(value.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// Parameters of a query.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::control::sql::Value::from($value)),*] };
}
pub(super) use values;

/// Times, serials and counts as the databases' signed integers.
pub(super) fn integer(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Refused("a number is too large".into()))
}

/// A value that makes no sense in its column.
pub(super) fn damaged(column: &str) -> StoreError {
    StoreError::Damaged(format!(
        "the column {column} holds something else than it should"
    ))
}

/// A row that a query gave.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    /// A row of so many values as there are columns.
    pub fn new(columns: Arc<[String]>, values: Vec<Value>) -> Row {
        Row { columns, values }
    }

    fn get(&self, column: &str) -> Result<&Value, StoreError> {
        let at = self.columns.iter().position(|name| name == column);
        at.and_then(|at| self.values.get(at))
            .ok_or_else(|| StoreError::Damaged(format!("there is no column {column}")))
    }

    /// Nothing where the column is NULL.
    fn optional<T>(
        &self,
        column: &str,
        read: impl FnOnce(&Self) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match self.get(column)? {
            Value::Null => Ok(None),
            Value::Integer(_) | Value::Text(_) | Value::Bytes(_) => read(self).map(Some),
        }
    }

    /// A number.
    pub(super) fn unsigned(&self, column: &str) -> Result<u64, StoreError> {
        match self.get(column)? {
            Value::Integer(value) => u64::try_from(*value).map_err(|_| damaged(column)),
            Value::Null | Value::Text(_) | Value::Bytes(_) => Err(damaged(column)),
        }
    }

    /// A time.
    pub(super) fn time(&self, column: &str) -> Result<UnixTime, StoreError> {
        self.unsigned(column).map(UnixTime)
    }

    /// A time, if there is one.
    pub(super) fn optional_time(&self, column: &str) -> Result<Option<UnixTime>, StoreError> {
        self.optional(column, |row| row.time(column))
    }

    /// A text.
    pub(super) fn text(&self, column: &str) -> Result<&str, StoreError> {
        match self.get(column)? {
            Value::Text(text) => Ok(text),
            Value::Null | Value::Integer(_) | Value::Bytes(_) => Err(damaged(column)),
        }
    }

    /// A text, if there is one.
    pub(super) fn optional_text(&self, column: &str) -> Result<Option<&str>, StoreError> {
        match self.get(column)? {
            Value::Null => Ok(None),
            Value::Integer(_) | Value::Text(_) | Value::Bytes(_) => self.text(column).map(Some),
        }
    }

    /// A text that is read as something.
    pub(super) fn parsed<T: FromStr>(&self, column: &str) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|_| damaged(column))
    }

    /// The same, if there is one.
    pub(super) fn optional_parsed<T: FromStr>(
        &self,
        column: &str,
    ) -> Result<Option<T>, StoreError> {
        self.optional(column, |row| row.parsed(column))
    }

    /// Bytes.
    pub(super) fn bytes(&self, column: &str) -> Result<&[u8], StoreError> {
        match self.get(column)? {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Null | Value::Integer(_) | Value::Text(_) => Err(damaged(column)),
        }
    }

    /// So many bytes.
    pub(super) fn array<const N: usize>(&self, column: &str) -> Result<[u8; N], StoreError> {
        let bytes = self.bytes(column)?;
        bytes.try_into().map_err(|_| damaged(column))
    }

    /// So many bytes, if there are any.
    pub(super) fn optional_array<const N: usize>(
        &self,
        column: &str,
    ) -> Result<Option<[u8; N]>, StoreError> {
        self.optional(column, |row| row.array(column))
    }
}

//! How statements reach a database, and what its dialect makes of them.

use std::borrow::Cow;
use std::fmt;

/// See [`LIGHT`].
macro_rules! light {
    () => {
        " AND set_config('synchronous_commit', 'off', true) IS NOT NULL"
    };
}
pub(super) use light;

/// A condition that is always true: a change under it is there at once, and on the disk a little later, before whatever
/// waits for the disk. To SQLite that is said beforehand, by its
/// [`synchronous`](https://www.sqlite.org/pragma.html#pragma_synchronous).
pub const LIGHT: &str = light!();

/// A database that this component reaches.
pub trait Database {
    fn dialect(&self) -> Dialect;

    /// Runs one statement with its parameters, `$1` and so on.
    fn query(&self, statement: &str, parameters: &[Value]) -> Result<Vec<Row>, Failure>;
}

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    #[cfg_attr(feature = "wasmcloud", allow(dead_code, reason = "that build has PostgreSQL alone"))]
    Sqlite,
}

/// What a statement takes and gives. Nothing else is asked for: not every host hands over other types as they
/// are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Why a statement was not run.
#[derive(Debug)]
pub enum Failure {
    /// Others hold what it needs; it has done nothing.
    Busy,
    Other(String),
}

/// A row of values.
#[derive(Debug)]
pub struct Row(Vec<Value>);

impl Failure {
    /// What PostgreSQL says with this [code](https://www.postgresql.org/docs/current/errcodes-appendix.html).
    pub fn of_postgres(code: &str, message: String) -> Failure {
        match code {
            // A serialization failure, a deadlock, a lock that was not to be had, too long a wait; no connection
            // left, no connection yet: nothing was done.
            "40001" | "40P01" | "55P03" | "57014" | "53300" | "57P03" => Failure::Busy,
            _ => Failure::Other(message),
        }
    }
}

impl Dialect {
    /// A statement as this database understands it. They are written for PostgreSQL. A parameter that stands alone
    /// after `LIMIT` or `LIKE` would make SQLite plan the statement anew for each value; an expression does not.
    pub fn adapt(self, statement: &str) -> Cow<'_, str> {
        match self {
            Dialect::Postgres => statement.into(),
            // Its statements run one after the other; so there is nothing to lock.
            Dialect::Sqlite => statement
                .replace(LIGHT, "")
                .replace(" FOR UPDATE SKIP LOCKED", "")
                .replace(" FOR SHARE", "")
                .replace("GREATEST(", "max(")
                .replace("strpos(", "instr(")
                .replace("BYTEA", "BLOB")
                // The row's own number: no other index.
                .replace("BIGINT PRIMARY KEY", "INTEGER PRIMARY KEY")
                .replace('$', "?")
                .into(),
        }
    }
}

impl Row {
    pub fn new(values: Vec<Value>) -> Row {
        Row(values)
    }

    /// The text in this column.
    pub fn text(&self, column: usize) -> Result<&str, Failure> {
        self.text_if_any(column)?.ok_or_else(|| self.unexpected(column))
    }

    pub fn text_if_any(&self, column: usize) -> Result<Option<&str>, Failure> {
        match self.0.get(column) {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.unexpected(column)),
        }
    }

    /// The number in this column.
    pub fn integer(&self, column: usize) -> Result<i64, Failure> {
        self.integer_if_any(column)?.ok_or_else(|| self.unexpected(column))
    }

    pub fn integer_if_any(&self, column: usize) -> Result<Option<i64>, Failure> {
        match self.0.get(column) {
            Some(Value::Integer(number)) => Ok(Some(*number)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.unexpected(column)),
        }
    }

    /// The bytes in this column; none if there are none.
    pub fn bytes(&self, column: usize) -> Result<Vec<u8>, Failure> {
        match self.0.get(column) {
            Some(Value::Bytes(bytes)) => Ok(bytes.clone()),
            Some(Value::Null) => Ok(Vec::new()),
            _ => Err(self.unexpected(column)),
        }
    }

    fn unexpected(&self, column: usize) -> Failure {
        let what = match self.0.get(column) {
            None => "nothing",
            Some(Value::Null) => "NULL",
            Some(Value::Integer(_)) => "a number",
            Some(Value::Text(_)) => "text",
            Some(Value::Bytes(_)) => "bytes",
        };
        Failure::Other(format!("unexpected value in column {column} of its answer: {what}"))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Integer(number)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Value {
        Value::Bytes(bytes)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Busy => f.write_str("it is busy"),
            Failure::Other(text) => f.write_str(text),
        }
    }
}

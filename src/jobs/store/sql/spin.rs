//! Databases as Spin gives them to its components.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use spin_sdk::{pg4, sqlite};

use super::database::{Database, Dialect, Failure, Row, Value};

/// For how long SQLite itself waits for others, in milliseconds. It would sleep for longer and longer, for 100 ms at
/// last, while others who have come later overtake: after this it is for our own pauses.
const PATIENCE: u32 = 20;

/// One of Spin's SQLite databases, by a connection of this invocation's own.
pub struct Sqlite {
    name: String,
    connection: OnceCell<sqlite::Connection>,
}

/// A PostgreSQL database, by a connection from Spin's pool.
pub struct Postgres {
    url: String,
    /// The connection, until something goes wrong with it.
    connection: RefCell<Option<Rc<pg4::Connection>>>,
}

impl Sqlite {
    pub fn new(name: &str) -> Sqlite {
        Sqlite { name: name.into(), connection: OnceCell::new() }
    }

    fn connection(&self) -> Result<&sqlite::Connection, Failure> {
        if let Some(connection) = self.connection.get() {
            return Ok(connection);
        }
        // That a commit is on the disk before it counts is its default.
        let open = || {
            let connection = sqlite::Connection::open(&self.name)?;
            connection.execute(&format!("PRAGMA busy_timeout = {PATIENCE}"), &[])?;
            Ok(connection)
        };
        let connection = open().map_err(|error| self.failure(error))?;
        Ok(self.connection.get_or_init(|| connection))
    }

    fn failure(&self, error: sqlite::Error) -> Failure {
        let name = &self.name;
        match error {
            sqlite::Error::NoSuchDatabase => {
                Failure::Other(format!("no database `{name}` (name it in Spin's runtime configuration)"))
            }
            sqlite::Error::AccessDenied => Failure::Other(format!(
                "no access to database `{name}` (name it under sqlite_databases in spin.toml)"
            )),
            sqlite::Error::InvalidConnection => Failure::Other("invalid connection".into()),
            sqlite::Error::DatabaseFull => Failure::Other("the database is full".into()),
            sqlite::Error::Io(text) if text.contains("locked") || text.contains("Busy") => Failure::Busy,
            sqlite::Error::Io(text) => Failure::Other(text),
        }
    }
}

impl Database for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn query(&self, statement: &str, parameters: &[Value]) -> Result<Vec<Row>, Failure> {
        let parameters: Vec<_> = parameters.iter().cloned().map(Into::into).collect();
        let result = self.connection()?.execute(statement, &parameters);
        let result = result.map_err(|error| self.failure(error))?;
        let row = |row: sqlite::RowResult| Row::new(row.values.into_iter().map(Into::into).collect());
        Ok(result.rows.into_iter().map(row).collect())
    }
}

impl From<Value> for sqlite::Value {
    fn from(value: Value) -> sqlite::Value {
        match value {
            Value::Null => sqlite::Value::Null,
            Value::Integer(number) => sqlite::Value::Integer(number),
            Value::Text(text) => sqlite::Value::Text(text),
            Value::Bytes(bytes) => sqlite::Value::Blob(bytes),
        }
    }
}

impl From<sqlite::Value> for Value {
    fn from(value: sqlite::Value) -> Value {
        match value {
            sqlite::Value::Null => Value::Null,
            sqlite::Value::Integer(number) => Value::Integer(number),
            sqlite::Value::Real(number) => Value::Text(number.to_string()), // No statement gives one.
            sqlite::Value::Text(text) => Value::Text(text),
            sqlite::Value::Blob(bytes) => Value::Bytes(bytes),
        }
    }
}

impl Postgres {
    /// No statement takes longer than 5 s, and no connecting either, unless the URL has it otherwise.
    pub fn new(url: &str) -> Postgres {
        let mut url = url.to_owned();
        for (name, value) in [("connect_timeout", "5"), ("options", "-c%20statement_timeout%3D5s")] {
            if !url.contains(&format!("{name}=")) {
                url.push(if url.contains('?') { '&' } else { '?' });
                url.push_str(&format!("{name}={value}"));
            }
        }
        Postgres { url, connection: RefCell::default() }
    }

    fn connection(&self) -> Result<Rc<pg4::Connection>, Failure> {
        if let Some(connection) = &*self.connection.borrow() {
            return Ok(connection.clone());
        }
        let connection = Rc::new(pg4::Connection::open(&self.url).map_err(failure)?);
        self.connection.replace(Some(connection.clone()));
        Ok(connection)
    }

    /// What went wrong. The server may have gone: the next statement takes another connection.
    fn failure(&self, error: pg4::PgError) -> Failure {
        let failure = failure(error);
        if let Failure::Other(_) = failure {
            self.connection.take();
        }
        failure
    }
}

impl Database for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn query(&self, statement: &str, parameters: &[Value]) -> Result<Vec<Row>, Failure> {
        let parameters: Vec<_> = parameters.iter().cloned().map(Into::into).collect();
        let connection = self.connection()?;
        let has_rows = statement.starts_with("SELECT") || statement.contains(" RETURNING ");
        if !has_rows || statement.starts_with("DO ") {
            return connection
                .execute(statement, &parameters)
                .map(|_| Vec::new())
                .map_err(|error| self.failure(error));
        }
        // Spin 4.0 waits forever for the first row of an answer that has none: one more, of nothing, comes then.
        let statement = format!(
            "WITH answer AS ({statement}) SELECT rows.* FROM (SELECT 1) AS one \
             LEFT JOIN (SELECT answer.*, CAST(1 AS BIGINT) FROM answer) AS rows ON true"
        );
        let mut rows = connection.query(&statement, &parameters).map_err(|error| self.failure(error))?.rows;
        rows.retain(|row| !matches!(row.last(), None | Some(pg4::DbValue::DbNull)));
        let row = |mut row: Vec<_>| {
            row.pop();
            Ok(Row::new(row.into_iter().map(value).collect::<Result<_, _>>()?))
        };
        rows.into_iter().map(row).collect()
    }
}

impl From<Value> for pg4::ParameterValue {
    fn from(value: Value) -> pg4::ParameterValue {
        match value {
            Value::Null => pg4::ParameterValue::DbNull,
            Value::Integer(number) => pg4::ParameterValue::Int64(number),
            Value::Text(text) => pg4::ParameterValue::Str(text),
            Value::Bytes(bytes) => pg4::ParameterValue::Binary(bytes),
        }
    }
}

fn value(value: pg4::DbValue) -> Result<Value, Failure> {
    match value {
        pg4::DbValue::DbNull => Ok(Value::Null),
        pg4::DbValue::Int64(number) => Ok(Value::Integer(number)),
        pg4::DbValue::Str(text) => Ok(Value::Text(text)),
        pg4::DbValue::Binary(bytes) => Ok(Value::Bytes(bytes)),
        _ => Err(Failure::Other("unexpected type in its answer".into())),
    }
}

/// What went wrong, without the URL and what is in it.
fn failure(error: pg4::PgError) -> Failure {
    match error {
        pg4::PgError::QueryFailed(pg4::QueryError::DbError(error)) => {
            Failure::of_postgres(&error.code, format!("{} ({})", error.message, error.code))
        }
        pg4::PgError::QueryFailed(pg4::QueryError::Text(text)) => of_text(text),
        pg4::PgError::ConnectionFailed(text) => {
            Failure::Other(format!("no connection: {}", first_line(&text)))
        }
        pg4::PgError::BadParameter(text)
        | pg4::PgError::ValueConversionFailed(text)
        | pg4::PgError::Other(text) => of_text(text),
    }
}

/// What went wrong after the first row was awaited: Spin gives PostgreSQL's answer as a text then.
fn of_text(text: String) -> Failure {
    let between =
        |begin| text.split_once(begin).and_then(|(_, rest)| rest.split_once('"')).map(|(word, _)| word);
    match (between("code: \""), between("message: \"")) {
        (Some(code), Some(message)) => Failure::of_postgres(code, format!("{message} ({code})")),
        _ => Failure::Other(first_line(&text).to_owned()),
    }
}

/// An error without its causes, which say it again.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

//! The PostgreSQL database that wasmCloud gives to its components.

use super::database::{Database, Dialect, Failure, Row, Value};
use wasmcloud::postgres::query::query;
use wasmcloud::postgres::types::{PgValue, QueryError, ResultRow};

mod bindings {
    wit_bindgen::generate!({
        path: "wit/deps/wasmcloud-postgres",
        inline: "package afterack:bindings; world database { import wasmcloud:postgres/query@0.1.1-draft; }",
        generate_all,
    });
}
use bindings::wasmcloud;

/// The database, by connections from the host's pool: each statement may take another.
pub struct Postgres;

impl Database for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn query(&self, statement: &str, parameters: &[Value]) -> Result<Vec<Row>, Failure> {
        let parameters: Vec<_> = parameters.iter().cloned().map(Into::into).collect();
        let row = |row: ResultRow| {
            let values: Result<_, _> = row.into_iter().map(|entry| value(entry.value)).collect();
            values.map(Row::new)
        };
        query(statement, &parameters).map_err(failure)?.into_iter().map(row).collect()
    }
}

impl From<Value> for PgValue {
    fn from(value: Value) -> PgValue {
        match value {
            Value::Null => PgValue::Null,
            Value::Integer(number) => PgValue::Int8(number),
            Value::Text(text) => PgValue::Text(text),
            Value::Bytes(bytes) => PgValue::Bytea(bytes),
        }
    }
}

fn value(value: PgValue) -> Result<Value, Failure> {
    match value {
        PgValue::Null => Ok(Value::Null),
        PgValue::BigInt(number) | PgValue::Int8(number) => Ok(Value::Integer(number)),
        PgValue::Text(text) => Ok(Value::Text(text)),
        PgValue::Bytea(bytes) => Ok(Value::Bytes(bytes)),
        _ => Err(Failure::Other("unexpected type in its answer".into())),
    }
}

/// What went wrong. The host gives it as a text, with PostgreSQL's code in it if it comes from there:
/// `query failed: 40001: could not serialize access`.
fn failure(error: QueryError) -> Failure {
    let (QueryError::InvalidParams(text) | QueryError::InvalidQuery(text) | QueryError::Unexpected(text)) =
        error;
    let is_code = |part: &&str| part.len() == 5 && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match text.split(": ").find(is_code) {
        Some(code) => Failure::of_postgres(code, text.clone()),
        None => Failure::Other(text),
    }
}

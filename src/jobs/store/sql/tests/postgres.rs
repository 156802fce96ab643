//! The suite on a PostgreSQL server.

use std::cell::RefCell;
use std::error::Error;
use std::sync::{Mutex, OnceLock};

use postgres::Client;
use postgres::types::private::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::super::*;
use super::cluster::Cluster;
use super::plans::{ENDED, Explained, exercise, fill, leaves_jobs_out};
use crate::jobs::host::tests::Native;
use crate::jobs::store::suite::*;

suite!(Schema);

/// A schema of its own, which goes when it is dropped.
struct Schema(String);

/// A connection to the server.
struct Postgres(RefCell<Client>);

/// The server that all tests share.
fn server() -> String {
    static SERVER: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let options = "-c fsync=off -c max_connections=400";
    SERVER.get_or_init(|| Cluster::start(options).into()).lock().unwrap().url()
}

fn connect(options: &str) -> Client {
    super::cluster::connect(&format!("{}?options={options}", server()))
}

impl Schema {
    fn client(&self) -> Client {
        connect(&format!("-c%20search_path%3D{}", self.0))
    }

    fn count(&self, statement: &str) -> usize {
        self.client().query_one(statement, &[]).unwrap().get::<_, i64>(0) as usize
    }
}

impl Fixture for Schema {
    fn unmade() -> Schema {
        let schema = Schema(format!("s{}", Id::new(&Native).to_string().replace('-', "")));
        connect("").batch_execute(&format!("CREATE SCHEMA {}", schema.0)).unwrap();
        schema
    }

    fn store(&self) -> Box<dyn Store> {
        Box::new(Sql::new(Postgres(self.client().into()), Rc::new(Native)))
    }

    fn jobs(&self) -> usize {
        self.count("SELECT count(*) FROM afterack_jobs")
    }

    fn leftovers(&self) -> usize {
        self.count(super::LEFTOVERS)
    }

    fn dump(&self) -> Vec<(String, Vec<u8>)> {
        let mut client = self.client();
        let mut dump = Vec::new();
        for table in super::TABLES {
            let rows = client.query(&format!("SELECT t::text FROM afterack_{table} t"), &[]).unwrap();
            dump.extend(rows.iter().map(|row| (table.to_owned(), row.get::<_, String>(0).into_bytes())));
        }
        dump.sort();
        dump
    }

    fn bring_back_key(&self, _: &str, _: Id) {}
}

impl Drop for Schema {
    fn drop(&mut self) {
        let _ = connect("").batch_execute(&format!("DROP SCHEMA {} CASCADE", self.0));
    }
}

impl Database for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn query(&self, statement: &str, parameters: &[Value]) -> std::result::Result<Vec<Row>, Failure> {
        let parameters: Vec<_> = parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let failure = |error: postgres::Error| {
            let text = format!("{error}: {:?}", error.source());
            match error.code() {
                Some(code) => Failure::of_postgres(code.code(), text),
                None => Failure::Other(text),
            }
        };
        let rows = self.0.borrow_mut().query(statement, &parameters).map_err(failure)?;
        let value = |row: &postgres::Row, column: usize| match *row.columns()[column].type_() {
            Type::INT8 => row.get::<_, Option<i64>>(column).into(),
            Type::TEXT => row.get::<_, Option<String>>(column).into(),
            Type::BYTEA => row.get::<_, Option<Vec<u8>>>(column).into(),
            ref other => panic!("no statement gives {other}: {statement}"),
        };
        let row = |row: &postgres::Row| Row::new((0..row.len()).map(|column| value(row, column)).collect());
        Ok(rows.iter().map(row).collect())
    }
}

/// As hosts hand parameters over: in the binary form of what they are, whatever the statement expects.
impl ToSql for Value {
    fn to_sql(
        &self,
        type_: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn Error + Sync + Send>> {
        let (expected, result) = match self {
            Value::Null => return Ok(IsNull::Yes),
            Value::Integer(number) => (Type::INT8, number.to_sql(type_, out)),
            Value::Text(text) => (Type::TEXT, text.to_sql(type_, out)),
            Value::Bytes(bytes) => (Type::BYTEA, bytes.to_sql(type_, out)),
        };
        assert_eq!(*type_, expected, "the parameter {self:?}");
        result
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[test]
fn no_statement_reads_more_when_more_jobs_have_ended() {
    let schema = Schema::new();
    let numbers = format!("SELECT n FROM generate_series(1, {ENDED}) AS n");
    for statement in fill(&numbers, "lpad(to_hex(n), 12, '0')") {
        schema.client().batch_execute(&statement).unwrap();
    }
    schema.client().batch_execute("ANALYZE").unwrap();
    let plans = Rc::default();
    let database = Explained { database: Postgres(schema.client().into()), plans: Rc::clone(&plans) };
    exercise(&Sql::new(database, Rc::new(Native)));
    let plans = plans.borrow();
    for (statement, plan) in plans.iter() {
        for table in ["afterack_runs", "afterack_jobs", "afterack_steps"] {
            assert!(!plan.contains(&format!("Seq Scan on {table}")), "{statement}\n{plan}");
        }
        assert!(!leaves_jobs_out(statement, plan), "{statement}\n{plan}");
    }
    assert!(plans.len() > 30);
}

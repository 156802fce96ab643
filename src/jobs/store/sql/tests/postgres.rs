//! The suite on a PostgreSQL server.

use std::cell::RefCell;
use std::error::Error;
use std::sync::{Arc, Mutex, OnceLock};

use postgres::types::private::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, NoTls};

use super::super::*;
use super::cluster::Cluster;
use super::plans::{ENDED, Explained, exercise, fill, leaves_jobs_out, queue};
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

    /// A connection that says how each statement was run, those of functions as well: in the way that is right for all
    /// values, as after some calls.
    fn explained(&self, said: Arc<Mutex<Vec<String>>>) -> Client {
        let functions = "SELECT format('ALTER FUNCTION %s SET plan_cache_mode = force_generic_plan', \
                         p.oid::regprocedure) FROM pg_proc p WHERE pronamespace = current_schema()::regnamespace";
        let mut client = self.client();
        for row in client.query(functions, &[]).unwrap() {
            client.batch_execute(row.get(0)).unwrap();
        }
        let url = format!("{}?options=-c%20search_path%3D{}", server(), self.0);
        let mut config: Config = url.parse().unwrap();
        config.notice_callback(move |notice| said.lock().unwrap().push(notice.message().to_owned()));
        let mut client = config.connect(NoTls).unwrap();
        let settings = "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on; \
                        SET auto_explain.log_timing = off; SET auto_explain.log_nested_statements = on; \
                        SET client_min_messages = log";
        client.batch_execute(settings).unwrap();
        client
    }

    /// Runs statements that record many jobs.
    fn fill(&self, statements: &[String]) {
        let mut client = self.client();
        for statement in &schema::begin_by_trigger() {
            client.batch_execute(statement).unwrap();
        }
        for statement in statements {
            client.batch_execute(statement).unwrap();
        }
        client.batch_execute("DROP TRIGGER afterack_begin ON afterack_jobs").unwrap();
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

/// Whether a plan that was carried out has read many rows, though it does not count, or only to leave them out.
fn reads_much(plan: &str) -> bool {
    const MUCH: f64 = 600.0;
    let number = |line: &str, before: &str| -> Option<f64> {
        line.rsplit_once(before)?.1.split([' ', ')']).next()?.parse().ok()
    };
    // A whole table of this size may be joined with the jobs that are removed.
    let may_read = plan.contains("DELETE FROM afterack_runs");
    let is_much = |line: &str| {
        let read = number(line, "actual rows=")
            .zip(number(line, " loops="))
            .map_or(0.0, |(rows, loops)| rows * loops);
        let left_out = number(line, "Rows Removed by Filter: ").unwrap_or(0.0);
        left_out > MUCH || !may_read && read > MUCH
    };
    !plan.contains("count(*)") && plan.lines().any(is_much)
}

#[test]
fn no_statement_reads_more_when_more_jobs_have_ended() {
    let schema = Schema::new();
    let numbers = format!("SELECT n FROM generate_series(1, {ENDED}) AS n");
    schema.fill(&fill(&numbers, "lpad(to_hex(n), 12, '0')"));
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

/// The database looks at its tables from time to time, and goes by what it saw then: that all jobs had ended, or that
/// all were waiting.
#[test]
fn no_statement_reads_more_when_more_jobs_wait_or_have_ended_since_the_database_looked() {
    const JOBS: usize = 20_000;
    let numbers = |jobs| format!("SELECT n FROM generate_series(1, {jobs}) AS n");
    let hexadecimal = "lpad(to_hex(n), 12, '0')";
    let (idle, ended) = (fill(&numbers(1000), hexadecimal), fill(&numbers(JOBS), hexadecimal));
    let queue = queue(&numbers(JOBS), hexadecimal);
    let off = ["jobs", "runs", "steps"]
        .map(|table| format!("ALTER TABLE afterack_{table} SET (autovacuum_enabled = off)"));
    for (before, after) in [(&idle[..], &queue[..]), (&queue, &ended)] {
        let schema = Schema::new();
        schema.fill(&[&off, before, &["ANALYZE".into()], after].concat());
        let said = Arc::default();
        let database = Postgres(schema.explained(Arc::clone(&said)).into());
        exercise(&Sql::new(database, Rc::new(Native)));
        let plans = said.lock().unwrap();
        for plan in plans.iter() {
            assert!(!reads_much(plan), "{plan}");
        }
        assert!(plans.len() > 60);
    }
}

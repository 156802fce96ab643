//! The suite on SQLite.

use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, StatementStatus, ToSql};

use super::super::*;
use super::plans::{ENDED, Explained, exercise, fill, queue};
use crate::jobs::host::tests::Native;
use crate::jobs::store::suite::*;

suite!(File);

/// A database file that goes when it is dropped.
struct File(PathBuf);

/// SQLite as a host embeds it.
pub struct Sqlite(pub Connection);

/// A connection that waits for nobody; to a URI, too.
pub fn open(path: impl AsRef<Path>) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    connection
}

impl File {
    fn connection(&self) -> Connection {
        open(&self.0)
    }

    /// Adds so many jobs that have ended, and then so many that wait.
    fn fill(&self, ended: usize, waiting: usize) {
        let numbers = |count| {
            format!(
                "WITH RECURSIVE m(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM m LIMIT {count}) SELECT n FROM m"
            )
        };
        let hexadecimal = "printf('%012x', n)";
        let ended = fill(&numbers(ended), hexadecimal).into_iter();
        for statement in ended.chain(queue(&numbers(waiting), hexadecimal)) {
            self.connection().execute(&statement, []).unwrap();
        }
    }

    fn count(&self, statement: &str) -> usize {
        let waits = self.connection();
        waits.busy_timeout(PATIENCE).unwrap();
        waits.query_row(statement, [], |row| row.get(0)).unwrap()
    }
}

impl Fixture for File {
    fn unmade() -> File {
        File(std::env::temp_dir().join(format!("afterack-{}.sqlite", Id::new(&Native))))
    }

    fn store(&self) -> Box<dyn Store> {
        Box::new(Sql::new(Sqlite(self.connection()), Rc::new(Native)))
    }

    fn jobs(&self) -> usize {
        self.count("SELECT count(*) FROM afterack_jobs")
    }

    fn leftovers(&self) -> usize {
        self.count(super::LEFTOVERS)
    }

    fn dump(&self) -> Vec<(String, Vec<u8>)> {
        let connection = self.connection();
        let mut dump = Vec::new();
        for table in super::TABLES {
            let mut statement = connection.prepare(&format!("SELECT * FROM afterack_{table}")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let values: Vec<_> =
                    (0..columns).map(|column| format!("{:?}", row.get_ref(column))).collect();
                dump.push((table.to_owned(), values.join(" ").into_bytes()));
            }
        }
        dump.sort();
        dump
    }

    fn bring_back_key(&self, _: &str, _: Id) {}
}

impl Drop for File {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.0.display()));
        }
    }
}

impl Database for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn query(&self, statement: &str, parameters: &[Value]) -> std::result::Result<Vec<Row>, Failure> {
        let run = || {
            let mut statement = self.0.prepare_cached(statement)?;
            let columns = statement.column_count();
            let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let values = (0..columns).map(|column| {
                    Ok(match row.get_ref(column)? {
                        ValueRef::Null => Value::Null,
                        ValueRef::Integer(number) => Value::Integer(number),
                        ValueRef::Real(_) => panic!("no statement gives a real number"),
                        ValueRef::Text(text) => Value::Text(String::from_utf8(text.into()).unwrap()),
                        ValueRef::Blob(bytes) => Value::Bytes(bytes.into()),
                    })
                });
                found.push(Row::new(values.collect::<rusqlite::Result<_>>()?));
            }
            Ok(found)
        };
        run().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Failure::Busy,
            _ => Failure::Other(error.to_string()),
        })
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

#[test]
fn no_statement_reads_more_when_more_jobs_have_ended() {
    let file = File::new();
    file.fill(ENDED, 0);
    let plans = Rc::default();
    let database = Explained { database: Sqlite(file.connection()), plans: Rc::clone(&plans) };
    exercise(&Sql::new(database, Rc::new(Native)));
    let plans = plans.borrow();
    // What waits and what is claimed may be read as a whole.
    let allowed =
        ["afterack_queue", "afterack_claims", "afterack_slots", "afterack_marks", "afterack_waiters"];
    for (statement, plan) in plans.iter() {
        for line in plan.lines().filter(|line| line.starts_with("SCAN")) {
            let is_short = allowed.iter().any(|name| line.contains(name)) || line.contains("afterack_totals");
            let is_of_jobs = ["afterack_runs", "afterack_jobs", "afterack_steps", " r", " j", " st"]
                .iter()
                .any(|name| line.contains(name));
            assert!(is_short || !is_of_jobs, "{statement}\n{plan}");
        }
    }
    assert!(plans.len() > 30);
}

#[test]
fn what_somebody_finds_out_anyway_waits_for_no_disk() {
    const FULL: i64 = 2;
    let file = File::new();
    let store = Sql::new(Sqlite(file.connection()), Rc::new(Native));
    let waits = || store.database.0.query_row("PRAGMA synchronous", [], |row| row.get(0)) == Ok(FULL);
    let id = Id::new(&Native);
    assert_eq!(store.put(id, &Input::default(), 9, now()).unwrap(), Put::New);
    assert!(waits());
    let slot = enter(&store);
    let mut job = claim(&store, &slot, Due::first(id));
    assert!(!waits());
    store.find(id).unwrap();
    assert!(!waits());
    store.save(&slot, &mut job).unwrap();
    assert!(waits());
    store.note(&slot, &mut job).unwrap();
    assert!(!waits());
    end(&mut job, State::Succeeded);
    save_end(&store, &slot, &mut job).unwrap();
    assert!(waits());
}

#[test]
fn somebody_keeps_it_open_and_another_one_after_half_of_that_time() {
    let file = File::new();
    let [one, other] = [0, 1].map(|_| Sql::new(Sqlite(file.connection()), Rc::new(Native)));
    let now = now();
    assert_eq!(one.linger(now).unwrap(), Duration::ZERO);
    one.open().unwrap();
    other.open().unwrap();
    assert_eq!(one.linger(now).unwrap(), LINGER);
    for time in [Duration::ZERO, LINGER / 4, LINGER / 2] {
        assert_eq!(other.linger(now + time).unwrap(), Duration::ZERO, "{time:?}");
    }
    let later = now + LINGER / 2 + SECOND;
    assert_eq!(other.linger(later).unwrap(), LINGER);
    assert_eq!(one.linger(later).unwrap(), Duration::ZERO);
    // Who said so by a clock that was ahead keeps nobody from it.
    assert_eq!(one.linger(now).unwrap(), LINGER);
}

/// A database that plans no statement anew for the values that it is run with, and takes few steps for each.
struct Frugal(Sqlite);

impl Database for Frugal {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn query(&self, statement: &str, parameters: &[Value]) -> std::result::Result<Vec<Row>, Failure> {
        const STEPS: i32 = 25_000;
        let result = self.0.query(statement, parameters);
        if result.is_ok() && !statement.starts_with("PRAGMA") {
            let cached = self.0.0.prepare_cached(statement).unwrap();
            assert_eq!(cached.get_status(StatementStatus::RePrepare), 0, "{statement}");
            let steps = cached.reset_status(StatementStatus::VmStep);
            // A job is recorded by an earlier count, unless the queue is full.
            let is_put = statement.starts_with("INSERT INTO afterack_jobs");
            let is_full = parameters.contains(&Value::Integer(i64::MAX));
            let counts = statement.contains("count(*)") && (!is_put || is_full);
            assert!(counts || steps < STEPS, "{steps} steps for {statement}");
        }
        result
    }
}

#[test]
fn no_statement_is_planned_anew_for_its_values_or_reads_more_when_more_jobs_wait() {
    let file = File::new();
    file.fill(1000, 20_000);
    exercise(&Sql::new(Frugal(Sqlite(file.connection())), Rc::new(Native)));
}

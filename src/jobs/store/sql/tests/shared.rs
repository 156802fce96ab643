//! A database in memory that the hosts of a simulation share.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::super::*;
use super::sqlite::{Sqlite, open};
use crate::jobs::store::model::Hook;

/// How many there have been.
static COUNT: AtomicU64 = AtomicU64::new(0);

#[derive(Clone)]
pub struct SharedSqlite {
    name: String,
    /// Without a connection to it, it would go.
    connection: Arc<Mutex<Sqlite>>,
}

/// A host's connection: others may come first before each statement. What fails with `ConnectionReset` is run, and
/// the answer to it is lost.
struct Hooked(Sqlite, Hook);

impl Database for Hooked {
    fn dialect(&self) -> Dialect {
        self.0.dialect()
    }

    fn query(&self, statement: &str, parameters: &[Value]) -> std::result::Result<Vec<Row>, Failure> {
        let hooked = (self.1)("run", statement);
        let is_run =
            hooked.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |()| true);
        let result = if is_run { self.0.query(statement, parameters) } else { Ok(Vec::new()) };
        hooked.map_err(|error| Failure::Other(error.to_string())).and(result)
    }
}

impl SharedSqlite {
    pub fn new() -> SharedSqlite {
        let name = format!("file:shared-{}?mode=memory&cache=shared", COUNT.fetch_add(1, Ordering::Relaxed));
        let connection = Arc::new(Mutex::new(Sqlite(open(&name))));
        SharedSqlite { name, connection }
    }

    /// A host's view of it.
    pub fn store(&self, hook: Hook, host: Rc<dyn Host>) -> Rc<dyn Store> {
        Rc::new(Sql::new(Hooked(Sqlite(open(&self.name)), hook), host))
    }

    /// All jobs: their ids, owners, what they wait for, and how far they have come.
    pub fn jobs(&self) -> Vec<(Id, Option<String>, i64, i64, Run)> {
        let rows = self.query("SELECT id, owner, kind, waits, run FROM afterack_runs");
        let job = |row: &Row| {
            let id = id(row, 0)?;
            let run = run_of(id, row.text(4)?).unwrap_or_default();
            Ok((id, row.text_if_any(1)?.map(str::to_owned), row.integer(2)?, row.integer(3)?, run))
        };
        rows.iter().map(job).collect::<std::result::Result<_, Failure>>().expect("rows of the schema")
    }

    /// All that is in it, for people.
    pub fn rows(&self) -> Vec<String> {
        let table = |table| {
            let rows = self.query(&format!("SELECT * FROM afterack_{table}"));
            rows.into_iter().map(move |row| format!("{table}: {row:?}"))
        };
        super::TABLES.into_iter().flat_map(table).collect()
    }

    /// Nothing, while somebody makes the tables.
    fn query(&self, statement: &str) -> Vec<Row> {
        let connection = self.connection.lock().unwrap_or_else(|poison| poison.into_inner());
        connection.query(statement, &[]).unwrap_or_default()
    }
}

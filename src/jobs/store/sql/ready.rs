//! Before anything else: is the schema there, and is it the one that this component knows?

use super::rows::failed;
use super::{Database, Dialect, Failure, Sql, schema};
use crate::jobs::store::Result;

impl<D: Database> Sql<D> {
    /// Looks at the schema, and makes it if there is none.
    pub(super) fn be_ready(&self) -> Result<()> {
        if self.is_ready.get() {
            return Ok(());
        }
        let doing = "looking at its schema in afterack_meta";
        let found = match self.schema_version() {
            // It may have been made since.
            Err(_) if self.has_schema()? => {
                self.schema_version().map_err(|failure| failed(doing, failure))?
            }
            found => found.unwrap_or_default(),
        };
        match found {
            Some(schema::VERSION) => {}
            Some(newer) if newer > schema::VERSION => {
                return Err(failed(doing, Failure::Other(newer_schema(newer))));
            }
            _ => self.make().or_else(|failure| match self.schema_version() {
                Ok(Some(schema::VERSION)) => Ok(()), // Somebody else was faster.
                _ => Err(failed("making its schema", failure)),
            })?,
        }
        self.is_ready.set(true);
        Ok(())
    }

    fn schema_version(&self) -> std::result::Result<Option<i64>, Failure> {
        let rows = self.query("SELECT version FROM afterack_meta", &[])?;
        rows.first().map(|row| row.integer(0)).transpose()
    }

    fn has_schema(&self) -> Result<bool> {
        let statement = match self.database.dialect() {
            Dialect::Sqlite => "SELECT count(*) FROM sqlite_master WHERE name = 'afterack_meta'",
            Dialect::Postgres => "SELECT count(to_regclass('afterack_meta'))",
        };
        let count =
            self.query(statement, &[]).and_then(|rows| rows.first().map_or(Ok(0), |row| row.integer(0)));
        count.map(|count| count > 0).map_err(|failure| failed("looking for its schema", failure))
    }

    /// Makes the schema: all of it, or nothing.
    fn make(&self) -> std::result::Result<(), Failure> {
        let statements = schema::statements(self.database.dialect());
        match self.database.dialect() {
            Dialect::Postgres => {
                // One statement, by one at a time; who comes second has nothing left to do.
                let lock = "PERFORM pg_advisory_xact_lock(hashtext('afterack'))";
                let is_there = "to_regclass('afterack_meta') IS NOT NULL";
                let is_made =
                    format!("EXISTS (SELECT 1 FROM afterack_meta WHERE version = {})", schema::VERSION);
                let leave = format!("IF {is_there} THEN IF {is_made} THEN RETURN; END IF; END IF");
                let all = statements.join("; ");
                self.query(&format!("DO $make$ BEGIN {lock}; {leave}; {all}; END $make$"), &[]).map(drop)
            }
            // Once set, that mode stays: who reads and who writes do not wait for each other, and a commit is
            // one sync.
            Dialect::Sqlite => self.query("PRAGMA journal_mode = WAL", &[]).and_then(|_| {
                self.query("BEGIN IMMEDIATE", &[])?;
                let mut all = statements.iter().map(String::as_str).chain(["COMMIT"]);
                let made = all.try_for_each(|statement| self.query(statement, &[]).map(drop));
                if made.is_err() {
                    let _ = self.query("ROLLBACK", &[]); // It may have been done already.
                }
                made
            }),
        }
    }
}

fn newer_schema(found: i64) -> String {
    format!(
        "its schema has version {found}, and this component knows {} (a newer one has been here)",
        schema::VERSION
    )
}

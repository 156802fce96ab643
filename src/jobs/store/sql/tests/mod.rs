//! The suite on real databases.

#[expect(dead_code, reason = "the tests with hosts use more of it")]
#[path = "../../../../../tests/cluster.rs"]
mod cluster;
mod plans;
mod postgres;
mod shared;
mod sqlite;

pub use shared::SharedSqlite;

/// What belongs to no job.
const LEFTOVERS: &str = "SELECT (SELECT count(*) FROM afterack_damaged)
    + (SELECT count(*) FROM afterack_jobs WHERE id NOT IN (SELECT id FROM afterack_runs))
    + (SELECT count(*) FROM afterack_runs WHERE id NOT IN (SELECT id FROM afterack_jobs))
    + (SELECT count(*) FROM afterack_steps WHERE id NOT IN (SELECT id FROM afterack_jobs))";

/// The tables, but for those of clients that wait.
const TABLES: [&str; 9] = ["jobs", "runs", "steps", "slots", "marks", "retries", "totals", "meta", "damaged"];

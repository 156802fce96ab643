//! What is in a store, seen from beside the hosts that use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::cluster;
use crate::host::Kind;

/// The store that hosts of a kind keep in a folder, or in the database of its name.
pub enum Storage {
    Dir(PathBuf),
    Sqlite(PathBuf),
    Postgres(String),
}

impl Storage {
    pub fn of(kind: Kind, folder: &Path) -> Storage {
        match kind {
            Kind::Wasmtime | Kind::Wash => Storage::Dir(folder.into()),
            Kind::Spin => Storage::Sqlite(sqlite_in(folder)),
            Kind::WashPostgres | Kind::SpinPostgres => Storage::Postgres(cluster::database_of(folder)),
        }
    }

    /// The ids of all jobs that are recorded.
    pub fn jobs(&self) -> Vec<String> {
        self.found("jobs", "SELECT id FROM afterack_jobs")
    }

    /// How many jobs wait.
    pub fn waiting(&self) -> usize {
        let statement =
            "SELECT id FROM afterack_runs WHERE owner IS NULL AND due IS NOT NULL AND kind IN (0, 1)";
        self.found("queue", statement).len()
    }

    /// How many jobs have ended, and all have been told.
    pub fn done(&self) -> usize {
        let statement = "SELECT id FROM afterack_runs WHERE owner IS NULL AND due IS NULL AND ended <> ''";
        self.found("done", statement).len()
    }

    /// How many idempotency keys are in use.
    pub fn keys(&self) -> usize {
        self.found("keys", "SELECT key FROM afterack_jobs WHERE key IS NOT NULL").len()
    }

    /// How many retries of many jobs at once have not been seen to.
    pub fn retries(&self) -> usize {
        self.found("retries", "SELECT name FROM afterack_retries").iter().filter(|n| !n.contains('.')).count()
    }

    /// How many groups have a job whose turn it is, or one that waits for it.
    pub fn groups(&self) -> usize {
        self.found("turns", "SELECT DISTINCT grp FROM afterack_runs WHERE grp IS NOT NULL AND ended = ''")
            .len()
    }

    /// Where this is a part of a file's name, or in a row of a table of jobs.
    pub fn names_with(&self, text: &str) -> Vec<String> {
        match self {
            Storage::Dir(folder) => {
                let mut found = walk(folder);
                found.retain(|path| path.contains(text));
                found
            }
            _ => self.found("", &format!("SELECT id FROM afterack_runs WHERE id = '{text}'")),
        }
    }

    /// How many records were set aside.
    pub fn damaged(&self) -> usize {
        self.found("damaged", "SELECT id FROM afterack_damaged").len()
    }

    /// Makes it look as if somebody watched, who does not.
    pub fn hold_watch(&self) {
        let hold = "UPDATE afterack_slots SET token = COALESCE(token, 'dead'), beat = 7 WHERE role = 'watch'";
        let held = match self {
            Storage::Dir(folder) => {
                let slots = folder.join("slots");
                let watch = names(&slots).into_iter().find(|name| name.starts_with("watch")).unwrap();
                fs::rename(slots.join(watch), slots.join("watch.000000000000dead")).unwrap();
                return;
            }
            Storage::Sqlite(file) => open(file).execute(hold, []).unwrap(),
            Storage::Postgres(url) => cluster::connect(url).execute(hold, &[]).unwrap() as usize,
        };
        assert_eq!(held, 1);
    }

    /// What is in a folder of a spool directory, or what a database answers to this.
    fn found(&self, folder: &str, statement: &str) -> Vec<String> {
        match self {
            Storage::Dir(path) => names(&path.join(folder)),
            Storage::Sqlite(file) => {
                let connection = open(file);
                let mut statement = connection.prepare(statement).unwrap();
                statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
            }
            Storage::Postgres(url) => {
                let rows = cluster::connect(url).query(statement, &[]).unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The paths of all files and folders in a folder.
fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        found.extend(walk(&entry.path()));
    }
    found
}

/// The database that Spin keeps in a folder.
pub fn sqlite_in(folder: &Path) -> PathBuf {
    folder.join("sqlite_db.db")
}

/// A connection to a SQLite database.
pub fn open(file: &Path) -> Connection {
    let connection = Connection::open(file).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

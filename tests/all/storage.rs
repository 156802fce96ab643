//! What is in a store, seen from beside the hosts that use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::host::Kind;

/// The store that hosts of a kind keep in a folder.
pub struct Storage {
    kind: Kind,
    folder: PathBuf,
}

impl Storage {
    pub fn of(kind: Kind, folder: &Path) -> Storage {
        Storage { kind, folder: folder.into() }
    }

    /// The ids of all jobs that are recorded.
    pub fn jobs(&self) -> Vec<String> {
        if self.kind != Kind::Spin {
            return self.names("jobs");
        }
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT id FROM afterack_jobs").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// How many jobs wait.
    pub fn waiting(&self) -> usize {
        self.count("queue", "afterack_runs WHERE owner IS NULL AND due IS NOT NULL AND kind < 2")
    }

    /// How many jobs have ended, and all have been told.
    pub fn done(&self) -> usize {
        self.count("done", "afterack_runs WHERE owner IS NULL AND due IS NULL AND ended IS NOT NULL")
    }

    /// How many idempotency keys are in use.
    pub fn keys(&self) -> usize {
        self.count("keys", "afterack_jobs WHERE key IS NOT NULL")
    }

    /// How many records were set aside.
    pub fn damaged(&self) -> usize {
        self.count("damaged", "afterack_damaged")
    }

    /// Makes it look as if somebody watched, who does not.
    pub fn hold_watch(&self) {
        if self.kind == Kind::Spin {
            let hold =
                "UPDATE afterack_slots SET token = COALESCE(token, 'dead'), beat = 7 WHERE role = 'watch'";
            assert_eq!(self.connection().execute(hold, []).unwrap(), 1);
            return;
        }
        let slots = self.folder.join("slots");
        let watch = self.names("slots").into_iter().find(|name| name.starts_with("watch")).unwrap();
        fs::rename(slots.join(watch), slots.join("watch.000000000000dead")).unwrap();
    }

    fn count(&self, folder: &str, table: &str) -> usize {
        match self.kind {
            Kind::Spin => {
                let statement = format!("SELECT count(*) FROM {table}");
                self.connection().query_row(&statement, [], |row| row.get(0)).unwrap()
            }
            _ => self.names(folder).len(),
        }
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn connection(&self) -> Connection {
        let connection = Connection::open(self.folder.join("sqlite_db.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection
    }
}

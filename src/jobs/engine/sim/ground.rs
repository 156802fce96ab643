//! What the hosts of a history share: a disk that may lose its power, or a database.

use std::rc::Rc;

use super::world::SimHost;
use crate::jobs::job::{Id, Run};
use crate::jobs::store::model::{Disk, Hook, Model, run_in};
use crate::jobs::store::{Dir, SharedSqlite, Store};

#[derive(Clone)]
pub enum Ground {
    Disk(Disk),
    Database(SharedSqlite),
}

/// A job as it is there.
pub struct Seen {
    pub id: Id,
    pub place: String,
    /// It waits for its turn in its group.
    pub waits: bool,
    /// It can go on, or somebody runs it.
    pub is_active: bool,
    pub run: Run,
}

impl Ground {
    pub fn is_database(&self) -> bool {
        matches!(self, Ground::Database(_))
    }

    /// A host's view of it.
    pub fn store(&self, hook: Hook, host: Rc<SimHost>) -> Rc<dyn Store> {
        match self {
            Ground::Disk(disk) => Rc::new(Dir::new(Model::new(disk, hook), host)),
            Ground::Database(database) => database.store(hook, host),
        }
    }

    /// What is there, for people.
    pub fn content(&self) -> Vec<String> {
        match self {
            Ground::Disk(disk) => disk.files().into_iter().map(|(path, _)| path).collect(),
            Ground::Database(database) => database.rows(),
        }
    }

    /// All jobs, wherever they are; one that is in two places comes twice.
    pub fn jobs(&self) -> Vec<Seen> {
        match self {
            Ground::Disk(disk) => {
                disk.files().into_iter().filter_map(|(path, file)| seen(path, &file)).collect()
            }
            Ground::Database(database) => database
                .jobs()
                .into_iter()
                .map(|(id, owner, kind, waits, run)| {
                    let (waits, tells) = (owner.is_none() && waits == 2, kind == 2);
                    let place = owner.unwrap_or_default();
                    Seen { id, place, waits, is_active: !waits && !tells, run }
                })
                .collect(),
        }
    }
}

/// The job whose file this is.
fn seen(place: String, file: &[u8]) -> Option<Seen> {
    let (folder, name) = place.rsplit_once('/')?;
    let id = name.split('.').find_map(Id::parse)?;
    let top = folder.split('/').next()?;
    let is_own = ["queue", "outbox", "slots", "done", "gone", "fresh", "joining"].contains(&top);
    let waits = folder == "fresh" || folder == "queue/parked.bucket";
    let is_active = !waits && (top == "queue" || top == "slots" && name.len() == 36);
    is_own.then(|| Seen { id, waits, is_active, run: run_in(file), place })
}

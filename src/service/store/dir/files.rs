//! Files and folders under the store's root, with errors that say what was being done.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::time::Duration;

use super::super::{Result, StoreError};
use super::folder::Folder;
use super::record;
use crate::service::job::{Id, Job};
use crate::service::time::Time;

/// What is at a path.
pub struct About {
    pub length: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub changed: u64,
    pub is_folder: bool,
}

/// How much of a file is read for its head.
const BEGINNING: usize = 8192;

/// The files of a store. Paths are relative to its root.
#[derive(Debug)]
pub struct Files {
    folder: Folder,
}

/// The name of a job in the queue.
pub fn name(due: Time, id: Id) -> String {
    format!("{:013}.{id}", due.0)
}

pub fn parse_name(name: &str) -> Option<(Time, Id)> {
    Some((parse_time(name)?, Id::parse(name.split_once('.')?.1)?))
}

/// The time that a name begins with.
pub fn parse_time(name: &str) -> Option<Time> {
    Some(Time(name.split_once('.')?.0.parse().ok()?))
}

impl Files {
    pub fn new(root: String) -> Files {
        Files { folder: Folder::new(root) }
    }

    /// A path in `tmp` that nobody else uses. Its name begins with its time.
    pub fn unused(&self) -> String {
        format!("tmp/{}", Id::new())
    }

    pub fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.about(path)?.is_some())
    }

    pub fn is_file(&self, path: &str) -> Result<bool> {
        Ok(self.about(path)?.is_some_and(|about| !about.is_folder))
    }

    /// When something was put into a folder, or taken out of it, for the last time, in nanoseconds.
    pub fn changed(&self, folder: &str) -> Result<u64> {
        Ok(self.about(folder)?.map_or(0, |about| about.changed))
    }

    /// The length of a file, 0 if there is none.
    pub fn length(&self, path: &str) -> Result<u64> {
        Ok(self.about(path)?.map_or(0, |about| about.length))
    }

    fn about(&self, path: &str) -> Result<Option<About>> {
        if_any(self.folder.about(path)).map_err(|error| self.failed("looking for", path, error))
    }

    /// The names in a folder, in no order; none if there is no such folder: a slot's may be renamed
    /// before it is read.
    pub fn names(&self, path: &str) -> Result<Vec<String>> {
        match self.folder.list(path) {
            Ok(names) => Ok(names),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Ok(Vec::new())
            }
            Err(error) => Err(self.failed("listing", path, error)),
        }
    }

    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.folder.read(path, usize::MAX).map_err(|error| self.failed("reading", path, error))
    }

    pub fn read_if_any(&self, path: &str) -> Result<Option<Vec<u8>>> {
        if_any(self.folder.read(path, usize::MAX)).map_err(|error| self.failed("reading", path, error))
    }

    /// The first bytes of a file, enough for most heads.
    pub fn beginning(&self, path: &str) -> Result<Option<Vec<u8>>> {
        if_any(self.folder.read(path, BEGINNING)).map_err(|error| self.failed("reading", path, error))
    }

    /// Writes a whole file beside and renames it into place; if it is synced first, it is there, and
    /// whole, even after a crash.
    pub fn write(&self, path: &str, bytes: &[u8], synced: bool) -> Result<()> {
        let tmp = self.unused();
        let result = self
            .folder
            .create(&tmp, bytes, synced)
            .map_err(|error| self.failed("writing", &tmp, error))
            .and_then(|()| self.rename(&tmp, path));
        if result.is_err() {
            let _ = self.folder.remove(&tmp);
        }
        result
    }

    /// Writes a file that nobody looks for yet.
    pub fn write_in_place(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.folder.create(path, bytes, true).map_err(|error| {
            let _ = self.folder.remove(path);
            self.failed("writing", path, error)
        })
    }

    /// Writes a file unless there is one: whether it did.
    pub fn write_once(&self, path: &str, bytes: &[u8]) -> Result<bool> {
        let tmp = self.unused();
        let created = self.folder.create(&tmp, bytes, true);
        let linked =
            created.map_err(|error| self.failed("writing", path, error)).and_then(|()| self.link(&tmp, path));
        let _ = self.folder.remove(&tmp);
        linked
    }

    /// Gives a file a second name, unless that is in use: whether it did.
    pub fn link(&self, from: &str, to: &str) -> Result<bool> {
        match self.folder.link(from, to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(StoreError::Lost),
            Err(error) => Err(self.failed("linking", to, error)),
        }
    }

    /// Stores how far a job has come, in a new file in the place of the old one: whoever still has that
    /// one open can do no harm.
    pub fn save_anew(&self, path: &str, job: &mut Job) -> Result<()> {
        let (file, _) = next_version(job);
        self.write(path, &file, true)
    }

    /// Stores how far a job has come in the file that is there, if it fits, and else in a new one.
    pub fn save(&self, path: &str, job: &mut Job) -> Result<()> {
        let (file, changed) = next_version(job);
        let is_saved = match changed {
            Some(changed) => if_any(self.folder.overwrite(path, &file, changed))
                .map_err(|error| self.failed("writing", path, error))?
                .ok_or(StoreError::Lost)?,
            None => false,
        };
        if !is_saved {
            return self.write(path, &file, true);
        }
        // Who has taken it over since it was opened has moved it first.
        if self.exists(path)? { Ok(()) } else { Err(StoreError::Lost) }
    }

    /// Makes an empty file, unless there is one.
    pub fn touch(&self, path: &str) -> Result<()> {
        self.append(path, b"")
    }

    /// Appends a few bytes.
    pub fn append(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.folder.append(path, bytes).map_err(|error| self.failed("writing", path, error))
    }

    /// Renames; [`StoreError::Lost`] if one of the folders has gone, as slots do.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        if self.rename_if_any(from, to)? { Ok(()) } else { Err(StoreError::Lost) }
    }

    /// Renames what is there: whether it was.
    pub fn rename_if_any(&self, from: &str, to: &str) -> Result<bool> {
        match if_any(self.folder.rename(from, to)) {
            Ok(renamed) => Ok(renamed.is_some()),
            Err(error) => Err(self.failed("moving", from, error)),
        }
    }

    pub fn remove_if_any(&self, path: &str) -> Result<()> {
        if_any(self.folder.remove(path)).map(drop).map_err(|error| self.failed("removing", path, error))
    }

    pub fn make_folder(&self, path: &str) -> Result<()> {
        match self.folder.make_folder(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(self.failed("making", path, error)),
            Ok(()) => Ok(()),
        }
    }

    /// Removes a folder with all that is in it.
    pub fn remove_folder(&self, path: &str) -> Result<()> {
        for name in self.names(path)? {
            self.remove_all(&format!("{path}/{name}"))?;
        }
        if_any(self.folder.remove_folder(path))
            .map(drop)
            .map_err(|error| self.failed("removing", path, error))
    }

    /// Removes a folder unless something is in it.
    pub fn remove_if_empty(&self, path: &str) -> Result<()> {
        match if_any(self.folder.remove_folder(path)) {
            Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => {
                Err(self.failed("removing", path, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes what is at a path, a file or a folder.
    fn remove_all(&self, path: &str) -> Result<()> {
        match self.about(path)?.is_some_and(|about| about.is_folder) {
            true => self.remove_folder(path),
            false => self.remove_if_any(path),
        }
    }

    /// Moves what makes no sense out of the way, and says so.
    pub fn set_aside(&self, path: &str, reason: &str) -> Result<()> {
        let aside = self.aside(path, reason);
        self.rename_if_any(path, &aside).map(drop)
    }

    /// Keeps a copy of what makes no sense, where something must be, and says so.
    pub fn copy_aside(&self, path: &str, file: &[u8], reason: &str) -> Result<()> {
        let aside = self.aside(path, reason);
        self.write(&aside, file, false)
    }

    fn aside(&self, path: &str, reason: &str) -> String {
        let name = path.rsplit('/').next().unwrap_or_default();
        let aside = format!("damaged/{name}.{:08x}", Id::new().random());
        eprintln!("afterack: {}/{path}: {reason}; set aside as {aside}", self.folder.root());
        aside
    }

    /// Removes what was being written when something died.
    pub fn remove_leftovers(&self, now: Time, age: Duration) -> Result<()> {
        for name in self.names("tmp")? {
            if Id::parse(&name).is_some_and(|id| id.created() + age < now) {
                self.remove_all(&format!("tmp/{name}"))?;
            }
        }
        Ok(())
    }

    fn failed(&self, doing: &str, path: &str, error: io::Error) -> StoreError {
        StoreError::Failed { doing: format!("{doing} {}/{path}", self.folder.root()), error }
    }
}

/// The file of a job's next version, and what is new in it, if it is a pair.
fn next_version(job: &mut Job) -> (Vec<u8>, Option<Range<usize>>) {
    job.run.version += 1;
    job.run.updated = Time::now();
    record::paired(job.run.version, record::encode(&job.run, &job.run.bytes))
}

/// `None` for what is not there.
fn if_any<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

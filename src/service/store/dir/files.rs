//! Files and folders under the store's root, with errors that say what was being done.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::super::{Result, StoreError};
use super::record;
use crate::service::job::{Id, Job};
use crate::service::time::Time;

/// How much of a file is read for its head.
const BEGINNING: u64 = 8192;

/// The files of a store.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
}

/// The name of a job in the queue.
pub fn name(due: Time, id: Id) -> String {
    format!("{:013}.{id}", due.0)
}

pub fn parse_name(name: &str) -> Option<(Time, Id)> {
    let (due, id) = name.split_once('.')?;
    Some((Time(due.parse().ok()?), Id::parse(id)?))
}

impl Files {
    pub fn new(root: PathBuf) -> Files {
        Files { root }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// A path in `tmp` that nobody else uses. Its name begins with its time.
    pub fn unused(&self) -> PathBuf {
        self.path("tmp").join(Id::new().to_string())
    }

    pub fn exists(&self, name: impl AsRef<Path>) -> Result<bool> {
        let path = self.path(name);
        match if_any(fs::metadata(&path)) {
            Ok(found) => Ok(found.is_some()),
            Err(error) => Err(failed("looking for", &path, error)),
        }
    }

    /// When something was put into a folder, or taken out of it, for the last time, in nanoseconds.
    pub fn changed(&self, folder: &str) -> Result<u64> {
        let path = self.path(folder);
        let changed = fs::metadata(&path).and_then(|data| data.modified());
        let changed = changed.map_err(|error| failed("looking at", &path, error))?;
        Ok(changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64)
    }

    /// The length of a file, 0 if there is none.
    pub fn length(&self, path: PathBuf) -> Result<u64> {
        let found = if_any(fs::metadata(&path)).map_err(|error| failed("looking for", &path, error))?;
        Ok(found.map_or(0, |data| data.len()))
    }

    /// The names in a folder, in no order. Names that are not UTF-8 are nobody's.
    pub fn names(&self, folder: impl AsRef<Path>) -> Result<Vec<String>> {
        let path = self.path(folder);
        // A slot's folder may be renamed before it is read.
        let names = if_any(list(&path)).map_err(|error| failed("listing", &path, error))?;
        Ok(names.unwrap_or_default())
    }

    pub fn read(&self, path: &Path) -> Result<Vec<u8>> {
        fs::read(path).map_err(|error| failed("reading", path, error))
    }

    pub fn read_if_any(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
        if_any(fs::read(&path)).map_err(|error| failed("reading", path.as_ref(), error))
    }

    /// The first bytes of a file, enough for most heads.
    pub fn beginning(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
        let read = |path: &Path| {
            let mut beginning = Vec::new();
            File::open(path)?.take(BEGINNING).read_to_end(&mut beginning)?;
            Ok(beginning)
        };
        if_any(read(path.as_ref())).map_err(|error| failed("reading", path.as_ref(), error))
    }

    /// Writes a whole file beside and renames it into place; if it is synced first, it is there, and
    /// whole, even after a crash.
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8], synced: bool) -> Result<()> {
        let tmp = self.unused();
        let result = create(&tmp, bytes, synced)
            .map_err(|error| failed("writing", &tmp, error))
            .and_then(|()| self.rename(&tmp, path.as_ref()));
        if result.is_err() {
            let _ = fs::remove_file(&tmp);
        }
        result
    }

    /// Writes a file that nobody looks for yet.
    pub fn write_in_place(&self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        create(path.as_ref(), bytes, true).map_err(|error| {
            let _ = fs::remove_file(&path);
            failed("writing", path.as_ref(), error)
        })
    }

    /// Writes a file unless there is one: whether it did.
    pub fn write_once(&self, path: &Path, bytes: &[u8]) -> Result<bool> {
        let tmp = self.unused();
        let linked = create(&tmp, bytes, true).and_then(|()| fs::hard_link(&tmp, path));
        let _ = fs::remove_file(&tmp);
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(failed("writing", path, error)),
        }
    }

    /// Stores how far a job has come, where its file is.
    pub fn save(&self, path: &Path, job: &mut Job) -> Result<()> {
        job.run.version += 1;
        job.run.updated = Time::now();
        let file = record::encode(&job.run, &job.run.bytes);
        self.write(path, &file, true)
    }

    /// Makes an empty file, unless there is one.
    pub fn touch(&self, path: impl AsRef<Path>) -> Result<()> {
        self.append(path, b"")
    }

    pub fn append(&self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(bytes))
            .map_err(|error| failed("writing", path.as_ref(), error))
    }

    /// Renames; [`StoreError::Lost`] if one of the folders has gone, as slots do.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        if self.rename_if_any(&from, to)? { Ok(()) } else { Err(StoreError::Lost) }
    }

    /// Renames what is there: whether it was.
    pub fn rename_if_any(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<bool> {
        match if_any(fs::rename(&from, to)) {
            Ok(renamed) => Ok(renamed.is_some()),
            Err(error) => Err(failed("moving", from.as_ref(), error)),
        }
    }

    pub fn remove_if_any(&self, path: impl AsRef<Path>) -> Result<()> {
        match if_any(fs::remove_file(&path)) {
            Ok(_) => Ok(()),
            Err(error) => Err(failed("removing", path.as_ref(), error)),
        }
    }

    pub fn make_folder(&self, path: impl AsRef<Path>) -> Result<()> {
        match fs::create_dir(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(failed("making", path.as_ref(), error)),
            Ok(()) => Ok(()),
        }
    }

    pub fn remove_folder(&self, path: &Path) -> Result<()> {
        match if_any(fs::remove_dir_all(path)) {
            Ok(_) => Ok(()),
            Err(error) => Err(failed("removing", path, error)),
        }
    }

    /// Moves what makes no sense out of the way, and says so.
    pub fn set_aside(&self, path: &Path, reason: &str) -> Result<()> {
        let aside = self.aside(path, reason);
        self.rename_if_any(path, aside).map(drop)
    }

    /// Keeps a copy of what makes no sense, where something must be, and says so.
    pub fn copy_aside(&self, path: &Path, file: &[u8], reason: &str) -> Result<()> {
        let aside = self.aside(path, reason);
        self.write(aside, file, false)
    }

    fn aside(&self, path: &Path, reason: &str) -> PathBuf {
        let aside = self.path("damaged").join(format!(
            "{}.{:08x}",
            path.file_name().unwrap_or_default().to_string_lossy(),
            Id::new().random()
        ));
        eprintln!("afterack: {}: {reason}; set aside as {}", path.display(), aside.display());
        aside
    }

    /// Removes what was being written when something died.
    pub fn remove_leftovers(&self, now: Time, age: Duration) -> Result<()> {
        for name in self.names("tmp")? {
            if Id::parse(&name).is_some_and(|id| id.created() + age < now) {
                let path = self.path("tmp").join(name);
                if path.is_dir() { self.remove_folder(&path)? } else { self.remove_if_any(path)? }
            }
        }
        Ok(())
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn list(path: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(path)?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// By wasi:filesystem, because `std` asks the host for the metadata of each entry, which takes longer than
/// all the rest.
#[cfg(target_arch = "wasm32")]
fn list(path: &Path) -> io::Result<Vec<String>> {
    use wasi::filesystem::preopens::get_directories;
    use wasi::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

    let error = |code| match code {
        ErrorCode::NoEntry => ErrorKind::NotFound.into(),
        code => io::Error::other(code.name()),
    };
    let mounted = get_directories();
    let mounted = mounted.iter().filter_map(|(folder, name)| Some((folder, path.strip_prefix(name).ok()?)));
    let Some((folder, rest)) = mounted.min_by_key(|(_, rest)| rest.as_os_str().len()) else {
        return Err(ErrorKind::NotFound.into());
    };
    let rest = rest.to_str().filter(|rest| !rest.is_empty()).unwrap_or(".");
    let folder = folder.open_at(PathFlags::empty(), rest, OpenFlags::DIRECTORY, DescriptorFlags::READ);
    let entries = folder.map_err(error)?.read_directory().map_err(error)?;
    let mut names = Vec::new();
    while let Some(entry) = entries.read_directory_entry().map_err(error)? {
        names.push(entry.name);
    }
    Ok(names)
}

fn create(path: &Path, bytes: &[u8], synced: bool) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    if synced { file.sync_all() } else { Ok(()) }
}

/// `None` for what is not there.
fn if_any<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn failed(doing: &str, path: &Path, error: io::Error) -> StoreError {
    StoreError::Failed { doing: format!("{doing} {}", path.display()), error }
}

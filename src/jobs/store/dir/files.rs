//! Files and folders under the store's root, with errors that say what was being done.

use std::io::{self, ErrorKind};
use std::rc::Rc;

use super::super::{Result, StoreError};
use super::folder::{About, Folder};
use super::unless_lost;
use crate::jobs::host::Host;
use crate::log;

/// How much of a file is read for its head: enough for most, and for small bodies, too.
pub const BEGINNING: usize = 8192;

/// The files of a store. Paths are relative to its root.
pub struct Files<F> {
    folder: F,
    host: Rc<dyn Host>,
}

impl<F: Folder> Files<F> {
    pub fn new(folder: F, host: Rc<dyn Host>) -> Files<F> {
        Files { folder, host }
    }

    pub fn host(&self) -> &dyn Host {
        &*self.host
    }

    /// A name that nobody else uses.
    pub fn token(&self) -> String {
        format!("{:016x}", self.host.random())
    }

    /// A path in `tmp` that nobody else uses.
    pub fn unused(&self) -> String {
        format!("tmp/{}", self.token())
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

    /// The same in their order.
    pub fn sorted_names(&self, path: &str) -> Result<Vec<String>> {
        let mut names = self.names(path)?;
        names.sort_unstable();
        Ok(names)
    }

    /// A whole file, if it is there.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.read_part(path, 0, usize::MAX)
    }

    /// The first bytes of a file, enough for most heads.
    pub fn beginning(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.read_part(path, 0, BEGINNING)
    }

    /// The bytes of a file from there on, about this many.
    pub fn read_part(&self, path: &str, from: u64, most: usize) -> Result<Option<Vec<u8>>> {
        if_any(self.folder.read(path, from, most)).map_err(|error| self.failed("reading", path, error))
    }

    /// Writes a whole file beside and renames it into place; if it is synced first, its bytes are whole
    /// wherever it is found.
    pub fn write(&self, path: &str, bytes: &[u8], sync: bool) -> Result<()> {
        let tmp = self.unused();
        let result = self.create(&tmp, &[bytes], sync).and_then(|()| self.rename(&tmp, path));
        if result.is_err() {
            let _ = self.folder.remove(&tmp);
        }
        result
    }

    /// Writes a file that nobody else writes, and syncs it if that is asked for.
    pub fn create(&self, path: &str, parts: &[&[u8]], sync: bool) -> Result<()> {
        let file = self.create_open(path, parts)?;
        if sync {
            self.sync_open(path, &file).inspect_err(|_| drop(self.folder.remove(path)))?;
        }
        Ok(())
    }

    /// Writes a file that nobody else writes, which stays open.
    pub fn create_open(&self, path: &str, parts: &[&[u8]]) -> Result<F::File> {
        self.folder.create(path, parts).map_err(|error| {
            if error.kind() != ErrorKind::AlreadyExists {
                let _ = self.folder.remove(path);
            }
            self.failed("writing", path, error)
        })
    }

    fn create_synced(&self, path: &str) -> io::Result<()> {
        self.folder.create(path, &[]).and_then(|file| self.folder.sync_file(&file))
    }

    /// Syncs a file that is open, which was at this path.
    pub fn sync_open(&self, path: &str, file: &F::File) -> Result<()> {
        self.folder.sync_file(file).map_err(|error| self.failed("syncing", path, error))
    }

    /// Writes an empty file durably, unless there is one; [`StoreError::Lost`] if its folder is not there.
    pub fn create_if_none(&self, path: &str) -> Result<()> {
        match if_any(self.create_synced(path)) {
            Ok(made) => made.ok_or(StoreError::Lost),
            // Whoever has written it may be about to sync it, or have failed to.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => unless_lost(self.sync(path)),
            Err(error) => Err(self.failed("writing", path, error)),
        }
    }

    /// Writes these bytes at these places of a file, and syncs them if that is asked for; [`StoreError::Lost`]
    /// if it is not there.
    pub fn overwrite(&self, path: &str, parts: &[(&[u8], u64)], sync: bool) -> Result<()> {
        if_any(self.folder.overwrite(path, parts, sync))
            .map_err(|error| self.failed("writing", path, error))?
            .ok_or(StoreError::Lost)
    }

    /// Cuts a file off, if it is there and longer.
    pub fn shorten(&self, path: &str, length: u64) -> Result<()> {
        let shortened = if_any(self.folder.shorten(path, length));
        shortened.map(drop).map_err(|error| self.failed("shortening", path, error))
    }

    /// Appends a few bytes.
    pub fn append(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.folder.append(path, bytes).map_err(|error| self.failed("writing", path, error))
    }

    /// Syncs a file or a folder; [`StoreError::Lost`] if it is not there.
    pub fn sync(&self, path: &str) -> Result<()> {
        if_any(self.folder.sync(path))
            .map_err(|error| self.failed("syncing", path, error))?
            .ok_or(StoreError::Lost)
    }

    /// Gives a file a second name, if that is not in use. Where files can have one name only, it is a copy, which is
    /// synced at once.
    pub fn link(&self, from: &str, to: &str) -> Result<()> {
        if self.has_linked(from, to)? {
            return Ok(());
        }
        let bytes = self.read(from)?.ok_or(StoreError::Lost)?;
        self.write(to, &bytes, true)?;
        self.sync(to)
    }

    /// Gives a file a second name that says only that it is there: whether that can be synced with the file. Where
    /// files can have one name only, it is an empty file, which is synced here.
    pub fn note(&self, from: &str, to: &str) -> Result<bool> {
        let has_linked = self.has_linked(from, to)?;
        if !has_linked {
            self.create_if_none(to)?;
        }
        Ok(has_linked)
    }

    /// Gives a file a second name, if that is not in use: whether files can have one.
    fn has_linked(&self, from: &str, to: &str) -> Result<bool> {
        match if_any(self.folder.link(from, to)) {
            Ok(linked) => linked.map(|()| true).ok_or(StoreError::Lost),
            Err(error) => Ok(error.kind() == ErrorKind::AlreadyExists),
        }
    }

    /// Takes a name, unless somebody has: makes a folder there, and in it, at this path, another name of a file. It is
    /// synced with that file, or by the folder `among` which it is.
    pub fn take(&self, name: &str, among: &str, inner: &str, file: &str) -> Result<bool> {
        let unused = self.unused();
        let inner = format!("{unused}/{inner}");
        let mut folders = inner.match_indices('/').skip(1).map(|(at, _)| &inner[..at]); // All but `tmp`.
        let taken = folders.try_for_each(|folder| self.make_folder(folder)).and_then(|()| {
            let is_synced_with_it = self.note(file, &inner)?;
            let taken = self.rename_if_free(&unused, name)?;
            if taken && !is_synced_with_it {
                self.sync(among)?;
            }
            Ok(taken)
        });
        if !matches!(taken, Ok(true)) {
            self.remove_all(&unused)?;
        }
        taken
    }

    /// Renames; [`StoreError::Lost`] if it is not there, or one of the folders has gone, as slots do.
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

    /// Renames a folder, unless there is one of that name with something in it: whether it did.
    pub fn rename_if_free(&self, from: &str, to: &str) -> Result<bool> {
        match self.folder.rename(from, to) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                Ok(false)
            }
            Err(error) => Err(self.failed("moving", from, error)),
        }
    }

    pub fn remove_if_any(&self, path: &str) -> Result<()> {
        self.remove_if_there(path).map(drop)
    }

    /// Removes a file: whether it was there.
    pub fn remove_if_there(&self, path: &str) -> Result<bool> {
        let removed =
            if_any(self.folder.remove(path)).map_err(|error| self.failed("removing", path, error))?;
        Ok(removed.is_some())
    }

    pub fn make_folder(&self, path: &str) -> Result<()> {
        match self.folder.make_folder(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(self.failed("making", path, error)),
            Ok(()) => Ok(()),
        }
    }

    /// Makes a folder, with those that it is in.
    pub fn make_path(&self, path: &str) -> Result<()> {
        match self.folder.make_folder(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => match path.rsplit_once('/') {
                Some((outer, _)) if error.kind() == ErrorKind::NotFound => {
                    self.make_path(outer)?;
                    self.make_folder(path)
                }
                _ => Err(self.failed("making", path, error)),
            },
        }
    }

    /// Removes a folder unless something is in it: whether it has.
    pub fn remove_if_empty(&self, path: &str) -> Result<bool> {
        match if_any(self.folder.remove_folder(path)) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(self.failed("removing", path, error)),
            Ok(removed) => Ok(removed.is_some()),
        }
    }

    /// Removes what is at a path, a file or a folder.
    pub fn remove_all(&self, path: &str) -> Result<()> {
        if !self.about(path)?.is_some_and(|about| about.is_folder) {
            return self.remove_if_any(path);
        }
        for name in self.names(path)? {
            self.remove_all(&format!("{path}/{name}"))?;
        }
        self.remove_if_empty(path).map(drop)
    }

    /// Goes on after an error that concerns one job only.
    pub fn tolerate(&self, result: Result<()>) -> Result<()> {
        if let Err(error @ StoreError::Failed { .. }) = result {
            log::error(error);
            return Ok(());
        }
        result
    }

    /// Moves what makes no sense out of the way, and says so.
    pub fn set_aside(&self, path: &str, reason: &str) -> Result<()> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let aside = format!("damaged/{name}.{}", self.token());
        log::error(format_args!("{}/{path}: {reason}; set aside as {aside}", self.folder.root()));
        self.rename_if_any(path, &aside).map(drop)
    }

    fn failed(&self, doing: &str, path: &str, error: io::Error) -> StoreError {
        StoreError::Failed { doing: format!("{doing} {}/{path}", self.folder.root()), error }
    }
}

/// `None` for what is not there.
fn if_any<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

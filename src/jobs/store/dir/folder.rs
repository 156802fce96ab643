//! What the store needs of a file system: some twenty operations on the paths below its root, and what
//! each of them leaves after a power cut.
//!
//! A *directory operation* (create, link, rename, remove, make a folder) is there at once for everybody,
//! and after a cut only if it was synced: until then, each of them may be gone, with those that depend on
//! it. Bytes that were written are there after a cut only if they were synced.
//!
//! - Syncing a *file* keeps its bytes, and every name that it has by then, with the new folders on the way
//!   to it. ext4 and XFS commit their whole journal up to the last change of the file, and btrfs logs the
//!   file's new names and their new parents.
//! - Syncing a *folder* keeps all operations on its entries so far.

use std::io;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// In bytes; of a folder, whatever the file system says.
    pub length: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub changed: u64,
    pub is_folder: bool,
}

/// A folder on a disk. Errors have the kinds `NotFound`, `AlreadyExists`, `DirectoryNotEmpty`,
/// `NotADirectory` where they apply, as `std::fs` has them.
pub trait Folder {
    /// A file that is open.
    type File;

    /// The path of the folder itself, for messages.
    fn root(&self) -> &str;

    /// The names in a folder, in no order.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;

    /// The bytes of a file from there on, about this many or all there are.
    fn read(&self, path: &str, from: u64, most: usize) -> io::Result<Vec<u8>>;

    /// Writes a file of these parts that must not be there yet.
    fn create(&self, path: &str, parts: &[&[u8]]) -> io::Result<Self::File>;

    /// Syncs a file, wherever it is by now.
    fn sync_file(&self, file: &Self::File) -> io::Result<()>;

    /// Writes these bytes at these places of a file that must be there, and syncs them if that is asked for.
    fn overwrite(&self, path: &str, parts: &[(&[u8], u64)], sync: bool) -> io::Result<()>;

    /// Cuts a file off that must be there, and may be shorter.
    fn shorten(&self, path: &str, length: u64) -> io::Result<()>;

    /// Appends a few bytes to a file that need not be there yet; nobody else's come between them.
    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Syncs a file or a folder.
    fn sync(&self, path: &str) -> io::Result<()>;

    /// Renames a file or a folder. What has the new name is replaced, a folder only by a folder and only
    /// if it is empty (`DirectoryNotEmpty`). Two names of one file stay both as they are.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Gives a file a second name, which must not be there yet.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name of a file.
    fn remove(&self, path: &str) -> io::Result<()>;

    fn make_folder(&self, path: &str) -> io::Result<()>;

    /// Removes a folder that is empty.
    fn remove_folder(&self, path: &str) -> io::Result<()>;

    fn about(&self, path: &str) -> io::Result<About>;
}

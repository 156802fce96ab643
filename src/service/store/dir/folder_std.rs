//! The same folder by `std`, so that the store is tested natively. See `folder_wasi.rs`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::files::About;

#[derive(Debug)]
pub struct Folder {
    root: String,
}

impl Folder {
    pub fn new(root: String) -> Folder {
        Folder { root }
    }

    pub fn root(&self) -> &str {
        &self.root
    }

    fn at(&self, path: &str) -> PathBuf {
        Path::new(&self.root).join(path)
    }

    pub fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.at(path))?.flatten();
        Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    pub fn read(&self, path: &str, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.at(path))?.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub fn create(&self, path: &str, bytes: &[u8], synced: bool) -> io::Result<()> {
        let mut file = File::create_new(self.at(path))?;
        file.write_all(bytes)?;
        if synced { file.sync_data() } else { Ok(()) }
    }

    pub fn overwrite(&self, path: &str, bytes: &[u8], changed: Range<usize>) -> io::Result<bool> {
        let file = OpenOptions::new().write(true).open(self.at(path))?;
        match file.metadata()?.len() {
            0 => file.write_all_at(bytes, 0)?,
            size if size == bytes.len() as u64 => {
                file.write_all_at(&bytes[changed.clone()], changed.start as u64)?;
            }
            _ => return Ok(false),
        }
        file.sync_data()?;
        Ok(true)
    }

    pub fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().append(true).create(true).open(self.at(path))?.write_all(bytes)
    }

    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    pub fn link(&self, from: &str, to: &str) -> io::Result<()> {
        fs::hard_link(self.at(from), self.at(to))
    }

    pub fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.at(path))
    }

    pub fn make_folder(&self, path: &str) -> io::Result<()> {
        fs::create_dir(self.at(path))
    }

    pub fn remove_folder(&self, path: &str) -> io::Result<()> {
        fs::remove_dir(self.at(path))
    }

    pub fn about(&self, path: &str) -> io::Result<About> {
        let data = fs::metadata(self.at(path))?;
        let changed = data.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(About { length: data.len(), changed: changed.as_nanos() as u64, is_folder: data.is_dir() })
    }
}

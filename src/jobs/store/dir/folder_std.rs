//! A folder by `std`, so that the store is tested natively. See `folder_wasi.rs`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::folder::{About, Folder};

#[derive(Debug)]
pub struct Mounted {
    root: String,
}

impl Mounted {
    pub fn new(root: String) -> Mounted {
        Mounted { root }
    }

    fn at(&self, path: &str) -> PathBuf {
        Path::new(&self.root).join(path)
    }
}

impl Folder for Mounted {
    type File = File;

    fn root(&self) -> &str {
        &self.root
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(self.at(path))?.flatten();
        Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn read(&self, path: &str, from: u64, most: usize) -> io::Result<Vec<u8>> {
        let (mut file, mut bytes) = (File::open(self.at(path))?, Vec::new());
        io::Seek::seek(&mut file, io::SeekFrom::Start(from))?;
        file.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&self, path: &str, parts: &[&[u8]]) -> io::Result<File> {
        let mut file = File::create_new(self.at(path))?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        Ok(file)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn overwrite(&self, path: &str, parts: &[(&[u8], u64)], sync: bool) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.at(path))?;
        parts.iter().try_for_each(|(bytes, at)| file.write_all_at(bytes, *at))?;
        if sync { file.sync_data() } else { Ok(()) }
    }

    fn shorten(&self, path: &str, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.at(path))?;
        if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
    }

    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().append(true).create(true).open(self.at(path))?.write_all(bytes)
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        File::open(self.at(path))?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        fs::hard_link(self.at(from), self.at(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.at(path))
    }

    fn make_folder(&self, path: &str) -> io::Result<()> {
        fs::create_dir(self.at(path))
    }

    fn remove_folder(&self, path: &str) -> io::Result<()> {
        fs::remove_dir(self.at(path))
    }

    fn about(&self, path: &str) -> io::Result<About> {
        let data = fs::metadata(self.at(path))?;
        let changed = data.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(About { length: data.len(), changed: changed.as_nanos() as u64, is_folder: data.is_dir() })
    }
}

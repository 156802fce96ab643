//! The mounted folder, by wasi:filesystem itself: each of these operations is one or two calls of the
//! host's, where `std` makes several and looks for the folder anew every time.

use std::cell::OnceCell;
use std::io::{self, ErrorKind};

use wasi::filesystem::preopens::get_directories;
use wasi::filesystem::types::{Descriptor, DescriptorFlags, DescriptorType, ErrorCode, OpenFlags, PathFlags};
use wasi::io::streams::StreamError;

use super::folder::{About, Folder};

/// The most bytes that are asked for, or given, in one call.
const PIECE: usize = 64 * 1024;

/// The most bytes that `blocking-write-and-flush` takes.
const APPENDED: usize = 4096;

#[derive(Debug)]
pub struct Mounted {
    root: String,
    /// The folder itself, unless it is a mounted one.
    opened: OnceCell<Descriptor>,
}

/// The folders that the host has mounted, and their names. They stay what they are for as long as this
/// instance lives.
fn mounts() -> &'static [(Descriptor, String)] {
    thread_local! {
        static MOUNTS: &'static [(Descriptor, String)] = Vec::leak(get_directories());
    }
    MOUNTS.with(|mounts| *mounts)
}

impl Mounted {
    pub fn new(root: String) -> Mounted {
        Mounted { root, opened: OnceCell::new() }
    }

    /// The folder itself. What is missing of it below the mounted one is made.
    fn opened(&self) -> io::Result<&Descriptor> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let below = |name: &str| {
            let rest = self.root.strip_prefix(name.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_matches('/').to_owned())
        };
        let mounted = mounts().iter().filter_map(|(folder, name)| Some((folder, below(name)?)));
        // The one that is mounted closest to it.
        let (mount, rest) = mounted.min_by_key(|(_, rest)| rest.len()).ok_or(ErrorKind::NotFound)?;
        let mut opened = None;
        for name in rest.split('/').filter(|name| !name.is_empty()) {
            let folder = opened.as_ref().unwrap_or(mount);
            let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
            let open = || folder.open_at(PathFlags::empty(), name, OpenFlags::DIRECTORY, flags);
            let inner = match open() {
                Err(ErrorCode::NoEntry) => match folder.create_directory_at(name) {
                    Ok(()) | Err(ErrorCode::Exist) => open(),
                    Err(code) => Err(code),
                },
                result => result,
            };
            opened = Some(inner.map_err(error)?);
        }
        Ok(match opened {
            Some(opened) => self.opened.get_or_init(|| opened),
            None => mount,
        })
    }

    fn open(&self, path: &str, open: OpenFlags, flags: DescriptorFlags) -> io::Result<Descriptor> {
        self.opened()?.open_at(PathFlags::empty(), path, open, flags).map_err(error)
    }
}

impl Folder for Mounted {
    type File = Descriptor;

    fn root(&self) -> &str {
        &self.root
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let folder = self.open(path, OpenFlags::DIRECTORY, DescriptorFlags::READ)?;
        let entries = folder.read_directory().map_err(error)?;
        let mut names = Vec::new();
        while let Some(entry) = entries.read_directory_entry().map_err(error)? {
            names.push(entry.name);
        }
        Ok(names)
    }

    fn read(&self, path: &str, from: u64, most: usize) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenFlags::empty(), DescriptorFlags::READ)?;
        let mut bytes = Vec::new();
        while bytes.len() < most {
            let length = PIECE.min(most - bytes.len());
            let (piece, is_end) = file.read(length as u64, from + bytes.len() as u64).map_err(error)?;
            if bytes.is_empty() {
                bytes = piece;
            } else {
                bytes.extend_from_slice(&piece);
            }
            if is_end {
                break;
            }
            if bytes.len() == PIECE {
                // There may be many more: what grows holds half as much again meanwhile.
                let size = file.stat().map_err(error)?.size.saturating_sub(from) as usize;
                bytes.reserve_exact(size.min(most).saturating_sub(PIECE));
            }
        }
        Ok(bytes)
    }

    fn create(&self, path: &str, parts: &[&[u8]]) -> io::Result<Descriptor> {
        let file = self.open(path, OpenFlags::CREATE | OpenFlags::EXCLUSIVE, DescriptorFlags::WRITE)?;
        if parts.iter().map(|part| part.len()).sum::<usize>() <= PIECE {
            write(&file, &parts.concat(), 0)?; // By one call.
        } else {
            let mut at = 0;
            for part in parts {
                write(&file, part, at)?;
                at += part.len();
            }
        }
        Ok(file)
    }

    fn sync_file(&self, file: &Descriptor) -> io::Result<()> {
        file.sync().map_err(error)
    }

    fn overwrite(&self, path: &str, parts: &[(&[u8], u64)], sync: bool) -> io::Result<()> {
        let file = self.open(path, OpenFlags::empty(), DescriptorFlags::WRITE)?;
        parts.iter().try_for_each(|(bytes, at)| write(&file, bytes, *at as usize))?;
        if sync { file.sync_data().map_err(error) } else { Ok(()) }
    }

    fn shorten(&self, path: &str, length: u64) -> io::Result<()> {
        let file = self.open(path, OpenFlags::empty(), DescriptorFlags::WRITE)?;
        let is_longer = file.stat().map_err(error)?.size > length;
        if is_longer { file.set_size(length).map_err(error) } else { Ok(()) }
    }

    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.open(path, OpenFlags::CREATE, DescriptorFlags::WRITE)?;
        if bytes.is_empty() {
            return Ok(());
        }
        debug_assert!(bytes.len() <= APPENDED);
        let stream = file.append_via_stream().map_err(error)?;
        stream.blocking_write_and_flush(bytes).map_err(|failure| match failure {
            StreamError::Closed => ErrorKind::WriteZero.into(),
            StreamError::LastOperationFailed(failure) => io::Error::other(failure.to_debug_string()),
        })
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        let file = self.open(path, OpenFlags::empty(), DescriptorFlags::READ)?;
        file.sync().map_err(error)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let opened = self.opened()?;
        opened.rename_at(from, opened, to).map_err(error)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let opened = self.opened()?;
        opened.link_at(PathFlags::empty(), from, opened, to).map_err(error)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.opened()?.unlink_file_at(path).map_err(error)
    }

    fn make_folder(&self, path: &str) -> io::Result<()> {
        self.opened()?.create_directory_at(path).map_err(error)
    }

    fn remove_folder(&self, path: &str) -> io::Result<()> {
        self.opened()?.remove_directory_at(path).map_err(error)
    }

    fn about(&self, path: &str) -> io::Result<About> {
        let stat = self.opened()?.stat_at(PathFlags::empty(), path).map_err(error)?;
        let changed = stat.data_modification_timestamp;
        Ok(About {
            length: stat.size,
            changed: changed.map_or(0, |at| at.seconds * 1_000_000_000 + u64::from(at.nanoseconds)),
            is_folder: stat.type_ == DescriptorType::Directory,
        })
    }
}

fn write(file: &Descriptor, bytes: &[u8], at: usize) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        let piece = &bytes[written..bytes.len().min(written + PIECE)];
        match file.write(piece, (at + written) as u64).map_err(error)? {
            0 => return Err(ErrorKind::WriteZero.into()),
            count => written += count as usize,
        }
    }
    Ok(())
}

fn error(code: ErrorCode) -> io::Error {
    let kind = match code {
        ErrorCode::NoEntry => ErrorKind::NotFound,
        ErrorCode::Exist => ErrorKind::AlreadyExists,
        ErrorCode::NotEmpty => ErrorKind::DirectoryNotEmpty,
        ErrorCode::NotDirectory => ErrorKind::NotADirectory,
        _ => return io::Error::other(code.name()),
    };
    kind.into()
}

//! A model of a file system and of what a power cut leaves of it, as `folder.rs` describes that.
//!
//! Whoever uses it may be stopped before every operation, and within those that are more than one for a
//! disk: a file is opened, then written, then synced, whatever happens to its name in between.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use super::folder::{About, Folder};
use crate::jobs::job::Run;

/// How many bytes a disk writes as a whole.
const SECTOR: usize = 512;

/// The folder at the top.
const ROOT: usize = 0;

/// A disk, which several hosts may use.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Clone)]
struct State {
    nodes: Vec<Node>,
    /// The directory operations that no sync has kept yet, in their order.
    pending: Vec<Operation>,
    /// Rises with every change.
    clock: u64,
}

/// A file or a folder: as it is, and as a power cut would leave it at worst.
#[derive(Clone)]
enum Node {
    File { bytes: Vec<u8>, kept: Vec<u8>, changed: u64 },
    Folder { entries: Entries, kept: Entries, changed: u64 },
}

type Entries = BTreeMap<String, usize>;

/// A folder, and a name in it.
type Entry = (usize, String);

/// A directory operation: something gets a name, loses one, or both.
#[derive(Clone, Debug, PartialEq)]
struct Operation {
    node: usize,
    from: Option<Entry>,
    to: Option<Entry>,
}

impl Operation {
    fn touches(&self, entry: &Entry) -> bool {
        [&self.from, &self.to].into_iter().flatten().any(|own| own == entry)
    }

    /// Whether this makes no sense without an earlier one.
    fn needs(&self, earlier: &Operation) -> bool {
        let is_made_by = |entry: &Entry| earlier.node == entry.0 && earlier.from.is_none();
        // A folder goes only when nothing is in it any more.
        let is_emptied = earlier.from.as_ref().is_some_and(|from| from.0 == self.node);
        self.to.is_none() && is_emptied
            || [&self.from, &self.to].into_iter().flatten().any(|own| earlier.touches(own) || is_made_by(own))
    }
}

impl Disk {
    pub fn new() -> Disk {
        let root = Node::Folder { entries: Entries::new(), kept: Entries::new(), changed: 0 };
        Disk(Arc::new(Mutex::new(State { nodes: vec![root], pending: Vec::new(), clock: 0 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing here panics")
    }

    /// A disk of its own that is as this one is now.
    pub fn copy(&self) -> Disk {
        Disk(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Cuts the power: of what was not synced, so much is left as `random` says, which gives numbers below
    /// its argument.
    pub fn cut(&self, random: &mut dyn FnMut(u64) -> u64) {
        let state = &mut *self.state();
        let pending = std::mem::take(&mut state.pending);
        let (mut left, mut lost) = (Vec::new(), Vec::<Operation>::new());
        for operation in pending {
            let is_lost = random(2) == 0 || lost.iter().any(|lost| operation.needs(lost));
            if is_lost { lost.push(operation) } else { left.push(operation) }
        }
        for operation in &left {
            state.keep(operation);
        }
        for node in &mut state.nodes {
            match node {
                Node::File { bytes, kept, .. } => {
                    let length = if random(2) == 0 { kept.len() } else { bytes.len() };
                    let mut left = vec![0; length];
                    for (at, sector) in left.chunks_mut(SECTOR).enumerate() {
                        let from = if random(2) == 0 { &*kept } else { &*bytes };
                        let from = from.get(at * SECTOR..).unwrap_or_default();
                        let common = from.len().min(sector.len());
                        sector[..common].copy_from_slice(&from[..common]);
                    }
                    if bytes != kept {
                        (*bytes, *kept) = (left.clone(), left);
                    }
                }
                Node::Folder { entries, kept, .. } => entries.clone_from(kept),
            }
        }
    }

    /// All paths of files, with what is in them.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let state = self.state();
        let (mut files, mut open) = (Vec::new(), vec![(String::new(), ROOT)]);
        while let Some((path, node)) = open.pop() {
            match &state.nodes[node] {
                Node::File { bytes, .. } => files.push((path, bytes.clone())),
                Node::Folder { entries, .. } => {
                    let join =
                        |name: &String| if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    open.extend(entries.iter().map(|(name, node)| (join(name), *node)));
                }
            }
        }
        files
    }
}

impl State {
    /// What is at a path.
    fn find(&self, path: &str) -> io::Result<usize> {
        let mut node = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
            node = match &self.nodes[node] {
                Node::Folder { entries, .. } => *entries.get(name).ok_or(ErrorKind::NotFound)?,
                Node::File { .. } => return Err(ErrorKind::NotADirectory.into()),
            };
        }
        Ok(node)
    }

    /// The folder that a path is in, and its name there.
    fn entry(&self, path: &str) -> io::Result<Entry> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.find(folder)?;
        match self.nodes[folder] {
            Node::Folder { .. } => Ok((folder, name.to_owned())),
            Node::File { .. } => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn at(&self, (folder, name): &Entry) -> Option<usize> {
        match &self.nodes[*folder] {
            Node::Folder { entries, .. } => entries.get(name).copied(),
            Node::File { .. } => None,
        }
    }

    fn is_folder(&self, node: usize) -> bool {
        matches!(self.nodes[node], Node::Folder { .. })
    }

    fn file(&mut self, node: usize) -> io::Result<&mut Vec<u8>> {
        self.clock += 1;
        match &mut self.nodes[node] {
            Node::File { bytes, changed, .. } => {
                *changed = self.clock;
                Ok(bytes)
            }
            Node::Folder { .. } => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// Does a directory operation, which may still be lost.
    fn act(&mut self, node: usize, from: Option<Entry>, to: Option<Entry>) {
        self.clock += 1;
        let clock = self.clock;
        for (entry, target) in [(&from, None), (&to, Some(node))] {
            if let Some((folder, name)) = entry
                && let Node::Folder { entries, changed, .. } = &mut self.nodes[*folder]
            {
                *changed = clock;
                match target {
                    Some(node) => drop(entries.insert(name.clone(), node)),
                    None => drop(entries.remove(name)),
                }
            }
        }
        self.pending.push(Operation { node, from, to });
    }

    /// Makes a node with a name.
    fn make(&mut self, path: &str, node: Node) -> io::Result<usize> {
        let entry = self.entry(path)?;
        if self.at(&entry).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.nodes.push(node);
        let made = self.nodes.len() - 1;
        self.act(made, None, Some(entry));
        Ok(made)
    }

    /// Keeps an operation for good.
    fn keep(&mut self, operation: &Operation) {
        if let Some((folder, name)) = &operation.from
            && let Node::Folder { kept, .. } = &mut self.nodes[*folder]
            && kept.get(name) == Some(&operation.node)
        {
            kept.remove(name);
        }
        if let Some((folder, name)) = &operation.to
            && let Node::Folder { kept, .. } = &mut self.nodes[*folder]
        {
            kept.insert(name.clone(), operation.node);
        }
    }

    /// Keeps the pending operations of these numbers, and those that they need.
    fn keep_all(&mut self, mut wanted: Vec<usize>) {
        let mut numbers = Vec::new();
        while let Some(number) = wanted.pop() {
            if numbers.contains(&number) {
                continue;
            }
            numbers.push(number);
            let operation = &self.pending[number];
            // What it builds upon, and the way from the top to where it is.
            let folders: Vec<_> = operation.to.iter().map(|entry| entry.0).collect();
            wanted.extend((0..self.pending.len()).filter(|other| {
                let (other, is_earlier) = (&self.pending[*other], *other < number);
                is_earlier && operation.needs(other) || folders.contains(&other.node)
            }));
        }
        numbers.sort_unstable();
        for number in &numbers {
            let operation = self.pending[*number].clone();
            self.keep(&operation);
        }
        let mut number = 0;
        self.pending.retain(|_| {
            number += 1;
            !numbers.contains(&(number - 1))
        });
    }

    fn sync(&mut self, node: usize) {
        let is_own = |operation: &Operation| {
            operation.node == node
                || [&operation.from, &operation.to].into_iter().flatten().any(|e| e.0 == node)
        };
        let wanted = (0..self.pending.len()).filter(|number| is_own(&self.pending[*number])).collect();
        self.keep_all(wanted);
        self.sync_bytes(node);
    }

    fn sync_bytes(&mut self, node: usize) {
        if let Node::File { bytes, kept, .. } = &mut self.nodes[node] {
            kept.clone_from(bytes);
        }
    }
}

/// What is called before each operation with its name and its path. An error of its own ends the operation.
pub type Hook = Box<dyn Fn(&'static str, &str) -> io::Result<()>>;

/// A host's view of a disk.
pub struct Model {
    disk: Disk,
    hook: Hook,
}

impl Model {
    pub fn new(disk: &Disk, hook: Hook) -> Model {
        Model { disk: disk.clone(), hook }
    }

    fn state(&self, operation: &'static str, path: &str) -> io::Result<MutexGuard<'_, State>> {
        (self.hook)(operation, path)?;
        Ok(self.disk.state())
    }
}

impl Folder for Model {
    /// Its node.
    type File = usize;

    fn root(&self) -> &str {
        "/model"
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let state = self.state("list", path)?;
        match &state.nodes[state.find(path)?] {
            // In an order that nobody should rely on.
            Node::Folder { entries, .. } => Ok(entries.keys().rev().cloned().collect()),
            Node::File { .. } => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn read(&self, path: &str, from: u64, most: usize) -> io::Result<Vec<u8>> {
        let state = self.state("read", path)?;
        match &state.nodes[state.find(path)?] {
            Node::File { bytes, .. } => {
                let bytes = bytes.get(from as usize..).unwrap_or_default();
                Ok(bytes[..bytes.len().min(most)].to_vec())
            }
            Node::Folder { .. } => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn create(&self, path: &str, parts: &[&[u8]]) -> io::Result<usize> {
        let bytes = parts.concat();
        let file = Node::File { bytes: Vec::new(), kept: Vec::new(), changed: 0 };
        let node = self.state("create", path)?.make(path, file)?;
        if !bytes.is_empty() {
            self.state("write", path)?.file(node)?.extend_from_slice(&bytes);
        }
        Ok(node)
    }

    fn sync_file(&self, node: &usize) -> io::Result<()> {
        self.state("sync", "")?.sync(*node);
        Ok(())
    }

    fn overwrite(&self, path: &str, parts: &[(&[u8], u64)], sync: bool) -> io::Result<()> {
        let node = self.state("open", path)?.find(path)?;
        for (bytes, at) in parts {
            let range = *at as usize..*at as usize + bytes.len();
            let mut state = self.state("write", path)?;
            let file = state.file(node)?;
            file.resize(file.len().max(range.end), 0);
            file[range].copy_from_slice(bytes);
        }
        if sync {
            self.state("sync", path)?.sync_bytes(node);
        }
        Ok(())
    }

    fn shorten(&self, path: &str, length: u64) -> io::Result<()> {
        let node = self.state("open", path)?.find(path)?;
        self.state("write", path)?.file(node)?.truncate(length as usize);
        Ok(())
    }

    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let node = {
            let mut state = self.state("open", path)?;
            match state.find(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    state.make(path, Node::File { bytes: Vec::new(), kept: Vec::new(), changed: 0 })?
                }
                found => found?,
            }
        };
        if !bytes.is_empty() {
            self.state("append", path)?.file(node)?.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        let mut state = self.state("sync", path)?;
        let node = state.find(path)?;
        state.sync(node);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state("rename", from)?;
        let (from, to) = (state.entry(from)?, state.entry(to)?);
        let node = state.at(&from).ok_or(ErrorKind::NotFound)?;
        match state.at(&to) {
            Some(other) if other == node => return Ok(()),
            Some(other) if state.is_folder(node) != state.is_folder(other) => {
                let is_folder = state.is_folder(other);
                return Err(if is_folder { ErrorKind::IsADirectory } else { ErrorKind::NotADirectory }.into());
            }
            Some(other) => {
                if let Node::Folder { entries, .. } = &state.nodes[other]
                    && !entries.is_empty()
                {
                    return Err(ErrorKind::DirectoryNotEmpty.into());
                }
            }
            None => {}
        }
        state.act(node, Some(from), Some(to));
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state("link", from)?;
        let node = state.find(from)?;
        let to = state.entry(to)?;
        if state.is_folder(node) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        if state.at(&to).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.act(node, None, Some(to));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state("remove", path)?;
        let entry = state.entry(path)?;
        let node = state.at(&entry).ok_or(ErrorKind::NotFound)?;
        if state.is_folder(node) {
            return Err(ErrorKind::IsADirectory.into());
        }
        state.act(node, Some(entry), None);
        Ok(())
    }

    fn make_folder(&self, path: &str) -> io::Result<()> {
        let folder = Node::Folder { entries: Entries::new(), kept: Entries::new(), changed: 0 };
        self.state("make folder", path)?.make(path, folder).map(drop)
    }

    fn remove_folder(&self, path: &str) -> io::Result<()> {
        let mut state = self.state("remove folder", path)?;
        let entry = state.entry(path)?;
        let node = state.at(&entry).ok_or(ErrorKind::NotFound)?;
        match &state.nodes[node] {
            Node::File { .. } => return Err(ErrorKind::NotADirectory.into()),
            Node::Folder { entries, .. } if !entries.is_empty() => {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            Node::Folder { .. } => {}
        }
        state.act(node, Some(entry), None);
        Ok(())
    }

    fn about(&self, path: &str) -> io::Result<About> {
        let state = self.state("stat", path)?;
        Ok(match &state.nodes[state.find(path)?] {
            Node::File { bytes, changed, .. } => {
                About { length: bytes.len() as u64, changed: *changed, is_folder: false }
            }
            // Some changes look the same, as on a disk whose clock ticks slowly.
            Node::Folder { changed, .. } => About { length: 0, changed: *changed / 4, is_folder: true },
        })
    }
}

/// How far the job has come whose file this is.
pub fn run_in(file: &[u8]) -> Run {
    super::record::decode_run_head(file).unwrap_or_default()
}

/// Numbers that look random (xorshift).
pub fn random(mut seed: u64) -> impl FnMut(u64) -> u64 {
    seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) % below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> (Disk, Model) {
        let disk = Disk::new();
        let model = Model::new(&disk, Box::new(|_, _| Ok(())));
        for folder in ["a", "b"] {
            model.make_folder(folder).unwrap();
        }
        model.sync(".").unwrap();
        (disk, model)
    }

    /// What is there after a hundred different cuts.
    fn cuts(disk: &Disk) -> Vec<Vec<(String, Vec<u8>)>> {
        let mut all: Vec<_> = (0..100)
            .map(|seed| {
                let disk = disk.copy();
                disk.cut(&mut random(seed + 1));
                let mut files = disk.files();
                files.sort();
                files
            })
            .collect();
        all.sort();
        all.dedup();
        all
    }

    fn names(disk: &Disk) -> Vec<String> {
        let names = |files: Vec<(String, Vec<u8>)>| {
            files.into_iter().map(|file| file.0).collect::<Vec<_>>().join(" ")
        };
        cuts(disk).into_iter().map(names).collect()
    }

    #[test]
    fn operations_fail_as_they_do_on_a_disk() {
        let (_, model) = model();
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        model.create("a/x", &[b"1"]).unwrap();
        assert_eq!(kind(model.create("a/x", &[b"2"]).map(drop)), ErrorKind::AlreadyExists);
        assert_eq!(kind(model.create("c/x", &[b"2"]).map(drop)), ErrorKind::NotFound);
        assert_eq!(kind(model.rename("a/y", "a/z")), ErrorKind::NotFound);
        assert_eq!(kind(model.remove_folder("a")), ErrorKind::DirectoryNotEmpty);
        assert_eq!(kind(model.rename("b", "a")), ErrorKind::DirectoryNotEmpty);
        assert_eq!(kind(model.rename("b", "a/x")), ErrorKind::NotADirectory);
        assert_eq!(model.list("a/x").unwrap_err().kind(), ErrorKind::NotADirectory);
        assert_eq!(kind(model.overwrite("a/y", &[(b"1", 0)], true)), ErrorKind::NotFound);
        model.link("a/x", "b/x").unwrap();
        assert_eq!(kind(model.link("a/x", "b/x")), ErrorKind::AlreadyExists);
        model.rename("a/x", "b/x").unwrap(); // Two names of one file.
        assert_eq!(model.read("a/x", 0, 9).unwrap(), b"1");
        model.remove("a/x").unwrap();
        model.rename("b", "a").unwrap();
        model.append("a/x", b"23").unwrap();
        assert_eq!(model.read("a/x", 1, 9).unwrap(), b"23");
    }

    #[test]
    fn what_is_not_synced_may_be_lost_and_what_is_may_not() {
        let (disk, model) = model();
        model.create("a/x", &[]).unwrap();
        assert_eq!(names(&disk), ["", "a/x"]);
        model.sync("a/x").unwrap();
        assert_eq!(names(&disk), ["a/x"]);
        model.rename("a/x", "b/x").unwrap();
        assert_eq!(names(&disk), ["a/x", "b/x"]);
        model.rename("b/x", "b/y").unwrap();
        model.rename("b/y", "a/z").unwrap();
        assert_eq!(names(&disk), ["a/x", "a/z", "b/x", "b/y"]);
        model.sync("a").unwrap();
        assert_eq!(names(&disk), ["a/z"]);
    }

    #[test]
    fn a_file_is_synced_with_its_names_and_their_folders() {
        let (disk, model) = model();
        let file = model.create("a/x", &[b"1"]).unwrap();
        model.make_folder("a/new").unwrap();
        model.link("a/x", "a/new/y").unwrap();
        model.rename("a/new", "b/new").unwrap();
        model.sync_file(&file).unwrap();
        assert_eq!(names(&disk), ["a/x b/new/y"]);
        // A folder that is lost takes along what is in it.
        model.make_folder("b/other").unwrap();
        model.create("b/other/z", &[]).unwrap();
        assert_eq!(names(&disk), ["a/x b/new/y", "a/x b/new/y b/other/z"]);
    }

    #[test]
    fn bytes_are_torn_by_sectors() {
        let (disk, model) = model();
        let file = model.create("a/x", &[&[1; 1024]]).unwrap();
        model.sync_file(&file).unwrap();
        let node = disk.state().find("a/x").unwrap();
        disk.state().file(node).unwrap().fill(2);
        let contents: Vec<_> =
            cuts(&disk).into_iter().map(|files| [files[0].1[0], files[0].1[1023]]).collect();
        assert_eq!(contents, [[1, 1], [1, 2], [2, 1], [2, 2]]);
        model.overwrite("a/x", &[(&[3], 0)], true).unwrap();
        assert_eq!(cuts(&disk).len(), 1);
    }
}

//! Names in order, in folders by the time that they begin with, so that the first or the last of many are found
//! by listing three short folders.
//!
//! ```text
//! TREE/1111111/222/NAME      which 17 minutes, and which second of them, both in hexadecimal
//! ```
//!
//! Folders come with the first name in them, and go with the last one or when somebody finds them empty.

use super::super::{Result, StoreError};
use super::files::Files;
use super::folder::Folder;
use crate::jobs::time::Time;

/// How many digits the folders of each level have.
const DIGITS: [usize; 2] = [7, 3];

/// How many bits of a time, in milliseconds, the second level and the names have: few enough names for a busy
/// second, and few enough folders for a quiet week.
const BITS: u32 = 10;

/// How many empty folders are looked for at a time.
const PRUNED: usize = 2;

/// How often something is tried whose folders somebody else removes meanwhile.
const TRIES: usize = 8;

/// Where a name of that time is. Names of a tree have to sort as their times do.
pub fn place(tree: &str, time: Time, name: &str) -> String {
    let digits = digits(time);
    let (first, second) = digits.split_at(DIGITS[0]);
    format!("{tree}/{first}/{second}/{name}")
}

/// The folders of a time, as one.
fn digits(time: Time) -> String {
    let second = time.0.min((1 << 48) - 1) >> BITS;
    format!("{:07x}{:03x}", second >> BITS, second & ((1 << BITS) - 1))
}

impl<F: Folder> Files<F> {
    /// Gives a file a name in a tree as well.
    pub fn link_in_tree(&self, from: &str, to: &str) -> Result<()> {
        for _ in 0..TRIES {
            match self.note(from, to) {
                Err(StoreError::Lost) if self.exists(from)? => self.make_path_to(to)?,
                result => return result.map(drop),
            }
        }
        Err(StoreError::Lost)
    }

    /// Moves a name into a tree, or within it: whether it was there.
    pub fn rename_in_tree(&self, from: &str, to: &str) -> Result<bool> {
        for _ in 0..TRIES {
            if self.rename_if_any(from, to)? {
                return Ok(true);
            }
            if !self.exists(from)? {
                return Ok(false);
            }
            self.make_path_to(to)?;
        }
        Ok(false)
    }

    /// Takes a name out of a tree, with the folders that are empty then: whether it was there.
    pub fn remove_in_tree(&self, path: &str) -> Result<bool> {
        let was_there = self.remove_if_there(path)?;
        if was_there {
            self.prune(path)?;
        }
        Ok(was_there)
    }

    /// Removes the folders that this name was in, if they are empty.
    pub fn prune(&self, path: &str) -> Result<()> {
        let mut path = path;
        for _ in DIGITS {
            let Some((folder, _)) = path.rsplit_once('/') else { break };
            if !self.remove_if_empty(folder)? {
                break;
            }
            path = folder;
        }
        Ok(())
    }

    fn make_path_to(&self, path: &str) -> Result<()> {
        path.rsplit_once('/').map_or(Ok(()), |(folder, _)| self.make_path(folder))
    }

    /// Removes a few of the folders that are empty, any of them, but for that of this time.
    pub fn prune_some(&self, tree: &str, in_use: Time) -> Result<()> {
        let any = |mut names: Vec<String>, length: usize| {
            names.retain(|name| is_digits(name, length));
            let at = self.host().random() as usize % names.len().max(1);
            names.into_iter().nth(at)
        };
        let in_use = place(tree, in_use, "");
        for _ in 0..PRUNED {
            let Some(first) = any(self.names(tree)?, DIGITS[0]) else { break };
            let folder = format!("{tree}/{first}");
            let name = match any(self.names(&folder)?, DIGITS[1]) {
                Some(second) => format!("{folder}/{second}"),
                None => folder.clone(),
            };
            if format!("{name}/") < in_use && self.remove_if_empty(&name)? {
                self.remove_if_empty(&folder)?;
            }
        }
        Ok(())
    }
}

fn is_digits(name: &str, length: usize) -> bool {
    name.len() == length && name.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// A walk through the names of a tree, in order.
pub struct Walk {
    tree: String,
    is_newest_first: bool,
    /// Where it begins: the digits of this time.
    bound: Option<String>,
    /// The folders on the way, each with the names in it that are still to come, the next one last.
    open: Vec<(String, Vec<String>)>,
    is_begun: bool,
}

impl Walk {
    /// A walk through the names from this time on; those of the same second come as well.
    pub fn new(tree: String, is_newest_first: bool, bound: Option<Time>) -> Walk {
        Walk { tree, is_newest_first, bound: bound.map(digits), open: Vec::new(), is_begun: false }
    }

    /// The next path and its name.
    pub fn next<F: Folder>(&mut self, files: &Files<F>) -> Result<Option<(String, String)>> {
        if !self.is_begun {
            self.is_begun = true;
            self.enter(files, self.tree.clone(), "")?;
        }
        while let Some((folder, names)) = self.open.last_mut() {
            let Some(name) = names.pop() else {
                self.open.pop();
                continue;
            };
            let path = format!("{folder}/{name}");
            if self.open.len() > DIGITS.len() {
                return Ok(Some((path, name)));
            }
            let digits: String = path[self.tree.len()..].split('/').collect();
            self.enter(files, path, &digits)?;
        }
        Ok(None)
    }

    /// Goes into a folder that stands for these digits.
    fn enter<F: Folder>(&mut self, files: &Files<F>, folder: String, digits: &str) -> Result<()> {
        let mut names = files.sorted_names(&folder)?;
        if names.is_empty() && !digits.is_empty() {
            let _ = files.remove_if_empty(&folder); // It may be a file of somebody else's.
        }
        if let Some(length) = DIGITS.get(self.open.len()) {
            names.retain(|name| is_digits(name, *length) && self.is_within(&format!("{digits}{name}")));
        }
        if !self.is_newest_first {
            names.reverse();
        }
        self.open.push((folder, names));
        Ok(())
    }

    fn is_within(&self, digits: &str) -> bool {
        let Some(bound) = &self.bound else { return true };
        let bound = &bound[..digits.len()];
        if self.is_newest_first { digits <= bound } else { digits >= bound }
    }
}

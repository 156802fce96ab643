//! The jobs by state and worker, newest first: what `GET /jobs` reads.
//!
//! ```text
//! list/open/WORKER/…/ID      a job that has not ended: another name of its first file, in a tree; see tree.rs
//! list/STATE/WORKER/…/ID     one that has ended like this
//! retries/NAME               all jobs that are wanted are to begin again
//! retries/NAME.after         the last one of them that was seen to
//! ```
//!
//! A job gets its name here with its record, and so it is there after a power cut. Later it is moved without a
//! sync. So what a name says is a hint, and the job's own file decides: whoever reads a wrong one puts it right,
//! and whoever ends a job makes one that is missing.

use std::time::Duration;

use super::super::list::page;
use super::super::{Found, Mark, Range, Result, RetryAll, Store, StoreError, Wanted};
use super::files::Files;
use super::folder::Folder;
use super::tree::{Walk, place};
use super::{Dir, path, slots, unless_lost};
use crate::jobs::job::{Id, Job, Run, State};
use crate::jobs::time::Time;
use crate::log;

/// Under which names jobs may be.
const CLASSES: [&str; 4] = ["open", "succeeded", "failed", "cancelled"];

/// How often a name is put right whose job changes meanwhile.
const TRIES: usize = 4;

/// How long the folders of new jobs stay though they are empty: the next job would make new ones.
const IN_USE: Duration = Duration::from_secs(10);

/// The longest name of a worker that is a folder's name, too.
const WORKER: usize = 100;

/// What follows the name of what is to begin again.
const AFTER: &str = ".after";

/// Where it is noted what is to begin again.
fn noted(name: &str) -> String {
    format!("retries/{name}")
}

/// What a job that has come so far is listed under.
fn class_of(run: &Run) -> &'static str {
    run.end.as_ref().map_or(CLASSES[0], |end| end.state.name())
}

/// What jobs in this state are listed under.
fn class_in(state: State) -> &'static str {
    if state.is_end() { state.name() } else { CLASSES[0] }
}

fn tree(class: &str, worker: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    match (1..=WORKER).contains(&worker.len()) && worker.chars().all(is_plain) {
        true => format!("list/{class}/{worker}"),
        // Nobody's name begins like this.
        false => format!("list/{class}/~{:016x}", super::record::sum(worker.as_bytes())),
    }
}

pub fn entry(class: &str, worker: &str, id: Id) -> String {
    place(&tree(class, worker), id.created(), &id.to_string())
}

impl<F: Folder> Files<F> {
    /// Lists a job that is being recorded in this file.
    pub fn list_new(&self, id: Id, worker: &str, file: &str) -> Result<()> {
        self.link_in_tree(file, &entry(CLASSES[0], worker, id))
    }

    /// Lists a job, whose file this is, as what it has come to, having been another before.
    pub fn list_anew(&self, job: &Job, file: &str) -> Result<()> {
        let (worker, class) = (&job.input.worker, class_of(&job.run));
        let to = entry(class, worker, job.id);
        for other in CLASSES.into_iter().filter(|other| *other != class) {
            let from = entry(other, worker, job.id);
            if self.rename_in_tree(&from, &to)? {
                let is_in_use = self.host().wall() < job.id.created() + IN_USE;
                return if is_in_use { Ok(()) } else { self.prune(&from) };
            }
        }
        self.link_in_tree(file, &to)
    }

    /// Takes a job off the lists.
    pub fn unlist(&self, id: Id, worker: &str) -> Result<()> {
        CLASSES.into_iter().try_for_each(|class| self.remove_in_tree(&entry(class, worker, id)).map(drop))
    }

    /// Removes a few of the folders that jobs have left empty which ended before those were old enough to go.
    pub fn prune_lists(&self, now: Time) -> Result<()> {
        let workers = self.names("list/open")?;
        workers.iter().try_for_each(|worker| self.prune_some(&format!("list/open/{worker}"), now))
    }

    /// The trees in which the jobs may be that are wanted.
    fn trees(&self, wanted: &Wanted) -> Result<Vec<String>> {
        let classes = CLASSES.into_iter().filter(|class| wanted.state.is_none_or(|s| class_in(s) == *class));
        let mut trees = Vec::new();
        for class in classes {
            match &wanted.worker {
                Some(worker) => trees.push(tree(class, worker)),
                None => {
                    let workers = self.names(&format!("list/{class}"))?;
                    trees.extend(workers.iter().map(|worker| format!("list/{class}/{worker}")));
                }
            }
        }
        Ok(trees)
    }

    /// Records that all jobs that are wanted are to begin again: how many there are now. Those are listed like this
    /// after a power cut, too, and so they are found.
    pub fn note_retry(&self, wanted: &Wanted) -> Result<usize> {
        let (mut count, mut synced) = (0, String::new());
        for tree in self.trees(wanted)? {
            let mut walk = Walk::new(tree, true, None);
            while let Some((path, name)) = walk.next(self)? {
                count += usize::from(Id::parse(&name).is_some());
                let folder = path.strip_suffix(&*name).unwrap_or(&path);
                if synced != folder {
                    unless_lost(self.sync(folder))?;
                    synced = folder.to_owned();
                }
            }
        }
        let wanted = serde_json::to_vec(wanted).expect("a struct with plain fields");
        // Who looks here at this moment finds all of it, or nothing.
        self.write(&noted(&self.token()), &wanted, true)?;
        self.sync("retries")?;
        Ok(count)
    }

    pub fn retries(&self) -> Result<Vec<RetryAll>> {
        let mut retries = Vec::new();
        for name in self.sorted_names("retries")?.into_iter().filter(|name| !name.contains('.')) {
            let path = noted(&name);
            let Some(wanted) = self.read(&path)? else { continue };
            let Ok(wanted) = serde_json::from_slice(&wanted) else {
                self.set_aside(&path, "it does not say what is to begin again")?;
                continue;
            };
            let after = self.read(&(path + AFTER))?;
            let after = after.and_then(|id| Id::parse(str::from_utf8(&id).ok()?));
            retries.push(RetryAll { name, wanted, after });
        }
        Ok(retries)
    }

    pub fn note_retried(&self, retry: &RetryAll, last: Id) -> Result<()> {
        self.write(&(noted(&retry.name) + AFTER), last.to_string().as_bytes(), false)
    }

    pub fn forget_retry(&self, retry: &RetryAll) -> Result<()> {
        let path = noted(&retry.name);
        self.remove_if_any(&(path.clone() + AFTER))?;
        self.remove_if_any(&path)?;
        self.sync("retries") // No power cut brings it back.
    }
}

impl<F: Folder> Dir<F> {
    /// Lists a claimed job as what it has come to. If that fails, whoever reads the list does it.
    pub fn relist(&self, job: &Job, file: &str) {
        if let Err(error) = unless_lost(self.files.list_anew(job, file)) {
            log::error(error);
        }
    }

    /// The first of the jobs that are wanted, at most so many.
    pub fn list_jobs(&self, wanted: &Wanted, range: Range, most: usize) -> Result<Vec<Found>> {
        let mut jobs = self.list_others(wanted, range, most, &[])?;
        // A name or a slot that is moved can be missed in its old place and in its new one, once. A job that has only
        // one place where it is wanted cannot.
        if wanted.state.is_none_or(|state| state == State::Running) {
            jobs.extend(self.list_others(wanted, range, most, &jobs)?);
            jobs.sort_unstable_by(|one, other| range.order(one.job.id, other.job.id));
            jobs.truncate(most);
        }
        Ok(jobs)
    }

    /// The same without those that are known, and those that come after them if no more are wanted.
    fn list_others(&self, wanted: &Wanted, range: Range, most: usize, known: &[Found]) -> Result<Vec<Found>> {
        let last = known.last().filter(|_| known.len() == most).map(|found| found.job.id);
        let is_after = |id: Id| last.is_some_and(|last| range.order(last, id).is_lt());
        let is_known = |id: Id| known.binary_search_by(|found| range.order(found.job.id, id)).is_ok();
        let marks = self.marks()?;
        let mut running = Vec::new();
        if let Some(State::Queued | State::Running) = wanted.state {
            running = self.running()?;
        }
        if wanted.state == Some(State::Running) {
            // They are as few as there are lanes, and nowhere but here.
            running.retain(|id| range.has(*id) && !is_known(*id));
            range.sort(&mut running);
            let is_here = |id: &Id| match &wanted.worker {
                Some(worker) => self.files.exists(&entry(CLASSES[0], worker, *id)),
                None => Ok(true),
            };
            let mut running = running.into_iter();
            return page(self, (wanted, range, most), &mut || {
                for id in running.by_ref() {
                    if is_here(&id)?
                        && let Some(found) = self.find_unless_damaged(id, &marks)?
                    {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            });
        }
        let (Range::Before(bound) | Range::After(bound)) = range;
        let bound = bound.map(Id::created);
        let mut walks = Vec::new();
        for tree in self.files.trees(wanted)? {
            let mut walk = Walk::new(tree, range.is_newest_first(), bound);
            walks.extend(self.next_entry(&mut walk, range)?.map(|next| (next, walk)));
        }
        page(self, (wanted, range, most), &mut || {
            loop {
                let ids = walks.iter().enumerate().map(|(index, ((id, _), _))| (*id, index));
                let next = if range.is_newest_first() { ids.max() } else { ids.min() };
                let Some((id, index)) = next.filter(|(id, _)| !is_after(*id)) else { return Ok(None) };
                let entry = std::mem::take(&mut walks[index].0.1);
                match self.next_entry(&mut walks[index].1, range)? {
                    Some(next) => walks[index].0 = next,
                    None => drop(walks.swap_remove(index)),
                }
                if !running.contains(&id)
                    && !is_known(id)
                    && let Some(found) = self.find_listed(id, entry, &marks)?
                {
                    return Ok(Some(found));
                }
            }
        })
    }

    /// The next job of a walk, and its name in the tree.
    fn next_entry(&self, walk: &mut Walk, range: Range) -> Result<Option<(Id, String)>> {
        while let Some((path, name)) = walk.next(&self.files)? {
            if let Some(id) = Id::parse(&name).filter(|id| range.has(*id)) {
                return Ok(Some((id, path)));
            }
        }
        Ok(None)
    }

    /// The jobs that run.
    fn running(&self) -> Result<Vec<Id>> {
        let mut running = Vec::new();
        for (_, folder) in self.files.held_slots()? {
            let names = self.files.names(&folder)?;
            running.extend(
                names.iter().filter(|name| !name.ends_with(slots::TELL)).filter_map(|n| Id::parse(n)),
            );
        }
        Ok(running)
    }

    /// The job that is listed here, which is put right if that is wrong.
    fn find_listed(&self, id: Id, mut entry: String, marks: &[Mark]) -> Result<Option<Found>> {
        for _ in 0..TRIES {
            let Some(found) = self.find_unless_damaged(id, marks)? else {
                if !self.files.exists(&path("jobs", id))? {
                    self.files.remove_in_tree(&entry)?;
                }
                return Ok(None);
            };
            let right = self::entry(class_of(&found.job.run), &found.job.input.worker, id);
            if entry == right {
                return Ok(Some(found));
            }
            // Its state may have changed since: who moves a name looks again.
            if self.files.exists(&right)? {
                self.files.remove_in_tree(&entry)?;
            } else if self.files.rename_in_tree(&entry, &right)? {
                self.files.prune(&entry)?;
            }
            entry = right;
        }
        self.find_unless_damaged(id, marks)
    }

    /// A job; none if what the store holds of it makes no sense: whoever claims it sets that aside.
    fn find_unless_damaged(&self, id: Id, marks: &[Mark]) -> Result<Option<Found>> {
        match self.find_with(id, marks) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            result => result,
        }
    }
}

//! A spool directory, in the tradition of mail and print spools: everything is a file, and what must
//! happen once is a rename, which only one of many can win.
//!
//! ```text
//! fresh/ID               a job that is being recorded; it goes into the queue after its ack
//! queue/…  outbox/…      waiting jobs; see queue.rs
//! slots/ROLE.SIGN/ID     the claims of a slot; see slots.rs (`ID.tell`: somebody is told of its end)
//! done/ID                a job that has ended, and all have been told
//! gone/ID                a job that is being removed
//!
//! jobs/ID                what was accepted: a second name of the job's first file
//! turns/…  groups/…      jobs that run one after the other; see groups.rs
//! joining/ID             one that has begun again and is about to be the last of them
//! keys/DIGEST/ID         the job of an idempotency key: at most one
//! marks/ID.ROUND.ASK     what a client asks of a job
//! list/…  retries/…      the jobs by state and worker; see list.rs
//! where/ID               where a job waits, if not under the time at which it was accepted
//! ended/…  totals/…      what has ended when; see ended.rs
//! waiters/…              clients that wait for an answer
//! length                 how many jobs waited when; where it is, all the others are
//! tmp/                   what is being written
//! damaged/               what made no sense, set aside
//! ```
//!
//! A job is one file, always in exactly one of the first five places, so there is nothing to reconcile
//! after a crash. (Who had opened it before its slot was taken over writes into a file that is none any
//! more: what is taken over is copied.)
//!
//! After a power cut, a job's file is in one of the places that it was in since it was synced; what it
//! says of how far the job has come is as it was synced last, and that decides. A file in `fresh` that is
//! whole belongs to a job that was recorded: it begins.

mod ended;
mod files;
mod folder;
#[cfg(not(target_arch = "wasm32"))]
mod folder_std;
#[cfg(target_arch = "wasm32")]
mod folder_wasi;
mod groups;
mod list;
#[cfg(test)]
pub mod model;
mod queue;
mod record;
mod slots;
mod tree;
mod waiters;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::{
    Ask, Counts, Due, Found, Holding, Kind, Mark, News, Outlook, Place, Put, Range, Result, RetryAll, Role,
    Save, Slot, Store, StoreError, Waiter, Wanted,
};
use crate::jobs::fault;
use crate::jobs::host::Host;
use crate::jobs::job::{Id, Input, Job, Recorded, Run, State};
use crate::jobs::options::Group;
use crate::jobs::time::Time;
use files::{BEGINNING, Files};
use folder::Folder;
use record::Stored;
use slots::{claim_in, claimed, slot_folder};

#[cfg(not(target_arch = "wasm32"))]
pub use folder_std::Mounted;
#[cfg(target_arch = "wasm32")]
pub use folder_wasi::Mounted;

/// The folders of a store, but for the slots.
const FOLDERS: [&str; 19] = [
    "tmp", "fresh", "queue", "outbox", "turns", "groups", "joining", "done", "gone", "jobs", "keys", "marks",
    "list", "retries", "where", "ended", "totals", "waiters", "damaged",
];

/// How long and how often, at least, a job is looked for that exists and is in none of its places: a host may stop in
/// the middle of a look.
const MISSED: Duration = Duration::from_secs(2);
const ROUNDS: u32 = 16;

/// How often a job is looked for that is moved meanwhile.
const MOVES: usize = 16;

/// How long removing goes on at a time.
const PIECE: Duration = Duration::from_millis(10);

/// How many bytes that its steps have come to are left in a job's file after its success, which is quicker.
const KEPT: u64 = 16 * 1024;

/// A store in a folder.
pub struct Dir<F> {
    files: Files<F>,
    /// What was recorded here and is not in the queue yet.
    recorded: RefCell<Vec<(Due, Option<Group>)>>,
    /// It was made as a whole, as far as this invocation knows.
    is_made: Cell<bool>,
    /// The note of the queue's length, if it has just been read.
    note: RefCell<Option<Vec<u8>>>,
    /// Until when that note is new enough, as far as this invocation knows.
    note_stays: Cell<Duration>,
}

impl Dir<Mounted> {
    /// The store in this folder, an absolute path.
    pub fn mounted(root: &str, host: Rc<dyn Host>) -> Dir<Mounted> {
        Dir::new(Mounted::new(root.into()), host)
    }
}

impl<F: Folder> Dir<F> {
    pub fn new(folder: F, host: Rc<dyn Host>) -> Dir<F> {
        let files = Files::new(folder, host);
        Dir {
            files,
            recorded: RefCell::default(),
            is_made: Cell::default(),
            note: RefCell::default(),
            note_stays: Cell::default(),
        }
    }

    /// Makes what is missing, durably, and at last the file that says so.
    fn make(&self) -> Result<()> {
        for folder in FOLDERS {
            self.files.make_folder(folder)?;
        }
        self.files.make_slots()?;
        self.files.sync(".")?;
        if !self.files.exists(queue::LENGTH)? {
            self.note_length(self.length_of(queue::FOLDERS[0])?, self.files.host().wall())?;
        }
        self.is_made.set(true);
        Ok(())
    }

    /// Makes what is missing, unless nothing is.
    fn make_once(&self) -> Result<()> {
        if self.is_made.get() {
            return Ok(());
        }
        // That is asked next.
        let note = self.files.read(queue::LENGTH)?;
        if note.is_none() {
            return self.make();
        }
        self.note.replace(note);
        self.is_made.set(true);
        Ok(())
    }

    /// Does something again, if it fails in a store that lacks folders, as one restored from a backup may.
    fn with_folders<T>(&self, act: impl Fn() -> Result<T>) -> Result<T> {
        self.make_once()?;
        act().or_else(|error| {
            let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
            match error {
                StoreError::Lost => {}
                StoreError::Failed { ref error, .. } if is_missing(error) => {}
                error => return Err(error),
            }
            self.make()?;
            act()
        })
    }

    /// Records a job as a file in `fresh`; `None` if somebody else has taken its key meanwhile.
    fn record(&self, id: Id, input: &Input) -> Result<Option<()>> {
        let fresh = path("fresh", id);
        let file = self.files.create_open(&fresh, &[&record::before_body(input), &input.body])?;
        self.files.link(&fresh, &path("jobs", id))?;
        self.files.list_new(id, &input.worker, &fresh)?;
        if let Some(key) = &input.key
            && !self.take_key(key, id)?
        {
            return Ok(None);
        }
        if let Some(group) = &input.group {
            self.join(&fresh, id, group)?;
        }
        self.files.sync_open(&fresh, &file)?; // With all its names.
        Ok(Some(()))
    }

    /// Puts a job that is recorded into the queue, unless somebody has.
    fn enqueue(&self, due: Due, group: Option<&Group>) -> Result<()> {
        let fresh = path("fresh", due.id);
        let queued = match group {
            Some(group) => self.queue_in_turn(&fresh, due, group),
            None => self.queue(&fresh, due, self.files.host().wall()),
        };
        unless_lost(queued)
    }

    /// Takes a key for a job that is being recorded, unless another job has it. The key is a folder, so
    /// that only what names this job is ever removed from it.
    fn take_key(&self, key: &str, id: Id) -> Result<bool> {
        self.files.take(&key_folder(key), "keys", &id.to_string(), &path("fresh", id))
    }

    fn release_key(&self, key: &str, id: Id) -> Result<()> {
        self.files.remove_if_any(&path(&key_folder(key), id))?;
        self.files.remove_if_empty(&key_folder(key)).map(drop)
    }

    /// The job that has this key, if one has.
    fn holder_of(&self, key: &str) -> Result<Option<Id>> {
        Ok(self.files.names(&key_folder(key))?.iter().find_map(|name| Id::parse(name)))
    }

    /// What a key was used for, if it was. A key counts only while its job is there.
    fn known(&self, key: &str, request: &str) -> Result<Option<Put>> {
        let Some(id) = self.holder_of(key)? else { return Ok(None) };
        let input = match self.find(id) {
            Ok(Some(found)) => Some(found.job.input),
            Ok(None) => {
                self.release_key(key, id)?;
                return Ok(None);
            }
            Err(StoreError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        // Whoever used it first may be about to sync it, or have died.
        if let Some(input) = &input {
            let joined = self.finish_joining(&path("fresh", id), id, input);
            unless_lost(joined.and_then(|()| self.enqueue(Due::new(id, input), input.group.as_ref())))?;
        }
        let same = input.is_none_or(|input| input.request == request);
        Ok(Some(if same { Put::Known(id) } else { Put::Conflict }))
    }

    /// Lets a job take its turn or a number, if it belongs to a group, and syncs it with that.
    fn finish_joining(&self, from: &str, id: Id, input: &Input) -> Result<()> {
        if let Some(group) = &input.group
            && self.files.exists(from)?
        {
            self.join(from, id, group)?;
        }
        self.files.sync(from)
    }

    /// Removes what was being recorded.
    fn discard(&self, id: Id) -> Result<()> {
        let fresh = path("fresh", id);
        let group = self.input_at(id, &fresh).ok().flatten().and_then(|input| input.group);
        if !self.files.rename_if_any(&fresh, &path("gone", id))? {
            return Ok(());
        }
        self.forget(id)?;
        group.map_or(Ok(()), |group| self.settle(&group.digest(), None))
    }

    /// Removes all that there is of a job in `gone`, and at last that, which brings whoever finds it back
    /// here.
    fn forget(&self, id: Id) -> Result<()> {
        let (gone, of_input) = (path("gone", id), path("jobs", id));
        for file in [&gone, &of_input] {
            if let Ok(Some(Input { key, worker, group, .. })) = self.input_at(id, file) {
                if let Some(key) = key {
                    self.release_key(&key, id)?;
                }
                if group.is_some() {
                    self.forget_number(id)?;
                }
                self.files.unlist(id, &worker)?;
                break;
            }
        }
        self.files.remove_if_any(&path("where", id))?;
        self.files.remove_if_any(&of_input)?;
        self.files.remove_all(&gone)
    }

    /// What was accepted, by a file that holds it, if that is there and does.
    fn input_at(&self, id: Id, file: &str) -> Result<Option<Input>> {
        let beginning = self.files.beginning(file)?;
        beginning.map_or(Ok(None), |beginning| self.input_by(id, file, &beginning))
    }

    /// The same by its beginning.
    fn input_by(&self, id: Id, file: &str, beginning: &[u8]) -> Result<Option<Input>> {
        let damaged = |reason| StoreError::Damaged { id, reason };
        if !record::has_input(beginning) {
            return Ok(None);
        }
        if let Some(input) = record::decode_input_head(beginning).map_err(damaged)? {
            return Ok(Some(input));
        }
        // A head that is longer than the beginning.
        let whole = self.files.read(file)?;
        whole.map(|whole| record::decode_input(whole).map_err(damaged)).transpose()
    }

    /// Where a job is, and the beginning of its file. One that exists is searched for if it is not where
    /// it should be.
    fn locate(&self, id: Id, exists: bool) -> Result<Option<(String, Vec<u8>, Place)>> {
        let begun = self.files.host().elapsed();
        // A job that is being moved, or whose slot is renewed, can be missed in its old place and in its new one: on a
        // busy host again and again.
        for round in 0_u32.. {
            let done = path("done", id);
            if let Some(file) = self.files.beginning(&done)? {
                return Ok(Some((done, file, Place::Done)));
            }
            let mut places = Vec::new();
            for (_, slot) in self.files.held_slots()? {
                places.extend([Kind::Work, Kind::Tell].map(|kind| (claim_in(&slot, id, kind), Place::Slot)));
            }
            places.extend(self.waiting_places(id)?.map(|place| (place, Place::Queue)));
            places.extend(
                [path("fresh", id), groups::parked(id), path("joining", id)].map(|p| (p, Place::Queue)),
            );
            if exists && round >= 2 && round.is_power_of_two() {
                places.extend(self.search(id)?.map(|place| (place, Place::Queue)));
            }
            for (place, kind) in places {
                if let Some(file) = self.files.beginning(&place)? {
                    return Ok(Some((place, file, kind)));
                }
            }
            if !exists
                || round >= 4 && self.is_purged(id)?
                || round >= ROUNDS && self.files.host().elapsed() > begun + MISSED
            {
                break;
            }
        }
        Ok(None)
    }

    /// A job with those of these marks that are its. They were read first: a job that still waits after its mark
    /// was seen is not begun without it being seen.
    fn find_with(&self, id: Id, marks: &[Mark]) -> Result<Option<Found>> {
        let input = self.input_at(id, &path("jobs", id))?;
        let Some((place, file, kind)) = self.locate(id, input.is_some())? else { return Ok(None) };
        let input = match input {
            Some(input) => input,
            None => match self.input_by(id, &place, &file)? {
                Some(input) => input,
                None => return Ok(None),
            },
        };
        let run = record::decode_run_head(&file).map_err(|reason| StoreError::Damaged { id, reason })?;
        let is_asked = |ask| marks.contains(&Mark { id, round: run.round, ask });
        let asked = Ask::open(&run, is_asked);
        Ok(Some(Found { job: Job::new(id, input, run, Kind::Work), place: kind, asked }))
    }

    /// Stores the next version of how far a claimed job has come, which is none if that fails. It goes into the
    /// half that the last durable version is not in.
    fn next_version(&self, job: &mut Job, store: impl FnOnce(&mut Job) -> Result<()>) -> Result<()> {
        let before = job.run.version;
        job.run.version += if (before + 1) % 2 == job.durable % 2 { 2 } else { 1 };
        let stored = store(job);
        if stored.is_err() {
            job.run.version = before;
        }
        stored
    }

    /// Writes over what is stored of how far a claimed job has come, and appends results of its steps.
    fn write_over(&self, slot: &Slot, job: &mut Job, results: &[Recorded], sync: bool) -> Result<()> {
        let place = claimed(slot, job.id, job.claim);
        let steps: Vec<u8> = results.iter().flat_map(record::step).collect();
        let (half, at) = match record::store(&job.run) {
            Stored::Half(half, at) => (half, at),
            Stored::File(_) if !self.files.exists(&place)? => return Err(StoreError::Lost),
            Stored::File(file) => return self.replace(slot, job, file, &steps),
        };
        // The steps first: who dies in between has recorded nothing.
        self.files.overwrite(&place, &[(&steps, job.record.end), (&half, at)], sync)?;
        // Who has taken it over since it was opened has moved it first.
        if !self.files.exists(&place)? {
            return Err(StoreError::Lost);
        }
        job.record.end += steps.len() as u64;
        if sync {
            job.durable = job.run.version;
        }
        if has_succeeded(job) && job.record.end - job.record.start > KEPT {
            // Nobody needs what its steps have come to any more.
            self.files.shorten(&place, job.record.start)?;
            self.shorten_input(job.id)?;
        }
        Ok(())
    }

    /// Appends what its steps have come to to the record of a claimed job.
    fn record_steps(&self, slot: &Slot, job: &mut Job, results: &[Recorded]) -> Result<()> {
        let before = (job.run.recorded, job.run.recorded_last);
        job.run.recorded_last = results.len() as u32;
        job.run.recorded += job.run.recorded_last;
        let recorded = self.next_version(job, |job| self.write_over(slot, job, results, true));
        if recorded.is_err() {
            (job.run.recorded, job.run.recorded_last) = before;
        }
        recorded
    }

    /// Puts a new file in the place of a claimed job's, durably, with what its steps have come to.
    fn replace(&self, slot: &Slot, job: &mut Job, mut file: Vec<u8>, steps: &[u8]) -> Result<()> {
        let place = claimed(slot, job.id, job.claim);
        let from = file.len() as u64;
        if job.run.recorded > 0 && !has_succeeded(job) {
            let recorded = self.files.read_part(&place, job.record.start, usize::MAX)?;
            let recorded = recorded.unwrap_or_default();
            file.extend(&recorded[..record::decode_steps(&recorded).1 as usize]);
            file.extend(steps);
        }
        self.files.write(&place, &file, true)?;
        if self.is_purged(job.id)? {
            self.files.remove_if_any(&place)?; // Whoever did that has found the file before this one.
            return Err(StoreError::Lost);
        }
        self.files.sync(&slot_folder(slot))?;
        job.record = from..file.len() as u64;
        job.durable = job.run.version;
        if has_succeeded(job) && job.run.recorded > 0 { self.shorten_input(job.id) } else { Ok(()) }
    }

    /// Whether somebody has removed a job, or is at it.
    fn is_purged(&self, id: Id) -> Result<bool> {
        Ok(self.files.exists(&path("gone", id))? || !self.files.exists(&path("jobs", id))?)
    }

    /// Leaves in the file of what was accepted nothing but that.
    fn shorten_input(&self, id: Id) -> Result<()> {
        let of_input = path("jobs", id);
        let beginning = self.files.beginning(&of_input)?.unwrap_or_default();
        match record::steps_begin(&beginning) {
            Ok(end) => self.files.shorten(&of_input, end),
            Err(_) => Ok(()),
        }
    }

    /// How far a job has come, with what its last step has left, by its file and the beginning of that.
    fn run_by(&self, id: Id, file: &str, beginning: &[u8]) -> Result<Run> {
        let damaged = |reason| StoreError::Damaged { id, reason };
        if beginning.len() < BEGINNING {
            return record::decode_run(beginning).map_err(damaged);
        }
        if record::has_input(beginning) {
            return record::decode_run_head(beginning).map_err(damaged);
        }
        let whole = self.files.read(file)?.ok_or(StoreError::Lost)?;
        record::decode_run(&whole).map_err(damaged)
    }
}

impl<F: Folder> Store for Dir<F> {
    fn open(&self) -> Result<()> {
        self.make()?;
        let trial = self.files.unused();
        self.files.create(&trial, &[], false)?;
        self.files.remove_if_any(&trial)
    }

    fn put(&self, id: Id, input: &Input, most: usize, now: Time) -> Result<Put> {
        self.with_folders(|| {
            // A request that was answered before is answered again, however full the queue is.
            if let Some(key) = &input.key
                && let Some(known) = self.known(key, &input.request)?
            {
                return Ok(known);
            }
            if self.is_full(most, now)? {
                return Ok(Put::Full);
            }
            match self.record(id, input) {
                Ok(Some(())) => {}
                Ok(None) => {
                    self.discard(id)?;
                    let key = input.key.as_ref().map(|key| self.known(key, &input.request));
                    return Ok(key.transpose()?.flatten().unwrap_or(Put::Conflict));
                }
                // It took so long that somebody else has finished it.
                Err(_) if !self.files.exists(&path("fresh", id))? && self.find(id)?.is_some() => {
                    return Ok(Put::New);
                }
                Err(error) => {
                    // For good, before the same is tried again: what a power cut would bring back is another file.
                    self.make().and_then(|()| self.discard(id)).and_then(|()| self.files.sync("gone"))?;
                    return Err(error);
                }
            }
            self.recorded.borrow_mut().push((Due::new(id, input), input.group.clone()));
            fault::point("recorded");
            Ok(Put::New)
        })
    }

    fn begin(&self) -> Result<()> {
        let mut recorded = self.recorded.borrow_mut();
        while let Some((due, group)) = recorded.first() {
            self.enqueue(*due, group.as_ref())?;
            recorded.remove(0);
        }
        Ok(())
    }

    fn find(&self, id: Id) -> Result<Option<Found>> {
        self.find_with(id, &self.marks()?)
    }

    fn output(&self, id: Id) -> Result<Option<Vec<u8>>> {
        let Some((place, file, _)) = self.locate(id, true)? else { return Ok(None) };
        self.run_by(id, &place, &file).map(|run| Some(run.bytes))
    }

    fn body(&self, id: Id) -> Result<Vec<u8>> {
        let damaged = |reason| StoreError::Damaged { id, reason };
        let file =
            self.files.read(&path("jobs", id))?.ok_or_else(|| damaged("its input is missing".into()))?;
        record::decode_input(file).map(|input| input.body).map_err(damaged)
    }

    fn ask(&self, mark: Mark) -> Result<()> {
        self.with_folders(|| self.files.create_if_none(&mark_path(mark)))
    }

    fn forget_mark(&self, mark: Mark) -> Result<()> {
        if mark.ask == Ask::Retry {
            // No power cut may leave among those that have ended what nobody is asked to begin again.
            self.sync_job(mark.id)?;
        }
        self.files.remove_if_any(&mark_path(mark))
    }

    fn marks(&self) -> Result<Vec<Mark>> {
        let parse = |name: &String| {
            let mut parts = name.split('.');
            let (id, round) = (Id::parse(parts.next()?)?, parts.next()?.parse().ok()?);
            let ask = Ask::parse(parts.next()?)?;
            parts.next().is_none().then_some(Mark { id, round, ask })
        };
        Ok(self.files.names("marks")?.iter().filter_map(parse).collect())
    }

    fn is_marked(&self, mark: Mark) -> Result<bool> {
        self.files.exists(&mark_path(mark))
    }

    fn list(&self, wanted: &Wanted, range: Range, most: usize) -> Result<Vec<Found>> {
        self.list_jobs(wanted, range, most)
    }

    fn retry_all(&self, wanted: &Wanted) -> Result<usize> {
        self.with_folders(|| self.files.note_retry(wanted))
    }

    fn retries(&self) -> Result<Vec<RetryAll>> {
        self.files.retries()
    }

    fn note_retried(&self, retry: &RetryAll, last: Id) -> Result<()> {
        self.files.note_retried(retry, last)
    }

    fn forget_retry(&self, retry: &RetryAll) -> Result<()> {
        self.files.forget_retry(retry)
    }

    fn purge(&self, found: &Found, keep: Duration) -> Result<bool> {
        self.purge_ended(found, keep)
    }

    fn look(&self, now: Time, most: usize, mend: bool) -> Result<Outlook> {
        self.look_at_queue(now, most, mend)
    }

    fn bell(&self) -> Result<u64> {
        let [queue, outbox] = queue::FOLDERS.map(|folder| self.files.changed(folder));
        Ok(queue? ^ outbox?.rotate_left(32))
    }

    fn slots(&self) -> Result<Vec<(Role, Holding)>> {
        self.make_once()?;
        self.files.slots()
    }

    fn mend_slots(&self) -> Result<()> {
        self.files.mend_slots()
    }

    fn pulse(&self) -> Result<u64> {
        self.files.changed(slots::SLOTS_FOLDER)
    }

    fn enter(&self, role: Role, seen: &Holding) -> Result<Option<Slot>> {
        self.files.enter_slot(role, seen)
    }

    fn renew(&self, slot: &mut Slot) -> Result<()> {
        self.files.renew_slot(slot)
    }

    fn leave(&self, slot: Slot) -> Result<()> {
        self.files.leave_slot(slot)
    }

    fn claims(&self, slot: &Slot) -> Result<Vec<(Id, Kind)>> {
        self.files.claims_of(slot)
    }

    fn claim(&self, slot: &Slot, due: &[Due], most: usize) -> Result<Vec<Due>> {
        let mut taken = Vec::new();
        for due in due {
            if taken.len() == most {
                break;
            }
            let to = claimed(slot, due.id, due.kind);
            match self.files.rename_if_any(&queue::in_queue(due), &to) {
                Ok(true) => {
                    fault::point("claimed");
                    taken.push(*due);
                }
                Ok(false) if !self.files.exists(&slot_folder(slot))? => return Err(StoreError::Lost),
                Ok(false) => {}
                Err(error) if taken.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(taken)
    }

    fn claim_any(&self, slot: &Slot, id: Id) -> Result<Option<Kind>> {
        let take = |place: &str| {
            let kind = if place.starts_with("queue/") { Kind::Work } else { Kind::Tell };
            Ok(self.take_from(place, &claimed(slot, id, kind))?.then_some(kind))
        };
        let first = [path("done", id), groups::parked(id)];
        for place in first.into_iter().chain(self.waiting_places(id)?) {
            if let Some(kind) = take(&place)? {
                return Ok(Some(kind));
            }
        }
        if let Some(place) = self.search(id)?
            && let Some(kind) = take(&place)?
        {
            return Ok(Some(kind));
        }
        match self.files.exists(&slot_folder(slot))? {
            true => Ok(None),
            false => Err(StoreError::Lost),
        }
    }

    fn load(&self, slot: &Slot, id: Id, kind: Kind) -> Result<Job> {
        let place = claimed(slot, id, kind);
        let beginning = self.files.beginning(&place)?.ok_or(StoreError::Lost)?;
        let run = self.run_by(id, &place, &beginning)?;
        let input = match self.input_by(id, &place, &beginning)? {
            Some(input) => Some(input),
            None => self.input_at(id, &path("jobs", id))?,
        };
        let damaged = |reason| StoreError::Damaged { id, reason };
        let input = input.ok_or_else(|| damaged("its input is missing".into()))?;
        let from = record::steps_begin(&beginning).map_err(damaged)?;
        Ok(Job { record: from..from, ..Job::new(id, input, run, kind) })
    }

    fn repair(&self, slot: &Slot, id: Id, kind: Kind, reason: &str, run: Run) -> Result<Option<Job>> {
        let (place, of_input) = (claimed(slot, id, kind), path("jobs", id));
        self.files.set_aside(&place, reason)?;
        if !self.files.exists(&of_input)? {
            return Ok(None); // Nothing that was ever accepted.
        }
        let input = self.input_at(id, &of_input).ok().flatten();
        let has_input = input.is_some() && self.body(id).is_ok();
        let mut job = Job::new(id, input.unwrap_or_default(), run, kind);
        if has_input {
            self.save_anew(slot, &mut job)?;
        } else {
            self.files.set_aside(&of_input, reason)?;
            self.files.create(&place, &[&record::before_body(&job.input), &job.input.body], true)?;
            self.files.link(&place, &of_input)?;
            self.save(slot, &mut job)?;
            self.settle_wherever(id, &place)?;
        }
        Ok(Some(job))
    }

    fn save(&self, slot: &Slot, job: &mut Job) -> Result<()> {
        self.next_version(job, |job| self.write_over(slot, job, &[], true))
    }

    fn note(&self, slot: &Slot, job: &mut Job) -> Result<()> {
        self.next_version(job, |job| self.write_over(slot, job, &[], false))
    }

    fn save_all(&self, slot: &Slot, saves: &mut [Save]) -> Vec<Result<bool>> {
        let save = |Save { job, news }: &mut Save| match news {
            News::Steps(results) => self.record_steps(slot, job, results),
            News::End => self.save(slot, job),
        };
        saves.iter_mut().map(|one| save(one).map(|()| false)).collect()
    }

    fn recorded(&self, slot: &Slot, job: &mut Job) -> Result<Vec<Recorded>> {
        let place = claimed(slot, job.id, job.claim);
        let bytes = self.files.read_part(&place, job.record.start, usize::MAX)?.ok_or(StoreError::Lost)?;
        let (recorded, length) = record::decode_steps(&bytes);
        // The last ones may have been lost in a power cut, before anybody relied on them.
        if recorded.len() < job.run.recorded.saturating_sub(job.run.recorded_last) as usize {
            let reason = format!("{} of {} results of its steps are there", recorded.len(), job.run.recorded);
            return Err(StoreError::Damaged { id: job.id, reason });
        }
        job.record.end = job.record.start + length;
        job.run.recorded = recorded.len() as u32;
        Ok(recorded)
    }

    fn save_anew(&self, slot: &Slot, job: &mut Job) -> Result<()> {
        self.next_version(job, |job| {
            let file = record::run_file(&job.run);
            self.replace(slot, job, file, &[])
        })
    }

    fn release(&self, slot: &Slot, job: &Job, now: Time, keep: Duration) -> Result<()> {
        let from = claimed(slot, job.id, job.claim);
        let has_just_ended = job.run.end.is_some() && job.claim != Kind::Tell;
        if has_just_ended {
            if !self.files.exists(&from)? {
                return Err(StoreError::Lost);
            }
            if let Some(group) = &job.input.group {
                self.leave(&from, job.id, group)?;
            }
            self.files.note_end(job.id, &job.run, keep)?;
        }
        let begins_again = job.run.end.is_none() && job.claim == Kind::Tell;
        if has_just_ended || begins_again {
            self.relist(job, &from);
        }
        match Due::of(job.id, &job.run) {
            Some(due) if job.run.end.is_none() && !self.is_in_turn(job.id, &job.input)? => {
                self.join_again(&from, due, &job.input)?;
            }
            Some(due) => self.queue(&from, due, now)?,
            None => self.files.rename(&from, &path("done", job.id))?,
        }
        if has_just_ended {
            fault::trace("settled", job.id, job.run.version);
        }
        Ok(())
    }

    fn note_untold(&self) -> Result<()> {
        self.files.note_untold()
    }

    fn unfinished(&self) -> Result<Vec<String>> {
        let mut unfinished = Vec::new();
        for folder in ["fresh", "tmp", "gone", "joining"] {
            unfinished.extend(self.files.names(folder)?.iter().map(|name| format!("{folder}/{name}")));
        }
        Ok(unfinished)
    }

    fn finish(&self, unfinished: &str) -> Result<()> {
        let (folder, name) = unfinished.split_once('/').unwrap_or_default();
        match (folder, Id::parse(name)) {
            ("fresh", Some(id)) => unless_lost(self.finish_recording(id)), // Or somebody else has.
            ("gone", Some(id)) => unless_lost(match self.begins_again(id) {
                Ok(false) => self.forget(id),
                again => again.map(drop), // Or somebody else has.
            }),
            ("joining", Some(id)) => unless_lost(self.finish_joining_again(id)), // Or somebody else has.
            ("tmp", _) => self.files.remove_all(unfinished),
            _ => self.files.set_aside(unfinished, "it is no job's name"),
        }
    }

    fn remove_expired(&self, now: Time, keep: Duration) -> Result<Option<Time>> {
        self.files.tolerate(self.files.prune_lists(now))?;
        let until = self.files.host().elapsed() + PIECE;
        self.remove_ended(now, keep, &|| self.files.host().elapsed() >= until)
    }

    fn expires(&self, keep: Duration) -> Result<Option<Time>> {
        self.files.first_expiry(keep)
    }

    fn admit(&self, most: usize, now: Time) -> Result<Option<Waiter>> {
        self.with_folders(|| self.files.admit_waiter(most, now))
    }

    fn dismiss(&self, waiter: Waiter) -> Result<()> {
        self.files.dismiss_waiter(waiter)
    }

    fn counts(&self) -> Result<Counts> {
        let (waiting, untold) = (self.waiting_uncancelled()?, self.length_of(queue::FOLDERS[1])?);
        let (ended, given_up) = (self.files.ended()?, self.files.targets_untold()?);
        let mut counts = Counts { waiting, running: 0, untold, drains: 0, ended, given_up };
        let mut drains = Vec::new();
        for (role, folder) in self.files.held_slots()? {
            for name in self.files.names(&folder)? {
                let is_told = name.ends_with(slots::TELL);
                *if is_told { &mut counts.untold } else { &mut counts.running } += 1;
            }
            if let Role::Drain(_) = role
                && !drains.contains(&role)
            {
                drains.push(role); // Who tries to take one has a folder for a moment, too.
            }
        }
        counts.drains = drains.len();
        Ok(counts)
    }
}

impl<F: Folder> Dir<F> {
    /// Whether as many jobs wait as may.
    fn is_full(&self, most: usize, now: Time) -> Result<bool> {
        Ok(self.is_queue_full(most, now)? && self.waiting_uncancelled()? >= most)
    }

    /// How many jobs wait that are not cancelled.
    fn waiting_uncancelled(&self) -> Result<usize> {
        let cancelled = super::cancelled(self)?;
        Ok(self.waiting()?.saturating_sub(cancelled))
    }

    /// Makes sure that a job stays where it is, or goes where it has gone since.
    fn sync_job(&self, id: Id) -> Result<()> {
        while let Some((place, ..)) = self.locate(id, true)? {
            match self.files.sync(&place) {
                Err(StoreError::Lost) => {} // It has just been moved.
                result => return result,
            }
        }
        Ok(())
    }

    /// Removes a job that has ended, wherever it is, unless it has changed since it was found.
    fn purge_ended(&self, found: &Found, keep: Duration) -> Result<bool> {
        let (id, gone) = (found.job.id, path("gone", found.job.id));
        if found.job.run.end.is_none() {
            return Ok(false);
        }
        let version_of = |file: &[u8]| record::decode_run_head(file).map_or(0, |run| run.version);
        for _ in 0..MOVES {
            let Some((place, file, kind)) = self.locate(id, true)? else { return Ok(false) };
            if version_of(&file) != found.job.run.version {
                return Ok(false);
            }
            if !self.take_from(&place, &gone)? {
                continue; // It has just been moved.
            }
            if self.begins_again(id)? {
                return Ok(false);
            }
            let is_settled =
                kind == Place::Done || place.starts_with("outbox/") || place.ends_with(slots::TELL);
            if !is_settled {
                // Whoever was about to end it has lost it; or a power cut has brought it back where it was before.
                if let Some(group) = &found.job.input.group {
                    self.settle(&group.digest(), Some((id, &gone)))?;
                }
                self.files.note_end(id, &found.job.run, keep)?;
            }
            self.files.sync(&gone)?; // No power cut brings it back.
            self.forget(id)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Queues a job in `gone` that has begun again in the moment when somebody took it away: whether it has.
    fn begins_again(&self, id: Id) -> Result<bool> {
        let gone = path("gone", id);
        let file = self.files.beginning(&gone)?;
        let run = file.and_then(|file| record::decode_run_head(&file).ok());
        let due = run.filter(|run| run.end.is_none() && run.round > 0).and_then(|run| Due::of(id, &run));
        due.map_or(Ok(false), |due| self.queue(&gone, due, self.files.host().wall()).map(|()| true))
    }

    /// Finishes recording a job whose request has left it behind: it begins if it is whole, and if its
    /// key is not another job's by now.
    fn finish_recording(&self, id: Id) -> Result<()> {
        let fresh = path("fresh", id);
        let Some(file) = self.files.read(&fresh)? else { return Ok(()) };
        let Ok(input) = record::decode_input(file) else { return self.discard(id) };
        self.files.link(&fresh, &path("jobs", id))?;
        if let Some(key) = &input.key {
            let mut holder = self.holder_of(key)?;
            if let Some(other) = holder.filter(|other| *other != id)
                && matches!(self.find(other), Ok(None))
            {
                self.release_key(key, other)?;
                holder = None;
            }
            let is_its = match holder {
                Some(holder) => holder == id,
                None => self.take_key(key, id)?,
            };
            if !is_its {
                return self.discard(id);
            }
        }
        self.finish_joining(&fresh, id, &input)?;
        self.enqueue(Due::new(id, &input), input.group.as_ref())
    }

    /// Lets a claimed job that has begun again join its group as the last one.
    fn join_again(&self, from: &str, due: Due, input: &Input) -> Result<()> {
        self.files.rename(from, &path("joining", due.id))?;
        unless_lost(self.finish_joining_as(due, input)) // Whoever has given it its turn has moved it.
    }

    fn finish_joining_as(&self, due: Due, input: &Input) -> Result<()> {
        let joining = path("joining", due.id);
        self.finish_joining(&joining, due.id, input)?;
        match &input.group {
            Some(group) => self.queue_in_turn(&joining, due, group),
            None => self.queue(&joining, due, self.files.host().wall()),
        }
    }

    /// The same for one that somebody has left there.
    fn finish_joining_again(&self, id: Id) -> Result<()> {
        let Some(due) = self.due_of(id, &path("joining", id))? else { return Ok(()) };
        let input = self.input_at(id, &path("jobs", id)).ok().flatten().unwrap_or_default();
        self.finish_joining_as(due, &input)
    }
}

/// Whether nobody needs what the job's steps have come to any more.
fn has_succeeded(job: &Job) -> bool {
    job.run.end.as_ref().is_some_and(|end| end.state == State::Succeeded)
}

/// Where this folder keeps what it knows of a job.
fn path(folder: &str, id: Id) -> String {
    format!("{folder}/{id}")
}

fn key_folder(key: &str) -> String {
    format!("keys/{key}")
}

/// Goes on if something is not there any more: somebody else does the same.
fn unless_lost(result: Result<()>) -> Result<()> {
    match result {
        Err(StoreError::Lost) => Ok(()),
        result => result,
    }
}

fn mark_path(mark: Mark) -> String {
    format!("marks/{}.{}.{}", mark.id, mark.round, mark.ask.name())
}

#[cfg(test)]
mod tests;

//! A spool directory, in the tradition of mail and print spools: everything is a file, and what must
//! happen once is a rename, which only one of many can win.
//!
//! ```text
//! fresh/ID               a job that is being recorded; it is not acknowledged yet
//! jobs/ID                what was accepted; written once
//! queue/DUE.ID           a waiting job: how far it has come, or nothing
//! queue/TIME.bucket/     waiting jobs whose time is farther off, as above; see queue.rs
//! later/ID               a job's DUE, if that is not the time it was accepted
//! drains/N.free          a free slot; that of the watch is called watch.free
//! drains/N.UNTIL.OWNER/  a slot that is held: in it are its claims, as they were in the queue
//! done/ID                a job that has ended
//! desk/TIME.ID           a job that a request has taken out of its place, then
//! expiry/TIME/ID         the jobs that may be removed from that time on
//! keys/DIGEST            the job and the request of an idempotency key
//! cancel/ID              somebody wants this running job cancelled
//! length                 how many jobs waited when, if they are many
//! totals/STATE           one byte for each job that ended like this
//! tmp/                   what is being written
//! damaged/               what made no sense, set aside
//! ```
//!
//! A job's course is one file, always in exactly one of these places, so there is nothing to reconcile
//! after a crash. Renewing a lease renames the slot's directory; whoever has lost it has lost the way to
//! its claims, and cannot write to them any more. (Who had opened one before writes into a file that is
//! none any more: what is taken over is copied.)
//!
//! Times in names are milliseconds since 1970, with 13 digits, so that they sort.

mod files;
#[cfg_attr(target_arch = "wasm32", path = "folder_wasi.rs")]
#[cfg_attr(not(target_arch = "wasm32"), path = "folder_std.rs")]
mod folder;
mod queue;
mod record;

use std::cell::Cell;
use std::time::Duration;

use super::{Counts, Due, Outlook, Place, Put, Result, Role, SLOTS, Slot, Slots, Store, StoreError};
use crate::service::fault;
use crate::service::job::{End, Id, Input, Job, Run, State};
use crate::service::time::Time;
use files::{Files, name, parse_name};
use queue::in_queue;

/// Leftovers in `fresh`, `desk` and `tmp` belong to nobody after this time.
const LEFTOVER: Duration = Duration::from_secs(3600);

/// How many jobs are removed at a time.
const REMOVED: usize = 200;

/// Into how many directories the time that jobs are kept is divided.
const BUCKETS: u32 = 32;

/// A store in a directory.
#[derive(Debug)]
pub struct Dir {
    files: Files,
    /// The last directory in `expiry` that this invocation has put a job into.
    bucket: Cell<Time>,
}

impl Dir {
    /// The store in this directory, an absolute path.
    pub fn new(root: &str) -> Dir {
        Dir { files: Files::new(root.into()), bucket: Cell::default() }
    }

    /// Puts a job that is recorded into the queue, unless somebody has.
    fn begin(&self, id: Id) -> Result<()> {
        self.files.rename_if_any(&path("fresh", id), &in_queue(id.created(), id)).map(drop)
    }

    /// Where a job is that a request has taken, if one has.
    fn on_desk(&self, id: Id) -> Result<Option<String>> {
        let names = self.files.names("desk")?;
        let name = names.iter().find(|name| parse_name(name).is_some_and(|(_, taken)| taken == id));
        Ok(name.map(|name| format!("desk/{name}")))
    }

    /// How far a job has come, and where it stands.
    fn locate(&self, id: Id) -> Result<Option<(Vec<u8>, Place)>> {
        // A job that is being moved can be missed in its old place and in its new one; not often.
        for _ in 0..3 {
            if let Some(file) = self.files.read_if_any(&path("done", id))? {
                return Ok(Some((file, Place::Done)));
            }
            for slot in self.files.names("drains")? {
                if SlotName::parse(&slot).is_some_and(|slot| slot.held.is_some())
                    && let Some(file) = self.files.read_if_any(&claimed(&slot, id))?
                {
                    return Ok(Some((file, Place::Slot)));
                }
            }
            for place in self.waiting_places(id)? {
                if let Some(file) = self.files.read_if_any(&place)? {
                    return Ok(Some((file, Place::Queue)));
                }
            }
            if let Some(path) = self.on_desk(id)?
                && let Some(file) = self.files.read_if_any(&path)?
            {
                return Ok(Some((file, Place::Queue)));
            }
        }
        Ok(None)
    }

    /// The whole job whose course is in the file at `from`. If its records make no sense they are set
    /// aside, and the job has failed.
    fn load(&self, id: Id, from: &str) -> Result<Job> {
        let (mut input, mut run) = (Input::default(), Run::default());
        let mut damage = None;
        // Most are empty; to see that takes less than to read nothing.
        let file = if self.files.length(from)? == 0 { Vec::new() } else { self.files.read(from)? };
        match course(id, &file) {
            Ok(course) => run = course,
            Err(reason) => {
                self.files.copy_aside(from, &file, &reason)?;
                damage = Some(format!("the record of how far it had come was damaged: {reason}"));
            }
        }
        let of_input = path("jobs", id);
        match self.files.read_if_any(&of_input)?.map(|file| record::decode(&file)) {
            Some(Ok((head, body))) => input = Input { body, ..head },
            Some(Err(reason)) => {
                self.files.set_aside(&of_input, &reason)?;
                damage = Some(format!("the record of its input was damaged: {reason}"));
            }
            None => damage = Some("the record of its input is missing".into()),
        }
        if let Some(error) = damage {
            let end = End { state: State::Failed, finished: Time::now(), content_type: None };
            run = Run { end: Some(end), error: Some(error), ..Run::default() };
            let mut job = Job { id, input, run };
            self.files.save_anew(from, &mut job)?;
            return Ok(job);
        }
        Ok(Job { id, input, run })
    }

    /// Puts the job whose course is at `from` to those that have ended.
    fn end(&self, from: &str, job: &Job, keep: Duration) -> Result<()> {
        let end = job.run.end.as_ref().expect("only a job that has ended is put there");
        let width = (keep / BUCKETS).max(Duration::from_secs(1)).as_millis() as u64;
        let expires = Time(((end.finished + keep).0 / width + 1) * width);
        let bucket = format!("expiry/{:013}", expires.0);
        if self.bucket.replace(expires) != expires {
            self.files.make_folder(&bucket)?;
        }
        let date = path(&bucket, job.id);
        // A second name costs less than a second file, where files can have one.
        if self.files.link(from, &date).is_err() {
            self.files.touch(&date)?;
        }
        self.files.rename(from, &path("done", job.id))?;
        fault::trace("settled", job.id, job.run.version);
        self.files.append(&format!("totals/{}", end.state.name()), b".")
    }

    /// Removes all that there is of a job. Until its input goes, its date in `expiry` brings this back.
    fn forget(&self, id: Id) -> Result<()> {
        for folder in ["done", "later", "cancel"] {
            self.files.remove_if_any(&path(folder, id))?;
        }
        let of_input = path("jobs", id);
        if let Some(head) = self.files.beginning(&of_input)?
            && let Ok(Some(Input { key: Some(key), .. })) = record::decode_head(&head)
        {
            self.files.remove_if_any(&format!("keys/{key}"))?;
        }
        self.files.remove_if_any(&of_input)
    }
}

impl Store for Dir {
    fn open(&self) -> Result<()> {
        if self.files.exists("drains")? {
            return Ok(());
        }
        for folder in [
            "tmp", "fresh", "jobs", "queue", "later", "done", "desk", "expiry", "keys", "cancel", "totals",
            "damaged",
        ] {
            self.files.make_folder(folder)?;
        }
        // All slots at once, so that none of them can be there twice.
        let drains = self.files.unused();
        self.files.make_folder(&drains)?;
        let slots = (0..SLOTS).map(|number| format!("{number}.free"));
        for slot in slots.chain(["watch.free".into()]) {
            self.files.make_folder(&format!("{drains}/{slot}"))?;
        }
        match self.files.rename(&drains, "drains") {
            Err(_) if self.files.exists("drains")? => self.files.remove_folder(&drains),
            result => result,
        }
    }

    fn put(&self, id: Id, input: &Input, digest: &str) -> Result<Put> {
        let key = input.key.as_ref().map(|key| format!("keys/{key}"));
        if let Some(known) = key.as_ref().map(|key| self.known(key, digest)).transpose()?.flatten() {
            return Ok(known);
        }
        self.files.touch(&path("fresh", id))?;
        let recorded = self.files.write_in_place(&path("jobs", id), &record::encode(input, &input.body));
        if recorded.is_err() {
            let _ = self.files.remove_if_any(&path("fresh", id));
            recorded?;
        }
        if let Some(key) = &key
            && !self.files.write_once(key, format!("{id} {digest}").as_bytes())?
        {
            self.files.remove_if_any(&path("jobs", id))?;
            self.files.remove_if_any(&path("fresh", id))?;
            return Ok(self.known(key, digest)?.unwrap_or(Put::Conflict));
        }
        // Whoever came with the same key may have done it already.
        self.begin(id)?;
        fault::point("recorded");
        Ok(Put::New)
    }

    fn knows(&self, key: &str) -> Result<bool> {
        self.files.exists(&format!("keys/{key}"))
    }

    fn is_full(&self, limit: usize, now: Time) -> Result<bool> {
        self.is_queue_full(limit, now)
    }

    fn find(&self, id: Id) -> Result<Option<(Job, Place)>> {
        let Some((file, place)) = self.locate(id)? else { return Ok(None) };
        let damaged = |what: &str, reason| StoreError::Damaged(format!("{what} of job {id}: {reason}"));
        let Some(beginning) = self.files.beginning(&path("jobs", id))? else { return Ok(None) };
        let input = match record::decode_head(&beginning).map_err(|reason| damaged("the input", reason))? {
            Some(input) => input,
            None => {
                let whole = self.files.read(&path("jobs", id))?;
                record::decode::<Input>(&whole).map_err(|reason| damaged("the input", reason))?.0
            }
        };
        let run = course(id, &file).map_err(|reason| damaged("the course", reason))?;
        Ok(Some((Job { id, input, run }, place)))
    }

    fn take(&self, id: Id, from: Place) -> Result<Option<Job>> {
        let desk = format!("desk/{}", name(Time::now(), id));
        let is_taken = match from {
            Place::Queue => self.take_waiting(id, &desk)?,
            Place::Done => self.files.rename_if_any(&path("done", id), &desk)?,
            Place::Slot => false,
        };
        is_taken.then(|| self.load(id, &desk)).transpose()
    }

    fn give_back(&self, job: &mut Job, keep: Duration) -> Result<()> {
        let desk = self.on_desk(job.id)?.ok_or(StoreError::Lost)?;
        self.files.save(&desk, job)?;
        match job.run.is_over(&job.input) {
            true => self.end(&desk, job, keep),
            false => self.queue(&desk, job.id, job.run.due),
        }
    }

    fn ask_to_cancel(&self, id: Id, cancel: bool) -> Result<()> {
        let path = path("cancel", id);
        if cancel { self.files.touch(&path) } else { self.files.remove_if_any(&path) }
    }

    fn is_cancelled(&self, id: Id) -> Result<bool> {
        self.files.exists(&path("cancel", id))
    }

    fn cancellations(&self) -> Result<Vec<Id>> {
        Ok(self.files.names("cancel")?.iter().filter_map(|name| Id::parse(name)).collect())
    }

    fn outlook(&self, now: Time, most: usize) -> Result<Outlook> {
        self.look(now, most)
    }

    fn bell(&self) -> Result<u64> {
        self.files.changed("queue")
    }

    fn slots(&self, now: Time) -> Result<Slots> {
        let mut slots = Slots::default();
        for slot in self.files.names("drains")?.iter().filter_map(|name| SlotName::parse(name)) {
            match slot.held {
                Some(until) if slot.is_watch() => slots.watch = Some(until).filter(|until| *until >= now),
                Some(until) => {
                    slots.held += 1;
                    slots.expired += usize::from(until < now);
                }
                None => {}
            }
        }
        Ok(slots)
    }

    fn enter(&self, role: Role, now: Time, lease: Duration) -> Result<Option<Slot>> {
        let fits = |slot: &SlotName| match role {
            Role::Drain(slots) => slot.number.is_some_and(|number| number < slots) && slot.held.is_none(),
            Role::Watch => slot.is_watch() && slot.held.is_none_or(|until| until < now),
        };
        let names = self.files.names("drains")?;
        for slot in names.iter().filter_map(|name| SlotName::parse(name)).filter(fits) {
            let held = slot.hold(now + lease);
            if self.files.rename_if_any(&slot_path(slot.text), &slot_path(&held.name))? {
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    fn renew(&self, slot: &mut Slot, now: Time, lease: Duration) -> Result<()> {
        let old = SlotName::parse(&slot.name).expect("a slot that is held has such a name");
        let new = old.hold(now + lease);
        if !self.files.rename_if_any(&slot_path(&slot.name), &slot_path(&new.name))? {
            return Err(StoreError::Lost);
        }
        *slot = new;
        Ok(())
    }

    fn leave(&self, slot: Slot) -> Result<()> {
        let held = SlotName::parse(&slot.name).expect("a slot that is held has such a name");
        let free = format!("{}.free", held.name);
        match self.files.rename_if_any(&slot_path(&slot.name), &slot_path(&free))? {
            true => Ok(()),
            false => Err(StoreError::Lost),
        }
    }

    fn claim(&self, slot: &Slot, due: Due) -> Result<Option<Job>> {
        let claimed = claimed(&slot.name, due.id);
        if self.files.rename_if_any(&in_queue(due.time, due.id), &claimed)? {
            fault::point("claimed");
            return self.load(due.id, &claimed).map(Some);
        }
        match self.files.exists(&slot_path(&slot.name))? {
            true => Ok(None),
            false => Err(StoreError::Lost),
        }
    }

    fn save(&self, slot: &Slot, job: &mut Job) -> Result<()> {
        self.files.save(&claimed(&slot.name, job.id), job)
    }

    fn release(&self, slot: &Slot, job: &Job) -> Result<()> {
        self.queue(&claimed(&slot.name, job.id), job.id, job.run.due)
    }

    fn settle(&self, slot: &Slot, job: &Job, keep: Duration) -> Result<()> {
        self.end(&claimed(&slot.name, job.id), job, keep)
    }

    fn adopt(
        &self,
        now: Time,
        lease: Duration,
        keep: Duration,
        found: &mut dyn FnMut(&mut Job),
    ) -> Result<()> {
        for lost in self.files.names("drains")? {
            let Some(lost) = SlotName::parse(&lost) else { continue };
            if lost.is_watch() || lost.held.is_none_or(|until| until >= now) {
                continue;
            }
            let slot = lost.hold(now + lease);
            if !self.files.rename_if_any(&slot_path(lost.text), &slot_path(&slot.name))? {
                continue; // Somebody else was first.
            }
            for entry in self.files.names(&slot_path(&slot.name))? {
                let Some(id) = Id::parse(&entry) else {
                    let path = format!("{}/{entry}", slot_path(&slot.name));
                    self.files.set_aside(&path, "it is no job's name")?;
                    continue;
                };
                let mut job = self.load(id, &claimed(&slot.name, id))?;
                found(&mut job);
                self.files.save_anew(&claimed(&slot.name, id), &mut job)?;
                match job.run.is_over(&job.input) {
                    true => self.settle(&slot, &job, keep)?,
                    false => self.release(&slot, &job)?,
                }
            }
            self.leave(slot)?;
        }
        Ok(())
    }

    fn tidy(&self, now: Time, keep: Duration) -> Result<()> {
        for id in self.files.names("fresh")?.iter().filter_map(|name| Id::parse(name)) {
            // Recorded by a request that was never answered.
            if id.created() + LEFTOVER < now {
                self.forget(id)?;
                self.files.remove_if_any(&path("fresh", id))?;
            }
        }
        for name in self.files.names("desk")? {
            // Taken by a request that never gave it back.
            if let Some((taken, id)) = parse_name(&name)
                && taken + LEFTOVER < now
            {
                let mut job = self.load(id, &format!("desk/{name}"))?;
                self.give_back(&mut job, keep)?;
            }
        }
        self.files.remove_leftovers(now, LEFTOVER)?;
        let mut removed = 0;
        for bucket in self.files.names("expiry")? {
            let Ok(time) = bucket.parse().map(Time) else {
                self.files.set_aside(&format!("expiry/{bucket}"), "it is no time")?;
                continue;
            };
            if time >= now {
                continue;
            }
            let folder = format!("expiry/{bucket}");
            for id in self.files.names(&folder)?.iter().filter_map(|name| Id::parse(name)) {
                if removed == REMOVED {
                    return Ok(());
                }
                let may_go = match self.locate(id)? {
                    None => true, // It went half-way.
                    Some((file, Place::Done)) => {
                        let end = course(id, &file).ok().and_then(|run| run.end);
                        end.is_none_or(|end| end.finished + keep < now)
                    }
                    // Queued again, it gets another date when it ends again.
                    Some(_) => false,
                };
                if may_go {
                    self.forget(id)?;
                }
                self.files.remove_if_any(&path(&folder, id))?;
                removed += 1;
            }
            self.files.remove_folder(&folder)?;
        }
        Ok(())
    }

    fn counts(&self, now: Time) -> Result<Counts> {
        let mut counts = Counts {
            waiting: self.length()?,
            running: 0,
            drains: 0,
            ended: [State::Succeeded, State::Failed, State::Cancelled].map(|state| (state, 0)),
        };
        for slot in self.files.names("drains")? {
            if let Some(SlotName { number: Some(_), held: Some(until), .. }) = SlotName::parse(&slot) {
                counts.running += self.files.names(&slot_path(&slot))?.len();
                counts.drains += usize::from(until >= now);
            }
        }
        for (state, total) in &mut counts.ended {
            *total = self.files.length(&format!("totals/{}", state.name()))?;
        }
        Ok(counts)
    }
}

impl Dir {
    /// What a key was used for, if it was. Whoever used it first may have died before its job was in the
    /// queue; the answer to the second request is as good as its own would have been.
    fn known(&self, key: &str, digest: &str) -> Result<Option<Put>> {
        let Some(file) = self.files.read_if_any(key)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&file).into_owned();
        let Some((id, of)) = text.split_once(' ').and_then(|(id, of)| Some((Id::parse(id)?, of))) else {
            self.files.set_aside(key, "it is no idempotency key's record")?;
            return Ok(None);
        };
        if of != digest {
            return Ok(Some(Put::Conflict));
        }
        self.begin(id)?;
        Ok(Some(Put::Known(id)))
    }
}

/// Where this folder keeps what it knows of a job.
fn path(folder: &str, id: Id) -> String {
    format!("{folder}/{id}")
}

/// Where a slot of this name keeps its claims.
fn slot_path(slot: &str) -> String {
    format!("drains/{slot}")
}

fn claimed(slot: &str, id: Id) -> String {
    format!("drains/{slot}/{id}")
}

/// How far a job has come, by its file: an empty one is that of a job that has not begun.
fn course(id: Id, file: &[u8]) -> std::result::Result<Run, String> {
    if file.is_empty() {
        return Ok(Run { updated: id.created(), due: id.created(), ..Run::default() });
    }
    let versions = record::decode_paired::<Run>(file)?.into_iter();
    let newest = versions.max_by_key(|(run, _)| run.version);
    let (run, bytes) = newest.ok_or("it has no version")?;
    Ok(Run { bytes, ..run })
}

/// The name of a slot's directory.
struct SlotName<'a> {
    text: &'a str,
    /// The slot's own, held or not.
    name: &'a str,
    /// Which of the drains' it is; none for that of the watch.
    number: Option<usize>,
    /// Until when it is held, if it is.
    held: Option<Time>,
}

impl SlotName<'_> {
    fn parse(text: &str) -> Option<SlotName<'_>> {
        let (name, rest) = text.split_once('.')?;
        let number = match name {
            "watch" => None,
            _ => Some(name.parse().ok()?),
        };
        let held = match rest {
            "free" => None,
            _ => Some(Time(rest.split_once('.')?.0.parse().ok()?)),
        };
        Some(SlotName { text, name, number, held })
    }

    fn is_watch(&self) -> bool {
        self.number.is_none()
    }

    /// The slot while it is held until then, by an owner that no other has the name of.
    fn hold(&self, until: Time) -> Slot {
        Slot { name: format!("{}.{:013}.{:08x}", self.name, until.0, Id::new().random()) }
    }
}

#[cfg(test)]
mod tests;

//! Groups: jobs that run one after the other, in the order of their acks.
//!
//! ```text
//! turns/GROUP/ID/ID          whose turn it is: the job's until it has ended, whoever runs it
//! turns/GROUP/ID/moving      it has just been queued, and that is not synced yet
//! groups/GROUP/…/NUMBER.ID   the others of the group, in their order: other names of their files; see tree.rs
//! queue/parked.bucket/ID     where those are meanwhile
//! joining/ID                 a job that has begun again and is about to join its group as its last
//! ```
//!
//! A job takes its group's turn while nobody has it, by a rename that only one can win. One that cannot gets a
//! number, the next one after the others', and is parked. Whoever ends a job hands the turn over, by a rename
//! again, and moves the next job into the queue, before he gives up his claim: who takes that over does it once
//! more. Since each of these steps is done once, whoever does it, anybody may do the rest of them
//! ([`settle`](Dir::settle)).
//!
//! Nothing is lost between two who come at once: a job has its number before it looks whose turn it is, and whoever
//! gives a turn back looks for numbers after that. A power cut keeps what an ack relies on: a job's number or its
//! turn is synced with its record, and so is the turn of the one that it waits for; a turn that is handed over is
//! synced before the next job moves, and its move before the end of the one before.

use super::super::{Due, Result, StoreError};
use super::folder::Folder;
use super::queue::PARKED;
use super::tree::{Walk, place};
use super::{Dir, path, record, unless_lost};
use crate::jobs::job::{Id, Input};
use crate::jobs::options::Group;
use crate::jobs::time::Time;

/// How often the next step is looked for, while others do some of them.
const STEPS: usize = 256;

/// How often a job is looked for that is being moved.
const LOOKS: usize = 4;

/// Where a job is that waits for its turn.
pub fn parked(id: Id) -> String {
    path(PARKED, id)
}

fn turns(group: &str) -> String {
    format!("turns/{group}")
}

/// What says that it is a job's turn: a folder, and in it another name of the job's file.
fn turn(group: &str, id: Id) -> String {
    path(&turns(group), id)
}

fn moving(group: &str, id: Id) -> String {
    format!("{}/moving", turn(group, id))
}

fn numbers(group: &str) -> String {
    format!("groups/{group}")
}

impl<F: Folder> Dir<F> {
    /// Lets a job take the turn of its group, or get a number. `from` is where it is: a place of its own, where
    /// somebody finds it if this is not finished.
    pub fn join(&self, from: &str, id: Id, group: &Group) -> Result<()> {
        let group = &group.digest();
        if self.has_turn(group, id)? || self.has_number(group, id)? {
            return Ok(());
        }
        let is_first = self.holder(group)?.is_none() && self.next_in(group)?.is_none();
        if is_first && self.take_turn(group, id, from)? {
            return Ok(());
        }
        self.take_number(group, id, from)?;
        // Of one that was not acknowledged yet, nothing might be left after a power cut.
        self.holder(group)?.map_or(Ok(()), |holder| self.keep(group, holder))
    }

    /// Before a job that belongs to a group ends: wherever it was parked, no power cut brings it back there.
    pub fn leave(&self, from: &str, id: Id, group: &Group) -> Result<()> {
        let group = &group.digest();
        if !self.has_turn(group, id)? || self.files.exists(&moving(group, id))? {
            self.files.sync(from)?;
        }
        self.settle(group, Some((id, from)))
    }

    /// Queues a job that has joined its group, or parks it if it is another one's turn. Its name, its number and the
    /// turn that it has taken are synced. [`StoreError::Lost`] if it was moved because it was given its turn.
    pub fn queue_in_turn(&self, from: &str, due: Due, group: &Group) -> Result<()> {
        let group = &group.digest();
        // A turn that was handed over to one that has, or had, a number is to be synced before that moves.
        if !self.has_turn(group, due.id)? || self.noted_number(due.id)?.is_some() {
            self.settle(group, None)?;
        }
        match self.has_turn(group, due.id)? {
            true => self.queue(from, due, self.now()),
            // Whoever gives it its turn looks here, too.
            false => match self.files.rename_in_tree(from, &parked(due.id))? {
                true => Ok(()),
                false => Err(StoreError::Lost),
            },
        }
    }

    /// Whether a job may be queued as it is: it belongs to no group, or it is its turn.
    pub fn is_in_turn(&self, id: Id, input: &Input) -> Result<bool> {
        input.group.as_ref().map_or(Ok(true), |group| self.has_turn(&group.digest(), id))
    }

    /// Sees to it that the turn of a group is where it belongs. `ended` has ended, and that is synced; it is here as
    /// long as this invocation has it.
    pub fn settle(&self, group: &str, ended: Option<(Id, &str)>) -> Result<()> {
        for _ in 0..STEPS {
            let Some(holder) = self.holder(group)? else {
                let Some(next) = self.next_in(group)? else {
                    return self.files.remove_if_empty(&numbers(group)).map(drop);
                };
                if let Some(from) = self.waiting_place(next)? {
                    match self.take_turn(group, next, &from) {
                        Err(StoreError::Lost) => {} // It is somewhere else now.
                        result => drop(result?),
                    }
                }
                continue;
            };
            match ended.filter(|(id, _)| *id == holder) {
                // Who has lost a job must not end the turn that it has got since.
                Some((_, place)) if !self.files.exists(place)? => return Err(StoreError::Lost),
                Some(_) => {}
                None if self.activate(group, holder)? => return Ok(()),
                None if self.has_ended(holder)? => {}
                // Whoever has moved it may have died before he synced that.
                None => return self.keep(group, holder),
            }
            match self.next_in(group)? {
                Some(next) => self.hand_over(group, holder, next)?,
                None => self.give_back(group, holder)?,
            }
        }
        Ok(())
    }

    /// The same for whatever group a job has the turn of of which nothing else is known.
    pub fn settle_wherever(&self, id: Id, place: &str) -> Result<()> {
        for group in self.files.names("turns")? {
            if self.has_turn(&group, id)? {
                self.settle(&group, Some((id, place)))?;
            }
        }
        Ok(())
    }

    /// Takes away the number of a job that goes.
    pub fn forget_number(&self, id: Id) -> Result<()> {
        match self.noted_number(id)? {
            Some(number) => self.files.remove_in_tree(&number).map(drop),
            None => Ok(()),
        }
    }

    fn now(&self) -> Time {
        self.files.host().wall()
    }

    /// Whose turn it is.
    fn holder(&self, group: &str) -> Result<Option<Id>> {
        Ok(self.files.names(&turns(group))?.iter().find_map(|name| Id::parse(name)))
    }

    fn has_turn(&self, group: &str, id: Id) -> Result<bool> {
        self.files.exists(&turn(group, id))
    }

    /// Takes the turn of a group for a job, unless another one has it.
    fn take_turn(&self, group: &str, id: Id, from: &str) -> Result<bool> {
        self.files.take(&turns(group), "turns", &path(&id.to_string(), id), from)
    }

    /// Hands the turn of a job that has ended over to another one, unless somebody has.
    fn hand_over(&self, group: &str, from: Id, to: Id) -> Result<()> {
        self.files.rename_if_any(&turn(group, from), &turn(group, to)).map(drop)
    }

    /// Keeps the job whose turn it is from a power cut, where it is now.
    fn keep(&self, group: &str, holder: Id) -> Result<()> {
        unless_lost(self.files.sync(&path(&turn(group, holder), holder)))
    }

    /// Keeps the turn of a job that is here from a power cut.
    fn keep_turn(&self, group: &str, id: Id, place: &str) -> Result<()> {
        let own = path(&turn(group, id), id);
        self.files.note(place, &own)?;
        // It was another one's before.
        for name in self.files.names(&turn(group, id))?.iter().filter(|name| **name != id.to_string()) {
            self.files.remove_if_any(&format!("{}/{name}", turn(group, id)))?;
        }
        self.files.sync(place)
    }

    /// Gives the turn of a job back that has ended.
    fn give_back(&self, group: &str, id: Id) -> Result<()> {
        for name in self.files.names(&turn(group, id))? {
            self.files.remove_if_any(&format!("{}/{name}", turn(group, id)))?;
        }
        self.files.remove_if_empty(&turn(group, id))?;
        self.files.remove_if_empty(&turns(group)).map(drop)
    }

    /// Gives a job the number after all others.
    fn take_number(&self, group: &str, id: Id, from: &str) -> Result<()> {
        let mut walk = Walk::new(numbers(group), true, None);
        let last = loop {
            match walk.next(&self.files)? {
                Some((_, name)) => {
                    if let Some((number, _)) = parse(&name) {
                        break number.0 + 1;
                    }
                }
                None => break 0,
            }
        };
        let number = self.now().max(Time(last));
        let entry = place(&numbers(group), number, &format!("{:015}.{id}", number.0));
        // Where it is noted, it is found when it is not needed any more.
        self.files.write(&path("where", id), entry.as_bytes(), false)?;
        self.files.link_in_tree(from, &entry)
    }

    /// The number of a job, as far as it is noted.
    fn noted_number(&self, id: Id) -> Result<Option<String>> {
        let noted = self.files.read(&path("where", id))?.and_then(|text| String::from_utf8(text).ok());
        Ok(noted.filter(|entry| entry.starts_with("groups/") && entry.ends_with(&id.to_string())))
    }

    fn has_number(&self, group: &str, id: Id) -> Result<bool> {
        match self.noted_number(id)? {
            Some(number) => Ok(number.starts_with(&numbers(group)) && self.files.exists(&number)?),
            None => Ok(false),
        }
    }

    /// The next job of a group. Numbers of jobs that do not wait are removed.
    fn next_in(&self, group: &str) -> Result<Option<Id>> {
        let mut walk = Walk::new(numbers(group), false, None);
        while let Some((entry, name)) = walk.next(&self.files)? {
            let Some((_, id)) = parse(&name) else { continue };
            if self.waiting_place(id)?.is_some() {
                return Ok(Some(id));
            }
            self.files.remove_in_tree(&entry)?;
        }
        Ok(None)
    }

    /// Where a job is that waits for its turn, or is about to.
    fn waiting_place(&self, id: Id) -> Result<Option<String>> {
        // It is parked after it was in the other places.
        for place in [parked(id), path("fresh", id), path("joining", id), parked(id)] {
            if self.files.exists(&place)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Queues a job that has got its turn while it waited, durably: whether it did.
    fn activate(&self, group: &str, id: Id) -> Result<bool> {
        for _ in 0..LOOKS {
            let Some(from) = self.waiting_place(id)? else { return Ok(false) };
            let queued = self.due_of(id, &from).and_then(|due| {
                let Some(due) = due else { return self.discard(id).map(|()| false) };
                self.keep_turn(group, id, &from)?;
                self.forget_number(id)?;
                // Whoever ends it before this is synced syncs it himself.
                self.files.note(&from, &moving(group, id))?;
                self.queue(&from, due, self.now())?;
                self.files.remove_if_empty(PARKED)?;
                self.sync_job(id)?;
                self.files.remove_if_any(&moving(group, id)).map(|()| true)
            });
            match queued {
                Err(StoreError::Lost) => {} // Somebody else does the same.
                result => return result,
            }
        }
        Ok(false)
    }

    /// How a job waits that is here; `None` if it was never acknowledged, and a power cut has torn it.
    pub fn due_of(&self, id: Id, place: &str) -> Result<Option<Due>> {
        if *place == path("fresh", id) {
            let file = self.files.read(place)?.ok_or(StoreError::Lost)?;
            return Ok(record::decode_input(file).ok().map(|input| Due::new(id, &input)));
        }
        // What cannot be read is set aside by whoever claims it.
        let Ok(file) = self.files.beginning(place) else { return Ok(Some(Due::first(id))) };
        let file = file.ok_or(StoreError::Lost)?;
        let run = record::decode_run_head(&file).unwrap_or_default();
        let input = self.input_at(id, &path("jobs", id)).ok().flatten();
        Ok(match input.filter(|_| run.version == 0) {
            Some(input) => Some(Due::new(id, &input)),
            None if run.end.is_none() => Due::of(id, &run),
            // One that has ended, before a power cut: whoever claims it gives the turn on.
            None => Some(Due::first(id)),
        })
    }

    /// Whether a job has ended for good, or is gone: a power cut may bring its turn back alone.
    fn has_ended(&self, id: Id) -> Result<bool> {
        match self.find_with(id, &[]) {
            Ok(Some(found)) if found.job.run.end.is_some() => self.sync_job(id).map(|()| true),
            Ok(None) => Ok(true),
            // Whoever claims what makes no sense ends it.
            Ok(Some(_)) | Err(StoreError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A number in a group, and whose it is.
fn parse(name: &str) -> Option<(Time, Id)> {
    let (number, id) = name.split_once('.')?;
    Some((Time(number.parse().ok()?), Id::parse(id)?))
}

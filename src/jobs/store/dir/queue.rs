//! The queue: the jobs that wait, by the time since when they could go on.
//!
//! ```text
//! queue/TIME.ID              can go on; its time says only whose turn it is
//! queue/TIME.ID.alone        the same in an instance of its own
//! queue/TIME.SINCE.ID        waits for its time, since then
//! queue/TIME.bucket/         waits longer
//! queue/parked.bucket/       waits for its turn in its group; see groups.rs
//! outbox/…                   jobs that have ended, of which somebody has to be told, in the same way
//! where/ID                   where a job waits, if not under the time at which it was accepted
//! ```
//!
//! A folder is listed whole whenever it has changed, so it is kept short: a job that is due much later
//! waits in a *bucket*, a folder in it that nobody looks into before its time. The farther off, the wider
//! are the buckets, so that there are few of them (a timing wheel, made of folders). Whoever looks first
//! when a bucket's time has come moves its jobs on, into narrower ones and at last into the queue itself.

use std::collections::BinaryHeap;
use std::time::Duration;

use super::folder::Folder;
use super::{Dir, path};
use crate::jobs::job::{Id, Wait};
use crate::jobs::store::{Due, Kind, Outlook, Result, StoreError};
use crate::jobs::time::{TOLERANCE, Time};

/// How many milliseconds of due times a bucket holds: 4 s, and eight times as much each, up to 12 days.
const WIDTHS: [u64; 7] = [4_000, 32_000, 256_000, 2_048_000, 16_384_000, 131_072_000, 1_048_576_000];

/// What is due within this time, or is in a bucket whose time comes so soon, gets no bucket.
const SOON: Duration = Duration::from_secs(1);

/// How many jobs are moved on at a time.
const MOVED: usize = 1000;

/// With a limit up to this, the queue is counted for every answer.
const COUNTED: usize = 1000;

/// How many jobs a queue has at least whose length is noted before an answer, not after it.
const LONG: usize = 100;

/// How old a note may be while the queue is far from full, and in any case.
const NOTE_AGE: Duration = Duration::from_secs(10);
const LEAST_NOTE_AGE: Duration = Duration::from_secs(1);

/// More jobs than this do not come in a second.
const FASTEST: u64 = 5000;

/// What follows the id of a job that runs in an instance of its own.
const ALONE: &str = "alone";

/// The file that says how many jobs waited when. It is made last of all.
pub const LENGTH: &str = "length";

/// The bucket whose time never comes by itself.
pub const PARKED: &str = "queue/parked.bucket";

/// The folders that jobs wait in.
pub const FOLDERS: [&str; 2] = ["queue", "outbox"];

/// The folder that a job of this kind waits in.
pub fn folder_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Work | Kind::Suspect => FOLDERS[0],
        Kind::Tell => FOLDERS[1],
    }
}

/// The name of a job that waits. Times have 13 digits, so that names sort by them.
pub fn name(due: &Due) -> String {
    let (time, id) = (due.time.0, due.id);
    match (due.wait, due.kind) {
        (Some(wait), _) => format!("{time:013}.{:013}.{id}", wait.since.0),
        (None, Kind::Suspect) => format!("{time:013}.{id}.{ALONE}"),
        (None, _) => format!("{time:013}.{id}"),
    }
}

fn parse(folder: &str, name: &str) -> Option<Due> {
    let mut parts = name.split('.');
    let time = |part: Option<&str>| part?.parse().ok().map(Time);
    let (first, second, third) = (time(parts.next())?, parts.next()?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let kind = if folder == folder_of(Kind::Tell) { Kind::Tell } else { Kind::Work };
    let due = match (Id::parse(second), third) {
        (Some(id), None) => Due { time: first, id, kind, wait: None },
        (Some(id), Some(ALONE)) => Due { time: first, id, kind: Kind::Suspect, wait: None },
        (None, Some(id)) => {
            let wait = Wait { until: first, since: time(Some(second))? };
            Due { time: first, id: Id::parse(id)?, kind, wait: Some(wait) }
        }
        _ => return None,
    };
    Some(due)
}

/// The time that a name begins with.
fn time_of(name: &str) -> Option<Time> {
    Some(Time(name.split_once('.')?.0.parse().ok()?))
}

/// Where a job waits for its turn.
pub fn in_queue(due: &Due) -> String {
    format!("{}/{}", folder_of(due.kind), name(due))
}

/// The time of the bucket of this width for what is due then.
fn bucket_time(due: Time, width: u64) -> Time {
    Time(due.0 / width * width)
}

fn bucket(kind: Kind, time: Time) -> String {
    format!("{}/{:013}.bucket", folder_of(kind), time.0)
}

fn is_bucket(name: &str) -> bool {
    name.ends_with(".bucket")
}

fn is_parked(folder: &str, name: &str) -> bool {
    PARKED.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) == Some(name)
}

/// All places in which a job may wait like this.
fn places(due: Due) -> impl Iterator<Item = String> {
    let in_bucket =
        move |width: &u64| format!("{}/{}", bucket(due.kind, bucket_time(due.time, *width)), name(&due));
    let buckets = due.wait.iter().flat_map(move |_| WIDTHS.iter().map(in_bucket)).collect::<Vec<_>>();
    std::iter::once(in_queue(&due)).chain(buckets)
}

impl<F: Folder> Dir<F> {
    /// Where a waiting job may be, without a search.
    pub fn waiting_places(&self, id: Id) -> Result<impl Iterator<Item = String>> {
        let noted = self.files.read(&path("where", id))?;
        let noted = noted.and_then(|text| {
            let text = String::from_utf8(text).ok()?;
            let (folder, name) = text.split_once('/')?;
            parse(folder, name).filter(|due| due.id == id)
        });
        Ok(places(Due::first(id)).chain(noted.into_iter().flat_map(places)))
    }

    /// Searches all that waits for a job.
    pub fn search(&self, id: Id) -> Result<Option<String>> {
        let is_it = |folder: &str, name: &str| parse(folder, name).is_some_and(|due| due.id == id);
        for folder in FOLDERS {
            for name in self.files.names(folder)? {
                let place = format!("{folder}/{name}");
                if is_parked(folder, &name) {
                    continue; // Nobody needs to search for those.
                }
                if is_bucket(&name) {
                    let names = self.files.names(&place)?;
                    if let Some(name) = names.iter().find(|name| is_it(folder, name)) {
                        return Ok(Some(format!("{place}/{name}")));
                    }
                } else if is_it(folder, &name) {
                    return Ok(Some(place));
                }
            }
        }
        Ok(None)
    }

    /// Puts the job whose file is at `from` into the queue. Where it will be is noted first: a job that is
    /// looked up meanwhile is still where it was. A note may be wrong, if who has written it has lost the
    /// job; then the job is searched for.
    pub fn queue(&self, from: &str, due: Due, now: Time) -> Result<()> {
        if due != Due::first(due.id) {
            self.files.write(&path("where", due.id), in_queue(&due).as_bytes(), false)?;
        }
        self.put_to_wait(from, due, now)
    }

    /// Moves a job's file to where it waits from now on until it is due.
    fn put_to_wait(&self, from: &str, due: Due, now: Time) -> Result<()> {
        let mut times = WIDTHS.iter().rev().map(|width| bucket_time(due.time, *width));
        let time = times.find(|time| due.wait.is_some() && *time > now + SOON);
        let Some(time) = time else { return self.files.rename(from, &in_queue(&due)) };
        let bucket = bucket(due.kind, time);
        loop {
            if !self.files.exists(&bucket)? {
                self.files.make_folder(&bucket)?;
                self.files.sync(folder_of(due.kind))?; // No cut may take it away with what is in it.
            }
            if self.files.rename_if_any(from, &format!("{bucket}/{}", name(&due)))? {
                return Ok(());
            }
            if !self.files.exists(from)? {
                return Err(StoreError::Lost);
            }
            // The bucket was still empty, and somebody has removed it.
        }
    }

    /// Takes a job out of a place where it waits: whether it was there.
    pub fn take_from(&self, place: &str, to: &str) -> Result<bool> {
        if !self.files.rename_if_any(place, to)? {
            return Ok(false);
        }
        if let Some((bucket, _)) = place.rsplit_once('/').filter(|(folder, _)| is_bucket(folder)) {
            self.files.remove_if_empty(bucket)?;
        }
        Ok(true)
    }

    /// What waits, with at most `most` of the due jobs of each kind.
    pub fn look_at_queue(&self, now: Time, most: usize, mend: bool) -> Result<Outlook> {
        let mut outlook = Outlook { is_empty: true, ..Outlook::default() };
        for folder in FOLDERS {
            let mut names = self.files.names(folder)?;
            if self.open_buckets(folder, &names, now, mend)? {
                names = self.files.names(folder)?;
            }
            if folder == FOLDERS[0] {
                self.renew_note(&names, now)?;
            }
            names.retain(|name| !is_parked(folder, name)); // They wait for others, who count.
            outlook.is_empty &= names.is_empty();
            let mut first = [(); 2].map(|()| BinaryHeap::new());
            for name in names {
                if is_bucket(&name) {
                    outlook.next = outlook.next.into_iter().chain(time_of(&name)).min();
                    continue;
                }
                let Some(due) = self.parse_or_set_aside(folder, &name)? else { continue };
                let Some(due) = self.mend(folder, due, now, mend)? else { continue };
                if due.wait.is_some() && due.time > now {
                    outlook.next = Some(outlook.next.map_or(due.time, |next| next.min(due.time)));
                    continue;
                }
                let first = &mut first[usize::from(due.kind == Kind::Suspect)];
                // Who was accepted by a clock that was ahead has its turn now, not then.
                first.push((due.time.min(now), due.id, due));
                if first.len() > most {
                    first.pop();
                }
            }
            let first = first.into_iter().flat_map(BinaryHeap::into_sorted_vec);
            outlook.due.extend(first.map(|(_, _, due)| due));
        }
        Ok(outlook)
    }

    fn parse_or_set_aside(&self, folder: &str, name: &str) -> Result<Option<Due>> {
        let due = parse(folder, name);
        if due.is_none() {
            let aside = self.files.set_aside(&format!("{folder}/{name}"), "it is no job's name");
            self.files.tolerate(aside)?;
        }
        Ok(due)
    }

    /// A wait that was begun by a clock that was ahead begins anew; `None` if somebody else was faster.
    fn mend(&self, folder: &str, due: Due, now: Time, mend: bool) -> Result<Option<Due>> {
        let Some(wait) = due.wait.filter(|wait| mend && wait.since > now + TOLERANCE) else {
            return Ok(Some(due));
        };
        let wait = Wait::new(now, wait.until.since(wait.since));
        let mended = Due { time: wait.until, wait: Some(wait), ..due };
        match self.queue(&format!("{folder}/{}", name(&due)), mended, now) {
            Err(StoreError::Lost) => Ok(None),
            result => self.files.tolerate(result).map(|()| Some(mended)),
        }
    }

    /// Moves on the jobs of the buckets among these names whose time has come, or with `mend`, the jobs of
    /// all buckets whose waits are wrong: whether there were any.
    fn open_buckets(&self, folder: &str, names: &[String], now: Time, mend: bool) -> Result<bool> {
        let mut opened = false;
        for bucket in names.iter().filter(|name| is_bucket(name) && !is_parked(folder, name)) {
            let is_due = time_of(bucket).is_none_or(|time| time <= now);
            if !is_due && !mend {
                continue;
            }
            let place = format!("{folder}/{bucket}");
            if self.files.is_file(&place)? {
                self.files.set_aside(&place, "it is no bucket")?;
                continue;
            }
            let mut moved = 0;
            for name in self.files.names(&place)? {
                if moved == MOVED {
                    break;
                }
                let inside = format!("{place}/{name}");
                let Some(due) = parse(folder, &name) else {
                    self.files.set_aside(&inside, "it is no job's name")?;
                    continue;
                };
                let is_wrong = due.wait.is_some_and(|wait| wait.since > now + TOLERANCE);
                let result = match due.wait {
                    Some(wait) if mend && is_wrong => {
                        let wait = Wait::new(now, wait.until.since(wait.since));
                        self.queue(&inside, Due { time: wait.until, wait: Some(wait), ..due }, now)
                    }
                    _ if is_due => self.put_to_wait(&inside, due, now),
                    _ => continue,
                };
                match result {
                    Err(StoreError::Lost) => {} // Somebody else has moved it.
                    result => self.files.tolerate(result)?,
                }
                moved += 1;
            }
            opened |= is_due || moved > 0;
            self.files.remove_if_empty(&place)?;
        }
        Ok(opened)
    }

    /// How many jobs wait in a folder.
    pub fn length_of(&self, folder: &str) -> Result<usize> {
        self.length_of_names(folder, &self.files.names(folder)?)
    }

    fn length_of_names(&self, folder: &str, names: &[String]) -> Result<usize> {
        let mut length = 0;
        for name in names {
            length += if is_bucket(name) { self.files.names(&format!("{folder}/{name}"))?.len() } else { 1 };
        }
        Ok(length)
    }

    /// How many jobs wait, with those that are about to go into the queue.
    pub fn waiting(&self) -> Result<usize> {
        let fresh = self.files.names("fresh")?;
        let names = self.files.names(FOLDERS[0])?;
        // But for those that have just gone there. There are as few as requests that are being answered.
        let fresh = fresh.iter().filter(|id| !names.iter().any(|name| name.ends_with(id.as_str()))).count();
        Ok(self.length_of_names(FOLDERS[0], &names)? + fresh)
    }

    /// Whether as many jobs wait as may.
    pub fn is_queue_full(&self, limit: usize, now: Time) -> Result<bool> {
        if limit > COUNTED
            && let Some((length, age)) = self.noted_length(now)?
        {
            let room = Duration::from_secs(limit.saturating_sub(length) as u64 / FASTEST);
            if age < room.clamp(LEAST_NOTE_AGE, NOTE_AGE) {
                return Ok(length >= limit);
            }
        }
        let length = self.waiting()?;
        if limit > COUNTED && length >= LONG {
            self.note_length(length, now)?;
        }
        Ok(length >= limit)
    }

    /// Counts the queue anew after an answer, so that no request must before its own.
    fn renew_note(&self, names: &[String], now: Time) -> Result<()> {
        let elapsed = self.files.host().elapsed();
        if elapsed < self.note_stays.get() {
            return Ok(());
        }
        let age = match self.noted_length(now)? {
            Some((_, age)) if age < NOTE_AGE / 2 => age,
            _ => {
                self.note_length(self.length_of_names(FOLDERS[0], names)?, now)?;
                Duration::ZERO
            }
        };
        self.note_stays.set(elapsed + NOTE_AGE / 2 - age);
        Ok(())
    }

    pub fn note_length(&self, length: usize, now: Time) -> Result<()> {
        self.files.write(LENGTH, format!("{length} {}", now.0).as_bytes(), false)
    }

    /// How many jobs waited when that was noted, and how long ago it was. A note from a time to come tells
    /// nothing.
    fn noted_length(&self, now: Time) -> Result<Option<(usize, Duration)>> {
        let note = match self.note.take() {
            None => self.files.read(LENGTH)?,
            note => note,
        };
        Ok(note.and_then(|text| {
            let text = String::from_utf8(text).ok()?;
            let (length, time) = text.split_once(' ')?;
            let time = Time(time.parse().ok()?);
            (time <= now + TOLERANCE).then_some((length.parse().ok()?, now.since(time)))
        }))
    }
}

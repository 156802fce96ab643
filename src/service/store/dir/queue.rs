//! The queue: the jobs that wait, by the time when they are due.
//!
//! `queue` is listed whole whenever it has changed, so it is kept short: a job that is due much later
//! waits in a *bucket*, a folder in it that nobody looks into before its time. The farther off, the wider
//! are the buckets, so that there are few of them (a timing wheel, made of folders). Whoever looks first
//! when a bucket's time has come moves its jobs on, into narrower ones and at last into the queue itself.

use std::collections::BinaryHeap;
use std::time::Duration;

use super::files::{name, parse_name, parse_time};
use super::{Dir, path};
use crate::service::job::Id;
use crate::service::store::{Due, Outlook, Result, StoreError};
use crate::service::time::Time;

/// How many milliseconds of due times a bucket holds: 4 s, and eight times as much each, up to 12 days.
const WIDTHS: [u64; 7] = [4_000, 32_000, 256_000, 2_048_000, 16_384_000, 131_072_000, 1_048_576_000];

/// What is due within this time, or is in a bucket whose time comes so soon, gets no bucket.
const SOON: Duration = Duration::from_secs(1);

/// How many jobs are moved on at a time.
const MOVED: usize = 1000;

/// With a limit up to this, the queue is counted for every answer.
const COUNTED: usize = 1000;

/// How many jobs a queue has at least whose length is noted.
const LONG: usize = 100;

/// How old a note may be while the queue is far from full, and in any case.
const NOTE_AGE: Duration = Duration::from_secs(10);
const LEAST_NOTE_AGE: Duration = Duration::from_secs(1);

/// More jobs than this do not come in a second.
const FASTEST: u64 = 5000;

/// Where a job waits whose time comes soon.
pub fn in_queue(due: Time, id: Id) -> String {
    format!("queue/{}", name(due, id))
}

/// The time of the bucket of this width for what is due then.
fn bucket_time(due: Time, width: u64) -> Time {
    Time(due.0 / width * width)
}

fn bucket(time: Time) -> String {
    format!("queue/{:013}.bucket", time.0)
}

fn in_bucket(time: Time, due: Time, id: Id) -> String {
    format!("{}/{}", bucket(time), name(due, id))
}

fn is_bucket(name: &str) -> bool {
    name.ends_with(".bucket")
}

impl Dir {
    /// Where a waiting job may be.
    pub fn waiting_places(&self, id: Id) -> Result<impl Iterator<Item = String>> {
        let later = self.files.read_if_any(&path("later", id))?;
        let later = later.and_then(|text| String::from_utf8(text).ok()?.parse().ok().map(Time));
        let places = move |due| WIDTHS.map(|width| in_bucket(bucket_time(due, width), due, id));
        let in_buckets = later.into_iter().flat_map(places);
        Ok(std::iter::once(in_queue(later.unwrap_or(id.created()), id)).chain(in_buckets))
    }

    /// Puts the job whose course is at `from` into the queue. Its time goes first: a job that is looked up
    /// meanwhile is still where it was.
    pub fn queue(&self, from: &str, id: Id, due: Time) -> Result<()> {
        if due == id.created() {
            self.files.remove_if_any(&path("later", id))?;
        } else {
            self.files.write(&path("later", id), due.0.to_string().as_bytes(), false)?;
        }
        self.put_to_wait(from, id, due, Time::now())
    }

    /// Moves a job's course to where it waits from now on until it is due.
    fn put_to_wait(&self, from: &str, id: Id, due: Time, now: Time) -> Result<()> {
        let mut times = WIDTHS.iter().rev().map(|width| bucket_time(due, *width));
        let Some(time) = times.find(|time| *time > now + SOON) else {
            return self.files.rename(from, &in_queue(due, id));
        };
        loop {
            self.files.make_folder(&bucket(time))?;
            if self.files.rename_if_any(from, &in_bucket(time, due, id))? {
                return Ok(());
            }
            if !self.files.exists(from)? {
                return Err(StoreError::Lost);
            }
            // The bucket was empty yet, and somebody has removed it.
        }
    }

    /// Takes a job out of the queue: whether it was there.
    pub fn take_waiting(&self, id: Id, to: &str) -> Result<bool> {
        for place in self.waiting_places(id)? {
            if self.files.rename_if_any(&place, to)? {
                if let Some((bucket, _)) = place.rsplit_once('/').filter(|(folder, _)| is_bucket(folder)) {
                    self.files.remove_if_empty(bucket)?;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves on the jobs of the buckets among these names whose time has come: whether there were any.
    fn open_buckets(&self, names: &[String], now: Time) -> Result<bool> {
        let mut opened = false;
        for bucket in names.iter().filter(|name| is_bucket(name)) {
            if parse_time(bucket).is_some_and(|time| time > now) {
                continue;
            }
            opened = true;
            let folder = format!("queue/{bucket}");
            if self.files.is_file(&folder)? {
                self.files.set_aside(&folder, "it is no bucket")?;
                continue;
            }
            for Due { time, id } in self.first(&folder, self.files.names(&folder)?, Time(u64::MAX), MOVED)? {
                match self.put_to_wait(&format!("{folder}/{}", name(time, id)), id, time, now) {
                    Err(StoreError::Lost) => {} // Somebody else has moved it.
                    result => result?,
                }
            }
            self.files.remove_if_empty(&folder)?;
        }
        Ok(opened)
    }

    /// The jobs by these names of a folder that are due, first come first, at most `most`.
    fn first(&self, folder: &str, names: Vec<String>, now: Time, most: usize) -> Result<Vec<Due>> {
        let mut first = BinaryHeap::new();
        for name in names {
            // An id is looked at when its job is due.
            if parse_time(&name).is_some_and(|time| time > now) {
                continue;
            }
            let Some((time, id)) = parse_name(&name) else {
                self.files.set_aside(&format!("{folder}/{name}"), "it is no job's name")?;
                continue;
            };
            first.push(Due { time, id });
            if first.len() > most {
                first.pop();
            }
        }
        Ok(first.into_sorted_vec())
    }

    /// What the queue holds, with at most `most` of the due jobs.
    pub fn look(&self, now: Time, most: usize) -> Result<Outlook> {
        let mut names = self.files.names("queue")?;
        if self.open_buckets(&names, now)? {
            names = self.files.names("queue")?;
        }
        self.renew_note(&names, now)?;
        let later = |name: &String| parse_time(name).filter(|time| *time > now || is_bucket(name));
        let next = names.iter().filter_map(later).min();
        let is_empty = names.is_empty();
        names.retain(|name| !is_bucket(name));
        Ok(Outlook { due: self.first("queue", names, now, most)?, next, is_empty })
    }

    /// How many jobs wait.
    pub fn length(&self) -> Result<usize> {
        self.length_of(&self.files.names("queue")?)
    }

    /// How many jobs wait in a queue that holds these names.
    fn length_of(&self, names: &[String]) -> Result<usize> {
        let mut length = 0;
        for name in names {
            length += if is_bucket(name) { self.files.names(&format!("queue/{name}"))?.len() } else { 1 };
        }
        Ok(length)
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
        let length = self.length()?;
        if limit > COUNTED && length >= LONG {
            self.note_length(length, now)?;
        }
        Ok(length >= limit)
    }

    /// Counts a long queue anew after an answer, so that no request must before its own.
    fn renew_note(&self, names: &[String], now: Time) -> Result<()> {
        if names.len() < LONG && !names.iter().any(|name| is_bucket(name)) {
            return Ok(()); // It is soon counted, if anybody asks.
        }
        match self.noted_length(now)? {
            Some((_, age)) if age > NOTE_AGE / 2 => self.note_length(self.length_of(names)?, now),
            _ => Ok(()),
        }
    }

    fn note_length(&self, length: usize, now: Time) -> Result<()> {
        match length {
            LONG.. => self.files.write("length", format!("{length} {}", now.0).as_bytes(), false),
            _ => self.files.remove_if_any("length"),
        }
    }

    /// How many jobs waited when that was noted, and how long ago it was.
    fn noted_length(&self, now: Time) -> Result<Option<(usize, Duration)>> {
        let note = self.files.read_if_any("length")?;
        Ok(note.and_then(|text| {
            let text = String::from_utf8(text).ok()?;
            let (length, time) = text.split_once(' ')?;
            Some((length.parse().ok()?, now.since(Time(time.parse().ok()?))))
        }))
    }
}

//! What has ended when: so that jobs are removed in time, and counted.
//!
//! ```text
//! ended/START.WIDTH.STATE            the jobs that ended like this within WIDTH ms from then on
//! ended/START.WIDTH.STATE.NAME.N     the same while they are removed: N of them are
//! totals/STATE.COUNT.NAME            how many were removed, and the last log that went with them
//! totals/untold.COUNT.-              how many targets were given up
//! ```
//!
//! A file in `ended` is a log of 24 bytes a job, its id and the version of its end: whoever removes jobs
//! reads a piece of it, whatever there is besides. What has been noted twice, because somebody died in
//! between, is removed once.

use std::time::Duration;

use super::files::Files;
use super::folder::Folder;
use super::{Dir, path, unless_lost};
use crate::jobs::job::{Id, Run, State};
use crate::jobs::store::Result;
use crate::jobs::time::{TOLERANCE, Time};

/// The bytes of an entry.
const ENTRY: usize = 24;

/// How many entries are read at a time.
const READ: usize = 64;

/// Into how many logs the time that jobs are kept is divided.
const LOGS: u32 = 32;

/// What counts the targets that were given up.
const UNTOLD: &str = "untold";

/// How often counting is tried while others count, too.
const TRIES: usize = 16;

/// A log of jobs that have ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Log {
    start: Time,
    width: u64,
    state: String,
    /// How many of its jobs have been removed, if that has begun, and a name of its own.
    removed: Option<(String, u64)>,
}

impl Log {
    fn new(finished: Time, state: State, keep: Duration) -> Log {
        let width = (keep / LOGS).max(Duration::from_secs(1)).as_millis() as u64;
        let start = Time(finished.0 / width * width);
        Log { start, width, state: state.name().into(), removed: None }
    }

    fn parse(name: &str) -> Option<Log> {
        let mut parts = name.split('.');
        let (start, width) = (Time(parts.next()?.parse().ok()?), parts.next()?.parse().ok()?);
        let state =
            parts.next().filter(|state| State::ENDS.iter().any(|end| end.name() == *state))?.to_owned();
        let removed = match parts.next() {
            None => None,
            Some(name) => Some((name.to_owned(), parts.next()?.parse().ok()?)),
        };
        parts.next().is_none().then_some(Log { start, width, state, removed })
    }

    fn path(&self) -> String {
        let Log { start, width, state, removed } = self;
        let removed = removed.as_ref().map(|(name, count)| format!(".{name}.{count}")).unwrap_or_default();
        format!("ended/{:013}.{width}.{state}{removed}", start.0)
    }

    /// When the last of its jobs has been kept for long enough.
    fn expires(&self, keep: Duration) -> Time {
        self.start + Duration::from_millis(self.width) + keep
    }
}

/// How many jobs were removed that had ended like this, and which log they were in last.
struct Total {
    count: u64,
    last: String,
}

impl Total {
    /// Whether the jobs of this log are counted in it.
    fn has(&self, log: &Log) -> bool {
        log.removed.as_ref().is_some_and(|(name, _)| *name == self.last)
    }
}

impl<F: Folder> Files<F> {
    fn logs(&self) -> Result<Vec<Log>> {
        let mut logs = Vec::new();
        for name in self.sorted_names("ended")? {
            match Log::parse(&name) {
                Some(log) => logs.push(log),
                None => self.set_aside(&format!("ended/{name}"), "it is no log of jobs that have ended")?,
            }
        }
        Ok(logs)
    }

    fn total(&self, names: &[String], state: &str) -> Total {
        let totals = names.iter().filter_map(|name| {
            let (count, last) = name.strip_prefix(state)?.strip_prefix('.')?.split_once('.')?;
            Some(Total { count: count.parse().ok()?, last: last.to_owned() })
        });
        totals.max_by_key(|total| total.count).unwrap_or(Total { count: 0, last: String::new() })
    }

    /// Adds to a total, unless somebody else counts, or nobody has yet: whether that was done.
    fn add(&self, what: &str, total: &Total, count: u64, last: &str) -> Result<bool> {
        let path = |count: u64, last: &str| format!("totals/{what}.{count}.{last}");
        let old = path(total.count, &total.last);
        let is_added = self.rename_if_any(&old, &path(total.count + count, last))?;
        if !is_added && total.count == 0 {
            self.append(&old, b"")?;
        }
        Ok(is_added)
    }

    /// Notes that a job has ended.
    pub fn note_end(&self, id: Id, run: &Run, keep: Duration) -> Result<()> {
        let Some(end) = &run.end else { return Ok(()) };
        let entry = [&id.bytes()[..], &end.version.to_be_bytes()].concat();
        // By a clock that is behind, it would have been kept for long enough at once.
        let others = self.logs()?.into_iter().map(|log| log.start).max().unwrap_or_default();
        self.append(&Log::new(end.finished.max(others), end.state, keep).path(), &entry)
    }

    /// When the first jobs have been kept for long enough.
    pub fn first_expiry(&self, keep: Duration) -> Result<Option<Time>> {
        Ok(self.logs()?.iter().map(|log| log.expires(keep)).min())
    }

    /// How many jobs have ended in each way since the store was made.
    pub fn ended(&self) -> Result<[(State, u64); 3]> {
        let (names, logs) = (self.names("totals")?, self.logs()?);
        let mut counts = State::ENDS.map(|state| (state, 0));
        for (state, count) in &mut counts {
            let total = self.total(&names, state.name());
            *count = total.count;
            for log in logs.iter().filter(|log| log.state == state.name() && !total.has(log)) {
                *count += self.length(&log.path())? / ENTRY as u64;
            }
        }
        Ok(counts)
    }

    /// Counts a target that was given up.
    pub fn note_untold(&self) -> Result<()> {
        for _ in 0..TRIES {
            let total = self.total(&self.names("totals")?, UNTOLD);
            if self.add(UNTOLD, &total, 1, "-")? {
                break;
            }
        }
        Ok(())
    }

    /// How many targets were given up since the store was made.
    pub fn targets_untold(&self) -> Result<u64> {
        Ok(self.total(&self.names("totals")?, UNTOLD).count)
    }

    /// Counts the jobs of a log to those that were removed, once, and removes it: whether it has.
    fn close_log(&self, log: &Log, name: &str) -> Result<bool> {
        let total = self.total(&self.names("totals")?, &log.state);
        if !total.has(log) {
            let count = self.length(&log.path())? / ENTRY as u64;
            if !self.add(&log.state, &total, count, name)? {
                return Ok(false);
            }
        }
        self.remove_if_any(&log.path()).map(|()| true)
    }
}

impl<F: Folder> Dir<F> {
    /// Removes the next jobs that have been kept for long enough, until `is_late`: when there are more to
    /// remove, now or later.
    pub fn remove_ended(
        &self,
        now: Time,
        keep: Duration,
        is_late: &dyn Fn() -> bool,
    ) -> Result<Option<Time>> {
        let mut next = None::<Time>;
        for mut log in self.files.logs()? {
            if log.start > now + TOLERANCE + Duration::from_millis(log.width) {
                // By a clock that was ahead: kept from now on.
                let mended = Log { start: now, ..log.clone() };
                if !self.files.exists(&mended.path())? {
                    self.files.rename_if_any(&log.path(), &mended.path())?;
                }
                continue;
            }
            if log.expires(keep) > now {
                next = next.into_iter().chain([log.expires(keep)]).min();
                continue;
            }
            let (name, mut removed) = match &log.removed {
                Some(removed) => removed.clone(),
                None => (self.files.token(), 0),
            };
            loop {
                let further = Log { removed: Some((name.clone(), removed)), ..log.clone() };
                if further != log && !self.files.rename_if_any(&log.path(), &further.path())? {
                    return Ok(Some(now)); // Somebody else removes them.
                }
                log = further;
                if is_late() {
                    return Ok(Some(now));
                }
                let piece = self.files.read_part(&log.path(), removed * ENTRY as u64, READ * ENTRY)?;
                let Some(piece) = piece else { return Ok(Some(now)) };
                let before = removed;
                for entry in piece.chunks_exact(ENTRY) {
                    // What cannot be removed holds up nothing else.
                    self.files.tolerate(self.remove_entry(entry))?;
                    removed += 1;
                    if is_late() {
                        break;
                    }
                }
                if removed == before {
                    if !self.files.close_log(&log, &name)? {
                        return Ok(Some(now));
                    }
                    break;
                }
            }
        }
        Ok(next)
    }

    /// Removes the job of an entry, if it still rests after that end.
    fn remove_entry(&self, entry: &[u8]) -> Result<()> {
        let (id, version) = entry.split_at(16);
        let id = <[u8; 16]>::try_from(id).ok().and_then(Id::from_bytes);
        let version = <[u8; 8]>::try_from(version).map(u64::from_be_bytes);
        let (Some(id), Ok(version)) = (id, version) else { return Ok(()) }; // Torn by a power cut.
        let is_it = |file: Option<Vec<u8>>| {
            file.is_some_and(|file| {
                // What cannot be read any more is removed with the others.
                super::record::decode_run_head(&file)
                    .map_or(true, |run| run.end.is_none_or(|end| end.version == version))
            })
        };
        let (done, gone) = (path("done", id), path("gone", id));
        if !is_it(self.files.beginning(&done)?) || !self.files.rename_if_any(&done, &gone)? {
            return Ok(());
        }
        if is_it(self.files.beginning(&gone)?) {
            return self.forget(id);
        }
        // It was queued again and has ended again in between.
        unless_lost(self.files.rename(&gone, &done))
    }
}

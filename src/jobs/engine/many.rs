//! Jobs that begin again all at once, and jobs that go before their time.
//!
//! `POST /jobs/retry` may concern a hundred thousand jobs, each of which takes a synced write. So it leaves one
//! record in the store and counts the jobs; the first of those who hold slots sees to them from then on, in short
//! pieces, oldest first. What it has begun again says by which record, so that nothing begins twice by one,
//! whoever dies on the way.

use std::time::Duration;

use super::Engine;
use crate::jobs::job::{Id, State};
use crate::jobs::store::{Ask, Found, Holding, Mark, Range, Result, RetryAll, Slot, StoreError, Wanted};

/// How long a piece takes, of every [`LOOK`](super::LOOK).
const PIECE: Duration = Duration::from_millis(20);

/// How many jobs are read at a time.
const READ: usize = 32;

/// How long somebody has to be the first of those who hold slots: until the one before has noticed, and his piece is
/// over.
const FIRST: Duration = Duration::from_millis(100);

/// How long it is waited for a job that somebody else has claimed: for more than a moment only who tells of it has.
/// Another one who begins jobs again is not to be overtaken, for the order of their groups.
const HELD_UP: Duration = Duration::from_millis(200);

/// How often a job is looked for that changes while it is to be removed.
const TRIES: usize = 8;

/// What came of wanting a job removed.
#[derive(Debug)]
pub enum Purged {
    Yes,
    /// It has not ended.
    No(State),
    Unknown,
}

impl Engine {
    /// Queues all failed or cancelled jobs again that are wanted: about how many those are.
    pub fn retry_all(&self, wanted: &Wanted) -> Result<usize> {
        self.store.retry_all(wanted)
    }

    /// Removes a job that has ended.
    pub fn purge(&self, id: Id) -> Result<Purged> {
        let mut state = State::Running;
        for _ in 0..TRIES {
            let Some(found) = self.store.find(id)? else { return Ok(Purged::Unknown) };
            state = found.state();
            if !found.is_over() {
                break;
            }
            if self.store.purge(&found, self.config.keep)? {
                return Ok(Purged::Yes);
            }
        }
        Ok(Purged::No(state))
    }

    /// Goes on after the loss of a claim, if its slot is still held: somebody has purged the job.
    pub(super) fn unless_purged(&self, slot: &Slot, result: Result<()>) -> Result<()> {
        let held = || Ok(self.store.slots()?.contains(&(slot.role, Holding::Held(slot.sign.clone()))));
        match result {
            Err(StoreError::Lost) if held()? => Ok(()),
            result => result,
        }
    }

    /// Does the next piece of what is to begin again, if this is the first of those who hold slots.
    pub(super) fn retry_more(&self, slot: &Slot) -> Result<()> {
        let first_since = self.first_since.take();
        let Some(mut retry) = self.store.retries()?.into_iter().next() else { return Ok(()) };
        let held = self.store.slots()?.into_iter().filter(|(_, holding)| matches!(holding, Holding::Held(_)));
        if held.map(|(role, _)| role).min() != Some(slot.role) {
            return Ok(());
        }
        let now = self.host.elapsed();
        let first_since = first_since.unwrap_or(now);
        self.first_since.set(Some(first_since));
        if now < first_since + FIRST {
            return Ok(());
        }
        let until = now + PIECE;
        while self.host.elapsed() < until {
            let found = self.store.list(&retry.wanted, Range::After(retry.after), READ)?;
            if found.is_empty() {
                return self.store.forget_retry(&retry);
            }
            let (mut last, mut is_late, mut result) = (None, false, Ok(()));
            for found in found {
                is_late = match self.retry_one(slot, &retry, &found) {
                    Ok(is_seen_to) => !is_seen_to,
                    Err(error) => {
                        result = self.unless_purged(slot, Err(error));
                        result.is_err()
                    }
                };
                if is_late {
                    break; // What was not done now is done later.
                }
                last = Some(found.job.id);
                is_late = self.host.elapsed() >= until;
                if is_late {
                    break;
                }
            }
            if let Some(last) = last {
                retry.after = Some(last);
                self.store.note_retried(&retry, last)?;
            }
            result?;
            if is_late {
                break;
            }
        }
        Ok(())
    }

    /// Begins a job again, unless somebody else has claimed it: whether it is seen to.
    fn retry_one(&self, slot: &Slot, retry: &RetryAll, found: &Found) -> Result<bool> {
        let (id, round) = (found.job.id, found.job.run.round);
        if found.job.run.retried_by.as_ref() == Some(&retry.name) {
            return Ok(true); // It has begun again, and ended like this once more.
        }
        let mark = Mark { id, round, ask: Ask::Retry };
        let Some(kind) = self.store.claim_any(slot, id)? else {
            let now = self.host.elapsed();
            let since = self.held_up.get().filter(|(held_up, _)| *held_up == id).map_or(now, |since| since.1);
            self.held_up.set(Some((id, since)));
            let is_told_of = now >= since + HELD_UP;
            if is_told_of {
                self.store.ask(mark)?; // Whoever tells of it sees to that.
            }
            return Ok(is_told_of);
        };
        self.heed_claimed(slot, mark, kind, &|job| {
            self.begin_again(job);
            job.run.retried_by = Some(retry.name.clone());
        })?;
        Ok(true)
    }
}

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
        let Some(mut retry) = self.store.retries()?.into_iter().next() else { return Ok(()) };
        let held = self.store.slots()?.into_iter().filter(|(_, holding)| matches!(holding, Holding::Held(_)));
        if held.map(|(role, _)| role).min() != Some(slot.role) {
            return Ok(());
        }
        let until = self.host.elapsed() + PIECE;
        while self.host.elapsed() < until {
            let found = self.store.list(&retry.wanted, Range::After(retry.after), READ)?;
            if found.is_empty() {
                return self.store.note_retried(&retry, None);
            }
            let mut result = Ok(());
            for found in found {
                result = self.unless_purged(slot, self.retry_one(slot, &retry, &found));
                if result.is_err() {
                    break; // What a store that fails has not done is done later.
                }
                retry.after = Some(found.job.id);
                if self.host.elapsed() >= until {
                    break;
                }
            }
            self.store.note_retried(&retry, retry.after)?;
            result?;
        }
        Ok(())
    }

    fn retry_one(&self, slot: &Slot, retry: &RetryAll, found: &Found) -> Result<()> {
        let (id, round) = (found.job.id, found.job.run.round);
        if found.job.run.retried_by.as_ref() == Some(&retry.name) {
            return Ok(()); // It has begun again, and ended like this once more.
        }
        let mark = Mark { id, round, ask: Ask::Retry };
        let Some(kind) = self.store.claim_any(slot, id)? else {
            return self.store.ask(mark); // Whoever has it sees to it.
        };
        let Some(mut job) = self.load_or_repair(slot, id, kind)? else { return Ok(()) };
        if mark.counts(&job.run) {
            self.begin_again(&mut job);
            job.run.retried_by = Some(retry.name.clone());
            self.save(slot, &mut job)?;
        }
        self.release(slot, &job)
    }
}

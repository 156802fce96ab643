//! Taking over what others have lost: the slots and claims of dead invocations, and what they have left
//! unfinished.

use std::ops::Range;
use std::time::Duration;

use super::Engine;
use super::drain::renewal;
use crate::jobs::fault;
use crate::jobs::job::{End, Id, Job, Run, State};
use crate::jobs::store::{HAS_DATABASES, Holding, Kind, Result, Role, Sign, Slot, StoreError};
use crate::log;

/// How often it is time for the chores.
const CHORES: Duration = Duration::from_secs(1);

/// How often a claim is read that cannot be read, before it counts as damaged.
const STRIKES: usize = 5;

/// The version of a job whose record was damaged: newer than whatever that was.
const REPAIRED: u64 = 1 << 32;

/// What was seen of others, and since when by the monotonic clock.
#[derive(Default)]
pub struct Seen {
    since: Vec<(String, Duration)>,
    /// How often a claim could not be read, in a row.
    strikes: Vec<Id>,
}

impl Seen {
    /// Takes in what is seen by a look: what of it has been seen for this long. A look takes as long as its host stops
    /// in it: what is seen first has been there since its end at most, and what is seen again until its beginning at
    /// least.
    fn update(&mut self, names: Vec<String>, look: Range<Duration>, age: Duration) -> Vec<String> {
        let (begun, ended) = (look.start, look.end);
        let before = std::mem::take(&mut self.since);
        let since = |name: &String| before.iter().find(|(seen, _)| seen == name).map_or(ended, |seen| seen.1);
        self.since =
            names.into_iter().map(|name| (since(&name), name)).map(|(since, name)| (name, since)).collect();
        let is_old = |(_, since): &&(String, Duration)| begun.saturating_sub(*since) >= age;
        self.since.iter().filter(is_old).map(|(name, _)| name.clone()).collect()
    }
}

impl Engine {
    /// Looks after the others and after what has been kept long enough, if it is time for that. What goes
    /// wrong with one of them concerns nobody else. `live` renews the slot of whoever does it.
    pub(super) fn do_chores(&self, live: &mut dyn FnMut()) -> Result<()> {
        let elapsed = self.host.elapsed();
        if elapsed < self.chores_at.get() {
            return Ok(());
        }
        self.chores_at.set(elapsed + CHORES.min(self.config.lease / 4));
        let slots = self.store.slots()?;
        if super::lacks_one(&slots) {
            self.tolerate(self.store.mend_slots())?;
        }
        let sign = |(role, holding): &(Role, Holding)| match holding {
            Holding::Held(sign) => Some(format!("{role}.{}", sign.0)),
            _ => None,
        };
        let unfinished = self.store.unfinished()?;
        let names = slots.iter().filter_map(sign).chain(unfinished.iter().cloned()).collect();
        let look = elapsed..self.host.elapsed();
        let old = self.seen.borrow_mut().update(names, look, self.config.lease);
        for slot in &slots {
            let is_dead = sign(slot).is_some_and(|sign| old.contains(&sign));
            if is_dead || slot.1 == Holding::Left {
                self.tolerate(self.adopt(slot.0, &slot.1, live))?;
            }
        }
        for name in unfinished.iter().filter(|name| old.contains(name)) {
            self.tolerate(self.store.finish(name))?;
        }
        let now = self.clock.now();
        let expires = match self.clock.is_steady() {
            true => self.store.remove_expired(now, self.config.keep),
            false => self.store.expires(self.config.keep),
        };
        match expires {
            Ok(expires) => self.expires.set(expires),
            Err(error) => self.tolerate(Err(error))?,
        }
        if self.clock.is_steady() && self.expires.get().is_some_and(|expires| expires <= now) {
            self.chores_at.set(self.host.elapsed() + super::LOOK);
        }
        Ok(())
    }

    /// Goes on after an error that concerns something else.
    fn tolerate(&self, result: Result<()>) -> Result<()> {
        match result {
            Ok(()) | Err(StoreError::Lost) => Ok(()),
            Err(error) => {
                self.note_failure(&error);
                Ok(())
            }
        }
    }

    /// Takes over a slot that is still as it was seen.
    fn adopt(&self, role: Role, seen: &Holding, live: &mut dyn FnMut()) -> Result<()> {
        let Some(mut slot) = self.store.enter(role, seen)? else { return Ok(()) };
        self.adopt_claims(&mut slot, seen, live)?;
        self.store.leave(slot)
    }

    /// Takes over the claims of a slot that was seen like this: its holder has crashed or has left in order.
    pub(super) fn adopt_claims(&self, slot: &mut Slot, seen: &Holding, live: &mut dyn FnMut()) -> Result<()> {
        let crashed = *seen != Holding::Left;
        let mut renew_at = self.host.elapsed() + renewal(self);
        for (id, kind) in self.store.claims(slot)? {
            live();
            if self.host.elapsed() >= renew_at {
                self.store.renew(slot)?;
                renew_at = self.host.elapsed() + renewal(self);
            }
            if let Holding::Held(Sign(sign)) = seen {
                // Who watches is relieved as soon as nobody gives a sign of life, which is before a lease is over.
                let event = if slot.role == Role::Watch { "relieved" } else { "adopted" };
                let holder = sign.split('.').next().and_then(|token| u64::from_str_radix(token, 16).ok());
                fault::trace(event, id, holder.unwrap_or_default());
            }
            let result = self.adopt_claim(slot, id, kind, crashed);
            match self.unless_purged(slot, result) {
                Err(StoreError::Lost) => return Err(StoreError::Lost),
                result => self.tolerate(result)?,
            }
        }
        Ok(())
    }

    /// Gives back what this invocation may have claimed and does not run, since the database was away in the middle.
    pub(super) fn give_back(&self, slot: &Slot, is_own: &dyn Fn(Id) -> bool) -> Result<()> {
        if !HAS_DATABASES || !self.has_failed.get() {
            return Ok(());
        }
        for (id, kind) in self.store.claims(slot)?.into_iter().filter(|(id, _)| !is_own(*id)) {
            self.unless_purged(slot, self.adopt_claim(slot, id, kind, false))?;
        }
        self.has_failed.set(false);
        Ok(())
    }

    fn adopt_claim(&self, slot: &Slot, id: Id, kind: Kind, crashed: bool) -> Result<()> {
        let Some(mut job) = self.load_or_repair(slot, id, kind)? else { return Ok(()) };
        if crashed {
            self.after_crash(&mut job);
            job.run.updated = self.clock.now();
            self.store.save_anew(slot, &mut job)?;
        }
        self.release(slot, &job)?;
        if crashed && job.run.end.is_none() {
            log::error(format_args!("job {id}: its instance was lost; it goes on"));
        }
        Ok(())
    }

    /// A claimed job. What cannot be read of it is set aside, and the job has failed; `None` if there is
    /// no such job.
    pub(super) fn load_or_repair(&self, slot: &Slot, id: Id, kind: Kind) -> Result<Option<Job>> {
        match self.store.load(slot, id, kind) {
            Ok(job) => {
                self.seen.borrow_mut().strikes.retain(|other| *other != id);
                Ok(Some(job))
            }
            Err(StoreError::Damaged { reason, .. }) => self.repair(slot, id, kind, &reason),
            // A database that is away is so for all jobs: that is no strike against any of them.
            Err(error @ StoreError::Failed { .. }) if self.gathers() => Err(error),
            Err(StoreError::Failed { doing, error }) => {
                // Perhaps it passes.
                let strikes = &mut self.seen.borrow_mut().strikes;
                strikes.push(id);
                if strikes.iter().filter(|other| **other == id).count() < STRIKES {
                    return Err(StoreError::Failed { doing, error });
                }
                self.repair(slot, id, kind, &format!("{doing}: {error}"))
            }
            Err(StoreError::Lost) => Err(StoreError::Lost),
        }
    }

    /// Puts aside what cannot be read of a claimed job, which has failed by that.
    pub(super) fn repair(&self, slot: &Slot, id: Id, kind: Kind, reason: &str) -> Result<Option<Job>> {
        let now = self.clock.now();
        let end = End { state: State::Failed, version: REPAIRED + 1, finished: now, content_type: None };
        let error = Some(format!("the record of the job was damaged: {reason}"));
        let run = Run { version: REPAIRED, updated: now, end: Some(end), error, ..Run::default() };
        self.store.repair(slot, id, kind, reason, run)
    }

    /// A job's instance was lost. Perhaps through its own fault: then that shows while it runs alone.
    fn after_crash(&self, job: &mut Job) {
        let now = self.clock.now();
        if job.run.end.is_some() {
            return;
        }
        if job.run.wait.take_if(|wait| wait.until <= now).is_none() && job.run.wait.is_some() {
            return; // It waited, and is not to blame.
        }
        job.run.lost += 1;
        if std::mem::take(&mut job.run.alone) {
            self.failed(job, "its instance was lost while nothing else ran in it".into(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_as_it_is_for_a_lease_is_dead() {
        let mut seen = Seen::default();
        let mut see_from = |names: &[&str], begun, ended| {
            let names = names.iter().map(ToString::to_string).collect();
            let [begun, ended, age] = [begun, ended, 30].map(Duration::from_secs);
            seen.update(names, begun..ended, age).join(" ")
        };
        let mut see = |names: &[&str], now| see_from(names, now, now);
        assert_eq!(see(&["a", "b"], 0), "");
        assert_eq!(see(&["a", "b2", "c"], 29), "");
        assert_eq!(see(&["a", "b2", "c"], 30), "a");
        assert_eq!(see(&["b2"], 59), "b2");
        assert_eq!(see(&["a"], 60), "");
        // A host that stops in its look has seen nothing before that is over.
        assert_eq!(see_from(&["d"], 70, 99), "");
        assert_eq!(see_from(&["d"], 101, 130), "");
        assert_eq!(see_from(&["d"], 129, 129), "d");
    }
}

//! Runs jobs: the only place that changes a job's state.
//!
//! A continuation comes here after its answer. It takes over what a crash has left, then a free slot,
//! if there is one and a job is due, and *drains*: it runs jobs until none is due. If jobs remain that
//! are due later, or that another invocation runs and might lose, one continuation stays as the *watch*
//! and the others return.

mod drain;
mod lane;
mod relay;

use std::rc::Rc;
use std::time::Duration;

use wstd::task::sleep;
use wstd::time::Instant;

use super::config::Config;
use super::job::{End, Id, Job, State};
use super::store::{Place, Result, Role, Slot, Store, StoreError};
use super::time::Time;
use crate::{Problem, StatusCode};
use drain::Drain;

/// How often the watch looks around.
const WATCH: Duration = Duration::from_millis(50);

/// How long after its last look the watch counts as dead. Nothing depends on there being only one.
const WATCH_LEASE: Duration = Duration::from_millis(400);

/// How often the watch looks into a queue in which nothing is due, at least.
const LOOK: Duration = Duration::from_secs(1);

/// What runs the jobs of a store in this invocation.
pub struct Engine {
    store: Rc<dyn Store>,
    config: Rc<Config>,
    begun: Instant,
}

/// What came of asking for a job's cancellation.
pub enum Cancelled {
    /// It is cancelled, or will be at its next step.
    Yes,
    /// It has ended before.
    TooLate(State),
    Unknown,
}

/// What came of asking for another try.
pub enum Retried {
    Yes,
    /// It has not failed and was not cancelled.
    No(State),
    Unknown,
}

impl Engine {
    pub fn new(store: Rc<dyn Store>, config: Rc<Config>) -> Engine {
        Engine { store, config, begun: Instant::now() }
    }

    /// What a continuation does: see this module. `own` is the job that its request has brought.
    pub async fn carry_on(self: Rc<Engine>, own: Option<Id>) {
        match self.clone().work(own).await {
            Ok(()) | Err(StoreError::Lost) => {}
            Err(error) => eprintln!("afterack: {error}"),
        }
    }

    async fn work(self: Rc<Engine>, mut own: Option<Id>) -> Result<()> {
        loop {
            self.adopt()?;
            if own.is_some() || self.is_anything_due()? {
                let (role, now) = (Role::Drain(self.config.drains), Time::now());
                if let Some(slot) = self.store.enter(role, now, self.config.lease)? {
                    Drain::run(&self, slot, own.take()).await?;
                }
            }
            if self.is_spent() {
                return self.relay().await;
            }
            if !self.watch().await? {
                return Ok(());
            }
        }
    }

    /// Whether a job is due and a slot is free for it. When none is, nobody has to know.
    fn is_anything_due(&self) -> Result<bool> {
        let now = Time::now();
        Ok(self.store.slots(now)?.held < self.config.drains && !self.store.outlook(now, 1)?.due.is_empty())
    }

    /// Waits until there is something to run: whether there is. Not if somebody else waits already, or
    /// if there is nothing to wait for.
    async fn watch(&self) -> Result<bool> {
        if !self.is_anything_left()? {
            return Ok(false);
        }
        let Some(mut slot) = self.become_watch().await? else { return Ok(false) };
        let mut look_at = Time::now();
        loop {
            if self.is_spent() {
                self.store.leave(slot)?;
                self.relay().await?;
                return Ok(false);
            }
            let now = Time::now();
            let slots = self.store.slots(now)?;
            let mut may_end = false;
            if slots.expired == 0 && slots.held < self.config.drains && now >= look_at {
                let outlook = self.store.outlook(now, 1)?;
                if !outlook.due.is_empty() {
                    break;
                }
                may_end = slots.held == 0 && outlook.next.is_none();
                look_at = outlook.next.unwrap_or(now + LOOK).min(now + LOOK);
            }
            if slots.expired > 0 || may_end {
                break;
            }
            sleep(WATCH.into()).await;
            self.store.renew(&mut slot, Time::now(), WATCH_LEASE)?;
        }
        self.store.leave(slot)?;
        // Who came while this was the watch has returned, and relies on this.
        self.is_anything_left()
    }

    /// The watch's slot, unless somebody has it who is alive. He may have died with his host a moment
    /// ago, and nobody might come after this request: so it stays for one look of his, to be certain.
    async fn become_watch(&self) -> Result<Option<Slot>> {
        let mut seen = None;
        loop {
            let now = Time::now();
            if let Some(slot) = self.store.enter(Role::Watch, now, WATCH_LEASE)? {
                return Ok(Some(slot));
            }
            let until = self.store.slots(now)?.watch.unwrap_or_default();
            if seen.is_some_and(|seen| until > seen) {
                return Ok(None);
            }
            seen.get_or_insert(until);
            sleep(WATCH.into()).await;
        }
    }

    /// Whether anything waits, or runs elsewhere.
    fn is_anything_left(&self) -> Result<bool> {
        let now = Time::now();
        Ok(self.store.slots(now)?.held > 0 || self.store.outlook(now, 0)?.waiting > 0)
    }

    /// Whether this invocation has gone on for as long as it may.
    fn is_spent(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// How long this invocation may still go on, if that is limited.
    fn left(&self) -> Option<Duration> {
        let budget = self.config.budget?;
        Some(budget.saturating_sub(self.begun.elapsed().into()))
    }

    /// Takes over the jobs of invocations that have died.
    fn adopt(&self) -> Result<()> {
        let config = &self.config;
        self.store.adopt(Time::now(), config.lease, config.keep, &mut |job| {
            self.after_crash(job);
            eprintln!("afterack: job {}: its instance was lost; it goes on from its last step", job.id);
        })
    }

    /// A job's instance was lost. Perhaps through its own fault: then that shows while it runs alone.
    fn after_crash(&self, job: &mut Job) {
        if job.run.end.is_some() {
            return;
        }
        job.run.suspect = true;
        if std::mem::take(&mut job.run.alone) {
            self.failed(job, "its instance was lost while nothing else ran in it".into(), None);
        }
    }

    /// A step has failed in a way that may pass: it is tried again later, or was often enough.
    fn failed(&self, job: &mut Job, error: String, delay: Option<Duration>) {
        job.run.tries += 1;
        job.run.error = Some(error);
        if job.run.tries >= self.config.attempts {
            self.end(job, State::Failed, None);
        } else {
            let wait = self.backoff(job.run.tries).max(delay.unwrap_or_default());
            job.run.due = Time::now() + wait;
        }
    }

    /// How long to wait after this many failures: twice as long each time, and a random part of that
    /// less, so that what failed together does not come back together.
    fn backoff(&self, tries: u32) -> Duration {
        let (least, most) = (*self.config.backoff.start(), *self.config.backoff.end());
        let wait = least.saturating_mul(1 << (tries - 1).min(30)).min(most);
        let jitter = Id::new().random() % 1000;
        wait / 2 + wait / 2 * jitter / 1000
    }

    fn end(&self, job: &mut Job, state: State, content_type: Option<String>) {
        job.run.end = Some(End { state, finished: Time::now(), content_type });
        job.run.suspect = false;
        job.run.alone = false;
        match state {
            State::Failed => {
                let error = job.run.error.as_deref().unwrap_or_default();
                eprintln!("afterack: job {} failed: {error}", job.id);
            }
            _ => println!("afterack: job {} {}", job.id, state.name()),
        }
    }

    /// Cancels a job.
    pub fn cancel(&self, id: Id) -> Result<Cancelled> {
        // It may begin or end between two looks.
        for _ in 0..3 {
            let Some((job, place)) = self.store.find(id)? else { return Ok(Cancelled::Unknown) };
            if let Some(end) = job.run.end {
                return Ok(Cancelled::TooLate(end.state));
            }
            if place == Place::Slot {
                self.store.ask_to_cancel(id, true)?;
                return Ok(Cancelled::Yes);
            }
            if let Some(mut job) = self.store.take(id, Place::Queue)? {
                job.run.told = job.input.notify.len(); // Whoever cancels it knows.
                self.end(&mut job, State::Cancelled, None);
                self.store.give_back(&mut job, self.config.keep)?;
                return Ok(Cancelled::Yes);
            }
        }
        self.store.ask_to_cancel(id, true)?;
        Ok(Cancelled::Yes)
    }

    /// Queues a job again that has failed or was cancelled. It goes on from its last checkpoint.
    pub fn retry(&self, id: Id) -> Result<Retried> {
        let Some((job, place)) = self.store.find(id)? else { return Ok(Retried::Unknown) };
        let state = state_of(&job, place);
        if !matches!(state, State::Failed | State::Cancelled) {
            return Ok(Retried::No(state));
        }
        // Where it is told of its end, it has not come to rest.
        let Some(mut job) = self.store.take(id, Place::Done)? else { return Ok(Retried::No(State::Running)) };
        self.store.ask_to_cancel(id, false)?;
        let run = &mut job.run;
        (run.end, run.error, run.tries, run.told, run.tells) = (None, None, 0, 0, 0);
        run.due = Time::now();
        self.store.give_back(&mut job, self.config.keep)?;
        Ok(Retried::Yes)
    }
}

/// Where a job stands, for those who ask.
pub fn state_of(job: &Job, place: Place) -> State {
    match (&job.run.end, place) {
        (Some(end), _) => end.state,
        (None, Place::Queue) => State::Queued,
        (None, Place::Slot) => State::Running,
        // Its course was damaged when it had ended.
        (None, Place::Done) => State::Failed,
    }
}

/// What a client sees of a store that fails.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        eprintln!("afterack: {error}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            .header(crate::header::RETRY_AFTER, crate::HeaderValue::from_static("5"))
    }
}

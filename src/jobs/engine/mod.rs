//! Runs jobs: the only place that changes a job's state.
//!
//! A continuation comes here after its answer. It takes a free slot, if there is one and a job is due, and
//! *drains*: it runs jobs until none is due. If jobs remain that are due later, or that another invocation
//! runs and might lose, one continuation stays as the *watch* and the others return.
//!
//! Nobody trusts a wall clock about who is dead: an invocation counts as dead when somebody has seen its
//! slot unchanged for a lease, by his own monotonic clock.

mod accept;
mod adopt;
mod alarms;
mod drain;
mod lanes;
mod many;
mod poller;
mod relay;
mod room;
mod tell;
mod together;
mod watch;
mod work;

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::config::Config;
use super::fault;
use super::host::Host;
use super::job::{End, Id, Job, State, Tell, Wait};
use super::store::{
    Ask, Due, Found, HAS_DATABASES, Holding, Kind, Mark, Outlook, Place, Result, Role, SLOTS, Save, Slot,
    Store, StoreError,
};
use super::time::{Clock, Time};
use super::worker::{Terms, Worker, Workers};
use crate::{HeaderMap, Problem, StatusCode, log};
use adopt::Seen;
use drain::{Drain, renewal};
pub use many::Purged;
pub use room::Room;

/// How often a drain and the watch look around.
const LOOK: Duration = Duration::from_millis(50);

/// How long a look into the queue counts without a sign that it has changed. Two changes within the same
/// few milliseconds may look like one.
const FRESH: Duration = Duration::from_secs(1);

/// How often the watch looks for suspects while all drains are busy: to list a long queue takes a host up to
/// some hundred milliseconds.
const SUSPECTS: Duration = Duration::from_secs(2);

/// How long nothing is claimed after the store has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// How many of the last errors are not said again.
const SAID: usize = 8;

/// The longest time between two tries of a notification.
const LONGEST_TELL: Duration = Duration::from_secs(3600);

/// What runs the jobs of a store in this invocation.
pub struct Engine {
    store: Rc<dyn Store>,
    config: Rc<Config>,
    workers: Rc<Workers>,
    host: Rc<dyn Host>,
    clock: Clock,
    begun: Duration,
    /// The store's pulse when this invocation felt it first, or after its own doing; 0 if that is unknown.
    pulse: Cell<u64>,
    /// The job that this invocation's request has brought.
    own: Cell<Option<Id>>,
    /// What the queue held at the last look, when that was by the monotonic clock, and what its bell said.
    looked: RefCell<Option<(Outlook, Duration, u64)>>,
    /// When waits are mended that were begun by a wrong clock, by the monotonic clock.
    mend_at: Cell<Duration>,
    /// The others' signs of life, and what is unfinished.
    seen: RefCell<Seen>,
    /// When the watch looks for suspects again while all drains are busy.
    suspects_at: Cell<Duration>,
    /// When it is time to look after the others and after what has been kept long enough.
    chores_at: Cell<Duration>,
    /// When the next jobs have been kept long enough, as far as that is known.
    expires: Cell<Option<Time>>,
    /// Since when this invocation is the first of those who hold slots, by the monotonic clock.
    first_since: Cell<Option<Duration>>,
    /// The store has failed, and what this invocation has claimed in a database at that moment may be nobody's.
    has_failed: Cell<bool>,
    /// The job that somebody else has claimed of those that are to begin again, and since when.
    held_up: Cell<Option<(Id, Duration)>>,
    /// This invocation waits for a store that fails. Somebody has to be there when it is back: who has brought a job
    /// or has held a slot, and whom such a one hands over to. All who come meanwhile would be many.
    stays: Cell<bool>,
    /// What went wrong last, so that it is not said again and again.
    said: RefCell<Vec<String>>,
}

/// What came of asking for a job's cancellation.
#[derive(Debug)]
pub enum Cancelled {
    /// It is cancelled, or will be at its next step.
    Yes(State),
    /// It has ended before.
    TooLate(State),
    Unknown,
}

/// What came of asking for another try.
#[derive(Debug)]
pub enum Retried {
    Yes,
    /// It has not failed and was not cancelled.
    No(State),
    Unknown,
}

impl Engine {
    /// What runs the jobs of a store in this invocation. The earlier it is there, the sooner it knows whether
    /// others are.
    pub fn new(store: Rc<dyn Store>, config: Rc<Config>, workers: Rc<Workers>, host: Rc<dyn Host>) -> Engine {
        Engine {
            clock: Clock::new(host.clone(), config.lease),
            begun: host.elapsed(),
            pulse: Cell::new(store.pulse().unwrap_or_default()),
            store,
            config,
            workers,
            host,
            own: Cell::default(),
            looked: RefCell::default(),
            mend_at: Cell::default(),
            seen: RefCell::default(),
            suspects_at: Cell::default(),
            chores_at: Cell::default(),
            expires: Cell::default(),
            first_since: Cell::default(),
            has_failed: Cell::default(),
            held_up: Cell::default(),
            stays: Cell::default(),
            said: RefCell::default(),
        }
    }

    /// What a continuation does: see this module. In a box, since there is one way to it before an answer and one
    /// after it.
    pub fn carry_on(self: Rc<Engine>) -> Pin<Box<dyn Future<Output = ()>>> {
        if HAS_DATABASES { Box::pin(self.go_on_and_linger()) } else { Box::pin(self.go_on()) }
    }

    /// Lets this invocation wait for a store that fails, if one did that hands over to it by a request like this.
    pub fn take_over(&self, headers: &HeaderMap) {
        self.stays.set(headers.contains_key(relay::WAITS));
    }

    async fn go_on(self: Rc<Engine>) {
        let mut own = self.own.take();
        if own.is_some() {
            self.stays.set(true);
        }
        loop {
            match self.work(own.take()).await {
                Err(error @ StoreError::Failed { .. }) if self.stays.get() => {
                    self.note_failure(&error);
                    if self.is_spent() {
                        return self.hand_over(true).await;
                    }
                    self.host.sleep(PAUSE).await;
                }
                Err(StoreError::Lost) | Ok(()) => return,
                Err(error) => return self.note_failure(&error),
            }
        }
    }

    /// Goes on, and then stays for as long as the store asks for, and as it may.
    async fn go_on_and_linger(self: Rc<Engine>) {
        self.clone().go_on().await;
        let left = self.left().unwrap_or(Duration::MAX);
        if left.is_zero() {
            return;
        }
        match self.store.linger(self.clock.now()) {
            Ok(Duration::ZERO) => {}
            Ok(time) => self.host.sleep(time.min(left)).await,
            Err(error) => self.note_failure(&error),
        }
    }

    async fn work(&self, mut own: Option<Id>) -> Result<()> {
        loop {
            self.store.begin()?;
            if self.is_spent() {
                return self.relay().await;
            }
            let slots = self.store.slots()?;
            if lacks_one(&slots) {
                self.store.mend_slots()?;
                self.feel_pulse()?;
            }
            let own = own.take();
            if let Some(role) = self.role(&slots, own.is_some(), false)? {
                if let Some(slot) = self.store.enter(role, &Holding::Free)? {
                    self.stays.set(true);
                    match Drain::run(self, slot, own).await {
                        Ok(()) => {}
                        Err(StoreError::Lost) => {
                            fault::trace("lost", own.unwrap_or_else(|| Id::new(&*self.host)), 0)
                        }
                        Err(error) => self.note_failure(&error),
                    }
                    self.feel_pulse()?;
                    continue;
                }
                // Whoever was faster looks into the queue now.
            } else if self.is_all_done(&slots, None)? {
                return Ok(());
            }
            // What is left is due later, or others run it and might lose it.
            if !self.stay(&slots).await? {
                return Ok(());
            }
        }
    }

    /// The slot that this invocation can take to run something, if there is something to run. Only the watch
    /// looks for suspects while all drains are busy: looking takes a while if the queue is long.
    fn role(&self, slots: &[(Role, Holding)], has_own: bool, is_watch: bool) -> Result<Option<Role>> {
        // Who tries to take one has a folder for a moment, too: what is free is free.
        let is_free = |role: &Role| slots.contains(&(*role, Holding::Free));
        let is_held = |role: &Role| !is_free(role) && slots.iter().any(|slot| slot.0 == *role);
        let has_room = (0..SLOTS).map(Role::Drain).filter(is_held).count() < self.config.drains;
        let free: Vec<_> = (0..self.config.drains).map(Role::Drain).filter(is_free).collect();
        // Any of them, so that not all who look at once try the same.
        let any = || free[self.host.random() as usize % free.len()];
        let drain = (has_room && !free.is_empty()).then(any);
        if has_own && drain.is_some() {
            return Ok(drain);
        }
        if drain.is_none() {
            let now = self.host.elapsed();
            if !is_watch || now < self.suspects_at.get() {
                return Ok(None);
            }
            self.suspects_at.set(now + SUSPECTS);
        }
        if !self.look(1)? {
            return Ok(None);
        }
        let alone = Some(Role::Alone).filter(is_free);
        Ok(self.with_outlook(|outlook| {
            let is_due = |suspect: bool| outlook.due.iter().any(|due| (due.kind == Kind::Suspect) == suspect);
            drain.filter(|_| is_due(false)).or(alone.filter(|_| is_due(true)))
        }))
    }

    /// Whether nothing waits, nobody else runs anything, and nothing is to be done before long.
    fn is_all_done(&self, slots: &[(Role, Holding)], own: Option<&Slot>) -> Result<bool> {
        let is_own = |holding: &Holding| own.is_some_and(|own| *holding == Holding::Held(own.sign.clone()));
        if slots.iter().any(|(_, holding)| *holding != Holding::Free && !is_own(holding)) {
            return Ok(false);
        }
        if self.look(1)? {
            return Ok(false);
        }
        if self.with_outlook(|outlook| outlook.is_empty) {
            // Who leaves now must not have missed what came within the same moment as his last look.
            self.looked.take();
            self.look(1)?;
        }
        let soon = self.clock.now() + self.config.lease;
        Ok(self.with_outlook(|outlook| outlook.is_empty)
            && self.store.marks()?.is_empty()
            && self.store.retries()?.is_empty()
            && self.store.unfinished()?.is_empty()
            && self.store.expires(self.config.keep)?.is_none_or(|expires| expires > soon))
    }

    /// Looks into the queue, if it may have changed, for at most this many due jobs of each kind: whether
    /// there are any. A long queue takes a while to list.
    fn look(&self, most: usize) -> Result<bool> {
        let (bell, elapsed, now) = (self.store.bell()?, self.host.elapsed(), self.clock.now());
        let mend = elapsed >= self.mend_at.get() && self.clock.is_steady();
        let mut looked = self.looked.borrow_mut();
        if let Some((outlook, at, rung)) = &*looked {
            let is_due = outlook.next.is_some_and(|next| next <= now);
            if bell == *rung && elapsed < *at + FRESH && !is_due && outlook.due.is_empty() && !mend {
                return Ok(false);
            }
        }
        *looked = Some((self.store.look(now, most, mend)?, elapsed, bell));
        if mend {
            self.mend_at.set(elapsed + self.config.lease);
        }
        Ok(looked.as_ref().is_some_and(|(outlook, ..)| !outlook.due.is_empty()))
    }

    /// What the queue held at the last look.
    fn with_outlook<T>(&self, read: impl FnOnce(&Outlook) -> T) -> T {
        match &*self.looked.borrow() {
            Some((outlook, ..)) => read(outlook),
            None => read(&Outlook::default()),
        }
    }

    /// The due jobs that were found at the last look; they are not looked for again before the next one.
    fn take_outlook(&self) -> Vec<Due> {
        self.looked
            .borrow_mut()
            .as_mut()
            .map(|(outlook, ..)| std::mem::take(&mut outlook.due))
            .unwrap_or_default()
    }

    /// Whether this invocation has gone on for as long as it may.
    fn is_spent(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// How long this invocation may still go on, if that is limited.
    fn left(&self) -> Option<Duration> {
        let elapsed = self.host.elapsed().saturating_sub(self.begun);
        Some(self.config.budget?.saturating_sub(elapsed))
    }

    /// A step has failed in a way that may pass: it is tried again later, or was often enough.
    fn failed(&self, job: &mut Job, error: String, delay: Option<Duration>) {
        job.run.tries += 1;
        job.run.error = Some(error);
        let worker = self.workers.find(&job.input.worker).ok();
        let terms = worker.map(Worker::terms);
        if job.run.tries >= self.attempts(terms) {
            self.end(job, State::Failed, None);
        } else {
            job.run.wait = Some(self.next_try(terms, job.run.tries, delay));
        }
    }

    /// How often the steps of a worker with these terms are tried.
    fn attempts(&self, terms: Option<&Terms>) -> u32 {
        terms.and_then(|terms| terms.attempts).unwrap_or(self.config.attempts)
    }

    /// How they wait after this many failures, the last of which asks for a delay.
    fn next_try(&self, terms: Option<&Terms>, tries: u32, delay: Option<Duration>) -> Wait {
        let backoff = terms.and_then(|terms| terms.backoff.as_ref()).unwrap_or(&self.config.backoff);
        Wait::new(self.clock.now(), self.backoff(tries, backoff).max(delay.unwrap_or_default()))
    }

    /// How long to wait after this many failures: twice as long each time, and a random part of that
    /// less, so that what failed together does not come back together.
    fn backoff(&self, tries: u32, range: &RangeInclusive<Duration>) -> Duration {
        let half = longest_backoff(tries, range) / 2;
        Duration::from_millis(half + half * (self.host.random() % 1000) / 1000)
    }

    fn end(&self, job: &mut Job, state: State, content_type: Option<String>) {
        let (now, run) = (self.clock.now(), &mut job.run);
        run.end = Some(End { state, version: run.version + 1, finished: now, content_type });
        (run.wait, run.alone, run.lost) = (None, false, 0);
        // Whoever cancels it knows.
        let targets = if state == State::Cancelled { 0 } else { job.input.notify.len() };
        run.tells = vec![Tell { due: now, ..Tell::default() }; targets];
    }

    /// Queues a job again that has ended. It goes on by its record.
    fn begin_again(&self, job: &mut Job) {
        let run = &mut job.run;
        (run.end, run.error, run.wait, run.tries, run.lost) = (None, None, None, 0, 0);
        run.tells.clear();
        run.round += 1;
    }

    /// Stores how far a claimed job has come.
    fn save(&self, slot: &Slot, job: &mut Job) -> Result<()> {
        job.run.updated = self.clock.now();
        self.store.save(slot, job)
    }

    /// Stores what there is new of a claimed job: whether that ended its claim, too.
    fn save_one(&self, slot: &Slot, save: &mut Save) -> Result<bool> {
        self.save_all(slot, std::slice::from_mut(save)).remove(0)
    }

    /// Stores what there is new of claimed jobs: what came of each, and whether that ended its claim, too.
    fn save_all(&self, slot: &Slot, saves: &mut [Save]) -> Vec<Result<bool>> {
        let now = self.clock.now();
        saves.iter_mut().for_each(|save| save.job.run.updated = now);
        let results = self.store.save_all(slot, saves);
        for (save, result) in saves.iter().zip(&results) {
            if matches!(result, Ok(true)) {
                self.say_released(&save.job);
            }
        }
        results
    }

    /// Whether jobs are claimed, and stored, together.
    fn gathers(&self) -> bool {
        HAS_DATABASES && self.store.gathers()
    }

    /// Ends a claim.
    fn release(&self, slot: &Slot, job: &Job) -> Result<()> {
        self.store.release(slot, job, self.clock.now(), self.config.keep)?;
        self.say_released(job);
        Ok(())
    }

    /// A claim was ended. Whoever ends that of a job that has just ended says so.
    fn say_released(&self, job: &Job) {
        self.looked.take(); // It may be in the queue now.
        if job.claim == Kind::Tell {
            return;
        }
        match job.run.end.as_ref().map(|end| end.state) {
            None => {}
            Some(State::Failed) => {
                let error = job.run.error.as_deref().unwrap_or_default();
                log::error(format_args!("job {} failed: {error}", job.id));
            }
            Some(state) => log::info(format_args!("job {} {}", job.id, state.name())),
        }
    }

    /// Sees to what clients have asked of jobs that nobody runs. If that is more than can be done between two signs of
    /// life, the rest is seen to at the next look.
    fn heed(&self, slot: &Slot, marks: &[Mark], is_own: &dyn Fn(Id) -> bool) -> Result<()> {
        self.give_back(slot, is_own)?;
        let until = self.host.elapsed() + renewal(self);
        for mark in marks {
            if self.host.elapsed() > until {
                break;
            }
            // Who cancels a job and retries it at once means that in this order.
            let comes_later = mark.ask == Ask::Retry && marks.contains(&Mark { ask: Ask::Cancel, ..*mark });
            if is_own(mark.id) || comes_later {
                continue;
            }
            match self.unless_purged(slot, self.heed_one(slot, *mark)) {
                Err(StoreError::Lost) => return Err(StoreError::Lost),
                Err(StoreError::Damaged { .. }) => self.store.forget_mark(*mark)?,
                Err(error) => self.note_failure(&error),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn heed_one(&self, slot: &Slot, mark: Mark) -> Result<()> {
        let found = self.store.find(mark.id)?;
        // One that has begun again may be back among those that have ended, after a power cut.
        let is_astray = |found: &Found| found.place == Place::Done && found.job.run.end.is_none();
        let Some(found) = found.filter(|found| mark.counts(&found.job.run) || is_astray(found)) else {
            return self.store.forget_mark(mark);
        };
        if found.place == Place::Slot {
            return Ok(()); // Whoever runs it sees to it.
        }
        let Some(kind) = self.store.claim_any(slot, mark.id)? else { return Ok(()) };
        self.heed_claimed(slot, mark, kind, &|job| self.apply(job, mark.ask))
    }

    /// Does with a claimed job what a mark asks for, if it still counts, and gives both up: no power cut takes back what
    /// was begun again.
    fn heed_claimed(&self, slot: &Slot, mark: Mark, kind: Kind, apply: &dyn Fn(&mut Job)) -> Result<()> {
        let Some(mut job) = self.load_or_repair(slot, mark.id, kind)? else { return Ok(()) };
        if mark.counts(&job.run) {
            apply(&mut job);
            self.save(slot, &mut job)?;
        }
        self.release(slot, &job)?;
        self.store.forget_mark(mark)
    }

    /// Does what a client has asked of a job.
    fn apply(&self, job: &mut Job, ask: Ask) {
        match ask {
            Ask::Cancel | Ask::Cancelled => self.end(job, State::Cancelled, None),
            Ask::Retry => self.begin_again(job),
        }
    }

    /// Cancels a job.
    pub fn cancel(&self, id: Id) -> Result<Cancelled> {
        let Some(mut found) = self.store.find(id)? else { return Ok(Cancelled::Unknown) };
        let begins_again = found.asked == Some(Ask::Retry);
        if found.job.run.end.is_some() && !begins_again {
            return Ok(Cancelled::TooLate(found.state()));
        }
        let round = found.job.run.round + u32::from(begins_again);
        for ask in [Ask::Cancel, Ask::Cancelled] {
            self.store.ask(Mark { id, round, ask })?;
            let Some(now) = self.store.find(id)? else { return Ok(Cancelled::Unknown) };
            found = now;
            // Where it is now, it is found with the mark: if it waits, whoever claims it ends it.
            if found.place != Place::Queue || found.asked != Some(Ask::Cancel) {
                break;
            }
        }
        let state = found.state();
        match found.job.run.end {
            // It has ended meanwhile, and somebody begins it again.
            Some(_) if found.asked == Some(Ask::Retry) && !begins_again => self.cancel(id),
            Some(_) if state != State::Cancelled && !begins_again => Ok(Cancelled::TooLate(state)),
            _ => Ok(Cancelled::Yes(state)),
        }
    }

    /// Queues a job again that has failed or was cancelled. It goes on by its record.
    pub fn retry(&self, id: Id) -> Result<Retried> {
        let Some(found) = self.store.find(id)? else { return Ok(Retried::Unknown) };
        match found.state() {
            State::Failed | State::Cancelled => {
                self.store.ask(Mark { id, round: found.job.run.round, ask: Ask::Retry })?;
                Ok(Retried::Yes)
            }
            state => Ok(Retried::No(state)),
        }
    }

    /// Notes that the store has failed, and says how, unless that was among the last things that were said.
    fn note_failure(&self, error: &StoreError) {
        self.has_failed.set(HAS_DATABASES);
        let (text, mut said) = (error.to_string(), self.said.borrow_mut());
        if !said.contains(&text) {
            log::error(&text);
            said.push(text);
            if said.len() > SAID {
                said.remove(0);
            }
        }
    }
}

/// How long to wait after this many failures at most, in milliseconds.
fn longest_backoff(tries: u32, range: &RangeInclusive<Duration>) -> u64 {
    let [first, longest] = [range.start(), range.end()].map(|time| time.as_millis() as u64);
    first.saturating_mul(1 << tries.saturating_sub(1).min(30)).min(longest)
}

/// Whether one of the slots is missing: it is being renewed, or somebody has died while he gave it back.
fn lacks_one(slots: &[(Role, Holding)]) -> bool {
    Role::all().any(|role| !slots.iter().any(|slot| slot.0 == role))
}

/// What a client sees of a store that fails.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        log::error(&error);
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            .with(crate::header::RETRY_AFTER, crate::HeaderValue::from_static("5"))
    }
}

#[cfg(test)]
mod sim;

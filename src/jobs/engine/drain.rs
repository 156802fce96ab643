//! A drain: runs jobs in this invocation, many at once, until none is due or the budget is spent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::alarms::Alarms;
use super::lanes::Lanes;
use super::room::Room;
use super::together::Together;
use super::{Engine, LOOK, PAUSE, tell, work};
use crate::jobs::fault;
use crate::jobs::job::{Id, Input, Job, Recorded, Run};
use crate::jobs::store::{Ask, Due, Kind, Mark, News, Result, Role, Save, Slot, StoreError};

/// How many due jobs of each kind are known beforehand, so that a long queue is not listed for every job.
const KNOWN: usize = 256;

/// How many of them one statement tries to claim, as many as there are free lanes: others may have some of them.
const CANDIDATES: usize = 64;

/// The same between two signs of life where it is done one after the other: a file's new name takes some tens of
/// milliseconds on a host that is overwhelmed.
const AT_ONCE: usize = 8;

/// Free lanes wait for others for so many times as long as the last claim took.
const COMPANY: u32 = 8;

/// What is not worth a timer.
const ROUNDING: Duration = Duration::from_millis(1);

/// A drain whose jobs are known looks for those to tell of once in so many times as long as a look takes.
const SELDOM: u32 = 20;

/// How long a due job waits for a lane before one that waits gives way to it.
const POLITE: Duration = Duration::from_millis(500);

pub struct Drain<'a> {
    pub engine: &'a Engine,
    /// Bodies and outputs that its lanes hold.
    pub room: Room,
    pub alarms: Alarms,
    together: Together,
    slot: RefCell<Slot>,
    role: Role,
    /// The due jobs that are known, first come first: those to work on, and those to tell of.
    known: RefCell<[VecDeque<Due>; 2]>,
    /// Due jobs that cannot be claimed.
    skipped: RefCell<Vec<Id>>,
    /// The jobs that lanes have.
    own: RefCell<Vec<Id>>,
    /// What clients had asked at the last look.
    marks: RefCell<Vec<Mark>>,
    /// How many lanes are wanted by jobs that are due.
    wanted: Cell<usize>,
    /// A suspect's step runs, and no other may beside it.
    pub is_alone: Cell<bool>,
    /// How many lanes work, and how many tell.
    lanes: Cell<[usize; 2]>,
    renew_at: Cell<Duration>,
    /// When the lease runs out, by the monotonic clock, unless it is renewed.
    until: Cell<Duration>,
    look_at: Cell<Duration>,
    claim_at: Cell<Duration>,
    /// Until when lanes that are free wait for others.
    company_at: Cell<Duration>,
    /// When it is time to look for ended jobs to tell of, if nothing is known of any.
    tells_at: Cell<Duration>,
    /// The slot is lost.
    is_lost: Cell<bool>,
}

/// What became of a lane.
struct Ended {
    id: Id,
    kind: Kind,
    result: Result<()>,
}

impl<'a> Drain<'a> {
    /// Runs `own`, if nobody has claimed it yet, and whatever is due. Returns without the slot.
    pub async fn run(engine: &'a Engine, slot: Slot, own: Option<Id>) -> Result<()> {
        let drain = Drain::new(engine, slot);
        if let Some(id) = own {
            let due = Due { time: id.created(), id, kind: Kind::Work, wait: None };
            drain.known.borrow_mut()[0].push_back(due);
        }
        let lanes = Lanes::new(&*engine.host);
        loop {
            drain.keep_up()?;
            if let Err(error) = drain.fill(&lanes) {
                drain.pause(error)?;
            }
            if lanes.is_empty() && !drain.is_paused() {
                break;
            }
            if let Some(ended) = drain.rest(&lanes).await {
                drain.take_back(ended)?;
            }
        }
        drop(lanes);
        engine.store.leave(drain.slot.into_inner())
    }

    fn new(engine: &'a Engine, slot: Slot) -> Drain<'a> {
        let now = engine.host.elapsed();
        Drain {
            engine,
            room: Room::default(),
            alarms: Alarms::default(),
            together: Together::default(),
            role: slot.role,
            slot: slot.into(),
            known: RefCell::default(),
            skipped: RefCell::default(),
            own: RefCell::default(),
            marks: RefCell::default(),
            wanted: Cell::default(),
            is_alone: Cell::default(),
            lanes: Cell::default(),
            renew_at: Cell::new(now + renewal(engine)),
            until: Cell::new(now + engine.config.lease),
            look_at: Cell::default(),
            claim_at: Cell::default(),
            company_at: Cell::default(),
            tells_at: Cell::default(),
            is_lost: Cell::default(),
        }
    }

    /// Renews the lease if it is time for that, also while lanes compute.
    fn renew(&self) {
        let now = self.engine.host.elapsed();
        if now < self.renew_at.get() {
            return;
        }
        match self.engine.store.renew(&mut self.slot.borrow_mut()) {
            Ok(()) => {
                self.renew_at.set(now + renewal(self.engine));
                self.until.set(now + self.engine.config.lease);
            }
            Err(StoreError::Lost) => self.is_lost.set(true),
            Err(error) => {
                self.engine.note_failure(&error);
                self.renew_at.set(now + LOOK);
                self.is_lost.set(now >= self.until.get());
            }
        }
    }

    /// At every look sees to what clients ask, and from time to time to the chores.
    fn keep_up(&self) -> Result<()> {
        self.renew();
        if self.is_lost.get() {
            return Err(StoreError::Lost);
        }
        let now = self.engine.host.elapsed();
        if now < self.look_at.get() {
            return Ok(());
        }
        self.look_at.set(now + LOOK);
        let result = self.engine.store.marks().and_then(|marks| {
            let is_own = |id| self.own.borrow().contains(&id);
            if marks.iter().any(|mark| is_own(mark.id)) {
                self.alarms.tell_all();
            }
            self.marks.replace(marks.clone());
            self.engine.heed(&self.slot.borrow(), &marks, &is_own)?;
            self.engine.retry_more(&self.slot.borrow())
        });
        result.and_then(|()| self.engine.do_chores(&mut || self.renew())).or_else(|error| self.pause(error))
    }

    /// Claims nothing for a while, since the store has failed.
    fn pause(&self, error: StoreError) -> Result<()> {
        match error {
            StoreError::Lost => {
                self.is_lost.set(true);
                Err(StoreError::Lost)
            }
            error => {
                self.engine.note_failure(&error);
                self.claim_at.set(self.engine.host.elapsed() + PAUSE);
                Ok(())
            }
        }
    }

    fn is_paused(&self) -> bool {
        self.engine.host.elapsed() < self.claim_at.get() && !self.engine.is_spent()
    }

    /// Opens lanes for due jobs while there is room. A lane that waits gives way to a job that is due.
    fn fill(&'a self, lanes: &Lanes<'a, Ended>) -> Result<()> {
        let engine = self.engine;
        if engine.is_spent() || self.is_paused() {
            return Ok(());
        }
        self.wanted.set(0);
        for tells in [false, true] {
            let lane = usize::from(tells);
            // What waits for a lane is looked for if one may give way.
            let may_give_way = !tells && !self.alarms.is_empty() && self.role != Role::Alone;
            while self.free(tells) > 0 || may_give_way {
                self.refill(lane)?;
                let free = self.free(tells);
                let count = if engine.gathers() { CANDIDATES } else { AT_ONCE };
                let wanted: Vec<_> = self.known.borrow()[lane].iter().take(count).copied().collect();
                let Some(first) = wanted.first().copied() else { break };
                if free == 0 {
                    if first.time + POLITE <= engine.clock.now() {
                        self.wanted.set(self.known.borrow()[lane].len());
                        self.alarms.tell_all();
                    }
                    break;
                }
                if self.waits_for_company(free, lanes) {
                    break;
                }
                self.renew();
                let begun = engine.host.elapsed();
                let claimed = engine.store.claim(&self.slot.borrow(), &wanted, free);
                let now = engine.host.elapsed();
                if engine.gathers() {
                    self.company_at.set(now + (now - begun) * COMPANY);
                }
                let tried = match &claimed {
                    // Those before the last one are others'.
                    Ok(claimed) if claimed.len() == free => {
                        claimed.last().and_then(|last| wanted.iter().position(|due| due.id == last.id))
                    }
                    Ok(_) => None,
                    Err(_) => Some(0),
                };
                self.known.borrow_mut()[lane].drain(..tried.map_or(wanted.len(), |last| last + 1));
                match claimed {
                    Ok(claimed) => claimed.into_iter().for_each(|due| self.open(lanes, due)),
                    Err(error @ StoreError::Failed { .. }) => self.skip(first, error)?,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Whether free lanes wait until there are more of them: a claim that is a statement takes no longer for many jobs.
    fn waits_for_company(&self, free: usize, lanes: &Lanes<'a, Ended>) -> bool {
        let is_early = self.engine.gathers() && self.engine.host.elapsed() + ROUNDING < self.company_at.get();
        is_early && free < self.engine.config.lanes / 2 && !lanes.is_empty()
    }

    /// How many lanes may be opened, for those to work on or those to tell of.
    fn free(&self, tells: bool) -> usize {
        let free = self.engine.config.lanes.saturating_sub(self.lanes.get()[usize::from(tells)]);
        match self.role {
            _ if self.is_alone.get() => 0,
            Role::Alone => free.min(1),
            _ => free,
        }
    }

    /// Goes on without a job that cannot be claimed, unless that is no wonder.
    fn skip(&self, due: Due, error: StoreError) -> Result<()> {
        self.engine.store.bell()?;
        self.engine.note_failure(&error);
        self.skipped.borrow_mut().push(due.id);
        Ok(())
    }

    /// Looks for due jobs, if none is known.
    fn refill(&self, lane: usize) -> Result<()> {
        let now = self.engine.host.elapsed();
        let is_time = lane == 0 || now >= self.tells_at.get();
        if !self.known.borrow()[lane].is_empty() || !is_time {
            return Ok(());
        }
        let is_due = self.engine.look(KNOWN)?;
        // A look takes longer, the longer the queue is.
        let took = self.engine.host.elapsed().saturating_sub(now);
        self.tells_at.set(now + (took * SELDOM).max(if is_due { LOOK } else { Duration::ZERO }));
        if is_due {
            let mut known = self.known.borrow_mut();
            *known = Default::default();
            let wanted = if self.role == Role::Alone { Kind::Suspect } else { Kind::Work };
            let outlook = self.engine.take_outlook();
            let skipped = self.skipped.borrow();
            for due in outlook.into_iter().filter(|due| !skipped.contains(&due.id)) {
                match due.kind {
                    kind if kind == wanted => known[0].push_back(due),
                    Kind::Tell if self.role != Role::Alone => known[1].push_back(due),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Opens a lane for a claimed job.
    fn open(&'a self, lanes: &Lanes<'a, Ended>, due: Due) {
        let mut count = self.lanes.get();
        count[usize::from(due.kind == Kind::Tell)] += 1;
        self.lanes.set(count);
        self.own.borrow_mut().push(due.id);
        if self.role == Role::Alone {
            self.is_alone.set(true);
        }
        lanes.push(async move {
            let result = match due.kind {
                Kind::Tell => tell::run(self, due).await,
                Kind::Work | Kind::Suspect => work::run(self, due).await,
            };
            Ended { id: due.id, kind: due.kind, result }
        });
    }

    fn take_back(&self, ended: Ended) -> Result<()> {
        let mut count = self.lanes.get();
        count[usize::from(ended.kind == Kind::Tell)] -= 1;
        self.lanes.set(count);
        // One that has ended may be told of by another lane already.
        let at = self.own.borrow().iter().position(|own| *own == ended.id);
        if let Some(at) = at {
            self.own.borrow_mut().swap_remove(at);
        }
        if self.role == Role::Alone && self.lanes.get()[0] == 0 {
            self.is_alone.set(false);
        }
        match ended.result {
            Ok(()) => Ok(()),
            Err(StoreError::Lost) => {
                // Either the slot is lost, which shows now, or just this claim.
                self.renew_at.set(Duration::ZERO);
                Ok(())
            }
            // The claim stays in the slot. Whoever comes next takes it over from there.
            Err(error) => self.pause(error),
        }
    }

    /// Waits until a lane ends, or it is time to look again; wakes those lanes that wait.
    async fn rest(&self, lanes: &Lanes<'a, Ended>) -> Option<Ended> {
        let host = &*self.engine.host;
        let look = host.elapsed() + LOOK;
        let mut until = Duration::MAX;
        let mut timer = host.sleep(LOOK);
        poll_fn(move |context| {
            self.renew();
            self.alarms.ring(host.elapsed());
            if let Poll::Ready(Some(ended)) = lanes.poll_next(context, &mut || self.renew()) {
                return Poll::Ready(Some(ended));
            }
            // Those lanes have a turn after the timers of the others.
            if self.engine.gathers() {
                self.together.store_all(self.engine, &self.slot.borrow());
            }
            // A lane may have begun to wait for a time before that.
            let mut first = self.alarms.next().unwrap_or(look).min(look);
            let knows_more = !self.known.borrow().iter().all(VecDeque::is_empty);
            if knows_more && self.company_at.get() > host.elapsed() {
                first = first.min(self.company_at.get());
            }
            if first != until {
                until = first;
                timer = host.sleep(first.saturating_sub(host.elapsed()));
            }
            timer.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    /// Whether somebody wants this job cancelled, or begun again.
    pub fn is_marked(&self, job: &Job, ask: Ask) -> Result<bool> {
        let mark = Mark { id: job.id, round: job.run.round, ask };
        let was_marked = self.marks.borrow().contains(&mark);
        Ok(was_marked && mark.counts(&job.run) && self.engine.store.is_marked(mark)?)
    }

    /// Whether a lane that may give way has to.
    pub fn gives_way(&self) -> bool {
        let wanted = self.wanted.get();
        self.wanted.set(wanted.saturating_sub(1));
        wanted > 0
    }

    /// Whether this drain runs suspects only.
    pub fn is_for_suspects(&self) -> bool {
        self.role == Role::Alone
    }

    /// Does something to the store as the holder of this drain's slot, again and again while the store
    /// fails: what a step has come to is not lost because a disk is full for a while.
    pub async fn persist<T>(&self, act: &mut dyn FnMut(&Slot) -> Result<T>) -> Result<T> {
        loop {
            let result = act(&self.slot.borrow());
            if let Some(done) = self.done(result).await? {
                return Ok(done);
            }
        }
    }

    /// The same for what there is new of a job: whether its claim has ended with that.
    async fn store(&self, job: &mut Job, news: News) -> Result<bool> {
        let blank = Job::new(job.id, Input::default(), Run::default(), job.claim);
        let mut save = Save { job: std::mem::replace(job, blank), news };
        let result = loop {
            let result;
            if self.engine.gathers() {
                (save, result) = self.together.store(save).await;
            } else {
                result = self.engine.save_one(&self.slot.borrow(), &mut save);
            }
            if let Some(done) = self.done(result).await.transpose() {
                break done;
            }
        };
        *job = save.job;
        result
    }

    /// What was done; `None` after a pause if the store has failed and it is to be tried again.
    async fn done<T>(&self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Err(error @ StoreError::Failed { .. }) if !self.engine.is_spent() => {
                self.pause(error)?;
                self.alarms.wait(self.claim_at.get()).await;
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// Stores how far a claimed job has come.
    pub async fn save(&self, job: &mut Job) -> Result<()> {
        self.persist(&mut |slot| self.engine.save(slot, job)).await
    }

    /// The same after a step.
    pub async fn save_step(&self, job: &mut Job) -> Result<()> {
        fault::point("worked");
        self.save(job).await?;
        fault::trace("stored", job.id, job.run.version);
        fault::point("stored");
        Ok(())
    }

    /// Stores how a claimed job has ended, and ends its claim.
    pub async fn save_end(&self, job: &mut Job) -> Result<()> {
        let is_released = self.store(job, News::End).await?;
        fault::trace("stored", job.id, job.run.version);
        fault::point("stored");
        fault::point("ended");
        if is_released { Ok(()) } else { self.release(job).await }
    }

    /// Stores how far a claimed job has come, but a power cut may take it back.
    pub async fn note(&self, job: &mut Job) -> Result<()> {
        job.run.updated = self.engine.clock.now();
        self.persist(&mut |slot| self.engine.store.note(slot, job)).await
    }

    /// Records what came of a claimed job's steps.
    pub async fn record(&self, job: &mut Job, results: Rc<[Recorded]>) -> Result<()> {
        self.store(job, News::Steps(results)).await.map(drop)
    }

    /// Ends the claim of a job.
    pub async fn release(&self, job: &Job) -> Result<()> {
        self.persist(&mut |slot| self.engine.release(slot, job)).await
    }

    /// The job that was claimed, if there is one.
    pub async fn load(&self, id: Id, kind: Kind) -> Result<Option<Job>> {
        self.persist(&mut |slot| self.engine.load_or_repair(slot, id, kind)).await
    }
}

/// How long after the last one the lease is renewed: often, since other continuations wait for that sign of
/// life before they rely on this one.
pub fn renewal(engine: &Engine) -> Duration {
    (engine.config.lease / 8).min(2 * LOOK)
}

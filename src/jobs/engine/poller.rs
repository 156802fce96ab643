//! A job whose worker is at it: its code is polled until it has ended or has to stop.
//!
//! It begins at its beginning, by the record. In between, what it wants recorded is recorded, and who sleeps in it is
//! woken.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::drain::Drain;
use super::work::{LONG_WAIT, Lane, gives_way};
use crate::jobs::fault;
use crate::jobs::job::{Job, Recorded, Wait, What};
use crate::jobs::store::{Ask, Result, StoreError};
use crate::jobs::worker::{self, Checkpoint, Course, Failure, Next, Output, Want, Work, Worker};

/// A job that waits with more bytes than this goes back into the queue, too.
const LARGE: usize = 64 * 1024;

/// How long a suspect runs alone, the first time; twice as long each time after that.
const ALONE: Duration = Duration::from_secs(10);

/// How often what a worker says of its progress is stored by itself.
const NEWS: Duration = Duration::from_millis(400);

/// Where a job's code has come to.
pub enum Stop {
    /// Its end.
    Ended(std::result::Result<Output, Failure>),
    /// It is to wait in the queue, or to be cancelled.
    Suspended,
    /// A checkpoint, with which it begins again when its time has come.
    Waits,
}

/// Lets a job's worker go on from where it had come to.
pub async fn work(drain: &Drain<'_>, job: &mut Job, lane: &Lane) -> Result<Stop> {
    let engine = drain.engine;
    let worker = match engine.workers.find(&job.input.worker) {
        Ok(worker) => worker,
        Err(problem) => return Ok(Stop::Ended(Err(Failure::fatal(problem.detail())))),
    };
    let _taken = drain.room.take(job.input.size).await;
    if job.input.body.len() < job.input.size {
        match engine.store.body(job.id) {
            Ok(body) => job.input.body = body,
            Err(StoreError::Lost) => return Err(StoreError::Lost),
            // A database that is away is so for all jobs: that costs none of them an attempt.
            Err(error @ StoreError::Failed { .. }) if engine.gathers() => return Err(error),
            Err(error) => {
                let passes = matches!(error, StoreError::Failed { .. });
                let failure = if passes { Failure::retry(error) } else { Failure::fatal(error) };
                return Ok(Stop::Ended(Err(failure)));
            }
        }
    }
    if job.run.begun.is_none() {
        job.run.begun = Some(engine.clock.now());
    }
    let record = match job.run.recorded {
        0 => Vec::new(),
        _ => match drain.persist(&mut |slot| engine.store.recorded(slot, job)).await {
            Err(StoreError::Damaged { reason, .. }) => {
                return Ok(Stop::Ended(Err(Failure::fatal(format!(
                    "the record of the job was damaged: {reason}"
                )))));
            }
            record => record?,
        },
    };
    if drain.is_for_suspects() {
        job.run.alone = true;
        drain.save(job).await?;
    }
    let terms = worker.terms();
    let (attempts, step) = (engine.attempts(Some(terms)), terms.step.or(engine.config.step));
    let course = Rc::new(Course::new(job, attempts, step, engine.config.record));
    course.replay(record);
    fault::trace("step", job.id, job.run.version);
    let now = engine.host.elapsed();
    let lost = job.run.lost.saturating_sub(1).min(8);
    let mut poller = Poller {
        drain,
        job,
        lane,
        worker,
        work: worker.begin(worker::Job::new(course.clone())),
        course,
        news_at: now + NEWS,
        has_news: true,
        active: now,
        alone_until: drain.is_for_suspects().then(|| now + ALONE * (1 << lost)),
    };
    let stop = poller.run().await;
    job.run.alone = false;
    stop
}

/// A job whose worker is at it.
struct Poller<'a, 'd> {
    drain: &'a Drain<'d>,
    job: &'a mut Job,
    lane: &'a Lane,
    worker: &'d Worker,
    work: Work,
    course: Rc<Course>,
    /// When it is time to store what is new by itself, and whether there is anything.
    news_at: Duration,
    has_news: bool,
    /// When it was in a step last, or something was recorded.
    active: Duration,
    /// Until when a suspect runs alone.
    alone_until: Option<Duration>,
}

impl Poller<'_, '_> {
    /// Polls the worker's code until it has ended or has to stop.
    async fn run(&mut self) -> Result<Stop> {
        loop {
            self.end_waits();
            self.course.stop(self.is_to_stop()?);
            let polled = poll_fn(|context| Poll::Ready(self.work.as_mut().poll(context))).await;
            if let Some(progress) = self.course.take_progress() {
                self.job.run.progress = Some(progress);
                self.has_news = true;
            }
            if let Poll::Ready(result) = polled {
                match result {
                    Ok(Next::Done(output)) => return Ok(Stop::Ended(Ok(output))),
                    Err(failure) => return Ok(Stop::Ended(Err(failure))),
                    Ok(Next::Again(checkpoint)) => match self.checkpoint(checkpoint).await? {
                        Some(stop) => return Ok(stop),
                        None => continue,
                    },
                }
            }
            let wants = self.course.wants();
            if !wants.is_empty() {
                self.record(wants).await?;
                continue;
            }
            if let Some(stop) = self.stop().await? {
                return Ok(stop);
            }
            self.rest().await?;
        }
    }

    /// Whether the job is not to go on with another step.
    fn is_to_stop(&self) -> Result<bool> {
        let has_shown_itself = self.drain.is_for_suspects() && self.job.run.lost == 0;
        let engine = self.drain.engine;
        Ok(engine.is_spent() || has_shown_itself || self.drain.is_marked(self.job, Ask::Cancel)?)
    }

    /// Records what the worker's code wants recorded.
    async fn record(&mut self, wants: Vec<Want>) -> Result<()> {
        let (engine, run) = (self.drain.engine, &mut self.job.run);
        let now = engine.clock.now();
        let (mut results, mut waits) = (Vec::new(), Vec::new());
        for want in wants {
            results.push(match want {
                Want::Done { step, result } => {
                    (run.tries, run.error) = (0, None);
                    Recorded { step, what: What::Done, bytes: result }
                }
                Want::Sleep { step, time, key } => {
                    let wait = Wait::new(now, time);
                    waits.push((key, wait));
                    Recorded { step, what: What::Sleep(wait), bytes: Vec::new() }
                }
                Want::Failed { step, tries, is_final, failure, key } => {
                    (run.tries, run.error) = (tries, Some(failure.message().to_owned()));
                    if !is_final {
                        waits.push((key, engine.next_try(Some(self.worker.terms()), tries, failure.delay())));
                    }
                    let what = What::Failed { round: run.round, tries, is_final };
                    Recorded { step, what, bytes: failure.message().into() }
                }
            });
        }
        // Who only waits is not to blame for what happens meanwhile.
        (run.lost, run.alone) = (0, false);
        waits.iter().for_each(|(key, wait)| self.course.begin_wait(*key, *wait));
        self.end_waits();
        let wait = self.course.first_wait().filter(|_| self.course.is_idle());
        self.job.run.wait = wait.map(|(_, wait)| wait);
        fault::point("worked");
        let results: Rc<[Recorded]> = results.into();
        self.drain.record(self.job, results.clone()).await?;
        fault::trace("stored", self.job.id, self.job.run.version);
        fault::point("stored");
        self.course.note_recorded(&results);
        self.is_stored();
        others_turn().await;
        Ok(())
    }

    /// Stores a checkpoint, and begins with it again, unless the job leaves its lane or has to wait.
    async fn checkpoint(&mut self, Checkpoint { bytes, wait }: Checkpoint) -> Result<Option<Stop>> {
        let (engine, run) = (self.drain.engine, &mut self.job.run);
        let (size, most) = (bytes.len(), engine.config.record);
        if size > most {
            let error = format!("checkpoint too large: {size} bytes (limit AFTERACK_RECORD, {most})");
            return Ok(Some(Stop::Ended(Err(Failure::fatal(error)))));
        }
        run.bytes = bytes;
        run.has_checkpoint = true;
        run.wait = (!wait.is_zero()).then(|| Wait::new(engine.clock.now(), wait));
        (run.tries, run.error, run.lost, run.alone) = (0, None, 0, false);
        self.drain.save_step(self.job).await?;
        self.is_stored();
        others_turn().await;
        if self.job.run.wait.is_some() {
            return Ok(Some(Stop::Waits));
        }
        if self.is_to_stop()? {
            return Ok(Some(Stop::Suspended));
        }
        self.course.tries.set(0);
        self.course.checkpoint.set(self.job.run.checkpoint().map(Vec::from));
        self.work = self.worker.begin(worker::Job::new(self.course.clone()));
        Ok(None)
    }

    fn is_stored(&mut self) {
        let now = self.drain.engine.host.elapsed();
        (self.has_news, self.news_at, self.active) = (false, now + NEWS, now);
    }

    /// Ends the waits whose time has come. From their beginning here on, that is by the monotonic clock, whatever
    /// the wall clock does.
    fn end_waits(&self) {
        let (engine, now) = (self.drain.engine, self.drain.engine.host.elapsed());
        let waited = self.job.run.waited;
        self.course.end_waits(now, |wait| {
            let rest = wait.until.since(engine.clock.now()).min(wait.until.since(wait.since));
            if waited == Some(wait) { now } else { now + rest }
        });
    }

    /// Whether the job leaves its lane: it is to stop and does nothing, or all that it does is to wait for long.
    async fn stop(&mut self) -> Result<Option<Stop>> {
        if !self.course.is_idle() {
            return Ok(None);
        }
        let engine = self.drain.engine;
        let now = engine.host.elapsed();
        let (until, wait) = self.course.first_wait().filter(|_| !self.course.is_halted()).unzip();
        let until = until.unwrap_or(now);
        let rest = until.saturating_sub(now);
        let is_large = self.course.size() > LARGE && !rest.is_zero();
        let leaves = self.course.is_halted()
            || self.is_to_stop()?
            || rest > LONG_WAIT
            || is_large
            || gives_way(self.drain, self.lane, until);
        if !leaves {
            return Ok(None);
        }
        if self.job.run.wait != wait || self.has_news {
            self.job.run.wait = wait;
            self.drain.save(self.job).await?;
        }
        Ok(Some(Stop::Suspended))
    }

    /// Waits until there is something to do: for the worker's code, or because of the time.
    async fn rest(&mut self) -> Result<()> {
        let engine = self.drain.engine;
        let now = engine.host.elapsed();
        if self.course.is_in_step() {
            self.active = now;
        }
        let waits = self.course.first_wait().map(|(until, _)| until);
        let overdue = self.course.end_steps(now);
        let late = self.course.step.filter(|_| !self.course.is_in_step()).map(|limit| self.active + limit);
        let news = self.has_news.then_some(self.news_at);
        let budget = engine.left().filter(|_| self.course.is_idle()).map(|left| now + left);
        let at = [waits, overdue, late, news, budget, self.alone_until].into_iter().flatten().min();
        let mut alarm = pin!(self.drain.alarms.wait(at.unwrap_or(Duration::MAX)));
        let mut has_waited = false;
        poll_fn(|context| {
            if alarm.as_mut().poll(context).is_ready() || std::mem::replace(&mut has_waited, true) {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
        let now = engine.host.elapsed();
        if late.is_some_and(|late| late <= now) {
            let limit = self.course.step.unwrap_or_default();
            let failure = worker::overdue("what is not in a step", limit);
            self.work = Box::pin(async move { Err(failure) });
        }
        if self.alone_until.is_some_and(|until| until <= now) {
            // It holds up others, and has shown itself harmless for so long.
            self.alone_until = None;
            self.job.run.alone = false;
            self.drain.save(self.job).await?;
            self.drain.is_alone.set(false);
        } else if self.has_news && self.news_at <= now {
            self.drain.note(self.job).await?;
            self.is_stored();
        }
        Ok(())
    }
}

/// Other lanes have a turn.
async fn others_turn() {
    let mut has_waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

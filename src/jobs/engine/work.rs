//! A job's way from its claim to its end, or back into the queue.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::LOOK;
use super::alarms::Reason;
use super::drain::Drain;
use crate::jobs::fault;
use crate::jobs::job::{Job, State, Wait};
use crate::jobs::store::{Ask, Due, Kind, Mark, Result, StoreError};
use crate::jobs::worker::{Failure, Next, Worker};

/// A longer wait is none that a lane is kept for: the job goes back into the queue.
const LONG_WAIT: Duration = Duration::from_secs(10);

/// After so much of a wait, or so much time in its lane, a job gives way to one that is due.
const GIVE_WAY: Duration = Duration::from_secs(3);

/// A job that waits with more bytes than this goes back into the queue, too, and a body that is longer
/// is loaded for each step.
const LARGE: usize = 64 * 1024;

/// How long a suspect's step runs alone, the first time; twice as long each time after that.
const ALONE: Duration = Duration::from_secs(10);

/// What a lane knows of its time.
struct Lane {
    /// When it was opened, by the monotonic clock.
    claimed: Duration,
    /// Until when its job waits, by the monotonic clock, if it does.
    until: Option<Duration>,
}

/// What a lane does after a wait.
enum After {
    GoOn,
    GiveWay,
    /// Looks whether somebody wants the job cancelled.
    Look,
}

/// Runs a claimed job until it has ended or has to wait for long.
pub async fn run(drain: &Drain<'_>, due: Due) -> Result<()> {
    let engine = drain.engine;
    let Some(mut job) = drain.load(due.id, Kind::Work).await? else { return Ok(()) };
    fault::trace("loaded", job.id, job.run.version);
    if due.wait.is_some() && job.run.end.is_none() {
        job.run.wait = due.wait; // It may have been mended.
    }
    let mut lane = Lane { claimed: engine.host.elapsed(), until: None };
    // Who asked before it was claimed has been told that it is cancelled.
    let cancel = Mark { id: job.id, round: job.run.round, ask: Ask::Cancel };
    let mut is_cancelled = drain.persist(|_| engine.store.is_marked(cancel)).await?;
    while job.run.end.is_none() {
        is_cancelled = is_cancelled || drain.is_marked(&job, Ask::Cancel)?;
        if is_cancelled {
            engine.end(&mut job, State::Cancelled, None);
            drain.save(&mut job).await?;
            break;
        }
        match wait(drain, &mut job, &mut lane).await? {
            After::GiveWay => return drain.release(&job).await,
            After::Look => continue,
            After::GoOn => {}
        }
        if job.run.lost > 0 && !drain.is_for_suspects() {
            drain.save(&mut job).await?; // It waits no longer.
            return drain.release(&job).await;
        }
        step(drain, &mut job).await?;
        if drain.is_for_suspects() && job.run.end.is_none() {
            return drain.release(&job).await;
        }
    }
    fault::point("ended");
    drain.release(&job).await?;
    if is_cancelled { drain.persist(|_| engine.store.forget_mark(cancel)).await } else { Ok(()) }
}

/// Waits until the job is due. With a long wait, or when others need the lane or the budget is spent, it
/// goes back into the queue.
async fn wait(drain: &Drain<'_>, job: &mut Job, lane: &mut Lane) -> Result<After> {
    let engine = drain.engine;
    let Some(wait) = job.run.wait else {
        return Ok(if engine.is_spent() { After::GiveWay } else { After::GoOn });
    };
    // From here on by the monotonic clock, whatever the wall clock does.
    let now = engine.host.elapsed();
    let until = *lane.until.get_or_insert_with(|| now + wait.until.since(engine.clock.now()));
    loop {
        let now = engine.host.elapsed();
        let (rest, left) = (until.saturating_sub(now), engine.left().unwrap_or(Duration::MAX));
        let is_large = job.run.bytes.len() > LARGE && !rest.is_zero();
        if left.is_zero() || rest > LONG_WAIT || is_large {
            return Ok(After::GiveWay);
        }
        if rest.is_zero() {
            (job.run.wait, lane.until) = (None, None);
            return Ok(After::GoOn);
        }
        match drain.alarms.wait(now + rest.min(left)).await {
            Reason::Time => {}
            Reason::News => {
                let now = engine.host.elapsed();
                let may_give_way =
                    until > now + GIVE_WAY || until > now + LOOK && now > lane.claimed + GIVE_WAY;
                let gives_way = may_give_way && drain.gives_way();
                return Ok(if gives_way { After::GiveWay } else { After::Look });
            }
        }
    }
}

/// Does one step and stores what came of it.
async fn step(drain: &Drain<'_>, job: &mut Job) -> Result<()> {
    let engine = drain.engine;
    let _taken = drain.room.take(job.input.size + job.run.bytes.len()).await;
    if job.run.begun.is_none() {
        job.run.begun = Some(engine.clock.now());
    }
    if job.input.body.len() < job.input.size {
        match engine.store.body(job.id) {
            Ok(body) => job.input.body = body,
            Err(StoreError::Lost) => return Err(StoreError::Lost),
            Err(error) => {
                let (error, passes) = (error.to_string(), matches!(error, StoreError::Failed { .. }));
                let failure = if passes { Failure::Retry(error, None) } else { Failure::Fatal(error) };
                conclude(drain, job, Err(failure));
                return drain.save(job).await;
            }
        }
    }
    fault::trace("step", job.id, job.run.version);
    // What a worker needs is in a box of its own: a lane is as large as the most that it may need, also while it
    // waits.
    let now = engine.clock.now();
    let result = match Worker::find(&job.input.worker, &engine.config) {
        Ok(worker) if drain.is_for_suspects() => {
            job.run.alone = true;
            drain.save(job).await?;
            let snapshot = job.clone();
            let result = Box::pin(alone(drain, job, worker.step(&snapshot, now))).await;
            job.run.alone = false;
            result
        }
        Ok(worker) => Box::pin(worker.step(job, now)).await,
        Err(problem) => Err(Failure::Fatal(problem.detail().to_owned())),
    };
    conclude(drain, job, result);
    fault::point("worked");
    if job.input.size > LARGE {
        job.input.body = Vec::new();
    }
    drain.save(job).await?;
    fault::trace("stored", job.id, job.run.version);
    fault::point("stored");
    Ok(())
}

/// Does a suspect's step. After some time it is no longer alone: it holds up others, and has shown itself
/// harmless for so long.
async fn alone(
    drain: &Drain<'_>,
    job: &mut Job,
    step: impl Future<Output = std::result::Result<Next, Failure>>,
) -> std::result::Result<Next, Failure> {
    let host = &drain.engine.host;
    let (mut step, mut timer) =
        (pin!(step), host.sleep(ALONE * (1 << job.run.lost.saturating_sub(1).min(8))));
    let result = poll_fn(|context| match step.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => timer.as_mut().poll(context).map(|()| None),
    });
    if let Some(result) = result.await {
        return result;
    }
    job.run.alone = false;
    if let Err(error) = drain.save(job).await {
        drain.engine.say(&error); // The next one fails as well, or all is well.
    }
    drain.is_alone.set(false);
    step.await
}

/// Takes in what a step has come to.
fn conclude(drain: &Drain<'_>, job: &mut Job, result: std::result::Result<Next, Failure>) {
    let engine = drain.engine;
    let (wait, checkpoint, progress) = match result {
        Ok(Next::Again(checkpoint, progress)) => (None, checkpoint, progress),
        Ok(Next::Wait(time, checkpoint, progress)) => {
            (Some(Wait::new(engine.clock.now(), time)), checkpoint, progress)
        }
        Ok(Next::Done(output)) => {
            if let Some(progress) = &mut job.run.progress {
                progress.done = progress.total;
                progress.message.clear();
            }
            job.run.bytes = output.bytes;
            job.run.error = None;
            return engine.end(job, State::Succeeded, Some(output.content_type));
        }
        Err(Failure::Retry(error, delay)) => return engine.failed(job, error, delay),
        Err(Failure::Fatal(error)) => {
            job.run.tries += 1;
            job.run.error = Some(error);
            return engine.end(job, State::Failed, None);
        }
    };
    job.run.bytes = checkpoint;
    job.run.progress = Some(progress);
    job.run.wait = wait;
    job.run.tries = 0;
    job.run.lost = 0;
    job.run.error = None;
}

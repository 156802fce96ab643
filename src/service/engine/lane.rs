//! A job's way from its claim to its end, or back into the queue.

use std::time::Duration;

use super::drain::Drain;
use crate::service::fault;
use crate::service::job::{Job, State};
use crate::service::notify;
use crate::service::store::Result;
use crate::service::time::Time;
use crate::service::worker::{Failure, Next, Worker};

/// A longer wait is none that a lane is kept for: the job goes back into the queue.
const WAIT: Duration = Duration::from_secs(10);

/// How often telling a target is tried.
const TELLS: u32 = 12;

/// Runs a claimed job until it has ended or has to wait for long.
pub async fn run(drain: &Drain, mut job: Job) -> Result<()> {
    while job.run.end.is_none() {
        if !wait(drain, &job).await? {
            return Ok(());
        }
        step(drain, &mut job).await?;
    }
    fault::point("ended");
    drain.engine.say_end(&job);
    while let Some(uri) = job.input.notify.get(job.run.told).cloned() {
        if !wait(drain, &job).await? {
            return Ok(());
        }
        tell(drain, &mut job, &uri).await?;
    }
    let engine = &drain.engine;
    drain.with_slot(|slot| engine.store.settle(slot, &job, engine.config.keep))?;
    // It has been heeded, or has come too late.
    if drain.is_cancelled(job.id)? { engine.store.ask_to_cancel(job.id, false) } else { Ok(()) }
}

/// Waits until the job is due: whether its claim is still held then. With a long wait, or when the
/// budget is spent, it goes back into the queue.
async fn wait(drain: &Drain, job: &Job) -> Result<bool> {
    let engine = &drain.engine;
    loop {
        let wait = job.run.due.since(Time::now());
        let left = engine.left().unwrap_or(Duration::MAX);
        if left.is_zero() || wait > WAIT {
            drain.with_slot(|slot| engine.store.release(slot, job))?;
            return Ok(false);
        }
        if wait.is_zero() {
            return Ok(true);
        }
        drain.wait(Time::now() + wait.min(left)).await;
    }
}

/// Does one step and stores what came of it.
async fn step(drain: &Drain, job: &mut Job) -> Result<()> {
    let engine = &drain.engine;
    if drain.is_cancelled(job.id)? {
        engine.end(job, State::Cancelled, None);
        return save(drain, job);
    }
    if job.run.suspect {
        let _alone = drain.gate.write().await;
        job.run.alone = true;
        save(drain, job)?;
        work(drain, job).await;
        job.run.alone = false;
        job.run.suspect = false;
        save(drain, job)
    } else {
        let _beside_others = drain.gate.read().await;
        work(drain, job).await;
        save(drain, job)
    }
}

async fn work(drain: &Drain, job: &mut Job) {
    let engine = &drain.engine;
    fault::trace("step", job.id, job.run.version);
    let result = match Worker::find(&job.input.worker) {
        Ok(worker) => worker.step(job).await,
        Err(problem) => Err(Failure::Fatal(problem.detail().to_owned())),
    };
    let (wait, checkpoint, progress) = match result {
        Ok(Next::Again(checkpoint, progress)) => (Duration::ZERO, checkpoint, progress),
        Ok(Next::Wait(wait, checkpoint, progress)) => (wait, checkpoint, progress),
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
    job.run.due = Time::now() + wait;
    job.run.tries = 0;
    job.run.error = None;
    fault::point("worked");
}

fn save(drain: &Drain, job: &mut Job) -> Result<()> {
    drain.with_slot(|slot| drain.engine.store.save(slot, job))?;
    fault::trace("stored", job.id, job.run.version);
    fault::point("stored");
    Ok(())
}

/// Tells the next target of the job's end.
async fn tell(drain: &Drain, job: &mut Job, uri: &str) -> Result<()> {
    match notify::tell(job, uri, &drain.engine.config).await {
        Err(error) if error.is_temporary && job.run.tells + 1 < TELLS => {
            job.run.tells += 1;
            let wait = drain.engine.backoff(job.run.tells);
            job.run.due = Time::now() + wait;
            eprintln!("afterack: job {}: {}; trying again in {} ms", job.id, error.error, wait.as_millis());
        }
        result => {
            if let Err(error) = result {
                eprintln!("afterack: job {}: {uri} was not told: {}", job.id, error.error);
            }
            job.run.told += 1;
            job.run.tells = 0;
            fault::point("told");
        }
    }
    save(drain, job)
}

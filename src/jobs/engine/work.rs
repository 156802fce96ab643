//! A job's way from its claim to its end, or back into the queue.

use std::time::Duration;

use super::LOOK;
use super::alarms::Reason;
use super::drain::Drain;
use super::poller::{Stop, work};
use crate::HeaderValue;
use crate::jobs::fault;
use crate::jobs::job::{Job, State, Wait};
use crate::jobs::store::{Ask, Due, Kind, Mark, Result};
use crate::jobs::worker::{Failure, LARGEST, Output};

/// A longer wait is none that a lane is kept for: the job goes back into the queue.
pub const LONG_WAIT: Duration = Duration::from_secs(10);

/// After so much of a wait, or so much time in its lane, a job gives way to one that is due.
const GIVE_WAY: Duration = Duration::from_secs(3);

/// What a lane knows of its time.
pub struct Lane {
    /// When it was opened, by the monotonic clock.
    claimed: Duration,
    /// Until when its job waits, by the monotonic clock, if it does.
    until: Option<Duration>,
    /// What the job waits for, as that was stored.
    stored: Option<Wait>,
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
    let stored = job.run.wait;
    if due.wait.is_some() && job.run.end.is_none() {
        job.run.wait = due.wait; // It may have been mended.
    }
    let mut lane = Lane { claimed: engine.host.elapsed(), until: None, stored };
    // Who asked before it was claimed has been told that it is cancelled.
    let cancel = Mark { id: job.id, round: job.run.round, ask: Ask::Cancel };
    let mut is_cancelled = drain.persist(&mut |_| engine.store.was_marked(cancel)).await?;
    while job.run.end.is_none() {
        is_cancelled = is_cancelled || drain.is_marked(&job, Ask::Cancel)?;
        if is_cancelled {
            engine.end(&mut job, State::Cancelled, None);
            drain.save_end(&mut job).await?;
            return drain.persist(&mut |_| engine.store.forget_mark(cancel)).await;
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
        match work(drain, &mut job, &lane).await? {
            Stop::Ended(result) => {
                conclude(drain, &mut job, result);
                if job.run.end.is_some() {
                    fault::point("worked");
                    return drain.save_end(&mut job).await;
                }
                drain.save_step(&mut job).await?;
            }
            Stop::Waits => {}
            Stop::Suspended => {
                is_cancelled = drain.is_marked(&job, Ask::Cancel)?;
                if !is_cancelled {
                    return drain.release(&job).await;
                }
            }
        }
        if drain.is_for_suspects() && job.run.end.is_none() {
            return drain.release(&job).await;
        }
    }
    // Somebody has ended it, and was lost before he gave it back.
    drain.release(&job).await?;
    if is_cancelled { drain.persist(&mut |_| engine.store.forget_mark(cancel)).await } else { Ok(()) }
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
        if left.is_zero() || rest > LONG_WAIT {
            return Ok(After::GiveWay);
        }
        if rest.is_zero() {
            job.run.waited = lane.stored.take().or(job.run.wait);
            (job.run.wait, lane.until) = (None, None);
            return Ok(After::GoOn);
        }
        match drain.alarms.wait(now + rest.min(left)).await {
            Reason::Time => {}
            Reason::News if gives_way(drain, lane, until) => return Ok(After::GiveWay),
            Reason::News => return Ok(After::Look),
        }
    }
}

/// Whether a job that waits until then leaves its lane to one that is due.
pub fn gives_way(drain: &Drain<'_>, lane: &Lane, until: Duration) -> bool {
    let now = drain.engine.host.elapsed();
    (until > now + GIVE_WAY || until > now + LOOK && now > lane.claimed + GIVE_WAY) && drain.gives_way()
}

/// Takes in what a job's code has come to.
fn conclude(drain: &Drain<'_>, job: &mut Job, result: std::result::Result<Output, Failure>) {
    let engine = drain.engine;
    let failure = match result {
        Ok(output) if HeaderValue::from_str(&output.content_type).is_err() => {
            let content_type = output.content_type.escape_debug();
            Failure::fatal(format!("output of an invalid content type: `{content_type}`"))
        }
        Ok(output) if output.bytes.len() <= LARGEST => {
            if let Some(progress) = &mut job.run.progress {
                progress.done = progress.total;
                progress.message.clear();
            }
            job.run.bytes = output.bytes.into();
            (job.run.error, job.run.tries) = (None, 0);
            return engine.end(job, State::Succeeded, Some(output.content_type));
        }
        Ok(output) => {
            Failure::fatal(format!("output too large: {} bytes (limit {LARGEST})", output.bytes.len()))
        }
        Err(failure) => failure,
    };
    // A step's last failure that was passed on has been counted.
    let is_counted = job.run.tries > 0 && job.run.error.as_deref() == Some(failure.message());
    if !failure.is_fatal() {
        return engine.failed(job, failure.message().to_owned(), failure.delay());
    }
    job.run.tries += u32::from(!is_counted);
    job.run.error = Some(failure.message().to_owned());
    engine.end(job, State::Failed, None);
}

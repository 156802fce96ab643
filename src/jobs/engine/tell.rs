//! Telling of a job's end: all targets that are due, at once, so that none holds up another.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::drain::Drain;
use super::lanes::Lanes;
#[cfg(test)]
use super::sim::tell_target;
use super::{Engine, LONGEST_TELL, longest_backoff};
use crate::jobs::fault;
use crate::jobs::job::{Job, TellState};
#[cfg(not(test))]
use crate::jobs::notify::tell as tell_target;
use crate::jobs::notify::{self, Untold};
use crate::jobs::store::{Ask, Due, Kind, Mark, Result};
use crate::log;

/// How long telling goes on before somebody looks whether the job is to begin again.
const GLANCE: Duration = Duration::from_secs(1);

/// Tells those of the targets of a claimed job that are due.
pub async fn run(drain: &Drain<'_>, due: Due) -> Result<()> {
    let engine = drain.engine;
    let Some(mut job) = drain.load(due.id, Kind::Tell).await? else { return Ok(()) };
    let _taken = drain.room.take(job.run.bytes.len()).await;
    let retry = Mark { id: job.id, round: job.run.round, ask: Ask::Retry };
    let mut begins_again = drain.persist(&mut |_| engine.store.was_marked(retry)).await?;
    // The first one is due even if its time was set by a clock that was ahead.
    let now = engine.clock.now().max(job.run.tell_at().unwrap_or_default());
    let told = Rc::new(job.clone());
    let lanes = Lanes::new(&*engine.host);
    for (index, (uri, tell)) in job.input.notify.iter().zip(&job.run.tells).enumerate() {
        if tell.state == TellState::Waiting && tell.due <= now && !begins_again {
            let (told, uri) = (told.clone(), uri.clone());
            let now = engine.clock.now();
            lanes.push(async move { (index, tell_target(&told, index, &uri, &engine.config, now).await) });
        }
    }
    while !lanes.is_empty() && !begins_again {
        let mut glance = engine.host.sleep(GLANCE);
        let next = poll_fn(|context| match lanes.poll_next(context, &mut || {}) {
            Poll::Ready(told) => Poll::Ready(told),
            Poll::Pending => glance.as_mut().poll(context).map(|()| None),
        });
        if let Some((index, result)) = next.await {
            note(engine, &mut job, index, result);
            drain.save(&mut job).await?;
            fault::point("told");
            if job.run.tells[index].state == TellState::Failed
                && let Err(error) = engine.store.note_untold()
            {
                engine.note_failure(&error);
            }
        }
        begins_again = drain.is_marked(&job, Ask::Retry)?;
    }
    if begins_again && retry.counts(&job.run) {
        engine.begin_again(&mut job);
        drain.save(&mut job).await?;
        drain.release(&job).await?;
        return drain.persist(&mut |_| engine.store.forget_mark(retry)).await;
    }
    drain.release(&job).await
}

/// Notes what came of telling a target.
fn note(engine: &Engine, job: &mut Job, index: usize, result: std::result::Result<(), Untold>) {
    let (now, id, uri) = (engine.clock.now(), job.id, notify::shown(&job.input.notify[index]));
    let finished = job.run.end.as_ref().map_or(now, |end| end.finished);
    let tell = &mut job.run.tells[index];
    tell.attempts += 1;
    let Err(Untold { error, is_temporary, delay }) = result else {
        tell.state = TellState::Delivered;
        tell.error = None;
        return;
    };
    let (range, notify_for) = (*engine.config.backoff.start()..=LONGEST_TELL, engine.config.notify_for);
    let wait = engine.backoff(tell.attempts, &range).max(delay.unwrap_or_default());
    tell.due = now + wait;
    // A clock that has just leapt gives up nothing. Who has just come cannot know that, but how long was waited.
    let waited = || (1..=tell.attempts).map(|tries| longest_backoff(tries, &range)).sum::<u64>();
    let is_late = tell.due > finished + notify_for
        && (engine.clock.is_steady() || waited() >= notify_for.as_millis() as u64);
    if is_temporary && !is_late {
        log::error(format_args!("job {id}: {uri}: {error}; trying again in {} ms", wait.as_millis() as u64));
    } else {
        tell.state = TellState::Failed;
        log::error(format_args!("job {id}: {uri}: {error}; giving up after {} attempts", tell.attempts));
    }
    tell.error = Some(error);
}

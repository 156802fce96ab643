//! A job as its clients see it.

use serde_json::{Value, json};

use super::links::Links;
use crate::jobs::job::{Id, Input, Job, Run, State, Tell};
use crate::jobs::store::Found;

/// The body of the 202 and of everything else that only says where a job stands.
pub fn brief(id: Id, state: State, links: &Links) -> Value {
    json!({ "id": id.to_string(), "state": state, "status": links.job(id) })
}

/// All that clients may know of a job but its output, whose URL it has.
pub fn full(found: &Found, links: &Links) -> Value {
    let mut job = without_targets(&found.job, found.state(), links);
    job["notifications"] = notifications(&found.job.input, &found.job.run).into();
    job
}

/// The same without whom it is told to, which is what those hear.
pub fn without_targets(job: &Job, state: State, links: &Links) -> Value {
    let (id, input, run) = (job.id, &job.input, &job.run);
    let has_begun = matches!(state, State::Running | State::Succeeded);
    json!({
        "id": id.to_string(),
        "worker": input.worker,
        "state": state,
        "progress": run.progress,
        // Of the step that it is at: a step that succeeds clears its failures.
        "attempts": run.tries + u32::from(has_begun),
        "created": id.created().to_string(),
        "begun": run.begun.map(|begun| begun.to_string()),
        "updated": run.updated.max(id.created()).to_string(),
        "finished": run.end.as_ref().filter(|_| state.is_end()).map(|end| end.finished.to_string()),
        "error": run.error,
        "output": (state == State::Succeeded).then(|| format!("{}/output", links.job(id))),
    })
}

/// How the targets stand that are to be told of the end; of a job that was cancelled, none is.
fn notifications(input: &Input, run: &Run) -> Vec<Value> {
    let none = Tell::default();
    let is_cancelled = run.end.as_ref().is_some_and(|end| end.state == State::Cancelled);
    let targets = input.notify.iter().enumerate().filter(|_| !is_cancelled);
    let one = |(index, target): (usize, &String)| {
        let tell = run.tells.get(index).unwrap_or(&none);
        json!({ "target": target, "state": tell.state, "attempts": tell.attempts, "error": tell.error })
    };
    targets.map(one).collect()
}

//! A job as its clients see it.

use serde_json::{Value, json};

use super::engine::state_of;
use super::job::{Job, State};
use super::store::Place;

/// The URL of a job, on this component.
pub fn url(id: impl std::fmt::Display) -> String {
    format!("/jobs/{id}")
}

/// The body of the 202 and of everything else that only says where a job stands.
pub fn brief(id: impl std::fmt::Display, state: State) -> Value {
    json!({ "id": id.to_string(), "state": state, "status": url(id) })
}

/// All that clients may know of a job but its output, whose URL it has.
pub fn full(job: &Job, place: Place) -> Value {
    let (id, run) = (job.id, &job.run);
    let state = state_of(job, place);
    let begun = matches!(state, State::Running | State::Succeeded);
    json!({
        "id": id.to_string(),
        "worker": job.input.worker,
        "state": state,
        "progress": run.progress,
        // Of the step that it is at: a step that succeeds clears its failures.
        "attempts": run.tries + u32::from(begun),
        "created": id.created().to_string(),
        "updated": run.updated.to_string(),
        "finished": run.end.as_ref().map(|end| end.finished.to_string()),
        "error": run.error,
        "output": (state == State::Succeeded).then(|| format!("{}/output", url(id))),
    })
}

//! A job: a request's work.

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

/// A request's work, from its ack to its end.
#[derive(Debug)]
pub struct Job {
    /// A UUID of version 7: ids sort by the time of their jobs.
    pub id: String,
    /// Where it stands.
    pub state: State,
    /// The request's body.
    pub input: Bytes,
    /// What the last finished step left for the next one; nothing before the first.
    pub checkpoint: Vec<u8>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Accepted, and not begun.
    Queued,
    /// One of its steps runs, or is waited for.
    Running,
    /// It has its output.
    Succeeded,
    /// It has its error.
    Failed,
}

impl Job {
    /// A new job with this input.
    pub fn new(input: Bytes) -> Job {
        let id = Uuid::now_v7().to_string();
        Job { id, state: State::Queued, input, checkpoint: Vec::new() }
    }
}

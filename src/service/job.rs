//! A job: a request's work, and how far it has come.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::time::Time;

/// A job's name: a UUID of version 7, so that ids sort by the time of their jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(Uuid);

impl Id {
    pub fn new() -> Id {
        Id(Uuid::now_v7())
    }

    /// The id that is written exactly like this; nothing else ever becomes a part of a path.
    pub fn parse(text: &str) -> Option<Id> {
        let id = Id(Uuid::try_parse(text).ok()?);
        (id.0.get_version_num() == 7 && id.to_string() == text).then_some(id)
    }

    /// A part of it that nobody can foresee.
    pub fn random(self) -> u32 {
        self.0.as_u128() as u32
    }

    /// When the job was accepted.
    pub fn created(self) -> Time {
        Time((self.0.as_u128() >> 80) as u64)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// What was accepted. It never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The worker's name.
    pub worker: String,
    /// The request's `Content-Type`.
    pub content_type: Option<String>,
    /// Whom the job's end is told to: URIs.
    pub notify: Vec<String>,
    /// The digest of its idempotency key, if it has one.
    pub key: Option<String>,
    /// The request's body.
    #[serde(skip)]
    pub body: Vec<u8>,
}

/// How far a job has come. It is stored after every step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Grows by one each time it is stored.
    pub version: u64,
    /// When it was stored.
    pub updated: Time,
    /// When it goes on.
    pub due: Time,
    /// How often the step that comes next has failed so far.
    pub tries: u32,
    /// Its instance was lost, perhaps through its fault: its next step runs alone.
    pub suspect: bool,
    /// Its step runs alone right now.
    pub alone: bool,
    /// What the worker says of it.
    pub progress: Option<Progress>,
    /// What went wrong last.
    pub error: Option<String>,
    /// How it ended.
    pub end: Option<End>,
    /// How many of `Input::notify` have been told of the end, or given up.
    pub told: usize,
    /// How often telling the next one has failed so far.
    pub tells: u32,
    /// What the last step left for the next one; after success, the output.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// How far a job has come, in its worker's own measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
    pub message: String,
}

/// How and when a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Succeeded, failed or cancelled.
    pub state: State,
    pub finished: Time,
    /// The output's content type.
    pub content_type: Option<String>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Accepted; it waits for its turn, its time or its next attempt.
    Queued,
    /// A drain has claimed it.
    Running,
    /// It has its output.
    Succeeded,
    /// It has its error.
    Failed,
    /// Somebody did not want it any more.
    Cancelled,
}

impl State {
    /// As it is written in JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }
}

/// A job: its name, what was accepted, how far it has come.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: Id,
    pub input: Input,
    pub run: Run,
}

impl Run {
    /// Whether it has ended and all have been told.
    pub fn is_over(&self, input: &Input) -> bool {
        self.end.is_some() && self.told >= input.notify.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_only_as_it_is_written() {
        let id = Id::new();
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        let text = id.to_string();
        for other in [
            text.to_uppercase(),
            text.replace('-', ""),
            format!("{{{text}}}"),
            format!("urn:uuid:{text}"),
            format!("{text}/"),
            "../../etc/passwd".into(),
            "f47ac10b-58cc-4372-a567-0e02b2c3d479".into(), // version 4
            String::new(),
        ] {
            assert_eq!(Id::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn an_id_knows_its_time() {
        let (before, id, after) = (Time::now(), Id::new(), Time::now());
        assert!((before..=after).contains(&id.created()), "{before} {} {after}", id.created());
    }
}

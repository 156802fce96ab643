//! A job: a request's work, and how far it has come.

use std::fmt;
use std::ops::{Not, Range};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

use super::host::Host;
use super::options::{Delay, Group};
use super::store::Kind;
use super::time::Time;

/// A job's name: a UUID of version 7, so that ids sort by the time of their jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Uuid);

impl Id {
    /// A new id, for a job that is accepted now.
    pub fn new(host: &dyn Host) -> Id {
        Id::at(host.wall(), host)
    }

    /// One for a job that is accepted at this time.
    pub fn at(time: Time, host: &dyn Host) -> Id {
        let random = (u128::from(host.random()) << 64 | u128::from(host.random())).to_be_bytes();
        let mut last = [0; 10];
        last.copy_from_slice(&random[..10]);
        Id(Builder::from_unix_timestamp_millis(time.0, &last).into_uuid())
    }

    /// The id that is written exactly like this; nothing else ever becomes a part of a path.
    pub fn parse(text: &str) -> Option<Id> {
        let id = Id(Uuid::try_parse(text).ok()?);
        (id.0.get_version_num() == 7 && id.to_string() == text).then_some(id)
    }

    /// Its 16 bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// The id with these bytes, if it is one.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Id> {
        let id = Id(Uuid::from_bytes(bytes));
        (id.0.get_version_num() == 7).then_some(id)
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
    /// Fields of the request that its worker is to have, by their names in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Whom the job's end is told to: URIs.
    pub notify: Vec<String>,
    /// The digest of its idempotency key, if it has one.
    pub key: Option<String>,
    /// The digest of the request, to compare with others under the same key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// How much later than now it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// The jobs that it runs after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// How many bytes the body has.
    #[serde(skip)]
    pub size: usize,
    /// The request's body, if it is loaded.
    #[serde(skip)]
    pub body: Vec<u8>,
}

/// How far a job has come. It is stored after every step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Grows each time it is stored.
    pub version: u64,
    /// When it was stored.
    pub updated: Time,
    /// When its first step began.
    pub begun: Option<Time>,
    /// What it waits for, if it waits for its time.
    pub wait: Option<Wait>,
    /// What it has waited for last, as that was stored, though a clock may have been wrong: it is over.
    pub waited: Option<Wait>,
    /// How often the step that comes next has failed so far.
    pub tries: u32,
    /// How often the job was queued again after its end.
    pub round: u32,
    /// What has begun it again last, if that was a retry of many jobs at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_by: Option<String>,
    /// How often its instance was lost during the step that comes next.
    pub lost: u32,
    /// That step runs in an instance of its own right now.
    pub alone: bool,
    /// How many results of its steps are recorded, and how many of them at once at last.
    pub recorded: u32,
    pub recorded_last: u32,
    /// A worker that does one step at a time has left a checkpoint.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub has_checkpoint: bool,
    /// What the worker says of it.
    pub progress: Option<Progress>,
    /// What went wrong last.
    pub error: Option<String>,
    /// How it ended.
    pub end: Option<End>,
    /// Who has been told of the end: as many as `Input::notify` has, once it has ended.
    pub tells: Vec<Tell>,
    /// After success, the output; before, the last checkpoint.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// What a job has recorded of one of its steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The step's name.
    pub step: String,
    pub what: What,
    /// The step's result, in JSON; or what went wrong, in words.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// It has this result, and is not run again.
    Done,
    /// It waits until then.
    Sleep(Wait),
    /// It has failed for the `tries`th time in this round; it is tried again unless that is final.
    Failed { round: u32, tries: u32, is_final: bool },
}

/// A wait for a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wait {
    /// When it is over.
    pub until: Time,
    /// When it began. If that is yet to come, a clock was wrong, and `until` is as wrong.
    pub since: Time,
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
    /// The version that it was stored as.
    pub version: u64,
    pub finished: Time,
    /// The output's content type.
    pub content_type: Option<String>,
}

/// Whether a target has been told of a job's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tell {
    pub state: TellState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub due: Time,
    /// What went wrong last.
    pub error: Option<String>,
}

/// How telling a target stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TellState {
    /// It will be tried, or tried again.
    #[default]
    Waiting,
    /// The target has taken it.
    Delivered,
    /// It was refused for good, or tried for too long.
    Failed,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
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
    /// Those in which a job has ended.
    pub const ENDS: [State; 3] = [State::Succeeded, State::Failed, State::Cancelled];

    /// All of them.
    pub const ALL: [State; 5] =
        [State::Queued, State::Running, State::Succeeded, State::Failed, State::Cancelled];

    /// The state of this name.
    pub fn parse(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

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

    /// Whether a job in this state has ended.
    pub fn is_end(self) -> bool {
        State::ENDS.contains(&self)
    }
}

impl From<State> for &'static str {
    fn from(state: State) -> &'static str {
        state.name()
    }
}

impl TryFrom<String> for State {
    type Error = String;

    fn try_from(name: String) -> Result<State, String> {
        State::parse(&name).ok_or_else(|| format!("unknown state `{name}`"))
    }
}

/// A job: its name, what was accepted, how far it has come.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: Id,
    pub input: Input,
    pub run: Run,
    /// What it is claimed for.
    pub claim: Kind,
    /// The last version that is stored durably.
    pub durable: u64,
    /// Where its record begins and ends, as its store counts.
    pub record: Range<u64>,
}

impl Job {
    /// A job as it was read. Until it has begun, it waits as it was accepted.
    pub fn new(id: Id, input: Input, mut run: Run, claim: Kind) -> Job {
        if run.version == 0 {
            run.wait = input.wait(id);
        }
        Job { id, durable: run.version, input, run, claim, record: 0..0 }
    }
}

impl Input {
    /// What a job that is accepted waits for first.
    pub fn wait(&self, id: Id) -> Option<Wait> {
        self.delay.map(|delay| Wait::new(id.created(), delay.time()))
    }
}

impl Wait {
    /// This long, from now on.
    pub fn new(now: Time, time: Duration) -> Wait {
        Wait { until: now + time, since: now }
    }
}

impl Run {
    /// When the next target is to be told, if the job has ended and there is one.
    pub fn tell_at(&self) -> Option<Time> {
        let waiting = self.tells.iter().filter(|tell| tell.state == TellState::Waiting);
        self.end.as_ref().and(waiting.map(|tell| tell.due).min())
    }

    /// The last checkpoint, if there has been one.
    pub fn checkpoint(&self) -> Option<&[u8]> {
        self.has_checkpoint.then_some(&*self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::host::tests::Native;

    #[test]
    fn an_id_is_read_only_as_it_is_written() {
        let id = Id::new(&Native);
        let text = id.to_string();
        assert_eq!(Id::parse(&text), Some(id));
        assert_eq!(Id::from_bytes(id.bytes()), Some(id));
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
        let (before, id, after) = (Native.wall(), Id::new(&Native), Native.wall());
        assert!((before..=after).contains(&id.created()), "{before} {} {after}", id.created());
    }
}

//! Workers: the code that does a kind of job.
//!
//! A worker is an `async fn` whose steps are recorded. What it knows of the steps before is in the record, never
//! in the instance, so that any invocation can go on with the job.

mod course;
#[cfg(feature = "component")]
mod demo;
mod http;
mod outcome;
#[cfg(feature = "plugin")]
mod plugin;
mod steps;

use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::job::Input;
use crate::{HeaderMap, Problem, StatusCode};
pub(crate) use course::{Course, Want};
#[cfg(feature = "component")]
pub(crate) use demo::demo;
pub(crate) use http::{Upstream, worker as upstream};
pub(crate) use outcome::{Checkpoint, LARGEST, Next};
pub use outcome::{Failure, Output};
#[cfg(feature = "plugin")]
pub(crate) use plugin::plug_ins;
pub use steps::Job;
pub(crate) use steps::overdue;

/// The longest field of a request that is recorded with its job, in bytes: as long as a `tracestate` has to be
/// propagated.
const HEADER: usize = 512;

/// What a worker does with a job.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Next, Failure>>>>;

/// What a worker says of an input.
type Check = dyn Fn(&Input) -> Result<(), Problem>;

/// The code that does a kind of job, and its terms.
///
/// ```
/// # use std::time::Duration;
/// # use afterack::{Problem, StatusCode};
/// # use afterack::jobs::{Failure, Input, Job, Output, Worker};
/// # async fn resize(job: Job) -> Result<Output, Failure> { Ok(Output::empty()) }
/// let worker = Worker::new("resize", resize)
///     .check(|input| match input.content_type() {
///         Some("image/png") => Ok(()),
///         _ => Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected image/png")),
///     })
///     .body(10 << 20)
///     .step(Duration::from_secs(60))
///     .attempts(3);
/// ```
#[derive(Clone)]
pub struct Worker {
    name: String,
    work: Rc<dyn Fn(Job) -> Work>,
    check: Rc<Check>,
    headers: Vec<String>,
    terms: Terms,
}

/// What a worker's jobs may take. What is not said is as the settings have it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub attempts: Option<u32>,
    pub backoff: Option<RangeInclusive<Duration>>,
    pub body: Option<u64>,
    pub step: Option<Duration>,
}

impl Worker {
    /// A worker of this name, as in `POST /jobs/{name}`.
    pub fn new<W>(name: impl Into<String>, work: W) -> Worker
    where
        W: AsyncFn(Job) -> Result<Output, Failure> + 'static,
    {
        let work = Rc::new(work);
        Worker::of(name, move |job| {
            let work = work.clone();
            Box::pin(async move { work(job).await.map(Next::Done) })
        })
    }

    /// A worker that does one step at a time: it is given what the one before has left, the
    /// [checkpoint](Job::checkpoint).
    #[cfg(any(feature = "plugin", test))]
    pub(crate) fn stepwise(
        name: impl Into<String>,
        step: impl Fn(&Job) -> Result<Next, Failure> + 'static,
    ) -> Worker {
        let step = Rc::new(step);
        Worker::of(name, move |job| {
            let step = step.clone();
            Box::pin(async move { step(&job) })
        })
    }

    fn of(name: impl Into<String>, work: impl Fn(Job) -> Work + 'static) -> Worker {
        Worker {
            name: name.into(),
            work: Rc::new(work),
            check: Rc::new(|_| Ok(())),
            headers: Vec::new(),
            terms: Terms::default(),
        }
    }

    /// Asked before a job is accepted whether the worker takes this input: a problem is what the client hears
    /// instead, such as 400, 415 or 422.
    pub fn check(self, check: impl Fn(&Input) -> Result<(), Problem> + 'static) -> Worker {
        Worker { check: Rc::new(check), ..self }
    }

    /// Records these fields of a request with its job, for [`Input::header`]: at most 512 bytes of each. A request
    /// with more of one is accepted without it.
    pub fn headers<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Worker {
        Worker { headers: names.into_iter().map(str::to_ascii_lowercase).collect(), ..self }
    }

    /// How often a step is tried, instead of `AFTERACK_ATTEMPTS`. At least once.
    pub fn attempts(mut self, attempts: u32) -> Worker {
        self.terms.attempts = Some(attempts.max(1));
        self
    }

    /// The shortest and the longest time between two tries, instead of `AFTERACK_BACKOFF`.
    pub fn backoff(mut self, backoff: RangeInclusive<Duration>) -> Worker {
        self.terms.backoff = Some(backoff);
        self
    }

    /// The largest input, in bytes, instead of `AFTERACK_BODY`.
    pub fn body(mut self, bytes: u64) -> Worker {
        self.terms.body = Some(bytes);
        self
    }

    /// How long a step may take, instead of `AFTERACK_STEP`. Then it has failed, and is tried again. A step that
    /// computes can be ended only where it awaits something.
    pub fn step(mut self, time: Duration) -> Worker {
        self.terms.step = Some(time);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The fields of a request that are recorded with its job.
    pub(crate) fn kept(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let value = |name: &str| {
            let lines: Option<Vec<_>> = headers.get_all(name).iter().map(|line| line.to_str().ok()).collect();
            let value = lines?.join(", ");
            (1..=HEADER).contains(&value.len()).then_some(value)
        };
        self.headers.iter().filter_map(|name| Some((name.clone(), value(name)?))).collect()
    }

    /// Whether it takes this input, and if not, why.
    pub(crate) fn takes(&self, input: &Input) -> Result<(), Problem> {
        (self.check)(input)
    }

    /// What it does with a job.
    pub(crate) fn begin(&self, job: Job) -> Work {
        (self.work)(job)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("name", &self.name).field("terms", &self.terms).finish_non_exhaustive()
    }
}

/// All workers of a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workers(Vec<Worker>);

impl Workers {
    /// Adds one.
    ///
    /// # Panics
    /// If its name cannot be one, or is another's.
    pub fn add(&mut self, worker: Worker) {
        let name = worker.name();
        let is_right = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        assert!(
            (1..=64).contains(&name.len()) && name.chars().all(is_right) && name != "retry",
            "invalid worker name `{name}` (expected 1 to 64 of a-z, 0-9, - _ . and not `retry`)"
        );
        assert!(self.0.iter().all(|other| other.name() != name), "two workers of the name `{name}`");
        self.0.push(worker);
    }

    /// The worker of this name.
    ///
    /// # Errors
    /// A 404 problem that names it and the ones there are.
    pub fn find(&self, name: &str) -> Result<&Worker, Problem> {
        self.0.iter().find(|worker| worker.name() == name).ok_or_else(|| {
            let names: Vec<_> = self.0.iter().map(Worker::name).collect();
            let detail = format!("no worker `{name}` (available: {})", names.join(", "));
            Problem::new(StatusCode::NOT_FOUND, detail)
        })
    }
}

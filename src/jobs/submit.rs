//! Jobs that a service's own code brings: its routes, and its workers.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::engine::Engine;
use super::job::Id;
use super::options::{Delay, Group};
use super::{Input, notify};
use crate::{Problem, StatusCode};

thread_local! {
    /// What this invocation submits to.
    static ENGINE: RefCell<Option<Rc<Engine>>> = const { RefCell::new(None) };
}

/// From here on, what is submitted goes to this engine's store.
pub fn submit_to(engine: &Rc<Engine>) {
    ENGINE.set(Some(engine.clone()));
}

/// A job for this worker of the service, to be [recorded](Submission::record).
///
/// ```no_run
/// # use afterack::{Ack, BoxError, Bytes, Reply, Request, StatusCode};
/// use afterack::jobs::submit;
///
/// async fn routes(request: Request<Bytes>, reply: Reply) -> Result<(), BoxError> {
///     let order = String::from_utf8(request.into_body().to_vec())?;
///     let ack = match submit("order", order).record() {
///         Ok(job) => Ack::empty().status(StatusCode::SEE_OTHER)?.header("location", job.path())?,
///         Err(problem) => problem.into(),
///     };
///     reply.finish(ack).await;
///     Ok(())
/// }
/// ```
pub fn submit(worker: impl Into<String>, input: impl Into<Input>) -> Submission {
    let input = Input { worker: worker.into(), ..input.into() };
    Submission { input, key: None, targets: Vec::new(), delay: Duration::ZERO, group: None }
}

/// A job that is about to be recorded.
#[derive(Clone, Debug)]
#[must_use = "nothing is recorded before `record`"]
pub struct Submission {
    input: Input,
    key: Option<String>,
    targets: Vec<String>,
    delay: Duration,
    group: Option<String>,
}

impl Submission {
    /// Makes it one job however often it is submitted with this key, 1 to 255 bytes: a delivery's id, or what a step
    /// of another job calls it. The same as `Idempotency-Key`, and as much the worker's own.
    pub fn key(self, key: impl Into<String>) -> Submission {
        Submission { key: Some(key.into()), ..self }
    }

    /// Tells this target of the job's end, a URI as in `Notify`.
    pub fn notify(mut self, target: impl Into<String>) -> Submission {
        self.targets.push(target.into());
        self
    }

    /// Lets it begin so much later, at most a year. The same as `Delay`.
    pub fn delay(self, delay: Duration) -> Submission {
        Submission { delay, ..self }
    }

    /// Puts it into this group, 1 to 255 visible ASCII characters, whose jobs run one after the other, in the order
    /// in which they were recorded. The same as `Job-Group`.
    pub fn group(self, name: impl Into<String>) -> Submission {
        Submission { group: Some(name.into()), ..self }
    }

    /// Records the job: from here on it survives whatever happens to the host.
    ///
    /// # Errors
    /// What `POST /jobs/{worker}` answers instead of a 202: 400, 403, 404, 413, 415, 422, 429 or 503.
    pub fn record(self) -> Result<Submitted, Problem> {
        let engine = ENGINE.with_borrow(Clone::clone).ok_or_else(|| {
            let detail = "nothing can be submitted here: no service is running (see afterack::jobs!)";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
        })?;
        let notify = notify::check(self.targets.iter().map(String::as_str), engine.config())?;
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let delay = Delay::new(self.delay).map_err(bad)?;
        let group = self.group.map(|name| Group::new(&name)).transpose().map_err(bad)?;
        let input = Input { notify, delay, group, ..self.input };
        let (id, is_new) = engine.submit(input, self.key.as_deref())?;
        Ok(Submitted { id, is_new })
    }
}

/// A job that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    id: Id,
    is_new: bool,
}

impl Submitted {
    /// The job's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Whether it is a new job; if not, its key had been used before for the same.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Where its status is: `/jobs/{id}`.
    pub fn path(&self) -> String {
        format!("/jobs/{}", self.id)
    }
}

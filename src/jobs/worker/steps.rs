//! A job as its worker has it: its input, and steps that are recorded.

use std::fmt::{self, Debug};
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Course, Failure, Want};
use crate::jobs::job::{Id, Input, Progress, What};

/// A job, as its worker has it.
///
/// The worker's code may be run many times, in one instance after another: after a crash, a restart, a long
/// sleep, a failure. Each time it begins at its beginning, and gets from [`step`](Job::step) and
/// [`sleep`](Job::sleep) what was recorded before, until it comes to what is new. So everything that has an effect,
/// or may have another result the next time, belongs into a step; and between the steps the code must come to the
/// same steps again.
///
/// ```
/// # use std::time::Duration;
/// # use afterack::jobs::{Failure, Job, Output};
/// # #[derive(serde::Deserialize)] struct Order { id: u64 }
/// # async fn charge(order: &Order) -> Result<String, std::io::Error> { Ok(String::new()) }
/// # async fn ship(order: &Order) -> Result<(), std::io::Error> { Ok(()) }
/// async fn order(job: Job) -> Result<Output, Failure> {
///     let order: Order = job.json()?;
///     let receipt = job.step("charge", || charge(&order)).await?;
///     job.sleep("time to cancel", Duration::from_secs(3600)).await?;
///     job.step("ship", || ship(&order)).await?;
///     Ok(Output::text(receipt))
/// }
/// ```
#[derive(Clone)]
pub struct Job {
    course: Rc<Course>,
}

impl Job {
    pub(crate) fn new(course: Rc<Course>) -> Job {
        Job { course }
    }

    /// Its id: what makes an effect idempotent elsewhere, such as an `Idempotency-Key`.
    pub fn id(&self) -> Id {
        self.course.id
    }

    /// What was accepted.
    pub fn input(&self) -> &Input {
        &self.course.input
    }

    /// The input as it came.
    pub fn bytes(&self) -> &[u8] {
        self.input().bytes()
    }

    /// The input as text.
    ///
    /// # Errors
    /// A fatal failure if it is not UTF-8.
    pub fn text(&self) -> Result<&str, Failure> {
        Ok(self.input().text()?)
    }

    /// The input as JSON.
    ///
    /// # Errors
    /// A fatal failure if it is none, or not of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Ok(self.input().json()?)
    }

    /// The input as an HTML form sends it (`application/x-www-form-urlencoded`).
    ///
    /// # Errors
    /// A fatal failure if it is none, or not of this type.
    pub fn form<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Ok(self.input().form()?)
    }

    /// Which attempt the step is in whose work this is asked, or outside of them the one that ran last, or before
    /// the first one the job itself: 1 at first, one more after each failure.
    pub fn attempt(&self) -> u32 {
        self.course.tries.get() + 1
    }

    /// What the step before has left; nothing before the first one.
    #[cfg(any(feature = "plugin", test))]
    pub(crate) fn checkpoint(&self) -> Option<Vec<u8>> {
        self.course.checkpoint.take()
    }

    /// Runs some work once. Its result is recorded before it is given, and whenever the job's code comes here again,
    /// it gets that, and the work is not run.
    ///
    /// The name is the step's own in its job: in a loop, number it. At most 255 bytes. A failure is tried again
    /// alone, after a backoff, until the job's attempts are spent. Steps may run side by side.
    ///
    /// # Errors
    /// The failure of the last attempt, which is fatal now. And fatal failures that name the step: two steps of one
    /// name; a result that JSON cannot express, for which `AFTERACK_RECORD` leaves no room, or which was recorded
    /// and is not of this type any more.
    pub async fn step<T, E>(
        &self,
        name: impl Into<String>,
        mut work: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, Failure>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Failure>,
    {
        let name = name.into();
        let mut tries = match self.course.enter(&name)? {
            None => 0,
            Some((What::Done, result)) => return self.parse(&name, &result),
            Some((What::Failed { is_final: true, .. }, error)) => {
                return Err(Failure::fatal(String::from_utf8_lossy(&error)));
            }
            Some((What::Failed { tries, .. }, _)) => tries,
            Some((What::Sleep(_), _)) => return Err(changed(&name, "a sleep was recorded under this name")),
        };
        loop {
            self.course.go_on().await;
            let failure = match self.course.run(tries, &mut work).await {
                Some(Ok(value)) => match self.result(&name, &value) {
                    Ok(result) => {
                        self.course.record(Want::Done { step: name, result }).await;
                        return Ok(value);
                    }
                    Err(failure) => failure,
                },
                Some(Err(error)) => error.into(),
                None => overdue(&format!("step `{name}`"), self.course.step.unwrap_or_default()),
            };
            tries += 1;
            let is_final = failure.is_fatal() || tries >= self.course.attempts;
            let (key, error) = (self.course.key(), failure.message().to_owned());
            self.course.record(Want::Failed { step: name.clone(), tries, is_final, failure, key }).await;
            if is_final {
                return Err(Failure::fatal(error));
            }
            self.course.park(key, None).await;
        }
    }

    /// Waits. When that ends is recorded as it begins, and does not change by whatever happens meanwhile. A long
    /// sleep holds no instance.
    ///
    /// # Errors
    /// A fatal failure if another step has this name.
    pub async fn sleep(&self, name: impl Into<String>, time: Duration) -> Result<(), Failure> {
        let name = name.into();
        let key = self.course.key();
        match self.course.enter(&name)? {
            None => {
                self.course.go_on().await;
                self.course.record(Want::Sleep { step: name, time, key }).await;
                self.course.park(key, None).await;
            }
            Some((What::Sleep(wait), _)) => self.course.park(key, Some(wait)).await,
            Some((What::Done | What::Failed { .. }, _)) => {
                return Err(changed(&name, "a step was recorded under this name"));
            }
        }
        Ok(())
    }

    /// Says how far the job has come, in a measure of its own. Its status shows that within a second. At most 255
    /// bytes of the message.
    pub fn progress(&self, done: impl TryInto<u64>, total: impl TryInto<u64>, message: impl Into<String>) {
        let (done, total) = (done.try_into().unwrap_or(u64::MAX), total.try_into().unwrap_or(u64::MAX));
        self.course.set_progress(Progress { done, total, message: message.into() });
    }

    /// A result as it is recorded.
    fn result(&self, name: &str, value: &impl Serialize) -> Result<Vec<u8>, Failure> {
        let result = serde_json::to_vec(value).map_err(|error| {
            Failure::fatal(format!("step `{name}`: result cannot be written as JSON: {error}"))
        })?;
        let size = name.len() + result.len();
        self.course.room_for(size).map_err(|taken| {
            let most = self.course.most;
            Failure::fatal(format!(
                "step `{name}`: result too large: {size} bytes, and {taken} are recorded (limit AFTERACK_RECORD, {most})"
            ))
        })?;
        Ok(result)
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, result: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(result).map_err(|error| changed(name, &format!("recorded result: {error}")))
    }
}

impl Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id())
            .field("worker", &self.input().worker)
            .finish_non_exhaustive()
    }
}

/// What has not ended in time.
pub(crate) fn overdue(what: &str, limit: Duration) -> Failure {
    Failure::retry(format!("{what} took too long (limit {})", humantime::format_duration(limit)))
}

/// What was recorded does not fit the code any more.
fn changed(name: &str, reason: &str) -> Failure {
    Failure::fatal(format!("step `{name}`: the job's code has changed since it began: {reason}"))
}

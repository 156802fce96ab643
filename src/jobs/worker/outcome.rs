//! What a job comes to: an output, or a failure.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::Bytes;

/// The largest output, in bytes: 64 MiB.
pub const LARGEST: usize = 64 << 20;

/// What comes after a worker's code has ended well.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing: the job has succeeded.
    Done(Output),
    /// The same code again, which is given the checkpoint.
    #[cfg_attr(
        not(any(feature = "plugin", test)),
        expect(dead_code, reason = "only plug-ins have checkpoints")
    )]
    Again(Checkpoint),
}

/// All that a job knows when its worker's code begins again, and how long it waits before that.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub bytes: Vec<u8>,
    pub wait: Duration,
}

/// What a job has made. `GET /jobs/{id}/output` gives it to whoever asks, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub(crate) content_type: String,
    pub(crate) bytes: Bytes,
}

impl Output {
    /// These bytes, of this content type. At most 64 MiB: with more, the job fails.
    pub fn new(content_type: impl Into<String>, bytes: impl Into<Bytes>) -> Output {
        Output { content_type: content_type.into(), bytes: bytes.into() }
    }

    /// Text (`text/plain; charset=utf-8`).
    pub fn text(text: impl Into<String>) -> Output {
        Output::new("text/plain; charset=utf-8", text.into())
    }

    /// A value as JSON (`application/json`).
    ///
    /// # Errors
    /// A fatal failure if JSON cannot express it.
    pub fn json(value: &impl Serialize) -> Result<Output, Failure> {
        let json = serde_json::to_vec(value)
            .map_err(|error| Failure::fatal(format!("output cannot be written as JSON: {error}")))?;
        Ok(Output::new("application/json", json))
    }

    /// Nothing.
    pub fn empty() -> Output {
        Output::text("")
    }
}

/// Why a job or one of its steps did not end well: for now, or for good.
///
/// Any [`std::error::Error`] becomes a failure by `?`, one that is tried again. So this type is none itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
    is_final: bool,
    after: Option<Duration>,
}

impl Failure {
    /// It may work another time: the step is tried again, after the job's backoff, until its attempts are spent.
    pub fn retry(message: impl fmt::Display) -> Failure {
        Failure { message: message.to_string(), is_final: false, after: None }
    }

    /// It never will: the job has failed.
    pub fn fatal(message: impl fmt::Display) -> Failure {
        Failure { message: message.to_string(), is_final: true, after: None }
    }

    /// Not to be tried again before so much time has passed, as `Retry-After` asks for. The backoff holds if it
    /// is longer. `None` asks for nothing.
    pub fn after(self, time: impl Into<Option<Duration>>) -> Failure {
        Failure { after: time.into(), ..self }
    }

    /// What went wrong, in words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether it is not tried again.
    pub fn is_fatal(&self) -> bool {
        self.is_final
    }

    /// How long not to try again, at least.
    pub(crate) fn delay(&self) -> Option<Duration> {
        self.after
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Error> From<E> for Failure {
    /// The error with its causes.
    fn from(error: E) -> Failure {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Failure::retry(message)
    }
}

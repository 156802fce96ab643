//! What a job was given to work on.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use super::job::Input;
use super::worker::Failure;
use crate::{Problem, StatusCode};

impl Input {
    /// These bytes, of this content type.
    pub fn new(content_type: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Input {
        let body = bytes.into();
        Input { content_type: Some(content_type.into()), size: body.len(), body, ..Input::default() }
    }

    /// A value as JSON.
    ///
    /// # Errors
    /// If JSON cannot express it.
    pub fn from_json(value: &impl Serialize) -> Result<Input, serde_json::Error> {
        Ok(Input::new("application/json", serde_json::to_vec(value)?))
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The `Content-Type` they came with.
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// A field of the request, if [`Worker::headers`](super::Worker::headers) has named it and it came.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.0.eq_ignore_ascii_case(name));
        header.map(|(_, value)| value.as_str())
    }

    /// The text that they are.
    ///
    /// # Errors
    /// If they are not UTF-8.
    pub fn text(&self) -> Result<&str, InputError> {
        str::from_utf8(&self.body)
            .map_err(|error| InputError(format!("invalid input: {error} (expected text)")))
    }

    /// The value that they are in JSON, whatever the content type says.
    ///
    /// # Errors
    /// If they are no JSON, or not of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, InputError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| InputError(format!("invalid input: {error} (expected JSON)")))
    }

    /// The fields that an HTML form sends (`application/x-www-form-urlencoded`), as Slack's commands do.
    ///
    /// # Errors
    /// If they are none, or not of this type.
    pub fn form<T: DeserializeOwned>(&self) -> Result<T, InputError> {
        serde_urlencoded::from_bytes(&self.body)
            .map_err(|error| InputError(format!("invalid input: {error} (expected a form's fields)")))
    }
}

impl From<&str> for Input {
    fn from(text: &str) -> Input {
        Input::new("text/plain; charset=utf-8", text)
    }
}

impl From<String> for Input {
    fn from(text: String) -> Input {
        Input::new("text/plain; charset=utf-8", text)
    }
}

/// Why an input could not be read as what was expected. It becomes a 400 problem, or a fatal [`Failure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError(String);

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Failure {
        Failure::fatal(error)
    }
}

impl From<InputError> for Problem {
    fn from(error: InputError) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, error.0)
    }
}

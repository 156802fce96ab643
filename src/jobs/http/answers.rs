//! The answers that several routes give.

use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};

use crate::jobs::config::Config;
use crate::jobs::job::{Id, State};
use crate::{Ack, AckError, Bytes, Problem, Request, StatusCode};

/// What no cache keeps and no proxy changes.
const PRIVATE: &str = "no-store, no-transform";

/// JSON that no cache keeps and no proxy changes.
pub fn json(status: StatusCode, body: serde_json::Value) -> Result<Ack, Problem> {
    Ok(Ack::json(body.to_string()).status(status)?.header(CACHE_CONTROL, PRIVATE)?)
}

/// A job's output, as it is.
pub fn output(bytes: Vec<u8>, content_type: &str) -> Result<Ack, Problem> {
    let ack = Ack::binary(bytes).status(StatusCode::OK)?.header(CONTENT_TYPE, content_type)?;
    // It may come from anywhere: no browser should guess what it is.
    Ok(ack.header(CACHE_CONTROL, PRIVATE)?.header("x-content-type-options", "nosniff")?)
}

/// The head of a stream of events.
pub fn event_stream() -> Result<Ack, Problem> {
    let ack = Ack::empty().status(StatusCode::OK)?.header(CONTENT_TYPE, "text/event-stream")?;
    // nginx would hold the events back until the end.
    Ok(ack.header(CACHE_CONTROL, PRIVATE)?.header("x-accel-buffering", "no")?)
}

pub fn no_resource(path: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no resource at `{}`", excerpt(path)))
}

pub fn no_job(id: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no job `{}`", excerpt(id)))
}

pub fn conflict(id: Id, state: State, expected: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, format!("job {id} is {} (expected {expected})", state.name()))
}

pub fn not_allowed(request: &Request<Bytes>, methods: &'static str) -> Problem {
    let (method, path) = (request.method(), excerpt(request.uri().path()));
    let detail = format!("method not allowed: {method} on `{path}` (expected {methods})");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).with(ALLOW, HeaderValue::from_static(methods))
}

fn excerpt(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Lets through who has the token, if there is one ([RFC 6750](https://www.rfc-editor.org/rfc/rfc6750)).
pub fn authorize(request: &Request<Bytes>, config: &Config) -> Result<(), Problem> {
    let Some(token) = &config.token else { return Ok(()) };
    let mut given = request.headers().get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    let is_known = given.next().is_some_and(|given| {
        // RFC 9110 §11.4: the scheme in any case, then white space.
        let scheme = given.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        scheme && is_equal(given[7..].trim_ascii(), token.as_bytes())
    });
    if is_known && given.next().is_none() {
        return Ok(());
    }
    Err(unauthorized("missing or wrong token (expected `Authorization: Bearer` and the AFTERACK_TOKEN)"))
}

pub fn unauthorized(detail: &str) -> Problem {
    let challenge = HeaderValue::from_static("Bearer realm=\"afterack\"");
    Problem::new(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, challenge)
}

/// Compares in a time that does not tell where two secrets differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// An ack of our own that cannot be built is a mistake of ours.
impl From<AckError> for Problem {
    fn from(error: AckError) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

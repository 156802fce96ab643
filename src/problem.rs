//! Problem answers: `application/problem+json`, [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457).

use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::ack::{self, Body};
use crate::{Ack, AckError};

/// An error as the client gets it.
///
/// `detail` says what was wrong, what was given and what is expected; `title` is the status's own phrase.
///
/// ```
/// use afterack::{Ack, Problem, StatusCode};
///
/// let ack: Ack = Problem::new(StatusCode::NOT_FOUND, "there is no worker `mailer`").into();
/// ```
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    // Boxed, so that a `Result` with a problem for its error stays small.
    headers: Box<HeaderMap>,
}

impl Problem {
    /// A problem with this 4xx or 5xx status and this explanation of what went wrong this time.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
        Problem { status, detail: detail.into(), headers: Box::new(headers) }
    }

    /// Adds a header that the status calls for, such as `Allow` or `Retry-After`.
    ///
    /// # Errors
    /// Those of [`Ack::header`], whose rules are the same.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<Problem, AckError> {
        let length = self.body().len() as u64;
        ack::add(&mut self.headers, length, name.as_ref(), value.as_ref())?;
        Ok(self)
    }

    /// Adds one of our own headers, which need no check.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.append(name, value);
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What went wrong this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    fn body(&self) -> String {
        let title = self.status.canonical_reason().unwrap_or("Error");
        // A string always has a JSON form: serde_json fails for maps with odd keys, not for this.
        let detail = serde_json::to_string(&self.detail).unwrap_or_default();
        let status = self.status.as_u16();
        format!(r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":{detail}}}"#)
    }
}

impl From<Problem> for Ack {
    fn from(problem: Problem) -> Ack {
        let body = Body::Bytes(Bytes::from(problem.body()));
        Ack { status: problem.status, headers: *problem.headers, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_and_why_as_json() {
        let detail = "a \"quoted\" name\nand a line";
        let ack: Ack = Problem::new(StatusCode::NOT_FOUND, detail).into();
        let Body::Bytes(body) = &ack.body else { panic!("a problem has its body at hand") };
        let json: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!(json["status"], 404);
        assert_eq!(json["title"], "Not Found");
        assert_eq!(json["detail"], detail);
        assert_eq!(ack.headers[CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn a_problem_has_the_header_rules_of_an_ack() {
        let problem = || Problem::new(StatusCode::TOO_MANY_REQUESTS, "full");
        let length = problem().body().len() as u64;
        for name in ["Connection", "Transfer-Encoding", "proxy-anything"] {
            let error = problem().header(name, "close").unwrap_err();
            assert!(matches!(error, AckError::ForbiddenHeader(_)), "{error}");
        }
        for (name, value) in [("a b", "1"), ("x-split", "1\r\nSet-Cookie: a"), ("Content-Length", "-1")] {
            let error = problem().header(name, value).unwrap_err();
            assert!(matches!(error, AckError::InvalidHeader { .. }), "{error}");
        }
        let error = problem().header("Content-Length", "5").unwrap_err();
        assert!(matches!(error, AckError::WrongLength { declared: 5, actual, .. } if actual == length));
        let problem = problem().header("Content-Length", length.to_string()).unwrap();
        let problem = problem.header("Content-Type", "application/json").unwrap();
        let ack: Ack = problem.header("Retry-After", "5").unwrap().into();
        let (_, fields, _) = ack.into_parts(&http::Method::GET);
        let values = |name| fields.iter().filter(move |field| field.0 == name).map(|field| &field.1[..]);
        assert!(values("content-length").eq([length.to_string().as_bytes()]));
        assert!(values("content-type").eq([&b"application/json"[..]]));
        assert!(values("retry-after").eq([&b"5"[..]]));
    }
}

//! Problem answers: `application/problem+json`, [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457).

use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::Ack;
use crate::ack::Body;

/// An error as its client sees it.
///
/// `detail` names the thing, the value and the limit; the `title` is the status's own phrase.
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

    /// Sets a header that the status calls for, such as `Allow` or `Retry-After`.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.insert(name, value);
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
}

impl From<Problem> for Ack {
    fn from(problem: Problem) -> Ack {
        let title = problem.status.canonical_reason().unwrap_or("Error");
        // A string always has a JSON form: serde_json fails for maps with odd keys, not for this.
        let detail = serde_json::to_string(&problem.detail).unwrap_or_default();
        let status = problem.status.as_u16();
        let body =
            format!(r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":{detail}}}"#);
        let body = Body::Bytes(Bytes::from(body));
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
}

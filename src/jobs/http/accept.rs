//! `POST /jobs/{worker}`: what a request must be, and what becomes of it.

use std::mem;

use super::fields;
use crate::jobs::engine::Engine;
use crate::jobs::job::{Id, Input};
use crate::jobs::notify;
use crate::jobs::options::{Delay, Group};
use crate::{Bytes, HeaderMap, HeaderValue, Problem, Request, StatusCode, header};

/// Checks a request and records it as a job, which takes its body: its id, and whether it is a new one.
pub fn accept(request: &mut Request<Bytes>, worker: &str, engine: &Engine) -> Result<(Id, bool), Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let kind = engine.worker(worker)?;
    let body = mem::take(request.body_mut());
    let headers = request.headers();
    check_encoding(headers)?;
    let input = Input {
        worker: worker.into(),
        content_type: fields::one(headers, "content-type")?.map(str::to_owned),
        headers: kind.kept(headers),
        notify: notify::targets(headers, engine.config())?,
        delay: fields::one(headers, "delay")?.map_or(Ok(None), Delay::parse).map_err(bad)?,
        group: fields::one(headers, "job-group")?.map(Group::new).transpose().map_err(bad)?,
        size: body.len(),
        body: body.into(),
        ..Input::default()
    };
    // A key may be quoted, as the header's draft has it, or not.
    let key = fields::one(headers, "idempotency-key")?.map(fields::unquote);
    engine.accept(input, key.as_deref())
}

/// Bodies are stored as they come: one that is encoded would reach no worker that could read it
/// ([RFC 9110 §15.5.16](https://www.rfc-editor.org/rfc/rfc9110#section-15.5.16)).
fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let lines = headers.get_all("content-encoding").iter();
    let not_ascii = lines.filter(|line| line.to_str().is_err()).map(|line| format!("{line:?}"));
    let mut encodings = not_ascii.chain(fields::list(headers, "content-encoding"));
    match encodings.find(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        None => Ok(()),
        Some(encoding) => {
            let detail = format!("unsupported Content-Encoding: {encoding} (expected none)");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
                .with(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")))
        }
    }
}

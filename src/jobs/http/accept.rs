//! `POST /jobs/{worker}`: what a request must be, and what becomes of it.

use sha2::{Digest, Sha256};

use super::fields;
use crate::jobs::config::Config;
use crate::jobs::host::Host;
use crate::jobs::job::{Id, Input};
use crate::jobs::notify;
use crate::jobs::options::{Delay, Group};
use crate::jobs::store::{Put, Store};
use crate::jobs::worker::Worker;
use crate::{Bytes, HeaderMap, HeaderValue, Problem, Request, StatusCode, header};

/// The longest idempotency key, in bytes.
const KEY: usize = 255;

/// The longest `Content-Type`, in bytes.
const CONTENT_TYPE: usize = 1024;

/// When a client that finds the queue full should come back, in seconds.
const FULL: &str = "10";

/// Checks a request and records it as a job: its id, and whether it is a new one. It is not if the
/// request's idempotency key stands for another.
pub fn accept(
    request: &Request<Bytes>,
    worker: &str,
    store: &dyn Store,
    config: &Config,
    host: &dyn Host,
) -> Result<(Id, bool), Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let kind = Worker::find(worker)?;
    let headers = request.headers();
    check_encoding(headers)?;
    let content_type = fields::one(headers, "content-type")?;
    if let Some(length) = content_type.map(str::len).filter(|length| *length > CONTENT_TYPE) {
        return Err(bad(format!("Content-Type too long: {length} bytes (limit {CONTENT_TYPE})")));
    }
    let input = Input {
        worker: worker.into(),
        content_type: content_type.map(str::to_owned),
        notify: notify::targets(headers, config)?,
        key: key(request, worker)?,
        request: String::new(),
        delay: fields::one(headers, "delay")?.map_or(Ok(None), Delay::parse).map_err(bad)?,
        group: fields::one(headers, "job-group")?.map(Group::new).transpose().map_err(bad)?,
        size: request.body().len(),
        body: request.body().to_vec(),
    };
    let input = Input { request: digest_of(&input), ..input };
    kind.check(&input).map_err(bad)?;
    let id = Id::new(host);
    match store.put(id, &input, config.queue, host.wall())? {
        Put::New => Ok((id, true)),
        Put::Known(known) => Ok((known, false)),
        Put::Conflict => {
            let detail = "Idempotency-Key already used: by a request that was not the same";
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail))
        }
        Put::Full => {
            let detail = format!("queue full: {} jobs wait (limit AFTERACK_QUEUE)", config.queue);
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
            Err(problem.with(header::RETRY_AFTER, HeaderValue::from_static(FULL)))
        }
    }
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

/// The digest of the request's idempotency key, which is its worker's own. A key may be quoted, as the
/// header's draft has it, or not.
fn key(request: &Request<Bytes>, worker: &str) -> Result<Option<String>, Problem> {
    let bad =
        |reason: String| Problem::new(StatusCode::BAD_REQUEST, format!("invalid Idempotency-Key: {reason}"));
    let Some(value) = fields::one(request.headers(), "idempotency-key")? else { return Ok(None) };
    let key = fields::unquote(value);
    match key.len() {
        0 => Err(bad("empty".into())),
        length if length > KEY => Err(bad(format!("{length} bytes (limit {KEY})"))),
        _ => Ok(Some(digest(&[worker.as_bytes(), key.as_bytes()]))),
    }
}

/// What two requests have in common that are the same.
fn digest_of(input: &Input) -> String {
    let content_type = input.content_type.as_deref().unwrap_or_default();
    let delay = input.delay.map(|delay| delay.time().as_millis().to_string()).unwrap_or_default();
    let group = input.group.as_ref().map(Group::name).unwrap_or_default();
    let notify = input.notify.join(" ");
    let headers = [content_type, &notify, &delay, group].map(str::as_bytes);
    digest(&[&headers[..], &[&input.body]].concat())
}

fn digest(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
